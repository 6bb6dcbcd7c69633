// The entry of every npm script, in a project of its own: what it installs and when, and that what it runs is not disturbed.
// npm is played by a script that records its calls; the Node that it "installs" is the one that runs the test.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';

const ROOT = path.dirname(import.meta.dirname);
const LOOK_EVERY_MS = 20;
/** Only for what would otherwise never end. */
const HANGS_AFTER_MS = 20_000;

/** Records its arguments, waits for the file `go` where there is a file `wait`, and fails where there is a file `fail`. */
const FAKE_NPM = `
import { appendFileSync, existsSync, mkdirSync, symlinkSync } from 'node:fs';
appendFileSync('npm-calls', process.argv.slice(2).join(' ') + '\\n');
while (existsSync('wait') && !existsSync('go')) await new Promise((resolve) => setTimeout(resolve, ${LOOK_EVERY_MS}));
if (existsSync('fail')) process.exit(1);
mkdirSync('node_modules/.bin', { recursive: true });
if (!existsSync('node_modules/.bin/node')) symlinkSync(process.execPath, 'node_modules/.bin/node');
`;

/** What `run.mjs` hands over to. */
const FAKE_CLI = `
const [what, value] = process.argv.slice(2);
if (what === 'exit') process.exit(Number(value));
if (what === 'die') process.kill(process.pid, value);
if (what === 'signal') process.on(value, () => { console.log('got ' + value); process.exit(7); });
console.log('ready', process.cwd(), process.argv.slice(2).join(' '));
// Stays until it is told to end, but not longer than what started it.
const parent = process.ppid;
if (what === 'die' || what === 'signal') setInterval(() => process.ppid !== parent && process.exit(99), ${LOOK_EVERY_MS});
`;

interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

class Project {
  readonly folder = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-set-up-'));
  readonly #env: NodeJS.ProcessEnv;

  constructor(t: TestContext) {
    t.after(() => rmSync(this.folder, { recursive: true, force: true }));
    for (const file of ['package.json', 'package-lock.json', 'scripts/run.mjs', 'scripts/set-up.mjs']) {
      cpSync(path.join(ROOT, file), this.file(file));
    }
    mkdirSync(this.file('src'));
    this.write('src/cli.ts', FAKE_CLI);
    this.write('scripts/check.ts', "console.log('checked');");
    this.write('npm-cli.js', FAKE_NPM);
    const { npm_execpath: _, npm_node_execpath: __, INIT_CWD: ___, ...env } = process.env;
    this.#env = { ...env, npm_execpath: this.file('npm-cli.js') };
  }

  file(name: string): string {
    return path.join(this.folder, name);
  }

  write(name: string, text = ''): void {
    writeFileSync(this.file(name), text);
  }

  /** The arguments of every call of npm so far. */
  npmCalls(): string[] {
    return existsSync(this.file('npm-calls')) ? readFileSync(this.file('npm-calls'), 'utf8').trim().split('\n') : [];
  }

  start(t: TestContext, ...args: string[]) {
    return this.node(t, [this.file('scripts/run.mjs'), ...args]);
  }

  run(t: TestContext, ...args: string[]): Promise<Ended> {
    return this.start(t, ...args).ended;
  }

  node(t: TestContext, args: string[], env: NodeJS.ProcessEnv = {}) {
    const options = { cwd: this.folder, env: { ...this.#env, ...env }, stdio: 'pipe' } as const;
    const child = spawn(process.execPath, args, options);
    t.after(() => child.kill('SIGKILL'));
    const said = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => (said[name] += text));
    }
    const ended = once(child, 'close').then(([code, signal]): Ended => ({ code, signal, ...said }));
    return { child, said, ended };
  }
}

async function until(condition: () => boolean, child: ChildProcess, what: string): Promise<void> {
  while (!condition()) {
    assert.ok(child.exitCode === null && child.signalCode === null, `it ended before ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

test('it installs once, and again when the lockfile or package.json changed', async (t) => {
  const project = new Project(t);
  const first = await project.run(t, 'cli', 'status');
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stdout, /^ready .* status\n$/);
  assert.match(first.stderr, /installing packages …/);
  assert.equal(project.npmCalls().length, 1);
  assert.match(project.npmCalls()[0]!, /^install .*--no-save .*--omit=dev .*--ignore-scripts/);

  const second = await project.run(t, 'cli', 'status');
  assert.deepEqual([second.code, second.stderr], [0, '']);
  assert.equal(project.npmCalls().length, 1, 'not again');

  for (const [at, file] of ['package-lock.json', 'package.json'].entries()) {
    project.write(file, `${readFileSync(project.file(file), 'utf8')} `);
    assert.equal((await project.run(t, 'cli', 'status')).code, 0);
    assert.equal((await project.run(t, 'cli', 'status')).code, 0);
    assert.equal(project.npmCalls().length, 2 + at, file);
  }
  rmSync(project.file('node_modules'), { recursive: true });
  assert.equal((await project.run(t, 'cli', 'status')).code, 0);
  assert.equal(project.npmCalls().length, 4, 'and when the packages are gone');
  assert.ok(!existsSync(project.file('.setup.lock')));
});

test('what only tests need comes when they do, and stays enough for the bridge', async (t) => {
  const project = new Project(t);
  await project.run(t, 'cli');
  const checked = await project.run(t, 'check');
  assert.deepEqual([checked.code, checked.stdout], [0, 'checked\n'], checked.stderr);
  await project.run(t, 'cli');
  await project.run(t, 'check');
  assert.deepEqual(
    project.npmCalls().map((call) => /--(omit|include)=dev/.exec(call)?.[0]),
    ['--omit=dev', '--include=dev'],
  );
});

test('two at once make one installation; the second waits and says so', async (t) => {
  const project = new Project(t);
  project.write('wait');
  const first = project.start(t, 'cli', 'one');
  await until(() => project.npmCalls().length === 1, first.child, 'npm was called');
  const second = project.start(t, 'cli', 'two');
  const waits = `process ${first.child.pid} sets this folder up; waiting`;
  await until(() => second.said.stderr.includes(waits), second.child, 'it said that it waits');
  assert.equal(second.said.stdout, '');
  project.write('go');
  const [one, two] = await Promise.all([first.ended, second.ended]);
  assert.deepEqual([one.code, two.code], [0, 0], one.stderr + two.stderr);
  assert.match(one.stdout + two.stdout, /ready .* one\n.*ready .* two\n/s);
  assert.equal(project.npmCalls().length, 1);
  assert.equal(two.stderr.split('\n').length, 2, 'told once');
});

test('the lock of a process that died is taken over', async (t) => {
  const project = new Project(t);
  const { pid } = spawnSync(process.execPath, ['-e', '']);
  for (const text of [String(pid), '', 'no process id']) {
    rmSync(project.file('node_modules'), { recursive: true, force: true });
    project.write('.setup.lock', text);
    const { code, stderr } = await project.run(t, 'cli');
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stderr, /waiting/);
    assert.ok(!existsSync(project.file('.setup.lock')));
  }
  assert.equal(project.npmCalls().length, 3);
});

test('a lock that cannot be read is waited for with pauses, not in a spin', async (t) => {
  const project = new Project(t);
  // A folder can be read by nobody, not even by root. In a spin, the timer that removes it would never have its turn.
  mkdirSync(project.file('.setup.lock'));
  project.write(
    'waiting.mjs',
    `import { rmdirSync } from 'node:fs';
     import { setUp } from './scripts/set-up.mjs';
     const done = setUp({ dev: false });
     setTimeout(() => rmdirSync('.setup.lock'), 0);
     await done;
     console.log('set up');`,
  );
  const { child, ended } = project.node(t, ['waiting.mjs']);
  const hangs = setTimeout(() => child.kill('SIGKILL'), HANGS_AFTER_MS);
  const { code, stdout, stderr } = await ended;
  clearTimeout(hangs);
  assert.deepEqual([code, stdout], [0, 'set up\n'], stderr);
  assert.match(stderr, /waiting \(if nobody does, remove .*\.setup\.lock\)/);
  assert.equal(project.npmCalls().length, 1);
});

test('an installation that fails is told, leaves no lock, and is tried anew', async (t) => {
  const project = new Project(t);
  project.write('fail');
  const failed = await project.run(t, 'cli');
  assert.deepEqual([failed.code, failed.stdout], [1, '']);
  assert.match(failed.stderr, /npm could not install the packages .*then run the command again\.\n$/);
  assert.doesNotMatch(failed.stderr, /\n {4}at /);
  rmSync(project.file('fail'));
  assert.equal((await project.run(t, 'cli')).code, 0);
  assert.equal(project.npmCalls().length, 2);
});

test('a script that does not exist is told, and nothing is installed for it', async (t) => {
  const project = new Project(t);
  const { code, stderr } = await project.run(t, 'strat');
  assert.equal(code, 1);
  assert.match(stderr, /no such script "strat"\. Known: start, cli, test/);
  assert.deepEqual(project.npmCalls(), []);
});

test('the exit code of what it runs is its own, and so is the signal that ended it', async (t) => {
  const project = new Project(t);
  for (const code of [0, 1, 2, 42]) assert.equal((await project.run(t, 'cli', 'exit', String(code))).code, code);
  for (const signal of ['SIGTERM', 'SIGKILL', 'SIGHUP'] as const) {
    const { code } = await project.run(t, 'cli', 'die', signal);
    assert.equal(code, 128 + os.constants.signals[signal]);
  }
});

test('a signal is passed on, and what it runs may take its time to end', async (t) => {
  const project = new Project(t);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const { child, said, ended } = project.start(t, 'cli', 'signal', signal);
    await until(() => said.stdout.includes('ready'), child, 'it was ready');
    child.kill(signal);
    const { code, stdout } = await ended;
    assert.equal(code, 7);
    assert.match(stdout, new RegExp(`got ${signal}\n$`));
  }
});

test('what a user names is meant from where the user stands', async (t) => {
  const project = new Project(t);
  await project.run(t, 'cli');
  const elsewhere = project.file('src');
  const { stdout } = await project.node(t, [project.file('scripts/run.mjs'), 'cli'], { INIT_CWD: elsewhere }).ended;
  assert.match(stdout, new RegExp(`^ready ${elsewhere} `));
});
