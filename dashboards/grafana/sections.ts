// The sections of a tile, as OpenUsage names and orders them, for the tile `$tile` in the window `$window`.

import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { NET_COST, NET_TOKENS, type Net, reading } from '../promql.ts';
import { usedShares, whose } from './card.ts';
import { plain } from './look.ts';
import { bars, type PanelSpec, type Query, stat, table } from './panel.ts';
import { daysOfTile, windowGauge, windowOfTile } from './tile-sums.ts';

const ACCOUNT = { provider: '$tile' };
const NO_TURNS = 'a tile without turns in the window has none';
const TOKEN_COLUMNS = ['input', 'output', 'cache_read', 'cache_write', 'reasoning'] as const;

const TURNS: Net = { counter: TOLL.turns };
const TOOL_CALLS: Net = { counter: TOLL.toolCalls };

/** Shares of all, by cost where anything cost something, else by tokens. */
function burnShare(by: string, families: { cost: MetricFamily; tokens: MetricFamily }): string {
  const cost = `sum by (${by}) ${windowGauge(families.cost)}`;
  const tokens = `sum by (${by}) ${windowGauge(families.tokens)}`;
  const all = (of: string) => `on () group_left () (sum(${of}) > 0)`;
  return `(${cost} / ${all(cost)} or ${tokens} / ${all(tokens)} unless on () (sum(${cost}) > 0)) > 0`;
}

const WINDOW_SUMS = { cost: TOLL.windowCost, tokens: TOLL.windowTokens };
const MODEL_SUMS = { cost: TOLL.windowModelCost, tokens: TOLL.windowModelTokens };
const SHARE = { unit: 'percentunit', decimals: 0, min: 0, max: 1 };
const BLUE = plain('blue');

const modelSum = (family: MetricFamily) => `sum by (model) ${windowGauge(family)} > 0`;

export interface SectionsOptions {
  /** Begins the keys of the panels. */
  readonly prefix: string;
  /** More rows of everything. */
  readonly isWide: boolean;
  readonly planIsOptional: string;
}

/** Model burn, token breakdown, gauges; projects, clients, tools, MCP; days, providers, hosts and the rest. */
export function sections({ prefix, isWide, planIsOptional }: SectionsOptions): PanelSpec[] {
  const key = (name: string) => `${prefix}-${name}`;
  const rows = (few: number, many: number) => (isWide ? many : few);
  const top = (count: number, expr: string) => `topk(${count}, ${expr})`;
  return [
    table({
      key: key('models'),
      title: 'Model burn',
      description:
        'Models by their share of the cost in the window, or of the tokens where nothing cost anything. Tokens without those read from the cache.',
      ...{ w: 8, h: 8, joinBy: 'model', mayBeEmpty: NO_TURNS },
      queries: [
        { expr: burnShare('model', MODEL_SUMS) },
        { expr: modelSum(TOLL.windowModelTokens) },
        { expr: modelSum(TOLL.windowModelCost) },
      ],
      columns: [
        { of: 'model', title: 'Model' },
        { of: 0, title: 'Share', width: 110, cell: 'gauge', look: { ...SHARE, colour: BLUE } },
        { of: 1, title: 'Tokens', width: 70, look: { unit: 'sishort', decimals: 1 } },
        { of: 2, title: 'Cost', width: 70, look: { unit: 'currencyUSD', decimals: 2 } },
      ],
      sortBy: { column: 'Share' },
    }),
    table({
      key: key('tokens'),
      title: 'Token breakdown',
      description:
        'Net tokens in the window by model and kind: put in, put out, read from the cache, stored in it, and reasoning. The kinds are disjoint and add up to the total.',
      ...{ w: 11, h: 8, joinBy: 'model', mayBeEmpty: NO_TURNS },
      queries: [
        ...TOKEN_COLUMNS.map(
          (token_type): Query => ({ expr: `${windowOfTile('model', NET_TOKENS, { token_type })} > 0` }),
        ),
        { expr: `${windowOfTile('model', NET_TOKENS)} > 0` },
      ],
      columns: [
        { of: 'model', title: 'Model' },
        ...TOKEN_COLUMNS.map((type, at) => ({
          of: at,
          title: TOKEN_TITLES[type],
          width: 64,
          look: { unit: 'sishort', decimals: 1 },
        })),
        { of: TOKEN_COLUMNS.length, title: 'Total', width: 68, look: { unit: 'sishort', decimals: 1 } },
      ],
      sortBy: { column: 'Total' },
    }),
    bars({
      key: key('gauges'),
      title: 'Plan windows and limits',
      description: 'Used share of each, as the provider reports it. Yellow from 80 %, red from 95 %.',
      ...{ w: 5, h: 8, mayBeEmpty: planIsOptional },
      look: { unit: 'percentunit', decimals: 1, thresholds: 'used', min: 0, max: 1 },
      queries: [{ expr: `sort_desc(${whose(usedShares(ACCOUNT), ACCOUNT)})`, legend: '{{whose}}{{gauge}}' }],
    }),
    bars({
      key: key('projects'),
      title: 'Projects',
      description: 'Turns in the window by project.',
      ...{ w: 5, h: 7, mayBeEmpty: NO_TURNS },
      look: { unit: 'locale', decimals: 0, colour: BLUE },
      queries: [{ expr: top(rows(6, 12), `${windowOfTile('project', TURNS)} > 0`), legend: '{{project}}' }],
    }),
    bars({
      key: key('clients'),
      title: 'Clients',
      description: 'Net tokens in the window by agent, with those read from the cache.',
      ...{ w: 5, h: 4, mayBeEmpty: NO_TURNS },
      look: { unit: 'sishort', decimals: 1, colour: BLUE },
      queries: [{ expr: top(rows(4, 10), `${windowOfTile('agent', NET_TOKENS)} > 0`), legend: '{{agent}}' }],
    }),
    stat({
      key: key('tool-summary'),
      title: 'Tools',
      description: 'Tool calls in the window, and the share that ended well; an aborted call did not.',
      ...{ w: 5, h: 3, isBelow: true },
      queries: [
        {
          expr: `${windowOfTile('', TOOL_CALLS)} or on () vector(NaN)`,
          legend: 'Calls',
          look: { unit: 'locale', decimals: 0 },
        },
        {
          expr: `${windowOfTile('', TOOL_CALLS, { status: 'ok' })} / ${windowOfTile('', TOOL_CALLS)} or on () vector(NaN)`,
          legend: 'OK',
          look: { unit: 'percentunit', decimals: 0, thresholds: 'good' },
        },
      ],
    }),
    table({
      key: key('tools'),
      title: 'Tool usage',
      description: 'Finished tool calls in the window by tool, and the share that ended well.',
      ...{ w: 7, h: 7, joinBy: 'tool', mayBeEmpty: NO_TURNS },
      queries: [
        { expr: top(rows(6, 20), `${windowOfTile('tool', TOOL_CALLS)} > 0`) },
        { expr: `${windowOfTile('tool', TOOL_CALLS, { status: 'ok' })} / (${windowOfTile('tool', TOOL_CALLS)} > 0)` },
      ],
      columns: [
        { of: 'tool', title: 'Tool' },
        { of: 0, title: 'Calls', width: 70, look: { unit: 'locale', decimals: 0 } },
        { of: 1, title: 'OK', width: 60, cell: 'text', look: { unit: 'percentunit', decimals: 0, thresholds: 'good' } },
      ],
      sortBy: { column: 'Calls' },
    }),
    table({
      key: key('mcp'),
      title: 'MCP',
      description: 'Calls in the window to tools of MCP servers.',
      ...{ w: 7, h: 7, mayBeEmpty: 'only agents with MCP servers call them' },
      queries: [
        { expr: top(rows(18, 48), `${windowOfTile('mcp_server, tool', TOOL_CALLS, { mcp_server: '!=' })} > 0`) },
      ],
      columns: [
        { of: 'mcp_server', title: 'Server', width: 80 },
        { of: 'tool', title: 'Function' },
        { of: 0, title: 'Calls', width: 60, look: { unit: 'locale', decimals: 0 } },
      ],
      sortBy: { column: 'Calls' },
    }),
    stat({
      key: key('days'),
      title: 'Daily usage',
      description: 'The last 14 UTC days, today included so far; the number is today’s.',
      ...{ w: 6, h: 7, hasSparkline: true, timeFrom: '14d', interval: '1d', mayBeEmpty: NO_TURNS },
      queries: [
        {
          expr: daysOfTile('', NET_COST),
          legend: 'Cost',
          look: { unit: 'currencyUSD', decimals: 2, colour: plain('#94e2d5') },
        },
        {
          expr: daysOfTile('', TURNS),
          legend: 'Turns',
          look: { unit: 'locale', decimals: 0, colour: plain('yellow') },
        },
        {
          expr: daysOfTile('', NET_TOKENS),
          legend: 'Tokens',
          look: { unit: 'sishort', decimals: 1, colour: plain('#74c7ec') },
        },
      ],
    }),
    bars({
      key: key('payers'),
      title: 'Provider burn',
      description: 'Whom you pay for what this tile served: shares of the cost in the window, or of the tokens.',
      ...{ w: 5, h: 7, mayBeEmpty: NO_TURNS },
      look: { ...SHARE, colour: BLUE },
      queries: [{ expr: top(rows(4, 10), burnShare('provider', WINDOW_SUMS)), legend: '{{provider}}' }],
    }),
    bars({
      key: key('hosts'),
      title: 'Hosting providers',
      description: 'Who really served: shares of the cost in the window, or of the tokens.',
      ...{ w: 5, h: 7, mayBeEmpty: NO_TURNS },
      look: { ...SHARE, colour: BLUE },
      queries: [
        {
          expr: top(rows(4, 10), burnShare('upstream_provider', WINDOW_SUMS)),
          legend: '{{upstream_provider}}',
        },
      ],
    }),
    table({
      key: key('other'),
      title: 'Other data',
      description:
        'What the provider also reports of the account. Never add it to what turns cost: it is the same money.',
      ...{ w: 8, h: 7, mayBeEmpty: 'only what the provider reports is there' },
      queries: [{ expr: otherData() }],
      columns: [
        { of: 'what', title: 'What' },
        { of: 'of', title: 'Of', width: 96 },
        { of: 'unit', title: 'Unit', width: 104 },
        { of: 0, title: 'Value', width: 66, look: { decimals: 2 } },
      ],
      sortBy: { column: 'What', isAscending: true },
    }),
  ];
}

const TOKEN_TITLES = {
  input: 'In',
  output: 'Out',
  cache_read: 'Cached',
  cache_write: 'Stored',
  reasoning: 'Reason',
} as const;

/**
 * Everything reported that has no panel of its own, under the labels what (with its account where there are
 * several), of (its field and window) and unit.
 */
function otherData(): string {
  const named = (metric: string, family: MetricFamily, unit: string) =>
    `label_replace(label_join(${reading(family, ACCOUNT)}, "unit", "", "${unit}"), "metric", "${metric}", "", "")`;
  const all = [
    reading(TOLL.reportedValue, ACCOUNT),
    named('reported cost', TOLL.reportedCost, 'currency'),
    named('reload below', TOLL.reloadTrigger, 'currency'),
    named('reload by', TOLL.reloadAmount, 'currency'),
    named('models available', TOLL.modelsAvailable, 'currency'),
  ].join(' or ');
  const byAccount = `max by (account, metric, of, unit) (label_join(${all}, "of", " ", "field", "window"))`;
  return `label_join(${whose(byAccount, ACCOUNT)}, "what", "", "whose", "metric")`;
}
