import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RetryableFailure } from '../../src/failure.ts';
import { type VerdictCount, VerdictCounts } from '../../src/policy/verdict-counts.ts';
import { readableLog, until } from '../sources/intake-fixture.ts';

/** A ledger that adds up what it is given, in commits that take a while and may fail. */
function bench(gatherMs: number) {
  const booked = new Map<string, number>();
  const ledger = { begun: 0, commits: 0, isRefusing: false };
  const counts = new VerdictCounts({
    gatherMs,
    log: readableLog().log,
    async book(taken: readonly VerdictCount[]) {
      ledger.begun += 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (ledger.isRefusing) throw new RetryableFailure('the disk is full');
      ledger.commits += 1;
      for (const { decision, rule, times } of taken) {
        booked.set(`${decision} ${rule}`, (booked.get(`${decision} ${rule}`) ?? 0) + times);
      }
    },
  });
  return { counts, booked, ledger };
}

test('answers of a moment share one commit, which comes by itself', async () => {
  const { counts, booked, ledger } = bench(20);
  for (let n = 0; n < 1000; n++) counts.add('allow', 'none');
  counts.add('stop', 'budget/month');
  assert.equal(ledger.commits, 0, 'no answer waits for a commit');
  await until(() => booked.size > 0, 'the commit');
  assert.equal(ledger.commits, 1);
  assert.deepEqual(
    [...booked],
    [
      ['allow none', 1000],
      ['stop budget/month', 1],
    ],
  );
});

test('what waits is booked at the stop, also what came during a commit', async () => {
  const { counts, booked, ledger } = bench(60_000);
  counts.add('allow', 'none');
  const first = counts.flush();
  await until(() => ledger.begun === 1, 'the first commit to begin');
  counts.add('allow', 'none');
  await Promise.all([first, counts.flush()]);
  assert.equal(booked.get('allow none'), 2);
  await counts.flush();
  assert.equal(ledger.commits, 2, 'nothing waits, nothing is committed');
});

test('what a ledger did not take is offered again, once', async () => {
  const { counts, booked, ledger } = bench(60_000);
  ledger.isRefusing = true;
  counts.add('warn', 'budget/month');
  await counts.flush();
  ledger.isRefusing = false;
  counts.add('warn', 'budget/month');
  await counts.flush();
  await counts.flush();
  assert.deepEqual([...booked], [['warn budget/month', 2]]);
  assert.equal(ledger.commits, 1);
});
