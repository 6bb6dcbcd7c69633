import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { eventSchema } from '../../src/turn/event-record.ts';
import { decodeRecord } from '../../src/turn/normalize.ts';

type Json = Record<string, unknown>;
const STARTED = 1795293928466;
const record = (changes: Json = {}): Json => ({
  v: 1,
  kind: 'turn',
  agent: 'my-agent',
  id: { session: 's1', message: 'm1' },
  event_id: 'e1',
  time: { started: STARTED, completed: STARTED + 1000 },
  provider: 'OpenRouter',
  model: 'vendor/Model-1',
  upstream_provider: 'Google AI Studio',
  project: 'shop',
  status: 'ok',
  tokens: { input: 1, output: 2, reasoning: 3, cache_read: 4, cache_write: 5 },
  cost_usd: 0.0125,
  account_id: 'work',
  ...changes,
});
const turn = {
  kind: 'turn',
  agent: 'my-agent',
  sessionId: 's1',
  messageId: 'm1',
  eventId: 'e1',
  phase: 'completed',
  status: 'ok',
  startedMs: STARTED,
  completedMs: STARTED + 1000,
  provider: 'openrouter',
  model: 'vendor/Model-1',
  upstreamHint: 'Google AI Studio',
  project: 'shop',
  accountId: 'work',
  tokens: { input: 1, output: 2, reasoning: 3, cache_read: 4, cache_write: 5 },
  costNano: 12_500_000,
};
const { completedMs: _, ...uncompleted } = turn;

test('a turn with every field', () => assert.deepEqual(decodeRecord(record()), [{ type: 'event', event: turn }]));

test('a turn with as few fields as can be; null and "" are absent, and so is what is unknown', () => {
  const least = {
    v: 1,
    kind: 'turn',
    agent: 'a',
    id: { session: 's', message: 'm' },
    time: { started: STARTED },
    provider: 'p',
    model: 'm',
  };
  const event = {
    kind: 'turn',
    agent: 'a',
    sessionId: 's',
    messageId: 'm',
    phase: 'in_progress',
    status: 'ok',
    startedMs: STARTED,
    provider: 'p',
    model: 'm',
    tokens: { input: 0, output: 0, reasoning: 0, cache_read: 0, cache_write: 0 },
  };
  assert.deepEqual(decodeRecord(least), [{ type: 'event', event }]);
  const blank = {
    event_id: '',
    upstream_provider: null,
    project: '',
    account_id: '',
    status: null,
    reason: null,
    tokens: null,
    cost_usd: null,
  };
  assert.deepEqual(decodeRecord({ ...least, ...blank, time: { started: STARTED, completed: null } }), [
    { type: 'event', event },
  ]);
});

const TURNS: [string, Json, Json][] = [
  ['in progress', { time: { started: STARTED }, status: undefined }, { ...uncompleted, phase: 'in_progress' }],
  [
    'finished',
    { time: { started: STARTED }, status: undefined, finished: true },
    { ...uncompleted, phase: 'finished' },
  ],
  ['a status says that it is finished', { time: { started: STARTED } }, { ...uncompleted, phase: 'finished' }],
  [
    'unless the sender denies it',
    { time: { started: STARTED }, finished: false },
    { ...uncompleted, phase: 'in_progress' },
  ],
  ['completed without a status', { status: undefined }, turn],
  [
    'an error with its reason',
    { status: 'error', reason: 'rate_limit' },
    { ...turn, status: 'error', reason: 'rate_limit' },
  ],
  [
    'an error with a new reason',
    { status: 'error', reason: 'gremlins' },
    { ...turn, status: 'error', reason: 'other' },
  ],
  ['an error without a reason', { status: 'error' }, { ...turn, status: 'error', reason: 'other' }],
  ['a reason without an error', { status: 'aborted', reason: 'auth' }, { ...turn, status: 'aborted' }],
  ['extra fields', { title: 'x', id: { session: 's1', message: 'm1', more: {} }, __proto__x: 1 }, turn],
  ['of a path only the base name', { project: '/home/dev/shop' }, turn],
  ['ISO times', { time: { started: '2026-11-21T20:45:28.466Z', completed: '2026-11-21T21:45:29.466+01:00' } }, turn],
  [
    'an end before the start',
    { time: { started: STARTED, completed: 1795290000000 } },
    { ...turn, completedMs: STARTED },
  ],
  ['numbers as strings', { cost_usd: '0.0125', tokens: { ...turn.tokens, input: '1' } }, turn],
];
for (const [what, changes, event] of TURNS) {
  test(`turn: ${what}`, () => assert.deepEqual(decodeRecord(record(changes)), [{ type: 'event', event }]));
}

const TOOL = {
  v: 1,
  kind: 'tool',
  agent: 'a',
  id: { session: 's', call: 'c', message: 'm' },
  time: { started: STARTED, completed: STARTED + 5 },
  tool: 'bash',
  status: 'error',
  project: 'shop',
};
const tool = {
  kind: 'tool',
  agent: 'a',
  sessionId: 's',
  callId: 'c',
  messageId: 'm',
  tool: 'bash',
  status: 'error',
  startedMs: STARTED,
  completedMs: STARTED + 5,
  project: 'shop',
  origin: 'part',
};
test('a tool call', () => {
  assert.deepEqual(decodeRecord(TOOL), [{ type: 'event', event: tool }]);
  assert.deepEqual(decodeRecord({ ...TOOL, mcp_server: 'github' }), [
    { type: 'event', event: { ...tool, mcpServer: 'github' } },
  ]);
  assert.deepEqual(decodeRecord({ ...TOOL, tool: 'mcp__gh__x' }), [
    { type: 'event', event: { ...tool, tool: 'mcp__gh__x', mcpServer: 'gh' } },
  ]);
  assert.deepEqual(decodeRecord({ ...TOOL, status: undefined, time: { started: STARTED } }), [
    { type: 'ignored', kind: 'tool_progress' },
  ]);
  const { time: _t, id: _i, project: _p, ...bare } = TOOL;
  assert.deepEqual(decodeRecord({ ...bare, id: { session: 's', call: 'c' } }), [
    {
      type: 'event',
      event: { kind: 'tool', agent: 'a', sessionId: 's', callId: 'c', tool: 'bash', status: 'error', origin: 'part' },
    },
  ]);
});

test('a session', () => {
  const session = { v: 1, kind: 'session', agent: 'a', id: { session: 's' }, project: 'shop' };
  assert.deepEqual(decodeRecord(session), [
    { type: 'event', event: { kind: 'session', agent: 'a', sessionId: 's', project: 'shop' } },
  ]);
});

const snapshot = {
  provider_id: 'OpenCode',
  account_id: 'work',
  timestamp: '2026-02-22T09:59:58.123+01:00',
  status: 'NEAR_LIMIT',
  metrics: {},
  message: 'secret',
};
const poll = {
  snapshot: {
    provider: 'opencode',
    account: 'work',
    takenMs: Date.parse('2026-02-22T08:59:58.123Z'),
    status: 'near_limit',
    ...{ metrics: {}, resets: {}, attributes: {}, models: [] },
  },
};
test('a poll result of somebody else: its numbers, and none of its texts', () => {
  assert.deepEqual(decodeRecord({ v: 1, kind: 'poll', payload: snapshot }), [{ type: 'poll', poll }]);
  assert.deepEqual(decodeRecord({ v: 1, kind: 'poll', ...snapshot }), [{ type: 'poll', poll }]);
  assert.deepEqual(decodeRecord({ v: 1, kind: 'poll', interval_s: 60, payload: snapshot }), [
    { type: 'poll', poll: { ...poll, intervalMs: 60_000 } },
  ]);
  const notReady = [{ type: 'ignored', kind: 'not_ready' }];
  for (const status of ['', 'UNKNOWN', null]) {
    assert.deepEqual(decodeRecord({ v: 1, kind: 'poll', payload: { ...snapshot, status } }), notReady);
  }
});

test('a hook record, saying so or not', () => {
  const payload = { event: { type: 'session.created', properties: { info: { id: 's', directory: '/a/shop' } } } };
  const expected = [{ type: 'event', event: { kind: 'session', agent: 'opencode', sessionId: 's', project: 'shop' } }];
  assert.deepEqual(decodeRecord({ source: 'opencode', account_id: '', payload }), expected);
  assert.deepEqual(decodeRecord({ source: ' OpenCode ', account_id: null, payload }), expected);
  assert.deepEqual(decodeRecord({ v: 1, kind: 'hook', source: 'opencode', payload }), expected);
  assert.deepEqual(decodeRecord({ v: 1, kind: 'hook', agent: 'opencode', payload }), expected);
});

const ACCOUNT_TEXT = 'expected the id of an account: 1 to 64 of A-Z a-z 0-9 . _ -, and neither an e-mail nor a key';
const NO_ACCOUNTS = [
  'alice@example.com',
  '/home/alice/.config/key',
  '~/key',
  'a b',
  'a\nb',
  '-a',
  'sk-abcdef0123456789',
  'SK-abcdef',
  'x'.repeat(65),
];
for (const account of NO_ACCOUNTS) {
  test(`no account: ${JSON.stringify(account.slice(0, 30))} is left out of a turn and rejected in a poll`, () => {
    const { accountId: _, ...without } = turn;
    assert.deepEqual(decodeRecord(record({ account_id: account })), [{ type: 'event', event: without }]);
    assert.deepEqual(decodeRecord({ v: 1, kind: 'poll', payload: { ...snapshot, account_id: account } }), [
      { type: 'rejected', reason: 'out_of_range', detail: `payload.account_id: ${ACCOUNT_TEXT}` },
    ]);
  });
}
test('an account of another type costs no turn either', () => {
  for (const account of [7, ['work'], {}, true]) {
    const [decoded] = decodeRecord(record({ account_id: account }));
    assert.equal(decoded?.type === 'event' && 'accountId' in decoded.event, false);
    const payload = { event: { type: 'session.created', properties: { info: { id: 's' } } } };
    assert.equal(decodeRecord({ source: 'opencode', account_id: account, payload })[0]?.type, 'event');
  }
});
test('accounts as people name them stay', () => {
  for (const account of ['work', 'Zen-Main', 'a', '0.x_y-z', 'x'.repeat(64), 'skunk', 'ask-me']) {
    const [decoded] = decodeRecord(record({ account_id: ` ${account} ` }));
    assert.equal(decoded?.type === 'event' && decoded.event.kind === 'turn' && decoded.event.accountId, account);
  }
});

const REJECTED: [string, unknown, string, string][] = [
  ['a number', 7, 'wrong_type', 'the record: expected a JSON object'],
  ['null', null, 'wrong_type', 'the record: expected a JSON object'],
  ['a list', [record()], 'wrong_type', 'the record: expected a JSON object'],
  ['nothing', {}, 'missing_field', 'v: missing; expected 1'],
  ['version 2', record({ v: 2 }), 'unsupported_version', 'v: expected 1, the only version that this bridge knows'],
  ['version "1"', record({ v: '1' }), 'unsupported_version', 'v: expected 1, the only version that this bridge knows'],
  [
    'no kind',
    record({ kind: undefined }),
    'missing_field',
    'kind: missing; expected turn, tool, permission, error, session, poll or hook',
  ],
  [
    'a kind from the future',
    record({ kind: 'dream' }),
    'unknown_kind',
    'kind: expected turn, tool, permission, error, session, poll or hook',
  ],
  [
    'no agent',
    record({ agent: '' }),
    'missing_field',
    'agent: missing; expected the name of an agent, such as opencode',
  ],
  [
    'an agent in capitals',
    record({ agent: 'Agent' }),
    'out_of_range',
    'agent: expected 1 to 32 of a-z 0-9 _ -, starting with a letter',
  ],
  ['no id', record({ id: undefined }), 'missing_field', 'id: missing; expected an object'],
  ['an id that is a text', record({ id: 's1' }), 'wrong_type', 'id: expected an object'],
  [
    'no message',
    record({ id: { session: 's1' } }),
    'missing_field',
    'id.message: missing; expected 1 to 200 printable ASCII characters without spaces',
  ],
  [
    'a session with a space',
    record({ id: { session: 's 1', message: 'm' } }),
    'out_of_range',
    'id.session: expected 1 to 200 printable ASCII characters without spaces',
  ],
  ['no time', record({ time: undefined }), 'missing_field', 'time: missing; expected an object'],
  [
    'no start',
    record({ time: {} }),
    'missing_field',
    'time.started: missing; expected a time between 2020 and 2100, in Unix ms or ISO 8601',
  ],
  [
    'year 1',
    record({ time: { started: '0001-01-01T00:00:00Z' } }),
    'out_of_range',
    'time.started: expected a time between 2020 and 2100, in Unix ms or ISO 8601',
  ],
  [
    'a 13th month',
    record({ time: { started: '2026-13-01' } }),
    'wrong_type',
    'time.started: expected a time between 2020 and 2100, in Unix ms or ISO 8601',
  ],
  [
    'a completion of true',
    record({ time: { started: STARTED, completed: true } }),
    'wrong_type',
    'time.completed: expected a time between 2020 and 2100, in Unix ms or ISO 8601',
  ],
  ['an unknown status', record({ status: 'fine' }), 'out_of_range', 'status: expected one of ok, error, aborted'],
  ['a status that is a number', record({ status: 1 }), 'wrong_type', 'status: expected one of ok, error, aborted'],
  ['finished: "yes"', record({ finished: 'yes' }), 'wrong_type', 'finished: expected true or false'],
  [
    'half a token',
    record({ tokens: { output: 0.5 } }),
    'out_of_range',
    'tokens.output: expected a whole number from 0 to 1000000000',
  ],
  [
    'too many tokens, as a string',
    record({ tokens: { output: '9999999999' } }),
    'out_of_range',
    'tokens.output: expected a whole number from 0 to 1000000000',
  ],
  ['a negative cost', record({ cost_usd: -1 }), 'out_of_range', 'cost_usd: expected a number of USD from 0 to 10000'],
  [
    'an infinite cost',
    record({ cost_usd: Number.POSITIVE_INFINITY }),
    'out_of_range',
    'cost_usd: expected a number of USD from 0 to 10000',
  ],
  [
    'a project that is a list',
    record({ project: ['x'] }),
    'wrong_type',
    'project: expected 1 to 128 characters, none of them a control character',
  ],
  [
    'a tool without a name',
    { ...TOOL, tool: undefined },
    'missing_field',
    "tool: missing; expected a tool's name: 1 to 128 of A-Z a-z 0-9 _ . - / :, and no path",
  ],
  [
    'a tool that is the path of a program',
    { ...TOOL, tool: '/home/alice/bin/tool' },
    'out_of_range',
    "tool: expected a tool's name: 1 to 128 of A-Z a-z 0-9 _ . - / :, and no path",
  ],
  [
    'a tool without a call',
    { ...TOOL, id: { session: 's' } },
    'missing_field',
    'id.call: missing; expected 1 to 200 printable ASCII characters without spaces',
  ],
  [
    'a poll of an unknown status',
    { v: 1, kind: 'poll', payload: { ...snapshot, status: 'FINE' } },
    'out_of_range',
    'payload.status: expected one of OK, NEAR_LIMIT, LIMITED, AUTH_REQUIRED, UNSUPPORTED, ERROR, UNKNOWN',
  ],
  [
    'a poll without an account',
    { v: 1, kind: 'poll', payload: { ...snapshot, account_id: '' } },
    'missing_field',
    `payload.account_id: missing; ${ACCOUNT_TEXT}`,
  ],
  [
    'a hook of an unknown agent',
    { source: 'cursor', payload: {} },
    'unknown_agent',
    'source: expected one of opencode, claude_code, codex',
  ],
  [
    'a hook without a source',
    { v: 1, kind: 'hook', payload: {} },
    'missing_field',
    'source: missing; expected the name of an agent',
  ],
  [
    'a hook with a source that is a number',
    { source: 7, payload: {} },
    'wrong_type',
    'source: expected the name of an agent',
  ],
  [
    'a hook without a payload',
    { v: 1, kind: 'hook', source: 'opencode' },
    'missing_field',
    "payload: missing; expected a hook's body",
  ],
  ['a hook of version 2', { v: 2, source: 'opencode', payload: {} }, 'unsupported_version', 'v: expected 1'],
  [
    'fields that are inherited',
    JSON.parse(`{"__proto__":${JSON.stringify(record())}}`),
    'missing_field',
    'v: missing; expected 1',
  ],
];
for (const [what, stated, reason, detail] of REJECTED) {
  test(`rejected: ${what} → ${reason}`, () =>
    assert.deepEqual(decodeRecord(stated), [{ type: 'rejected', reason, detail }]));
}

test('the published schema is the one that decodes', () => {
  const file = path.join(import.meta.dirname, '../../docs/event.schema.json');
  assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')), eventSchema(), 'mend it with: npm run generate');
  const kinds = (eventSchema() as { anyOf: { properties: { kind: { const: string } } }[] }).anyOf.map(
    (one) => one.properties.kind.const,
  );
  assert.deepEqual(kinds, ['turn', 'tool', 'permission', 'error', 'session', 'poll', 'hook']);
});
