import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { PollResult } from '../../src/poll/poll-result.ts';
import { Bench } from './bench.ts';
import { NOON_MS, SECOND_MS } from './events.ts';

const reading = (said: Partial<PollResult> = {}): PollResult => ({
  provider: 'opencode',
  account: 'mine',
  takenMs: NOON_MS,
  status: 'ok',
  message: 'fine',
  routes: { models: said.takenMs ?? NOON_MS },
  intervalMs: 30 * SECOND_MS,
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
    await bench.ledger.recordPoll(reading({ models: [{ id: 'm', ownedBy: 'o' }] }));
    bench.nowMs = NOON_MS + 90 * SECOND_MS;
    assert.equal(bench.ledger.pollResults()[0]?.models?.length, 1);
    bench.nowMs += 1;
    assert.equal(bench.ledger.pollResults()[0]?.models, undefined);
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
});
