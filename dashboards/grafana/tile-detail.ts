// One tile in full: all its sections, what becomes of its plan and its money, and when everything starts anew.

import { TOLL } from '../../src/metrics/catalogue.ts';
import { byDay, fold, NET_COST, NET_TOKENS, series } from '../promql.ts';
import { cardLines, projectedShares, usedShares } from './card.ts';
import { type DashboardSpec, startVariable, tileVariable, windowVariable } from './dashboard.ts';
import { chart, stat, table } from './panel.ts';
import { sections } from './sections.ts';
import { windowOfTile } from './tile-sums.ts';
import { DETAIL_UID } from './uids.ts';

const ACCOUNT = { provider: '$tile' };
const ONLY_REPORTED = 'only what the provider reports is there';
const NO_TURNS = 'a tile without turns has none';
const served = (expr: string, by: string) =>
  `sum by (${by}) (${expr} and on (upstream_provider) ${fold(series(TOLL.tileInfo, { tile: '$tile' }))})`;

/** Hours that something lasts at the pace of the last day. */
const lasts = (left: string, perSecond: string) => `${left} / (${perSecond} > 0)`;
const SPENT_PER_SECOND = `sum by (account, currency) (${fold(`rate(${series(TOLL.balanceSpent, ACCOUNT)}[1d])`)})`;

export const TILE_DETAIL: DashboardSpec = {
  uid: DETAIL_UID,
  title: 'Tollbridge / Tile',
  description: 'One tile with all that is known of it.',
  range: '14d',
  variables: [windowVariable, tileVariable(true), startVariable],
  bands: [
    {
      panels: [
        stat({
          key: 'card',
          title: '${tile:text} · $window',
          description:
            'State and plan of the account as its provider reports them; cost, turns and tokens of the turns that this provider served, in the window. A dash is unknown, which is not zero.',
          ...{ w: 6, h: 8 },
          queries: cardLines(),
        }),
        stat({
          key: 'forecast',
          title: 'Forecast',
          description:
            'At the pace of the last 24 hours: how long the balance lasts, and what a day, a week and a month cost. Spending between two readings of a balance that a top-up hides is not in it.',
          ...{ w: 6, h: 8 },
          queries: [
            {
              expr: `min(${lasts(`sum by (account, currency) (${fold(series(TOLL.balance, ACCOUNT))})`, SPENT_PER_SECOND)}) / 86400 or on () vector(NaN)`,
              legend: 'Balance lasts, days',
              look: { decimals: 1, thresholds: 'days' },
            },
            ...[
              { days: 1, name: 'a day' },
              { days: 7, name: 'a week' },
              { days: 30, name: '30 days' },
            ].map(({ days, name }) => ({
              expr: `${days * 86_400} * sum(${served(fold(`rate(${TOLL.cost.name}[1d])`), 'upstream_provider')}) or on () vector(NaN)`,
              legend: `Cost of ${name}`,
              look: { unit: 'currencyUSD', decimals: 2 },
            })),
            {
              expr: `max(${projectedShares(ACCOUNT)}) or on () vector(NaN)`,
              legend: 'Fullest plan by reset',
              look: { unit: 'percentunit', decimals: 0, thresholds: 'used' },
            },
            {
              expr: `${windowOfTile('', NET_TOKENS, { token_type: 'cache_read' })} / ${windowOfTile('', NET_TOKENS, { token_type: '=~input|cache_read|cache_write' })} or on () vector(NaN)`,
              legend: 'Cache hits',
              look: { unit: 'percentunit', decimals: 1, thresholds: 'good' },
            },
          ],
        }),
        table({
          key: 'timers',
          title: 'Timers',
          description: 'When each plan window and limit starts anew. Yellow within the hour, red within 15 minutes.',
          ...{ w: 6, h: 8, mayBeEmpty: ONLY_REPORTED },
          queries: [
            {
              expr:
                `min by (gauge) (label_join(${fold(series(TOLL.quotaReset, ACCOUNT))}, "gauge", " ", "quota", "window") ` +
                `or label_replace(${fold(series(TOLL.spendLimitReset, ACCOUNT))}, "gauge", "$1 limit", "limit", "(.*)")) - time() > 0`,
            },
          ],
          columns: [
            { of: 'gauge', title: 'What' },
            {
              of: 0,
              title: 'Starts anew in',
              width: 140,
              cell: 'text',
              look: { unit: 'dtdhms', decimals: 0, thresholds: 'soon' },
            },
          ],
          sortBy: { column: 'Starts anew in', isAscending: true },
        }),
        table({
          key: 'info',
          title: 'Account',
          description: 'What is known of the account beside its numbers.',
          ...{ w: 6, h: 8, mayBeEmpty: ONLY_REPORTED },
          queries: [
            {
              expr: `max by (account, plan, subscription, auth_scope, machine) (${fold(series(TOLL.accountInfo, ACCOUNT))})`,
            },
          ],
          columns: [
            { of: 'account', title: 'Account' },
            { of: 'plan', title: 'Plan' },
            { of: 'subscription', title: 'Subscribed' },
            { of: 'auth_scope', title: 'Access' },
            { of: 'machine', title: 'Machine' },
          ],
        }),
      ],
    },
    { title: 'Sections', panels: sections({ prefix: 'section', isWide: true, planIsOptional: ONLY_REPORTED }) },
    {
      title: 'Trends',
      panels: [
        chart({
          key: 'cost-by-model',
          title: 'Cost by day and model',
          description: 'Net cost of each UTC day in USD, by model; of today so far.',
          ...{ w: 12, h: 8, isBars: true, isStacked: true, interval: '1d', mayBeEmpty: NO_TURNS },
          look: { unit: 'currencyUSD', decimals: 2 },
          queries: [
            { expr: `${served(byDay('upstream_provider, model', NET_COST), 'model')} > 0`, legend: '{{model}}' },
          ],
        }),
        chart({
          key: 'tokens-by-model',
          title: 'Tokens by day and model',
          description: 'Net tokens of each UTC day, by model, with those read from the cache; of today so far.',
          ...{ w: 12, h: 8, isBars: true, isStacked: true, interval: '1d', mayBeEmpty: NO_TURNS },
          look: { unit: 'sishort', decimals: 1 },
          queries: [
            { expr: `${served(byDay('upstream_provider, model', NET_TOKENS), 'model')} > 0`, legend: '{{model}}' },
          ],
        }),
        chart({
          key: 'turns-by-status',
          title: 'Turns by day',
          description: 'Turns of each UTC day by how they ended; of today so far.',
          ...{ w: 8, h: 8, isBars: true, isStacked: true, interval: '1d', mayBeEmpty: NO_TURNS },
          look: { unit: 'locale', decimals: 0 },
          colours: { ok: 'green', error: 'red', aborted: 'yellow' },
          queries: [
            {
              expr: `${served(byDay('upstream_provider, status', { counter: TOLL.turns }), 'status')} > 0`,
              legend: '{{status}}',
            },
          ],
        }),
        chart({
          key: 'plan-over-time',
          title: 'Plan windows and limits over time',
          description: 'Used share of each, as the provider reported it.',
          ...{ w: 8, h: 8, mayBeEmpty: ONLY_REPORTED },
          look: { unit: 'percentunit', decimals: 0, min: 0, max: 1 },
          queries: [{ expr: `max by (gauge) (${usedShares(ACCOUNT)})`, legend: '{{gauge}}' }],
        }),
        chart({
          key: 'balance-over-time',
          title: 'Balance over time',
          description: 'What is left, in the currency of the account.',
          ...{ w: 8, h: 8, mayBeEmpty: ONLY_REPORTED },
          look: { decimals: 2 },
          queries: [
            {
              expr: `sum by (account, kind, currency) (${fold(series(TOLL.balance, ACCOUNT))})`,
              legend: '{{kind}} {{currency}}',
            },
          ],
        }),
      ],
    },
  ],
};
