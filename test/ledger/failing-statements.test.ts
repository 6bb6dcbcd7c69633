// A disk that fails at one statement of a commit, whichever it is: nothing of the commit stays, in memory or on disk, what
// is shown meanwhile is what was there before, and the same events sent again end where an undisturbed ledger ends.

import assert from 'node:assert/strict';
import { DatabaseSync, StatementSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import type { MeterEvent } from '../../src/turn/turn-event.ts';
import { Bench, shown } from './bench.ts';
import { SECOND_MS, session, tokens, toolPart, turn } from './events.ts';

/** SQLite's "disk I/O error". */
const IO_ERROR = 10;

/** Lets SQL statements fail: those whose number is in `fails`, counted from the last `begin`. */
class FailingDisk {
  done = 0;
  fails: (nth: number) => boolean = () => false;

  constructor(t: TestContext) {
    const disk = this;
    const failing = <T extends unknown[], R>(original: (...given: T) => R) =>
      function (this: unknown, ...given: T): R {
        disk.done += 1;
        if (disk.fails(disk.done)) throw Object.assign(new Error('disk I/O error'), { errcode: IO_ERROR });
        return original.apply(this, given);
      };
    const { exec } = DatabaseSync.prototype;
    const { run, get, all, iterate } = StatementSync.prototype;
    t.after(() => {
      DatabaseSync.prototype.exec = exec;
      Object.assign(StatementSync.prototype, { run, get, all, iterate });
    });
    DatabaseSync.prototype.exec = failing(exec);
    Object.assign(StatementSync.prototype, {
      ...{ run: failing(run as never), get: failing(get as never) },
      ...{ all: failing(all as never), iterate: failing(iterate as never) },
    });
  }

  begin(fails: (nth: number) => boolean): void {
    this.done = 0;
    this.fails = fails;
  }
}

const before: MeterEvent[] = [
  turn({ costNano: 7, tokens: tokens({ input: 5 }), project: 'shop', user: 'ana' }),
  turn({ messageId: 'msg_2', phase: 'in_progress' }),
  session(),
];
/** Something of everything: a correction, a completion, new turns, calls, sessions. */
const batch: MeterEvent[] = [
  turn({ eventId: 'evt_9', costNano: 3, tokens: tokens({ input: 9 }), project: 'shop', user: 'ana' }),
  turn({ messageId: 'msg_2', costNano: 11, estimatedNano: 4, pricing: 'unknown', tokens: tokens({ output: 2 }) }),
  turn({
    messageId: 'msg_3',
    sessionId: 'ses_2',
    model: 'gpt-5',
    provider: 'openai',
    status: 'error',
    reason: 'limit',
  }),
  toolPart(),
  toolPart({ callId: 'call_2', sessionId: 'ses_3', messageId: 'msg_none' }),
  session({ sessionId: 'ses_2', project: 'other' }),
];

test('at every statement of a commit', async (t) => {
  const disk = new FailingDisk(t);
  const truth = await (async () => {
    const bench = new Bench(t);
    await bench.ledger.submit(before);
    await bench.ledger.submit(batch);
    const found = shown(bench.ledger);
    bench.ledger.close();
    return found;
  })();
  const bench = new Bench(t);
  await bench.ledger.submit(before);
  const start = shown(bench.ledger);
  let failures = 0;
  for (let nth = 1; ; nth++) {
    disk.begin((done) => done === nth);
    const refused = await bench.ledger.submit(batch).then(
      () => undefined,
      (error: Error) => error,
    );
    disk.begin(() => false);
    if (!refused) break;
    failures += 1;
    assert.equal(refused.name, 'RetryableFailure', `statement ${nth}: ${refused.message}`);
    assert.match(bench.ledger.problem ?? '', /disk I\/O error/);
    const { health, ...rest } = shown(bench.ledger);
    const { health: healthBefore, ...restBefore } = start;
    assert.deepEqual(rest, restBefore, `statement ${nth}`);
    assert.equal(health.booksBalance && healthBefore.booksBalance, true);
  }
  assert.ok(failures > 40, `only ${failures} statements`);
  assert.equal(bench.ledger.problem, undefined);
  assert.deepEqual(shown(bench.ledger), truth);
  bench.reopen();
  assert.deepEqual(shown(bench.ledger), truth);
  t.diagnostic(`${failures} statements, each failed once: nothing booked, nothing lost`);
});

test('and again while what is in memory is read back: nothing is shown then, and nothing is taken, until it works', async (t) => {
  const disk = new FailingDisk(t);
  const bench = new Bench(t);
  await bench.ledger.submit(before);
  const start = shown(bench.ledger);
  disk.begin((done) => done > 0);
  await assert.rejects(bench.ledger.submit(batch), { name: 'RetryableFailure' });
  // From the middle of the commit on: so that what was changed in memory cannot be read back.
  disk.begin((done) => done > 20);
  await assert.rejects(bench.ledger.submit(batch), { name: 'RetryableFailure' });
  assert.throws(() => bench.ledger.windowRows(), /could not be read back/);
  await assert.rejects(bench.ledger.submit(batch), { name: 'RetryableFailure' });
  disk.begin(() => false);
  bench.nowMs += SECOND_MS;
  await assert.rejects(
    bench.ledger.submit([{ ...before[0]!, messageId: undefined as never } as MeterEvent]),
    'an event that cannot be booked',
  );
  assert.deepEqual(shown(bench.ledger).growing, start.growing);
  await bench.ledger.submit(batch);
  const found = shown(bench.ledger);
  bench.reopen();
  assert.deepEqual(shown(bench.ledger), found);
  assert.ok(found.health.booksBalance);
});
