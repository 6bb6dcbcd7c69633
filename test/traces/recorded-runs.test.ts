// What real agents sent, told on as traces and log records: every call and tool once, where it belongs, worth what it was
// worth, the same ids whenever it is told again, and no word of what was said.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { Ledger } from '../../src/ledger/ledger.ts';
import { LedgerSink } from '../../src/sources/ledger-sink.ts';
import { RunExport } from '../../src/traces/run-export.ts';
import { Attribution } from '../../src/turn/attribution.ts';
import { decodeHook } from '../../src/turn/normalize.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import { OtlpReceiver } from '../metrics/otlp-receiver.ts';
import { readableLog, temporaryFolder } from '../sources/intake-fixture.ts';
import { CANARY, countedBy, inJson, inProtobuf, recordings, send, startOtlp } from '../sources/otlp-fixture.ts';
import { drawn, type SentSpan, sentRecords, sentSpans } from './run-receiver.ts';

const FIXTURES = path.join(import.meta.dirname, '..', 'fixtures', 'opencode');
const CAPS = { model: 200, project: 50, user: 200, tool: 100, mcp_server: 50, series: 20_000 };
const NAMES = readdirSync(FIXTURES)
  .filter((name) => name.endsWith('.jsonl'))
  .map((name) => name.slice(0, -'.jsonl'.length));
/** An attribute that may be sent: any other is a leak until somebody looked at it. */
const ATTRIBUTE =
  /^(gen_ai\.(operation\.name|provider\.name|request\.model|conversation\.id|agent\.name|tool\.(name|call\.id|type)|usage\.((input|output)_tokens|cache_(read|creation)\.input_tokens|reasoning\.output_tokens))|error\.type|toll\.(agent|provider|upstream_provider|account|project|team|user|pricing|status|duration_ms|mcp_server|cost\.(usd|estimated_usd)|run\.(calls|tool_calls|cost\.usd)))$/;

const bodiesOf = (name: string): { t: number; body: string }[] =>
  readFileSync(path.join(FIXTURES, `${name}.jsonl`), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
    .filter(({ complete, content_length }) => complete && content_length > 0);

async function startExport(t: TestContext, now?: () => number) {
  const receiver = await OtlpReceiver.start(t);
  const dropped: Record<string, number> = {};
  const to = (signal: string) => ({
    endpoint: receiver.url,
    url: `${receiver.url}/v1/${signal}`,
    key: 'otlp',
    headers: {},
  });
  const runs = new RunExport({
    ...{ traces: to('traces'), logs: to('logs'), log: readableLog().log, ...(now && { now }) },
    meter: {
      exported: () => {},
      dropped: (signal, reason, records) => {
        dropped[`${signal} ${reason}`] = (dropped[`${signal} ${reason}`] ?? 0) + records;
      },
    },
  });
  t.after(() => runs.stop());
  return { receiver, runs, dropped };
}

/** Books a recording of OpenCode in a ledger of its own and tells it. */
async function told(t: TestContext, name: string, order: <T>(items: T[]) => T[] = (items) => items) {
  const bodies = bodiesOf(name);
  const now = () => bodies.at(-1)!.t + 1000;
  const { receiver, runs, dropped } = await startExport(t, now);
  const ledger = Ledger.open({
    ...{ file: path.join(temporaryFolder(t), 'ledger.db'), timeZone: 'UTC', retentionMs: 90 * 86_400_000, caps: CAPS },
    ...{ log: readableLog().log, now },
  });
  t.after(() => ledger.close());
  const attribution = new Attribution({ gateways: {}, pricing: new Pricing([]), accounts: [], project: 'name' });
  const sink = new LedgerSink({ ledger, attribution, onBooked: (events, bookings) => runs.booked(events, bookings) });
  for (const { body } of order(bodies)) {
    const items = decodeHook('opencode', JSON.parse(body), {}).flatMap((item) => (item.type === 'event' ? [item] : []));
    await sink.submit([{ items, identity: {} }]);
  }
  await runs.stop();
  return { spans: sentSpans(receiver), records: sentRecords(receiver), counted: countedBy(ledger), receiver, dropped };
}

const named = (spans: readonly SentSpan[], begin: string) => spans.filter(({ name }) => name.startsWith(begin));
const sumOf = (spans: readonly { attributes: Readonly<Record<string, unknown>> }[], key: string) =>
  spans.reduce((sum, { attributes }) => sum + Number(attributes[key] ?? 0), 0);
const nano = (usd: number) => Math.round(usd * 1e9);

function assertWorth(spans: readonly SentSpan[], counted: ReturnType<typeof countedBy>): void {
  const calls = named(spans, 'chat ');
  const [input, output, reasoning, cacheRead, cacheWrite] = counted.metered;
  assert.equal(calls.length, counted.turns);
  assert.equal(new Set(spans.map(({ spanId }) => spanId)).size, spans.length, 'every span once');
  assert.equal(sumOf(calls, 'gen_ai.usage.input_tokens'), input! + cacheRead! + cacheWrite!);
  assert.equal(sumOf(calls, 'gen_ai.usage.output_tokens'), output! + reasoning!);
  assert.equal(sumOf(calls, 'gen_ai.usage.cache_read.input_tokens'), cacheRead);
  assert.equal(sumOf(calls, 'gen_ai.usage.cache_creation.input_tokens'), cacheWrite);
  assert.equal(sumOf(calls, 'gen_ai.usage.reasoning.output_tokens'), reasoning);
  assert.equal(nano(sumOf(calls, 'toll.cost.usd')), counted.costNano);
  assert.equal(nano(sumOf(named(spans, 'invoke_agent '), 'toll.run.cost.usd')), counted.costNano);
}

function assertWellFormed(spans: readonly SentSpan[]): void {
  const byId = new Map(spans.map((span) => [span.spanId, span]));
  for (const span of spans) {
    assert.match(span.traceId, /^[0-9a-f]{32}$/);
    assert.ok(span.startMs <= span.endMs, span.name);
    for (const key of Object.keys(span.attributes)) assert.match(key, ATTRIBUTE);
    if (span.parentSpanId === '') continue;
    const parent = byId.get(span.parentSpanId);
    assert.ok(parent, `${span.name} hangs below nothing`);
    assert.equal(parent.traceId, span.traceId);
    assert.ok(parent.startMs <= span.startMs, `${span.name} begins before ${parent.name}`);
  }
}

describe('a recorded run of OpenCode', () => {
  for (const name of NAMES) {
    it(`${name}: is told once, worth what it was worth, without a word of it`, async (t) => {
      const { spans, records, counted, receiver, dropped } = await told(t, name);
      assertWorth(spans, counted);
      assertWellFormed(spans);
      const calls = named(spans, 'chat ');
      assert.deepEqual(
        records.map(({ event, spanId }) => [event, spanId]).sort(),
        calls.map(({ spanId }) => ['toll.turn', spanId]).sort(),
      );
      for (const { attributes } of records) for (const key of Object.keys(attributes)) assert.match(key, ATTRIBUTE);
      assert.deepEqual(dropped, {});
      const again = await told(t, name);
      assert.deepEqual(again.spans, spans, 'the same spans, to the last id and attribute');
      const sent = Buffer.concat(receiver.posts.map(({ body }) => body)).toString('latin1');
      assert.doesNotMatch(sent, /CANARY|\/tmp\/|\/home\/|from-subagent|prompt/i);
    });
  }

  it('puts a sub-agent below the call that started it', async (t) => {
    const { spans } = await told(t, 'g-task');
    assert.equal(new Set(spans.map(({ traceId }) => traceId)).size, 1);
    assert.deepEqual(drawn(spans), [
      'invoke_agent opencode',
      '  chat mock-a',
      '    execute_tool task',
      '    invoke_agent opencode',
      '      chat mock-a',
      '        execute_tool bash',
      '      chat mock-a',
      '  chat mock-a',
    ]);
    const sessions = new Set(
      named(spans, 'invoke_agent').map(({ attributes }) => attributes['gen_ai.conversation.id']),
    );
    assert.equal(sessions.size, 2);
    const [root] = spans.filter(({ parentSpanId }) => parentSpanId === '');
    assert.equal(root!.startMs, Math.min(...named(spans, 'chat').map(({ startMs }) => startMs)));
    assert.equal(root!.endMs, Math.max(...spans.map(({ endMs }) => endMs)));
  });

  it('gives each prompt of a session a trace of its own', async (t) => {
    const { spans } = await told(t, 'c-multiturn');
    const roots = spans.filter(({ parentSpanId }) => parentSpanId === '');
    assert.ok(roots.length > 1);
    assert.equal(new Set(roots.map(({ traceId }) => traceId)).size, roots.length);
    assert.equal(new Set(roots.map(({ attributes }) => attributes['gen_ai.conversation.id'])).size, 1);
  });

  it('tells failures and what a user stopped', async (t) => {
    const failed = await told(t, 'e-errors-4xx');
    const calls = named(failed.spans, 'chat ').filter((span) => span.failed);
    assert.ok(calls.length > 0);
    for (const { attributes } of calls) assert.match(String(attributes['error.type']), /^[a-z_]+$/);
    assert.equal(failed.records.filter(({ severity }) => severity === 'ERROR').length, calls.length);
    const stopped = await told(t, 'f-abort-stream');
    const aborted = named(stopped.spans, 'chat ').filter(({ attributes }) => attributes['error.type'] === 'aborted');
    assert.ok(aborted.length > 0);
    assert.ok(
      aborted.every(({ failed }) => !failed),
      'which is no failure',
    );
  });
});

describe('a recorded run of another agent', () => {
  for (const { name, posts, expected } of recordings().filter(({ name }) => !name.startsWith('oc-'))) {
    it(`${name}: is told once, with the ids of the first time`, async (t) => {
      // As long after the recording as telling takes.
      const times = JSON.stringify(posts).match(/"(?:observedTimeUnixNano|timeUnixNano)":"(\d{19})"/g) ?? [];
      const now = () => Math.max(...times.map((text) => Number(text.replace(/\D/g, '').slice(0, 13))), 0);
      const play = async (encode: typeof inJson) => {
        const { receiver, runs } = await startExport(t, now);
        const { url, ledger } = await startOtlp(t, { onBooked: (events, bookings) => runs.booked(events, bookings) });
        for (const { path: to, body } of [...posts, ...posts]) {
          if (to !== '/v1/metrics') assert.equal((await send(url, encode(to, body))).status, 200);
        }
        await runs.stop();
        return { receiver, spans: sentSpans(receiver), records: sentRecords(receiver), counted: countedBy(ledger) };
      };
      const { receiver, spans, records, counted } = await play(inJson);
      const calls = named(spans, 'chat ');
      assert.equal(calls.length, expected.turns);
      assert.equal(sumOf(calls, 'gen_ai.usage.output_tokens'), counted.metered[1]! + counted.metered[2]!);
      assert.equal(nano(sumOf(calls, 'toll.cost.usd')), counted.costNano);
      assert.equal(named(spans, 'execute_tool ').length, expected.tools);
      assert.equal(records.filter(({ event }) => event === 'toll.error').length, expected.errors);
      assertWellFormed(spans);
      const sent = Buffer.concat(receiver.posts.map(({ body }) => body)).toString('latin1');
      assert.ok(!sent.includes(CANARY));
      assert.deepEqual((await play(inProtobuf)).spans, spans);
    });
  }
});
