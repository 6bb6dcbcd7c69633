// What every poller of an account hands to the source that runs it.

import type { PollOutcome, PollResult } from './poll-result.ts';

/** One finished poll. */
export interface Poll {
  readonly result: PollResult;
  readonly outcome: PollOutcome;
  /** How long the remote asked us to stay away, in seconds (≥ 0, as it said it). */
  readonly retryAfterS?: number;
}

/**
 * Polls one account once. Never rejects for what a remote does.
 * @param nowMs Unix time at which the reading is dated
 * @param signal ends the poll early; its result is then not to be used
 */
export type PollAccount = (nowMs: number, signal: AbortSignal) => Promise<Poll>;
