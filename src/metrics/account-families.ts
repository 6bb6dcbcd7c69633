// The part of the catalogue that is about accounts: what polls report. All gauges vanish when unknown or expired.

import { family, type MetricFamily, NOT_ADDITIVE } from './metric-family.ts';

const NANO = 1e9;
const MS = 1e3;
const ACCOUNT = ['provider', 'account'] as const;

export const ACCOUNT_FAMILIES = {
  accountInfo: family('toll_account_info', {
    type: 'gauge',
    unit: '{info}',
    labels: [...ACCOUNT, 'display_name', 'plan', 'subscription', 'auth_scope', 'machine'],
    optional: ['display_name', 'plan', 'subscription', 'auth_scope', 'machine'],
    help: 'A configured or detected account.',
  }),
  accountStatus: family('toll_account_status', {
    type: 'gauge',
    unit: '{state}',
    labels: [...ACCOUNT, 'status'],
    help: 'State of an account: 1 for the state it is in, 0 for the others.',
  }),
  balance: family('toll_balance', {
    type: 'gauge',
    unit: '{currency}',
    scale: NANO,
    labels: [...ACCOUNT, 'kind', 'currency'],
    help: 'What is left in an account, in the unit of its currency; may be negative. Kinds are disjoint; never add up currencies.',
  }),
  balanceSpent: family('toll_balance_spent_total', {
    type: 'counter',
    unit: '{currency}',
    scale: NANO,
    labels: [...ACCOUNT, 'kind', 'currency'],
    help: 'What readings of a balance show to have been spent: a lower bound, because spending and top-ups between two readings net out.',
  }),
  balanceTopup: family('toll_balance_topup_total', {
    type: 'counter',
    unit: '{currency}',
    scale: NANO,
    labels: [...ACCOUNT, 'kind', 'currency'],
    help: 'What readings of a balance show to have been topped up.',
  }),
  spendLimit: family('toll_spend_limit', {
    type: 'gauge',
    unit: '{currency}',
    scale: NANO,
    labels: [...ACCOUNT, 'limit', 'currency'],
    help: 'A limit on spending, for example limit="monthly". Absent where none is set or nothing is known of it.',
  }),
  spendLimitUsed: family('toll_spend_limit_used', {
    type: 'gauge',
    unit: '{currency}',
    scale: NANO,
    labels: [...ACCOUNT, 'limit', 'currency'],
    help: 'What counts towards a limit on spending, as the provider states it.',
  }),
  spendLimitReset: family('toll_spend_limit_reset_timestamp_seconds', {
    type: 'gauge',
    unit: 's',
    scale: MS,
    labels: [...ACCOUNT, 'limit'],
    help: 'When the period of a limit on spending starts anew, Unix time.',
  }),
  reloadTrigger: family('toll_reload_trigger', {
    type: 'gauge',
    unit: '{currency}',
    scale: NANO,
    labels: [...ACCOUNT, 'currency'],
    help: 'The balance below which an account is topped up automatically, if that is switched on.',
  }),
  reloadAmount: family('toll_reload_amount', {
    type: 'gauge',
    unit: '{currency}',
    scale: NANO,
    labels: [...ACCOUNT, 'currency'],
    help: 'How much an automatic top-up adds.',
  }),
  reloadEnabled: family('toll_reload_enabled', {
    type: 'gauge',
    unit: '{state}',
    labels: ACCOUNT,
    help: 'Whether the account is topped up automatically: 1, or 0.',
  }),
  reloadFailing: family('toll_reload_failing', {
    type: 'gauge',
    unit: '{state}',
    labels: ACCOUNT,
    help: 'Whether the last automatic top-up failed: 1, or 0.',
  }),
  quotaUsedRatio: family('toll_quota_used_ratio', {
    type: 'gauge',
    unit: '1',
    labels: [...ACCOUNT, 'quota', 'window'],
    help: 'Used share of a plan window, 0 to 1.',
  }),
  quotaReset: family('toll_quota_reset_timestamp_seconds', {
    type: 'gauge',
    unit: 's',
    scale: MS,
    labels: [...ACCOUNT, 'quota', 'window'],
    help: 'When a plan window starts anew, Unix time.',
  }),
  quotaLimit: family('toll_quota_limit', {
    type: 'gauge',
    unit: '{unit}',
    labels: [...ACCOUNT, 'quota', 'window', 'unit'],
    help: 'Size of a plan window, in the unit that its label names; 100 where the plan tells percent only.',
  }),
  quotaUsed: family('toll_quota_used', {
    type: 'gauge',
    unit: '{unit}',
    labels: [...ACCOUNT, 'quota', 'window', 'unit'],
    help: 'What is used of a plan window, in the unit that its label names.',
  }),
  quotaRemaining: family('toll_quota_remaining', {
    type: 'gauge',
    unit: '{unit}',
    labels: [...ACCOUNT, 'quota', 'window', 'unit'],
    help: 'What is left of a plan window, in the unit that its label names.',
  }),
  modelsAvailable: family('toll_models_available', {
    type: 'gauge',
    unit: '{model}',
    labels: ACCOUNT,
    help: 'Models that the provider lists for an account.',
  }),
  modelInfo: family('toll_model_info', {
    type: 'gauge',
    unit: '{info}',
    labels: [...ACCOUNT, 'model', 'owned_by'],
    help: 'A model that the provider lists for an account.',
  }),
  reportedCost: family('toll_reported_cost', {
    type: 'gauge',
    unit: '{currency}',
    scale: NANO,
    labels: [...ACCOUNT, 'window', 'currency'],
    help: `Cost as the provider states it. Never add it to what turns cost: it is the same money. ${NOT_ADDITIVE}`,
  }),
  reportedTokens: family('toll_reported_tokens', {
    type: 'gauge',
    unit: '{token}',
    labels: [...ACCOUNT, 'window', 'token_type'],
    help: `Tokens as the provider counts them. ${NOT_ADDITIVE}`,
  }),
  reportedModelCost: family('toll_reported_model_cost', {
    type: 'gauge',
    unit: '{currency}',
    scale: NANO,
    labels: [...ACCOUNT, 'window', 'model', 'product', 'currency'],
    optional: ['product'],
    help: `As toll_reported_cost, by model and by product where the provider sells several under one account. ${NOT_ADDITIVE}`,
  }),
  reportedModelTokens: family('toll_reported_model_tokens', {
    type: 'gauge',
    unit: '{token}',
    labels: [...ACCOUNT, 'window', 'model', 'product', 'token_type'],
    optional: ['product'],
    help: `As toll_reported_tokens, by model and product. ${NOT_ADDITIVE}`,
  }),
  reportedValue: family('toll_reported_value', {
    type: 'gauge',
    unit: '{unit}',
    labels: [...ACCOUNT, 'metric', 'field', 'unit', 'window'],
    help: 'What else a snapshot of an account holds, from an allow-list, in the unit that its label names.',
  }),
  driftUsd: family('toll_drift_usd', {
    type: 'gauge',
    unit: '{USD}',
    scale: NANO,
    labels: [...ACCOUNT, 'window'],
    help: `Unexplained: what the balance lost beyond what the account's turns cost in the same intervals, in USD; negative where turns cost more. ${NOT_ADDITIVE}`,
  }),
  driftRatio: family('toll_drift_ratio', {
    type: 'gauge',
    unit: '1',
    labels: [...ACCOUNT, 'window'],
    help: 'Unexplained share of what the balance lost; absent where it lost nothing.',
  }),
  snapshotTimestamp: family('toll_snapshot_timestamp_seconds', {
    type: 'gauge',
    unit: 's',
    scale: MS,
    labels: ACCOUNT,
    help: 'When an account was last read well, Unix time.',
  }),
} as const satisfies Record<string, MetricFamily>;
