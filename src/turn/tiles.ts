// Which OpenUsage tile shows an upstream provider, and what to write into the configuration where none does.

import { UNKNOWN_UPSTREAM } from './upstream-provider.ts';

/** The tiles that OpenUsage has, by the provider ids that it registers. */
export const TILE_IDS: readonly string[] = [
  ...[
    'openai',
    'anthropic',
    'azure_openai',
    'alibaba_cloud',
    'openrouter',
    'perplexity',
    'groq',
    'mistral',
    'moonshot',
  ],
  ...['deepseek', 'xai', 'zai', 'opencode', 'gemini_api', 'gemini_cli', 'ollama', 'copilot', 'cursor', 'claude_code'],
  ...[
    'codex',
    'amp',
    'goose',
    'hermes',
    'mux',
    'droid',
    'crush',
    'roocode',
    'kilo_code',
    'kiro_cli',
    'zed',
    'codebuff',
  ],
  ...['kimi_cli', 'openclaw', 'pi', 'qwen_cli'],
];

/** Links that hold unless `telemetry.provider_links` names another target: the tile's id is not our canonical name. */
const BUILT_IN_LINKS: Readonly<Record<string, string>> = {
  anthropic: 'claude_code',
  google: 'gemini_api',
  'github-copilot': 'copilot',
  azure: 'azure_openai',
  alibaba: 'alibaba_cloud',
  'ollama-cloud': 'ollama',
};

/** Whom a tile is about, where its id does not say it. */
const NAMES: Readonly<Record<string, string>> = {
  openai: 'OpenAI',
  azure_openai: 'Azure',
  alibaba_cloud: 'Alibaba Cloud',
  openrouter: 'OpenRouter',
  mistral: 'Mistral AI',
  deepseek: 'DeepSeek',
  xai: 'xAI',
  zai: 'Z.AI',
  opencode: 'OpenCode',
  gemini_api: 'Google',
  gemini_cli: 'Google',
  copilot: 'GitHub',
  claude_code: 'Anthropic',
  codex: 'OpenAI',
  roocode: 'Roo Code',
  kimi_cli: 'Moonshot',
  openclaw: 'OpenClaw',
  qwen_cli: 'Alibaba',
};

/** A shorter name is contained in too many others to suggest anything. */
const SUGGESTION_MIN_CHARS = 3;
/** A line with more of them is not read; the rest is named when these are mended. */
const NAMED_PROVIDERS_MAX = 10;
/** A provider id that YAML takes as a key as it stands. */
const PLAIN_KEY = /^[A-Za-z0-9][\w./-]*$/;

export interface UnmappedUpstream {
  readonly upstreamProvider: string;
  /** `unconfigured`: no link, and no tile of its own. `mapped_target_missing`: its link names no tile. */
  readonly reason: 'unconfigured' | 'mapped_target_missing';
  /** Where its link leads, when it has one. */
  readonly target?: string;
  /** One line for tollbridge.yaml that mends it. */
  readonly fix: string;
}

/** Upstream providers on the tiles of OpenUsage. Links go one level, never from link to link. */
export class Tiles {
  readonly #links: ReadonlyMap<string, string>;
  readonly #known: ReadonlySet<string>;

  /**
   * @param links `telemetry.provider_links`: upstream provider → tile, over the built-in ones
   * @param configuredProviders the providers of all accounts: each has a tile of its own
   */
  constructor(links: Readonly<Record<string, string>>, configuredProviders: readonly string[]) {
    const lower = [...Object.entries(BUILT_IN_LINKS), ...Object.entries(links)]
      .map(([from, to]) => [from.trim().toLowerCase(), to.trim().toLowerCase()] as const)
      .filter(([from, to]) => from && to);
    this.#links = new Map(lower);
    this.#known = new Set([...TILE_IDS, ...configuredProviders.map((provider) => provider.toLowerCase())]);
  }

  /** The tile that shows an upstream provider: its link's target, else its own name, whether such a tile exists or not. */
  tileOf(upstreamProvider: string): string {
    const name = upstreamProvider.toLowerCase();
    return this.#links.get(name) ?? name;
  }

  /**
   * Every tile there is, by name, each with a title for people such as "Anthropic · claude_code".
   * @param accountProviders the providers of polled accounts: their tiles are there before any turn is
   */
  all(upstreamProviders: readonly string[], accountProviders: readonly string[]): { tile: string; title: string }[] {
    const tiles = new Set(upstreamProviders.map((name) => this.tileOf(name)));
    // An account's tile is its provider's: links say where turns are shown, not balances.
    for (const provider of accountProviders) tiles.add(provider.toLowerCase());
    return [...tiles].sort().map((tile) => ({ tile, title: titleOf(tile) }));
  }

  /**
   * Those upstream providers that no tile shows, each with the line that mends it.
   * @param unattributedProviders the providers of the turns that nobody knows the upstream provider of
   */
  unmapped(upstreamProviders: readonly string[], unattributedProviders: readonly string[] = []): UnmappedUpstream[] {
    const found: UnmappedUpstream[] = [];
    for (const upstreamProvider of new Set(upstreamProviders.map((name) => name.toLowerCase()))) {
      if (this.#known.has(this.tileOf(upstreamProvider))) continue;
      const target = this.#links.get(upstreamProvider);
      // Nobody knows who served: a tile for `unknown` would hide that, so the way out is to say it.
      const fix =
        upstreamProvider === UNKNOWN_UPSTREAM ? gatewayFix(unattributedProviders) : this.#fix(upstreamProvider, target);
      if (target === undefined) found.push({ upstreamProvider, reason: 'unconfigured', fix });
      else found.push({ upstreamProvider, reason: 'mapped_target_missing', target, fix });
    }
    return found;
  }

  #fix(upstreamProvider: string, target: string | undefined): string {
    const tile = (target && this.#suggest(target)) || this.#suggest(upstreamProvider) || '<tile>';
    return `telemetry: { provider_links: { ${upstreamProvider}: ${tile} } }`;
  }

  /** The longest known tile whose letters and digits contain those of the name or are contained in them. */
  #suggest(name: string): string | undefined {
    const plain = (text: string) => text.replace(/[^a-z0-9]/g, '');
    const wanted = plain(name);
    if (wanted.length < SUGGESTION_MIN_CHARS) return undefined;
    const fitting = [...this.#known].filter((tile) => {
      const id = plain(tile);
      return id.length >= SUGGESTION_MIN_CHARS && (id.includes(wanted) || wanted.includes(id));
    });
    return fitting.sort((a, b) => b.length - a.length || (a < b ? -1 : 1))[0];
  }
}

function titleOf(tile: string): string {
  const capitalised = (word: string) => word.charAt(0).toUpperCase() + word.slice(1);
  // Tiles are named by senders, too: "constructor" is no name that an object happens to inherit.
  const name = (Object.hasOwn(NAMES, tile) && NAMES[tile]) || tile.split('_').map(capitalised).join(' ');
  const plain = (text: string) => text.toLowerCase().replace(/[^a-z0-9]/g, '');
  return plain(name) === plain(tile) ? name : `${name} · ${tile}`;
}

/** The line that says who serves behind these providers; a template where none is known. */
function gatewayFix(providers: readonly string[]): string {
  const named = [...new Set(providers)].sort().slice(0, NAMED_PROVIDERS_MAX);
  const keys = named.length > 0 ? named.map((id) => (PLAIN_KEY.test(id) ? id : JSON.stringify(id))) : ['<provider id>'];
  return `gateways: { ${keys.map((key) => `${key}: <who serves>`).join(', ')} }`;
}
