// Accounts whose remotes answer as a test says, a clock of the test's own, and a witness of all that a poller tells.

import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { setImmediate as turnOfLoop } from 'node:timers/promises';
import { createLog } from '../../src/log.ts';
import type { AccountStatus, PollOutcome, PollResult } from '../../src/poll/poll-result.ts';
import type { Probe, ProbeReport } from '../../src/poll/probe.ts';
import type { PollerOptions, PollMeter } from '../../src/sources/poller.ts';

export const INTERVAL_MS = 30_000;
export const MINUTE_MS = 60_000;
const STEP_MS = 1000;
export const KEY = ['sk', 'EXAMPLE', 'zen'].join('-');

export type Polled = PollerOptions['accounts'][number];
/** What one poll of a probe comes to. */
export type Play = (
  nowMs: number,
  signal: AbortSignal | undefined,
) => Promise<{ outcome: PollOutcome; retryAfterS?: number; routes?: ProbeReport['routes'] }>;

/** An account with one remote that answers as `play` says. */
export function polled(
  id: string,
  play: Play,
  { intervalMs = INTERVAL_MS, hasNewCredential = (): boolean => false } = {},
): Polled {
  const probe: Probe = {
    name: 'zen',
    intervalMs,
    hasNewCredential,
    ask: () => assert.fail('asked by its account only'),
  };
  return {
    account: { provider: 'opencode', id, foundIn: 'tollbridge.yaml' },
    probes: [probe],
    poll: async (asked, nowMs, signal) => {
      assert.equal(asked, probe);
      const { routes = [], ...report } = await play(nowMs, signal);
      return { report: { ...report, readings: [], routes }, result: resultOf(id, nowMs, report.outcome) };
    },
  };
}

const STATUS_OF: Record<PollOutcome, AccountStatus> = {
  ok: 'ok',
  auth: 'auth_required',
  limited: 'limited',
  error: 'error',
  timeout: 'error',
};

export function resultOf(id: string, takenMs: number, outcome: PollOutcome = 'ok'): PollResult {
  return {
    provider: 'opencode',
    account: id,
    takenMs,
    status: STATUS_OF[outcome],
    message: outcome,
    statusHoldsMs: 3 * INTERVAL_MS,
    readings: [],
  };
}

/** Everything that a poller tells, and log lines as text. */
export function witness() {
  const polls: { account: string; result: PollOutcome; intervalSeconds: number }[] = [];
  const ups: boolean[] = [];
  const successes: number[] = [];
  const lines: string[] = [];
  const routes: string[] = [];
  const meter: PollMeter = {
    routeUp: ({ provider, account, route }, isUp) => routes.push(`${provider}/${account} ${route} ${isUp}`),
    polled: ({ account, result, intervalSeconds, seconds, provider }) => {
      assert.ok(seconds >= 0 && provider === 'opencode');
      polls.push({ account, result, intervalSeconds });
    },
    up: (source, isUp) => ups.push(isUp) && assert.equal(source, 'poller'),
    success: (source, atMs) => successes.push(atMs) && assert.equal(source, 'poller'),
  };
  const log = createLog('debug', { write: (line: string) => lines.push(line) });
  return { polls, ups, successes, routes, lines, meter, log };
}

/** Lets everything run that waits for nothing but the loop. */
export async function settle(): Promise<void> {
  for (let n = 0; n < 5; n += 1) await turnOfLoop();
}

export function mockTime(t: TestContext): (ms: number) => Promise<void> {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.UTC(2026, 10, 21) });
  return async (ms) => {
    // A long wait is a chain of short ones: each is armed when the one before has ended.
    for (let left = ms; left > 0; left -= STEP_MS) {
      t.mock.timers.tick(Math.min(left, STEP_MS));
      await settle();
    }
  };
}
