// `tollbridge pricing import`: makes a file of `pricing` rules from a list of prices in the form of models.dev.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { stringify } from 'yaml';
import { type PricingRule, pricingRule } from '../config-pricing.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import { isObject, model as modelName } from '../turn/fields.ts';
import { PRICE_DECIMALS } from '../turn/pricing.ts';
import { TOKEN_TYPES } from '../turn/turn-event.ts';
import { countOf, type Report } from './show.ts';

/** Where models.dev states one tier only, it is this. */
const LARGE_CONTEXT_TOKENS = 200_000;
/** USD per million tokens. No list is so cheap throughout; as prices of single tokens they would all be below it. */
const DEAREST_AT_LEAST = 0.01;
const BYTE_ORDER_MARK = '\ufeff';

interface PricingImport {
  readonly file: string;
  /** What is written; by default `prices-2026-01-15.yaml` in this folder. */
  readonly out?: string | undefined;
  readonly folder: string;
  readonly nowMs: number;
}

type Json = Readonly<Record<string, unknown>>;

/**
 * Writes a new file; an existing one stays as it is.
 * @throws PermanentFailure when a file cannot be read or written, or holds no prices
 */
export function importPricing({ file, out, folder, nowMs }: PricingImport): Report {
  const { rules, unpriced, notUnderstood } = rulesOf(readList(file));
  if (rules.length === 0) throw new PermanentFailure(`${file} holds no prices in the form of models.dev's api.json.`);
  if (rules.every(({ usd_per_million_tokens: usd }) => Math.max(usd!.input, usd!.output) < DEAREST_AT_LEAST)) {
    throw new PermanentFailure(
      `${file} holds no price of ${DEAREST_AT_LEAST} or more. Expected are USD per million tokens; these look like prices of single tokens.`,
    );
  }
  const day = new Date(nowMs).toISOString().slice(0, 10);
  const target = path.resolve(out ?? path.join(folder, `prices-${day}.yaml`));
  const head = `# Prices in USD per million tokens, imported on ${day}. An estimate is as right as this list.\n`;
  try {
    // The folder of the configuration need not be there yet; another one is the user's to make.
    if (out === undefined) mkdirSync(folder, { recursive: true });
    writeFileSync(target, head + stringify({ pricing: rules }), { flag: 'wx' });
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST';
    // A part of a list could be a list.
    if (!isThere) rmSync(target, { force: true });
    const why = isThere ? 'it exists already, and is left as it is' : messageOf(error);
    throw new PermanentFailure(`${target} was not written: ${why}. Name another file with --out.`);
  }
  const providers = new Set(rules.map(({ provider }) => provider)).size;
  return {
    lines: [
      `Wrote the prices of ${countOf(rules.length, 'model')} of ${countOf(providers, 'provider')} to ${target}`,
      ...(unpriced > 0 ? [`  left out: ${countOf(unpriced, 'model')} without a price; 0 is not taken for free`] : []),
      ...(notUnderstood > 0 ? [`  left out: ${countOf(notUnderstood, 'model')} with prices of an unknown form`] : []),
      `Next: write "${stringify({ pricing_file: target }, { lineWidth: 0 }).trim()}" into tollbridge.yaml, and restart the bridge.`,
    ],
    exitCode: 0,
  };
}

function readList(file: string): unknown {
  if (/^https?:\/\//i.test(file)) {
    throw new PermanentFailure(
      `${file} is an address. Save the list as a file, and name that: nothing is fetched here.`,
    );
  }
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new PermanentFailure(`${file} cannot be read: ${messageOf(error)}.`);
  }
  try {
    return JSON.parse(text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text);
  } catch {
    throw new PermanentFailure(`${file} is not JSON. Expected is a list in the form of models.dev's api.json.`);
  }
}

function rulesOf(list: unknown) {
  /** By the names that they are looked up by; undefined where two prices are stated for one. */
  const rules = new Map<string, PricingRule | undefined>();
  let unpriced = 0;
  let notUnderstood = 0;
  for (const [provider, about] of Object.entries(isObject(list) ? list : {})) {
    const models = isObject(about) && isObject(about.models) ? about.models : {};
    for (const [listed, stated] of Object.entries(models)) {
      // As turns of it are called: of what looks like a path, such as ~maker/model-latest, by its base name.
      const model = modelName.safeParse(listed).data ?? listed;
      const cost = isObject(stated) ? stated.cost : undefined;
      if (!isObject(cost) || !isStated(cost.input) || !isStated(cost.output)) {
        unpriced++;
        continue;
      }
      const rule = ruleOf({ provider, model }, cost);
      const key = `${provider}\n${model}`.toLowerCase();
      const same = rules.get(key);
      if (!rule) notUnderstood++;
      else if (!rules.has(key)) rules.set(key, rule);
      else if (!isDeepStrictEqual(same?.usd_per_million_tokens, rule.usd_per_million_tokens)) {
        notUnderstood += same ? 2 : 1;
        rules.set(key, undefined);
      }
    }
  }
  return { rules: [...rules.values()].filter((rule) => rule !== undefined), unpriced, notUnderstood };
}

/** 0 may mean free, included or unknown, so it states nothing. */
const isStated = (price: unknown) => price != null && price !== 0;

/** Undefined where a price is of a form that would have to be guessed at. */
function ruleOf(names: { provider: string; model: string }, cost: Json): PricingRule | undefined {
  if (`${names.provider}${names.model}`.includes('*')) return undefined;
  // Another unit or currency would be a word.
  if (Object.values(cost).some((value) => typeof value === 'string')) return undefined;
  const base = pricesOf(cost);
  const above = tiersOf(cost);
  const sizes = new Set(above.map(({ context_tokens }) => context_tokens));
  // What is read from a cache costs a tenth of the input, which would stand for it.
  const isCacheSilent = 'cache_read' in base && above.some((tier) => !('cache_read' in tier));
  if (sizes.size < above.length || isCacheSilent) return undefined;
  const usd = { ...base, ...(above.length > 0 && { above }) };
  return pricingRule.safeParse({ ...names, state: 'estimated', usd_per_million_tokens: usd }).data;
}

function pricesOf(cost: Json): Json {
  const stated = TOKEN_TYPES.map((kind) => [kind, tidy(cost[kind])] as const);
  return Object.fromEntries(stated.filter(([, price]) => isStated(price)));
}

/** Lists are reckoned in binary fractions: 0.18749999999999994 is 0.1875. */
function tidy(price: unknown): unknown {
  return typeof price === 'number' ? Number(price.toFixed(PRICE_DECIMALS)) : price;
}

/** The tiers by size of the context. One of another kind gets no size, which no rule accepts. */
function tiersOf(cost: Json): Json[] {
  const { tiers, context_over_200k: large } = cost;
  if (tiers == null || (Array.isArray(tiers) && tiers.length === 0)) {
    return large == null ? [] : [{ context_tokens: LARGE_CONTEXT_TOKENS, ...(isObject(large) && pricesOf(large)) }];
  }
  return (Array.isArray(tiers) ? tiers : [undefined]).map((stated: unknown) => {
    const { tier, ...prices } = isObject(stated) ? stated : {};
    const size = isObject(tier) && tier.type === 'context' ? tier.size : undefined;
    return { context_tokens: size, ...pricesOf(prices) };
  });
}
