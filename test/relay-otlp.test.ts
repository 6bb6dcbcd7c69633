// Agents that export to a relay: what it answered with 200 is counted by a bridge elsewhere, once and to the nano-dollar,
// under the name of the relay's machine or of the token, whatever is killed, full or denied meanwhile.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { tokenDigest } from '../src/listen.ts';
import { both } from './composed-stream.ts';
import { type KillableBridge, killableBridge } from './killable-bridge.ts';
import { billOf, conversation, oneCall } from './otlp-bill.ts';
import {
  deliver,
  IDENTITY,
  isCounted,
  isSilent,
  postsOf,
  type Relay,
  type Road,
  type RoadOptions,
  startRoad,
  sumOf,
  total,
  waiting,
  withToken,
} from './otlp-road.ts';
import { freePort, until } from './prometheus-server.ts';
import { samplesOf } from './scrape.ts';
import { CANARY, inJson, inProtobuf, type Posted, recordings, send } from './sources/otlp-fixture.ts';

const TRIES = 600;

async function isQuick(url: string, post: Posted): Promise<boolean> {
  const startedMs = performance.now();
  assert.equal((await send(url, post)).status, 200);
  return performance.now() - startedMs < 2000;
}

/** What happens while a bill is delivered. */
const TROUBLES: Readonly<
  Record<string, RoadOptions & { readonly batches: number; drive(road: Road, posts: readonly Posted[]): Promise<void> }>
> = {
  'every post twice, in two encodings, shuffled, over two relays': {
    ...{ relays: 2, batches: 60 },
    async drive({ relays }, posts) {
      const backwards = [...posts].reverse();
      assert.equal(
        await deliver(
          posts.flatMap((post, n) => [post, backwards[n]!]),
          relays,
        ),
        0,
      );
    },
  },
  'the relay killed again and again amid posts, NATS away meanwhile': {
    batches: 300,
    async drive({ relays, server }, posts) {
      const { process } = relays[0]!;
      const delivery = deliver(posts, relays, 10);
      for (const step of [undefined, () => server.kill(), undefined, () => server.restart()]) {
        await delay(500);
        await process.kill();
        await step?.();
        await process.start();
      }
      assert.ok((await delivery) > 0, 'control: posts were under way');
    },
  },
  'a NATS server that stands still: one post waits for it, and the disk has those after it': {
    batches: 40,
    async drive({ relays, server }, posts) {
      const [relay] = relays as [Relay];
      await deliver(posts.slice(0, 10), relays);
      await server.pause();
      try {
        await deliver(posts.slice(10, 11), relays);
        for (const post of posts.slice(11)) assert.ok(await isQuick(relay.url, post), 'no sender waits for NATS again');
        assert.ok((await waiting(relay)) > 100);
      } finally {
        server.signal('SIGCONT');
      }
    },
  },
  'the relay told to stop amid posts': {
    batches: 300,
    async drive({ relays }, posts) {
      const { process } = relays[0]!;
      const delivery = deliver(posts, relays, 5);
      for (let stops = 0; stops < 2; stops++) {
        await delay(400);
        process.signal('SIGTERM');
        assert.equal(await process.ended(), 0);
        await process.start();
      }
      assert.ok((await delivery) > 0, 'control: posts were under way');
    },
  },
  'the relay told to stop while NATS stands still: it answers, and does not wait long': {
    batches: 12,
    async drive({ relays, server }, posts) {
      const [{ url, process }] = relays as [Relay];
      await server.pause();
      try {
        const answers = Promise.all(posts.map((post) => send(url, post)));
        await delay(500);
        const startedMs = performance.now();
        process.signal('SIGTERM');
        assert.equal(await process.ended(), 0);
        assert.ok(performance.now() - startedMs < 9000, 'a container is given ten seconds');
        assert.deepEqual(new Set((await answers).map(({ status }) => status)), new Set([200]));
      } finally {
        server.signal('SIGCONT');
      }
      await process.start();
    },
  },
  'a full queue: agents are told to come again, and the reason is told': {
    ...{ batches: 400, config: { relay: { queue_max_bytes: 1_000_000 } } },
    async drive({ relays, server }, posts) {
      const [{ url, process }] = relays as [Relay];
      await server.kill();
      const refused: Posted[] = [];
      for (const post of posts) {
        const { status, headers } = await send(url, post);
        if (status === 200) continue;
        assert.deepEqual([status, headers['retry-after']], [503, '5']);
        refused.push(post);
      }
      assert.ok(refused.length > 10);
      assert.match(await (await fetch(`${process.url}/-/ready`)).text(), /queue_max_bytes/);
      await server.restart();
      await deliver(refused, relays);
      await until('room', async () => (await fetch(`${process.url}/-/ready`)).ok);
    },
  },
};

for (const [what, { batches, drive, ...options }] of Object.entries(TROUBLES)) {
  test(`${what}: the bill, to the nano-dollar`, async (t) => {
    const road = await startRoad(t, options);
    const bill = billOf(batches, { seed: 7, name: 'bill' });
    await drive(road, postsOf(bill));
    await isCounted(road, bill.truth);
    const text = await road.bridge.scrape();
    assert.equal(total(text, 'toll_turns_total', IDENTITY), sumOf(Object.values(bill.truth.turns)));
    for (const relay of road.relays) await until('an empty queue', async () => (await waiting(relay)) === 0, TRIES);
    isSilent(road);
  });
}

const TOKENS = {
  tb_core: { team: 'core', user: 'ada' },
  tb_other: { team: 'other', user: 'eve.b' },
  tb_bound: { team: 'core', user: 'ada', project: 'shop' },
  tb_team: { team: 'ops' },
  tb_nobody: {},
};
const tokens = Object.entries(TOKENS).map(([token, whose]) => ({
  sha256: tokenDigest(token).toString('hex'),
  ...whose,
}));
/** A NATS server on which relays may publish for some teams. */
const letting = (...teams: string[]) => `authorization: { users: [
  { user: op, password: op }
  { user: relay, password: relay, permissions: {
    publish: [${teams.map((team) => `"toll.turns.${team}.*"`).join(', ')}, "$JS.API.DIRECT.GET.KV_toll_budgets.>"]
    subscribe: "_INBOX_relay.>"
  } }
] }`;

test('a team that NATS denies holds up no other, and is counted once NATS lets it', async (t) => {
  const road = await startRoad(t, { config: { tokens }, conf: letting('core') });
  const { dir, server, bridge } = road;
  const [relay] = road.relays as [Relay];
  const [core, other] = [billOf(30, { seed: 1, name: 'core' }), billOf(90, { seed: 2, name: 'other' })];
  await deliver(
    postsOf(other).map((post) => withToken('tb_other', post)),
    road.relays,
  );
  const denied = await waiting(relay);
  assert.ok(denied > 500, 'more than are published at once');
  await server.kill();
  await deliver(
    postsOf(core).map((post) => withToken('tb_core', post)),
    road.relays,
  );
  await server.restart();
  await isCounted(road, core.truth);
  await until('only the denied to wait', async () => (await waiting(relay)) === denied, TRIES);
  const hints = relay.process.said.match(/may not publish to toll\.turns\.other/g) ?? [];
  assert.ok(hints.length >= 1 && hints.length <= 2, `told once for each connection, not ${hints.length} times`);

  const conf = path.join(dir, 'nats-one.conf');
  writeFileSync(conf, readFileSync(conf, 'utf8').replace(letting('core'), letting('core', 'other')));
  server.signal('SIGHUP');
  const { records: _, ...truth } = both({ ...core.truth, records: [] }, { ...other.truth, records: [] });
  await isCounted(road, truth);
  const text = await bridge.scrape();
  for (const [{ team, user }, bill] of [[TOKENS.tb_core, core] as const, [TOKENS.tb_other, other] as const]) {
    assert.equal(total(text, 'toll_turns_total', { team, user }), sumOf(Object.values(bill.truth.turns)));
  }
  isSilent(road);
});

test('a token says whose turns they are, whatever the agent says, also when they waited on disk over a restart', async (t) => {
  const road = await startRoad(t, { config: { tokens } });
  const [{ process, url }] = road.relays as [Relay];
  const claims = { team: 'evil', 'user.name': 'mallory', project: 'theirs' };
  let calls = 0;
  const send1 = async (token: string, isInPath: boolean) => {
    const post = inProtobuf('/v1/logs', oneCall({ name: `call${calls}`, nano: 10 ** calls++ }, claims));
    const sent = isInPath ? { ...post, path: `/${token}${post.path}` } : withToken(token, post);
    assert.equal((await send(url, sent)).status, 200);
  };
  for (const token of Object.keys(TOKENS)) await send1(token, false);
  await road.server.kill();
  for (const token of Object.keys(TOKENS)) await send1(token, true);
  await process.kill();
  await process.start();
  await road.server.restart();
  const text = async () => road.bridge.scrape();
  await until('all calls', async () => total(await text(), 'toll_turns_total') === calls, TRIES);
  const counted = samplesOf(await text())
    .filter(({ name }) => name === 'toll_cost_usd_total')
    .map(({ labels: { team, user, project }, value }) => [team, user, project, Math.round(value * 1e9)]);
  const nanoOf = (at: number) => 10 ** at + 10 ** (at + 5);
  assert.deepEqual(
    new Set(counted),
    new Set([
      ['core', 'ada', 'theirs', nanoOf(0)],
      ['other', 'eve.b', 'theirs', nanoOf(1)],
      ['core', 'ada', 'shop', nanoOf(2)],
      ['ops', undefined, 'theirs', nanoOf(3)],
      [undefined, undefined, 'theirs', nanoOf(4)],
    ]),
  );
  const named = { core: 4, other: 2, ops: 2 };
  assert.equal(
    total(await text(), 'tollbridge_identity_mismatch_total', { source: 'jetstream' }),
    sumOf(Object.values(named)),
  );
  const subjects = ['core.ada', 'other.eve=2Eb', 'ops._', '_._'].map((whose) => `toll.turns.${whose}`);
  assert.deepEqual(new Set(road.subjects.filter((subject) => subject.startsWith('toll.turns.'))), new Set(subjects));
  isSilent(road);
});

test('a conversation of Codex keeps its provider over restarts of the relay, whoever has heard of it', async (t) => {
  const { server, bridge, relays } = await startRoad(t);
  const [{ process, url }] = relays as [Relay];
  const post = async (...records: Parameters<typeof conversation>[1][]) =>
    assert.equal((await send(url, inJson('/v1/logs', conversation('c', ...records)))).status, 200);
  const restart = async (each: KillableBridge) => {
    await each.kill();
    await each.start();
  };
  const counted = async (name: string, labels = {}) => total(await bridge.scrape(), name, labels);
  await server.kill();
  await post('start', 'call');
  await restart(process);
  await post('call', 'failure');
  await server.restart();
  await until('two turns', async () => (await counted('toll_turns_total')) === 2, TRIES);
  await restart(process);
  await restart(bridge);
  await post('call', 'failure');
  await until('the third', async () => (await counted('toll_turns_total')) === 3, TRIES);
  assert.equal(await counted('toll_turns_total', { provider: 'mock' }), 3);
  assert.equal(await counted('toll_turn_errors_total', { provider: 'mock' }), 2);
});

test("where projects are nobody's business, their names stay on the machine of the relay", async (t) => {
  const road = await startRoad(t, { config: { labels: { project: 'off' }, hub: { listen: '127.0.0.1:9' } } });
  const [{ process, url }] = road.relays as [Relay];
  const post = (name: string) => inJson('/v1/logs', oneCall({ name, nano: 1 }, { project: CANARY }));
  assert.equal((await send(url, post('published'))).status, 200);
  await road.server.kill();
  assert.equal((await send(url, post('kept'))).status, 200);
  isSilent(road);
  await road.server.restart();
  await until('both', async () => total(await road.bridge.scrape(), 'toll_turns_total') === 2, TRIES);
  assert.ok(!(await road.bridge.scrape()).includes(CANARY));
  isSilent(road);
  assert.match(process.said, /"sources":\["hub"\].*a relay does not have these sources/);
});

test('what real agents export to a relay', async (t) => {
  const road = await startRoad(t);
  const [{ url }] = road.relays as [Relay];
  const all = recordings().filter(({ name }) => !name.startsWith('oc-'));
  const posts = all.flatMap((recording) => recording.posts.filter(({ path: to }) => to === '/v1/logs'));
  for (const encoded of [inProtobuf, inJson]) {
    for (const { path: to, body } of posts) assert.equal((await send(url, encoded(to, body))).status, 200);
  }
  const expected = all.map((recording) => recording.expected);
  const turns = sumOf(expected.map((one) => one.turns));
  const text = async () => road.bridge.scrape();
  await until('every turn', async () => total(await text(), 'toll_turns_total') === turns, TRIES);
  const shown = await text();
  assert.equal(total(shown, 'toll_turns_total', IDENTITY), turns);
  assert.equal(total(shown, 'toll_turn_errors_total'), sumOf(expected.map((one) => one.errors)));
  assert.equal(total(shown, 'toll_tokens_total'), sumOf(expected.flatMap((one) => one.metered)));
  isSilent(road);
});

test('a relay takes what agents export before it knows whether NATS answers', async (t) => {
  const silent = net.createServer();
  t.after(() => silent.close());
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port } = silent.address() as net.AddressInfo;
  const listen = `127.0.0.1:${await freePort()}`;
  const config = { nats: { servers: [`nats://127.0.0.1:${port}`] }, otlp_in: { listen } };
  const { bridge: relay } = await killableBridge(t, { command: 'relay', config });
  const asked = once(silent, 'connection');
  await relay.start({ isReady: false });
  await asked;
  const [post] = postsOf(billOf(1, { seed: 1, name: 'early' }));
  assert.ok(await isQuick(`http://${listen}`, post!));
});
