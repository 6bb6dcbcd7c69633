// The proof with a real OpenCode that skips every plugin: what `policy export opencode` writes is what it holds to.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { exportPolicy } from '../../src/commands/policy-export.ts';
import { parseConfig } from '../../src/config.ts';
import { findOpenCode, layOut, OpenCode } from './drive.ts';
import { MockLlm } from './mock-llm.ts';

const DENIED_MODEL = 'anthropic/claude-sonnet-4-5';
const ALLOWED_MODEL = 'my-gateway/gpt-5.1';
const SHELL = [{ tool: 'bash', args: { command: 'touch ran', description: 'leave a trace' } }, { text: 'done' }];
const models = (patterns: object) => [{ name: 'm', scope: { provider: 'anthropic' }, models: patterns }];
const tools = (patterns: object) => [{ name: 't', tools: patterns }];

const binary = findOpenCode();
const llm = new MockLlm();
let llmUrl: string;
before(async () => {
  llmUrl = await llm.start();
});
after(() => llm.stop());

/** What a pure OpenCode does under such guardrails: whether the model was called, and whether the tool ran. */
async function tried(guardrails: readonly object[]) {
  const root = mkdtempSync(path.join(tmpdir(), 'tb-oc-managed-'));
  const scratch = layOut(root, llmUrl);
  const managed = path.join(root, 'managed');
  mkdirSync(managed);
  exportPolicy(parseConfig({ guardrails }), { out: path.join(managed, 'opencode.json') });
  const env = { ...scratch.env, OPENCODE_PURE: '1', OPENCODE_TEST_MANAGED_CONFIG_DIR: managed };
  const openCode = await OpenCode.start(binary, { ...scratch, env });
  try {
    const before = llm.calls.length;
    // A model that is not there is an error of the prompt.
    await openCode.prompt(await openCode.newSession(), [{ text: 'done' }], DENIED_MODEL).catch(() => undefined);
    const isModelCalled = llm.calls.slice(before).some(({ provider }) => provider === 'anthropic');
    await openCode.prompt(await openCode.newSession(), SHELL, ALLOWED_MODEL);
    const isOtherCalled = llm.calls
      .slice(before)
      .some(({ provider, purpose }) => provider === 'my-gateway' && purpose === 'turn');
    return { isModelCalled, isOtherCalled, isToolRun: existsSync(path.join(scratch.project, 'ran')) };
  } finally {
    await openCode.stop();
    rmSync(root, { recursive: true, force: true });
  }
}

describe('a real OpenCode without plugins', () => {
  const CASES: [name: string, guardrails: object[], isModelCalled: boolean, isToolRun: boolean][] = [
    ['control: no rule', [], true, true],
    ['control: rules about others', [...models({ deny: 'other' }), ...tools({ deny: 'web*' })], true, true],
    [
      'a denied model and a denied tool',
      [...models({ deny: 'claude-sonnet-4-5' }), ...tools({ deny: 'b*' })],
      false,
      false,
    ],
    [
      'an allow-list of models and of tools',
      [...models({ allow: 'other' }), ...tools({ allow: 'read' })],
      false,
      false,
    ],
    ['an allow-list of providers', [{ name: 'p', providers: { allow: 'my-gateway' } }], false, true],
    ['a denied provider', [{ name: 'p', providers: { deny: 'anthropic' } }], false, true],
  ];
  for (const [name, guardrails, isModelCalled, isToolRun] of CASES) {
    test(name, async () => {
      assert.deepEqual(await tried(guardrails), { isModelCalled, isOtherCalled: true, isToolRun });
    });
  }
});
