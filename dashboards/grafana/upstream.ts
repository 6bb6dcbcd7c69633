// Who really served: spend, tokens, turns, cache and speed by upstream provider and model.

import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import {
  byDay,
  fold,
  inWindow,
  type Matchers,
  NET_COST,
  NET_TOKENS,
  type Net,
  pace,
  quantile,
  series,
} from '../promql.ts';
import { type DashboardSpec, labelVariable, linkTo, startVariable, windowVariable } from './dashboard.ts';
import { PROVIDER_COLOURS } from './look.ts';
import { type Column, chart, type Query, table } from './panel.ts';
import { DETAIL_UID, UPSTREAM_UID } from './uids.ts';

const CHOSEN: Matchers = { upstream_provider: '=~$upstream_provider', provider: '=~$provider' };
const TURNS: Net = { counter: TOLL.turns };
const NO_ERRORS = 'nothing failed in the range';

const gauge = (by: string, family: MetricFamily) =>
  `sum by (${by}) (${fold(series(family, { ...CHOSEN, window: '$window' }))})`;
/** A share whose whole may be nothing. */
const ratio = (part: string, whole: string) => `${part} / (${whole} > 0)`;

/** The numbers by which providers and models are compared; each a query by the given label. */
function comparison(by: string): Query[] {
  const turns = inWindow(by, TURNS, CHOSEN);
  const failed = inWindow(by, TURNS, { ...CHOSEN, status: 'error' });
  const cached = inWindow(by, NET_TOKENS, { ...CHOSEN, token_type: 'cache_read' });
  const input = inWindow(by, NET_TOKENS, { ...CHOSEN, token_type: '=~input|cache_read|cache_write' });
  return [
    { expr: gauge(by, TOLL.windowModelCost) },
    { expr: gauge(by, TOLL.windowModelTokens) },
    { expr: turns },
    { expr: ratio(`1000 * ${gauge(by, TOLL.windowModelCost)}`, gauge(by, TOLL.windowModelTokens)) },
    { expr: ratio(cached, input) },
    { expr: quantile(0.5, by, TOLL.turnDuration, '$__range', CHOSEN) },
    { expr: quantile(0.95, by, TOLL.turnDuration, '$__range', CHOSEN) },
    { expr: `(${ratio(failed, turns)}) or ${turns} * 0` },
  ];
}

const COLUMNS: readonly Column[] = [
  { of: 0, title: 'Cost', width: 80, look: { unit: 'currencyUSD', decimals: 2 } },
  { of: 1, title: 'Tokens', width: 76, look: { unit: 'sishort', decimals: 1 } },
  { of: 2, title: 'Turns', width: 66, look: { unit: 'locale', decimals: 0 } },
  { of: 3, title: 'Per 1k tokens', width: 100, look: { unit: 'currencyUSD', decimals: 4 } },
  {
    of: 4,
    title: 'Cache hits',
    width: 84,
    cell: 'text',
    look: { unit: 'percentunit', decimals: 0, thresholds: 'good' },
  },
  { of: 5, title: 'p50', width: 62, look: { unit: 's', decimals: 1 } },
  { of: 6, title: 'p95', width: 62, look: { unit: 's', decimals: 1 } },
  {
    of: 7,
    title: 'Errors',
    width: 66,
    cell: 'text',
    look: { unit: 'percentunit', decimals: 1, thresholds: 'failing' },
  },
];

export const UPSTREAM: DashboardSpec = {
  uid: UPSTREAM_UID,
  title: 'Tollbridge / Upstream providers',
  description: 'Who really served, whoever was paid: spend, tokens, turns, cache hits and speed.',
  range: '7d',
  variables: [
    windowVariable,
    labelVariable('upstream_provider', 'Upstream', TOLL.turns),
    labelVariable('provider', 'Paid', TOLL.turns),
    startVariable,
  ],
  bands: [
    {
      panels: [
        table({
          key: 'providers',
          title: 'Upstream providers',
          description:
            'Net cost and tokens (without those read from the cache), turns and errors in the window; durations over the range of the dashboard.',
          ...{ w: 24, h: 9, joinBy: 'upstream_provider' },
          queries: comparison('upstream_provider'),
          columns: [
            {
              of: 'upstream_provider',
              title: 'Upstream provider',
              link: { title: 'Only this one', url: linkTo(UPSTREAM_UID, 'var-upstream_provider=${__value.raw}') },
            },
            ...COLUMNS,
          ],
          sortBy: { column: 'Cost' },
        }),
        chart({
          key: 'cost-by-day',
          title: 'Cost by day',
          description: 'Net cost of each UTC day in USD, by upstream provider; of today so far.',
          ...{ w: 12, h: 9, isBars: true, isStacked: true, interval: '1d', timeFrom: '14d' },
          look: { unit: 'currencyUSD', decimals: 2 },
          colours: PROVIDER_COLOURS,
          queries: [{ expr: `${byDay('upstream_provider', NET_COST, CHOSEN)} > 0`, legend: '{{upstream_provider}}' }],
        }),
        chart({
          key: 'tokens-by-day',
          title: 'Tokens by day',
          description:
            'Net tokens of each UTC day, with those read from the cache, by upstream provider; of today so far.',
          ...{ w: 12, h: 9, isBars: true, isStacked: true, interval: '1d', timeFrom: '14d' },
          look: { unit: 'sishort', decimals: 1 },
          colours: PROVIDER_COLOURS,
          queries: [{ expr: `${byDay('upstream_provider', NET_TOKENS, CHOSEN)} > 0`, legend: '{{upstream_provider}}' }],
        }),
      ],
    },
    {
      title: 'Pace',
      panels: [
        chart({
          key: 'cost-pace',
          title: 'Spend per hour',
          description: 'How fast money is spent, in USD per hour, gross: what is taken back later is small and late.',
          ...{ w: 8, h: 8, isStacked: true },
          look: { unit: 'currencyUSD', decimals: 2 },
          colours: PROVIDER_COLOURS,
          queries: [
            { expr: `3600 * ${pace('upstream_provider', TOLL.cost, CHOSEN)}`, legend: '{{upstream_provider}}' },
          ],
        }),
        chart({
          key: 'latency',
          title: 'Duration of turns, p95',
          description:
            'Wall time from start to completion, tools included, in seconds; 95 of 100 turns of the last six hours took less.',
          ...{ w: 8, h: 8 },
          look: { unit: 's', decimals: 1 },
          colours: PROVIDER_COLOURS,
          queries: [
            {
              expr: quantile(0.95, 'upstream_provider', TOLL.turnDuration, '6h', CHOSEN),
              legend: '{{upstream_provider}}',
            },
          ],
        }),
        chart({
          key: 'errors',
          title: 'Failed turns by reason',
          description: 'Failed turns of each UTC day, by reason; of today so far.',
          ...{ w: 8, h: 8, isBars: true, isStacked: true, interval: '1d', timeFrom: '14d', mayBeEmpty: NO_ERRORS },
          look: { unit: 'locale', decimals: 0 },
          queries: [{ expr: `${byDay('reason', { counter: TOLL.turnErrors }, CHOSEN)} > 0`, legend: '{{reason}}' }],
        }),
      ],
    },
    {
      title: 'Models and those who are paid',
      panels: [
        table({
          key: 'models',
          title: 'Models beside each other',
          description:
            'The same numbers by model, whoever served it. The models that cost most have a row of their own.',
          ...{ w: 16, h: 12, joinBy: 'model' },
          queries: comparison('model'),
          columns: [{ of: 'model', title: 'Model' }, ...COLUMNS],
          sortBy: { column: 'Cost' },
        }),
        table({
          key: 'routes',
          title: 'Who is paid for whom',
          description:
            'Net cost in the window by the provider that is paid, the upstream provider that served, and the tile that shows it.',
          ...{ w: 8, h: 12 },
          queries: [
            {
              expr: `sum by (provider, upstream_provider, tile) (${fold(series(TOLL.windowCost, { ...CHOSEN, window: '$window' }))})`,
            },
          ],
          columns: [
            { of: 'provider', title: 'Paid' },
            { of: 'upstream_provider', title: 'Served' },
            {
              of: 'tile',
              title: 'Tile',
              link: { title: 'The tile', url: linkTo(DETAIL_UID, 'var-tile=${__value.raw}') },
            },
            { of: 0, title: 'Cost', width: 90, look: { unit: 'currencyUSD', decimals: 2 } },
          ],
          sortBy: { column: 'Cost' },
        }),
      ],
    },
  ],
};
