// Other programs at the files of an open ledger. What was acknowledged is there after a crash, or nothing more is
// acknowledged.

import assert from 'node:assert/strict';
import { existsSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { Ledger } from '../../src/ledger/ledger.ts';
import { createLog } from '../../src/log.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { Bench, temporaryFolder, total, WIDE_CAPS } from './bench.ts';
import { DAY_MS, turn } from './events.ts';
import { Holder } from './holder.ts';
import { manyTurns } from './ledger-process.ts';

const cut = (file: string) => truncateSync(file, statSync(file).size - 1);

describe('a file that is cut under an open ledger', () => {
  const CUTS: Readonly<Record<string, (file: string) => void>> = {
    'the ledger, by one byte': cut,
    'the ledger, to nothing': (file) => truncateSync(file, 0),
    'its log, by one byte': (file) => cut(`${file}-wal`),
    'its log, to nothing': (file) => truncateSync(`${file}-wal`, 0),
  };
  for (const [name, damage] of Object.entries(CUTS)) {
    test(`${name}: nothing more is taken, which is said, and what was counted is shown on`, async (t) => {
      const bench = new Bench(t);
      await bench.submit(...manyTurns({ from: 0, turns: 500 }));
      bench.reopen();
      await bench.submit(...manyTurns({ from: 500, turns: 10 }));
      damage(bench.file);
      for (let tries = 0; tries < 2; tries++) {
        const refused = bench.ledger.submit(manyTurns({ from: 510, turns: 10 }));
        await assert.rejects(refused, { name: 'RetryableFailure' });
        assert.match(bench.ledger.problem ?? '', /cut short.*Restart Tollbridge/);
        assert.equal(total(bench.ledger, TOLL.turns), 510);
      }
    });
  }
});

describe('a write-ahead log that is taken away under an open ledger', () => {
  const THEFTS: Readonly<Record<string, (log: string) => void>> = {
    removed: (log) => rmSync(log),
    'moved away': (log) => renameSync(log, `${log}.gone`),
    'replaced by another file': (log) => {
      rmSync(log);
      writeFileSync(log, 'x'.repeat(100_000));
    },
  };
  for (const [name, steal] of Object.entries(THEFTS)) {
    test(`${name}: it is made anew, and what was acknowledged outlives a crash`, async (t) => {
      const file = path.join(temporaryFolder(t), 'ledger.db');
      const { holder } = await Holder.start(t, file);
      await holder.submit({ from: 0, turns: 50 });
      steal(`${file}-wal`);
      const answer = await holder.submit({ from: 50, turns: 50 });
      assert.deepEqual([answer.recorded, answer.problem, answer.turns], [50, undefined, 100]);
      await holder.submit({ from: 100, turns: 50 });
      assert.ok(existsSync(`${file}-wal`));
      await holder.kill();
      const log = createLog('silent');
      const ledger = Ledger.open({ file, timeZone: 'UTC', retentionMs: 90 * DAY_MS, caps: WIDE_CAPS, log });
      t.after(() => ledger.close());
      assert.deepEqual([total(ledger, TOLL.turns), total(ledger, TOLL.cost)], [150, 150]);
      assert.ok(ledger.health().booksBalance);
    });
  }
});

describe('files that change by our own doing, or grow', () => {
  test('are no reason to refuse anything', async (t) => {
    const bench = new Bench(t);
    await bench.submit(...manyTurns({ from: 0, turns: 5000 }));
    bench.ledger.close();
    const db = new DatabaseSync(bench.file);
    db.prepare("UPDATE meta SET value = value - ? WHERE key = 'created_ms'").run(400 * DAY_MS);
    db.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES ('uptime_ms', ?)").run(500 * DAY_MS);
    db.close();
    bench.nowMs += 100 * DAY_MS;
    bench.reopen();
    const bytes = statSync(bench.file).size;
    await bench.ledger.sweep();
    let turns = 5000;
    // What the sweep freed leaves the file at a checkpoint, which comes with the pages that small commits write.
    for (; statSync(bench.file).size >= bytes && turns < 6000; turns++) {
      await bench.ledger.submit([turn({ messageId: `now_${turns}`, startedMs: bench.nowMs })]);
    }
    assert.ok(statSync(bench.file).size < bytes, 'the ledger gave room back');
    await bench.ledger.submit([turn({ messageId: 'last', startedMs: bench.nowMs })]);
    assert.equal(bench.ledger.problem, undefined);
    assert.equal(total(bench.ledger, TOLL.turns), turns + 1);
  });
});
