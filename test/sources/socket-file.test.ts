import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { describe, type TestContext, test } from 'node:test';
import { PermanentFailure } from '../../src/failure.ts';
import { claimSocket, groupId } from '../../src/sources/socket-file.ts';
import { readableLog, silentLog, temporaryFolder } from './intake-fixture.ts';

const SOCKET_FILE = new URL('../../src/sources/socket-file.ts', import.meta.url).href;
const modeOf = (file: string) => (statSync(file).mode & 0o777).toString(8);
const MY_GROUP = String(process.getgid!());

async function claim(t: TestContext, file: string, group?: string) {
  const server = net.createServer((socket) => socket.on('error', () => {}).end('ours'));
  const { isOurs, release } = await claimSocket(server, { path: file, group, backlog: 16, log: silentLog });
  t.after(() => new Promise((resolve) => server.close(resolve)));
  return { server, isOurs, release };
}

const answer = (file: string) =>
  new Promise<string>((resolve, reject) => {
    const socket = net.createConnection({ path: file });
    socket.on('data', (chunk) => resolve(String(chunk))).on('error', reject);
  });

/** A socket file whose process was killed: nobody answers there any more. */
async function leaveStale(file: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(file)}, () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.ok(lstatSync(file).isSocket());
}

describe('permissions', () => {
  test('only the user: 0600 in a folder of 0700, whatever the umask', async (t) => {
    const file = path.join(temporaryFolder(t), 'a', 'b', 't.sock');
    const umask = process.umask(0);
    t.after(() => process.umask(umask));
    await claim(t, file);
    assert.deepEqual([modeOf(file), modeOf(path.dirname(file))], ['600', '700']);
    assert.equal(process.umask(), 0, 'the umask is as it was');
  });

  test('a group too: 0660 in a folder of 0750, both of that group', async (t) => {
    const file = path.join(temporaryFolder(t), 'a', 'b', 't.sock');
    await claim(t, file, MY_GROUP);
    for (const made of [file, path.dirname(file)]) assert.equal(String(statSync(made).gid), MY_GROUP);
    const folder = path.dirname(file);
    assert.deepEqual([modeOf(file), modeOf(folder), modeOf(path.dirname(folder))], ['660', '750', '750']);
  });

  test('never wider, not for a moment', async (t) => {
    const folder = temporaryFolder(t);
    const umask = process.umask(0);
    t.after(() => process.umask(umask));
    const server = net.createServer();
    const seen: string[] = [];
    // `listening` is told after binding; what the folder shows right after the call is what a stranger could have met.
    const listen = server.listen.bind(server) as (options: object, done: () => void) => net.Server;
    server.listen = ((options: object, done: () => void) => {
      const result = listen(options, done);
      for (const name of readdirSync(folder)) seen.push(modeOf(path.join(folder, name)));
      return result;
    }) as typeof server.listen;
    await claimSocket(server, { path: path.join(folder, 't.sock'), backlog: 1, log: silentLog });
    t.after(() => new Promise((resolve) => server.close(resolve)));
    assert.equal(seen.length, 1);
    assert.match(seen[0]!, /^[67]00$/);
  });

  test('a folder that exists is left as it is; that the group cannot enter it is said', async (t) => {
    const folder = temporaryFolder(t);
    chmodSync(folder, 0o700);
    const { log, lines } = readableLog();
    const server = net.createServer();
    await claimSocket(server, { path: path.join(folder, 't.sock'), group: MY_GROUP, backlog: 1, log });
    t.after(() => new Promise((resolve) => server.close(resolve)));
    assert.equal(modeOf(folder), '700');
    assert.match(lines.join(), /cannot enter the socket's folder/);
  });

  test('groups by name and number', (t) => {
    const file = path.join(temporaryFolder(t), 'group');
    writeFileSync(file, 'root:x:0:\nmeters:x:4711:ada,bob\n');
    assert.equal(groupId('meters', file), 4711);
    assert.equal(groupId('123', file), 123);
    assert.throws(() => groupId('nobody-here', file), {
      name: 'PermanentFailure',
      message: /The group "nobody-here" of socket\.group does not exist .* Name one that does/,
    });
  });
});

describe('a place that is taken', () => {
  test('by a live bridge: refused, and the other one lives on', async (t) => {
    const file = path.join(temporaryFolder(t), 't.sock');
    await claim(t, file);
    const second = net.createServer();
    await assert.rejects(claimSocket(second, { path: file, backlog: 1, log: silentLog }), (error: Error) => {
      assert.ok(error instanceof PermanentFailure);
      assert.match(error.message, /already running.*Ask it with: \S.* status.*socket\.path/);
      return true;
    });
    assert.equal(second.listening, false);
    assert.equal(await answer(file), 'ours');
    assert.deepEqual(readdirSync(path.dirname(file)), ['t.sock']);
  });

  test('by a dead one: taken over', async (t) => {
    const file = path.join(temporaryFolder(t), 't.sock');
    await leaveStale(file);
    await claim(t, file);
    assert.equal(await answer(file), 'ours');
    assert.deepEqual(readdirSync(path.dirname(file)), ['t.sock']);
  });

  for (const [name, make] of [
    ['a file', (file: string) => writeFileSync(file, 'dear diary')],
    ['a folder', (file: string) => mkdirSync(file)],
    ['a link', (file: string) => symlinkSync('/nowhere', file)],
  ] as const) {
    test(`by ${name}: refused, and left alone`, async (t) => {
      const file = path.join(temporaryFolder(t), 't.sock');
      make(file);
      const before = lstatSync(file).ino;
      await assert.rejects(claim(t, file), /is not a socket, so it was left alone. Move it away/);
      assert.equal(lstatSync(file).ino, before);
      assert.deepEqual(readdirSync(path.dirname(file)), ['t.sock']);
    });
  }

  test('at the very limit of a path, with a name of one character: used', async (t) => {
    // No name of more than one character fits beside it.
    const limitBytes = process.platform === 'darwin' ? 103 : 107;
    const folder = temporaryFolder(t);
    const file = path.join(folder, 'x'.repeat(limitBytes - Buffer.byteLength(folder) - 3), 's');
    assert.equal(Buffer.byteLength(file), limitBytes);
    const { release } = await claim(t, file);
    assert.equal(await answer(file), 'ours');
    assert.deepEqual(readdirSync(path.dirname(file)), ['s']);
    release();
    assert.deepEqual(readdirSync(path.dirname(file)), []);
    await assert.rejects(claim(t, `${file}ss`), /cannot be created: listen EINVAL/);
  });

  test('many at once after a crash: exactly one gets it, and answers', async (t) => {
    const file = path.join(temporaryFolder(t), 't.sock');
    await leaveStale(file);
    const claims = await Promise.allSettled(Array.from({ length: 12 }, () => claim(t, file)));
    assert.equal(claims.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const each of claims) if (each.status === 'rejected') assert.match(each.reason.message, /already running/);
    assert.equal(await answer(file), 'ours');
    assert.deepEqual(readdirSync(path.dirname(file)), ['t.sock']);
  });

  test('by processes that start at the same moment after a crash: exactly one gets it', async (t) => {
    const script = `
      import net from 'node:net';
      import { claimSocket } from ${JSON.stringify(SOCKET_FILE)};
      const log = { warn() {} };
      process.stdin.once('data', (file) => {
        const server = net.createServer((socket) => socket.on('error', () => {}).end('ours'));
        claimSocket(server, { path: String(file), backlog: 16, log }).then(() => console.log('got it'), (error) => console.log(error.message));
      }).once('end', () => process.exit());
      console.log('ready');`;
    const children = Array.from({ length: 4 }, () => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      t.after(() => child.kill('SIGKILL'));
      return { child, lines: createInterface(child.stdout)[Symbol.asyncIterator]() };
    });
    const next = () => Promise.all(children.map(async ({ lines }) => (await lines.next()).value as string));
    assert.deepEqual(await next(), Array(4).fill('ready'));
    const file = path.join(temporaryFolder(t), 't.sock');
    await leaveStale(file);
    for (const { child } of children) child.stdin.write(file);
    const said = await next();
    assert.equal(said.filter((line) => line === 'got it').length, 1, said.join('\n'));
    assert.equal(said.filter((line) => /already running/.test(line)).length, 3, said.join('\n'));
    assert.equal(await answer(file), 'ours');
    for (const { child } of children) child.stdin.end();
    await Promise.all(children.map(({ child }) => child.exitCode ?? once(child, 'exit')));
  });

  test('a folder that cannot be used is said with what to do', async (t) => {
    const blocker = path.join(temporaryFolder(t), 'file');
    writeFileSync(blocker, '');
    await assert.rejects(claim(t, path.join(blocker, 't.sock')), /cannot be created: .*Set socket\.path to a place/);
  });
});

describe('leaving', () => {
  test('the file goes with its server', async (t) => {
    const file = path.join(temporaryFolder(t), 't.sock');
    const { server, release } = await claim(t, file);
    release();
    assert.equal(existsSync(file), false);
    release();
    server.close();
  });

  test('a deleted or replaced file is not ours any more', async (t) => {
    const file = path.join(temporaryFolder(t), 't.sock');
    const first = await claim(t, file);
    linkSync(file, `${file}.2`);
    utimesSync(file, 1, 1);
    assert.equal(first.isOurs(), true, 'whatever else is done to it');
    unlinkSync(file);
    assert.equal(first.isOurs(), false);
    const second = await claim(t, file);
    assert.deepEqual([first.isOurs(), second.isOurs()], [false, true]);
  });

  test("a successor's file stays", async (t) => {
    const file = path.join(temporaryFolder(t), 't.sock');
    const first = await claim(t, file);
    unlinkSync(file);
    await claim(t, file);
    first.release();
    await new Promise((resolve) => first.server.close(resolve));
    assert.equal(await answer(file), 'ours');
  });

  test('our own file stays ours under a second name', async (t) => {
    const file = path.join(temporaryFolder(t), 't.sock');
    const { release } = await claim(t, file);
    linkSync(file, `${file}.2`);
    release();
    assert.deepEqual(readdirSync(path.dirname(file)), ['t.sock.2']);
  });
});
