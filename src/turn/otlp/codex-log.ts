// Codex's log records. `codex.sse_event` of `response.completed` comes twice for each model call; the one with numbers
// is the call. Names of records are in an attribute: `eventName` is a place in Codex's source.

import { type Decoded, decodedEvent, ignored } from '../decoded.ts';
import { id, mcpServerOf, model, optionalServerName, present, provider, tokenCount, toolName } from '../fields.ts';
import { reasonOfStatus } from '../opencode-error.ts';
import { type AgentLog, decodedTurn, Remainder } from './agent-log.ts';
import { type Conversation, type Conversations, noteTurn, turnBefore } from './conversations.ts';

const AGENT = 'codex';
/** Whom Codex calls where it does not say. */
const DEFAULT_PROVIDER = 'openai';

/** Decodes one log record of Codex; those of one conversation in order. */
export function decodeCodexLog(log: AgentLog, conversations: Conversations): Decoded {
  const sessionId = log.required(id, 'conversation.id');
  const conversation = conversations.of(AGENT, sessionId);
  switch (log.event) {
    case 'codex.conversation_starts':
      Object.assign(conversation, present({ provider: providerOf(log) }));
      return ignored('session');
    case 'codex.api_request':
      return toAttempt(log, sessionId, conversation);
    case 'codex.sse_event':
      return log.at('input_token_count') === undefined ? ignored('delta') : toTurn(log, sessionId, conversation);
    case 'codex.tool_result':
      return toTool(log, sessionId, conversation);
    case 'codex.tool_decision':
      return ignored('tool_progress');
    case 'codex.user_prompt':
      conversation.promptId = log.writtenNs;
      return ignored('user_message');
    default:
      return ignored('other');
  }
}

/** Codex's own providers have names with capitals and spaces; those of a user are keys of the configuration. */
function providerOf(log: AgentLog): string | undefined {
  return provider.safeParse(log.word('provider_name').replace(/\s+/g, '-')).data;
}

/** A conversation may have begun before this process did, or at another intake: the ledger may know more. */
const paidTo = ({ provider }: Conversation) =>
  provider === undefined
    ? ({ provider: DEFAULT_PROVIDER, providerBasis: 'assumed' } as const)
    : ({ provider, providerBasis: 'named' } as const);

/** One is logged for every attempt; what it lasted is the time to the answer's headers. */
function toAttempt(log: AgentLog, sessionId: string, conversation: Conversation): Decoded {
  const status = log.optional(tokenCount, 'http.response.status_code');
  if (status !== undefined && status < 400) {
    conversation.callStartedMs = log.span(log.writtenMs).startedMs;
    return ignored('no_usage');
  }
  return decodedEvent({
    kind: 'error',
    agent: AGENT,
    sessionId,
    attemptId: log.writtenNs,
    failedMs: log.writtenMs,
    ...paidTo(conversation),
    model: log.required(model, 'model'),
    reason: status === undefined ? 'network' : reasonOfStatus(status),
  });
}

function toTurn(log: AgentLog, sessionId: string, conversation: Conversation): Decoded {
  const completedMs = log.writtenMs;
  const messageId = log.writtenNs;
  const startedMs = conversation.callStartedMs;
  delete conversation.callStartedMs;
  noteTurn(conversation, messageId, completedMs);
  const output = log.required(tokenCount, 'output_token_count');
  const [reasoning, cacheRead] = [log.count('reasoning_token_count'), log.count('cached_token_count')];
  const cacheWrite = log.count('cache_write_token_count');
  const rest = new Remainder();
  return decodedTurn(
    rest,
    present({
      kind: 'turn',
      agent: AGENT,
      sessionId,
      // There is no other id: a record that is sent again has the same time to the nanosecond.
      messageId,
      promptId: conversation.promptId,
      phase: 'completed',
      status: 'ok',
      ...(startedMs === undefined ? { startedMs: completedMs } : { startedMs, completedMs }),
      ...paidTo(conversation),
      model: log.required(model, 'model'),
      ...log.stated(),
      tokens: {
        input: rest.of(log.required(tokenCount, 'input_token_count'), cacheRead, cacheWrite),
        output: rest.of(output, reasoning),
        reasoning,
        cache_read: cacheRead,
        cache_write: cacheWrite,
      },
    }),
  );
}

function toTool(log: AgentLog, sessionId: string, conversation: Conversation): Decoded {
  const tool = log.required(toolName, 'tool_name');
  const endedMs = log.writtenMs;
  return decodedEvent(
    present({
      kind: 'tool',
      agent: AGENT,
      sessionId,
      callId: log.required(id, 'call_id'),
      messageId: turnBefore(conversation, endedMs),
      tool,
      mcpServer: optionalServerName.parse(log.at('mcp_server')) ?? mcpServerOf(tool),
      // It succeeded when it ran: a command that ends with another status than 0 is a success too.
      status: log.hasFailed ? 'error' : 'ok',
      ...log.span(endedMs),
      project: log.stated().project,
      origin: 'part',
    }),
  );
}
