import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { WINDOWS, type Window } from '../../src/ledger/reading.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { Bench, shown, total, windowRow } from './bench.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, NOON_MS, tokens, turn } from './events.ts';

/** A turn that completed then. */
const turnAt = (completedMs: number, said: Parameters<typeof turn>[0] = {}) =>
  turn({ startedMs: completedMs - 1000, completedMs, messageId: `msg_${completedMs}`, costNano: 1, ...said });

const costs = (bench: Bench, model?: string): Record<Window, number> =>
  Object.fromEntries(WINDOWS.map((window) => [window, windowRow(bench.ledger, window, model).costNano])) as Record<
    Window,
    number
  >;

describe('a calendar window begins with the local day', () => {
  const ZONES: [zone: string, now: string, midnight: string, firstOfMonth: string][] = [
    ['UTC', '2026-03-10T12:00Z', '2026-03-10T00:00Z', '2026-03-01T00:00Z'],
    ['Europe/Berlin', '2026-03-29T20:00Z', '2026-03-28T23:00Z', '2026-02-28T23:00Z'],
    ['Europe/Berlin', '2026-10-25T20:00Z', '2026-10-24T22:00Z', '2026-09-30T22:00Z'],
    ['Asia/Kolkata', '2026-03-10T12:00Z', '2026-03-09T18:30Z', '2026-02-28T18:30Z'],
    ['America/Santiago', '2026-09-06T15:00Z', '2026-09-06T04:00Z', '2026-09-01T04:00Z'],
    ['Pacific/Apia', '2026-03-10T12:00Z', '2026-03-10T11:00Z', '2026-02-28T11:00Z'],
  ];
  for (const [timeZone, now, midnight, firstOfMonth] of ZONES) {
    test(`${timeZone}, ${now}`, async (t) => {
      const bench = new Bench(t, { timeZone });
      bench.nowMs = Date.parse(now);
      bench.reopen();
      const dayMs = Date.parse(midnight);
      const monthMs = Date.parse(firstOfMonth);
      const nowTurn = turnAt(bench.nowMs, { costNano: 1 });
      await bench.submit(nowTurn, turnAt(dayMs, { costNano: 10 }), turnAt(dayMs - 1, { costNano: 100 }));
      await bench.submit(turnAt(monthMs, { costNano: 1000 }), turnAt(monthMs - 1, { costNano: 10_000 }));
      assert.equal(costs(bench).today, 11);
      assert.equal(costs(bench).month, 1111);
      assert.equal(costs(bench).all, 11_111);
      const before = shown(bench.ledger);
      bench.reopen();
      assert.deepEqual(shown(bench.ledger), before);
      // The same turns as another zone sees them: nothing is lost by moving.
      bench.reopen({ timeZone: 'America/St_Johns' });
      assert.equal(costs(bench).all, 11_111);
    });
  }
});

describe('as time passes', () => {
  test('today is 0 after midnight, not absent, and the rolling windows let go one after the other', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turnAt(NOON_MS));
    const full = { today: 1, '3d': 1, '7d': 1, '30d': 1, month: 1, all: 1 };
    assert.deepEqual(costs(bench), full);
    const later: [afterMs: number, gone: Window[]][] = [
      [12 * HOUR_MS - 1, []],
      [12 * HOUR_MS, ['today']],
      [72 * HOUR_MS, ['today']],
      // A window ends now and begins with the quarter of an hour that holds its start.
      [72 * HOUR_MS + 15 * MINUTE_MS - 1, ['today']],
      [72 * HOUR_MS + 15 * MINUTE_MS, ['today', '3d']],
      [168 * HOUR_MS + 15 * MINUTE_MS, ['today', '3d', '7d']],
      [Date.UTC(2026, 3, 1) - NOON_MS - 1, ['today', '3d', '7d']],
      [Date.UTC(2026, 3, 1) - NOON_MS, ['today', '3d', '7d', 'month']],
      [720 * HOUR_MS + 15 * MINUTE_MS, ['today', '3d', '7d', 'month', '30d']],
      [3650 * DAY_MS, ['today', '3d', '7d', 'month', '30d']],
      // And a clock that goes back brings all of it back.
      [DAY_MS, ['today']],
      [0, []],
    ];
    for (const [afterMs, gone] of later) {
      bench.nowMs = NOON_MS + afterMs;
      const expected = { ...full, ...Object.fromEntries(gone.map((window) => [window, 0])) };
      assert.deepEqual(costs(bench), expected, `after ${afterMs / HOUR_MS} h`);
      for (const window of WINDOWS) {
        assert.equal(bench.ledger.windowSessions(window, ['anthropic']), expected[window], `sessions of ${window}`);
        assert.equal(windowRow(bench.ledger, window).turns, expected[window]);
      }
      bench.reopen();
      assert.deepEqual(costs(bench), expected, `after ${afterMs / HOUR_MS} h and a restart`);
    }
  });

  test('a turn that comes late lands in its own day, whether or not it was looked at meanwhile', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turnAt(NOON_MS));
    bench.nowMs = NOON_MS + 2 * DAY_MS;
    assert.equal(costs(bench).today, 0);
    await bench.submit(turnAt(NOON_MS + DAY_MS), turnAt(NOON_MS - 4 * DAY_MS), turnAt(NOON_MS - 400 * DAY_MS));
    assert.deepEqual(costs(bench), { today: 0, '3d': 2, '7d': 3, '30d': 3, month: 3, all: 4 });
  });

  test('a turn that is corrected into another time moves whole', async (t) => {
    const bench = new Bench(t);
    const used = { tokens: tokens({ input: 10, cache_read: 90 }), messageId: 'msg_1' };
    await bench.submit(turnAt(NOON_MS, { ...used, costNano: 5, eventId: 'evt_1' }));
    for (const [index, movedMs] of [NOON_MS - 20 * MINUTE_MS, NOON_MS - DAY_MS, NOON_MS - 60 * DAY_MS].entries()) {
      await bench.submit(turnAt(movedMs, { ...used, costNano: 6, eventId: `evt_${index + 2}` }));
      const held = Object.entries(costs(bench)).flatMap(([window, cost]) => (cost === 0 ? [] : [window]));
      assert.deepEqual(held, [WINDOWS, WINDOWS.slice(1), ['all']][index]);
      for (const window of WINDOWS) {
        const { costNano, tokens: sums, turns, pricedTurns } = windowRow(bench.ledger, window);
        const one = held.includes(window) ? 1 : 0;
        assert.deepEqual(
          [costNano, sums.withoutCacheRead, sums.cacheRead, turns, pricedTurns],
          [6 * one, 10 * one, 90 * one, one, one],
        );
      }
    }
    assert.equal(total(bench.ledger, TOLL.cost), 6);
  });

  test('every model that was ever seen has a row in every window, to which a birth suffices', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turnAt(NOON_MS - 400 * DAY_MS, { model: 'old' }));
    await bench.submit(turnAt(NOON_MS, { model: 'new', phase: 'in_progress' }));
    const nothing = { today: 0, '3d': 0, '7d': 0, '30d': 0, month: 0, all: 0 };
    assert.deepEqual(costs(bench, 'old'), { ...nothing, all: 1 });
    assert.deepEqual(costs(bench, 'new'), nothing);
    bench.reopen();
    assert.deepEqual(costs(bench, 'new'), nothing);
  });
});

describe('the sessions of a window', () => {
  test('are distinct, and counted over upstream providers together', async (t) => {
    const bench = new Bench(t);
    await bench.submit(
      turnAt(NOON_MS, { messageId: 'a' }),
      turnAt(NOON_MS, { messageId: 'b', upstreamProvider: 'openai' }),
      turnAt(NOON_MS, { messageId: 'c', sessionId: 'ses_2', upstreamProvider: 'openai' }),
      turnAt(NOON_MS - 5 * DAY_MS, { messageId: 'd', sessionId: 'ses_3' }),
    );
    const count = (window: Window, ...upstreams: string[]) => bench.ledger.windowSessions(window, upstreams);
    assert.equal(count('today', 'anthropic'), 1);
    assert.equal(count('today', 'openai'), 2);
    assert.equal(count('today', 'anthropic', 'openai'), 2);
    assert.equal(count('7d', 'anthropic', 'openai'), 3);
    assert.equal(count('today'), 0);
    await bench.submit(turnAt(NOON_MS - 40 * DAY_MS, { messageId: 'late' }));
    assert.equal(count('today', 'anthropic'), 1, 'an older turn that comes late ends no session');
    assert.equal(count('today', 'google'), 0);
  });
});
