// Drift, "unexplained" to people: what an account's balance lost beyond what its turns cost. It is told only where both
// sides are about the same money; otherwise the reason is.

import type { LedgerReading, Window } from '../ledger/reading.ts';
import type { PollResult } from '../poll/poll-result.ts';
import { paidBy } from './account-gauges.ts';

const WINDOWS = ['today', '7d', '30d'] as const satisfies readonly Window[];
/** The one plan whose turns have a provider of their own, so that the account's other turns can still be compared. */
const SEPARATE_PLAN = { plan: 'go', provider: 'opencode' };

/** Why nothing can be said. */
export type DriftGap =
  /** This ledger holds only a part of the turns. */
  | 'partition'
  /** No balance is known now. */
  | 'no_balance'
  /** The balance is in another currency than what turns cost. */
  | 'currency'
  /** A subscription pays for turns, or draws on the balance beside them. */
  | 'subscription'
  /** Turns at this provider do not say which account paid. */
  | 'unattributed'
  /** There are no two readings of the balance yet between which nothing but spending happened. */
  | 'too_new';

export interface Drift {
  readonly windows: readonly {
    readonly window: Window;
    /** Nano-USD; negative where turns cost more than the balance lost. */
    readonly nano: number;
    /** Share of what the balance lost; absent where it lost nothing. */
    readonly ratio?: number;
  }[];
  /** Why there is no more; absent where every window is told. */
  readonly gap?: DriftGap;
}

/**
 * Compares an account that turns are labelled with.
 * @param result what is known of it; undefined when nothing is
 */
export function driftOf(
  reading: Pick<LedgerReading, 'balanceComparison' | 'partition'>,
  result: PollResult | undefined,
): Drift {
  const gap = reading.partition !== undefined ? 'partition' : result ? gapOf(result) : 'no_balance';
  if (!result || gap) return { windows: [], ...(gap ? { gap } : {}) };
  const { provider, account } = result;
  const compared = WINDOWS.map((window) => ({ window, sums: reading.balanceComparison(provider, account, window) }));
  const windows = compared.flatMap(({ window, sums }) => {
    if (!sums || sums.unattributed > 0) return [];
    const nano = sums.fell - sums.observed;
    return { window, nano, ...(sums.fell > 0 ? { ratio: nano / sums.fell } : {}) };
  });
  if (windows.length === WINDOWS.length) return { windows };
  const isUnattributed = compared.some(({ sums }) => sums && sums.unattributed > 0);
  return { windows, gap: isUnattributed ? 'unattributed' : 'too_new' };
}

function gapOf({ readings, provider }: PollResult): DriftGap | undefined {
  const balances = readings.flatMap(({ facts }) => facts.balances ?? []);
  if (balances.length === 0) return 'no_balance';
  if (!balances.some(({ currency }) => currency === 'USD')) return 'currency';
  const plans = readings.flatMap(({ facts }) => facts.plan ?? []);
  const plan = paidBy(plans);
  const isSeparate = plan?.name === SEPARATE_PLAN.plan && provider === SEPARATE_PLAN.provider;
  const paysForTurns = plan?.isSubscribed === true && !isSeparate;
  return paysForTurns || plans.some(({ drawsOnBalance }) => drawsOnBalance) ? 'subscription' : undefined;
}
