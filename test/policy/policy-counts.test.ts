import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RetryableFailure } from '../../src/failure.ts';
import type { PolicyCount } from '../../src/ledger/reading.ts';
import { PolicyCounts } from '../../src/policy/policy-counts.ts';
import { readableLog, until } from '../sources/intake-fixture.ts';

const ALLOW = { decision: 'allow', rule: 'none' };
const WARN = { decision: 'warn', rule: 'budget/month' };

/** A ledger that adds up what it is given, in commits that take a while and may fail. */
function bench(gatherMs: number) {
  const booked = new Map<string, number>();
  const ledger = { begun: 0, commits: 0, isRefusing: false };
  const counts = new PolicyCounts({
    gatherMs,
    log: readableLog().log,
    async book(taken: readonly PolicyCount[]) {
      ledger.begun += 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (ledger.isRefusing) throw new RetryableFailure('the disk is full');
      ledger.commits += 1;
      for (const { counter, labels, times } of taken) {
        const key = [counter, ...Object.values(labels)].join(' ');
        booked.set(key, (booked.get(key) ?? 0) + times);
      }
    },
  });
  return { counts, booked, ledger };
}

test('answers of a moment share one commit, which comes by itself', async () => {
  const { counts, booked, ledger } = bench(20);
  for (let n = 0; n < 1000; n++) counts.add('policyVerdicts', ALLOW);
  counts.add('policyUnchecked', { agent: 'opencode' }, 7);
  assert.equal(ledger.commits, 0, 'no answer waits for a commit');
  await until(() => booked.size > 0, 'the commit');
  assert.equal(ledger.commits, 1);
  assert.deepEqual(
    [...booked],
    [
      ['policyVerdicts allow none', 1000],
      ['policyUnchecked opencode', 7],
    ],
  );
});

test('a series can be born at 0', async () => {
  const { counts, booked } = bench(60_000);
  counts.add('policyUnchecked', { agent: 'opencode' }, 0);
  await counts.flush();
  assert.equal(booked.get('policyUnchecked opencode'), 0);
});

test('what waits is booked at the stop, also what came during a commit', async () => {
  const { counts, booked, ledger } = bench(60_000);
  counts.add('policyVerdicts', ALLOW);
  const first = counts.flush();
  await until(() => ledger.begun === 1, 'the first commit to begin');
  counts.add('policyVerdicts', ALLOW);
  await Promise.all([first, counts.flush()]);
  assert.equal(booked.get('policyVerdicts allow none'), 2);
  await counts.flush();
  assert.equal(ledger.commits, 2, 'nothing waits, nothing is committed');
});

test('what a ledger did not take is offered again, once', async () => {
  const { counts, booked, ledger } = bench(60_000);
  ledger.isRefusing = true;
  counts.add('policyVerdicts', WARN);
  await counts.flush();
  ledger.isRefusing = false;
  counts.add('policyVerdicts', WARN);
  await counts.flush();
  await counts.flush();
  assert.deepEqual([...booked], [['policyVerdicts warn budget/month', 2]]);
  assert.equal(ledger.commits, 1);
});
