// Pieces of PromQL of the alerts, written from the catalogue. Currencies are never added up.

import { BRIDGE, type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { ofAccounts, reading, total } from '../promql.ts';

/** Thresholds that panels colour by and alerts fire at. */
export const LIMIT_WARN = 0.8;
export const LIMIT_CRIT = 0.95;
/** Even spending uses the limit up exactly: 1. Of a month of 30 days. */
const MONTH_SECONDS = 2_592_000;

const ACCOUNT = 'provider, account';
const MONEY = 'provider, account, currency';
const MONTHLY = 'limit="monthly"';

function selector({ name }: MetricFamily, matchers = ''): string {
  return matchers ? `${name}{${matchers}}` : name;
}

/** One value for each account, whichever bridge shows it. */
export function ofAccount(family: MetricFamily, matchers = ''): string {
  return `max by (${ACCOUNT}) (${selector(family, matchers)})`;
}

/** One value for each account and currency. */
export function ofMoney(family: MetricFamily, matchers = ''): string {
  return `max by (${MONEY}) (${selector(family, matchers)})`;
}

export const rate = (family: MetricFamily, window: string) => `rate(${family.name}[${window}])`;
export const increase = (family: MetricFamily, window: string, matchers = '') =>
  `increase(${selector(family, matchers)}[${window}])`;

export const LIMIT = `${ofMoney(TOLL.spendLimit, MONTHLY)} > 0`;
export const USED_OF_LIMIT = ofMoney(TOLL.spendLimitUsed, MONTHLY);
export const LIMIT_RESET = ofAccount(TOLL.spendLimitReset, MONTHLY);

/** Recording rules, by name. */
export const RECORDED = {
  limit: 'toll:limit:monthly',
  limitUsed: 'toll:limit_used:ratio',
  balance: 'toll:balance:sum',
  balanceSpent: 'toll:balance_spent:rate6h',
  spend: (window: string) => `toll:spend_usd:rate${window}`,
  burn: (window: string) => `toll:burn_rate:${window}`,
  spentHour: 'toll:spend_usd:increase1h',
  working: 'toll:reload_working:bool',
} as const;

const WINDOWS = ['5m', '30m', '1h', '2h', '6h', '1d', '3d'] as const;
/** The limit in USD, by account: turns cost USD. */
export const LIMIT_USD = `max by (${ACCOUNT}) (${RECORDED.limit}{currency="USD"})`;

export interface RecordingRule {
  readonly record: string;
  readonly expr: string;
}

export const RECORDING_RULES: readonly RecordingRule[] = [
  { record: RECORDED.limit, expr: LIMIT },
  { record: RECORDED.limitUsed, expr: `${USED_OF_LIMIT} / ${RECORDED.limit}` },
  { record: RECORDED.balance, expr: `sum by (${MONEY}) (${reading(TOLL.balance)})` },
  {
    record: RECORDED.balanceSpent,
    expr: `sum by (${MONEY}) (${ofAccounts(TOLL.balanceSpent, rate(TOLL.balanceSpent, '6h'))})`,
  },
  {
    // Auto-reload that is on and not known to fail: a low balance is then nobody's trouble.
    record: RECORDED.working,
    expr: `${ofAccount(TOLL.reloadEnabled)} == 1 unless on (${ACCOUNT}) ${ofAccount(TOLL.reloadFailing)} == 1`,
  },
  ...WINDOWS.map((window) => ({
    record: RECORDED.spend(window),
    expr: total(ACCOUNT, rate(TOLL.cost, window)),
  })),
  ...WINDOWS.map((window) => ({
    record: RECORDED.burn(window),
    expr: `${RECORDED.spend(window)} * ${MONTH_SECONDS} / on (${ACCOUNT}) ${LIMIT_USD}`,
  })),
  { record: RECORDED.spentHour, expr: `${RECORDED.spend('1h')} * 3600` },
];

/** Leaves out accounts whose auto-reload works. */
export const UNLESS_RELOAD_WORKS = `unless on (${ACCOUNT}) ${RECORDED.working}`;
const recordedBy = (source: string, window: string) =>
  `sum(increase(${BRIDGE.recorded.name}{source="${source}"}[${window}]))`;
/**
 * Nothing about pace while what waited in a spool, or history, comes in at once. A database that is read all day long brings
 * the turns of now, and tells their pace; history is most of what a day brings.
 */
export const UNLESS_CATCHING_UP = `unless on () (${recordedBy('spool', '1h')} > 100 or ${recordedBy('import', '1h')} > 100 and ${recordedBy('import', '1h')} * 4 > ${recordedBy('import', '1d')})`;
