// What a report says was spent, against sums of the turns that a test has sent.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Span } from '../../src/ledger/budget-period.ts';
import { REPORT_BY, type SpendReport, type SpendSums } from '../../src/ledger/spend-report.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { Bench, total } from './bench.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, NANO, NOON_MS, tokens, turn } from './events.ts';

const ALWAYS: Span = { startMs: 0, endMs: 8.64e15 };
const SUMS = ['cost_nano', 'estimated_nano', 'tokens', 'turns'] as const;

/** Everything that a report adds up, once more by hand. */
function added({ rows, not_listed }: SpendReport): SpendSums {
  const parts: readonly SpendSums[] = not_listed ? [...rows, not_listed] : rows;
  const sum = (name: (typeof SUMS)[number]) => parts.reduce((before, part) => before + part[name], 0);
  return {
    cost_nano: sum('cost_nano'),
    estimated_nano: sum('estimated_nano'),
    tokens: sum('tokens'),
    turns: sum('turns'),
  };
}

const costs = (report: SpendReport, column: string) => report.rows.map((row) => [row[column], row.cost_nano]);

describe('a report', () => {
  async function severalTurns(bench: Bench) {
    await bench.submit(
      turn({ messageId: 'a', team: 'red', costNano: 3 * NANO + 1, tokens: tokens({ output: 5, cache_read: 2 }) }),
      turn({ messageId: 'b', team: 'blue', costNano: 9 * NANO, model: 'gpt-5', project: 'shop' }),
      turn({ messageId: 'c', sessionId: 'ses_2', costNano: 7 }),
      turn({ messageId: 'd', sessionId: 'ses_2', pricing: 'estimated', estimatedNano: 11, user: 'ana' }),
      turn({ messageId: 'e', phase: 'finished', eventId: 'evt_1', team: 'red', costNano: 2 * NANO }),
    );
    // Takes back more than half.
    await bench.submit(turn({ messageId: 'e', eventId: 'evt_2', team: 'red', costNano: NANO / 4 + 3 }));
  }

  test('equals the net counters in every way of asking, and its rows add up to its total', async (t) => {
    const bench = new Bench(t);
    await severalTurns(bench);
    const { ledger } = bench;
    const net = {
      cost_nano: total(ledger, TOLL.cost) - total(ledger, TOLL.costCorrections),
      estimated_nano: total(ledger, TOLL.costEstimated) - total(ledger, TOLL.costEstimatedCorrections),
      tokens: total(ledger, TOLL.tokens) - total(ledger, TOLL.tokensCorrections),
      turns: total(ledger, TOLL.turns),
    };
    assert.ok(total(ledger, TOLL.costCorrections) > 0, 'there is something that was taken back');
    assert.equal(net.turns, 5);
    for (const by of REPORT_BY) {
      const report = ledger.report(by, ALWAYS);
      assert.deepEqual({ ...report.total }, net, by);
      assert.deepEqual(added(report), net, by);
    }
  });

  test('has the dearest first, and a row for turns without the label', async (t) => {
    const bench = new Bench(t);
    await severalTurns(bench);
    assert.deepEqual(costs(bench.ledger.report('team', ALWAYS), 'team'), [
      ['blue', 9 * NANO],
      ['red', 3.25 * NANO + 4],
      ['', 7],
    ]);
    assert.deepEqual(costs(bench.ledger.report('session', ALWAYS), 'session_id'), [
      ['ses_1', 12.25 * NANO + 4],
      ['ses_2', 7],
    ]);
    const turns = bench.ledger.report('turn', ALWAYS);
    assert.deepEqual(
      turns.rows.map((row) => row.message_id),
      ['b', 'a', 'e', 'c', 'd'],
    );
    assert.equal(turns.rows.at(-1)?.pricing, 'estimated');
  });

  test('leaves out what is still in progress', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ phase: 'in_progress', costNano: 5, tokens: tokens({ input: 9 }) }));
    for (const by of REPORT_BY) assert.deepEqual(bench.ledger.report(by, ALWAYS).rows, [], by);
  });

  const EDGES: [name: string, span: Span, found: number][] = [
    ['ends where a turn is', { startMs: 0, endMs: NOON_MS }, 0],
    ['begins where a turn is', { startMs: NOON_MS, endMs: NOON_MS + HOUR_MS }, 1],
    ['begins within the same quarter', { startMs: NOON_MS + 1, endMs: NOON_MS + HOUR_MS }, 0],
    ['ends within the same quarter', { startMs: 0, endMs: NOON_MS + 1 }, 1],
    ['is long over', { startMs: 0, endMs: NOON_MS - DAY_MS }, 0],
  ];
  for (const [name, span, found] of EDGES) {
    test(`of a span that ${name} counts ${found}, whatever it is by`, async (t) => {
      const bench = new Bench(t);
      await bench.submit(turn({ costNano: 5 }));
      for (const by of REPORT_BY) assert.equal(bench.ledger.report(by, span).total.turns, found, by);
    });
  }

  test('moves a turn to the day that its last description says', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ phase: 'finished', startedMs: NOON_MS - DAY_MS, costNano: 5 }));
    await bench.submit(turn({ startedMs: NOON_MS - DAY_MS, completedMs: NOON_MS, costNano: 5 }));
    const yesterday = { startMs: 0, endMs: NOON_MS - HOUR_MS };
    assert.deepEqual(bench.ledger.report('model', yesterday).rows, [], 'zeros that are left over are no row');
    assert.equal(bench.ledger.report('model', ALWAYS).total.cost_nano, 5);
  });

  test('lists ten thousand rows, and the rest as one sum', async (t) => {
    const bench = new Bench(t);
    const many = Array.from({ length: 10_003 }, (_, at) => turn({ messageId: `msg_${at}`, costNano: at + 1 }));
    await bench.submit(...many);
    const report = bench.ledger.report('turn', ALWAYS);
    assert.equal(report.rows.length, 10_000);
    // The three cheapest: 1 + 2 + 3.
    assert.deepEqual(report.not_listed, { rows: 3, cost_nano: 6, estimated_nano: 0, tokens: 0, turns: 3 });
    assert.deepEqual(added(report), { ...report.total });
    assert.equal(bench.ledger.report('session', ALWAYS).not_listed, undefined);
  });

  test('knows labels for longer than turns, and says since when it has those', async (t) => {
    // The horizon moves only as far as the process has run.
    const uptime = { ms: 0 };
    t.mock.method(performance, 'now', () => uptime.ms);
    const bench = new Bench(t, { retentionMs: MINUTE_MS });
    uptime.ms += HOUR_MS;
    await bench.submit(turn({ costNano: 5 }));
    assert.equal(bench.ledger.report('turn', ALWAYS).kept_from_ms, undefined);
    bench.nowMs += HOUR_MS;
    await bench.ledger.sweep();
    const byTurn = bench.ledger.report('turn', ALWAYS);
    assert.deepEqual(byTurn.rows, []);
    assert.equal(byTurn.kept_from_ms, NOON_MS + HOUR_MS - MINUTE_MS);
    const since = { startMs: NOON_MS + HOUR_MS, endMs: ALWAYS.endMs };
    assert.equal(bench.ledger.report('turn', since).kept_from_ms, undefined);
    const byModel = bench.ledger.report('model', ALWAYS);
    assert.equal(byModel.total.cost_nano, 5);
    assert.equal(byModel.kept_from_ms, undefined);
  });

  test('says which part of the turns its ledger holds', (t) => {
    assert.equal(new Bench(t, { partition: '1/4' }).ledger.report('team', ALWAYS).partition, '1/4');
    assert.ok(!('partition' in new Bench(t).ledger.report('team', ALWAYS)));
  });
});
