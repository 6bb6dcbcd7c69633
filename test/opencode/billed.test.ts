// The measure itself: it must see every difference that it is there to find.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertBilled, assertConserved, truthOf } from './billed.ts';
import type { BilledCall } from './mock-llm.ts';

const tokens = { input: 1000, output: 50, reasoning: 20, cache_read: 300, cache_write: 40 };
const bash = { tool: 'bash', args: {} };
const turn: BilledCall = { provider: 'p', model: 'm', purpose: 'turn', outcome: 'billed', tokens, tools: [bash] };
const calls: BilledCall[] = [
  turn,
  { ...turn, purpose: 'title' },
  { ...turn, outcome: 'refused', tools: [] },
  { ...turn, outcome: 'left', tools: [] },
  { ...turn, tools: [{ ...bash, status: 'aborted' }] },
];
const METRICS = `# HELP toll_cost_usd_total Cost.
toll_cost_usd_total{provider="p",model="m",project="a"} 0.0043
toll_cost_usd_total{provider="p",model="m",project="a \\"b\\", c"} 0.00005
toll_cost_corrections_usd_total{provider="p",model="m"} 0.00006
toll_tokens_total{provider="p",model="m",token_type="input"} 1001
toll_tokens_corrections_total{provider="p",model="m",token_type="input"} 1
toll_tokens_total{provider="p",model="m",token_type="output"} 50
toll_tokens_total{provider="p",model="m",token_type="reasoning"} 20
toll_tokens_total{provider="p",model="m",token_type="cache_read"} 300
toll_tokens_total{provider="p",model="m",token_type="cache_write"} 40
toll_tokens_total{provider="p",model="never-used",token_type="input"} 0
toll_turns_total{provider="p",model="m",status="ok"} 1
toll_turns_total{provider="p",model="m",status="error"} 1
toll_turns_total{provider="p",model="m",status="aborted"} 2
toll_tool_calls_total{tool="bash",status="ok"} 1
toll_tool_calls_total{tool="bash",status="aborted"} 1
`;

test('it agrees with a scrape that shows the bill, net of corrections and summed over other labels', () => {
  // 1000 × 3 + (50 + 20) × 15 + 300 × 0.3 + 40 × 3.75 = 4290 millionths of a dollar.
  assert.deepEqual(truthOf(calls).costNano, { 'p/m': 4_290_000 });
  assertBilled(METRICS, truthOf(calls));
});

for (const [what, from, to] of [
  ['a nano-dollar', '0.0043', '0.004300001'],
  ['a token', '"output"} 50', '"output"} 51'],
  ['a turn', 'status="error"} 1', 'status="error"} 2'],
  [
    'a turn of another model',
    'toll_turns_total{provider="p",model="m",status="ok"} 1',
    'toll_turns_total{provider="p",model="x",status="ok"} 1',
  ],
  ['a tool call', 'toll_tool_calls_total{tool="bash",status="aborted"} 1', ''],
] as const) {
  test(`it sees a difference of ${what}`, () => {
    assert.ok(METRICS.includes(from));
    assert.throws(() => assertBilled(METRICS.replace(from, to), truthOf(calls)), assert.AssertionError);
  });
}

test('it sees an event that is not accounted for, and one that was refused', () => {
  const events = (received: number, rejected: number) => `
tollbridge_events_received_total{source="socket"} ${received}
tollbridge_events_recorded_total{source="socket"} 2
tollbridge_events_ignored_total{source="socket",kind="session"} 1
tollbridge_events_rejected_total{source="socket",reason="wrong_type"} ${rejected}`;
  assertConserved(events(3, 0));
  assert.throws(() => assertConserved(events(4, 0)), /events of socket/);
  assert.throws(() => assertConserved(events(4, 1)), /rejected from socket: wrong_type/);
  assert.throws(() => assertConserved(''), /something was received/);
});
