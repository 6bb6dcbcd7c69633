// What the ledger shows to those who read it. Numbers are integers in the ledger's own units (nano-USD, ms, tokens);
// a metric family's `scale` turns them into exported units.

import type { BudgetRule } from '../config-policy.ts';
import type { PollResult } from '../poll/poll-result.ts';
import type { PricingState } from '../turn/turn-event.ts';

/** Label names and values of one series, in the order of the family's labels. The same object for the series' whole life. */
export type Labels = Readonly<Record<string, string>>;

/** How the newest turn of a model was priced; what it consists of are the labels of its series. */
export type ModelPricing = Readonly<{ provider: string; model: string; state: PricingState }>;

export interface CounterPoint {
  readonly labels: Labels;
  readonly value: number;
}

export interface HistogramPoint {
  readonly labels: Labels;
  /**
   * Observations per bucket, not cumulative; one more than the family has bounds, the last for +Inf. A later observation
   * brings another array, so this one may be kept.
   */
  readonly counts: readonly number[];
  readonly sum: number;
  /** All observations: the sum of `counts`. */
  readonly count: number;
}

export const WINDOWS = ['today', '3d', '7d', '30d', 'month', 'all'] as const;
export type Window = (typeof WINDOWS)[number];

/** How often something is to be counted that rules, or their absence, have led to. */
export interface PolicyCount {
  readonly counter: 'policyVerdicts' | 'policyUnchecked';
  readonly labels: Labels;
  readonly times: number;
}

/** Net sums of the turns of one (upstream provider, provider, model) in one window. */
export interface WindowRow {
  readonly window: Window;
  readonly upstreamProvider: string;
  readonly provider: string;
  readonly model: string;
  readonly costNano: number;
  readonly tokens: { readonly withoutCacheRead: number; readonly cacheRead: number };
  readonly turns: number;
  /**
   * Turns whose cost is known and in `costNano`: stated, free or included. Estimated ones are not: `costNano` is then
   * less than was paid. It says nothing when this is 0 and `turns` is not.
   */
  readonly pricedTurns: number;
}

/** What may be limited, and what one of it is in the ledger: money is kept in nano-USD. */
export const UNIT_SCALE = { usd: 1e9, tokens: 1, turns: 1 } as const;
export type SpendUnit = keyof typeof UNIT_SCALE;

/** Where a budget or cap stands. Amounts are integers of its unit; USD in nano. */
export interface Standing {
  readonly kind: 'budget' | 'cap';
  readonly name: string;
  readonly unit: SpendUnit;
  readonly limit: number;
  /** Of a budget: net in this period, stated and estimated cost together. Of a cap: what has not drained yet. */
  readonly spent: number;
  /** Unix ms. Of a cap at its limit, `endMs` is when something is left again. */
  readonly startMs: number;
  readonly endMs: number;
  /** The most that one turn of the last hour took; absent when there was none. */
  readonly dearest?: number;
  /** Whose spending a budget is, how it is told of and enforced; a cap has none of it. */
  readonly rule?: Pick<BudgetRule, 'scope' | 'period' | 'hard' | 'warn_at'>;
}

/** The read side of the ledger. Only committed state is ever visible. */
export interface LedgerReading {
  /** When this ledger began to count, Unix ms. */
  readonly createdMs: number;
  /** Which part of the turns it holds, as `k/N`; undefined where it holds all of them. */
  readonly partition?: string | undefined;
  /** All series of a counter family, by the family's Prometheus name. */
  counters(family: string): Iterable<CounterPoint>;
  histograms(family: string): Iterable<HistogramPoint>;
  /** Every (upstream, provider, model) ever seen, in every window; zeros where a window holds none of its turns. */
  windowRows(): readonly WindowRow[];
  /** When a window that ends now begins, Unix ms; 0 for `all`. */
  windowStartMs(window: Window): number;
  /** Distinct sessions with a turn in the window that any of these upstream providers served. */
  windowSessions(window: Window, upstreamProviders: readonly string[]): number;
  /** Turns that began more than 15 minutes ago and never finished. */
  unfinishedTurns(): readonly { readonly agent: string; readonly provider: string; readonly turns: number }[];
  /** The same objects until one changes. */
  pricingStates(): readonly ModelPricing[];
  /** Every upstream provider that a turn was ever booked under. */
  upstreamProviders(): readonly string[];
  /** Where every configured budget and cap stands now. */
  standings(): readonly Standing[];
  /** What is known of every account that a poll told of, without what has expired. */
  pollResults(): readonly PollResult[];
  /**
   * What the account's USD balance lost in a window, and what its turns cost, over the same intervals between readings:
   * those that lie within it and in which no top-up of unknown size hides the loss. Undefined without such an interval.
   */
  balanceComparison(
    provider: string,
    account: string,
    window: Window,
  ): { readonly fell: number; readonly observed: number; readonly unattributed: number } | undefined;
  sizeBytes(): number;
}
