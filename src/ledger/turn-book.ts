// Books turns. One row per turn, keyed by (agent, session, message); of two vectors the higher wins, in any order of
// arrival; only a winning vector moves totals, by the difference; what it takes back goes to the corrections.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { type MetricFamily, TOLL } from '../metrics/catalogue.ts';
import {
  type Booking,
  type ConflictField,
  PHASES,
  TOKEN_TYPES,
  type TokenCounts,
  type TurnEvent,
  totalTokens,
} from '../turn/turn-event.ts';
import { semconvProviderName } from '../turn/upstream-provider.ts';
import type { BalanceBook } from './balance-book.ts';
import { type Dimension, type Dimensions, labelsOf } from './dimensions.ts';
import type { LabelCaps } from './label-caps.ts';
import { isAhead, plausibleDurationMs } from './plausible-time.ts';
import { PricingStates } from './pricing-states.ts';
import type { ModelPricing } from './reading.ts';
import type { SessionCounts } from './session-counts.ts';
import type { SpendBook } from './spend-book.ts';
import { type LabelValues, OTHER, type Totals } from './totals.ts';
import {
  amounts,
  beats,
  isPriced,
  keepingPrice,
  NOTHING,
  sameUsage,
  spendOf,
  type TurnRow,
  type Usage,
  usageOf,
} from './turn-vector.ts';
import type { Windows } from './windows.ts';

/** A turn that finished but is never said to be completed counts after this. */
export const SETTLE_MS = 60_000;
const COMPLETED = PHASES.indexOf('completed');
const IN_PROGRESS = PHASES.indexOf('in_progress');

/** The columns that a winning vector sets. */
const VECTOR_COLUMNS = [
  ...(['dimension_id', 'series_id', 'cell_id', 'upstream_evidence', 'event_id', 'phase', 'status', 'reason'] as const),
  ...(['started_ms', 'completed_ms', 'dated_ms', 'received_ms'] as const),
  ...(['input', 'output', 'reasoning', 'cache_read', 'cache_write', 'cost_nano', 'estimated_nano', 'pricing'] as const),
] as const;
type Vector = Pick<TurnRow, (typeof VECTOR_COLUMNS)[number]>;
type Places = Pick<TurnRow, 'dimension_id' | 'series_id' | 'cell_id' | 'upstream_evidence'>;

interface Parts {
  readonly balances: Pick<BalanceBook, 'turnMoved'>;
  readonly totals: Totals;
  readonly caps: LabelCaps;
  readonly windows: Windows;
  readonly dimensions: Dimensions;
  readonly spend: Pick<SpendBook, 'book' | 'noteTurn'>;
  readonly sessions: Pick<SessionCounts, 'note'>;
}

/** When a vector is booked and when it came, Unix ms: from a stream it may have come long before. */
interface Receipt {
  readonly nowMs: number;
  readonly receivedMs: number;
  readonly horizonMs: number;
}

export class TurnBook {
  readonly #parts: Parts;
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
    this.#find = db.prepare('SELECT * FROM turn WHERE agent = ? AND session_id = ? AND message_id = ?');
    const columns = VECTOR_COLUMNS.join(', ');
    const values = VECTOR_COLUMNS.map(() => '?').join(', ');
    this.#unfinished = db.prepare(
      `SELECT dimension.agent AS agent, dimension.provider AS provider, count(*) AS turns FROM turn
         JOIN dimension ON dimension.id = turn.series_id WHERE phase = 0 AND dated_ms < ? GROUP BY 1, 2`,
    );
    this.#ofSession = db.prepare('SELECT dimension_id FROM turn WHERE agent = ? AND session_id = ? LIMIT 1');
    this.#insert = db.prepare(
      `INSERT INTO turn (agent, session_id, message_id, counted, timed, ${columns}) VALUES (?, ?, ?, ?, ?, ${values})`,
    );
    this.#update = db.prepare(`UPDATE turn SET (${columns}) = (${values}) WHERE id = ?`);
    this.#markCounted = db.prepare('UPDATE turn SET counted = 1, timed = ? WHERE id = ?');
    this.#markUnpriced = db.prepare('UPDATE turn SET unpriced = ? WHERE id = ?');
    this.#pricing = new PricingStates(db);
    this.#finishedLongAgo = db.prepare(
      'SELECT * FROM turn WHERE settled = 0 AND phase > 0 AND counted = 0 AND received_ms <= ? ORDER BY received_ms LIMIT ?',
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
    const row = this.#ofSession.get(agent, sessionId) as { dimension_id: number } | undefined;
    return row && this.#dimension(row.dimension_id).provider;
  }

  /** The turn that a tool call names, once any vector of it is known. */
  find(agent: string, sessionId: string, messageId: string): TurnRow | undefined {
    return this.#find.get(agent, sessionId, messageId) as TurnRow | undefined;
  }

  /**
   * Books one vector inside the caller's transaction.
   * @param receipt.receivedMs dates what is dated ahead of it
   * @param receipt.horizonMs turns dated before it were deleted: an unknown one may have been counted, so it is refused
   */
  book(event: TurnEvent, { nowMs, receivedMs, horizonMs }: Receipt): Booking {
    const row = this.find(event.agent, event.sessionId, event.messageId);
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
    if (this.#wouldOverflow(event)) {
      return {
        outcome: {
          type: 'rejected',
          reason: 'overflow',
          detail: 'the totals would pass what an exact integer can hold',
        },
      };
    }
    const booking = row ? this.#win(event, row, { nowMs, datedMs }) : this.#begin(event, { nowMs, datedMs });
    return redated ? { ...booking, redated } : booking;
  }

  /** Counts the turns that finished 60 s ago and were never said to be completed. Returns how many. */
  settle(nowMs: number, limit: number): number {
    const rows = this.#finishedLongAgo.all(nowMs - SETTLE_MS, limit) as unknown as TurnRow[];
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
  }

  #dimension(id: number): Dimension {
    return this.#parts.dimensions.byId(id);
  }

  #begin(event: TurnEvent, at: { nowMs: number; datedMs: number }): Booking {
    const { agent, sessionId: session_id, messageId: message_id } = event;
    const vector = vectorOf(event, this.#places(event), at);
    const isOver = event.phase === 'completed';
    const durationMs = isOver ? plausibleDurationMs(vector.started_ms, vector.completed_ms) : undefined;
    const isTimed = durationMs !== undefined;
    const { lastInsertRowid } = this.#insert.run(
      ...[agent, session_id, message_id, isOver ? 1 : 0, isTimed ? 1 : 0],
      ...VECTOR_COLUMNS.map((name) => vector[name]),
    );
    // As it was before it counted, so that it is counted below.
    const before = { unpriced: 0, counted: 0, timed: 0 };
    const row: TurnRow = { id: Number(lastInsertRowid), agent, session_id, message_id, ...vector, ...before };
    this.#bear(row);
    if (row.phase !== IN_PROGRESS) this.#move(row, NOTHING, undefined);
    if (isTimed) this.#observeDuration(row, this.#dimension(row.series_id), durationMs);
    if (isOver) this.#tally(row);
    if (isOver && event.isTitle) this.#tallyTitle(row);
    return { outcome: { type: 'recorded' } };
  }

  #win(event: TurnEvent, old: TurnRow, at: { nowMs: number; datedMs: number }): Booking {
    // Dimensions are fixed by the first complete vector. Before that nothing was booked under them, so they may change.
    const fixed = old.phase !== IN_PROGRESS;
    const vector = vectorOf(fixed ? keepingPrice(event, old) : event, fixed ? old : this.#places(event), at);
    this.#update.run(...VECTOR_COLUMNS.map((name) => vector[name]), old.id);
    const row: TurnRow = { ...old, ...vector };
    if (!fixed) this.#bear(row);
    if (row.phase !== IN_PROGRESS) this.#move(row, fixed ? usageOf(old) : NOTHING, fixed ? old : undefined);
    if (row.phase === COMPLETED) this.#count(row);
    if (row.phase === COMPLETED && !old.counted && event.isTitle) this.#tallyTitle(row);
    const isNews = row.phase > old.phase || row.status !== old.status || !sameUsage(usageOf(row), usageOf(old));
    return { outcome: { type: isNews ? 'updated' : 'duplicate' }, ...this.#conflicts(event, old) };
  }

  /**
   * Where a turn is booked: what it stated, what is exported under the label caps of now, its window cell, and how its
   * upstream provider was told.
   */
  #places(event: TurnEvent): Places {
    const { dimensions, caps, totals } = this.#parts;
    const { tokens, costNano, estimatedNano } = usageOf(event);
    const stated = labelsOf(event);
    // A turn that ended is more than a birth even when it used nothing: it is counted, so its values keep their series.
    const weight = event.phase === 'in_progress' ? 0 : Math.max(1, costNano + estimatedNano + totalTokens(tokens));
    const exported = { ...stated };
    for (const name of Object.keys(stated) as (keyof Dimension)[])
      exported[name] = caps.exported(name, stated[name], weight);
    if (totals.isFull && !totals.has(TOLL.cost, exported)) {
      // The whole turn folds, once and for good: its corrections must find what they correct.
      for (const name of Object.keys(exported) as (keyof Dimension)[]) if (exported[name]) exported[name] = OTHER;
    }
    const isAsStated = (Object.keys(stated) as (keyof Dimension)[]).every((name) => exported[name] === stated[name]);
    const dimension_id = dimensions.idOf(stated);
    const series_id = isAsStated ? dimension_id : dimensions.idOf(exported);
    if (series_id !== dimension_id) totals.add(TOLL.seriesOverflow, { metric: TOLL.turns.name }, 1);
    const cell_id = dimensions.cellOf({
      upstreamProvider: exported.upstream_provider,
      provider: exported.provider,
      model: stated.model,
    });
    return { dimension_id, series_id, cell_id, upstream_evidence: event.upstreamEvidence };
  }

  /** Gives birth to the turn's series, so that their first increment has a 0 before it. */
  #bear(row: TurnRow): void {
    const series = this.#dimension(row.series_id);
    const totals = this.#parts.totals.of(series);
    totals.raise(TOLL.cost, 0, '', () => series);
    for (const type of TOKEN_TYPES) totals.raise(TOLL.tokens, 0, type, () => ({ ...series, token_type: type }));
    totals.raise(TOLL.turns, 0, 'ok', () => ({ ...series, status: 'ok' }));
    if (row.pricing === 'estimated') totals.raise(TOLL.costEstimated, 0, '', () => series);
  }

  /** Moves totals and rollups from what the turn had brought so far to what its row now holds. */
  #move(row: TurnRow, before: Usage, old: TurnRow | undefined): void {
    const { windows, balances, spend } = this.#parts;
    const series = this.#dimension(row.series_id);
    const totals = this.#parts.totals.of(series);
    const after = usageOf(row);
    const shift = (
      up: MetricFamily,
      down: MetricFamily,
      delta: number,
      own = '',
      labels = (): LabelValues => series,
    ) => {
      if (delta !== 0) totals.raise(delta > 0 ? up : down, Math.abs(delta), own, labels);
    };
    shift(TOLL.cost, TOLL.costCorrections, after.costNano - before.costNano);
    shift(TOLL.costEstimated, TOLL.costEstimatedCorrections, after.estimatedNano - before.estimatedNano);
    for (const type of TOKEN_TYPES) {
      const delta = after.tokens[type] - before.tokens[type];
      shift(TOLL.tokens, TOLL.tokensCorrections, delta, type, () => ({ ...series, token_type: type }));
    }
    if (old) windows.book(row.cell_id, old.dated_ms, amounts(before, old.counted, -1));
    windows.book(row.cell_id, row.dated_ms, amounts(after, row.counted, 1));
    if (old) spend.book(row.dimension_id, old.dated_ms, spendOf(before, old.counted, -1));
    spend.book(row.dimension_id, row.dated_ms, spendOf(after, row.counted, 1));
    spend.noteTurn(row.dimension_id, row.dated_ms, spendOf(after, 1, 1));
    const payer = this.#dimension(row.dimension_id);
    if (old) balances.turnMoved(payer, old.dated_ms, -before.costNano);
    balances.turnMoved(payer, row.dated_ms, after.costNano);
    if (!row.counted) return;
    this.#countUnpriced(row, series);
    this.#notePricing(row, series);
    this.#noteSession(row, series);
  }

  /** Counts a turn that is over, once; observes its duration when it is known, once. */
  #count(row: TurnRow): void {
    const durationMs = plausibleDurationMs(row.started_ms, row.completed_ms);
    const timed = durationMs !== undefined;
    if (timed && !row.timed) this.#observeDuration(row, this.#dimension(row.series_id), durationMs);
    if (row.counted && (row.timed || !timed)) return;
    this.#markCounted.run(timed ? 1 : 0, row.id);
    if (!row.counted) this.#tally(row);
  }

  /** Adds a turn to everything that counts turns that are over. */
  #tally(row: TurnRow): void {
    const { totals, windows, spend } = this.#parts;
    const series = this.#dimension(row.series_id);
    const usage = usageOf(row);
    totals.of(series).raise(TOLL.turns, 1, row.status, () => ({ ...series, status: row.status }));
    if (row.status === 'error') totals.add(TOLL.turnErrors, { ...series, reason: row.reason ?? 'other' }, 1);
    this.#countUnpriced(row, series);
    this.#observeTokens(series, usage.tokens);
    windows.book(row.cell_id, row.dated_ms, { ...amounts(NOTHING, 1, 1), pricedTurns: isPriced(usage) ? 1 : 0 });
    spend.book(row.dimension_id, row.dated_ms, spendOf(NOTHING, 1, 1));
    this.#noteSession(row, series);
    this.#notePricing(row, series);
  }

  /** That a turn is a title is not kept: what counts is what the description says that completes it. */
  #tallyTitle({ series_id }: TurnRow): void {
    this.#parts.totals.add(TOLL.titleTurns, this.#dimension(series_id), 1);
  }

  /** When a session last had a turn that an upstream provider served. */
  #noteSession({ agent, session_id, dated_ms }: TurnRow, { upstream_provider }: Dimension): void {
    this.#parts.sessions.note(agent, session_id, upstream_provider, dated_ms);
  }

  /** How a model is priced is told by its newest turn that used anything. */
  #notePricing(row: TurnRow, { provider, model }: Dimension): void {
    const { tokens, costNano, pricing } = usageOf(row);
    if (totalTokens(tokens) === 0 && costNano === 0) return;
    this.#pricing.note({ provider, model, state: pricing }, row.dated_ms);
  }

  /** A counter cannot take back, so it counts the most that a turn ever had, whatever comes and goes in between. */
  #countUnpriced(row: TurnRow, series: Dimension): void {
    if (row.pricing !== 'unknown') return;
    const tokens = totalTokens(row);
    if (tokens <= row.unpriced) return;
    this.#parts.totals.add(TOLL.unpricedTokens, series, tokens - row.unpriced);
    this.#markUnpriced.run(tokens, row.id);
  }

  #observeDuration(row: TurnRow, series: Dimension, durationMs: number): void {
    const totals = this.#parts.totals.of(series);
    totals.observe(TOLL.turnDuration, durationMs, '', () => series);
    const failure = row.status === 'ok' ? '' : (row.reason ?? row.status);
    totals.observe(TOLL.genAiOperationDuration, durationMs, failure, () => ({
      ...genAiLabels(series),
      ...(failure !== '' && { error_type: failure }),
    }));
  }

  #observeTokens(series: Dimension, tokens: TokenCounts): void {
    if (totalTokens(tokens) === 0) return;
    const totals = this.#parts.totals.of(series);
    const observe = (type: string, count: number) =>
      totals.observe(TOLL.genAiTokenUsage, count, type, () => ({ ...genAiLabels(series), gen_ai_token_type: type }));
    observe('input', tokens.input + tokens.cache_read + tokens.cache_write);
    observe('output', tokens.output + tokens.reasoning);
  }

  /** The fields in which a vector differs from the dimensions that the first complete one fixed. */
  #conflicts(event: TurnEvent, row: TurnRow): { conflicts?: readonly ConflictField[] } {
    if (row.phase === IN_PROGRESS || event.phase === 'in_progress') return {};
    const booked = this.#dimension(row.dimension_id);
    const stated = labelsOf(event);
    const fields = (['provider', 'model', 'upstream_provider', 'account', 'project', 'team', 'user'] as const).filter(
      (field) => stated[field] !== booked[field],
    );
    return fields.length > 0 ? { conflicts: fields } : {};
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

  #wouldOverflow(event: TurnEvent): boolean {
    const { totals } = this.#parts;
    const usage = usageOf(event);
    return (
      !Number.isSafeInteger(totals.grand(TOLL.cost) + usage.costNano) ||
      !Number.isSafeInteger(totals.grand(TOLL.costEstimated) + usage.estimatedNano) ||
      !Number.isSafeInteger(totals.grand(TOLL.tokens) + totalTokens(usage.tokens))
    );
  }
}

function vectorOf(
  event: TurnEvent,
  { dimension_id, series_id, cell_id, upstream_evidence }: Places,
  { nowMs, datedMs }: { readonly nowMs: number; readonly datedMs: number },
): Vector {
  const { input, output, reasoning, cache_read, cache_write } = event.tokens;
  return {
    ...{ dimension_id, series_id, cell_id, upstream_evidence },
    event_id: event.eventId ?? '',
    phase: PHASES.indexOf(event.phase),
    status: event.status,
    reason: event.reason ?? null,
    started_ms: event.startedMs,
    completed_ms: event.completedMs ?? null,
    dated_ms: datedMs,
    received_ms: nowMs,
    ...{ input, output, reasoning, cache_read, cache_write },
    cost_nano: event.costNano ?? null,
    estimated_nano: event.estimatedNano ?? null,
    pricing: event.pricing,
  };
}

function genAiLabels(series: Dimension) {
  return {
    gen_ai_operation_name: 'chat',
    gen_ai_provider_name: semconvProviderName(series.upstream_provider),
    gen_ai_request_model: series.model,
  };
}
