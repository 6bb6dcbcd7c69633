// Files that hold keys. They are only ever read, and no message repeats what they hold.

import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';

/** A file of keys is a few hundred bytes; anything of this size is something else. */
const MAX_BYTES = 1024 * 1024;
const GROUP_OR_OTHERS = 0o077;

export type SecretFile =
  | { readonly type: 'missing' }
  /** It is there, but cannot be used. `problem` completes "the file …". */
  | { readonly type: 'unusable'; readonly problem: string }
  | { readonly type: 'read'; readonly text: string; readonly openToOthers: boolean };

/** Reads a file that holds keys. Never throws, never waits (a pipe in its place is refused). */
export function readSecretFile(file: string): SecretFile {
  let descriptor: number;
  try {
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return { type: 'missing' };
    return { type: 'unusable', problem: `cannot be read (${code ?? 'unknown error'})` };
  }
  try {
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) return { type: 'unusable', problem: 'is not a regular file' };
    if (stat.size > MAX_BYTES) return { type: 'unusable', problem: 'is larger than 1 MiB' };
    const text = readFileSync(descriptor, 'utf8');
    return { type: 'read', text, openToOthers: (stat.mode & GROUP_OR_OTHERS) !== 0 };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return { type: 'unusable', problem: `cannot be read (${code ?? 'unknown error'})` };
  } finally {
    closeSync(descriptor);
  }
}
