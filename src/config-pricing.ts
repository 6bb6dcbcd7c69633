// How turns are paid: the rules under `pricing:`, and the file of prices that `pricing_file` names.

import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { ConfigFailure, firstOfEachPlace, toMistakes } from './config-mistake.ts';
import { messageOf, PermanentFailure } from './failure.ts';

const PRICED_STATES = z.enum(['free', 'included', 'estimated']);
const usdPerMillion = z.number().min(0).max(1e6);
const prices = {
  input: usdPerMillion,
  output: usdPerMillion,
  reasoning: usdPerMillion.optional(),
  cache_read: usdPerMillion.optional(),
  cache_write: usdPerMillion.optional(),
};

/** Which turns a rule is for (globs with `*`), and how they are paid. */
export const pricingRule = z
  .strictObject({
    provider: z.string().default('*'),
    model: z.string().default('*'),
    state: PRICED_STATES,
    usd_per_million_tokens: z
      .strictObject({
        ...prices,
        above: z.array(z.strictObject({ context_tokens: z.int().min(1).max(1e9), ...prices })).optional(),
      })
      .optional(),
  })
  .refine((rule) => (rule.state === 'estimated') === (rule.usd_per_million_tokens !== undefined), {
    path: ['usd_per_million_tokens'],
    message: 'expected prices exactly when state is "estimated"',
    // Told together with the rule's other mistakes, as long as there is a state to compare with.
    when: ({ value }) => PRICED_STATES.safeParse((value as { state?: unknown } | null)?.state).success,
  });
export type PricingRule = z.output<typeof pricingRule>;

/** What a file of prices holds: rules as in the configuration, and nothing else. */
const priceFile = z.strictObject({ pricing: z.array(pricingRule) });

/**
 * Reads a file of prices.
 * @param parse turns YAML into values
 * @throws ConfigFailure with all mistakes; PermanentFailure when the file cannot be read
 */
export function loadPriceList(file: string, parse: (text: string, source: string) => unknown): PricingRule[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new PermanentFailure(
      `${file}, the pricing_file, cannot be read: ${messageOf(error)}. Correct the key, or make the file with "tollbridge pricing import".`,
    );
  }
  const raw = parse(text, file);
  const result = priceFile.safeParse(raw, { reportInput: false });
  if (result.success) return result.data.pricing;
  throw new ConfigFailure(file, firstOfEachPlace(result.error.issues.flatMap((issue) => toMistakes(issue, raw))));
}
