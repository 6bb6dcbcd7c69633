// Keeps the newest reading of every account, so that a restart shows it until it expires.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { PollResult } from '../poll/poll-result.ts';
import type { Booking } from '../turn/turn-event.ts';
import { AHEAD_TOLERANCE_MS, isAhead } from './plausible-time.ts';

/** The values of a route are shown for this many poll intervals after its last good reading, whatever the back-off. */
const EXPIRES_AFTER_INTERVALS = 3;
/** A state holds until the next reading; the longest pause that a remote can ask for is an hour. Older ones say nothing. */
const STATUS_KEPT_MS = 2 * 3600_000;

/** Accounts are named by senders, and each has about ten series. */
const ACCOUNTS_MAX = 200;

export class PollBook {
  readonly #db: DatabaseSync;
  readonly #find: StatementSync;
  readonly #countAll: StatementSync;
  readonly #deleteStale: StatementSync;
  readonly #put: StatementSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#find = db.prepare('SELECT 1 FROM poll_result WHERE provider = ? AND account = ?');
    this.#countAll = db.prepare('SELECT count(*) AS n FROM poll_result');
    this.#deleteStale = db.prepare('DELETE FROM poll_result WHERE taken_ms < ?');
    this.#put = db.prepare(
      `INSERT INTO poll_result (provider, account, taken_ms, body) VALUES (?1, ?2, ?3, ?4)
       ON CONFLICT DO UPDATE SET taken_ms = excluded.taken_ms, body = excluded.body
         WHERE excluded.taken_ms > taken_ms OR taken_ms > ?5`,
    );
  }

  /** Books one reading inside the caller's transaction; whichever machine sent it, the newest one stays. `isOwn`: our own poll, which no flood keeps out. */
  book(stated: PollResult, { nowMs, isOwn }: { nowMs: number; isOwn: boolean }): Booking {
    // A sender whose clock is ahead must not keep honest readings out until then, nor values alive.
    const past = (ms: number) => Math.min(ms, nowMs);
    const routes = Object.fromEntries(Object.entries(stated.routes).map(([route, atMs]) => [route, past(atMs)]));
    const result = { ...stated, takenMs: past(stated.takenMs), routes };
    const redated = isAhead(stated.takenMs, nowMs) ? ({ redated: true } as const) : {};
    const known = this.#find.get(result.provider, result.account);
    if (!known && !isOwn && this.#count() >= ACCOUNTS_MAX) this.#deleteStale.run(nowMs - STATUS_KEPT_MS);
    if (!known && !isOwn && this.#count() >= ACCOUNTS_MAX) {
      const detail = `more than ${ACCOUNTS_MAX} accounts were reported; this one is not kept`;
      return { outcome: { type: 'rejected', reason: 'overflow', detail } };
    }
    const { provider, account, takenMs } = result;
    const { changes } = this.#put.run(provider, account, takenMs, JSON.stringify(result), nowMs + AHEAD_TOLERANCE_MS);
    if (changes === 0) return { outcome: { type: 'duplicate' } };
    return { outcome: { type: known ? 'updated' : 'recorded' }, ...redated };
  }

  #count(): number {
    return (this.#countAll.get() as { n: number }).n;
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
