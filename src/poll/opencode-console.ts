// Asks OpenCode's console with a service account's key, a session's token, or, for one route, an API key. All routes are
// asked at once, and each fails, pauses and expires by itself: they are undocumented, so any of them may change.

import type { Dispatcher } from 'undici';
import { present } from '../turn/fields.ts';
import { balanceOwner } from './balance-owner.ts';
import { type Credential, fingerprint, type Secret } from './credential.ts';
import { httpGet, isSendable } from './http-get.ts';
import {
  type Budget,
  byModel,
  type DayCost,
  dayWindows,
  type GoPlan,
  type ModelUsage,
  readAccount,
  readAutoRecharge,
  readBudget,
  readDays,
  readGoStatus,
  readModelsPage,
  readStatus,
  readSummary,
  tokensIn,
} from './opencode-console-routes.ts';
import type { Facts, PollOutcome, RouteReading, SpendLimit } from './poll-result.ts';
import type { Probe, ProbeReport, RouteReport, Trouble } from './probe.ts';
import { Route, type RouteAnswer, readJsonRoute } from './route.ts';
import { startOfUtcMonthMs } from './utc.ts';

const DEFAULT_BASE_URL = 'https://opencode.ai/console';
const CURRENCY = 'USD';
const PAGE_SIZE = 100;
const PAGES_MAX = 10;
const SESSION_TOKEN = /^st_/;

export interface OpencodeConsoleOptions {
  readonly credential: Credential;
  /** The organisation, where the credential's place does not name it. */
  readonly orgId?: string | undefined;
  /** With `/console`, without `/api`. */
  readonly baseUrl?: string | undefined;
  /** `go`: the credential is an API key, which is good for the plan's route only; that it is refused is no trouble. */
  readonly routes?: 'all' | 'go';
  /** For each request, connecting included. */
  readonly timeoutMs: number;
  readonly intervalMs: number;
  readonly dispatcher?: Dispatcher | undefined;
}

/** What was sent. */
interface Used {
  readonly secret: string;
  readonly orgId: string | undefined;
}

interface Request {
  readonly headers: Readonly<Record<string, string>>;
  readonly nowMs: number;
  readonly signal?: AbortSignal;
}

export class OpencodeConsole implements Probe {
  readonly name = 'console';
  readonly intervalMs: number;
  readonly #options: OpencodeConsoleOptions;
  readonly #baseUrl: string;
  readonly #routes: ReturnType<typeof routesOf>;
  #fingerprint: string | undefined;

  constructor(options: OpencodeConsoleOptions) {
    this.#options = options;
    this.intervalMs = options.intervalMs;
    this.#baseUrl = withoutSlash(options.baseUrl ?? DEFAULT_BASE_URL);
    this.#routes = routesOf(options.intervalMs);
  }

  hasNewCredential(): boolean {
    return this.#fingerprint !== fingerprint(this.#options.credential.read());
  }

  /** Asks every route that has not asked to be left alone. Without a credential nothing is asked. */
  async ask(nowMs: number, signal?: AbortSignal): Promise<ProbeReport> {
    const secret = this.#options.credential.read();
    if (this.#fingerprint !== fingerprint(secret)) {
      this.#fingerprint = fingerprint(secret);
      for (const route of Object.values(this.#routes)) route.forget();
    }
    const problem = this.#problemOf(secret);
    if (secret.type !== 'found' || problem !== undefined) {
      const trouble = { status: 'auth_required', message: problem ?? '' } as const;
      return { outcome: 'auth', readings: [], routes: [], trouble };
    }

    const orgId = this.#orgIdOf(secret);
    const headers = { authorization: `Bearer ${secret.secret}`, ...(orgId ? { 'x-org-id': orgId } : {}) };
    await this.#askAll({ headers, nowMs, ...(signal ? { signal } : {}) });
    return this.#report(secret.secret, orgId, nowMs);
  }

  /** What keeps a credential from being used. */
  #problemOf(secret: Secret): string | undefined {
    const { credential } = this.#options;
    if (secret.type === 'absent') return `no console key: ${credential.remedy}`;
    if (secret.type === 'unusable') return `no console key: ${secret.problem}`;
    if (!isSendable(secret.secret)) {
      return `the console key holds blanks or characters that no key has, so it was not sent – check ${credential.place}`;
    }
    const orgId = this.#orgIdOf(secret);
    if (orgId && !isSendable(orgId)) {
      return `the organisation's id holds blanks or characters that no id has, so nothing was sent: set extra.opencode_workspace_id of the account`;
    }
    const { issuer } = secret;
    if (issuer !== undefined && !(URL.canParse(issuer) && withoutSlash(issuer) === this.#baseUrl)) {
      return 'the console session belongs to another server than console_url, so it was not sent: set console_url to the server that you signed in to';
    }
    return undefined;
  }

  #orgIdOf(secret: Extract<Secret, { type: 'found' }>): string | undefined {
    return this.#options.orgId ?? secret.orgId;
  }

  async #askAll(request: Request): Promise<void> {
    const routes = this.#routes;
    const since = `since=${encodeURIComponent(new Date(startOfUtcMonthMs(request.nowMs)).toISOString())}`;
    const plain = async <T>(route: Route<T>, read: (json: unknown) => T | undefined, query = '') => {
      if (!route.mayAsk(request.nowMs)) return;
      route.note(readJsonRoute(await this.#get(route.name + query, request), read), request.nowMs);
    };
    const models = async () => {
      if (!routes.models.mayAsk(request.nowMs)) return;
      routes.models.note(await this.#askModels(since, request), request.nowMs);
    };
    const go = plain(routes.go, readGoStatus);
    if (this.#options.routes === 'go') return go;
    await Promise.all([
      go,
      models(),
      plain(routes.status, readStatus),
      plain(routes.account, readAccount),
      plain(routes.autoRecharge, readAutoRecharge),
      plain(routes.budget, readBudget),
      plain(routes.days, readDays),
      plain(routes.summary, readSummary, `?${since}`),
    ]);
  }

  /** All pages or none: half of the models would be a wrong sum. */
  async #askModels(since: string, request: Request): Promise<RouteAnswer<readonly ModelUsage[]>> {
    const rows: ModelUsage[] = [];
    for (let page = 1; ; page++) {
      const query = `usage/models?${since}&page=${page}&pageSize=${PAGE_SIZE}`;
      const answer = readJsonRoute(await this.#get(query, request), readModelsPage);
      if (!answer.value) {
        const { value: _, ...failure } = answer;
        return failure;
      }
      rows.push(...answer.value.rows);
      if (answer.value.pages > PAGES_MAX) return { state: 'error', problem: `it has more than ${PAGES_MAX} pages` };
      if (page >= answer.value.pages) return { state: 'ok', value: rows };
    }
  }

  #get(path: string, request: Request) {
    const { timeoutMs, dispatcher } = this.#options;
    return httpGet({ ...request, url: `${this.#baseUrl}/api/${path}`, timeoutMs, dispatcher });
  }

  #report(secret: string, orgId: string | undefined, nowMs: number): ProbeReport {
    const routes = Object.values(this.#routes).flatMap((route) => route.report() ?? []);
    const readings = this.#readings(orgId, nowMs);
    const outcome = outcomeOf(routes);
    if (this.#options.routes === 'go') return { outcome: outcome === 'auth' ? 'ok' : outcome, readings, routes };
    const trouble = outcome === 'ok' ? undefined : this.#trouble({ secret, orgId }, outcome, routes);
    const pauses = Object.values(this.#routes).flatMap((route) => route.pauseS(nowMs) ?? []);
    return {
      ...{ outcome, readings, routes, scope: 'console' },
      ...(trouble ? { trouble } : {}),
      ...(trouble && pauses.length > 0 ? { retryAfterS: Math.max(...pauses) } : {}),
    };
  }

  /** Only where no route answered: then it is the remote or the credential, not the route. */
  #trouble({ secret, orgId }: Used, outcome: PollOutcome, routes: readonly RouteReport[]): Trouble {
    const { host } = new URL(this.#baseUrl);
    const problem = routes.find(({ state }) => state === outcome)?.problem ?? 'no route answered';
    if (outcome === 'auth') {
      return { status: 'auth_required', message: this.#refusalOf(secret, orgId) };
    }
    if (outcome === 'limited') return { status: 'limited', message: `opencode console: ${problem}` };
    const isMissing = routes.every(({ state }) => state === 'missing');
    const message = isMissing
      ? `there is no console API at ${host}: check console_url`
      : `opencode console: ${problem}`;
    return { status: 'error', message };
  }

  #refusalOf(secret: string, orgId: string | undefined): string {
    if (!SESSION_TOKEN.test(secret)) return `the console refused the key: check ${this.#options.credential.place}`;
    if (orgId) return 'the console session has expired or is invalid: run "opencode console login"';
    return (
      "the console refused the session: it takes the organisation's id too. Set extra.opencode_workspace_id of the " +
      'account, or run "opencode console login"'
    );
  }

  #readings(orgId: string | undefined, nowMs: number): RouteReading[] {
    const routes = this.#routes;
    const readings: RouteReading[] = [];
    const add = <T>(route: Route<T>, factsOf: (value: T, readMs: number) => Facts) => {
      const current = route.current(nowMs);
      if (!current) return;
      const { name, intervalMs } = route;
      readings.push({ route: name, readMs: current.readMs, intervalMs, facts: factsOf(current.value, current.readMs) });
    };
    const org = routes.account.current(nowMs)?.value.orgId ?? orgId;
    add(routes.status, ({ balanceNano, plan }) => ({
      ...(balanceNano === undefined
        ? {}
        : {
            balances: [
              { kind: 'console', currency: CURRENCY, nano: balanceNano, ...(org ? { owner: balanceOwner(org) } : {}) },
            ],
          }),
      ...(plan ? { plan: { name: plan } } : {}),
    }));
    add(routes.account, () => ({}));
    add(routes.autoRecharge, (reload) => ({ reload }));
    add(routes.budget, (budget) => (budget.limitNano === undefined ? {} : { spendLimits: [monthly(budget)] }));
    // As of when they were read: of a day that has begun since nobody knows what it cost.
    add(routes.days, (days, readMs) => ({ reportedCosts: dayWindows(days, readMs) }));
    add(routes.models, (rows) => {
      const { costs, tokens } = byModel(rows, 'month');
      return { reportedCosts: costs, reportedTokens: tokens };
    });
    add(routes.summary, ({ tokens }) => ({ reportedTokens: tokensIn(tokens, { window: 'month' }) }));
    add(routes.go, goFacts);
    return readings.map((reading) => this.#withCreditLimit(reading, nowMs));
  }

  /** Where an organisation has no budget, its credit limit is the monthly limit; where the budget is not known, nothing is. */
  #withCreditLimit(reading: RouteReading, nowMs: number): RouteReading {
    const routes = this.#routes;
    const budget = routes.budget.current(nowMs);
    const limitNano = routes.account.current(nowMs)?.value.creditLimitNano;
    const isFallback = budget !== undefined && budget.value.limitNano === undefined;
    if (reading.route !== routes.account.name || !isFallback || limitNano === undefined) return reading;
    const days = routes.days.current(nowMs);
    // It holds no longer than the oldest of what it is made of, and is of that time's month.
    const readMs = Math.min(reading.readMs, budget.readMs, days?.readMs ?? reading.readMs);
    const usedNano = days && dayWindows(days.value, readMs).find(({ window }) => window === 'month')?.nano;
    const limit = monthly({ limitNano, resetMs: startOfUtcMonthMs(readMs, 1), ...present({ usedNano }) });
    return { ...reading, readMs, facts: { ...reading.facts, spendLimits: [limit] } };
  }
}

function routesOf(intervalMs: number) {
  const route = <T>(name: string, tells: string) => new Route<T>({ name, tells, intervalMs });
  return {
    status: route<NonNullable<ReturnType<typeof readStatus>>>('billing/status', 'balance'),
    account: route<NonNullable<ReturnType<typeof readAccount>>>('billing/account', 'credit limit'),
    autoRecharge: route<NonNullable<ReturnType<typeof readAutoRecharge>>>('billing/auto-recharge', 'auto-reload'),
    budget: route<Budget>('budgets/org', 'monthly limit'),
    days: route<readonly DayCost[]>('usage/cost-by-day', 'cost by day'),
    models: route<readonly ModelUsage[]>('usage/models', 'cost by model'),
    summary: route<NonNullable<ReturnType<typeof readSummary>>>('usage/summary', 'tokens'),
    go: route<GoPlan>('go/status', 'Go plan in dollars'),
  };
}

function monthly(budget: Budget): SpendLimit {
  return { limit: 'monthly', currency: CURRENCY, ...budget };
}

function goFacts({ hasPlan, drawsOnBalance, quotas }: GoPlan): Facts {
  return hasPlan ? { quotas, plan: { name: 'go', isSubscribed: true, drawsOnBalance } } : {};
}

/** ok when anything answered; a refusal unless some of the routes were down, and may have nothing against us. */
function outcomeOf(routes: readonly RouteReport[]): PollOutcome {
  const has = (state: RouteReport['state']) => routes.some((route) => route.state === state);
  if (has('ok')) return 'ok';
  for (const state of ['timeout', 'error'] as const) if (has(state)) return state;
  if (has('refused')) return 'auth';
  return has('limited') ? 'limited' : 'error';
}

function withoutSlash(url: string): string {
  const { origin, pathname } = new URL(url);
  return origin + pathname.replace(/\/+$/, '');
}
