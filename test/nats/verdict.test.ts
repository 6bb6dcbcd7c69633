// Verdicts asked for over a real NATS server: who asks is in the subject, one of several bridges answers, and what is
// no question is told so and counted.

import assert from 'node:assert/strict';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnection } from 'nats';
import { Bridge } from '../../src/bridge.ts';
import { parseConfig } from '../../src/config.ts';
import { setUpStreams } from '../../src/nats/streams.ts';
import type { VerdictAnswer } from '../../src/policy/verdict-desk.ts';
import { until } from '../prometheus-server.ts';
import { samplesOf } from '../scrape.ts';
import { post, readableLog, temporaryFolder } from '../sources/intake-fixture.ts';
import { connected, NatsServer, natsConfig } from './nats-server.ts';

const QUESTION = { agent: 'opencode', provider: 'openai', model: 'gpt-5' };
const RULES = {
  guardrails: [
    { name: 'not-for-ada', scope: { team: 'core', user: 'ada' }, models: { deny: 'gpt-5' } },
    { name: 'dotted', scope: { team: 'a.b' }, models: { deny: 'gpt-5' } },
  ],
};

async function start(t: TestContext, { replicas = ['a'], conf = '' } = {}) {
  const dir = temporaryFolder(t);
  const server = await NatsServer.start({ dir, conf });
  t.after(() => server.kill());
  const connection = await connected(server);
  t.after(() => connection.close());
  const bridges: Bridge[] = [];
  for (const replica of replicas) {
    const nats = { servers: [server.url], replica };
    await setUpStreams(connection, natsConfig(nats));
    const config = parseConfig({
      ...{ state_dir: path.join(dir, replica), detect: false, metrics: { listen: '127.0.0.1:0' }, nats, ...RULES },
    });
    const bridge = await Bridge.start({ config, log: readableLog().log, env: {} });
    t.after(() => bridge.stop());
    await until('the bridge', () => bridge.status().ready);
    bridges.push(bridge);
  }
  return { dir, server, connection, bridges };
}

async function ask(connection: NatsConnection, subject: string, question: object | string | Uint8Array = QUESTION) {
  const body = typeof question === 'string' || question instanceof Uint8Array ? question : JSON.stringify(question);
  for (let tries = 100; ; tries--) {
    try {
      return (await connection.request(subject, body)).json<VerdictAnswer & { error?: string }>();
    } catch (error) {
      // A bridge that is ready takes turns; that it hears questions follows within a moment.
      if (tries === 0 || !(error instanceof Error) || !error.message.includes('no responders')) throw error;
      await delay(20);
    }
  }
}

async function samples(bridge: Bridge, name: string) {
  const text = await (await fetch(`${bridge.metricsUrl}/metrics`)).text();
  return samplesOf(text).filter((sample) => sample.name === name);
}

test('the subject says whose turn it would be, and the question cannot', async (t) => {
  const { connection, bridges, dir } = await start(t);
  const cases: readonly [subject: string, question: object, decision: string][] = [
    ['toll.verdict.core.ada', QUESTION, 'stop'],
    ['toll.verdict.core.bob', QUESTION, 'allow'],
    ['toll.verdict.core.bob', { ...QUESTION, team: 'core', user: 'ada' }, 'allow'],
    ['toll.verdict.core.ada', { ...QUESTION, team: 'ops', user: 'bob' }, 'stop'],
    ['toll.verdict._._', { ...QUESTION, team: 'core', user: 'ada' }, 'allow'],
    ['toll.verdict.a=2Eb.ada', QUESTION, 'stop'],
    ['toll.verdict.core.ada', { ...QUESTION, tool: 'bash' }, 'allow'],
  ];
  for (const [subject, question, decision] of cases) {
    assert.equal(
      (await ask(connection, subject, question)).decision,
      decision,
      `${subject} ${JSON.stringify(question)}`,
    );
  }
  const overNats = await ask(connection, 'toll.verdict._._');
  const overSocket = await post(path.join(dir, 'a', 'tollbridge.sock'), '/v1/verdict', QUESTION);
  assert.deepEqual(overNats, overSocket.json, 'the same answer as on the socket');
  await until('the counts', async () => {
    const counted = await samples(bridges[0]!, 'toll_policy_verdicts_total');
    return counted.reduce((sum, { value }) => sum + value, 0) === cases.length + 2;
  });
});

test('what is no question is told so, counted, and harms no other', async (t) => {
  const { connection, bridges } = await start(t);
  const cases: readonly [subject: string, body: string | Uint8Array | object, reason: string, error: RegExp][] = [
    ['toll.verdict.core.ada', '{', 'malformed', /no JSON object/],
    ['toll.verdict.core.ada', '', 'malformed', /no JSON object/],
    ['toll.verdict.core.ada', '[]', 'malformed', /no JSON object/],
    ['toll.verdict.core.ada', new Uint8Array([0xff, 0x7b, 0x7d]), 'malformed', /no JSON object/],
    ['toll.verdict.core.ada', { agent: 'opencode', provider: 'openai' }, 'malformed', /^model: /],
    ['toll.verdict.core', QUESTION, 'malformed', /toll\.verdict\.<team>\.<user>/],
    ['toll.verdict.1.core.ada', QUESTION, 'malformed', /toll\.verdict\.<team>\.<user>/],
    ['toll.verdict.core.ada', ' '.repeat(64 * 1024 + 1), 'too_large', /65536 bytes/],
  ];
  const wanted: Record<string, number> = { malformed: 0, too_large: 0 };
  for (const [subject, body, reason, error] of cases) {
    const answer = await ask(connection, subject, body);
    assert.match(answer.error ?? '', error);
    assert.equal(answer.decision, undefined, 'nobody takes a mistake for leave to go on');
    wanted[reason]! += 1;
  }
  assert.equal((await ask(connection, 'toll.verdict.core.bob')).decision, 'allow');
  const refused = await samples(bridges[0]!, 'tollbridge_requests_refused_total');
  for (const [reason, times] of Object.entries(wanted)) {
    const { value } = refused.find(({ labels }) => labels.source === 'nats' && labels.reason === reason)!;
    assert.equal(value, times, reason);
  }
});

test('of two bridges one answers each question, and the other all of them when it is gone', async (t) => {
  const { connection, bridges } = await start(t, { replicas: ['a', 'b'] });
  const QUESTIONS = 60;
  for (let n = 0; n < QUESTIONS; n++) await ask(connection, 'toll.verdict.core.ada');
  const counted = async (bridge: Bridge) =>
    (await samples(bridge, 'toll_policy_verdicts_total')).reduce((sum, { value }) => sum + value, 0);
  await until('the counts', async () => (await counted(bridges[0]!)) + (await counted(bridges[1]!)) === QUESTIONS);
  assert.ok((await counted(bridges[0]!)) > 5 && (await counted(bridges[1]!)) > 5, 'both took part');
  await bridges[0]!.stop();
  for (let n = 0; n < 10; n++) assert.equal((await ask(connection, 'toll.verdict.core.ada')).decision, 'stop');
});

test('a server that does not let the bridge hear questions is told of, and turns go on', async (t) => {
  const conf =
    'authorization: { users: [ { user: u, password: p, permissions: { subscribe: { deny: ["toll.verdict.>"] } } } ] }\n';
  const dir = temporaryFolder(t);
  const server = await NatsServer.start({ dir, conf: `${conf}no_auth_user: u` });
  t.after(() => server.kill());
  const connection = await connected(server);
  t.after(() => connection.close());
  const nats = { servers: [server.url], replica: 'a' };
  await setUpStreams(connection, natsConfig(nats));
  const config = parseConfig({
    state_dir: path.join(dir, 'a'),
    detect: false,
    metrics: { listen: '127.0.0.1:0' },
    nats,
  });
  const bridge = await Bridge.start({ config, log: readableLog().log, env: {} });
  t.after(() => bridge.stop());
  const source = () => bridge.status().sources.find(({ source: name }) => name === 'jetstream');
  await until('the problem', () => source()?.problem !== undefined);
  assert.match(source()!.problem!, /may not subscribe to toll\.verdict\.>.*nats setup --print/);
  assert.equal(source()!.up, true);
});
