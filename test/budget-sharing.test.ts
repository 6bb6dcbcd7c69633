// Budgets over two partitions: two real bridges at a real NATS server, each with a part of the turns, judge by the sum.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import type { NatsConnection } from 'nats';
import { Bridge } from '../src/bridge.ts';
import { parseConfig } from '../src/config.ts';
import { setUpStreams } from '../src/nats/streams.ts';
import type { VerdictAnswer } from '../src/policy/verdict-desk.ts';
import { connected, NatsServer, natsConfig } from './nats/nats-server.ts';
import { until } from './prometheus-server.ts';
import { samplesOf } from './scrape.ts';
import { post, readableLog } from './sources/intake-fixture.ts';

const BUCKET = 'KV_toll_budgets';
const CALL = { agent: 'opencode', provider: 'openai', model: 'gpt-5' };
const LIMIT_USD = 1;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

interface Side {
  readonly bridge: Bridge;
  /** Its log. */
  readonly lines: readonly string[];
  readonly socket: string;
  /** What was answered as soon as it listened. */
  readonly first: VerdictAnswer;
}

/** Publishes a turn as a server's mapping would have divided it. */
async function book(connection: NatsConnection, k: 1 | 2, turn: { id: string; costUsd: number }): Promise<void> {
  const now = Date.now();
  const record = {
    ...{ v: 1, kind: 'turn', id: { session: 's', message: turn.id }, status: 'ok', tokens: { input: 1 } },
    ...{ time: { started: now - 1000, completed: now }, ...CALL, cost_usd: turn.costUsd },
  };
  await connection.request(`toll.turns.${k - 1}.core.ada`, JSON.stringify(record));
}

async function ask({ socket }: { readonly socket: string | { readonly path: string } }): Promise<VerdictAnswer> {
  const { status, json } = await post(typeof socket === 'string' ? socket : socket.path, '/v1/verdict', CALL);
  assert.equal(status, 200);
  return json as unknown as VerdictAnswer;
}

const problem = ({ bridge }: Side) => bridge.status().sources.find(({ source }) => source === 'jetstream')?.problem;
const stops = async (side: Side) => (await ask(side)).decision === 'stop';

/** What a bridge's own ledger holds of the budget, in USD. */
async function ownSpent({ bridge }: Side): Promise<number | undefined> {
  const text = await (await fetch(`${bridge.metricsUrl}/metrics`)).text();
  return samplesOf(text).find(({ name }) => name === 'toll_policy_spent')?.value;
}

async function start(t: TestContext, conf = '') {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const server = await NatsServer.start({ dir, conf });
  t.after(() => server.kill());
  const connection = await connected(server);
  t.after(() => connection.close());
  const manager = await jetstreamManager(connection);
  const settings = (replica: string, k: 1 | 2) => ({ servers: [server.url], replica, partition: `${k}/2` });
  const setUp = (replica: string, k: 1 | 2) => setUpStreams(connection, natsConfig(settings(replica, k)));
  const startSide = async (k: 1 | 2, replica = 'a', signIn: object = {}, scope: object = {}): Promise<Side> => {
    const config = parseConfig({
      ...{ state_dir: path.join(dir, `${replica}${k}`), time_zone: 'UTC', detect: false },
      ...{ metrics: { listen: '127.0.0.1:0' }, nats: { ...settings(replica, k), ...signIn } },
      budgets: [{ name: 'month', scope, limit_usd: LIMIT_USD, period: 'month', hard: true }],
    });
    const { log, lines } = readableLog();
    const bridge = await Bridge.start({ config, log, env: { P: 'p' } });
    t.after(() => bridge.stop());
    const first = await ask(config);
    await until('the bridge', () => bridge.status().ready);
    return { bridge, lines, first, socket: config.socket.path };
  };
  await setUp('a', 1);
  await setUp('a', 2);
  return { dir, server, connection, manager, setUp, startSide };
}

test('the sum of two partitions stops, at both bridges and over NATS, though neither has spent it alone', async (t) => {
  const { connection, startSide } = await start(t);
  const sides = [await startSide(1), await startSide(2)] as const;
  await book(connection, 1, { id: 'm1', costUsd: 0.6 });
  for (const side of sides) await until('the first turn', async () => (await ask(side)).spent_usd === 0.6);
  await book(connection, 2, { id: 'm2', costUsd: 0.6 });
  await until('the second turn', async () => (await ownSpent(sides[1])) === 0.6);
  const committedMs = performance.now();
  for (const side of sides) await until('the stop', () => stops(side));
  const toldMs = performance.now() - committedMs;
  t.diagnostic(`told ${toldMs.toFixed(0)} ms after it was seen in the ledger`);
  assert.ok(toldMs < 1000, 'a quarter of a second, and the rest for a busy machine and the steps of looking');
  for (const side of sides) {
    const { decision, spent_usd, message } = await ask(side);
    assert.deepEqual([decision, spent_usd], ['stop', 1.2]);
    assert.match(message ?? '', /^Budget month is used up: 1\.20 of 1\.00 USD/);
    assert.equal(await ownSpent(side), 0.6, 'metrics say what the own ledger holds: sums over partitions stay right');
  }
  const overNats = (await connection.request('toll.verdict.core.ada', JSON.stringify(CALL))).json<VerdictAnswer>();
  assert.equal(overNats.decision, 'stop');
});

test('control: without the bucket each judges by its own ledger, and says what is missing', async (t) => {
  const { connection, manager, startSide } = await start(t);
  await manager.streams.delete(BUCKET);
  const sides = [await startSide(1), await startSide(2)] as const;
  await book(connection, 1, { id: 'm1', costUsd: 0.6 });
  await book(connection, 2, { id: 'm2', costUsd: 0.6 });
  for (const side of sides) await until('the turn', async () => (await ownSpent(side)) === 0.6);
  await wait(1000);
  for (const side of sides) {
    assert.deepEqual([(await ask(side)).decision, (await ask(side)).spent_usd], ['warn', 0.6]);
    assert.match(problem(side) ?? '', /no stream KV_toll_budgets\. Make it with: .*nats setup/);
    assert.equal(side.bridge.status().ready, true, 'turns are counted all the same');
  }
});

test('agents at both partitions pass the limit by little, and by what runs', async (t) => {
  const { connection, startSide } = await start(t);
  const sides = [await startSide(1), await startSide(2)] as const;
  const costUsd = 0.004;
  const AGENTS = 20;
  let serial = 0;
  const agent = async (k: 1 | 2) => {
    while (!(await stops(sides[k - 1]!))) {
      await wait(50 + Math.random() * 50);
      await book(connection, k, { id: `m${serial++}`, costUsd });
    }
  };
  await Promise.all(Array.from({ length: AGENTS }, (_, index) => agent(index % 2 === 0 ? 1 : 2)));
  await until('the last turn', async () => {
    const [one, two] = [await ownSpent(sides[0]), await ownSpent(sides[1])];
    return Math.abs(one! + two! - serial * costUsd) < 1e-9;
  });
  const overshoot = serial * costUsd - LIMIT_USD;
  // Each agent's turn, and for half a second (to commit, tell and hear) one more every 50 ms.
  const bound = AGENTS * (1 + 500 / 50) * costUsd;
  t.diagnostic(
    `${serial} turns of ${costUsd} USD: ${overshoot.toFixed(3)} USD beyond the limit; bound ${bound.toFixed(3)}`,
  );
  assert.ok(overshoot >= 0 && overshoot <= bound, `${overshoot} USD beyond the limit, more than ${bound}`);
});

test('replicas of a partition are not added, and one that was lost is made good by the other', async (t) => {
  const { connection, setUp, startSide } = await start(t);
  await setUp('b', 1);
  const [one, replica, two] = [await startSide(1), await startSide(1, 'b'), await startSide(2)];
  await book(connection, 1, { id: 'm1', costUsd: 0.6 });
  for (const side of [one, replica, two]) await until('the turn', async () => (await ask(side)).spent_usd === 0.6);
  await one.bridge.stop();
  await book(connection, 1, { id: 'm2', costUsd: 0.3 });
  await until('the other replica', async () => (await ask(two)).spent_usd === 0.9);
});

test('a new ledger that lacks what the stream forgot lowers no budget, and says so', async (t) => {
  const { dir, connection, manager, startSide } = await start(t);
  const [one, two] = [await startSide(1), await startSide(2)];
  await book(connection, 1, { id: 'm1', costUsd: 0.6 });
  await until('the first turn', async () => (await ask(two)).spent_usd === 0.6);
  await one.bridge.stop();
  rmSync(path.join(dir, 'a1'), { recursive: true });
  await manager.streams.purge('TOLL');
  const anew = await startSide(1);
  await book(connection, 1, { id: 'm2', costUsd: 0.1 });
  await until('what it knows', async () => (await ownSpent(anew)) === 0.1);
  await wait(1000);
  for (const side of [anew, two]) assert.equal((await ask(side)).spent_usd, 0.6);
  assert.match(anew.lines.join(''), /an earlier ledger of this replica told more/);
  await book(connection, 1, { id: 'm3', costUsd: 0.6 });
  for (const side of [anew, two]) await until('more than that', async () => (await ask(side)).spent_usd === 0.7);
  assert.doesNotMatch(two.lines.join(''), /told more/, 'control');
});

test('what others put into the bucket is no figure of a partition', async (t) => {
  const { connection, startSide } = await start(t);
  const [one, two] = [await startSide(1), await startSide(2)];
  await book(connection, 1, { id: 'm1', costUsd: 0.1 });
  await book(connection, 2, { id: 'm2', costUsd: 0.1 });
  for (const side of [one, two]) await until('the sum', async () => (await ask(side)).spent_usd === 0.2);
  const bucket = await new Kvm(jetstream(connection)).open('toll_budgets');
  const own = (await bucket.keys('spent.2_of_2.>'))[Symbol.asyncIterator]();
  const figures = (await bucket.get((await own.next()).value!))!.json<{ budgets: { spent: number }[] }>();
  const saying = (spent: unknown) => JSON.stringify({ ...figures, budgets: [{ ...figures.budgets[0], spent }] });
  for (const key of ['spent.3_of_2.a', 'spent.0_of_2.a', 'spent.02_of_2.a', 'spent.2_of_3.a', 'spent.2_of_2', 'x.y'])
    await bucket.put(key, saying(9e8));
  const texts = [
    saying(-1e300),
    saying('NaN'),
    saying(1e300),
    saying(null),
    saying([]),
    '{"v":1,"budgets":{"__proto__":[]}}',
  ];
  for (const [at, text] of [...texts, 'x'.repeat(900_000), ''].entries())
    await bucket.put(`spent.2_of_2.bad${at}`, text);
  const name = (name: string) => JSON.stringify({ ...figures, budgets: [{ ...figures.budgets[0], name, spent: 9e8 }] });
  for (const each of ['toString', 'constructor']) await bucket.put(`spent.2_of_2.${each}`, name(each));
  for (let at = 0; at < 1000; at += 100) {
    await Promise.all(
      Array.from({ length: 100 }, (_, more) => bucket.put(`spent.2_of_2.many${at + more}`, saying(1e8))),
    );
  }
  await book(connection, 2, { id: 'm3', costUsd: 0.1 });
  for (const side of [one, two]) await until('the sum', async () => (await ask(side)).spent_usd === 0.3);
  for (const side of [one, two]) assert.equal(problem(side), undefined);
  await bucket.put('spent.2_of_2.real', saying(5e8));
  for (const side of [one, two]) await until('control: a replica', async () => (await ask(side)).spent_usd === 0.6);
});

test('a partition of which nothing was ever told is named, and its people are not taken for misspelt', async (t) => {
  const { connection, startSide } = await start(t);
  const first = await startSide(1, 'a', {}, { user: 'eva' });
  await book(connection, 1, { id: 'm1', costUsd: 0.6 });
  await until('the turn', () => first.bridge.status().ledger.turns === 1);
  await until('the problem', () => problem(first) !== undefined);
  assert.match(problem(first)!, /no bridge of partition 2 of 2 has told .* start it/);
  await first.bridge.stop();
  const one = await startSide(1, 'a', {}, { user: 'eva' });
  assert.doesNotMatch(one.bridge.banner().join('\n'), /matched no turn/);
  await startSide(2, 'a', {}, { user: 'eva' });
  await until('no problem', () => problem(one) === undefined);
});

test('the first answer after a start is by the sum already', async (t) => {
  const { connection, startSide } = await start(t);
  const [one, two] = [await startSide(1), await startSide(2)];
  await book(connection, 2, { id: 'm1', costUsd: 1.2 });
  for (const side of [one, two]) await until('the stop', () => stops(side));
  for (let round = 0; round < 3; round++) {
    await one.bridge.stop();
    const again = await startSide(1);
    assert.equal(again.first.decision, 'stop');
    await again.bridge.stop();
  }
});

test('what is committed last is told at the stop', async (t) => {
  const { connection, startSide } = await start(t);
  const [one, two] = [await startSide(1), await startSide(2)];
  await book(connection, 1, { id: 'm1', costUsd: 0.6 });
  await until('the first turn', async () => (await ask(two)).spent_usd === 0.6);
  await book(connection, 1, { id: 'm2', costUsd: 0.5 });
  await until('its commit', async () => (await ask(one)).spent_usd === 1.1);
  await one.bridge.stop();
  await until('the stop', () => stops(two), 20);
});

test('without NATS and without the bucket it is judged by what is known last, and goes on when they return', async (t) => {
  const { server, connection, manager, setUp, startSide } = await start(t);
  const [one, two] = [await startSide(1), await startSide(2)];
  await book(connection, 1, { id: 'm1', costUsd: 0.6 });
  await book(connection, 2, { id: 'm2', costUsd: 0.5 });
  for (const side of [one, two]) await until('the stop', () => stops(side));

  await server.kill();
  for (const side of [one, two]) {
    await until('the problem', () => problem(side) !== undefined);
    const askedMs = performance.now();
    assert.ok(await stops(side));
    assert.ok(performance.now() - askedMs < 500, 'nobody waits for NATS');
  }
  await server.restart();
  for (const side of [one, two]) await until('the return', () => problem(side) === undefined);
  await book(connection, 1, { id: 'm4', costUsd: 0.1 });
  for (const side of [one, two]) await until('what came after', async () => (await ask(side)).spent_usd === 1.2, 300);

  await manager.streams.delete(BUCKET);
  await book(connection, 1, { id: 'm3', costUsd: 0.1 });
  await until('the problem', () => /no stream KV_toll_budgets.*nats setup/.test(problem(one) ?? ''));
  await until('the last turn', async () => (await ask(one)).spent_usd === 1.3);
  assert.equal((await ask(two)).spent_usd, 1.2, 'as known last');
  await setUp('a', 1);
  for (const side of [one, two]) {
    await until('the figures in the new bucket', async () => (await ask(side)).spent_usd === 1.3, 400);
    await until('no problem', () => problem(side) === undefined);
  }
});

test('a bridge that may not write there says so, once for each key, and still judges by what it hears', async (t) => {
  const conf = `no_auth_user: all
authorization: { users: [
  { user: all, password: p }
  { user: mute, password: p, permissions: { publish: { deny: ["$KV.toll_budgets.>"] } } }
] }`;
  const { connection, startSide } = await start(t, conf);
  const [one, mute] = [await startSide(1), await startSide(2, 'a', { user: 'mute', password_env: 'P' })];
  await until('the problem', () => problem(mute) !== undefined);
  await book(connection, 1, { id: 'm1', costUsd: 0.6 });
  await book(connection, 2, { id: 'm2', costUsd: 0.6 });
  await until('the sum', () => stops(mute));
  await wait(5000);
  assert.match(problem(mute)!, /do not hear what was spent here.*may not publish to \$KV\.toll_budgets/);
  const said = mute.lines.flatMap(
    (line) => /may not publish to (\$KV\.toll_budgets\.[\w.]+[\w])/.exec(line)?.[1] ?? [],
  );
  assert.deepEqual(
    said.map((subject) => subject.replace(/a\.[a-z0-9]+$/, 'a.<ledger>')).toSorted(),
    ['spent.2_of_2.a.<ledger>', 'standings'].map((key) => `$KV.toll_budgets.${key}`),
  );
  assert.equal((await ask(one)).spent_usd, 0.6);
});
