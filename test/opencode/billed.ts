// What the provider billed, what the bridge shows, and that they are the same to the last nano-dollar and token.

import assert from 'node:assert/strict';
import { TOKEN_TYPES, type TokenType, type TurnStatus } from '../../src/turn/turn-event.ts';
import { eventsBy, type Shown, samplesOf, shownBy } from '../scrape.ts';
import { PRICES } from './drive.ts';
import type { BilledCall } from './mock-llm.ts';

const NANO_PER_TOKEN: Record<TokenType, number> = {
  input: PRICES.input * 1000,
  output: PRICES.output * 1000,
  // OpenCode charges reasoning as output.
  reasoning: PRICES.output * 1000,
  cache_read: PRICES.cache_read * 1000,
  cache_write: PRICES.cache_write * 1000,
};

/** What a meter shows, but for sessions, which nobody bills. */
export type Billed = Omit<Shown, 'sessions'>;

function add(sums: Record<string, number>, key: string, value: number): void {
  if (value !== 0) sums[key] = (sums[key] ?? 0) + value;
}

function endOf(call: BilledCall): TurnStatus {
  if (call.outcome === 'refused') return 'error';
  return call.outcome === 'left' || call.tools.some((tool) => tool.status === 'aborted') ? 'aborted' : 'ok';
}

/**
 * What a correct meter shows for these calls. Left out is only what OpenCode itself never reports: the calls that make
 * a title, and the tokens of a turn that the user stopped, even where its step had already been billed.
 */
export function truthOf(calls: readonly BilledCall[]): Billed {
  const truth: Billed = { costNano: {}, tokens: {}, turns: {}, toolCalls: {} };
  for (const call of calls) {
    if (call.purpose === 'title') continue;
    assert.notEqual(call.outcome, 'open', 'every call to the provider has ended');
    const name = `${call.provider}/${call.model}`;
    const end = endOf(call);
    add(truth.turns, `${name} ${end}`, 1);
    for (const tool of call.tools) add(truth.toolCalls, `${tool.tool} ${tool.status ?? 'ok'}`, 1);
    if (end !== 'ok') continue;
    for (const type of TOKEN_TYPES) {
      add(truth.tokens, `${name} ${type}`, call.tokens[type]);
      add(truth.costNano, name, Math.round(call.tokens[type] * NANO_PER_TOKEN[type]));
    }
  }
  return truth;
}

/** Net cost, tokens by type, turns by status and tool calls by status are exactly what was billed. */
export function assertBilled(metricsText: string, truth: Billed): void {
  const { costNano, tokens, turns, toolCalls } = shownBy(metricsText);
  assert.deepEqual({ costNano, tokens, turns, toolCalls }, truth);
}

/** Every event that came in is accounted for, and none was refused. */
export function assertConserved(metricsText: string): void {
  for (const { name, labels, value } of samplesOf(metricsText)) {
    if (name !== 'tollbridge_events_rejected_total') continue;
    assert.equal(value, 0, `rejected from ${labels.source}: ${labels.reason}`);
  }
  const sources = Object.entries(eventsBy(metricsText));
  assert.ok(
    sources.some(([, { received = 0 }]) => received > 0),
    'something was received',
  );
  for (const [source, { received = 0, ...outcomes }] of sources) {
    const booked = Object.values(outcomes).reduce((sum, count) => sum + count, 0);
    assert.equal(booked, received, `events of ${source}`);
  }
}
