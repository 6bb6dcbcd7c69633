// Lets single turns go after a while; totals, rollups and sessions stay. What was let go can no longer be told from
// something new, so the same transaction moves a horizon, and what is dated before it is refused.

import type { DatabaseSync } from 'node:sqlite';

/** One sweep deletes at most this many rows of a kind; what is left over waits for the next. */
const ROWS_PER_SWEEP = 20_000;

export class Retention {
  readonly #db: DatabaseSync;
  readonly #retentionMs: number;
  readonly #createdMs: number;
  #horizonMs: number | undefined;
  #uptimeMs = 0;

  constructor(db: DatabaseSync, options: { retentionMs: number; createdMs: number }) {
    this.#db = db;
    this.#retentionMs = options.retentionMs;
    this.#createdMs = options.createdMs;
    this.load();
  }

  /** Unix ms before which nothing new is booked; -Infinity as long as nothing was ever deleted. */
  get horizonMs(): number {
    return this.#horizonMs ?? Number.NEGATIVE_INFINITY;
  }

  load(): void {
    const read = this.#db.prepare('SELECT value FROM meta WHERE key = ?');
    const kept = (key: string) => (read.get(key) as { value: number } | undefined)?.value;
    this.#horizonMs = kept('horizon_ms');
    this.#uptimeMs = kept('uptime_ms') ?? 0;
  }

  /**
   * Moves the horizon and deletes what lies before it, inside the caller's transaction.
   *
   * The horizon never moves back, and never further than the ledger was in use, so that a clock that jumps ahead
   * deletes nothing. It begins at the ledger's birth, once the ledger was in use for longer than the retention: until
   * then back-filled history of any age is welcome.
   * @param elapsedMs by the monotonic clock, since the previous call
   */
  sweep(nowMs: number, elapsedMs: number): void {
    this.#uptimeMs += Math.floor(elapsedMs);
    this.#keep('uptime_ms', this.#uptimeMs);
    const certainMs = Math.min(nowMs, this.#createdMs + this.#uptimeMs);
    const horizonMs = Math.max(certainMs - this.#retentionMs, this.#horizonMs ?? this.#createdMs);
    if (this.#horizonMs === undefined && horizonMs <= this.#createdMs) return;
    this.#horizonMs = horizonMs;
    this.#keep('horizon_ms', horizonMs);
    this.#db
      .prepare('DELETE FROM turn WHERE id IN (SELECT id FROM turn WHERE dated_ms < ? LIMIT ?)')
      .run(horizonMs, ROWS_PER_SWEEP);
    for (const [table, key] of [
      ['tool_call', 'call_id'],
      ['permission', 'request_id'],
      ['failed_attempt', 'attempt_id'],
    ]) {
      // By receipt, which is never before the event itself: no earlier than the turn they belong to.
      this.#db
        .prepare(
          `DELETE FROM ${table} WHERE (agent, session_id, ${key}) IN
             (SELECT agent, session_id, ${key} FROM ${table} WHERE received_ms < ? ${table === 'tool_call' ? 'AND booked = 1' : ''} LIMIT ?)`,
        )
        .run(horizonMs, ROWS_PER_SWEEP);
    }
  }

  #keep(key: 'horizon_ms' | 'uptime_ms', value: number): void {
    this.#db
      .prepare('INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value')
      .run(key, value);
  }
}
