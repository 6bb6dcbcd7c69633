// The sessions that turns name, each under a small id. They are kept for good, as sessions are.

import type { DatabaseSync, StatementSync } from 'node:sqlite';

/** Ids kept in memory; the rest is looked up on disk. */
const CACHED_MAX = 20_000;

export class TurnSessions {
  readonly #ids = new Map<string, number>();
  readonly #select: StatementSync;
  readonly #insert: StatementSync;

  constructor(db: DatabaseSync) {
    this.#select = db.prepare('SELECT id FROM turn_session WHERE agent = ? AND session_id = ?');
    this.#insert = db.prepare('INSERT INTO turn_session (agent, session_id) VALUES (?, ?)');
  }

  /** The id of a session that has turns; undefined when it has none. */
  find(agent: string, sessionId: string): number | undefined {
    const key = `${agent}\0${sessionId}`;
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    const row = this.#select.get(agent, sessionId) as { id: number } | undefined;
    if (row) this.#remember(key, row.id);
    return row?.id;
  }

  /** Gives an id to a session that has none, inside the caller's transaction. */
  add(agent: string, sessionId: string): number {
    const id = Number(this.#insert.run(agent, sessionId).lastInsertRowid);
    this.#remember(`${agent}\0${sessionId}`, id);
    return id;
  }

  /** Forgets what may not be on disk. */
  forget(): void {
    this.#ids.clear();
  }

  #remember(key: string, id: number): void {
    if (this.#ids.size >= CACHED_MAX) this.#ids.clear();
    this.#ids.set(key, id);
  }
}
