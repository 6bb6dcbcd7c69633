// Files that we put into other programs' folders: read, kept before they are replaced, and written whole.

import { lstatSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { messageOf, PermanentFailure } from '../failure.ts';

const BACKUPS_MAX = 1000;

/** The text of a file; undefined where there is none. @throws PermanentFailure when it cannot be read */
export function textAt(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw new PermanentFailure(
      `${file} cannot be read: ${messageOf(error)}. Make it readable or remove it, then try again.`,
    );
  }
}

/** Renames a file to the first free `.bak-<n>`, where no program looks for it. @returns the new name */
export function moveAside(file: string): string {
  for (let n = 1; n <= BACKUPS_MAX; n++) {
    const backup = `${file}.bak-${n}`;
    if (lstatSync(backup, { throwIfNoEntry: false })) continue;
    renameSync(file, backup);
    return backup;
  }
  throw new PermanentFailure(`${path.dirname(file)} holds ${BACKUPS_MAX} backups of it. Remove some, then try again.`);
}

/**
 * Writes a file that appears complete or not at all.
 * @param told.without what it means when it cannot be, as a sentence
 * @param told.command what the user runs again then
 * @throws PermanentFailure when it cannot be written
 */
export function writeWhole(file: string, text: string, told: { without: string; command: string }): void {
  const partial = `${file}.${process.pid}.tmp`;
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    try {
      writeFileSync(partial, text, { flag: 'wx' });
      renameSync(partial, file);
    } finally {
      rmSync(partial, { force: true });
    }
  } catch (error) {
    throw new PermanentFailure(
      `${file} cannot be written: ${messageOf(error)}. ${told.without} Make its folder writable for you, then run: ${told.command}`,
    );
  }
}
