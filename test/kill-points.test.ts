// kill -9 at each point of the way from a sender to its acknowledgement. Before the commit nothing of a batch is there
// after the next start, after it all of it is; sent again, as a sender does that heard nothing, it counts once.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { jetstream } from '@nats-io/jetstream';
import { Pool } from 'undici';
import { setUpStreams } from '../src/nats/streams.ts';
import { both, compose, type Stream } from './composed-stream.ts';
import { type KillPoint, KillSwitch } from './kill-point.ts';
import { KillableBridge } from './killable-bridge.ts';
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

const truthOf = ({ records: _, ...truth }: Stream) => truth;

test('kill -9 at each point of a commit: exact at once, and exact after it was sent again', async (t) => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const killSwitch = new KillSwitch(path.join(dir, 'kill-point'));
  const bridge = new KillableBridge({ dir, port: await freePort(), node: killSwitch });
  const pool = new Pool('http://tollbridge', { socketPath: bridge.socket, connections: 1 });
  t.after(async () => {
    await bridge.kill();
    await pool.destroy();
    rmSync(dir, { recursive: true, force: true });
  });
  const post = async ({ records }: Stream): Promise<number> => {
    const body = records.map((record) => JSON.stringify(record)).join('\n');
    const answer = await pool.request({ path: '/v1/events', method: 'POST', body }).catch(() => undefined);
    await answer?.body.dump().catch(() => {});
    return answer?.statusCode ?? 0;
  };

  let booked = compose(BATCH, { seed: 1, name: 'first' });
  killSwitch.arm(undefined);
  await bridge.start();
  assert.equal(await post(booked), 202);
  for (const [where, { isBooked, ...point }] of Object.entries(POINTS)) {
    const batch = compose(BATCH, { seed: 2, name: where.replaceAll(/\W/g, '_') });
    killSwitch.arm(point);
    const status = await post(batch);
    assert.equal(await bridge.ended(), 'SIGKILL', `it did not die ${where}`);
    if (status === 202) assert.ok(isBooked, `acknowledged ${where}`);
    killSwitch.arm(undefined);
    await bridge.start();
    const withBatch = both(booked, batch);
    assert.deepEqual(shownBy(await bridge.scrape()), truthOf(isBooked ? withBatch : booked), `found after ${where}`);
    assert.equal(await post(batch), 202);
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
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const cleanUp: (() => unknown)[] = [() => rmSync(dir, { recursive: true, force: true })];
  t.after(async () => {
    for (const step of cleanUp.reverse()) await Promise.resolve(step()).catch(() => {});
  });
  const server = await NatsServer.start({ dir });
  cleanUp.push(() => server.kill());
  const connection = await connected(server);
  cleanUp.push(() => connection.close());
  const nats = { servers: [server.url], replica: 'a' };
  await setUpStreams(connection, natsConfig(nats));
  const killSwitch = new KillSwitch(path.join(dir, 'kill-point'));
  const config = { nats, spool: { enabled: false } };
  const bridge = new KillableBridge({ dir: path.join(dir, 'b'), port: await freePort(), config, node: killSwitch });
  cleanUp.push(() => bridge.kill());
  killSwitch.arm(undefined);
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
