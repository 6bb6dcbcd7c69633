// Accounts that one bridge reads and all of them show: through the bucket, and through reports of others.

import assert from 'node:assert/strict';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { jetstream } from '@nats-io/jetstream';
import { Bridge } from '../../src/bridge.ts';
import { parseConfig } from '../../src/config.ts';
import { StreamPublisher } from '../../src/nats/publisher.ts';
import { setUpStreams } from '../../src/nats/streams.ts';
import type { PollResult } from '../../src/poll/poll-result.ts';
import { parsePublished, publishedText } from '../../src/poll/published-result.ts';
import { connected, NatsServer, natsConfig } from '../nats/nats-server.ts';
import { GO_USAGE, goWindows, KEY, MODELS, modelList, startOpencode } from '../poll/opencode-server.ts';
import { until } from '../prometheus-server.ts';
import { readableLog, temporaryFolder } from './intake-fixture.ts';

const result = (nano: number, fields: Partial<PollResult> = {}): PollResult => ({
  ...{ provider: 'opencode', account: 'work', takenMs: Date.now(), status: 'ok', statusHoldsMs: 90_000 },
  ...{ message: 'Auth OK', authScope: 'zen+console' },
  readings: [
    {
      ...{ route: 'billing', readMs: Date.now(), intervalMs: 300_000 },
      facts: {
        balances: [{ kind: 'console', currency: 'USD', nano, owner: 'a1b2' }],
        spendLimits: [{ limit: 'monthly', currency: 'USD', limitNano: 60e9, usedNano: 6e9, resetMs: Date.now() + 1e6 }],
        reload: { currency: 'USD', triggerNano: 5e9, amountNano: 20e9, isEnabled: true },
        quotas: [{ quota: 'go', window: '5h', unit: 'percent', usedRatio: 0.5, isExhausted: true }],
        models: [{ id: 'glm-5', ownedBy: 'zai' }],
        reportedValues: [{ metric: 'requests', field: 'used', unit: '', window: '', value: 3 }],
        plan: { name: 'pro', isSubscribed: true },
      },
    },
  ],
  ...fields,
});

async function start(t: TestContext) {
  const dir = temporaryFolder(t);
  const server = await NatsServer.start({ dir });
  const connection = await connected(server);
  const nats = { servers: [server.url], replica: 'a' };
  const config = natsConfig(nats);
  await setUpStreams(connection, config);
  t.after(async () => {
    await connection.close();
    await server.kill();
  });
  const publisher = new StreamPublisher(connection, config);
  const bridge = async (name: string, more: object = {}, env: NodeJS.ProcessEnv = {}) => {
    const { log, lines } = readableLog();
    const own = parseConfig({
      ...{ state_dir: path.join(dir, name), detect: false, metrics: { listen: '127.0.0.1:0' } },
      ...{ nats: { ...nats, replica: name }, ...more },
    });
    const running = await Bridge.start({ config: own, log, env });
    t.after(() => running.stop());
    const shows = (line: RegExp) =>
      until(`${line}`, async () => line.test(await (await fetch(`${running.metricsUrl}/metrics`)).text()));
    return { running, shows, lines };
  };
  return { server, connection, publisher, bridge };
}

test('a bridge that polls nothing shows what another one polled, at once and then every new reading', async (t) => {
  const { publisher, bridge } = await start(t);
  const account = { provider: 'opencode', account: 'work' };
  await publisher.putAccount(account, publishedText(result(12.5e9)));
  const { shows, running } = await bridge('late');
  await shows(/^toll_balance\{provider="opencode",account="work",kind="console",currency="USD"\} 12\.5$/m);
  await shows(/^toll_account_status\{provider="opencode",account="work",status="ok"\} 1$/m);
  await publisher.putAccount(account, publishedText(result(7e9)));
  await shows(/^toll_balance\{provider="opencode",account="work",kind="console",currency="USD"\} 7$/m);
  await publisher.putAccount(account, publishedText(result(99e9, { takenMs: Date.now() - 60_000 })));
  await publisher.putAccount({ provider: 'opencode', account: 'new' }, publishedText(result(1e9)));
  await shows(/^toll_balance\{provider="opencode",account="new",kind="console",currency="USD"\} 1$/m);
  await shows(/^toll_balance\{provider="opencode",account="work",kind="console",currency="USD"\} 7$/m);
  assert.equal(running.status().accounts.length, 2);
});

test('what stands in the bucket and is no reading harms nothing', async (t) => {
  const { publisher, bridge } = await start(t);
  await publisher.putAccount({ provider: 'a', account: 'b' }, '{"v":1,"readings":[{"route":"x"}]}');
  await publisher.putAccount({ provider: 'a', account: 'c' }, 'not JSON');
  await publisher.putAccount({ provider: 'opencode', account: 'work' }, publishedText(result(3e9)));
  const { shows } = await bridge('tough');
  await shows(/^toll_balance\{provider="opencode",account="work".*\} 3$/m);
});

test('a report counts under the account of its subject, and is as old as the stream has had it', async (t) => {
  const { connection, bridge } = await start(t);
  const client = jetstream(connection);
  const report = (usd: number, ageMs = 0) => ({
    ...{ v: 1, kind: 'poll', interval_s: 60 },
    payload: {
      ...{
        provider_id: 'zai',
        account_id: 'other',
        timestamp: new Date(Date.now() - ageMs).toISOString(),
        status: 'OK',
      },
      metrics: { credit_balance: { remaining: usd, unit: 'USD', window: 'current' } },
    },
  });
  await client.publish('toll.polls.zai.team=2Ea', JSON.stringify(report(5)));
  await client.publish('toll.polls.zai.team=2Ea', JSON.stringify(report(6)));
  const { shows } = await bridge('one');
  await shows(/^toll_balance\{provider="zai",account="team\.a",kind="credit",currency="USD"\} 6$/m);
  await shows(/^tollbridge_identity_mismatch_total\{source="jetstream"\} 1$/m);
  await shows(/^tollbridge_events_received_total\{source="jetstream"\} 1$/m);
});

test('a bridge with poll.publish hands on what it polls, and a restarted one has it before anybody polls', async (t) => {
  const { bridge } = await start(t);
  const remote = await startOpencode(t, { [MODELS]: modelList('glm-5'), [GO_USAGE]: goWindows({ rolling: 40 }) });
  const account = { id: 'work', provider: 'opencode', api_key_env: 'ZEN', base_url: remote.url };
  const polling = { accounts: [account], poll: { publish: true } };
  const shown = /^toll_models_available\{provider="opencode",account="work"\} 1$/m;
  const poller = await bridge('poller', polling, { ZEN: KEY });
  await poller.shows(shown);
  const reader = await bridge('reader');
  await reader.shows(shown);
  await poller.running.stop();
  const polls = remote.seen.length;
  const restarted = await bridge('new');
  await restarted.shows(shown);
  assert.equal(remote.seen.length, polls, 'nobody polled meanwhile');
});

test('what a daemon pushes to the hub of one bridge, every bridge shows; without NATS the daemon is asked to wait', async (t) => {
  const { server, bridge } = await start(t);
  const pushed = await bridge('hubber', { hub: { listen: '127.0.0.1:0' } });
  const other = await bridge('other');
  const hub = /hub {7}(http:\S+)\/v1\/push/.exec(pushed.running.banner().join('\n'))![1];
  const push = (usd: number) => {
    const snapshot = {
      ...{ provider_id: 'xai', account_id: 'work', timestamp: new Date().toISOString(), status: 'OK' },
      metrics: { credit_balance: { remaining: usd, unit: 'USD', window: 'current' } },
    };
    const body = JSON.stringify({ machine: 'laptop', sent_at: new Date().toISOString(), snapshots: [snapshot] });
    return fetch(`${hub}/v1/push`, { method: 'POST', body });
  };
  assert.equal((await push(8)).status, 200);
  const shown = /^toll_balance\{provider="xai",account="work",kind="credit",currency="USD"\} 8$/m;
  await pushed.shows(shown);
  await other.shows(shown);
  await other.shows(/^toll_account_info\{.*provider="xai".*machine="laptop".*\} 1$/m);
  await server.kill();
  await until('the loss', () =>
    pushed.running.status().sources.some(({ source, up }) => source === 'jetstream' && !up),
  );
  const refused = await push(9);
  assert.deepEqual([refused.status, refused.headers.get('retry-after')], [503, '1']);
});

test('what is published is read as it was, and nothing beyond its form', () => {
  const whole = result(1e9, { displayName: 'Work', machine: 'laptop' });
  assert.deepEqual(parsePublished(publishedText(whole)), whole);
  const more = {
    ...whole,
    secret: 'canary',
    readings: whole.readings.map((reading) => ({ ...reading, raw: 'canary' })),
  };
  const read = parsePublished(publishedText(more as PollResult));
  assert.deepEqual(read, whole);
  const commands = publishedText({ ...whole, message: '\u001b[2J\nAuth OK' });
  assert.deepEqual(parsePublished(commands), { ...whole, message: '' }, 'it would be shown on a terminal');
  for (const text of ['', 'null', '{"v":2}', publishedText({ ...whole, status: 'great' as 'ok' })]) {
    assert.equal(parsePublished(text), undefined);
  }
});
