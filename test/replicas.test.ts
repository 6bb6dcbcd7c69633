// Two replicas of two partitions under a real Prometheus, while one is killed for good and one is frozen for a while: the
// sum over the bridges is never more than was sent, never falls, and is exact at the end.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { setUpStreams } from '../src/nats/streams.ts';
import { KillableBridge } from './killable-bridge.ts';
import { connected, NatsServer, natsConfig } from './nats/nats-server.ts';
import { freePort, Prometheus, until } from './prometheus-server.ts';
import { samplesOf } from './scrape.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const FROZEN_MS = FULL ? 60_000 : 8000;
const TURNS_PER_SECOND = 100;
const TURNS = ((FROZEN_MS + 7000) / 1000) * TURNS_PER_SECOND;
const SCRAPE_MS = 1000;
const PEOPLE = 12;
const MAPPING = `mappings: {
  "toll.turns.*.*": "toll.turns.{{partition(2,1,2)}}.{{wildcard(1)}}.{{wildcard(2)}}"
}`;
/** What every query over several bridges does: replicas are not added, partitions are. */
const TOTAL = 'sum(max without (instance, replica) (toll_cost_usd_total))';
const PARTITIONS = 'count(count by (partition) (toll_turns_total))';
const TURNS_TOTAL = 'sum(max without (instance, replica) (toll_turns_total))';

interface Sent {
  readonly atS: number;
  /** Nano-USD that had been handed to the stream by then, at most. */
  readonly nano: number;
}

test('two replicas of two partitions, one killed for good and one frozen: the sum never lies', async (t) => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const server = await NatsServer.start({ dir, conf: MAPPING });
  const connection = await connected(server);
  const settings = (replica: string, partition: string) => ({ servers: [server.url], replica, partition });
  const parts = ['1/2', '2/2'].flatMap((partition) => ['a', 'b'].map((replica) => settings(replica, partition)));
  for (const nats of parts) await setUpStreams(connection, natsConfig(nats));
  const bridges: KillableBridge[] = [];
  for (const [index, nats] of parts.entries()) {
    const port = await freePort();
    const bridge = new KillableBridge({ dir: path.join(dir, `b${index}`), port, config: { nats } });
    await bridge.start();
    bridges.push(bridge);
  }
  const targets = bridges.map(({ url }) => new URL(url).host);
  const prometheus = await Prometheus.start({ dir, targets, scrapeMs: SCRAPE_MS });
  t.after(async () => {
    await prometheus.stop();
    for (const bridge of bridges) {
      bridge.signal('SIGCONT');
      await bridge.kill();
    }
    await connection.close();
    await server.kill();
    rmSync(dir, { recursive: true, force: true });
  });

  const sent: Sent[] = [];
  let nano = 0;
  const client = jetstream(connection);
  const publishing = (async () => {
    const startedMs = performance.now();
    for (let n = 0; n < TURNS; n++) {
      const dueMs = startedMs + (n / TURNS_PER_SECOND) * 1000;
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, dueMs - performance.now())));
      const cost = 1_000_001 + n;
      nano += cost;
      sent.push({ atS: Date.now() / 1000, nano });
      const record = {
        ...{ v: 1, kind: 'turn', agent: 'opencode', id: { session: `s${n % PEOPLE}`, message: `m${n}` } },
        ...{ time: { started: Date.now() - 1000, completed: Date.now() }, provider: 'openai', model: 'gpt-5' },
        ...{ cost_usd: cost / 1e9, tokens: { input: 1 } },
      };
      await client.publish(`toll.turns.core.user${n % PEOPLE}`, JSON.stringify(record));
    }
  })();
  const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  await wait(3000);
  const fromS = Date.now() / 1000;
  await bridges[0]!.kill();
  await wait(1000);
  bridges[3]!.signal('SIGSTOP');
  await wait(FROZEN_MS);
  bridges[3]!.signal('SIGCONT');
  await publishing;
  const manager = await jetstreamManager(connection);
  for (const consumer of ['tollbridge_b_1_of_2', 'tollbridge_a_2_of_2', 'tollbridge_b_2_of_2']) {
    await until(`the end of the stream for ${consumer}`, async () => {
      const { num_pending, num_ack_pending } = await manager.consumers.info('TOLL', consumer);
      return num_pending + num_ack_pending === 0;
    });
  }
  const drainedS = Date.now() / 1000;
  await wait(3 * SCRAPE_MS);

  let before = 0;
  let samples = 0;
  let unseen = 0;
  for (let atS = fromS; atS < Date.now() / 1000; atS += SCRAPE_MS / 2000) {
    const [point] = await prometheus.query(TOTAL, atS);
    // On a busy machine both scrapes of a partition can come too late: then Prometheus has nothing of it to add.
    const isWhole = (await prometheus.query(PARTITIONS, atS))[0]?.value === 2;
    if (!point || !isWhole) {
      unseen += 1;
      continue;
    }
    samples += 1;
    const shown = Math.round(point.value * 1e9);
    // A sample is dated when its scrape began, and may hold what came until it was answered.
    const most = sent.findLast((one) => one.atS <= atS + SCRAPE_MS / 1000)?.nano ?? 0;
    assert.ok(shown <= most, `at ${atS}: ${shown} shown, and only ${most} sent`);
    assert.ok(shown >= before, `at ${atS}: it fell from ${before} to ${shown}`);
    before = shown;
  }
  assert.equal(before, nano, 'exact at the end');
  assert.ok(unseen < samples / 4, `${unseen} moments without a scrape of both partitions, ${samples} with`);
  assert.equal((await prometheus.query(TURNS_TOTAL))[0]?.value, TURNS);

  // The frozen replica has caught up by itself, and the two of a partition say the same.
  const own = async (bridge: KillableBridge) =>
    samplesOf(await bridge.scrape())
      .filter(({ name }) => /^toll_(cost|tokens|turns)_?.*_total$/.test(name))
      .map(({ name, labels, value }) => JSON.stringify([name, labels, value]))
      .sort();
  const [second, third] = [await own(bridges[2]!), await own(bridges[3]!)];
  assert.deepEqual(second, third);
  assert.ok(second.length > 0 && second.every((line) => line.includes('"partition":"2/2"')));
  const onlyOne = await prometheus.query(`sum(toll_turns_total)`);
  assert.notEqual(onlyOne[0]?.value, TURNS, 'control: without max the replicas would be added');
  t.diagnostic(
    `${TURNS} turns of ${PEOPLE} people, ${nano} nano-USD; ${samples} samples, none above what was sent, none falling; ` +
      `exact ${(Date.now() / 1000 - drainedS).toFixed(0)} s after the stream was drained`,
  );
});
