import assert from 'node:assert/strict';
import test from 'node:test';
import { decodeHook } from '../../src/turn/normalize.ts';

type Json = Record<string, unknown>;
const AT_MS = 1795293926721;
const usage = {
  input_tokens: 1335,
  cached_input_tokens: 300,
  output_tokens: 75,
  reasoning_output_tokens: 20,
  total_tokens: 1410,
};
const notice = (changes: Json = {}): Json => ({
  type: 'agent-turn-complete',
  session_id: 's1',
  turn_id: 't1',
  message_id: 'm1',
  model: 'gpt-5-codex',
  cwd: '/home/dev/shop',
  timestamp: AT_MS,
  usage,
  ...changes,
});
const decode = (payload: unknown) => decodeHook('codex', payload, {});
const turn = {
  kind: 'turn',
  agent: 'codex',
  sessionId: 's1',
  messageId: 'm1',
  phase: 'completed',
  startedMs: AT_MS,
  status: 'ok',
  provider: 'openai',
  model: 'gpt-5-codex',
  project: 'shop',
  tokens: { input: 1035, output: 55, reasoning: 20, cache_read: 300, cache_write: 0 },
};

test('cached tokens are a part of the input and reasoning of the output: ours are disjoint', () => {
  assert.deepEqual(decode(notice()), [{ type: 'event', event: turn }]);
});

const VARIANTS: [string, Json, Json][] = [
  [
    'usage of the last assistant message',
    { usage: undefined, message_id: undefined, last_assistant_message: { id: 'm1', usage } },
    {},
  ],
  ['keyed by the turn where no message is named', { message_id: undefined }, { messageId: 't1' }],
  ['a provider of its own', { provider: 'Azure' }, { provider: 'azure' }],
  ['a cost', { usage: { ...usage, cost_usd: 0.0123 } }, { costNano: 12_300_000 }],
  ['a failure', { status: 'failed' }, { status: 'error', reason: 'other' }],
  ['a stop', { status: 'cancelled' }, { status: 'aborted' }],
  ['not done', { status: 'in_progress' }, { phase: 'in_progress' }],
  ['running totals beside the usage are not read', { info: { total_token_usage: { input_tokens: 9e8 } } }, {}],
];
for (const [what, changes, expected] of VARIANTS) {
  test(`turn: ${what}`, () =>
    assert.deepEqual(decode(notice(changes)), [{ type: 'event', event: { ...turn, ...expected } }]));
}

const PASSED_OVER: [string, Json][] = [
  ['running totals only', { usage: undefined, info: { total_token_usage: usage } }],
  ['no usage', { usage: undefined }],
  ['a usage of nothing', { usage: { input_tokens: 0 } }],
  ['no session', { session_id: undefined }],
  ['no message and no turn', { message_id: undefined, turn_id: undefined }],
  [
    'what a real notify sends',
    { usage: undefined, session_id: undefined, 'thread-id': 's1', 'last-assistant-message': 'secret' },
  ],
];
for (const [what, changes] of PASSED_OVER) {
  test(`passed over: ${what}`, () =>
    assert.deepEqual(decode(notice(changes)), [{ type: 'ignored', kind: 'no_usage' }]));
}

const REJECTED: [string, unknown, string][] = [
  ['more cached than input', notice({ usage: { input_tokens: 10, cached_input_tokens: 11 } }), 'out_of_range'],
  ['more reasoning than output', notice({ usage: { output_tokens: 10, reasoning_tokens: 11 } }), 'out_of_range'],
  ['no time', notice({ timestamp: undefined }), 'missing_field'],
  ['no model', notice({ model: undefined }), 'missing_field'],
  ['a text', 'hello', 'wrong_type'],
];
for (const [what, payload, reason] of REJECTED) {
  test(`rejected: ${what} → ${reason}`, () => {
    const [decoded] = decode(payload);
    assert.equal(decoded?.type === 'rejected' && decoded.reason, reason);
  });
}

test('one body may hold a tool call and a turn, and a bad one of them spoils not the other', () => {
  const both = notice({ type: 'tool_result', tool_name: 'shell', call_id: 'c1', status: 'ok' });
  const tool = {
    kind: 'tool',
    agent: 'codex',
    sessionId: 's1',
    callId: 'c1',
    messageId: 'm1',
    tool: 'shell',
    status: 'ok',
    completedMs: AT_MS,
    project: 'shop',
    origin: 'hook',
  };
  assert.deepEqual(decode(both), [
    { type: 'event', event: tool },
    { type: 'event', event: turn },
  ]);
  const [bad, good] = decode({ ...both, tool_name: 'rm -rf' });
  assert.equal(bad?.type, 'rejected');
  assert.deepEqual(good, { type: 'event', event: turn });
});

test('a tool that runs is progress', () => {
  const running = notice({ usage: undefined, tool_name: 'shell', call_id: 'c1' });
  assert.deepEqual(decode({ ...running, status: 'running' }), [{ type: 'ignored', kind: 'tool_progress' }]);
  assert.deepEqual(decode({ ...running, hook_event_name: 'PreToolUse' }), [{ type: 'ignored', kind: 'tool_progress' }]);
});
