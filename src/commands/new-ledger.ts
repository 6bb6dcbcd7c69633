// `tollbridge ledger new`: moves a ledger aside, so that the next start begins an empty one.

import { existsSync, renameSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { ledgerFile } from '../bridge.ts';
import { commandText } from '../command-text.ts';
import type { Config } from '../config.ts';
import { PermanentFailure } from '../failure.ts';
import { SQLITE_BUSY, sqliteCode } from '../ledger/database.ts';
import { askBridge } from './ask-bridge.ts';
import type { Report } from './show.ts';

/** SQLite's companions first: a log left beside a new file would be taken for that file's own. */
const MOVED_SUFFIXES = ['-wal', '-shm', ''];

export interface NewLedgerOptions {
  readonly config: Config;
  readonly nowMs: number;
  /** Asks the user; nothing is moved unless it resolves to true. */
  readonly confirm: (question: string) => Promise<boolean>;
}

/**
 * Moves the ledger to `ledger.db.damaged-<time>`; nothing is deleted.
 * @throws PermanentFailure while a bridge answers, or another process has the ledger open
 */
export async function startNewLedger({ config, nowMs, confirm }: NewLedgerOptions): Promise<Report> {
  const answer = await askBridge(config);
  if (answer.answers) {
    throw new PermanentFailure(
      `A bridge is running (process ${answer.status.pid}) and writes to this ledger. Stop it first, then run this again.`,
    );
  }
  const file = ledgerFile(config);
  if (!existsSync(file)) {
    return { lines: [`There is no ledger at ${file}: the next start begins one.`], exitCode: 0 };
  }
  if (isOpenElsewhere(file)) {
    throw new PermanentFailure(
      `Another process has ${file} open, so it cannot be moved. Stop that bridge, then run this again.`,
    );
  }
  if (!(await confirm(`Move ${file} aside, so that all counting starts anew?`))) {
    return { lines: ['Nothing was changed.'], exitCode: 1 };
  }
  const aside = `${file}.damaged-${new Date(nowMs).toISOString().replaceAll(':', '-')}`;
  for (const suffix of MOVED_SUFFIXES) {
    if (existsSync(file + suffix)) renameSync(file + suffix, aside + suffix);
  }
  const lines = [
    `Moved to ${aside}. Nothing was deleted.`,
    `Counting starts anew: the next "${commandText('start')}" begins an empty ledger, and every total starts again at 0.`,
  ];
  return { lines, exitCode: 0 };
}

/** A bridge without a socket answers nobody, but holds SQLite's lock. Reads only: a damaged file and its -wal stay as they are. */
export function isOpenElsewhere(file: string): boolean {
  try {
    const db = new DatabaseSync(file, { readOnly: true, timeout: 0 });
    try {
      db.exec('SELECT 1 FROM sqlite_schema');
    } finally {
      db.close();
    }
    return false;
  } catch (error) {
    return sqliteCode(error) === SQLITE_BUSY;
  }
}
