import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Bridge, ledgerFile } from '../src/bridge.ts';
import { Ledger } from '../src/ledger/ledger.ts';
import { createLog } from '../src/log.ts';
import { scratchConfig } from './commands/bridge-fixture.ts';
import { turn } from './ledger/events.ts';
import { post } from './sources/intake-fixture.ts';

async function startBridge(t: TestContext, settings: Record<string, unknown> = {}) {
  const config = scratchConfig(t, { metrics: { listen: '127.0.0.1:0' }, ...settings });
  const bridge = await Bridge.start({ config, log: createLog('silent'), env: {} });
  t.after(() => bridge.stop());
  return { config, bridge };
}

test('the banner says where it listens and whom it found, and needs no ledger for that', async (t) => {
  const accounts = [
    { id: 'main', provider: 'opencode-go' },
    { id: 'team', provider: 'acme' },
  ];
  const { config, bridge } = await startBridge(t, { accounts });
  const expected = [
    `  metrics   ${bridge.metricsUrl}/metrics   (a page for people: ${bridge.metricsUrl}/)`,
    `  socket    ${config.socket.path}`,
    `  spool     ${config.spool.dir}`,
    `  ledger    ${config.state_dir}/ledger.db`,
    '  config    none: all defaults',
    '  accounts  opencode-go · main (from tollbridge.yaml)',
    '            acme · team (from tollbridge.yaml)',
  ];
  assert.deepEqual(bridge.banner().slice(1, 1 + expected.length), expected);
  const running = bridge.banner();
  await bridge.stop();
  assert.throws(() => bridge.status(), 'the ledger is closed');
  assert.deepEqual(bridge.banner(), running);
});

test('the banner says what is switched off and that nobody was found', async (t) => {
  const { bridge } = await startBridge(t, { socket: { enabled: false }, spool: { enabled: false } });
  const banner = bridge.banner().join('\n');
  assert.match(banner, /^ {2}socket {4}off \(socket\.enabled is false\)$/m);
  assert.match(banner, /^ {2}spool {5}off \(spool\.enabled is false\)$/m);
  assert.match(banner, /^ {2}accounts {2}none found/m);
});

test('the banner says which rules fit no turn that the ledger has, and no identity of this machine', async (t) => {
  const scope = (team: string) => ({ name: team, scope: { team }, limit_turns: 1, period: 'day' });
  const budgets = ['red', 'rde', 'new'].map(scope);
  const config = scratchConfig(t, {
    ...{ metrics: { listen: '127.0.0.1:0' }, budgets, spool: { enabled: false } },
    socket: { identity: { team: 'new' } },
  });
  const notes = async () => {
    const bridge = await Bridge.start({ config, log: createLog('silent'), env: {} });
    const banner = bridge.banner();
    await bridge.stop();
    return banner.filter((line) => line.startsWith('  note '));
  };
  assert.deepEqual(await notes(), [], 'control: an empty ledger knows no names');
  const ledger = Ledger.open({
    ...{ file: ledgerFile(config), timeZone: 'UTC', retentionMs: config.retention },
    ...{ caps: config.labels.caps, log: createLog('silent') },
  });
  const nowMs = Date.now();
  await ledger.submit([turn({ team: 'red', startedMs: nowMs - 10, completedMs: nowMs })]);
  ledger.close();
  assert.deepEqual(await notes(), [
    '  note      budget rde has matched no turn: nothing has the team rde. Did you mean new, red?',
  ]);
});

test('once it has started, its metrics and its page are there', async (t) => {
  const { bridge } = await startBridge(t, { socket: { enabled: false }, spool: { enabled: false } });
  for (const route of ['/metrics', '/', '/-/ready']) {
    const response = await fetch(bridge.metricsUrl + route);
    await response.text();
    assert.equal(response.status, 200, route);
  }
});

test('a poller elsewhere: its result on the socket, and a daemon at the hub, become series', async (t) => {
  const { config, bridge } = await startBridge(t, { hub: { listen: '127.0.0.1:0' } });
  const hub = /^ {2}hub {7}(http:\S+)\/v1\/push/m.exec(bridge.banner().join('\n'))?.[1];
  assert.ok(hub, 'the banner says where the hub listens');
  const snapshot = (provider: string, usd: number) => ({
    ...{ provider_id: provider, account_id: 'work', timestamp: new Date().toISOString(), status: 'OK' },
    metrics: { credit_balance: { remaining: usd, unit: 'USD', window: 'current' } },
  });
  const record = { v: 1, kind: 'poll', interval_s: 60, payload: snapshot('zai', 7) };
  assert.equal((await post(config.socket.path, '/v1/events', record)).status, 202);
  const envelope = { machine: 'laptop', snapshots: [snapshot('xai', 12.5)] };
  const pushed = await fetch(`${hub}/v1/push`, { method: 'POST', body: JSON.stringify(envelope) });
  assert.deepEqual(await pushed.json(), { ok: true });
  const text = await (await fetch(`${bridge.metricsUrl}/metrics`)).text();
  assert.match(text, /^toll_balance\{provider="zai",account="work",kind="credit",currency="USD"\} 7$/m);
  assert.match(text, /^toll_balance\{provider="xai",account="work",kind="credit",currency="USD"\} 12\.5$/m);
  assert.match(text, /^tollbridge_events_recorded_total\{source="hub"\} 1$/m);
  assert.match(text, /^tollbridge_source_up\{source="hub"\} 1$/m);
  const lines = bridge.status().accounts.map(({ provider, account, found_in }) => [provider, account, found_in]);
  assert.deepEqual(lines, [
    ['xai', 'work', 'another poller'],
    ['zai', 'work', 'another poller'],
  ]);
  assert.match(await (await fetch(bridge.metricsUrl)).text(), /12\.50 USD/);
});

test('a token that is named and not there stops the start: the hub would be open', async (t) => {
  await assert.rejects(
    startBridge(t, { hub: { listen: '127.0.0.1:0', token_env: 'NO_SUCH_TOKEN' } }),
    /hub\.token_env names NO_SUCH_TOKEN, but that variable is empty: the hub would be open/,
  );
});
