// Looks whether the files of an open database are still what we left: SQLite writes on into files that were removed,
// and does not notice for long that one was cut short, so what it commits meanwhile would be lost at the next start.

import { type Stats, statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';

/** Somebody took the database, or a part of it, away under us. */
export class FileGone extends RetryableFailure {}

const found = (file: string) => statSync(file, { throwIfNoEntry: false });
const isSameFile = (a: Stats, b: Stats | undefined) => b !== undefined && a.dev === b.dev && a.ino === b.ino;

export interface WatchedDatabase {
  readonly db: DatabaseSync;
  readonly file: string;
  /** What it is, for messages: `ledger`. */
  readonly what: string;
  readonly log: Log;
}

export class FileWatch {
  readonly #database: WatchedDatabase;
  readonly #logFile: string;
  #file: Stats | undefined;
  #logStats: Stats | undefined;

  constructor(database: WatchedDatabase) {
    this.#database = database;
    this.#logFile = `${database.file}-wal`;
    this.note();
  }

  /** Takes the files as they are now for ours. Call it whenever we may have changed them. */
  note(): void {
    this.#file = found(this.#database.file);
    this.#logStats = found(this.#logFile);
  }

  /**
   * To be called before anything is committed. A write-ahead log that was removed is made anew, with all that it held.
   * @throws FileGone when what would be committed now would be lost
   */
  assertUntouched(): void {
    const { file, what, log, db } = this.#database;
    const now = found(file);
    if (this.#file && !isSameFile(this.#file, now)) {
      throw new FileGone(
        `The ${what}'s file ${file} was removed or replaced while Tollbridge ran. Events are refused, because they would be lost; ` +
          'senders keep them and retry. If the file was moved, put it back: nothing else is needed. ' +
          `Else restart Tollbridge, and a new ${what} begins.`,
      );
    }
    const nowLog = found(this.#logFile);
    const isLogGone = this.#logStats !== undefined && !isSameFile(this.#logStats, nowLog);
    if (isShorter(now, this.#file) || (!isLogGone && isShorter(nowLog, this.#logStats))) {
      throw new FileGone(
        `The ${what}'s file ${file}, or its -wal, was cut short by another program while Tollbridge ran. Events are refused, ` +
          'because they would be lost; senders keep them and retry. Restart Tollbridge: it checks the file and says what to do.',
      );
    }
    if (!isLogGone) return;
    // The log that we still have open goes into the file, and a new one is begun.
    db.exec('PRAGMA journal_mode = DELETE; PRAGMA journal_mode = WAL');
    this.note();
    log.warn(`${this.#logFile} was removed or replaced by another program; nothing was lost, and it was made anew`);
  }
}

function isShorter(now: Stats | undefined, before: Stats | undefined): boolean {
  return now !== undefined && before !== undefined && now.size < before.size;
}
