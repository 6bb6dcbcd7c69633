// Where OpenCode itself keeps credentials: auth.json (API keys), and its database (what `opencode console login` and
// the service-account form leave behind). Both are only read.

import { closeSync, existsSync, openSync, readSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import type { Credential, Secret } from './credential.ts';
import { exposureOf, readSecretFile } from './secret-file.ts';

const INTEGRATION = 'opencode';
const LOGIN_REMEDY = 'sign in with "opencode console login"';
/** Somebody may be writing to the database; nobody holds it for long. */
const BUSY_TIMEOUT_MS = 200;
/** Of SQLite's file header. */
const WRITE_VERSION_AT = 18;
const WRITTEN_WITH_LOG = 2;

const authFile = z.record(z.string(), z.unknown());
const apiEntry = z.object({ type: z.literal('api'), key: z.string() });
const storedMetadata = z.object({ server: z.string().optional(), orgID: z.string().optional() }).catch({});
/** What a row's `value` holds: a key that was typed in, or what a sign-in gave. */
const storedCredential = z.discriminatedUnion('type', [
  z.object({ type: z.literal('key'), key: z.string().min(1), metadata: storedMetadata.optional() }),
  z.object({ type: z.literal('oauth'), access: z.string().min(1), metadata: storedMetadata.optional() }),
]);

export interface OpencodePlace {
  readonly env: NodeJS.ProcessEnv;
  /** The user's home folder. */
  readonly home: string;
  readonly platform: NodeJS.Platform;
}

interface Candidate {
  readonly file: string;
  /** How messages name it: without the user's home. */
  readonly shown: string;
}

/** Where OpenCode keeps a file of its data folder, best first. The first that exists is used; several are never mixed. */
function candidates(name: string, { env, home, platform }: OpencodePlace): Candidate[] {
  const found: Candidate[] = [];
  const add = (base: string, folders: string, shownBase: string) =>
    found.push({
      file: path.join(base, folders, 'opencode', name),
      shown: path.posix.join(shownBase, folders, 'opencode', name),
    });
  const dataHome = env.XDG_DATA_HOME?.trim();
  if (dataHome) add(dataHome, '', '$XDG_DATA_HOME');
  add(home, '.local/share', '~');
  if (platform === 'darwin') add(home, 'Library/Application Support', '~');
  return found;
}

/**
 * The API keys of one or more entries of auth.json, the first that is there. Other kinds of entries (oauth, wellknown)
 * are no API keys.
 */
export function inAuthFile(entries: readonly string[], where: OpencodePlace): Credential {
  const files = candidates('auth.json', where);
  return {
    place: 'auth.json',
    remedy: 'sign in again with "opencode auth login", or set OPENCODE_API_KEY',
    read: () => {
      for (const { file, shown } of files) {
        const found = readSecretFile(file);
        if (found.type === 'missing') continue;
        if (found.type === 'unusable') return { type: 'unusable', problem: `OpenCode's ${shown} ${found.problem}` };
        const stored = parseAuthFile(found.text);
        if (!stored) {
          return { type: 'unusable', problem: `OpenCode's ${shown} is not valid JSON: sign in to OpenCode again` };
        }
        const keys = entries.map((entry) => apiEntry.safeParse(stored[entry]).data?.key.trim());
        const secret = keys.find((key) => key);
        return secret ? { type: 'found', secret } : { type: 'absent' };
      }
      return { type: 'absent' };
    },
  };
}

function parseAuthFile(text: string): Record<string, unknown> | undefined {
  try {
    return authFile.safeParse(JSON.parse(text)).data;
  } catch {
    // The parser's message quotes the text, so it goes no further.
    return undefined;
  }
}

function databaseCandidates(where: OpencodePlace): Candidate[] {
  const named = where.env.OPENCODE_DB?.trim();
  return named && path.isAbsolute(named)
    ? [{ file: named, shown: '$OPENCODE_DB' }]
    : candidates(named || 'opencode.db', where);
}

/** Where OpenCode's database lies; undefined when there is none yet. */
export function opencodeDatabaseFile(where: OpencodePlace): string | undefined {
  return databaseCandidates(where).find(({ file }) => existsSync(file))?.file;
}

/**
 * The console credential that OpenCode keeps in its database: a service account's key before a session's token, the
 * newest of each. A session is renewed by OpenCode alone; here it is used as it stands.
 */
export function inOpencodeDatabase(where: OpencodePlace): Credential {
  const files = databaseCandidates(where);
  return {
    place: "OpenCode's database",
    remedy: LOGIN_REMEDY,
    read: () => {
      const candidate = files.find(({ file }) => existsSync(file));
      return candidate ? readDatabase(candidate) : { type: 'absent' };
    },
  };
}

function readDatabase({ file, shown }: Candidate): Secret {
  let values: string[];
  try {
    values = storedValues(file);
  } catch {
    // SQLite's message names the file, and tells nothing that a user could act on.
    return {
      type: 'unusable',
      problem: `OpenCode's ${shown} cannot be read: ${LOGIN_REMEDY}, or set OPENCODE_CONSOLE_TOKEN`,
    };
  }
  const stored = values.flatMap((value) => parseStored(value) ?? []);
  const best = stored.find(({ type }) => type === 'key') ?? stored[0];
  if (!best) return { type: 'absent' };
  // Only now: a database without a credential is nobody's business.
  const real = realpathSync(file);
  const exposed = [real, `${real}-wal`].some((part) => existsSync(part) && exposureOf(statSync(part)));
  if (exposed) {
    const problem = `OpenCode's ${shown} holds a console credential and can be read by other users of this machine, so it is not used: close it with chmod 600 ${shown}*`;
    return { type: 'unusable', problem };
  }
  const { server, orgID } = best.metadata ?? {};
  return {
    type: 'found',
    secret: best.type === 'key' ? best.key : best.access,
    ...(orgID ? { orgId: orgID } : {}),
    ...(server ? { issuer: server } : {}),
  };
}

/**
 * Opens OpenCode's database for one reading. Nothing is written to it, and beside it only what SQLite itself needs to
 * read a log (WAL) that lies there.
 * @param options.timeoutMs how long to wait for somebody who writes to it
 * @throws SQLite's errors
 */
export function readOpencodeDatabase<T>(
  named: string,
  { timeoutMs, read }: { timeoutMs: number; read: (db: DatabaseSync) => T },
): T {
  // Of a link, the log lies beside what it leads to.
  const file = realpathSync(named);
  const url = pathToFileURL(file);
  // Without its log beside it nobody has it open, and what is on disk is all. Read plainly, SQLite would make files there.
  if (isWrittenWithLog(file) && !existsSync(`${file}-wal`)) url.searchParams.set('immutable', '1');
  const db = new DatabaseSync(url, { readOnly: true, timeout: timeoutMs });
  try {
    return read(db);
  } finally {
    db.close();
  }
}

/** Whether it is written by way of a log (WAL), as its header says. One that is written in place must be locked to be read. */
function isWrittenWithLog(file: string): boolean {
  // To open a pipe would wait for whoever writes into it.
  if (!statSync(file).isFile()) throw new Error('it is no file');
  const header = Buffer.alloc(WRITE_VERSION_AT + 1);
  const descriptor = openSync(file, 'r');
  try {
    readSync(descriptor, header, 0, header.length, 0);
  } finally {
    closeSync(descriptor);
  }
  return header[WRITE_VERSION_AT] === WRITTEN_WITH_LOG;
}

/** The stored credentials as JSON texts, the newest first. */
function storedValues(file: string): string[] {
  const read = (db: DatabaseSync) => {
    const hasTable = db.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'credential'").get();
    if (!hasTable) return [];
    return db
      .prepare('SELECT value FROM credential WHERE integration_id = ? ORDER BY time_updated DESC')
      .all(INTEGRATION)
      .map(({ value }) => String(value));
  };
  return readOpencodeDatabase(file, { timeoutMs: BUSY_TIMEOUT_MS, read });
}

function parseStored(value: string) {
  try {
    return storedCredential.safeParse(JSON.parse(value)).data;
  } catch {
    return undefined;
  }
}
