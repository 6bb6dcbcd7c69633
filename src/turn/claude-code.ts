// Claude Code's hooks. Today's carry no usage (that comes by telemetry), so most are passed over; one that does state
// what a message used, and which message it was, is metered.

import { type Decoded, decodedEvent, type HookContext, ignored } from './decoded.ts';
import {
  accountOf,
  costNano,
  id,
  isObject,
  mcpServerOf,
  model,
  present,
  tokenCount,
  toolName,
  unixMs,
} from './fields.ts';
import { Fields, orRejected, refuse } from './message-fields.ts';
import { projectName } from './project-name.ts';
import { totalTokens } from './turn-event.ts';

const AGENT = 'claude_code';
/** Claude Code's hooks do not say whom it calls. */
const PROVIDER = 'anthropic';
const SESSION_ID = ['session_id', 'sessionId', 'session.id'];
const MESSAGE_ID = ['message.id', 'message_id', 'messageId'];
const REQUEST_ID = ['request_id', 'requestId'];
const TURN_ID = [...MESSAGE_ID, ...REQUEST_ID, 'turn_id', 'turnId'];
const CALL_ID = ['tool_call_id', 'toolUseID', 'tool_use_id'];
const TIME = ['timestamp', 'occurred_at', 'time'];

/** The key of a turn by the provider's id of its request: the one id that hooks, transcripts and telemetry share. */
export const requestKey = (requestId: string): string => `req:${requestId}`;

/** Decodes one hook body of Claude Code. Always at least one result; never throws. */
export function decodeClaudeCode(payload: unknown, context: HookContext): Decoded[] {
  return orRejected(() => {
    if (!isObject(payload)) refuse('wrong_type', 'the body: expected an object');
    const body = new Fields(payload);
    return [turnOf(body, context) ?? toolOf(body) ?? ignored('no_usage')];
  });
}

function turnOf(body: Fields, context: HookContext): Decoded | undefined {
  if (body.at(...SESSION_ID) === undefined || body.at(...TURN_ID) === undefined) return undefined;
  const count = (field: string) => body.optional(tokenCount, `usage.${field}`, `message.usage.${field}`) ?? 0;
  const tokens = {
    input: count('input_tokens'),
    output: count('output_tokens'),
    reasoning: count('reasoning_tokens'),
    cache_read: count('cache_read_input_tokens'),
    cache_write: count('cache_creation_input_tokens'),
  };
  const cost = body.optional(costNano, 'usage.cost_usd', 'cost_usd');
  const request = body.optional(id, ...REQUEST_ID);
  if (!cost && totalTokens(tokens) === 0) return undefined;
  return decodedEvent(
    present({
      kind: 'turn',
      agent: AGENT,
      sessionId: body.required(id, ...SESSION_ID),
      messageId: request === undefined ? body.required(id, ...TURN_ID) : requestKey(request),
      // The one time that a hook states is when the message was there: how long it took stays unknown.
      phase: 'completed',
      startedMs: body.required(unixMs, ...TIME),
      status: 'ok',
      provider: PROVIDER,
      model: body.required(model, 'model', 'model_id', 'message.model'),
      project: projectName(body.at('cwd'), body.at('workspace_id', 'workspaceId')),
      accountId: accountOf(context),
      tokens,
      costNano: cost,
    }),
  );
}

function toolOf(body: Fields): Decoded | undefined {
  const hook = body.word('hook_event_name', 'hook_event', 'event', 'type');
  if (!hook.includes('tool') || body.at(...SESSION_ID) === undefined || body.at(...CALL_ID) === undefined)
    return undefined;
  if (hook.startsWith('pre')) return ignored('tool_progress');
  // Not from `tool_input`: that is the tool's argument.
  const tool = body.required(toolName, 'tool_name', 'tool.name', 'tool');
  return decodedEvent(
    present({
      kind: 'tool',
      agent: AGENT,
      sessionId: body.required(id, ...SESSION_ID),
      callId: body.required(id, ...CALL_ID),
      messageId: body.optional(id, ...MESSAGE_ID),
      tool,
      mcpServer: mcpServerOf(tool),
      status: hook.endsWith('failure') ? 'error' : 'ok',
      completedMs: body.optional(unixMs, ...TIME),
      project: projectName(body.at('cwd'), body.at('workspace_id', 'workspaceId')),
      origin: 'hook',
    }),
  );
}
