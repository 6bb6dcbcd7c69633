// What doctor says of the agents on this machine that export by themselves.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { doctor } from '../../src/commands/doctor.ts';
import { installAgent } from '../../src/commands/install-agent.ts';
import { type Config, parseConfig } from '../../src/config.ts';
import { NOW_MS, scratchFolder } from './bridge-fixture.ts';

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
