// What could not be published yet, on disk, within bounds: the relay's promise to a sender while NATS is away.

import { chmodSync, closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { messageOf, PermanentFailure, RetryableFailure } from '../failure.ts';
import { CommitQueue } from '../ledger/commit-queue.ts';
import { SQLITE_BUSY, sqliteCode } from '../ledger/database.ts';
import type { Log } from '../log.ts';
import type { Outgoing } from './publisher.ts';

const FORMAT_VERSION = 1;
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS message (
    place INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS line ON message (subject, place);
  PRAGMA user_version = ${FORMAT_VERSION}`;
const FULL_RETRY_S = 5;
const FULL = 'what waits for NATS has reached relay.queue_max_bytes';
const FULL_REMEDY = 'senders are told to come again later. Let NATS take it, or raise relay.queue_max_bytes';

export interface Queued extends Outgoing {
  readonly place: number;
}

export interface DiskQueueOptions {
  readonly file: string;
  readonly maxBytes: number;
  readonly log: Log;
}

export class DiskQueue {
  readonly #db: DatabaseSync;
  readonly #maxBytes: number;
  readonly #log: Log;
  readonly #commits: CommitQueue;
  readonly #put: StatementSync;
  readonly #nextSubject: StatementSync;
  readonly #oldest: StatementSync;
  readonly #remove: StatementSync;
  #events = 0;
  #bytes = 0;
  /** Accepted and not yet on disk. */
  #comingBytes = 0;
  #isFull = false;
  #closed = false;

  /** @throws PermanentFailure when another process has it, or it cannot be read */
  static open(options: DiskQueueOptions): DiskQueue {
    const { file } = options;
    let db: DatabaseSync | undefined;
    try {
      mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
      closeSync(openSync(file, 'a', 0o600));
      chmodSync(file, 0o600);
      // It writes, though it says nothing new of a queue that is there, and on a full disk that one must open.
      const vacuum = statSync(file).size === 0 ? 'PRAGMA auto_vacuum = FULL;' : '';
      db = new DatabaseSync(file, { timeout: 0 });
      db.exec(`PRAGMA locking_mode = EXCLUSIVE; ${vacuum} PRAGMA journal_mode = WAL; BEGIN EXCLUSIVE; COMMIT`);
      db.exec('PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216');
      const { user_version: version } = db.prepare('PRAGMA user_version').get() as { user_version: number };
      if (version > FORMAT_VERSION) throw new Error('a newer Tollbridge wrote it');
      // Nothing is written where nothing is missing either.
      const { parts } = db
        .prepare("SELECT count(*) AS parts FROM sqlite_schema WHERE name IN ('message', 'line')")
        .get() as {
        parts: number;
      };
      if (parts < 2) db.exec(SCHEMA);
      return new DiskQueue(options, db);
    } catch (error) {
      db?.close();
      throw failureOf(error, file);
    }
  }

  private constructor({ file, maxBytes, log }: DiskQueueOptions, db: DatabaseSync) {
    this.#db = db;
    this.#maxBytes = maxBytes;
    this.#log = log;
    this.#put = db.prepare('INSERT INTO message (subject, id, body) VALUES (?, ?, ?)');
    // One look into the index for each subject: DISTINCT would pass over every message.
    this.#nextSubject = db.prepare('SELECT min(subject) AS subject FROM message WHERE subject > ?');
    this.#oldest = db.prepare(
      'SELECT place, subject, id, body FROM message WHERE subject = ? AND place > ? ORDER BY place LIMIT ?',
    );
    this.#remove = db.prepare('DELETE FROM message WHERE place = ?');
    this.#commits = new CommitQueue({
      ...{ db, file, what: 'queue', log, now: Date.now },
      flush: () => {},
      load: () => this.#count(),
      onCommit: () => {},
    });
  }

  get events(): number {
    return this.#events;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** What keeps it from taking anything, as a line for people. */
  get problem(): string | undefined {
    if (this.#commits.problem !== undefined || !this.#isFull) return this.#commits.problem;
    return `${FULL}: ${FULL_REMEDY}`;
  }

  /**
   * Resolves when they are on disk.
   * @throws RetryableFailure when they are not: the queue is full, or its disk
   */
  async put(messages: readonly Outgoing[]): Promise<void> {
    const bytes = messages.reduce((sum, message) => sum + sizeOf(message), 0);
    if (this.#bytes + this.#comingBytes + bytes > this.#maxBytes) {
      // Every refusal would say the same again.
      if (!this.#isFull) this.#log.error(`${FULL}: ${FULL_REMEDY}`);
      this.#isFull = true;
      throw new RetryableFailure(FULL, { retryAfterS: FULL_RETRY_S });
    }
    this.#comingBytes += bytes;
    try {
      await this.#commits.enqueue(messages.length, () => {
        for (const { subject, id, body } of messages) this.#put.run(subject, id, body);
      });
      this.#events += messages.length;
      this.#bytes += bytes;
    } finally {
      this.#comingBytes -= bytes;
    }
  }

  /** The subjects that messages wait for. */
  subjects(): string[] {
    const subjects: string[] = [];
    for (let after = ''; ; after = subjects.at(-1)!) {
      const { subject } = this.#nextSubject.get(after) as { subject: string | null };
      if (subject === null) return subjects;
      subjects.push(subject);
    }
  }

  /** Those of a subject that have waited longest, behind a place. */
  oldest(subject: string, { most, after = 0 }: { most: number; after?: number }): Queued[] {
    return this.#oldest.all(subject, after, most) as unknown as Queued[];
  }

  /** Lets go of what was published. @throws RetryableFailure when that could not be written; it is published again then */
  async remove(messages: readonly Queued[]): Promise<void> {
    await this.#commits.enqueue(messages.length, () => {
      for (const { place } of messages) this.#remove.run(place);
    });
    this.#isFull = false;
    this.#events -= messages.length;
    this.#bytes -= messages.reduce((sum, message) => sum + sizeOf(message), 0);
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#commits.close();
    this.#db.close();
  }

  #count(): void {
    const row = this.#db
      .prepare(
        'SELECT count(*) AS events, ifnull(sum(octet_length(subject) + octet_length(id) + octet_length(body)), 0) AS bytes FROM message',
      )
      .get() as { events: number; bytes: number };
    this.#events = row.events;
    this.#bytes = row.bytes;
  }
}

function sizeOf({ subject, id, body }: Outgoing): number {
  return Buffer.byteLength(subject) + Buffer.byteLength(id) + Buffer.byteLength(body);
}

function failureOf(error: unknown, file: string): PermanentFailure {
  if (sqliteCode(error) === SQLITE_BUSY) {
    return new PermanentFailure(
      `Another Tollbridge has the queue ${file}. Stop it, or set state_dir to another folder.`,
    );
  }
  return new PermanentFailure(
    `The queue ${file} cannot be used (${messageOf(error)}). It may hold turns that were not published yet, so it was left as it is. ` +
      'Make room or mend the permissions there; if it is damaged, move it away, and what it held is lost.',
  );
}
