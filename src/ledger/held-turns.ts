// Turns that are booked once their session is known by another road, and not at all when it never is.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { Booking, TurnEvent } from '../turn/turn-event.ts';

/** The other road is a plugin that may have to spool for a while. */
const HELD_MAX_MS = 24 * 3_600_000;

const NONE: readonly TurnEvent[] = [];

export class HeldTurns {
  readonly #hold: StatementSync;
  readonly #ofSession: StatementSync;
  readonly #release: StatementSync;
  readonly #expire: StatementSync;
  readonly #sessions: StatementSync;
  readonly #project: StatementSync;
  readonly #hasTurn: StatementSync;
  /** The sessions that something waits for: most turns ask, and for most there is nothing. */
  readonly #awaited = new Set<string>();

  constructor(db: DatabaseSync) {
    this.#hold = db.prepare(
      'INSERT OR IGNORE INTO held_turn (agent, session_id, message_id, body, received_ms) VALUES (?, ?, ?, ?, ?)',
    );
    this.#ofSession = db.prepare('SELECT body FROM held_turn WHERE agent = ? AND session_id = ?');
    this.#release = db.prepare('DELETE FROM held_turn WHERE agent = ? AND session_id = ?');
    this.#expire = db.prepare('DELETE FROM held_turn WHERE received_ms < ?');
    this.#sessions = db.prepare('SELECT DISTINCT agent, session_id FROM held_turn');
    this.#project = db.prepare('SELECT project FROM session WHERE agent = ? AND session_id = ?');
    this.#hasTurn = db.prepare(
      'SELECT 1 FROM turn_session JOIN turn ON session = turn_session.id WHERE agent = ? AND session_id = ? LIMIT 1',
    );
  }

  /** The turn as it can be booked now, or what became of it where it has to wait. */
  admit(event: TurnEvent, nowMs: number): TurnEvent | Booking {
    if (!event.awaitsSession) return event;
    const { agent, sessionId, messageId } = event;
    const session = this.#project.get(agent, sessionId) as { project: string } | undefined;
    if (session || this.#hasTurn.get(agent, sessionId)) {
      // The session's own sender knows its project, this one does not.
      return event.project === undefined && session?.project ? { ...event, project: session.project } : event;
    }
    const { changes } = this.#hold.run(agent, sessionId, messageId, JSON.stringify(event), nowMs);
    this.#awaited.add(keyOf(agent, sessionId));
    return { outcome: { type: changes > 0 ? 'recorded' : 'duplicate' }, turns: [] };
  }

  /** The turns that waited for a session, which is known now. */
  take(agent: string, sessionId: string): readonly TurnEvent[] {
    if (this.#awaited.size === 0 || !this.#awaited.delete(keyOf(agent, sessionId))) return NONE;
    const rows = this.#ofSession.all(agent, sessionId) as { body: string }[];
    this.#release.run(agent, sessionId);
    return rows.map(({ body }) => JSON.parse(body) as TurnEvent);
  }

  /** Gives up those whose session nobody told of. */
  sweep(nowMs: number): void {
    this.#expire.run(nowMs - HELD_MAX_MS);
    this.load();
  }

  load(): void {
    this.#awaited.clear();
    for (const { agent, session_id } of this.#sessions.all() as { agent: string; session_id: string }[]) {
      this.#awaited.add(keyOf(agent, session_id));
    }
  }
}

const keyOf = (agent: string, sessionId: string) => `${agent}\0${sessionId}`;
