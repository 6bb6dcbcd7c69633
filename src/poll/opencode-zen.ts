// Asks OpenCode with an API key: the models of Zen, and the windows of the Go plan. The list of models is answered to
// any key, so the Go route is also what tells whether the key is known. Each route fails alone.

import type { Dispatcher } from 'undici';
import { z } from 'zod';
import { type Credential, fingerprint } from './credential.ts';
import { type Answered, type Failed, httpGet, isSendable, jsonOf } from './http-get.ts';
import type { ModelInfo, PollOutcome, Quota, RouteReading } from './poll-result.ts';
import type { Probe, ProbeReport, RouteReport, Trouble } from './probe.ts';
import { Route, type RouteAnswer, readJsonRoute } from './route.ts';

const DEFAULT_BASE_URL = 'https://opencode.ai';
const MODELS_PATH = '/zen/v1/models';
const GO_USAGE_PATH = '/zen/go/v1/usage';
/** Each model becomes a series. Zen lists some fifty. */
const MODELS_MAX = 1000;
/** What a label may hold: one line, at most 128 characters, and nothing invisible. */
const LABEL_VALUE = /^[\x20-\x7e]{1,128}$/;

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
  /** A Zen or Go API key. */
  readonly key: Credential;
  /** A second one, which is good for the Go plan only. */
  readonly goKey?: Credential | undefined;
  readonly baseUrl?: string | undefined;
  /** For each request, connecting included. */
  readonly timeoutMs: number;
  readonly intervalMs: number;
  readonly dispatcher?: Dispatcher | undefined;
}

/** The Go route's answer; `windows` is empty for a key without the plan. `isKeyKnown`: absent where it did not say. */
type GoAnswer = RouteAnswer<readonly Quota[]> & { readonly isKeyKnown?: boolean };

export class OpencodeZen implements Probe {
  readonly name = 'zen';
  readonly intervalMs: number;
  readonly #options: OpencodeZenOptions;
  readonly #baseUrl: string;
  readonly #models: Route<readonly ModelInfo[]>;
  readonly #go: Route<readonly Quota[]>;
  #fingerprint: string | undefined;
  #isKeyRejected = false;

  constructor(options: OpencodeZenOptions) {
    this.#options = options;
    const { intervalMs } = options;
    this.intervalMs = intervalMs;
    const { origin, pathname } = new URL(options.baseUrl ?? DEFAULT_BASE_URL);
    this.#baseUrl = origin + pathname.replace(/\/+$/, '');
    this.#models = new Route({ name: 'models', tells: 'models', intervalMs });
    this.#go = new Route({ name: 'go/usage', tells: 'Go plan in percent', intervalMs });
  }

  hasNewCredential(): boolean {
    return this.#fingerprint !== fingerprint(this.#options.key.read());
  }

  /** Asks both routes once. Without a key nothing is asked. */
  async ask(nowMs: number, signal?: AbortSignal): Promise<ProbeReport> {
    const { key } = this.#options;
    const secret = key.read();
    this.#forgetUnless(fingerprint(secret));
    if (secret.type === 'absent') return this.#report(nowMs, 'auth', refused(`no API key: ${key.remedy}`));
    if (secret.type === 'unusable') return this.#report(nowMs, 'auth', refused(`no API key: ${secret.problem}`));
    if (!isSendable(secret.secret)) {
      const problem = 'the API key holds blanks or characters that no key has, so it was not sent';
      return this.#report(nowMs, 'auth', refused(`${problem} – check ${key.place}`));
    }

    const request = { key: secret.secret, nowMs, ...(signal ? { signal } : {}) };
    const [models, go] = await Promise.all([this.#get(MODELS_PATH, request), this.#askGo(request)]);
    const listed = readModels(models);
    this.#models.note(listed, nowMs);
    // What a redirect or a rejected key means is told by the list of models, not by silence of the Go route.
    if (go) this.#noteGo(go, nowMs);

    const trouble = this.#trouble(models, listed);
    const outcome: PollOutcome = trouble?.status === 'auth_required' ? 'auth' : outcomeOf(listed);
    const report = this.#report(nowMs, outcome, trouble);
    return listed.retryAfterS === undefined ? report : { ...report, retryAfterS: listed.retryAfterS };
  }

  /** What was learned with one key says nothing about another. */
  #forgetUnless(current: string): void {
    if (current === this.#fingerprint) return;
    this.#fingerprint = current;
    this.#isKeyRejected = false;
    this.#models.forget();
    this.#go.forget();
  }

  #get(path: string, { key, ...request }: { key: string; nowMs: number; signal?: AbortSignal }) {
    const { timeoutMs, dispatcher } = this.#options;
    const headers = { authorization: `Bearer ${key}` };
    return httpGet({ ...request, url: this.#baseUrl + path, headers, timeoutMs, dispatcher });
  }

  /** Undefined while the route asks to be left alone. */
  async #askGo(request: { key: string; nowMs: number; signal?: AbortSignal }): Promise<GoAnswer | undefined> {
    if (!this.#go.mayAsk(request.nowMs)) return undefined;
    const first = readGo(await this.#get(GO_USAGE_PATH, request));
    const own = this.#options.goKey?.read();
    const isWithoutPlan = first.isKeyKnown === false || first.value?.length === 0;
    if (!isWithoutPlan || own?.type !== 'found' || own.secret === request.key || !isSendable(own.secret)) return first;

    // The plan may hang on a key of its own. Whether the account's key is known is for the first answer alone to say.
    const second = readGo(await this.#get(GO_USAGE_PATH, { ...request, key: own.secret }));
    const { isKeyKnown } = first;
    return { ...(second.isKeyKnown === false ? first : second), ...(isKeyKnown === undefined ? {} : { isKeyKnown }) };
  }

  #noteGo({ isKeyKnown, ...answer }: GoAnswer, nowMs: number): void {
    this.#go.note(answer, nowMs);
    // Silence is no pardon: a key that was not known stays so until the route says otherwise, or is there no more.
    if (isKeyKnown !== undefined) this.#isKeyRejected = !isKeyKnown;
    else if (answer.state === 'missing') this.#isKeyRejected = false;
  }

  #trouble(answer: Answered | Failed, { state, problem = '' }: RouteAnswer<unknown>): Trouble | undefined {
    const { place } = this.#options.key;
    if (answer.type === 'answered' && (answer.status === 401 || answer.status === 403)) {
      return refused(`HTTP ${answer.status} – check ${place}`);
    }
    if (this.#isKeyRejected) return refused(`HTTP 401 – check ${place}`);
    if (state === 'limited') return { status: 'limited', message: problem };
    if (state === 'ok') return undefined;
    const isUnanswered = answer.type === 'failed' && answer.isUnanswered;
    const message = isUnanswered
      ? `${problem}; this account has no new values until it answers`
      : `opencode zen models: ${problem}`;
    return { status: 'error', message };
  }

  #report(nowMs: number, outcome: PollOutcome, trouble: Trouble | undefined): ProbeReport {
    const models = this.#models.current(nowMs);
    const go = this.#go.current(nowMs);
    const { intervalMs } = this;
    const readings: RouteReading[] = [];
    if (models) {
      readings.push({ route: 'models', readMs: models.readMs, intervalMs, facts: { models: models.value } });
    }
    if (go) readings.push({ route: 'go/usage', readMs: go.readMs, intervalMs, facts: { quotas: go.value } });
    const routes = [this.#models.report(), this.#go.report()].filter((route): route is RouteReport => !!route);
    return {
      outcome,
      readings,
      routes,
      ...(trouble ? { trouble } : {}),
      ...(this.#options.key.read().type === 'found' ? { scope: 'zen' } : {}),
    };
  }
}

function refused(message: string): Trouble {
  return { status: 'auth_required', message };
}

function outcomeOf({ state }: RouteAnswer<unknown>): PollOutcome {
  if (state === 'refused') return 'auth';
  return state === 'missing' ? 'error' : state;
}

function readModels(answer: Answered | Failed): RouteAnswer<readonly ModelInfo[]> {
  if (answer.type === 'answered' && answer.status >= 300 && answer.status < 400) {
    const problem = `HTTP ${answer.status}: a redirect, which is not followed so that the key stays here; check base_url`;
    return { state: 'error', problem };
  }
  if (answer.type === 'failed' || answer.status !== 200)
    return readJsonRoute<readonly ModelInfo[]>(answer, () => undefined);
  const body = jsonOf(answer);
  if ('type' in body) return { state: 'error', problem: body.problem };
  // An empty body is how some servers write an empty list.
  const value = body.json === undefined ? [] : modelsOf(body.json);
  if (value) return { state: 'ok', value };
  return { state: 'error', problem: 'parsing response: it is not a list of models; check base_url' };
}

function modelsOf(json: unknown): readonly ModelInfo[] | undefined {
  const list = modelList.safeParse(json).data;
  if (!list) return undefined;
  const models = new Map<string, ModelInfo>();
  for (const item of list.data ?? []) {
    const entry = modelEntry.safeParse(item).data;
    const id = labelValue(entry?.id);
    if (id && !models.has(id)) models.set(id, { id, ownedBy: labelValue(entry?.owned_by) ?? 'unknown' });
    if (models.size === MODELS_MAX) break;
  }
  return [...models.values()];
}

function labelValue(value: unknown): string | undefined {
  const text = typeof value === 'string' ? value.trim() : '';
  return LABEL_VALUE.test(text) ? text : undefined;
}

/** 401: the key is unknown. 403: it is known, and has no Go plan. 200: it has one. */
function readGo(answer: Answered | Failed): GoAnswer {
  if (answer.type === 'answered' && answer.status === 403) return { state: 'ok', value: [], isKeyKnown: true };
  const read = readJsonRoute(answer, (json) => {
    const usage = goUsage.safeParse(json).data?.usage;
    return usage && readGoWindows(usage);
  });
  if (answer.type === 'answered' && answer.status === 401) return { ...read, isKeyKnown: false };
  return read.state === 'ok' ? { ...read, isKeyKnown: true } : read;
}

/** Ids and names that some builds add are passed over: only what is named here is read. */
function readGoWindows(usage: Readonly<Record<string, unknown>>): readonly Quota[] {
  return GO_WINDOWS.flatMap(([name, window]) => {
    const stated = goWindow.safeParse(usage[name]).data;
    if (!stated) return [];
    const { percent, status } = stated;
    const resetMs = parseIsoMs(stated.resetsAt);
    const share = { limit: 100, used: percent, remaining: 100 - percent, usedRatio: percent / 100 };
    return {
      ...{ quota: 'go', window, unit: 'percent', ...share },
      ...(resetMs === undefined ? {} : { resetMs }),
      ...(status === 'rate-limited' ? { isExhausted: true as const } : {}),
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
