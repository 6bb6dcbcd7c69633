// What `nats setup` makes, and whether what it prints is enough: a bridge and a relay work with exactly those permissions.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from 'nats';
import { Bridge } from '../../src/bridge.ts';
import { setUpNats } from '../../src/commands/nats-setup.ts';
import { parseConfig } from '../../src/config.ts';
import { serverConf } from '../../src/nats/server-conf.ts';
import { setUpStreams } from '../../src/nats/streams.ts';
import { Relay } from '../../src/relay.ts';
import { plain } from '../commands/bridge-fixture.ts';
import { until } from '../prometheus-server.ts';
import { post, readableLog, temporaryFolder } from '../sources/intake-fixture.ts';
import { connected, NatsServer, natsConfig } from './nats-server.ts';

async function startServer(t: TestContext, conf = '') {
  const dir = temporaryFolder(t);
  const server = await NatsServer.start({ dir, conf });
  t.after(() => server.kill());
  return { dir, server };
}

test('it makes what is missing, changes what differs, and leaves alone what is right', async (t) => {
  const { server } = await startServer(t);
  const connection = await connected(server);
  t.after(() => connection.close());
  const config = natsConfig({ servers: [server.url], replica: 'a' });
  const did = async (wanted = config) => (await setUpStreams(connection, wanted)).map(({ did: what }) => what);
  assert.deepEqual(await did(), Array(6).fill('made'));
  assert.deepEqual(await did(), Array(6).fill('unchanged'));
  const shorter = natsConfig({ servers: [server.url], replica: 'a', jetstream: { max_age: '30d' } });
  assert.deepEqual(await did(shorter), ['changed', ...Array(5).fill('unchanged')]);
  const manager = await jetstreamManager(connection);
  const { config: stream } = await manager.streams.info('TOLL');
  assert.deepEqual(
    [stream.subjects, stream.storage, stream.discard, stream.retention, stream.max_age],
    [['toll.turns.*.*', 'toll.turns.*.*.*'], 'file', 'new', 'limits', 30 * 86_400 * 1e9],
  );
  const { config: consumer } = await manager.consumers.info('TOLL', 'tollbridge_a_1_of_1');
  assert.deepEqual(
    [consumer.ack_policy, consumer.max_deliver, consumer.inactive_threshold],
    ['all', -1, 7 * 86_400 * 1e9],
  );
});

test('the command says what it did, and what a client cannot set', async (t) => {
  const { dir, server } = await startServer(t);
  const config = parseConfig({ state_dir: dir, nats: { servers: [server.url], replica: 'a', partition: '1/2' } });
  const first = await setUpNats({ config, env: {}, isPrintOnly: false });
  assert.equal(first.exitCode, 0);
  assert.match(plain(first.lines).join('\n'), /stream TOLL +made +toll\.turns/);
  assert.match(plain(first.lines).join('\n'), /the mapping that divides the turns/);
  const printed = (await setUpNats({ config, env: {}, isPrintOnly: true })).lines.join('\n');
  assert.match(printed, /\{\{partition\(2,1,2\)\}\}/);
  await server.kill();
  await assert.rejects(
    setUpNats({ config, env: {}, isPrintOnly: false }),
    /Nothing was changed: no NATS server answers/,
  );
  await assert.rejects(
    setUpNats({ config: parseConfig({ state_dir: dir }), env: {}, isPrintOnly: false }),
    /names no NATS server/,
  );
});

test('what it prints is read by nats-server', (t) => {
  const dir = temporaryFolder(t);
  for (const partition of ['1/1', '2/4']) {
    const file = path.join(dir, 'nats.conf');
    writeFileSync(file, serverConf(natsConfig({ servers: ['nats://127.0.0.1:4222'], partition })));
    const env = { ...process.env, BRIDGE_PASSWORD: 'b', PLATFORM_PASSWORD: 'p', OPERATOR_PASSWORD: 'o' };
    const { status, stderr } = spawnSync('nats-server', ['-c', file, '-t'], { env, encoding: 'utf8' });
    assert.equal(status, 0, stderr);
  }
});

/** A server with the printed permissions and its streams, and configurations of those whom it lets in. */
async function startGuarded(t: TestContext) {
  const conf = serverConf(natsConfig({ servers: ['nats://127.0.0.1:4222'] }))
    .replace('$BRIDGE_PASSWORD', '"bridge-pass"')
    .replace('$PLATFORM_PASSWORD', '"platform-pass"')
    .replace('$OPERATOR_PASSWORD', '"operator-pass"');
  const { dir, server } = await startServer(t, conf);
  const secret = (name: string) => {
    const file = path.join(dir, name);
    writeFileSync(file, `${name}\n`);
    chmodSync(file, 0o600);
    return file;
  };
  const settings = (user: string) => ({
    ...{ servers: [server.url], replica: 'a', user, password_file: secret(`${user}-pass`) },
  });
  const made = (name: string, user: string, more: object = {}) => {
    const config = parseConfig({
      ...{ state_dir: path.join(dir, name), detect: false, metrics: { listen: '127.0.0.1:0' }, nats: settings(user) },
      ...more,
    });
    return { ...config, nats: config.nats! };
  };
  const signedIn = async (user: string, inboxPrefix = `_INBOX_${user}`) => {
    const connection = await connect({ servers: server.url, user, pass: `${user}-pass`, inboxPrefix });
    t.after(() => connection.close());
    return connection;
  };
  assert.equal((await setUpNats({ config: made('op', 'operator'), env: {}, isPrintOnly: false })).exitCode, 0);
  return { made, signedIn };
}

const identity = (team: string) => ({ socket: { identity: { team, user: 'ada' } } });
const record = { v: 1, kind: 'turn', agent: 'opencode', id: { session: 's', message: 'm' }, completed: true };
const turn = { ...record, time: { started: Date.now() }, provider: 'openai', model: 'gpt-5', cost_usd: 1 };
const question = JSON.stringify({ agent: 'opencode', provider: 'openai', model: 'gpt-5' });

test('with those permissions a bridge and a relay work, and a team cannot take turns for another', async (t) => {
  const { made, signedIn } = await startGuarded(t);
  const { log, lines } = readableLog();
  const bridge = await Bridge.start({ config: made('bridge', 'bridge'), log, env: {} });
  t.after(() => bridge.stop());
  const own = made('own', 'platform', identity('platform'));
  const relay = await Relay.start({ config: own, log, env: {} });
  t.after(() => relay.stop());
  assert.equal((await post(own.socket.path, '/v1/events', turn)).status, 202);
  const text = async () => (await fetch(`${bridge.metricsUrl}/metrics`)).text();
  await until('the turn', async () => /^toll_turns_total\{.*team="platform",user="ada".*\} 1$/m.test(await text()));
  const snapshot = { provider_id: 'zai', account_id: 'w', timestamp: new Date().toISOString(), status: 'OK' };
  const poll = {
    v: 1,
    kind: 'poll',
    payload: { ...snapshot, metrics: { credit_balance: { remaining: 7, unit: 'USD' } } },
  };
  assert.equal((await post(own.socket.path, '/v1/events', poll)).status, 202);
  await until('the reading', async () => /^toll_balance\{provider="zai",account="w"/m.test(await text()));
  const asker = await signedIn('platform');
  const verdict = (await asker.request('toll.verdict.platform.ada', question)).json<{ decision: string }>();
  assert.equal(verdict.decision, 'allow', 'the bridge may answer');
  await assert.rejects(asker.request('toll.verdict.finance.ada', question), /permissions/i);
  await until('the rules', () => relay.status().policy.told_ms !== undefined);
  const bucket = '$KV.toll_budgets';
  for (const subject of [`${bucket}.policy`, `$JS.API.DIRECT.GET.KV_toll_budgets.${bucket}.spent.1_of_1.a`]) {
    await assert.rejects(
      asker.request(subject, '{}'),
      /permissions/i,
      'a team tells no rules, and reads no more than its relays',
    );
  }
  await bridge.stop();
  assert.doesNotMatch(lines.join('\n'), /may not/, 'nothing that a bridge or its relay does is forbidden');

  const foreign = made('foreign', 'platform', { ...identity('finance'), spool: { enabled: false } });
  const thief = await Relay.start({ config: foreign, log, env: {} });
  t.after(() => thief.stop());
  assert.equal((await post(foreign.socket.path, '/v1/events', turn)).status, 202, 'kept on its own disk');
  await until('the refusal', () => thief.status().relay.problem !== undefined);
  assert.match(thief.status().relay.problem!, /may not publish to toll\.turns\.finance\.ada.*nats setup --print/);
  assert.equal(thief.status().relay.queue_events, 1);
});

test('a team hears nothing of what a bridge reads, and cannot make it write', async (t) => {
  const { made, signedIn } = await startGuarded(t);
  const [operator, team] = [await signedIn('operator'), await signedIn('platform')];
  const heard: string[] = [];
  const listen = (connection: typeof team, subject: string) =>
    connection.subscribe(subject, { callback: (error, { subject: at }) => void (error ?? heard.push(at)) });
  listen(team, '_INBOX.>');
  listen(await signedIn('platform'), '_INBOX_bridge.>');
  listen(team, '_INBOX_platform.>');
  const config = made('bridge', 'bridge', {
    ...identity('finance'),
    budgets: [{ name: 'all', limit_usd: 9, period: 'day' }],
  });
  const { log } = readableLog();
  const bridge = await Bridge.start({ config, log, env: {} });
  t.after(() => bridge.stop());
  const told = async () =>
    (await operator.request('$JS.API.DIRECT.GET.KV_toll_budgets.$KV.toll_budgets.policy')).string();
  await until('the rules', async () => (await told()).includes('"limit_usd":9'));
  const rules = await told();
  assert.equal((await post(config.socket.path, '/v1/events', turn)).status, 202);
  const metrics = async () => (await fetch(`${bridge.metricsUrl}/metrics`)).text();
  await until('the turn', async () => /^toll_turns_total\{.*team="finance".*\} 1$/m.test(await metrics()));
  assert.deepEqual(heard, [], 'the turn of another team, which the bridge read');

  const written: string[] = [];
  operator.subscribe('>', { callback: (_, { subject }) => void written.push(subject) });
  await operator.flush();
  for (const reply of ['$KV.toll_budgets.policy', 'toll.turns.finance.ada', 'toll.polls.zai.w']) {
    team.publish('toll.verdict.platform.ada', question, { reply });
  }
  team.publish('toll.verdict.platform.ada', question, { reply: '_INBOX_platform.control' });
  await until('the answer of the last', async () => heard.length > 0);
  assert.deepEqual(heard, ['_INBOX_platform.control']);
  const mine = /^(?:\$KV\.toll_budgets\.policy|toll\.turns|toll\.polls)/;
  assert.deepEqual(
    written.filter((subject) => mine.test(subject)),
    [],
  );
  assert.equal(await told(), rules);
});

test('without the streams, or without JetStream, a bridge says so and lives', async (t) => {
  const { dir, server } = await startServer(t);
  const dead = await NatsServer.start({ dir, name: 'plain', jetstream: false });
  t.after(() => dead.kill());
  for (const [url, problem] of [
    [server.url, /there is no stream TOLL\. Make it with: .*nats setup/],
    [dead.url, /runs without JetStream/],
  ] as const) {
    const { log } = readableLog();
    const config = parseConfig({
      ...{ state_dir: path.join(dir, String(problem).slice(1, 9)), detect: false, metrics: { listen: '127.0.0.1:0' } },
      nats: { servers: [url], replica: 'a' },
    });
    const bridge = await Bridge.start({ config, log, env: {} });
    try {
      const source = () => bridge.status().sources.find(({ source: name }) => name === 'jetstream');
      await until('the problem', () => source()?.problem !== undefined);
      assert.match(source()!.problem!, problem);
      assert.equal(source()!.up, false);
      assert.match(bridge.status().not_ready.join(), problem);
      assert.equal((await fetch(`${bridge.metricsUrl}/metrics`)).status, 503);
      // What comes in meanwhile waits on this disk.
      assert.equal(
        (
          await post(config.socket.path, '/v1/events', {
            v: 1,
            kind: 'session',
            agent: 'opencode',
            id: { session: 's' },
          })
        ).status,
        202,
      );
    } finally {
      await bridge.stop();
    }
  }
});
