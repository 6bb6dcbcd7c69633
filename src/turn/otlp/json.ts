// OTLP/JSON: ids are hex, 64-bit integers may be numbers or texts, times are texts.

import { isUtf8 } from 'node:buffer';
import { isObject } from '../fields.ts';
import { type AttributeKey, type Attributes, isRead, type Scalar } from './allow-list.ts';
import { type OtlpLog, type OtlpSpan, type Signal, type Signals, UnreadableBody } from './records.ts';

/** Real bodies are a dozen deep. */
const DEPTH_MAX = 64;
/** Objects and lists; 16 MB of real records have some 500,000. */
const CONTAINERS_MAX = 1_000_000;

const [QUOTE, BACKSLASH, OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = Buffer.from('"\\[]{}');

const NAMES = {
  logs: { resources: 'resourceLogs', scopes: 'scopeLogs', records: 'logRecords' },
  traces: { resources: 'resourceSpans', scopes: 'scopeSpans', records: 'spans' },
} as const;

/** What an object holds under one of our names, none of which it can inherit. */
const at = (holder: unknown, key: string): unknown => (isObject(holder) ? holder[key] : undefined);

/** @throws UnreadableBody */
export function readJson<S extends Signal>(signal: S, body: Buffer, take: (record: Signals[S]) => void): void {
  const names = NAMES[signal];
  for (const ofResource of listAt(parsed(body), names.resources)) {
    const shared = attributesAt(at(ofResource, 'resource'), {});
    for (const ofScope of listAt(ofResource, names.scopes)) {
      const scope = textOf(at(at(ofScope, 'scope'), 'name'));
      for (const record of listAt(ofScope, names.records)) {
        const attributes = attributesAt(record, shared);
        take((signal === 'logs' ? toLog : toSpan)(record, { scope, attributes }) as Signals[S]);
      }
    }
  }
}

function parsed(body: Buffer): unknown {
  refuseBombs(body);
  try {
    if (isUtf8(body)) return JSON.parse(body.toString('utf8'));
  } catch {
    // Told below: the error would quote the input.
  }
  throw new UnreadableBody('unreadable', 'expected OTLP/JSON in UTF-8');
}

/** What is nested or split without end takes far longer to parse than to refuse. */
function refuseBombs(body: Buffer): void {
  let depth = 0;
  let containers = 0;
  for (let place = 0; place < body.length; place++) {
    const byte = body[place];
    if (byte === QUOTE) {
      for (place++; place < body.length && body[place] !== QUOTE; place++) if (body[place] === BACKSLASH) place++;
    } else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
      if (++depth > DEPTH_MAX) throw new UnreadableBody('too_large', `expected at most ${DEPTH_MAX} levels`);
      if (++containers > CONTAINERS_MAX)
        throw new UnreadableBody('too_large', `expected at most ${CONTAINERS_MAX} objects and lists in a body`);
    } else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) depth--;
  }
}

function listAt(holder: unknown, key: string): readonly unknown[] {
  if (!isObject(holder)) throw new UnreadableBody('wrong_type', `expected an object with ${key}`);
  const list = at(holder, key);
  if (list === undefined || list === null) return [];
  if (!Array.isArray(list)) throw new UnreadableBody('wrong_type', `${key}: expected a list`);
  return list;
}

function toLog(record: unknown, common: { scope: string; attributes: Attributes }): OtlpLog {
  return {
    ...common,
    ...nsAt(record, 'timeUnixNano', 'timeNs'),
    ...nsAt(record, 'observedTimeUnixNano', 'observedNs'),
  };
}

function toSpan(record: unknown, common: { scope: string; attributes: Attributes }): OtlpSpan {
  const idAt = (key: string) => textOf(at(record, key)).toLowerCase();
  return {
    ...common,
    ...{ name: textOf(at(record, 'name')), traceId: idAt('traceId'), spanId: idAt('spanId') },
    parentId: idAt('parentSpanId'),
    ...nsAt(record, 'startTimeUnixNano', 'startNs'),
    ...nsAt(record, 'endTimeUnixNano', 'endNs'),
  };
}

const textOf = (value: unknown) => (typeof value === 'string' ? value : '');

function nsAt<K extends string>(record: unknown, key: string, name: K): { readonly [name in K]?: bigint } {
  const stated = at(record, key);
  const digits = typeof stated === 'string' ? stated : Number.isSafeInteger(stated) ? String(stated) : '';
  return /^[1-9]\d{0,19}$/.test(digits) ? ({ [name]: BigInt(digits) } as { [name in K]?: bigint }) : {};
}

function attributesAt(holder: unknown, shared: Attributes): Attributes {
  const list = at(holder, 'attributes');
  const found: Partial<Record<AttributeKey, Scalar>> = { ...shared };
  for (const attribute of Array.isArray(list) ? list : []) {
    const key = at(attribute, 'key');
    if (!isRead(key)) continue;
    const value = scalarOf(at(attribute, 'value'));
    if (value !== undefined) found[key] = value;
  }
  return found;
}

function scalarOf(value: unknown): Scalar | undefined {
  const text = at(value, 'stringValue');
  if (typeof text === 'string') return text;
  const truth = at(value, 'boolValue');
  if (typeof truth === 'boolean') return truth;
  const number = at(value, 'intValue') ?? at(value, 'doubleValue');
  if (typeof number === 'number') return number;
  return typeof number === 'string' && number.trim() !== '' ? Number(number) : undefined;
}
