// Agents, relays, a NATS server and a bridge: each a real process, and what agents export in between.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { KillableBridge } from './killable-bridge.ts';
import { type NatsServer, startStreams } from './nats/nats-server.ts';
import type { Batch, Bill } from './otlp-bill.ts';
import { freePort, until } from './prometheus-server.ts';
import { type Shown, samplesOf, shownBy } from './scrape.ts';
import { CANARY, inJson, inProtobuf, type Posted, send, zipped } from './sources/otlp-fixture.ts';

/** Whose the agents of a relay's own machine are. */
export const IDENTITY = { team: 'core', user: 'ada' };
const TRIES = 600;
const PATIENCE_MS = 60_000;

export interface Relay {
  readonly process: KillableBridge;
  /** Where agents export to. */
  readonly url: string;
}

export interface Road {
  readonly dir: string;
  readonly server: NatsServer;
  readonly bridge: KillableBridge;
  readonly relays: readonly Relay[];
  /** Of all messages that passed through the server. */
  readonly subjects: readonly string[];
}

export interface RoadOptions {
  readonly relays?: number;
  /** More of the configuration of relays. */
  readonly config?: object;
  /** The server's `authorization`, where it has one: the users `op`, who may do everything, and `relay`. */
  readonly conf?: string;
}

export async function startRoad(t: TestContext, { relays = 1, config = {}, conf }: RoadOptions = {}): Promise<Road> {
  const guarded = conf === undefined ? {} : { conf, as: { user: 'op', pass: 'op' } };
  const { dir, server, nats, connection, atEnd } = await startStreams(t, guarded);
  const subjects: string[] = [];
  connection.subscribe('toll.>', { callback: (_, { subject }) => void subjects.push(subject) });
  const natsAs = (user: string) => ({ ...nats, ...(conf === undefined ? {} : { user, password_env: `TEST_${user}` }) });
  const env = { ...process.env, TEST_op: 'op', TEST_relay: 'relay' };
  const started = async (name: string, options: { readonly command?: 'relay'; readonly config: object }) => {
    const each = new KillableBridge({
      ...{ dir: path.join(dir, name), port: await freePort(), node: { nodeArgs: [], env }, ...options },
      config: { log: { level: 'trace' }, ...options.config },
    });
    atEnd(() => each.kill());
    await each.start();
    return each;
  };
  const bridge = await started('b', { config: { nats: natsAs('op') } });
  const all: Relay[] = [];
  for (let n = 0; n < relays; n++) {
    const port = await freePort();
    const own = {
      ...{ nats: natsAs('relay'), otlp_in: { listen: `127.0.0.1:${port}`, rate_limit: 5000 } },
      ...{ socket: { path: path.join(dir, `r${n}`, 's'), identity: IDENTITY }, ...config },
    };
    const relay = await started(`r${n}`, { command: 'relay', config: own });
    all.push({ process: relay, url: `http://127.0.0.1:${port}` });
  }
  return { dir, server, bridge, relays: all, subjects };
}

const ENCODINGS: readonly ((batch: Batch) => Posted)[] = [
  (batch) => inJson('/v1/logs', batch),
  (batch) => inProtobuf('/v1/logs', batch),
  (batch) => zipped(inJson('/v1/logs', batch)),
  (batch) => zipped(inProtobuf('/v1/logs', batch)),
];
export const postsOf = ({ batches }: Bill) => batches.map((batch, n) => ENCODINGS[n % ENCODINGS.length]!(batch));
export const withToken = (token: string, { headers, ...post }: Posted): Posted => ({
  ...post,
  headers: { ...headers, authorization: `Bearer ${token}` },
});

/** Sends each post until it is accepted, with a pause between one and the next. Returns how often one was sent again. */
export async function deliver(posts: readonly Posted[], relays: readonly Relay[], pauseMs = 0): Promise<number> {
  let again = 0;
  const untilMs = performance.now() + PATIENCE_MS;
  const underway: Promise<void>[] = [];
  for (const [n, post] of posts.entries()) {
    const accepted = async () => {
      for (let tries = n; ; tries++) {
        const answer = await send(relays[tries % relays.length]!.url, post).catch(() => undefined);
        if (answer?.status === 200) return assert.doesNotMatch(answer.bytes.toString(), /reject/i);
        again += 1;
        assert.ok(performance.now() < untilMs, `nobody takes a post: ${answer?.status} ${String(answer?.bytes)}`);
        await delay(100);
      }
    };
    underway.push(accepted());
    if (pauseMs > 0) await delay(pauseMs);
  }
  await Promise.all(underway);
  return again;
}

export const sumOf = (amounts: readonly number[]) => amounts.reduce((sum, amount) => sum + amount, 0);
export const total = (text: string, name: string, labels: Readonly<Record<string, string>> = {}) =>
  sumOf(
    samplesOf(text)
      .filter((sample) => sample.name === name)
      .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))
      .map(({ value }) => value),
  );
export const waiting = async ({ process }: Relay) => total(await process.scrape(), 'tollbridge_relay_queue_events');
export async function isCounted({ bridge }: Road, truth: Shown): Promise<void> {
  const shown = async () => shownBy(await bridge.scrape().catch(() => ''));
  await until('the whole bill', async () => isDeepStrictEqual(await shown(), truth), TRIES).catch(() => {});
  assert.deepEqual(await shown(), truth);
}

/** No word of content on any disk of the road, in any subject or metric, and in what its processes say. */
export async function isSilent({ dir, bridge, relays, subjects }: Road): Promise<void> {
  const files = readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
  const telling = files.filter((file) => readFileSync(file, 'latin1').includes(CANARY));
  assert.ok(files.length > 3);
  assert.deepEqual(telling, [], 'no word on any disk of the road');
  assert.ok(!subjects.join('\n').includes(CANARY));
  for (const each of [bridge, ...relays.map(({ process }) => process)]) {
    assert.ok(!each.said.includes(CANARY));
    assert.ok(!(await each.scrape()).includes(CANARY));
  }
}
