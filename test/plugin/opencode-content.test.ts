import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as plugin from '../../src/plugin/opencode.ts';
import {
  event,
  MARKER,
  message,
  Scratch,
  type Sent,
  sentMessage,
  sentTool,
  tokens,
  tool,
  until,
} from './loaded-plugin.ts';

const FIXTURES = fileURLToPath(new URL('../fixtures/opencode/', import.meta.url));
const scratch = new Scratch();

const session = (info: object) =>
  event('session.created', { sessionID: 'ses_1', info: { id: 'ses_1', title: MARKER, ...info } });
const shellNote = (note: string) => `${MARKER}\n\n<shell_metadata>\n${note}\n</shell_metadata>`;
const apiError = (data: object) => ({
  name: 'APIError',
  data: {
    message: MARKER,
    responseHeaders: { cookie: MARKER },
    metadata: { url: MARKER },
    isRetryable: false,
    ...data,
  },
});

const { finish: _, ...unfinished } = sentMessage;
const noTokens = { input: 0, output: 0, reasoning: 0, cache: { read: 0, write: 0 } };

describe('what is sent of an event', () => {
  const cases: [string, unknown, object][] = [
    ['a completed message', message(), { info: sentMessage }],
    [
      'a message in progress',
      message({ finish: undefined, cost: 0, tokens: noTokens, time: { created: 7 } }),
      { info: { ...unfinished, cost: 0, tokens: noTokens, time: { created: 7 } } },
    ],
    [
      'a message outside any repository',
      message({ path: { cwd: `/home/${MARKER}/notes`, root: '/' } }),
      { info: { ...sentMessage, path: { root: 'notes' } } },
    ],
    [
      'a message on Windows',
      message({ path: { cwd: 'C:\\', root: `C:\\${MARKER}\\shop` } }),
      { info: { ...sentMessage, path: { root: 'shop' } } },
    ],
    [
      'a refused message',
      message({
        finish: undefined,
        error: apiError({ statusCode: 401, responseBody: `{"error":{"type":"CreditsError","message":"${MARKER}"}}` }),
      }),
      {
        info: {
          ...unfinished,
          error: { name: 'APIError', data: { statusCode: 401, isRetryable: false, errorType: 'CreditsError' } },
        },
      },
    ],
    [
      'a code before a type',
      message({
        finish: undefined,
        error: apiError({
          responseBody: '{"error":{"type":"invalid_request_error","code":"context_length_exceeded"}}',
        }),
      }),
      {
        info: {
          ...unfinished,
          error: { name: 'APIError', data: { isRetryable: false, errorType: 'context_length_exceeded' } },
        },
      },
    ],
    [
      'an error token that is a sentence',
      message({
        finish: undefined,
        error: { name: MARKER, data: { responseBody: `{"type":"error","code":"${MARKER}"}` } },
      }),
      { info: { ...unfinished, error: { name: 'UnknownError', data: {} } } },
    ],
    [
      'an error body that is not JSON',
      message({
        finish: undefined,
        error: { name: 'MessageAbortedError', data: { message: MARKER, responseBody: MARKER } },
      }),
      { info: { ...unfinished, error: { name: 'MessageAbortedError', data: {} } } },
    ],
    ['a tool that ended well', tool({ status: 'completed' }), sentTool({ status: 'completed' })],
    ['a tool that failed', tool({ status: 'error', error: MARKER }), sentTool({ status: 'error' })],
    [
      'a tool that OpenCode stopped',
      tool({ status: 'error', error: 'Tool execution aborted', metadata: { interrupted: true, output: MARKER } }),
      sentTool({ status: 'error', metadata: { interrupted: true } }),
    ],
    [
      'a command that the user stopped',
      tool({ status: 'completed', output: shellNote('User aborted the command'), metadata: { exit: null } }),
      sentTool({ status: 'error', metadata: { interrupted: true } }),
    ],
    [
      'a command that prints what a stopped one would',
      tool({ status: 'completed', output: shellNote('User aborted the command'), metadata: { exit: 0 } }),
      sentTool({ status: 'completed' }),
    ],
    [
      'a command that took too long',
      tool({ status: 'completed', output: shellNote('Terminated after the time limit'), metadata: { exit: null } }),
      sentTool({ status: 'completed' }),
    ],
    ['a session', session({ directory: `/${MARKER}/shop`, path: '' }), { info: { id: 'ses_1', directory: 'shop' } }],
    [
      'a session in a folder of its worktree',
      session({ directory: `/${MARKER}/shop/packages/api`, path: 'packages/api' }),
      { info: { id: 'ses_1', directory: 'shop' } },
    ],
    [
      'a session outside any repository',
      session({ directory: '/home/notes', path: 'home/notes' }),
      { info: { id: 'ses_1', directory: 'notes' } },
    ],
    [
      'an error of a session',
      event('session.error', { sessionID: 'ses_1', error: apiError({ statusCode: 400, responseBody: MARKER }) }),
      { sessionID: 'ses_1', error: { name: 'APIError', data: { statusCode: 400 } } },
    ],
    [
      'a question to the user',
      event('permission.asked', {
        id: 'per_1',
        sessionID: 'ses_1',
        permission: MARKER,
        patterns: [MARKER],
        metadata: { command: MARKER },
        tool: { messageID: 'msg_1', callID: 'call_1' },
      }),
      { id: 'per_1', sessionID: 'ses_1', tool: { messageID: 'msg_1', callID: 'call_1' } },
    ],
    [
      'the answer of the user',
      event('permission.replied', { sessionID: 'ses_1', requestID: 'per_1', reply: MARKER }),
      { requestID: 'per_1', sessionID: 'ses_1' },
    ],
  ];
  for (const [name, given, properties] of cases) {
    test(name, async () => {
      const bridge = await scratch.listen(202);
      const { happen } = await scratch.load({ TOLLBRIDGE_ACCOUNT_ID: 'work' });
      await happen(given);
      await until('A post', () => bridge.posts.length > 0);
      const { id, type } = given as Sent;
      assert.deepEqual(bridge.posts, [
        {
          url: 'POST /v1/events',
          records: [{ source: 'opencode', account_id: 'work', payload: { event: { id, type, properties } } }],
        },
      ]);
      assert.ok(!JSON.stringify(bridge.posts).includes(MARKER));
    });
  }
});

test('everything else stays in OpenCode', async () => {
  const bridge = await scratch.listen(202);
  const { happen } = await scratch.load();
  const part = (type: string) =>
    event('message.part.updated', { part: { id: 'prt_2', messageID: 'msg_1', type, text: MARKER } });
  const throwing = Object.defineProperty({}, 'type', {
    get() {
      throw new Error(MARKER);
    },
  });
  const silent = [
    message({ role: 'user' }),
    message({ id: '' }),
    tool({ status: 'running' }),
    tool({ status: 'pending' }),
    ...['text', 'reasoning', 'step-start', 'step-finish', 'patch'].map(part),
    event('message.part.delta', { delta: MARKER }),
    event('session.idle', { sessionID: 'ses_1' }),
    event('file.edited', { file: MARKER }),
    event('constructor', {}),
    event('__proto__', {}),
    event('permission.asked', {}),
    ...[null, undefined, 'text', 7, [], {}, { type: 'message.updated' }, throwing],
  ];
  for (const one of silent) await happen(one);
  await happen(message());
  await until('A post', () => bridge.posts.length > 0);
  assert.deepEqual(
    bridge.posts.flatMap(({ records }) => records.map(({ payload }) => payload.event.type)),
    ['message.updated'],
  );
});

test('a repeated event is sent once, a changed one again', async () => {
  const bridge = await scratch.listen(202);
  const { hooks, happen } = await scratch.load();
  await happen(message({ finish: undefined, time: { created: 1 } }));
  await happen(message({ finish: undefined, time: { created: 1 } }));
  await happen(message());
  await happen(message());
  await happen(message({ tokens: { ...tokens, output: 51 } }));
  await happen(tool({ status: 'completed' }));
  await happen(tool({ status: 'completed', time: { start: 10, end: 20, compacted: 99 } }));
  for (const type of ['session.created', 'session.updated', 'session.updated']) {
    await happen(event(type, { info: { id: 'ses_1', directory: '/x/shop' } }));
  }
  await hooks.dispose?.();
  const types = bridge.posts.flatMap(({ records }) => records.map(({ payload }) => payload.event.type));
  assert.deepEqual(types, [
    'message.updated',
    'message.updated',
    'message.updated',
    'message.part.updated',
    'session.created',
  ]);
});

test('it exports one thing, because OpenCode takes every export for a plugin', () => {
  assert.deepEqual(Object.keys(plugin), ['Tollbridge']);
});

test('nothing of what a real OpenCode said in recorded sessions is sent', async (t) => {
  const bridge = await scratch.listen(202);
  const { hooks, happen } = await scratch.load();
  let recorded = 0;
  for (const name of readdirSync(FIXTURES).filter((file) => file.endsWith('.jsonl'))) {
    for (const line of readFileSync(path.join(FIXTURES, name), 'utf8').trim().split('\n')) {
      const { body } = JSON.parse(line);
      if (!body) continue;
      recorded++;
      await happen(JSON.parse(body).event);
    }
  }
  await hooks.dispose?.();
  const sent = bridge.posts.flatMap(({ records }) => records);
  assert.ok(sent.length > 100);
  const text = JSON.stringify(sent);
  for (const content of ['/home', 'PLAN=', 'echo', 'hello', 'Mock', 'mock bad request', 'New session', '127.0.0.1']) {
    assert.ok(!text.includes(content), `${content} is not sent`);
  }
  t.diagnostic(`${recorded} recorded posts, ${sent.length} records sent, ${text.length} bytes`);
});
