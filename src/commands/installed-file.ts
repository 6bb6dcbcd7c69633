// A file of ours in a folder of somebody else: written whole, known again, and what stood in its place is kept.
//
// Such a file starts with a line that names it ours and holds the digest of the rest. By that line it is recognised, and
// by the digest an edited one is told from one that an older version wrote.

import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { messageOf, PermanentFailure } from '../failure.ts';
import { VERSION } from '../version.ts';

const BACKUPS_MAX = 1000;

/** Where a user's files are. */
export interface Place {
  /** The user's home directory. */
  readonly home: string;
  /** Where XDG_CONFIG_HOME is read from. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** How the first line of a kind of file reads. */
export interface Seal {
  /** What starts a comment in it. */
  readonly comment: string;
  /** `Tollbridge <what>`; letters and blanks only. */
  readonly what: string;
}

/** `untouched`: as some version of ours wrote it. `edited`: changed by hand since. `foreign`: not ours. */
export type Origin = 'untouched' | 'edited' | 'foreign';

const digestOf = (text: string) => createHash('sha256').update(text).digest('hex');

/** The text with its first line. */
export function sealed({ comment, what }: Seal, body: string): string {
  return `${comment} Tollbridge ${what}, version ${VERSION}, sha256 ${digestOf(body)}\n${body}`;
}

/** Who wrote a file with this text. */
export function originOf({ comment, what }: Seal, text: string): Origin {
  const header = new RegExp(`^${comment} Tollbridge ${what}, version \\S+, sha256 ([0-9a-f]{64})\n`).exec(text);
  if (!header) return 'foreign';
  return digestOf(text.slice(header[0].length)) === header[1] ? 'untouched' : 'edited';
}

/**
 * The text of a file; undefined where there is none.
 * @throws PermanentFailure when it is there and cannot be read
 */
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

/** Where a symbolic link leads; undefined for anything else, and for nothing. */
export function linkTargetAt(file: string): string | undefined {
  try {
    return readlinkSync(file);
  } catch {
    return undefined;
  }
}

/**
 * Refuses to write through a symbolic link: what it leads to may be anybody's.
 * @param command what the user runs again when the link is gone
 */
export function refuseLink(file: string, command: string): void {
  const link = linkTargetAt(file);
  if (link === undefined) return;
  throw new PermanentFailure(
    `${file} is a symbolic link to ${link}. It was left as it is, because that file may not be ours to change. Remove the link, then run: ${command}`,
  );
}

/** Renames a file to a name that no program loads. @returns the new name */
export function moveAside(file: string): string {
  const backup = backupName(file);
  renameSync(file, backup);
  return backup;
}

/** The first free `.bak-<n>` beside a file. */
export function backupName(file: string): string {
  for (let n = 1; n <= BACKUPS_MAX; n++) {
    const backup = `${file}.bak-${n}`;
    if (!lstatSync(backup, { throwIfNoEntry: false })) return backup;
  }
  throw new PermanentFailure(
    `${path.dirname(file)} holds ${BACKUPS_MAX} backups of ${path.basename(file)}. Remove some, then try again.`,
  );
}

/**
 * Writes a file that appears complete or not at all.
 * @param what the thing that is not installed when the file cannot be written, as in "The plugin"
 * @param command what the user runs again then
 * @param mode of the file, where it matters
 */
export function writeWhole(
  file: string,
  text: string,
  { what, command, mode }: { what: string; command: string; mode?: number },
): void {
  const partial = `${file}.${process.pid}.tmp`;
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    try {
      writeFileSync(partial, text, { flag: 'wx', ...(mode !== undefined && { mode }) });
      renameSync(partial, file);
    } finally {
      rmSync(partial, { force: true });
    }
  } catch (error) {
    throw new PermanentFailure(
      `${file} cannot be written: ${messageOf(error)}. ${what} is not installed. Make its folder writable for you, then run: ${command}`,
    );
  }
}
