// OpenCode's database read as it may be found: with rows that nobody expects, in use, damaged, of any size.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, statSync, symlinkSync, writeSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { PermanentFailure, RetryableFailure } from '../../src/failure.ts';
import { countMessages, readHistory } from '../../src/sources/opencode-history.ts';
import { isObject } from '../../src/turn/fields.ts';
import { decodeHook } from '../../src/turn/normalize.ts';
import type { StatedEvent } from '../../src/turn/turn-event.ts';
import { randomFrom } from '../composed-stream.ts';
import { opencodeId as idOf } from '../turn/opencode-sample.ts';
import { CONTENT, OpencodeDatabase, toolData, turnData, WRITTEN_MS } from './opencode-database.ts';

const ALL = { sinceMs: 0, busyMs: 0 };
const pagesOf = (file: string, range = ALL) => [...readHistory(file, range)];
const payloadsOf = (file: string, range = ALL) => pagesOf(file, range).flatMap(({ payloads }) => payloads);
/** As the bridge reads what is posted to it. */
const decodedOf = (file: string) =>
  payloadsOf(file).flatMap((payload) => decodeHook('opencode', JSON.parse(JSON.stringify(payload)), {}));
const eventsOf = (file: string): StatedEvent[] =>
  decodedOf(file).flatMap((decoded) => (decoded.type === 'event' ? [decoded.event] : []));
const turnsOf = (file: string) => eventsOf(file).flatMap((event) => (event.kind === 'turn' ? [event] : []));
const refusedOf = (file: string) =>
  decodedOf(file).flatMap((decoded) => (decoded.type === 'rejected' ? [decoded.detail] : []));

const withText = (found: string, instead: string) => JSON.stringify(turnData()).replace(found, instead);

/** A turn of this data, and a sound one after it. */
function withTurn(t: TestContext, data: object | string, updated?: bigint | string): string {
  const database = new OpencodeDatabase(t);
  database.session('ses_1');
  database.message('msg_1', 'ses_1', data, updated);
  database.message('msg_2', 'ses_1', turnData());
  return database.file;
}

test('a row that nobody expects is refused alone, and counted', async (t) => {
  const cases: readonly [name: string, data: object | string, refused: RegExp][] = [
    ['tokens beyond what a number holds', withText('"input":10', '"input":9007199254740993'), /tokens\.input/],
    ['a cost that is true is not 1', turnData({ cost: true }), /cost/],
    ['an infinite cost', withText('"cost":0.001', '"cost":1e999'), /cost/],
    ['a negative cost', turnData({ cost: -1 }), /cost/],
    ['half a token', turnData({ tokens: { input: 0.5, output: 1 } }), /tokens\.input/],
    ['a token that is true', turnData({ tokens: { input: true, output: 1 } }), /tokens\.input/],
    ['tokens that are a text', turnData({ tokens: 'many' }), /tokens: expected an object/],
    ['tokens that are a list', turnData({ tokens: [1, 2] }), /tokens: expected an object/],
    ['a provider that has parts', turnData({ providerID: { name: CONTENT } }), /providerID/],
    ['a model that is a book', turnData({ modelID: CONTENT.repeat(1e5) }), /modelID/],
    ['a time before there were agents', turnData({ time: { created: 1, completed: 2 } }), /time\.created/],
    ['no time', turnData({ time: { completed: WRITTEN_MS } }), /time\.created: missing/],
    ['no JSON', `{"role":"assistant",${CONTENT}`, /role: missing/],
  ];
  for (const [name, data, refused] of cases) {
    await t.test(name, (t) => {
      const file = withTurn(t, data);
      const [detail, ...more] = refusedOf(file);
      assert.match(detail ?? 'nothing was refused', refused);
      assert.deepEqual(more, []);
      assert.deepEqual(
        turnsOf(file).map(({ messageId }) => messageId),
        ['msg_2'],
      );
      assert.ok(JSON.stringify(payloadsOf(file)).length < 10_000, 'however long it is');
      assert.ok(!JSON.stringify(payloadsOf(file)).includes(CONTENT));
    });
  }
  await t.test('when it was written is beyond what a number holds, or a text', (t) => {
    for (const updated of [9_007_199_254_740_993n, 'yesterday'] as const) {
      assert.equal(turnsOf(withTurn(t, turnData(), updated)).length, 2);
    }
  });
  await t.test('control: words of JavaScript itself are nothing special', (t) => {
    const [turn] = turnsOf(withTurn(t, withText('{', '{"__proto__":{"cost":5},"constructor":1,')));
    assert.equal(turn!.costNano, 1_000_000);
  });
});

test('whatever a row holds, each is told or refused, and no content comes out', (t) => {
  const random = randomFrom(7);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  const values = [
    null,
    true,
    0,
    -1,
    1.5,
    1e308,
    2 ** 53,
    '',
    ' ',
    '1e999',
    '0x10',
    '\0',
    '\ud800',
    'x'.repeat(300),
    [],
    [1],
    {},
  ];
  const responseBody = JSON.stringify({ error: { type: 'overloaded_error', message: CONTENT } });
  const error = { name: 'APIError', data: { message: CONTENT, statusCode: 529, isRetryable: true, responseBody } };
  /** With some fields, at any depth, removed or replaced; once in a while cut or garbled as a text. */
  const mutated = (data: object): string => {
    const copy = structuredClone(data) as Record<string, unknown>;
    for (let changes = Math.ceil(random() * 3); changes > 0; changes--) {
      let at = copy;
      let name = pick(Object.keys(at));
      for (let next = at[name]; random() < 0.6 && isObject(next) && Object.keys(next).length > 0; next = at[name]) {
        at = next;
        name = pick(Object.keys(at));
      }
      if (random() < 0.3) delete at[name];
      else at[name] = pick(values);
      if (Object.keys(copy).length === 0) break;
    }
    const text = JSON.stringify(copy);
    const cut = Math.floor(random() * text.length);
    return random() < 0.1 ? text.slice(0, cut) + pick(['', '"', '{', '\\', '1e9999']) + text.slice(cut + 1) : text;
  };
  const database = new OpencodeDatabase(t);
  database.session('ses_1');
  database.db.exec('BEGIN');
  const ROWS = 3000;
  for (let n = 0; n < ROWS; n++) {
    database.message(`msg_${n}`, 'ses_1', mutated({ ...turnData({ error }), summary: CONTENT }));
    database.part(`prt_${n}`, `msg_${n}`, 'ses_1', mutated({ ...toolData(`call_${n}`), title: CONTENT }));
  }
  database.db.exec('COMMIT');
  const types = Object.groupBy(decodedOf(database.file), ({ type }) => type);
  assert.ok(types.event!.length > ROWS / 3 && types.rejected!.length > ROWS / 3, 'both happen');
  assert.equal(types.ignored, undefined);
  assert.ok(!JSON.stringify(pagesOf(database.file)).includes(CONTENT));
});

test('costs are read as they were written, to the nano-dollar', (t) => {
  const database = new OpencodeDatabase(t);
  database.session('ses_1');
  const costs = ['3.75e-8', '0.0000000375', '1.1e-9', '0.1', '0.30000000000000004', '1234.567890123', '5E-10', '-0.0'];
  for (const [at, cost] of costs.entries()) {
    database.message(`msg_${at}`, 'ses_1', withText('"cost":0.001', `"cost":${cost}`));
  }
  const read = turnsOf(database.file).map(({ costNano }) => costNano);
  assert.deepEqual(
    read,
    costs.map((cost) => Math.round(Number(cost) * 1e9) + 0),
  );
});

test('what belongs to what is told as the plugin tells it', (t) => {
  const database = new OpencodeDatabase(t);
  const [parent, child] = [idOf('ses', WRITTEN_MS), idOf('ses', WRITTEN_MS + 5000)];
  const asks = idOf('msg', WRITTEN_MS + 1000);
  const does = idOf('msg', WRITTEN_MS + 6000);
  database.session(parent);
  database.session(child, { parent });
  const bornAt = (ms: number, parentID: string) =>
    turnData({ parentID, time: { created: WRITTEN_MS + ms, completed: WRITTEN_MS + ms + 1000 } });
  // The call that started the sub-agent is written last.
  database.message(does, child, bornAt(6000, 'msg_task'), WRITTEN_MS + 7000);
  database.message(asks, parent, bornAt(1000, 'msg_prompt'), WRITTEN_MS + 9000);
  database.part('prt_1', asks, parent, toolData('call_1'));
  const events = eventsOf(database.file);
  assert.deepEqual(
    events.map((event) => [event.kind, event.sessionId]),
    [
      ['session', parent],
      ['turn', parent],
      ['tool', parent],
      ['session', child],
      ['turn', child],
    ],
    'a session after the call that started it, and before its own',
  );
  assert.deepEqual(
    events.map((event) =>
      event.kind === 'turn' ? event.promptId : event.kind === 'session' ? event.parentSessionId : '',
    ),
    [undefined, 'msg_prompt', '', parent, 'msg_task'],
  );
});

test('a message with any number of tool calls comes in pages that a body can hold', (t) => {
  const database = new OpencodeDatabase(t);
  database.session('ses_1');
  database.message('msg_1', 'ses_1', turnData());
  database.db.exec('BEGIN');
  for (let at = 0; at < 12_000; at++) database.part(`prt_${at}`, 'msg_1', 'ses_1', toolData(`call_${at}`));
  database.db.exec('COMMIT');
  const pages = pagesOf(database.file);
  assert.ok(pages.every(({ payloads }) => payloads.length <= 150));
  assert.equal(
    pages.reduce((sum, { payloads }) => sum + payloads.length, 0),
    12_002,
  );
  assert.equal(
    pages.reduce((sum, { turns }) => sum + turns, 0),
    1,
  );
});

test('what is passed over is passed over in steps, too', (t) => {
  const database = new OpencodeDatabase(t);
  database.session('ses_1');
  database.db.exec('BEGIN');
  for (let at = 0; at < 12_000; at++) database.message(`msg_${at}`, 'ses_1', turnData());
  database.message('msg_last', 'ses_1', turnData(), WRITTEN_MS + 1);
  database.db.exec('COMMIT');
  const pages = pagesOf(database.file, { ...ALL, sinceMs: WRITTEN_MS + 1 });
  assert.ok(pages.length > 2, 'whoever else waits has had a turn in between');
  assert.equal(
    pages.reduce((sum, { turns }) => sum + turns, 0),
    1,
  );
  const passed = pages.map((page) => page.passed);
  assert.deepEqual(
    passed,
    passed.toSorted((a, b) => a - b),
  );
  assert.equal(passed.at(-1), countMessages(database.file, ALL));
});

test('only what has ended, of every session that is there', (t) => {
  const database = new OpencodeDatabase(t);
  for (const id of ['ses_1', 'ses_2', 'ses_3']) database.session(id);
  database.db.exec(`UPDATE session SET time_archived = ${WRITTEN_MS} WHERE id = 'ses_2'`);
  database.message('msg_1', 'ses_1', turnData({ time: { created: WRITTEN_MS }, finish: undefined }));
  database.message('msg_2', 'ses_1', turnData({ time: { created: WRITTEN_MS } }));
  database.message('msg_3', 'ses_1', { role: 'user', time: { created: WRITTEN_MS }, summary: { diffs: [CONTENT] } });
  database.message('msg_4', 'ses_2', turnData());
  database.message('msg_5', 'ses_3', turnData());
  database.db.exec("DELETE FROM session WHERE id = 'ses_3'");
  database.db.exec('PRAGMA foreign_keys = OFF');
  database.message('msg_6', 'ses_gone', turnData());
  assert.deepEqual(
    turnsOf(database.file).map(({ messageId, phase, project }) => [messageId, phase, project]),
    [
      ['msg_2', 'finished', 'shop'],
      ['msg_4', 'completed', 'shop'],
      ['msg_6', 'completed', 'shop'],
    ],
  );
});

test('a database that cannot be read now is tried again', async (t) => {
  for (const journal of ['wal', 'delete']) {
    await t.test(`${journal}: locked by whoever writes to it`, (t) => {
      const database = new OpencodeDatabase(t, { journal });
      database.session('ses_1');
      database.message('msg_1', 'ses_1', turnData());
      assert.equal(turnsOf(database.file).length, 1, 'control');
      database.db.exec('PRAGMA locking_mode = exclusive; BEGIN EXCLUSIVE');
      database.message('msg_2', 'ses_1', turnData());
      assert.throws(() => payloadsOf(database.file), RetryableFailure);
      database.db.exec('COMMIT; PRAGMA locking_mode = normal; SELECT 1 FROM message');
      assert.equal(turnsOf(database.file).length, 2);
    });
  }
  await t.test('not while somebody writes to it beside', (t) => {
    const database = new OpencodeDatabase(t);
    database.session('ses_1');
    database.message('msg_1', 'ses_1', turnData());
    database.db.exec('BEGIN IMMEDIATE');
    database.message('msg_2', 'ses_1', turnData());
    assert.equal(turnsOf(database.file).length, 1, 'what is committed');
    database.db.exec('COMMIT');
    assert.equal(turnsOf(database.file).length, 2);
  });
});

test('a link leads to the database and to its log', (t) => {
  const database = new OpencodeDatabase(t);
  database.session('ses_1');
  database.message('msg_1', 'ses_1', turnData());
  const link = path.join(path.dirname(database.file), 'link.db');
  symlinkSync(database.file, link);
  assert.equal(turnsOf(link).length, 1, 'what is in the log only');
});

test('nothing is written, not even beside it', (t) => {
  for (const journal of ['wal', 'delete']) {
    const database = new OpencodeDatabase(t, { journal });
    database.session('ses_1');
    database.message('msg_1', 'ses_1', turnData());
    database.db.close();
    const { mtimeMs } = statSync(database.file);
    assert.equal(turnsOf(database.file).length, 1);
    assert.deepEqual(readdirSync(path.dirname(database.file)), ['opencode.db']);
    assert.equal(statSync(database.file).mtimeMs, mtimeMs);
  }
});

test('a log that cannot be read is told, with what to do', (t) => {
  const database = new OpencodeDatabase(t);
  database.session('ses_1');
  database.db.close();
  mkdirSync(`${database.file}-wal`);
  assert.throws(() => payloadsOf(database.file), /unable to open.*name a copy of both with --db/);
});

test('damage and other forms are told, and nothing of what was said', async (t) => {
  const damaged = (t: TestContext) => {
    const database = new OpencodeDatabase(t);
    database.session('ses_1');
    for (let at = 0; at < 500; at++) database.message(`msg_${at}`, 'ses_1', turnData({ mode: CONTENT.repeat(20) }));
    database.db.close();
    const descriptor = openSync(database.file, 'r+');
    for (let page = 8; page < 60; page++) writeSync(descriptor, Buffer.alloc(4096, 0xa5), 0, 4096, page * 4096);
    closeSync(descriptor);
    return database.file;
  };
  const without = (table: string, column: string) => (t: TestContext) => {
    const database = new OpencodeDatabase(t);
    database.db.exec(`ALTER TABLE ${table} RENAME COLUMN ${column} TO other`);
    return database.file;
  };
  const cases: readonly [name: string, file: (t: TestContext) => string, said: RegExp][] = [
    ['overwritten pages', damaged, /malformed/],
    ['no column data', without('message', 'data'), /there is no message\.data/],
    ['no column parent_id', without('session', 'parent_id'), /there is no session\.parent_id/],
    ['a folder', (t) => path.dirname(new OpencodeDatabase(t).file), /cannot be read as a database/],
    [
      'a pipe',
      (t) => {
        const pipe = path.join(path.dirname(new OpencodeDatabase(t).file), 'pipe.db');
        execFileSync('mkfifo', [pipe]);
        return pipe;
      },
      /it is no file/,
    ],
    ['no file', () => '/nowhere/opencode.db', /^There is no database of OpenCode at/],
    [
      'an empty file',
      (t) => {
        const { file } = new OpencodeDatabase(t);
        const empty = path.join(path.dirname(file), 'empty.db');
        closeSync(openSync(empty, 'w'));
        return empty;
      },
      /there is no session\.id/,
    ],
  ];
  for (const [name, file, said] of cases) {
    await t.test(name, (t) => {
      assert.throws(
        () => payloadsOf(file(t)),
        (error: unknown) => {
          assert.ok(error instanceof PermanentFailure);
          assert.match(error.message, said);
          assert.ok(!error.message.includes(CONTENT));
          return true;
        },
      );
    });
  }
});

test('a column more is no other form', (t) => {
  const database = new OpencodeDatabase(t);
  database.db.exec('ALTER TABLE message ADD COLUMN newer text; ALTER TABLE session ADD COLUMN newer text');
  database.db.exec(
    "INSERT INTO session SELECT 'ses_1', 'p', NULL, NULL, '', '/x/shop', NULL, '', '', NULL, 1, 1, NULL, NULL",
  );
  database.db
    .prepare('INSERT INTO message VALUES (?, ?, 1, 1, ?, NULL)')
    .run('msg_1', 'ses_1', JSON.stringify(turnData()));
  assert.equal(turnsOf(database.file).length, 1);
});
