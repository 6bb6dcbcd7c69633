// The few fields of OTLP's log records and spans that are read.

import { unixMs } from '../fields.ts';
import type { Attributes } from './allow-list.ts';

const NS_PER_MS = 1_000_000n;

/** A log record. */
export interface OtlpLog {
  /** Who wrote it: the name of its instrumentation scope. */
  readonly scope: string;
  /** Unix time in ns; absent where it is not stated or 0. */
  readonly timeNs?: bigint;
  readonly observedNs?: bigint;
  /** The record's own, and of its resource what the record does not state. */
  readonly attributes: Attributes;
}

export interface OtlpSpan {
  readonly scope: string;
  readonly name: string;
  /** Lower-case hex, of 32 and 16 digits; '' where there is none. */
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string;
  readonly startNs?: bigint;
  readonly endNs?: bigint;
  readonly attributes: Attributes;
}

/** The records of one signal, and how a body names them. */
export interface Signals {
  readonly logs: OtlpLog;
  readonly traces: OtlpSpan;
}
export type Signal = keyof Signals;

/** Unix ms of a stated time; undefined where it is not stated or cannot be one. */
export function unixMsOf(ns: bigint | undefined): number | undefined {
  return unixMs.safeParse(ns === undefined ? undefined : Number(ns / NS_PER_MS)).data;
}

/** Thrown where a body cannot be read; says what was expected and never quotes it. */
export class UnreadableBody extends Error {
  readonly reason: 'unreadable' | 'too_large' | 'wrong_type';

  constructor(reason: UnreadableBody['reason'], message: string) {
    super(message);
    this.reason = reason;
  }
}
