// OTLP/protobuf, read field by field: what this description does not name is skipped in its bytes. Decoding whole
// messages would build an object for every attribute first, which is slow for a body made of nothing else.

import protobuf, { type Reader } from 'protobufjs/minimal.js';
import type { Mutable } from '../turn-event.ts';
import { type AttributeKey, type Attributes, isRead, type Scalar } from './allow-list.ts';
import { type OtlpLog, type OtlpSpan, type Signal, type Signals, UnreadableBody } from './records.ts';

const [VARINT, FIXED64, BYTES] = [0, 1, 2];
/** A field's tag on the wire, by its number in the OTLP specification. */
const tag = (field: number, wireType: number) => (field << 3) | wireType;

/** Logs and traces number these alike. */
const REQUEST = { resources: tag(1, BYTES) };
const OF_RESOURCE = { resource: tag(1, BYTES), scopes: tag(2, BYTES) };
const RESOURCE = { attributes: tag(1, BYTES) };
const OF_SCOPE = { scope: tag(1, BYTES), records: tag(2, BYTES) };
const SCOPE = { name: tag(1, BYTES) };
const LOG = { time: tag(1, FIXED64), attributes: tag(6, BYTES), observed: tag(11, FIXED64) };
const SPAN = {
  ...{ traceId: tag(1, BYTES), spanId: tag(2, BYTES), parentId: tag(4, BYTES), name: tag(5, BYTES) },
  ...{ start: tag(7, FIXED64), end: tag(8, FIXED64), attributes: tag(9, BYTES) },
};
const ATTRIBUTE = { key: tag(1, BYTES), value: tag(2, BYTES) };
const VALUE = { text: tag(1, BYTES), truth: tag(2, VARINT), int: tag(3, VARINT), double: tag(4, FIXED64) };

/** A message that is read later: resources and scopes are told after their records too. */
interface Span {
  readonly from: number;
  readonly to: number;
}

type Found = Partial<Record<AttributeKey, Scalar>>;

/** @throws UnreadableBody */
export function readProtobuf<S extends Signal>(signal: S, body: Buffer, take: (record: Signals[S]) => void): void {
  const reader = protobuf.Reader.create(body);
  const toRecord = signal === 'logs' ? readLog : readSpan;
  try {
    fields(reader, { from: 0, to: body.length }, (field) => {
      if (field !== REQUEST.resources) return false;
      readResource(reader, (scope, shared) => take(toRecord(reader, scope, shared) as Signals[S]));
      return true;
    });
  } catch (error) {
    if (error instanceof UnreadableBody) throw error;
    throw new UnreadableBody('unreadable', 'expected OTLP/protobuf');
  }
}

/** Reads the fields of a message; those that `read` does not take are skipped. The reader is left behind the message. */
function fields(reader: Reader, { from, to }: Span, read: (field: number) => boolean): void {
  reader.pos = from;
  while (reader.pos < to) {
    const field = reader.uint32();
    if (!read(field)) reader.skipType(field & 7);
  }
  if (reader.pos !== to) throw new RangeError('a field reaches beyond its message');
}

/** The message that comes next, passed over. */
function message(reader: Reader): Span {
  const length = reader.uint32();
  const from = reader.pos;
  reader.skip(length);
  return { from, to: from + length };
}

function readResource(reader: Reader, read: (scope: string, shared: Attributes) => void): void {
  const whole = message(reader);
  const shared: Found = {};
  const scopes: Span[] = [];
  fields(reader, whole, (field) => {
    if (field === OF_RESOURCE.scopes) scopes.push(message(reader));
    else if (field === OF_RESOURCE.resource) readAttributes(reader, message(reader), RESOURCE.attributes, shared);
    else return false;
    return true;
  });
  for (const each of scopes) readScope(reader, each, (scope) => read(scope, shared));
  reader.pos = whole.to;
}

function readScope(reader: Reader, whole: Span, read: (scope: string) => void): void {
  let scope = '';
  fields(reader, whole, (field) => {
    if (field !== OF_SCOPE.scope) return false;
    fields(reader, message(reader), (inner) => {
      if (inner !== SCOPE.name) return false;
      scope = reader.string();
      return true;
    });
    return true;
  });
  fields(reader, whole, (field) => {
    if (field !== OF_SCOPE.records) return false;
    read(scope);
    return true;
  });
}

function readLog(reader: Reader, scope: string, shared: Attributes): OtlpLog {
  const attributes: Found = { ...shared };
  const log: Mutable<OtlpLog> = { scope, attributes };
  fields(reader, message(reader), (field) => {
    if (field === LOG.time) setNs(log, 'timeNs', reader);
    else if (field === LOG.observed) setNs(log, 'observedNs', reader);
    else if (field === LOG.attributes) readAttribute(reader, message(reader), attributes);
    else return false;
    return true;
  });
  return log;
}

function readSpan(reader: Reader, scope: string, shared: Attributes): OtlpSpan {
  const attributes: Found = { ...shared };
  const span: Mutable<OtlpSpan> = { scope, name: '', traceId: '', spanId: '', parentId: '', attributes };
  fields(reader, message(reader), (field) => {
    if (field === SPAN.name) span.name = reader.string();
    else if (field === SPAN.traceId) span.traceId = hex(reader);
    else if (field === SPAN.spanId) span.spanId = hex(reader);
    else if (field === SPAN.parentId) span.parentId = hex(reader);
    else if (field === SPAN.start) setNs(span, 'startNs', reader);
    else if (field === SPAN.end) setNs(span, 'endNs', reader);
    else if (field === SPAN.attributes) readAttribute(reader, message(reader), attributes);
    else return false;
    return true;
  });
  return span;
}

const hex = (reader: Reader) => Buffer.from(reader.bytes()).toString('hex');

function setNs<K extends string>(record: { [name in K]?: bigint }, name: K, reader: Reader): void {
  const low = reader.fixed32();
  const ns = (BigInt(reader.fixed32()) << 32n) | BigInt(low);
  if (ns > 0n) record[name] = ns;
}

function readAttributes(reader: Reader, holder: Span, attributeField: number, into: Found): void {
  fields(reader, holder, (field) => {
    if (field !== attributeField) return false;
    readAttribute(reader, message(reader), into);
    return true;
  });
}

function readAttribute(reader: Reader, attribute: Span, into: Found): void {
  let key = '';
  let value: Span | undefined;
  fields(reader, attribute, (field) => {
    if (field === ATTRIBUTE.key) key = reader.string();
    else if (field === ATTRIBUTE.value) value = message(reader);
    else return false;
    return true;
  });
  if (!isRead(key) || !value) return;
  const scalar = readScalar(reader, value);
  if (scalar !== undefined) into[key] = scalar;
  reader.pos = attribute.to;
}

function readScalar(reader: Reader, value: Span): Scalar | undefined {
  let scalar: Scalar | undefined;
  fields(reader, value, (field) => {
    if (field === VALUE.text) scalar = reader.string();
    else if (field === VALUE.truth) scalar = reader.bool();
    else if (field === VALUE.int) scalar = Number(String(reader.int64()));
    else if (field === VALUE.double) scalar = reader.double();
    else return false;
    return true;
  });
  return scalar;
}
