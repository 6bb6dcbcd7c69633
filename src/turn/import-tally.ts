// What became of the events of an import, for its report.

import type { Booking } from './turn-event.ts';

export interface ImportTally {
  /** New to the ledger. */
  readonly recorded: number;
  /** Known, and more is known of them now. */
  readonly updated: number;
  /** Known, and nothing was changed. */
  readonly known: number;
  /** Passed on towards a ledger elsewhere, which knows what is new to it. */
  readonly forwarded: number;
  /** Copies that a fork of a session made. */
  readonly ignored: number;
  /** Older than what the ledger still tells apart. */
  readonly tooLate: number;
  /** What cannot be booked, by reason. */
  readonly rejected: Readonly<Record<string, number>>;
}

/** Counts bookings by what an import's report says of them. */
export function importTally(bookings: readonly Booking[]): ImportTally {
  const counts = { recorded: 0, updated: 0, known: 0, forwarded: 0, ignored: 0, tooLate: 0 };
  const rejected: Record<string, number> = {};
  for (const { outcome } of bookings) {
    if (outcome.type === 'duplicate') counts.known++;
    else if (outcome.type !== 'rejected') counts[outcome.type]++;
    else if (outcome.reason === 'too_late') counts.tooLate++;
    else rejected[outcome.reason] = (rejected[outcome.reason] ?? 0) + 1;
  }
  return { ...counts, rejected };
}

/** Both together. */
export function addTallies(a: ImportTally, b: ImportTally): ImportTally {
  const rejected: Record<string, number> = { ...a.rejected };
  for (const [reason, count] of Object.entries(b.rejected)) rejected[reason] = (rejected[reason] ?? 0) + count;
  return {
    recorded: a.recorded + b.recorded,
    updated: a.updated + b.updated,
    known: a.known + b.known,
    forwarded: a.forwarded + b.forwarded,
    ignored: a.ignored + b.ignored,
    tooLate: a.tooLate + b.tooLate,
    rejected,
  };
}
