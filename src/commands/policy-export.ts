// `tollbridge policy export opencode`: guardrails in the words of OpenCode's managed configuration, which holds even
// where plugins are skipped. It only ever takes away: nothing that a user's own configuration forbids is allowed by it.

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { type Config, ownIdentity } from '../config.ts';
import type { GuardrailRule, ScopeLabel } from '../config-policy.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import { isDenied } from '../policy/policy.ts';
import { matchesGlob } from '../turn/glob.ts';
import { isInScope } from '../turn/scope.ts';

const AGENT = 'opencode';
/** OpenCode's permissions and the tools that each stands for. */
const TOOLS_OF_PERMISSION: Readonly<Record<string, readonly string[]>> = {
  bash: ['bash'],
  edit: ['edit', 'write', 'apply_patch'],
  read: ['read'],
  glob: ['glob'],
  grep: ['grep'],
  list: ['list'],
  task: ['task'],
  skill: ['skill'],
  lsp: ['lsp'],
  question: ['question'],
  todowrite: ['todowrite'],
  webfetch: ['webfetch'],
  websearch: ['websearch'],
};
/** An agent's own permissions come after those of all, so the agents that OpenCode brings are told as well. */
const BUILT_IN_AGENTS = ['build', 'plan', 'general', 'explore'];
/** What OpenCode can tell apart when it reads its configuration; providers only for models. */
const WHO_LABELS: readonly ScopeLabel[] = ['team', 'user', 'project', 'agent'];
const PLACES = [
  '  Linux    /etc/opencode/opencode.json',
  '  macOS    /Library/Application Support/opencode/opencode.json',
  '  Windows  %ProgramData%\\opencode\\opencode.json',
];

export interface ExportOptions {
  readonly team?: string;
  readonly user?: string;
  readonly project?: string;
  /** A file that is not there yet. */
  readonly out?: string;
}

type Permissions = Record<string, 'deny'>;
interface ModelLists {
  whitelist?: string[];
  blacklist?: string[];
}

/** The part of OpenCode's configuration that rules can fill. */
export interface ManagedConfig {
  readonly $schema: string;
  readonly enabled_providers?: readonly string[];
  readonly disabled_providers?: readonly string[];
  readonly provider?: Readonly<Record<string, ModelLists>>;
  readonly permission?: Readonly<Permissions>;
  readonly agent?: Readonly<Record<string, { readonly permission: Readonly<Permissions> }>>;
}

/**
 * Prints or writes the managed configuration for one team, user and project.
 * @returns what belongs on stdout, and what belongs beside it
 * @throws PermanentFailure when the file is there already or cannot be written
 */
export function exportPolicy(config: Config, options: ExportOptions): { lines: string[]; remarks: string[] } {
  const { managed, lost } = managedConfig(config, options);
  const text = JSON.stringify(managed, undefined, 2);
  const remarks = [
    ...lost.map((what) => `not in it: ${what}`),
    'not in it: budgets and caps. OpenCode cannot count what they count; the plugin asks the bridge.',
    'Install it as root, so that users cannot change it, then restart OpenCode:',
    ...PLACES,
    'Where there is such a file already, put the two together by hand.',
    "Its limits: providers and models hold. A denied tool can be taken back by an agent that a user adds, or by '*' as the",
    "last permission that a user gives to an agent of OpenCode's. Where the plugin runs, it denies the tool all the same.",
  ];
  if (options.out === undefined) return { lines: [text], remarks };
  const file = path.resolve(options.out);
  try {
    writeFileSync(file, `${text}\n`, { flag: 'wx', mode: 0o644 });
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST';
    throw new PermanentFailure(
      isThere
        ? `${file} is there already, and was left as it is. Name another file with --out, or move this one away.`
        : `${file} cannot be written: ${messageOf(error)}. Name another file with --out.`,
    );
  }
  return { lines: [`Wrote ${file}.`], remarks };
}

/** What of the guardrails OpenCode itself can hold to, and for all else a sentence on what is left to the plugin. */
export function managedConfig(
  config: Config,
  options: Omit<ExportOptions, 'out'>,
): { managed: ManagedConfig; lost: string[] } {
  const { team, user, project } = { ...ownIdentity(config), ...options };
  const who = { agent: AGENT, team, user, project };
  const lost: string[] = [];
  const lose = ({ name }: GuardrailRule, what: string) => lost.push(`guardrail ${name}: ${what}`);
  const rules = config.guardrails.filter((rule) => {
    const whose = Object.fromEntries(WHO_LABELS.map((label) => [label, rule.scope[label]]));
    if (!isInScope(whose, who)) return false;
    if (rule.unpriced === 'deny') lose(rule, 'unpriced. OpenCode has no word for it.');
    const label = (['upstream_provider', 'account', 'model'] as const).find((each) => rule.scope[each]);
    if (label) lose(rule, `all of it. OpenCode cannot tell by ${label} whom a rule is for.`);
    return !label;
  });
  const everywhere = rules.filter((rule) => {
    if (!rule.scope.provider) return true;
    if (rule.tools || rule.providers) lose(rule, 'providers and tools. OpenCode cannot limit these to one provider.');
    return false;
  });

  const providers = namesOf(everywhere, 'providers');
  for (const [rule, patterns] of providers.lost) lose(rule, `providers ${patterns}. OpenCode knows whole names only.`);
  const provider = modelLists({ config, rules, enabled: providers.allowed, lose });
  const permission = permissionsOf(everywhere, lose);
  const isDenying = Object.keys(permission).length > 0;
  return {
    lost,
    managed: {
      $schema: 'https://opencode.ai/config.json',
      ...(providers.allowed && { enabled_providers: providers.allowed }),
      ...(providers.denied.length > 0 && { disabled_providers: providers.denied }),
      ...(Object.keys(provider).length > 0 && { provider }),
      ...(isDenying && {
        permission,
        agent: Object.fromEntries(BUILT_IN_AGENTS.map((name) => [name, { permission }])),
      }),
    },
  };
}

interface Names {
  /** Nothing else may be used. Defined when one allow-list is made of whole names. */
  readonly allowed: string[] | undefined;
  readonly denied: string[];
  /** Rules with patterns that these names do not stand for. */
  readonly lost: readonly (readonly [GuardrailRule, string])[];
}

const isPattern = (text: string) => text.includes('*');

/** What lists of patterns come to where only whole names can be said. */
function namesOf(rules: readonly GuardrailRule[], list: 'providers' | 'models'): Names {
  const about = rules.filter((rule) => rule[list]);
  const exact = (which: 'allow' | 'deny') => [
    ...new Set(about.flatMap((rule) => rule[list]?.[which] ?? []).filter((text) => !isPattern(text))),
  ];
  if (about.some((rule) => rule[list]?.allow?.every((text) => !isPattern(text)))) {
    return {
      allowed: exact('allow').filter((name) => !about.some((rule) => isDenied(rule[list], name))),
      denied: [],
      lost: [],
    };
  }
  const lost = about.flatMap((rule) => {
    const { allow, deny = [] } = rule[list]!;
    const said = [
      ...(allow ? [`allow ${allow.join(', ')}`] : []),
      ...deny.filter(isPattern).map((text) => `deny ${text}`),
    ];
    return said.length > 0 ? [[rule, said.join(', ')] as const] : [];
  });
  return { allowed: undefined, denied: exact('deny'), lost };
}

type Lose = (rule: GuardrailRule, what: string) => unknown;

/** OpenCode lists models by provider: by those that may be used, else by those that the configuration names. */
function modelLists({
  config,
  rules,
  enabled,
  lose,
}: {
  readonly config: Config;
  readonly rules: readonly GuardrailRule[];
  readonly enabled: readonly string[] | undefined;
  readonly lose: Lose;
}): Record<string, ModelLists> {
  const about = rules.filter(({ models }) => models);
  const named = about.flatMap(({ scope }) => scope.provider ?? []).filter((text) => !isPattern(text));
  const known = [...config.accounts.map(({ provider }) => provider), ...Object.keys(config.gateways)];
  const providers = [...new Set(enabled ?? [...named, ...known])];
  for (const rule of about) {
    if (enabled || (rule.scope.provider && !rule.scope.provider.some(isPattern))) continue;
    const covered = providers.filter((id) => isInScope({ provider: rule.scope.provider }, { provider: id }));
    const where = covered.length > 0 ? `beyond ${covered.join(', ')}` : 'at any provider';
    lose(rule, `models ${where}. OpenCode lists models by provider; name the providers in providers: allow.`);
  }
  const lists: Record<string, ModelLists> = {};
  const told = new Set<GuardrailRule>();
  for (const id of providers) {
    const models = namesOf(
      about.filter(({ scope }) => isInScope({ provider: scope.provider }, { provider: id })),
      'models',
    );
    if (models.allowed) lists[id] = { whitelist: models.allowed };
    else if (models.denied.length > 0) lists[id] = { blacklist: models.denied };
    for (const [rule, patterns] of models.lost) {
      if (!told.has(rule)) lose(rule, `models ${patterns}. OpenCode knows whole names only.`);
      told.add(rule);
    }
  }
  return lists;
}

function permissionsOf(rules: readonly GuardrailRule[], lose: Lose): Permissions {
  const permissions: Permissions = {};
  const known = Object.values(TOOLS_OF_PERMISSION).flat();
  for (const rule of rules) {
    const { tools } = rule;
    if (!tools) continue;
    for (const pattern of tools.deny ?? []) {
      // As it stands it also fits what MCP servers and plugins bring.
      if (isPattern(pattern) || !known.some((tool) => matchesGlob(pattern, tool))) permissions[pattern] = 'deny';
    }
    for (const [permission, members] of Object.entries(TOOLS_OF_PERMISSION)) {
      const denied = members.filter((tool) => isDenied(tools, tool));
      if (denied.length === 0) continue;
      permissions[permission] = 'deny';
      if (denied.length < members.length) {
        lose(
          rule,
          `the difference between ${members.join(', ')}. OpenCode has one permission for them: all are denied.`,
        );
      }
    }
    if (tools.allow) {
      lose(rule, 'tools that MCP servers and plugins bring. To deny those, name them in tools: deny.');
    }
  }
  return permissions;
}
