import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Facts, PollResult, RouteReading } from '../../src/poll/poll-result.ts';
import { Bench } from './bench.ts';
import { NOON_MS, SECOND_MS } from './events.ts';

const read = (readMs: number, facts: Facts = {}): RouteReading => ({
  ...{ route: 'models', readMs, intervalMs: 30 * SECOND_MS, facts },
});
const reading = (said: Partial<PollResult> = {}): PollResult => ({
  provider: 'opencode',
  account: 'mine',
  takenMs: NOON_MS,
  status: 'ok',
  message: 'fine',
  statusHoldsMs: 90 * SECOND_MS,
  readings: [read(said.takenMs ?? NOON_MS)],
  ...said,
});

describe('the poll book', () => {
  test('keeps the newest reading of an account, in any order of arrival, over a restart', async (t) => {
    const bench = new Bench(t);
    const types: string[] = [];
    for (const secondsAgo of [20, 10, 15, 10]) {
      const { outcome } = await bench.ledger.recordPoll(
        reading({ takenMs: NOON_MS - secondsAgo * SECOND_MS, message: `${secondsAgo} s ago` }),
      );
      types.push(outcome.type);
    }
    assert.deepEqual(types, ['recorded', 'updated', 'duplicate', 'duplicate']);
    const other = await bench.ledger.recordPoll(reading({ account: 'theirs' }));
    assert.equal(other.outcome.type, 'recorded');
    const messages = () => bench.ledger.pollResults().map(({ account, message }) => `${account}: ${message}`);
    assert.deepEqual(messages(), ['mine: 10 s ago', 'theirs: fine']);
    bench.reopen();
    assert.deepEqual(messages(), ['mine: 10 s ago', 'theirs: fine']);
  });

  test('shows nothing any more of what was read long ago', async (t) => {
    const bench = new Bench(t);
    await bench.ledger.recordPoll(reading({ readings: [read(NOON_MS, { models: [{ id: 'm', ownedBy: 'o' }] })] }));
    bench.nowMs = NOON_MS + 90 * SECOND_MS - 1;
    assert.equal(bench.ledger.pollResults()[0]?.readings[0]?.facts.models?.length, 1);
    bench.nowMs += 1;
    const [expired] = bench.ledger.pollResults();
    assert.deepEqual([expired?.readings, expired?.status], [[], 'unknown']);
    bench.nowMs = NOON_MS + 24 * 3600 * SECOND_MS;
    assert.deepEqual(bench.ledger.pollResults(), []);
  });

  test('a reading dated ahead does not keep later ones out', async (t) => {
    const bench = new Bench(t);
    await bench.ledger.recordPoll(reading({ takenMs: NOON_MS + 86_400 * SECOND_MS, message: 'from tomorrow' }));
    bench.nowMs = NOON_MS + SECOND_MS;
    const { outcome } = await bench.ledger.recordPoll(reading({ takenMs: NOON_MS + SECOND_MS, message: 'from now' }));
    assert.equal(outcome.type, 'updated');
    assert.equal(bench.ledger.pollResults()[0]?.message, 'from now');
  });

  test('our own reading and a reported one are one account: ours is believed, theirs completes it', async (t) => {
    const bench = new Bench(t);
    const models = { models: [{ id: 'm', ownedBy: 'o' }] };
    const balances = { balances: [{ kind: 'console', currency: 'USD', nano: 7 }] };
    const own = reading({ message: 'ours', authScope: 'zen', readings: [read(NOON_MS, models)] });
    const theirs = reading({
      ...{ message: 'theirs', status: 'limited', machine: 'laptop', takenMs: NOON_MS + SECOND_MS },
      statusHoldsMs: 300 * SECOND_MS,
      readings: [{ ...read(NOON_MS, { ...balances, models: [] }), route: 'reported', intervalMs: 300 * SECOND_MS }],
    });
    await bench.ledger.recordPoll(theirs);
    await bench.ledger.recordPoll(own, { isOwn: true });
    const shown = () => {
      const results = bench.ledger.pollResults();
      assert.equal(results.length, 1);
      const facts = Object.assign({}, ...results[0]!.readings.map((each) => each.facts));
      return [
        results[0]!.message,
        results[0]!.status,
        results[0]!.machine,
        Object.keys(facts).sort(),
        facts.models?.length,
      ];
    };
    assert.deepEqual(shown(), ['ours', 'ok', 'laptop', ['balances', 'models'], 1]);
    bench.reopen();
    assert.deepEqual(shown(), ['ours', 'ok', 'laptop', ['balances', 'models'], 1]);
    bench.nowMs = NOON_MS + 90 * SECOND_MS;
    assert.deepEqual(shown(), ['theirs', 'limited', 'laptop', ['balances', 'models'], 0], 'ours has expired');
  });

  test('the same reading again only shows that its sender is alive', async (t) => {
    const bench = new Bench(t);
    const again = () => bench.ledger.recordPoll(reading({ readings: [read(bench.nowMs)] }));
    assert.equal((await again()).outcome.type, 'recorded');
    bench.nowMs += 60 * SECOND_MS;
    assert.equal((await again()).outcome.type, 'duplicate');
    bench.nowMs += 60 * SECOND_MS;
    assert.equal(bench.ledger.pollResults()[0]?.readings.length, 1);
  });

  test('what has said nothing for two hours is let go, ours too', async (t) => {
    const bench = new Bench(t);
    await bench.ledger.recordPoll(reading());
    await bench.ledger.recordPoll(reading({ account: 'own' }), { isOwn: true });
    bench.nowMs = NOON_MS + 2 * 3600 * SECOND_MS;
    await bench.ledger.sweep();
    assert.equal(bench.ledger.pollResults().length, 2, 'their state is unknown, and that is shown');
    bench.nowMs += SECOND_MS;
    await bench.ledger.sweep();
    bench.nowMs = NOON_MS;
    assert.deepEqual(bench.ledger.pollResults(), []);
    bench.reopen();
    assert.deepEqual(bench.ledger.pollResults(), []);
  });
});
