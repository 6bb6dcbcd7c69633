// Runs through a whole bridge to receivers: what is told, that nothing that is counted depends on it, and that what is
// not told is counted.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { Bridge } from '../src/bridge.ts';
import { doctor } from '../src/commands/doctor.ts';
import { showStatus } from '../src/commands/status.ts';
import { scratchConfig, scratchFolder } from './commands/bridge-fixture.ts';
import { OtlpReceiver } from './metrics/otlp-receiver.ts';
import { samplesOf } from './scrape.ts';
import { post, readableLog, until } from './sources/intake-fixture.ts';
import { drawn, sentRecords, sentSpans } from './traces/run-receiver.ts';

async function startBridge(t: TestContext, settings: Record<string, unknown>) {
  const config = scratchConfig(t, { metrics: { listen: '127.0.0.1:0' }, ...settings });
  const { log, lines } = readableLog();
  const env = { OF_TRACES: 'X-Scope=tr4ces,Content-Type=text/plain', OF_LOGS: 'x-scope=l0gs' };
  const bridge = await Bridge.start({ config, log, env });
  t.after(() => bridge.stop());
  const send = async (...records: object[]) => {
    for (const record of records) {
      const answer = await post(config.socket.path, '/v1/events', { v: 1, agent: 'opencode', ...record });
      assert.equal(answer.status, 202, answer.text);
    }
  };
  const scrape = async () => (await fetch(`${bridge.metricsUrl}/metrics`)).text();
  const counted = async (name: string, labels: Record<string, string> = {}) =>
    samplesOf(await scrape())
      .filter((sample) => sample.name === name)
      .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))
      .reduce((sum, { value }) => sum + value, 0);
  return { bridge, config, lines, send, scrape, counted };
}

const turn = (message: string, changes: object = {}) => ({
  ...{ kind: 'turn', id: { session: 's1', message, prompt: 'p1' }, status: 'ok' },
  time: { started: Date.now() - 1000, completed: Date.now() },
  ...{ provider: 'openrouter', model: 'anthropic/claude-x', upstream_provider: 'anthropic', project: 'shop' },
  ...{ tokens: { input: 10, output: 5, cache_read: 100 }, cost_usd: 0.6 },
  ...changes,
});
const tool = { kind: 'tool', id: { session: 's1', call: 'c1', message: 'm1' }, tool: 'bash', status: 'error' };

test('a bridge tells runs, failures and verdicts, each to its receiver with its own headers', async (t) => {
  const [tempo, loki] = [await OtlpReceiver.start(t), await OtlpReceiver.start(t)];
  const { bridge, config, lines, send, scrape, counted } = await startBridge(t, {
    otlp: {
      traces: { endpoint: tempo.url, headers_env: 'OF_TRACES' },
      logs: { endpoint: `${loki.url}/v1/logs`, headers_env: 'OF_LOGS' },
    },
    socket: { identity: { team: 'platform', user: 'ana' } },
    budgets: [{ name: 'small', limit_usd: 1, period: 'day', hard: true }],
  });
  await send(
    turn('m1'),
    { ...tool, time: { started: Date.now() - 500, completed: Date.now() } },
    turn('m2', { status: 'error', reason: 'overloaded' }),
    { kind: 'error', id: { session: 's1', attempt: 'a1' }, time: { failed: Date.now() }, provider: 'x', model: 'y' },
  );
  const question = { agent: 'opencode', provider: 'openrouter', model: 'anthropic/claude-x' };
  const { json } = await post(config.socket.path, '/v1/verdict', question);
  assert.equal(json.decision, 'stop');
  const options = { json: false, config, env: {}, home: scratchFolder(t), nowMs: Date.now() };
  const told = `${bridge.banner().join('\n')}\n${(await showStatus(options)).lines.join('\n')}`;
  assert.match(told, / {2}otlp {6}http:\S+ \(traces\)\n {12}http:\S+ \(logs\)\n/);
  assert.match(told, /\notlp {2}http:\S+ \(traces\)\notlp {2}http:\S+ \(logs\)\n/);
  await until(() => sentSpans(tempo).length === 3 && sentRecords(loki).length === 4, 'what ended to be told at once');
  const text = await scrape();
  await bridge.stop();

  const spans = sentSpans(tempo);
  assert.deepEqual(drawn(spans), [
    'invoke_agent opencode',
    '  chat anthropic/claude-x',
    '    execute_tool bash',
    '  chat anthropic/claude-x',
  ]);
  assert.deepEqual([...new Set(spans.map(({ service }) => service))], ['opencode']);
  const chat = spans.find(({ name, failed }) => name.startsWith('chat') && !failed)!;
  assert.equal(chat.kind, 3);
  assert.deepEqual(chat.attributes, {
    'gen_ai.operation.name': 'chat',
    'gen_ai.provider.name': 'openrouter',
    'gen_ai.request.model': 'anthropic/claude-x',
    'gen_ai.conversation.id': 's1',
    'gen_ai.usage.input_tokens': 110,
    'gen_ai.usage.output_tokens': 5,
    'gen_ai.usage.cache_read.input_tokens': 100,
    'gen_ai.usage.cache_creation.input_tokens': 0,
    'gen_ai.usage.reasoning.output_tokens': 0,
    'toll.agent': 'opencode',
    'toll.provider': 'openrouter',
    'toll.upstream_provider': 'anthropic',
    'toll.pricing': 'stated',
    'toll.cost.usd': 0.6,
    'toll.project': 'shop',
    'toll.team': 'platform',
    'toll.user': 'ana',
  });
  const run = spans.find(({ name }) => name.startsWith('invoke_agent'))!;
  assert.deepEqual(run.attributes, {
    'gen_ai.operation.name': 'invoke_agent',
    'gen_ai.agent.name': 'opencode',
    'gen_ai.conversation.id': 's1',
    'toll.run.calls': 2,
    'toll.run.tool_calls': 1,
    'toll.run.cost.usd': 1.2,
    'toll.project': 'shop',
    'toll.team': 'platform',
    'toll.user': 'ana',
    'error.type': 'overloaded',
  });
  const records = sentRecords(loki);
  assert.deepEqual(
    records.map(({ event, severity, body }) => [event, severity, body]),
    [
      ['toll.turn', 'INFO', 'turn ok: opencode called anthropic/claude-x of anthropic, 115 tokens for 0.6 USD'],
      [
        ...['toll.turn', 'ERROR'],
        'turn error (overloaded): opencode called anthropic/claude-x of anthropic, 115 tokens for 0.6 USD',
      ],
      ['toll.error', 'ERROR', 'a call failed (other): opencode called y of unknown'],
      ['toll.verdict', 'WARN', 'stopped by budget/small: opencode, anthropic/claude-x'],
    ],
  );
  assert.deepEqual(
    [records[0]!.traceId, records[0]!.spanId],
    [chat.traceId, chat.spanId],
    'a record leads to its span',
  );
  assert.equal(records[3]!.attributes['toll.team'], 'platform');
  assert.deepEqual([...new Set(tempo.posts.map(({ headers }) => headers['x-scope']))], ['tr4ces']);
  assert.deepEqual(
    [...new Set(tempo.posts.map(({ headers }) => headers['content-type']))],
    ['application/x-protobuf'],
    'a header of the same name, however it is spelled, does not say otherwise',
  );
  assert.deepEqual([...new Set(loki.posts.map(({ headers }) => headers['x-scope']))], ['l0gs']);
  assert.equal(tempo.pushes.length + loki.pushes.length, 0, 'no metrics: they have no receiver');
  assert.doesNotMatch(`${told}${text}${lines.join('')}`, /tr4ces|l0gs/);
  assert.match(text, /tollbridge_otlp_exports_total\{signal="traces",result="ok"\} [1-9]/);
  assert.match(text, /tollbridge_otlp_dropped_total\{signal="logs",reason="queue_full"\} 0/);
  await assert.rejects(() => counted('toll_turns_total'), 'the bridge has stopped');
});

test('a turn that is told again has the labels that it is counted under', async (t) => {
  const receiver = await OtlpReceiver.start(t);
  const { bridge, config, send, scrape } = await startBridge(t, {
    otlp: { endpoint: receiver.url, traces: true, logs: true },
  });
  await send(turn('m1', { event_id: 'e1' }));
  await send(turn('m1', { event_id: 'e2', project: 'other', model: 'anthropic/claude-y', cost_usd: 0.9 }));
  await until(() => sentSpans(receiver).length === 2 && sentRecords(receiver).length === 2, 'it to be told twice');
  const told = [...sentSpans(receiver), ...sentRecords(receiver)].map(({ attributes }) => attributes);
  assert.deepEqual([...new Set(told.map((attributes) => attributes['toll.project']))], ['shop']);
  assert.deepEqual([...new Set(told.map((attributes) => attributes['gen_ai.request.model']))], ['anthropic/claude-x']);
  const costs = samplesOf(await scrape()).filter(({ name, value }) => name === 'toll_cost_usd_total' && value > 0);
  assert.deepEqual(
    costs.map(({ labels, value }) => [labels.project, labels.model, value]),
    [['shop', 'anthropic/claude-x', Math.max(...told.map((attributes) => Number(attributes['toll.cost.usd'])))]],
  );
  await bridge.stop();
  const again = await Bridge.start({ config, log: readableLog().log, env: {} });
  t.after(() => again.stop());
  await send(turn('m1', { event_id: 'e3', project: 'other', cost_usd: 1 }));
  await again.stop();
  const [last] = sentRecords(receiver).slice(-1);
  assert.deepEqual([last?.attributes['toll.cost.usd'], last?.attributes['toll.project']], [1, 'shop']);
});

test('a turn that waits for its session is told when it is booked, as it is booked', async (t) => {
  const receiver = await OtlpReceiver.start(t);
  const { bridge, send, counted } = await startBridge(t, {
    otlp: { endpoint: receiver.url, traces: true, logs: true },
  });
  const { project: _, ...waiting } = turn('m1', { awaits_session: true });
  await send(waiting, { ...waiting, id: { session: 'never', message: 'm1' } });
  assert.equal(await counted('toll_turns_total'), 0);
  await send({ kind: 'session', id: { session: 's1' }, project: 'shop' });
  const { status: _status, ...begun } = { ...waiting, id: { session: 's1', message: 'm2' } };
  await send(waiting, { ...begun, time: { started: begun.time.started } }, { ...begun, status: 'ok' });
  assert.equal(await counted('toll_turns_total', { project: 'shop' }), 2);
  await bridge.stop();
  const calls = sentSpans(receiver).filter(({ name }) => name.startsWith('chat '));
  assert.deepEqual(
    [...calls, ...sentRecords(receiver)].map(({ attributes }) => attributes['toll.project']),
    ['shop', 'shop', 'shop', 'shop'],
  );
});

test('a receiver that is away gets what happened meanwhile, and is told of once', async (t) => {
  const receiver = await OtlpReceiver.start(t);
  const { bridge, config, lines, send, counted } = await startBridge(t, {
    otlp: { endpoint: receiver.url, metrics: false, traces: true, logs: true },
  });
  receiver.answer = 503;
  await send(turn('m1'));
  await until(() => receiver.requests > 0, 'a first try');
  await receiver.down();
  await send(turn('m2'));
  const refused = /ECONNREFUSED/;
  await until(() => bridge.status().otlp!.every(({ problem }) => refused.test(problem ?? '')), 'the trouble');
  const home = scratchFolder(t);
  const report = await doctor({ json: true, env: {}, home, nowMs: Date.now(), loadConfig: () => config });
  assert.match(
    report.lines.join('\n'),
    /traces cannot be sent to http:\S+: it cannot be reached \(ECONNREFUSED\)\. They wait, as far as there is room/,
  );
  receiver.answer = 'take';
  await receiver.up();
  await until(() => sentSpans(receiver).length === 2 && sentRecords(receiver).length === 2, 'both turns');
  assert.equal(await counted('toll_turns_total'), 2);
  assert.equal(await counted('tollbridge_otlp_dropped_total'), 0);
  assert.ok((await counted('tollbridge_otlp_exports_total', { result: 'error' })) > 0);
  const trouble = lines.filter((line) => line.includes('are not all taken by OTLP')).length;
  assert.ok(trouble >= 2 && trouble <= 4, `${trouble} lines about two signals`);
});

test('what a receiver refuses is counted and not sent again, and the next is sent', async (t) => {
  const receiver = await OtlpReceiver.start(t);
  const { bridge, send, counted } = await startBridge(t, { otlp: { traces: { endpoint: receiver.url } } });
  receiver.answer = 400;
  await send(turn('m1'));
  const refused = { signal: 'traces', reason: 'refused' };
  await until(() => receiver.requests === 1, 'the refusal');
  while ((await counted('tollbridge_otlp_dropped_total', refused)) === 0) await setTimeout(20);
  receiver.answer = 'take';
  await send(turn('m2'));
  await until(() => receiver.posts.length === 1, 'the next');
  assert.equal(sentSpans(receiver).length, 1);
  await bridge.stop();
});

test('what a receiver takes in part is counted by what it did not take, and is not sent again', async (t) => {
  const receiver = await OtlpReceiver.start(t);
  const { bridge, lines, send, counted } = await startBridge(t, { otlp: { endpoint: receiver.url, logs: true } });
  receiver.answer = { rejects: 2 };
  for (const message of ['m1', 'm2', 'm3']) await send(turn(message));
  const refused = { signal: 'logs', reason: 'refused' };
  while ((await counted('tollbridge_otlp_dropped_total', refused)) === 0) await setTimeout(20);
  assert.equal(await counted('tollbridge_otlp_dropped_total', refused), 2);
  assert.match(bridge.status().otlp!.find(({ signal }) => signal === 'logs')!.problem!, /^it took all but 2$/);
  // More than there was is not believed.
  receiver.answer = { rejects: 100 };
  await send(turn('m4'));
  while ((await counted('tollbridge_otlp_dropped_total', refused)) === 2) await setTimeout(20);
  assert.equal(await counted('tollbridge_otlp_dropped_total', refused), 3);
  for (const says of [Buffer.alloc(100, 0xff), Buffer.from('{"partialSuccess":1}'), Buffer.alloc(70_000, 0x0a)]) {
    receiver.answer = { says };
    const { requests } = receiver;
    await send(turn(`m5-${says.length}`));
    await until(() => receiver.requests > requests, 'a request');
  }
  receiver.answer = 'take';
  await until(() => bridge.status().otlp!.every(({ problem }) => !problem), 'all to be well again');
  assert.equal(await counted('tollbridge_otlp_dropped_total', refused), 3);
  assert.doesNotMatch(lines.join(''), /CANARY/);
  assert.equal(await counted('toll_turns_total'), 7);
});

test('a receiver that hangs holds neither a turn nor a stop', async (t) => {
  const receiver = await OtlpReceiver.start(t);
  receiver.answer = 'hang';
  const { bridge, lines, send, counted } = await startBridge(t, { otlp: { endpoint: receiver.url, traces: true } });
  for (let n = 0; n < 20; n += 1) await send(turn(`m${n}`));
  await until(() => receiver.requests > 0, 'a request that hangs');
  assert.equal(await counted('toll_turns_total'), 20);
  const startedMs = performance.now();
  await bridge.stop();
  assert.ok(performance.now() - startedMs < 12_000);
  assert.ok(lines.some((line) => line.includes('could not be sent by OTLP before the end')));
});
