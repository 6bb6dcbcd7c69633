// kill -9 where a ledger changes more than what was just sent: in each step of a migration, and while old turns are let
// go. It is then either the old or the new one, and going on ends where an undisturbed ledger ends.

import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { Ledger } from '../../src/ledger/ledger.ts';
import { SCHEMA_VERSION } from '../../src/ledger/schema.ts';
import { createLog } from '../../src/log.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { type KillPoint, KillSwitch } from '../kill-point.ts';
import { Bench, shown, temporaryFolder, total, WIDE_CAPS } from './bench.ts';
import { DAY_MS, NOON_MS, session, turn } from './events.ts';
import { asOfFirstVersion } from './first-version.ts';
import { Holder } from './holder.ts';
import { manyTurns } from './ledger-process.ts';

const TURNS = 400;
/** A disk writes no less. */
const WRITTEN_AT_ONCE = 512;

function open(t: TestContext, file: string, now: () => number): Ledger {
  const options = { file, timeZone: 'UTC', retentionMs: 90 * DAY_MS, caps: WIDE_CAPS, log: createLog('silent'), now };
  const ledger = Ledger.open(options);
  t.after(() => ledger.close());
  return ledger;
}

/** What it shows, after a last look that it is whole. */
function contents(t: TestContext, file: string, now: () => number) {
  const ledger = open(t, file, now);
  const found = shown(ledger);
  assert.ok(found.health.booksBalance);
  ledger.close();
  return found;
}

async function filled(t: TestContext): Promise<string> {
  const bench = new Bench(t);
  await bench.submit(
    ...manyTurns({ from: 0, turns: TURNS }),
    turn({ phase: 'finished', messageId: 'late' }),
    session(),
  );
  bench.ledger.close();
  return bench.file;
}

test('in each step of a migration', async (t) => {
  const file = await filled(t);
  const before = contents(t, file, () => NOON_MS);
  const old = new DatabaseSync(file);
  asOfFirstVersion(old);
  old.close();
  const points = Array.from({ length: SCHEMA_VERSION - 1 }, (_, at): [KillPoint, found: number][] => {
    const step = `PRAGMA user_version = ${at + 2}`;
    return [
      [{ sql: `^${step}`, moment: 'before' }, at + 1],
      [{ sql: '^COMMIT', moment: 'before', follows: step }, at + 1],
      [{ sql: '^COMMIT', moment: 'after', follows: step }, at + 2],
    ];
  }).flat();
  for (const [point, expected] of points) {
    const copy = path.join(temporaryFolder(t), 'ledger.db');
    copyFileSync(file, copy);
    const killSwitch = new KillSwitch(`${copy}.kill`);
    killSwitch.arm(point);
    const where = JSON.stringify(point);
    assert.equal(await Holder.startDoomed(t, copy, killSwitch), 'SIGKILL', `it did not die ${where}`);
    const db = new DatabaseSync(copy, { readOnly: true });
    const { user_version: found } = db.prepare('PRAGMA user_version').get() as { user_version: number };
    db.close();
    assert.equal(found, expected, where);
    assert.deepEqual(
      contents(t, copy, () => NOON_MS),
      before,
      where,
    );
  }
});

test('while old turns are let go', async (t) => {
  const file = await filled(t);
  const before = contents(t, file, () => NOON_MS);
  const db = new DatabaseSync(file);
  // Old, and in use all the time: its turns of the past are due.
  const set = db.prepare('INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)');
  set.run('created_ms', NOON_MS - 400 * DAY_MS);
  set.run('uptime_ms', Date.now() - NOON_MS + 500 * DAY_MS);
  db.close();
  const turnsLeft = (copy: string) => {
    const left = new DatabaseSync(copy, { readOnly: true });
    const { n } = left.prepare('SELECT count(*) AS n FROM turn').get() as { n: number };
    const horizon = left.prepare("SELECT value FROM meta WHERE key = 'horizon_ms'").get();
    left.close();
    assert.equal(horizon !== undefined, n === 0, 'the horizon moves with the deletion, or not at all');
    return n;
  };
  const kept = turnsLeft(file);
  const points: [KillPoint, left: number][] = [
    [{ sql: '^DELETE FROM turn', moment: 'before' }, kept],
    [{ sql: '^DELETE FROM turn', moment: 'after' }, kept],
    [{ sql: '^DELETE FROM tool_call', moment: 'after' }, kept],
    [{ sql: '^PRAGMA incremental_vacuum', moment: 'after' }, kept],
    [{ sql: '^COMMIT', moment: 'before', follows: 'DELETE FROM turn' }, kept],
    [{ sql: '^COMMIT', moment: 'after', follows: 'DELETE FROM turn' }, 0],
  ];
  assert.equal(kept, TURNS + 1);
  for (const [point, left] of points) {
    const where = JSON.stringify(point);
    const copy = path.join(temporaryFolder(t), 'ledger.db');
    copyFileSync(file, copy);
    const killSwitch = new KillSwitch(`${copy}.kill`);
    killSwitch.arm(undefined);
    const { holder } = await Holder.start(t, copy, { killSwitch });
    killSwitch.arm(point);
    await assert.rejects(holder.submit('sweep'), /ended/);
    assert.equal(await holder.ended(), 'SIGKILL', where);
    assert.equal(turnsLeft(copy), left, where);
    const found = contents(t, copy, () => NOON_MS);
    assert.deepEqual(found.growing, before.growing, where);
    assert.deepEqual(found.windows, before.windows, where);
  }
});

test('in the middle of writing: whatever of the log reached the disk, a batch is there whole or not at all', async (t) => {
  const file = path.join(temporaryFolder(t), 'ledger.db');
  const { holder } = await Holder.start(t, file);
  const log = `${file}-wal`;
  await holder.submit({ from: 0, turns: 20 });
  const startBytes = statSync(log).size;
  await holder.submit({ from: 20, turns: 20 });
  await holder.kill();
  const bytes = readFileSync(log);
  assert.ok(bytes.length > startBytes);
  const dir = temporaryFolder(t);
  const cuts = Array.from({ length: Math.ceil((bytes.length - startBytes) / WRITTEN_AT_ONCE) }, (_, at) => {
    return startBytes + at * WRITTEN_AT_ONCE;
  });
  for (const end of [...cuts, bytes.length]) {
    const copy = path.join(dir, `cut-${end}.db`);
    copyFileSync(file, copy);
    writeFileSync(`${copy}-wal`, bytes.subarray(0, end));
    const ledger = open(t, copy, () => NOON_MS);
    assert.equal(total(ledger, TOLL.turns), end === bytes.length ? 40 : 20, `${end} of ${bytes.length} bytes`);
    await ledger.submit(manyTurns({ from: 20, turns: 20 }));
    assert.deepEqual([total(ledger, TOLL.turns), total(ledger, TOLL.cost)], [40, 40]);
    assert.ok(ledger.health().booksBalance);
    ledger.close();
  }
  t.diagnostic(`${cuts.length + 1} lengths of the log, each exact`);
});
