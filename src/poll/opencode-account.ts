// One OpenCode account: which remotes are asked about it, and what all of their answers together come to.

import type { Dispatcher } from 'undici';
import type { Credential } from './credential.ts';
import type { Account } from './detect.ts';
import { OpencodeConsole } from './opencode-console.ts';
import { OpencodeConsoleLegacy } from './opencode-console-legacy.ts';
import { OpencodeZen } from './opencode-zen.ts';
import {
  type AccountStatus,
  currentResult,
  expiresMs,
  type Facts,
  type Nano,
  type PollResult,
  type RouteReading,
} from './poll-result.ts';
import type { Probe, ProbeReport, Trouble } from './probe.ts';
import { NEAR_LIMIT_RATIO, standingOf } from './standing.ts';

const OPENCODE_ORIGIN = 'https://opencode.ai';
/** The quota that the API key's route tells; the console tells the same plan in dollars, under another name. */
const GO_PERCENT = 'go';
const NANO_PER_USD = 1e9;
/** A refusal holds until the remote says something else. The longest pause that one can ask for is an hour. */
const REFUSAL_HOLDS_MS = 2 * 3600_000;
/** Where two remotes are in trouble, the account shows the first of these. */
const TROUBLE_ORDER = ['auth_required', 'error', 'limited'] as const satisfies readonly Trouble['status'][];

const SEE_MORE =
  'An API key shows no balance, monthly limit or auto-reload. To see them, sign in with "opencode console login", or name ' +
  "a service account's key with console_key_env.";

/** What an account can be asked, for people. */
export interface AccountAccess {
  readonly credentials: readonly {
    readonly opens: string;
    readonly place: string;
    /** Why it is not used, and what to do; absent when it is. */
    readonly problem?: string;
  }[];
  /** What answered well when it was last asked: `balance`, `monthly limit`, … */
  readonly sees: readonly string[];
  readonly cannotSee: readonly { readonly what: string; readonly why: string }[];
  /** How to see more, where there is more to see. */
  readonly more?: string;
}

export interface OpencodeAccountOptions {
  readonly account: Account;
  /** Of the API key's routes. */
  readonly intervalMs: number;
  /** Of the console's. */
  readonly consoleIntervalMs: number;
  /** For each request, connecting included. */
  readonly timeoutMs: number;
  readonly dispatcher?: Dispatcher | undefined;
}

/** Remembers what each remote said last, so that every poll of one of them gives a reading of the whole account. */
export class OpencodeAccount {
  readonly account: Account;
  readonly probes: readonly Probe[];
  readonly #reports = new Map<Probe, ProbeReport>();
  #firstAskedMs: number | undefined;

  constructor(options: OpencodeAccountOptions) {
    this.account = options.account;
    this.probes = probesOf(options);
  }

  /**
   * Asks one of the account's probes. Never rejects for what a remote does; see Probe.ask.
   * @returns its report, and the reading of the whole account with it
   */
  async poll(probe: Probe, nowMs: number, signal?: AbortSignal): Promise<{ report: ProbeReport; result: PollResult }> {
    this.#firstAskedMs ??= nowMs;
    const report = await probe.ask(nowMs, signal);
    this.#reports.set(probe, report);
    return { report, result: this.#result(nowMs) };
  }

  /** Where its credentials are, what they let us see, and how to see more. No credential is in it. */
  access(): AccountAccess {
    const routes = [...this.#reports.values()].flatMap((report) => report.routes);
    const { key, goKey, consoleKey, consoleCookie } = this.account;
    const opens = [
      ['Zen and Go', key],
      ['Go', goKey],
      ['the console', consoleKey],
      ['the console', consoleCookie],
    ] as const;
    const hasSignIn = [consoleKey, consoleCookie].some(
      (credential) => credential && credential.read().type !== 'absent',
    );
    return {
      credentials: opens.flatMap(([what, credential]) => (credential ? placed(what, credential) : [])),
      sees: routes.flatMap(({ tells, state }) => (state === 'ok' ? tells : [])),
      cannotSee: routes.flatMap(({ tells, problem }) => (problem === undefined ? [] : { what: tells, why: problem })),
      ...(hasSignIn ? {} : { more: SEE_MORE }),
    };
  }

  #result(nowMs: number): PollResult {
    const reports = [...this.#reports.values()];
    const readings = reports.flatMap((report) => report.readings).filter((reading) => nowMs < expiresMs(reading));
    const scopes = [...new Set(reports.flatMap(({ scope }) => scope ?? []))];
    const troubles = reports.flatMap(({ trouble }) => trouble ?? []);
    const trouble = TROUBLE_ORDER.flatMap((status) => troubles.find((each) => each.status === status) ?? [])[0];
    const { provider, id: account } = this.account;
    const base = { provider, account, takenMs: nowMs, message: '', readings };
    const facts = currentResult({ ...base, status: 'ok', statusHoldsMs: 0 }, nowMs).readings.map((each) => each.facts);
    return {
      ...base,
      ...(trouble ?? standing(facts)),
      statusHoldsMs: this.#statusHoldsMs(trouble?.status, { readings, nowMs }),
      ...(scopes.length > 0 ? { authScope: scopes.join('+') } : {}),
    };
  }

  /**
   * What answers show holds as long as the longest of them. An error says that nothing is learned, so it holds no longer
   * than what was learned before it; then the account's state is unknown. A refusal is knowledge of its own.
   */
  #statusHoldsMs(
    trouble: Trouble['status'] | undefined,
    { readings, nowMs }: { readings: readonly RouteReading[]; nowMs: number },
  ): number {
    if (trouble === 'auth_required' || trouble === 'limited') return REFUSAL_HOLDS_MS;
    const intervalMs = Math.max(...this.probes.map((probe) => probe.intervalMs));
    const firstMs = expiresMs({ readMs: this.#firstAskedMs ?? nowMs, intervalMs });
    const endMs = readings.length > 0 ? Math.max(...readings.map(expiresMs)) : firstMs;
    return Math.max(0, endMs - nowMs);
  }
}

/** What a place holds, without the value. A place that was only looked at and holds nothing is not worth a word. */
function placed(opens: string, credential: Credential): AccountAccess['credentials'] {
  const secret = credential.read();
  if (secret.type === 'absent') return [];
  const { place } = credential;
  return [{ opens, place, ...(secret.type === 'unusable' ? { problem: secret.problem } : {}) }];
}

/** What the answers alone say of the account, with a line for people such as a tile shows. */
function standing(facts: readonly Facts[]): { status: AccountStatus; message: string } {
  const quotas = facts.flatMap((each) => each.quotas ?? []);
  // The server's own percent decides; its dollars weigh models differently and need not agree with it.
  const inPercent = quotas.some(({ quota }) => quota === GO_PERCENT);
  const decisive = facts.map((each) => ({
    ...each,
    ...(each.quotas && { quotas: each.quotas.filter(({ quota }) => !inPercent || quota === GO_PERCENT) }),
  }));
  const status = standingOf(decisive);
  const models = facts.flatMap((each) => each.models ?? []);
  const hasModels = facts.some((each) => each.models);
  const lead = status === 'ok' ? balanceText(facts) : causeOf(status, decisive);
  return { status, message: hasModels ? `${lead} · ${models.length} Zen models` : lead };
}

function balanceText(facts: readonly Facts[]): string {
  const balance = facts.flatMap((each) => each.balances ?? []).find(({ currency }) => currency === 'USD');
  return balance ? `${usdText(balance.nano)} balance` : 'Auth OK';
}

/** `$12.34`, and `-$0.01` for what is below zero. */
function usdText(nano: Nano): string {
  return `${nano < 0 ? '-' : ''}$${(Math.abs(nano) / NANO_PER_USD).toFixed(2)}`;
}

/** Why an account is near its limit or at it: the plan before the monthly limit before the balance. */
function causeOf(status: 'near_limit' | 'limited', facts: readonly Facts[]): string {
  const quotas = facts.flatMap((each) => each.quotas ?? []);
  const exhausted = quotas.filter(({ isExhausted, usedRatio = 0 }) => isExhausted || usedRatio >= 1);
  if (exhausted.length > 0) return `Go plan used up (${exhausted.map(({ window }) => window).join(', ')})`;
  if (status === 'limited') return 'Monthly limit reached';
  const near = quotas.filter(({ usedRatio = 0 }) => usedRatio >= NEAR_LIMIT_RATIO);
  if (near.length > 0) {
    const names = near.map(({ window, usedRatio = 0 }) => `${window} ${Math.floor(usedRatio * 100)} %`).join(', ');
    return `Go plan nearly used up (${names})`;
  }
  const limits = facts.flatMap((each) => each.spendLimits ?? []);
  const shares = limits.map(({ limitNano, usedNano }) => (limitNano ? (usedNano ?? 0) / limitNano : 0));
  const share = Math.max(0, ...shares);
  if (share >= NEAR_LIMIT_RATIO) return `Monthly limit nearly reached (${Math.floor(share * 100)} %)`;
  return `${balanceText(facts)}, below the reload trigger and not reloaded`;
}

function probesOf({ account, intervalMs, consoleIntervalMs, timeoutMs, dispatcher }: OpencodeAccountOptions): Probe[] {
  const common = { timeoutMs, dispatcher };
  const { key, goKey, consoleCookie, baseUrl, consoleUrl, workspaceId, billingFunctionId } = account;
  const probes: Probe[] = [];
  if (key) probes.push(new OpencodeZen({ ...common, key, goKey, baseUrl, intervalMs }));
  const atConsole = { ...common, baseUrl: consoleUrl, orgId: workspaceId, intervalMs: consoleIntervalMs };
  // An API key is also good for one route of the console, and must not be sent to another server than its own.
  const isSameServer = originOf(baseUrl) === originOf(consoleUrl);
  const byKey = key && isSameServer ? new OpencodeConsole({ ...atConsole, credential: key, routes: 'go' }) : undefined;
  if (account.consoleKey) {
    const full = new OpencodeConsole({ ...atConsole, credential: account.consoleKey });
    probes.push(byKey && account.isConsoleOptional ? eitherOf(account.consoleKey, full, byKey) : full);
  } else if (consoleCookie) {
    const functionId = billingFunctionId;
    const legacy = { ...common, credential: consoleCookie, workspaceId, functionId, baseUrl: consoleUrl };
    probes.push(new OpencodeConsoleLegacy({ ...legacy, intervalMs: consoleIntervalMs }));
  } else if (byKey) {
    probes.push(byKey);
  }
  return probes;
}

/** The console as far as it is open: by a sign-in that can be used, else by the API key; doctor says why it cannot. */
function eitherOf(signIn: Credential, full: OpencodeConsole, byKey: OpencodeConsole): Probe {
  const current = () => (signIn.read().type === 'found' ? full : byKey);
  let asked: Probe | undefined;
  return {
    name: full.name,
    intervalMs: full.intervalMs,
    hasNewCredential: () => current() !== asked || current().hasNewCredential(),
    ask: (nowMs, signal) => {
      asked = current();
      return asked.ask(nowMs, signal);
    },
  };
}

function originOf(url: string | undefined): string {
  return url === undefined ? OPENCODE_ORIGIN : new URL(url).origin;
}
