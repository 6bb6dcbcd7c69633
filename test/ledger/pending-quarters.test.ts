import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PendingQuarters } from '../../src/ledger/pending-quarters.ts';

test('what is added to a row is put together until it is written, whatever came between', () => {
  const pending = new PendingQuarters(() => ({ sum: 0 }));
  for (const [id, bucket] of [
    [1, 7],
    [1, 7],
    [2, 7],
    [1, 8],
    [1, 7],
    [2, 7],
  ] as const)
    pending.of(id, bucket).sum += 1;
  const written: number[][] = [];
  pending.each((id, bucket, { sum }) => written.push([id, bucket, sum]));
  assert.deepEqual(written, [
    [1, 7, 3],
    [1, 8, 1],
    [2, 7, 2],
  ]);
});

test('what was taken back is not added to', () => {
  const pending = new PendingQuarters(() => ({ sum: 0 }));
  pending.of(1, 7).sum += 5;
  pending.clear();
  pending.of(1, 7).sum += 1;
  const written: number[] = [];
  pending.each((_id, _bucket, { sum }) => written.push(sum));
  assert.deepEqual(written, [1]);
});
