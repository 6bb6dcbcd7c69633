// The files in which OpenCode keeps credentials; its database in the schema that a real OpenCode made.

import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import { parseConfig } from '../../src/config.ts';
import { findAccounts } from '../../src/poll/detect.ts';
import { inOpencodeDatabase } from '../../src/poll/opencode-files.ts';

const TOKEN = ['st', 'EXAMPLE', 'session'].join('_');
const SERVICE = ['oc', 'sk', 'EXAMPLE', 'service'].join('_');
const ORG = 'wrk_01EXAMPLE0000000000000000';
const SERVER = 'https://opencode.ai/console';
const FILE = '.local/share/opencode/opencode.db';

const SCHEMA = `CREATE TABLE credential (
  id text PRIMARY KEY, integration_id text, label text NOT NULL, value text NOT NULL, connector_id text, method_id text,
  active integer, time_created integer NOT NULL, time_updated integer NOT NULL)`;

const session = (access = TOKEN, metadata: object = { server: SERVER, orgID: ORG, email: 'ada@example.com' }) => ({
  ...{ type: 'oauth', methodID: 'device', access, refresh: 'rt_EXAMPLE', expires: 1, metadata },
});
const service = { type: 'key', key: SERVICE };

interface Row {
  readonly value: unknown;
  readonly integration?: string;
  readonly updated?: number;
}

function home(t: TestContext): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-files-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A database with these credentials, open still when `isOpen`. */
function database(t: TestContext, at: string, rows: readonly Row[], { mode = 0o600, isOpen = false } = {}) {
  const file = path.join(at, FILE);
  mkdirSync(path.dirname(file), { recursive: true });
  const db = new DatabaseSync(file);
  db.exec('PRAGMA journal_mode = WAL');
  db.exec(SCHEMA);
  rows.forEach(({ value, integration = 'opencode', updated = 1 }, index) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    db.prepare('INSERT INTO credential VALUES (?, ?, ?, ?, NULL, NULL, 1, 1, ?)').run(
      `${index}`,
      integration,
      'x',
      text,
      updated,
    );
  });
  if (isOpen) t.after(() => db.close());
  else db.close();
  for (const name of readdirSync(path.dirname(file))) chmodSync(path.join(path.dirname(file), name), mode);
  return file;
}

const readAt = (at: string, env: NodeJS.ProcessEnv = {}) =>
  inOpencodeDatabase({ env, home: at, platform: 'linux' }).read();

test('the credential for the console: a service key before a session, the newest of each', (t) => {
  const found = (secret: string, more: object = {}) => ({ type: 'found', secret, ...more });
  const ofSession = { orgId: ORG, issuer: SERVER };
  const cases: [string, readonly Row[], object][] = [
    ['a session', [{ value: session() }], found(TOKEN, ofSession)],
    ['a service key', [{ value: service }], found(SERVICE)],
    ['both', [{ value: session(), updated: 9 }, { value: service }], found(SERVICE)],
    [
      'two sessions',
      [
        { value: session('old'), updated: 1 },
        { value: session('new'), updated: 2 },
      ],
      found('new', ofSession),
    ],
    ['a session without metadata', [{ value: session(TOKEN, {}) }], found(TOKEN)],
    ['odd metadata', [{ value: { ...session(), metadata: 5 } }], found(TOKEN)],
    ['of another integration', [{ value: session(), integration: 'github' }], { type: 'absent' }],
    ['of another type', [{ value: { type: 'wellknown', token: TOKEN } }], { type: 'absent' }],
    ['an empty key', [{ value: { type: 'key', key: '' } }], { type: 'absent' }],
    ['no JSON', [{ value: TOKEN }], { type: 'absent' }],
    ['a bad row harms no other', [{ value: '{', updated: 5 }, { value: session() }], found(TOKEN, ofSession)],
    ['none', [], { type: 'absent' }],
  ];
  for (const [name, rows, expected] of cases) {
    const at = home(t);
    database(t, at, rows);
    assert.deepEqual(readAt(at), expected, name);
  }
  assert.deepEqual(readAt(home(t)), { type: 'absent' }, 'no file');
});

test('it is only read: nothing is written, not even beside it, and a writer is not disturbed', (t) => {
  const at = home(t);
  const file = database(t, at, [{ value: session() }]);
  const before = statSync(file);
  assert.equal(readAt(at).type, 'found');
  assert.deepEqual(readdirSync(path.dirname(file)), ['opencode.db']);
  assert.deepEqual([statSync(file).mtimeMs, statSync(file).size], [before.mtimeMs, before.size]);

  const busy = home(t);
  database(t, busy, [{ value: session() }], { isOpen: true });
  assert.equal(readAt(busy).type, 'found', 'what is in the log beside it is read too');
});

test('one that others can read is refused, with the way to close it; without a credential it is nobody’s business', (t) => {
  for (const mode of [0o644, 0o640, 0o604]) {
    const at = home(t);
    database(t, at, [{ value: session() }], { mode });
    const secret = readAt(at);
    assert.equal(secret.type, 'unusable');
    assert.match(
      secret.type === 'unusable' ? secret.problem : '',
      /^OpenCode's ~\/\.local\/share\/opencode\/opencode\.db holds a console credential .*close it with chmod 600 ~\/.*\*$/,
    );
    const { accounts, notes } = findAccounts({ config: parseConfig({}), env: {}, home: at, platform: 'linux' });
    assert.deepEqual([accounts.length, notes.length], [1, 1]);
    const empty = home(t);
    database(t, empty, [], { mode });
    assert.deepEqual(readAt(empty), { type: 'absent' });
  }
  const logOpen = home(t);
  const file = database(t, logOpen, [{ value: session() }], { isOpen: true });
  chmodSync(`${file}-wal`, 0o644);
  assert.equal(readAt(logOpen).type, 'unusable');
  const linked = home(t);
  mkdirSync(path.dirname(path.join(linked, FILE)), { recursive: true });
  symlinkSync(file, path.join(linked, FILE));
  assert.equal(readAt(linked).type, 'unusable', 'by the log of what a link leads to');
  chmodSync(`${file}-wal`, 0o600);
  assert.equal(readAt(linked).type, 'found');
});

test('what is no database, or an older one, is told without its text', (t) => {
  const at = home(t);
  const file = path.join(at, FILE);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, 'CANARY is no database'.repeat(100), { mode: 0o600 });
  const secret = readAt(at);
  assert.match(secret.type === 'unusable' ? secret.problem : '', /^OpenCode's ~\/.* cannot be read: sign in with/);
  assert.doesNotMatch(JSON.stringify(secret), /CANARY/);
  const older = home(t);
  mkdirSync(path.dirname(path.join(older, FILE)), { recursive: true });
  new DatabaseSync(path.join(older, FILE)).close();
  assert.deepEqual(readAt(older), { type: 'absent' });
});

test('where it is: $OPENCODE_DB, $XDG_DATA_HOME, then the home folder', (t) => {
  const at = home(t);
  const file = database(t, at, [{ value: session() }]);
  const nowhere = home(t);
  assert.equal(readAt(nowhere, { OPENCODE_DB: file }).type, 'found');
  assert.equal(readAt(nowhere, { XDG_DATA_HOME: path.join(at, '.local/share') }).type, 'found');
  assert.equal(readAt(at, { OPENCODE_DB: 'other.db' }).type, 'absent');
  assert.equal(readAt(at, { OPENCODE_DB: 'opencode.db' }).type, 'found');
});

test('an account by sign-in alone; a variable goes before the database; none is shown', (t) => {
  const at = home(t);
  database(t, at, [{ value: session() }]);
  const find = (env: NodeJS.ProcessEnv, config: object = {}) =>
    findAccounts({ config: parseConfig(config), env, home: at, platform: 'linux' }).accounts;
  const [alone] = find({});
  assert.deepEqual(
    [alone?.foundIn, alone?.key, alone?.isConsoleOptional],
    ["OpenCode's database", undefined, undefined],
  );
  const [named] = find({ OPENCODE_CONSOLE_TOKEN: SERVICE });
  assert.deepEqual(
    [named?.foundIn, named?.consoleKey?.read()],
    ['OPENCODE_CONSOLE_TOKEN', { type: 'found', secret: SERVICE }],
  );
  const [both] = find({ OPENCODE_API_KEY: 'sk-EXAMPLE' });
  assert.deepEqual([both?.foundIn, both?.isConsoleOptional], ['OPENCODE_API_KEY', true]);
  const configured = {
    id: 'opencode',
    provider: 'opencode',
    extra: { opencode_workspace_id: `wrk_${'0'.repeat(26)}` },
  };
  const [own] = find({}, { accounts: [{ ...configured, console_key_env: 'MY_KEY' }] });
  assert.deepEqual([own?.consoleKey?.place, own?.workspaceId], ['MY_KEY', `wrk_${'0'.repeat(26)}`]);
  const [inherited] = find({}, { accounts: [configured] });
  assert.equal(inherited?.consoleKey?.read().type, 'found');
  const [cookie] = find({}, { accounts: [{ ...configured, console_cookie_env: 'MY_COOKIE' }] });
  assert.deepEqual([cookie?.consoleCookie?.place, cookie?.consoleKey], ['MY_COOKIE', undefined]);
  for (const account of [alone, named, both, own, inherited, cookie]) {
    const text = JSON.stringify(account) + inspect(account, { depth: 9 });
    assert.doesNotMatch(text, /EXAMPLE|wrk_/);
  }
  assert.deepEqual(find({}, { detect: false }), []);
});
