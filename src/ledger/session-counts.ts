// How many distinct sessions had a turn since some moment, by upstream provider. Sessions are kept for good, so the
// counts of all providers are read at once and remembered until a turn is booked or the moment changes.

import type { DatabaseSync, StatementSync } from 'node:sqlite';

/** Two rounds of the six windows. */
const MOMENTS_MAX = 12;

export class SessionCounts {
  readonly #countByUpstream: StatementSync;
  readonly #countUnion: StatementSync;
  readonly #bySince = new Map<number, Map<string, number>>();

  constructor(db: DatabaseSync) {
    this.#countByUpstream = db.prepare(
      'SELECT upstream_provider, count(*) AS n FROM session_upstream WHERE last_ms >= ? GROUP BY upstream_provider',
    );
    this.#countUnion = db.prepare(
      `SELECT count(*) AS n FROM (SELECT DISTINCT agent, session_id FROM session_upstream
         WHERE last_ms >= ? AND upstream_provider IN (SELECT value FROM json_each(?)))`,
    );
  }

  /** Distinct sessions with a turn since `sinceMs` that any of these upstream providers served. */
  count(sinceMs: number, upstreamProviders: readonly string[]): number {
    const [only, ...others] = upstreamProviders;
    if (only === undefined) return 0;
    if (others.length > 0) {
      return (this.#countUnion.get(sinceMs, JSON.stringify(upstreamProviders)) as { n: number }).n;
    }
    let counts = this.#bySince.get(sinceMs);
    if (!counts) {
      const rows = this.#countByUpstream.all(sinceMs) as { upstream_provider: string; n: number }[];
      counts = new Map(rows.map(({ upstream_provider, n }) => [upstream_provider, n]));
      // Moments pass even when no turn is booked.
      if (this.#bySince.size >= MOMENTS_MAX) this.#bySince.clear();
      this.#bySince.set(sinceMs, counts);
    }
    return counts.get(only) ?? 0;
  }

  /** Counts anew at the next question. */
  forget(): void {
    if (this.#bySince.size > 0) this.#bySince.clear();
  }
}
