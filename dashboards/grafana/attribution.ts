// Whose money it was: by team, user, project and agent; and the budgets that were set for them.

import { TOLL } from '../../src/metrics/catalogue.ts';
import { byDay, fold, inWindow, type Matchers, NET_COST, NET_TOKENS, type Net } from '../promql.ts';
import { BUDGETS } from './budgets.ts';
import { type DashboardSpec, labelVariable, startVariable, windowVariable } from './dashboard.ts';
import { plain } from './look.ts';
import { bars, chart, type PanelSpec, table } from './panel.ts';
import { ATTRIBUTION_UID } from './uids.ts';

const CHOSEN: Matchers = { team: '=~$team', agent: '=~$agent' };
const TURNS: Net = { counter: TOLL.turns };
/** Labels that a turn may lack, and what such turns stand under. */
const NOBODY = { team: 'no team', user: 'no user', project: 'no project' } as const;
const named = (expr: string, ...labels: (keyof typeof NOBODY)[]): string =>
  labels.reduce((inner, label) => `label_replace(${inner}, "${label}", "${NOBODY[label]}", "${label}", "")`, expr);
const WHO_IS_NAMED = 'Turns name a team and a user where a credential, a subject or socket.identity does.';

function share(label: keyof typeof NOBODY | 'agent', title: string): PanelSpec {
  const cost = inWindow(label, NET_COST, CHOSEN);
  const nobody = label === 'agent' ? '' : ` What names none is "${NOBODY[label]}".`;
  return bars({
    key: `by-${label}`,
    title,
    description: `Net cost in the window in USD, by ${label}.${nobody}`,
    ...{ w: 6, h: 8 },
    look: { unit: 'currencyUSD', decimals: 2, colour: plain('blue') },
    queries: [{ expr: `topk(10, ${label === 'agent' ? cost : named(cost, label)} > 0)`, legend: `{{${label}}}` }],
  });
}

export const ATTRIBUTION: DashboardSpec = {
  uid: ATTRIBUTION_UID,
  title: 'Tollbridge / Attribution',
  description: 'Spend by team, user, project and agent, and the budgets that were set for them.',
  range: '14d',
  variables: [
    windowVariable,
    labelVariable('team', 'Team', TOLL.turns),
    labelVariable('agent', 'Agent', TOLL.turns),
    startVariable,
  ],
  bands: [
    {
      panels: [
        share('team', 'Teams'),
        share('user', 'Users'),
        share('project', 'Projects'),
        share('agent', 'Agents'),
        table({
          key: 'everybody',
          title: 'Who did what',
          description: `Net cost, tokens (with those read from the cache) and turns in the window. ${WHO_IS_NAMED}`,
          ...{ w: 14, h: 12, joinBy: 'who' },
          queries: [TURNS, NET_COST, NET_TOKENS].map((net, index) => {
            const sum = `label_join(${named(inWindow('team, project, agent', net, CHOSEN), 'team', 'project')}, "who", " ", "team", "project", "agent")`;
            return { expr: index === 0 ? `${sum} > 0` : `sum by (who) (${sum})` };
          }),
          columns: [
            { of: 'team', title: 'Team' },
            { of: 'project', title: 'Project' },
            { of: 'agent', title: 'Agent' },
            { of: 1, title: 'Cost', width: 90, look: { unit: 'currencyUSD', decimals: 2 } },
            { of: 2, title: 'Tokens', width: 90, look: { unit: 'sishort', decimals: 1 } },
            { of: 0, title: 'Turns', width: 80, look: { unit: 'locale', decimals: 0 } },
          ],
          sortBy: { column: 'Cost' },
        }),
        chart({
          key: 'cost-by-team',
          title: 'Cost by day and team',
          description: 'Net cost of each UTC day in USD, by team; of today so far.',
          ...{ w: 10, h: 12, isBars: true, isStacked: true, interval: '1d' },
          look: { unit: 'currencyUSD', decimals: 2 },
          queries: [{ expr: `${named(byDay('team', NET_COST, CHOSEN), 'team')} > 0`, legend: '{{team}}' }],
        }),
      ],
    },
    BUDGETS,
    {
      title: 'Sessions and tools',
      panels: [
        bars({
          key: 'sessions',
          title: 'Sessions by project',
          description: 'Sessions that began in the window; forks and sub-agent sessions are sessions of their own.',
          ...{ w: 8, h: 8 },
          look: { unit: 'locale', decimals: 0, colour: plain('blue') },
          queries: [
            {
              expr: `topk(10, ${named(inWindow('project', { counter: TOLL.sessions }, { agent: '=~$agent' }), 'project')} > 0)`,
              legend: '{{project}}',
            },
          ],
        }),
        bars({
          key: 'tools',
          title: 'Tool calls by tool',
          description: 'Finished tool calls in the window.',
          ...{ w: 8, h: 8 },
          look: { unit: 'locale', decimals: 0, colour: plain('blue') },
          queries: [
            {
              expr: `topk(10, ${inWindow('tool', { counter: TOLL.toolCalls }, { agent: '=~$agent' })} > 0)`,
              legend: '{{tool}}',
            },
          ],
        }),
        table({
          key: 'pricing',
          title: 'How models are priced',
          description: 'Whether the newest turn of a model stated its cost, or how it was priced. Unknown is not zero.',
          ...{ w: 8, h: 8 },
          queries: [{ expr: `max by (provider, model, state) (${fold(TOLL.pricingInfo.name)})` }],
          columns: [
            { of: 'provider', title: 'Provider', width: 110 },
            { of: 'model', title: 'Model' },
            { of: 'state', title: 'Price', width: 90 },
          ],
          sortBy: { column: 'Provider', isAscending: true },
        }),
      ],
    },
  ],
};
