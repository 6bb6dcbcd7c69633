// Keeps the newest reading of every account, so that a restart shows it until it expires: one of our own polls and one
// that others reported, because each may know what the other does not.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { type Balance, currentResult, type Facts, type PollResult } from '../poll/poll-result.ts';
import type { Booking } from '../turn/turn-event.ts';
import type { BalanceBook, BalanceReading } from './balance-book.ts';
import { isAhead } from './plausible-time.ts';

/** A reading is let go of when it has said nothing for so long. The longest pause that a remote can ask for is an hour. */
const FORGOTTEN_AFTER_MS = 2 * 3600_000;
/** Accounts are named by senders, and each has about ten series. */
const ACCOUNTS_MAX = 200;

type Origin = 'own' | 'reported';

export class PollBook {
  readonly #db: DatabaseSync;
  readonly #balances: BalanceBook;
  readonly #delete: StatementSync;
  readonly #put: StatementSync;
  /** What the table holds, by account: every scrape reads all of it. */
  readonly #results = new Map<string, Partial<Record<Origin, PollResult>>>();

  constructor(db: DatabaseSync, balances: BalanceBook) {
    this.#db = db;
    this.#balances = balances;
    this.#delete = db.prepare('DELETE FROM poll_result WHERE provider = ? AND account = ? AND origin = ?');
    this.#put = db.prepare(
      `INSERT INTO poll_result (provider, account, origin, taken_ms, body) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET taken_ms = excluded.taken_ms, body = excluded.body`,
    );
  }

  /**
   * Books one reading inside the caller's transaction. Of reported ones the newest stays, whichever machine sent it; the
   * same one again only shows that its sender is alive.
   * @param options.isOwn it is a poll of our own, or of a bridge of ours: no flood keeps it out
   * @param options.mayBeOld it was on its way for a while, so that something newer may be known
   */
  book(
    stated: PollResult,
    { nowMs, isOwn, mayBeOld = !isOwn }: { nowMs: number; isOwn: boolean; mayBeOld?: boolean },
  ): Booking {
    const result = withoutFuture(stated, nowMs);
    const redated = isAhead(stated.takenMs, nowMs) ? ({ redated: true } as const) : {};
    const { provider, account, takenMs } = result;
    const origin: Origin = isOwn ? 'own' : 'reported';
    const known = this.#results.get(keyOf(result))?.[origin];
    const isOlder = known !== undefined && !isAhead(known.takenMs, nowMs) && takenMs < known.takenMs;
    if (mayBeOld && isOlder) return { outcome: { type: 'duplicate' }, ...redated };
    if (!known && !isOwn && !this.#hasRoom(nowMs)) {
      const detail = `more than ${ACCOUNTS_MAX} accounts were reported; this one is not kept`;
      return { outcome: { type: 'rejected', reason: 'overflow', detail } };
    }
    const balances = this.#balancesOf(result, { nowMs, isOwn });
    if (this.#balances.wouldOverflow(balances, nowMs)) {
      const detail = 'its balances would pass what an exact integer can hold';
      return { outcome: { type: 'rejected', reason: 'overflow', detail } };
    }
    this.#put.run(provider, account, origin, takenMs, JSON.stringify(result));
    this.#results.set(keyOf(result), { ...this.#results.get(keyOf(result)), [origin]: result });
    for (const balance of balances) this.#balances.observe(balance, nowMs);
    const saysNothingNew = mayBeOld && known?.takenMs === takenMs;
    return { outcome: { type: saysNothingNew ? 'duplicate' : known ? 'updated' : 'recorded' }, ...redated };
  }

  /** Whether one more reported account may be kept. */
  #hasRoom(nowMs: number): boolean {
    const isFull = () => [...this.#results.values()].filter(({ reported }) => reported).length >= ACCOUNTS_MAX;
    if (isFull()) this.sweep(nowMs);
    return !isFull();
  }

  /** Lets go of what has said nothing for long, inside the caller's transaction. */
  sweep(nowMs: number): void {
    for (const [key, { own, reported }] of this.#results) {
      const kept: Partial<Record<Origin, PollResult>> = {};
      for (const [origin, result] of [['own', own] as const, ['reported', reported] as const]) {
        if (!result) continue;
        if (isForgotten(result, nowMs)) this.#delete.run(result.provider, result.account, origin);
        else kept[origin] = result;
      }
      if (kept.own || kept.reported) this.#results.set(key, kept);
      else this.#results.delete(key);
    }
  }

  /** The balances that a reading is believed about: of a balance that our own polls tell, only theirs. */
  #balancesOf(result: PollResult, { nowMs, isOwn }: { nowMs: number; isOwn: boolean }): BalanceReading[] {
    const { provider, account, takenMs } = result;
    const own = isOwn ? undefined : this.#results.get(keyOf(result))?.own;
    if (own && currentResult(own, nowMs).readings.some(({ facts }) => facts.balances)) return [];
    const reload = result.readings.flatMap(({ facts }) => facts.reload ?? [])[0];
    return result.readings.flatMap(({ readMs, facts }) =>
      // A reported balance was so when it was taken, however often it is sent again.
      (facts.balances ?? []).map((balance: Balance) => ({
        ...{ provider, account, balance, reload },
        atMs: isOwn ? readMs : takenMs,
      })),
    );
  }

  /** What the readings still tell at `nowMs`, one result for each account, sorted; see currentResult. */
  current(nowMs: number): PollResult[] {
    const sorted = [...this.#results].sort(([a], [b]) => (a < b ? -1 : 1));
    return sorted.flatMap(([, of]) => {
      const [first, second] = [of.own, of.reported].flatMap((result) =>
        result && !isForgotten(result, nowMs) ? currentResult(result, nowMs) : [],
      );
      return first && second ? merged(first, second) : (first ?? []);
    });
  }

  /** Replaces everything in memory by what the disk holds. */
  load(): void {
    this.#results.clear();
    for (const { origin, body } of this.#db
      .prepare('SELECT origin, body FROM poll_result ORDER BY provider, account')
      .iterate()) {
      const result = JSON.parse(body as string) as PollResult;
      this.#results.set(keyOf(result), { ...this.#results.get(keyOf(result)), [origin as Origin]: result });
    }
  }
}

function keyOf({ provider, account }: Pick<PollResult, 'provider' | 'account'>): string {
  return JSON.stringify([provider, account]);
}

function isForgotten(result: PollResult, nowMs: number): boolean {
  return currentResult(result, nowMs).readings.length === 0 && nowMs - result.takenMs > FORGOTTEN_AFTER_MS;
}

/** A sender whose clock is ahead must not keep honest readings out until then, nor values alive. */
function withoutFuture(stated: PollResult, nowMs: number): PollResult {
  const past = (ms: number) => Math.min(ms, nowMs);
  const readings = stated.readings.map((reading) => ({ ...reading, readMs: past(reading.readMs) }));
  return { ...stated, takenMs: past(stated.takenMs), readings };
}

/** Our own reading, completed by what only the reported one tells. */
function merged(own: PollResult, reported: PollResult): PollResult {
  const told = new Set(own.readings.flatMap(({ facts }) => Object.keys(facts)));
  const added = reported.readings.map((reading) => ({
    ...reading,
    facts: Object.fromEntries(Object.entries(reading.facts).filter(([fact]) => !told.has(fact))) as Facts,
  }));
  const believed = own.status === 'unknown' ? reported : own;
  return {
    ...reported,
    ...own,
    status: believed.status,
    message: believed.message,
    readings: [...own.readings, ...added],
  };
}
