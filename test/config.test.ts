import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { commandText } from '../src/command-text.ts';
import { ConfigFailure, defaultConfigFile, loadConfig, parseConfig } from '../src/config.ts';
import { PermanentFailure } from '../src/failure.ts';

const SAMPLES = path.join(import.meta.dirname, 'fixtures', 'config');
const XDG_VARIABLES = ['XDG_STATE_HOME', 'XDG_CONFIG_HOME'] as const;
/** macOS ends its kernel's socket paths four bytes sooner, and says so in the message. */
const SOCKET_PATH_MAX_BYTES = process.platform === 'darwin' ? 103 : 107;

function failureOf(action: () => unknown): Error {
  try {
    action();
  } catch (error) {
    return error as Error;
  }
  assert.fail('nothing was thrown');
}

describe('configuration', () => {
  const saved = XDG_VARIABLES.map((name) => [name, process.env[name]] as const);
  let folder = '';

  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-config-'));
    process.env.XDG_STATE_HOME = path.join(folder, 'state');
    process.env.XDG_CONFIG_HOME = path.join(folder, 'config');
  });
  after(() => {
    for (const [name, value] of saved) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    rmSync(folder, { recursive: true, force: true });
  });

  const write = (text: string): string => {
    const file = path.join(folder, 'tollbridge.yaml');
    writeFileSync(file, text);
    return file;
  };

  test('there may be 1000 budgets, and no more', () => {
    const budgets = Array.from({ length: 1001 }, (_, at) => ({ name: `b${at}`, limit_turns: 1, period: 'day' }));
    assert.equal(parseConfig({ budgets: budgets.slice(1) }).budgets.length, 1000, 'control');
    assert.match(failureOf(() => parseConfig({ budgets })).message, /budgets.*expected at most 1000/s);
  });

  test('every key has a default', () => {
    const stateDir = path.join(folder, 'state', 'tollbridge');
    assert.deepEqual(parseConfig({}), {
      state_dir: stateDir,
      time_zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
      metrics: { listen: { host: '127.0.0.1', port: 9464 }, plaintext: false, open: false },
      socket: { enabled: true, path: path.join(stateDir, 'tollbridge.sock') },
      tokens: [],
      sources: {},
      spool: { enabled: true, dir: path.join(stateDir, 'hook-spool') },
      hub: {},
      openusage: { interval: 60_000 },
      import: { opencode: {} },
      detect: true,
      accounts: [],
      poll: { interval: 30_000, console_interval: 300_000, publish: false },
      relay: { queue_max_bytes: 268_435_456 },
      telemetry: { provider_links: {} },
      gateways: {},
      pricing: [],
      labels: {
        project: 'name',
        caps: { model: 200, project: 50, user: 200, tool: 100, mcp_server: 50, series: 20_000 },
      },
      budgets: [],
      caps: [],
      guardrails: [],
      verdict: { fail: 'open' },
      retention: 90 * 86_400_000,
      log: { level: 'info' },
    });
    assert.deepEqual(parseConfig(null), parseConfig({}));
    assert.deepEqual(parseConfig({ metrics: {}, socket: {}, poll: {}, labels: { caps: {} } }), parseConfig({}));
  });

  test('every key can be set', () => {
    const config = loadConfig(
      write(`
state_dir: /srv/toll
time_zone: Europe/Berlin
metrics: { listen: '[::1]:0', token_env: TOLL_TOKEN }
socket: { enabled: true, path: /run/toll/s.sock, group: toll, identity: { team: core, user: ada } }
spool: { enabled: false, dir: /srv/spool }
detect: false
accounts:
  - { id: Main, provider: OpenCode, api_key_file: ~/zen.key, base_url: 'http://127.0.0.1:8080' }
poll: { interval: 1.5s, console_interval: 2m, publish: false }
telemetry: { provider_links: { Cerebras: OpenAI } }
gateways: { LiteLLM: Anthropic, own: { 'gpt-*': openai } }
pricing: [{ provider: own, state: estimated, usd_per_million_tokens: { input: 0.0375, output: 2 } }]
labels: { project: hash, caps: { model: 3 } }
retention: 36h
log: { level: debug }
`),
    );
    assert.equal(config.state_dir, '/srv/toll');
    assert.equal(config.time_zone, 'Europe/Berlin');
    assert.deepEqual(config.metrics, {
      listen: { host: '::1', port: 0 },
      token_env: 'TOLL_TOKEN',
      plaintext: false,
      open: false,
    });
    assert.deepEqual(config.socket.identity, { team: 'core', user: 'ada' });
    assert.equal(config.socket.path, '/run/toll/s.sock');
    assert.deepEqual(config.spool, { enabled: false, dir: '/srv/spool' });
    assert.deepEqual(config.accounts, [
      {
        id: 'Main',
        provider: 'opencode',
        api_key_file: path.join(os.homedir(), 'zen.key'),
        base_url: 'http://127.0.0.1:8080',
        extra: {},
      },
    ]);
    assert.deepEqual(config.poll, { interval: 1500, console_interval: 120_000, publish: false });
    assert.deepEqual(config.telemetry.provider_links, { cerebras: 'openai' });
    assert.deepEqual(config.gateways, { litellm: 'anthropic', own: { 'gpt-*': 'openai' } });
    assert.deepEqual(config.pricing[0], {
      provider: 'own',
      model: '*',
      state: 'estimated',
      usd_per_million_tokens: { input: 0.0375, output: 2 },
    });
    assert.equal(config.labels.caps.model, 3);
    assert.equal(config.labels.caps.project, 50, 'a cap beside it keeps its default');
    assert.equal(config.retention, 36 * 3_600_000);
    assert.equal(config.file, path.join(folder, 'tollbridge.yaml'));
  });

  test('paths follow state_dir, and ~ is the home folder', () => {
    const config = parseConfig({ state_dir: '~/toll' });
    assert.equal(config.state_dir, path.join(os.homedir(), 'toll'));
    assert.equal(config.socket.path, path.join(os.homedir(), 'toll', 'tollbridge.sock'));
    assert.equal(config.spool.dir, path.join(os.homedir(), 'toll', 'hook-spool'));
    assert.equal(parseConfig({ state_dir: 'here' }).state_dir, path.resolve('here'));
    assert.equal(parseConfig({ state_dir: '/a/~b' }).state_dir, '/a/~b', 'only a leading ~/ is the home folder');
  });

  test('a relative folder in an XDG variable is ignored, as that standard asks', () => {
    const before = process.env.XDG_STATE_HOME;
    process.env.XDG_STATE_HOME = 'not/absolute';
    try {
      assert.equal(parseConfig({}).state_dir, path.join(os.homedir(), '.local', 'state', 'tollbridge'));
    } finally {
      process.env.XDG_STATE_HOME = before;
    }
  });

  test('a socket path is measured in bytes, up to the very limit, and only when there is a socket', () => {
    const longest = `/${'a'.repeat(SOCKET_PATH_MAX_BYTES - 1)}`;
    assert.equal(parseConfig({ socket: { path: longest } }).socket.path, longest);
    assert.throws(() => parseConfig({ socket: { path: `${longest}a` } }), ConfigFailure);
    assert.throws(() => parseConfig({ socket: { path: `${longest.slice(1, -1)}é` } }), ConfigFailure);
    assert.doesNotThrow(() => parseConfig({ socket: { enabled: false, path: `${longest}a` } }));
  });

  test('zones of every IANA form are allowed', () => {
    for (const zone of ['UTC', 'Europe/Berlin', 'America/Argentina/Buenos_Aires', 'Etc/GMT+5', 'EST5EDT']) {
      assert.equal(parseConfig({ time_zone: zone }).time_zone, zone);
    }
    for (const zone of ['+05:37', '-0800', '+08']) assert.throws(() => parseConfig({ time_zone: zone }), ConfigFailure);
  });

  test('the limits themselves are allowed', () => {
    assert.equal(parseConfig({ poll: { interval: '1s' } }).poll.interval, 1000);
    assert.equal(parseConfig({ poll: { interval: '24h' } }).poll.interval, 86_400_000);
    assert.equal(parseConfig({ retention: '1d' }).retention, 86_400_000);
    assert.equal(parseConfig({ retention: '3650d' }).retention, 3650 * 86_400_000);
    assert.equal(parseConfig({ metrics: { listen: 'localhost:65535' } }).metrics.listen.port, 65_535);
  });

  const samples = readdirSync(SAMPLES).filter((name) => name.endsWith('.yaml'));
  for (const name of samples) {
    test(`invalid: ${name.replace('.yaml', '')}`, () => {
      const file = path.join(SAMPLES, name);
      const text = readFileSync(file, 'utf8');
      const expected = [...text.matchAll(/^# expect: (.+)$/gm)].map(([, line]) =>
        line!.replace('at most 107', `at most ${SOCKET_PATH_MAX_BYTES}`),
      );
      assert.ok(expected.length > 0, 'the sample says what is expected');
      const failure = failureOf(() => loadConfig(file));
      assert.ok(failure instanceof ConfigFailure, failure.stack);
      const count = expected.length === 1 ? '1 mistake' : `${expected.length} mistakes`;
      assert.equal(
        failure.message,
        `${file} has ${count}:\n${expected.map((line) => `  ${line}`).join('\n')}\n` +
          `Correct the file, then try it with: ${commandText('check-config')}`,
      );
      assert.equal(failure.mistakes.length, expected.length);
      assert.doesNotMatch(failure.message, /sk-EXAMPLE/);
    });
  }

  test('there is a sample for each kind of mistake', () =>
    assert.ok(samples.length >= 50, `${samples.length} samples`));

  test('hostile keys are refused, and reach no prototype', () => {
    for (const text of [
      '__proto__: { detect: false }',
      'constructor: { prototype: 1 }',
      'toString: 1',
      'gateways: { __proto__: { "*": openai } }',
    ]) {
      assert.ok(failureOf(() => loadConfig(write(text))) instanceof ConfigFailure, text);
    }
    assert.equal(({} as Record<string, unknown>)['*'], undefined);
  });

  test('no file at the default place means all defaults; a named file must be there', () => {
    assert.equal(defaultConfigFile(), path.join(folder, 'config', 'tollbridge', 'tollbridge.yaml'));
    assert.deepEqual(loadConfig(), parseConfig({}));
    const missing = path.join(folder, 'nowhere.yaml');
    const failure = failureOf(() => loadConfig(missing));
    assert.ok(failure instanceof PermanentFailure);
    assert.match(
      failure.message,
      /nowhere\.yaml cannot be read: ENOENT.*Name another file with --config, or create it\.$/,
    );
    assert.throws(() => loadConfig(folder), /cannot be read: EISDIR/);
  });

  test('the default place is read when a file is there', () => {
    const file = defaultConfigFile();
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, 'detect: false\n');
    try {
      assert.equal(loadConfig().detect, false);
      assert.equal(loadConfig().file, file);
    } finally {
      rmSync(file);
    }
  });

  test('an empty file and one of comments only mean all defaults', () => {
    for (const text of ['', '# nothing yet\n', '---\n', '{}\n']) {
      const { file, ...config } = loadConfig(write(text));
      assert.ok(file);
      assert.deepEqual(config, parseConfig({}));
    }
  });
});
