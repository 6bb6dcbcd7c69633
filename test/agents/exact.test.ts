// Claude Code, Codex and Gemini CLI as they are on npm, set up by `tollbridge install`, exporting to a real bridge: what their
// provider billed is what is counted, to the last token, and no word of it is kept.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { before, describe, it, type TestContext } from 'node:test';
import { EXPORTING_AGENTS, type ExportingAgent } from '../../src/commands/agent-settings.ts';
import { TOKEN_TYPES, type TokenType } from '../../src/turn/turn-event.ts';
import { cleanUpOf } from '../clean-up.ts';
import { BridgeProcess, setUpBridge } from '../opencode/bridge-process.ts';
import { until } from '../opencode/drive.ts';
import { freePort } from '../prometheus-server.ts';
import { samplesOf } from '../scrape.ts';
import { Provider } from './provider.ts';
import { installAgents, REAL_AGENTS, runAgent, versionOf } from './run.ts';

const CLI = path.join(import.meta.dirname, '..', '..', 'src', 'cli.ts');
const SECRET = 'CANARY-that-nobody-may-keep';
const LABELS: Readonly<Record<ExportingAgent, string>> = {
  'claude-code': 'claude_code',
  codex: 'codex',
  'gemini-cli': 'gemini_cli',
};

async function startAll(t: TestContext, agent: ExportingAgent) {
  const root = mkdtempSync(path.join(os.tmpdir(), 'tb-agent-'));
  const cleanUp = cleanUpOf(t);
  cleanUp(() => rmSync(root, { recursive: true, force: true }));
  const provider = new Provider();
  const providerUrl = await provider.start();
  cleanUp(() => provider.stop());
  const place = { home: path.join(root, 'home'), project: path.join(root, SECRET), providerUrl };
  for (const folder of [place.home, place.project]) mkdirSync(folder);
  const setup = await setUpBridge(root, {
    otlp_in: { listen: `127.0.0.1:${await freePort()}` },
    log: { level: 'trace' },
  });
  REAL_AGENTS[agent].settle(place);
  const installed = spawnSync(process.execPath, [CLI, 'install', agent, '--config', setup.configFile], {
    env: { PATH: process.env.PATH, HOME: place.home },
    encoding: 'utf8',
  });
  assert.equal(installed.status, 0, installed.stderr);
  const bridge = await BridgeProcess.start(setup);
  cleanUp(() => bridge.stop());
  const label = LABELS[agent];
  const sum = async (name: string, labels: Readonly<Record<string, string>> = {}) =>
    samplesOf(await bridge.metrics())
      .filter((sample) => sample.name === name && sample.labels.agent === label)
      .filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))
      .reduce((total, { value }) => total + value, 0);
  return { provider, place, bridge, sum, state: path.dirname(setup.socket) };
}

/** Everything that a bridge keeps. */
function kept(folder: string): string {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(path.join(entry.parentPath, entry.name), 'latin1'))
    .join('\n');
}

before(() => installAgents());

for (const agent of EXPORTING_AGENTS) {
  describe(agent, () => {
    it('a tool call and an answer: two turns, each token that was billed, and no word', async (t) => {
      t.diagnostic(`${REAL_AGENTS[agent].name} ${versionOf(agent)}`);
      const { provider, place, bridge, sum, state } = await startAll(t, agent);
      provider.plan({ command: `echo ${SECRET}` }, { text: `${SECRET} in an answer` });
      const { code, said } = await runAgent(agent, `Print ${SECRET}, please.`, place);
      assert.equal(code, 0, said);
      assert.ok(provider.billed.length >= 2, JSON.stringify(provider.unknown));
      await until('Every turn', async () => (await sum('toll_turns_total')) >= provider.billed.length);
      assert.equal(await sum('toll_turns_total'), provider.billed.length);
      const billed = (type: TokenType) => provider.billed.reduce((total, { tokens }) => total + tokens[type], 0);
      for (const type of TOKEN_TYPES)
        assert.equal(await sum('toll_tokens_total', { token_type: type }), billed(type), type);
      assert.equal(
        await sum('toll_turns_total', { model: REAL_AGENTS[agent].model, status: 'ok' }),
        provider.billed.length,
      );
      assert.equal(await sum('toll_tool_calls_total', { status: 'ok' }), 1);
      assert.equal(await sum('toll_turn_errors_total'), 0);
      const text = await bridge.metrics();
      await bridge.stop();
      assert.ok(!`${text}${kept(state)}`.includes(SECRET));
      assert.ok(kept(state).includes(REAL_AGENTS[agent].model), 'control: what is kept was looked at');
    });

    it('a call that is refused: an error and no turn', async (t) => {
      const { provider, place, sum } = await startAll(t, agent);
      provider.plan({ status: 400 });
      const { said } = await runAgent(agent, 'Print something, please.', place);
      assert.ok(provider.failed > 0, said);
      assert.equal(provider.billed.length, 0);
      const errors = () => sum('toll_turn_errors_total');
      // Codex leaves without sending what it has when it fails; its page says so.
      if (agent !== 'codex') await until('The error', async () => (await errors()) > 0);
      assert.ok((await errors()) <= provider.failed);
      assert.equal(await sum('toll_turns_total'), 0);
      assert.equal(await sum('toll_tokens_total'), 0);
    });
  });
}
