import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { TOLL } from '../../src/metrics/catalogue.ts';
import type { TurnEvent } from '../../src/turn/turn-event.ts';
import { Bench, labelSets, observed, shown, total, typesOf, windowRow } from './bench.ts';
import { HOUR_MS, MINUTE_MS, NANO, NOON_MS, SECOND_MS, tokens, turn } from './events.ts';

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item, at) => permutations(items.toSpliced(at, 1)).map((rest) => [item, ...rest]));
}

/** What a turn says in its life: it begins, finishes, completes, and is then described again, once higher, once lower. */
const LIFE: readonly Partial<TurnEvent>[] = [
  { phase: 'in_progress' },
  { phase: 'finished', tokens: tokens({ input: 90, output: 10 }), costNano: 3 * NANO },
  { phase: 'completed', tokens: tokens({ input: 100, output: 20, cache_read: 7 }), costNano: 4 * NANO },
  { phase: 'completed', tokens: tokens({ input: 100, output: 50, cache_read: 7 }), costNano: 9 * NANO },
  { phase: 'completed', tokens: tokens({ input: 80, output: 30, cache_read: 9 }), costNano: 5 * NANO },
];
const withIds = LIFE.map((vector, index) => ({ ...vector, eventId: `evt_${index}` }));

/** Vectors of one turn, and the one that must win in every order of arrival. */
const LIVES: Record<string, { vectors: readonly Partial<TurnEvent>[]; winner: Partial<TurnEvent> }> = {
  'event ids: the latest wins': { vectors: withIds, winner: withIds[4]! },
  'no event ids: the larger output wins': { vectors: LIFE, winner: LIFE[3]! },
  'only some event ids: a vector with one wins': {
    vectors: [...LIFE.slice(1, 4), { ...LIFE[4], eventId: 'evt_1' }],
    winner: LIFE[4]!,
  },
  'a later event id does not lift a vector over a later phase': {
    vectors: [
      { ...LIFE[1], eventId: 'evt_9' },
      { ...LIFE[2], eventId: 'evt_1' },
    ],
    winner: LIFE[2]!,
  },
  'a completion in another quarter of an hour': {
    vectors: [LIFE[0]!, { ...LIFE[1] }, { ...LIFE[2], startedMs: NOON_MS - 3 * HOUR_MS }, { ...LIFE[3] }],
    winner: LIFE[3]!,
  },
  'alike but for what the tokens were': {
    vectors: [
      { tokens: tokens({ input: 10, output: 5, cache_read: 20 }), costNano: 1 },
      { tokens: tokens({ input: 20, output: 5, cache_read: 10 }), costNano: 1 },
      { tokens: tokens({ input: 20, output: 5, cache_write: 10 }), costNano: 1 },
    ],
    winner: { tokens: tokens({ input: 20, output: 5, cache_read: 10 }), costNano: 1 },
  },
  'alike but for the time of completion': {
    vectors: [
      { costNano: 1, completedMs: NOON_MS - HOUR_MS, startedMs: NOON_MS - 2 * HOUR_MS },
      { costNano: 1, completedMs: NOON_MS, startedMs: NOON_MS - 2 * HOUR_MS },
    ],
    winner: { costNano: 1, completedMs: NOON_MS },
  },
};

describe('the vectors of one turn, in every order of arrival', () => {
  for (const [name, { vectors, winner }] of Object.entries(LIVES)) {
    test(name, async (t) => {
      const bench = new Bench(t);
      bench.nowMs = NOON_MS + MINUTE_MS;
      const orders = permutations(vectors);
      // One turn per order, told apart by its model. Each vector comes twice at once, and all come again at the end.
      const say = (vector: Partial<TurnEvent>, order: number) =>
        turn({ ...vector, messageId: `msg_${order}`, model: `model-${order}` });
      for (let step = 0; step < vectors.length; step++) {
        await bench.submit(...orders.flatMap((order, at) => [say(order[step]!, at), say(order[step]!, at)]));
      }
      const again = await bench.submit(...orders.flatMap((order, at) => order.map((vector) => say(vector, at))));
      assert.deepEqual(new Set(typesOf(again)), new Set(['duplicate']));

      const expected = turn(winner);
      for (const at of orders.keys()) {
        const where = { model: `model-${at}` };
        const net = (up: typeof TOLL.cost, down: typeof TOLL.cost, labels = {}) =>
          total(bench.ledger, up, { ...where, ...labels }) - total(bench.ledger, down, { ...where, ...labels });
        assert.equal(net(TOLL.cost, TOLL.costCorrections), expected.costNano);
        for (const [type, count] of Object.entries(expected.tokens)) {
          assert.equal(net(TOLL.tokens, TOLL.tokensCorrections, { token_type: type }), count, `${type} of order ${at}`);
        }
        assert.equal(total(bench.ledger, TOLL.turns, where), 1);
        assert.equal(observed(bench.ledger, TOLL.turnDuration, where).count, 1);
        const { input, output, cache_read, cache_write } = expected.tokens;
        for (const window of ['today', 'all'] as const) {
          const { costNano, tokens, turns, pricedTurns } = windowRow(bench.ledger, window, `model-${at}`);
          assert.deepEqual(
            { costNano, tokens, turns, pricedTurns },
            {
              costNano: expected.costNano,
              tokens: { withoutCacheRead: input + output + cache_write, cacheRead: cache_read },
              turns: 1,
              pricedTurns: 1,
            },
          );
        }
      }
      const before = shown(bench.ledger);
      bench.reopen();
      assert.deepEqual(shown(bench.ledger), before);
    });
  }
});

describe('a turn', () => {
  test('in progress moves nothing, and its series are born at 0', async (t) => {
    const bench = new Bench(t);
    const booked = await bench.submit(turn({ phase: 'in_progress', tokens: tokens({ input: 5 }), costNano: 7 }));
    assert.deepEqual(booked, [{ outcome: { type: 'recorded' } }]);
    const born = [TOLL.cost, TOLL.tokens, TOLL.turns].map((family) => labelSets(bench.ledger, family).length);
    assert.deepEqual(born, [1, 5, 1]);
    for (const family of [TOLL.cost, TOLL.tokens, TOLL.turns]) assert.equal(total(bench.ledger, family), 0);
    assert.equal(windowRow(bench.ledger, 'all').turns, 0);
    assert.equal(windowRow(bench.ledger, 'all').costNano, 0);
    assert.equal(bench.ledger.windowSessions('all', ['anthropic']), 0);
  });

  test('takes the provider, model and project of its first complete vector', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ phase: 'in_progress', model: 'draft', project: 'old' }));
    const booked = await bench.submit(turn({ model: 'real', project: 'new', costNano: 5 }));
    assert.deepEqual(booked, [{ outcome: { type: 'updated' } }]);
    assert.equal(total(bench.ledger, TOLL.cost, { model: 'real', project: 'new' }), 5);
    assert.equal(total(bench.ledger, TOLL.turns, { model: 'draft' }), 0);
  });

  test('is moved by nobody else’s credential, which is a conflict', async (t) => {
    const bench = new Bench(t);
    const who = { team: 't', user: 'u' };
    await bench.submit(turn({ ...who, phase: 'in_progress', messageId: 'b', team: 't2' }));
    await bench.submit(turn({ ...who, costNano: 5, eventId: 'evt_1' }));
    for (const [other, conflicts] of [
      [{ ...who, team: 't2' }, ['team']],
      [{ ...who, user: 'u2' }, ['user']],
    ] as const) {
      const [booked] = await bench.submit(turn({ ...other, costNano: 8, eventId: 'evt_2' }));
      const turns = [turn({ ...who, costNano: 8, eventId: 'evt_2' })];
      assert.deepEqual(booked, { outcome: { type: 'duplicate' }, conflicts, turns }, 'it is told whose it is');
    }
    assert.equal(total(bench.ledger, TOLL.cost, who), 5);
    assert.deepEqual(await bench.submit(turn({ ...who, costNano: 8, eventId: 'evt_2' })), [
      { outcome: { type: 'updated' } },
    ]);
    await bench.submit(turn({ ...who, messageId: 'b', costNano: 1 }));
    assert.equal(total(bench.ledger, TOLL.cost, who), 9, 'a turn that somebody only began is nobody’s yet');
  });

  test('keeps them: a later vector books its difference there, and each other field is a conflict', async (t) => {
    const bench = new Bench(t);
    const who = { account: 'a', project: 'p', team: 't', user: 'u' };
    await bench.submit(turn({ ...who, costNano: 5, eventId: 'evt_1' }));
    const other = { account: 'a2', project: 'p2', user: 'u' };
    const said = { ...other, provider: 'openrouter', upstreamProvider: 'openai', model: 'gpt-5' };
    const [higher] = await bench.submit(turn({ ...said, costNano: 8, eventId: 'evt_2' }));
    const fields = ['provider', 'model', 'upstream_provider', 'account', 'project', 'team'];
    const turns = [turn({ ...who, costNano: 8, eventId: 'evt_2' })];
    assert.deepEqual(higher, { outcome: { type: 'updated' }, conflicts: fields, turns }, 'as it is booked');
    assert.deepEqual(
      [...bench.ledger.counters(TOLL.cost.name)],
      [
        {
          labels: {
            agent: 'opencode',
            provider: 'anthropic',
            upstream_provider: 'anthropic',
            model: 'claude-sonnet-4-5',
            ...who,
          },
          value: 8,
        },
      ],
    );
    assert.deepEqual(bench.ledger.upstreamProviders(), ['anthropic']);
    // A lower vector loses, but its conflict is told too; one that is in progress states nothing final.
    const [lower, unborn] = await bench.submit(
      turn({ ...who, model: 'other', eventId: 'evt_0' }),
      turn({ ...who, model: 'other', phase: 'in_progress', eventId: 'evt_9' }),
    );
    const asBooked = [turn({ ...who, eventId: 'evt_0' })];
    assert.deepEqual(lower, { outcome: { type: 'duplicate' }, conflicts: ['model'], turns: asBooked });
    assert.deepEqual(unborn, { outcome: { type: 'duplicate' } });
  });

  test('keeps what told its upstream provider, as it keeps the provider itself', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ phase: 'in_progress', upstreamProvider: 'unknown', upstreamEvidence: 'none' }));
    await bench.submit(turn({ upstreamEvidence: 'model_id', eventId: 'evt_1' }));
    await bench.submit(turn({ upstreamProvider: 'openai', upstreamEvidence: 'hint', eventId: 'evt_2' }));
    bench.ledger.close();
    const db = new DatabaseSync(bench.file);
    const row = db.prepare(
      `SELECT upstream_provider, upstream_evidence, event_id FROM turn JOIN dimension ON dimension.id = dimension_id`,
    );
    const kept = { upstream_provider: 'anthropic', upstream_evidence: 'model_id', event_id: 'evt_2' };
    assert.deepEqual({ ...row.get() }, kept);
    db.close();
  });

  test('that is described anew with nothing new is a duplicate', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ costNano: 5, eventId: 'evt_1' }));
    const booked = await bench.submit(turn({ costNano: 5, eventId: 'evt_2' }));
    assert.deepEqual(typesOf(booked), ['duplicate']);
  });

  test('of another session, message or agent is another turn', async (t) => {
    const bench = new Bench(t);
    const booked = await bench.submit(
      turn({ costNano: 1 }),
      turn({ costNano: 1, sessionId: 'ses_2' }),
      turn({ costNano: 1, messageId: 'msg_2' }),
      turn({ costNano: 1, agent: 'codex' }),
    );
    assert.deepEqual(typesOf(booked), ['recorded', 'recorded', 'recorded', 'recorded']);
    assert.equal(total(bench.ledger, TOLL.turns), 4);
    assert.equal(bench.ledger.windowSessions('today', ['anthropic']), 3);
    assert.equal(bench.ledger.windowSessions('today', ['openai']), 0);
  });
});

describe('a turn that finished', () => {
  const finished = turn({ phase: 'finished', tokens: tokens({ input: 10 }), costNano: 5, pricing: 'stated' });

  test('brings its cost at once and is counted when it completes', async (t) => {
    const bench = new Bench(t);
    await bench.submit(finished);
    assert.equal(total(bench.ledger, TOLL.cost), 5);
    assert.equal(total(bench.ledger, TOLL.turns), 0);
    assert.equal(windowRow(bench.ledger, 'today').costNano, 5);
    await bench.submit(turn({ tokens: finished.tokens, costNano: 5 }));
    assert.equal(total(bench.ledger, TOLL.turns), 1);
    await bench.settleAt(NOON_MS + HOUR_MS);
    assert.equal(total(bench.ledger, TOLL.turns), 1);
  });

  test('counts after 60 s; a completion after that is timed, but not counted again', async (t) => {
    const bench = new Bench(t);
    await bench.submit(finished);
    await bench.settleAt(NOON_MS + 59_999);
    assert.equal(total(bench.ledger, TOLL.turns), 0);
    await bench.settleAt(NOON_MS + 60_000);
    assert.equal(total(bench.ledger, TOLL.turns), 1);
    assert.equal(observed(bench.ledger, TOLL.turnDuration).count, 0);
    await bench.settleAt(NOON_MS + HOUR_MS);
    await bench.submit(turn({ tokens: finished.tokens, costNano: 5 }));
    assert.equal(total(bench.ledger, TOLL.turns), 1);
    assert.equal(windowRow(bench.ledger, 'today').turns, 1);
    assert.deepEqual(observed(bench.ledger, TOLL.turnDuration), { count: 1, sum: 10 * SECOND_MS });
    await bench.submit(turn({ tokens: finished.tokens, costNano: 6, eventId: 'evt_9' }));
    assert.equal(observed(bench.ledger, TOLL.turnDuration).count, 1);
    assert.equal(observed(bench.ledger, TOLL.genAiOperationDuration).count, 1);
  });

  test('is settled in any number', async (t) => {
    const bench = new Bench(t);
    const many = Array.from({ length: 2500 }, (_, at) => turn({ ...finished, messageId: `msg_${at}` }));
    await bench.submit(...many);
    await bench.settleAt(NOON_MS + MINUTE_MS);
    assert.equal(total(bench.ledger, TOLL.turns), 2500);
  });

  test('is not unfinished, however old; one in progress is, after 15 minutes', async (t) => {
    const bench = new Bench(t);
    await bench.submit(finished, turn({ phase: 'in_progress', messageId: 'msg_2', startedMs: NOON_MS }));
    bench.nowMs = NOON_MS + 15 * MINUTE_MS;
    assert.deepEqual(bench.ledger.unfinishedTurns(), []);
    bench.nowMs += 1;
    const [row, ...rest] = bench.ledger.unfinishedTurns();
    assert.deepEqual({ ...row }, { agent: 'opencode', provider: 'anthropic', turns: 1 });
    assert.deepEqual(rest, []);
    await bench.submit(turn({ messageId: 'msg_2' }));
    assert.deepEqual(bench.ledger.unfinishedTurns(), []);
  });
});
