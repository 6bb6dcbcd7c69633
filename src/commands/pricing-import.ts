// `tollbridge pricing import`: makes a file of `pricing` rules from a list of prices in the form of models.dev.

import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stringify } from 'yaml';
import { type PricingRule, pricingRule } from '../config-pricing.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import { isObject } from '../turn/fields.ts';
import { TOKEN_TYPES } from '../turn/turn-event.ts';
import type { Report } from './show.ts';

/** Where models.dev states one tier only, it is this. */
const LARGE_CONTEXT_TOKENS = 200_000;

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
  const day = new Date(nowMs).toISOString().slice(0, 10);
  const target = path.resolve(out ?? path.join(folder, `prices-${day}.yaml`));
  const head = `# Prices in USD per million tokens, imported on ${day}. An estimate is as right as this list.\n`;
  try {
    writeFileSync(target, head + stringify({ pricing: rules }), { flag: 'wx' });
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST';
    const why = isThere ? 'it exists already, and is left as it is' : messageOf(error);
    throw new PermanentFailure(`${target} was not written: ${why}. Name another file with --out.`);
  }
  const providers = new Set(rules.map(({ provider }) => provider)).size;
  return {
    lines: [
      `Wrote the prices of ${rules.length} models of ${providers} providers to ${target}`,
      ...(unpriced > 0 ? [`  left out: ${unpriced} models without a price; 0 is not taken for free`] : []),
      ...(notUnderstood > 0 ? [`  left out: ${notUnderstood} models with prices of an unknown form`] : []),
      `Next: write "pricing_file: ${target}" into tollbridge.yaml, and restart the bridge.`,
    ],
    exitCode: 0,
  };
}

function readList(file: string): unknown {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new PermanentFailure(`${file} cannot be read: ${messageOf(error)}.`);
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new PermanentFailure(`${file} is not JSON. Expected is a list in the form of models.dev's api.json.`);
  }
}

function rulesOf(list: unknown) {
  const rules: PricingRule[] = [];
  let unpriced = 0;
  let notUnderstood = 0;
  for (const [provider, about] of Object.entries(isObject(list) ? list : {})) {
    const models = isObject(about) && isObject(about.models) ? about.models : {};
    for (const [model, stated] of Object.entries(models)) {
      const cost = isObject(stated) ? stated.cost : undefined;
      if (!isObject(cost) || (cost.input === 0 && cost.output === 0)) {
        unpriced++;
        continue;
      }
      const rule = ruleOf({ provider, model }, cost);
      if (rule) rules.push(rule);
      else notUnderstood++;
    }
  }
  return { rules, unpriced, notUnderstood };
}

/** Undefined where a price is of a form that would have to be guessed at. */
function ruleOf(names: { provider: string; model: string }, cost: Json): PricingRule | undefined {
  if (`${names.provider}${names.model}`.includes('*')) return undefined;
  const above = tiersOf(cost);
  const usd = { ...pricesOf(cost), ...(above.length > 0 && { above }) };
  return pricingRule.safeParse({ ...names, state: 'estimated', usd_per_million_tokens: usd }).data;
}

function pricesOf(cost: Json): Json {
  return Object.fromEntries(TOKEN_TYPES.flatMap((kind) => (cost[kind] == null ? [] : [[kind, cost[kind]]])));
}

/** The tiers by size of the context. One of another kind gets no size, which no rule accepts. */
function tiersOf(cost: Json): Json[] {
  const { tiers, context_over_200k: large } = cost;
  if (tiers === undefined) {
    return isObject(large) ? [{ context_tokens: LARGE_CONTEXT_TOKENS, ...pricesOf(large) }] : [];
  }
  return (Array.isArray(tiers) ? tiers : [undefined]).map((stated: unknown) => {
    const { tier, ...prices } = isObject(stated) ? stated : {};
    const size = isObject(tier) && tier.type === 'context' ? tier.size : undefined;
    return { context_tokens: size, ...pricesOf(prices) };
  });
}
