// A bridge, a relay and a server between them, to which anything happens at any moment: killed, frozen, robbed. What the
// relay said is accepted is counted, once.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Pool } from 'undici';
import { setUpStreams } from '../src/nats/streams.ts';
import { compose, randomFrom } from './composed-stream.ts';
import { KillableBridge } from './killable-bridge.ts';
import { connected, NatsServer, natsConfig } from './nats/nats-server.ts';
import { freePort, until } from './prometheus-server.ts';
import { samplesOf, shownBy } from './scrape.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const EVENTS = FULL ? 30_000 : 8000;
const BATCH = 25;
const SENDERS = 4;
const CONSUMER = 'tollbridge_a_1_of_1';
/** Of 50 ms each. */
const PATIENCE_TRIES = 2400;

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test(`${EVENTS} events while anything happens: exact`, async (t) => {
  const seed = Date.now() % 100_000;
  t.diagnostic(`seed ${seed}`);
  const random = randomFrom(seed);
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const server = await NatsServer.start({ dir });
  const connection = await connected(server);
  const config = { nats: { servers: [server.url], replica: 'a' } };
  await setUpStreams(connection, natsConfig(config.nats));
  const bridge = new KillableBridge({ dir: path.join(dir, 'b'), port: await freePort(), config });
  const relay = new KillableBridge({ dir: path.join(dir, 'r'), port: await freePort(), command: 'relay', config });
  t.after(async () => {
    for (const process of [relay, bridge]) {
      process.signal('SIGCONT');
      await process.kill();
    }
    await connection.close();
    server.signal('SIGCONT');
    await server.kill();
    rmSync(dir, { recursive: true, force: true });
  });
  await bridge.start();
  await relay.start();

  const frozen = async (one: { signal(signal: NodeJS.Signals): void }, ms: number) => {
    one.signal('SIGSTOP');
    await wait(ms);
    one.signal('SIGCONT');
  };
  const happenings: Readonly<Record<string, () => Promise<unknown>>> = {
    'the bridge is killed': async () => {
      await bridge.kill();
      await bridge.start({ isReady: false });
    },
    'the relay is killed': async () => {
      await relay.kill();
      await relay.start({ isReady: false });
    },
    'the server is killed': async () => {
      await server.kill();
      await wait(random() * 1500);
      await server.restart();
    },
    'the server stands still': () => frozen(server, random() * 7000),
    'the bridge stands still': () => frozen(bridge, random() * 3000),
    'the relay stands still': () => frozen(relay, random() * 2000),
    'the consumer is deleted': async () => {
      const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 2000 });
      await manager.consumers.delete('TOLL', CONSUMER);
    },
    'somebody else takes messages': async () => {
      const thief = await jetstream(connection).consumers.get('TOLL', CONSUMER);
      for await (const message of await thief.fetch({ max_messages: 50, expires: 1000 })) message.ack();
    },
  };

  const stream = compose(EVENTS, { seed, name: 'chaos' });
  const pool = new Pool('http://tollbridge', { socketPath: relay.socket, connections: SENDERS });
  let next = 0;
  let repeated = 0;
  const sender = async () => {
    while (next < stream.records.length) {
      const body = stream.records
        .slice(next, next + BATCH)
        .map((record) => JSON.stringify(record))
        .join('\n');
      next += BATCH;
      for (;;) {
        const status = await pool
          .request({ path: '/v1/events', method: 'POST', body, headersTimeout: 20_000 })
          .then(async (answer) => {
            await answer.body.dump();
            return answer.statusCode;
          })
          .catch(() => 0);
        if (status === 202) break;
        repeated += 1;
        await wait(100);
      }
      await wait(80);
    }
  };
  let isDelivered = false;
  const delivery = Promise.all(Array.from({ length: SENDERS }, sender)).then(() => {
    isDelivered = true;
  });
  const happened = new Map<string, number>();
  while (!isDelivered) {
    await wait(200 + random() * 600);
    const names = Object.keys(happenings);
    const name = names[Math.floor(random() * names.length)]!;
    happened.set(name, (happened.get(name) ?? 0) + 1);
    // What is to be deleted or robbed may not be there just now.
    await happenings[name]!().catch(() => {});
  }
  await delivery;
  await pool.destroy();

  const waiting = async () => {
    const text = await relay.scrape().catch(() => '');
    return samplesOf(text).find(({ name }) => name === 'tollbridge_relay_queue_events')?.value;
  };
  await until('an empty queue', async () => (await waiting()) === 0, PATIENCE_TRIES);
  const { records: _, ...truth } = stream;
  const shown = async () => shownBy(await bridge.scrape().catch(() => ''));
  await until('the truth', async () => isSame(await shown(), truth), PATIENCE_TRIES).catch(() => {});
  assert.deepEqual(await shown(), truth);
  const list = [...happened].map(([name, times]) => `${name} ${times}×`).join(', ');
  t.diagnostic(`${stream.records.length} events, ${repeated} batches sent again; ${list}`);
});

function isSame(a: unknown, b: unknown): boolean {
  try {
    assert.deepEqual(a, b);
    return true;
  } catch {
    return false;
  }
}
