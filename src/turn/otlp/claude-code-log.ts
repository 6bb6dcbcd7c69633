// Claude Code's log records. `api_request` is the one record of each model call; its metrics and spans repeat it.

import { requestKey } from '../claude-code.ts';
import { type Decoded, decodedEvent, ignored } from '../decoded.ts';
import { costNano, id, mcpServerOf, model, present, provider, relatedId, tokenCount, toolName } from '../fields.ts';
import type { AgentLog } from './agent-log.ts';

const AGENT = 'claude_code';
/** Its records without a session id (OTEL_METRICS_INCLUDE_SESSION_ID=false) are told apart by their other ids. */
export const UNKNOWN_SESSION = 'unknown';
/** Whom it calls where a base URL of one's own leads elsewhere. */
const OWN_BASE_URL = 'custom';
/** Its names for whom it calls, as the ids that bills go by. */
const PROVIDERS: ReadonlyMap<string, string> = new Map([
  ['firstparty', 'anthropic'],
  ['bedrock', 'amazon-bedrock'],
  ['vertex', 'google-vertex-anthropic'],
  ['foundry', 'azure'],
]);
/** What it says a call is for when that is its session's title. */
const FOR_A_TITLE = 'generate_session_title';
const ANTHROPIC = 'anthropic';
/** The models whose price its client knows; of any other it guesses. */
const PRICED_MODEL = /^claude-/;
/** The seat of a plan whose usage is billed. */
const BY_USAGE = 'usage_based';

/** Decodes one log record of Claude Code. */
export function decodeClaudeCodeLog(log: AgentLog): Decoded {
  switch (log.event) {
    case 'api_request':
      return toTurn(log);
    case 'api_error':
      return toError(log);
    case 'tool_result':
      return toTool(log);
    case 'tool_decision':
      return ignored('tool_progress');
    case 'user_prompt':
      return ignored('user_message');
    default:
      return ignored('other');
  }
}

const sessionOf = (log: AgentLog) => log.optional(id, 'session.id') ?? UNKNOWN_SESSION;

/** The sequence restarts at 0 in every process and a resumed session keeps its id, so neither alone is a key. */
const callKey = (log: AgentLog) => {
  const request = log.optional(id, 'request_id');
  return request === undefined
    ? `seq:${log.required(id, 'prompt.id')}:${log.required(tokenCount, 'event.sequence')}`
    : requestKey(request);
};

function providerOf(log: AgentLog): string {
  if (log.at('anthropic.custom_base_url') === true) return OWN_BASE_URL;
  const named = log.word('anthropic.provider');
  return PROVIDERS.get(named) ?? provider.safeParse(named).data ?? ANTHROPIC;
}

/**
 * The cost as stated. The client computes it from the list prices of the models that it knows, so it is a statement only
 * where those are paid: at Anthropic itself, for a model of Anthropic's, and not on a plan. Anything else is a guess.
 */
function statedCost(log: AgentLog, calls: string, modelId: string): number | undefined {
  const isOnPlan = log.at('anthropic.plan') !== undefined && log.word('anthropic.seat_type') !== BY_USAGE;
  const isListPrice = calls === ANTHROPIC && PRICED_MODEL.test(modelId) && !isOnPlan;
  return isListPrice ? log.optional(costNano, 'cost_usd') : undefined;
}

function toTurn(log: AgentLog): Decoded {
  const modelId = log.required(model, 'model');
  const calls = providerOf(log);
  return decodedEvent(
    present({
      kind: 'turn',
      agent: AGENT,
      sessionId: sessionOf(log),
      messageId: callKey(log),
      promptId: log.optional(relatedId, 'prompt.id'),
      subagentId: log.optional(relatedId, 'agent_id'),
      phase: 'completed',
      status: 'ok',
      ...log.span(log.writtenMs),
      provider: calls,
      model: modelId,
      ...log.stated(),
      tokens: {
        input: log.required(tokenCount, 'input_tokens'),
        // Thinking is within it, and is not told apart.
        output: log.required(tokenCount, 'output_tokens'),
        reasoning: 0,
        cache_read: log.count('cache_read_tokens'),
        cache_write: log.count('cache_creation_tokens'),
      },
      costNano: statedCost(log, calls, modelId),
      isTitle: log.at('query_source') === FOR_A_TITLE || undefined,
    }),
  );
}

function toError(log: AgentLog): Decoded {
  return decodedEvent({
    kind: 'error',
    agent: AGENT,
    sessionId: sessionOf(log),
    attemptId: callKey(log),
    failedMs: log.writtenMs,
    provider: providerOf(log),
    model: log.required(model, 'model'),
    reason: log.failure,
  });
}

function toTool(log: AgentLog): Decoded {
  const tool = log.required(toolName, 'tool_name');
  const request = log.optional(id, 'request_id');
  return decodedEvent(
    present({
      kind: 'tool',
      agent: AGENT,
      sessionId: sessionOf(log),
      callId: log.required(id, 'tool_use_id'),
      messageId: request && requestKey(request),
      promptId: request === undefined ? log.optional(relatedId, 'prompt.id') : undefined,
      tool,
      mcpServer: mcpServerOf(tool),
      status: log.hasFailed ? 'error' : 'ok',
      ...log.span(log.writtenMs),
      project: log.stated().project,
      origin: 'part',
    }),
  );
}
