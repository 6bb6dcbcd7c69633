// Budgets of one's own: how much is used, where that leads, what is left, and what rules answered to agents. Shares of
// limits stand on one axis; amounts stand in a table, each beside its unit.

import { TOLL } from '../../src/metrics/catalogue.ts';
import { AMOUNTS, FORECAST, NEXT_STEP, STATES, type State, UNTIL_RESET, USED } from '../budgets.ts';
import { byDay, inWindow, type Net } from '../promql.ts';
import type { Band } from './dashboard.ts';
import { BUDGET_STATE_CODES, BUDGET_STATE_TEXT, plain, shadesOf } from './look.ts';
import { bars, chart, type Query, table } from './panel.ts';

const VERDICTS: Net = { counter: TOLL.policyVerdicts };
/** The strictest first. */
const DECISIONS = [
  ['stop', 'red'],
  ['warn', 'yellow'],
  ['allow', 'green'],
] as const;
const NO_BUDGETS = 'only who has set budgets has any';
const NOBODY_ASKED = 'only who has rules, and agents that ask, has answers';
const SHARE = { unit: 'percentunit', decimals: 0 };
const LIMIT_LINE = 'the limit';

/** Rows of a table are joined by budget alone, and each row has its unit once. */
const ofBudget = (expr: string): Query => ({ expr: `sum by (budget) (${expr})` });
const barsOf = (expr: string, colour: string): Query => ({
  expr: `sort_desc(${expr})`,
  legend: '{{budget}}',
  look: { colour: plain(colour) },
});

function stateCodes(): string {
  const codes = Object.entries(STATES).map(([state, expr]) => `${expr} * 0 + ${BUDGET_STATE_CODES[state as State]}`);
  return [...codes, `${USED} * 0`].join(' or ');
}

export const BUDGETS: Band = {
  title: 'Budgets',
  panels: [
    bars({
      key: 'budgets-used',
      title: 'Used of the limit',
      description:
        'Share of each budget that is used in its running period, of every team and agent. Yellow: a step of its own warn_at was reached. Red: it is used up.',
      ...{ w: 8, h: 8, mayBeEmpty: NO_BUDGETS },
      look: { ...SHARE, min: 0, max: 1 },
      queries: [
        barsOf(`${USED} >= 1`, 'red'),
        barsOf(STATES.warns, 'yellow'),
        barsOf(`${USED} < 1 unless ${STATES.warns}`, 'green'),
      ],
    }),
    bars({
      key: 'budgets-forecast',
      title: 'Where it leads',
      description:
        'Share of the limit that will be used when the period ends, if it goes on as it did on average since the period began. Red: it goes over. Nothing before a tenth of the period is over; what is used up stays as it is.',
      ...{ w: 8, h: 8, mayBeEmpty: NO_BUDGETS },
      look: { ...SHARE, min: 0, max: 1, thresholds: 'forecast' },
      queries: [{ expr: `sort_desc(${FORECAST})`, legend: '{{budget}}' }],
    }),
    table({
      key: 'verdicts',
      title: 'What rules answered',
      description:
        'Answers in the window to agents that asked before a turn or a tool call, by the rule that decided; "none" where no rule took part.',
      ...{ w: 8, h: 8, joinBy: 'rule', mayBeEmpty: NOBODY_ASKED },
      queries: DECISIONS.map(([decision]) => ({ expr: `${inWindow('rule', VERDICTS, { decision })} > 0` })),
      columns: [
        { of: 'rule', title: 'Rule' },
        { of: 0, title: 'Stop', width: 66, cell: 'text', look: { unit: 'locale', decimals: 0, colour: plain('red') } },
        { of: 1, title: 'Warn', width: 66, look: { unit: 'locale', decimals: 0 } },
        { of: 2, title: 'Allow', width: 66, look: { unit: 'locale', decimals: 0 } },
      ],
      sortBy: { column: 'Stop' },
    }),
    table({
      key: 'budgets',
      title: 'What is left, and how fast it goes',
      description:
        'Amounts in the unit of each budget: never add up two rows. "Spent a day" is the average of the period so far, and "Fits a day" is what may be spent in a day from now on so that the limit is just reached at the end. STOPS: a hard budget that is used up stops turns. TOO FAST: it leads over its limit and no step of warn_at was reached yet.',
      ...{ w: 24, h: 7, joinBy: 'budget', mayBeEmpty: NO_BUDGETS },
      queries: [
        { expr: `max by (budget, period) (${TOLL.policyBudgetInfo.name})` },
        { expr: stateCodes() },
        { expr: AMOUNTS.spent },
        ofBudget(AMOUNTS.limit),
        ofBudget(AMOUNTS.left),
        { expr: NEXT_STEP },
        ofBudget(AMOUNTS.burn),
        ofBudget(AMOUNTS.fits),
        ofBudget(AMOUNTS.atEnd),
        { expr: UNTIL_RESET },
      ],
      columns: [
        { of: 'budget', title: 'Budget' },
        { of: 'period', title: 'Period', width: 70 },
        {
          ...{ of: 1, title: 'State', width: 84, cell: 'background' },
          look: { unit: 'none', mappings: [BUDGET_STATE_TEXT] },
        },
        { of: 2, title: 'Spent', width: 112, look: { unit: 'locale' } },
        { of: 3, title: 'Limit', width: 112, look: { unit: 'locale' } },
        { of: 4, title: 'Left', width: 112, look: { unit: 'locale' } },
        { of: 'unit', title: 'Unit', width: 64 },
        { of: 5, title: 'Next warning', width: 100, look: SHARE },
        { of: 6, title: 'Spent a day', width: 100, look: { unit: 'locale' } },
        { of: 7, title: 'Fits a day', width: 92, look: { unit: 'locale' } },
        { of: 8, title: 'At the end', width: 112, look: { unit: 'locale' } },
        { of: 9, title: 'Resets in', width: 110, look: { unit: 'dtdhms', decimals: 0 } },
      ],
      sortBy: { column: 'State' },
    }),
    chart({
      key: 'budgets-over-time',
      title: 'Used, over time',
      description: 'Share of each budget that was used, in percent of its limit, so that units do not mix.',
      ...{ w: 8, h: 8, mayBeEmpty: NO_BUDGETS, limit: LIMIT_LINE },
      look: SHARE,
      queries: [{ expr: USED, legend: '{{budget}}' }, limitLine()],
    }),
    chart({
      key: 'forecast-over-time',
      title: 'Where it led, over time',
      description:
        'Share of the limit that would have been used at the end of the period, as it looked then. Nothing before a tenth of a period was over.',
      ...{ w: 8, h: 8, mayBeEmpty: NO_BUDGETS, limit: LIMIT_LINE },
      look: SHARE,
      queries: [{ expr: FORECAST, legend: '{{budget}}' }, limitLine()],
    }),
    chart({
      key: 'verdicts-by-day',
      title: 'Answers by day and rule',
      description:
        'Answers to agents on each UTC day, of today so far: stops (red) and warnings (yellow) by the rule that decided, and how often they were allowed to go on (green).',
      ...{ w: 8, h: 8, isBars: true, isStacked: true, interval: '1d', mayBeEmpty: NOBODY_ASKED },
      look: { unit: 'locale', decimals: 0 },
      queries: DECISIONS.map(([decision, colour]) => ({
        expr: `${byDay(decision === 'allow' ? '' : 'rule', VERDICTS, { decision })} > 0`,
        legend: decision === 'allow' ? decision : `${decision} {{rule}}`,
        look: { colour: shadesOf(colour) },
      })),
    }),
  ],
};

function limitLine(): Query {
  return { expr: `vector(1) and on () ${USED}`, legend: LIMIT_LINE };
}
