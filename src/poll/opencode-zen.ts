// Polls OpenCode with an API key: the models of Zen, and the windows of the Go plan. The list of models is answered to
// any key, so the Go route is also what tells whether the key is known. Each route fails alone.

import type { Dispatcher } from 'undici';
import { z } from 'zod';
import { type Answer, bearerGet } from './bearer-get.ts';
import type { Account } from './detect.ts';
import type { Poll } from './poll.ts';
import type { AccountStatus, ModelInfo, PollOutcome, PollResult, Quota } from './poll-result.ts';

const DEFAULT_BASE_URL = 'https://opencode.ai';
const MODELS_PATH = '/zen/v1/models';
const GO_USAGE_PATH = '/zen/go/v1/usage';

/** A reading that failed keeps its last good values for this many intervals: one lost answer empties no tile. */
const KEPT_INTERVALS = 3;
/** Each model becomes a series. Zen lists some fifty. */
const MODELS_MAX = 1000;
/** What a label may hold: one line, at most 128 characters, and nothing invisible. */
const LABEL_VALUE = /^[\x20-\x7e]{1,128}$/;
/** What a header may hold; anything else is a pasting accident. */
const USABLE_KEY = /^[\x21-\x7e]{1,1024}$/;
const NEAR_LIMIT_RATIO = 0.8;
/** How long the Go route is left alone after a 429 that does not say for how long, and at most. */
const USAGE_PAUSE_DEFAULT_S = 60;
const USAGE_PAUSE_MAX_S = 3600;

/** The plan's windows: as the route names them, and as people do. */
const GO_WINDOWS = [
  ['rolling', '5h'],
  ['weekly', '7d'],
  ['monthly', 'month'],
] as const;

const modelList = z.object({ data: z.array(z.unknown()).nullable() });
const modelEntry = z.object({ id: z.string(), owned_by: z.unknown().optional() });
const goUsage = z.object({ usage: z.record(z.string(), z.unknown()) });
const goWindow = z.object({
  percent: z.number().min(0).max(100),
  status: z.unknown().optional(),
  resetsAt: z.unknown().optional(),
});

export interface OpencodeZenOptions {
  readonly account: Account;
  /** For each request, connecting included. */
  readonly timeoutMs: number;
  /** The configured interval, by which values expire. */
  readonly intervalMs: number;
  readonly dispatcher?: Dispatcher;
}

interface GoWindow extends Quota {
  readonly isExhausted: boolean;
}

interface Remembered<T> {
  readonly value: T;
  readonly atMs: number;
}

type ModelsAnswer =
  | { readonly type: 'listed'; readonly models: readonly ModelInfo[] }
  | { readonly type: 'refused'; readonly status: number; readonly retryAfterS?: number }
  | { readonly type: 'limited'; readonly status: number; readonly retryAfterS?: number }
  | (Extract<Answer, { type: 'failed' }> & { readonly retryAfterS?: number });

/** What the Go route said. Every field is absent where it said nothing about it. */
interface UsageAnswer {
  readonly isKeyKnown?: boolean | undefined;
  /** Empty when the key has no Go plan. */
  readonly windows?: readonly GoWindow[] | undefined;
  readonly isRouteMissing?: boolean;
  readonly pauseS?: number | undefined;
}

type Assessment = Pick<PollResult, 'status' | 'message'> & { readonly outcome: PollOutcome };

/** One account at OpenCode. It remembers the last good values of each route and what was said about the key. */
export class OpencodeZen {
  readonly #account: Account;
  readonly #baseUrl: string;
  readonly #intervalMs: number;
  readonly #ask: (path: string, request: { key: string; nowMs: number; signal?: AbortSignal }) => Promise<Answer>;
  #key = '';
  #models: Remembered<readonly ModelInfo[]> | undefined;
  #windows: Remembered<readonly GoWindow[]> | undefined;
  #isKeyRejected = false;
  #usageNotBeforeMs = 0;

  constructor({ account, timeoutMs, intervalMs, dispatcher }: OpencodeZenOptions) {
    this.#account = account;
    this.#intervalMs = intervalMs;
    const { origin, pathname } = new URL(account.baseUrl ?? DEFAULT_BASE_URL);
    this.#baseUrl = origin + pathname.replace(/\/+$/, '');
    this.#ask = (path, request) => bearerGet({ ...request, url: this.#baseUrl + path, timeoutMs, dispatcher });
  }

  /** Asks both routes once. Never rejects; see PollAccount. Without a key nothing is asked. */
  async poll(nowMs: number, signal?: AbortSignal): Promise<Poll> {
    const key = this.#account.key();
    this.#forgetUnless(key);
    if (!key) return this.#conclude(nowMs, authRequired(`no API key: ${this.#account.keyRemedy}`));
    if (!USABLE_KEY.test(key)) {
      const problem = 'the API key holds blanks or characters that no key has, so it was not sent';
      return this.#conclude(nowMs, authRequired(`${problem} – check ${this.#account.keyName}`));
    }

    const request = { key, nowMs, ...(signal ? { signal } : {}) };
    const [models, usage] = await Promise.all([
      this.#ask(MODELS_PATH, request).then(readModels),
      this.#askUsage(request),
    ]);
    if (models.type === 'listed') this.#models = { value: models.models, atMs: nowMs };
    if (usage.windows) this.#windows = { value: usage.windows, atMs: nowMs };
    if (usage.pauseS !== undefined) {
      this.#usageNotBeforeMs = nowMs + Math.min(usage.pauseS, USAGE_PAUSE_MAX_S) * 1000;
    }
    // Silence of the Go route is no pardon: a key that it did not know stays unknown until it says otherwise.
    if (usage.isKeyKnown !== undefined) this.#isKeyRejected = !usage.isKeyKnown;
    else if (usage.isRouteMissing) this.#isKeyRejected = false;

    const poll = this.#conclude(nowMs, this.#assess(models, nowMs));
    const retryAfterS = models.type === 'listed' ? undefined : models.retryAfterS;
    return retryAfterS === undefined ? poll : { ...poll, retryAfterS };
  }

  /** What was learned with one key says nothing about another. */
  #forgetUnless(key: string | undefined): void {
    if (key === this.#key) return;
    this.#key = key ?? '';
    this.#models = undefined;
    this.#windows = undefined;
    this.#isKeyRejected = false;
    this.#usageNotBeforeMs = 0;
  }

  async #askUsage(request: { key: string; nowMs: number; signal?: AbortSignal }): Promise<UsageAnswer> {
    const pauseMs = this.#usageNotBeforeMs - request.nowMs;
    // A longer pause than was ever made means that the clock was set back.
    if (pauseMs > 0 && pauseMs <= USAGE_PAUSE_MAX_S * 1000) return {};
    const first = readUsage(await this.#ask(GO_USAGE_PATH, request));
    const goKey = this.#account.goKey?.();
    const isWithoutPlan = first.isKeyKnown === false || first.windows?.length === 0;
    if (!isWithoutPlan || !goKey || goKey === request.key || !USABLE_KEY.test(goKey)) return first;

    // The plan may hang on a key of its own. Whether the account's key is known is for the first answer alone to say.
    const second = readUsage(await this.#ask(GO_USAGE_PATH, { ...request, key: goKey }));
    return {
      isKeyKnown: first.isKeyKnown,
      windows: second.windows ?? (second.isKeyKnown === false ? first.windows : undefined),
      pauseS: second.pauseS,
    };
  }

  /** auth_required > error > limited > near_limit > ok. */
  #assess(models: ModelsAnswer, nowMs: number): Assessment {
    const { keyName } = this.#account;
    if (models.type === 'refused') return authRequired(`HTTP ${models.status} – check ${keyName}`);
    if (this.#isKeyRejected) return authRequired(`HTTP 401 – check ${keyName}`);
    if (models.type === 'failed') {
      const { outcome, problem, isUnanswered } = models;
      const message = isUnanswered
        ? `${problem}; this account has no new values until it answers`
        : `opencode zen models: ${problem}`;
      return { status: 'error', outcome, message };
    }
    if (models.type === 'limited') {
      return { status: 'limited', outcome: 'limited', message: `rate limited (HTTP ${models.status})` };
    }

    const count = `${models.models.length} Zen models`;
    const windows = this.#currentWindows(nowMs);
    const exhausted = windows.filter((window) => window.isExhausted || window.usedRatio >= 1);
    if (exhausted.length > 0) {
      const names = exhausted.map(({ window }) => window).join(', ');
      return { status: 'limited', outcome: 'ok', message: `Go plan used up (${names}) · ${count}` };
    }
    const near = windows.filter(({ usedRatio }) => usedRatio >= NEAR_LIMIT_RATIO);
    if (near.length > 0) {
      const names = near.map(({ window, usedRatio }) => `${window} ${Math.floor(usedRatio * 100)} %`).join(', ');
      return { status: 'near_limit', outcome: 'ok', message: `Go plan nearly used up (${names}) · ${count}` };
    }
    return { status: 'ok', outcome: 'ok', message: `Auth OK · ${count}` };
  }

  #conclude(nowMs: number, { status, message, outcome }: Assessment): Poll {
    const models = this.#stillGood(this.#models, nowMs);
    const windows = this.#stillGood(this.#windows, nowMs);
    const quotas = this.#currentWindows(nowMs).map(({ isExhausted: _, ...quota }): Quota => quota);
    const result: PollResult = {
      provider: this.#account.provider,
      account: this.#account.id,
      takenMs: nowMs,
      status,
      message,
      ...(this.#key ? { authScope: 'zen' } : {}),
      ...(models ? { models: models.value } : {}),
      ...(quotas.length > 0 ? { quotas } : {}),
      routes: { ...(models ? { models: models.atMs } : {}), ...(windows ? { quotas: windows.atMs } : {}) },
      intervalMs: this.#intervalMs,
    };
    return { result, outcome };
  }

  #stillGood<T>(remembered: Remembered<T> | undefined, nowMs: number): Remembered<T> | undefined {
    // The distance, so that a clock set back does not keep old values.
    return remembered && Math.abs(nowMs - remembered.atMs) < KEPT_INTERVALS * this.#intervalMs ? remembered : undefined;
  }

  /** A window whose end has passed says nothing about the one that followed it. */
  #currentWindows(nowMs: number): readonly GoWindow[] {
    const windows = this.#stillGood(this.#windows, nowMs)?.value ?? [];
    return windows.filter(({ resetMs }) => resetMs === undefined || resetMs > nowMs);
  }
}

function authRequired(message: string): Assessment {
  return { status: 'auth_required' satisfies AccountStatus, outcome: 'auth', message };
}

function readModels(answer: Answer): ModelsAnswer {
  if (answer.type === 'failed') return answer;
  const { status, json, retryAfterS } = answer;
  const pause = retryAfterS === undefined ? {} : { retryAfterS };
  if (status === 401 || status === 403) return { type: 'refused', status, ...pause };
  if (status === 429) return { type: 'limited', status, ...pause };
  if (status >= 300 && status < 400) {
    const problem = `HTTP ${status}: a redirect, which is not followed so that the key stays here; check base_url`;
    return { type: 'failed', outcome: 'error', problem };
  }
  if (status !== 200) return { type: 'failed', outcome: 'error', problem: `HTTP ${status}`, ...pause };
  // An empty body is how some servers write an empty list.
  const list = json === undefined ? { data: [] } : modelList.safeParse(json).data;
  if (!list) {
    return {
      type: 'failed',
      outcome: 'error',
      problem: 'parsing response: it is not a list of models; check base_url',
    };
  }
  const models = new Map<string, ModelInfo>();
  for (const item of list.data ?? []) {
    const entry = modelEntry.safeParse(item).data;
    const id = labelValue(entry?.id);
    if (id && !models.has(id)) models.set(id, { id, ownedBy: labelValue(entry?.owned_by) ?? 'unknown' });
    if (models.size === MODELS_MAX) break;
  }
  return { type: 'listed', models: [...models.values()] };
}

function labelValue(value: unknown): string | undefined {
  const text = typeof value === 'string' ? value.trim() : '';
  return LABEL_VALUE.test(text) ? text : undefined;
}

function readUsage(answer: Answer): UsageAnswer {
  if (answer.type === 'failed') return {};
  const { status, json, retryAfterS } = answer;
  if (status === 401) return { isKeyKnown: false };
  if (status === 403) return { isKeyKnown: true, windows: [] };
  if (status === 404) return { isRouteMissing: true };
  if (status === 429) return { pauseS: retryAfterS ?? USAGE_PAUSE_DEFAULT_S };
  if (status !== 200) return retryAfterS === undefined ? {} : { pauseS: retryAfterS };
  const usage = goUsage.safeParse(json).data?.usage;
  return usage ? { isKeyKnown: true, windows: readGoWindows(usage) } : {};
}

/** Ids and names that some builds add are passed over: only what is named here is read. */
function readGoWindows(usage: Readonly<Record<string, unknown>>): GoWindow[] {
  return GO_WINDOWS.flatMap(([name, window]) => {
    const stated = goWindow.safeParse(usage[name]).data;
    if (!stated) return [];
    const resetMs = parseIsoMs(stated.resetsAt);
    return {
      quota: 'go',
      window,
      usedRatio: stated.percent / 100,
      ...(resetMs === undefined ? {} : { resetMs }),
      isExhausted: stated.status === 'rate-limited',
    };
  });
}

/** A date and time of ISO 8601 in ms, with or without fractions, `T` or zone (which is then UTC). */
function parseIsoMs(value: unknown): number | undefined {
  const pattern = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?) ?(Z|[+-]\d\d:\d\d)?$/i;
  const [match, date, time, zone = 'Z'] = (typeof value === 'string' && pattern.exec(value.trim())) || [];
  const ms = match ? Date.parse(`${date}T${time}${zone}`) : Number.NaN;
  return Number.isNaN(ms) ? undefined : ms;
}
