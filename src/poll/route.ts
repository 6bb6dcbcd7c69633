// One route of a remote: what it last said well, how it answered last, and whether it asked to be left alone. Every
// route fails, pauses and expires by itself.

import { type Answered, type Failed, jsonOf } from './http-get.ts';
import { expiresMs } from './poll-result.ts';
import type { RouteReport, RouteState } from './probe.ts';

/** A remote that asks to be left alone for longer is asked again all the same. */
const PAUSE_MAX_S = 3600;
/** How long a route is left alone after a 429 that does not say for how long. */
const PAUSE_DEFAULT_S = 60;

/** What came of asking a route. */
export interface RouteAnswer<T> {
  readonly state: RouteState;
  /** Present exactly when the state is `ok`. */
  readonly value?: T;
  /** In our own words; absent when the state is `ok`. */
  readonly problem?: string;
  readonly retryAfterS?: number;
}

export class Route<T> {
  readonly name: string;
  readonly tells: string;
  readonly intervalMs: number;
  #last: { readonly value: T; readonly readMs: number } | undefined;
  #answer: RouteAnswer<T> | undefined;
  #notBeforeMs = 0;

  constructor({ name, tells, intervalMs }: { name: string; tells: string; intervalMs: number }) {
    this.name = name;
    this.tells = tells;
    this.intervalMs = intervalMs;
  }

  /** Whether it has not asked to be left alone at this time. */
  mayAsk(nowMs: number): boolean {
    const pauseMs = this.#notBeforeMs - nowMs;
    // A longer pause than was ever made means that the clock was set back.
    return pauseMs <= 0 || pauseMs > PAUSE_MAX_S * 1000;
  }

  /** How long it still asks to be left alone, in seconds; undefined when it does not. */
  pauseS(nowMs: number): number | undefined {
    return this.mayAsk(nowMs) ? undefined : (this.#notBeforeMs - nowMs) / 1000;
  }

  note(answer: RouteAnswer<T>, nowMs: number): void {
    this.#answer = answer;
    if (answer.state === 'ok') this.#last = { value: answer.value as T, readMs: nowMs };
    const pauseS = answer.retryAfterS ?? (answer.state === 'limited' ? PAUSE_DEFAULT_S : 0);
    this.#notBeforeMs = pauseS > 0 ? nowMs + Math.min(pauseS, PAUSE_MAX_S) * 1000 : 0;
  }

  /** Its last good answer, unless that has expired. */
  current(nowMs: number): { readonly value: T; readonly readMs: number } | undefined {
    const last = this.#last;
    // An answer of the future means that the clock was set back: nobody knows how old it is.
    if (!last || last.readMs > nowMs) return undefined;
    return nowMs < expiresMs({ readMs: last.readMs, intervalMs: this.intervalMs }) ? last : undefined;
  }

  /** How it answered when it was last asked; undefined when it never was. */
  report(): RouteReport | undefined {
    if (!this.#answer) return undefined;
    const { state, problem } = this.#answer;
    return { route: this.name, tells: this.tells, state, ...(problem === undefined ? {} : { problem }) };
  }

  /** What was learned with one credential says nothing about another. */
  forget(): void {
    this.#last = undefined;
    this.#answer = undefined;
    this.#notBeforeMs = 0;
  }
}

/**
 * What a JSON route's answer comes to. A redirect and a web page are how a console says that one is not signed in.
 * @param read takes what is known out of the JSON; undefined when it is not of the known form
 */
export function readJsonRoute<T>(answer: Answered | Failed, read: (json: unknown) => T | undefined): RouteAnswer<T> {
  if (answer.type === 'failed') return { state: answer.outcome, problem: answer.problem };
  const { status, mediaType, retryAfterS } = answer;
  const pause = retryAfterS === undefined ? {} : { retryAfterS };
  if (status === 401 || status === 403) return { state: 'refused', problem: `HTTP ${status}`, ...pause };
  if (status >= 300 && status < 400) return { state: 'refused', problem: `HTTP ${status}, a redirect`, ...pause };
  if (status === 404) return { state: 'missing', problem: 'HTTP 404', ...pause };
  if (status === 429) return { state: 'limited', problem: 'rate limited (HTTP 429)', ...pause };
  if (status !== 200) return { state: 'error', problem: `HTTP ${status}`, ...pause };
  if (mediaType === 'text/html') return { state: 'refused', problem: 'a web page instead of data', ...pause };
  const body = jsonOf(answer);
  if ('type' in body) return { state: 'error', problem: body.problem };
  const value = read(body.json);
  if (value === undefined)
    return { state: 'error', problem: 'the answer is of a form that this version does not know' };
  return { state: 'ok', value };
}
