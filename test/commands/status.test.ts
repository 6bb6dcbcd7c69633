import assert from 'node:assert/strict';
import { test } from 'node:test';
import { showStatus } from '../../src/commands/status.ts';
import { RetryableFailure } from '../../src/failure.ts';
import { NOW_MS, plain, scratchConfig, serveSocket, statusOf } from './bridge-fixture.ts';

test('tiles, accounts and totals, as they stand in a terminal', async (t) => {
  const config = scratchConfig(t);
  const status = statusOf(config);
  await serveSocket(t, config, () => ({ body: JSON.stringify(status) }));
  const { lines, exitCode } = await showStatus({ config, json: false, nowMs: NOW_MS });
  assert.equal(exitCode, 0);
  assert.deepEqual(plain(lines), [
    'claude_code  anthropic',
    '                         cost              tokens       turns    sessions',
    '  today               $1.2500              12,345           7           2',
    '  7d                  $1.2500              12,345           7           2',
    '  30d                 $1.2500              12,345           7           2',
    '  month               $1.2500              12,345           7           2',
    '',
    'accounts',
    '  opencode/main  ok',
    '    Auth OK · 30 Zen models (just now)',
    '',
    '7 turns in all, the last 5 min ago',
    'days begin at midnight in UTC; tokens without those read from the cache',
  ]);
});

test('unknown, tiny and huge numbers, long names and trouble: still true, still 80 columns', async (t) => {
  const config = scratchConfig(t);
  const huge = { tokens: 987_654_321_012, cache_read_tokens: 0, turns: 12_345_678, sessions: 1_234_567 };
  const status = statusOf(config, {
    ready: false,
    not_ready: ['the totals are being restored'],
    tiles: [
      {
        tile: 'a'.repeat(64),
        upstream_providers: ['b'.repeat(64), 'c'],
        windows: { today: huge, '7d': { ...huge, cost_usd: 0.00001 }, month: { ...huge, cost_usd: 1_234_567.891 } },
      },
    ],
    accounts: [
      {
        provider: 'opencode',
        account: 'd'.repeat(64),
        found_in: 'auth.json',
        status: 'auth_required',
        message: 'e'.repeat(200),
        quotas: [{ quota: 'go', window: '5h', usedRatio: 0.155, resetMs: NOW_MS }],
      },
    ],
    unmapped: [{ upstream_provider: 'cerebras', reason: 'unconfigured', fix: 'gateways: {}' }],
  });
  await serveSocket(t, config, () => ({ body: JSON.stringify(status) }));
  const lines = plain((await showStatus({ config, json: false, nowMs: NOW_MS })).lines);
  assert.match(lines.join('\n'), /today +unknown +987,654,321,012/);
  assert.match(lines.join('\n'), /7d +<\$0\.0001 /);
  assert.match(lines.join('\n'), /month +\$1,234,567\.8910 /);
  assert.match(lines.join('\n'), /go 5h: 16 % used, starts anew 2026-/);
  assert.match(lines.join('\n'), /not ready: the totals are being restored/);
  assert.match(lines.join('\n'), /cerebras: gateways: \{\}/);
  assert.doesNotMatch(lines.join('\n'), /30d/, 'a window that was not told is not shown');
  for (const line of lines) assert.ok(line.length <= 80, line);
});

test('before the first turn it says what to do', async (t) => {
  const config = scratchConfig(t);
  const fresh = statusOf(config);
  const { last_turn_ms: _, ...ledger } = { ...fresh.ledger, turns: 0 };
  await serveSocket(t, config, () => ({ body: JSON.stringify({ ...fresh, tiles: [], accounts: [], ledger }) }));
  assert.deepEqual(plain((await showStatus({ config, json: false, nowMs: NOW_MS })).lines), [
    'No turn has been counted yet.',
    'Install the plugin with "tollbridge install opencode", restart OpenCode and send it a prompt.',
    '',
    '0 turns in all',
    'days begin at midnight in UTC; tokens without those read from the cache',
  ]);
});

test('--json is the status itself', async (t) => {
  const config = scratchConfig(t);
  const status = statusOf(config);
  await serveSocket(t, config, () => ({ body: JSON.stringify(status) }));
  const { lines } = await showStatus({ config, json: true, nowMs: NOW_MS });
  assert.deepEqual(JSON.parse(lines.join('\n')), status);
});

test('without a bridge it says why, and what to do', async (t) => {
  const config = scratchConfig(t);
  await assert.rejects(showStatus({ config, json: true, nowMs: NOW_MS }), (error) => {
    assert.ok(error instanceof RetryableFailure);
    assert.match(error.message, /^No bridge answers: there is no socket at .*tollbridge start.*tollbridge doctor/);
    return true;
  });
});
