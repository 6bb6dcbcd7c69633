// The command line as a user meets it: real processes, their output and their exit codes.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';

const CLI = path.join(path.dirname(import.meta.dirname), 'src', 'cli.ts');
/** How often a condition is looked at; no test waits for a fixed time. */
const LOOK_EVERY_MS = 20;

interface Running {
  readonly child: ChildProcess;
  readonly exited: Promise<{ code: number | null; stdout: string; stderr: string }>;
  stdout(): string;
}

/** A home of its own for each test, so that nothing of this machine is read or written. */
function scratchHome(t: TestContext): string {
  const home = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-cli-'));
  t.after(() => rmSync(home, { recursive: true, force: true }));
  return home;
}

function tollbridge(
  home: string,
  args: readonly string[],
  nodeArgs: readonly string[] = [],
  more: Readonly<Record<string, string>> = {},
): Running {
  const env = { PATH: process.env.PATH, HOME: home, NO_COLOR: '1', TZ: 'UTC', ...more };
  const child = spawn(process.execPath, [...nodeArgs, CLI, ...args], {
    cwd: home,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const exited = once(child, 'close').then(([code]) => ({ code: code as number | null, stdout, stderr }));
  return { child, exited, stdout: () => stdout };
}

const finished = (home: string, ...args: string[]) => tollbridge(home, args).exited;

async function until(condition: () => boolean, what: string, running: Running): Promise<void> {
  while (!condition()) {
    const { exitCode, signalCode } = running.child;
    if (exitCode !== null || signalCode !== null)
      assert.fail(`ended before ${what}: ${JSON.stringify(await running.exited)}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

function writeConfig(home: string, text = ''): string {
  const file = path.join(home, 'tollbridge.yaml');
  writeFileSync(file, `state_dir: ${home}/state\nmetrics: { listen: 127.0.0.1:0 }\ndetect: false\n${text}`);
  return file;
}

async function startBridge(t: TestContext, home: string, ...args: string[]): Promise<Running> {
  const running = tollbridge(home, ['start', '--config', writeConfig(home), ...args]);
  t.after(() => running.child.kill('SIGKILL'));
  await until(() => running.stdout().includes('/metrics'), 'it said where it listens', running);
  return running;
}

const VERSION = JSON.parse(readFileSync(path.join(import.meta.dirname, '..', 'package.json'), 'utf8')).version;

const usage: readonly { args: string[]; code: number; stdout?: RegExp; stderr?: RegExp }[] = [
  { args: [], code: 0, stdout: /Usage: tollbridge[\s\S]*start[\s\S]*doctor/ },
  { args: ['help'], code: 0, stdout: /Usage: tollbridge/ },
  { args: ['--help'], code: 0, stdout: /Usage: tollbridge/ },
  { args: ['help', 'start'], code: 0, stdout: /--log-level/ },
  { args: ['--version'], code: 0, stdout: new RegExp(`^${VERSION}\n$`) },
  { args: ['strat'], code: 2, stderr: /unknown command 'strat'[\s\S]*start/ },
  { args: ['start', '--wrong'], code: 2, stderr: /unknown option '--wrong'/ },
  { args: ['report', '--by', 'prompt'], code: 2, stderr: /--by must be one of team, user, / },
  { args: ['policy', 'explain', '--model', 'm'], code: 2, stderr: /required option '--provider/ },
  { args: ['start', '--config'], code: 2, stderr: /argument missing/ },
  { args: ['start', '--log-level', 'loud'], code: 2, stderr: /--log-level must be one of trace, debug, info/ },
  { args: ['install'], code: 2, stderr: /missing required argument 'part'/ },
  {
    args: ['help', 'install'],
    code: 0,
    stdout:
      /opencode: the plugin[\s\S]*claude-code, codex,\s+gemini-cli: [\s\S]*service:\s+a\s+systemd\s+user\s+service/,
  },
  {
    args: ['install', 'vim'],
    code: 2,
    stderr: /Allowed choices are opencode, claude-code, codex,\s+gemini-cli, service/,
  },
  { args: ['ledger'], code: 2, stderr: /Usage: tollbridge ledger/ },
  { args: ['status', 'extra'], code: 2, stderr: /too many arguments/ },
];
for (const { args, code, stdout = /^$/, stderr = /^$/ } of usage) {
  test(`"tollbridge ${args.join(' ')}" ends with ${code}`, async (t) => {
    const result = await finished(scratchHome(t), ...args);
    assert.match(result.stdout, stdout);
    assert.match(result.stderr, stderr);
    assert.equal(result.code, code);
  });
}

test('an old Node is told which one is needed, before anything breaks', async (t) => {
  const home = scratchHome(t);
  const old = path.join(home, 'old-node.mjs');
  writeFileSync(
    old,
    "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.19.0' } });",
  );
  for (const args of [['start', '--config', 'nowhere.yaml'], ['help'], ['--version']]) {
    const { exited } = tollbridge(home, args, ['--import', old]);
    const { code, stdout, stderr } = await exited;
    assert.match(stderr, /^tollbridge: Node 24 or later is needed; this is 20\.19\.0\. Install one[^\n]*\n$/);
    assert.deepEqual([code, stdout], [1, '']);
  }
});

test('check-config: OK, or every mistake and no stack, no secret', async (t) => {
  const home = scratchHome(t);
  const fine = await finished(home, 'check-config', '--config', writeConfig(home));
  assert.match(fine.stdout, /^OK\n {2}file /);
  assert.equal(fine.code, 0);

  const file = writeConfig(
    home,
    'retention: soon\naccounts: [{ id: me, provider: opencode, api_key_env: sk-EXAMPLE-1 }]\n',
  );
  const wrong = await finished(home, 'check-config', '--config', file);
  assert.equal(wrong.code, 1);
  assert.equal(wrong.stdout, '');
  assert.match(wrong.stderr, /^tollbridge: .*tollbridge\.yaml has 2 mistakes:\n.*\n.*\nCorrect the file.*\n$/);
  assert.doesNotMatch(wrong.stderr, /\n {4}at |sk-EXAMPLE/);
});

test('an expected failure is a message, not a stack', async (t) => {
  const home = scratchHome(t);
  for (const args of [['status'], ['start', '--config', 'nowhere.yaml']]) {
    const result = await finished(home, ...args);
    assert.equal(result.code, 1);
    assert.match(result.stderr, /^tollbridge: /);
    assert.doesNotMatch(result.stderr, /\n {4}at /);
  }
});

test('doctor finds a problem without a bridge, and says so in JSON too', async (t) => {
  const home = scratchHome(t);
  const result = await finished(home, 'doctor', '--json');
  assert.equal(result.code, 1);
  assert.equal(JSON.parse(result.stdout).problems, 1);
});

test('install and uninstall tell what they did', async (t) => {
  const home = scratchHome(t);
  const installed = await finished(home, 'install', 'opencode');
  assert.equal(installed.code, 0, installed.stderr);
  assert.match(installed.stdout, /tollbridge\.ts/);
  const removed = await finished(home, 'uninstall', 'opencode');
  assert.equal(removed.code, 0, removed.stderr);
  assert.match(removed.stdout, /tollbridge\.ts/);
});

test('install service without systemd writes the unit, says so without a stack, and ends with 1', async (t) => {
  const home = scratchHome(t);
  const { exited } = tollbridge(home, ['install', 'service', '--config', writeConfig(home)], [], { PATH: home });
  const installed = await exited;
  assert.deepEqual([installed.code, installed.stderr], [1, '']);
  assert.match(
    installed.stdout,
    /^Installed the service: .*\nThe service was not started: there is no program systemctl/,
  );
  const unit = readFileSync(path.join(home, '.config/systemd/user/tollbridge.service'), 'utf8');
  assert.ok(unit.includes(`${CLI} start --config ${path.join(home, 'tollbridge.yaml')}\n`), unit);
  const removed = await tollbridge(home, ['uninstall', 'service'], [], { PATH: home }).exited;
  assert.equal(removed.code, 0, removed.stderr);
  assert.match(removed.stdout, /^Removed the service: /);
});

test('ledger new asks before it moves anything, and takes no silence for a yes', async (t) => {
  const home = scratchHome(t);
  const first = await startBridge(t, home);
  const file = path.join(home, 'tollbridge.yaml');
  const whileRunning = await finished(home, 'ledger', 'new', '--yes', '--config', file);
  assert.equal(whileRunning.code, 1);
  assert.match(whileRunning.stderr, /A bridge is running/);
  first.child.kill('SIGTERM');
  await first.exited;

  const unasked = await finished(home, 'ledger', 'new', '--config', file);
  assert.equal(unasked.code, 1);
  assert.match(unasked.stderr, /nothing was changed\. To say yes, add --yes/);
  assert.ok(existsSync(path.join(home, 'state', 'ledger.db')));

  const moved = await finished(home, 'ledger', 'new', '--yes', '--config', file);
  assert.equal(moved.code, 0, moved.stderr);
  assert.ok(!existsSync(path.join(home, 'state', 'ledger.db')));
});

test('a bridge that runs answers status and doctor, and ends with 0 at the first signal', async (t) => {
  const home = scratchHome(t);
  const running = await startBridge(t, home, '--log-level', 'error');
  const file = path.join(home, 'tollbridge.yaml');
  const status = await finished(home, 'status', '--json', '--config', file);
  assert.equal(status.code, 0, status.stderr);
  const { pid, version, metrics_url, socket } = JSON.parse(status.stdout);
  assert.deepEqual({ pid, version }, { pid: running.child.pid, version: VERSION });
  const doctor = await finished(home, 'doctor', '--config', file);
  assert.equal(doctor.code, 0, doctor.stdout);
  assert.ok(doctor.stdout.includes(metrics_url), doctor.stdout);

  running.child.kill('SIGTERM');
  const { code, stderr } = await running.exited;
  assert.equal(code, 0);
  assert.equal(stderr, '', 'nothing was worth a word at --log-level error');
  assert.ok(!existsSync(socket), 'the socket is gone');
});

test("a terminal's Ctrl-C that arrives twice at once is still a graceful stop", async (t) => {
  const running = await startBridge(t, scratchHome(t));
  running.child.kill('SIGINT');
  running.child.kill('SIGINT');
  assert.equal((await running.exited).code, 0);
});

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test(`a second ${signal} that is meant as such ends a bridge that hangs, with ${code}`, async (t) => {
    const home = scratchHome(t);
    const running = await startBridge(t, home);
    // A request whose body never ends keeps a graceful stop waiting.
    const socket = net.connect(path.join(home, 'state', 'tollbridge.sock'));
    t.after(() => socket.destroy());
    socket.on('error', () => {});
    await once(socket, 'connect');
    socket.write('POST /v1/events HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1000\r\n\r\n');
    await once(socket, 'data');
    const again = setInterval(() => running.child.kill(signal), LOOK_EVERY_MS);
    t.after(() => clearInterval(again));
    assert.equal((await running.exited).code, code);
  });
}

test('a reader that goes away early is no failure', async (t) => {
  const running = tollbridge(scratchHome(t), ['help']);
  running.child.stdout?.destroy();
  assert.deepEqual((({ code, stderr }) => ({ code, stderr }))(await running.exited), { code: 0, stderr: '' });
});
