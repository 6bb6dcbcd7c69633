// Which accounts there are: those of the configuration, then those that OpenCode's own variables and auth.json show.
// An account knows where its key is and reads it when it is asked; it never holds it.

import path from 'node:path';
import { z } from 'zod';
import type { AccountConfig, Config } from '../config.ts';
import { readSecretFile } from './secret-file.ts';

const OPENCODE = 'opencode';
const OPENCODE_GO = 'opencode-go';
/** Providers whose accounts this version can ask for anything. */
const POLLED_PROVIDERS: readonly string[] = [OPENCODE, OPENCODE_GO];
/** The first that is set wins: the documented name, then its alias. */
const KEY_VARIABLES = ['OPENCODE_API_KEY', 'ZEN_API_KEY'] as const;

const authFile = z.record(z.string(), z.unknown());
const apiEntry = z.object({ type: z.literal('api'), key: z.string() });

/** One credential at one provider. Turning it into text or JSON shows no key. */
export interface Account {
  readonly provider: string;
  readonly id: string;
  /** For people: `OPENCODE_API_KEY`, `ZEN_API_KEY`, `auth.json` or `tollbridge.yaml`. */
  readonly foundIn: string;
  /** As configured; without it the poller's own default is meant. */
  readonly baseUrl?: string;
  /** What holds the key, for messages such as "check OPENCODE_API_KEY". */
  readonly keyName: string;
  /** What to do when there is no key: completes "no API key: …". */
  readonly keyRemedy: string;
  /** Reads the key as it is now. Undefined when there is none. */
  key(): string | undefined;
  /** Reads a second key, which is good for the OpenCode Go plan only. */
  goKey?(): string | undefined;
}

export interface FoundAccounts {
  /** Configured ones first; (provider, id) is unique. */
  readonly accounts: readonly Account[];
  /** What the user should know about them, one sentence or two each. */
  readonly notes: readonly string[];
}

export interface DetectionPlace {
  readonly config: Config;
  readonly env: NodeJS.ProcessEnv;
  /** The user's home folder. */
  readonly home: string;
  readonly platform: NodeJS.Platform;
}

type Key = Pick<Account, 'keyName' | 'keyRemedy' | 'key'>;

/** Whether this version can poll an account; the others only label turns. */
export function isPolled(account: Pick<Account, 'provider'>): boolean {
  return POLLED_PROVIDERS.includes(account.provider);
}

/**
 * Finds every account. Detection adds at most one, `opencode`; a configured account of that id, or one that already
 * uses the detected key, takes its place. Never throws.
 */
export function findAccounts(place: DetectionPlace): FoundAccounts {
  const notes: string[] = [];
  const detected = place.config.detect ? detect(place, notes) : undefined;
  const accounts = place.config.accounts.map((entry) => configured(entry, { place, detected, notes }));
  if (detected && !accounts.some((account) => stands(account, detected))) accounts.push(detected);
  return { accounts, notes };
}

/** Whether a configured account already is the detected one: the same key polled twice would be two accounts of one. */
function stands(account: Account, detected: Account): boolean {
  return isPolled(account) && (account.id === detected.id || account.key() === detected.key());
}

function configured(
  entry: AccountConfig,
  { place, detected, notes }: { place: DetectionPlace; detected: Account | undefined; notes: string[] },
): Account {
  const name = `account "${entry.id}" (${entry.provider})`;
  const account = {
    provider: entry.provider,
    id: entry.id,
    foundIn: 'tollbridge.yaml',
    ...(entry.base_url ? { baseUrl: entry.base_url } : {}),
  };
  if (!isPolled(account)) {
    notes.push(`${name} labels turns only: this version polls OpenCode accounts and no others.`);
  } else if (entry.console_key_env || entry.console_key_file || entry.console_url || entry.console_cookie_file) {
    notes.push(`${name} has console settings, which this version does not use: its balance stays unknown.`);
  }
  if (entry.api_key_env) return { ...account, ...keyInVariable(entry.api_key_env, place.env) };
  if (entry.api_key_file) return { ...account, ...keyInFile(entry.api_key_file, { name, notes }) };
  if (detected && entry.id === detected.id && isPolled(account)) return { ...detected, ...account };
  return {
    ...account,
    keyName: 'api_key_env',
    keyRemedy: `name its key with api_key_env or api_key_file of ${name} in tollbridge.yaml`,
    key: () => undefined,
  };
}

function keyInVariable(variable: string, env: NodeJS.ProcessEnv): Key {
  return {
    keyName: variable,
    keyRemedy: `set ${variable} in the environment of the bridge and restart it`,
    key: () => env[variable]?.trim() || undefined,
  };
}

function keyInFile(file: string, { name, notes }: { name: string; notes: string[] }): Key {
  const found = readSecretFile(file);
  if (found.type === 'missing') {
    notes.push(`The api_key_file of ${name} is not there. Create it, with the key as its only line.`);
  } else if (found.type === 'unusable') {
    notes.push(`The api_key_file of ${name} ${found.problem}, so the account has no key. Mend the file or its mode.`);
  } else if (found.openToOthers) {
    notes.push(`The api_key_file of ${name} can be read by other users of this machine. Close it with chmod 600.`);
  }
  return {
    keyName: 'its api_key_file',
    keyRemedy: `put the key into the api_key_file of ${name}, as its only line`,
    key: () => {
      const now = readSecretFile(file);
      return (now.type === 'read' && now.text.trim()) || undefined;
    },
  };
}

function detect({ env, home, platform }: DetectionPlace, notes: string[]): Account | undefined {
  const candidates = authFileCandidates({ env, home, platform });
  const authKeys = () => readAuthFile(candidates, []);
  const fromFile = readAuthFile(candidates, notes);
  const account = {
    provider: OPENCODE,
    id: OPENCODE,
    goKey: () => authKeys()[OPENCODE_GO],
  };

  const set = KEY_VARIABLES.filter((variable) => env[variable]?.trim());
  const [variable, other] = set;
  if (variable) {
    if (other && env[other]?.trim() !== env[variable]?.trim()) {
      notes.push(`${variable} and ${other} hold different keys: ${variable} is used. Unset the one you do not mean.`);
    }
    return { ...account, foundIn: variable, ...keyInVariable(variable, env) };
  }
  if (!fromFile[OPENCODE] && !fromFile[OPENCODE_GO]) return undefined;
  return {
    ...account,
    foundIn: 'auth.json',
    keyName: 'the OpenCode key in auth.json',
    keyRemedy: `sign in again with "opencode auth login", or set ${KEY_VARIABLES[0]}`,
    key: () => {
      const keys = authKeys();
      return keys[OPENCODE] ?? keys[OPENCODE_GO];
    },
  };
}

interface AuthFileCandidate {
  readonly file: string;
  /** How messages name it: without the user's home. */
  readonly shown: string;
}

/** Where OpenCode keeps auth.json, best first. The first that exists is used; several are never mixed. */
function authFileCandidates({ env, home, platform }: Omit<DetectionPlace, 'config'>): AuthFileCandidate[] {
  const candidates: AuthFileCandidate[] = [];
  const add = (base: string, folders: string, shownBase: string) =>
    candidates.push({
      file: path.join(base, folders, 'opencode', 'auth.json'),
      shown: path.posix.join(shownBase, folders, 'opencode', 'auth.json'),
    });
  const dataHome = env.XDG_DATA_HOME?.trim();
  if (dataHome) add(dataHome, '', '$XDG_DATA_HOME');
  add(home, '.local/share', '~');
  if (platform === 'darwin') add(home, 'Library/Application Support', '~');
  return candidates;
}

/** The API keys that OpenCode's auth.json holds for its own services, by entry. */
function readAuthFile(candidates: readonly AuthFileCandidate[], notes: string[]): Record<string, string | undefined> {
  for (const { file, shown } of candidates) {
    const found = readSecretFile(file);
    if (found.type === 'missing') continue;
    if (found.type === 'unusable') {
      notes.push(`OpenCode's ${shown} ${found.problem}, so no account was taken from it. Mend the file or its mode.`);
      return {};
    }
    if (found.openToOthers) {
      notes.push(`OpenCode's ${shown} can be read by other users of this machine. Close it with chmod 600.`);
    }
    const entries = parseAuthFile(found.text);
    if (!entries) {
      notes.push(`OpenCode's ${shown} is not valid JSON, so no account was taken from it. Sign in to OpenCode again.`);
      return {};
    }
    return { [OPENCODE]: apiKey(entries[OPENCODE]), [OPENCODE_GO]: apiKey(entries[OPENCODE_GO]) };
  }
  return {};
}

function parseAuthFile(text: string): Record<string, unknown> | undefined {
  try {
    return authFile.safeParse(JSON.parse(text)).data;
  } catch {
    // The parser's message quotes the text, so it goes no further.
    return undefined;
  }
}

/** The key of one entry; other kinds (oauth, wellknown) are no API keys. */
function apiKey(entry: unknown): string | undefined {
  return apiEntry.safeParse(entry).data?.key.trim() || undefined;
}
