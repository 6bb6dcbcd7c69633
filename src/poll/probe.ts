// What asks one remote about one account. An account may have several: the API key's routes and the console's are
// asked at different paces, with different credentials, and neither waits for the other.

import type { AccountStatus, PollOutcome, RouteReading } from './poll-result.ts';

/** How a route answered when it was last asked. `refused`: this credential may not see it. `missing`: no such route. */
export const ROUTE_STATES = ['ok', 'refused', 'missing', 'limited', 'error', 'timeout'] as const;
export type RouteState = (typeof ROUTE_STATES)[number];

/** For people, and for `tollbridge_poll_route_up`. */
export interface RouteReport {
  /** As readings name it: `models`, `go/usage`, `billing/status`. */
  readonly route: string;
  /** What it tells, in two or three words: `balance`, `monthly limit`. */
  readonly tells: string;
  readonly state: RouteState;
  /** What is wrong, in our own words. Absent when nothing is. */
  readonly problem?: string;
}

/** What keeps a whole remote from being read. */
export interface Trouble {
  readonly status: Extract<AccountStatus, 'auth_required' | 'error' | 'limited'>;
  /** What happened and what to do, one line in our own words; never text of a response. */
  readonly message: string;
}

/** One finished poll of one remote. */
export interface ProbeReport {
  readonly outcome: PollOutcome;
  /** Each route's last good answer, as long as it has not expired. */
  readonly readings: readonly RouteReading[];
  readonly routes: readonly RouteReport[];
  readonly trouble?: Trouble;
  /** Short form of what the credential opens: `zen`, `console`. Absent without one. */
  readonly scope?: string;
  /** How long the remote asked us to stay away, in seconds (≥ 0, as it said it). */
  readonly retryAfterS?: number;
}

export interface Probe {
  readonly name: 'zen' | 'console' | 'console_legacy';
  /** How often it is asked while all is well. */
  readonly intervalMs: number;
  /** Whether there is another credential than the last poll used, so that it is worth asking at once. Cheap. */
  hasNewCredential(): boolean;
  /**
   * Asks once. Never rejects for what a remote does.
   * @param nowMs Unix time at which answers are dated
   * @param signal ends the poll early; its report is then not to be used
   */
  ask(nowMs: number, signal?: AbortSignal): Promise<ProbeReport>;
}
