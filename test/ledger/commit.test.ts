import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { PermanentFailure, RetryableFailure } from '../../src/failure.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import type { MeterEvent, TurnEvent } from '../../src/turn/turn-event.ts';
import { Bench, shown, total, typesOf } from './bench.ts';
import { NOON_MS, session, toolPart, turn } from './events.ts';

const numbered = (from: number, count: number): TurnEvent[] =>
  Array.from({ length: count }, (_, at) => turn({ messageId: `msg_${from + at}`, costNano: 1 }));

function benchWithCommits(t: TestContext) {
  const commits: number[] = [];
  return { bench: new Bench(t, { onCommit: ({ events }) => commits.push(events) }), commits };
}

describe('group commit', () => {
  test('what is submitted at the same time shares a transaction, and each gets its own bookings in order', async (t) => {
    const { bench, commits } = benchWithCommits(t);
    const { ledger } = bench;
    const [first, second, third, poll] = await Promise.all([
      ledger.submit([...numbered(0, 2), ...numbered(0, 1)]),
      ledger.submit([session(), toolPart({ messageId: 'msg_0' }), turn({ messageId: 'msg_1', costNano: 9 })]),
      ledger.submit(numbered(1, 2)),
      ledger.recordPoll({
        provider: 'opencode',
        account: 'a',
        takenMs: NOON_MS,
        status: 'ok',
        message: '',
        statusHoldsMs: 1000,
        readings: [],
      }),
    ]);
    assert.deepEqual(typesOf(first), ['recorded', 'recorded', 'duplicate']);
    assert.deepEqual(typesOf(second), ['recorded', 'recorded', 'updated']);
    assert.deepEqual(typesOf(third), ['duplicate', 'recorded']);
    assert.equal(poll.outcome.type, 'recorded');
    assert.deepEqual(commits, [9]);
  });

  test('nothing is to be seen before its commit', async (t) => {
    const { bench, commits } = benchWithCommits(t);
    const submitted = bench.ledger.submit(numbered(0, 3));
    assert.equal(bench.ledger.backlogEvents, 3);
    assert.equal(total(bench.ledger, TOLL.turns), 0);
    assert.deepEqual(commits, []);
    await submitted;
    assert.equal(bench.ledger.backlogEvents, 0);
    assert.equal(total(bench.ledger, TOLL.turns), 3);
  });

  test('a transaction holds about 1000 events, but never a part of a submission', async (t) => {
    const { bench, commits } = benchWithCommits(t);
    const sizes = [400, 600, 1, 2500, 10];
    await Promise.all(sizes.map((size, at) => bench.ledger.submit(numbered(at * 10_000, size))));
    assert.deepEqual(commits, [1000, 1, 2500, 10]);
    assert.equal(total(bench.ledger, TOLL.turns), 3511);
  });

  test('nothing submitted is nothing to commit', async (t) => {
    const { bench, commits } = benchWithCommits(t);
    assert.deepEqual(await bench.ledger.submit([]), []);
    await bench.ledger.settle();
    assert.deepEqual(commits, []);
  });

  test('too much waiting is refused at once, and what waits is booked', async (t) => {
    const { bench } = benchWithCommits(t);
    const waiting = bench.ledger.submit(numbered(0, 1));
    const flood = new Array<MeterEvent>(100_000).fill(turn());
    await assert.rejects(bench.ledger.submit(flood), RetryableFailure);
    assert.deepEqual(typesOf(await waiting), ['recorded']);
  });
});

/** Events that no decoder lets through, each of which the ledger's tables refuse. */
const POISONS: Record<string, MeterEvent> = {
  'no session id': turn({ messageId: 'poison', sessionId: null as unknown as string }),
  'a time that is no integer': turn({ messageId: 'poison', startedMs: NOON_MS + 0.5, phase: 'finished' }),
  'a value that is no column': turn({ messageId: 'poison', model: {} as unknown as string }),
  'a tool without a name': toolPart({ tool: null as unknown as string }),
};

describe('a submission that cannot be booked', () => {
  for (const [name, poison] of Object.entries(POISONS)) {
    test(`${name}: it is refused for good and alone, whole, and memory is what the disk holds`, async (t) => {
      const { bench, commits } = benchWithCommits(t);
      await bench.submit(...numbered(0, 1));
      commits.length = 0;
      const { ledger } = bench;
      const [before, poisoned, after] = await Promise.allSettled([
        ledger.submit(numbered(1, 2)),
        ledger.submit([...numbered(10, 2), poison, ...numbered(20, 2)]),
        ledger.submit([...numbered(2, 2), turn({ messageId: 'msg_0', costNano: 5 })]),
      ]);
      assert.deepEqual(before.status === 'fulfilled' && typesOf(before.value), ['recorded', 'recorded']);
      assert.deepEqual(after.status === 'fulfilled' && typesOf(after.value), ['duplicate', 'recorded', 'updated']);
      assert.ok(poisoned.status === 'rejected');
      assert.ok(poisoned.reason instanceof PermanentFailure, String(poisoned.reason));
      assert.deepEqual(commits, [2, 3]);
      assert.equal(total(ledger, TOLL.turns), 4);
      assert.equal(total(ledger, TOLL.cost), 8);
      assert.equal(ledger.problem, undefined, 'the ledger itself works');
      assert.ok(ledger.health().booksBalance);
      const memory = shown(ledger);
      bench.reopen();
      assert.deepEqual(shown(bench.ledger), memory);
      assert.deepEqual(typesOf(await bench.submit(...numbered(10, 2))), ['recorded', 'recorded']);
    });
  }
});

test('a submission that is refused leaves nothing to be seen, not even until the next one', async (t) => {
  const { bench } = benchWithCommits(t);
  await bench.submit(...numbered(0, 1));
  const before = shown(bench.ledger);
  const poisoned = [...numbered(10, 2), turn({ model: 'new', messageId: 'x' }), POISONS['no session id']!];
  await assert.rejects(bench.ledger.submit(poisoned), PermanentFailure);
  assert.deepEqual(shown(bench.ledger), before);
});

describe('closing', () => {
  test('commits what waits, also behind a submission that cannot be booked', async (t) => {
    const { bench, commits } = benchWithCommits(t);
    const submitted = [numbered(0, 900), [POISONS['no session id']!], numbered(1000, 900), numbered(2000, 900)];
    const settled = Promise.allSettled(submitted.map((events) => bench.ledger.submit(events)));
    bench.ledger.close();
    assert.deepEqual(
      (await settled).map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled', 'fulfilled'],
    );
    assert.deepEqual(commits, [900, 900, 900]);
    bench.reopen();
    assert.equal(total(bench.ledger, TOLL.turns), 2700);
  });

  test('is done once; after it everything is refused, to be sent again', async (t) => {
    const { bench } = benchWithCommits(t);
    bench.ledger.close();
    bench.ledger.close();
    const late = [bench.ledger.submit([turn()]), bench.ledger.settle(), bench.ledger.sweep()];
    for (const { reason, status } of (await Promise.allSettled(late)) as PromiseRejectedResult[]) {
      assert.equal(status, 'rejected');
      assert.ok(reason instanceof RetryableFailure);
    }
  });
});
