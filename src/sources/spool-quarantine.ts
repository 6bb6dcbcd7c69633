// Spool files that could not be booked, kept for a while beside a note that says why, so that a user can mend the writer.
// They are the user's own files, moved within the user's own disk; the notes quote nothing of them.

import { constants } from 'node:fs';
import { access, chmod, lstat, mkdir, readdir, rename, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { PermanentFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import type { Rejection } from '../turn/turn-event.ts';

const MAX_FILES = 1000;
const KEPT_MS = 7 * 24 * 3600_000;
/** Enough to see what is wrong with a writer. */
const LISTED_REASONS = 20;
const NOTE = '.reason';

export interface Findings {
  /** How many records the file held. */
  readonly records: number;
  readonly rejections: readonly (Rejection & { readonly index: number })[];
}

export class SpoolQuarantine {
  readonly #dir: string;
  readonly #log: Log;
  readonly #now: () => number;
  /** Files in quarantine, as far as known. */
  count = 0;
  #taken = 0;

  constructor({ dir, log, now }: { dir: string; log: Log; now: () => number }) {
    this.#dir = dir;
    this.#log = log;
    this.#now = now;
  }

  /** Makes sure that files can be taken. @throws PermanentFailure when they cannot */
  async prepare(): Promise<void> {
    try {
      await mkdir(this.#dir, { recursive: true, mode: 0o700 });
      await access(this.#dir, constants.W_OK | constants.X_OK);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new PermanentFailure(`the folder quarantine in it cannot be written: ${code}`);
    }
  }

  /** Moves a file here, with a note of what was found in it. A file of the same name gives way. */
  async take(file: string, findings: Findings): Promise<void> {
    await this.prepare();
    const name = path.basename(file);
    const target = path.join(this.#dir, name);
    await writeFile(target + NOTE, note(name, findings), { mode: 0o600 });
    await rename(file, target);
    await chmod(target, 0o600);
    this.count++;
    this.#taken++;
  }

  /** To be called when a pass over the spool has ended: says what was taken in it, and keeps within the bound. */
  async endPass(): Promise<void> {
    if (this.#taken > 0) {
      this.#log.warn({ files: this.#taken }, 'spool files were put in quarantine; the notes beside them say why');
    }
    this.#taken = 0;
    if (this.count > MAX_FILES) await this.tidy();
  }

  /** Removes what is older than a week, and the oldest beyond the bound. */
  async tidy(): Promise<void> {
    const names = (await readdir(this.#dir).catch(ignoreMissing)) ?? [];
    const kept = new Map<string, number>();
    // The note was written when the file was moved here; the file itself keeps the date of its writer.
    for (const name of names.filter((each) => each.endsWith(NOTE))) {
      const stat = await lstat(path.join(this.#dir, name)).catch(ignoreMissing);
      if (stat) kept.set(name.slice(0, -NOTE.length), stat.mtimeMs);
    }
    const oldestFirst = [...kept].sort(([, a], [, b]) => a - b);
    const expiredMs = this.#now() - KEPT_MS;
    const surplus = Math.max(0, oldestFirst.length - MAX_FILES);
    const removed = oldestFirst.filter(([, sinceMs], at) => at < surplus || sinceMs < expiredMs);
    for (const [name] of removed) {
      for (const file of [name, name + NOTE]) {
        await unlink(path.join(this.#dir, file)).catch(ignoreMissing);
      }
    }
    this.count = oldestFirst.length - removed.length;
    if (removed.length > 0)
      this.#log.warn({ files: removed.length }, 'removed the oldest files of the spool quarantine');
  }
}

/** What users have moved away is no concern here; that there is no such folder is told when a file needs it. */
function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
}

function note(name: string, { records, rejections }: Findings): string {
  const listed = rejections
    .slice(0, LISTED_REASONS)
    .map(({ index, reason, detail }) => `  record ${index}: ${reason}: ${detail}`);
  const unlisted = rejections.length - listed.length;
  return [
    `${rejections.length} of what ${name} held (${records} ${records === 1 ? 'record' : 'records'}) could not be booked:`,
    ...listed,
    ...(unlisted > 0 ? [`  … and ${unlisted} more`] : []),
    'The rest, if any, is booked.',
    'What to do: mend the writer. To have this file booked after all, correct it and move it back to the folder above;',
    'what is booked already is recognised. It is removed from here after 7 days.',
    '',
  ].join('\n');
}
