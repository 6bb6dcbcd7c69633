// Runs the polls of all accounts, each at its own pace, and records what they say. No account waits for another.

import { performance } from 'node:perf_hooks';
import type { Log } from '../log.ts';
import type { Account } from '../poll/detect.ts';
import type { Poll, PollAccount } from '../poll/poll.ts';
import type { PollOutcome, PollResult } from '../poll/poll-result.ts';

const SOURCE = 'poller';
/** Spreads polls of many bridges, so that they do not arrive at the remote together. */
const JITTER = 0.1;
/** A remote that is away is asked ever more rarely, up to the smaller of these. */
const FAILED_MAX_INTERVALS = 16;
const FAILED_MAX_MS = 15 * 60_000;
/** A refused key or a rate limit is mended by people or by waiting a little: a mended one should show soon. */
const REFUSED_MAX_INTERVALS = 4;
const REFUSED_MAX_MS = 5 * 60_000;
/** A remote that asks to be left alone for longer is asked again all the same. */
const RETRY_AFTER_MAX_MS = 3600_000;
/** Node fires a timer at once when it is longer than this. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Where polls are counted. */
export interface PollMeter {
  polled(poll: {
    provider: string;
    account: string;
    result: PollOutcome;
    seconds: number;
    /** The interval until the next poll, back-off included and jitter not. */
    intervalSeconds: number;
  }): void;
  up(source: string, isUp: boolean): void;
  success(source: string, atMs: number): void;
}

export interface PollerOptions {
  readonly pollers: readonly { readonly account: Account; readonly poll: PollAccount }[];
  readonly intervalMs: number;
  /** Resolves when the result is durable. */
  readonly record: (result: PollResult) => Promise<void>;
  readonly meter: PollMeter;
  readonly log: Log;
  /** 0 ≤ n < 1, for the jitter. */
  readonly random?: () => number;
  /** Unix time in ms. */
  readonly now?: () => number;
}

interface FinishedPoll {
  readonly outcome: PollOutcome;
  /** Polls in a row, this one included, that were not answered or were told to slow down. */
  readonly failures: number;
  readonly intervalMs: number;
  readonly retryAfterS?: number | undefined;
}

/**
 * How long to wait after a poll, in ms, before jitter: the interval while all is well; doubling up to 16 intervals or 15
 * minutes after errors; up to 4 intervals or 5 minutes after a rate limit (doubling) or a refused key (at once). Never
 * less than the interval, nor than the remote asked for (up to an hour).
 */
export function nextPollInMs({ outcome, failures, intervalMs, retryAfterS = 0 }: FinishedPoll): number {
  const doubled = 2 ** Math.min(failures, 10);
  let waitMs = intervalMs;
  if (outcome === 'auth') waitMs = Math.min(intervalMs * REFUSED_MAX_INTERVALS, REFUSED_MAX_MS);
  else if (outcome === 'limited') {
    waitMs = Math.min(intervalMs * Math.min(doubled, REFUSED_MAX_INTERVALS), REFUSED_MAX_MS);
  } else if (outcome !== 'ok') {
    waitMs = Math.min(intervalMs * Math.min(doubled, FAILED_MAX_INTERVALS), FAILED_MAX_MS);
  }
  return Math.max(waitMs, intervalMs, Math.min(retryAfterS * 1000, RETRY_AFTER_MAX_MS));
}

/** One account's loop: what it said last and how its polls went. */
interface Lane {
  readonly account: Account;
  readonly poll: PollAccount;
  failures: number;
  /** Whether the last poll got an answer that could be recorded. */
  isDelivering: boolean;
  last?: PollResult;
}

/** The source `poller`. It is up while at least one account is answered and recorded. */
export class Poller {
  readonly #options: PollerOptions;
  readonly #random: () => number;
  readonly #now: () => number;
  readonly #stopping = new AbortController();
  readonly #lanes: readonly Lane[];
  #running: Promise<unknown> | undefined;

  constructor(options: PollerOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#now = options.now ?? Date.now;
    this.#lanes = options.pollers.map(({ account, poll }) => ({ account, poll, failures: 0, isDelivering: false }));
  }

  /** Polls every account at once, then each at its interval. A second call changes nothing. */
  start(): void {
    this.#running ??= Promise.all(this.#lanes.map((lane) => this.#run(lane)));
  }

  /** Ends polls under way and waits for records under way. May be called more than once; there is no new start. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /** Every polled account with what it said last, if it has said anything yet. */
  lastResults(): readonly { readonly account: Account; readonly result?: PollResult }[] {
    return this.#lanes.map(({ account, last }) => ({ account, ...(last ? { result: last } : {}) }));
  }

  async #run(lane: Lane): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const waitMs = await this.#pollOnce(lane);
      await pause(waitMs, signal);
    }
  }

  /** Returns how long to wait for the next poll, in ms. */
  async #pollOnce(lane: Lane): Promise<number> {
    const { account } = lane;
    const { signal } = this.#stopping;
    const { intervalMs, meter } = this.#options;
    const beganMs = performance.now();
    const poll = await this.#ask(lane);
    const seconds = (performance.now() - beganMs) / 1000;
    // What came of a poll that we cut short says nothing about the account.
    if (signal.aborted) return 0;

    const outcome = poll?.outcome ?? 'error';
    lane.failures = outcome === 'ok' || outcome === 'auth' ? 0 : lane.failures + 1;
    const retryAfterS = poll?.retryAfterS;
    const nominalMs = nextPollInMs({ outcome, failures: lane.failures, intervalMs, retryAfterS });
    meter.polled({
      provider: account.provider,
      account: account.id,
      result: outcome,
      seconds,
      intervalSeconds: nominalMs / 1000,
    });
    const isRecorded = poll !== undefined && (await this.#record(lane, poll.result));
    this.#tellHealth(lane, isRecorded && outcome !== 'error' && outcome !== 'timeout');

    const jitteredMs = nominalMs * (1 - JITTER + 2 * JITTER * this.#random());
    // Jitter must not shorten the time that the remote asked for.
    const leastMs = retryAfterS === undefined ? 0 : Math.min(retryAfterS * 1000, RETRY_AFTER_MAX_MS);
    return Math.min(Math.max(jitteredMs, leastMs), TIMER_MAX_MS);
  }

  async #ask(lane: Lane): Promise<Poll | undefined> {
    const { account } = lane;
    try {
      const poll = await lane.poll(this.#now(), this.#stopping.signal);
      if (poll.result.status !== lane.last?.status && !this.#stopping.signal.aborted) this.#tellStatus(poll.result);
      return poll;
    } catch (error) {
      // A poller should never throw. Its message might quote anything, so only its kind is told.
      const name = error instanceof Error ? error.name : typeof error;
      this.#options.log.error(
        { source: SOURCE, provider: account.provider, account: account.id, error: name },
        'a poll broke off inside the bridge; the account is asked again later',
      );
      return undefined;
    }
  }

  async #record(lane: Lane, result: PollResult): Promise<boolean> {
    lane.last = result;
    try {
      await this.#options.record(result);
      return true;
    } catch (error) {
      const name = error instanceof Error ? error.name : typeof error;
      this.#options.log.warn(
        { source: SOURCE, provider: result.provider, account: result.account, error: name },
        'a reading could not be recorded, so its metrics stay as they were; the next one is tried as usual',
      );
      return false;
    }
  }

  #tellHealth(lane: Lane, isDelivering: boolean): void {
    const { meter } = this.#options;
    lane.isDelivering = isDelivering;
    meter.up(
      SOURCE,
      this.#lanes.some((each) => each.isDelivering),
    );
    if (isDelivering) meter.success(SOURCE, this.#now());
  }

  #tellStatus({ provider, account, status, message }: PollResult): void {
    const level = status === 'ok' ? 'info' : 'warn';
    this.#options.log[level]({ source: SOURCE, provider, account, status }, message);
  }
}

/** Resolves after `ms`, or at once when `signal` aborts. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}
