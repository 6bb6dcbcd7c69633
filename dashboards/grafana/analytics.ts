// All providers and agents beside each other: trends, leaders, pressure, efficiency, hot spots and when work is done.

import { TOLL } from '../../src/metrics/catalogue.ts';
import { byDay, inTheLast, inWindow, NET_COST, NET_TOKENS, now, pace } from '../promql.ts';
import { AGENTS } from './agents.ts';
import { usedShares } from './card.ts';
import { type DashboardSpec, linkTo, startVariable, windowVariable } from './dashboard.ts';
import { PROVIDER_COLOURS, plain } from './look.ts';
import { bars, chart, type Query, stat, table } from './panel.ts';
import { ANALYTICS_UID, DETAIL_UID } from './uids.ts';

const WINDOW = { window: '$window' };
const BLUE = plain('blue');
const PLAN = 'only accounts with a plan window or a limit have one';
/** Days of the last four weeks, as a subquery at each midnight in UTC. */
const DAYS = '[28d:1d]';
const COST_OF_DAY = `(${inTheLast('1d', NET_COST)})`;
/** Of the week that ended at the last midnight in UTC. Nothing where nobody scraped when it began. */
const COST_OF_WEEK = `last_over_time((${inTheLast('7d', NET_COST)})[1d:1d]`;

const top = (count: number, by: string, family: typeof TOLL.windowCost | typeof TOLL.windowModelCost): Query => ({
  expr: `topk(${count}, ${now(by, family, WINDOW)} > 0)`,
  legend: `{{${by}}}`,
});

export const ANALYTICS: DashboardSpec = {
  uid: ANALYTICS_UID,
  title: 'Tollbridge / Analytics',
  description: 'All providers and agents beside each other.',
  range: '30d',
  variables: [windowVariable, startVariable],
  bands: [
    {
      panels: [
        stat({
          key: 'spend',
          title: 'Spend',
          description: 'Net cost of all turns in the window, in USD.',
          ...{ w: 5, h: 4, isSingle: true },
          look: { unit: 'currencyUSD', decimals: 2 },
          queries: [{ expr: now('', TOLL.windowCost, WINDOW), legend: 'Spend' }],
        }),
        stat({
          key: 'volume',
          title: 'Tokens',
          description: 'Net tokens in the window, without those read from the cache.',
          ...{ w: 5, h: 4, isSingle: true },
          look: { unit: 'sishort', decimals: 1 },
          queries: [{ expr: now('', TOLL.windowTokens, WINDOW), legend: 'Tokens' }],
        }),
        stat({
          key: 'per-active-day',
          title: 'Spend per active day',
          description: 'Net cost of the last 28 whole UTC days, divided by those of them on which anything was spent.',
          ...{ w: 5, h: 4, isSingle: true, mayBeEmpty: 'only after a day of data' },
          look: { unit: 'currencyUSD', decimals: 2 },
          queries: [
            {
              expr: `sum_over_time(${COST_OF_DAY}${DAYS}) / count_over_time((${COST_OF_DAY} > 0)${DAYS})`,
              legend: 'Per day',
            },
          ],
        }),
        stat({
          key: 'trend',
          title: 'Trend of a week',
          description: 'Net cost of the last 7 whole UTC days against the 7 before: 100 % is twice as much.',
          ...{ w: 5, h: 4, isSingle: true, mayBeEmpty: 'only after two weeks of data' },
          look: { unit: 'percentunit', decimals: 0 },
          queries: [
            {
              expr: `${COST_OF_WEEK}) / (${COST_OF_WEEK} offset 7d) > 0) - 1`,
              legend: 'Trend',
            },
          ],
        }),
        stat({
          key: 'sessions',
          title: 'Tiles in use',
          description: 'Tiles with a turn in the window.',
          ...{ w: 4, h: 4, isSingle: true },
          look: { decimals: 0 },
          queries: [{ expr: `count(${now('tile', TOLL.windowTurns, WINDOW)} > 0)`, legend: 'Tiles' }],
        }),
        chart({
          key: 'cost-over-time',
          title: 'Cost by day',
          description: 'Net cost of each UTC day in USD, by upstream provider; of today so far.',
          ...{ w: 12, h: 9, isBars: true, isStacked: true, interval: '1d' },
          look: { unit: 'currencyUSD', decimals: 2 },
          colours: PROVIDER_COLOURS,
          queries: [{ expr: `${byDay('upstream_provider', NET_COST)} > 0`, legend: '{{upstream_provider}}' }],
        }),
        chart({
          key: 'tokens-over-time',
          title: 'Tokens by day',
          description: 'Net tokens of each UTC day by kind, with those read from the cache; of today so far.',
          ...{ w: 12, h: 9, isBars: true, isStacked: true, interval: '1d' },
          look: { unit: 'sishort', decimals: 1 },
          queries: [{ expr: `${byDay('token_type', NET_TOKENS)} > 0`, legend: '{{token_type}}' }],
        }),
      ],
    },
    {
      title: 'Leaders and pressure',
      panels: [
        table({
          key: 'providers',
          title: 'Provider spend',
          description: 'Net cost in the window and today by tile, and its share of all.',
          ...{ w: 8, h: 10, joinBy: 'tile' },
          queries: [
            { expr: now('tile', TOLL.windowCost, WINDOW) },
            { expr: `${now('tile', TOLL.windowCost, WINDOW)} / scalar(${now('', TOLL.windowCost, WINDOW)} > 0)` },
            { expr: now('tile', TOLL.windowCost, { window: 'today' }) },
          ],
          columns: [
            {
              of: 'tile',
              title: 'Tile',
              link: { title: 'The tile', url: linkTo(DETAIL_UID, 'var-tile=${__value.raw}') },
            },
            { of: 0, title: 'Cost', width: 80, look: { unit: 'currencyUSD', decimals: 2 } },
            {
              of: 1,
              title: 'Share',
              width: 110,
              cell: 'gauge',
              look: { unit: 'percentunit', decimals: 0, min: 0, max: 1, colour: BLUE },
            },
            { of: 2, title: 'Today', width: 80, look: { unit: 'currencyUSD', decimals: 2 } },
          ],
          sortBy: { column: 'Cost' },
        }),
        bars({
          key: 'models',
          title: 'Model leaders',
          description: 'Net cost in the window in USD.',
          ...{ w: 7, h: 10 },
          look: { unit: 'currencyUSD', decimals: 2, colour: BLUE },
          queries: [top(8, 'model', TOLL.windowModelCost)],
        }),
        bars({
          key: 'pressure',
          title: 'Budget and quota pressure',
          description: 'The fullest limits and plan windows of all accounts. Yellow from 80 %, red from 95 %.',
          ...{ w: 9, h: 10, mayBeEmpty: PLAN },
          look: { unit: 'percentunit', decimals: 1, thresholds: 'used', min: 0, max: 1 },
          queries: [{ expr: `topk(10, ${usedShares({})} >= 0.01)`, legend: '{{provider}} {{account}} {{gauge}}' }],
        }),
      ],
    },
    AGENTS,
    {
      title: 'Efficiency and hot spots',
      panels: [
        bars({
          key: 'efficiency',
          title: 'Cheapest per 1k tokens',
          description: 'Net cost in the window per thousand tokens (without those read from the cache), in USD.',
          ...{ w: 8, h: 9 },
          look: { unit: 'currencyUSD', decimals: 4, colour: BLUE },
          queries: [
            {
              expr: `bottomk(10, 1000 * (${now('model', TOLL.windowModelCost, WINDOW)} > 0) / (${now('model', TOLL.windowModelTokens, WINDOW)} > 0))`,
              legend: '{{model}}',
            },
          ],
        }),
        bars({
          key: 'clients',
          title: 'Client hot spots',
          description: 'Net cost in the window in USD, by agent.',
          ...{ w: 5, h: 9 },
          look: { unit: 'currencyUSD', decimals: 2, colour: BLUE },
          queries: [{ expr: `topk(6, ${inWindow('agent', NET_COST)} > 0)`, legend: '{{agent}}' }],
        }),
        bars({
          key: 'projects',
          title: 'Project hot spots',
          description: 'Net cost in the window in USD, by project.',
          ...{ w: 6, h: 9 },
          look: { unit: 'currencyUSD', decimals: 2, colour: BLUE },
          queries: [{ expr: `topk(6, ${inWindow('project', NET_COST)} > 0)`, legend: '{{project}}' }],
        }),
        bars({
          key: 'mcp',
          title: 'MCP hot spots',
          description: 'Calls in the window to tools of MCP servers.',
          ...{ w: 5, h: 9, mayBeEmpty: 'only agents with MCP servers call them' },
          look: { unit: 'locale', decimals: 0, colour: BLUE },
          queries: [
            {
              expr: `topk(6, ${inWindow('mcp_server', { counter: TOLL.toolCalls }, { mcp_server: '!=' })} > 0)`,
              legend: '{{mcp_server}}',
            },
          ],
        }),
        chart({
          key: 'activity',
          title: 'Peak activity',
          description: 'Turns per hour by agent: when work is done.',
          ...{ w: 12, h: 8, isStacked: true },
          look: { decimals: 1 },
          queries: [{ expr: `3600 * ${pace('agent', TOLL.turns)}`, legend: '{{agent}}' }],
        }),
        chart({
          key: 'models-over-time',
          title: 'Models by day',
          description: 'Net tokens of each UTC day by model, with those read from the cache; of today so far.',
          ...{ w: 12, h: 8, isBars: true, isStacked: true, interval: '1d' },
          look: { unit: 'sishort', decimals: 1 },
          queries: [{ expr: `${byDay('model', NET_TOKENS)} > 0`, legend: '{{model}}' }],
        }),
      ],
    },
  ],
};
