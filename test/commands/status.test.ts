import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { installOpencode } from '../../src/commands/install.ts';
import type { Report } from '../../src/commands/show.ts';
import { showStatus } from '../../src/commands/status.ts';
import type { Config } from '../../src/config.ts';
import { RetryableFailure } from '../../src/failure.ts';
import { NO_ACCESS, NOW_MS, plain, scratchConfig, scratchFolder, serveSocket, statusOf } from './bridge-fixture.ts';

/** A home of its own, and no npm, whatever runs the tests. */
const placeOf = (t: TestContext) => ({ env: {}, home: scratchFolder(t) });
const statusOfBridge = (t: TestContext, config: Config, place = placeOf(t)): Promise<Report> =>
  showStatus({ ...place, config, json: false, nowMs: NOW_MS });

test('tiles, accounts and totals, as they stand in a terminal', async (t) => {
  const config = scratchConfig(t);
  const status = statusOf(config);
  await serveSocket(t, config, () => ({ body: JSON.stringify(status) }));
  const { lines, exitCode } = await statusOfBridge(t, config);
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
    'days begin at midnight in UTC',
    'tokens are without those read from the cache',
  ]);
});

test('a sum that leaves turns out says how many', async (t) => {
  const config = scratchConfig(t);
  const row = { cost_usd: 1.25, tokens: 12_345, cache_read_tokens: 1, turns: 7, unpriced_turns: 3, sessions: 2 };
  const { cost_usd: _, ...unknown } = { ...row, unpriced_turns: 7 };
  const windows = { today: row, '7d': { ...row, unpriced_turns: 1 }, '30d': unknown };
  const status = statusOf(config, { tiles: [{ tile: 'openai', upstream_providers: ['openai'], windows }] });
  await serveSocket(t, config, () => ({ body: JSON.stringify(status) }));
  assert.deepEqual(plain((await statusOfBridge(t, config)).lines).slice(2, 7), [
    '  today               $1.2500              12,345           7           2',
    '           + 3 turns without a stated cost',
    '  7d                  $1.2500              12,345           7           2',
    '           + 1 turn without a stated cost',
    '  30d                 unknown              12,345           7           2',
  ]);
});

test('unknown, tiny and huge numbers, long names and trouble: still true, still 80 columns', async (t) => {
  const config = scratchConfig(t);
  const huge = {
    tokens: 987_654_321_012,
    cache_read_tokens: 0,
    turns: 12_345_678,
    unpriced_turns: 12_345_678,
    sessions: 1_234_567,
  };
  const message = 'the console says that the balance is below the amount at which it is filled up again '.repeat(3);
  const status = statusOf(config, {
    ready: false,
    not_ready: ['the totals are being restored'],
    time_zone: 'America/Argentina/ComodRivadavia',
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
        message: `${message}${'e'.repeat(200)} – check OPENCODE_API_KEY`,
        quotas: [{ quota: 'go', window: '5h', unit: 'percent', usedRatio: 0.155, resetMs: NOW_MS }],
        ...NO_ACCESS,
      },
    ],
    unmapped: [{ upstream_provider: 'cerebras', reason: 'unconfigured', fix: 'gateways: {}' }],
  });
  await serveSocket(t, config, () => ({ body: JSON.stringify(status) }));
  const lines = plain((await statusOfBridge(t, config)).lines);
  assert.match(lines.join('\n'), /today +unknown +987,654,321,012/);
  assert.match(lines.join('\n'), /7d +<\$0\.0001 /);
  assert.match(lines.join('\n'), /month +\$1,234,567\.8910 /);
  assert.match(lines.join('\n'), /go 5h: 16 % used, starts anew 2026-/);
  assert.ok(lines.includes('days begin at midnight in America/Argentina/ComodRivadavia'));
  const words = lines.join(' ').replace(/ +/g, ' ');
  assert.ok(words.includes(message.trim()), 'a long message is broken into lines and not cut');
  assert.match(words, /e – check OPENCODE_API_KEY/);
  assert.equal(words.match(/e{2,}/g)?.join('').length, 200);
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
  assert.deepEqual(plain((await statusOfBridge(t, config)).lines), [
    'No turn has been counted yet.',
    'Install the plugin, restart OpenCode and send it a prompt:',
    '  tollbridge install opencode',
    '',
    '0 turns in all',
    'days begin at midnight in UTC',
    'tokens are without those read from the cache',
  ]);

  const place = placeOf(t);
  installOpencode({ ...place, config: scratchConfig(t) });
  const outdated = plain((await statusOfBridge(t, config, place)).lines).slice(1, 3);
  assert.deepEqual(outdated, [
    'Bring the plugin up to date, restart OpenCode and send it a prompt:',
    '  tollbridge install opencode',
  ]);
  installOpencode({ ...place, config });
  const installed = plain((await statusOfBridge(t, config, place)).lines).join('\n');
  assert.match(installed, /^The plugin is installed: send OpenCode a prompt\./m);
  assert.doesNotMatch(installed, /install opencode/);
});

test('--json is the status itself', async (t) => {
  const config = scratchConfig(t);
  const status = statusOf(config);
  await serveSocket(t, config, () => ({ body: JSON.stringify(status) }));
  const { lines } = await showStatus({ ...placeOf(t), config, json: true, nowMs: NOW_MS });
  assert.deepEqual(JSON.parse(lines.join('\n')), status);
});

test('without a bridge it says why, and what to do', async (t) => {
  const config = scratchConfig(t);
  await assert.rejects(showStatus({ ...placeOf(t), config, json: true, nowMs: NOW_MS }), (error) => {
    assert.ok(error instanceof RetryableFailure);
    assert.match(error.message, /^No bridge answers: there is no socket at .*tollbridge start.*tollbridge doctor/);
    return true;
  });
});
