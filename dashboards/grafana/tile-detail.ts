// One tile in full: all its sections, what becomes of its plan and its money, and when everything starts anew.

import { TOLL } from '../../src/metrics/catalogue.ts';
import { NET_COST, NET_TOKENS, reading, series } from '../promql.ts';
import {
  balancePace,
  CARD_DESCRIPTION,
  cardLines,
  projectedShares,
  secondsToReset,
  usedShares,
  whose,
} from './card.ts';
import { type DashboardSpec, startVariable, tileVariable, windowVariable } from './dashboard.ts';
import { chart, stat, table } from './panel.ts';
import { sections } from './sections.ts';
import { daysOfTile, paceOfTile, windowOfTile } from './tile-sums.ts';
import { DETAIL_UID } from './uids.ts';

const ACCOUNT = { provider: '$tile' };
const ONLY_REPORTED = 'only what the provider reports is there';
const NO_TURNS = 'a tile without turns has none';
/** How long something lasts at the pace of the last day. */
const lasts = (left: string, perSecond: string) => `${left} / (${perSecond} > 0)`;

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
          description: CARD_DESCRIPTION,
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
              expr: `min(${lasts(`sum by (account, currency) (${reading(TOLL.balance, ACCOUNT)})`, balancePace(ACCOUNT))}) / 86400 or on () vector(NaN)`,
              legend: 'Balance lasts, days',
              look: { decimals: 1, thresholds: 'days' },
            },
            ...[
              { days: 1, name: 'a day' },
              { days: 7, name: 'a week' },
              { days: 30, name: '30 days' },
            ].map(({ days, name }) => ({
              expr: `${days * 86_400} * ${paceOfTile('1d', NET_COST)} or on () vector(NaN)`,
              legend: `Cost of ${name}`,
              look: { unit: 'currencyUSD', decimals: 2 },
            })),
            {
              expr: `${whose(`topk(1, ${projectedShares(ACCOUNT)})`, ACCOUNT)} or on () label_replace(vector(NaN), "gauge", "fullest plan", "", "")`,
              legend: '{{whose}}{{gauge}} by reset',
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
          queries: [{ expr: secondsToReset(ACCOUNT) }],
          columns: [
            { of: 'account', title: 'Account', width: 70 },
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
              expr: `max by (account, plan, subscription, auth_scope, machine) (${series(TOLL.accountInfo, ACCOUNT)})`,
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
          description:
            'Net cost of each UTC day in USD, by model; of today so far. Of a tile that serves none, what was paid through it.',
          ...{ w: 12, h: 8, isBars: true, isStacked: true, interval: '1d', mayBeEmpty: NO_TURNS },
          look: { unit: 'currencyUSD', decimals: 2 },
          queries: [{ expr: `${daysOfTile('model', NET_COST)} > 0`, legend: '{{model}}' }],
        }),
        chart({
          key: 'tokens-by-model',
          title: 'Tokens by day and model',
          description: 'Net tokens of each UTC day, by model, with those read from the cache; of today so far.',
          ...{ w: 12, h: 8, isBars: true, isStacked: true, interval: '1d', mayBeEmpty: NO_TURNS },
          look: { unit: 'sishort', decimals: 1 },
          queries: [{ expr: `${daysOfTile('model', NET_TOKENS)} > 0`, legend: '{{model}}' }],
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
              expr: `${daysOfTile('status', { counter: TOLL.turns })} > 0`,
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
          queries: [{ expr: whose(usedShares(ACCOUNT), ACCOUNT), legend: '{{whose}}{{gauge}}' }],
        }),
        chart({
          key: 'balance-over-time',
          title: 'Balance over time',
          description: 'What is left, in the currency of the account.',
          ...{ w: 8, h: 8, mayBeEmpty: ONLY_REPORTED },
          look: { decimals: 2 },
          queries: [
            {
              expr: whose(`sum by (account, kind, currency) (${reading(TOLL.balance, ACCOUNT)})`, ACCOUNT),
              legend: '{{whose}}{{kind}} {{currency}}',
            },
          ],
        }),
      ],
    },
  ],
};
