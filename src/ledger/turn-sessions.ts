// The sessions that turns name, each under a small id. They are kept for good, as sessions are.

import type { DatabaseSync, StatementSync } from 'node:sqlite';

/** Ids kept in memory; the rest is looked up on disk. */
const CACHED_MAX = 20_000;

export class TurnSessions {
  readonly #ids = new Map<string, number>();
  /** Turns of a session follow each other. */
  #last: { readonly agent: string; readonly sessionId: string; readonly id: number } | undefined;
  readonly #select: StatementSync;
  readonly #insert: StatementSync;

  constructor(db: DatabaseSync) {
    this.#select = db.prepare('SELECT id FROM turn_session WHERE agent = ? AND session_id = ?');
    this.#insert = db.prepare('INSERT INTO turn_session (agent, session_id) VALUES (?, ?)');
  }

  /** The id of a session that has turns; undefined when it has none. */
  find(agent: string, sessionId: string): number | undefined {
    const last = this.#last;
    if (last && last.sessionId === sessionId && last.agent === agent) return last.id;
    const id = this.#ids.get(keyOf(agent, sessionId)) ?? this.#read(agent, sessionId);
    if (id !== undefined) this.#remember(agent, sessionId, id);
    return id;
  }

  /** Gives an id to a session that has none, inside the caller's transaction. */
  add(agent: string, sessionId: string): number {
    const id = Number(this.#insert.run(agent, sessionId).lastInsertRowid);
    this.#remember(agent, sessionId, id);
    return id;
  }

  /** Forgets what may not be on disk. */
  forget(): void {
    this.#ids.clear();
    this.#last = undefined;
  }

  #read(agent: string, sessionId: string): number | undefined {
    return (this.#select.get(agent, sessionId) as { id: number } | undefined)?.id;
  }

  #remember(agent: string, sessionId: string, id: number): void {
    if (this.#ids.size >= CACHED_MAX) this.#ids.clear();
    this.#ids.set(keyOf(agent, sessionId), id);
    this.#last = { agent, sessionId, id };
  }
}

/** NUL separates: decoders refuse control characters, so no value holds one. */
const keyOf = (agent: string, sessionId: string) => `${agent}\0${sessionId}`;
