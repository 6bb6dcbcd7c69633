// What three agents export in a made-up hour, content and all, with its bill: what every series must say once all of it
// was taken, in whatever order, however often and by whichever road.

import { randomFrom } from './composed-stream.ts';
import type { Shown, Sums } from './scrape.ts';
import { CANARY } from './sources/otlp-fixture.ts';

const RECORDS_IN_A_BATCH = 6;

type Value = string | number | boolean;
type Attributes = Readonly<Record<string, Value>>;

/** The body of one post to `/v1/logs`. */
export type Batch = object;

export interface Bill {
  readonly batches: readonly Batch[];
  readonly truth: Shown;
}

const asValue = (value: Value) => {
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'boolean') return { boolValue: value };
  return Number.isInteger(value) ? { intValue: value } : { doubleValue: value };
};
const attributesOf = (attributes: Attributes) =>
  Object.entries(attributes).map(([key, value]) => ({ key, value: asValue(value) }));

/** What agents send along, whatever their settings say. */
const CONTENT: Attributes = {
  prompt: `${CANARY} prompt`,
  response: `${CANARY} answer`,
  tool_input: `{"command":"cat /home/${CANARY}/key"}`,
  'user.email': `${CANARY}@example.com`,
  api_key: `sk-${CANARY}-0123456789abcdef`,
  'gen_ai.system_instructions': `${CANARY} instructions`,
};

interface Log {
  readonly ns: bigint;
  readonly attributes: Attributes;
}

/** A body with the records of one agent. @param resource what its user wrote into OTEL_RESOURCE_ATTRIBUTES */
function batchOf(scope: string, logs: readonly Log[], resource: Attributes = {}): Batch {
  const logRecords = logs.map(({ ns, attributes }) => ({
    timeUnixNano: String(ns),
    observedTimeUnixNano: String(ns),
    body: { stringValue: `${CANARY} body` },
    attributes: attributesOf({ ...CONTENT, ...attributes }),
  }));
  const attributes = attributesOf({ 'host.name': `${CANARY}-host`, team: `sk-${CANARY}-01234567`, ...resource });
  return { resourceLogs: [{ resource: { attributes }, scopeLogs: [{ scope: { name: scope }, logRecords }] }] };
}

const SCOPES = {
  claude_code: 'com.anthropic.claude_code.events',
  codex: 'codex_otel.log_only',
  gemini_cli: 'gemini-cli',
} as const;

const AGENTS = Object.keys(SCOPES) as (keyof typeof SCOPES)[];
const MODELS = { claude_code: 'claude-opus-5-5', codex: 'gpt-5.1-codex', gemini_cli: 'gemini-2.5-pro' } as const;
const PROVIDERS = { claude_code: 'anthropic', codex: 'openai', gemini_cli: 'google' } as const;

const NOTHING = { input: 0, output: 0, reasoning: 0, cache_read: 0, cache_write: 0 };

/** A call of a model as its provider bills it. */
interface Call {
  readonly session: string;
  readonly n: number;
  readonly ns: bigint;
  /** Disjoint. */
  readonly tokens: Readonly<Record<'input' | 'output' | 'reasoning' | 'cache_read' | 'cache_write', number>>;
  readonly nano: number;
}

/** The record of a call as its agent writes it. */
const RECORDS: Readonly<Record<keyof typeof SCOPES, (call: Call) => Log>> = {
  claude_code: ({ session, n, ns, tokens, nano }) => ({
    ns,
    attributes: {
      ...{ 'event.name': 'api_request', 'session.id': session, request_id: `req_${session}_${n}` },
      ...{ 'anthropic.provider': 'firstParty', model: MODELS.claude_code, duration_ms: 1234 },
      ...{ input_tokens: tokens.input, output_tokens: tokens.output },
      ...{ cache_read_tokens: tokens.cache_read, cache_creation_tokens: tokens.cache_write, cost_usd: nano / 1e9 },
    },
  }),
  codex: ({ session, ns, tokens }) => ({
    ns,
    attributes: {
      ...{ 'event.name': 'codex.sse_event', 'event.kind': 'response.completed', 'conversation.id': session },
      ...{ model: MODELS.codex, output_token_count: tokens.output + tokens.reasoning },
      ...{ input_token_count: tokens.input + tokens.cache_read + tokens.cache_write },
      ...{ cached_token_count: tokens.cache_read, cache_write_token_count: tokens.cache_write },
      reasoning_token_count: tokens.reasoning,
    },
  }),
  gemini_cli: ({ session, ns, tokens }) => ({
    ns,
    attributes: {
      ...{ 'event.name': 'gemini_cli.api_response', 'session.id': session, auth_type: 'gemini-api-key' },
      ...{ 'event.timestamp': new Date(Number(ns / 1_000_000n)).toISOString(), model: MODELS.gemini_cli },
      ...{ duration_ms: 900, input_token_count: tokens.input + tokens.cache_read, output_token_count: tokens.output },
      ...{ cached_content_token_count: tokens.cache_read, thoughts_token_count: tokens.reasoning },
      total_token_count: tokens.input + tokens.cache_read + tokens.output + tokens.reasoning,
    },
  }),
};

/** A body with one call of Claude Code. @param resource what its user wrote into OTEL_RESOURCE_ATTRIBUTES */
export function oneCall({ name, nano }: { name: string; nano: number }, resource: Attributes = {}): Batch {
  const tokens = { ...NOTHING, input: 1, output: 1 };
  const call = { session: name, n: 0, ns: BigInt(Date.now()) * 1_000_000n, tokens, nano };
  return batchOf(SCOPES.claude_code, [RECORDS.claude_code(call)], resource);
}

const OF_A_CONVERSATION = {
  start: { 'event.name': 'codex.conversation_starts', provider_name: 'mock' },
  call: { ...RECORDS.codex({ session: '', n: 0, ns: 0n, nano: 0, tokens: NOTHING }).attributes, output_token_count: 1 },
  failure: { 'event.name': 'codex.api_request', model: MODELS.codex, 'http.response.status_code': 500 },
};

/** A body with records of one conversation of Codex, which names its provider, `mock`, at its start alone. */
export function conversation(session: string, ...records: readonly (keyof typeof OF_A_CONVERSATION)[]): Batch {
  const startNs = process.hrtime.bigint() + BigInt(Date.now()) * 1_000_000n;
  const logs = records.map((record, n) => ({
    ns: startNs + BigInt(n),
    attributes: { ...OF_A_CONVERSATION[record], 'conversation.id': session },
  }));
  return batchOf(SCOPES.codex, logs);
}

/** `batches` posts, one agent's and one session's each, with a tool call of Claude Code now and then. */
export function billOf(batches: number, { seed, name }: { seed: number; name: string }): Bill {
  const random = randomFrom(seed);
  const upTo = (most: number) => Math.floor(random() * most);
  const truth = { costNano: {} as Sums, tokens: {} as Sums, turns: {} as Sums, toolCalls: {} as Sums, sessions: 0 };
  const add = (sums: Sums, key: string, value: number) => {
    if (value !== 0) sums[key] = (sums[key] ?? 0) + value;
  };
  const startNs = BigInt(Date.now() - 3600_000) * 1_000_000n;
  const sessions = new Set<string>();
  const posts = Array.from({ length: batches }, (_, at) => {
    const agent = AGENTS[at % AGENTS.length]!;
    const session = `${name}-${agent}-${Math.floor(at / 12)}`;
    sessions.add(session);
    const calls = Array.from({ length: RECORDS_IN_A_BATCH }, (_, within): Call => {
      const n = at * RECORDS_IN_A_BATCH + within;
      const isClaude = agent === 'claude_code';
      return {
        ...{ session, n, ns: startNs + BigInt(n) * 5_000_001n },
        tokens: {
          ...{ input: upTo(9000), output: upTo(900), cache_read: upTo(50_000) },
          reasoning: isClaude ? 0 : upTo(300),
          cache_write: agent === 'gemini_cli' ? 0 : upTo(700),
        },
        nano: isClaude ? 1 + upTo(90_000_000) : 0,
      };
    });
    const key = `${PROVIDERS[agent]}/${MODELS[agent]}`;
    for (const { tokens, nano } of calls) {
      add(truth.costNano, key, nano);
      add(truth.turns, `${key} ok`, 1);
      for (const [type, count] of Object.entries(tokens)) add(truth.tokens, `${key} ${type}`, count);
    }
    const logs = calls.map(RECORDS[agent]);
    if (agent === 'claude_code') {
      add(truth.toolCalls, 'Bash ok', 1);
      const attributes = {
        ...{
          'event.name': 'tool_result',
          'session.id': session,
          tool_name: 'Bash',
          tool_use_id: `tool_${session}_${at}`,
        },
        ...{ request_id: logs[0]!.attributes.request_id!, success: 'true', duration_ms: 12 },
      };
      logs.push({ ns: calls[0]!.ns + 1n, attributes });
    }
    return batchOf(SCOPES[agent], logs);
  });
  return { batches: posts, truth: { ...truth, sessions: sessions.size } };
}
