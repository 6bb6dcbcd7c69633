import assert from 'node:assert/strict';
import test from 'node:test';
import { decodeHook } from '../../src/turn/normalize.ts';

type Json = Record<string, unknown>;
const AT = '2026-11-21T20:45:26.721Z';
const AT_MS = Date.parse(AT);
const usage = {
  input_tokens: 10,
  output_tokens: 20,
  reasoning_tokens: 3,
  cache_read_input_tokens: 400,
  cache_creation_input_tokens: 50,
  cost_usd: 0.0125,
};
const stop = (changes: Json = {}): Json => ({
  hook_event_name: 'Stop',
  session_id: 's1',
  request_id: 'req_1',
  timestamp: AT,
  model: 'claude-sonnet-4-5',
  cwd: '/home/dev/shop',
  usage,
  ...changes,
});
const decode = (payload: unknown, context = {}) => decodeHook('claude_code', payload, context);
const turn = {
  kind: 'turn',
  agent: 'claude_code',
  sessionId: 's1',
  messageId: 'req:req_1',
  phase: 'completed',
  startedMs: AT_MS,
  status: 'ok',
  provider: 'anthropic',
  model: 'claude-sonnet-4-5',
  project: 'shop',
  tokens: { input: 10, output: 20, reasoning: 3, cache_read: 400, cache_write: 50 },
  costNano: 12_500_000,
};

test('a hook that states what a message used is a turn; how long it took stays unknown', () => {
  assert.deepEqual(decode(stop()), [{ type: 'event', event: turn }]);
  assert.deepEqual(decode(stop(), { accountId: 'work' }), [{ type: 'event', event: { ...turn, accountId: 'work' } }]);
});

test('the same under the other names', () => {
  const { cost_usd, ...counts } = usage;
  const other = {
    hook_event: 'stop',
    sessionId: 's1',
    message: { id: 'req_1', model: 'claude-sonnet-4-5', usage: counts },
    cost_usd,
    time: AT_MS,
    workspaceId: 'shop',
  };
  assert.deepEqual(decode(other), [{ type: 'event', event: { ...turn, messageId: 'req_1' } }]);
  // Telemetry knows the request only, so where both are stated that one is the key.
  assert.deepEqual(decode({ ...other, requestId: 'req_1' }), [{ type: 'event', event: turn }]);
});

const PASSED_OVER: [string, Json][] = [
  ['no usage', { usage: undefined }],
  ['a usage of nothing', { usage: { input_tokens: 0, output_tokens: 0 } }],
  ['no session', { session_id: undefined }],
  ['no message', { request_id: undefined }],
  ['a usage inside a tool response is not the hook’s own', { usage: undefined, tool_response: { usage } }],
];
for (const [what, changes] of PASSED_OVER) {
  test(`passed over: ${what}`, () => assert.deepEqual(decode(stop(changes)), [{ type: 'ignored', kind: 'no_usage' }]));
}

const REJECTED: [string, unknown, string][] = [
  ['no time', stop({ timestamp: undefined }), 'missing_field'],
  ['no model', stop({ model: undefined }), 'missing_field'],
  ['half a token', stop({ usage: { input_tokens: 0.5 } }), 'out_of_range'],
  ['a list', [], 'wrong_type'],
  ['null', null, 'wrong_type'],
];
for (const [what, payload, reason] of REJECTED) {
  test(`rejected: ${what} → ${reason}`, () => {
    const [decoded] = decode(payload);
    assert.equal(decoded?.type === 'rejected' && decoded.reason, reason);
  });
}

const tool = (hook: string, changes: Json = {}) =>
  decode({
    hook_event_name: hook,
    session_id: 's1',
    cwd: '/home/dev/shop',
    tool_name: 'mcp__github__search',
    tool_use_id: 'toolu_1',
    tool_input: { name: 'secret' },
    tool_response: { text: 'secret' },
    ...changes,
  })[0];

test('a tool that has run is a tool call', () => {
  const event = {
    kind: 'tool',
    agent: 'claude_code',
    sessionId: 's1',
    callId: 'toolu_1',
    tool: 'mcp__github__search',
    mcpServer: 'github',
    status: 'ok',
    project: 'shop',
    origin: 'hook',
  };
  assert.deepEqual(tool('PostToolUse'), { type: 'event', event });
  assert.deepEqual(tool('PostToolUse', { timestamp: AT }), { type: 'event', event: { ...event, completedMs: AT_MS } });
  assert.deepEqual(tool('PostToolUseFailure'), { type: 'event', event: { ...event, status: 'error' } });
});

test('a tool about to run, or without a call id, is none', () => {
  assert.deepEqual(tool('PreToolUse'), { type: 'ignored', kind: 'tool_progress' });
  assert.deepEqual(tool('PostToolUse', { tool_use_id: '' }), { type: 'ignored', kind: 'no_usage' });
  const unnamed = tool('PostToolUse', { tool_name: undefined });
  assert.equal(
    unnamed?.type === 'rejected' && unnamed.reason,
    'missing_field',
    'the name is never taken from the arguments',
  );
});
