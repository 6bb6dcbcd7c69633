// An OpenCode account: balance and auto-reload, the monthly limit, Go's plan windows, and whether the books agree.

import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { byDay, inWindow, type Matchers, NET_COST, NET_TOKENS, type Net, reading } from '../promql.ts';
import { balancePace, statusCode, usedShares } from './card.ts';
import { type DashboardSpec, oneLabelVariable, startVariable, windowVariable } from './dashboard.ts';
import { FAILING, plain, STATUS_TEXT, YES_NO } from './look.ts';
import { bars, chart, stat, table } from './panel.ts';
import { OPENCODE_UID } from './uids.ts';

const PROVIDER = 'opencode';
const ACCOUNT: Matchers = { provider: PROVIDER, account: '$account' };
const MONTHLY = { ...ACCOUNT, limit: 'monthly' };
/** Zen and Go are billed to one account. */
const PAID: Matchers = { ...ACCOUNT, provider: `=~${PROVIDER}.*` };
const of = (family: Parameters<typeof reading>[0], matchers: Matchers = ACCOUNT) => reading(family, matchers);
const PLAN = 'only accounts with Go have one';
const NO_ANSWER = 'only where the account has been read for long enough';
const BALANCE = `sum by (account, currency) (${of(TOLL.balance)})`;
const SPENT_PER_DAY = `${balancePace(ACCOUNT)} * 86400`;
const BALANCE_READ = 'only accounts whose balance was read more than once';
const byModel = (net: Net, matchers: Matchers = {}) =>
  `label_join(${inWindow('model, upstream_provider', net, { ...PAID, ...matchers })}, "what", " ", "model", "upstream_provider")`;
const moved = (counter: MetricFamily) => byDay('currency', { counter }, ACCOUNT);

export const OPENCODE: DashboardSpec = {
  uid: OPENCODE_UID,
  title: 'Tollbridge / OpenCode account',
  description: 'Balance, monthly limit, Go and models of an OpenCode account.',
  range: '14d',
  variables: [
    windowVariable,
    oneLabelVariable('account', 'Account', { family: TOLL.accountStatus, matchers: { provider: PROVIDER } }),
    startVariable,
  ],
  bands: [
    {
      panels: [
        stat({
          key: 'state',
          title: 'Account',
          description: 'What the console says. A dash is unknown, which is not zero.',
          ...{ w: 6, h: 9 },
          queries: [
            { expr: `max(${statusCode(ACCOUNT)})`, legend: 'Status', look: { mappings: [STATUS_TEXT] } },
            { expr: `${BALANCE} or on () vector(NaN)`, legend: 'Balance {{currency}}', look: { decimals: 2 } },
            {
              expr: `max(${of(TOLL.reloadEnabled)}) or on () vector(NaN)`,
              legend: 'Auto-reload',
              look: { mappings: [YES_NO] },
            },
            {
              expr: `max(${of(TOLL.reloadFailing)}) or on () vector(NaN)`,
              legend: 'Last reload',
              look: { mappings: [FAILING] },
            },
            {
              expr: `max(${of(TOLL.reloadTrigger)}) or on () vector(NaN)`,
              legend: 'Reload below',
              look: { decimals: 2 },
            },
            { expr: `max(${of(TOLL.reloadAmount)}) or on () vector(NaN)`, legend: 'Reload by', look: { decimals: 2 } },
            {
              expr: `max(${of(TOLL.modelsAvailable)}) or on () vector(NaN)`,
              legend: 'Zen models',
              look: { decimals: 0 },
            },
            {
              expr: `min(${BALANCE} / (${SPENT_PER_DAY} > 0)) or on () vector(NaN)`,
              legend: 'Balance lasts, days',
              look: { decimals: 1, thresholds: 'days' },
            },
          ],
        }),
        chart({
          key: 'balance',
          title: 'Balance and reload trigger',
          description: 'The balance, and the line below which auto-reload tops it up, where that is on.',
          ...{ w: 12, h: 9 },
          look: { decimals: 2 },
          colours: { 'reload below': 'orange' },
          queries: [
            { expr: BALANCE, legend: 'balance {{currency}}' },
            {
              expr: `max by (currency) (${of(TOLL.reloadTrigger)} and on (account) ${of(TOLL.reloadEnabled)} == 1)`,
              legend: 'reload below',
            },
          ],
        }),
        stat({
          key: 'month',
          title: 'This month',
          description:
            'What counts towards the monthly limit, as the console states it, and where it leads at this pace.',
          ...{ w: 6, h: 9 },
          queries: [
            {
              expr: `max(${of(TOLL.spendLimitUsed, MONTHLY)}) or on () vector(NaN)`,
              legend: 'Used',
              look: { unit: 'currencyUSD', decimals: 2 },
            },
            {
              expr: `max(${of(TOLL.spendLimit, MONTHLY)}) or on () vector(NaN)`,
              legend: 'Limit',
              look: { unit: 'currencyUSD', decimals: 2 },
            },
            {
              expr: `max(${of(TOLL.spendLimitUsed, MONTHLY)} / (${of(TOLL.spendLimit, MONTHLY)} > 0)) or on () vector(NaN)`,
              legend: 'Used share',
              look: { unit: 'percentunit', decimals: 1, thresholds: 'used' },
            },
            {
              expr: `max(${of(TOLL.spendLimit, MONTHLY)} - ${of(TOLL.spendLimitUsed, MONTHLY)}) or on () vector(NaN)`,
              legend: 'Left',
              look: { unit: 'currencyUSD', decimals: 2 },
            },
            {
              expr: `max(${of(TOLL.spendLimitUsed, MONTHLY)} + on (account, currency) ${SPENT_PER_DAY} * on (account) group_left () ((${of(TOLL.spendLimitReset, MONTHLY)} - time()) / 86400)) or on () vector(NaN)`,
              legend: 'At month’s end',
              look: { unit: 'currencyUSD', decimals: 2 },
            },
            {
              expr: `min(${of(TOLL.spendLimitReset, MONTHLY)} - time() > 0) or on () vector(NaN)`,
              legend: 'Starts anew in',
              look: { unit: 'dtdhms', decimals: 0 },
            },
          ],
        }),
        bars({
          key: 'go-percent',
          title: 'Go: used share',
          description: 'Of each plan window, in percent, as the server states it. Yellow from 80 %, red from 95 %.',
          ...{ w: 8, h: 6, mayBeEmpty: PLAN },
          look: { unit: 'percentunit', decimals: 1, thresholds: 'used', min: 0, max: 1 },
          queries: [
            { expr: `max by (account, quota, window) (${of(TOLL.quotaUsedRatio)})`, legend: '{{quota}} {{window}}' },
          ],
        }),
        table({
          key: 'go-dollars',
          title: 'Go: in dollars',
          description:
            'The same windows in USD, where the console states them. Models weigh differently, so the percentage does not follow from the dollars.',
          ...{ w: 8, h: 6, mayBeEmpty: PLAN, joinBy: 'window' },
          queries: [
            { expr: `max by (window) (${of(TOLL.quotaUsed, { ...ACCOUNT, unit: 'usd' })})` },
            { expr: `max by (window) (${of(TOLL.quotaLimit, { ...ACCOUNT, unit: 'usd' })})` },
            { expr: `min by (window) (${of(TOLL.quotaReset, { ...ACCOUNT, quota: '=~go.*' })}) - time() > 0` },
          ],
          columns: [
            { of: 'window', title: 'Window', width: 90 },
            { of: 0, title: 'Used', look: { unit: 'currencyUSD', decimals: 2 } },
            { of: 1, title: 'Limit', look: { unit: 'currencyUSD', decimals: 2 } },
            { of: 2, title: 'Starts anew in', look: { unit: 'dtdhms', decimals: 0 } },
          ],
        }),
        table({
          key: 'drift',
          title: 'Drift',
          description:
            'What the balance lost, less what turns of this account cost, over the same time. Small is good; much more lost than metered means turns that Tollbridge did not see.',
          ...{ w: 8, h: 6, mayBeEmpty: NO_ANSWER, joinBy: 'window' },
          queries: [
            { expr: `sum by (window) (${of(TOLL.driftUsd)})` },
            { expr: `max by (window) (${of(TOLL.driftRatio)})` },
          ],
          columns: [
            { of: 'window', title: 'Window', width: 90 },
            { of: 0, title: 'USD', look: { unit: 'currencyUSD', decimals: 2 } },
            { of: 1, title: 'Share', look: { unit: 'percentunit', decimals: 1 } },
          ],
        }),
      ],
    },
    {
      title: 'Models and history',
      panels: [
        table({
          key: 'models',
          title: 'Models paid through this account',
          description:
            'Net cost and tokens in the window (without those read from the cache), by model and who served it. Turns that name no account are not in it.',
          ...{ w: 10, h: 9, joinBy: 'what', mayBeEmpty: 'only turns of this account' },
          queries: [
            { expr: `${byModel({ counter: TOLL.turns })} > 0` },
            { expr: `max by (what) (${byModel(NET_COST)})` },
            { expr: `max by (what) (${byModel(NET_TOKENS, { token_type: '!=cache_read' })})` },
          ],
          columns: [
            { of: 'model', title: 'Model' },
            { of: 'upstream_provider', title: 'Served by' },
            { of: 2, title: 'Tokens', width: 76, look: { unit: 'sishort', decimals: 1 } },
            { of: 1, title: 'Cost', width: 76, look: { unit: 'currencyUSD', decimals: 2 } },
          ],
          sortBy: { column: 'Cost' },
        }),
        chart({
          key: 'used-over-time',
          title: 'Limit and plan over time',
          description: 'Used share of the monthly limit and of each plan window, as they were reported.',
          ...{ w: 14, h: 9 },
          look: { unit: 'percentunit', decimals: 0, min: 0, max: 1 },
          queries: [{ expr: usedShares(ACCOUNT), legend: '{{gauge}}' }],
        }),
        chart({
          key: 'spent-by-day',
          title: 'Spent of the balance by day',
          description: 'What readings of the balance show for each UTC day, in its currency: a lower bound.',
          ...{ w: 12, h: 8, isBars: true, interval: '1d', mayBeEmpty: BALANCE_READ },
          look: { decimals: 2, colour: plain('blue') },
          queries: [{ expr: moved(TOLL.balanceSpent), legend: '{{currency}}' }],
        }),
        chart({
          key: 'topped-up-by-day',
          title: 'Topped up by day',
          description: 'What readings of the balance show for each UTC day, in its currency.',
          ...{ w: 12, h: 8, isBars: true, interval: '1d', mayBeEmpty: BALANCE_READ },
          look: { decimals: 2, colour: plain('green') },
          queries: [{ expr: moved(TOLL.balanceTopup), legend: '{{currency}}' }],
        }),
      ],
    },
  ],
};
