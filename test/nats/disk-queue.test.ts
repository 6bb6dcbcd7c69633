import assert from 'node:assert/strict';
import { statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { PermanentFailure, RetryableFailure } from '../../src/failure.ts';
import { DiskQueue } from '../../src/nats/disk-queue.ts';
import { silentLog, temporaryFolder } from '../sources/intake-fixture.ts';

const SUBJECT = 'toll.turns.core.ada';
const message = (n: number, subject = SUBJECT) => ({
  subject,
  id: `id-${n}`,
  body: JSON.stringify({ n, text: 'ä' }),
});
const sizeOf = (n: number) => Object.values(message(n)).reduce((sum, text) => sum + Buffer.byteLength(text), 0);

function open(t: TestContext, { dir = temporaryFolder(t), maxBytes = 1_000_000 } = {}) {
  const queue = DiskQueue.open({ file: path.join(dir, 'queue.db'), maxBytes, log: silentLog });
  t.after(() => queue.close());
  return { dir, queue };
}

test('what was put comes back in order, also after the process, and goes when it is removed', async (t) => {
  const { dir, queue } = open(t);
  await Promise.all([queue.put([message(1), message(2)]), queue.put([message(3)])]);
  assert.deepEqual([queue.events, queue.bytes], [3, sizeOf(1) + sizeOf(2) + sizeOf(3)]);
  queue.close();
  const { queue: again } = open(t, { dir });
  assert.deepEqual([again.events, again.bytes], [3, sizeOf(1) + sizeOf(2) + sizeOf(3)]);
  const [first, second] = again.oldest(SUBJECT, { most: 2 });
  assert.deepEqual([first?.id, second?.id, second?.body], ['id-1', 'id-2', message(2).body]);
  await again.remove([first!, second!]);
  assert.deepEqual(
    [again.events, again.bytes, again.oldest(SUBJECT, { most: 9 }).map(({ id }) => id)],
    [1, sizeOf(3), ['id-3']],
  );
});

test('it holds no more bytes than it may, whoever asks at once, and says when to come again', async (t) => {
  const { queue } = open(t, { maxBytes: 3 * sizeOf(1) });
  const puts = await Promise.allSettled([1, 2, 3, 4].map((n) => queue.put([message(n)])));
  assert.deepEqual(
    puts.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'fulfilled', 'rejected'],
  );
  const { reason } = puts[3] as PromiseRejectedResult;
  assert.ok(reason instanceof RetryableFailure && reason.retryAfterS > 0);
  assert.match(reason.message, /relay\.queue_max_bytes/);
  assert.match(queue.problem ?? '', /relay\.queue_max_bytes: senders are told to come again/);
  await queue.remove(queue.oldest(SUBJECT, { most: 1 }));
  assert.equal(queue.problem, undefined);
  await queue.put([message(4)]);
  assert.equal(queue.events, 3);
});

test('each subject has a line of its own', async (t) => {
  const { queue } = open(t);
  assert.deepEqual(queue.subjects(), []);
  const [a, b] = ['toll.turns._._', 'toll.turns.core.ada'] as const;
  await queue.put([message(1, b), message(2, a), message(3, b), message(4, b)]);
  assert.deepEqual(queue.subjects(), [a, b]);
  assert.deepEqual(
    queue.oldest(b, { most: 2 }).map(({ id }) => id),
    ['id-1', 'id-3'],
  );
  assert.deepEqual(
    queue.oldest(b, { most: 2, after: queue.oldest(b, { most: 1 })[0]!.place }).map(({ id }) => id),
    ['id-3', 'id-4'],
  );
  await queue.remove(queue.oldest(a, { most: 9 }));
  assert.deepEqual([queue.subjects(), queue.events], [[b], 3]);
});

test('what an earlier version left waiting is found', (t) => {
  const dir = temporaryFolder(t);
  const db = new DatabaseSync(path.join(dir, 'queue.db'));
  db.exec(
    'CREATE TABLE message (place INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL) STRICT; PRAGMA user_version = 1',
  );
  db.prepare('INSERT INTO message (subject, id, body) VALUES (?, ?, ?)').run(...Object.values(message(1)));
  db.close();
  const { queue } = open(t, { dir });
  assert.deepEqual([queue.events, queue.bytes, queue.subjects()], [1, sizeOf(1), [SUBJECT]]);
});

test('it is for its owner only, and for one process', (t) => {
  const { dir } = open(t);
  assert.equal(statSync(path.join(dir, 'queue.db')).mode & 0o777, 0o600);
  assert.throws(
    () => open(t, { dir }),
    (error) => error instanceof PermanentFailure && /Another Tollbridge/.test(error.message),
  );
});

test('a file that is no queue is left as it is, and the way out is named', (t) => {
  const dir = temporaryFolder(t);
  const file = path.join(dir, 'queue.db');
  writeFileSync(file, 'something else entirely, and long enough to be looked at as a database file'.repeat(20));
  const { size } = statSync(file);
  assert.throws(() => open(t, { dir }), /left as it is/);
  assert.equal(statSync(file).size, size);
});
