// A clock that jumps, back and forth, across midnights, changes of summer time and ends of months, with restarts between:
// nothing that grows falls (the bench sees to that), no turn is lost, and every window holds what lies in it by then.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { WINDOWS, type Window } from '../../src/ledger/reading.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { Bench, total, windowRow } from './bench.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, turn } from './events.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const QUARTER_MS = 15 * MINUTE_MS;
const AHEAD_MS = 5 * MINUTE_MS;
const TURNS_PER_STEP = 3;

/** Moments around which a calendar is easily wrong, in their zones. */
const MOMENTS: readonly [zone: string, moment: string][] = [
  ['Europe/Berlin', '2026-03-29T01:00Z'],
  ['Europe/Berlin', '2026-10-25T01:00Z'],
  ['America/New_York', '2026-11-01T06:00Z'],
  ['America/Santiago', '2026-09-06T04:00Z'],
  ['Asia/Kathmandu', '2026-02-28T18:15Z'],
  ['Australia/Lord_Howe', '2026-04-04T15:00Z'],
  ['UTC', '2027-01-01T00:00Z'],
];
const JUMPS_MS = [
  0,
  1,
  -1,
  1000,
  QUARTER_MS,
  -QUARTER_MS,
  HOUR_MS,
  -HOUR_MS,
  23 * HOUR_MS,
  DAY_MS,
  -DAY_MS,
  31 * DAY_MS,
];

/** Where a window begins, found by looking at the calendar of every quarter of an hour before. */
function startMs(window: Window, nowMs: number, timeZone: string): number {
  if (window === 'all') return 0;
  const hours = { '3d': 72, '7d': 168, '30d': 720 }[window as string];
  const quarter = Math.floor(nowMs / QUARTER_MS) * QUARTER_MS;
  if (hours !== undefined) return Math.floor((nowMs - hours * HOUR_MS) / QUARTER_MS) * QUARTER_MS;
  const parts = window === 'today' ? ({ day: 'numeric', month: 'numeric' } as const) : ({ month: 'numeric' } as const);
  const format = new Intl.DateTimeFormat('en', { timeZone, year: 'numeric', ...parts });
  const name = format.format(nowMs);
  let start = quarter;
  while (format.format(start - 1) === name) start -= QUARTER_MS;
  return start;
}

test('a clock that jumps loses no turn and no window', async (t) => {
  let steps = 0;
  const step = fc.record({
    jumpMs: fc.oneof(fc.constantFrom(...JUMPS_MS), fc.integer({ min: -40 * DAY_MS, max: 40 * DAY_MS })),
    turnsAgoMs: fc.array(
      fc.oneof(fc.integer({ min: -2 * HOUR_MS, max: 45 * DAY_MS }), fc.constantFrom(0, 1, -AHEAD_MS)),
      {
        maxLength: TURNS_PER_STEP,
      },
    ),
    after: fc.constantFrom('look', 'restart', 'settle', 'sweep'),
  });
  const property = fc.asyncProperty(
    fc.constantFrom(...MOMENTS),
    fc.array(step, { minLength: 1, maxLength: 12 }),
    async ([timeZone, moment], walk) => {
      const bench = new Bench(t, { timeZone });
      bench.nowMs = Date.parse(moment);
      bench.reopen();
      const dated: number[] = [];
      for (const [at, { jumpMs, turnsAgoMs, after }] of walk.entries()) {
        bench.nowMs += jumpMs;
        const now = bench.nowMs;
        for (const agoMs of turnsAgoMs) {
          const completedMs = now - agoMs;
          dated.push(completedMs > now + AHEAD_MS ? now : completedMs);
          const said = { messageId: `msg_${dated.length}`, costNano: 1, startedMs: completedMs - 1000, completedMs };
          await bench.submit(turn(said));
        }
        if (after === 'restart') bench.reopen();
        else if (after === 'settle') await bench.settleAt(now);
        else if (after === 'sweep') await bench.ledger.sweep();
        if (dated.length > 0) {
          for (const window of WINDOWS) {
            const fromMs = startMs(window, now, timeZone);
            const { turns, costNano } = windowRow(bench.ledger, window);
            const expected = dated.filter((ms) => ms >= fromMs).length;
            assert.deepEqual(
              [turns, costNano],
              [expected, expected],
              `step ${at}: ${window} at ${new Date(now).toISOString()}`,
            );
          }
        }
        steps += 1;
      }
      assert.deepEqual([total(bench.ledger, TOLL.turns), total(bench.ledger, TOLL.cost)], [dated.length, dated.length]);
      bench.ledger.close();
    },
  );
  await fc.assert(property, { numRuns: FULL ? 300 : 15 });
  t.diagnostic(`${steps} steps in ${MOMENTS.length} places`);
});
