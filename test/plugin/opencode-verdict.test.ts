// The plugin holds calls to what the bridge answers: against a real server on a unix socket, without OpenCode.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { MARKER, Scratch, until } from './loaded-plugin.ts';
import { ALLOW, type Reply, STOP, WARN } from './verdict-server.ts';

const scratch = new Scratch();
const NOW_MS = 1_795_293_928_000;
const NO_ANSWER = /^Tollbridge refused this call: its bridge did not answer \(.+\).*tollbridge start.*verdict\.fail/;
const UNCHECKED = /^Tollbridge's bridge did not answer \(.+\), so no budget was checked.*tollbridge start/;

type Loaded = Awaited<ReturnType<Scratch['load']>>;

interface Call {
  readonly prompt?: string;
  readonly session?: string;
  /** The model called, where it is not the prompt's. */
  readonly model?: string;
  readonly cost?: unknown;
  /** What the provider is asked for. */
  readonly calledId?: string;
  readonly headers?: object;
}

const COST = { input: 3, output: 15, cache: { read: 0, write: 0 } };

/** What OpenCode hands to its hooks, with content wherever content could be. */
function paramsOf(call: Call = {}) {
  const { prompt = 'msg_0', session = 'ses_1', model = 'claude-sonnet-4-5', cost = COST, headers } = call;
  const api = { id: call.calledId ?? model, url: `https://example.com/${MARKER}`, npm: MARKER };
  const chosen = { providerID: 'anthropic', modelID: 'claude-sonnet-4-5' };
  return {
    sessionID: session,
    agent: MARKER,
    model: { id: model, providerID: 'anthropic', api, name: MARKER, cost, headers: {} },
    provider: { id: 'anthropic', options: { apiKey: MARKER, headers: { authorization: MARKER, ...headers } } },
    message: { id: prompt, sessionID: session, role: 'user', agent: MARKER, model: chosen, system: MARKER },
  };
}

/** A call of a model: what was thrown, or undefined when it goes ahead. */
async function callModel({ hooks }: Loaded, call: Call = {}): Promise<Error | undefined> {
  return hooks['chat.params']?.(paramsOf(call) as never, {} as never).then(
    () => undefined,
    (error: Error) => error,
  );
}

async function callTool({ hooks }: Loaded, tool = 'bash', session = 'ses_1'): Promise<Error | undefined> {
  const args = { args: { command: MARKER } };
  return hooks['tool.execute.before']?.({ tool, sessionID: session, callID: 'call_1' }, args).then(
    () => undefined,
    (error: Error) => error,
  );
}

const stopTheClock = (t: TestContext) => t.mock.timers.enable({ apis: ['Date'], now: NOW_MS });

test('a stop refuses the model call with the text of the bridge and nothing else; an allow lets it through', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  assert.equal(await callModel(plugin), undefined);
  bridge.reply = STOP;
  assert.equal(String(await callModel(plugin)), `Error: ${STOP.message}`);
  bridge.reply = ALLOW;
  assert.equal(await callModel(plugin), undefined);
  assert.deepEqual([plugin.told, plugin.toasts], [[], []]);
});

test('the question holds names only: no prompt, path, key or argument', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load({ TOLLBRIDGE_ACCOUNT_ID: 'team-a' });
  await callModel(plugin);
  await callTool(plugin, 'bash');
  const names = { provider: 'anthropic', model: 'claude-sonnet-4-5', project: 'shop', account_id: 'team-a' };
  const question = { agent: 'opencode', ...names, priced: true };
  assert.deepEqual(bridge.questions, [question, { ...question, tool: 'bash' }]);
});

test('whether the model has a price is said as far as OpenCode knows', async (t) => {
  const free = { input: 0, output: 0, cache: { read: 0, write: 0 } };
  const cases: [string, unknown, boolean | undefined][] = [
    ['a price', COST, true],
    ['a price of cached tokens only', { ...free, cache: { read: 0.1, write: 0 } }, true],
    ['zeros, which is how an unknown price looks', free, false],
    ['nothing', null, undefined],
    ['no price of input', {}, undefined],
  ];
  for (const [name, cost, expected] of cases) {
    await t.test(name, async () => {
      const bridge = await scratch.judge();
      await callModel(await scratch.load(), { cost });
      assert.equal((bridge.questions[0] as { priced?: boolean }).priced, expected);
    });
  }
});

test('the model behind an alias is named, and so is whom a gateway is told to call: with questions and with turns', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  await callModel(plugin, { calledId: 'claude-opus-4-5', headers: { 'X-Portkey-Provider': 'bedrock' } });
  await callTool(plugin, 'bash');
  const said = (question: object) => {
    const { called_model, upstream_provider } = question as Record<string, unknown>;
    return [called_model, upstream_provider];
  };
  assert.deepEqual(bridge.questions.map(said), [
    ['claude-opus-4-5', 'bedrock'],
    ['claude-opus-4-5', 'bedrock'],
  ]);
  await callModel(plugin, {
    prompt: 'msg_1',
    session: 'ses_2',
    model: 'other',
    headers: { 'x-portkey-provider': `@${MARKER}` },
  });
  assert.deepEqual(said(bridge.questions[2]!), [undefined, undefined], 'a name of the user tells nothing');
});

test('a denied tool is refused, while other tools and the model are not', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  bridge.reply = ({ tool }) => (tool === 'bash' ? STOP : ALLOW);
  assert.equal(await callModel(plugin), undefined);
  assert.equal((await callTool(plugin, 'bash'))?.message, STOP.message);
  assert.equal(await callTool(plugin, 'read'), undefined);
  assert.equal(await callModel(plugin), undefined);
});

test('a tool is asked about with the model of its prompt, not of the title, and also before any model call', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  await plugin.hooks['chat.message']?.({ sessionID: 'ses_2' }, paramsOf({ session: 'ses_2' }) as never);
  await callTool(plugin, 'task', 'ses_2');
  await callModel(plugin);
  await callModel(plugin, { model: 'small' });
  await callTool(plugin);
  assert.deepEqual(
    bridge.questions.map(({ model, tool }) => [model, tool]),
    [
      ['claude-sonnet-4-5', 'task'],
      ['claude-sonnet-4-5', undefined],
      ['small', undefined],
      ['claude-sonnet-4-5', 'bash'],
    ],
  );
});

test('a warning is shown once per rule, step, period and limit, and holds nothing up', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  const replies = [
    WARN,
    WARN,
    { ...WARN, step: 0.95 },
    WARN,
    { ...WARN, resets_at: '2027-01-01T00:00:00+01:00' },
    { ...WARN, rule: 'budget/other' },
    { ...WARN, limit_usd: 1000 },
    { ...WARN, message: 'in\nother\u001b[31m words' },
  ];
  for (const reply of replies) {
    bridge.reply = reply;
    assert.equal(await callModel(plugin), undefined);
  }
  assert.deepEqual(plugin.toasts, Array(5).fill(WARN.message));
  assert.deepEqual(plugin.told, plugin.toasts, 'the log has them too');
});

test('a message is one line without control sequences', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  bridge.reply = { ...STOP, message: 'spent\r\nall\u001b[31m of\u2028\u202eit\u2066\n' };
  assert.equal((await callModel(plugin))?.message, 'spent all [31m of it');
});

test('an answer serves the same question for its ttl, and no other question', async (t) => {
  stopTheClock(t);
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  const asked = () => bridge.questions.length;
  bridge.reply = { ...ALLOW, ttl_s: 10 };
  for (let n = 0; n < 3; n++) await callModel(plugin);
  assert.equal(asked(), 1);
  await callTool(plugin);
  await callModel(plugin, { model: 'small' });
  assert.equal(asked(), 3);
  t.mock.timers.setTime(NOW_MS + 9_999);
  await callModel(plugin);
  assert.equal(asked(), 3);
  bridge.reply = STOP;
  t.mock.timers.setTime(NOW_MS + 10_000);
  assert.equal((await callModel(plugin))?.message, STOP.message);
  assert.equal(asked(), 4);
});

test('no answer is kept for more than a minute, whatever it says', async (t) => {
  stopTheClock(t);
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  bridge.reply = { ...STOP, ttl_s: 1e300 };
  await callModel(plugin);
  t.mock.timers.setTime(NOW_MS + 59_999);
  bridge.reply = ALLOW;
  assert.equal((await callModel(plugin))?.message, STOP.message);
  t.mock.timers.setTime(NOW_MS + 60_000);
  assert.equal(await callModel(plugin), undefined);
});

test('a clock that is set back makes no answer last longer', async (t) => {
  stopTheClock(t);
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  bridge.reply = { ...ALLOW, ttl_s: 10 };
  await callModel(plugin);
  t.mock.timers.setTime(NOW_MS - 3_600_000);
  await callModel(plugin);
  assert.equal(bridge.questions.length, 2);
});

test('equal questions at one time share a request only where answers may be kept', async (t) => {
  for (const [ttl_s, expected] of [
    [10, 1],
    [0, 3],
  ] as const) {
    await t.test(`ttl ${ttl_s}`, async (t) => {
      stopTheClock(t);
      const bridge = await scratch.judge();
      const plugin = await scratch.load();
      bridge.reply = { ...ALLOW, ttl_s };
      await callModel(plugin);
      t.mock.timers.setTime(NOW_MS + 20_000);
      const before = bridge.questions.length;
      await Promise.all([callModel(plugin), callModel(plugin), callModel(plugin)]);
      assert.equal(bridge.questions.length - before, expected);
    });
  }
});

test('a prompt under way goes on or not, as the stop says', async (t) => {
  for (const [in_flight, next] of [
    ['finish', undefined],
    ['stop', STOP.message],
    [undefined, STOP.message],
  ] as const) {
    await t.test(`in_flight ${in_flight}`, async () => {
      const bridge = await scratch.judge();
      const plugin = await scratch.load();
      await callModel(plugin, { prompt: 'msg_1' });
      await callModel(plugin, { prompt: 'msg_2', session: 'ses_2', model: 'small' });
      bridge.reply = { ...STOP, in_flight };
      assert.equal((await callModel(plugin, { prompt: 'msg_1' }))?.message, next, 'its next step');
      assert.equal((await callTool(plugin))?.message, next, 'its tools');
      const other = await callModel(plugin, { prompt: 'msg_2', session: 'ses_2' });
      assert.equal(other?.message, STOP.message, 'a prompt of which only the title was allowed');
      assert.equal((await callModel(plugin, { prompt: 'msg_3' }))?.message, STOP.message, 'a new prompt');
    });
  }
});

test('an allowed tool does not make its prompt one that was allowed', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  await plugin.hooks['chat.message']?.({ sessionID: 'ses_1' }, paramsOf() as never);
  assert.equal(await callTool(plugin), undefined);
  bridge.reply = { ...STOP, in_flight: 'finish' };
  assert.equal((await callModel(plugin))?.message, STOP.message);
});

/** Bridges that give no verdict. */
const NO_VERDICTS: Readonly<Record<string, Reply | 'absent'>> = {
  'nobody listens': 'absent',
  'the bridge hangs': 'never',
  'the bridge is not ready': { status: 503, body: '{}' },
  'the bridge knows no such question': { status: 404, body: JSON.stringify(STOP) },
  'the answer is no JSON': { status: 200, body: '<html>' },
  'the answer is no object': { status: 200, body: '"stop"' },
  'the answer is empty': { status: 200, body: '' },
  'the answer is too long': { status: 200, body: JSON.stringify({ ...STOP, more: 'x'.repeat(1_000_000) }) },
  'the decision is unknown': { ...STOP, decision: 'deny' },
  'a stop has no message': { ...STOP, message: ' ' },
  'the message is too long': { ...STOP, message: 'x'.repeat(1001) },
  'the ttl is missing': { ...STOP, ttl_s: undefined },
  'the ttl is negative': { ...STOP, ttl_s: -1 },
};

for (const [name, reply] of Object.entries(NO_VERDICTS)) {
  test(`when ${name}, what was set for that decides`, async (t) => {
    for (const fail of ['open', 'closed', undefined, 'shut']) {
      await t.test(`TOLLBRIDGE_FAIL ${fail ?? 'unset'}`, async () => {
        if (reply !== 'absent') (await scratch.judge()).reply = reply;
        const plugin = await scratch.load(fail === undefined ? {} : { TOLLBRIDGE_FAIL: fail });
        const thrown = [await callModel(plugin), await callTool(plugin), await callModel(plugin)];
        if (fail === 'closed') {
          for (const error of thrown) assert.match(error?.message ?? '', NO_ANSWER);
          assert.deepEqual(plugin.told, []);
          return;
        }
        assert.deepEqual(thrown, [undefined, undefined, undefined]);
        const warning = fail === 'shut' ? [/TOLLBRIDGE_FAIL is neither open nor closed/] : [];
        const expected = [...warning, UNCHECKED];
        assert.equal(plugin.told.length, expected.length, 'told once');
        for (const [i, pattern] of expected.entries()) assert.match(plugin.told[i] as string, pattern);
        assert.deepEqual(plugin.toasts, [], 'who is not known to have rules is not bothered');
      });
    }
  });
}

test('what the last answer said about failing holds, and the environment wins over it', async (t) => {
  for (const [said, environment, isRefused] of [
    ['closed', {}, true],
    ['open', {}, false],
    ['closed', { TOLLBRIDGE_FAIL: 'open' }, false],
    ['open', { TOLLBRIDGE_FAIL: 'closed' }, true],
  ] as const) {
    await t.test(`${said}, ${JSON.stringify(environment)}`, async () => {
      const bridge = await scratch.judge();
      const plugin = await scratch.load(environment);
      bridge.reply = { ...ALLOW, fail: said };
      assert.equal(await callModel(plugin), undefined);
      bridge.reply = 'never';
      assert.equal((await callModel(plugin)) !== undefined, isRefused);
    });
  }
});

test('an outage is shown to whom rules apply, once, and its end is told with what went ahead', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  bridge.reply = { ...ALLOW, rule: 'budget/platform-month' };
  await callModel(plugin);
  for (let outage = 1; outage <= 2; outage++) {
    bridge.reply = { status: 503, body: '{}' };
    for (let n = 0; n < 3; n++) await callModel(plugin);
    assert.equal(plugin.toasts.length, outage);
    assert.match(plugin.toasts.at(-1) as string, UNCHECKED);
    bridge.reply = ALLOW;
    await callModel(plugin);
    assert.match(plugin.told.at(-1) as string, /answers again.* 3\.$/);
    assert.equal((bridge.questions.at(-1) as { unchecked?: number }).unchecked, 3, 'the bridge is told how many');
  }
  await callModel(plugin, { model: 'another' });
  assert.equal('unchecked' in bridge.questions.at(-1)!, false, 'once');
});

test('an outage is told once, also to calls at one time of which the first is answered last', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  const away: Reply = { status: 503, body: '{}' };
  bridge.reply = ({ model }) => (model === 'slow' ? 'never' : away);
  const atOnce = () => Promise.all(['slow', 'quick', 'other'].map((model) => callModel(plugin, { model })));
  await callModel(plugin);
  await atOnce();
  await atOnce();
  assert.equal(plugin.told.length, 1);
  bridge.reply = ALLOW;
  await atOnce();
  const told = bridge.questions.map((question) => (question as { unchecked?: number }).unchecked ?? 0);
  assert.deepEqual(told.slice(-3), [7, 0, 0], 'each call is told of once');
  assert.match(plugin.told.at(-1) as string, /answers again.* 7\.$/);
  assert.equal(plugin.told.length, 2);
});

test('without a socket nothing is asked or said, but a closed door stays closed', async () => {
  const open = await scratch.load({ TOLLBRIDGE_SOCKET: '' });
  assert.equal(await callModel(open), undefined);
  assert.deepEqual(open.told, []);
  const closed = await scratch.load({ TOLLBRIDGE_SOCKET: '', TOLLBRIDGE_FAIL: 'closed' });
  assert.match((await callModel(closed))?.message ?? '', /its socket is switched off/);
});

test('whatever OpenCode hands over, nothing but a refusal of ours is thrown', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load({ TOLLBRIDGE_FAIL: 'closed' });
  const hooks = plugin.hooks as unknown as Record<string, (input: unknown, output: unknown) => Promise<void>>;
  for (const given of [undefined, null, {}, 7, { model: 1, message: [] }, { message: { id: 'x'.repeat(300) } }]) {
    await hooks['chat.message']?.(given, given);
    for (const name of ['chat.params', 'tool.execute.before']) {
      await assert.rejects(hooks[name]?.(given, given) as Promise<void>, { name: 'Error', message: NO_ANSWER });
    }
  }
  assert.deepEqual(bridge.questions, [], 'there was nothing to ask');
});

test('metering goes on while calls are refused', async () => {
  const bridge = await scratch.judge();
  const plugin = await scratch.load();
  bridge.reply = STOP;
  await callModel(plugin);
  await plugin.happen({ id: 'evt_1', type: 'session.error', properties: { sessionID: 'ses_1', error: { name: 'X' } } });
  await plugin.hooks.dispose?.();
  await until('An empty spool', () => scratch.spoolFiles().length === 0);
  assert.deepEqual(plugin.told, []);
});
