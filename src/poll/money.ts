// Money as providers write it, read exactly into integers. No amount passes through a float on its way from a string.

import type { Nano } from './poll-result.ts';

const NANO_PER_UNIT = 1e9;
/** Micro-cents: 1 USD = 1e8 of them, so one is 10 nano-USD. */
const NANO_PER_MICRO_CENT = 10n;
const MICRO_CENTS = /^-?\d{1,18}$/;

/**
 * An amount in micro-cents, as a decimal string or a JSON number, in nano-USD.
 * @returns undefined for what is no whole number, or is beyond what an integer holds exactly (9 million USD)
 */
export function nanoOfMicroCents(stated: unknown): Nano | undefined {
  const text = typeof stated === 'number' && Number.isSafeInteger(stated) ? String(stated) : stated;
  if (typeof text !== 'string' || !MICRO_CENTS.test(text)) return undefined;
  const nano = Number(BigInt(text) * NANO_PER_MICRO_CENT);
  return Number.isSafeInteger(nano) ? nano : undefined;
}

/**
 * An amount in whole units of its currency, which may have a fraction, in billionths of it.
 * @returns undefined for what is no finite number, or is beyond what an integer holds exactly (9 million)
 */
export function nanoOf(stated: unknown): Nano | undefined {
  if (typeof stated !== 'number' || !Number.isFinite(stated)) return undefined;
  // Adding 0 makes a plain 0 of -0.
  const nano = Math.round(stated * NANO_PER_UNIT) + 0;
  return Number.isSafeInteger(nano) ? nano : undefined;
}
