// Files that hold keys. They are only ever read, and no message repeats what they hold.

import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';

/** A file of keys is a few hundred bytes; anything of this size is something else. */
const MAX_BYTES = 1024 * 1024;
const GROUP_OR_OTHERS = 0o077;

export type SecretFile =
  | { readonly type: 'missing' }
  /** It is there, but must not or cannot be used. `problem` completes "the file …" and says what to do. */
  | { readonly type: 'unusable'; readonly problem: string }
  | { readonly type: 'read'; readonly text: string };

/** What is wrong with a file of secrets that more than its owner may touch; undefined when nothing is. */
export function exposureOf({ mode }: Pick<Stats, 'mode'>): string | undefined {
  if ((mode & GROUP_OR_OTHERS) === 0) return undefined;
  return 'can be read or written by other users of this machine, so it is not used: close it with chmod 600';
}

/** Reads a file that holds keys and that only its owner may touch. Never throws, never waits (a pipe is refused). */
export function readSecretFile(file: string): SecretFile {
  let descriptor: number;
  try {
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return { type: 'missing' };
    return unreadable(code);
  }
  try {
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) return { type: 'unusable', problem: 'is not a regular file' };
    if (stat.size > MAX_BYTES) return { type: 'unusable', problem: 'is larger than 1 MiB' };
    const problem = exposureOf(stat);
    if (problem) return { type: 'unusable', problem };
    return { type: 'read', text: readFileSync(descriptor, 'utf8') };
  } catch (error) {
    return unreadable((error as NodeJS.ErrnoException).code);
  } finally {
    closeSync(descriptor);
  }
}

function unreadable(code: string | undefined): SecretFile {
  return { type: 'unusable', problem: `cannot be read (${code ?? 'unknown error'}): mend the file or its mode` };
}
