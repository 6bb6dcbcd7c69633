// Group commit: what arrives while a transaction runs goes into the next one, and each promise resolves after its commit.
// A transaction is one synchronous run, so no reader ever sees more than the disk holds; after one that failed, what is
// in memory is loaded anew before anything else happens.

import { rmSync, writeFileSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { messageOf, PermanentFailure, RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import { sqliteCode } from './database.ts';
import { FileGone, FileWatch } from './file-watch.ts';

/** Submissions waiting for a commit beyond this many events are refused: the sender keeps them and tries again. */
const BACKLOG_MAX_EVENTS = 100_000;
/** Events per transaction: long enough to share an fsync, short enough not to hold the event loop. */
const BATCH_MAX_EVENTS = 1000;
/** SQLite's primary result codes for what may pass: busy, locked, I/O error, full, cannot open, out of memory. */
const PASSING_SQLITE_CODES: ReadonlySet<number> = new Set([5, 6, 7, 10, 13, 14]);
/** SQLite's codes for a value that does not fit (too big, constraint, mismatch), and 0 for an error that is not SQLite's. */
const EVENTS_OWN_CODES: ReadonlySet<number> = new Set([0, 18, 19, 20]);

/** After a failed commit the ledger counts as mended when so much can be written beside it. */
const ROOM_BYTES = 2 * 1024 * 1024;

interface Submission {
  readonly events: number;
  readonly run: (nowMs: number) => unknown;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

export interface CommitQueueOptions {
  readonly db: DatabaseSync;
  readonly file: string;
  /** What the file is, for messages: `ledger`. */
  readonly what: string;
  readonly log: Log;
  readonly now: () => number;
  /** Writes what a transaction changed in memory; called before its commit. */
  readonly flush: () => void;
  /** Replaces everything in memory by what the disk holds. */
  readonly load: () => void;
  /** Called after every commit of events with how many and how long it took. */
  readonly onCommit: (commit: { events: number; seconds: number }) => void;
}

export class CommitQueue {
  readonly #options: CommitQueueOptions;
  readonly #files: FileWatch;
  #queue: Submission[] = [];
  #backlogEvents = 0;
  #isScheduled = false;
  #problem: string | undefined;
  #mustLoad = true;
  #isClosed = false;

  constructor(options: CommitQueueOptions) {
    this.#options = options;
    this.#files = new FileWatch(options);
    this.#load();
  }

  /** Events that wait for their commit. */
  get backlogEvents(): number {
    return this.#backlogEvents;
  }

  /** What keeps anything from being committed, as a line for people; absent when all is well. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** @throws Error while memory does not hold what the disk does: a scrape must then fail, not show less */
  assertLoaded(): void {
    if (this.#mustLoad) throw new Error('the totals could not be read back from the ledger yet');
  }

  /**
   * Runs `run` inside a transaction; resolves to what it returned, after the commit.
   * @param events how many events it books, for the bounds on what waits and on a transaction
   * @throws RetryableFailure when it was not committed but may be later, PermanentFailure when it cannot be
   */
  enqueue<T>(events: number, run: (nowMs: number) => T): Promise<T> {
    if (this.#isClosed) return Promise.reject(new RetryableFailure(`The ${this.#options.what} was closed.`));
    // Alone it is always taken: a submission that is too large today would be too large for ever.
    if (this.#backlogEvents > 0 && this.#backlogEvents + events > BACKLOG_MAX_EVENTS) {
      return Promise.reject(
        new RetryableFailure(`Too many events wait for the ${this.#options.what}.`, { retryAfterS: 1 }),
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#queue.push({ events, run, resolve: resolve as (result: unknown) => void, reject });
    this.#backlogEvents += events;
    this.#schedule();
    return promise;
  }

  /** Commits what waits, then refuses everything. Idempotent. */
  close(): void {
    while (this.#queue.length > 0 && !this.#problem) this.#commit();
    this.#isClosed = true;
    for (const waiting of this.#queue.splice(0))
      waiting.reject(new RetryableFailure(`The ${this.#options.what} was closed.`));
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isClosed || this.#queue.length === 0) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      if (this.#isClosed) return;
      this.#commit();
      this.#schedule();
    });
  }

  /** Commits one group. When its events are to blame for a failure, each submission gets a transaction of its own, so that only the culprit suffers. */
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
    if (!error) return;
    const alone = group.length > 1 && isEventsOwn(error);
    for (const submission of group) {
      const refusal = alone ? this.#transact([submission]) : error;
      if (refusal) submission.reject(refusalOf(refusal, this.#options.what));
    }
  }

  /** Runs a group in one transaction and resolves its promises; on failure nothing of it stays, and the error is returned. */
  #transact(group: readonly Submission[]): Error | undefined {
    const { db, now, flush, file, what, log, onCommit } = this.#options;
    const startedMs = performance.now();
    const nowMs = now();
    const events = group.reduce((sum, { events: n }) => sum + n, 0);
    let results: unknown[];
    let hasBegun = false;
    try {
      this.#files.assertUntouched();
      if (this.#mustLoad) this.#load();
      // After a failure, a transaction that has next to nothing to write would succeed on a full disk and prove nothing.
      if (this.#problem && events === 0) proveRoom(file);
      db.exec('BEGIN IMMEDIATE');
      hasBegun = true;
      results = group.map(({ run }) => run(nowMs));
      flush();
      db.exec('COMMIT');
      this.#files.note();
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      if (hasBegun) this.#restore();
      return this.#note(error);
    }
    if (this.#problem) log.info(`the ${what} works again`);
    this.#problem = undefined;
    if (events > 0) onCommit({ events, seconds: (performance.now() - startedMs) / 1000 });
    for (const [index, { resolve }] of group.entries()) resolve(results[index]);
    return undefined;
  }

  /** Takes back what a transaction changed, on disk and in memory. */
  #restore(): void {
    const { what, log } = this.#options;
    try {
      this.#load();
      this.#files.note();
    } catch (second) {
      log.error({ error: messageOf(second) }, `the ${what} could not be read back after a failed commit`);
    }
  }

  #note(error: Error): Error {
    const { what, log } = this.#options;
    if (isEventsOwn(error)) {
      log.error({ error: error.message }, 'events that cannot be booked were refused');
      return error;
    }
    const problem = problemOf(error, what);
    // Every refused commit would say the same again.
    if (problem !== this.#problem) log.error(problem);
    this.#problem = problem;
    return error;
  }

  #load(): void {
    const { db, load } = this.#options;
    this.#mustLoad = true;
    // SQLite has already rolled back after some errors; a rollback that failed is tried again here.
    if (db.isTransaction) db.exec('ROLLBACK');
    load();
    this.#mustLoad = false;
  }
}

/** @throws the file system's error while there is no room for a modest batch */
function proveRoom(file: string): void {
  const probe = `${file}-room`;
  try {
    writeFileSync(probe, Buffer.alloc(ROOM_BYTES), { mode: 0o600, flush: true });
  } finally {
    rmSync(probe, { force: true });
  }
}

function problemOf(error: Error, what: string): string {
  if (error instanceof FileGone) return error.message;
  return 'syscall' in error || PASSING_SQLITE_CODES.has(sqliteCode(error))
    ? `The ${what} cannot be written (${error.message}). Events are refused until it can be written again; senders keep them and retry. Make room on its disk if that is full; nothing else is needed.`
    : `The ${what} fails (${error.message}). Events are refused; senders keep them and retry. Restart Tollbridge: it checks the file and says what to do.`;
}

/** Whether the events of a failed commit are to blame: the ledger works, and trying them again cannot help. */
function isEventsOwn(error: Error): boolean {
  const isFileSystems = error instanceof FileGone || 'syscall' in error;
  return !isFileSystems && EVENTS_OWN_CODES.has(sqliteCode(error));
}

function refusalOf(error: Error, what: string): Error {
  if (isEventsOwn(error)) {
    return new PermanentFailure(
      'An event cannot be booked: a field is missing or does not fit. Nothing sent with it was booked.',
    );
  }
  return new RetryableFailure(`The ${what} could not commit.`, { cause: error, retryAfterS: 5 });
}
