// OpenCode's spans. Its plugin reports every message with its cost, so a span is booked only where there is no message:
// the calls that give a session its title. Which call is one, its ancestors say, and they may come in a later post.

import { type Decoded, ignored } from '../decoded.ts';
import { id, model, present, provider, tokenCount } from '../fields.ts';
import { type Fields, orRejected, refuse } from '../message-fields.ts';
import { decodedTurn, flatFields, Remainder } from './agent-log.ts';
import { type OtlpSpan, unixMsOf } from './records.ts';

const AGENT = 'opencode';
const SCOPE = 'opencode';
/** One for each call of a model; its parent repeats the usage. */
const CALL = 'ai.streamText.doStream';
const TRACES_MAX = 200;
/** Of one trace, which is one prompt with all its rounds; beyond it nothing of the trace is remembered. */
const SPANS_MAX = 20_000;
const SPANS_IN_ALL_MAX = 100_000;
const TRACE_ID = /^[0-9a-f]{32}$/;
const SPAN_ID = /^[0-9a-f]{16}$/;

/** What a span makes of the calls below it. */
type Purpose = 'title' | 'message';
const PURPOSES: ReadonlyMap<string, Purpose> = new Map([
  ['SessionPrompt.ensureTitle', 'title'],
  ['SessionProcessor.process', 'message'],
]);

/** Of a span only this is kept: names, and what else it holds, may be of any length. */
interface Seen {
  readonly parentId: string;
  readonly purpose: Purpose | undefined;
}

/** A call whose ancestors have not come. */
interface Waiting {
  readonly parentId: string;
  /** What it is worth, should it turn out to be a title. */
  readonly decoded: Decoded[];
}

interface Trace {
  readonly spans: Map<string, Seen>;
  readonly waiting: Map<string, Waiting>;
}

export class OpencodeTitles {
  readonly #traces = new Map<string, Trace>();
  #spans = 0;

  /** Decodes the spans of one post: one result for each, and one for each earlier call that they show to be a title. */
  decode(spans: readonly OtlpSpan[]): Decoded[] {
    const own = spans.filter(
      ({ scope, traceId, spanId }) => scope === SCOPE && TRACE_ID.test(traceId) && SPAN_ID.test(spanId),
    );
    const traces = new Set(own.map((span) => this.#remember(span)));
    const titles = new Map([...traces].flatMap((trace) => [...titlesIn(trace)]));
    const others = spans.filter((span) => !titles.has(span.spanId)).map(() => ignored('span'));
    return [...others, ...[...titles.values()].flat()];
  }

  #remember(span: OtlpSpan): Trace {
    const trace = this.#traces.get(span.traceId) ?? { spans: new Map(), waiting: new Map() };
    this.#traces.delete(span.traceId);
    this.#traces.set(span.traceId, trace);
    const isNew = !trace.spans.has(span.spanId);
    if (!isNew || trace.spans.size < SPANS_MAX) {
      if (isNew) this.#spans += 1;
      const parentId = SPAN_ID.test(span.parentId) ? span.parentId : '';
      trace.spans.set(span.spanId, { parentId, purpose: PURPOSES.get(span.name) });
      // Also when it comes again: what it made may not have been booked.
      if (span.name === CALL && span.attributes['ai.usage.outputTokens'] !== undefined) {
        trace.waiting.set(span.spanId, { parentId, decoded: orRejected(() => [toTurn(span)]) });
      }
    }
    while (this.#traces.size > 1 && (this.#traces.size > TRACES_MAX || this.#spans > SPANS_IN_ALL_MAX)) {
      const [oldest, { spans }] = this.#traces.entries().next().value!;
      this.#traces.delete(oldest);
      this.#spans -= spans.size;
    }
    return trace;
  }
}

/** The waiting calls that are known by now to be titles, and what they are worth. */
function titlesIn({ spans, waiting }: Trace): Map<string, Decoded[]> {
  const titles = new Map<string, Decoded[]>();
  const known = new Map<string, Purpose | undefined>();
  for (const [spanId, { parentId, decoded }] of waiting) {
    const purpose = purposeFrom(parentId, spans, known);
    if (purpose !== undefined) waiting.delete(spanId);
    if (purpose === 'title') titles.set(spanId, decoded);
  }
  return titles;
}

/**
 * The purpose of a span or of the nearest span above it that has one; undefined when it is not known yet.
 * @param known what was found before among the same spans: no span is passed twice, so that a long chain is no hold-up
 */
function purposeFrom(
  spanId: string,
  spans: Trace['spans'],
  known: Map<string, Purpose | undefined>,
): Purpose | undefined {
  const passed: string[] = [];
  let at = spanId;
  while (!known.has(at)) {
    const span = spans.get(at);
    known.set(at, span?.purpose); // Which also ends a circle.
    passed.push(at);
    if (!span || span.purpose) break;
    at = span.parentId;
  }
  const purpose = known.get(at);
  for (const each of passed) known.set(each, purpose);
  return purpose;
}

function toTurn({ traceId, spanId, startNs, endNs, attributes }: OtlpSpan): Decoded {
  const span: Fields = flatFields(attributes);
  const count = (key: string) => span.optional(tokenCount, key) ?? 0;
  const cacheRead = count('ai.usage.inputTokenDetails.cacheReadTokens');
  const cacheWrite = count('ai.usage.inputTokenDetails.cacheWriteTokens');
  const reasoning = count('ai.usage.outputTokenDetails.reasoningTokens');
  const rest = new Remainder();
  return decodedTurn(
    rest,
    present({
      kind: 'turn',
      agent: AGENT,
      sessionId: span.required(id, 'session.id'),
      messageId: `span:${traceId}:${spanId}`,
      phase: 'completed',
      status: 'ok',
      startedMs: msOf(startNs),
      completedMs: msOf(endNs),
      // The key of OpenCode's configuration, and behind a dot the wire that it speaks.
      provider: span.required(provider, 'gen_ai.system').split('.', 1)[0]!,
      model: span.required(model, 'gen_ai.request.model'),
      tokens: {
        input: rest.of(span.required(tokenCount, 'ai.usage.inputTokens'), cacheRead, cacheWrite),
        output: rest.of(span.required(tokenCount, 'ai.usage.outputTokens'), reasoning),
        reasoning,
        cache_read: cacheRead,
        cache_write: cacheWrite,
      },
      isTitle: true,
      // Without the plugin the title would be all that is counted of a session.
      awaitsSession: true,
    }),
  );
}

function msOf(ns: bigint | undefined): number {
  return unixMsOf(ns) ?? refuse('out_of_range', 'a span: expected a start and an end between 2020 and 2100');
}
