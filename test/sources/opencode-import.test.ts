// The bridge reads OpenCode's database again and again: what is news comes in, whatever the clock did, and once.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { ImportPosition } from '../../src/sources/import-position.ts';
import { OpencodeImport } from '../../src/sources/opencode-import.ts';
import { diskFull, newIntake, silentLog, until } from './intake-fixture.ts';
import { OpencodeDatabase, toolData, turnData } from './opencode-database.ts';

const HOUR_MS = 3_600_000;

async function reading(t: TestContext, database: OpencodeDatabase, fails = () => false, position?: ImportPosition) {
  const { intake, meter, sink } = newIntake();
  sink.failure = () => (fails() ? diskFull() : undefined);
  const source = new OpencodeImport({
    ...{ file: database.file, where: { env: {}, home: '/nowhere', platform: 'linux' as const } },
    ...{ intervalMs: 5, identity: { team: 'core' }, intake, meter, log: silentLog, position },
  });
  await source.start();
  t.after(() => source.stop());
  const turns = () => sink.events.flatMap((event) => (event.kind === 'turn' ? [event.messageId] : []));
  return { source, meter, turns };
}

test('what was written in a wrong time hides nothing that is written later', async (t) => {
  for (const [name, updated] of [
    ['ahead', Date.now() + 24 * HOUR_MS],
    ['no time at all', 'yesterday'],
  ] as const) {
    await t.test(name, async (t) => {
      const database = new OpencodeDatabase(t);
      database.session('ses_1');
      database.message('msg_1', 'ses_1', turnData(), updated);
      const { turns } = await reading(t, database);
      await until(() => turns().length === 1);
      database.message('msg_2', 'ses_1', turnData(), Date.now());
      await until(() => turns().length === 2, 'the turn that was written later');
    });
  }
});

test('a clock that is set back, or ahead, between two readings', async (t) => {
  for (const stepMs of [-HOUR_MS, HOUR_MS]) {
    await t.test(`by ${stepMs / HOUR_MS} h`, async (t) => {
      const database = new OpencodeDatabase(t);
      database.session('ses_1');
      database.message('msg_1', 'ses_1', turnData(), Date.now());
      const { turns, meter } = await reading(t, database);
      await until(() => turns().length === 1);
      const readings = meter.of('import').received!;
      // Written before the step, and after it, both since the last reading.
      database.db.exec('BEGIN IMMEDIATE');
      database.message('msg_2', 'ses_1', turnData(), Date.now());
      const realNow = Date.now;
      t.mock.method(Date, 'now', () => realNow() + stepMs);
      database.message('msg_3', 'ses_1', turnData(), Date.now());
      database.db.exec('COMMIT');
      await until(() => turns().length === 3, 'both turns');
      assert.ok(meter.of('import').received! > readings);
    });
  }
});

test('what could not be committed is read again, and what was is not', async (t) => {
  const database = new OpencodeDatabase(t);
  database.session('ses_1');
  database.db.exec('BEGIN');
  for (let at = 0; at < 900; at++) database.message(`msg_${at}`, 'ses_1', turnData(), Date.now() - at * HOUR_MS);
  // A page whose tool calls go into several.
  for (let at = 0; at < 400; at++) database.part(`prt_${at}`, 'msg_5', 'ses_1', toolData(`call_${at}`));
  database.db.exec('COMMIT');
  // So many commits fail that no reading comes to its end at once.
  let commits = 0;
  const { turns, source, meter } = await reading(t, database, () => commits++ % 5 === 4);
  await until(() => turns().length === 900);
  await until(() => source.problem() === undefined);
  meter.assertConserved('import');
  const { recorded, received } = meter.of('import');
  assert.ok(recorded! >= 1301 && received! < 3000, `${received} events for ${recorded}`);
});

test('where turns go into a stream, a restart does not tell all of the history once more', async (t) => {
  const database = new OpencodeDatabase(t);
  database.session('ses_1');
  for (let day = 0; day < 5; day++)
    database.message(`msg_${day}`, 'ses_1', turnData(), Date.now() - day * 24 * HOUR_MS);
  const file = path.join(path.dirname(database.file), 'import-position.json');
  /** What one process tells of a database until it has read all of it. */
  const told = async (of = database) => {
    const { turns, source, meter } = await reading(t, of, undefined, new ImportPosition(file));
    const isRead = () => meter.upStates.import === true;
    await until(isRead);
    await source.stop();
    return [...turns()].sort();
  };
  assert.equal((await told()).length, 5);
  assert.doesNotMatch(readFileSync(file, 'utf8'), /tollbridge|opencode/, 'nothing of where it lies');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  database.message('msg_new', 'ses_1', turnData(), Date.now());
  assert.deepEqual(await told(), ['msg_0', 'msg_new'], 'of the last day only');
  const other = new OpencodeDatabase(t);
  other.session('ses_1');
  other.message('msg_old', 'ses_1', turnData(), 1);
  assert.deepEqual(await told(other), ['msg_old'], 'another database is another matter');
  assert.equal((await told()).length, 6);
  for (const damage of ['', '{"v":1}', '{"v":1,"database":5,"read_ms":-1}', 'null']) {
    writeFileSync(file, damage);
    assert.equal((await told()).length, 6, `after ${damage}`);
  }
  rmSync(file);
  mkdirSync(path.join(`${file}.new`, 'x'), { recursive: true });
  assert.equal((await told()).length, 6, 'where it cannot be kept');
});

test('it is not up while the database cannot be read, and nothing is lost by that', async (t) => {
  const database = new OpencodeDatabase(t, { journal: 'delete' });
  database.session('ses_1');
  database.message('msg_1', 'ses_1', turnData(), Date.now());
  const { turns, source, meter } = await reading(t, database);
  await until(() => turns().length === 1);
  database.db.exec('PRAGMA locking_mode = exclusive; BEGIN EXCLUSIVE');
  database.message('msg_2', 'ses_1', turnData(), Date.now());
  await until(() => meter.upStates.import === false);
  assert.match(source.problem()!, /in use.*try again/);
  database.db.exec('COMMIT; PRAGMA locking_mode = normal; SELECT 1 FROM message');
  await until(() => meter.upStates.import === true);
  await until(() => turns().length === 2);
});
