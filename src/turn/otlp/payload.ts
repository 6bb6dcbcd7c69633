// What an OTLP/HTTP body holds, in JSON or protobuf, as the few fields that are read. Both encodings give the same.

import { readJson } from './json.ts';
import { readProtobuf } from './protobuf.ts';
import { type Signal, type Signals, UnreadableBody } from './records.ts';

/** A Collector's batches hold some thousands. */
const RECORDS_MAX = 50_000;

export type Encoding = 'json' | 'protobuf';

/** @throws UnreadableBody */
export function readBody<S extends Signal>(signal: S, body: Buffer, encoding: Encoding): Signals[S][] {
  const records: Signals[S][] = [];
  const take = (record: Signals[S]) => {
    if (records.length >= RECORDS_MAX)
      throw new UnreadableBody('too_large', `a body may hold ${RECORDS_MAX} records; export smaller batches`);
    records.push(record);
  };
  if (encoding === 'json') readJson(signal, body, take);
  else readProtobuf(signal, body, take);
  return records;
}
