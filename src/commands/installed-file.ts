// A file of ours in a folder of somebody else: written whole, known again, and what stood in its place is kept.
//
// Such a file starts with a line that names it ours and holds the digest of the rest. By that line it is recognised, and
// by the digest an edited one is told from one that an older version wrote.

import { createHash, randomBytes } from 'node:crypto';
import {
  chownSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { messageOf, PermanentFailure } from '../failure.ts';
import { VERSION } from '../version.ts';

const BACKUPS_MAX = 1000;
/** Far more than anybody writes by hand; what is larger is something else. */
const SIZE_MAX = 16 * 1024 * 1024;

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
  // An editor may have turned the line ends, or put a byte order mark first.
  const header = new RegExp(`^\\uFEFF?${comment} Tollbridge ${what}, version \\S+, sha256 ([0-9a-f]{64})\\r?\n`).exec(
    text,
  );
  if (!header) return 'foreign';
  return digestOf(text.slice(header[0].length)) === header[1] ? 'untouched' : 'edited';
}

/**
 * The text of a file; undefined where there is none.
 * @throws PermanentFailure when it is there and cannot be read
 */
export function textAt(file: string): string | undefined {
  return bytesAt(file)?.toString('utf8');
}

/**
 * The text of a file that is to be written again: to the byte, with its byte order mark.
 * @throws PermanentFailure when it cannot be read, or is no UTF-8: what cannot be read cannot be kept
 */
export function exactTextAt(file: string): string | undefined {
  const bytes = bytesAt(file);
  try {
    return bytes && new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new PermanentFailure(`${file} is no UTF-8 text. Nothing was changed. Save it as UTF-8, then try again.`);
  }
}

function bytesAt(file: string): Buffer | undefined {
  try {
    const stats = statSync(file);
    // A link to /dev/null switches a file off.
    if (stats.isCharacterDevice()) return Buffer.alloc(0);
    // Opening a pipe waits for somebody who writes to it.
    if (!stats.isFile() && !stats.isDirectory()) throw new Error('it is no regular file');
    if (stats.size > SIZE_MAX) throw new Error(`it has ${stats.size} bytes, which no file has that belongs here`);
    return readFileSync(file);
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
 * @param otherwise what can be done instead, a sentence
 */
export function refuseLink(file: string, command: string, otherwise = ''): void {
  const link = linkTargetAt(file);
  if (link === undefined) return;
  throw new PermanentFailure(
    `${file} is a symbolic link to ${link}. It was left as it is, because that file may not be ours to change. ` +
      `${otherwise}Remove the link, then run: ${command}`,
  );
}

/** Renames a file to a name that no program loads. @returns the new name */
export function moveAside(file: string): string {
  return aside(file, (backup) => renameSync(file, backup));
}

/** Keeps a copy of a file that is about to be replaced, so that it is there until it is. @returns the copy's name */
export function copyAside(file: string): string {
  return aside(file, (backup) => copyFileSync(file, backup, constants.COPYFILE_EXCL));
}

function aside(file: string, put: (backup: string) => void): string {
  const backup = backupName(file);
  try {
    put(backup);
  } catch (error) {
    throw new PermanentFailure(
      `${file} cannot be kept as ${backup}: ${messageOf(error)}. Nothing was changed. Make its folder writable for you, then try again.`,
    );
  }
  return backup;
}

/** The first free `.bak-<n>` beside a file. */
function backupName(file: string): string {
  for (let n = 1; n <= BACKUPS_MAX; n++) {
    const backup = `${file}.bak-${n}`;
    if (!lstatSync(backup, { throwIfNoEntry: false })) return backup;
  }
  throw new PermanentFailure(
    `${path.dirname(file)} holds ${BACKUPS_MAX} backups of ${path.basename(file)}. Remove some, then try again.`,
  );
}

interface Writing {
  /** The thing that is not installed when the file cannot be written, as in "The plugin". */
  readonly what: string;
  /** What the user runs again then. */
  readonly command: string;
  /** Of the file, where it matters; whatever the umask. */
  readonly mode?: number;
  /** Whose it is to be: of the file that it replaces, also where root replaces it. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Looks once more, when nothing is left to do but the replacing, whether it may be done. */
  readonly check?: () => void;
}

/** Writes a file that appears complete or not at all, also after a power cut. */
export function writeWhole(file: string, text: string, { what, command, mode, owner, check }: Writing): void {
  const partial = `${file}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    removeAbandoned(file);
    try {
      const opened = openSync(partial, 'wx', mode ?? 0o666);
      try {
        if (owner && (owner.uid !== process.getuid?.() || owner.gid !== process.getgid?.())) giveTo(partial, owner);
        if (mode !== undefined) fchmodSync(opened, mode);
        writeFileSync(opened, text);
        fsyncSync(opened);
      } finally {
        closeSync(opened);
      }
      check?.();
      renameSync(partial, file);
    } finally {
      rmSync(partial, { force: true });
    }
  } catch (error) {
    if (error instanceof PermanentFailure) throw error;
    throw new PermanentFailure(
      `${file} cannot be written: ${messageOf(error)}. ${what} is not installed. Make its folder writable for you, then run: ${command}`,
    );
  }
}

/** Root alone may give files away; for others the file becomes their own, as it does in any editor. */
function giveTo(file: string, { uid, gid }: { readonly uid: number; readonly gid: number }): void {
  try {
    chownSync(file, uid, gid);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
  }
}

/** What a process left that was killed while it wrote this file: it may hold a token. */
function removeAbandoned(file: string): void {
  const start = `${path.basename(file)}.`;
  for (const name of readdirSync(path.dirname(file))) {
    const writer = name.startsWith(start) && /^(\d+)-[0-9a-f]{8}\.tmp$/.exec(name.slice(start.length))?.[1];
    if (writer && !isAlive(Number(writer))) rmSync(path.join(path.dirname(file), name), { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
