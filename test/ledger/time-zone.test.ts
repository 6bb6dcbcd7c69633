import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { startOfDayMs, startOfMonthMs } from '../../src/ledger/time-zone.ts';

/** In each: a moment, and when its local day and month began. */
const STARTS: [zone: string, what: string, now: string, day: string, month: string][] = [
  ['UTC', 'a day', '2026-03-10T12:00Z', '2026-03-10T00:00Z', '2026-03-01T00:00Z'],
  ['UTC', 'its first moment', '2026-03-01T00:00Z', '2026-03-01T00:00Z', '2026-03-01T00:00Z'],
  ['UTC', 'its last moment', '2026-02-28T23:59:59.999Z', '2026-02-28T00:00Z', '2026-02-01T00:00Z'],
  ['UTC', 'a leap day', '2028-02-29T12:00Z', '2028-02-29T00:00Z', '2028-02-01T00:00Z'],
  ['Europe/Berlin', 'the day of 23 hours', '2026-03-29T20:00Z', '2026-03-28T23:00Z', '2026-02-28T23:00Z'],
  ['Europe/Berlin', 'the day after it', '2026-03-30T10:00Z', '2026-03-29T22:00Z', '2026-02-28T23:00Z'],
  ['Europe/Berlin', 'the day of 25 hours', '2026-10-25T22:59Z', '2026-10-24T22:00Z', '2026-09-30T22:00Z'],
  ['Europe/Berlin', 'the day after that', '2026-10-25T23:00Z', '2026-10-25T23:00Z', '2026-09-30T22:00Z'],
  ['Europe/Berlin', 'new year', '2025-12-31T23:30Z', '2025-12-31T23:00Z', '2025-12-31T23:00Z'],
  ['Asia/Kolkata', 'half an hour', '2026-03-10T12:00Z', '2026-03-09T18:30Z', '2026-02-28T18:30Z'],
  ['Asia/Kathmandu', 'a quarter', '2026-03-10T12:00Z', '2026-03-09T18:15Z', '2026-02-28T18:15Z'],
  ['America/Santiago', 'no midnight', '2026-09-06T15:00Z', '2026-09-06T04:00Z', '2026-09-01T04:00Z'],
  ['America/Santiago', 'before that midnight', '2026-09-06T03:59Z', '2026-09-05T04:00Z', '2026-09-01T04:00Z'],
  ['America/Santiago', '23 o’clock twice', '2026-04-05T03:30Z', '2026-04-04T03:00Z', '2026-04-01T03:00Z'],
  ['America/Santiago', 'the day after that', '2026-04-05T04:00Z', '2026-04-05T04:00Z', '2026-04-01T03:00Z'],
  ['America/Havana', 'midnight twice', '2026-11-01T12:00Z', '2026-11-01T04:00Z', '2026-11-01T04:00Z'],
  ['Pacific/Apia', 'far east', '2026-03-10T12:00Z', '2026-03-10T11:00Z', '2026-02-28T11:00Z'],
  ['Pacific/Apia', 'the day after one left out', '2011-12-31T05:00Z', '2011-12-30T10:00Z', '2011-12-01T10:00Z'],
  ['Pacific/Apia', 'the day before it', '2011-12-30T09:59Z', '2011-12-29T10:00Z', '2011-12-01T10:00Z'],
];

describe('the beginning of a local day and month', () => {
  for (const [zone, what, now, day, month] of STARTS) {
    test(`${zone}, ${what}: ${now}`, () => {
      const iso = (ms: number) => new Date(ms).toISOString();
      const expected = [day, month].map((text) => iso(Date.parse(text)));
      assert.deepEqual(
        [iso(startOfDayMs(Date.parse(now), zone)), iso(startOfMonthMs(Date.parse(now), zone))],
        expected,
      );
    });
  }

  test('is the first moment with that date, at any time in any of these zones', () => {
    const zones = [...new Set(STARTS.map(([zone]) => zone))];
    const dates = new Map(zones.map((zone) => [zone, new Intl.DateTimeFormat('sv', { timeZone: zone })]));
    fc.assert(
      fc.property(
        fc.constantFrom(...zones),
        fc.integer({ min: Date.UTC(2005, 0), max: Date.UTC(2035, 0) }),
        (zone, ms) => {
          const date = (at: number) => dates.get(zone)!.format(at);
          const dayMs = startOfDayMs(ms, zone);
          assert.ok(dayMs <= ms);
          assert.equal(date(dayMs), date(ms));
          assert.notEqual(date(dayMs - 1), date(ms));
          const monthMs = startOfMonthMs(ms, zone);
          assert.ok(monthMs <= dayMs);
          assert.equal(date(monthMs).slice(0, 7), date(ms).slice(0, 7));
          assert.notEqual(date(monthMs - 1).slice(0, 7), date(ms).slice(0, 7));
        },
      ),
      { numRuns: 300 },
    );
  });
});
