import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { askBridge } from '../../src/commands/ask-bridge.ts';
import { scratchConfig, serveSocket, statusOf } from './bridge-fixture.ts';

test('a bridge that runs tells its status', async (t) => {
  const config = scratchConfig(t);
  const status = statusOf(config);
  let asked = '';
  await serveSocket(t, config, ({ method, url }) => {
    asked = `${method} ${url}`;
    return { body: JSON.stringify(status) };
  });
  assert.deepEqual(await askBridge(config), { answers: true, status });
  assert.equal(asked, 'GET /v1/status');
});

const oddAnswers: readonly [string, { status?: number; body: string }, RegExp][] = [
  ['an error', { status: 503, body: 'busy' }, /answered with HTTP 503$/],
  ['no JSON', { body: '<html>' }, /does not speak JSON$/],
  ['JSON of something else', { body: '{"ok":true}' }, /is not this Tollbridge$/],
  ['null', { body: 'null' }, /is not this Tollbridge$/],
];
for (const [name, answer, why] of oddAnswers) {
  test(`what answers with ${name} is no bridge`, async (t) => {
    const config = scratchConfig(t);
    await serveSocket(t, config, () => answer);
    const found = await askBridge(config);
    assert.ok(!found.answers);
    assert.match(found.why, why);
  });
}

test('nobody there: each reason has its own words', async (t) => {
  const config = scratchConfig(t);
  const missing = await askBridge(config);
  assert.ok(!missing.answers);
  assert.equal(missing.why, `there is no socket at ${config.socket.path}`);

  writeFileSync(config.socket.path, '');
  const dead = await askBridge(config);
  assert.ok(!dead.answers);
  assert.match(dead.why, /^nobody listens at /);

  const off = await askBridge(scratchConfig(t, { socket: { enabled: false } }));
  assert.ok(!off.answers);
  assert.match(off.why, /switched off \(socket\.enabled: false\)/);
});
