// Random lives of a few turns against a model that only knows the rule: one key, the highest vector wins.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { WINDOWS } from '../../src/ledger/reading.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { PHASES, type ToolEvent, TURN_STATUSES, type TurnEvent } from '../../src/turn/turn-event.ts';
import { Bench, observed, shown, total } from './bench.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, NOON_MS, SECOND_MS, session, tokens, toolHook, toolPart, turn } from './events.ts';

const few = (max: number) => fc.integer({ min: 0, max });

const vector = fc
  .record({
    messageId: fc.constantFrom('msg_1', 'msg_2', 'msg_3'),
    sessionId: fc.constantFrom('ses_1', 'ses_2'),
    phase: fc.constantFrom(...PHASES),
    status: fc.constantFrom(...TURN_STATUSES),
    eventId: fc.option(fc.constantFrom('evt_1', 'evt_2', 'evt_3'), { nil: undefined }),
    costNano: fc.option(few(5), { nil: undefined }),
    counts: fc.record({ input: few(3), output: few(3), reasoning: few(1), cache_read: few(3), cache_write: few(1) }),
    pricing: fc.constantFrom('stated' as const, 'unknown' as const, 'free' as const),
    model: few(5),
    project: few(5),
    endedMinutesAgo: fc.integer({ min: -8, max: 5000 }),
  })
  .map(({ counts, model, project, endedMinutesAgo, eventId, costNano, ...rest }): TurnEvent => {
    const completedMs = NOON_MS - endedMinutesAgo * MINUTE_MS;
    return turn({
      ...rest,
      ...(eventId === undefined ? {} : { eventId }),
      ...(costNano === undefined ? {} : { costNano }),
      ...(rest.status === 'error' ? { reason: 'other' } : {}),
      tokens: tokens(counts),
      model: `m-${model}`,
      project: `p-${project}`,
      startedMs: completedMs - 5 * SECOND_MS,
      ...(rest.phase === 'completed' ? { completedMs } : {}),
    });
  });

const call = fc
  .record({ make: fc.constantFrom(toolPart, toolHook), callId: fc.constantFrom('c_1', 'c_2', 'c_3'), tool: few(3) })
  .map(({ make, callId, tool }): ToolEvent => make({ callId, tool: `t-${tool}` }));

const step = fc.oneof(
  { weight: 6, arbitrary: fc.array(fc.oneof({ weight: 4, arbitrary: vector }, call), { minLength: 1, maxLength: 8 }) },
  { weight: 1, arbitrary: fc.constantFrom('settle' as const, 'reopen' as const) },
  { weight: 1, arbitrary: fc.constantFrom(30 * SECOND_MS, 2 * MINUTE_MS, 13 * HOUR_MS) },
);

/** The books as the rule wants them. */
class Model {
  readonly turns = new Map<string, { won: TurnEvent; wonMs: number; datedMs: number; counted: boolean }>();
  readonly calls = new Set<string>();

  static rank({ phase, eventId = '', tokens: t, costNano = -1, status, completedMs = -1, startedMs }: TurnEvent) {
    const all = t.input + t.output + t.reasoning + t.cache_read + t.cache_write;
    const parts = [t.input, t.output, t.reasoning, t.cache_read, t.cache_write];
    const ended = [TURN_STATUSES.indexOf(status), completedMs, startedMs];
    return [PHASES.indexOf(phase), eventId, t.output, all, costNano, ...parts, ...ended];
  }

  submit(event: TurnEvent, nowMs: number): void {
    const key = `${event.sessionId}/${event.messageId}`;
    const known = this.turns.get(key);
    if (known && !isHigher(Model.rank(event), Model.rank(known.won))) return;
    const statedMs = event.completedMs ?? event.startedMs;
    const datedMs = statedMs > nowMs + 5 * MINUTE_MS ? (known?.datedMs ?? nowMs) : statedMs;
    const counted = known?.counted || event.phase === 'completed';
    this.turns.set(key, { won: event, wonMs: nowMs, datedMs, counted });
  }

  settle(nowMs: number): void {
    for (const turn of this.turns.values()) {
      if (turn.won.phase === 'finished' && turn.wonMs <= nowMs - MINUTE_MS) turn.counted = true;
    }
  }

  sums(sinceMs: number) {
    const said = [...this.turns.values()].filter(
      ({ won, datedMs }) => won.phase !== 'in_progress' && datedMs >= sinceMs,
    );
    const sum = (of: (turn: TurnEvent) => number) => said.reduce((total, { won }) => total + of(won), 0);
    return {
      costNano: sum(({ costNano = 0 }) => costNano),
      cacheRead: sum(({ tokens: { cache_read } }) => cache_read),
      withoutCacheRead: sum(({ tokens: t }) => t.input + t.output + t.reasoning + t.cache_write),
      turns: said.filter(({ counted }) => counted).length,
    };
  }
}

function isHigher(a: readonly (string | number)[], b: readonly (string | number)[]): boolean {
  const at = a.findIndex((value, index) => value !== b[index]);
  return at >= 0 && a[at]! > b[at]!;
}

function assertBooks(bench: Bench, model: Model): void {
  const { ledger, nowMs } = bench;
  const everything = model.sums(Number.NEGATIVE_INFINITY);
  assert.equal(total(ledger, TOLL.cost) - total(ledger, TOLL.costCorrections), everything.costNano);
  const net = total(ledger, TOLL.tokens) - total(ledger, TOLL.tokensCorrections);
  assert.equal(net, everything.withoutCacheRead + everything.cacheRead);
  assert.equal(total(ledger, TOLL.turns), everything.turns);
  const rows = ledger.windowRows();
  const quarterBefore = (hours: number) => Math.floor((nowMs - hours * HOUR_MS) / (15 * MINUTE_MS)) * 15 * MINUTE_MS;
  const starts = {
    today: Math.floor(nowMs / DAY_MS) * DAY_MS,
    '3d': quarterBefore(72),
    '7d': quarterBefore(168),
    '30d': quarterBefore(720),
    month: Date.UTC(2026, 2, 1),
    all: 0,
  };
  for (const window of WINDOWS) {
    const own = rows.filter((row) => row.window === window);
    const sum = (of: (row: (typeof own)[number]) => number) => own.reduce((all, row) => all + of(row), 0);
    const seen = {
      costNano: sum((row) => row.costNano),
      cacheRead: sum((row) => row.tokens.cacheRead),
      withoutCacheRead: sum((row) => row.tokens.withoutCacheRead),
      turns: sum((row) => row.turns),
    };
    assert.deepEqual(seen, model.sums(starts[window]), window);
    for (const row of own) assert.ok(row.pricedTurns >= 0 && row.pricedTurns <= row.turns);
  }
}

describe('whatever arrives in whatever order', () => {
  for (const series of [1_000_000, 120]) {
    test(`the books balance, nothing falls, and a restart changes nothing (cap of ${series} series)`, async (t) => {
      const caps = { model: 3, project: 2, user: 1, tool: 1, mcp_server: 1, series };
      const run = async (steps: (typeof step extends fc.Arbitrary<infer S> ? S : never)[]) => {
        const bench = new Bench(t, { caps });
        const model = new Model();
        for (const [index, what] of steps.entries()) {
          if (what === 'settle') {
            await bench.settleAt(bench.nowMs);
            model.settle(bench.nowMs);
          } else if (what === 'reopen') {
            const before = shown(bench.ledger);
            bench.reopen();
            assert.deepEqual(shown(bench.ledger), before);
          } else if (typeof what === 'number') {
            bench.nowMs += what;
          } else {
            await bench.submit(session({ sessionId: `ses_${index % 3}` }), ...what);
            for (const event of what) {
              if (event.kind === 'tool') model.calls.add(event.callId);
              else model.submit(event, bench.nowMs);
            }
          }
          assertBooks(bench, model);
        }
        await bench.settleAt(bench.nowMs + HOUR_MS);
        model.settle(bench.nowMs);
        assertBooks(bench, model);
        assert.equal(total(bench.ledger, TOLL.toolCalls), model.calls.size);
        const completed = [...model.turns.values()].filter(({ won }) => won.phase === 'completed').length;
        assert.equal(observed(bench.ledger, TOLL.turnDuration).count, completed);
        assert.equal(observed(bench.ledger, TOLL.modelDuration).count, completed);
        bench.ledger.close();
      };
      await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), run), { numRuns: 25 });
    });
  }
});
