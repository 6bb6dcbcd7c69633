// Asks an older or self-hosted OpenCode console with a session's cookie. It has no API: this calls the one function that
// its own billing page calls, and reads the balance, the monthly limit and the plan. What it says of payment methods and
// customers is not read.

import type { Dispatcher } from 'undici';
import { z } from 'zod';
import { present } from '../turn/fields.ts';
import { balanceOwner } from './balance-owner.ts';
import { type Credential, fingerprint } from './credential.ts';
import { type Answered, type Failed, httpGet, isSendable } from './http-get.ts';
import { nanoOf, nanoOfMicroCents } from './money.ts';
import type { Facts, Nano, Plan } from './poll-result.ts';
import type { Probe, ProbeReport, Trouble } from './probe.ts';
import { Route, type RouteAnswer, readJsonRoute } from './route.ts';
import { parseSeroval, SerovalError } from './seroval.ts';
import { startOfUtcMonthMs } from './utc.ts';

const DEFAULT_BASE_URL = 'https://opencode.ai';
/** The function's id is a hash of the console's build, so it goes stale; this one is of April 2026. */
const BILLING_FUNCTION_ID = 'c83b78a614689c38ebee981f9b39a8b377716db85c1fd7dbab604adc02d3313d';
const COOKIE_NAME = 'auth';
const INSTANCE = 'server-fn:1';
const CURRENCY = 'USD';
/** Limits are whole dollars. Nobody's is ten million of them, so from there on a build meant micro-cents. */
const WHOLE_DOLLARS_BELOW = 10_000_000;
const BLACK_PLANS: ReadonlySet<string> = new Set(['20', '100', '200']);
/** How a console answers that does not know what it is asked. */
const UNKNOWN_STATUSES: readonly number[] = [404, 500];
const STALE_FUNCTION =
  ' for the function that is asked. Its id changes with the console: set extra.opencode_billing_function_id';
const NO_WORKSPACE = ' when asked for the workspace: set extra.opencode_workspace_id, or check console_url';

/** A field that may be missing, and whose form nobody promised. */
const anything = z.unknown().optional();
/** A field of another type than expected says nothing. */
const lenient = <T extends z.ZodType>(schema: T) => schema.optional().catch(undefined);
const amount = lenient(z.number().nonnegative());
/** A number or its text; an object would not even turn into one. */
const size = lenient(z.union([z.string(), z.number()]));
const date = z.union([z.date(), z.string()]);
/** What is null where there is none. */
const text = lenient(z.string().nullable());
const billing = z.object({
  balance: lenient(z.number()),
  monthlyUsage: amount,
  timeMonthlyUsageUpdated: lenient(date.transform((stated) => new Date(stated).getTime())),
  monthlyLimit: amount,
  reload: lenient(z.boolean()),
  reloadAmount: amount,
  reloadTrigger: amount,
  reloadError: text,
  timeReloadError: lenient(date.nullable()),
  subscription: lenient(z.object({ plan: size, useBalance: anything })),
  subscriptionID: text,
  lite: lenient(z.object({ useBalance: anything })),
  liteSubscriptionID: text,
});
type Billing = z.output<typeof billing>;

export interface OpencodeConsoleLegacyOptions {
  /** The session's cookie: its value, with or without its name. */
  readonly credential: Credential;
  /** Absent: asked of the console, which redirects to the workspace that was seen last. */
  readonly workspaceId?: string | undefined;
  readonly functionId?: string | undefined;
  readonly baseUrl?: string | undefined;
  /** For each request, connecting included. */
  readonly timeoutMs: number;
  readonly intervalMs: number;
  readonly dispatcher?: Dispatcher | undefined;
}

interface Request {
  readonly cookie: string;
  readonly nowMs: number;
  readonly signal?: AbortSignal | undefined;
}

const EXPIRED: Trouble = {
  status: 'auth_required',
  message: 'the console session has expired: sign in to the console and put the new cookie in place of the old one',
};

export class OpencodeConsoleLegacy implements Probe {
  readonly name = 'console_legacy';
  readonly intervalMs: number;
  readonly #options: OpencodeConsoleLegacyOptions;
  readonly #baseUrl: string;
  readonly #route: Route<Facts>;
  #fingerprint: string | undefined;
  #workspaceId: string | undefined;
  /** What was wrong when the console was last asked; it stays so while the console asks to be left alone. */
  #trouble: Trouble | undefined;

  constructor(options: OpencodeConsoleLegacyOptions) {
    this.#options = options;
    this.intervalMs = options.intervalMs;
    const { origin, pathname } = new URL(options.baseUrl ?? DEFAULT_BASE_URL);
    this.#baseUrl = origin + pathname.replace(/\/+$/, '');
    this.#route = new Route({ name: 'billing', tells: 'balance, monthly limit', intervalMs: options.intervalMs });
  }

  hasNewCredential(): boolean {
    return this.#fingerprint !== fingerprint(this.#options.credential.read());
  }

  /** Asks for the billing of the workspace, after the workspace where that is not known. */
  async ask(nowMs: number, signal?: AbortSignal): Promise<ProbeReport> {
    const { credential } = this.#options;
    const secret = credential.read();
    if (this.#fingerprint !== fingerprint(secret)) {
      this.#fingerprint = fingerprint(secret);
      this.#route.forget();
      this.#workspaceId = undefined;
      this.#trouble = undefined;
    }
    const cookie = secret.type === 'found' ? cookieValue(secret.secret) : '';
    if (cookie === '') {
      const why = secret.type === 'unusable' ? secret.problem : credential.remedy;
      return { outcome: 'auth', readings: [], routes: [], trouble: refused(`no console cookie: ${why}`) };
    }
    if (!isSendable(cookie)) {
      const problem = `the cookie holds characters that no cookie has, so it was not sent – check ${credential.place}`;
      return { outcome: 'auth', readings: [], routes: [], trouble: refused(problem) };
    }
    if (this.#route.mayAsk(nowMs)) this.#trouble = await this.#askBilling({ cookie, nowMs, signal });
    return this.#report(nowMs);
  }

  /** @returns what is wrong, if anything */
  async #askBilling(request: Request): Promise<Trouble | undefined> {
    const workspace = await this.#findWorkspace(request);
    if (typeof workspace !== 'string') {
      this.#route.note(workspace.answer, request.nowMs);
      return workspace.trouble;
    }
    const args = JSON.stringify({ t: { t: 9, i: 0, l: 1, a: [{ t: 1, s: workspace }], o: 0 }, f: 31, m: [] });
    const id = this.#options.functionId ?? BILLING_FUNCTION_ID;
    const { origin } = new URL(this.#baseUrl);
    const answer = await this.#get(`/_server?id=${id}&args=${encodeURIComponent(args)}`, request, {
      accept: 'text/javascript, application/json;q=0.9, */*;q=0.8',
      'x-server-id': id,
      'x-server-instance': INSTANCE,
      origin,
      referer: `${this.#baseUrl}/workspace/${workspace}/billing`,
    });
    const read = readBilling(answer, { nowMs: request.nowMs, workspaceId: workspace });
    this.#route.note(read, request.nowMs);
    // That a session has ended, or a workspace is gone, is told most clearly where the workspace is asked for.
    if (read.state !== 'ok') this.#workspaceId = undefined;
    return troubleOf(read, isUnknown(answer) ? STALE_FUNCTION : '');
  }

  async #findWorkspace(
    request: Request,
  ): Promise<string | { readonly answer: RouteAnswer<never>; readonly trouble: Trouble }> {
    const known = this.#options.workspaceId ?? this.#workspaceId;
    if (known) return known;
    const answer = await this.#get('/auth', request, {});
    const found = answer.type === 'answered' ? this.#workspaceAt(answer.location ?? '') : undefined;
    if (found) {
      this.#workspaceId = found;
      return found;
    }
    const isExpired =
      answer.type === 'answered' && (answer.status < 400 || answer.status === 401 || answer.status === 403);
    if (isExpired) return { answer: { state: 'refused', problem: 'the session has expired' }, trouble: EXPIRED };
    const read = readJsonRoute<never>(answer, () => undefined);
    return { answer: read, trouble: troubleOf(read, isUnknown(answer) ? NO_WORKSPACE : '') ?? EXPIRED };
  }

  /** The workspace that a redirect leads to. A page for signing in leads to none, even if it would lead back to one. */
  #workspaceAt(location: string): string | undefined {
    if (!URL.canParse(location, this.#baseUrl)) return undefined;
    const { pathname } = new URL(location, this.#baseUrl);
    return /\/workspace\/(wrk_[0-9A-Za-z]{1,40})(?:\/|$)/.exec(pathname)?.[1];
  }

  #get(path: string, { cookie, ...request }: Request, headers: Readonly<Record<string, string>>) {
    const { timeoutMs, dispatcher } = this.#options;
    const all = { ...headers, cookie: `${COOKIE_NAME}=${cookie}` };
    return httpGet({ ...request, url: this.#baseUrl + path, headers: all, timeoutMs, dispatcher });
  }

  #report(nowMs: number): ProbeReport {
    const route = this.#route.report();
    const current = this.#route.current(nowMs);
    const pauseS = this.#route.pauseS(nowMs);
    const state = route?.state ?? 'error';
    const { name, intervalMs } = this.#route;
    return {
      outcome: state === 'refused' ? 'auth' : state === 'missing' ? 'error' : state,
      readings: current ? [{ route: name, readMs: current.readMs, intervalMs, facts: current.value }] : [],
      routes: route ? [route] : [],
      ...(this.#trouble ? { trouble: this.#trouble } : {}),
      scope: 'console',
      ...(pauseS === undefined ? {} : { retryAfterS: pauseS }),
    };
  }
}

/** The cookie's value out of what was pasted: with or without its name, and what a browser shows beside it. */
function cookieValue(pasted: string): string {
  const value = pasted.startsWith(`${COOKIE_NAME}=`) ? pasted.slice(COOKIE_NAME.length + 1) : pasted;
  return value.split(';', 1)[0]!.trim();
}

function refused(message: string): Trouble {
  return { status: 'auth_required', message };
}

function isUnknown(answer: Answered | Failed): boolean {
  return answer.type === 'answered' && UNKNOWN_STATUSES.includes(answer.status);
}

function readBilling(
  answer: Answered | Failed,
  asked: { readonly nowMs: number; readonly workspaceId: string },
): RouteAnswer<Facts> {
  if (answer.type === 'failed' || answer.status !== 200 || answer.mediaType === 'text/html') {
    return readJsonRoute<Facts>(answer, () => undefined);
  }
  try {
    const value = parseSeroval(answer.text);
    // Any field of it may be null, but a billing without the field is the answer of another function.
    const isBilling = typeof value === 'object' && value !== null && 'balance' in value;
    const stated = isBilling ? billing.safeParse(value).data : undefined;
    if (stated) return { state: 'ok', value: factsOf(stated, asked) };
    return { state: 'error', problem: 'the answer is not the billing of a workspace' };
  } catch (error) {
    if (!(error instanceof SerovalError)) throw error;
    const next = error.kind === 'error answer' ? ': check that the cookie is of a member of the workspace' : '';
    return { state: 'error', problem: `${error.message}${next}` };
  }
}

/** @param next what to do about an error */
function troubleOf({ state, problem = '' }: RouteAnswer<unknown>, next: string): Trouble | undefined {
  if (state === 'ok') return undefined;
  if (state === 'refused') return EXPIRED;
  if (state === 'limited') return { status: 'limited', message: `opencode console: ${problem}` };
  return { status: 'error', message: `opencode console: ${problem}${next}` };
}

function factsOf(stated: Billing, { nowMs, workspaceId }: { nowMs: number; workspaceId: string }): Facts {
  const balanceNano = nanoOfMicroCents(stated.balance);
  const limitNano = limitOf(stated.monthlyLimit);
  const usedNano = usageOf(stated, nowMs);
  const resetMs = startOfUtcMonthMs(nowMs, 1);
  const { reload, reloadAmount, reloadTrigger, reloadError, timeReloadError } = stated;
  const plan = planOf(stated);
  const isFailing = isAnyStated([reloadError, timeReloadError]);
  const isReloadKnown = isFailing || [reload, reloadAmount, reloadTrigger].some((each) => each !== undefined);
  return present({
    balances:
      balanceNano === undefined
        ? undefined
        : [{ kind: 'console', currency: CURRENCY, nano: balanceNano, owner: balanceOwner(workspaceId) }],
    spendLimits:
      limitNano === undefined && usedNano === undefined
        ? undefined
        : [{ limit: 'monthly', currency: CURRENCY, resetMs, ...present({ limitNano, usedNano }) }],
    reload: isReloadKnown
      ? present({
          currency: CURRENCY,
          amountNano: nanoOf(reloadAmount),
          triggerNano: nanoOf(reloadTrigger),
          isEnabled: reload,
          isFailing,
        })
      : undefined,
    plan: Object.keys(plan).length > 0 ? plan : undefined,
  });
}

/** Whether one of the fields holds something; undefined when that is not known of any. Null is how nothing is written. */
function isAnyStated(fields: readonly unknown[]): boolean | undefined {
  if (fields.some(Boolean)) return true;
  return fields.includes(null) ? false : undefined;
}

function limitOf(stated: number | undefined): Nano | undefined {
  if (stated === undefined) return undefined;
  return stated >= WHOLE_DOLLARS_BELOW ? nanoOfMicroCents(stated) : nanoOf(stated);
}

/** What was used this month: the console keeps a past month's until the next use, and counts it as nothing. */
function usageOf({ monthlyUsage, timeMonthlyUsageUpdated: updatedMs }: Billing, nowMs: number): Nano | undefined {
  const nano = nanoOfMicroCents(monthlyUsage);
  if (nano === undefined || updatedMs === undefined || Number.isNaN(updatedMs)) return nano;
  return updatedMs < startOfUtcMonthMs(nowMs) ? 0 : nano;
}

function planOf({ subscription, subscriptionID, lite, liteSubscriptionID }: Billing): Plan {
  const isBlack = Boolean(subscriptionID);
  const isGo = Boolean(liteSubscriptionID);
  const size = String(subscription?.plan);
  const isOfSize = subscriptionID !== null && BLACK_PLANS.has(size);
  const draws = (isBlack && subscription?.useBalance === true) || (isGo && lite?.useBalance === true);
  return present({
    name: isOfSize ? `black-${size}` : isBlack ? 'black' : isGo ? 'go' : undefined,
    isSubscribed: isAnyStated([subscriptionID, liteSubscriptionID]),
    drawsOnBalance: isBlack || isGo ? draws : undefined,
  });
}
