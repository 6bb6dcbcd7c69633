// Codex's notifications and hooks. A turn is metered only from a usage that is its own; Codex's running totals of a
// session are not, and are never read.

import { type Decoded, decodedEvent, type HookContext, ignored } from './decoded.ts';
import {
  accountOf,
  costNano,
  id,
  isObject,
  mcpServerOf,
  model,
  present,
  provider,
  tokenCount,
  toolName,
  unixMs,
} from './fields.ts';
import { Fields, orRejected, refuse } from './message-fields.ts';
import { projectName } from './project-name.ts';
import { type TokenCounts, type TurnStatus, totalTokens } from './turn-event.ts';

const AGENT = 'codex';
/** Whom Codex calls where it does not say. */
const DEFAULT_PROVIDER = 'openai';
const SESSION_ID = ['session_id', 'sessionID', 'session.id'];
const MESSAGE_ID = ['message_id', 'messageID', 'last_assistant_message.id'];
const TURN_ID = [...MESSAGE_ID, 'request_id', 'requestID', 'turn_id', 'turnID'];
const CALL_ID = ['tool_call_id', 'toolCallID', 'tool_call.id', 'call_id', 'callID', 'tool_use_id'];
const TIME = ['timestamp', 'occurred_at', 'time'];

const STATUS_OF: ReadonlyMap<string, TurnStatus | 'running'> = new Map([
  ['error', 'error'],
  ['failed', 'error'],
  ['failure', 'error'],
  ['aborted', 'aborted'],
  ['canceled', 'aborted'],
  ['cancelled', 'aborted'],
  ['pending', 'running'],
  ['running', 'running'],
  ['in_progress', 'running'],
]);

/** Decodes one body of Codex: a turn, a tool call, or both. Always at least one result; never throws. */
export function decodeCodex(payload: unknown, context: HookContext): Decoded[] {
  return orRejected(() => {
    if (!isObject(payload)) refuse('wrong_type', 'the body: expected an object');
    const body = new Fields(payload);
    const decoded = [...orRejected(() => toolOf(body)), ...orRejected(() => turnOf(body, context))];
    return decoded.length > 0 ? decoded : [ignored('no_usage')];
  });
}

const statusOf = (body: Fields) =>
  STATUS_OF.get(body.word('status', 'result', 'outcome', 'tool.status', 'tool_result.status')) ?? 'ok';

function turnOf(body: Fields, context: HookContext): Decoded[] {
  if (body.at(...SESSION_ID) === undefined || body.at(...TURN_ID) === undefined) return [];
  const tokens = tokensOf(body);
  const cost = body.optional(costNano, 'usage.cost_usd', 'usage.costUSD', 'cost_usd', 'costUSD');
  if (!cost && totalTokens(tokens) === 0) return [];
  const status = statusOf(body);
  return [
    decodedEvent(
      present({
        kind: 'turn',
        agent: AGENT,
        sessionId: body.required(id, ...SESSION_ID),
        messageId: body.required(id, ...TURN_ID),
        // The one time that is stated is when the message was there: how long it took stays unknown.
        phase: status === 'running' ? 'in_progress' : 'completed',
        startedMs: body.required(unixMs, ...TIME),
        status: status === 'running' ? 'ok' : status,
        reason: status === 'error' ? 'other' : undefined,
        provider: body.optional(provider, 'provider_id', 'providerID', 'provider') ?? DEFAULT_PROVIDER,
        model: body.required(model, 'model', 'model_id', 'modelID', 'last_assistant_message.model'),
        project: projectName(body.at('cwd'), body.at('workspace_id', 'workspaceID')),
        accountId: accountOf(context),
        tokens,
        costNano: cost,
      }),
    ),
  ];
}

/** Codex counts cached tokens within the input and reasoning within the output; ours are disjoint. */
function tokensOf(body: Fields): TokenCounts {
  const count = (...fields: string[]) =>
    body.optional(
      tokenCount,
      ...fields.flatMap((field) => [`usage.${field}`, `last_assistant_message.usage.${field}`]),
    ) ?? 0;
  const input = count('input_tokens', 'inputTokens');
  const output = count('output_tokens', 'outputTokens');
  const cacheRead = count(
    'cached_input_tokens',
    'cachedInputTokens',
    'cache_read_tokens',
    'cacheReadTokens',
    'input_tokens_details.cached_tokens',
  );
  const cacheWrite = count('cache_write_tokens', 'cacheWriteTokens', 'cache_write_input_tokens');
  const reasoning = count(
    'reasoning_output_tokens',
    'reasoning_tokens',
    'reasoningTokens',
    'output_tokens_details.reasoning_tokens',
  );
  if (cacheRead + cacheWrite > input)
    refuse('out_of_range', 'usage: expected no more cached tokens than input tokens, of which they are a part');
  if (reasoning > output)
    refuse('out_of_range', 'usage: expected no more reasoning tokens than output tokens, of which they are a part');
  return {
    input: input - cacheRead - cacheWrite,
    output: output - reasoning,
    reasoning,
    cache_read: cacheRead,
    cache_write: cacheWrite,
  };
}

function toolOf(body: Fields): Decoded[] {
  const hook = body.word('hook_event_name', 'hook_event', 'event', 'type');
  const hasTool = body.at('tool_name', 'toolName', 'tool.name', 'tool') !== undefined;
  if (!hasTool || body.at(...SESSION_ID) === undefined || body.at(...CALL_ID) === undefined) return [];
  const status = statusOf(body);
  if (status === 'running' || hook.startsWith('pre')) return [ignored('tool_progress')];
  const tool = body.required(toolName, 'tool_name', 'toolName', 'tool.name', 'tool');
  return [
    decodedEvent(
      present({
        kind: 'tool',
        agent: AGENT,
        sessionId: body.required(id, ...SESSION_ID),
        callId: body.required(id, ...CALL_ID),
        messageId: body.optional(id, ...MESSAGE_ID),
        tool,
        mcpServer: mcpServerOf(tool),
        status,
        completedMs: body.optional(unixMs, ...TIME),
        project: projectName(body.at('cwd'), body.at('workspace_id', 'workspaceID')),
        origin: 'hook',
      }),
    ),
  ];
}
