// Events as decoders hand them over, for tests: a plain one of each kind, of which a test says only what matters to it.

import {
  type ErrorEvent,
  NO_TOKENS,
  type PermissionEvent,
  type SessionEvent,
  type TokenCounts,
  type ToolEvent,
  type TurnEvent,
} from '../../src/turn/turn-event.ts';

/** A Tuesday, noon in UTC. */
export const NOON_MS = Date.UTC(2026, 2, 10, 12);
export const NANO = 1e9;
export const SECOND_MS = 1000;
export const MINUTE_MS = 60 * SECOND_MS;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

export function tokens(counts: Partial<TokenCounts>): TokenCounts {
  return { ...NO_TOKENS, ...counts };
}

/** A turn of 10 s that completed at noon; while it is in progress it has no completion. */
export function turn(said: Partial<TurnEvent> = {}): TurnEvent {
  const { phase = 'completed', startedMs = NOON_MS - 10 * SECOND_MS } = said;
  return {
    kind: 'turn',
    agent: 'opencode',
    sessionId: 'ses_1',
    messageId: 'msg_1',
    status: 'ok',
    provider: 'anthropic',
    model: 'claude-sonnet-4-5',
    upstreamProvider: 'anthropic',
    upstreamEvidence: 'direct',
    tokens: NO_TOKENS,
    pricing: 'stated',
    phase,
    startedMs,
    ...(phase === 'completed' ? { completedMs: startedMs + 10 * SECOND_MS } : {}),
    ...said,
  };
}

/** The agent's own record of a tool call of the turn above, from its second to its fifth second. */
export function toolPart(said: Partial<ToolEvent> = {}): ToolEvent {
  return {
    kind: 'tool',
    agent: 'opencode',
    sessionId: 'ses_1',
    messageId: 'msg_1',
    callId: 'call_1',
    tool: 'bash',
    status: 'ok',
    startedMs: NOON_MS - 8 * SECOND_MS,
    completedMs: NOON_MS - 5 * SECOND_MS,
    origin: 'part',
    ...said,
  };
}

/** A bare notice of the same call: no message, no times. */
export function toolHook(said: Partial<ToolEvent> = {}): ToolEvent {
  return {
    kind: 'tool',
    agent: 'opencode',
    sessionId: 'ses_1',
    callId: 'call_1',
    tool: 'bash',
    status: 'ok',
    origin: 'hook',
    ...said,
  };
}

export function session(said: Partial<SessionEvent> = {}): SessionEvent {
  return { kind: 'session', agent: 'opencode', sessionId: 'ses_1', ...said };
}

export function permission(said: Partial<PermissionEvent> = {}): PermissionEvent {
  return {
    kind: 'permission',
    agent: 'opencode',
    sessionId: 'ses_1',
    requestId: 'per_1',
    messageId: 'msg_1',
    ...said,
  };
}

export function failedAttempt(said: Partial<ErrorEvent> = {}): ErrorEvent {
  return {
    kind: 'error',
    agent: 'codex',
    sessionId: 'ses_1',
    attemptId: '1',
    failedMs: NOON_MS,
    provider: 'openai',
    upstreamProvider: 'openai',
    model: 'gpt-5',
    reason: 'overloaded',
    ...said,
  };
}
