import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Bridge } from '../src/bridge.ts';
import { createLog } from '../src/log.ts';
import { scratchConfig } from './commands/bridge-fixture.ts';

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

test('once it has started, its metrics and its page are there', async (t) => {
  const { bridge } = await startBridge(t, { socket: { enabled: false }, spool: { enabled: false } });
  for (const route of ['/metrics', '/', '/-/ready']) {
    const response = await fetch(bridge.metricsUrl + route);
    await response.text();
    assert.equal(response.status, 200, route);
  }
});
