// A poll result as bridges hand it to each other. What is read is checked field by field, and nothing else is kept.

import { z } from 'zod';
import { accountId, model, name, provider, unixMs } from '../turn/fields.ts';
import { ACCOUNT_STATUSES, type PollResult } from './poll-result.ts';

const nano = z.int();
const figure = z.number();
const flag = z.literal(true).optional();
/** Words of ours and of the closed sets: kinds, limits, units, windows, currencies. */
const word = z.string().regex(/^[A-Za-z0-9%$][A-Za-z0-9 %$_.+/-]{0,63}$/);
const MESSAGE_MAX_CHARS = 300;
/** It is shown on terminals, where other characters are commands. */
const ONE_LINE = /^[^\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]*$/u;
const LIST_MAX = 2000;
const list = <T extends z.ZodType>(item: T) => z.array(item).max(LIST_MAX);

const facts = z.object({
  balances: list(z.object({ kind: word, currency: word, nano, owner: word.optional() })).optional(),
  spendLimits: list(
    z.object({
      ...{ limit: word, currency: word, limitNano: nano.optional(), usedNano: nano.optional() },
      ...{ resetMs: unixMs.optional(), isLifetime: flag },
    }),
  ).optional(),
  reload: z
    .object({
      ...{ currency: word, triggerNano: nano.optional(), amountNano: nano.optional() },
      ...{ isEnabled: z.boolean().optional(), isFailing: z.boolean().optional() },
    })
    .optional(),
  quotas: list(
    z.object({
      ...{ quota: word, window: word, unit: word, limit: figure.optional(), used: figure.optional() },
      ...{ remaining: figure.optional(), usedRatio: figure.optional(), resetMs: unixMs.optional() },
      ...{ isExhausted: flag, isRateLimit: flag },
    }),
  ).optional(),
  models: list(z.object({ id: model, ownedBy: word })).optional(),
  modelsAvailable: z.int().min(0).optional(),
  reportedCosts: list(
    z.object({ window: word, currency: word, nano, model: model.optional(), product: word.optional() }),
  ).optional(),
  reportedTokens: list(
    z.object({ window: word, tokenType: word, tokens: figure, model: model.optional(), product: word.optional() }),
  ).optional(),
  reportedValues: list(
    z.object({
      ...{ metric: word, field: z.enum(['used', 'limit', 'remaining']), unit: word.or(z.literal('')) },
      ...{ window: word.or(z.literal('')), value: figure },
    }),
  ).optional(),
  plan: z
    .object({ name: word.optional(), isSubscribed: z.boolean().optional(), drawsOnBalance: z.boolean().optional() })
    .optional(),
});

const published = z.object({
  v: z.literal(1),
  provider,
  account: accountId,
  takenMs: unixMs,
  status: z.enum(ACCOUNT_STATUSES),
  statusHoldsMs: z.number().min(0),
  message: z.string().max(MESSAGE_MAX_CHARS).regex(ONE_LINE).catch(''),
  authScope: word.optional(),
  displayName: name.optional(),
  machine: word.optional(),
  readings: list(z.object({ route: word, readMs: unixMs, intervalMs: z.number().min(1), facts })),
});

/** The text that `parsePublished` reads. */
export function publishedText(result: PollResult): string {
  return JSON.stringify({ v: 1, ...result });
}

/** The poll result in a text; undefined when it holds none, or one of another version. Never throws. */
export function parsePublished(text: string): PollResult | undefined {
  let stated: unknown;
  try {
    stated = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { data } = published.safeParse(stated);
  if (!data) return undefined;
  const { v: _, ...result } = data;
  // What the schema calls optional is left out where it is absent.
  return result as PollResult;
}
