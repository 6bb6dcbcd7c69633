// One dated reading of one account. A field that was not learned is absent; absent is not zero.

export const ACCOUNT_STATUSES = [
  'ok',
  'near_limit',
  'limited',
  'auth_required',
  'unsupported',
  'error',
  'unknown',
] as const;
export type AccountStatus = (typeof ACCOUNT_STATUSES)[number];

/** How a poll ended; the label of `tollbridge_polls_total`. */
export const POLL_OUTCOMES = ['ok', 'auth', 'limited', 'error', 'timeout'] as const;
export type PollOutcome = (typeof POLL_OUTCOMES)[number];

/** A plan window, for example "15 % of the 5-hour allowance is used; it starts anew at …". */
export interface Quota {
  readonly quota: string;
  /** As people say it: `5h`, `7d`, `month`. */
  readonly window: string;
  /** 0..1. */
  readonly usedRatio: number;
  readonly resetMs?: number;
}

export interface ModelInfo {
  readonly id: string;
  readonly ownedBy: string;
}

/** What one account said at one moment. */
export interface PollResult {
  readonly provider: string;
  readonly account: string;
  readonly takenMs: number;
  readonly status: AccountStatus;
  /** One line for people, in our own words; never text of a response. */
  readonly message: string;
  readonly authScope?: string;
  readonly models?: readonly ModelInfo[];
  readonly quotas?: readonly Quota[];
  /** When each route last answered well; a route's values expire on their own. */
  readonly routes: Readonly<Record<string, number>>;
  /** After this moment without a newer good reading, values are no longer shown. */
  readonly intervalMs: number;
}
