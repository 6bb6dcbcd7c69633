// Which accounts there are: those of the configuration, then the one that OpenCode's own variables and files show. An
// account knows where its credentials are and reads them when it is asked; it never holds one.

import type { AccountConfig, Config } from '../config.ts';
import { type Credential, firstOf, inFile, inVariable, type Secret } from './credential.ts';
import { inAuthFile, inOpencodeDatabase, type OpencodePlace } from './opencode-files.ts';

const OPENCODE = 'opencode';
const OPENCODE_GO = 'opencode-go';
/** Providers whose accounts this version can ask for anything. */
const POLLED_PROVIDERS: readonly string[] = [OPENCODE, OPENCODE_GO];
/** The first that is set wins: the documented name, then its alias. */
const KEY_VARIABLES = ['OPENCODE_API_KEY', 'ZEN_API_KEY'] as const;
/** OpenCode sets it for what it starts; it may hold a service account's key as well. */
const CONSOLE_VARIABLE = 'OPENCODE_CONSOLE_TOKEN';
/** Every variable that is looked at without being named in the configuration. */
export const DETECTED_VARIABLES: readonly string[] = [...KEY_VARIABLES, CONSOLE_VARIABLE];

/** The credentials of an account, by what they open. Absent: no place is known that could hold one. */
export interface Credentials {
  /** A Zen or Go API key. */
  readonly key?: Credential;
  /** A second API key, which is good for the Go plan only. */
  readonly goKey?: Credential;
  /** A service account's key or a session's token of the console. */
  readonly consoleKey?: Credential;
  /** It was looked for and not named, so that there is none is no trouble. */
  readonly isConsoleOptional?: true;
  /** The session cookie of an older or self-hosted console. */
  readonly consoleCookie?: Credential;
}

/** One account at one provider. Turning it into text or JSON shows no credential. */
export interface Account extends Credentials {
  readonly provider: string;
  readonly id: string;
  /** For people: `OPENCODE_API_KEY`, `auth.json`, `tollbridge.yaml`, … */
  readonly foundIn: string;
  /** As configured; without them the default of whoever asks is meant. */
  readonly baseUrl?: string;
  readonly consoleUrl?: string;
  /** The workspace, as configured: as secret as a credential. Not enumerable, so that no text or JSON shows it. */
  readonly workspaceId?: string;
  readonly billingFunctionId?: string;
}

export interface FoundAccounts {
  /** Configured ones first; (provider, id) is unique. */
  readonly accounts: readonly Account[];
  /** What the user should know about them, one sentence or two each. */
  readonly notes: readonly string[];
}

export interface DetectionPlace extends OpencodePlace {
  readonly config: Config;
}

/** Whether this version can poll an account; the others only label turns. */
export function isPolled(account: Pick<Account, 'provider'>): boolean {
  return POLLED_PROVIDERS.includes(account.provider);
}

/**
 * Finds every account. Detection adds at most one, `opencode`; a configured account of that id, or one that already
 * uses the detected API key, takes its place. Never throws.
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
  if (!isPolled(account)) return false;
  return account.id === detected.id || isSameSecret(account.key?.read(), detected.key?.read());
}

function isSameSecret(one: Secret | undefined, other: Secret | undefined): boolean {
  return one?.type === 'found' && other?.type === 'found' && one.secret === other.secret;
}

interface Surroundings {
  readonly place: DetectionPlace;
  readonly detected: Account | undefined;
  readonly notes: string[];
}

function configured(entry: AccountConfig, { place, detected, notes }: Surroundings): Account {
  const name = `account "${entry.id}" (${entry.provider})`;
  const account = { provider: entry.provider, id: entry.id, foundIn: 'tollbridge.yaml' };
  if (!isPolled(account)) {
    notes.push(`${name} labels turns only: this version polls OpenCode accounts and no others.`);
    return account;
  }
  const placeOf = (key: 'api_key' | 'console_key' | 'console_cookie'): Credential | undefined => {
    const variable = entry[`${key}_env`];
    if (variable) return inVariable(variable, place.env);
    const file = entry[`${key}_file`];
    return file === undefined ? undefined : inFile(file, { key: `${key}_file`, account: name });
  };
  const [key, consoleKey, consoleCookie] = [placeOf('api_key'), placeOf('console_key'), placeOf('console_cookie')];
  // What the account of the detected id does not name itself, it takes from what was detected.
  const base = entry.id === detected?.id ? detected : undefined;
  const credentials: Credentials = {
    ...(key ? { key } : base?.key && { key: base.key, ...(base.goKey ? { goKey: base.goKey } : {}) }),
    ...(consoleKey
      ? { consoleKey }
      : base?.consoleKey && !consoleCookie && { consoleKey: base.consoleKey, isConsoleOptional: true }),
    ...(consoleCookie ? { consoleCookie } : {}),
  };
  const whole: Account = {
    ...account,
    ...credentials,
    ...(Object.keys(credentials).length > 0 ? {} : { key: nowhere(name) }),
    ...(entry.base_url ? { baseUrl: entry.base_url } : {}),
    ...(entry.console_url ? { consoleUrl: entry.console_url } : {}),
    ...(entry.extra.opencode_billing_function_id
      ? { billingFunctionId: entry.extra.opencode_billing_function_id }
      : {}),
  };
  for (const credential of [key, consoleKey, consoleCookie]) {
    const now = credential?.read();
    if (now?.type === 'unusable') notes.push(`${capitalized(now.problem)}.`);
    else if (now?.type === 'absent' && credential?.place.endsWith('_file')) {
      notes.push(`The ${credential.place} of ${name} is not there or empty. Create it, with the key as its only line.`);
    }
  }
  return withHidden(whole, entry.extra.opencode_workspace_id);
}

/** Keeps the workspace's id out of every text, JSON and inspection of the account. */
function withHidden(account: Account, workspaceId: string | undefined): Account {
  return workspaceId === undefined ? account : Object.defineProperty(account, 'workspaceId', { value: workspaceId });
}

function nowhere(account: string): Credential {
  return {
    place: 'api_key_env',
    remedy: `name its key with api_key_env or api_key_file of ${account} in tollbridge.yaml`,
    read: () => ({ type: 'absent' }),
  };
}

function capitalized(sentence: string): string {
  return sentence.charAt(0).toUpperCase() + sentence.slice(1);
}

function detect(place: DetectionPlace, notes: string[]): Account | undefined {
  const { env } = place;
  const [variable, other] = KEY_VARIABLES.filter((name) => env[name]?.trim());
  if (variable && other && env[other]?.trim() !== env[variable]?.trim()) {
    notes.push(`${variable} and ${other} hold different keys: ${variable} is used. Unset the one you do not mean.`);
  }
  const key = variable ? inVariable(variable, env) : inAuthFile([OPENCODE, OPENCODE_GO], place);
  const consoleKey = firstOf([inVariable(CONSOLE_VARIABLE, env), inOpencodeDatabase(place)]);
  for (const credential of [inAuthFile([OPENCODE, OPENCODE_GO], place), consoleKey]) {
    const now = credential.read();
    if (now.type === 'unusable') notes.push(`${capitalized(now.problem)}.`);
  }
  const hasKey = key.read().type === 'found';
  const hasConsole = consoleKey.read().type !== 'absent';
  if (!hasKey && !hasConsole) return undefined;
  return {
    provider: OPENCODE,
    id: OPENCODE,
    foundIn: hasKey ? key.place : consoleKey.place,
    ...(hasKey ? { key, goKey: inAuthFile([OPENCODE_GO], place) } : {}),
    consoleKey,
    ...(hasKey ? { isConsoleOptional: true } : {}),
  };
}
