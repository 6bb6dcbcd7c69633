import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { ERROR_REASONS, type TurnEvent } from '../../src/turn/turn-event.ts';
import { Bench, labelSets, observed, total, typesOf, windowRow } from './bench.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, NOON_MS, SECOND_MS, tokens, turn } from './events.ts';

describe('how a turn ended', () => {
  test('each status is counted under its own, and each error under its reason', async (t) => {
    const bench = new Bench(t);
    const errors = ERROR_REASONS.map((reason, at) => turn({ status: 'error', reason, messageId: `msg_e${at}` }));
    await bench.submit(turn(), turn({ status: 'aborted', messageId: 'msg_2' }), ...errors);
    const count = (status: string) => total(bench.ledger, TOLL.turns, { status });
    assert.deepEqual([count('ok'), count('aborted'), count('error')], [1, 1, ERROR_REASONS.length]);
    for (const reason of ERROR_REASONS) assert.equal(total(bench.ledger, TOLL.turnErrors, { reason }), 1);
    assert.equal(total(bench.ledger, TOLL.turnErrors), count('error'));
    // By semantic convention an operation that went wrong says how.
    const wrong = (error_type: string) => observed(bench.ledger, TOLL.genAiOperationDuration, { error_type }).count;
    assert.deepEqual([wrong('rate_limit'), wrong('aborted')], [1, 1]);
    assert.equal(windowRow(bench.ledger, 'today').turns, 2 + ERROR_REASONS.length);
  });

  test('is fixed when it is counted', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ eventId: 'evt_1', costNano: 5 }));
    const booked = await bench.submit(turn({ eventId: 'evt_2', status: 'error', reason: 'network', costNano: 5 }));
    assert.deepEqual(typesOf(booked), ['updated']);
    assert.equal(total(bench.ledger, TOLL.turns, { status: 'ok' }), 1);
    assert.equal(total(bench.ledger, TOLL.turns), 1);
    assert.equal(total(bench.ledger, TOLL.turnErrors), 0);
  });

  const DURATIONS: Record<string, { said: Partial<TurnEvent>; sum: number | undefined }> = {
    'a step of no time': { said: { completedMs: NOON_MS, startedMs: NOON_MS }, sum: 0 },
    'a completion before its start': { said: { completedMs: NOON_MS, startedMs: NOON_MS + 1 }, sum: undefined },
    '30 days': { said: { startedMs: NOON_MS - 30 * DAY_MS, completedMs: NOON_MS }, sum: 30 * DAY_MS },
    'more than 30 days': { said: { startedMs: NOON_MS - 30 * DAY_MS - 1, completedMs: NOON_MS }, sum: undefined },
  };
  for (const [name, { said, sum }] of Object.entries(DURATIONS)) {
    test(`${name} is ${sum === undefined ? 'counted but not timed' : 'timed'}`, async (t) => {
      const bench = new Bench(t);
      await bench.submit(turn(said));
      await bench.settleAt(NOON_MS + HOUR_MS);
      const expected = sum === undefined ? { count: 0, sum: 0 } : { count: 1, sum };
      for (const family of [TOLL.turnDuration, TOLL.genAiOperationDuration, TOLL.modelDuration]) {
        assert.deepEqual(observed(bench.ledger, family), expected, family.name);
      }
      assert.equal(total(bench.ledger, TOLL.turns), 1);
    });
  }

  test('a timed turn that is described anew with its times reversed takes nothing from the model time', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ eventId: 'evt_1' }));
    await bench.submit(turn({ eventId: 'evt_2', startedMs: NOON_MS + MINUTE_MS, completedMs: NOON_MS, costNano: 1 }));
    await bench.settleAt(NOON_MS + HOUR_MS);
    assert.deepEqual(observed(bench.ledger, TOLL.modelDuration), { count: 0, sum: 0 });
    assert.deepEqual(observed(bench.ledger, TOLL.turnDuration), { count: 1, sum: 10 * SECOND_MS });
  });
});

describe('the time of a turn', () => {
  const DATED: Record<string, { aheadMs: number; redated: boolean }> = {
    'five minutes ahead is taken as it is': { aheadMs: 5 * MINUTE_MS, redated: false },
    'more than five minutes ahead becomes the time of receipt': { aheadMs: 5 * MINUTE_MS + 1, redated: true },
    'ten years ahead too': { aheadMs: 3650 * DAY_MS, redated: true },
  };
  for (const [name, { aheadMs, redated }] of Object.entries(DATED)) {
    test(name, async (t) => {
      const bench = new Bench(t);
      const booked = await bench.submit(
        turn({ startedMs: NOON_MS + aheadMs - SECOND_MS, completedMs: NOON_MS + aheadMs, costNano: 5 }),
      );
      assert.deepEqual(booked, [{ outcome: { type: 'recorded' }, ...(redated ? { redated: true } : {}) }]);
      assert.equal(bench.ledger.health().lastTurnMs, redated ? NOON_MS : NOON_MS + aheadMs);
      assert.equal(windowRow(bench.ledger, 'today').costNano, 5);
    });
  }

  test('is judged by the time at which a stream took it in, so that every ledger of the stream dates alike', async (t) => {
    const storedMs = NOON_MS - 3 * DAY_MS;
    const aheadMs = storedMs + HOUR_MS;
    const dated = async (nowMs: number) => {
      const bench = new Bench(t);
      bench.nowMs = nowMs;
      bench.ledger.openStream('TOLL', '1/1');
      const ahead = turn({ startedMs: aheadMs - SECOND_MS, completedMs: aheadMs, costNano: 5 });
      const step = { stream: 'TOLL', after: 0, seq: 1, storedMs };
      const [booking] = await bench.ledger.submit([ahead], step);
      assert.equal(booking?.redated, true);
      assert.deepEqual(bench.ledger.openStream('TOLL', '1/1'), { seq: 1, storedMs });
      return bench.ledger.health().lastTurnMs;
    };
    assert.equal(await dated(storedMs + SECOND_MS), storedMs, 'read at once');
    assert.equal(await dated(NOON_MS), storedMs, 'read three days later');
  });

  test('that was good stays when a later vector is dated ahead', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ costNano: 5, eventId: 'evt_1' }));
    bench.nowMs += HOUR_MS;
    const said = { startedMs: NOON_MS, completedMs: NOON_MS + DAY_MS };
    const booked = await bench.submit(turn({ ...said, costNano: 6, eventId: 'evt_2' }));
    assert.deepEqual(booked, [{ outcome: { type: 'updated' }, redated: true }]);
    assert.equal(bench.ledger.health().lastTurnMs, NOON_MS);
  });
});

describe('what exact integers cannot hold', () => {
  const FULL: Record<string, { first: Partial<TurnEvent>; second: Partial<TurnEvent>; family: MetricFamily }> = {
    'stated cost': {
      first: { costNano: Number.MAX_SAFE_INTEGER - 10 },
      second: { costNano: 11 },
      family: TOLL.cost,
    },
    'estimated cost': {
      first: { estimatedNano: Number.MAX_SAFE_INTEGER - 10, pricing: 'estimated' },
      second: { estimatedNano: 11, pricing: 'estimated' },
      family: TOLL.costEstimated,
    },
    tokens: {
      first: { tokens: tokens({ input: Number.MAX_SAFE_INTEGER - 20, output: 10 }) },
      second: { tokens: tokens({ input: 5, cache_read: 6 }) },
      family: TOLL.tokens,
    },
  };
  for (const [name, { first, second, family }] of Object.entries(FULL)) {
    test(`${name}: the turn is rejected whole, and what still fits is booked`, async (t) => {
      const bench = new Bench(t);
      const [fits, tooMuch] = await bench.submit(turn(first), turn({ ...second, messageId: 'msg_2' }));
      assert.equal(fits?.outcome.type, 'recorded');
      assert.deepEqual(tooMuch?.outcome.type === 'rejected' && tooMuch.outcome.reason, 'overflow');
      assert.equal(total(bench.ledger, family), Number.MAX_SAFE_INTEGER - 10);
      assert.equal(total(bench.ledger, TOLL.turns), 1);
      assert.deepEqual(typesOf(await bench.submit(turn({ messageId: 'msg_3' }))), ['recorded']);
      bench.reopen();
      assert.equal(total(bench.ledger, family), Number.MAX_SAFE_INTEGER - 10);
    });
  }
});

describe('how a turn is priced', () => {
  const some = tokens({ input: 10, output: 5, cache_read: 85 });

  test('only unknown pricing makes unpriced tokens, and only an estimate is an estimated cost', async (t) => {
    const bench = new Bench(t);
    const states = ['stated', 'free', 'included', 'unknown', 'estimated'] as const;
    await bench.submit(
      ...states.map((pricing) =>
        turn({
          pricing,
          tokens: some,
          model: pricing,
          messageId: pricing,
          ...(pricing === 'stated' ? { costNano: 7 } : { costNano: 0 }),
          ...(pricing === 'estimated' ? { estimatedNano: 9 } : {}),
        }),
      ),
    );
    const by = (family: MetricFamily) =>
      Object.fromEntries(states.map((model) => [model, total(bench.ledger, family, { model })]));
    const none = { stated: 0, free: 0, included: 0, unknown: 0, estimated: 0 };
    assert.deepEqual(by(TOLL.unpricedTokens), { ...none, unknown: 100 });
    assert.deepEqual(by(TOLL.costEstimated), { ...none, estimated: 9 });
    assert.deepEqual(by(TOLL.cost), { ...none, stated: 7 });
    const pricing = bench.ledger.pricingStates().map((row) => ({ ...row }));
    assert.deepEqual(
      pricing,
      [...states].sort().map((state) => ({ provider: 'anthropic', model: state, state })),
    );
    const priced = Object.fromEntries(
      states.map((model) => [model, windowRow(bench.ledger, 'all', model).pricedTurns]),
    );
    assert.deepEqual(priced, { stated: 1, free: 1, included: 1, unknown: 0, estimated: 0 });
    assert.deepEqual(
      labelSets(bench.ledger, TOLL.costEstimated).map(({ model }) => model),
      ['estimated'],
    );
  });

  test('a turn that used nothing is priced: an error does not hide the cost of a window', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ pricing: 'unknown', status: 'error', reason: 'network' }));
    assert.equal(windowRow(bench.ledger, 'today').pricedTurns, 1);
    assert.deepEqual(bench.ledger.pricingStates(), []);
    assert.equal(total(bench.ledger, TOLL.unpricedTokens), 0);
  });

  test('what an estimate takes back goes to its own corrections', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ pricing: 'estimated', estimatedNano: 9, tokens: some, eventId: 'evt_1' }));
    await bench.submit(turn({ pricing: 'stated', costNano: 4, tokens: some, eventId: 'evt_2' }));
    const sums = [TOLL.costEstimated, TOLL.costEstimatedCorrections, TOLL.cost, TOLL.costCorrections];
    assert.deepEqual(
      sums.map((family) => total(bench.ledger, family)),
      [9, 9, 4, 0],
    );
  });

  test('a turn that is told again keeps the price that was known when it was booked', async (t) => {
    const prices = [
      { pricing: 'unknown' },
      { pricing: 'free' },
      { pricing: 'estimated', estimatedNano: 9 },
      { pricing: 'estimated', estimatedNano: 12 },
    ] as const;
    for (const first of prices) {
      for (const second of prices.filter((price) => price !== first)) {
        for (const phase of ['finished', 'completed'] as const) {
          const bench = new Bench(t);
          await bench.submit(turn({ ...first, tokens: some, costNano: 0, phase }));
          const [again] = await bench.submit(turn({ ...second, tokens: some, costNano: 0, eventId: 'evt_1' }));
          const [booked] = again!.turns ?? [];
          assert.deepEqual({ ...booked, ...first }, booked, 'and is told so');
          const estimate = 'estimatedNano' in first ? first.estimatedNano : 0;
          assert.deepEqual(
            [TOLL.costEstimated, TOLL.costEstimatedCorrections].map((family) => total(bench.ledger, family)),
            [estimate, 0],
          );
          assert.equal(total(bench.ledger, TOLL.unpricedTokens), first.pricing === 'unknown' ? 100 : 0);
          assert.equal(bench.ledger.pricingStates()[0]?.state, first.pricing);
          // More of it is news, and priced as it is priced now.
          await bench.submit(
            turn({ ...second, tokens: tokens({ ...some, output: 6 }), costNano: 0, eventId: 'evt_2' }),
          );
          assert.equal(bench.ledger.pricingStates()[0]?.state, second.pricing);
        }
      }
    }
  });

  test('the newest turn of a model tells its state, in every order of arrival', async (t) => {
    const older = turn({ tokens: some, pricing: 'unknown', startedMs: NOON_MS - HOUR_MS, messageId: 'msg_1' });
    const newer = turn({ tokens: some, pricing: 'included', startedMs: NOON_MS - MINUTE_MS, messageId: 'msg_2' });
    for (const order of [
      [older, newer],
      [newer, older],
    ]) {
      const bench = new Bench(t);
      for (const event of order) await bench.submit(event);
      assert.equal(bench.ledger.pricingStates()[0]?.state, 'included');
    }
  });

  test('a histogram that was read stays as it was when more is observed', async (t) => {
    const bench = new Bench(t);
    const completed = { tokens: some, pricing: 'stated', costNano: 4, completedMs: NOON_MS } as const;
    const observed = () => [...bench.ledger.histograms(TOLL.turnDuration.name)].map(({ counts }) => counts);
    const sum = (counts: readonly (readonly number[])[]) => counts.flat().reduce((all, each) => all + each, 0);
    await bench.submit(turn({ ...completed, messageId: 'msg_1' }));
    const first = observed();
    await bench.submit(turn({ ...completed, messageId: 'msg_2' }));
    await bench.submit(turn({ ...completed, messageId: 'msg_3' }));
    assert.deepEqual([sum(first), sum(observed())], [1, 3]);
  });

  test('what is known of prices stays the same objects until one changes, and an older turn changes none', async (t) => {
    const bench = new Bench(t);
    const stated = { tokens: some, pricing: 'stated', costNano: 4 } as const;
    await bench.submit(turn({ ...stated, messageId: 'msg_1' }));
    const [first] = bench.ledger.pricingStates();
    await bench.submit(turn({ ...stated, messageId: 'msg_2' }));
    assert.equal(bench.ledger.pricingStates()[0], first);
    await bench.submit(turn({ tokens: some, pricing: 'free', startedMs: NOON_MS - HOUR_MS, messageId: 'msg_3' }));
    assert.deepEqual(bench.ledger.pricingStates(), [first]);
    await bench.submit(turn({ ...stated, model: 'another', messageId: 'msg_4' }));
    assert.equal(bench.ledger.pricingStates().length, 2);
  });

  test('a cost that is stated later prices the turn, its model and its window', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ tokens: some, pricing: 'unknown', eventId: 'evt_1' }));
    assert.equal(windowRow(bench.ledger, 'today').pricedTurns, 0);
    await bench.submit(turn({ tokens: some, pricing: 'stated', costNano: 4, eventId: 'evt_2' }));
    assert.equal(windowRow(bench.ledger, 'today').pricedTurns, 1);
    assert.equal(bench.ledger.pricingStates()[0]?.state, 'stated');
    assert.equal(total(bench.ledger, TOLL.unpricedTokens), 100, 'a counter does not fall');
  });

  test('a price that is taken back leaves all the tokens unpriced', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ tokens: some, pricing: 'stated', costNano: 4, eventId: 'evt_1' }));
    const more = tokens({ ...some, output: 15 });
    await bench.submit(turn({ tokens: more, pricing: 'unknown', costNano: 0, eventId: 'evt_2' }));
    assert.equal(total(bench.ledger, TOLL.unpricedTokens), 110);
    assert.equal(total(bench.ledger, TOLL.costCorrections), 4);
  });
});

describe('the semantic conventions of generative AI', () => {
  test('input includes what was cached, output includes reasoning', async (t) => {
    const bench = new Bench(t);
    const used = tokens({ input: 1, cache_read: 20, cache_write: 300, output: 4, reasoning: 50 });
    await bench.submit(turn({ tokens: used, upstreamProvider: 'google', model: 'gemini-3' }));
    const of = (gen_ai_token_type: string) => observed(bench.ledger, TOLL.genAiTokenUsage, { gen_ai_token_type });
    assert.deepEqual(of('input'), { count: 1, sum: 321 });
    assert.deepEqual(of('output'), { count: 1, sum: 54 });
    const [point] = bench.ledger.histograms(TOLL.genAiTokenUsage.name);
    assert.deepEqual(point?.labels, {
      gen_ai_operation_name: 'chat',
      gen_ai_provider_name: 'gcp.gemini',
      gen_ai_request_model: 'gemini-3',
      gen_ai_token_type: 'input',
    });
  });

  test('a turn without tokens has no token usage, but a duration', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ status: 'aborted' }));
    assert.deepEqual(observed(bench.ledger, TOLL.genAiTokenUsage), { count: 0, sum: 0 });
    assert.deepEqual(observed(bench.ledger, TOLL.genAiOperationDuration), { count: 1, sum: 10 * SECOND_MS });
  });

  test('a value on the bound of a bucket belongs to it', async (t) => {
    const bench = new Bench(t);
    const bound = (TOLL.turnDuration.buckets?.[3] ?? 0) * SECOND_MS;
    for (const [at, durationMs] of [
      bound,
      bound + 1,
      Number(TOLL.turnDuration.buckets?.at(-1)) * SECOND_MS + 1,
    ].entries()) {
      await bench.submit(turn({ messageId: `msg_${at}`, startedMs: NOON_MS - durationMs, completedMs: NOON_MS }));
    }
    const [point] = bench.ledger.histograms(TOLL.turnDuration.name);
    assert.deepEqual(point?.counts, [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
  });
});
