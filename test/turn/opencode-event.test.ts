import assert from 'node:assert/strict';
import test from 'node:test';
import {
  COMPLETED,
  event,
  failed,
  ignoredKind,
  info,
  type Json,
  MESSAGE,
  message,
  of,
  only,
  SESSION,
  STARTED,
  TOKENS,
} from './opencode-sample.ts';

const IGNORED: [string, unknown, string][] = [
  ['a user message', message({ role: 'user', tokens: undefined }), 'user_message'],
  ['a message of another role', message({ role: 'system' }), 'other'],
  ['a delta', of('message.part.delta', { field: 'text', delta: 'x' }), 'delta'],
  ['a text part', of('message.part.updated', { part: { type: 'text', text: 'x' } }), 'part'],
  [
    'a step-finish part',
    of('message.part.updated', { part: { type: 'step-finish', tokens: TOKENS, cost: 1 } }),
    'part',
  ],
  ['no part', of('message.part.updated'), 'part'],
  ['a removed part', of('message.part.removed'), 'part'],
  ['a removed message', of('message.removed'), 'other'],
  ['session.idle', of('session.idle', { sessionID: SESSION }), 'session'],
  ['session.error', of('session.error', { error: failed }), 'session'],
  ['session.status', of('session.status'), 'session'],
  ['session.next.x', of('session.next.x'), 'session'],
  ['a session without id', of('session.updated', { info: {} }), 'session'],
  ['a session without info', of('session.created'), 'session'],
  ['plugin.added', of('plugin.added'), 'boot'],
  ['catalog.updated', of('catalog.updated'), 'boot'],
  ['mcp.tools.changed', of('mcp.tools.changed'), 'boot'],
  ['file.edited', of('file.edited', { file: '/a' }), 'file'],
  ['todo.updated', of('todo.updated'), 'file'],
  ['command.executed', of('command.executed'), 'other'],
  ['an unknown type', of('weather.changed'), 'other'],
  ['the name of a built-in', of('constructor'), 'other'],
  ['__proto__', of('__proto__.x'), 'other'],
  ['no type', { event: {} }, 'other'],
  ['a type that is a number', { event: { type: 7 } }, 'other'],
  ['no event', { event: null }, 'other'],
  ['{}', {}, 'other'],
  ['null', null, 'other'],
  [
    'chat.message',
    { hook: 'chat.message', timestamp: STARTED, output: { usage: { input_tokens: 5 } } },
    'chat_message',
  ],
  ['another hook', { hook: 'tool.execute.before' }, 'other'],
  [
    'a permission without an id that tells the time',
    of('permission.asked', { id: 'per_1', sessionID: SESSION }, 'e1'),
    'other',
  ],
  [
    'a permission without event id',
    of('permission.replied', { requestID: 'per_1', sessionID: SESSION }, null),
    'other',
  ],
];
for (const [what, payload, kind] of IGNORED) {
  test(`ignored: ${what} → ${kind}`, () => assert.equal(ignoredKind(payload), kind));
}

for (const payload of [[], 'text', 7, true, { event: 'message.updated' }, { event: [] }, { hook: 7 }]) {
  test(`a body that is no hook is rejected: ${JSON.stringify(payload)}`, () => {
    const decoded = only(payload);
    assert.equal(decoded.type === 'rejected' && decoded.reason, 'wrong_type');
  });
}

test('keys that every object inherits are not read', () => {
  const payload = JSON.parse(
    `{"event":{"type":"message.updated","properties":{"info":{"__proto__":${JSON.stringify(info())},"role":"assistant"}}}}`,
  );
  const decoded = only(payload);
  assert.equal(decoded.type === 'rejected' && decoded.reason, 'missing_field');
  assert.equal(only(message({ __proto__: 'x', constructor: 'y' })).type, 'event');
});

const part = (state: Json, changes: Json = {}) =>
  of('message.part.updated', {
    part: {
      id: 'prt_1',
      type: 'tool',
      tool: 'bash',
      callID: 'call_1',
      sessionID: SESSION,
      messageID: MESSAGE,
      state,
      ...changes,
    },
  });
const time = { start: STARTED + 10, end: STARTED + 20 };

test('a finished tool part becomes a tool call with every field', () => {
  const state = { status: 'completed', input: { command: 'ls' }, output: 'secret', title: 'ls', time };
  assert.deepEqual(event(part(state, { tool: ' mcp__git-hub__list_issues ' })), {
    kind: 'tool',
    agent: 'opencode',
    sessionId: SESSION,
    callId: 'call_1',
    messageId: MESSAGE,
    tool: 'mcp__git-hub__list_issues',
    mcpServer: 'git-hub',
    status: 'ok',
    startedMs: STARTED + 10,
    completedMs: STARTED + 20,
    origin: 'part',
  });
});

const STOPPED = 'x\n<shell_metadata>\nUser aborted the command\n</shell_metadata>';
const TOOL_STATES: [Json, string][] = [
  [{ status: 'completed', time }, 'ok'],
  [{ status: 'error', error: 'The user rejected permission to use this specific tool call.', time }, 'error'],
  [{ status: 'error', error: 'Command was aborted by its parser', time }, 'error'],
  [{ status: 'error', error: 'Tool execution aborted', time }, 'aborted'],
  [{ status: 'error', error: 'aborted', time }, 'aborted'],
  [{ status: 'error', error: 'interrupted', time }, 'aborted'],
  [{ status: 'error', error: 'x', metadata: { interrupted: true }, time }, 'aborted'],
  [{ status: 'error' }, 'error'],
  [{ status: 'completed', output: STOPPED, metadata: { exit: null }, time }, 'aborted'],
  [{ status: 'completed', output: STOPPED, metadata: { exit: 0 }, time }, 'ok'],
  [{ status: 'completed', output: `${STOPPED} and more`, metadata: { exit: null }, time }, 'ok'],
];
for (const [state, status] of TOOL_STATES) {
  test(`tool state ${JSON.stringify({ ...state, time: undefined })} → ${status}`, () =>
    assert.equal(event(part(state)).status, status));
}

test('a tool that is not done is progress', () => {
  for (const status of ['pending', 'running', 'unheard-of', undefined])
    assert.equal(ignoredKind(part({ status, time })), 'tool_progress');
  assert.equal(ignoredKind(of('message.part.updated', { part: { type: 'tool' } })), 'tool_progress');
});

test('tool names are strict', () => {
  for (const [tool, reason] of [
    ['', 'missing_field'],
    ['rm -rf', 'out_of_range'],
    ['a\n', undefined],
    ['b"', 'out_of_range'],
    ['/home/alice/bin/tool', 'out_of_range'],
    ['~/bin/tool', 'out_of_range'],
    ['server/tool', undefined],
    ['x'.repeat(129), 'too_long'],
    [{}, 'wrong_type'],
  ] as const) {
    const decoded = only(part({ status: 'completed' }, { tool }));
    assert.equal(decoded.type === 'rejected' ? decoded.reason : undefined, reason, String(tool));
  }
});

test('the hook after a tool is a bare notice of the same call', () => {
  const hook = {
    hook: 'tool.execute.after',
    timestamp: STARTED,
    input: { tool: 'bash', sessionID: SESSION, callID: 'call_1' },
    output: { title: 'ls' },
  };
  const expected = {
    kind: 'tool',
    agent: 'opencode',
    sessionId: SESSION,
    callId: 'call_1',
    tool: 'bash',
    status: 'ok',
    completedMs: STARTED,
    origin: 'hook',
  };
  assert.deepEqual(event(hook), expected);
  const payload = {
    sessionID: SESSION,
    messageID: MESSAGE,
    toolCallID: 'call_1',
    toolName: 'bash',
    timestamp: STARTED,
  };
  assert.deepEqual(event({ event: { event: 'tool.execute.after', payload } }), { ...expected, messageId: MESSAGE });
  const { timestamp: _, ...undated } = hook;
  assert.equal('completedMs' in event(undated), false);
});

const SESSIONS: [string, unknown, unknown, string | undefined][] = [
  ['at the root', '/home/dev/shop', '', 'shop'],
  ['below the root', '/home/dev/shop/packages/api', 'packages/api', 'shop'],
  ['below the root, Windows', 'C:\\dev\\shop\\packages\\api', 'packages\\api', 'shop'],
  ['a path that is no suffix', '/home/dev/shop', 'packages', 'shop'],
  ['a suffix of a name only', '/home/dev/myapi', 'api', 'myapi'],
  ['without a worktree', '/home/dev/notes', 'home/dev/notes', 'notes'],
  ['as our plugin sends it', 'shop', undefined, 'shop'],
  ['.', '/home/dev/shop', '.', 'shop'],
  ['nothing', undefined, undefined, undefined],
  ['other types', 7, {}, undefined],
];
for (const [what, directory, path, project] of SESSIONS) {
  test(`session project: ${what}`, () => {
    for (const type of ['session.created', 'session.updated', 'session.deleted']) {
      assert.deepEqual(event(of(type, { info: { id: SESSION, directory, path } })), {
        kind: 'session',
        agent: 'opencode',
        sessionId: SESSION,
        ...(project && { project }),
      });
    }
  });
}

test('permissions are dated by the id of their event', () => {
  const wrap = 2 ** 36;
  const asked = event(
    of('permission.asked', {
      id: 'per_1',
      sessionID: SESSION,
      metadata: { command: 'x' },
      tool: { messageID: MESSAGE, callID: 'c' },
    }),
  );
  assert.equal((asked.askedMs as number) % wrap, COMPLETED % wrap);
  assert.deepEqual(
    { ...asked, askedMs: 0 },
    { kind: 'permission', agent: 'opencode', sessionId: SESSION, requestId: 'per_1', messageId: MESSAGE, askedMs: 0 },
  );
  const replied = event(of('permission.replied', { requestID: 'per_1', sessionID: SESSION, reply: 'once' }));
  assert.deepEqual(
    { ...replied, repliedMs: 0 },
    { kind: 'permission', agent: 'opencode', sessionId: SESSION, requestId: 'per_1', repliedMs: 0 },
  );
});

test('what a fork copied is ignored, messages and tool parts alike', () => {
  const before = STARTED - 60_000;
  assert.deepEqual(only(message({ time: { created: before, completed: before + 9 } })), {
    ...{ type: 'ignored', kind: 'fork_copy' },
    copiedMessageId: MESSAGE,
  });
  assert.equal(ignoredKind(part({ status: 'completed', time: { start: before, end: before + 9 } })), 'fork_copy');
  assert.equal(only(message({ id: 'm1', time: { created: before, completed: before + 9 } })).type, 'event');
});
