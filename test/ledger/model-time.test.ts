import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { unionMs } from '../../src/ledger/model-time.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import type { MeterEvent } from '../../src/turn/turn-event.ts';
import { Bench, observed, typesOf } from './bench.ts';
import { HOUR_MS, NOON_MS, permission, toolPart, turn } from './events.ts';

describe('the union of intervals', () => {
  const BOUNDS = [100, 200] as const;
  const UNIONS: [name: string, intervals: [number, number][], ms: number][] = [
    ['none', [], 0],
    ['one', [[110, 130]], 20],
    [
      'apart',
      [
        [110, 120],
        [150, 170],
      ],
      30,
    ],
    [
      'overlapping',
      [
        [110, 140],
        [120, 150],
      ],
      40,
    ],
    [
      'one within another',
      [
        [110, 160],
        [120, 130],
      ],
      50,
    ],
    [
      'alike',
      [
        [110, 120],
        [110, 120],
      ],
      10,
    ],
    [
      'touching',
      [
        [110, 120],
        [120, 130],
      ],
      20,
    ],
    ['beyond both bounds', [[0, 1000]], 100],
    ['before the bounds', [[0, 100]], 0],
    ['after the bounds', [[200, 300]], 0],
    [
      'across each bound',
      [
        [50, 110],
        [190, 250],
      ],
      20,
    ],
    ['reversed', [[150, 120]], 0],
    [
      'unsorted',
      [
        [150, 160],
        [110, 120],
        [115, 155],
      ],
      50,
    ],
  ];
  for (const [name, intervals, ms] of UNIONS) {
    test(name, () => {
      assert.equal(unionMs(intervals, BOUNDS), ms);
      assert.equal(unionMs(intervals.toReversed(), BOUNDS), ms);
    });
  }
});

/** Seconds of the turn, which starts at 0 and lasts 10. */
const at = (second: number) => NOON_MS - 10_000 + second * 1000;
const tool = (from: number, to: number, callId = `call_${from}_${to}`) =>
  toolPart({ callId, startedMs: at(from), completedMs: at(to) });
const asked = (from: number) => permission({ askedMs: at(from) });
const replied = (to: number) => permission({ repliedMs: at(to) });

const STEPS: Record<string, { events: readonly MeterEvent[]; seconds: number }> = {
  'no tools': { events: [], seconds: 10 },
  'two tools apart': { events: [tool(1, 2), tool(4, 7)], seconds: 6 },
  'two tools at once': { events: [tool(1, 5), tool(3, 7)], seconds: 4 },
  'a permission within a tool, as agents ask before they run it': {
    events: [tool(2, 8), asked(3), replied(6)],
    seconds: 4,
  },
  'a permission that begins before its tool': { events: [asked(1), replied(4), tool(3, 5)], seconds: 6 },
  'a permission that nobody answered': { events: [asked(1)], seconds: 10 },
  'a tool that outlives its step': { events: [tool(8, 60)], seconds: 8 },
  'tools all the time': { events: [tool(-5, 30)], seconds: 0 },
  'what belongs to other turns': {
    events: [
      toolPart({ messageId: 'msg_other', callId: 'x', startedMs: at(0), completedMs: at(9) }),
      permission({ messageId: 'msg_other', requestId: 'y', askedMs: at(0), repliedMs: at(9) }),
      toolPart({ sessionId: 'ses_other', callId: 'z', startedMs: at(0), completedMs: at(9) }),
    ],
    seconds: 10,
  },
};

describe('model time is the step less what tools and questions took', () => {
  for (const [name, { events, seconds }] of Object.entries(STEPS)) {
    test(name, async (t) => {
      const all = [turn(), ...events];
      // Every rotation, forwards and backwards: each event is first once, and last once.
      const orders = all.flatMap((_, by) => {
        const rotated = [...all.slice(by), ...all.slice(0, by)];
        return [rotated, rotated.toReversed()];
      });
      for (const order of orders) {
        const bench = new Bench(t);
        for (const event of order) await bench.submit(event, event);
        await bench.settleAt(NOON_MS + 59_999);
        assert.equal(observed(bench.ledger, TOLL.modelDuration).count, 0);
        await bench.settleAt(NOON_MS + 60_000);
        assert.deepEqual(observed(bench.ledger, TOLL.modelDuration), { count: 1, sum: seconds * 1000 });
        await bench.settleAt(NOON_MS + HOUR_MS);
        assert.equal(observed(bench.ledger, TOLL.modelDuration).count, 1);
      }
    });
  }

  test('a turn that is in progress or only finished has none', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ phase: 'in_progress' }), turn({ phase: 'finished', messageId: 'msg_2' }));
    await bench.settleAt(NOON_MS + HOUR_MS);
    assert.equal(observed(bench.ledger, TOLL.modelDuration).count, 0);
    await bench.submit(turn());
    await bench.settleAt(NOON_MS + 2 * HOUR_MS);
    assert.equal(observed(bench.ledger, TOLL.modelDuration).count, 1);
  });
});

describe('a permission', () => {
  test('is recorded with its question or its answer, updated by the other half, and then known', async (t) => {
    for (const halves of [
      [asked(1), replied(2)],
      [replied(2), asked(1)],
    ]) {
      const bench = new Bench(t);
      const seen: string[] = [];
      for (const half of [...halves, ...halves]) seen.push(...typesOf(await bench.submit(half)));
      assert.deepEqual(seen, ['recorded', 'updated', 'duplicate', 'duplicate']);
    }
  });

  test('keeps its first times, and learns its message from either half', async (t) => {
    const bench = new Bench(t);
    const { messageId: _, ...unnamed } = asked(2);
    await bench.submit(turn(), unnamed, replied(4), permission({ askedMs: at(0), repliedMs: at(9) }));
    const second = { messageId: 'msg_2', requestId: 'per_2' };
    await bench.submit(turn(second), permission({ ...second, askedMs: at(2) }));
    await bench.submit(permission({ ...second, askedMs: at(0), repliedMs: at(3) }));
    await bench.settleAt(NOON_MS + HOUR_MS);
    assert.deepEqual(observed(bench.ledger, TOLL.modelDuration), { count: 2, sum: 8000 + 9000 });
  });
});
