// A real OpenCode, the plugin and a real bridge: what was spent stops what comes next, by the bridge's own books.

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { installOpencode } from '../../src/commands/install.ts';
import { parseConfig } from '../../src/config.ts';
import { BridgeProcess, type BridgeSetup, setUpBridge } from './bridge-process.ts';
import { findOpenCode, layOut, PROJECT, run, type Scratch, until } from './drive.ts';
import { MockLlm, type PlannedStep } from './mock-llm.ts';

const root = mkdtempSync(path.join(tmpdir(), 'tb-oc-'));
const binary = findOpenCode();
const llm = new MockLlm();
let scratch: Scratch;

const done: PlannedStep = { text: 'all done' };
const touch = (name: string): PlannedStep => ({ tool: 'bash', args: { command: `touch ${name}`, description: 'x' } });

/** Runs OpenCode once beside a bridge with these rules; gives what it said and how many calls reached the provider. */
async function governed(setup: BridgeSetup, steps: readonly PlannedStep[]) {
  const config = parseConfig({ socket: { path: setup.socket }, spool: { dir: setup.spool } });
  installOpencode({ config, home: scratch.home, env: scratch.env });
  const before = llm.calls.length;
  const ran = await run(binary, scratch, steps);
  const calls = llm.calls.slice(before).filter(({ purpose }) => purpose === 'turn').length;
  return { ...ran, calls };
}

before(async () => {
  scratch = layOut(root, await llm.start());
});
after(async () => {
  await llm.stop();
  rmSync(root, { recursive: true, force: true });
});

test('a hard budget lets turns through until they have spent it, and stops the next one', async () => {
  const budgets = [{ name: 'shop', scope: { project: PROJECT }, limit_usd: 0.0001, period: 'day', hard: true }];
  const setup = await setUpBridge(path.join(root, 'budget'), { budgets, verdict: { contact: '#money' } });
  const bridge = await BridgeProcess.start(setup);
  try {
    const first = await governed(setup, [done]);
    assert.deepEqual([first.code, first.calls], [0, 1], first.stderr);
    await until('The spending', async () =>
      /toll_policy_used_ratio\{budget="shop"\} [1-9]/.test(await bridge.metrics()),
    );
    const second = await governed(setup, [done]);
    assert.notEqual(second.code, 0);
    assert.equal(second.calls, 0, 'the provider was not called');
    assert.match(second.stderr, /Budget shop is used up: \d+\.\d+ of 0\.0001 USD\. It resets on .* Questions: #money/);
    await until('The count of the stop', async () =>
      /toll_policy_verdicts_total\{decision="stop",rule="budget\/shop"\} [1-9]/.test(await bridge.metrics()),
    );
  } finally {
    await bridge.stop();
  }
});

test('a denied model is not called, a denied tool does not run, and the turn goes on', async () => {
  const models = await setUpBridge(path.join(root, 'models'), {
    guardrails: [{ name: 'small-only', models: { allow: 'small' } }],
  });
  let bridge = await BridgeProcess.start(models);
  try {
    const denied = await governed(models, [done]);
    assert.notEqual(denied.code, 0);
    assert.equal(denied.calls, 0);
    assert.match(denied.stderr, /The model gpt-5\.1 may not be used here \(rule small-only\)/);
  } finally {
    await bridge.stop();
  }
  const tools = await setUpBridge(path.join(root, 'tools'), {
    guardrails: [{ name: 'no-shell', tools: { deny: 'bash' } }],
  });
  bridge = await BridgeProcess.start(tools);
  try {
    const went = await governed(tools, [touch('denied'), done]);
    assert.deepEqual([went.code, went.calls], [0, 2], went.stderr);
    assert.equal(existsSync(path.join(scratch.project, 'denied')), false);
  } finally {
    await bridge.stop();
  }
  // The control: nobody answers any more, and what was left open goes ahead.
  const alone = await governed(tools, [touch('allowed'), done]);
  assert.deepEqual([alone.code, alone.calls], [0, 2], alone.stderr);
  assert.equal(existsSync(path.join(scratch.project, 'allowed')), true);
});

test('an alias does not hide a denied model, and the header of a gateway tells who serves', async (t) => {
  const file = path.join(scratch.configHome, 'opencode', 'opencode.json');
  const original = readFileSync(file, 'utf8');
  t.after(() => writeFileSync(file, original));
  const config = JSON.parse(original);
  const gateway = config.provider['my-gateway'];
  gateway.options.headers = { 'x-portkey-provider': 'mistral-ai' };
  gateway.models.harmless = { ...gateway.models['gpt-5.1'], id: 'gpt-5.1', name: 'harmless' };
  writeFileSync(file, JSON.stringify({ ...config, model: 'my-gateway/harmless' }));

  const guardrails = [{ name: 'no-gpt', scope: { upstream_provider: 'mistral' }, models: { deny: 'gpt-*' } }];
  const denied = await setUpBridge(path.join(root, 'alias'), { guardrails });
  let bridge = await BridgeProcess.start(denied);
  try {
    const ran = await governed(denied, [done]);
    assert.equal(ran.calls, 0);
    assert.match(ran.stderr, /The model harmless, which calls gpt-5\.1, may not be used here \(rule no-gpt\)/);
  } finally {
    await bridge.stop();
  }
  const free = await setUpBridge(path.join(root, 'gateway'), {});
  bridge = await BridgeProcess.start(free);
  try {
    assert.equal((await governed(free, [done])).calls, 1);
    await until('The turn', async () =>
      /toll_turns_total\{.*upstream_provider="mistral",model="harmless".*\} 1/.test(await bridge.metrics()),
    );
  } finally {
    await bridge.stop();
  }
});
