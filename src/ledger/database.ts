// Opens the ledger's file: one writer, checked, up to date.

import { chmodSync, closeSync, mkdirSync, openSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { commandText } from '../command-text.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import { migrate, refuseNewer } from './schema.ts';

export const SQLITE_BUSY = 5;
const SQLITE_LOCKED = 6;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

/** SQLite's primary result code of a thrown error; 0 when it is none of SQLite's. */
export function sqliteCode(thrown: unknown): number {
  return ((thrown as { errcode?: number }).errcode ?? 0) & 0xff;
}

/**
 * Opens the file, or makes it, and takes SQLite's exclusive lock on it for as long as it is open. The kernel frees the
 * lock when the process dies, however it dies.
 * @param log is told when the tables are brought up to date
 * @throws PermanentFailure when another process has it, a newer program wrote it, it is damaged or cannot be opened
 */
export function openDatabase(file: string, log?: Pick<Log, 'info'>): DatabaseSync {
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    // Made by us, with our mode, before SQLite opens it; its -wal takes the same mode.
    closeSync(openSync(file, 'a', 0o600));
    chmodSync(file, 0o600);
    inspect(file, hasCrashed(file) ? 'integrity_check' : 'quick_check');
    return take(file, log);
  } catch (error) {
    throw failureOf(error, file);
  }
}

/**
 * Looks at a ledger that no bridge has open, and changes nothing.
 * @throws PermanentFailure as `openDatabase` does
 */
export function inspectDatabase(file: string): void {
  try {
    inspect(file, 'integrity_check');
  } catch (error) {
    throw failureOf(error, file);
  }
}

/** Whether the log of a process that did not close the ledger lies beside it: then every index is compared with its table, which takes twice as long. */
function hasCrashed(file: string): boolean {
  return (statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0;
}

/** What anything that was thrown here means, and the way out. */
function failureOf(error: unknown, file: string): PermanentFailure {
  switch (sqliteCode(error)) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return new PermanentFailure(
        `Another Tollbridge has the ledger ${file}. One process counts, so this one stops. ` +
          `Ask the running one with \`${commandText('status')}\`, or set state_dir to another folder.`,
      );
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return damaged(file, messageOf(error));
    default:
      if (error instanceof PermanentFailure) return error;
      return new PermanentFailure(
        `The ledger ${file} cannot be opened (${messageOf(error)}). Nothing is counted without it, so the bridge stops. ` +
          'Make room or mend the permissions there, or set state_dir to another folder.',
      );
  }
}

/** Looks before it touches: a connection that may write would carry the log of a crash into a damaged file on closing it. */
function inspect(file: string, check: 'integrity_check' | 'quick_check'): void {
  const db = new DatabaseSync(file, { readOnly: true, timeout: 0 });
  try {
    refuseNewer(db, file);
    const [verdict] = Object.values(db.prepare(`PRAGMA ${check}(1)`).get() ?? {});
    if (verdict !== 'ok') throw damaged(file, String(verdict));
  } finally {
    db.close();
  }
}

function take(file: string, log: Pick<Log, 'info'> | undefined): DatabaseSync {
  // It writes, though it says nothing new of a ledger that is there, and on a full disk that one must open.
  const vacuum = statSync(file).size === 0 ? 'PRAGMA auto_vacuum = INCREMENTAL;' : '';
  const db = new DatabaseSync(file, { timeout: 0 });
  try {
    db.exec(`PRAGMA locking_mode = EXCLUSIVE; ${vacuum} PRAGMA journal_mode = WAL; BEGIN EXCLUSIVE; COMMIT`);
    db.exec(
      'PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 67108864; PRAGMA foreign_keys = ON',
    );
    // The inspection's index of the log; whoever holds the exclusive lock keeps that in memory.
    rmSync(`${file}-shm`, { force: true });
    migrate(db, file, log);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function damaged(file: string, what: string): PermanentFailure {
  // SQLite begins with a line that only names the database, between asterisks.
  const lines = what.split('\n').map((line) => line.trim());
  const finding = lines.find((line) => line !== '' && !line.startsWith('***')) ?? lines[0];
  return new PermanentFailure(
    `The ledger ${file} is damaged (${finding}). It was left as it is: it may hold the only record of what was spent. ` +
      `Restore a copy of it, or start a new one with \`${commandText('ledger new')}\`, which moves this one aside.`,
  );
}
