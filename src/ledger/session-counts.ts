// How many distinct sessions had a turn in a window that some upstream providers served. Sessions are kept for good, so
// they are counted once; after that a count moves with every turn, and with the window's start.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { Window } from './reading.ts';

/** Counts kept: six windows of more tiles than there are. */
const COUNTS_MAX = 1200;

interface Count {
  sinceMs: number;
  sessions: number;
  readonly upstreams: ReadonlySet<string>;
}

/** When a session last had a turn that an upstream provider served. */
interface Noted {
  readonly agent: string;
  readonly session: string;
  readonly upstream: string;
  lastMs: number;
}

export class SessionCounts {
  readonly #select: StatementSync;
  readonly #upsert: StatementSync;
  readonly #countSince: StatementSync;
  readonly #countLeft: StatementSync;
  readonly #counts = new Map<string, Count>();
  /** What the transaction under way learned, to be written once. */
  readonly #noted = new Map<string, Noted>();
  /** Turns of a session follow each other. */
  #last: Noted | undefined;

  constructor(db: DatabaseSync) {
    this.#select = db.prepare(
      'SELECT upstream_provider AS upstream, last_ms AS lastMs FROM session_upstream WHERE agent = ? AND session_id = ?',
    );
    this.#upsert = db.prepare(
      `INSERT INTO session_upstream (agent, session_id, upstream_provider, last_ms) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET last_ms = max(last_ms, excluded.last_ms)`,
    );
    const distinct = (where: string) =>
      db.prepare(
        `SELECT count(*) AS n FROM (SELECT DISTINCT agent, session_id FROM session_upstream AS one
           WHERE upstream_provider IN (SELECT value FROM json_each(?1)) AND ${where})`,
      );
    this.#countSince = distinct('last_ms >= ?2');
    this.#countLeft = distinct(
      `last_ms >= ?2 AND last_ms < ?3 AND NOT EXISTS (
         SELECT 1 FROM session_upstream AS other
         WHERE other.agent = one.agent AND other.session_id = one.session_id AND other.last_ms >= ?3
           AND other.upstream_provider IN (SELECT value FROM json_each(?1)))`,
    );
  }

  /** Notes a turn of a session, inside the caller's transaction. */
  note(agent: string, session: string, upstream: string, datedMs: number): void {
    const noted = this.#notedOf(agent, session, upstream);
    if (datedMs > noted.lastMs) noted.lastMs = datedMs;
  }

  #notedOf(agent: string, session: string, upstream: string): Noted {
    const last = this.#last;
    if (last && last.session === session && last.agent === agent && last.upstream === upstream) return last;
    const key = `${agent}\0${session}\0${upstream}`;
    let noted = this.#noted.get(key);
    if (!noted) {
      noted = { agent, session, upstream, lastMs: 0 };
      this.#noted.set(key, noted);
    }
    this.#last = noted;
    return noted;
  }

  /** Writes what was noted; call it inside the transaction that books the cause. */
  flush(): void {
    for (const noted of this.#noted.values()) {
      const { agent, session, upstream, lastMs } = noted;
      if (this.#counts.size > 0) this.#move(noted);
      this.#upsert.run(agent, session, upstream, lastMs);
    }
    this.#noted.clear();
    this.#last = undefined;
  }

  /** Forgets what was not written, and counts anew. */
  load(): void {
    this.#noted.clear();
    this.#last = undefined;
    this.#counts.clear();
  }

  /** Distinct sessions with a turn in a window, which begins at `sinceMs`, that any of these upstream providers served. */
  count(window: Window, sinceMs: number, upstreamProviders: readonly string[]): number {
    const list = JSON.stringify(upstreamProviders);
    const key = `${window} ${list}`;
    let count = this.#counts.get(key);
    if (count && sinceMs > count.sinceMs) {
      count.sessions -= numberIn(this.#countLeft.get(list, count.sinceMs, sinceMs));
      count.sinceMs = sinceMs;
    }
    // A clock that went back means counting anew.
    if (!count || sinceMs < count.sinceMs) {
      const sessions = numberIn(this.#countSince.get(list, sinceMs));
      count = { sinceMs, sessions, upstreams: new Set(upstreamProviders) };
      if (this.#counts.size >= COUNTS_MAX) this.#counts.clear();
      this.#counts.set(key, count);
    }
    return count.sessions;
  }

  /** Adds a session to each count that it was not in. */
  #move({ agent, session, upstream, lastMs }: Noted): void {
    const before = this.#select.all(agent, session) as unknown as Pick<Noted, 'upstream' | 'lastMs'>[];
    for (const count of this.#counts.values()) {
      if (lastMs < count.sinceMs || !count.upstreams.has(upstream)) continue;
      const wasIn = before.some((known) => known.lastMs >= count.sinceMs && count.upstreams.has(known.upstream));
      if (!wasIn) count.sessions += 1;
    }
  }
}

const numberIn = (row: unknown) => (row as { n: number }).n;
