// When the period of a budget begins and ends: by the calendar of a time zone, so that a day may have 23 or 25 hours.

import type { BudgetRule } from '../config-policy.ts';
import { dayStartMs, type LocalDate, localDate } from './time-zone.ts';

const DAY_MS = 86_400_000;

/** The last moment that a date can hold: where a span ends that has no end. */
export const LATEST_MS = 8.64e15;

/** Unix ms; `endMs` is the first moment of the next one. */
export interface Span {
  readonly startMs: number;
  readonly endMs: number;
}

/** Days since 1970 of a day of the calendar. */
const dayNumber = ({ year, month, day }: LocalDate) => Date.UTC(year, month - 1, day) / DAY_MS;

/** The period of a budget that holds `ms`. */
export function periodAt(
  ms: number,
  { period, week_start, anchor }: Pick<BudgetRule, 'period' | 'week_start' | 'anchor'>,
  timeZone: string,
): Span {
  const today = localDate(ms, timeZone);
  const from = (first: LocalDate, next: LocalDate): Span => ({
    startMs: dayStartMs(first, timeZone),
    endMs: dayStartMs(next, timeZone),
  });
  const days = (first: LocalDate, count: number) => from(first, { ...first, day: first.day + count });
  if (period === 'day') return days(today, 1);
  if (period === 'month') return from({ ...today, day: 1 }, { ...today, month: today.month + 1, day: 1 });
  if (period === 'week') {
    // 1970 began on a Thursday.
    const sinceMonday = (dayNumber(today) + 3) % 7;
    const since = week_start === 'monday' ? sinceMonday : (sinceMonday + 1) % 7;
    return days({ ...today, day: today.day - since }, 7);
  }
  const count = Number.parseInt(period, 10);
  const anchored = Date.parse(`${anchor}T00:00:00Z`) / DAY_MS;
  const since = (((dayNumber(today) - anchored) % count) + count) % count;
  return days({ ...today, day: today.day - since }, count);
}
