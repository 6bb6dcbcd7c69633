// What balances tell by changing: falls are spending, rises are top-ups. Both only ever grow, so they are counters that
// survive a restart; and each interval between two readings is kept beside what the account's turns cost in it, so that
// the two can be compared.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { type MetricFamily, TOLL } from '../metrics/catalogue.ts';
import type { Balance, Nano, Reload } from '../poll/poll-result.ts';
import { isAhead } from './plausible-time.ts';
import type { Totals } from './totals.ts';

/** Intervals of one quarter of an hour are kept as one: nothing asks for finer ones. */
const BUCKET_MS = 15 * 60_000;
/** The longest window that is compared is 30 days. */
const INTERVALS_KEPT_MS = 35 * 86_400_000;
/** A balance that nobody read for so long is forgotten; if it comes back, it begins anew. */
const BALANCES_KEPT_MS = 400 * 86_400_000;

/** One balance as it was read. */
export interface BalanceReading {
  readonly provider: string;
  readonly account: string;
  readonly balance: Balance;
  /** When it was so, Unix ms. */
  readonly atMs: number;
  /** What is known of the account's automatic top-ups. */
  readonly reload?: Reload | undefined;
}

/** What a change of balance says. */
export interface Movement {
  /** ≥ 0; a lower bound, because spending and top-ups between two readings net out. */
  readonly spent: Nano;
  /** ≥ 0. */
  readonly topup: Nano;
  /** How much was spent is not known: there was a rise that is not the known reload. */
  readonly isMixed: boolean;
}

const NOTHING_MOVED: Movement = { spent: 0, topup: 0, isMixed: false };

/** Sums over the intervals that lie within a window and are not mixed. */
export interface Comparison {
  readonly fell: Nano;
  readonly observed: Nano;
  readonly unattributed: Nano;
}

/**
 * Splits the change from one balance to the next. A reload comes when the balance is below its trigger, so right after
 * it the balance is below trigger + amount: a rise to more than that is not (only) a reload.
 */
export function movementOf(before: Nano, after: Nano, reload: Reload | undefined): Movement {
  const rise = after - before;
  if (rise <= 0) return { spent: -rise + 0, topup: 0, isMixed: false };
  const { amountNano: amount = 0, triggerNano: trigger, isEnabled } = reload ?? {};
  const isReload = amount > 0 && isEnabled !== false && (trigger === undefined || after <= trigger + amount);
  if (!isReload) return { spent: 0, topup: rise, isMixed: true };
  const topup = Math.ceil(rise / amount) * amount;
  return { spent: topup - rise, topup, isMixed: false };
}

/** The way from the last balance to a newer one. */
interface Step {
  readonly movement: Movement;
  readonly last?: Row;
  /** When the interval between them began; absent where there is none that could be compared. */
  readonly sinceMs?: number;
}

interface Row {
  readonly read_ms: number;
  readonly nano: number;
  readonly owner: string;
}

export class BalanceBook {
  readonly #totals: Totals;
  readonly #db: DatabaseSync;
  readonly #find: StatementSync;
  readonly #put: StatementSync;
  readonly #turnsIn: StatementSync;
  readonly #extend: StatementSync;
  readonly #addInterval: StatementSync;
  readonly #moveObserved: StatementSync;
  readonly #moveUnattributed: StatementSync;
  readonly #compare: StatementSync;
  readonly #forgetIntervals: StatementSync;
  readonly #forgetBalances: StatementSync;
  /** Until when each provider has closed intervals: turns after that are summed when their interval closes. */
  readonly #closedMs = new Map<string, number>();

  constructor(db: DatabaseSync, totals: Totals) {
    this.#db = db;
    this.#totals = totals;
    const key = 'provider = ? AND account = ? AND kind = ? AND currency = ?';
    this.#find = db.prepare(`SELECT read_ms, nano, owner FROM balance WHERE ${key}`);
    this.#put = db.prepare(
      `INSERT INTO balance (provider, account, kind, currency, read_ms, nano, owner) VALUES (?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET read_ms = excluded.read_ms, nano = excluded.nano, owner = excluded.owner`,
    );
    this.#turnsIn = db.prepare(
      `SELECT ifnull(sum(CASE WHEN dimension.account = ?2 THEN cost_nano END), 0) AS observed,
              ifnull(sum(CASE WHEN dimension.account = '' THEN cost_nano END), 0) AS unattributed
         FROM turn JOIN dimension ON dimension.id = turn.dimension_id
         WHERE dimension.provider = ?1 AND dated_ms > ?3 AND dated_ms <= ?4 AND phase > 0`,
    );
    this.#extend = db.prepare(
      `UPDATE balance_interval SET to_ms = ?6, spent_nano = spent_nano + ?7, observed_nano = observed_nano + ?8,
         unattributed_nano = unattributed_nano + ?9
         WHERE provider = ?1 AND account = ?2 AND kind = ?3 AND currency = ?4 AND to_ms = ?5 AND from_ms >= ?10
           AND mixed = 0 AND topup_nano = 0`,
    );
    this.#addInterval = db.prepare(
      `INSERT INTO balance_interval (provider, account, kind, currency, from_ms, to_ms, spent_nano, topup_nano, mixed, observed_nano, unattributed_nano)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    const covering = 'provider = ?1 AND from_ms < ?3 AND to_ms >= ?3';
    this.#moveObserved = db.prepare(
      `UPDATE balance_interval SET observed_nano = observed_nano + ?4 WHERE ${covering} AND account = ?2`,
    );
    this.#moveUnattributed = db.prepare(
      `UPDATE balance_interval SET unattributed_nano = unattributed_nano + ?2 WHERE ${covering}`,
    );
    // Pollers of two versions may tell the same money as two kinds: then only the one told last counts, not both.
    this.#compare = db.prepare(
      `SELECT sum(spent_nano) AS fell, sum(observed_nano) AS observed, sum(unattributed_nano) AS unattributed
         FROM balance_interval WHERE provider = ? AND account = ? AND currency = 'USD' AND from_ms >= ? AND mixed = 0
         GROUP BY kind ORDER BY max(to_ms) DESC, kind LIMIT 1`,
    );
    this.#forgetIntervals = db.prepare('DELETE FROM balance_interval WHERE to_ms < ?');
    this.#forgetBalances = db.prepare('DELETE FROM balance WHERE read_ms < ?');
  }

  /** Whether booking these balances would pass what an exact integer holds. */
  wouldOverflow(readings: readonly BalanceReading[], nowMs: number): boolean {
    const steps = readings.flatMap((reading) => this.#stepOf(reading, nowMs) ?? []);
    const isPast = (family: MetricFamily, side: 'spent' | 'topup') =>
      !Number.isSafeInteger(steps.reduce((sum, { movement }) => sum + movement[side], this.#totals.grand(family)));
    return isPast(TOLL.balanceSpent, 'spent') || isPast(TOLL.balanceTopup, 'topup');
  }

  /** What a balance says after the last one; undefined when it is not newer. */
  #stepOf({ provider, account, balance, atMs, reload }: BalanceReading, nowMs: number): Step | undefined {
    const { kind, currency, nano, owner = '' } = balance;
    const last = this.#find.get(provider, account, kind, currency) as Row | undefined;
    if (!last) return { movement: NOTHING_MOVED };
    // A balance read in the future is one of a clock that was set back since: nobody knows what time lies between.
    const wasAhead = isAhead(last.read_ms, nowMs);
    if (!wasAhead && atMs <= last.read_ms) return undefined;
    const isAnothers = owner !== '' && last.owner !== '' && owner !== last.owner;
    if (isAnothers) return { movement: NOTHING_MOVED, last };
    const movement = movementOf(last.nano, nano, reload);
    return { movement, last, ...(wasAhead ? {} : { sinceMs: last.read_ms }) };
  }

  /** Books one balance inside the caller's transaction. One that is not newer than the last says nothing. */
  observe(reading: BalanceReading, nowMs: number): void {
    const step = this.#stepOf(reading, nowMs);
    if (!step) return;
    const { provider, account, balance, atMs } = reading;
    const { kind, currency, nano, owner } = balance;
    const { movement, last, sinceMs } = step;
    const { spent, topup, isMixed } = movement;
    const key = [provider, account, kind, currency] as const;
    this.#put.run(...key, atMs, nano, owner ?? last?.owner ?? '');
    const labels = { provider, account, kind, currency };
    this.#totals.add(TOLL.balanceSpent, labels, spent);
    this.#totals.add(TOLL.balanceTopup, labels, topup);
    if (sinceMs === undefined) return;
    const { observed, unattributed } = this.#turnsIn.get(provider, account, sinceMs, atMs) as unknown as Comparison;
    // Within one quarter of an hour, intervals that say the same kind of thing are kept as one.
    const quarterMs = Math.floor(atMs / BUCKET_MS) * BUCKET_MS;
    const isPlain = topup === 0;
    const extended =
      isPlain && this.#extend.run(...key, sinceMs, atMs, spent, observed, unattributed, quarterMs).changes > 0;
    if (!extended) {
      this.#addInterval.run(...key, sinceMs, atMs, spent, topup, isMixed ? 1 : 0, observed, unattributed);
    }
    this.#closedMs.set(provider, Math.max(atMs, this.#closedMs.get(provider) ?? 0));
  }

  /**
   * Notes that the stated cost of turns moved, inside the caller's transaction: it may belong to an interval that was
   * compared without it.
   * @param account '' for a turn that names none
   */
  turnMoved({ provider, account }: { provider: string; account: string }, datedMs: number, deltaNano: Nano): void {
    if (deltaNano === 0 || datedMs > (this.#closedMs.get(provider) ?? Number.NEGATIVE_INFINITY)) return;
    if (account) this.#moveObserved.run(provider, account, datedMs, deltaNano);
    else this.#moveUnattributed.run(provider, deltaNano, datedMs);
  }

  /** What fell and what turns cost since `startMs`, in USD; undefined without an interval that can be compared. */
  compare(provider: string, account: string, startMs: number): Comparison | undefined {
    const row = this.#compare.get(provider, account, startMs) as Record<keyof Comparison, number> | undefined;
    return row && { fell: row.fell, observed: row.observed, unattributed: row.unattributed };
  }

  /** Lets go of intervals that no window reaches any more, and of accounts that are long gone. */
  sweep(nowMs: number): void {
    this.#forgetIntervals.run(nowMs - INTERVALS_KEPT_MS);
    this.#forgetBalances.run(nowMs - BALANCES_KEPT_MS);
  }

  /** Replaces what is in memory by what the disk holds. */
  load(): void {
    this.#closedMs.clear();
    for (const row of this.#db
      .prepare('SELECT provider, max(to_ms) AS ms FROM balance_interval GROUP BY provider')
      .all()) {
      this.#closedMs.set(row.provider as string, row.ms as number);
    }
  }
}
