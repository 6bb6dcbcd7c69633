// kill -9 of bridges and servers in the middle of a stream: whatever dies, every series equals the truth afterwards.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from 'nats';
import { setUpStreams } from '../src/nats/streams.ts';
import { compose, randomFrom, type Stream } from './composed-stream.ts';
import { KillableBridge } from './killable-bridge.ts';
import { connected, NatsServer, natsConfig } from './nats/nats-server.ts';
import { freePort, until } from './prometheus-server.ts';
import { eventsBy, shownBy } from './scrape.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const EVENTS = FULL ? 200_000 : 12_000;
const KILLS = FULL ? 7 : 4;
const SMALL_EVENTS = FULL ? 40_000 : 6000;
const WINDOW = 500;
/** Of 50 ms each. */
const DRAIN_TRIES = FULL ? 6000 : 1800;
const CONSUMER = 'tollbridge_a_1_of_1';

interface Bus {
  readonly dir: string;
  readonly servers: readonly NatsServer[];
  readonly connection: NatsConnection;
  readonly bridge: KillableBridge;
}

/** One server, or a cluster of three, with its streams, and a bridge. */
async function startBus(t: TestContext, { size = 1 } = {}): Promise<Bus> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const ports = await Promise.all(Array.from({ length: size }, () => freePort()));
  const routes = await Promise.all(Array.from({ length: size }, () => freePort()));
  const conf = (index: number) =>
    size === 1
      ? ''
      : `cluster { name: toll, listen: 127.0.0.1:${routes[index]}, routes: [${routes.map((port) => `nats://127.0.0.1:${port}`).join(', ')}] }`;
  const servers = await Promise.all(
    ports.map((port, index) => NatsServer.start({ dir, port, name: `n${index}`, conf: conf(index) })),
  );
  const urls = servers.map(({ url }) => url);
  const connection = await connected({ url: urls.join(',') });
  const nats = { servers: urls, replica: 'a', jetstream: { replicas: size } };
  const bridge = new KillableBridge({
    ...{ dir: path.join(dir, 'b'), port: await freePort() },
    config: { nats, spool: { enabled: false }, log: { level: 'error' } },
  });
  t.after(async () => {
    await bridge.kill();
    await connection.close();
    for (const server of servers) await server.kill();
    rmSync(dir, { recursive: true, force: true });
  });
  let trouble: unknown;
  const isSetUp = () =>
    setUpStreams(connection, natsConfig(nats)).then(
      () => true,
      (error) => {
        trouble = error;
        return false;
      },
    );
  // A cluster that has just begun has no leader yet.
  await until(`the streams (${String(trouble)})`, isSetUp);
  return { dir, servers, connection, bridge };
}

/** Publishes every record until the stream has it. Returns how many messages the stream may hold at least. */
async function publishAll(connection: NatsConnection, records: readonly object[]): Promise<number> {
  const client = jetstream(connection);
  let retries = 0;
  for (let from = 0; from < records.length; from += WINDOW) {
    await Promise.all(
      records.slice(from, from + WINDOW).map(async (record) => {
        // A session is one user's: what another one says of its turns would move nothing.
        const { id } = record as { id: { session: string } };
        const subject = `toll.turns.core.user${Number(id.session.split('_').at(-1)) % 7}`;
        while (
          !(await client.publish(subject, JSON.stringify(record), { timeout: 2000 }).then(
            () => true,
            () => false,
          ))
        ) {
          retries += 1;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }),
    );
  }
  return retries;
}

async function consumerState(connection: NatsConnection) {
  // A cluster that elects a leader does not answer; it is asked again.
  const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 2000 });
  return manager.consumers.info('TOLL', CONSUMER).catch(() => undefined);
}

/** Waits until the stream has nothing left for the bridge, and nothing is unacknowledged. */
async function drained({ connection }: Bus): Promise<void> {
  await until(
    'the end of the stream',
    async () => {
      const state = await consumerState(connection);
      return state !== undefined && state.num_pending === 0 && state.num_ack_pending === 0;
    },
    DRAIN_TRIES,
  );
}

function truthOf({ records: _, ...truth }: Stream) {
  return truth;
}

/** Whether something of the stream waits; looked for again and again, because a bridge is quicker than what comes. */
async function seenToWait({ connection }: Bus): Promise<boolean> {
  for (let look = 0; look < 100; look++) {
    const state = await consumerState(connection);
    if (state && state.num_pending + state.num_ack_pending > 0) return true;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return false;
}

async function assertExact(bus: Bus, stream: Stream): Promise<void> {
  const text = await bus.bridge.scrape();
  assert.deepEqual(shownBy(text), truthOf(stream));
  const { received = 0, ...outcomes } = eventsBy(text).jetstream ?? {};
  assert.equal(
    Object.values(outcomes).reduce((sum, count) => sum + count, 0),
    received,
    'received is the sum of what became of it',
  );
  // Whoever has just drained a stream may be on its way back to it.
  await until('the source to be up', async () =>
    /^tollbridge_source_up\{source="jetstream"\} 1$/m.test(await bus.bridge.scrape()),
  );
}

test(`${EVENTS} events through JetStream and ${KILLS} kills of the bridge: exact`, async (t) => {
  const bus = await startBus(t);
  const stream = compose(EVENTS, { seed: 11, name: 'js' });
  const random = randomFrom(Date.now());
  await bus.bridge.start();
  const startedMs = performance.now();
  const publishing = publishAll(bus.connection, stream.records);
  let killedUnderway = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    await new Promise((resolve) => setTimeout(resolve, 200 + random() * 500));
    if (await seenToWait(bus)) killedUnderway += 1;
    await bus.bridge.kill();
    await bus.bridge.start({ isReady: false });
  }
  await publishing;
  await drained(bus);
  const seconds = (performance.now() - startedMs) / 1000;
  await assertExact(bus, stream);
  t.diagnostic(
    `${stream.records.length} events, ${KILLS} kills (${killedUnderway} while some waited), exact; nothing pending; ` +
      `${Math.round(stream.records.length / seconds)} events/s with the kills`,
  );
  assert.ok(killedUnderway >= KILLS / 2, `only ${killedUnderway} of ${KILLS} kills hit the stream`);

  await bus.bridge.kill();
  rmSync(bus.bridge.stateDir, { recursive: true, force: true });
  const rebuiltMs = performance.now();
  await bus.bridge.start();
  const rebuildSeconds = (performance.now() - rebuiltMs) / 1000;
  await assertExact(bus, stream);
  t.diagnostic(
    `the ledger deleted and filled again from ${stream.records.length} messages: exact, in ${rebuildSeconds.toFixed(1)} s`,
  );
});

test('the server killed and started again in mid-stream, and the consumer deleted: exact', async (t) => {
  const bus = await startBus(t);
  const stream = compose(SMALL_EVENTS, { seed: 12, name: 'srv' });
  await bus.bridge.start();
  const publishing = publishAll(bus.connection, stream.records);
  for (let round = 0; round < 2; round++) {
    await new Promise((resolve) => setTimeout(resolve, 400));
    await bus.servers[0]!.kill();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await bus.servers[0]!.restart();
    await new Promise((resolve) => setTimeout(resolve, 400));
    const manager = await jetstreamManager(bus.connection, { checkAPI: false, timeout: 5000 });
    await manager.consumers.delete('TOLL', CONSUMER).catch(() => {});
  }
  const retries = await publishing;
  await drained(bus);
  await assertExact(bus, stream);
  t.diagnostic(
    `${stream.records.length} events, ${retries} published again, 2 kills of the server, 2 deletions of the consumer`,
  );
});

test('a cluster of three whose leader is killed in mid-stream: exact', async (t) => {
  const bus = await startBus(t, { size: 3 });
  const stream = compose(SMALL_EVENTS / 2, { seed: 13, name: 'r3' });
  await bus.bridge.start();
  const publishing = publishAll(bus.connection, stream.records);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const manager = await jetstreamManager(bus.connection, { checkAPI: false, timeout: 5000 });
  const leader = (await manager.streams.info('TOLL')).cluster?.leader;
  const server = bus.servers[Number(leader?.slice(1))];
  assert.ok(server, `a leader is known: ${leader}`);
  await server.kill();
  await new Promise((resolve) => setTimeout(resolve, 3000));
  await server.restart({ isReady: false });
  const retries = await publishing;
  await drained(bus);
  await assertExact(bus, stream);
  t.diagnostic(`${stream.records.length} events, ${retries} published again, the leader ${leader} killed`);
});
