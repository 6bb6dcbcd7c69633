import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { describeConfig } from '../../src/commands/check-config.ts';
import { scratchConfig, scratchFolder } from './bridge-fixture.ts';

test('says OK and what matters', (t) => {
  const config = scratchConfig(t, {
    time_zone: 'Europe/Berlin',
    metrics: { listen: '[::1]:9464' },
    spool: { enabled: false },
    accounts: [{ id: 'work', provider: 'anthropic' }],
  });
  const { lines, exitCode } = describeConfig({ config, env: {}, home: scratchFolder(t) });
  assert.equal(exitCode, 0);
  assert.equal(lines[0], 'OK');
  assert.match(lines[1]!, /^ {2}file {7}none at .*tollbridge\.yaml: every default$/);
  assert.deepEqual(lines.slice(2, 8), [
    '  metrics    http://[::1]:9464/metrics',
    `  socket     ${path.join(config.state_dir, 'tollbridge.sock')}`,
    '  spool      off',
    `  state_dir  ${config.state_dir}`,
    '  time zone  Europe/Berlin',
    '  accounts   anthropic/work (tollbridge.yaml)',
  ]);
});

test('names where a key was found and never shows it', (t) => {
  const config = scratchConfig(t, { detect: true });
  const env = { OPENCODE_API_KEY: 'sk-EXAMPLE-0123456789' };
  const text = describeConfig({ config, env, home: scratchFolder(t) }).lines.join('\n');
  assert.match(text, /accounts {3}opencode\/\S+ \(OPENCODE_API_KEY\)/);
  assert.doesNotMatch(text, /sk-EXAMPLE/);
});

test('says which rules are hardly what was meant', (t) => {
  const text = (limit_usd: number) => {
    const budgets = [
      { name: 'all', limit_usd, period: 'day', hard: true },
      { name: 'red', scope: { team: 'red' }, limit_usd: 10, period: 'day' },
    ];
    return describeConfig({ config: scratchConfig(t, { budgets }), env: {}, home: scratchFolder(t) }).lines.join('\n');
  };
  assert.match(text(5), /^ {2}note: budget red can never be reached: budget all stops the same turns first\.$/m);
  assert.doesNotMatch(text(50), /never be reached/);
});
