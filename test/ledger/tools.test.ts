import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TOLL } from '../../src/metrics/catalogue.ts';
import type { MeterEvent, ToolEvent } from '../../src/turn/turn-event.ts';
import { Bench, labelSets, observed, total, typesOf } from './bench.ts';
import { MINUTE_MS, NOON_MS, SECOND_MS, session, toolHook, toolPart, turn } from './events.ts';

const { toolCalls, toolDuration, sessions } = TOLL;
const servedTurn = turn({ upstreamProvider: 'openai', project: 'bridge' });
const UNDER_TURN = { upstream_provider: 'openai', project: 'bridge' };
const THREE_SECONDS = { count: 1, sum: 3 * SECOND_MS };
const NEVER = { count: 0, sum: 0 };

/** Arrivals at noon; then what is counted before and after 60 s have passed, under which labels. */
const ARRIVALS: Record<
  string,
  {
    events: readonly MeterEvent[];
    outcomes: readonly string[];
    atOnce: number;
    labels?: Record<string, string>;
    duration?: typeof THREE_SECONDS;
  }
> = {
  'a part after its turn': {
    events: [servedTurn, toolPart()],
    outcomes: ['recorded', 'recorded'],
    atOnce: 1,
    labels: UNDER_TURN,
    duration: THREE_SECONDS,
  },
  'a part before its turn': {
    events: [toolPart(), servedTurn],
    outcomes: ['recorded', 'recorded'],
    atOnce: 1,
    labels: UNDER_TURN,
    duration: THREE_SECONDS,
  },
  'a part whose turn is in progress': {
    events: [toolPart(), turn({ phase: 'in_progress', upstreamProvider: 'openai', project: 'bridge' })],
    outcomes: ['recorded', 'recorded'],
    atOnce: 1,
    labels: UNDER_TURN,
    duration: THREE_SECONDS,
  },
  'a part of a turn that never comes': {
    events: [toolPart({ messageId: 'msg_other' }), servedTurn],
    outcomes: ['recorded', 'recorded'],
    atOnce: 0,
    labels: { upstream_provider: 'unknown' },
    duration: THREE_SECONDS,
  },
  'a hook alone, although its session has turns': {
    events: [servedTurn, toolHook()],
    outcomes: ['recorded', 'recorded'],
    atOnce: 0,
    labels: { upstream_provider: 'unknown' },
    duration: NEVER,
  },
  'a hook, then its part': {
    events: [servedTurn, toolHook(), toolPart()],
    outcomes: ['recorded', 'recorded', 'updated'],
    atOnce: 1,
    labels: UNDER_TURN,
    duration: THREE_SECONDS,
  },
  'a part, then its hook': {
    events: [servedTurn, toolPart(), toolHook()],
    outcomes: ['recorded', 'recorded', 'duplicate'],
    atOnce: 1,
    labels: UNDER_TURN,
    duration: THREE_SECONDS,
  },
  'a hook and its part, both before the turn': {
    events: [toolHook(), toolPart(), servedTurn],
    outcomes: ['recorded', 'updated', 'recorded'],
    atOnce: 1,
    labels: UNDER_TURN,
    duration: THREE_SECONDS,
  },
  'everything twice': {
    events: [servedTurn, toolPart(), toolPart(), toolHook(), toolHook(), servedTurn],
    outcomes: ['recorded', 'recorded', 'duplicate', 'duplicate', 'duplicate', 'duplicate'],
    atOnce: 1,
    labels: UNDER_TURN,
    duration: THREE_SECONDS,
  },
  'a hook twice': {
    events: [toolHook(), toolHook()],
    outcomes: ['recorded', 'duplicate'],
    atOnce: 0,
    labels: { upstream_provider: 'unknown' },
    duration: NEVER,
  },
  'a project of its own, when there is no turn': {
    events: [session({ project: 'from-session' }), toolHook({ project: 'from-hook' })],
    outcomes: ['recorded', 'recorded'],
    atOnce: 0,
    labels: { upstream_provider: 'unknown', project: 'from-hook' },
  },
  'the project of its session, when there is nothing else': {
    events: [session({ project: 'from-session' }), toolHook()],
    outcomes: ['recorded', 'recorded'],
    atOnce: 0,
    labels: { upstream_provider: 'unknown', project: 'from-session' },
  },
  'the project that a hook knew, kept by a part that does not': {
    events: [toolHook({ project: 'from-hook' }), toolPart({ messageId: 'msg_other' })],
    outcomes: ['recorded', 'updated'],
    atOnce: 0,
    labels: { upstream_provider: 'unknown', project: 'from-hook' },
  },
  'a failed call of an MCP server': {
    events: [servedTurn, toolPart({ status: 'error', mcpServer: 'github', tool: 'search' })],
    outcomes: ['recorded', 'recorded'],
    atOnce: 1,
    labels: { ...UNDER_TURN, tool: 'search', mcp_server: 'github', status: 'error' },
    duration: THREE_SECONDS,
  },
  'a call that ended before it began': {
    events: [servedTurn, toolPart({ startedMs: NOON_MS, completedMs: NOON_MS - 1 })],
    outcomes: ['recorded', 'recorded'],
    atOnce: 1,
    labels: UNDER_TURN,
    duration: NEVER,
  },
};

describe('a tool call is counted once', () => {
  for (const [name, { events, outcomes, atOnce, labels, duration }] of Object.entries(ARRIVALS)) {
    test(name, async (t) => {
      const bench = new Bench(t);
      const seen: string[] = [];
      for (const event of events) seen.push(...typesOf(await bench.submit(event)));
      assert.deepEqual(seen, outcomes);
      assert.equal(total(bench.ledger, toolCalls), atOnce);
      await bench.settleAt(NOON_MS + 59_999);
      assert.equal(total(bench.ledger, toolCalls), atOnce);
      await bench.settleAt(NOON_MS + 60_000);
      assert.deepEqual(labelSets(bench.ledger, toolCalls), [
        { agent: 'opencode', tool: 'bash', status: 'ok', ...labels },
      ]);
      assert.equal(total(bench.ledger, toolCalls), 1);
      if (duration) assert.deepEqual(observed(bench.ledger, toolDuration), duration);

      // Whatever comes again, later and after a restart, changes nothing.
      bench.reopen();
      await bench.submit(...events);
      await bench.settleAt(NOON_MS + 10 * MINUTE_MS);
      assert.equal(total(bench.ledger, toolCalls), 1);
    });
  }

  test('a part that comes when its hook was already counted under unknown moves nothing', async (t) => {
    const bench = new Bench(t);
    await bench.submit(servedTurn, toolHook());
    await bench.settleAt(NOON_MS + MINUTE_MS);
    assert.deepEqual(typesOf(await bench.submit(toolPart())), ['updated']);
    assert.deepEqual(
      labelSets(bench.ledger, toolCalls).map((labels) => labels.upstream_provider),
      ['unknown'],
    );
    assert.equal(total(bench.ledger, toolCalls), 1);
  });

  test('calls are told apart by session and call id, and by agent', async (t) => {
    const bench = new Bench(t);
    const others: Partial<ToolEvent>[] = [{}, { callId: 'call_2' }, { sessionId: 'ses_2' }, { agent: 'codex' }];
    await bench.submit(...others.map((other) => toolPart(other)));
    await bench.settleAt(NOON_MS + MINUTE_MS);
    assert.equal(total(bench.ledger, toolCalls), 4);
    assert.equal(bench.ledger.health().toolCalls, 4);
  });

  test('a held call survives a restart and waits for its turn', async (t) => {
    const bench = new Bench(t);
    await bench.submit(toolPart());
    bench.reopen();
    assert.equal(total(bench.ledger, toolCalls), 0);
    await bench.submit(servedTurn);
    assert.equal(total(bench.ledger, toolCalls, UNDER_TURN), 1);
  });

  test('any number of held calls is settled', async (t) => {
    const bench = new Bench(t);
    await bench.submit(...Array.from({ length: 2500 }, (_, at) => toolHook({ callId: `call_${at}` })));
    await bench.settleAt(NOON_MS + MINUTE_MS);
    assert.equal(total(bench.ledger, toolCalls), 2500);
  });
});

describe('a session', () => {
  test('is counted once per agent and id, forks included, under its project', async (t) => {
    const bench = new Bench(t);
    const booked = await bench.submit(
      session({ project: 'a' }),
      session({ project: 'b' }),
      session(),
      session({ sessionId: 'ses_fork', project: 'a' }),
      session({ agent: 'codex' }),
    );
    assert.deepEqual(typesOf(booked), ['recorded', 'duplicate', 'duplicate', 'recorded', 'recorded']);
    assert.equal(total(bench.ledger, sessions), 3);
    assert.equal(total(bench.ledger, sessions, { project: 'a' }), 2);
    assert.deepEqual(labelSets(bench.ledger, sessions).at(-1), { agent: 'codex' });
    bench.reopen();
    assert.deepEqual(typesOf(await bench.submit(session())), ['duplicate']);
    assert.equal(total(bench.ledger, sessions), 3);
  });
});
