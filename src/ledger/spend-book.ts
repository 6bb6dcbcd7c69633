// What was spent, by label combination and quarter of an hour, and from it what each budget and cap has seen.
//
// Everything here can be told from rows alone: the quarters for budgets, the turns of the last hours for caps. A rule's
// state is built from them when it is first asked for, and moved along by every booking after that.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { BudgetRule, CapRule, PolicyConfig, Scope } from '../config-policy.ts';
import { isInScope } from '../turn/scope.ts';
import type { Mutable } from '../turn/turn-event.ts';
import { periodAt, type Span } from './budget-period.ts';
import type { Dimension, Dimensions } from './dimensions.ts';
import { PendingQuarters } from './pending-quarters.ts';
import { AHEAD_TOLERANCE_MS } from './plausible-time.ts';
import { type SpendUnit, type Standing, UNIT_SCALE } from './reading.ts';
import { SlidingMax } from './sliding-max.ts';
import { BUCKET_MS } from './windows.ts';

const HOUR_MS = 3_600_000;
/** How far back a cap is rebuilt: what lies further back is forgiven, at most one cap's worth. */
const PERIODS_REPLAYED = 2;

/** A change of what was spent: stated and estimated cost in nano-USD, tokens of all types, turns. May be negative. */
export interface Spend {
  readonly costNano: number;
  readonly estimatedNano: number;
  readonly tokens: number;
  readonly turns: number;
}

/** What was spent under one label combination. */
type Booked = Spend & { readonly dimension: number };
type DatedTurn = Booked & { readonly datedMs: number };

function inUnit(unit: SpendUnit, { costNano, estimatedNano, tokens, turns }: Spend): number {
  // A cost that nobody stated was spent all the same, as far as it can be known.
  if (unit === 'usd') return costNano + estimatedNano;
  return unit === 'tokens' ? tokens : turns;
}

/** What a rule allows, as an integer of the ledger's unit. */
export function limitOf(rule: BudgetRule | CapRule): { unit: SpendUnit; limit: number } {
  if (rule.limit_usd !== undefined) return { unit: 'usd', limit: Math.round(rule.limit_usd * UNIT_SCALE.usd) };
  if (rule.limit_tokens !== undefined) return { unit: 'tokens', limit: rule.limit_tokens };
  return { unit: 'turns', limit: rule.limit_turns! };
}

interface Meter {
  readonly kind: Standing['kind'];
  readonly name: string;
  readonly scope: Scope;
  readonly unit: SpendUnit;
  readonly limit: number;
  /** Undefined until it is asked for, and after its period. */
  span: Span | undefined;
  spent: number;
  /** The dearest single turn of the last hour. */
  dearest: SlidingMax;
  /** By label combination, whether it is in scope. */
  readonly inScope: Map<number, boolean>;
}

interface BudgetMeter extends Meter {
  readonly kind: 'budget';
  readonly rule: BudgetRule;
}

/** A leaky bucket: what was used drains at the rate of the limit. */
interface CapMeter extends Meter {
  readonly kind: 'cap';
  readonly periodMs: number;
  drainedMs: number;
  /** When it was last empty. */
  emptyMs: number;
}

export interface SpendBookOptions {
  readonly dimensions: Dimensions;
  readonly timeZone: string;
  readonly policy: Pick<PolicyConfig, 'budgets' | 'caps'>;
  /** Unix ms. */
  readonly now: () => number;
}

export class SpendBook {
  readonly #db: DatabaseSync;
  readonly #upsert: StatementSync;
  readonly #dimensions: Dimensions;
  readonly #timeZone: string;
  readonly #budgets: readonly BudgetMeter[];
  readonly #caps: readonly CapMeter[];
  readonly #now: () => number;
  readonly #meters: readonly Meter[];
  /** What the transaction under way changed, by label combination. */
  readonly #dirty = new PendingQuarters<Mutable<Spend>>(() => ({ costNano: 0, estimatedNano: 0, tokens: 0, turns: 0 }));

  constructor(db: DatabaseSync, { dimensions, timeZone, policy, now }: SpendBookOptions) {
    this.#db = db;
    this.#upsert = db.prepare(
      `INSERT INTO spend (bucket, dimension_id, cost_nano, estimated_nano, tokens, turns) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET cost_nano = cost_nano + excluded.cost_nano, estimated_nano = estimated_nano + excluded.estimated_nano,
         tokens = tokens + excluded.tokens, turns = turns + excluded.turns`,
    );
    this.#now = now;
    this.#dimensions = dimensions;
    this.#timeZone = timeZone;
    const meter = ({ name, scope, ...rule }: BudgetRule | CapRule) => ({
      ...{ name, scope, ...limitOf({ name, scope, ...rule } as BudgetRule) },
      ...{ span: undefined, spent: 0, dearest: new SlidingMax(HOUR_MS), inScope: new Map<number, boolean>() },
    });
    this.#budgets = policy.budgets.map((rule) => ({ ...meter(rule), kind: 'budget', rule }));
    this.#caps = policy.caps.map((rule) => ({
      ...meter(rule),
      ...{ kind: 'cap', periodMs: rule.per === 'minute' ? 60_000 : HOUR_MS, drainedMs: 0, emptyMs: 0 },
    }));
    this.#meters = [...this.#budgets, ...this.#caps];
  }

  /** Books a change under a label combination at an event time, inside the caller's transaction. */
  book(dimension: number, datedMs: number, change: Spend): void {
    const pending = this.#dirty.of(dimension, Math.floor(datedMs / BUCKET_MS));
    pending.costNano += change.costNano;
    pending.estimatedNano += change.estimatedNano;
    pending.tokens += change.tokens;
    pending.turns += change.turns;
    for (const meter of this.#budgets) {
      if (meter.span && isWithin(meter.span, datedMs) && this.#isFor(meter, dimension)) {
        meter.spent += inUnit(meter.unit, change);
      }
    }
    if (this.#caps.length === 0) return;
    const nowMs = this.#now();
    for (const meter of this.#caps) {
      if (!isUpToDate(meter, nowMs) || !this.#isFor(meter, dimension)) continue;
      useCap(meter, Math.min(datedMs, nowMs), inUnit(meter.unit, change));
    }
  }

  /** Notes what one turn has cost by now, so that it is known how dear a single one can be. */
  noteTurn(dimension: number, datedMs: number, whole: Spend): void {
    for (const meter of this.#meters) {
      if (meter.span && this.#isFor(meter, dimension)) meter.dearest.add(datedMs, inUnit(meter.unit, whole));
    }
  }

  /** Writes what changed; call it inside the transaction that books the cause. */
  flush(): void {
    this.#dirty.each((dimension, bucket, { costNano, estimatedNano, tokens, turns }) =>
      this.#upsert.run(bucket, dimension, costNano, estimatedNano, tokens, turns),
    );
    this.#dirty.clear();
  }

  /** Forgets what is in memory; the disk holds it all. */
  load(): void {
    this.#dirty.clear();
    for (const meter of this.#meters) {
      meter.span = undefined;
      meter.inScope.clear();
    }
  }

  /** Where every budget and cap stands. Never to be called inside a transaction: it reads what is on disk. */
  standings(nowMs: number): Standing[] {
    const stale = this.#budgets.filter(({ span }) => !span || !isWithin(span, nowMs));
    if (stale.length > 0) this.#reckon(stale, nowMs);
    return [
      ...this.#budgets.map((meter) => this.#budgetStanding(meter, nowMs)),
      ...this.#caps.map((meter) => this.#capStanding(meter, nowMs)),
    ];
  }

  #isFor(meter: Meter, dimension: number): boolean {
    let isFor = meter.inScope.get(dimension);
    if (isFor === undefined) {
      isFor = isInScope(meter.scope, this.#dimensions.byId(dimension) as Dimension);
      meter.inScope.set(dimension, isFor);
    }
    return isFor;
  }

  #budgetStanding(meter: BudgetMeter, nowMs: number): Standing {
    return { ...standing(meter, { ...meter.span!, spent: meter.spent, nowMs }), rule: meter.rule };
  }

  /** Tells budgets from what is on disk: each period is read once, however many of them have it, for nobody is answered meanwhile. */
  #reckon(meters: readonly BudgetMeter[], nowMs: number): void {
    const lastHour = [...this.#turnsOf({ fromMs: nowMs - HOUR_MS, nowMs })];
    const periods = new Map<string, { readonly span: Span; readonly sums: readonly Booked[] }>();
    for (const meter of meters) {
      const { period, week_start, anchor } = meter.rule;
      const key = JSON.stringify([period, week_start, anchor]);
      const known = periods.get(key) ?? this.#read(periodAt(nowMs, meter.rule, this.#timeZone));
      periods.set(key, known);
      meter.span = known.span;
      meter.spent = 0;
      for (const sum of known.sums) {
        if (this.#isFor(meter, sum.dimension)) meter.spent += inUnit(meter.unit, sum);
      }
      meter.dearest = new SlidingMax(HOUR_MS);
      for (const turn of lastHour) {
        if (this.#isFor(meter, turn.dimension)) meter.dearest.add(turn.datedMs, inUnit(meter.unit, turn));
      }
    }
  }

  /** What was spent in a span, by label combination. */
  #read(span: Span): { readonly span: Span; readonly sums: readonly Booked[] } {
    const sums = this.#db
      .prepare(
        `SELECT dimension_id AS dimension, SUM(cost_nano) AS costNano, SUM(estimated_nano) AS estimatedNano,
           SUM(tokens) AS tokens, SUM(turns) AS turns FROM spend WHERE bucket >= ? AND bucket < ? GROUP BY dimension_id`,
      )
      .all(Math.ceil(span.startMs / BUCKET_MS), Math.ceil(span.endMs / BUCKET_MS));
    return { span, sums: sums as unknown as Booked[] };
  }

  #capStanding(meter: CapMeter, nowMs: number): Standing {
    if (!isUpToDate(meter, nowMs)) {
      const fromMs = nowMs - PERIODS_REPLAYED * meter.periodMs;
      meter.spent = 0;
      meter.drainedMs = fromMs;
      meter.emptyMs = fromMs;
      meter.span = { startMs: fromMs, endMs: Number.POSITIVE_INFINITY };
      meter.dearest = new SlidingMax(HOUR_MS);
      for (const turn of this.#turnsOf({ fromMs, nowMs })) {
        if (!this.#isFor(meter, turn.dimension)) continue;
        const amount = inUnit(meter.unit, turn);
        useCap(meter, Math.min(turn.datedMs, nowMs), amount);
        meter.dearest.add(turn.datedMs, amount);
      }
    }
    useCap(meter, nowMs, 0);
    // When it has drained so far that a whole one is left again.
    const overMs = Math.ceil(((meter.spent - (meter.limit - 1)) / meter.limit) * meter.periodMs) + 1;
    const endMs = nowMs + Math.max(0, overMs);
    return standing(meter, { startMs: nowMs - meter.periodMs, endMs, spent: Math.ceil(meter.spent), nowMs });
  }

  /**
   * Every turn that is dated from `fromMs` on, oldest first. What is dated further ahead than a turn can be was dated by a
   * clock that has been set right since.
   */
  #turnsOf({ fromMs, nowMs }: { readonly fromMs: number; readonly nowMs: number }): Iterable<DatedTurn> {
    return this.#db
      .prepare(
        `SELECT dimension_id AS dimension, dated_ms AS datedMs, ifnull(cost_nano, 0) AS costNano,
           ifnull(estimated_nano, 0) AS estimatedNano, input + output + reasoning + cache_read + cache_write AS tokens,
           counted AS turns FROM turn WHERE dated_ms BETWEEN ? AND ? AND phase > 0 ORDER BY dated_ms`,
      )
      .iterate(fromMs, nowMs + AHEAD_TOLERANCE_MS) as Iterable<unknown> as Iterable<DatedTurn>;
  }
}

const isWithin = ({ startMs, endMs }: Span, ms: number) => ms >= startMs && ms < endMs;

/** Whether a cap was drained up to a time that is not ahead: where the clock was set back it is told anew from the turns. */
const isUpToDate = ({ span, drainedMs }: CapMeter, nowMs: number) => span !== undefined && drainedMs <= nowMs;

/**
 * Drains a cap up to a time and adds what was used then, or takes out what was not used after all. What is dated before
 * it was last looked at counts from now on. Never to be called with a time that is ahead: nothing would drain until then.
 */
function useCap(meter: CapMeter, atMs: number, amount: number): void {
  const drainedIn = (ms: number) => (Math.max(0, ms) / meter.periodMs) * meter.limit;
  meter.spent = Math.max(0, meter.spent - drainedIn(atMs - meter.drainedMs));
  meter.drainedMs = Math.max(meter.drainedMs, atMs);
  if (meter.spent === 0) meter.emptyMs = meter.drainedMs;
  // What came late has drained until the bucket was last empty; since then others drained before it. There is no more of
  // it to be taken out either.
  const left = Math.sign(amount) * Math.max(0, Math.abs(amount) - drainedIn(meter.emptyMs - atMs));
  meter.spent = Math.max(0, meter.spent + left);
}

function standing(meter: Meter, { nowMs, ...now }: Span & { spent: number; nowMs: number }): Standing {
  const { kind, name, unit, limit } = meter;
  const dearest = meter.dearest.max(nowMs);
  return { kind, name, unit, limit, ...now, ...(dearest === undefined ? {} : { dearest }) };
}
