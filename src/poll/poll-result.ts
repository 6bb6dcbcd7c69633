// One dated reading of one account, as the ledger keeps it. It has room for numbers, names and ids that are labels, and
// for nothing else: no text of a response, no credential, no id of an organisation. What was not learned is absent;
// absent is not zero.

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

/** What a route said is shown for this many of its intervals after its last good answer, whatever the back-off. */
export const EXPIRES_AFTER_INTERVALS = 3;

/** Integer ≥ or ≤ 0 in billionths of its currency: nano-USD, nano-EUR. Currencies are never converted or added up. */
export type Nano = number;

/** What is left in an account. The kinds of one account are disjoint: they may be added up within a currency. */
export interface Balance {
  readonly kind: string;
  /** ISO 4217, for example `USD`. */
  readonly currency: string;
  readonly nano: Nano;
  /**
   * Whose money it is, as a digest that tells nothing but whether two are the same. Where it changes, the account's key
   * was exchanged for that of another, and the difference of two balances is no spending.
   */
  readonly owner?: string;
}

/** An agreed limit on spending, for example per month. */
export interface SpendLimit {
  readonly limit: string;
  readonly currency: string;
  readonly limitNano?: Nano;
  readonly usedNano?: Nano;
  readonly resetMs?: number;
  /** For ever, not per period: a high share of it is no alarm. */
  readonly isLifetime?: true;
}

/** What happens when the balance runs low. */
export interface Reload {
  readonly currency: string;
  readonly triggerNano?: Nano;
  readonly amountNano?: Nano;
  readonly isEnabled?: boolean;
  readonly isFailing?: boolean;
}

/** A plan window or rate limit, for example "15 % of the 5-hour allowance is used; it starts anew at …". */
export interface Quota {
  readonly quota: string;
  /** One of a closed set, as people say it: `5h`, `7d`, `month`. */
  readonly window: string;
  /** Of what `limit`, `used` and `remaining` count: `percent`, `requests`, `tokens`, `usd`, … */
  readonly unit: string;
  readonly limit?: number;
  readonly used?: number;
  readonly remaining?: number;
  /** 0..1. */
  readonly usedRatio?: number;
  readonly resetMs?: number;
  /** The provider says that it is used up, whatever the share says. */
  readonly isExhausted?: true;
  /** Refills by itself within minutes or by the day: no allowance of a plan. */
  readonly isRateLimit?: true;
}

export interface ModelInfo {
  readonly id: string;
  readonly ownedBy: string;
}

/** A cost that the provider states; never added to what turns state. */
export interface ReportedCost {
  readonly window: string;
  readonly currency: string;
  readonly nano: Nano;
  /** Of this model only. */
  readonly model?: string;
  /** Which of the provider's products it was, where it sells several under one account. */
  readonly product?: string;
}

export interface ReportedTokens {
  readonly window: string;
  readonly tokenType: string;
  readonly tokens: number;
  readonly model?: string;
  readonly product?: string;
}

/** Anything else of an allow-list that a snapshot holds. */
export interface ReportedValue {
  readonly metric: string;
  readonly field: 'used' | 'limit' | 'remaining';
  readonly unit: string;
  readonly window: string;
  readonly value: number;
}

/** How the account is paid for. */
export interface Plan {
  readonly name?: string;
  readonly isSubscribed?: boolean;
  /** A subscription that, once used up, goes on drawing on the balance. */
  readonly drawsOnBalance?: boolean;
}

/** What one route said. */
export interface Facts {
  readonly balances?: readonly Balance[];
  readonly spendLimits?: readonly SpendLimit[];
  readonly reload?: Reload;
  readonly quotas?: readonly Quota[];
  readonly models?: readonly ModelInfo[];
  /** Where only their number is known. */
  readonly modelsAvailable?: number;
  readonly reportedCosts?: readonly ReportedCost[];
  readonly reportedTokens?: readonly ReportedTokens[];
  readonly reportedValues?: readonly ReportedValue[];
  readonly plan?: Plan;
}

/** The last good answer of one route of a remote. Routes fail and expire each on its own. */
export interface RouteReading {
  readonly route: string;
  /** When it answered, Unix ms. */
  readonly readMs: number;
  /** How often it is asked; by it the answer expires. */
  readonly intervalMs: number;
  readonly facts: Facts;
}

/** What is known of one account at one moment. */
export interface PollResult {
  readonly provider: string;
  readonly account: string;
  readonly takenMs: number;
  readonly status: AccountStatus;
  /** How long after `takenMs` the status holds, unless something newer is said; after that it is `unknown`. */
  readonly statusHoldsMs: number;
  /** One line for people, in our own words; never text of a response. */
  readonly message: string;
  readonly authScope?: string;
  readonly displayName?: string;
  /** Which machine reported it, where another one did. */
  readonly machine?: string;
  readonly readings: readonly RouteReading[];
}

/** Until when an answer is shown, Unix ms. */
export function expiresMs({ readMs, intervalMs }: Pick<RouteReading, 'readMs' | 'intervalMs'>): number {
  return readMs + EXPIRES_AFTER_INTERVALS * intervalMs;
}

/**
 * What of a reading still holds at `nowMs`: answers that have not expired; of a period that has begun anew since, no
 * share, because nobody knows it yet; and a status that is `unknown` once nothing holds it up.
 */
export function currentResult(result: PollResult, nowMs: number): PollResult {
  const readings = result.readings
    .filter((reading) => nowMs < expiresMs(reading))
    .map((reading) => ({ ...reading, facts: currentFacts(reading.facts, nowMs) }));
  const holds = nowMs < result.takenMs + result.statusHoldsMs;
  return { ...result, readings, status: holds ? result.status : 'unknown' };
}

function currentFacts(facts: Facts, nowMs: number): Facts {
  const isOver = ({ resetMs }: { readonly resetMs?: number }) => resetMs !== undefined && resetMs <= nowMs;
  const { quotas, spendLimits } = facts;
  return {
    ...facts,
    ...(quotas && { quotas: quotas.filter((quota) => !isOver(quota)) }),
    ...(spendLimits && {
      spendLimits: spendLimits.map((limit) => {
        if (!isOver(limit)) return limit;
        const { usedNano: _used, resetMs: _reset, ...agreed } = limit;
        return agreed;
      }),
    }),
  };
}
