// How long the model itself took: a turn's wall time less the time in which its tools ran or the user was asked.
// Looked at 60 s after completion, when every record of the turn has had time to arrive in whatever order.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { TOLL } from '../metrics/catalogue.ts';
import type { Dimensions } from './dimensions.ts';
import type { Totals } from './totals.ts';
import { SETTLE_MS } from './turn-book.ts';
import type { NamedTurnRow } from './turn-vector.ts';

type Interval = readonly [fromMs: number, toMs: number];

/** The length of the union of intervals, as far as it lies within `bounds`. */
export function unionMs(intervals: readonly Interval[], [fromMs, toMs]: Interval): number {
  const clipped = intervals
    .map(([from, to]): Interval => [Math.max(from, fromMs), Math.min(to, toMs)])
    .filter(([from, to]) => to > from)
    .sort((a, b) => a[0] - b[0]);
  let sum = 0;
  let reachedMs = fromMs;
  for (const [from, to] of clipped) {
    if (to <= reachedMs) continue;
    sum += to - Math.max(from, reachedMs);
    reachedMs = to;
  }
  return sum;
}

export class ModelTime {
  readonly #totals: Totals;
  readonly #dimensions: Dimensions;
  readonly #unsettled: StatementSync;
  readonly #intervals: StatementSync;
  readonly #markSettled: StatementSync;

  constructor(db: DatabaseSync, parts: { totals: Totals; dimensions: Dimensions }) {
    this.#totals = parts.totals;
    this.#dimensions = parts.dimensions;
    this.#unsettled = db.prepare(
      `SELECT turn.*, agent, session_id FROM turn JOIN turn_session ON turn_session.id = session
         WHERE settled = 0 AND phase > 0 AND phase = 2 AND received_ms <= ? ORDER BY received_ms LIMIT ?`,
    );
    this.#intervals = db.prepare(
      `SELECT started_ms AS from_ms, completed_ms AS to_ms FROM tool_call
         WHERE agent = ?1 AND session_id = ?2 AND message_id = ?3 AND started_ms IS NOT NULL AND completed_ms IS NOT NULL
       UNION ALL
       SELECT asked_ms, replied_ms FROM permission
         WHERE agent = ?1 AND session_id = ?2 AND message_id = ?3 AND asked_ms IS NOT NULL AND replied_ms IS NOT NULL`,
    );
    this.#markSettled = db.prepare('UPDATE turn SET settled = 1 WHERE id = ?');
  }

  /** Observes the turns that completed 60 s ago, inside the caller's transaction. Returns how many. */
  settle(nowMs: number, limit: number): number {
    const rows = this.#unsettled.all(nowMs - SETTLE_MS, limit) as unknown as NamedTurnRow[];
    for (const row of rows) {
      this.#markSettled.run(row.id);
      // An untimed turn has a duration that no clock can have measured.
      if (!row.timed || row.completed_ms === null) continue;
      const bounds: Interval = [row.started_ms, row.completed_ms];
      const busy = this.#intervals.all(row.agent, row.session_id, row.message_id) as unknown as {
        from_ms: number;
        to_ms: number;
      }[];
      const taken = unionMs(
        busy.map((b): Interval => [b.from_ms, b.to_ms]),
        bounds,
      );
      const modelMs = row.completed_ms - row.started_ms - taken;
      // What was timed may have been described anew since, with a completion before its start.
      if (modelMs >= 0) this.#totals.observe(TOLL.modelDuration, this.#dimensions.byId(row.series_id), modelMs);
    }
    return rows.length;
  }
}
