// The ledger: the durable, deduplicated record of turns, tool calls and poll results; the only truth.
//
// One process writes it (SQLite's own exclusive lock on the file says so), in groups (commit-queue.ts). The books below
// change memory and rows inside a transaction only; what is read from here is always committed.

import { randomInt } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import type { LabelCaps as LabelCapsConfig } from '../config.ts';
import type { PolicyConfig } from '../config-policy.ts';
import type { Log } from '../log.ts';
import { TOLL } from '../metrics/catalogue.ts';
import type { PollResult } from '../poll/poll-result.ts';
import type { Booking, MeterEvent, TurnEvent } from '../turn/turn-event.ts';
import { audit, type LedgerHealth } from './audit.ts';
import { BalanceBook, type Comparison } from './balance-book.ts';
import type { Span } from './budget-period.ts';
import { CommitQueue } from './commit-queue.ts';
import { openDatabase } from './database.ts';
import { type Dimension, Dimensions } from './dimensions.ts';
import { HeldTurns } from './held-turns.ts';
import { LabelCaps } from './label-caps.ts';
import { ModelTime } from './model-time.ts';
import { PollBook } from './poll-book.ts';
import type {
  CounterPoint,
  HistogramPoint,
  LedgerReading,
  ModelPricing,
  PolicyCount,
  Standing,
  Window,
  WindowRow,
} from './reading.ts';
import { Retention } from './retention.ts';
import { SessionCounts } from './session-counts.ts';
import { SpendBook } from './spend-book.ts';
import { type ReportBy, type SpendReport, spendReport } from './spend-report.ts';
import { type StreamPosition, StreamPositions, type StreamStep } from './stream-positions.ts';
import { ToolBook } from './tool-book.ts';
import { Totals } from './totals.ts';
import { TurnBook } from './turn-book.ts';
import { Windows } from './windows.ts';

const SETTLE_BATCH = 1000;
/** Pages that a sweep gives back to the file system: some 16 MB, quick enough not to be felt. */
const VACUUM_PAGES = 4000;
/** How many ids there are for ledgers; randomInt takes no more. */
const LEDGER_IDS = 2 ** 48 - 1;
const UNFINISHED_AFTER_MS = 15 * 60_000;
const SERIES_WARNING_SHARE = 0.8;
/** Labels that no setting bounds but that a sender can fill: generous caps, so that only abuse meets them. */
const FIXED_CAPS = { agent: 20, provider: 100, upstream_provider: 100, account: 200, team: 200 };

/** Events that came together, with the position in a stream that goes with them, where they came from one. */
export interface LedgerPart {
  readonly events: readonly MeterEvent[];
  readonly step?: StreamStep | undefined;
}

export interface LedgerOptions {
  readonly file: string;
  readonly timeZone: string;
  readonly retentionMs: number;
  readonly caps: LabelCapsConfig;
  readonly log: Log;
  /** Which part of the turns it holds, as `k/N`, where it is not all of them. */
  readonly partition?: string | undefined;
  /** The rules whose spending is followed. */
  readonly policy?: Pick<PolicyConfig, 'budgets' | 'caps'>;
  /** Unix ms; for tests. */
  readonly now?: () => number;
  /** Called after every commit with what it held and how long it took. */
  readonly onCommit?: (commit: { events: number; seconds: number }) => void;
}

export class Ledger implements LedgerReading {
  readonly createdMs: number;
  /** Tells this ledger from every other. */
  readonly id: string;
  readonly #db: DatabaseSync;
  readonly #options: LedgerOptions;
  readonly #now: () => number;
  readonly #totals: Totals;
  readonly #caps: LabelCaps;
  readonly #windows: Windows;
  readonly #dimensions: Dimensions;
  readonly #spend: SpendBook;
  readonly #turns: TurnBook;
  readonly #tools: ToolBook;
  readonly #polls: PollBook;
  readonly #held: HeldTurns;
  readonly #balances: BalanceBook;
  readonly #modelTime: ModelTime;
  readonly #retention: Retention;
  readonly #sessions: SessionCounts;
  readonly #positions: StreamPositions;
  readonly #commits: CommitQueue;
  #warnedSeries = false;
  #toldOfOverflow = false;
  #closed = false;
  #lastSweepMs = performance.now();

  /**
   * Opens the ledger, or starts one where there is none.
   * @throws PermanentFailure when another process has it, a newer program wrote it, or it is damaged
   */
  static open(options: LedgerOptions): Ledger {
    const db = openDatabase(options.file, options.log);
    try {
      return new Ledger(options, db);
    } catch (error) {
      db.close();
      throw error;
    }
  }

  private constructor(options: LedgerOptions, db: DatabaseSync) {
    this.#options = options;
    this.#db = db;
    this.#now = options.now ?? Date.now;
    const { series, ...caps } = options.caps;
    this.#totals = new Totals(series);
    this.#caps = new LabelCaps({ ...FIXED_CAPS, ...caps });
    this.#windows = new Windows(db, options.timeZone);
    this.#dimensions = new Dimensions(db, this.#windows);
    this.#balances = new BalanceBook(db, this.#totals);
    const { timeZone, policy = { budgets: [], caps: [] } } = options;
    this.#spend = new SpendBook(db, { dimensions: this.#dimensions, timeZone, policy, now: this.#now });
    this.#sessions = new SessionCounts(db);
    const parts = {
      totals: this.#totals,
      caps: this.#caps,
      windows: this.#windows,
      dimensions: this.#dimensions,
      balances: this.#balances,
      spend: this.#spend,
      sessions: this.#sessions,
    };
    this.#turns = new TurnBook(db, parts);
    this.#tools = new ToolBook(db, { ...parts, turns: this.#turns });
    this.#held = new HeldTurns(db);
    this.#polls = new PollBook(db, this.#balances);
    this.#modelTime = new ModelTime(db, parts);
    db.prepare("INSERT OR IGNORE INTO meta (key, value) VALUES ('created_ms', ?)").run(this.#now());
    this.createdMs = (db.prepare("SELECT value FROM meta WHERE key = 'created_ms'").get() as { value: number }).value;
    db.prepare("INSERT OR IGNORE INTO meta (key, value) VALUES ('ledger_id', ?)").run(randomInt(LEDGER_IDS));
    const { value: id } = db.prepare("SELECT value FROM meta WHERE key = 'ledger_id'").get() as { value: number };
    this.id = id.toString(36);
    this.#retention = new Retention(db, { retentionMs: options.retentionMs, createdMs: this.createdMs });
    this.#positions = new StreamPositions(db);
    this.#commits = new CommitQueue({
      db,
      file: options.file,
      what: 'ledger',
      log: options.log,
      now: this.#now,
      flush: () => this.#flush(),
      load: () => this.#load(),
      onCommit: (commit) => {
        this.#warnOfSeries();
        options.onCommit?.(commit);
      },
    });
  }

  get partition(): string | undefined {
    return this.#options.partition;
  }

  /** Events that wait for their commit. */
  get backlogEvents(): number {
    return this.#commits.backlogEvents;
  }

  /** What keeps the ledger from taking anything, as a line for people; absent when it works. */
  get problem(): string | undefined {
    return this.#commits.problem;
  }

  /**
   * Books events; resolves after they are on disk, with one booking for each in order.
   * @param step the position in a stream that is taken with them
   * @throws RetryableFailure when the commit failed or too much is waiting, PermanentFailure when one of these events
   * cannot be booked at all; nothing of this submission was booked then
   */
  submit(events: readonly MeterEvent[], step?: StreamStep): Promise<Booking[]> {
    return this.submitAll([{ events, step }]);
  }

  /** As `submit`, of several messages together. */
  submitAll(parts: readonly LedgerPart[]): Promise<Booking[]> {
    const count = parts.reduce((sum, { events }) => sum + events.length, 0);
    if (count === 0 && !parts.some(({ step }) => step)) return Promise.resolve([]);
    return this.#commits.enqueue(count, (nowMs) => {
      const bookings: Booking[] = [];
      const steps: StreamStep[] = [];
      for (const { events, step } of parts) {
        // By the stream's clock, so that every ledger of a stream dates alike, whenever it reads.
        const receivedMs = Math.min(step?.storedMs ?? nowMs, nowMs);
        for (const event of events) bookings.push(this.#book(event, nowMs, receivedMs));
        if (step) steps.push(step);
      }
      this.#positions.advance(steps);
      return bookings;
    });
  }

  /**
   * Where to go on reading a stream of which this ledger holds one partition.
   * @throws PermanentFailure when it holds another one
   */
  openStream(stream: string, partition: string): StreamPosition {
    return this.#positions.open(stream, partition);
  }

  /** The stream holds something else than what was read of it: it is read from its beginning. */
  resetStream(stream: string): void {
    this.#positions.reset(stream);
  }

  /** Keeps the newest reading of an account; an older one than the one held, or the same, is a duplicate. */
  recordPoll(result: PollResult, origin: { isOwn?: boolean; mayBeOld?: boolean } = {}): Promise<Booking> {
    const { isOwn = false, mayBeOld = !isOwn } = origin;
    return this.#commits.enqueue(1, (nowMs) => this.#polls.book(result, { nowMs, isOwn, mayBeOld }));
  }

  /**
   * Does what only time can decide: counts turns that finished but never completed, tool calls whose turn never
   * came, and the model's own time. Call it every few seconds.
   */
  async settle(): Promise<void> {
    const settle = (nowMs: number) =>
      this.#turns.settle(nowMs, SETTLE_BATCH) +
      this.#tools.settle(nowMs, SETTLE_BATCH) +
      this.#modelTime.settle(nowMs, SETTLE_BATCH);
    let settled: number;
    do settled = await this.#commits.enqueue(0, settle);
    while (settled >= SETTLE_BATCH);
  }

  /** Lets go of turns older than the retention. Call it every few minutes. */
  async sweep(): Promise<void> {
    await this.#commits.enqueue(0, (nowMs) => {
      this.#sweep(nowMs);
      this.#db.exec(`PRAGMA incremental_vacuum(${VACUUM_PAGES})`);
    });
  }

  /** Commits what waits and closes the file. Idempotent. */
  close(): void {
    if (this.#closed) return;
    // The time that this process ran counts for the retention, however short it was.
    this.#commits.enqueue(0, (nowMs) => this.#sweep(nowMs)).catch(() => {});
    this.#commits.close();
    this.#closed = true;
    this.#db.close();
  }

  counters(family: string): Iterable<CounterPoint> {
    this.#commits.assertLoaded();
    return this.#totals.counters(family);
  }

  histograms(family: string): Iterable<HistogramPoint> {
    this.#commits.assertLoaded();
    return this.#totals.histograms(family);
  }

  windowRows(): readonly WindowRow[] {
    this.#commits.assertLoaded();
    return this.#windows.rows(this.#now());
  }

  windowStartMs(window: Window): number {
    return this.#windows.startMs(window, this.#now());
  }

  windowSessions(window: Window, upstreamProviders: readonly string[]): number {
    return this.#sessions.count(window, this.#windows.startMs(window, this.#now()), upstreamProviders);
  }

  unfinishedTurns(): { agent: string; provider: string; turns: number }[] {
    return this.#turns.unfinished(this.#now() - UNFINISHED_AFTER_MS);
  }

  pricingStates(): ModelPricing[] {
    return this.#turns.pricingStates();
  }

  /** The label combinations of turns so far; undefined when there are too many to look through. */
  seenLabels(): readonly Dimension[] | undefined {
    return this.#dimensions.all();
  }

  upstreamProviders(): string[] {
    return [...new Set([...this.#windows.cells()].map((cell) => cell.upstreamProvider))].sort();
  }

  pollResults(): PollResult[] {
    return this.#polls.current(this.#now());
  }

  standings(): Standing[] {
    this.#commits.assertLoaded();
    return this.#spend.standings(this.#now());
  }

  /** Unix ms before which nothing new is booked; -Infinity as long as nothing was let go. */
  get horizonMs(): number {
    return this.#retention.horizonMs;
  }

  /** What was spent in a span of event time, net, by one label, session or turn. */
  report(by: ReportBy, span: Span): SpendReport {
    this.#commits.assertLoaded();
    const { partition } = this.#options;
    const report = spendReport(this.#db, { by, span, horizonMs: this.#retention.horizonMs });
    return { ...report, ...(partition === undefined ? {} : { partition }) };
  }

  /** Counts what agents were answered, and what went ahead unasked. @throws RetryableFailure when it was not committed */
  countPolicy(counts: readonly PolicyCount[]): Promise<void> {
    return this.#commits.enqueue(0, () => {
      for (const { counter, labels, times } of counts) this.#totals.raise(TOLL[counter], labels, times);
    });
  }

  balanceComparison(provider: string, account: string, window: Window): Comparison | undefined {
    return this.#balances.compare(provider, account, this.#windows.startMs(window, this.#now()));
  }

  /** Whom a turn of a session was paid to; undefined when none is known. */
  providerOf(agent: string, sessionId: string): string | undefined {
    return this.#turns.providerOf(agent, sessionId);
  }

  sizeBytes(): number {
    const size = (file: string) => (existsSync(file) ? statSync(file).size : 0);
    return size(this.#options.file) + size(`${this.#options.file}-wal`);
  }

  /** Counts, and whether the books balance. */
  health(): LedgerHealth {
    return { ...audit(this.#db, this.#totals), ...(this.problem === undefined ? {} : { problem: this.problem }) };
  }

  #book(event: MeterEvent, nowMs: number, receivedMs: number): Booking {
    switch (event.kind) {
      case 'turn': {
        const turn = this.#held.admit(event, nowMs);
        if ('outcome' in turn) return turn;
        const booking = this.#turns.book(turn, { nowMs, receivedMs, horizonMs: this.#retention.horizonMs });
        if (booking.outcome.type === 'rejected' && booking.outcome.reason === 'overflow') this.#tellOfOverflow();
        const isNew = booking.outcome.type === 'recorded';
        if (isNew) this.#tools.release(event.agent, event.sessionId, event.messageId);
        const held = isNew ? this.#bookHeld(event, nowMs) : [];
        if (turn === event && held.length === 0) return booking;
        return { ...booking, turns: [...(booking.turns ?? [turn]), ...held] };
      }
      case 'tool':
        return this.#tools.bookTool(event, nowMs, this.#retention.horizonMs);
      case 'session': {
        const booking = this.#tools.bookSession(event, nowMs);
        return booking.outcome.type === 'recorded' ? { ...booking, turns: this.#bookHeld(event, nowMs) } : booking;
      }
      case 'permission':
        return this.#tools.bookPermission(event, nowMs);
      case 'error':
        return this.#tools.bookError(event, nowMs, this.#retention.horizonMs);
    }
  }

  /** @returns those that were not known already, as they were booked */
  #bookHeld({ agent, sessionId }: { agent: string; sessionId: string }, nowMs: number): readonly TurnEvent[] {
    const held = this.#held.take(agent, sessionId);
    if (held.length === 0) return held;
    return held.flatMap((turn) => {
      const { outcome, turns } = this.#book(turn, nowMs, nowMs);
      return outcome.type === 'recorded' ? (turns ?? [turn]) : [];
    });
  }

  #sweep(nowMs: number): void {
    const atMs = performance.now();
    this.#retention.sweep(nowMs, atMs - this.#lastSweepMs);
    this.#balances.sweep(nowMs);
    this.#polls.sweep(nowMs);
    this.#held.sweep(nowMs);
    this.#lastSweepMs = atMs;
  }

  #flush(): void {
    this.#totals.flush(this.#db);
    this.#turns.flush();
    this.#sessions.flush();
    this.#caps.flush(this.#db);
    this.#windows.flush();
    this.#spend.flush();
  }

  #load(): void {
    this.#totals.load(this.#db, Object.values(TOLL));
    this.#turns.forget();
    this.#tools.load();
    this.#caps.load(this.#db);
    this.#windows.load(this.#now());
    this.#dimensions.load();
    this.#spend.load();
    this.#balances.load();
    this.#polls.load();
    this.#held.load();
    this.#retention.load();
    this.#sessions.load();
  }

  #tellOfOverflow(): void {
    if (this.#toldOfOverflow) return;
    this.#toldOfOverflow = true;
    this.#options.log.error(
      'totals are near what an exact integer holds (9 million USD): turns that would pass it are refused as "overflow". ' +
        'Begin a new ledger, and look for a sender that states absurd costs',
    );
  }

  #warnOfSeries(): void {
    const { series } = this.#options.caps;
    const near = this.#totals.seriesCount >= series * SERIES_WARNING_SHARE;
    if (near && !this.#warnedSeries) {
      this.#options.log.warn(
        { series: this.#totals.seriesCount, cap: series },
        'series near their cap: beyond it new label values count under "other". Raise labels.caps.series, or set labels.project to off',
      );
    }
    this.#warnedSeries = near;
  }
}
