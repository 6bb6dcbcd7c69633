// kill -9 at each point of the way from a sender to its acknowledgement. Before the commit nothing of a batch is there
// after the next start, after it all of it is; sent again, as a sender does that heard nothing, it counts once.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { jetstream } from '@nats-io/jetstream';
import type { NatsConnection } from 'nats';
import { Pool } from 'undici';
import { setUpStreams } from '../src/nats/streams.ts';
import { cleanUpOf } from './clean-up.ts';
import { both, compose, type Stream } from './composed-stream.ts';
import { type KillPoint, KillSwitch } from './kill-point.ts';
import { KillableBridge, type KillableOptions, killableBridge, postRecords } from './killable-bridge.ts';
import { connected, NatsServer, natsConfig } from './nats/nats-server.ts';
import { freePort, until } from './prometheus-server.ts';
import { shownBy } from './scrape.ts';

const BATCH = 60;

/** Where it dies, and whether the batch that was under way is in the ledger then. */
const POINTS: Readonly<Record<string, KillPoint & { readonly isBooked: boolean }>> = {
  'before the transaction': { sql: '^BEGIN IMMEDIATE', moment: 'before', isBooked: false },
  'in the middle of its turns': { sql: '^(INSERT INTO|UPDATE) turn\\b', moment: 'after', isBooked: false },
  'between the totals': { sql: '^INSERT INTO counter', moment: 'after', isBooked: false },
  'in the rollup': { sql: '^INSERT INTO rollup', moment: 'after', isBooked: false },
  'in the spending of budgets': { sql: '^INSERT INTO spend', moment: 'after', isBooked: false },
  'before the commit': { sql: '^COMMIT', moment: 'before', follows: 'INSERT INTO counter', isBooked: false },
  'after the commit, before the answer': {
    ...{ sql: '^COMMIT', moment: 'after', follows: 'INSERT INTO counter', isBooked: true },
  },
  'after the answer': { answered: 202, isBooked: true },
};

interface Bus {
  readonly dir: string;
  readonly server: NatsServer;
  readonly connection: NatsConnection;
  readonly nats: object;
  readonly killSwitch: KillSwitch;
  /** A bridge, or a relay, that ends when the test does. */
  readonly processOf: (name: string, options: Partial<KillableOptions>) => Promise<KillableBridge>;
}

async function startBus(t: TestContext): Promise<Bus> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const atEnd = cleanUpOf(t);
  atEnd(() => rmSync(dir, { recursive: true, force: true }));
  const server = await NatsServer.start({ dir });
  atEnd(() => server.kill());
  const connection = await connected(server);
  atEnd(() => connection.close());
  const nats = { servers: [server.url], replica: 'a' };
  await setUpStreams(connection, natsConfig(nats));
  const killSwitch = new KillSwitch(path.join(dir, 'kill-point'));
  killSwitch.arm(undefined);
  const processOf = async (name: string, options: Partial<KillableOptions>) => {
    const process = new KillableBridge({ dir: path.join(dir, name), port: await freePort(), ...options });
    atEnd(() => process.kill());
    return process;
  };
  return { dir, server, connection, nats, killSwitch, processOf };
}

const truthOf = ({ records: _, ...truth }: Stream) => truth;

test('kill -9 at each point of a commit: exact at once, and exact after it was sent again', async (t) => {
  const files = cleanUpOf(t);
  const switches = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  files(() => rmSync(switches, { recursive: true, force: true }));
  const killSwitch = new KillSwitch(path.join(switches, 'kill-point'));
  const { bridge, post } = await killableBridge(t, { node: killSwitch });
  let booked = compose(BATCH, { seed: 1, name: 'first' });
  killSwitch.arm(undefined);
  await bridge.start();
  assert.equal(await post(booked.records), 202);
  for (const [where, { isBooked, ...point }] of Object.entries(POINTS)) {
    const batch = compose(BATCH, { seed: 2, name: where.replaceAll(/\W/g, '_') });
    killSwitch.arm(point);
    const status = await post(batch.records);
    assert.equal(await bridge.ended(), 'SIGKILL', `it did not die ${where}`);
    if (status === 202) assert.ok(isBooked, `acknowledged ${where}`);
    killSwitch.arm(undefined);
    await bridge.start();
    const withBatch = both(booked, batch);
    assert.deepEqual(shownBy(await bridge.scrape()), truthOf(isBooked ? withBatch : booked), `found after ${where}`);
    assert.equal(await post(batch.records), 202);
    assert.deepEqual(shownBy(await bridge.scrape()), truthOf(withBatch), `sent again after ${where}`);
    booked = withBatch;
  }
  await bridge.kill();
  const db = new DatabaseSync(path.join(bridge.stateDir, 'ledger.db'), { readOnly: true });
  t.after(() => db.close());
  assert.deepEqual({ ...db.prepare('PRAGMA integrity_check').get() }, { integrity_check: 'ok' });
  t.diagnostic(`${Object.keys(POINTS).length} points, ${booked.records.length} events, difference 0`);
});

test('the same while a stream is read: what was not acknowledged comes again, and what was is not booked twice', async (t) => {
  const { connection, nats, killSwitch, processOf } = await startBus(t);
  const bridge = await processOf('b', { config: { nats, spool: { enabled: false } }, node: killSwitch });
  await bridge.start();
  let published = compose(BATCH, { seed: 3, name: 'stream' });
  const publish = async ({ records }: Stream) => {
    const client = jetstream(connection);
    for (const record of records) await client.publish('toll.turns.core.ana', JSON.stringify(record));
  };
  const isShown = async () => {
    const found = shownBy(await bridge.scrape().catch(() => ''));
    return isDeepStrictEqual(found, truthOf(published));
  };
  await publish(published);
  await until('the first events', isShown);
  const STREAM_POINTS = Object.entries(POINTS).filter(([, point]) => 'sql' in point && point.sql === '^COMMIT');
  for (const [where, { isBooked: _, ...point }] of STREAM_POINTS) {
    const batch = compose(BATCH, { seed: 4, name: where.replaceAll(/\W/g, '_') });
    killSwitch.arm(point);
    await publish(batch);
    assert.equal(await bridge.ended(), 'SIGKILL', `it did not die ${where}`);
    published = both(published, batch);
    killSwitch.arm(undefined);
    await bridge.start();
    await until(`all of the stream, after ${where}`, isShown).catch(() => {});
    assert.deepEqual(shownBy(await bridge.scrape()), truthOf(published));
  }
  t.diagnostic(`${STREAM_POINTS.length} points, ${published.records.length} messages, difference 0`);
});

test('the same of a relay while NATS is away: what it acknowledged arrives, once', async (t) => {
  const { server, nats, killSwitch, processOf } = await startBus(t);
  const relay = await processOf('r', { command: 'relay', config: { nats }, node: killSwitch });
  const pool = new Pool('http://tollbridge', { socketPath: relay.socket, connections: 1 });
  t.after(() => pool.destroy());
  const post = (records: readonly object[]) => postRecords(pool, records);
  await relay.start();
  await server.kill();
  let sent = compose(BATCH, { seed: 5, name: 'relay' });
  assert.equal(await post(sent.records), 202);
  const follows = 'INSERT INTO message';
  const RELAY_POINTS: readonly KillPoint[] = [
    { sql: `^${follows}`, moment: 'after' },
    { sql: '^COMMIT', moment: 'before', follows },
    { sql: '^COMMIT', moment: 'after', follows },
    { answered: 202 },
  ];
  for (const [at, point] of RELAY_POINTS.entries()) {
    const batch = compose(BATCH, { seed: 6, name: `r${at}` });
    killSwitch.arm(point);
    await post(batch.records);
    assert.equal(await relay.ended(), 'SIGKILL', `it did not die at ${JSON.stringify(point)}`);
    killSwitch.arm(undefined);
    await relay.start({ isReady: false });
    // As its sender does, which may have heard nothing; after an answer it would not, and need not.
    if (!('answered' in point)) await until('an acknowledgement', async () => (await post(batch.records)) === 202, 400);
    sent = both(sent, batch);
  }
  await server.restart();
  const bridge = await processOf('b', { config: { nats, spool: { enabled: false } } });
  await bridge.start();
  const isShown = async () => isDeepStrictEqual(shownBy(await bridge.scrape().catch(() => '')), truthOf(sent));
  await until('all that the relay had', isShown, 400).catch(() => {});
  assert.deepEqual(shownBy(await bridge.scrape()), truthOf(sent));
  t.diagnostic(`${RELAY_POINTS.length} points, ${sent.records.length} events, difference 0`);
});
