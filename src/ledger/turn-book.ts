// Books turns. One row per turn, keyed by (agent, session, message); of two vectors the higher wins, in any order of
// arrival; only a winning vector moves totals, by the difference; what it takes back goes to the corrections.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { TOLL } from '../metrics/catalogue.ts';
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
import type { SpendBook } from './spend-book.ts';
import { OTHER, type Totals } from './totals.ts';
import {
  amounts,
  beats,
  isPriced,
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

interface Parts {
  readonly balances: Pick<BalanceBook, 'turnMoved'>;
  readonly totals: Totals;
  readonly caps: LabelCaps;
  readonly windows: Windows;
  readonly dimensions: Dimensions;
  readonly spend: Pick<SpendBook, 'book' | 'noteTurn'>;
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
  readonly #byId: StatementSync;
  readonly #insert: StatementSync;
  readonly #update: StatementSync;
  readonly #markCounted: StatementSync;
  readonly #markUnpriced: StatementSync;
  readonly #touchSession: StatementSync;
  readonly #setPricing: StatementSync;
  readonly #finishedLongAgo: StatementSync;

  constructor(db: DatabaseSync, parts: Parts) {
    this.#parts = parts;
    this.#find = db.prepare('SELECT * FROM turn WHERE agent = ? AND session_id = ? AND message_id = ?');
    this.#byId = db.prepare('SELECT * FROM turn WHERE id = ?');
    this.#insert = db.prepare(
      `INSERT INTO turn (agent, session_id, message_id, dimension_id, series_id, cell_id, upstream_evidence, event_id, phase, status, reason,
         started_ms, completed_ms, dated_ms, received_ms, input, output, reasoning, cache_read, cache_write, cost_nano, estimated_nano, pricing)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#update = db.prepare(
      `UPDATE turn SET dimension_id = ?, series_id = ?, cell_id = ?, upstream_evidence = ?, event_id = ?, phase = ?, status = ?, reason = ?,
         started_ms = ?, completed_ms = ?, dated_ms = ?, received_ms = ?, input = ?, output = ?, reasoning = ?, cache_read = ?, cache_write = ?,
         cost_nano = ?, estimated_nano = ?, pricing = ? WHERE id = ?`,
    );
    this.#markCounted = db.prepare('UPDATE turn SET counted = 1, timed = ? WHERE id = ?');
    this.#markUnpriced = db.prepare('UPDATE turn SET unpriced = ? WHERE id = ?');
    this.#touchSession = db.prepare(
      `INSERT INTO session_upstream (agent, session_id, upstream_provider, last_ms) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET last_ms = max(last_ms, excluded.last_ms)`,
    );
    this.#setPricing = db.prepare(
      `INSERT INTO pricing_state (provider, model, state, dated_ms) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET state = excluded.state, dated_ms = excluded.dated_ms WHERE excluded.dated_ms >= dated_ms`,
    );
    this.#finishedLongAgo = db.prepare(
      'SELECT * FROM turn WHERE settled = 0 AND phase > 0 AND counted = 0 AND received_ms <= ? ORDER BY received_ms LIMIT ?',
    );
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
    if (row && !beats(event, row)) {
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

  #dimension(id: number): Dimension {
    return this.#parts.dimensions.byId(id);
  }

  #begin(event: TurnEvent, at: { nowMs: number; datedMs: number }): Booking {
    const places = this.#places(event);
    const { lastInsertRowid } = this.#insert.run(
      event.agent,
      event.sessionId,
      event.messageId,
      ...places,
      ...this.#columns(event, at),
    );
    const row = this.#byId.get(lastInsertRowid) as unknown as TurnRow;
    this.#bear(row);
    if (row.phase !== IN_PROGRESS) this.#move(row, NOTHING, undefined);
    if (row.phase === COMPLETED) this.#count(row);
    return { outcome: { type: 'recorded' } };
  }

  #win(event: TurnEvent, old: TurnRow, at: { nowMs: number; datedMs: number }): Booking {
    // Dimensions are fixed by the first complete vector. Before that nothing was booked under them, so they may change.
    const fixed = old.phase !== IN_PROGRESS;
    const places = fixed
      ? ([old.dimension_id, old.series_id, old.cell_id, old.upstream_evidence] as const)
      : this.#places(event);
    this.#update.run(...places, ...this.#columns(event, at), old.id);
    const row = this.#byId.get(old.id) as unknown as TurnRow;
    if (!fixed) this.#bear(row);
    if (row.phase !== IN_PROGRESS) this.#move(row, fixed ? usageOf(old) : NOTHING, fixed ? old : undefined);
    if (row.phase === COMPLETED) this.#count(row);
    const said = row.phase > old.phase || row.status !== old.status || !sameUsage(usageOf(row), usageOf(old));
    return { outcome: { type: said ? 'updated' : 'duplicate' }, ...this.#conflicts(event, old) };
  }

  /** The values of the columns that a winning vector sets, in the order in which both statements name them. */
  #columns(event: TurnEvent, { nowMs, datedMs }: { nowMs: number; datedMs: number }) {
    const { tokens } = event;
    return [
      event.eventId ?? '',
      PHASES.indexOf(event.phase),
      event.status,
      event.reason ?? null,
      event.startedMs,
      event.completedMs ?? null,
      datedMs,
      nowMs,
      tokens.input,
      tokens.output,
      tokens.reasoning,
      tokens.cache_read,
      tokens.cache_write,
      event.costNano ?? null,
      event.estimatedNano ?? null,
      event.pricing,
    ] as const;
  }

  /**
   * Where a turn is booked: what it stated, what is exported under the label caps of now, its window cell, and how its
   * upstream provider was told. In the order in which both statements name these columns.
   */
  #places(event: TurnEvent) {
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
    const dimensionId = dimensions.idOf(stated);
    const seriesId = dimensions.idOf(exported);
    if (seriesId !== dimensionId) totals.add(TOLL.seriesOverflow, { metric: TOLL.turns.name }, 1);
    const cellId = dimensions.cellOf({
      upstreamProvider: exported.upstream_provider,
      provider: exported.provider,
      model: stated.model,
    });
    return [dimensionId, seriesId, cellId, event.upstreamEvidence] as const;
  }

  /** Gives birth to the turn's series, so that their first increment has a 0 before it. */
  #bear(row: TurnRow): void {
    const { totals } = this.#parts;
    const series = this.#dimension(row.series_id);
    totals.raise(TOLL.cost, series, 0);
    for (const type of TOKEN_TYPES) totals.raise(TOLL.tokens, { ...series, token_type: type }, 0);
    totals.raise(TOLL.turns, { ...series, status: 'ok' }, 0);
    if (row.pricing === 'estimated') totals.raise(TOLL.costEstimated, series, 0);
  }

  /** Moves totals and rollups from what the turn had brought so far to what its row now holds. */
  #move(row: TurnRow, before: Usage, old: TurnRow | undefined): void {
    const { totals, windows, balances, spend } = this.#parts;
    const series = this.#dimension(row.series_id);
    const after = usageOf(row);
    const shift = (up: typeof TOLL.cost, down: typeof TOLL.cost, labels: Record<string, string>, delta: number) => {
      if (delta > 0) totals.raise(up, labels, delta);
      else if (delta < 0) totals.raise(down, labels, -delta);
    };
    shift(TOLL.cost, TOLL.costCorrections, series, after.costNano - before.costNano);
    shift(TOLL.costEstimated, TOLL.costEstimatedCorrections, series, after.estimatedNano - before.estimatedNano);
    for (const type of TOKEN_TYPES) {
      shift(
        TOLL.tokens,
        TOLL.tokensCorrections,
        { ...series, token_type: type },
        after.tokens[type] - before.tokens[type],
      );
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
    this.#touchSession.run(row.agent, row.session_id, series.upstream_provider, row.dated_ms);
  }

  /** Counts a turn that is over, once; observes its duration when it is known, once. */
  #count(row: TurnRow): void {
    const { totals, windows, spend } = this.#parts;
    const series = this.#dimension(row.series_id);
    const durationMs = plausibleDurationMs(row.started_ms, row.completed_ms);
    const timed = durationMs !== undefined;
    if (timed && !row.timed) this.#observeDuration(row, series, durationMs);
    if (row.counted && (row.timed || !timed)) return;
    this.#markCounted.run(timed ? 1 : 0, row.id);
    if (row.counted) return;
    const usage = usageOf(row);
    totals.raise(TOLL.turns, { ...series, status: row.status }, 1);
    if (row.status === 'error') totals.add(TOLL.turnErrors, { ...series, reason: row.reason ?? 'other' }, 1);
    this.#countUnpriced(row, series);
    this.#observeTokens(series, usage.tokens);
    windows.book(row.cell_id, row.dated_ms, { ...amounts(NOTHING, 1, 1), pricedTurns: isPriced(usage) ? 1 : 0 });
    spend.book(row.dimension_id, row.dated_ms, spendOf(NOTHING, 1, 1));
    this.#touchSession.run(row.agent, row.session_id, series.upstream_provider, row.dated_ms);
    this.#notePricing(row, series);
  }

  /** How a model is priced is told by its newest turn that used anything. */
  #notePricing(row: TurnRow, { provider, model }: Dimension): void {
    const { tokens, costNano, pricing } = usageOf(row);
    if (totalTokens(tokens) > 0 || costNano > 0) this.#setPricing.run(provider, model, pricing, row.dated_ms);
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
    const { totals } = this.#parts;
    totals.observe(TOLL.turnDuration, series, durationMs);
    const error = row.status === 'ok' ? {} : { error_type: row.reason ?? row.status };
    totals.observe(TOLL.genAiOperationDuration, { ...genAiLabels(series), ...error }, durationMs);
  }

  #observeTokens(series: Dimension, tokens: TokenCounts): void {
    if (totalTokens(tokens) === 0) return;
    const labels = genAiLabels(series);
    const { totals } = this.#parts;
    const input = tokens.input + tokens.cache_read + tokens.cache_write;
    totals.observe(TOLL.genAiTokenUsage, { ...labels, gen_ai_token_type: 'input' }, input);
    totals.observe(TOLL.genAiTokenUsage, { ...labels, gen_ai_token_type: 'output' }, tokens.output + tokens.reasoning);
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

function genAiLabels(series: Dimension) {
  return {
    gen_ai_operation_name: 'chat',
    gen_ai_provider_name: semconvProviderName(series.upstream_provider),
    gen_ai_request_model: series.model,
  };
}
