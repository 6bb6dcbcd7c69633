// The socket's place in the file system: private from its first moment, taken over only from the dead, and removed
// only by its owner. The socket is bound under a name that nobody knows and linked to its own name when its permissions
// are right; a link, unlike a rename, never replaces what is there.

import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { commandText } from '../command-text.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import type { Log } from '../log.ts';

/** How long a listener may take to accept the probe before it counts as alive but busy. */
const PROBE_TIMEOUT_MS = 450;
/** A name can be taken and freed again while it is looked at; more rounds than this mean that somebody is at war. */
const CLAIM_ATTEMPTS = 5;

/** What tells one file from the next that gets the same name, or even the same inode. Neither link nor rename changes it. */
interface FileId {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly mtimeNs: bigint;
}

export interface SocketPlace {
  readonly path: string;
  /** A group, by name or number, that may use the socket too. */
  readonly group?: string | undefined;
  /** How many connections the kernel keeps for a busy server. */
  readonly backlog: number;
  readonly log: Log;
}

interface Group {
  readonly name: string;
  readonly gid: number;
}

const codeOf = (thrown: unknown) => (thrown as NodeJS.ErrnoException).code;

function idOf(file: string): FileId {
  const { dev, ino, mtimeNs } = lstatSync(file, { bigint: true });
  return { dev, ino, mtimeNs };
}

const isSame = (a: FileId, b: FileId) => a.dev === b.dev && a.ino === b.ino && a.mtimeNs === b.mtimeNs;

/** Hidden, and long enough that nobody has it by chance. */
const HIDDEN_NAME_CHARS = 9;

/** A name beside `file` that nobody knows, of at most `chars`; of a single one it cannot be hidden. */
function nameBeside(file: string, chars = HIDDEN_NAME_CHARS): string {
  const random = randomBytes(6).toString('base64url');
  const name = chars > 1 ? `.${random}`.slice(0, chars) : random.slice(0, 1);
  return name === path.basename(file) ? nameBeside(file, chars) : path.join(path.dirname(file), name);
}

/**
 * The number of a group.
 * @param group its name, as /etc/group has it, or its number
 * @throws PermanentFailure when there is no such group
 */
export function groupId(group: string, groupFile = '/etc/group'): number {
  if (/^\d{1,9}$/.test(group)) return Number(group);
  const line = readFileSync(groupFile, 'utf8')
    .split('\n')
    .map((entry) => entry.split(':'))
    .find(([name]) => name === group);
  if (!line) {
    throw new PermanentFailure(
      `The group ${JSON.stringify(group)} of socket.group does not exist in ${groupFile}. ` +
        'Name one that does, or give its number, or remove socket.group so that only you can use the socket.',
    );
  }
  return Number(line[2]);
}

/** Creates the socket's folder for us alone, or for us and the group. A folder that exists is left as it is. */
function prepareFolder(folder: string, group: Group | undefined): void {
  const first = mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (!group || !first) return;
  for (let created = folder; created.length >= first.length; created = path.dirname(created)) {
    chownSync(created, -1, group.gid);
    chmodSync(created, 0o750);
  }
}

/** Says so when the group was given a socket in a folder that it cannot enter. */
function warnOfFolder(folder: string, group: Group, log: Log): void {
  const { mode, gid } = statSync(folder);
  if (!(mode & 0o001) && !(gid === group.gid && mode & 0o010)) {
    log.warn(
      { folder, group: group.name },
      "the group cannot enter the socket's folder, so it cannot use the socket: chgrp and chmod 750 the folder, or move socket.path to one of its own",
    );
  }
}

/** Whether somebody answers at a socket. What cannot be told counts as alive: a live socket is never taken. */
function isAlive(file: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect({ path: file });
    const settle = (alive: boolean) => {
      probe.destroy();
      resolve(alive);
    };
    probe.setTimeout(PROBE_TIMEOUT_MS, () => settle(true));
    probe.once('connect', () => settle(true));
    probe.once('error', (error) => settle(codeOf(error) !== 'ECONNREFUSED' && codeOf(error) !== 'ENOENT'));
  });
}

/** Removes `file` only if it is `expected`. Anything else is put back, and was alive all the while under its inode. */
function removeExactly(file: string, expected: FileId): void {
  const aside = nameBeside(file);
  try {
    if (!isSame(idOf(file), expected)) return;
    renameSync(file, aside);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return;
    throw error;
  }
  try {
    if (!isSame(idOf(aside), expected)) linkSync(aside, file);
  } finally {
    unlinkSync(aside);
  }
}

/** Gives the bound socket its name, unless somebody who lives has it. */
async function takeName(bound: string, file: string): Promise<void> {
  for (let attempt = 0; attempt < CLAIM_ATTEMPTS; attempt++) {
    try {
      linkSync(bound, file);
      return;
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    let found: FileId;
    try {
      found = idOf(file);
      if (!lstatSync(file).isSocket()) {
        throw new PermanentFailure(
          `${file} exists and is not a socket, so it was left alone. Move it away, or set socket.path to another place.`,
        );
      }
    } catch (error) {
      if (codeOf(error) === 'ENOENT') continue;
      throw error;
    }
    if (await isAlive(file)) {
      throw new PermanentFailure(
        `Another bridge is already running: somebody answers at ${file}. ` +
          `Ask it with: ${commandText('status')}. Stop it first, or give this one a socket.path of its own.`,
      );
    }
    removeExactly(file, found);
  }
  throw new PermanentFailure(`${file} is being taken and freed again and again. Stop whatever else uses this name.`);
}

/** Binds `server` to a name beside `file`. @returns the name */
async function bindBeside(server: net.Server, file: string, backlog: number): Promise<string> {
  let chars = HIDDEN_NAME_CHARS;
  for (let attempt = 1; ; attempt++) {
    const name = nameBeside(file, chars);
    try {
      await bind(server, name, backlog);
      return name;
    } catch (error) {
      if (attempt === CLAIM_ATTEMPTS) throw error;
      // The path is longer than the kernel takes; one as long as the file's own fits wherever the file's does.
      if (codeOf(error) === 'EINVAL') chars = Buffer.byteLength(path.basename(file));
      // Short names are few, so somebody may have this one.
      else if (codeOf(error) !== 'EADDRINUSE') throw error;
    }
  }
}

/** Binds with a umask that keeps others out from the first moment; permissions are widened afterwards, if at all. */
function bind(server: net.Server, file: string, backlog: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const umask = process.umask(0o077);
    try {
      server.listen({ path: file, backlog }, () => {
        server.off('error', reject);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
}

/** A socket file that is ours. */
export interface ClaimedSocket {
  /** Whether senders that use the path still reach us: the file may be deleted or replaced. */
  isOurs(): boolean;
  /** Removes the file, if it is still ours. */
  release(): void;
}

/**
 * Makes `server` listen at a socket file.
 * @throws PermanentFailure when the place belongs to somebody else or cannot be used
 */
export async function claimSocket(
  server: net.Server,
  { path: file, group, backlog, log }: SocketPlace,
): Promise<ClaimedSocket> {
  const owner = group === undefined ? undefined : { name: group, gid: groupId(group) };
  try {
    prepareFolder(path.dirname(file), owner);
    const bound = await bindBeside(server, file, backlog);
    const ours = idOf(bound);
    try {
      if (owner) chownSync(bound, -1, owner.gid);
      chmodSync(bound, owner ? 0o660 : 0o600);
      await takeName(bound, file);
    } finally {
      unlinkSync(bound);
    }
    if (owner) warnOfFolder(path.dirname(file), owner, log);
    return {
      // A socket that is listened at keeps its inode, so nothing else can have the same one.
      isOurs: () => {
        try {
          const { dev, ino } = idOf(file);
          return dev === ours.dev && ino === ours.ino;
        } catch {
          return false;
        }
      },
      release: () => removeExactly(file, ours),
    };
  } catch (error) {
    if (server.listening) await new Promise((resolve) => server.close(resolve));
    if (error instanceof PermanentFailure) throw error;
    const remedy =
      owner && codeOf(error) === 'EPERM'
        ? `You must be a member of the group ${JSON.stringify(group)} of socket.group, or root.`
        : 'Set socket.path to a place where you may create files.';
    throw new PermanentFailure(`The socket ${file} cannot be created: ${messageOf(error)}. ${remedy}`);
  }
}
