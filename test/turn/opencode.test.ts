import assert from 'node:assert/strict';
import test from 'node:test';
import { type Decoded, decodeHook } from '../../src/turn/normalize.ts';

const STARTED = 1795293928466;
const COMPLETED = 1795293929681;
const SESSION = 'ses_e0024aabeffeTJvYh8LUq04Z7L';
const MESSAGE = 'msg_1ffdb5c12001FVGJyLAr5W8Gm0';
const EVENT = 'evt_1ffdb60d1001Av8Hr3q0CRYkFP';
const TOKENS = { total: 1400, input: 1030, output: 50, reasoning: 20, cache: { write: 7, read: 300 } };

type Json = Record<string, unknown>;
const info = (changes: Json = {}): Json => ({
  id: MESSAGE,
  sessionID: SESSION,
  role: 'assistant',
  providerID: 'MockChat',
  modelID: 'Vendor/Mock-A',
  path: { cwd: '/home/dev/shop/api', root: '/home/dev/shop' },
  time: { created: STARTED, completed: COMPLETED },
  finish: 'stop',
  cost: 0.00423,
  tokens: TOKENS,
  ...changes,
});
const message = (changes: Json = {}): Json => ({
  event: { id: EVENT, type: 'message.updated', properties: { sessionID: SESSION, info: info(changes) } },
});

function only(payload: unknown, context = {}): Decoded {
  const decoded = decodeHook('opencode', payload, context);
  assert.equal(decoded.length, 1);
  return decoded[0]!;
}
function event(payload: unknown, context = {}): Json {
  const decoded = only(payload, context);
  assert.equal(decoded.type, 'event', JSON.stringify(decoded));
  return { ...(decoded as { event: object }).event };
}
const ignoredKind = (payload: unknown) => {
  const decoded = only(payload);
  return decoded.type === 'ignored' ? decoded.kind : decoded.type;
};

test('a completed assistant message becomes a turn with every field', () => {
  assert.deepEqual(event(message(), { accountId: 'work' }), {
    kind: 'turn',
    agent: 'opencode',
    sessionId: SESSION,
    messageId: MESSAGE,
    eventId: EVENT,
    phase: 'completed',
    status: 'ok',
    startedMs: STARTED,
    completedMs: COMPLETED,
    provider: 'mockchat',
    model: 'Vendor/Mock-A',
    project: 'shop',
    accountId: 'work',
    tokens: { input: 1030, output: 50, reasoning: 20, cache_read: 300, cache_write: 7 },
    costNano: 4_230_000,
  });
});

test('the first sight of a message is in progress, with what is unknown left out', () => {
  const turn = event({
    type: 'message.updated',
    properties: { info: { id: MESSAGE, sessionID: SESSION, role: 'ASSISTANT', providerID: 'p', modelID: 'm', time: { created: STARTED } } },
  });
  assert.deepEqual(turn, {
    kind: 'turn',
    agent: 'opencode',
    sessionId: SESSION,
    messageId: MESSAGE,
    phase: 'in_progress',
    status: 'ok',
    startedMs: STARTED,
    provider: 'p',
    model: 'm',
    tokens: { input: 0, output: 0, reasoning: 0, cache_read: 0, cache_write: 0 },
  });
});

const NONE = { input: 0, output: 0, reasoning: 0, cache: { read: 0, write: 0 } };
const OPEN = { created: STARTED };
const aborted = { name: 'MessageAbortedError', data: { message: 'Aborted' } };
const failed = { name: 'APIError', data: { message: 'no', statusCode: 402 } };
const PHASES: [string, Json, string, string, string?][] = [
  ['finish without completed', { time: OPEN }, 'finished', 'ok'],
  ['completed 0 is not completed', { time: { created: STARTED, completed: 0 } }, 'finished', 'ok'],
  ['completed null is not completed', { time: { created: STARTED, completed: null } }, 'finished', 'ok'],
  ['neither', { time: OPEN, finish: undefined }, 'in_progress', 'ok'],
  ['a blank finish', { time: OPEN, finish: '' }, 'in_progress', 'ok'],
  ['completed, aborted error', { error: aborted, tokens: NONE, finish: undefined }, 'completed', 'aborted'],
  ['completed, error', { error: failed, tokens: NONE, finish: undefined }, 'completed', 'error', 'credits'],
  ['error before completion', { error: failed, time: OPEN, finish: undefined }, 'in_progress', 'error', 'credits'],
  ['an error that is a text', { error: 'boom' }, 'completed', 'error', 'other'],
  ['error null is no error', { error: null }, 'completed', 'ok'],
  ['completed in silence, nothing used', { finish: undefined, tokens: NONE, cost: 0 }, 'completed', 'aborted'],
  ['completed without finish, but used', { finish: undefined }, 'completed', 'ok'],
  ['completed with finish, nothing used', { tokens: NONE }, 'completed', 'ok'],
  ['in progress, nothing used', { time: OPEN, finish: undefined, tokens: NONE }, 'in_progress', 'ok'],
];
for (const [what, changes, phase, status, reason] of PHASES) {
  test(`phase and status: ${what} → ${phase}, ${status}`, () => {
    const turn = event(message(changes));
    assert.deepEqual([turn.phase, turn.status, turn.reason], [phase, status, reason]);
    assert.equal('completedMs' in turn, phase === 'completed');
  });
}

const VALUES: [string, Json, string, unknown][] = [
  ['times in s', { time: { created: 1795293928, completed: 1795293929 } }, 'startedMs', 1795293928000],
  ['times in µs', { time: { created: 1795293928466123, completed: 1795293929681000 } }, 'startedMs', STARTED],
  ['a time as a string', { time: { created: String(STARTED), completed: COMPLETED } }, 'startedMs', STARTED],
  ['a clock set back during the turn', { time: { created: STARTED, completed: STARTED - 5000 } }, 'completedMs', STARTED],
  ['no cost is unknown, not 0', { cost: undefined }, 'costNano', undefined],
  ['cost null', { cost: null }, 'costNano', undefined],
  ['cost 0 was stated', { cost: 0 }, 'costNano', 0],
  ['cost -0', { cost: -0 }, 'costNano', 0],
  ['cost as a string', { cost: '0.000000001' }, 'costNano', 1],
  ['cost rounds to the nano-dollar', { cost: 0.1 + 0.2 }, 'costNano', 300_000_000],
  ['the largest cost', { cost: 10_000 }, 'costNano', 1e13],
  ['project by the working folder when the root is /', { path: { root: '/', cwd: '/home/dev/notes' } }, 'project', 'notes'],
  ['project by the working folder when the root is blank', { path: { root: ' ', cwd: '/home/dev/notes/' } }, 'project', 'notes'],
  ['project on Windows', { path: { root: 'C:\\dev\\shop', cwd: 'C:\\dev\\shop\\api' } }, 'project', 'shop'],
  ['project at a drive', { path: { root: 'C:\\', cwd: 'C:\\dev\\shop' } }, 'project', 'shop'],
  ['project as our plugin sends it', { path: { root: 'shop' } }, 'project', 'shop'],
  ['no project at the root', { path: { root: '/', cwd: '/' } }, 'project', undefined],
  ['no path', { path: undefined }, 'project', undefined],
  ['a path of another type', { path: 'shop' }, 'project', undefined],
  ['a folder name that cannot be a label', { path: { root: '/a/b\nc' } }, 'project', undefined],
  ['a folder name of 128 characters', { path: { root: `/a/${'x'.repeat(128)}` } }, 'project', 'x'.repeat(128)],
  ['a folder name that is too long for a label', { path: { root: `/a/${'x'.repeat(129)}` } }, 'project', undefined],
  ['session id only beside the message', { sessionID: undefined }, 'sessionId', SESSION],
  ['ids of other spellings', { id: 'm1' }, 'messageId', 'm1'],
];
for (const [what, changes, field, expected] of VALUES) {
  test(`values: ${what}`, () => assert.equal(event(message(changes))[field], expected));
}

test('token counts may be strings, floats without a fraction, or missing', () => {
  const tokens = { input: '12', output: 5.0, reasoning: null, cache: { read: 1e9 } };
  assert.deepEqual(event(message({ tokens })).tokens, { input: 12, output: 5, reasoning: 0, cache_read: 1e9, cache_write: 0 });
});

const tokens = (input: unknown) => ({ tokens: { ...TOKENS, input } });
const REJECTED: [string, Json, string, RegExp][] = [
  ['no id', { id: undefined }, 'missing_field', /^id: missing/],
  ['a blank id', { id: '  ' }, 'missing_field', /^id: missing/],
  ['an id that is a number', { id: 7 }, 'wrong_type', /^id: expected/],
  ['an id with a space', { id: 'a b' }, 'out_of_range', /^id: expected/],
  ['an id with a line break', { id: 'a\n' }, 'out_of_range', /^id: expected/],
  ['an id with a NUL', { id: 'a\0b' }, 'out_of_range', /^id: expected/],
  ['an id beyond ASCII', { id: 'ä' }, 'out_of_range', /^id: expected/],
  ['an id of 201 characters', { id: 'x'.repeat(201) }, 'too_long', /^id: expected/],
  ['no role', { role: undefined }, 'missing_field', /^info.role/],
  ['no time', { time: undefined }, 'missing_field', /^time.created: missing/],
  ['no start', { time: { completed: COMPLETED } }, 'missing_field', /^time.created: missing/],
  ['a start of 0', { time: { created: 0 } }, 'out_of_range', /^time.created/],
  ['a start in 2019', { time: { created: Date.UTC(2020, 0, 1) - 1 } }, 'out_of_range', /^time.created/],
  ['a start in 2101', { time: { created: Date.UTC(2101, 0, 1) } }, 'out_of_range', /^time.created/],
  ['a start that is a word', { time: { created: 'now' } }, 'wrong_type', /^time.created/],
  ['a completion that is negative', { time: { created: STARTED, completed: -1 } }, 'out_of_range', /^time.completed/],
  ['no provider', { providerID: '' }, 'missing_field', /^providerID: missing/],
  ['a provider with a space', { providerID: 'a b' }, 'out_of_range', /^providerID/],
  ['a provider of 65 characters', { providerID: 'x'.repeat(65) }, 'too_long', /^providerID/],
  ['no model', { modelID: undefined }, 'missing_field', /^modelID: missing/],
  ['a model of another type', { modelID: {} }, 'wrong_type', /^modelID/],
  ['a model with a line break', { modelID: 'a\nb' }, 'out_of_range', /^modelID/],
  ['a model with half a character', { modelID: 'a\ud800' }, 'out_of_range', /^modelID/],
  ['a model of 129 characters', { modelID: 'x'.repeat(129) }, 'too_long', /^modelID/],
  ['half a token', tokens(1.5), 'out_of_range', /^tokens.input/],
  ['half a token in a string', tokens('1.5'), 'out_of_range', /^tokens.input/],
  ['negative tokens', tokens(-1), 'out_of_range', /^tokens.input/],
  ['too many tokens', tokens(1e9 + 1), 'out_of_range', /^tokens.input/],
  ['infinite tokens', tokens(Number.POSITIVE_INFINITY), 'out_of_range', /^tokens.input/],
  ['tokens that are not a number', tokens(Number.NaN), 'out_of_range', /^tokens.input/],
  ['tokens in words', tokens('many'), 'wrong_type', /^tokens.input/],
  ['tokens in hex', tokens('0x10'), 'wrong_type', /^tokens.input/],
  ['true tokens', tokens(true), 'wrong_type', /^tokens.input/],
  ['tokens in a list', { tokens: [1] }, 'wrong_type', /^tokens: expected an object/],
  ['a negative cost', { cost: -0.01 }, 'out_of_range', /^cost/],
  ['an absurd cost', { cost: 10_001 }, 'out_of_range', /^cost/],
  ['an infinite cost', { cost: Number.POSITIVE_INFINITY }, 'out_of_range', /^cost/],
  ['a cost in words', { cost: 'free' }, 'wrong_type', /^cost/],
  ['a cost in a list', { cost: [1] }, 'wrong_type', /^cost/],
];
for (const [what, changes, reason, detail] of REJECTED) {
  test(`rejected: ${what} → ${reason}`, () => {
    const decoded = only(message(changes));
    assert.equal(decoded.type, 'rejected', JSON.stringify(decoded));
    assert.equal(decoded.type === 'rejected' && decoded.reason, reason);
    assert.match((decoded as { detail: string }).detail, detail);
  });
}

test('an account that cannot be a label rejects the turn, and only a turn', () => {
  assert.equal(only(message(), { accountId: 'a\nb' }).type, 'rejected');
  assert.equal(only(message({ role: 'user' }), { accountId: 'a\nb' }).type, 'ignored');
  assert.equal(event(message(), { accountId: '' }).accountId, undefined);
});

const of = (type: string, properties: Json = {}, id: string | null = EVENT) => ({ event: { id, type, properties } });
const IGNORED: [string, unknown, string][] = [
  ['a user message', message({ role: 'user', tokens: undefined }), 'user_message'],
  ['a message of another role', message({ role: 'system' }), 'other'],
  ['a delta', of('message.part.delta', { field: 'text', delta: 'x' }), 'delta'],
  ['a text part', of('message.part.updated', { part: { type: 'text', text: 'x' } }), 'part'],
  ['a step-finish part', of('message.part.updated', { part: { type: 'step-finish', tokens: TOKENS, cost: 1 } }), 'part'],
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
  ['chat.message', { hook: 'chat.message', timestamp: STARTED, output: { usage: { input_tokens: 5 } } }, 'chat_message'],
  ['another hook', { hook: 'tool.execute.before' }, 'other'],
  ['a permission without an id that tells the time', of('permission.asked', { id: 'per_1', sessionID: SESSION }, 'e1'), 'other'],
  ['a permission without event id', of('permission.replied', { requestID: 'per_1', sessionID: SESSION }, null), 'other'],
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
  const payload = JSON.parse(`{"event":{"type":"message.updated","properties":{"info":{"__proto__":${JSON.stringify(info())},"role":"assistant"}}}}`);
  const decoded = only(payload);
  assert.equal(decoded.type === 'rejected' && decoded.reason, 'missing_field');
  assert.equal(only(message({ __proto__: 'x', constructor: 'y' })).type, 'event');
});

const part = (state: Json, changes: Json = {}) =>
  of('message.part.updated', {
    part: { id: 'prt_1', type: 'tool', tool: 'bash', callID: 'call_1', sessionID: SESSION, messageID: MESSAGE, state, ...changes },
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

const TOOL_STATES: [Json, string][] = [
  [{ status: 'completed', time }, 'ok'],
  [{ status: 'error', error: 'The user rejected permission to use this specific tool call.', time }, 'error'],
  [{ status: 'error', error: 'Command was aborted by its parser', time }, 'error'],
  [{ status: 'error', error: 'Tool execution aborted', time }, 'aborted'],
  [{ status: 'error', error: 'aborted', time }, 'aborted'],
  [{ status: 'error', error: 'interrupted', time }, 'aborted'],
  [{ status: 'error', error: 'x', metadata: { interrupted: true }, time }, 'aborted'],
  [{ status: 'error' }, 'error'],
];
for (const [state, status] of TOOL_STATES) {
  test(`tool state ${JSON.stringify({ ...state, time: undefined })} → ${status}`, () => assert.equal(event(part(state)).status, status));
}

test('a tool that is not done is progress', () => {
  for (const status of ['pending', 'running', 'unheard-of', undefined]) assert.equal(ignoredKind(part({ status, time })), 'tool_progress');
  assert.equal(ignoredKind(of('message.part.updated', { part: { type: 'tool' } })), 'tool_progress');
});

test('tool names are strict', () => {
  for (const [tool, reason] of [['', 'missing_field'], ['rm -rf', 'out_of_range'], ['a\n', undefined], ['b"', 'out_of_range'], ['x'.repeat(129), 'too_long'], [{}, 'wrong_type']] as const) {
    const decoded = only(part({ status: 'completed' }, { tool }));
    assert.equal(decoded.type === 'rejected' ? decoded.reason : undefined, reason, String(tool));
  }
});

test('the hook after a tool is a bare notice of the same call', () => {
  const hook = { hook: 'tool.execute.after', timestamp: STARTED, input: { tool: 'bash', sessionID: SESSION, callID: 'call_1' }, output: { title: 'ls' } };
  const expected = { kind: 'tool', agent: 'opencode', sessionId: SESSION, callId: 'call_1', tool: 'bash', status: 'ok', completedMs: STARTED, origin: 'hook' };
  assert.deepEqual(event(hook), expected);
  const payload = { sessionID: SESSION, messageID: MESSAGE, toolCallID: 'call_1', toolName: 'bash', timestamp: STARTED };
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
  const asked = event(of('permission.asked', { id: 'per_1', sessionID: SESSION, metadata: { command: 'x' }, tool: { messageID: MESSAGE, callID: 'c' } }));
  assert.equal((asked.askedMs as number) % wrap, COMPLETED % wrap);
  assert.deepEqual({ ...asked, askedMs: 0 }, { kind: 'permission', agent: 'opencode', sessionId: SESSION, requestId: 'per_1', messageId: MESSAGE, askedMs: 0 });
  const replied = event(of('permission.replied', { requestID: 'per_1', sessionID: SESSION, reply: 'once' }));
  assert.deepEqual({ ...replied, repliedMs: 0 }, { kind: 'permission', agent: 'opencode', sessionId: SESSION, requestId: 'per_1', repliedMs: 0 });
});

test('what a fork copied is ignored, messages and tool parts alike', () => {
  const before = STARTED - 60_000;
  assert.equal(ignoredKind(message({ time: { created: before, completed: before + 9 } })), 'fork_copy');
  assert.equal(ignoredKind(part({ status: 'completed', time: { start: before, end: before + 9 } })), 'fork_copy');
  assert.equal(only(message({ id: 'm1', time: { created: before, completed: before + 9 } })).type, 'event');
});
