// What doctor says of the agents on this machine that export by themselves.

import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { doctor } from '../../src/commands/doctor.ts';
import { installAgent } from '../../src/commands/install-agent.ts';
import { type Config, parseConfig } from '../../src/config.ts';
import { NOW_MS, scratchFolder } from './bridge-fixture.ts';
import { runBridge } from './running-bridge.ts';

interface Finding {
  readonly name: string;
  readonly level: string;
  readonly what: string;
  readonly next?: string;
}

async function agentsIn(loadConfig: () => Config, home: string): Promise<Finding[]> {
  const { lines } = await doctor({ json: true, env: {}, home, nowMs: NOW_MS, loadConfig });
  const { findings } = JSON.parse(lines.join('\n')) as { findings: Finding[] };
  return findings.filter(({ name }) => name === 'agents');
}

const AGENT_STATES: readonly [string, object, string, string, RegExp | undefined][] = [
  ['the bridge takes no telemetry', {}, '{}', 'ok', /otlp_in.*install claude-code/],
  ['it is not set up', { otlp_in: { listen: '127.0.0.1:4318' } }, '{}', 'warning', /install claude-code$/],
  [
    'it exports to somebody else',
    { otlp_in: { listen: '127.0.0.1:4318' } },
    '{"env":{"OTEL_EXPORTER_OTLP_ENDPOINT":"https://otel.example"}}',
    ...(['warning', /docs\/agents\.md/] as const),
  ],
];
for (const [what, settings, text, level, next] of AGENT_STATES) {
  test(`an agent on this machine is told when ${what}`, async (t) => {
    const home = scratchFolder(t);
    mkdirSync(path.join(home, '.claude'));
    writeFileSync(path.join(home, '.claude', 'settings.json'), text);
    const [finding, ...others] = await agentsIn(
      () => parseConfig({ state_dir: path.join(home, 'state'), ...settings }),
      home,
    );
    assert.deepEqual([finding?.level, others], [level, []]);
    assert.match(finding?.what ?? '', /^Claude Code/);
    if (next) assert.match(finding?.next ?? '', next);
  });
}

test('an agent that is set up is told so', async (t) => {
  const home = scratchFolder(t);
  const config = parseConfig({ state_dir: path.join(home, 'state'), otlp_in: { listen: '127.0.0.1:4318' } });
  installAgent('codex', { config, home, env: {} });
  const [finding] = await agentsIn(() => config, home);
  assert.deepEqual([finding?.level, finding?.next], ['ok', undefined]);
});

const TOKEN = 'tb_CANARYtoken';
const BRIDGE = { otlp_in: { listen: '127.0.0.1:4318' } };
const GUARDED = { ...BRIDGE, tokens: [{ token_env: 'T' }] };

test('what one agent is in does not hide the others', async (t) => {
  const home = scratchFolder(t);
  mkdirSync(path.join(home, '.claude', 'settings.json'), { recursive: true });
  mkdirSync(path.join(home, '.codex'));
  mkdirSync(path.join(home, '.gemini'));
  writeFileSync(path.join(home, '.gemini', 'settings.json'), '{"telemetry":');
  const findings = await agentsIn(() => parseConfig({ state_dir: path.join(home, 'state'), ...BRIDGE }), home);
  assert.deepEqual(
    findings.map(({ level }) => level),
    ['problem', 'warning', 'warning'],
  );
  assert.match(findings[0]!.what, /EISDIR/);
  assert.match(findings[1]!.what, /^Codex does not export/);
  assert.match(findings[2]!.what, /^Gemini CLI cannot read/);
});

const INSTALLED_STATES: readonly [string, object, object, string, RegExp, RegExp][] = [
  ['it was set up and the bridge wants a token since', BRIDGE, GUARDED, 'problem', /no token/, /TOLLBRIDGE_TOKEN/],
  [
    'the bridge knows its token no more',
    GUARDED,
    { ...BRIDGE, tokens: [{ token_env: 'OTHER' }] },
    'problem',
    /does not list/,
    /TOLLBRIDGE_TOKEN/,
  ],
  ['the bridge takes no telemetry any more', BRIDGE, {}, 'warning', /takes no telemetry/, /uninstall claude-code$/],
  [
    'the bridge has moved',
    GUARDED,
    { ...GUARDED, otlp_in: { listen: '127.0.0.1:5000' } },
    'warning',
    /: OTEL_EXPORTER_OTLP_ENDPOINT/,
    /install claude-code/,
  ],
  ['all is well', GUARDED, GUARDED, 'ok', /exports to the bridge/, /^$/],
];
for (const [what, before, after, level, said, next] of INSTALLED_STATES) {
  test(`an agent that was set up is told when ${what}, and its token is not`, async (t) => {
    const home = scratchFolder(t);
    const env = { T: TOKEN, TOLLBRIDGE_TOKEN: TOKEN, OTHER: 'another' };
    const state_dir = path.join(home, 'state');
    installAgent('claude-code', { config: parseConfig({ state_dir, ...before }), home, env });
    const loadConfig = () => parseConfig({ state_dir, ...after });
    const { lines } = await doctor({ json: true, env, home, nowMs: NOW_MS, loadConfig });
    assert.ok(!lines.join('\n').includes(TOKEN));
    const { findings } = JSON.parse(lines.join('\n')) as { findings: Finding[] };
    const [finding] = findings.filter(({ name }) => name === 'agents');
    assert.equal(finding?.level, level);
    assert.match(finding?.what ?? '', said);
    assert.match(finding?.next ?? '', next);
  });
}

test('a token that other users may read is told, with what closes it', async (t) => {
  const home = scratchFolder(t);
  const config = parseConfig({ state_dir: path.join(home, 'state'), ...GUARDED });
  installAgent('codex', { config, home, env: { TOLLBRIDGE_TOKEN: TOKEN } });
  const file = path.join(home, '.codex', 'config.toml');
  chmodSync(file, 0o644);
  const [finding] = await agentsIn(() => config, home);
  assert.deepEqual([finding?.level, finding?.next], ['warning', `chmod 600 ${file}`]);
});

test('a real bridge that was started before it was to take telemetry is told', async (t) => {
  const home = scratchFolder(t);
  const { config } = await runBridge(t);
  const listening = { ...config, ...parseConfig(BRIDGE), state_dir: config.state_dir, socket: config.socket };
  installAgent('codex', { config: listening, home, env: {} });
  const [finding] = await agentsIn(() => listening, home);
  assert.deepEqual([finding?.level, finding?.next], ['problem', 'Restart the bridge.']);
  const heard = await runBridge(t, { otlp_in: { listen: '127.0.0.1:0' } });
  const [fine] = await agentsIn(() => ({ ...listening, socket: heard.config.socket }), home);
  assert.equal(fine?.level, 'ok');
});
