import assert from 'node:assert/strict';
import test from 'node:test';
import {
  COMPLETED,
  EVENT,
  event,
  failed,
  type Json,
  MESSAGE,
  message,
  only,
  SESSION,
  STARTED,
  TOKENS,
} from './opencode-sample.ts';

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
    properties: {
      info: {
        id: MESSAGE,
        sessionID: SESSION,
        role: 'ASSISTANT',
        providerID: 'p',
        modelID: 'm',
        time: { created: STARTED },
      },
    },
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
  [
    'a clock set back during the turn',
    { time: { created: STARTED, completed: STARTED - 5000 } },
    'completedMs',
    STARTED,
  ],
  ['no cost is unknown, not 0', { cost: undefined }, 'costNano', undefined],
  ['cost null', { cost: null }, 'costNano', undefined],
  ['cost 0 was stated', { cost: 0 }, 'costNano', 0],
  ['cost -0', { cost: -0 }, 'costNano', 0],
  ['cost as a string', { cost: '0.000000001' }, 'costNano', 1],
  ['cost rounds to the nano-dollar', { cost: 0.1 + 0.2 }, 'costNano', 300_000_000],
  ['the largest cost', { cost: 10_000 }, 'costNano', 1e13],
  [
    'project by the working folder when the root is /',
    { path: { root: '/', cwd: '/home/dev/notes' } },
    'project',
    'notes',
  ],
  [
    'project by the working folder when the root is blank',
    { path: { root: ' ', cwd: '/home/dev/notes/' } },
    'project',
    'notes',
  ],
  ['project on Windows', { path: { root: 'C:\\dev\\shop', cwd: 'C:\\dev\\shop\\api' } }, 'project', 'shop'],
  ['project at a drive', { path: { root: 'C:\\', cwd: 'C:\\dev\\shop' } }, 'project', 'shop'],
  ['project as our plugin sends it', { path: { root: 'shop' } }, 'project', 'shop'],
  ['no project at the root', { path: { root: '/', cwd: '/' } }, 'project', undefined],
  ['no path', { path: undefined }, 'project', undefined],
  ['a path of another type', { path: 'shop' }, 'project', undefined],
  ['a folder name that cannot be a label', { path: { root: '/a/b\nc' } }, 'project', undefined],
  ['a folder name of 128 characters', { path: { root: `/a/${'x'.repeat(128)}` } }, 'project', 'x'.repeat(128)],
  ['a folder name that is too long for a label', { path: { root: `/a/${'x'.repeat(129)}` } }, 'project', undefined],
  [
    'an e-mail address is no project, nor is a folder below it',
    { path: { root: '/a/b@x.org', cwd: '/a/b@x.org/c' } },
    'project',
    undefined,
  ],
  ['a model in a home folder', { modelID: '/home/alice/secret/llama.gguf' }, 'model', 'llama.gguf'],
  ['a model below ~', { modelID: '~/models/x' }, 'model', 'x'],
  ['a model on Windows', { modelID: 'C:\\Users\\alice\\x' }, 'model', 'x'],
  ['a model by a relative path', { modelID: '../alice/x.gguf' }, 'model', 'x.gguf'],
  ['a model by a URL', { modelID: 'file:///home/alice/x.gguf' }, 'model', 'x.gguf'],
  ['a path behind the name of a gateway', { modelID: 'openai//home/alice/x.gguf' }, 'model', 'x.gguf'],
  ['a long path to a short name', { modelID: `/${'long/'.repeat(100)}x` }, 'model', 'x'],
  ['a model with its vendor', { modelID: 'anthropic/claude-sonnet-4.5' }, 'model', 'anthropic/claude-sonnet-4.5'],
  ['a model of an account', { modelID: 'accounts/fireworks/models/x' }, 'model', 'accounts/fireworks/models/x'],
  ['a model with a tag', { modelID: 'hf.co/bartowski/x:Q4' }, 'model', 'hf.co/bartowski/x:Q4'],
  ['session id only beside the message', { sessionID: undefined }, 'sessionId', SESSION],
  ['ids of other spellings', { id: 'm1' }, 'messageId', 'm1'],
];
for (const [what, changes, field, expected] of VALUES) {
  test(`values: ${what}`, () => assert.equal(event(message(changes))[field], expected));
}

test('token counts may be strings, floats without a fraction, or missing', () => {
  const tokens = { input: '12', output: 5.0, reasoning: null, cache: { read: 1e9 } };
  assert.deepEqual(event(message({ tokens })).tokens, {
    input: 12,
    output: 5,
    reasoning: 0,
    cache_read: 1e9,
    cache_write: 0,
  });
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
  ['a model that is nothing but a path', { modelID: '/' }, 'out_of_range', /^modelID/],
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

test('an account that cannot be a label is left out, and the turn is booked', () => {
  for (const accountId of ['a\nb', 'alice@example.com', '/home/alice', 'sk-0123456789abcdef', ''])
    assert.equal('accountId' in event(message(), { accountId }), false, accountId);
});
