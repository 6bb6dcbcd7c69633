// Books tool calls, sessions, permission questions, and failed calls of a model that are no turns.
//
// A tool call is counted under the upstream provider of the turn that made it, so it is held until that turn is known,
// and after 60 s without one it is counted under `unknown`. It is counted once, whatever comes later.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { TOLL } from '../metrics/catalogue.ts';
import type { Booking, ErrorEvent, PermissionEvent, SessionEvent, ToolEvent, TurnStatus } from '../turn/turn-event.ts';
import { UNKNOWN_UPSTREAM } from '../turn/upstream-provider.ts';
import type { Dimensions } from './dimensions.ts';
import type { LabelCaps } from './label-caps.ts';
import { plausibleDurationMs } from './plausible-time.ts';
import type { Totals } from './totals.ts';
import { SETTLE_MS, type TurnBook } from './turn-book.ts';
import type { TurnRow } from './turn-vector.ts';

interface ToolRow {
  readonly agent: string;
  readonly session_id: string;
  readonly call_id: string;
  readonly message_id: string | null;
  readonly tool: string;
  readonly mcp_server: string | null;
  readonly status: TurnStatus;
  readonly started_ms: number | null;
  readonly completed_ms: number | null;
  readonly project: string | null;
  readonly origin: number;
  readonly booked: number;
}

interface Parts {
  readonly totals: Totals;
  readonly caps: LabelCaps;
  readonly dimensions: Dimensions;
  readonly turns: TurnBook;
}

const RECORDED: Booking = { outcome: { type: 'recorded' } };
const UPDATED: Booking = { outcome: { type: 'updated' } };
const DUPLICATE: Booking = { outcome: { type: 'duplicate' } };

export class ToolBook {
  readonly #parts: Parts;
  readonly #find: StatementSync;
  readonly #put: StatementSync;
  readonly #markBooked: StatementSync;
  readonly #heldOfMessage: StatementSync;
  readonly #heldLong: StatementSync;
  readonly #sessionProject: StatementSync;
  readonly #insertSession: StatementSync;
  readonly #insertError: StatementSync;
  readonly #putPermission: StatementSync;
  readonly #findPermission: StatementSync;
  readonly #countHeld: StatementSync;
  /** How many calls wait for their turn: every new turn asks, and mostly there are none. */
  #held = 0;

  constructor(db: DatabaseSync, parts: Parts) {
    this.#parts = parts;
    this.#find = db.prepare('SELECT * FROM tool_call WHERE agent = ? AND session_id = ? AND call_id = ?');
    this.#put = db.prepare(
      `INSERT INTO tool_call (agent, session_id, call_id, message_id, tool, mcp_server, status, started_ms, completed_ms, project, origin, booked, received_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET message_id = excluded.message_id, tool = excluded.tool, mcp_server = excluded.mcp_server, status = excluded.status,
         started_ms = excluded.started_ms, completed_ms = excluded.completed_ms, project = excluded.project, origin = excluded.origin`,
    );
    this.#markBooked = db.prepare('UPDATE tool_call SET booked = 1 WHERE agent = ? AND session_id = ? AND call_id = ?');
    this.#heldOfMessage = db.prepare(
      'SELECT * FROM tool_call WHERE agent = ? AND session_id = ? AND message_id = ? AND booked = 0',
    );
    this.#heldLong = db.prepare(
      'SELECT * FROM tool_call WHERE booked = 0 AND received_ms <= ? ORDER BY received_ms LIMIT ?',
    );
    this.#countHeld = db.prepare('SELECT count(*) AS n FROM tool_call WHERE booked = 0');
    this.#sessionProject = db.prepare('SELECT project FROM session WHERE agent = ? AND session_id = ?');
    this.#insertSession = db.prepare(
      'INSERT OR IGNORE INTO session (agent, session_id, project, received_ms) VALUES (?, ?, ?, ?)',
    );
    this.#insertError = db.prepare(
      'INSERT OR IGNORE INTO failed_attempt (agent, session_id, attempt_id, received_ms) VALUES (?, ?, ?, ?)',
    );
    this.#findPermission = db.prepare('SELECT * FROM permission WHERE agent = ? AND session_id = ? AND request_id = ?');
    this.#putPermission = db.prepare(
      `INSERT INTO permission (agent, session_id, request_id, message_id, asked_ms, replied_ms, received_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET message_id = coalesce(message_id, excluded.message_id),
         asked_ms = coalesce(asked_ms, excluded.asked_ms), replied_ms = coalesce(replied_ms, excluded.replied_ms)`,
    );
  }

  /** Books one finished tool call inside the caller's transaction. */
  bookTool(event: ToolEvent, nowMs: number, horizonMs: number): Booking {
    const row = this.#find.get(event.agent, event.sessionId, event.callId) as ToolRow | undefined;
    const origin = event.origin === 'part' ? 1 : 0;
    // The agent's own record is final, and a bare notice knows less than any record before it.
    if (row && (row.origin === 1 || origin === 0)) return DUPLICATE;
    if (!row && (event.completedMs ?? nowMs) < horizonMs) {
      return {
        outcome: {
          type: 'rejected',
          reason: 'too_late',
          detail: 'dated before the horizon: calls of that time are no longer kept',
        },
      };
    }
    this.#put.run(
      event.agent,
      event.sessionId,
      event.callId,
      event.messageId ?? null,
      event.tool,
      event.mcpServer ?? null,
      event.status,
      event.startedMs ?? null,
      event.completedMs ?? null,
      event.project ?? row?.project ?? null,
      origin,
      row?.booked ?? 0,
      nowMs,
    );
    if (!row) this.#held += 1;
    const turn = event.messageId && this.#parts.turns.find(event.agent, event.sessionId, event.messageId);
    if (turn && !row?.booked) {
      this.#count(this.#find.get(event.agent, event.sessionId, event.callId) as unknown as ToolRow, turn);
    }
    return row ? UPDATED : RECORDED;
  }

  /** Counts the calls that waited for this turn. */
  release(agent: string, sessionId: string, messageId: string): void {
    if (this.#held === 0) return;
    const held = this.#heldOfMessage.all(agent, sessionId, messageId) as unknown as ToolRow[];
    if (held.length === 0) return;
    const turn = this.#parts.turns.find(agent, sessionId, messageId);
    for (const row of held) this.#count(row, turn);
  }

  /** Counts the calls whose turn did not become known for 60 s. Returns how many. */
  settle(nowMs: number, limit: number): number {
    const rows = this.#heldLong.all(nowMs - SETTLE_MS, limit) as unknown as ToolRow[];
    for (const row of rows) this.#count(row, undefined);
    return rows.length;
  }

  /** Counts anew what the disk holds. */
  load(): void {
    this.#held = (this.#countHeld.get() as { n: number }).n;
  }

  bookSession(event: SessionEvent, nowMs: number): Booking {
    const { changes } = this.#insertSession.run(event.agent, event.sessionId, event.project ?? '', nowMs);
    if (changes === 0) return DUPLICATE;
    const { totals } = this.#parts;
    const labels = this.#exported({ agent: event.agent, project: event.project ?? '' }, TOLL.sessions.name);
    totals.add(TOLL.sessions, labels, 1);
    return RECORDED;
  }

  bookError(event: ErrorEvent, nowMs: number, horizonMs: number): Booking {
    if (event.failedMs < horizonMs) {
      const detail = 'dated before the horizon: failed attempts of that time are no longer kept';
      return { outcome: { type: 'rejected', reason: 'too_late', detail } };
    }
    const { changes } = this.#insertError.run(event.agent, event.sessionId, event.attemptId, nowMs);
    if (changes === 0) return DUPLICATE;
    const { agent, provider, upstreamProvider: upstream_provider, model, reason } = event;
    const labels = this.#exported({ agent, provider, upstream_provider, model }, TOLL.turnErrors.name);
    this.#parts.totals.add(TOLL.turnErrors, { ...labels, reason }, 1);
    return RECORDED;
  }

  bookPermission(event: PermissionEvent, nowMs: number): Booking {
    const before = this.#findPermission.get(event.agent, event.sessionId, event.requestId);
    const news =
      !before ||
      (event.askedMs !== undefined && before.asked_ms === null) ||
      (event.repliedMs !== undefined && before.replied_ms === null) ||
      (event.messageId !== undefined && before.message_id === null);
    if (!news) return DUPLICATE;
    this.#putPermission.run(
      event.agent,
      event.sessionId,
      event.requestId,
      event.messageId ?? null,
      event.askedMs ?? null,
      event.repliedMs ?? null,
      nowMs,
    );
    return before ? UPDATED : RECORDED;
  }

  #count(row: ToolRow, turn: TurnRow | undefined): void {
    const { totals, dimensions } = this.#parts;
    const series = turn && dimensions.byId(turn.series_id);
    const session = this.#sessionProject.get(row.agent, row.session_id) as { project: string } | undefined;
    const labels = this.#exported(
      {
        agent: series?.agent ?? row.agent,
        upstream_provider: series?.upstream_provider ?? UNKNOWN_UPSTREAM,
        tool: row.tool,
        mcp_server: row.mcp_server ?? '',
        project: series?.project ?? row.project ?? session?.project ?? '',
      },
      TOLL.toolCalls.name,
    );
    totals.add(TOLL.toolCalls, { ...labels, status: row.status }, 1);
    const durationMs = plausibleDurationMs(row.started_ms, row.completed_ms);
    if (durationMs !== undefined) totals.observe(TOLL.toolDuration, labels, durationMs);
    this.#markBooked.run(row.agent, row.session_id, row.call_id);
    this.#held -= 1;
  }

  #exported<T extends Record<string, string>>(values: T, metric: string): Record<string, string> {
    const { totals, caps } = this.#parts;
    const exported: Record<string, string> = {};
    let folded = false;
    for (const [name, value] of Object.entries(values)) {
      exported[name] = caps.exported(name, value, value ? 1 : 0);
      folded ||= exported[name] !== value;
    }
    if (folded) totals.add(TOLL.seriesOverflow, { metric }, 1);
    return exported;
  }
}
