// What one log record of each agent means: whom it pays, which tokens are whose part, what is an error and of which turn
// a tool is.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Decoded } from '../../../src/turn/decoded.ts';
import type { Scalar } from '../../../src/turn/otlp/allow-list.ts';
import { Conversations } from '../../../src/turn/otlp/conversations.ts';
import { decodeLogs } from '../../../src/turn/otlp/decode.ts';
import type { OtlpLog } from '../../../src/turn/otlp/records.ts';
import type { StatedError, StatedTurn, ToolEvent } from '../../../src/turn/turn-event.ts';

const AT_MS = Date.UTC(2026, 10, 21);
type Stated = Readonly<Record<string, Scalar | undefined>>;
const record = (scope: string, attributes: Stated, afterMs = 0): OtlpLog => ({
  scope,
  timeNs: BigInt(AT_MS + afterMs) * 1_000_000n,
  attributes: Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined)),
});
const decode = (...logs: OtlpLog[]) => decodeLogs(logs, new Conversations());
const eventsOf = (decoded: readonly Decoded[]) => decoded.flatMap((item) => (item.type === 'event' ? item.event : []));
const turnOf = (decoded: readonly Decoded[]) => eventsOf(decoded).find(({ kind }) => kind === 'turn') as StatedTurn;
const errorOf = (decoded: readonly Decoded[]) => eventsOf(decoded).find(({ kind }) => kind === 'error') as StatedError;
const toolOf = (decoded: readonly Decoded[]) => eventsOf(decoded).find(({ kind }) => kind === 'tool') as ToolEvent;

describe('Claude Code', () => {
  const call = (changes: Stated = {}) =>
    record('com.anthropic.claude_code.events', {
      ...{ 'event.name': 'api_request', 'session.id': 's1', 'prompt.id': 'p1', 'event.sequence': 7 },
      ...{ request_id: 'req_1', model: 'claude-opus-5-5', duration_ms: 59, 'anthropic.provider': 'firstParty' },
      ...{ input_tokens: 1002, output_tokens: 52, cache_read_tokens: 300, cache_creation_tokens: 40 },
      ...{ cost_usd: 0.005308, 'anthropic.custom_base_url': false },
      ...changes,
    });

  it('a call is a turn with disjoint tokens, and its session', () => {
    const decoded = decode(call({ team: 'alpha', 'user.name': 'bob', project: '/home/bob/shop' }));
    assert.deepEqual(eventsOf(decoded), [
      {
        ...{ kind: 'turn', agent: 'claude_code', sessionId: 's1', messageId: 'req:req_1', promptId: 'p1' },
        ...{
          phase: 'completed',
          status: 'ok',
          startedMs: AT_MS - 59,
          completedMs: AT_MS,
          provider: 'anthropic',
          model: 'claude-opus-5-5',
        },
        ...{ project: 'shop', statedIdentity: { team: 'alpha', user: 'bob' }, costNano: 5_308_000 },
        tokens: { input: 1002, output: 52, reasoning: 0, cache_read: 300, cache_write: 40 },
      },
      { kind: 'session', agent: 'claude_code', sessionId: 's1', project: 'shop' },
    ]);
  });

  const PAID: [string, Stated, string, number | undefined][] = [
    ['the client’s own word for Anthropic', {}, 'anthropic', 5_308_000],
    ['a base URL of one’s own', { 'anthropic.custom_base_url': true }, 'custom', undefined],
    ['Bedrock', { 'anthropic.provider': 'bedrock' }, 'amazon-bedrock', undefined],
    ['Vertex', { 'anthropic.provider': 'vertex' }, 'google-vertex-anthropic', undefined],
    ['one that is not known', { 'anthropic.provider': 'newcomer' }, 'newcomer', undefined],
    ['a model whose price the client does not know', { model: 'err-429-once' }, 'anthropic', undefined],
    [
      'no word about it',
      { 'anthropic.provider': undefined, 'anthropic.custom_base_url': undefined },
      'anthropic',
      5_308_000,
    ],
    ['a plan', { 'anthropic.plan': 'max' }, 'anthropic', undefined],
    [
      'a plan by usage',
      { 'anthropic.plan': 'enterprise', 'anthropic.seat_type': 'usage_based' },
      'anthropic',
      5_308_000,
    ],
    ['no cost', { cost_usd: undefined }, 'anthropic', undefined],
  ];
  for (const [what, changes, provider, costNano] of PAID) {
    it(`${what}: ${provider}, ${costNano === undefined ? 'no stated cost' : 'the stated cost'}`, () => {
      const turn = turnOf(decode(call(changes)));
      assert.deepEqual([turn.provider, turn.costNano], [provider, costNano]);
    });
  }

  it('a duration that cannot be one costs no turn', () => {
    const lasted = (duration_ms: Scalar | undefined) => {
      const { startedMs, completedMs } = turnOf(decode(call({ duration_ms })));
      return completedMs === undefined ? undefined : completedMs - startedMs;
    };
    assert.deepEqual(['58.6', 58.4, 0].map(lasted), [59, 58, 0]);
    assert.deepEqual([-1, 'soon', true, 1e18, Number.NaN, undefined].map(lasted), Array(6).fill(undefined));
  });

  it('without a request id the key is the prompt’s and the sequence within it', () => {
    assert.equal(turnOf(decode(call({ request_id: undefined }))).messageId, 'seq:p1:7');
    assert.deepEqual(
      decode(call({ request_id: undefined, 'prompt.id': undefined })).map(
        (item) => item.type === 'rejected' && item.reason,
      ),
      ['missing_field'],
    );
  });

  it('without a session id it is booked, and no session is counted', () => {
    const decoded = decode(call({ 'session.id': undefined }));
    assert.equal(turnOf(decoded).sessionId, 'unknown');
    assert.equal(eventsOf(decoded).length, 1);
  });

  it('the last attempt of a failed call is an error and no turn', () => {
    const failed = (status?: number) =>
      errorOf(decode(call({ 'event.name': 'api_error', status_code: status, input_tokens: undefined })));
    const { reason, attemptId, failedMs } = failed(401);
    assert.deepEqual([reason, attemptId, failedMs], ['auth', 'req:req_1', AT_MS]);
    assert.deepEqual([failed(429).reason, failed(529).reason, failed().reason], ['rate_limit', 'overloaded', 'other']);
  });

  it('a tool is of the turn that asked for it', () => {
    const result = (success: Scalar) =>
      toolOf(decode(call({ 'event.name': 'tool_result', tool_name: 'mcp__files__read', tool_use_id: 't1', success })));
    const { messageId, callId, mcpServer, status, startedMs } = result('true');
    assert.deepEqual([messageId, callId, mcpServer, status, startedMs], ['req:req_1', 't1', 'files', 'ok', AT_MS - 59]);
    assert.deepEqual([result('false').status, result(false).status], ['error', 'error']);
  });
});

describe('Codex', () => {
  const log = (name: string, stated: Stated = {}, afterMs = 0) =>
    record(
      'codex_otel.log_only',
      { 'event.name': `codex.${name}`, 'conversation.id': 'c1', model: 'gpt-5.1-codex', ...stated },
      afterMs,
    );
  const usage = (stated: Stated = {}, afterMs = 0) =>
    log(
      'sse_event',
      {
        ...{ 'event.kind': 'response.completed', input_token_count: '1335', output_token_count: '75' },
        ...{ cached_token_count: 300, cache_write_token_count: 10, reasoning_token_count: 20, ...stated },
      },
      afterMs,
    );

  it('parts are taken out of their wholes', () => {
    assert.deepEqual(turnOf(decode(usage())).tokens, {
      ...{ input: 1025, output: 55, reasoning: 20, cache_read: 300, cache_write: 10 },
    });
  });

  it('a part larger than its whole leaves nothing, and is counted', () => {
    const [decoded] = decode(usage({ cached_token_count: 1400, reasoning_token_count: 80 }));
    assert.ok(decoded?.type === 'event' && decoded.isInconsistent);
    const { input, output } = turnOf([decoded]).tokens;
    assert.deepEqual([input, output], [0, 0]);
    const [sound] = decode(usage());
    assert.ok(sound?.type === 'event' && !sound.isInconsistent);
  });

  it('the provider is said once a conversation, and remembered', () => {
    const conversations = new Conversations();
    decodeLogs([log('conversation_starts', { provider_name: 'Azure OpenAI' })], conversations);
    assert.equal(turnOf(decodeLogs([usage()], conversations)).provider, 'azure-openai');
    assert.equal(turnOf(decode(usage())).provider, 'openai');
    const other = usage({ 'conversation.id': 'c2' });
    assert.equal(turnOf(decodeLogs([other], conversations)).provider, 'openai');
  });

  it('a call lasts from the request that began it; without one that is unknown', () => {
    const decoded = decode(
      usage({}, 37),
      log('api_request', { duration_ms: '25', 'http.response.status_code': '200' }, 20),
    );
    const { startedMs, completedMs } = turnOf(decoded);
    assert.deepEqual([startedMs, completedMs], [AT_MS - 5, AT_MS + 37]);
    const alone = turnOf(decode(usage()));
    assert.deepEqual([alone.startedMs, alone.completedMs], [AT_MS, undefined]);
  });

  it('a tool is of the last turn before its end, in its conversation', () => {
    const tool = (afterMs: number, stated: Stated = {}) =>
      log('tool_result', { tool_name: 'exec_command', call_id: 'call_1', success: 'true', ...stated }, afterMs);
    const messageId = (afterMs: number, stated: Stated = {}) =>
      toolOf(decode(usage({}, 10), usage({}, 20), usage({ 'conversation.id': 'c2' }, 25), tool(afterMs, stated)))
        .messageId;
    const at = (afterMs: number) => String(BigInt(AT_MS + afterMs) * 1_000_000n);
    assert.deepEqual([messageId(5), messageId(15), messageId(30)], [undefined, at(10), at(20)]);
    assert.equal(messageId(30, { 'conversation.id': 'c3' }), undefined);
  });

  it('each attempt that failed is an error, one that got no answer too', () => {
    const failed = (status?: string) =>
      errorOf(decode(log('api_request', { 'http.response.status_code': status }))).reason;
    assert.deepEqual([failed('500'), failed('429'), failed()], ['overloaded', 'rate_limit', 'network']);
    assert.deepEqual(eventsOf(decode(log('api_request', { 'http.response.status_code': '200' }))), []);
  });
});

describe('Gemini CLI', () => {
  const log = (name: string, stated: Stated = {}) =>
    record('gemini-cli', {
      ...{ 'event.name': `gemini_cli.${name}`, 'event.timestamp': new Date(AT_MS).toISOString() },
      ...{ 'session.id': 's1', model: 'gemini-2.5-pro', duration_ms: 75, ...stated },
    });
  const response = (stated: Stated = {}) =>
    log('api_response', {
      ...{ input_token_count: 1301, output_token_count: 51, cached_content_token_count: 300 },
      ...{ thoughts_token_count: 20, tool_token_count: 5, total_token_count: 1377, ...stated },
    });

  it('thoughts stand beside the output, tools beside the input, the cache within it', () => {
    const turn = turnOf(decode(response()));
    assert.deepEqual(turn.tokens, { input: 1006, output: 51, reasoning: 20, cache_read: 300, cache_write: 0 });
    assert.deepEqual([turn.provider, turn.startedMs, turn.completedMs], ['google', AT_MS - 75, AT_MS]);
    assert.equal(turnOf(decode(response({ auth_type: 'vertex-ai' }))).provider, 'google-vertex');
  });

  it('its twin in the terms of the semantic conventions is no second call', () => {
    const twin = {
      ...response(),
      attributes: { ...response().attributes, 'event.name': 'gen_ai.client.inference.operation.details' },
    };
    assert.equal(eventsOf(decode(response(), twin)).filter(({ kind }) => kind === 'turn').length, 1);
  });

  it('calls of the same moment are told apart by model and tokens', () => {
    const keys = [response(), response({ model: 'gemini-2.5-flash' }), response({ total_token_count: 1378 })].map(
      (each) => turnOf(decode(each)).messageId,
    );
    assert.equal(new Set(keys).size, 3);
    assert.equal(turnOf(decode(response())).messageId, keys[0]);
  });
});

describe('which agent it is', () => {
  it('says the scope, and nothing else', () => {
    const stranger = record('somebody.else', { 'event.name': 'api_request', 'session.id': 's1', input_tokens: 5 });
    assert.deepEqual(decode(stranger), [{ type: 'ignored', kind: 'other' }]);
    const nearly = { ...stranger, scope: 'com.anthropic.claude_code.events.mine' };
    assert.deepEqual(decode(nearly), [{ type: 'ignored', kind: 'other' }]);
  });
});
