import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import { parseConfig } from '../../src/config.ts';
import type { Credential } from '../../src/poll/credential.ts';
import { type Account, findAccounts, isPolled } from '../../src/poll/detect.ts';

const ZEN = ['sk', 'EXAMPLE', 'zen'].join('-');
const GO = ['sk', 'EXAMPLE', 'go'].join('-');
const ENV = ['sk', 'EXAMPLE', 'env'].join('-');
const OTHER = ['sk', 'EXAMPLE', 'other'].join('-');

const LINUX_FILE = '.local/share/opencode/auth.json';
const MAC_FILE = 'Library/Application Support/opencode/auth.json';

function makeHome(t: TestContext): string {
  const home = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-detect-'));
  t.after(() => rmSync(home, { recursive: true }));
  return home;
}

function put(home: string, name: string, content: unknown, mode = 0o600): string {
  const file = path.join(home, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  chmodSync(file, mode);
  return file;
}

interface Place {
  readonly home: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly platform?: NodeJS.Platform;
  readonly config?: unknown;
}

function find({ home, env = {}, platform = 'linux', config = {} }: Place) {
  return findAccounts({ config: parseConfig(config), env, home, platform });
}

const secretOf = (credential: Credential | undefined) => {
  const secret = credential?.read();
  return secret?.type === 'found' ? secret.secret : undefined;
};
const shown = ({ provider, id, foundIn, key, goKey }: Account) => [
  provider,
  id,
  foundIn,
  secretOf(key),
  secretOf(goKey),
];
const api = (key: string) => ({ type: 'api', key });

test('variables: OPENCODE_API_KEY first, then ZEN_API_KEY, blanks are unset', (t) => {
  const home = makeHome(t);
  const cases: [NodeJS.ProcessEnv, [string, string] | undefined, number][] = [
    [{}, undefined, 0],
    [{ OPENCODE_API_KEY: ENV }, ['OPENCODE_API_KEY', ENV], 0],
    [{ ZEN_API_KEY: OTHER }, ['ZEN_API_KEY', OTHER], 0],
    [{ OPENCODE_API_KEY: ENV, ZEN_API_KEY: ENV }, ['OPENCODE_API_KEY', ENV], 0],
    [{ OPENCODE_API_KEY: ENV, ZEN_API_KEY: OTHER }, ['OPENCODE_API_KEY', ENV], 1],
    [{ OPENCODE_API_KEY: '', ZEN_API_KEY: OTHER }, ['ZEN_API_KEY', OTHER], 0],
    [{ OPENCODE_API_KEY: ' \n', ZEN_API_KEY: ` ${OTHER}\n` }, ['ZEN_API_KEY', OTHER], 0],
    [{ OPENCODE_API_KEY: ' ', ZEN_API_KEY: '' }, undefined, 0],
  ];
  for (const [env, expected, notes] of cases) {
    const found = find({ home, env });
    const accounts = expected ? [['opencode', 'opencode', ...expected, undefined]] : [];
    assert.deepEqual(found.accounts.map(shown), accounts, Object.keys(env).join());
    assert.equal(found.notes.length, notes);
  }
});

test('auth.json: API keys only, Zen before Go, one account for both', (t) => {
  const oauth = { type: 'oauth', refresh: ZEN, access: ZEN, expires: 1790000000000 };
  const cases: [string, unknown, [string | undefined, string | undefined] | undefined][] = [
    ['zen', { opencode: api(ZEN) }, [ZEN, undefined]],
    ['go', { 'opencode-go': api(GO) }, [GO, GO]],
    ['both', { 'opencode-go': api(GO), opencode: api(ZEN) }, [ZEN, GO]],
    ['trimmed', { opencode: api(` ${ZEN}\n`) }, [ZEN, undefined]],
    ['oauth is skipped', { opencode: oauth, 'opencode-go': api(GO), anthropic: oauth }, [GO, GO]],
    ['only oauth', { opencode: oauth }, undefined],
    ['wellknown with a key', { opencode: { type: 'wellknown', key: ZEN } }, undefined],
    ['others only', { openrouter: api(OTHER) }, undefined],
    ['empty key', { opencode: api(' ') }, undefined],
    ['a bad entry harms no other', { opencode: null, anthropic: 5, 'opencode-go': api(GO) }, [GO, GO]],
    ['key of another type', { opencode: { type: 'api', key: 5 } }, undefined],
    ['empty', {}, undefined],
  ];
  for (const [name, content, expected] of cases) {
    const home = makeHome(t);
    put(home, LINUX_FILE, content);
    const found = find({ home });
    const accounts = expected ? [['opencode', 'opencode', 'auth.json', ...expected]] : [];
    assert.deepEqual(found.accounts.map(shown), accounts, name);
    assert.deepEqual(found.notes, [], name);
  }
});

test('auth.json: the first place that has one is used alone', (t) => {
  const place = (files: Record<string, unknown>) => {
    const home = makeHome(t);
    for (const [name, content] of Object.entries(files)) put(home, name, content);
    return home;
  };
  const XDG_FILE = 'xdg/opencode/auth.json';
  const a = { opencode: api(ZEN) };
  const b = { opencode: api(OTHER) };
  const cases: [Record<string, unknown>, boolean, NodeJS.Platform, string | undefined][] = [
    [{ [XDG_FILE]: a, [LINUX_FILE]: b }, true, 'linux', ZEN],
    [{ [LINUX_FILE]: b }, true, 'linux', OTHER],
    [{ [XDG_FILE]: {}, [LINUX_FILE]: b }, true, 'linux', undefined],
    [{ [XDG_FILE]: 'broken', [LINUX_FILE]: b }, true, 'linux', undefined],
    [{ [XDG_FILE]: a, [LINUX_FILE]: b }, false, 'linux', OTHER],
    [{ [LINUX_FILE]: a, [MAC_FILE]: b }, false, 'darwin', ZEN],
    [{ [MAC_FILE]: b }, false, 'darwin', OTHER],
    [{ [MAC_FILE]: b }, false, 'linux', undefined],
  ];
  cases.forEach(([files, hasXdg, platform, expected], index) => {
    const home = place(files);
    const env = hasXdg ? { XDG_DATA_HOME: path.join(home, 'xdg') } : { XDG_DATA_HOME: ' ' };
    assert.equal(secretOf(find({ home, platform, env }).accounts[0]?.key), expected, `case ${index}`);
  });
});

test('a variable wins over auth.json, whose Go key stays a candidate', (t) => {
  const home = makeHome(t);
  put(home, LINUX_FILE, { opencode: api(ZEN), 'opencode-go': api(GO) });
  const { accounts } = find({ home, env: { ZEN_API_KEY: ENV } });
  assert.deepEqual(accounts.map(shown), [['opencode', 'opencode', 'ZEN_API_KEY', ENV, GO]]);
  assert.equal(accounts[0]?.key?.place, 'ZEN_API_KEY');
});

test('keys are read when they are asked for', (t) => {
  const home = makeHome(t);
  put(home, LINUX_FILE, { opencode: api(ZEN) });
  const keyFile = put(home, 'key', `${OTHER}\n`);
  const { accounts } = find({
    home,
    config: { accounts: [{ id: 'work', provider: 'opencode', api_key_file: keyFile }] },
  });
  assert.deepEqual(
    accounts.map((account) => [account.id, secretOf(account.key), secretOf(account.goKey)]),
    [
      ['work', OTHER, undefined],
      ['opencode', ZEN, undefined],
    ],
  );
  const [work, detected] = accounts as [Account, Account];
  put(home, LINUX_FILE, { opencode: api(ENV), 'opencode-go': api(GO) });
  put(home, 'key', GO);
  assert.deepEqual([secretOf(work.key), secretOf(detected.key), secretOf(detected.goKey)], [GO, ENV, GO]);
  put(home, LINUX_FILE, '{"opencode": half');
  put(home, 'key', '\n');
  assert.deepEqual(
    [secretOf(work.key), secretOf(detected.key), secretOf(detected.goKey)],
    [undefined, undefined, undefined],
  );
  rmSync(path.join(home, LINUX_FILE));
  rmSync(keyFile);
  assert.deepEqual(
    [secretOf(work.key), secretOf(detected.key), secretOf(detected.goKey)],
    [undefined, undefined, undefined],
  );
});

test('configured accounts come first and win by id', (t) => {
  const home = makeHome(t);
  const env = { OPENCODE_API_KEY: ENV, WORK_KEY: ` ${OTHER} ` };
  const ids = (config: unknown) =>
    find({ home, env, config }).accounts.map(({ id, foundIn, baseUrl, key }) => [id, foundIn, baseUrl, secretOf(key)]);
  const work = { id: 'work', provider: 'opencode', api_key_env: 'WORK_KEY' };

  assert.deepEqual(ids({ accounts: [work] }), [
    ['work', 'tollbridge.yaml', undefined, OTHER],
    ['opencode', 'OPENCODE_API_KEY', undefined, ENV],
  ]);
  assert.deepEqual(ids({ accounts: [work], detect: false }), [['work', 'tollbridge.yaml', undefined, OTHER]]);
  assert.deepEqual(ids({ accounts: [{ ...work, id: 'opencode', base_url: 'https://zen.example.com' }] }), [
    ['opencode', 'tollbridge.yaml', 'https://zen.example.com', OTHER],
  ]);
  assert.deepEqual(
    ids({ accounts: [{ ...work, api_key_env: 'OPENCODE_API_KEY' }] }),
    [['work', 'tollbridge.yaml', undefined, ENV]],
    'the same key is not polled as two accounts',
  );
  assert.deepEqual(
    ids({ accounts: [{ id: 'opencode', provider: 'opencode' }] }),
    [['opencode', 'tollbridge.yaml', undefined, ENV]],
    'the detected id without a key of its own takes the detected key',
  );
  const without = { accounts: [{ id: 'opencode', provider: 'opencode' }], detect: false };
  assert.deepEqual(ids(without), [['opencode', 'tollbridge.yaml', undefined, undefined]]);
  assert.match(find({ home, env, config: without }).accounts[0]?.key?.remedy ?? '', /api_key_env or api_key_file/);
});

test('accounts of other providers are kept for their turns, with a note, and take nobody’s place', (t) => {
  const home = makeHome(t);
  const config = {
    accounts: [
      { id: 'team', provider: 'anthropic', api_key_env: 'OPENCODE_API_KEY' },
      { id: 'opencode', provider: 'openai' },
      { id: 'go', provider: 'opencode-go', api_key_env: 'GO_KEY', console_key_env: 'CONSOLE_KEY' },
    ],
  };
  const { accounts, notes } = find({ home, env: { OPENCODE_API_KEY: ENV, GO_KEY: GO }, config });
  assert.deepEqual(
    accounts.map((account) => [account.provider, account.id, isPolled(account)]),
    [
      ['anthropic', 'team', false],
      ['openai', 'opencode', false],
      ['opencode-go', 'go', true],
      ['opencode', 'opencode', true],
    ],
  );
  assert.deepEqual(notes, [
    'account "team" (anthropic) labels turns only: this version polls OpenCode accounts and no others.',
    'account "opencode" (openai) labels turns only: this version polls OpenCode accounts and no others.',
  ]);
});

test('files that others can touch are refused, with the way to close them', (t) => {
  for (const mode of [0o600, 0o400, 0o640, 0o604, 0o620, 0o644]) {
    const home = makeHome(t);
    put(home, LINUX_FILE, { opencode: api(ZEN) }, mode);
    const file = put(home, 'key', OTHER, mode);
    const config = { accounts: [{ id: 'work', provider: 'opencode', api_key_file: file }] };
    const { accounts, notes } = find({ home, config });
    const isOpen = (mode & 0o077) !== 0;
    assert.deepEqual(
      accounts.map(({ key }) => secretOf(key)),
      isOpen ? [undefined] : [OTHER, ZEN],
    );
    const expected = isOpen ? ["OpenCode's ~/.local/share", 'The api_key_file of account "work"'] : [];
    assert.equal(notes.length, expected.length);
    expected.forEach((start, index) => {
      assert.ok(notes[index]?.startsWith(start) && notes[index]?.endsWith('chmod 600.'), notes[index]);
    });
    if (isOpen) assert.equal(accounts[0]?.key?.read().type, 'unusable');
  }
});

test('files that cannot be used are told of, and never waited for', (t) => {
  const cases: [string, (file: string) => void, RegExp | undefined][] = [
    ['missing', () => {}, undefined],
    ['a folder', (file) => mkdirSync(file, { recursive: true }), /is not a regular file|EISDIR/],
    ['a pipe', (file) => execFileSync('mkfifo', [file]), /is not a regular file/],
    ['too large', (file) => writeFileSync(file, ' '.repeat(1024 * 1024 + 1), { mode: 0o600 }), /is larger than 1 MiB/],
    ['not JSON', (file) => writeFileSync(file, `{"opencode": ${ZEN}`, { mode: 0o600 }), /is not valid JSON/],
    ['a list', (file) => writeFileSync(file, `["${ZEN}"]`, { mode: 0o600 }), /is not valid JSON/],
    ['empty', (file) => writeFileSync(file, '', { mode: 0o600 }), /is not valid JSON/],
  ];
  for (const [name, make, expected] of cases) {
    const home = makeHome(t);
    const file = path.join(home, LINUX_FILE);
    mkdirSync(path.dirname(file), { recursive: true });
    make(file);
    const { accounts, notes } = find({ home });
    assert.deepEqual(accounts, [], name);
    assert.equal(notes.length, expected ? 1 : 0, name);
    if (expected) assert.match(notes[0] ?? '', expected, name);
    assert.equal(
      notes.some((note) => note.includes(home) || note.includes(ZEN)),
      false,
      name,
    );
  }
});

test('a file without the right to read it', { skip: process.getuid?.() === 0 && 'root may read everything' }, (t) => {
  const home = makeHome(t);
  put(home, LINUX_FILE, { opencode: api(ZEN) }, 0o000);
  const { accounts, notes } = find({ home });
  assert.deepEqual(accounts, []);
  assert.match(notes.join(), /cannot be read \(EACCES\)/);
});

test('a key file that is not there is told of', (t) => {
  const home = makeHome(t);
  const config = { accounts: [{ id: 'work', provider: 'opencode', api_key_file: path.join(home, 'gone') }] };
  const { accounts, notes } = find({ home, config });
  assert.equal(secretOf(accounts[0]?.key), undefined);
  assert.match(notes.join(), /^The api_key_file of account "work" \(opencode\) is not there or empty\./);
  assert.equal(notes.join().includes(home), false);
});

test('an account shows no key as text, as JSON or when inspected, and its keys can be read after a spread', (t) => {
  const home = makeHome(t);
  put(home, LINUX_FILE, { opencode: api(ZEN), 'opencode-go': api(GO) });
  const file = put(home, 'key', OTHER);
  const config = { accounts: [{ id: 'work', provider: 'opencode', api_key_file: file }] };
  for (const env of [{}, { OPENCODE_API_KEY: ENV, ZEN_API_KEY: OTHER }]) {
    const found = find({ home, env, config });
    assert.equal(found.accounts.length, 2);
    for (const account of found.accounts) account.key?.read();
    const texts = [JSON.stringify(found), String(found.accounts), inspect(found, { depth: 9, showHidden: true })];
    for (const text of texts) assert.doesNotMatch(text, /sk-EXAMPLE/);
    assert.ok(secretOf({ ...found.accounts[1] }.key));
  }
});
