// Reads what was sent of runs, with a protobuf library of somebody else's.

import type { OtlpReceiver } from '../metrics/otlp-receiver.ts';
import { type KeyValue, messageType } from '../otlp-messages.ts';

type Attributes = Readonly<Record<string, unknown>>;

export interface SentSpan {
  readonly service: unknown;
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  /** '' for none. */
  readonly parentSpanId: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly failed: boolean;
  readonly attributes: Attributes;
}

export interface SentRecord {
  readonly service: unknown;
  readonly event: string;
  readonly severity: string;
  readonly body: unknown;
  readonly atMs: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly attributes: Attributes;
}

const flat = (attributes: readonly KeyValue[]): Attributes =>
  Object.fromEntries(
    attributes.map(({ key, value = {} }) => [
      key,
      'intValue' in value ? Number(value.intValue) : Object.values(value)[0],
    ]),
  );
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const msOf = (nanos: string) => Number(BigInt(nanos) / 1_000_000n);

// biome-ignore lint/suspicious/noExplicitAny: it is what the descriptor above says
type Decoded = any;

function decoded(receiver: OtlpReceiver, path: string, message: string): Decoded[] {
  const type = messageType(message);
  return receiver.posts
    .filter((post) => post.path === path)
    .map(({ body }) => type.toObject(type.decode(body), { longs: String, arrays: true, defaults: true }));
}

/** Every span that was sent, in order. */
export function sentSpans(receiver: OtlpReceiver): SentSpan[] {
  return decoded(receiver, '/v1/traces', 'Traces').flatMap(({ resourceSpans }) =>
    resourceSpans.flatMap(({ resource, scopeSpans }: Decoded) =>
      scopeSpans.flatMap(({ spans }: Decoded) =>
        spans.map(
          (span: Decoded): SentSpan => ({
            service: flat(resource.attributes)['service.name'],
            ...{ name: span.name, kind: span.kind, failed: span.status?.code === 2 },
            ...{ traceId: hex(span.traceId), spanId: hex(span.spanId), parentSpanId: hex(span.parentSpanId) },
            ...{ startMs: msOf(span.startTimeUnixNano), endMs: msOf(span.endTimeUnixNano) },
            attributes: flat(span.attributes),
          }),
        ),
      ),
    ),
  );
}

/** Every log record that was sent, in order. */
export function sentRecords(receiver: OtlpReceiver): SentRecord[] {
  return decoded(receiver, '/v1/logs', 'Logs').flatMap(({ resourceLogs }) =>
    resourceLogs.flatMap(({ resource, scopeLogs }: Decoded) =>
      scopeLogs.flatMap(({ logRecords }: Decoded) =>
        logRecords.map(
          (record: Decoded): SentRecord => ({
            service: flat(resource.attributes)['service.name'],
            ...{ event: record.eventName, severity: record.severityText, body: record.body?.stringValue },
            ...{ atMs: msOf(record.timeUnixNano), traceId: hex(record.traceId), spanId: hex(record.spanId) },
            attributes: flat(record.attributes),
          }),
        ),
      ),
    ),
  );
}

/** The spans of one trace, or of all, as lines that are indented by their depth, in the order of their start. */
export function drawn(spans: readonly SentSpan[]): string[] {
  const known = new Set(spans.map(({ spanId }) => spanId));
  const below = (parentId: string | undefined, depth: number): string[] =>
    spans
      .filter(({ parentSpanId }) => (parentId === undefined ? !known.has(parentSpanId) : parentSpanId === parentId))
      .sort((a, b) => a.startMs - b.startMs)
      .flatMap((span) => [`${'  '.repeat(depth)}${span.name}`, ...below(span.spanId, depth + 1)]);
  return below(undefined, 0);
}
