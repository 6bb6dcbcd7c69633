// Books turns. One row per turn, keyed by (agent, session, message); of two vectors the higher wins, in any order of
// arrival; only a winning vector moves totals, by the difference; what it takes back goes to the corrections.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { type Booking, type Mutable, PHASES, type TurnEvent, totalTokens } from '../turn/turn-event.ts';
import type { BalanceBook } from './balance-book.ts';
import { type Dimension, labelsOf, underLabels } from './dimensions.ts';
import { isAhead, plausibleDurationMs } from './plausible-time.ts';
import { PricingStates } from './pricing-states.ts';
import type { ModelPricing } from './reading.ts';
import type { SessionCounts } from './session-counts.ts';
import type { SpendBook } from './spend-book.ts';
import { type Place, TurnPlaces, type TurnPlacesParts } from './turn-places.ts';
import { TurnSeries } from './turn-series.ts';
import { TurnSessions } from './turn-sessions.ts';
import {
  amounts,
  beats,
  isPriced,
  keepingPrice,
  type NamedTurnRow,
  NOTHING,
  sameUsage,
  spendOf,
  type TurnRow,
  usageOf,
} from './turn-vector.ts';
import type { Windows } from './windows.ts';

/** A turn that finished but is never said to be completed counts after this. */
export const SETTLE_MS = 60_000;
const IN_PROGRESS = PHASES.indexOf('in_progress');

const RECORDED: Booking = Object.freeze({ outcome: { type: 'recorded' } as const });

/** The columns that a winning vector sets, in the order of `vectorValues`. */
const VECTOR_COLUMNS = [
  ...(['dimension_id', 'series_id', 'cell_id', 'upstream_evidence', 'event_id', 'phase', 'status', 'reason'] as const),
  ...(['started_ms', 'completed_ms', 'dated_ms', 'received_ms'] as const),
  ...(['input', 'output', 'reasoning', 'cache_read', 'cache_write', 'cost_nano', 'estimated_nano', 'pricing'] as const),
] as const;

interface Parts extends TurnPlacesParts {
  readonly balances: Pick<BalanceBook, 'turnMoved'>;
  readonly windows: Windows;
  readonly spend: Pick<SpendBook, 'book' | 'noteTurn'>;
  readonly sessions: Pick<SessionCounts, 'note'>;
}

/** When a vector is booked and when it came, Unix ms: from a stream it may have come long before. */
interface Receipt {
  readonly nowMs: number;
  readonly receivedMs: number;
  readonly horizonMs: number;
}

/** When a vector is booked, and to when it is dated. */
interface Dating {
  readonly nowMs: number;
  readonly datedMs: number;
}

export class TurnBook {
  readonly #parts: Parts;
  readonly #places: TurnPlaces;
  readonly #series: TurnSeries;
  readonly #sessions: TurnSessions;
  readonly #find: StatementSync;
  readonly #unfinished: StatementSync;
  readonly #ofSession: StatementSync;
  readonly #insert: StatementSync;
  readonly #update: StatementSync;
  readonly #markCounted: StatementSync;
  readonly #markUnpriced: StatementSync;
  readonly #finishedLongAgo: StatementSync;
  readonly #pricing: PricingStates;

  constructor(db: DatabaseSync, parts: Parts) {
    this.#parts = parts;
    this.#places = new TurnPlaces(parts);
    this.#series = new TurnSeries(parts.totals);
    this.#sessions = new TurnSessions(db);
    this.#find = db.prepare('SELECT * FROM turn WHERE session = ? AND message_id = ?');
    const columns = VECTOR_COLUMNS.join(', ');
    const values = VECTOR_COLUMNS.map(() => '?').join(', ');
    this.#unfinished = db.prepare(
      `SELECT dimension.agent AS agent, dimension.provider AS provider, count(*) AS turns FROM turn
         JOIN dimension ON dimension.id = turn.series_id WHERE phase = 0 AND dated_ms < ? GROUP BY 1, 2`,
    );
    this.#ofSession = db.prepare('SELECT dimension_id FROM turn WHERE session = ? LIMIT 1');
    this.#insert = db.prepare(
      `INSERT INTO turn (session, message_id, counted, timed, ${columns}) VALUES (?, ?, ?, ?, ${values})`,
    );
    this.#update = db.prepare(`UPDATE turn SET (${columns}) = (${values}) WHERE id = ?`);
    this.#markCounted = db.prepare('UPDATE turn SET counted = 1, timed = ? WHERE id = ?');
    this.#markUnpriced = db.prepare('UPDATE turn SET unpriced = ? WHERE id = ?');
    this.#pricing = new PricingStates(db);
    this.#finishedLongAgo = db.prepare(
      `SELECT turn.*, agent, session_id FROM turn JOIN turn_session ON turn_session.id = session
         WHERE settled = 0 AND phase > 0 AND counted = 0 AND received_ms <= ? ORDER BY received_ms LIMIT ?`,
    );
  }

  /** Turns that began before a moment, Unix ms, and are still in progress. */
  unfinished(beforeMs: number): { agent: string; provider: string; turns: number }[] {
    return this.#unfinished.all(beforeMs) as { agent: string; provider: string; turns: number }[];
  }

  /** How the newest turn of each model was priced; the same objects until one changes. */
  pricingStates(): ModelPricing[] {
    return this.#pricing.all();
  }

  /** Whom one of a session's turns was paid to, as stated. */
  providerOf(agent: string, sessionId: string): string | undefined {
    const session = this.#sessions.find(agent, sessionId);
    const row =
      session === undefined ? undefined : (this.#ofSession.get(session) as { dimension_id: number } | undefined);
    return row && this.#dimension(row.dimension_id).provider;
  }

  /** The turn that a tool call names, once any vector of it is known. */
  find(agent: string, sessionId: string, messageId: string): TurnRow | undefined {
    const session = this.#sessions.find(agent, sessionId);
    return session === undefined ? undefined : this.#ofMessage(session, messageId);
  }

  #ofMessage(session: number, messageId: string): TurnRow | undefined {
    return this.#find.get(session, messageId) as TurnRow | undefined;
  }

  /**
   * Books one vector inside the caller's transaction.
   * @param receipt.receivedMs dates what is dated ahead of it
   * @param receipt.horizonMs turns dated before it were deleted: an unknown one may have been counted, so it is refused
   */
  book(event: TurnEvent, { nowMs, receivedMs, horizonMs }: Receipt): Booking {
    const session = this.#sessions.find(event.agent, event.sessionId);
    const row = session === undefined ? undefined : this.#ofMessage(session, event.messageId);
    const statedMs = event.completedMs ?? event.startedMs;
    const redated = isAhead(statedMs, receivedMs);
    const datedMs = redated ? (row?.dated_ms ?? receivedMs) : statedMs;
    if (!row && datedMs < horizonMs) {
      return {
        outcome: {
          type: 'rejected',
          reason: 'too_late',
          detail:
            'dated before the horizon: turns of that time are no longer kept, so it cannot be told from one already counted',
        },
      };
    }
    if (row && (!beats(event, row) || this.#isAnothers(event, row))) {
      return { outcome: { type: 'duplicate' }, ...this.#conflicts(event, row) };
    }
    if (this.#series.wouldOverflow(usageOf(event))) {
      return {
        outcome: {
          type: 'rejected',
          reason: 'overflow',
          detail: 'the totals would pass what an exact integer can hold',
        },
      };
    }
    const booking = row
      ? this.#win(event, row, { nowMs, datedMs })
      : this.#begin(event, session ?? this.#sessions.add(event.agent, event.sessionId), { nowMs, datedMs });
    return redated ? { ...booking, redated } : booking;
  }

  /** Counts the turns that finished 60 s ago and were never said to be completed. Returns how many. */
  settle(nowMs: number, limit: number): number {
    const rows = this.#finishedLongAgo.all(nowMs - SETTLE_MS, limit) as unknown as NamedTurnRow[];
    for (const row of rows) this.#count(row);
    return rows.length;
  }

  /** Writes what changed; call it inside the transaction that books the cause. */
  flush(): void {
    this.#pricing.flush();
  }

  /** Forgets what was not written. */
  forget(): void {
    this.#pricing.forget();
    this.#places.forget();
    this.#sessions.forget();
  }

  #dimension(id: number): Dimension {
    return this.#parts.dimensions.byId(id);
  }

  #begin(event: TurnEvent, session: number, at: Dating): Booking {
    const place = this.#places.of(event);
    const row = rowOf(event, session, place, at);
    const durationMs = row.counted ? plausibleDurationMs(row.started_ms, row.completed_ms) : undefined;
    const timed = durationMs === undefined ? 0 : 1;
    const { lastInsertRowid } = this.#insert.run(session, row.message_id, row.counted, timed, ...vectorValues(row));
    row.id = Number(lastInsertRowid);
    const series = this.#dimension(row.series_id);
    const isEstimated = row.pricing === 'estimated';
    if (!place.isKnown || isEstimated) this.#series.bear(series, isEstimated);
    if (row.phase !== IN_PROGRESS) this.#move(row, undefined);
    if (row.counted) this.#noteFirst(row, series);
    if (durationMs !== undefined) this.#series.observeDuration(series, row, durationMs);
    if (row.counted && event.isTitle) this.#series.countTitle(series);
    return RECORDED;
  }

  #win(event: TurnEvent, old: TurnRow, at: Dating): Booking {
    // Dimensions are fixed by the first complete vector. Before that nothing was booked under them, so they may change.
    const fixed = old.phase !== IN_PROGRESS;
    const booked = fixed ? keepingPrice(event, old) : event;
    const row = rowOf(booked, old.session, fixed ? old : this.#places.of(event), at);
    [row.id, row.unpriced, row.timed] = [old.id, old.unpriced, old.timed];
    // It explains the upstream provider that is kept, not the one that is stated now.
    if (fixed) row.upstream_evidence = old.upstream_evidence;
    const isOver = row.counted === 1;
    // That it is counted is for `#count` to say.
    row.counted = old.counted;
    this.#update.run(...vectorValues(row), row.id);
    const series = this.#dimension(row.series_id);
    if (!fixed) this.#series.bear(series, row.pricing === 'estimated');
    if (row.phase !== IN_PROGRESS) this.#move(row, fixed ? old : undefined);
    if (row.counted) this.#note(row, series);
    if (isOver) this.#count(row);
    // That a turn is a title is not kept: what counts is what the description says that completes it.
    if (isOver && !old.counted && event.isTitle) this.#series.countTitle(series);
    const said = row.phase > old.phase || row.status !== old.status || !sameUsage(usageOf(row), usageOf(old));
    const outcome = { type: said ? ('updated' as const) : ('duplicate' as const) };
    return { outcome, ...(booked !== event && { turns: [booked] }), ...this.#conflicts(booked, old) };
  }

  /** Moves everything that is summed from what the turn had brought so far to what its row now holds. */
  #move(row: TurnRow, old: TurnRow | undefined): void {
    const { windows, balances, spend } = this.#parts;
    const payer = this.#dimension(row.dimension_id);
    const before = old ? usageOf(old) : NOTHING;
    const after = usageOf(row);
    this.#series.move(this.#dimension(row.series_id), before, after);
    if (old) {
      windows.book(row.cell_id, old.dated_ms, amounts(before, old.counted, -1));
      spend.book(row.dimension_id, old.dated_ms, spendOf(before, old.counted, -1));
      balances.turnMoved(payer, old.dated_ms, -before.costNano);
    }
    const spent = spendOf(after, row.counted, 1);
    windows.book(row.cell_id, row.dated_ms, amounts(after, row.counted, 1));
    spend.book(row.dimension_id, row.dated_ms, spent);
    spend.noteTurn(row.dimension_id, row.dated_ms, row.counted ? spent : spendOf(after, 1, 1));
    balances.turnMoved(payer, row.dated_ms, after.costNano);
  }

  /** Counts a turn that is over, once; observes its duration when it is known, once. */
  #count(row: NamedTurnRow): void {
    const series = this.#dimension(row.series_id);
    const durationMs = plausibleDurationMs(row.started_ms, row.completed_ms);
    const isTimed = durationMs !== undefined;
    if (isTimed && !row.timed) this.#series.observeDuration(series, row, durationMs);
    if (row.counted && (row.timed || !isTimed)) return;
    this.#markCounted.run(isTimed ? 1 : 0, row.id);
    if (row.counted) return;
    const { windows, spend } = this.#parts;
    windows.book(row.cell_id, row.dated_ms, { ...amounts(NOTHING, 1, 1), pricedTurns: isPriced(usageOf(row)) ? 1 : 0 });
    spend.book(row.dimension_id, row.dated_ms, spendOf(NOTHING, 1, 1));
    this.#noteFirst(row, series);
  }

  /** What follows from a turn's being counted, besides its sums. */
  #noteFirst(row: NamedTurnRow, series: Dimension): void {
    this.#series.count(series, row);
    this.#note(row, series);
  }

  /** What follows from a description of a turn that is counted, besides its sums. */
  #note(row: NamedTurnRow, series: Dimension): void {
    this.#countUnpriced(row, series);
    // How a model is priced is told by its newest turn that used anything.
    if (totalTokens(row) > 0 || row.cost_nano) this.#pricing.note(series, row.pricing, row.dated_ms);
    this.#parts.sessions.note(row.agent, row.session_id, series.upstream_provider, row.dated_ms);
  }

  /** A counter cannot take back, so it counts the most that a turn ever had, whatever comes and goes in between. */
  #countUnpriced(row: TurnRow, series: Dimension): void {
    if (row.pricing !== 'unknown') return;
    const tokens = totalTokens(row);
    if (tokens <= row.unpriced) return;
    this.#series.countUnpriced(series, tokens - row.unpriced);
    this.#markUnpriced.run(tokens, row.id);
  }

  /** The fields in which a vector differs from the dimensions that the first complete one fixed, and what it is under those. */
  #conflicts(event: TurnEvent, row: TurnRow): Pick<Booking, 'conflicts' | 'turns'> {
    if (row.phase === IN_PROGRESS || event.phase === 'in_progress') return {};
    const booked = this.#dimension(row.dimension_id);
    const stated = labelsOf(event);
    const fields = (['provider', 'model', 'upstream_provider', 'account', 'project', 'team', 'user'] as const).filter(
      (field) => stated[field] !== booked[field],
    );
    return fields.length > 0 ? { conflicts: fields, turns: [underLabels(event, booked)] } : {};
  }

  /**
   * Whether a turn was booked for somebody else than whose credential this came with. Then it moves nothing: who knows a
   * turn's id could spend for its owner.
   */
  #isAnothers(event: TurnEvent, row: TurnRow): boolean {
    if (row.phase === IN_PROGRESS) return false;
    const booked = this.#dimension(row.dimension_id);
    return (['team', 'user'] as const).some((label) => event[label] && booked[label] && event[label] !== booked[label]);
  }
}

/** Written out, because it is done for every turn. */
function rowOf(event: TurnEvent, session: number, place: Place, { nowMs, datedMs }: Dating): Mutable<NamedTurnRow> {
  const { tokens } = event;
  return {
    id: 0,
    session,
    agent: event.agent,
    session_id: event.sessionId,
    message_id: event.messageId,
    dimension_id: place.dimension_id,
    series_id: place.series_id,
    cell_id: place.cell_id,
    upstream_evidence: event.upstreamEvidence,
    event_id: event.eventId ?? '',
    phase: PHASES.indexOf(event.phase),
    status: event.status,
    reason: event.reason ?? null,
    started_ms: event.startedMs,
    completed_ms: event.completedMs ?? null,
    dated_ms: datedMs,
    received_ms: nowMs,
    input: tokens.input,
    output: tokens.output,
    reasoning: tokens.reasoning,
    cache_read: tokens.cache_read,
    cache_write: tokens.cache_write,
    cost_nano: event.costNano ?? null,
    estimated_nano: event.estimatedNano ?? null,
    pricing: event.pricing,
    unpriced: 0,
    counted: event.phase === 'completed' ? 1 : 0,
    timed: 0,
  };
}

const vectorValues = (row: TurnRow) => [
  row.dimension_id,
  row.series_id,
  row.cell_id,
  row.upstream_evidence,
  row.event_id,
  row.phase,
  row.status,
  row.reason,
  row.started_ms,
  row.completed_ms,
  row.dated_ms,
  row.received_ms,
  row.input,
  row.output,
  row.reasoning,
  row.cache_read,
  row.cache_write,
  row.cost_nano,
  row.estimated_nano,
  row.pricing,
];
