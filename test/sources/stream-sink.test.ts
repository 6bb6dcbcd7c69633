// The way into the stream, over a real nats-server that comes and goes.

import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { jetstreamManager } from '@nats-io/jetstream';
import { RetryableFailure } from '../../src/failure.ts';
import { NatsLink } from '../../src/nats/connection.ts';
import { DiskQueue } from '../../src/nats/disk-queue.ts';
import { setUpStreams } from '../../src/nats/streams.ts';
import { StreamSink } from '../../src/sources/stream-sink.ts';
import type { Bookable } from '../../src/turn/decoded.ts';
import { decodeHook } from '../../src/turn/normalize.ts';
import { connected, NatsServer, natsConfig } from '../nats/nats-server.ts';
import { readableLog, temporaryFolder, turnPayload, until } from './intake-fixture.ts';

async function start(t: TestContext, { conf = '', maxBytes = 1_000_000 } = {}) {
  const dir = temporaryFolder(t);
  const server = await NatsServer.start({ dir, conf });
  const connection = await connected(server);
  const config = natsConfig({ servers: [server.url], replica: 'a' });
  await setUpStreams(connection, config);
  const { log, lines } = readableLog();
  const link = new NatsLink({ config, env: {}, log, name: 'test' });
  await link.start();
  const queue = DiskQueue.open({ file: path.join(dir, 'queue.db'), maxBytes, log });
  const sink = new StreamSink({ link, config, queue, log });
  sink.start();
  t.after(async () => {
    await sink.stop();
    await link.stop();
    queue.close();
    await connection.close();
    await server.kill();
  });
  const stored = async () => (await (await jetstreamManager(connection)).streams.info('TOLL')).state.messages;
  return { dir, server, connection, link, queue, sink, lines, stored };
}

const turn = (n: number) => decodeHook('opencode', turnPayload(n), {})[0] as Bookable;
const poll: Bookable = {
  type: 'poll',
  poll: {
    snapshot: {
      ...{ provider: 'zai', account: 'w', takenMs: Date.now(), status: 'ok' },
      ...{ metrics: {}, resets: {}, attributes: {}, models: [] },
    },
  },
};
const identity = { team: 'core', user: 'ada' };

test('an event is forwarded when the stream has it, under the subject of its identity, in our own words', async (t) => {
  const { sink, connection, queue } = await start(t);
  const bookings = await sink.submit([{ items: [turn(1), turn(2)], identity }]);
  assert.deepEqual(bookings, [{ outcome: { type: 'forwarded' } }, { outcome: { type: 'forwarded' } }]);
  const manager = await jetstreamManager(connection);
  const message = await manager.streams.getMessage('TOLL', { seq: 1 });
  assert.equal(message?.subject, 'toll.turns.core.ada');
  const record = message!.json<Record<string, unknown>>();
  assert.deepEqual([record.kind, record.project, record.cost_usd], ['turn', 'work', 0.001]);
  assert.doesNotMatch(message!.string(), /\/home\/somebody/, 'no path travels');
  assert.equal(queue.events, 0);
});

test('a project that the credential is bound to travels in place of the stated one, and the difference is told', async (t) => {
  const { sink, connection } = await start(t);
  const projects = ['shop', 'work'];
  const bookings = [];
  for (const [n, project] of projects.entries()) {
    bookings.push(...(await sink.submit([{ items: [turn(n)], identity: { ...identity, project } }])));
  }
  const outcome = { type: 'forwarded' };
  assert.deepEqual(bookings, [{ outcome, identityMismatch: true }, { outcome }]);
  const manager = await jetstreamManager(connection);
  for (const [n, project] of projects.entries()) {
    const message = await manager.streams.getMessage('TOLL', { seq: n + 1 });
    assert.deepEqual(
      [message?.subject, message?.json<Record<string, unknown>>().project],
      ['toll.turns.core.ada', project],
    );
  }
});

test('while the server is away it waits on disk; it is published when the server is back', async (t) => {
  const { server, sink, queue, link, stored } = await start(t);
  await server.kill();
  await until(() => link.current === undefined, 'the loss of the connection');
  const items = Array.from({ length: 700 }, (_, n) => turn(n));
  assert.equal((await sink.submit([{ items, identity }])).length, 700);
  assert.equal(queue.events, 700);
  assert.match(sink.problem() ?? '', /connection to NATS .* is lost/);
  await server.restart();
  await until(() => queue.events === 0, 'an empty queue');
  assert.equal(await stored(), 700);
  await until(() => sink.problem() === undefined, 'no problem');
});

test('of a post of thousands the disk has what is beyond the first ones, so that others are not kept waiting', async (t) => {
  const { sink, queue, stored } = await start(t, { maxBytes: 10_000_000 });
  const items = Array.from({ length: 3000 }, (_, n) => turn(n));
  await sink.submit([{ items, identity }]);
  assert.ok(queue.events > 0);
  await until(() => queue.events === 0, 'an empty queue');
  assert.equal(await stored(), 3000);
  // Where the disk takes nothing, the stream has to.
  await assert.rejects(queue.put([{ subject: 'toll.turns.core.ada', id: '1', body: 'x'.repeat(10_000_001) }]));
  await sink.submit([{ items: Array.from({ length: 3000 }, (_, n) => turn(3000 + n)), identity }]);
  assert.deepEqual([queue.events, await stored()], [0, 6000]);
});

test('a server that stands still without a word costs a pause, and then the disk is used', async (t) => {
  const { server, sink, queue, stored } = await start(t);
  await server.pause();
  try {
    assert.equal((await sink.submit([{ items: [turn(1), turn(2)], identity }])).length, 2);
    assert.equal(queue.events, 2);
  } finally {
    server.signal('SIGCONT');
  }
  await until(() => queue.events === 0, 'an empty queue');
  // What was on its way when the server stood still may have come too: the stream knows it by its id.
  assert.equal(await stored(), 2);
});

test('what neither the stream nor the disk takes is refused, so that its sender keeps it', async (t) => {
  const { server, sink, queue, link } = await start(t, { maxBytes: 2000 });
  await server.kill();
  await until(() => link.current === undefined, 'the loss of the connection');
  await sink.submit([{ items: [turn(1)], identity }]);
  const many = Array.from({ length: 20 }, (_, n) => turn(n));
  await assert.rejects(sink.submit([{ items: many, identity }]), RetryableFailure);
  assert.equal(queue.events, 1);
  assert.equal(sink.backlogEvents, 0);
});

test('a reading is not kept for later, when it would pass for news', async (t) => {
  const { server, sink, queue, link } = await start(t);
  assert.deepEqual(await sink.submit([{ items: [poll], identity }]), [{ outcome: { type: 'forwarded' } }]);
  await server.kill();
  await until(() => link.current === undefined, 'the loss of the connection');
  await assert.rejects(sink.submit([{ items: [poll, turn(1)], identity }]), /not kept for later/);
  assert.equal(queue.events, 0);
});

const SMALL = 'max_payload: 600';
/** Too large for it. */
const longTurn = (n: number) =>
  ({
    ...turn(n),
    event: {
      ...(turn(n) as { event: object }).event,
      project: 'p'.repeat(128),
      model: 'm'.repeat(128),
      messageId: `${n}${'i'.repeat(190)}`,
    },
  }) as Bookable;

for (const smallOne of ['server', 'stream']) {
  test(`a message that the ${smallOne} is too small for is refused alone`, async (t) => {
    const { sink, queue, connection, stored } = await start(t, { conf: smallOne === 'server' ? SMALL : '' });
    const manager = await jetstreamManager(connection);
    if (smallOne === 'stream') await manager.streams.update('TOLL', { max_msg_size: 600 });
    const bookings = await sink.submit([{ items: [turn(1), longTurn(2), turn(3)], identity }]);
    assert.deepEqual(
      bookings.map(({ outcome }) => (outcome.type === 'rejected' ? outcome.reason : outcome.type)),
      ['forwarded', 'too_large', 'forwarded'],
    );
    assert.deepEqual([queue.events, await stored()], [0, 2]);
  });
}

test('a stream that is missing, and one that is full, keep turns on disk and say what to do', async (t) => {
  const { sink, queue, connection, stored } = await start(t);
  const manager = await jetstreamManager(connection);
  await manager.streams.update('TOLL', { max_msgs: 1 });
  await sink.submit([{ items: [turn(1), turn(2), turn(3)], identity }]);
  assert.equal(queue.events, 2);
  await until(() => /the stream does not take them/.test(sink.problem() ?? ''), 'the problem');
  await manager.streams.update('TOLL', { max_msgs: -1 });
  await until(() => queue.events === 0, 'an empty queue');
  assert.equal(await stored(), 3);
  await manager.streams.delete('TOLL');
  await sink.submit([{ items: [turn(4)], identity }]);
  assert.equal(queue.events, 1);
  assert.match(sink.problem() ?? '', /nats setup/);
});

test('what waits and is too large for another server is kept and told, holds up nothing, and goes when it may', async (t) => {
  const { dir, server, sink, queue, link, lines, stored } = await start(t);
  const conf = path.join(dir, 'nats-one.conf');
  const away = async () => {
    await server.kill();
    await until(() => link.current === undefined, 'the loss of the connection');
  };
  await away();
  const long = Array.from({ length: 600 }, (_, n) => longTurn(n));
  await sink.submit([{ items: [...long, turn(1000), longTurn(1001), turn(1002)], identity }]);
  appendFileSync(conf, `${SMALL}\n`);
  await server.restart();
  await until(() => queue.events === 601, 'only the large ones to wait');
  assert.equal(await stored(), 2);
  assert.match(sink.problem() ?? '', /turns wait on disk that are larger than what NATS takes/);
  assert.deepEqual(await sink.submit([{ items: [turn(1003)], identity }]), [{ outcome: { type: 'forwarded' } }]);
  assert.deepEqual([queue.events, await stored()], [601, 3], 'what comes later is not held');
  await away();
  writeFileSync(conf, readFileSync(conf, 'utf8').replace(SMALL, ''));
  await server.restart();
  await until(() => queue.events === 0, 'an empty queue');
  assert.equal(await stored(), 604);
  await until(() => sink.problem() === undefined, 'no problem');
  assert.equal(lines.filter((line) => line.includes('max_payload')).length, 1);
});
