// Which panel shows what a tile of OpenUsage shows; where none does, why. From it docs/tiles.md is written.

import { PLACED } from './pack.ts';
import {
  ANALYTICS_UID,
  ATTRIBUTION_UID,
  DETAIL_UID,
  HEALTH_UID,
  OPENCODE_UID,
  TILES_UID,
  UPSTREAM_UID,
} from './uids.ts';

/** Panels as `dashboard/key`, or the reason why there is none. */
interface Element {
  readonly element: string;
  readonly panels?: readonly string[];
  readonly how?: string;
  readonly reason?: string;
}

const tiles = (...keys: string[]) => keys.map((key) => `${TILES_UID}/${key}`);
const detail = (...keys: string[]) => keys.map((key) => `${DETAIL_UID}/${key}`);
/** A section stands in the band of its tile, and on the tile's own dashboard. */
const section = (name: string) => [...tiles(`band-${name}`), ...detail(`section-${name}`)];
const analytics = (...keys: string[]) => keys.map((key) => `${ANALYTICS_UID}/${key}`);

export const COVERAGE: readonly { readonly part: string; readonly elements: readonly Element[] }[] = [
  {
    part: 'Frame and header',
    elements: [
      { element: 'Title', panels: tiles('card'), how: 'the title of the card: "Anthropic · claude_code"' },
      { element: 'Time-window pill', panels: tiles('card'), how: 'after the title; chosen for all tiles at the top' },
      { element: 'Status icon and badge', panels: [...tiles('card', 'accounts'), `${OPENCODE_UID}/state`] },
      { element: 'Type tag', reason: 'it repeats what the lines of the card say: credits, usage, an error, a login' },
      { element: 'Billing cycle and 5h block', panels: detail('timers'), how: 'when each starts anew' },
      { element: 'Reset countdown', panels: [...tiles('card', 'accounts'), ...detail('timers')] },
      {
        element: 'Provider colour',
        panels: [`${UPSTREAM_UID}/cost-by-day`],
        how: 'the same in every chart by upstream provider',
      },
      {
        element: 'Clock or age of the snapshot',
        panels: tiles('card', 'accounts'),
        how: '"Read": seconds since the account was read',
      },
      {
        element: 'Order of the tiles',
        panels: tiles('card'),
        how: 'by title: Prometheus does not know the order in a configuration',
      },
      { element: 'Filter', panels: tiles('card'), how: 'the variable Tile' },
      { element: 'Views Stacked, Tabs, Split, Compare', reason: 'ways to fit a terminal; a dashboard scrolls' },
    ],
  },
  {
    part: 'Top usage progress',
    elements: [
      {
        element: 'Gauges',
        panels: [...section('gauges'), ...tiles('card')],
        how: 'all of them; the fullest on the card. Yellow from 80 %, red from 95 %',
      },
      {
        element: 'Stacked gauge (own and team share)',
        panels: section('other'),
        how: 'as values: team_budget_self and team_budget_others',
      },
      {
        element: 'Projection',
        panels: [...tiles('card', 'accounts'), ...detail('forecast')],
        how: '"by reset", for windows of 5h, 1d, 7d and 30d, once a twentieth of the window has passed',
      },
      {
        element: 'Hero line',
        panels: tiles('card'),
        how: 'the first that is known: spent of a limit, balance, spent of bought credits, cost as reported',
      },
      {
        element: 'Detail line',
        panels: tiles('card'),
        how: 'left of the limit, else spent of the balance in the window; models',
      },
      {
        element: 'Hero for rate limits',
        panels: section('gauges'),
        how: 'the most used limit, not the least used one',
      },
      {
        element: 'Hero for a context window',
        panels: section('other'),
        how: 'as it is reported; what is left is not called used',
      },
      { element: 'Window activity line', panels: tiles('card'), how: 'turns, cost and tokens of the window' },
      {
        element: 'Message',
        reason: 'free text of a provider may hold anything, and never becomes a label; the state is a closed set',
      },
    ],
  },
  {
    part: 'Sections',
    elements: [
      { element: 'Model burn: bar, shares, tokens, cost', panels: section('models') },
      { element: 'Model burn: sparklines', panels: detail('cost-by-model', 'tokens-by-model') },
      { element: 'Token breakdown', panels: section('tokens') },
      {
        element: 'Share that was cached',
        panels: [...tiles('cache-hits'), ...detail('forecast')],
        how: 'high is good, and green',
      },
      { element: 'Clients', panels: section('clients'), how: 'the agents that sent the turns' },
      { element: 'Projects', panels: section('projects') },
      {
        element: 'Tool usage: calls, share that ended well',
        panels: [...section('tool-summary'), ...section('tools')],
      },
      { element: 'MCP usage', panels: section('mcp') },
      { element: 'Languages', reason: 'they are read from the names of touched files, which are not taken in' },
      {
        element: 'Code statistics',
        panels: section('other'),
        how: 'what OpenUsage reports of lines, files and commits; no turn tells it',
      },
      { element: 'Daily usage', panels: section('days'), how: '14 UTC days' },
      { element: 'Provider burn', panels: section('payers'), how: 'by the provider that is paid' },
      { element: 'Hosting providers', panels: section('hosts'), how: 'by the upstream provider that served' },
      { element: 'Other data, compact rows', panels: section('other') },
      { element: 'Meta rows', panels: detail('info'), how: 'plan, subscription and access; no name, e-mail or key' },
      {
        element: 'Unattributed cost',
        panels: [`${OPENCODE_UID}/drift`],
        how: 'what the balance lost beyond what turns cost',
      },
      { element: '+ N more', how: 'the dashboard of the tile has more rows', panels: detail('section-models') },
    ],
  },
  {
    part: 'Windows and costs',
    elements: [
      {
        element: 'Time-window switch',
        panels: tiles('spend', 'tokens', 'turns'),
        how: 'the variable Window: today, 3d, 7d, 30d, month, all',
      },
      {
        element: 'Hide costs of subscriptions',
        panels: [`${ATTRIBUTION_UID}/pricing`],
        how: 'cost that nobody stated is never in a cost: an included model costs $0, an unpriced one is a dash',
      },
      {
        element: 'Window credit spend',
        panels: tiles('card'),
        how: '"Spent of balance": falls of the balance, without top-ups',
      },
      { element: 'Unmapped telemetry', panels: tiles('unmapped', 'unmapped-fix') },
    ],
  },
  {
    part: 'Computed quantities',
    elements: [
      {
        element: 'Cost summary',
        panels: tiles('card'),
        how: 'turns and reports are never added up: they are the same money',
      },
      { element: 'Forecast', panels: [...detail('forecast'), `${OPENCODE_UID}/state`, `${OPENCODE_UID}/month`] },
      { element: 'Burn rate', panels: [`${UPSTREAM_UID}/cost-pace`] },
      { element: 'Cheapest per 1k tokens', panels: [...analytics('efficiency'), `${UPSTREAM_UID}/models`] },
    ],
  },
  {
    part: 'Analytics',
    elements: [
      { element: 'Window spend, token volume', panels: analytics('spend', 'volume') },
      { element: 'Spend per active day', panels: analytics('per-active-day') },
      { element: 'Spend trend', panels: analytics('trend') },
      { element: 'Total cost over time', panels: analytics('cost-over-time') },
      { element: 'Daily token volume', panels: analytics('tokens-over-time') },
      { element: 'Provider leaders and provider spend', panels: analytics('providers') },
      { element: 'Model leaders', panels: analytics('models') },
      { element: 'What changed: peak day', panels: analytics('cost-over-time'), how: 'the highest bar' },
      {
        element: 'What changed: top provider, client, project, MCP',
        panels: analytics('providers', 'clients', 'projects', 'mcp'),
      },
      { element: 'Budget and quota pressure', panels: analytics('pressure') },
      { element: 'Hot spots', panels: analytics('clients', 'projects', 'mcp') },
      { element: 'Model heat map over days', panels: analytics('models-over-time'), how: 'as stacked bars' },
      { element: 'Peak activity', panels: analytics('activity') },
      {
        element: 'Activity heat map, weekday by week',
        reason: 'Grafana has no panel that is a calendar; peak activity shows the hours',
      },
      {
        element: 'Volatility, concentration, weekday averages',
        reason: 'they are computed and not shown in OpenUsage either',
      },
      { element: 'Models merged by lineage', reason: 'a model is called what its provider calls it; merging guesses' },
    ],
  },
  {
    part: 'Detail view',
    elements: [
      { element: 'Usage gauges', panels: detail('section-gauges', 'plan-over-time') },
      { element: 'Spending', panels: detail('card', 'forecast', 'balance-over-time') },
      {
        element: 'Trends: cost, tokens, requests',
        panels: detail('cost-by-model', 'tokens-by-model', 'turns-by-status'),
      },
      { element: 'Trends: messages', reason: 'a turn is what is counted: one answer of a model' },
      { element: 'Trends: sessions', panels: [`${ATTRIBUTION_UID}/sessions`] },
      { element: 'Timers', panels: detail('timers') },
      { element: 'Info: attributes', panels: detail('info') },
      {
        element: 'Info: diagnostics, raw',
        reason: 'free text; `tollbridge doctor` says what is wrong in its own words',
      },
      { element: 'Last sessions, single turns', reason: 'ids are never labels, or every turn would be a series' },
      { element: 'Health of what feeds it', panels: [`${HEALTH_UID}/sources`, `${HEALTH_UID}/conservation`] },
    ],
  },
];

/** Title of the dashboard, title and id of the panel. @throws Error when there is no such panel */
function placeOf(reference: string): string {
  const [uid, key] = reference.split('/') as [string, string];
  const placed = PLACED.find(({ dashboard }) => dashboard.uid === uid);
  const panel = placed?.panels.get(key);
  if (!placed || !panel) throw new Error(`there is no panel ${reference}`);
  const { title } = panel.spec;
  const shown = title.includes('$') ? 'the card' : title;
  return `${placed.dashboard.title?.replace('Tollbridge / ', '')} → ${shown} (${panel.id})`;
}

/** docs/tiles.md. */
export function coverageFile(): { readonly file: string; readonly text: string } {
  const parts = COVERAGE.map(({ part, elements }) => {
    const rows = elements.map(({ element, panels = [], how, reason }) => {
      const where = reason ? `not shown: ${reason}` : panels.map(placeOf).join('<br>');
      return `| ${element} | ${where} | ${how ?? ''} |`;
    });
    return `## ${part}\n\n| on a tile | panel (id) | how |\n|---|---|---|\n${rows.join('\n')}\n`;
  });
  const text = `<!-- Generated by "npm run generate" from dashboards/grafana/coverage.ts; do not edit. -->
# Tiles, and where they are

What a tile of OpenUsage shows, element by element, and the dashboard and panel that shows it here.

${parts.join('\n')}`;
  return { file: 'docs/tiles.md', text };
}
