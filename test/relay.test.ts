// A relay whose NATS goes away and which is itself killed: what a sender was told is accepted is counted, once.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { jetstreamManager } from '@nats-io/jetstream';
import { Pool } from 'undici';
import { setUpStreams } from '../src/nats/streams.ts';
import { compose } from './composed-stream.ts';
import { KillableBridge } from './killable-bridge.ts';
import { connected, NatsServer, natsConfig } from './nats/nats-server.ts';
import { freePort, until } from './prometheus-server.ts';
import { samplesOf, shownBy } from './scrape.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const EVENTS_PER_SECOND = 200;
const AWAY_MS = FULL ? 30_000 : 6000;
/** The stream runs before, during and after. */
const EVENTS = ((AWAY_MS + 8000) / 1000) * EVENTS_PER_SECOND;
const BATCH = 20;

async function startAll(t: TestContext) {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const server = await NatsServer.start({ dir });
  const connection = await connected(server);
  const nats = { servers: [server.url], replica: 'a' };
  await setUpStreams(connection, natsConfig(nats));
  const bridge = new KillableBridge({ dir: path.join(dir, 'b'), port: await freePort(), config: { nats } });
  const relay = new KillableBridge({
    ...{ dir: path.join(dir, 'r'), port: await freePort(), command: 'relay' },
    config: { nats, socket: { path: path.join(dir, 'r', 's'), identity: { team: 'core', user: 'ada' } } },
  });
  await bridge.start();
  await relay.start();
  t.after(async () => {
    await relay.kill();
    await bridge.kill();
    await connection.close();
    await server.kill();
    rmSync(dir, { recursive: true, force: true });
  });
  return { dir, server, connection, bridge, relay };
}

/** Sends at an even pace, each batch until it is accepted. Returns how often one had to be sent again. */
async function deliver(socketPath: string, records: readonly object[]): Promise<number> {
  const pool = new Pool('http://tollbridge', { socketPath, connections: 4 });
  const startedMs = performance.now();
  let retries = 0;
  const underway: Promise<void>[] = [];
  for (let from = 0; from < records.length; from += BATCH) {
    const dueMs = startedMs + (from / EVENTS_PER_SECOND) * 1000;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, dueMs - performance.now())));
    const body = records
      .slice(from, from + BATCH)
      .map((record) => JSON.stringify(record))
      .join('\n');
    const send = async () => {
      for (;;) {
        const answer = await pool
          .request({ path: '/v1/events', method: 'POST', body, headersTimeout: 15_000 })
          .then(async ({ statusCode, body: text }) => ({ statusCode, text: await text.text() }))
          .catch(() => ({ statusCode: 0, text: '' }));
        if (answer.statusCode === 202) {
          assert.deepEqual(JSON.parse(answer.text).rejected, []);
          return;
        }
        retries += 1;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    underway.push(send());
  }
  await Promise.all(underway);
  await pool.destroy();
  return retries;
}

const gauge = (text: string, name: string) => samplesOf(text).find((sample) => sample.name === name)?.value;

test(`NATS away for ${AWAY_MS / 1000} s at ${EVENTS_PER_SECOND} events/s, the relay killed twice: exact`, async (t) => {
  const { server, connection, bridge, relay } = await startAll(t);
  const stream = compose(EVENTS, { seed: 21, name: 'relay' });
  const delivery = deliver(relay.socket, stream.records);
  const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  await wait(2000);
  await relay.kill();
  await relay.start();
  await wait(1000);
  await server.kill();
  await wait(AWAY_MS / 2);
  const waiting = gauge(await relay.scrape(), 'tollbridge_relay_queue_events') ?? 0;
  await relay.kill();
  await relay.start();
  await wait(AWAY_MS / 2);
  await server.restart();
  const retries = await delivery;

  await until('an empty queue', async () => gauge(await relay.scrape(), 'tollbridge_relay_queue_events') === 0, 1200);
  const manager = await jetstreamManager(connection, { timeout: 5000 });
  await until(
    'the end of the stream',
    async () => {
      const info = await manager.consumers.info('TOLL', 'tollbridge_a_1_of_1').catch(() => undefined);
      return info !== undefined && info.num_pending === 0 && info.num_ack_pending === 0;
    },
    1200,
  );
  const { records, ...truth } = stream;
  assert.deepEqual(shownBy(await bridge.scrape()), truth);
  const { state } = await manager.streams.info('TOLL');
  t.diagnostic(
    `${records.length} events, ${waiting} on disk half-way, ${retries} batches sent again, ${state.messages} messages in the stream: exact`,
  );
  assert.ok(waiting > 100, `the disk was needed: ${waiting} events waited`);
});

test('the last description of a turn is not swallowed as a copy of its first', async (t) => {
  const { connection, bridge, relay } = await startAll(t);
  const startedMs = Date.now() - 5000;
  const vector = (fields: object) => ({
    ...{
      v: 1,
      kind: 'turn',
      agent: 'opencode',
      id: { session: 's', message: 'm' },
      provider: 'openai',
      model: 'gpt-5',
    },
    ...{ time: { started: startedMs }, ...fields },
  });
  const final = vector({
    time: { started: startedMs, completed: startedMs + 1000 },
    cost_usd: 3,
    tokens: { output: 9 },
  });
  const vectors = [vector({}), vector({ finished: true, cost_usd: 1 }), final, final];
  assert.equal(await deliver(relay.socket, vectors), 0);
  const { state } = await (await jetstreamManager(connection)).streams.info('TOLL');
  assert.equal(state.messages, 3, 'each description once, and the repeated one known by the stream');
  await until('the turn', async () => shownBy(await bridge.scrape()).turns['openai/gpt-5 ok'] === 1);
  assert.deepEqual(shownBy(await bridge.scrape()).costNano, { 'openai/gpt-5': 3e9 });
});

test('nothing of a payload but numbers, names and ids reaches a disk, a subject or a log', async (t) => {
  const { dir, server, connection, bridge, relay } = await startAll(t);
  const hook = (n: number) => ({
    source: 'opencode',
    payload: {
      event: {
        type: 'message.updated',
        properties: {
          info: {
            ...{ id: `msg-${n}`, sessionID: 'ses', role: 'assistant', modelID: 'gpt-5', providerID: 'openai' },
            ...{ finish: 'stop', time: { created: Date.now() - 9000, completed: Date.now() }, cost: 0.5 },
            ...{ tokens: { input: 1, output: 1, reasoning: 0, cache: { read: 0, write: 0 } } },
            path: { cwd: '/home/CANARY-user/shop', root: '/home/CANARY-user/shop' },
            ...{ summary: 'CANARY-summary', error: undefined, system: ['CANARY-system'], text: 'CANARY-answer' },
          },
        },
      },
      prompt: 'CANARY-prompt',
    },
  });
  assert.equal(await deliver(relay.socket, [hook(1)]), 0);
  await server.kill();
  await new Promise((resolve) => setTimeout(resolve, 300));
  await deliver(relay.socket, [hook(2), { v: 1, kind: 'turn', agent: 'opencode', secret: 'CANARY-rejected' }]).catch(
    () => {},
  );
  const waits = gauge(await relay.scrape(), 'tollbridge_relay_queue_events') ?? 0;
  await server.restart();
  await until('both turns', async () => shownBy(await bridge.scrape()).turns['openai/gpt-5 ok'] === 2);
  await connection.flush();
  const found = spawnSync('grep', ['-rla', 'CANARY', dir], { encoding: 'utf8' });
  assert.equal(found.stdout, '');
  const control = spawnSync('grep', ['-rla', 'gpt-5', dir], { encoding: 'utf8' });
  assert.match(control.stdout, /nats-one.*\.blk/, 'control: what travels is found where it was looked');
  assert.doesNotMatch(bridge.said + relay.said, /CANARY/);
  assert.ok(waits >= 1, 'the disk was used');
});
