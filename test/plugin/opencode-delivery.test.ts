import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { MARKER, message, Scratch, sentMessage, until } from './loaded-plugin.ts';

const PLUGIN = fileURLToPath(new URL('../../src/plugin/opencode.ts', import.meta.url));
const scratch = new Scratch();

test('what is queued during a post goes in the next one, up to 200 records', async () => {
  const bridge = await scratch.listen(0, 202);
  const { hooks, happen } = await scratch.load();
  await happen(message({ id: 'msg_first' }));
  await until('The first post', () => bridge.posts.length === 1);
  for (let n = 0; n < 450; n++) await happen(message({ id: `msg_${n}` }));
  bridge.release();
  await hooks.dispose?.();
  assert.deepEqual(
    bridge.posts.map(({ records }) => records.length),
    [1, 200, 200, 50],
  );
  assert.deepEqual(scratch.spoolFiles(), []);
});

for (const status of [429, 500, 503]) {
  test(`after ${status} a post is tried again`, async () => {
    const bridge = await scratch.listen(status, 202);
    const { hooks, happen, told } = await scratch.load();
    await happen(message());
    await until('The second try', () => bridge.posts.length === 2);
    await hooks.dispose?.();
    assert.deepEqual(bridge.posts[0], bridge.posts[1]);
    assert.deepEqual(scratch.spoolFiles(), []);
    assert.deepEqual(told, []);
  });
}

test('what the bridge refuses is not kept, and the loss is told', async () => {
  await scratch.listen(400);
  const { hooks, happen, told } = await scratch.load();
  await happen(message());
  await until('A word to the user', () => told.length === 1);
  await happen(message({ id: 'msg_2' }));
  await hooks.dispose?.();
  await until('The last word', () => told.length === 2);
  assert.match(told[0] as string, /lost 1 record .*the bridge refused them.*tollbridge doctor/s);
  assert.match(told[1] as string, /lost 2 records in all/);
  assert.deepEqual(scratch.spoolFiles(), []);
});

test('while the bridge is away everything goes to the spool, and to the bridge again once it is back', async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 1_795_293_928_000 });
  const { hooks, happen, told } = await scratch.load();
  await happen(message({ id: 'msg_1' }));
  await until('The first spool file', () => scratch.spoolFiles().length === 1);
  await happen(message({ id: 'msg_2' }));
  await until('The second spool file', () => scratch.spoolFiles().length === 2);
  assert.equal(statSync(scratch.spool).mode & 0o777, 0o700);
  for (const name of readdirSync(scratch.spool)) {
    assert.match(name, /^\d{10}_[0-9a-f]{16}\.json$/);
    assert.equal(statSync(path.join(scratch.spool, name)).mode & 0o777, 0o600);
  }

  const bridge = await scratch.listen(202);
  await happen(message({ id: 'msg_3' }));
  await until('The third spool file', () => scratch.spoolFiles().length === 3);
  assert.equal(bridge.posts.length, 0, 'it is not asked before its time');
  t.mock.timers.tick(5000);
  await happen(message({ id: 'msg_4' }));
  await hooks.dispose?.();
  assert.equal(bridge.posts.length, 1);
  assert.deepEqual(
    scratch
      .spooled()
      .map(({ properties }) => (properties.info as { id: string }).id)
      .sort(),
    ['msg_1', 'msg_2', 'msg_3'],
  );
  assert.deepEqual(told, []);
});

test('without a spool a missing bridge is tried again before the loss is told', async () => {
  const { happen, told } = await scratch.load({ TOLLBRIDGE_SPOOL: '' });
  await happen(message());
  await until('A word to the user', () => told.length === 1);
  assert.match(told[0] as string, /lost 1 record .*there is no spool/);
});

test('stopping is bounded: what a hanging bridge has not answered goes to the spool', async () => {
  await scratch.listen(0);
  const { hooks, happen } = await scratch.load();
  await happen(message({ id: 'msg_1' }));
  await happen(message({ id: 'msg_2' }));
  await hooks.dispose?.();
  const ids = () => scratch.spooled().map(({ properties }) => (properties.info as { id: string }).id);
  assert.deepEqual([...new Set(ids())].sort(), ['msg_1', 'msg_2']);
  await happen(message({ id: 'msg_late' }));
  assert.ok(ids().includes('msg_late'), 'an event after that goes straight to the spool');
});

test('a process that ends without disposing leaves its records in the spool', () => {
  const script = `
    import { Tollbridge } from ${JSON.stringify(PLUGIN)};
    const hooks = await Tollbridge({});
    await hooks.event({ event: ${JSON.stringify(message())} });
    process.exit(0);`;
  const env = { ...process.env, TOLLBRIDGE_SOCKET: scratch.socket, TOLLBRIDGE_SPOOL: scratch.spool };
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { env });
  assert.equal(status, 0, String(stderr));
  assert.deepEqual(
    scratch.spooled().map(({ properties }) => properties),
    [{ info: sentMessage }],
  );
});

test('a full spool takes nothing more, and the loss is told', async () => {
  const { hooks, happen, told } = await scratch.load({ TOLLBRIDGE_SOCKET: '' });
  await happen(message({ id: 'msg_1' }));
  await until('A spool file', () => scratch.spoolFiles().length === 1);
  for (let n = 1; n < 5000; n++) writeFileSync(path.join(scratch.spool, `${n}.json`), '');
  await happen(message({ id: 'msg_2' }));
  await until('A word to the user', () => told.length === 1);
  assert.equal(scratch.spoolFiles().length, 5000);
  assert.match(told[0] as string, /no bridge is running and 5000 files wait in the spool/);
  await hooks.dispose?.();
});

test('a spool that cannot be written is told without naming it', async () => {
  const file = path.join(scratch.root, MARKER);
  writeFileSync(file, '');
  const { happen, told } = await scratch.load({ TOLLBRIDGE_SOCKET: '', TOLLBRIDGE_SPOOL: path.join(file, 'spool') });
  await happen(message());
  await until('A word to the user', () => told.length === 1);
  assert.match(told[0] as string, /the spool cannot be written \(ENOTDIR\)/);
});

test('it is off when switched off, and when nothing says where to send', async () => {
  for (const value of ['1', 'true', ' ON ']) {
    assert.deepEqual((await scratch.load({ TOLLBRIDGE_DISABLED: value })).hooks, {});
  }
  process.env.TOLLBRIDGE_DISABLED = '0';
  assert.deepEqual((await scratch.load({ TOLLBRIDGE_SOCKET: '', TOLLBRIDGE_SPOOL: '' })).hooks, {});
  assert.ok((await scratch.load()).hooks.event);
});
