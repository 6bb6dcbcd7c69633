import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { periodAt } from '../../src/ledger/budget-period.ts';

type Period = Partial<Parameters<typeof periodAt>[1]>;

/** In each: a period, a zone, a moment, and the first moments of its period and of the next. */
const CASES: [what: string, period: Period, zone: string, now: string, start: string, end: string][] = [
  ['a day', { period: 'day' }, 'UTC', '2026-03-10T12:00Z', '2026-03-10T00:00Z', '2026-03-11T00:00Z'],
  ['its last moment', { period: 'day' }, 'UTC', '2026-02-28T23:59:59.999Z', '2026-02-28T00:00Z', '2026-03-01T00:00Z'],
  ['23 hours', { period: 'day' }, 'Europe/Berlin', '2026-03-29T10:00Z', '2026-03-28T23:00Z', '2026-03-29T22:00Z'],
  ['25 hours', { period: 'day' }, 'Europe/Berlin', '2026-10-25T10:00Z', '2026-10-24T22:00Z', '2026-10-25T23:00Z'],
  ['no midnight', { period: 'day' }, 'America/Santiago', '2026-09-06T15:00Z', '2026-09-06T04:00Z', '2026-09-07T03:00Z'],
  ['a leap day', { period: 'day' }, 'UTC', '2028-02-29T12:00Z', '2028-02-29T00:00Z', '2028-03-01T00:00Z'],
  ['a month', { period: 'month' }, 'UTC', '2026-04-30T12:00Z', '2026-04-01T00:00Z', '2026-05-01T00:00Z'],
  ['a leap month', { period: 'month' }, 'UTC', '2028-02-29T12:00Z', '2028-02-01T00:00Z', '2028-03-01T00:00Z'],
  ['a February', { period: 'month' }, 'UTC', '2026-02-28T12:00Z', '2026-02-01T00:00Z', '2026-03-01T00:00Z'],
  ['December', { period: 'month' }, 'UTC', '2026-12-31T23:00Z', '2026-12-01T00:00Z', '2027-01-01T00:00Z'],
  ['new year there', { period: 'month' }, 'Asia/Tokyo', '2026-12-31T15:00Z', '2026-12-31T15:00Z', '2027-01-31T15:00Z'],
  ['31 days later', { period: 'month' }, 'UTC', '2026-01-31T12:00Z', '2026-01-01T00:00Z', '2026-02-01T00:00Z'],
  ['summer time', { period: 'month' }, 'Europe/Berlin', '2026-03-30T00:00Z', '2026-02-28T23:00Z', '2026-03-31T22:00Z'],
  ['a week', { period: 'week' }, 'UTC', '2026-03-10T12:00Z', '2026-03-09T00:00Z', '2026-03-16T00:00Z'],
  ['its Monday', { period: 'week' }, 'UTC', '2026-03-09T00:00Z', '2026-03-09T00:00Z', '2026-03-16T00:00Z'],
  ['its Sunday', { period: 'week' }, 'UTC', '2026-03-15T23:59Z', '2026-03-09T00:00Z', '2026-03-16T00:00Z'],
  [
    ...(['from Sunday on', { period: 'week', week_start: 'sunday' }, 'UTC'] as const),
    ...(['2026-03-15T00:00Z', '2026-03-15T00:00Z', '2026-03-22T00:00Z'] as const),
  ],
  [
    ...(['to Saturday', { period: 'week', week_start: 'sunday' }, 'UTC'] as const),
    ...(['2026-03-14T23:59Z', '2026-03-08T00:00Z', '2026-03-15T00:00Z'] as const),
  ],
  ['over new year', { period: 'week' }, 'UTC', '2027-01-01T12:00Z', '2026-12-28T00:00Z', '2027-01-04T00:00Z'],
  ['a short week', { period: 'week' }, 'Europe/Berlin', '2026-03-29T10:00Z', '2026-03-22T23:00Z', '2026-03-29T22:00Z'],
  [
    ...(['30 days, the first', { period: '30d', anchor: '2026-01-15' }, 'UTC'] as const),
    ...(['2026-01-15T00:00Z', '2026-01-15T00:00Z', '2026-02-14T00:00Z'] as const),
  ],
  [
    ...(['30 days, later', { period: '30d', anchor: '2026-01-15' }, 'UTC'] as const),
    ...(['2026-02-14T00:00Z', '2026-02-14T00:00Z', '2026-03-16T00:00Z'] as const),
  ],
  [
    ...(['before their anchor', { period: '30d', anchor: '2026-01-15' }, 'UTC'] as const),
    ...(['2026-01-14T23:59Z', '2025-12-16T00:00Z', '2026-01-15T00:00Z'] as const),
  ],
];

describe('the period of a budget', () => {
  for (const [what, period, zone, now, start, end] of CASES) {
    test(`${period.period}, ${what}: ${now} in ${zone}`, () => {
      const { startMs, endMs } = periodAt(
        Date.parse(now),
        { period: 'day', week_start: 'monday', anchor: undefined, ...period },
        zone,
      );
      const iso = (ms: number) => new Date(ms).toISOString();
      assert.deepEqual(
        [iso(startMs), iso(endMs)],
        [start, end].map((text) => iso(Date.parse(text))),
      );
    });
  }
});
