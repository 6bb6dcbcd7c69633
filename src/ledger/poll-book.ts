// Keeps the newest reading of every account, so that a restart shows it until it expires.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { PollResult } from '../poll/poll-result.ts';
import type { Booking } from '../turn/turn-event.ts';

/** The values of a route are shown for this many poll intervals after its last good reading, whatever the back-off. */
const EXPIRES_AFTER_INTERVALS = 3;
/** A state holds until the next reading; the longest pause that a remote can ask for is an hour. Older ones say nothing. */
const STATUS_KEPT_MS = 2 * 3600_000;

export class PollBook {
  readonly #db: DatabaseSync;
  readonly #put: StatementSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#put = db.prepare(
      `INSERT INTO poll_result (provider, account, taken_ms, body) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET taken_ms = excluded.taken_ms, body = excluded.body WHERE excluded.taken_ms > taken_ms`,
    );
  }

  /** Books one reading inside the caller's transaction; whichever machine sent it, the newest one stays. */
  book(stated: PollResult, nowMs: number): Booking {
    // A sender whose clock is ahead must not keep honest readings out until then.
    const result = { ...stated, takenMs: Math.min(stated.takenMs, nowMs) };
    const known = this.#db
      .prepare('SELECT 1 FROM poll_result WHERE provider = ? AND account = ?')
      .get(result.provider, result.account);
    const { changes } = this.#put.run(result.provider, result.account, result.takenMs, JSON.stringify(result));
    if (changes === 0) return { outcome: { type: 'duplicate' } };
    return { outcome: { type: known ? 'updated' : 'recorded' } };
  }

  /** What the readings still tell at `nowMs`: the state of each account, and the values of routes that have not expired. */
  current(nowMs: number): PollResult[] {
    return this.#db
      .prepare('SELECT body FROM poll_result ORDER BY provider, account')
      .all()
      .map((row) => JSON.parse(row.body as string) as PollResult)
      .filter(({ takenMs }) => nowMs - takenMs <= STATUS_KEPT_MS)
      .map((result) => withoutExpired(result, nowMs));
  }
}

function withoutExpired(result: PollResult, nowMs: number): PollResult {
  const { models, quotas, ...rest } = result;
  const oldestMs = nowMs - EXPIRES_AFTER_INTERVALS * result.intervalMs;
  const routes = Object.fromEntries(Object.entries(result.routes).filter(([, atMs]) => atMs >= oldestMs));
  // A window that has begun anew since it was read has a share that nobody knows yet.
  const running = quotas?.filter(({ resetMs }) => resetMs === undefined || resetMs > nowMs);
  return {
    ...rest,
    routes,
    ...(models && routes.models ? { models } : {}),
    ...(running && routes.quotas ? { quotas: running } : {}),
  };
}
