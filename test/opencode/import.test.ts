// What a real OpenCode recorded itself brings back what its plugin lost, to what the provider billed; and nothing twice.

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { importOpencode } from '../../src/commands/import-opencode.ts';
import { installOpencode, uninstallOpencode } from '../../src/commands/install.ts';
import { parseConfig } from '../../src/config.ts';
import { TOKEN_TYPES, type TokenCounts, totalTokens } from '../../src/turn/turn-event.ts';
import { samplesOf } from '../scrape.ts';
import { NANO_PER_TOKEN } from './billed.ts';
import { BridgeProcess, setUpBridge } from './bridge-process.ts';
import { CONTENT_MARKER, findOpenCode, layOut, OpenCode, PROJECT, runOnce, until } from './drive.ts';
import { MockLlm, type PlannedStep } from './mock-llm.ts';

const steps: readonly PlannedStep[] = [
  { tool: 'bash', args: { command: 'true', description: CONTENT_MARKER } },
  { text: 'done' },
];

async function setUp(t: TestContext) {
  const root = mkdtempSync(path.join(tmpdir(), 'tb-oc-'));
  const llm = new MockLlm();
  const cleanups: (() => unknown)[] = [() => rmSync(root, { recursive: true, force: true }), () => llm.stop()];
  t.after(async () => {
    for (const cleanup of cleanups.reverse()) await (async () => cleanup())().catch(() => {});
  });
  const scratch = layOut(root, await llm.start());
  const setup = await setUpBridge(root);
  const bridge = await BridgeProcess.start(setup);
  cleanups.push(() => bridge.stop());
  const config = parseConfig({ socket: { path: setup.socket }, spool: { dir: setup.spool } });
  const place = { home: scratch.home, env: scratch.env };
  const bringIn = (flags = {}) => importOpencode({ flags, config, ...place, platform: process.platform });
  const shown = async () => {
    const text = await bridge.metrics();
    const sum = (name: string) =>
      samplesOf(text)
        .filter((sample) => sample.name === name)
        .reduce((total, { value }) => total + value, 0);
    const [turns, tokens, tools] = ['toll_turns_total', 'toll_tokens_total', 'toll_tool_calls_total'].map(sum);
    return { turns, tokens, tools, nano: Math.round(sum('toll_cost_usd_total') * 1e9), text };
  };
  /** What was billed of what OpenCode records: the calls that title a session are not among it. */
  const billed = () => {
    const calls = llm.calls.filter(({ outcome, purpose }) => outcome === 'billed' && purpose !== 'title');
    const sum = (of: (tokens: TokenCounts) => number) => calls.reduce((total, { tokens }) => total + of(tokens), 0);
    const nanoOf = (tokens: TokenCounts) =>
      TOKEN_TYPES.reduce((total, type) => total + tokens[type] * NANO_PER_TOKEN[type], 0);
    return { turns: calls.length, tokens: sum(totalTokens), nano: Math.round(sum(nanoOf)) };
  };
  return { scratch, setup, bringIn, shown, billed, config, place, cleanups };
}

test('what was done without the plugin is brought in, once, without a word of content', async (t) => {
  const { scratch, setup, bringIn, shown, billed } = await setUp(t);
  for (let n = 0; n < 2; n++) await runOnce(findOpenCode(), scratch, steps);
  const report = await bringIn();
  assert.match(report.lines[0]!, /^Imported: 8 records/, 'two sessions, four turns, two tool calls');
  const first = await shown();
  assert.deepEqual({ turns: first.turns, tokens: first.tokens, nano: first.nano }, billed());
  assert.equal(first.tools, 2);
  assert.match(first.text, new RegExp(`toll_turns_total\\{.*project="${PROJECT}"`));

  const again = await bringIn();
  assert.match(again.lines.join('\n'), /^Imported: 0 records.*\n {2}known already {2}8$/);
  const { text: _, ...second } = await shown();
  const { text: __, ...before } = first;
  assert.deepEqual(second, before);

  const later = await bringIn({ since: '2099-01-01' });
  assert.match(later.lines.join('\n'), /known already {2}0$/, 'nothing began since then');
  const state = path.dirname(setup.socket);
  for (const entry of readdirSync(state, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const kept = readFileSync(path.join(entry.parentPath, entry.name), 'latin1');
    assert.ok(!kept.includes(CONTENT_MARKER), entry.name);
  }
});

test('what the plugin lost comes back while OpenCode runs, and what it told is not counted again', async (t) => {
  const { scratch, bringIn, shown, billed, config, place, cleanups } = await setUp(t);
  uninstallOpencode(place);
  await runOnce(findOpenCode(), scratch, steps);
  installOpencode({ config, ...place });
  const openCode = await OpenCode.start(findOpenCode(), scratch);
  cleanups.push(() => openCode.stop());
  await openCode.prompt(await openCode.newSession(), steps);
  await until('The turns that the plugin tells', async () => (await shown()).turns === 2);
  const told = await shown();
  assert.notEqual(told.turns, billed().turns, 'half of it is missing');
  await bringIn();
  const { text: _, ...all } = await shown();
  assert.deepEqual({ turns: all.turns, tokens: all.tokens, nano: all.nano }, billed());
  assert.equal(all.tools, 2);
});

test('a file that is no database of OpenCode, and none at all, are told', async (t) => {
  const { bringIn, setup, config } = await setUp(t);
  await assert.rejects(bringIn(), /OpenCode has no database where it keeps one.*--db FILE/);
  await assert.rejects(bringIn({ db: setup.configFile }), /tollbridge\.yaml cannot be read as a database of OpenCode/);
  const nobody = { ...config, socket: { ...config.socket, path: `${config.socket.path}.gone` } };
  const asked = importOpencode({ flags: {}, config: nobody, env: {}, home: '/nowhere', platform: 'linux' });
  await assert.rejects(asked, /No bridge answers/);
});
