// Agents beside each other: what each did, what failed of it, and whether that is all.

import { TOLL } from '../../src/metrics/catalogue.ts';
import { byDay, inWindow, type Matchers, NET_COST, NET_TOKENS, type Net } from '../promql.ts';
import type { Band } from './dashboard.ts';
import { COUNTED_TEXT } from './look.ts';
import { chart, table, text } from './panel.ts';

const TURNS: Net = { counter: TOLL.turns };
const TITLES: Net = { counter: TOLL.titleTurns };
const FAILED: Net = { counter: TOLL.turnErrors };
const NET_ESTIMATED: Net = { counter: TOLL.costEstimated, corrections: TOLL.costEstimatedCorrections };
/** The agent whose plugin tells of every turn, however it ended, and keeps what it could not deliver. */
const TELLS_ALL: Matchers = { agent: 'opencode' };
/** What of the others may be missing, as their losses were looked at. */
const MISSING = {
  claude_code:
    'what was exported while the bridge was away, or refused it for longer than 8 s; calls that the user broke off',
  codex:
    'what was exported while the bridge was away or refused it; the last second before it ends with an error; calls that the user broke off',
  gemini_cli: 'what was exported while the bridge was away; everything where it ends with a 401',
} as const;
const EXPORTING: Matchers = { agent: `=~${Object.keys(MISSING).join('|')}` };

const of = (net: Net, matchers?: Matchers) => inWindow('agent', net, matchers);
const turns = of(TURNS);
const failed = `(${of(FAILED)} or 0 * ${turns})`;
/** Of agents that export, a failed call is no turn; of the others it is one, and must not be counted twice. */
const calls = `(((${of(TURNS, { status: '!=error' })} or 0 * ${failed}) + ${failed}) > 0)`;
/** Who does not tell of aborted turns has no such share, which is not 0. */
const aborted = `(${of(TURNS, { status: 'aborted' })} or 0 * ${of(TURNS, TELLS_ALL)}) / (${turns} > 0)`;
const counted = `0 * (${of(TURNS, TELLS_ALL)} > 0) or 1 + 0 * (${of(TURNS, EXPORTING)} > 0)`;

const SHARE = { unit: 'percentunit', decimals: 1 };
const USD = { unit: 'currencyUSD', decimals: 2 };

export const AGENTS: Band = {
  title: 'Agents beside each other',
  panels: [
    table({
      key: 'agents',
      title: 'Agents',
      description:
        'Turns, net tokens (with those read from the cache) and net cost in the window by agent; calls of a model that failed, and their share of all calls; the shares of turns that were aborted, and that only gave a session its title, where an agent tells of them. A lower bound is what arrived: the agent keeps nothing that it could not deliver.',
      ...{ w: 16, h: 10, joinBy: 'agent' },
      queries: [
        { expr: `${turns} > 0` },
        { expr: `${of(NET_TOKENS)} > 0` },
        { expr: `${of(NET_COST)} > 0` },
        { expr: `${of(NET_ESTIMATED)} > 0` },
        { expr: `${failed} and ${calls}` },
        { expr: `${failed} / ${calls}` },
        { expr: aborted },
        { expr: `${of(TITLES)} / (${turns} > 0)` },
        { expr: counted },
      ],
      columns: [
        { of: 'agent', title: 'Agent' },
        { of: 0, title: 'Turns', width: 80, look: { unit: 'locale', decimals: 0 } },
        { of: 1, title: 'Tokens', width: 80, look: { unit: 'sishort', decimals: 1 } },
        { of: 2, title: 'Cost', width: 80, look: USD },
        { of: 3, title: 'Estimated', width: 80, look: USD },
        { of: 4, title: 'Failed', width: 65, look: { unit: 'locale', decimals: 0 } },
        { of: 5, title: 'Of calls', width: 70, cell: 'text', look: { ...SHARE, thresholds: 'failing' } },
        { of: 6, title: 'Aborted', width: 70, look: SHARE },
        { of: 7, title: 'Titles', width: 65, look: SHARE },
        { of: 8, title: 'Counted', width: 100, cell: 'text', look: { mappings: [COUNTED_TEXT] } },
      ],
      sortBy: { column: 'Turns' },
    }),
    text({
      key: 'lower-bounds',
      title: 'What may be missing',
      description: 'Why what an agent exports by itself is a lower bound, agent by agent.',
      ...{ w: 8, h: 10 },
      content: [
        'These keep nothing on disk. What one had not delivered when it was killed is missing, and:',
        ...Object.entries(MISSING).map(([agent, what]) => `- **${agent}**: ${what}`),
        '',
        'The plugin of **opencode** keeps what waits. Its title calls come as spans, of which some are lost.',
      ].join('\n'),
    }),
    chart({
      key: 'agent-turns',
      title: 'Turns by day and agent',
      description: 'Turns of each UTC day; of today so far.',
      ...{ w: 12, h: 8, isBars: true, isStacked: true, interval: '1d' },
      look: { unit: 'locale', decimals: 0 },
      queries: [{ expr: `${byDay('agent', TURNS)} > 0`, legend: '{{agent}}' }],
    }),
    chart({
      key: 'agent-tokens',
      title: 'Tokens by day and agent',
      description: 'Net tokens of each UTC day, with those read from the cache; of today so far.',
      ...{ w: 12, h: 8, isBars: true, isStacked: true, interval: '1d' },
      look: { unit: 'sishort', decimals: 1 },
      queries: [{ expr: `${byDay('agent', NET_TOKENS)} > 0`, legend: '{{agent}}' }],
    }),
    chart({
      key: 'agent-cost',
      title: 'Cost by day and agent',
      description: 'Net cost of each UTC day in USD, stated and estimated; of today so far.',
      ...{ w: 12, h: 8, isBars: true, isStacked: true, interval: '1d' },
      look: USD,
      queries: [
        { expr: `${byDay('agent', NET_COST)} > 0`, legend: '{{agent}}' },
        { expr: `${byDay('agent', NET_ESTIMATED)} > 0`, legend: '{{agent}}, estimated' },
      ],
    }),
    chart({
      key: 'agent-failures',
      title: 'Failed calls by day and agent',
      description: 'Calls of a model that failed on each UTC day; of today so far.',
      ...{ w: 12, h: 8, isBars: true, isStacked: true, interval: '1d', mayBeEmpty: 'where nothing failed' },
      look: { unit: 'locale', decimals: 0 },
      queries: [{ expr: `${byDay('agent', FAILED)} > 0`, legend: '{{agent}}' }],
    }),
  ],
};
