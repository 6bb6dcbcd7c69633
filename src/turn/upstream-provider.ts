// Who served a turn. The provider itself when it is known to serve models; behind a gateway the best evidence there is,
// and always which evidence that was.

import type { GatewayRules } from '../config.ts';
import { matchesGlob } from './glob.ts';
import type { UpstreamEvidence } from './turn-event.ts';
import { GATEWAYS, UPSTREAM_PROVIDERS } from './upstream-table.ts';

export { UPSTREAM_PROVIDERS } from './upstream-table.ts';

/** What nothing could be learned about. */
export const UNKNOWN_UPSTREAM = 'unknown';

/** Upstream providers are labels: short, lower case, and never a sentence, a path or a key. */
const NAME = /^(?!sk-)[a-z0-9][a-z0-9._-]{0,63}$/;
const NAME_MAX_CHARS = 64;

/** Regions that Bedrock writes before the vendor in ids of inference profiles. */
const BEDROCK_REGIONS: ReadonlySet<string> = new Set('us us-gov ca sa eu ap apac au in jp global'.split(' '));

/** The conventions' names of those who serve models of others: no upstream provider bears them. */
const HOST_NAMES: ReadonlyMap<string, string> = new Map([
  ...['amazon-bedrock', 'aws-bedrock', 'bedrock'].map((id) => [id, 'aws.bedrock'] as const),
  ...['azure', 'azure-openai', 'azure-cognitive-services'].map((id) => [id, 'azure.ai.openai'] as const),
  ...['google-vertex', 'google-vertex-anthropic', 'vertex-ai'].map((id) => [id, 'gcp.vertex_ai'] as const),
]);

export interface UpstreamQuestion {
  /** Whom the user pays: the provider id that the agent called. */
  readonly provider: string;
  readonly model: string;
  /** Who served, as the sender says. */
  readonly hint?: string | undefined;
}

export interface UpstreamAnswer {
  /** A canonical name, or another that matches `^[a-z0-9][a-z0-9._-]{0,63}$`; `unknown` when there is no evidence. */
  readonly upstreamProvider: string;
  readonly evidence: UpstreamEvidence;
}

/** One spelling for lookups: "Google AI Studio" and "google_ai_studio" are `google-ai-studio`. */
const spelling = (name: string) =>
  name
    .trim()
    .toLowerCase()
    .replace(/[\s_]+/g, '-');

const rows = Object.entries(UPSTREAM_PROVIDERS);
const gateways: ReadonlySet<string> = new Set(GATEWAYS);
const direct: ReadonlyMap<string, string> = new Map(
  rows.flatMap(([upstream, row]) => (row.direct ?? []).map((id) => [id, upstream] as const)),
);
const aliases: ReadonlyMap<string, string> = new Map(
  rows.flatMap(([upstream, row]) =>
    [upstream, ...(row.direct ?? []), ...(row.aliases ?? [])].map((alias) => [alias, upstream] as const),
  ),
);
/** A family begins a word and goes on with no letter: `glm5` is one of `glm`, neither `tinyllama` nor `novation` is one. */
const families = rows.flatMap(([upstream, row]) =>
  (row.families ?? []).map((family) => ({ upstream, pattern: new RegExp(`(?<![a-z0-9])(?:${family})(?![a-z])`) })),
);

function fromHint(hint: string | undefined, provider: string): string | undefined {
  if (hint === undefined) return undefined;
  const name = spelling(hint);
  const known = aliases.get(name);
  if (known) return known;
  // A sender without a better answer repeats the provider's own id, which says nothing about who stands behind it.
  if (gateways.has(name) || name === spelling(provider)) return undefined;
  const written = hint.trim().toLowerCase();
  return NAME.test(written) ? written : undefined;
}

function fromConfig({ provider, model }: UpstreamQuestion, rules: GatewayRules): string | undefined {
  if (!Object.hasOwn(rules, provider)) return undefined;
  const rule = rules[provider]!;
  let named: string | undefined;
  if (typeof rule === 'string') named = rule;
  else {
    const globs = Object.keys(rule).sort((a, b) => b.length - a.length);
    const best = globs.find((glob) => matchesGlob(glob, model));
    named = best === undefined ? undefined : rule[best];
  }
  if (named === undefined) return undefined;
  const known = aliases.get(spelling(named));
  if (known) return known;
  // Taken as written, gateways too: `azure: azure` shows all that Azure serves on its own tile. Only a `/`, which a
  // provider id may hold, has no place in a label.
  const name = named
    .trim()
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .slice(0, NAME_MAX_CHARS);
  return NAME.test(name) ? name : undefined;
}

/** The vendor that a model id names before the model: `vendor/model`, `vendor--model`, `us.vendor.model-v1:0`, or an ARN. */
function vendorOf(model: string): string | undefined {
  const segments = model.split(/\/|--/);
  const last = segments.length - 1;
  for (const [index, segment] of segments.entries()) {
    const words = segment.split('.');
    const vendor = BEDROCK_REGIONS.has(words[0]!) ? 1 : 0;
    const candidates = index < last ? [segment.replace(/^(?:~|hf:)/, '')] : [];
    if (words.length > vendor + 1) candidates.push(words[vendor]!);
    for (const candidate of candidates) {
      const name = spelling(candidate);
      const known = gateways.has(name) ? undefined : aliases.get(name);
      if (known) return known;
    }
  }
  return undefined;
}

/** The family that comes first in a model's own name: a distillation is named after its maker, then after its base. */
function familyOf(model: string): string | undefined {
  const name = model.slice(model.lastIndexOf('/') + 1).replace(/(?<=.)[@~:].*$/s, '');
  let best: { readonly upstream: string; readonly at: number; readonly length: number } | undefined;
  for (const { upstream, pattern } of families) {
    const match = pattern.exec(name);
    if (!match) continue;
    const closer = !best || match.index < best.at || (match.index === best.at && match[0].length > best.length);
    if (closer) best = { upstream, at: match.index, length: match[0].length };
  }
  return best?.upstream;
}

function fromModel(model: string): string | undefined {
  const id = model.trim().toLowerCase();
  return vendorOf(id) ?? familyOf(id);
}

/**
 * Finds who served a turn. In this order: the provider itself when it serves models under its own name, the sender's
 * hint, the `gateways:` configuration, the model id, and at last `unknown`. Never throws, whatever the strings hold.
 */
export function resolveUpstream(question: UpstreamQuestion, rules: GatewayRules): UpstreamAnswer {
  const provider = question.provider.trim().toLowerCase();
  const served = direct.get(provider);
  if (served) return { upstreamProvider: served, evidence: 'direct' };
  const hinted = fromHint(question.hint, provider);
  if (hinted) return { upstreamProvider: hinted, evidence: 'hint' };
  const configured = fromConfig({ ...question, provider }, rules);
  if (configured) return { upstreamProvider: configured, evidence: 'config' };
  const made = fromModel(question.model);
  if (made) return { upstreamProvider: made, evidence: 'model_id' };
  return { upstreamProvider: UNKNOWN_UPSTREAM, evidence: 'none' };
}

/** The `gen_ai.provider.name` of an upstream provider; its canonical name where the conventions list none. */
export function semconvProviderName(upstreamProvider: string): string {
  if (!Object.hasOwn(UPSTREAM_PROVIDERS, upstreamProvider)) return upstreamProvider;
  return UPSTREAM_PROVIDERS[upstreamProvider]?.semconv ?? upstreamProvider;
}

/** The `gen_ai.provider.name` of the provider that was called, which need not be who served; its own id where there is none. */
export function semconvNameOfCalled(provider: string): string {
  const host = HOST_NAMES.get(provider);
  if (host !== undefined) return host;
  return UPSTREAM_PROVIDERS[direct.get(provider) ?? '']?.semconv ?? provider;
}
