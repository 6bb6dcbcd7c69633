// Ids of traces and spans, made from the ids of what they tell: whoever tells the same again, after a restart, from a
// second bridge or out of a stream, tells it under the same ids, and a store of traces keeps it once.

import { createHash } from 'node:crypto';

const TRACE_ID_CHARS = 32;
const SPAN_ID_CHARS = 16;

export type SpanSubject = 'run' | 'call' | 'tool';

const digestOf = (parts: readonly string[]) => createHash('sha256').update(parts.join('\0')).digest('hex');

/** The trace of one prompt with everything that was done about it. */
export function traceIdOf(agent: string, sessionId: string, promptId: string): string {
  return digestOf(['trace', agent, sessionId, promptId]).slice(0, TRACE_ID_CHARS);
}

/** The span of a run (its prompt and sub-agent), of a call of a model (its message) or of a tool (its call). */
export function spanIdOf(subject: SpanSubject, agent: string, sessionId: string, ...ids: string[]): string {
  return digestOf([subject, agent, sessionId, ...ids]).slice(0, SPAN_ID_CHARS);
}
