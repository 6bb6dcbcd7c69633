// How an account stands by what is known of it: whether something is used up, or nearly so.

import type { Balance, Facts, Quota, Reload, SpendLimit } from './poll-result.ts';

/** From this share on a limit is near. */
export const NEAR_LIMIT_RATIO = 0.8;

/**
 * The worst that any limit shows. What refills by itself within minutes (rate limits) and what counts for ever (bought
 * credits) says nothing.
 */
export function standingOf(facts: readonly Facts[]): 'ok' | 'near_limit' | 'limited' {
  const shares = [
    ...facts.flatMap(({ quotas = [] }) => quotas.map(shareOfQuota)),
    ...facts.flatMap(({ spendLimits = [] }) => spendLimits.map(shareOfLimit)),
  ];
  const worst = Math.max(0, ...shares);
  if (worst >= 1) return 'limited';
  const reload = facts.flatMap((each) => each.reload ?? [])[0];
  const isLow = facts.some(({ balances = [] }) => balances.some((balance) => isBelowTrigger(balance, reload)));
  return worst >= NEAR_LIMIT_RATIO || isLow ? 'near_limit' : 'ok';
}

function shareOfQuota({ isRateLimit, isExhausted, usedRatio = 0 }: Quota): number {
  if (isRateLimit) return 0;
  return isExhausted ? 1 : usedRatio;
}

function shareOfLimit({ isLifetime, limitNano, usedNano }: SpendLimit): number {
  if (isLifetime || limitNano === undefined || usedNano === undefined) return 0;
  // Of nothing, all is used.
  return limitNano > 0 ? usedNano / limitNano : 1;
}

/** Whether a balance is so low that it would be topped up, and will not be. */
function isBelowTrigger({ nano, currency }: Balance, reload: Reload | undefined): boolean {
  if (reload?.triggerNano === undefined || reload.currency !== currency) return false;
  return nano < reload.triggerNano && (reload.isEnabled === false || reload.isFailing === true);
}
