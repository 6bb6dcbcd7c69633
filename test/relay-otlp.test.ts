// Agents that export to a relay: what it answered with 200 is counted by a bridge elsewhere, once, under the name of the
// relay's machine, whatever was killed meanwhile.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { KillableBridge } from './killable-bridge.ts';
import { startStreams } from './nats/nats-server.ts';
import { freePort, until } from './prometheus-server.ts';
import { samplesOf } from './scrape.ts';
import { CANARY, inJson, inProtobuf, recordings, send } from './sources/otlp-fixture.ts';

const RECORDINGS = recordings().filter(({ name }) => !name.startsWith('oc-'));

test('what agents export to a relay is counted by the bridge, whatever is killed between them', async (t) => {
  const { dir, server, nats } = await startStreams(t);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const bridge = new KillableBridge({ dir: path.join(dir, 'b'), port: await freePort(), config: { nats } });
  t.after(() => bridge.kill());
  const relayDir = path.join(dir, 'r');
  const relay = new KillableBridge({
    ...{ dir: relayDir, port: await freePort(), command: 'relay' },
    config: {
      ...{ nats, otlp_in: { listen: `127.0.0.1:${port}` } },
      socket: { path: path.join(relayDir, 's'), identity: { team: 'core', user: 'ada' } },
    },
  });
  t.after(() => relay.kill());
  await bridge.start();
  await relay.start();

  const posts = RECORDINGS.flatMap((recording) => recording.posts.filter(({ path: to }) => to === '/v1/logs'));
  for (const [index, { path: to, body }] of posts.entries()) {
    if (index === Math.floor(posts.length / 3)) await server.kill();
    if (index === Math.floor(posts.length / 2)) {
      await relay.kill();
      await relay.start();
    }
    assert.equal((await send(url, inProtobuf(to, body))).status, 200);
  }
  await server.restart();
  for (const { path: to, body } of posts) assert.equal((await send(url, inJson(to, body))).status, 200);

  const sumOf = (amounts: readonly number[]) => amounts.reduce((sum, amount) => sum + amount, 0);
  const expected = RECORDINGS.map((recording) => recording.expected);
  const total = (text: string, name: string, labels: Record<string, string> = {}) =>
    sumOf(
      samplesOf(text)
        .filter((sample) => sample.name === name)
        .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))
        .map(({ value }) => value),
    );
  const turns = sumOf(expected.map((one) => one.turns));
  await until('every turn', async () => total(await bridge.scrape(), 'toll_turns_total') === turns, 600);
  await until('an empty queue', async () => total(await relay.scrape(), 'tollbridge_relay_queue_events') === 0, 600);
  const text = await bridge.scrape();
  assert.equal(total(text, 'toll_turns_total'), turns);
  assert.equal(total(text, 'toll_turn_errors_total'), sumOf(expected.map((one) => one.errors)));
  assert.equal(total(text, 'toll_tokens_total'), sumOf(expected.flatMap((one) => one.metered)));
  assert.equal(total(text, 'toll_turns_total', { team: 'core' }), turns);
  assert.ok(total(await relay.scrape(), 'tollbridge_events_received_total', { source: 'otlp' }) > 0);
  const kept = readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(path.join(entry.parentPath, entry.name), 'latin1'));
  assert.ok(kept.length > 3 && kept.every((file) => !file.includes(CANARY)), 'no word on any disk of the road');
});
