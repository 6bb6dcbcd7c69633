// Asks the remotes of all accounts, each at its own pace, and records what they say. None waits for another.

import { performance } from 'node:perf_hooks';
import type { Log } from '../log.ts';
import type { OpencodeAccount } from '../poll/opencode-account.ts';
import type { PollOutcome, PollResult } from '../poll/poll-result.ts';
import type { Probe, ProbeReport } from '../poll/probe.ts';

const SOURCE = 'poller';
/** Spreads polls of many bridges, so that they do not arrive at the remote together. */
const JITTER = 0.1;
/** A remote that is away or asks to slow down is asked ever more rarely, up to this. */
const FAILED_MAX_MS = 15 * 60_000;
/** A refused credential is mended by people; a changed one is noticed before. */
const REFUSED_MS = 10 * 60_000;
/** A remote that asks to be left alone for longer is asked again all the same. */
const RETRY_AFTER_MAX_MS = 3600_000;
/** How often it is looked whether a credential has changed, so that a mended one shows soon. */
const CREDENTIAL_WATCH_MS = 5000;

/** Where polls are counted. */
export interface PollMeter {
  polled(poll: {
    provider: string;
    account: string;
    result: PollOutcome;
    seconds: number;
    /** The shortest interval at which the account is polled now, back-off included and jitter not. */
    intervalSeconds: number;
  }): void;
  routeUp(route: { provider: string; account: string; route: string }, isUp: boolean): void;
  up(source: string, isUp: boolean): void;
  success(source: string, atMs: number): void;
}

export interface PollerOptions {
  readonly accounts: readonly Pick<OpencodeAccount, 'account' | 'probes' | 'poll'>[];
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
 * How long to wait after a poll, in ms, before jitter: the interval while all is well; doubling up to 15 minutes after
 * errors and rate limits; 10 minutes after a refused credential. Never less than the interval, nor than the remote asked
 * for (up to an hour).
 */
export function nextPollInMs({ outcome, failures, intervalMs, retryAfterS = 0 }: FinishedPoll): number {
  let waitMs = intervalMs;
  if (outcome === 'auth') waitMs = REFUSED_MS;
  else if (outcome !== 'ok') waitMs = Math.min(intervalMs * 2 ** Math.min(failures, 10), FAILED_MAX_MS);
  return Math.max(waitMs, intervalMs, Math.min(retryAfterS * 1000, RETRY_AFTER_MAX_MS));
}

/** The loop of one remote of one account. */
interface Lane {
  readonly polled: PollerOptions['accounts'][number];
  readonly probe: Probe;
  failures: number;
  nominalMs: number;
  /** Whether the last poll got an answer that could be recorded. */
  isDelivering: boolean;
}

/** The source `poller`. It is up while at least one remote is answered and recorded. */
export class Poller {
  readonly #options: PollerOptions;
  readonly #random: () => number;
  readonly #now: () => number;
  readonly #stopping = new AbortController();
  readonly #lanes: readonly Lane[];
  /** What each account's status was when it was last told. */
  readonly #told = new Map<string, string>();
  #running: Promise<unknown> | undefined;

  constructor(options: PollerOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#now = options.now ?? Date.now;
    this.#lanes = options.accounts.flatMap((polled) =>
      polled.probes.map((probe) => ({
        ...{ polled, probe, failures: 0, isDelivering: false },
        nominalMs: probe.intervalMs,
      })),
    );
  }

  /** Asks every remote at once, then each at its interval. A second call changes nothing. */
  start(): void {
    this.#running ??= Promise.all(this.#lanes.map((lane) => this.#run(lane)));
  }

  /** Ends polls under way and waits for records under way. May be called more than once; there is no new start. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(lane: Lane): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let waitMs = await this.#pollOnce(lane);
      for (; waitMs > 0 && !signal.aborted; waitMs -= CREDENTIAL_WATCH_MS) {
        await pause(Math.min(waitMs, CREDENTIAL_WATCH_MS), signal);
        if (lane.probe.hasNewCredential()) break;
      }
    }
  }

  /** Returns how long to wait for the next poll, in ms. */
  async #pollOnce(lane: Lane): Promise<number> {
    const { polled, probe } = lane;
    const { provider, id: account } = polled.account;
    const { signal } = this.#stopping;
    const { meter } = this.#options;
    const beganMs = performance.now();
    const poll = await this.#ask(lane);
    const seconds = (performance.now() - beganMs) / 1000;
    // What came of a poll that we cut short says nothing about the account.
    if (signal.aborted) return 0;

    const outcome = poll?.report.outcome ?? 'error';
    lane.failures = outcome === 'ok' || outcome === 'auth' ? 0 : lane.failures + 1;
    const retryAfterS = poll?.report.retryAfterS;
    lane.nominalMs = nextPollInMs({ outcome, failures: lane.failures, intervalMs: probe.intervalMs, retryAfterS });
    const shortestMs = Math.min(...this.#lanes.filter((each) => each.polled === polled).map((each) => each.nominalMs));
    meter.polled({ provider, account, result: outcome, seconds, intervalSeconds: shortestMs / 1000 });
    for (const { route, state } of poll?.report.routes ?? [])
      meter.routeUp({ provider, account, route }, state === 'ok');
    const isRecorded = poll !== undefined && (await this.#record(poll.result));
    this.#tellHealth(lane, isRecorded && outcome !== 'error' && outcome !== 'timeout');

    const jitteredMs = lane.nominalMs * (1 - JITTER + 2 * JITTER * this.#random());
    // Jitter must not shorten the time that the remote asked for.
    const leastMs = retryAfterS === undefined ? 0 : Math.min(retryAfterS * 1000, RETRY_AFTER_MAX_MS);
    return Math.max(jitteredMs, leastMs);
  }

  async #ask({ polled, probe }: Lane): Promise<{ report: ProbeReport; result: PollResult } | undefined> {
    const { provider, id: account } = polled.account;
    try {
      const poll = await polled.poll(probe, this.#now(), this.#stopping.signal);
      if (!this.#stopping.signal.aborted) this.#tellStatus(poll.result);
      return poll;
    } catch (error) {
      // A probe should never throw. Its message might quote anything, so only its kind is told.
      const name = error instanceof Error ? error.name : typeof error;
      this.#options.log.error(
        { source: SOURCE, provider, account, error: name },
        'a poll broke off inside the bridge; the account is asked again later',
      );
      return undefined;
    }
  }

  async #record(result: PollResult): Promise<boolean> {
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
    const key = `${provider}/${account}`;
    if (this.#told.get(key) === status) return;
    this.#told.set(key, status);
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
