import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, type TestContext, test } from 'node:test';
import { parseConfig } from '../../src/config.ts';
import { PermanentFailure } from '../../src/failure.ts';
import { Ledger } from '../../src/ledger/ledger.ts';
import { SCHEMA_VERSION } from '../../src/ledger/schema.ts';
import { createLog } from '../../src/log.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { readableLog } from '../sources/intake-fixture.ts';
import { Bench, shown, temporaryFolder, total, typesOf, WIDE_CAPS } from './bench.ts';
import { DAY_MS, session, toolPart, turn } from './events.ts';
import { asOfFirstVersion } from './first-version.ts';
import { Holder } from './holder.ts';
import { manyTurns } from './ledger-process.ts';

const PAGE_BYTES = 4096;

function open(file: string): Ledger {
  return Ledger.open({ file, timeZone: 'UTC', retentionMs: 90 * DAY_MS, caps: WIDE_CAPS, log: createLog('silent') });
}

/** Why it does not open. It must be a PermanentFailure that names the file. */
function refusalOf(file: string): string {
  try {
    open(file).close();
  } catch (error) {
    assert.ok(error instanceof PermanentFailure, String(error));
    assert.ok(error.message.includes(file), error.message);
    return error.message;
  }
  assert.fail('the ledger was opened');
}

function fingerprint(file: string): string {
  return existsSync(file) ? createHash('sha256').update(readFileSync(file)).digest('hex') : 'none';
}

/** A closed ledger of some hundred pages. */
async function filledLedger(t: TestContext): Promise<string> {
  const bench = new Bench(t);
  await bench.submit(...manyTurns({ from: 0, turns: 1000 }));
  bench.ledger.close();
  return bench.file;
}

describe('a new ledger', () => {
  test('belongs to its user alone, whatever the umask', async (t) => {
    const umask = process.umask(0);
    t.after(() => process.umask(umask));
    const file = path.join(temporaryFolder(t), 'state', 'tollbridge', 'ledger.db');
    const ledger = open(file);
    t.after(() => ledger.close());
    await ledger.submit([turn()]);
    const mode = (name: string) => (statSync(name).mode & 0o777).toString(8);
    assert.deepEqual([mode(file), mode(`${file}-wal`), mode(path.dirname(file))], ['600', '600', '700']);
    assert.ok(!existsSync(`${file}-shm`), 'one process has it: there is no memory to share');
    assert.ok(ledger.sizeBytes() >= PAGE_BYTES);
    ledger.close();
    assert.equal(mode(file), '600');
    assert.ok(!existsSync(`${file}-wal`), 'the log is in the file when it is closed');
  });

  test('that is open to others is closed to them', async (t) => {
    const file = await filledLedger(t);
    chmodSync(file, 0o644);
    open(file).close();
    assert.equal(statSync(file).mode & 0o777, 0o600);
  });

  test('keeps when it began to count', async (t) => {
    const bench = new Bench(t);
    const { createdMs } = bench.ledger;
    assert.equal(createdMs, bench.nowMs);
    bench.nowMs += DAY_MS;
    bench.reopen();
    assert.equal(bench.ledger.createdMs, createdMs);
  });
});

describe('a ledger that is opened again', () => {
  test('shows the same and knows what it booked', async (t) => {
    const bench = new Bench(t);
    const events = [
      turn({ costNano: 5, project: 'p', user: 'u' }),
      turn({ phase: 'in_progress', messageId: 'msg_2' }),
      turn({ phase: 'finished', messageId: 'msg_3', pricing: 'unknown' }),
      toolPart(),
      session(),
    ];
    await bench.submit(...events);
    const before = shown(bench.ledger);
    bench.reopen();
    assert.deepEqual(shown(bench.ledger), before);
    assert.deepEqual(new Set(typesOf(await bench.submit(...events))), new Set(['duplicate']));
  });
});

describe('a ledger that another process has', () => {
  test('is refused by name, until that process is gone, however it went; nothing it booked is lost', async (t) => {
    const file = path.join(temporaryFolder(t), 'ledger.db');
    const { holder } = await Holder.start(t, file);
    const booked = await holder.submit({ from: 0, turns: 250 });
    assert.equal(booked.recorded, 250);
    const before = fingerprint(file);
    assert.match(refusalOf(file), /Another Tollbridge has the ledger .*`\S.* status`/s);
    assert.equal(fingerprint(file), before);
    assert.equal((await holder.submit({ from: 250, turns: 10 })).turns, 260, 'the other is not disturbed');

    await holder.kill();
    assert.ok(existsSync(`${file}-wal`), 'it left its log behind');
    const ledger = open(file);
    t.after(() => ledger.close());
    assert.equal(total(ledger, TOLL.turns), 260);
    assert.ok(ledger.health().booksBalance);
    assert.ok(!existsSync(`${file}-shm`));
    const again = await ledger.submit(manyTurns({ from: 0, turns: 260 }));
    assert.deepEqual(new Set(typesOf(again)), new Set(['duplicate']));
  });

  test('is refused within one process too', async (t) => {
    const bench = new Bench(t);
    assert.match(refusalOf(bench.file), /Another Tollbridge has the ledger/);
    await bench.submit(turn());
  });
});

describe('a ledger of another version', () => {
  test('of the first version is brought up to date: its turns stay, its readings are read anew', async (t) => {
    const policy = parseConfig({ budgets: [{ name: 'b', limit_usd: 1, period: 'day' }] });
    const bench = new Bench(t, { policy });
    await bench.submit(turn({ costNano: 7 }), session());
    const before = shown(bench.ledger);
    const standings = bench.ledger.standings();
    assert.equal(standings[0]?.spent, 7);
    bench.ledger.close();
    const db = new DatabaseSync(bench.file);
    asOfFirstVersion(db);
    db.exec(
      `INSERT INTO poll_result VALUES ('opencode', 'work', 1, '{"provider":"opencode","account":"work","routes":{}}')`,
    );
    db.close();
    const { log, lines } = readableLog();
    bench.reopen({ log });
    assert.deepEqual(shown(bench.ledger), before);
    assert.deepEqual(bench.ledger.standings(), standings);
    assert.deepEqual(bench.ledger.pollResults(), []);
    assert.deepEqual(typesOf(await bench.submit(turn())), ['duplicate']);
    const told = lines.map((line) => JSON.parse(line) as { msg: string; bytes?: number; schema?: number; to?: number });
    assert.deepEqual(
      told.map(({ msg }) => msg.split(',', 1)[0]),
      ['bringing the ledger up to date', 'the ledger is up to date'],
    );
    assert.ok(told[0]!.bytes! >= PAGE_BYTES);
    assert.deepEqual([told[0]!.schema, told[0]!.to], [1, SCHEMA_VERSION]);
    bench.reopen({ log });
    assert.equal(lines.length, 2, 'there was nothing to do');
  });

  test('that is newer is left untouched', async (t) => {
    const file = await filledLedger(t);
    const db = new DatabaseSync(file);
    db.exec(`PRAGMA user_version = ${SCHEMA_VERSION + 1}; PRAGMA journal_mode = DELETE`);
    db.close();
    const before = fingerprint(file);
    assert.match(refusalOf(file), /newer Tollbridge.*Nothing was changed\. Update Tollbridge/s);
    assert.equal(fingerprint(file), before);
  });
});

describe('a damaged ledger', () => {
  const overwrite = (file: string, bytes: Buffer, position: number) => {
    const fd = openSync(file, 'r+');
    writeSync(fd, bytes, 0, bytes.length, position);
    closeSync(fd);
  };
  const DAMAGES: Record<string, (file: string) => void> = {
    'garbage in its middle pages': (file) => {
      const middle = Math.floor(statSync(file).size / PAGE_BYTES / 2) * PAGE_BYTES;
      overwrite(file, Buffer.alloc(4 * PAGE_BYTES, 0xa5), middle);
    },
    'zeros in its middle pages': (file) => {
      const middle = Math.floor(statSync(file).size / PAGE_BYTES / 2) * PAGE_BYTES;
      overwrite(file, Buffer.alloc(4 * PAGE_BYTES), middle);
    },
    'cut off in half': (file) => truncateSync(file, Math.floor(statSync(file).size / PAGE_BYTES / 2) * PAGE_BYTES),
    'cut off within a page': (file) => truncateSync(file, statSync(file).size - 1000),
    'not a database': (file) => writeFileSync(file, 'not a database at all\n'.repeat(1000)),
    'a header of garbage': (file) => overwrite(file, Buffer.alloc(100, 0xa5), 0),
  };
  for (const [name, damage] of Object.entries(DAMAGES)) {
    test(`${name}: it is refused, left as it is, and the way out is named`, async (t) => {
      const file = await filledLedger(t);
      damage(file);
      const before = fingerprint(file);
      for (let tries = 0; tries < 2; tries++) {
        const message = refusalOf(file);
        assert.match(message, /is damaged \((?!\*\*\*)[^\n]+\)\. It was left as it is.*`\S.* ledger new`/s);
        assert.equal(fingerprint(file), before);
      }
    });
  }

  test('the log that a crash left beside it is left as it is too', async (t) => {
    const file = await filledLedger(t);
    const { holder } = await Holder.start(t, file);
    assert.equal((await holder.submit({ from: 5000, turns: 10 })).recorded, 10);
    await holder.kill();
    DAMAGES['garbage in its middle pages']!(file);
    const before = [fingerprint(file), fingerprint(`${file}-wal`)];
    assert.ok(!before.includes('none'));
    assert.match(refusalOf(file), /is damaged/);
    assert.deepEqual([fingerprint(file), fingerprint(`${file}-wal`)], before);
  });
});

describe('a ledger that cannot be opened', () => {
  test('because a folder is in its place, or a file in that of its folder', (t) => {
    const folder = temporaryFolder(t);
    mkdirSync(path.join(folder, 'ledger.db'));
    writeFileSync(path.join(folder, 'state'), '');
    for (const file of [path.join(folder, 'ledger.db'), path.join(folder, 'state', 'ledger.db')]) {
      assert.match(refusalOf(file), /cannot be opened .*the bridge stops.*set state_dir to another folder/s);
    }
  });
});
