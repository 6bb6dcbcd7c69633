// The proof with the real Claude Code, Codex and Gemini CLI: set up by `tollbridge install`, what the provider billed for
// them is what the bridge shows, and nothing of their content gets any further than the bridge's door.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { stringify } from 'yaml';
import { AGENT_SETTINGS, EXPORTING_AGENTS, type ExportingAgent } from '../../src/commands/agent-settings.ts';
import { tokenDigest } from '../../src/listen.ts';
import { cleanUpOf } from '../clean-up.ts';
import { assertConserved, truthOf } from '../opencode/billed.ts';
import { BridgeProcess, setUpBridge, Tap } from '../opencode/bridge-process.ts';
import { CONTENT_MARKER, PRICES, until } from '../opencode/drive.ts';
import { type BilledCall, MockLlm, type PlannedStep } from '../opencode/mock-llm.ts';
import { freePort } from '../prometheus-server.ts';
import { samplesOf, shownBy } from '../scrape.ts';
import { AGENTS, runAgent, runProgram } from './drive.ts';
import { installedAgent } from './installed.ts';

const CLI = new URL('../../src/cli.ts', import.meta.url).pathname;
/** With what stands in tokens of other makes, as far as all three pass it on. */
const TOKEN = 'tb_real.agents~bear-it';
const SHOWN_MAX_MS = 20_000;
const COMMAND_MAX_MS = 30_000;

const promptOf = (steps: readonly PlannedStep[]) => `${CONTENT_MARKER} in a prompt\nPLAN=${JSON.stringify(steps)}`;

/** An agent, a provider, and a bridge behind a tap, which keeps what the agent sends. */
async function startAll(t: TestContext, name: ExportingAgent, program: string) {
  const agent = AGENTS[name];
  const root = mkdtempSync(path.join(tmpdir(), 'tb-agents-'));
  const llm = new MockLlm();
  const cleanUp = cleanUpOf(t);
  cleanUp(() => rmSync(root, { recursive: true, force: true }));
  cleanUp(() => llm.stop());
  const scratch = { home: path.join(root, 'home'), project: path.join(root, 'shop'), llmUrl: await llm.start() };
  for (const folder of [scratch.home, scratch.project]) mkdirSync(folder);
  agent.layOut(scratch);

  const tokens = [{ sha256: tokenDigest(TOKEN).toString('hex') }];
  const [bridgePort, tapPort] = [await freePort(), await freePort()];
  const setup = await setUpBridge(root, {
    otlp_in: { listen: `127.0.0.1:${bridgePort}` },
    tokens,
    pricing: [{ provider: '*', model: '*', state: 'estimated', usd_per_million_tokens: PRICES }],
    log: { level: 'trace' },
  });
  const tap = new Tap(bridgePort);
  cleanUp(() => tap.stop());
  await tap.start(tapPort);
  const bridge = await BridgeProcess.start(setup);
  cleanUp(() => bridge.stop());

  // The user's own configuration leads to the tap.
  const userConfig = path.join(root, 'user.yaml');
  const state = path.dirname(setup.socket);
  writeFileSync(
    userConfig,
    stringify({ state_dir: path.join(root, 'user'), otlp_in: { listen: `127.0.0.1:${tapPort}` }, tokens }),
  );
  const tollbridge = (command: 'install' | 'uninstall') => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, command, name, '--config', userConfig], {
      ...{
        cwd: root,
        env: { PATH: process.env.PATH, HOME: scratch.home, TOLLBRIDGE_TOKEN: TOKEN },
        encoding: 'utf8',
        timeout: COMMAND_MAX_MS,
      },
    });
    assert.equal(status, 0, `${command}: ${stdout}${stderr}`);
  };
  const run = async (steps: readonly PlannedStep[], model?: string) => {
    const calls = llm.calls.length;
    const ran = await runAgent({ agent, program, scratch }, { prompt: promptOf(steps), ...(model && { model }) });
    assert.ok(llm.calls.length > calls, `it called its provider: ${ran.said}\n${llm.problems.join('\n')}`);
    return ran;
  };
  /** Lets the agent itself write into its settings. */
  const writeItself = async (args: readonly string[]) => {
    const { code, said } = await runProgram({ agent, program, scratch }, { args });
    assert.equal(code, 0, said);
  };
  const { folder, file } = AGENT_SETTINGS[name];
  const settingsFile = path.join(folder({ home: scratch.home, env: {} }), file);
  const settings = () => readFileSync(settingsFile, 'utf8');
  const restore = (text: string) => writeFileSync(settingsFile, text);
  return { agent, llm, bridge, tap, state, tollbridge, run, writeItself, settings, restore };
}

const isBilled = ({ outcome }: BilledCall) => outcome === 'billed';

/** All that a meter should show of these calls: turns, tokens and tools; their price; what failed, by reason. */
function billOf(calls: readonly BilledCall[]) {
  const { costNano, ...counts } = truthOf(calls.filter(isBilled));
  // `bad-request` is tried again and again, and told of once; of `busy-once` there is one that failed.
  const refused = new Set(
    calls.filter(({ outcome }) => outcome === 'refused').map(({ provider, model }) => `${provider}/${model}`),
  );
  const failed = Object.fromEntries(
    [...refused].map((model) => [`${model} ${model.endsWith('busy-once') ? 'overloaded' : 'other'}`, 1]),
  );
  return { ...counts, estimatedNano: costNano, failed };
}

/** The same as it is shown, and that all of it is the agent's. */
function shownOf(text: string, label: string): ReturnType<typeof billOf> {
  const { tokens, turns, toolCalls, costNano } = shownBy(text);
  assert.deepEqual(costNano, {}, 'no agent behind a gateway states a cost');
  const estimatedNano: Record<string, number> = {};
  const failed: ReturnType<typeof billOf>['failed'] = {};
  for (const { name, labels, value } of samplesOf(text)) {
    const model = `${labels.provider}/${labels.model}`;
    if (name === 'toll_cost_estimated_usd_total') estimatedNano[model] = Math.round(value * 1e9);
    else if (name === 'toll_turn_errors_total') failed[`${model} ${labels.reason}`] = value;
    if (value > 0 && /^toll_(turns|turn_errors|tokens|tool_calls)_total$/.test(name)) {
      assert.equal(labels.agent, label, name);
    }
  }
  return { tokens, turns, toolCalls, estimatedNano, failed };
}

/** Waits until the bridge shows what was billed; fails with the difference when it never does. */
async function assertShown(bridge: BridgeProcess, label: string, calls: readonly BilledCall[]): Promise<string> {
  const bill = billOf(calls);
  const isShown = async () => isDeepStrictEqual(shownOf(await bridge.metrics(), label), bill);
  await until('The bill', isShown, SHOWN_MAX_MS).catch(() => undefined);
  const text = await bridge.metrics();
  assert.deepEqual(shownOf(text, label), bill);
  assertConserved(text);
  return text;
}

for (const name of EXPORTING_AGENTS) {
  const installed = installedAgent(name);
  const skip = 'missing' in installed && `NOT RUN, npm does not give it: ${installed.missing}`;
  const title = `${name} ${installed.version} is metered to the last token, and none of its content is kept`;
  test(title, { skip }, async (t) => {
    assert.ok('program' in installed);
    const all = await startAll(t, name, installed.program);
    const { agent, llm, bridge, tap, state, tollbridge, run, writeItself, settings } = all;
    const before = settings();
    if (agent.ownWriting) await writeItself(agent.ownWriting);
    const own = settings();
    all.restore(before);
    tollbridge('install');
    if (agent.ownWriting) await writeItself(agent.ownWriting);
    await run([agent.shell(`echo hello # ${CONTENT_MARKER}`), { text: `${CONTENT_MARKER} in an answer` }]);
    assert.ok(llm.calls.some(({ tools }) => tools.length > 0) && llm.calls.filter(isBilled).length > 1);
    await assertShown(bridge, agent.label, llm.calls);

    await run([{ text: 'done' }], agent.failing);
    assert.ok(llm.calls.some(({ outcome }) => outcome === 'refused'));
    const text = await assertShown(bridge, agent.label, llm.calls);

    // Control: what is not set up is not metered, so it was `install` that made the rest arrive.
    tollbridge('uninstall');
    const words = (text: string) => text.replaceAll(/\s/g, '');
    assert.equal(words(settings()), words(own), 'its own writing is there, and nothing of ours');
    const [known, heard] = [[...llm.calls], tap.heard.length];
    await run([{ text: 'done' }]);
    assert.equal(tap.heard.length, heard);
    assert.deepEqual(shownOf(await bridge.metrics(), agent.label), billOf(known));
    assert.notDeepEqual(billOf(llm.calls), billOf(known));

    await bridge.stop();
    assert.ok(tap.heard.includes(CONTENT_MARKER), 'it did send content, which the bridge passed over');
    const kept = readdirSync(state, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => readFileSync(path.join(parentPath, name), 'latin1'));
    assert.ok(
      kept.some((file) => file.includes(agent.model)),
      'the ledger was read',
    );
    for (const place of [text, bridge.said, ...kept]) assert.ok(!place.includes(CONTENT_MARKER));
    t.diagnostic(`${llm.calls.length} calls, ${tap.heard.length} characters sent to the bridge`);
  });
}
