// Amounts and times as the user reads them in a verdict.

import { type Standing, UNIT_SCALE } from '../ledger/reading.ts';

const USD_DIGITS = 2;
/** Small budgets need more than cents. */
const SMALL_USD = 1;
const SMALL_USD_DIGITS = 4;

/** `412.07 of 500.00 USD`, `80,000 of 100,000 tokens`. Spent money is rounded down: nothing reads as spent that is not. */
export function limitText({ unit, spent, limit }: Pick<Standing, 'unit' | 'spent' | 'limit'>): string {
  if (unit !== 'usd') return `${spent.toLocaleString('en-US')} of ${limit.toLocaleString('en-US')} ${unit}`;
  const digits = limit / UNIT_SCALE.usd < SMALL_USD ? SMALL_USD_DIGITS : USD_DIGITS;
  const usd = (nano: number) => {
    const step = 10 ** (9 - digits);
    return (Math.floor(nano / step) / 10 ** digits).toLocaleString('en-US', {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    });
  };
  return `${usd(spent)} of ${usd(limit)} USD`;
}

/** `on 1 December 2026 at 00:00 (Europe/Berlin)` */
export function resetText(ms: number, timeZone: string): string {
  const day = new Intl.DateTimeFormat('en-GB', { timeZone, day: 'numeric', month: 'long', year: 'numeric' }).format(ms);
  const time = new Intl.DateTimeFormat('en-GB', { timeZone, hour: '2-digit', minute: '2-digit' }).format(ms);
  return `on ${day} at ${time} (${timeZone})`;
}
