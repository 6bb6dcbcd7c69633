// Gemini CLI's log records. `gemini_cli.api_response` is the one record of each model call; its twin in the terms of the
// semantic conventions repeats it, and brings the system prompt along.

import { type Decoded, decodedEvent, ignored } from '../decoded.ts';
import { id, model, optionalServerName, present, relatedId, tokenCount, toolName, unixMs } from '../fields.ts';
import { type AgentLog, decodedTurn, Remainder } from './agent-log.ts';
import { type Conversations, noteTurn, turnBefore } from './conversations.ts';

const AGENT = 'gemini_cli';
const PROVIDER = 'google';
const VERTEX = 'google-vertex';
/** A key holds as much of a model's name as an id has room for. */
const KEY_MODEL_CHARS = 100;

/** Decodes one log record of Gemini CLI; those of one session in order. */
export function decodeGeminiCliLog(log: AgentLog, conversations: Conversations): Decoded {
  switch (log.event) {
    case 'gemini_cli.api_response':
      return toTurn(log, conversations);
    case 'gemini_cli.api_error':
      return toError(log);
    case 'gemini_cli.tool_call':
      return toTool(log, conversations);
    case 'gemini_cli.user_prompt':
      return ignored('user_message');
    case 'gemini_cli.config':
      return ignored('session');
    default:
      return ignored('other');
  }
}

const sessionOf = (log: AgentLog) => log.required(id, 'session.id');
const timeOf = (log: AgentLog) => log.required(unixMs, 'event.timestamp');
const providerOf = (log: AgentLog) => (log.word('auth_type').startsWith('vertex') ? VERTEX : PROVIDER);
const keyOf = (...parts: (string | number)[]) =>
  parts.map((part) => encodeURIComponent(part).slice(0, KEY_MODEL_CHARS)).join(':');

function toTurn(log: AgentLog, conversations: Conversations): Decoded {
  const sessionId = sessionOf(log);
  const completedMs = timeOf(log);
  const modelId = log.required(model, 'model');
  const [input, output] = [
    log.required(tokenCount, 'input_token_count'),
    log.required(tokenCount, 'output_token_count'),
  ];
  const cacheRead = log.count('cached_content_token_count');
  // There is no other id: a record that is sent again is the same in all of these.
  const messageId = keyOf(completedMs, modelId, log.count('total_token_count'), output);
  noteTurn(conversations.of(AGENT, sessionId), messageId, completedMs);
  const rest = new Remainder();
  return decodedTurn(
    rest,
    present({
      kind: 'turn',
      agent: AGENT,
      sessionId,
      messageId,
      promptId: log.optional(relatedId, 'prompt_id'),
      phase: 'completed',
      status: 'ok',
      ...log.span(completedMs),
      provider: providerOf(log),
      model: modelId,
      ...log.stated(),
      tokens: {
        input: rest.of(input, cacheRead) + log.count('tool_token_count'),
        output,
        reasoning: log.count('thoughts_token_count'),
        cache_read: cacheRead,
        cache_write: 0,
      },
    }),
  );
}

function toError(log: AgentLog): Decoded {
  const failedMs = timeOf(log);
  const modelId = log.required(model, 'model');
  return decodedEvent({
    kind: 'error',
    agent: AGENT,
    sessionId: sessionOf(log),
    attemptId: keyOf(failedMs, modelId),
    failedMs,
    provider: providerOf(log),
    model: modelId,
    reason: log.failure,
  });
}

function toTool(log: AgentLog, conversations: Conversations): Decoded {
  const sessionId = sessionOf(log);
  const endedMs = timeOf(log);
  const tool = log.required(toolName, 'function_name');
  return decodedEvent(
    present({
      kind: 'tool',
      agent: AGENT,
      sessionId,
      // A call has no id of its own.
      callId: keyOf(endedMs, tool, log.count('duration_ms')),
      messageId: turnBefore(conversations.of(AGENT, sessionId), endedMs),
      tool,
      mcpServer: optionalServerName.parse(log.at('mcp_server_name')),
      status: !log.hasFailed ? 'ok' : log.word('decision') === 'reject' ? 'aborted' : 'error',
      ...log.span(endedMs),
      project: log.stated().project,
      origin: 'part',
    }),
  );
}
