// From what agents send by OTLP to events. Each agent has one kind of record that tells of each of its model calls once;
// that one is booked, and the metrics and spans that repeat it are not. Nothing here throws on bad input.

import { type Decoded, decodedEvent, ignored } from '../decoded.ts';
import { orRejected } from '../message-fields.ts';
import { AgentLog } from './agent-log.ts';
import { decodeClaudeCodeLog, UNKNOWN_SESSION } from './claude-code-log.ts';
import { decodeCodexLog } from './codex-log.ts';
import type { Conversations } from './conversations.ts';
import { decodeGeminiCliLog } from './gemini-cli-log.ts';
import type { OtlpLog } from './records.ts';

type DecodeLog = (log: AgentLog, conversations: Conversations) => Decoded;

/** By the scope's name: `service.name` is the user's to set. */
const DECODERS: readonly { readonly scope: RegExp; readonly decode: DecodeLog }[] = [
  { scope: /^com\.anthropic\.claude_code\.events$/, decode: decodeClaudeCodeLog },
  { scope: /^codex_otel(\.|$)/, decode: decodeCodexLog },
  { scope: /^gemini-cli$/, decode: decodeGeminiCliLog },
];

/**
 * Decodes the log records of one post: one result for each, and one for each session that has a turn among them.
 * @param conversations what earlier posts said
 */
export function decodeLogs(logs: readonly OtlpLog[], conversations: Conversations): Decoded[] {
  const inOrder = [...logs].sort((a, b) => Number(writtenNs(a) - writtenNs(b)));
  const decoded = inOrder.flatMap((log) => {
    const decoder = DECODERS.find(({ scope }) => scope.test(log.scope));
    return decoder ? orRejected(() => [decoder.decode(new AgentLog(log), conversations)]) : [ignored('other')];
  });
  return [...decoded, ...sessionsOf(decoded)];
}

const writtenNs = ({ timeNs, observedNs }: OtlpLog) => timeNs ?? observedNs ?? 0n;

/** No agent announces a session with its turns: the first turn does. */
function sessionsOf(decoded: readonly Decoded[]): Decoded[] {
  const sessions = new Map<string, Decoded>();
  for (const item of decoded) {
    if (item.type !== 'event' || item.event.kind !== 'turn') continue;
    const { agent, sessionId, project } = item.event;
    if (sessionId === UNKNOWN_SESSION) continue;
    const session = { kind: 'session', agent, sessionId, ...(project !== undefined && { project }) } as const;
    sessions.set(`${agent}\0${sessionId}`, decodedEvent(session));
  }
  return [...sessions.values()];
}
