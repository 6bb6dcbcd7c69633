// What the provider billed, what the bridge shows, and that they are the same to the last nano-dollar and token.

import assert from 'node:assert/strict';
import { TOKEN_TYPES, type TokenType, type TurnStatus } from '../../src/turn/turn-event.ts';
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

/** Sums by what the keys say: `provider/model` for money, with the token type or status behind it for the others. */
export interface Billed {
  readonly costNano: Record<string, number>;
  readonly tokens: Record<string, number>;
  readonly turns: Record<string, number>;
  /** By `tool status`. */
  readonly toolCalls: Record<string, number>;
}

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

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The samples of a Prometheus text. */
function samplesOf(metricsText: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of metricsText.split('\n')) {
    const match = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const labels: Record<string, string> = {};
    for (const [, key, value] of (match[2] ?? '').matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
      labels[key as string] = value as string;
    }
    samples.push({ name: match[1] as string, labels, value: Number(match[3]) });
  }
  return samples;
}

/** What a scrape says, in the units of `truthOf`: net of corrections, summed over all other labels. */
function shownBy(metricsText: string): Billed {
  const shown: Billed = { costNano: {}, tokens: {}, turns: {}, toolCalls: {} };
  for (const { name, labels, value } of samplesOf(metricsText)) {
    const model = `${labels.provider}/${labels.model}`;
    const nano = Math.round(value * 1e9);
    if (name === 'toll_cost_usd_total') add(shown.costNano, model, nano);
    else if (name === 'toll_cost_corrections_usd_total') add(shown.costNano, model, -nano);
    else if (name === 'toll_tokens_total') add(shown.tokens, `${model} ${labels.token_type}`, value);
    else if (name === 'toll_tokens_corrections_total') add(shown.tokens, `${model} ${labels.token_type}`, -value);
    else if (name === 'toll_turns_total') add(shown.turns, `${model} ${labels.status}`, value);
    else if (name === 'toll_tool_calls_total') add(shown.toolCalls, `${labels.tool} ${labels.status}`, value);
  }
  return shown;
}

/** Net cost, tokens by type, turns by status and tool calls by status are exactly what was billed. */
export function assertBilled(metricsText: string, truth: Billed): void {
  assert.deepEqual(shownBy(metricsText), truth);
}

/** Every event that came in is accounted for, and none was refused. */
export function assertConserved(metricsText: string): void {
  const bySource = new Map<string, { received: number; booked: number }>();
  for (const { name, labels, value } of samplesOf(metricsText)) {
    const kind = /^tollbridge_events_(received|recorded|updated|duplicate|ignored|rejected)_total$/.exec(name)?.[1];
    if (!kind) continue;
    const sums = bySource.get(labels.source as string) ?? { received: 0, booked: 0 };
    if (kind === 'received') sums.received += value;
    else sums.booked += value;
    bySource.set(labels.source as string, sums);
    if (kind === 'rejected') assert.equal(value, 0, `rejected from ${labels.source}: ${labels.reason}`);
  }
  assert.ok(
    [...bySource.values()].some(({ received }) => received > 0),
    'something was received',
  );
  for (const [source, { received, booked }] of bySource) assert.equal(booked, received, `events of ${source}`);
}
