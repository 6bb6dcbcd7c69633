// What a reading of an account shows as gauges. A fact that was not learned, or has expired, sets none.

import type { Plan, PollResult, Quota, Reload, SpendLimit } from '../poll/poll-result.ts';
import { type MetricFamily, TOLL } from './catalogue.ts';

/** Adds a point in the ledger's units; an unknown value adds none. */
export type SetGauge = (
  family: MetricFamily,
  labels: Readonly<Record<string, string | undefined>>,
  value: number | undefined,
) => void;

type AccountLabels = Readonly<{ provider: string; account: string }>;

/** Sets every gauge of one account but its state and its drift. @param result without what has expired */
export function pollGauges(result: PollResult, set: SetGauge): void {
  const { provider, account, readings } = result;
  const labels: AccountLabels = { provider, account };
  setInfo(result, set);
  set(TOLL.snapshotTimestamp, labels, lastReadMs(result));
  for (const { facts } of readings) {
    for (const { kind, currency, nano } of facts.balances ?? []) set(TOLL.balance, { ...labels, kind, currency }, nano);
    for (const limit of facts.spendLimits ?? []) setSpendLimit(labels, limit, set);
    if (facts.reload) setReload(labels, facts.reload, set);
    for (const quota of facts.quotas ?? []) setQuota(labels, quota, set);
    set(TOLL.modelsAvailable, labels, facts.models?.length ?? facts.modelsAvailable);
    for (const { id, ownedBy } of facts.models ?? []) {
      set(TOLL.modelInfo, { ...labels, model: id, owned_by: ownedBy }, 1);
    }
    for (const { nano, ...rest } of facts.reportedCosts ?? []) {
      const family = rest.model === undefined ? TOLL.reportedCost : TOLL.reportedModelCost;
      set(family, { ...labels, ...rest }, nano);
    }
    for (const { tokens, tokenType, ...rest } of facts.reportedTokens ?? []) {
      const family = rest.model === undefined ? TOLL.reportedTokens : TOLL.reportedModelTokens;
      set(family, { ...labels, ...rest, token_type: tokenType }, tokens);
    }
    for (const { value, ...rest } of facts.reportedValues ?? []) set(TOLL.reportedValue, { ...labels, ...rest }, value);
  }
}

function setInfo({ provider, account, readings, displayName, authScope, machine }: PollResult, set: SetGauge): void {
  const plans = readings.flatMap(({ facts }) => facts.plan ?? []);
  const { name, isSubscribed } = paidBy(plans) ?? {};
  const info = {
    ...{ provider, account, display_name: displayName, plan: name },
    subscription: isSubscribed === undefined ? undefined : String(isSubscribed),
    ...{ auth_scope: authScope, machine },
  };
  set(TOLL.accountInfo, info, 1);
}

/** Of several plans of one account, a subscription says more than paying as one goes. */
export function paidBy(plans: readonly Plan[]): Plan | undefined {
  return plans.find(({ isSubscribed }) => isSubscribed) ?? plans.find(({ name }) => name) ?? plans[0];
}

/** When the account last said something that still holds; a reported reading is as old as it says itself. */
function lastReadMs({ readings, takenMs }: PollResult): number | undefined {
  const times = readings.map(({ route, readMs }) => (route === 'reported' ? Math.min(readMs, takenMs) : readMs));
  return times.length > 0 ? Math.max(...times) : undefined;
}

function setSpendLimit(labels: AccountLabels, stated: SpendLimit, set: SetGauge): void {
  const { limit, currency, limitNano, usedNano, resetMs } = stated;
  set(TOLL.spendLimit, { ...labels, limit, currency }, limitNano);
  set(TOLL.spendLimitUsed, { ...labels, limit, currency }, usedNano);
  set(TOLL.spendLimitReset, { ...labels, limit }, resetMs);
}

function setReload(labels: AccountLabels, reload: Reload, set: SetGauge): void {
  const { currency, triggerNano, amountNano, isEnabled, isFailing } = reload;
  const flag = (value: boolean | undefined) => (value === undefined ? undefined : Number(value));
  set(TOLL.reloadTrigger, { ...labels, currency }, triggerNano);
  set(TOLL.reloadAmount, { ...labels, currency }, amountNano);
  set(TOLL.reloadEnabled, labels, flag(isEnabled));
  set(TOLL.reloadFailing, labels, flag(isFailing));
}

function setQuota(labels: AccountLabels, stated: Quota, set: SetGauge): void {
  const { quota, window, unit, limit, used, remaining, usedRatio, resetMs } = stated;
  set(TOLL.quotaUsedRatio, { ...labels, quota, window }, usedRatio);
  set(TOLL.quotaReset, { ...labels, quota, window }, resetMs);
  set(TOLL.quotaLimit, { ...labels, quota, window, unit }, limit);
  set(TOLL.quotaUsed, { ...labels, quota, window, unit }, used);
  set(TOLL.quotaRemaining, { ...labels, quota, window, unit }, remaining);
}
