// The ledger: the durable, deduplicated record of turns, tool calls and poll results; the only truth.
//
// One process writes it (SQLite's own exclusive lock on the file says so). Submissions are committed in groups: what
// arrived while the previous commit ran goes into the next transaction, and each promise resolves after its commit.
// Everything in memory changes only inside such a transaction, which is synchronous, so no reader ever sees more than
// the disk holds; after a failed transaction memory is loaded anew.

import { existsSync, statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import type { LabelCaps as LabelCapsConfig } from '../config.ts';
import { messageOf, PermanentFailure, RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import { type MetricFamily, TOLL } from '../metrics/catalogue.ts';
import type { PollResult } from '../poll/poll-result.ts';
import type { Booking, MeterEvent, PricingState } from '../turn/turn-event.ts';
import { openDatabase, sqliteCode } from './database.ts';
import { Dimensions } from './dimensions.ts';
import { LabelCaps } from './label-caps.ts';
import { ModelTime } from './model-time.ts';
import { PollBook } from './poll-book.ts';
import type { CounterPoint, HistogramPoint, LedgerReading, Window, WindowRow } from './reading.ts';
import { Retention } from './retention.ts';
import { ToolBook } from './tool-book.ts';
import { Totals } from './totals.ts';
import { TurnBook } from './turn-book.ts';
import { Windows } from './windows.ts';

/** Submissions waiting for a commit beyond this many events are refused: the sender keeps them and tries again. */
const BACKLOG_MAX_EVENTS = 100_000;
/** Events per transaction: long enough to share an fsync, short enough not to hold the event loop. */
const BATCH_MAX_EVENTS = 1000;
const SETTLE_BATCH = 1000;
/** Pages that a sweep gives back to the file system: some 16 MB, quick enough not to be felt. */
const VACUUM_PAGES = 4000;
const UNFINISHED_AFTER_MS = 15 * 60_000;
const SERIES_WARNING_SHARE = 0.8;
/** Labels that no setting bounds but that a sender can fill: generous caps, so that only abuse meets them. */
const FIXED_CAPS = { agent: 20, provider: 100, upstream_provider: 100, account: 200, team: 200 };
/** SQLite's primary result codes for what may pass: busy, locked, I/O error, full, cannot open, out of memory. */
const PASSING_SQLITE_CODES: ReadonlySet<number> = new Set([5, 6, 7, 10, 13, 14]);
/** SQLite's codes for a value that does not fit (too big, constraint, mismatch), and 0 for an error that is not SQLite's. */
const EVENTS_OWN_CODES: ReadonlySet<number> = new Set([0, 18, 19, 20]);

export interface LedgerOptions {
  readonly file: string;
  readonly timeZone: string;
  readonly retentionMs: number;
  readonly caps: LabelCapsConfig;
  readonly log: Log;
  /** Unix ms; for tests. */
  readonly now?: () => number;
  /** Called after every commit with what it held and how long it took. */
  readonly onCommit?: (commit: { events: number; seconds: number }) => void;
}

interface Submission {
  readonly events: number;
  readonly run: (nowMs: number) => unknown;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

export interface LedgerHealth {
  readonly turns: number;
  readonly toolCalls: number;
  readonly sessions: number;
  readonly lastTurnMs?: number;
  readonly booksBalance: boolean;
  readonly problem?: string;
}

export class Ledger implements LedgerReading {
  readonly createdMs: number;
  readonly #db: DatabaseSync;
  readonly #options: LedgerOptions;
  readonly #now: () => number;
  readonly #totals: Totals;
  readonly #caps: LabelCaps;
  readonly #windows: Windows;
  readonly #dimensions: Dimensions;
  readonly #turns: TurnBook;
  readonly #tools: ToolBook;
  readonly #polls: PollBook;
  readonly #modelTime: ModelTime;
  readonly #retention: Retention;
  #queue: Submission[] = [];
  #backlogEvents = 0;
  #scheduled = false;
  #problem: string | undefined;
  #mustReload = false;
  #warnedSeries = false;
  #closed = false;
  #lastSweepMs = performance.now();

  /**
   * Opens the ledger, or starts one where there is none.
   * @throws PermanentFailure when another process has it, a newer program wrote it, or it is damaged
   */
  static open(options: LedgerOptions): Ledger {
    const db = openDatabase(options.file);
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
    const parts = { totals: this.#totals, caps: this.#caps, windows: this.#windows, dimensions: this.#dimensions };
    this.#turns = new TurnBook(db, parts);
    this.#tools = new ToolBook(db, { ...parts, turns: this.#turns });
    this.#polls = new PollBook(db);
    this.#modelTime = new ModelTime(db, parts);
    db.prepare("INSERT OR IGNORE INTO meta (key, value) VALUES ('created_ms', ?)").run(this.#now());
    this.createdMs = (db.prepare("SELECT value FROM meta WHERE key = 'created_ms'").get() as { value: number }).value;
    this.#retention = new Retention(db, { retentionMs: options.retentionMs, createdMs: this.createdMs });
    this.#load();
  }

  /** Events that wait for their commit. */
  get backlogEvents(): number {
    return this.#backlogEvents;
  }

  /** What keeps the ledger from taking anything, as a line for people; absent when it works. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /**
   * Books events; resolves after they are on disk, with one booking for each in order.
   * @throws RetryableFailure when the commit failed or too much is waiting, PermanentFailure when one of these events
   * cannot be booked at all; nothing of this submission was booked then
   */
  submit(events: readonly MeterEvent[]): Promise<Booking[]> {
    if (events.length === 0) return Promise.resolve([]);
    return this.#enqueue(events.length, (nowMs) => events.map((event) => this.#book(event, nowMs)));
  }

  /** Keeps the newest reading of an account; an older one than the one held is a duplicate. */
  recordPoll(result: PollResult): Promise<Booking> {
    return this.#enqueue(1, (nowMs) => this.#polls.book(result, nowMs));
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
    do settled = await this.#enqueue(0, settle);
    while (settled >= SETTLE_BATCH);
  }

  /** Lets go of turns older than the retention. Call it about once an hour. */
  async sweep(): Promise<void> {
    const atMs = performance.now();
    const elapsedMs = atMs - this.#lastSweepMs;
    await this.#enqueue(0, (nowMs) => this.#retention.sweep(nowMs, elapsedMs));
    this.#lastSweepMs = atMs;
    if (!this.#closed) this.#db.exec(`PRAGMA incremental_vacuum(${VACUUM_PAGES})`);
  }

  /** Commits what waits and closes the file. Idempotent. */
  close(): void {
    if (this.#closed) return;
    while (this.#queue.length > 0 && !this.#problem) this.#commit();
    this.#closed = true;
    for (const waiting of this.#queue.splice(0)) waiting.reject(new RetryableFailure('The ledger was closed.'));
    this.#db.close();
  }

  counters(family: string): Iterable<CounterPoint> {
    return this.#totals.counters(family);
  }

  histograms(family: string): Iterable<HistogramPoint> {
    return this.#totals.histograms(family);
  }

  windowRows(): readonly WindowRow[] {
    return this.#windows.rows(this.#now());
  }

  windowSessions(window: Window, upstreamProviders: readonly string[]): number {
    const row = this.#db
      .prepare(
        `SELECT count(*) AS n FROM (SELECT DISTINCT agent, session_id FROM session_upstream
           WHERE last_ms >= ? AND upstream_provider IN (SELECT value FROM json_each(?)))`,
      )
      .get(this.#windows.startMs(window, this.#now()), JSON.stringify(upstreamProviders));
    return (row as { n: number }).n;
  }

  unfinishedTurns(): { agent: string; provider: string; turns: number }[] {
    return this.#db
      .prepare(
        `SELECT dimension.agent AS agent, dimension.provider AS provider, count(*) AS turns FROM turn
           JOIN dimension ON dimension.id = turn.series_id WHERE phase = 0 AND dated_ms < ? GROUP BY 1, 2`,
      )
      .all(this.#now() - UNFINISHED_AFTER_MS) as { agent: string; provider: string; turns: number }[];
  }

  pricingStates(): { provider: string; model: string; state: PricingState }[] {
    return this.#db.prepare('SELECT provider, model, state FROM pricing_state').all() as {
      provider: string;
      model: string;
      state: PricingState;
    }[];
  }

  upstreamProviders(): string[] {
    return [...new Set([...this.#windows.cells()].map((cell) => cell.upstreamProvider))].sort();
  }

  pollResults(): PollResult[] {
    return this.#polls.current(this.#now());
  }

  sizeBytes(): number {
    const size = (file: string) => (existsSync(file) ? statSync(file).size : 0);
    return size(this.#options.file) + size(`${this.#options.file}-wal`);
  }

  /** Counts, and an audit: counters less corrections must equal the rollups, which were summed independently. */
  health(): LedgerHealth {
    const count = (table: string) => (this.#db.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }).n;
    const last = this.#db.prepare('SELECT max(dated_ms) AS ms FROM turn').get() as { ms: number | null };
    const rollup = this.#db
      .prepare(
        'SELECT ifnull(sum(cost_nano), 0) AS cost, ifnull(sum(tokens + cache_read), 0) AS tokens, ifnull(sum(turns), 0) AS turns FROM rollup',
      )
      .get() as { cost: number; tokens: number; turns: number };
    const net = (counter: MetricFamily, corrections: MetricFamily) =>
      this.#totals.grand(counter) - this.#totals.grand(corrections);
    return {
      turns: count('turn'),
      toolCalls: count('tool_call'),
      sessions: count('session'),
      ...(last.ms === null ? {} : { lastTurnMs: last.ms }),
      booksBalance:
        rollup.cost === net(TOLL.cost, TOLL.costCorrections) &&
        rollup.tokens === net(TOLL.tokens, TOLL.tokensCorrections) &&
        rollup.turns === this.#totals.grand(TOLL.turns),
      ...(this.#problem === undefined ? {} : { problem: this.#problem }),
    };
  }

  #book(event: MeterEvent, nowMs: number): Booking {
    switch (event.kind) {
      case 'turn': {
        const booking = this.#turns.book(event, nowMs, this.#retention.horizonMs);
        if (booking.outcome.type === 'recorded') this.#tools.release(event.agent, event.sessionId, event.messageId);
        return booking;
      }
      case 'tool':
        return this.#tools.bookTool(event, nowMs, this.#retention.horizonMs);
      case 'session':
        return this.#tools.bookSession(event, nowMs);
      case 'permission':
        return this.#tools.bookPermission(event, nowMs);
    }
  }

  #enqueue<T>(events: number, run: (nowMs: number) => T): Promise<T> {
    if (this.#closed) return Promise.reject(new RetryableFailure('The ledger was closed.'));
    if (this.#backlogEvents + events > BACKLOG_MAX_EVENTS) {
      return Promise.reject(new RetryableFailure('Too many events wait for the ledger.', { retryAfterS: 1 }));
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#queue.push({ events, run, resolve: resolve as (result: unknown) => void, reject });
    this.#backlogEvents += events;
    this.#schedule();
    return promise;
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed || this.#queue.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#closed) return;
      this.#commit();
      this.#schedule();
    });
  }

  /** Commits one group. When it fails, each of its submissions gets a transaction of its own, so that only the culprit suffers. */
  #commit(): void {
    let events = 0;
    let taken = 0;
    for (const { events: n } of this.#queue) {
      if (taken > 0 && events + n > BATCH_MAX_EVENTS) break;
      events += n;
      taken += 1;
    }
    const group = this.#queue.splice(0, taken);
    this.#backlogEvents -= events;
    const error = this.#transact(group);
    if (error && group.length > 1 && isEventsOwn(error)) {
      for (const submission of group) this.#commitAlone(submission);
    } else if (error) {
      for (const { reject } of group) reject(refusalOf(error));
    }
  }

  #commitAlone(submission: Submission): void {
    const error = this.#transact([submission]);
    if (error) submission.reject(refusalOf(error));
  }

  /** Runs a group in one transaction and resolves its promises; on failure nothing of it stays, and the error is returned. */
  #transact(group: readonly Submission[]): Error | undefined {
    const startedMs = performance.now();
    const nowMs = this.#now();
    let results: unknown[];
    try {
      if (this.#mustReload) this.#load();
      this.#db.exec('BEGIN IMMEDIATE');
      results = group.map(({ run }) => run(nowMs));
      this.#totals.flush(this.#db);
      this.#caps.flush(this.#db);
      this.#windows.flush();
      this.#db.exec('COMMIT');
    } catch (thrown) {
      return this.#fail(thrown instanceof Error ? thrown : new Error(String(thrown)));
    }
    if (this.#problem) this.#options.log.info('the ledger works again');
    this.#problem = undefined;
    const events = group.reduce((sum, { events: n }) => sum + n, 0);
    if (events > 0) this.#options.onCommit?.({ events, seconds: (performance.now() - startedMs) / 1000 });
    this.#warnOfSeries();
    for (const [index, { resolve }] of group.entries()) resolve(results[index]);
    return undefined;
  }

  #fail(error: Error): Error {
    this.#mustReload = true;
    try {
      // SQLite has already rolled back after some errors.
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      this.#load();
    } catch (second) {
      this.#options.log.error({ error: messageOf(second) }, 'the ledger could not be read back after a failed commit');
    }
    if (isEventsOwn(error)) {
      this.#options.log.error({ error: error.message }, 'events that cannot be booked were refused');
      return error;
    }
    this.#problem = PASSING_SQLITE_CODES.has(sqliteCode(error))
      ? `The ledger cannot be written (${error.message}). Events are refused until there is room again; senders keep them and retry.`
      : `The ledger fails (${error.message}). Events are refused; senders keep them and retry. Restart Tollbridge: it checks the file and says what to do.`;
    this.#options.log.error({ error: error.message }, 'a commit of the ledger failed; its events were refused');
    return error;
  }

  /** Replaces everything in memory by what the disk holds. */
  #load(): void {
    this.#totals.load(this.#db, Object.values(TOLL));
    this.#caps.load(this.#db);
    this.#windows.load(this.#now());
    this.#dimensions.load();
    this.#retention.load();
    this.#mustReload = false;
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

/** Whether the events of a failed commit are to blame: the ledger works, and trying them again cannot help. */
function isEventsOwn(error: Error): boolean {
  return EVENTS_OWN_CODES.has(sqliteCode(error));
}

function refusalOf(error: Error): Error {
  return isEventsOwn(error)
    ? new PermanentFailure(
        'An event cannot be booked: a field is missing or does not fit. Nothing sent with it was booked.',
      )
    : new RetryableFailure('The ledger could not commit.', { cause: error, retryAfterS: 5 });
}
