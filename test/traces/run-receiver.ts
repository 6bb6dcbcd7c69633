// Reads what was sent of runs, with a protobuf library of somebody else's and its own copy of the messages.

import protobuf from 'protobufjs';
import type { OtlpReceiver } from '../metrics/otlp-receiver.ts';

/** Of opentelemetry-proto v1: all that a span and a log record are made of, so that nothing can hide from a test. */
const MESSAGES = protobuf.parse(`syntax = "proto3";
message Traces { repeated ResourceSpans resource_spans = 1; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; string schema_url = 3; }
message ScopeSpans { Scope scope = 1; repeated Span spans = 2; string schema_url = 3; }
message Span {
  bytes trace_id = 1; bytes span_id = 2; string trace_state = 3; bytes parent_span_id = 4; string name = 5; int32 kind = 6;
  fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9;
  uint32 dropped_attributes_count = 10; repeated Event events = 11; repeated Link links = 13; Status status = 15;
  fixed32 flags = 16;
}
message Event { fixed64 time_unix_nano = 1; string name = 2; repeated KeyValue attributes = 3; }
message Link { bytes trace_id = 1; bytes span_id = 2; }
message Status { string message = 2; int32 code = 3; }
message Logs { repeated ResourceLogs resource_logs = 1; }
message ResourceLogs { Resource resource = 1; repeated ScopeLogs scope_logs = 2; string schema_url = 3; }
message ScopeLogs { Scope scope = 1; repeated LogRecord log_records = 2; string schema_url = 3; }
message LogRecord {
  fixed64 time_unix_nano = 1; int32 severity_number = 2; string severity_text = 3; AnyValue body = 5;
  repeated KeyValue attributes = 6; fixed32 flags = 8; bytes trace_id = 9; bytes span_id = 10;
  fixed64 observed_time_unix_nano = 11; string event_name = 12;
}
message Resource { repeated KeyValue attributes = 1; }
message Scope { string name = 1; string version = 2; }
message KeyValue { string key = 1; AnyValue value = 2; }
message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }`).root;

interface KeyValue {
  readonly key: string;
  readonly value?: Readonly<Record<string, string | number | boolean>>;
}
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
  const type = MESSAGES.lookupType(message);
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
