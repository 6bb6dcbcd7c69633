// OpenCode's spans. Its plugin reports every message with its cost, so a span is booked only where there is no message:
// the calls that give a session its title. Which call is one, its ancestors say, and they may come in a later post.

import { type Decoded, ignored } from '../decoded.ts';
import { type Fields, id, model, orRejected, present, provider, refuse, tokenCount, unixMs } from '../fields.ts';
import { decodedTurn, flatFields, Remainder } from './agent-log.ts';
import type { OtlpSpan } from './records.ts';

const AGENT = 'opencode';
const SCOPE = 'opencode';
/** One for each call of a model; its parent repeats the usage. */
const CALL = 'ai.streamText.doStream';
const TITLE = 'SessionPrompt.ensureTitle';
const MESSAGE = 'SessionProcessor.process';
const TRACES_MAX = 200;
/** Of one trace, which is one prompt with all its rounds. */
const SPANS_MAX = 20_000;
const NS_PER_MS = 1_000_000n;

interface Trace {
  readonly spans: Map<string, { readonly parentId: string; readonly name: string }>;
  /** Calls whose ancestors have not come. */
  readonly waiting: Map<string, OtlpSpan>;
}

export class OpencodeTitles {
  readonly #traces = new Map<string, Trace>();

  /** Decodes the spans of one post: one result for each, and one for each earlier call that they show to be a title. */
  decode(spans: readonly OtlpSpan[]): Decoded[] {
    const own = spans.filter(({ scope }) => scope === SCOPE);
    const traces = new Set(own.map((span) => this.#remember(span)));
    const titles = [...traces].flatMap((trace) => titlesIn(trace));
    const calls = new Set(titles.map(({ spanId }) => spanId));
    const others = spans.filter((span) => !calls.has(span.spanId)).map(() => ignored('span'));
    return [...others, ...titles.flatMap((span) => orRejected(() => [toTurn(span)]))];
  }

  #remember(span: OtlpSpan): Trace {
    const trace = this.#traces.get(span.traceId) ?? { spans: new Map(), waiting: new Map() };
    this.#traces.delete(span.traceId);
    this.#traces.set(span.traceId, trace);
    if (this.#traces.size > TRACES_MAX) this.#traces.delete(this.#traces.keys().next().value!);
    if (trace.spans.size < SPANS_MAX) {
      trace.spans.set(span.spanId, { parentId: span.parentId, name: span.name });
      if (span.name === CALL && span.attributes['ai.usage.outputTokens'] !== undefined) {
        trace.waiting.set(span.spanId, span);
      }
    }
    return trace;
  }
}

/** The waiting calls that are known by now to be titles. */
function titlesIn({ spans, waiting }: Trace): OtlpSpan[] {
  return [...waiting.values()].filter((call) => {
    const name = ancestorOf(call, spans);
    if (name !== undefined) waiting.delete(call.spanId);
    return name === TITLE;
  });
}

function ancestorOf(call: OtlpSpan, spans: Trace['spans']): string | undefined {
  const seen = new Set<string>();
  for (let at = call.parentId; !seen.has(at); seen.add(at), at = spans.get(at)!.parentId) {
    const span = spans.get(at);
    if (!span) return undefined;
    if (span.name === TITLE || span.name === MESSAGE) return span.name;
  }
  return undefined;
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
      // Without the plugin the title would be all that is counted of a session.
      awaitsSession: true,
    }),
  );
}

function msOf(ns: bigint | undefined): number {
  const ms = unixMs.safeParse(ns === undefined ? undefined : Number(ns / NS_PER_MS));
  return ms.data ?? refuse('out_of_range', 'a span: expected a start and an end between 2020 and 2100');
}
