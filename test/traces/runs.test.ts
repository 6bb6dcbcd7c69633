// Runs as they grow, beyond what recordings show: when they end, what comes early, late, twice or never, and how much is
// remembered of it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Runs } from '../../src/traces/runs.ts';
import type { LogRecord, Span } from '../../src/traces/telling.ts';
import type { Booking, MeterEvent, SessionEvent, ToolEvent, TurnEvent } from '../../src/turn/turn-event.ts';

const START_MS = Date.UTC(2026, 0, 5, 12);
const RECORDED: Booking = { outcome: { type: 'recorded' } };

const turn = (messageId: string, changes: Partial<TurnEvent> = {}): TurnEvent => ({
  ...{ kind: 'turn', agent: 'opencode', sessionId: 's', messageId, promptId: 'p', phase: 'completed', status: 'ok' },
  ...{ startedMs: START_MS, completedMs: START_MS + 1000, provider: 'anthropic', model: 'm' },
  ...{ upstreamProvider: 'anthropic', upstreamEvidence: 'direct', pricing: 'stated', costNano: 1_000_000 },
  tokens: { input: 1, output: 2, reasoning: 3, cache_read: 4, cache_write: 5 },
  ...changes,
});
const tool = (callId: string, changes: Partial<ToolEvent> = {}): ToolEvent => ({
  ...{
    kind: 'tool',
    agent: 'opencode',
    sessionId: 's',
    callId,
    messageId: 'm1',
    tool: 'bash',
    status: 'ok',
    origin: 'part',
  },
  ...{ startedMs: START_MS + 100, completedMs: START_MS + 200 },
  ...changes,
});

function stage() {
  const spans: Span[] = [];
  const records: LogRecord[] = [];
  const dropped: string[] = [];
  const clock = { nowMs: START_MS + 2000 };
  const runs = new Runs({
    span: (span) => spans.push(span),
    record: (record) => records.push(record),
    onDropped: (what, reason) => dropped.push(`${what} ${reason}`),
    now: () => clock.nowMs,
  });
  const book = (event: MeterEvent, booking = RECORDED) => runs.booked([event], [booking]);
  const told = () => spans.splice(0).map(({ name }) => name);
  return { runs, spans, records, dropped, clock, book, told };
}

test('a run is told once it was quiet for a minute, or when the next one begins, and only once', () => {
  const { runs, clock, book, told } = stage();
  book(turn('m1'));
  assert.deepEqual(told(), ['chat m']);
  clock.nowMs += 59_000;
  runs.sweep();
  assert.deepEqual(told(), [], 'it may go on');
  clock.nowMs += 1_000;
  runs.sweep();
  assert.deepEqual(told(), ['invoke_agent opencode']);
  book(turn('m2'));
  runs.endAll();
  assert.deepEqual(told(), ['chat m'], 'a late call is told, its run not again');
  book(turn('m3', { promptId: 'p2' }));
  book(turn('m4', { promptId: 'p3' }));
  assert.deepEqual(told(), ['chat m', 'invoke_agent opencode', 'chat m']);
});

test('a run with a call under way goes on, until nobody believes in it any more', () => {
  const { runs, clock, book, told } = stage();
  book(turn('m1', { phase: 'in_progress' }));
  book(turn('m1', { phase: 'in_progress' }), { outcome: { type: 'updated' } });
  clock.nowMs += 10 * 60_000;
  runs.sweep();
  assert.deepEqual(told(), []);
  book(turn('m1', { completedMs: clock.nowMs }));
  clock.nowMs += 60_000;
  runs.sweep();
  assert.deepEqual(told(), ['chat m', 'invoke_agent opencode']);
  book(turn('m2', { promptId: 'p2', phase: 'in_progress' }));
  clock.nowMs += 3_600_000;
  runs.sweep();
  book(turn('m3', { promptId: 'p3', startedMs: clock.nowMs, completedMs: clock.nowMs }));
  runs.endAll();
  assert.deepEqual(told(), ['chat m', 'invoke_agent opencode'], 'what never had a call that ended is no run');
});

test('a call that finished and is never said to be completed is told when it counts, and once more when it is', () => {
  const { runs, spans, records, clock, book, told } = stage();
  const { completedMs: _, ...finished } = turn('m1', { phase: 'finished' });
  book(finished);
  clock.nowMs += 59_000;
  runs.sweep();
  assert.equal(records.length, 0, 'it may be completed yet');
  clock.nowMs += 1_000;
  runs.sweep();
  assert.deepEqual(told(), ['chat m']);
  assert.equal(records.splice(0).length, 1);
  book(turn('m1', { costNano: 3_000_000 }), { outcome: { type: 'updated' } });
  clock.nowMs += 60_000;
  runs.sweep();
  assert.equal(records.length, 1);
  const run = spans.at(-1)!;
  assert.deepEqual(told(), ['chat m', 'invoke_agent opencode']);
  assert.equal(run.attributes['toll.run.calls'], 1);
  assert.equal(run.attributes['toll.run.cost.usd'], 0.003);
  book({ ...finished, messageId: 'm2', promptId: 'p2' });
  runs.endAll();
  assert.deepEqual(told(), ['chat m', 'invoke_agent opencode'], 'at the end it is told too');
});

test('what is dated ahead is dated by receipt, and what no clock can have measured has no duration', () => {
  const { runs, spans, records, clock, book } = stage();
  const day = 86_400_000;
  const ahead = { startedMs: clock.nowMs + day - 1000, completedMs: clock.nowMs + day };
  book(turn('m1', ahead));
  book(tool('c1', ahead));
  book(turn('m2', { startedMs: START_MS - 2000 * day }));
  book({
    ...{ kind: 'error', agent: 'opencode', sessionId: 's', attemptId: 'a', failedMs: clock.nowMs + day },
    ...{ provider: 'anthropic', model: 'm', upstreamProvider: 'anthropic', reason: 'other' },
  });
  runs.endAll();
  const ms = ([s, ns]: readonly [number, number]) => s * 1000 + ns / 1e6;
  for (const { name, startTime, endTime } of spans) {
    assert.ok(ms(endTime) <= clock.nowMs, `${name} ends ahead`);
    assert.ok(ms(endTime) - ms(startTime) <= day, `${name} lasts too long`);
  }
  assert.ok(records.every(({ hrTime }) => ms(hrTime) <= clock.nowMs));
  assert.deepEqual(
    records.map(({ attributes }) => attributes['toll.duration_ms']),
    [1000, undefined, undefined],
  );
});

test('what is told again is told under the same id, and counted in its run once', () => {
  const { runs, spans, book } = stage();
  book(turn('m1'));
  book(turn('m1', { costNano: 3_000_000 }), { outcome: { type: 'updated' } });
  book(turn('m1', { costNano: 3_000_000 }), { outcome: { type: 'duplicate' } });
  runs.endAll();
  const [first, second, run, ...more] = spans;
  assert.deepEqual(more, []);
  assert.equal(first!.spanContext().spanId, second!.spanContext().spanId);
  assert.equal(run!.attributes['toll.run.calls'], 1);
  assert.equal(run!.attributes['toll.run.cost.usd'], 0.003);
});

test('a tool that comes before the call which asked for it waits for it', () => {
  const { runs, spans, dropped, book } = stage();
  book(tool('c1'));
  book(tool('c2', { messageId: 'never' }));
  book(tool('c3', { origin: 'hook' }));
  assert.equal(spans.length, 0);
  book(turn('m1'));
  const [execute, chat] = spans;
  assert.equal(execute!.name, 'execute_tool bash');
  assert.equal(execute!.parentSpanContext!.spanId, chat!.spanContext().spanId);
  assert.equal(execute!.spanContext().traceId, chat!.spanContext().traceId);
  runs.endAll();
  assert.deepEqual(dropped, ['span no_turn']);
});

test('a tool of an unnamed call hangs below its prompt, and of neither is not told', () => {
  const { spans, dropped, book } = stage();
  book(turn('m1'));
  const { messageId: _, ...unnamed } = tool('c1');
  book({ ...unnamed, promptId: 'p' });
  book({ ...unnamed, callId: 'c2' });
  assert.deepEqual(
    spans.map(({ name }) => name),
    ['chat m', 'execute_tool bash'],
  );
  const [chat, execute] = spans;
  assert.equal(execute!.parentSpanContext!.spanId, chat!.parentSpanContext!.spanId);
  assert.deepEqual(dropped, ['span no_turn']);
});

test('a sub-agent of the same session has a run below the prompt’s', () => {
  const { runs, spans, book } = stage();
  book(turn('m1'));
  book(turn('m2', { subagentId: 'a1' }));
  runs.endAll();
  const byName = (name: string) => spans.filter((span) => span.name === name);
  const isMain = (span: Span) => span.parentSpanContext === undefined;
  const main = byName('invoke_agent opencode').find(isMain);
  const sub = byName('invoke_agent opencode').find((span) => !isMain(span));
  assert.equal(sub!.parentSpanContext!.spanId, main!.spanContext().spanId);
  const parents = byName('chat m').map((span) => span.parentSpanContext!.spanId);
  assert.deepEqual(parents, [main!.spanContext().spanId, sub!.spanContext().spanId]);
});

test('a session that another one started stays where it began', () => {
  const { spans, book } = stage();
  const child: SessionEvent = { kind: 'session', agent: 'opencode', sessionId: 'child', parentSessionId: 's' };
  book(turn('m1', { phase: 'in_progress' }));
  book(child);
  book(turn('m2', { phase: 'in_progress', startedMs: START_MS + 5000 }));
  book(child, { outcome: { type: 'duplicate' } });
  book(turn('m3', { sessionId: 'child', promptId: 'p9' }));
  book(turn('m1'));
  const [inChild, starter] = spans;
  assert.equal(inChild!.spanContext().traceId, starter!.spanContext().traceId);
  const orphan = stage();
  orphan.book(child);
  orphan.book(turn('m3', { sessionId: 'child', promptId: 'p9' }));
  assert.notEqual(orphan.spans[0]!.spanContext().traceId, inChild!.spanContext().traceId, 'control: nothing known');
});

test('a call without a prompt is a trace of its own', () => {
  const { runs, spans, book } = stage();
  const { promptId: _, ...titled } = turn('span:1:2');
  book(titled);
  book(turn('m1'));
  runs.endAll();
  assert.deepEqual(
    spans.map(({ name, parentSpanContext }) => [name, parentSpanContext !== undefined]),
    [
      ['chat m', false],
      ['chat m', true],
      ['invoke_agent opencode', false],
    ],
  );
  assert.notEqual(spans[0]!.spanContext().traceId, spans[1]!.spanContext().traceId);
});

test('what was refused, ignored or is history is not told', () => {
  const { spans, records, dropped, book } = stage();
  book(turn('m1'), { outcome: { type: 'rejected', reason: 'too_late', detail: '' } });
  book(turn('m2'), { outcome: { type: 'duplicate' } });
  const longAgo = { startedMs: START_MS - 25 * 3_600_000, completedMs: START_MS - 25 * 3_600_000 };
  book(turn('m3', longAgo));
  book(tool('c1', longAgo));
  assert.deepEqual([spans, records], [[], []]);
  assert.deepEqual(dropped, ['span too_old', 'record too_old', 'span too_old']);
});

test('a stranger who invents sessions, prompts, calls and tools without end is not remembered without end', () => {
  const { runs, clock, dropped, book, spans } = stage();
  const began = process.memoryUsage().heapUsed;
  const rounds = 60_000;
  for (let n = 0; n < rounds; n += 1) {
    book(turn(`m${n}`, { sessionId: `s${n}`, promptId: `p${n}` }));
    book(tool(`c${n}`, { messageId: n % 2 ? 'one' : `none${n}` }));
    if (n % 1000 === 0) spans.length = 0;
  }
  spans.length = 0;
  assert.ok(process.memoryUsage().heapUsed - began < 200 * 1024 * 1024);
  clock.nowMs += 60_000;
  runs.endAll();
  assert.equal(spans.length, 10_000, 'the runs that were still known');
  assert.equal(dropped.length, rounds, 'and each tool is accounted for');
});

test('what is told is the turn as it was booked, whatever was stated', () => {
  const { spans, records, book } = stage();
  book(turn('m1', { project: 'shop', account: 'a' }));
  const others = { project: 'other', model: 'n', provider: 'x', upstreamProvider: 'y', team: 'core', user: 'bo' };
  const booked = turn('m1', { project: 'shop', account: 'a', costNano: 3_000_000 });
  book(turn('m1', { ...others, costNano: 3_000_000 }), { outcome: { type: 'updated' }, turns: [booked] });
  const cost = { 'toll.cost.usd': 0.003 };
  assert.deepEqual(spans[1]!.attributes, { ...spans[0]!.attributes, ...cost });
  assert.deepEqual(records[1]!.attributes, { ...records[0]!.attributes, ...cost });
  assert.equal(spans[1]!.name, 'chat m');
});

test('a provider has the name that the conventions list for it, under each of its ids', () => {
  const { spans, book } = stage();
  const ids = ['anthropic', 'moonshotai', 'moonshotai-cn', 'mistral', 'xai', 'watsonx', 'google', 'google-vertex'];
  const hosts = ['amazon-bedrock', 'azure', 'azure-cognitive-services', 'openrouter', 'constructor'];
  for (const provider of [...ids, ...hosts]) book(turn(provider, { provider }));
  assert.deepEqual(
    spans.map(({ attributes }) => attributes['gen_ai.provider.name']),
    [
      ...['anthropic', 'moonshot_ai', 'moonshot_ai', 'mistral_ai', 'x_ai', 'ibm.watsonx.ai', 'gcp.gemini'],
      ...['gcp.vertex_ai', 'aws.bedrock', 'azure.ai.openai', 'azure.ai.openai', 'openrouter', 'constructor'],
    ],
  );
});

test('turns of two owners are never one trace, whatever their agents call session and prompt', () => {
  const { runs, spans, book } = stage();
  const [ana, bo] = [
    { team: 'core', user: 'ana' },
    { team: 'web', user: 'bo' },
  ];
  book(turn('m1', ana));
  book(turn('m2', { ...bo, startedMs: START_MS + 10 }));
  book(turn('m3', ana));
  book({ kind: 'session', agent: 'opencode', sessionId: 'child', parentSessionId: 's' });
  book(turn('m4', { ...ana, sessionId: 'child', promptId: undefined! }));
  runs.endAll();
  const teams = new Map<string, Set<unknown>>();
  for (const span of spans) {
    const { traceId } = span.spanContext();
    teams.set(traceId, (teams.get(traceId) ?? new Set()).add(span.attributes['toll.team']));
  }
  assert.ok(teams.size > 1 && [...teams.values()].every(({ size }) => size === 1));
  const costs = spans.flatMap(({ attributes }) => {
    const cost = attributes['toll.run.cost.usd'];
    return cost === undefined ? [] : [[attributes['toll.user'], cost]];
  });
  assert.deepEqual(costs.sort(), [
    ['ana', 0.002],
    ['bo', 0.001],
  ]);
});

test('a session is never below itself', () => {
  const { runs, spans, book } = stage();
  const session = (sessionId: string, parentSessionId: string): SessionEvent => ({
    ...{ kind: 'session', agent: 'opencode', sessionId, parentSessionId },
  });
  book(turn('m1'));
  book(session('s', 's'));
  book(session('child', 's'));
  book(turn('m2', { sessionId: 'child' }));
  book(session('s', 'child'));
  book(turn('m3', { promptId: 'p2' }));
  runs.endAll();
  const roots = spans.filter(({ parentSpanContext }) => parentSpanContext === undefined);
  assert.deepEqual(
    roots.map(({ attributes }) => [attributes['gen_ai.conversation.id'], attributes['toll.run.calls']]),
    [
      ['s', 1],
      ['s', 1],
    ],
  );
  assert.equal(new Set(roots.map((span) => span.spanContext().traceId)).size, 2);
});

test('what comes out of order ends no later run, and a run has failed as its last call has', () => {
  const { runs, spans, book } = stage();
  book(turn('m3', { promptId: 'p2', startedMs: START_MS + 300 }));
  book(turn('m2', { startedMs: START_MS + 100 }));
  book(turn('m1', { status: 'error', reason: 'network' }));
  book(turn('m4', { promptId: 'p2', startedMs: START_MS + 400 }));
  runs.endAll();
  const told = spans.filter(({ name }) => name.startsWith('invoke_agent'));
  assert.deepEqual(
    told.map(({ attributes }) => [attributes['toll.run.calls'], attributes['error.type']]),
    [
      [2, undefined],
      [2, undefined],
    ],
  );
});

test('a cost that is taken back is not in the sum of its run', () => {
  const { runs, spans, book } = stage();
  book(turn('m1'));
  book(turn('m2', { costNano: 5_000_000 }));
  const { costNano: _, ...unpriced } = turn('m2', { pricing: 'unknown' });
  book(unpriced, { outcome: { type: 'updated' } });
  runs.endAll();
  assert.equal(spans.at(-1)!.attributes['toll.run.cost.usd'], 0.001);
});

test('a turn that began under another credential belongs to the one that it is counted for', () => {
  const { runs, spans, clock, book } = stage();
  book(turn('m1', { team: 'web' }));
  book(turn('m2', { team: 'web', phase: 'in_progress' }));
  book(turn('m2', { team: 'core' }), { outcome: { type: 'updated' } });
  clock.nowMs += 60_000;
  runs.sweep();
  const sums = spans.flatMap(({ attributes }) =>
    attributes['toll.run.calls'] === undefined ? [] : [[attributes['toll.team'], attributes['toll.run.cost.usd']]],
  );
  assert.deepEqual(sums, [
    ['web', 0.001],
    ['core', 0.001],
  ]);
});
