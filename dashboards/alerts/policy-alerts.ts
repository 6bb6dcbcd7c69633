// The user's own budgets: near their limit, used up, and on the way there.

import { TOLL } from '../../src/metrics/catalogue.ts';
import { FORECAST, USED } from '../budgets.ts';
import { total } from '../promql.ts';
import type { Alert } from './alert.ts';
import { increase } from './expressions.ts';

const SOFT = 0.8;
const B = { budget: 'core' };
const used = (values: string) => ({ 'toll_policy_used_ratio{budget="core"}': values });
/** A period of 10 000 s that began with the history. */
const PERIOD = {
  'toll_policy_period_start_timestamp_seconds{budget="core"}': '0x160',
  'toll_policy_period_end_timestamp_seconds{budget="core"}': '10000x160',
};
const WHO =
  'See who spends: `topk(5, sum by (team, user, model) (max without (instance, replica) (rate(toll_cost_usd_total[1h]))))`.';

export const POLICY_ALERTS: readonly Alert[] = [
  {
    name: 'TollBudgetSoft',
    severity: 'warning',
    expr: `${USED} >= ${SOFT} < 1`,
    for: '5m',
    keepFiringFor: '15m',
    summary: 'Budget {{ $labels.budget }} is used to {{ $value | humanizePercentage }}',
    meaning:
      'A budget of your own configuration is near its limit. Where it is hard, agents are stopped once it is used up.',
    steps: [
      WHO,
      'Decide whether the period may cost more, and raise the limit in tollbridge.yaml before it is reached.',
    ],
    fires: [
      {
        ...{ name: 'at 85 %', series: used('0.85x60'), at: '30m', labels: B },
        summary: 'Budget core is used to 85%',
      },
    ],
    silent: [
      { name: 'at 79 %', series: used('0.79x60'), at: '30m' },
      { name: 'at 100 %, which is another alert', series: used('1x60'), at: '30m' },
      { name: 'in the next period', series: used('0.9x4 0.01x56'), at: '40m' },
    ],
  },
  {
    name: 'TollBudgetUsedUp',
    severity: 'critical',
    expr: `${USED} >= 1`,
    for: '1m',
    summary: 'Budget {{ $labels.budget }} is used up ({{ $value | humanizePercentage }})',
    meaning: 'A hard budget now stops every turn in its scope until its period ends; any other only says so.',
    steps: [WHO, 'Raise the limit in tollbridge.yaml and restart the bridge, or wait for the end of the period.'],
    fires: [
      {
        ...{ name: 'at its limit', series: used('1x60'), at: '10m', labels: B },
        summary: 'Budget core is used up (100%)',
      },
    ],
    silent: [{ name: 'just below it', series: used('0.999x60'), at: '10m' }],
  },
  {
    name: 'TollBudgetForecastOver',
    severity: 'warning',
    expr: `${FORECAST} > 1 and ${USED} < ${SOFT}`,
    for: '15m',
    summary: 'Budget {{ $labels.budget }} is on the way to {{ $value | humanizePercentage }} of its limit',
    meaning: 'If the rest of the period is spent at the pace of its beginning, the limit is passed before it ends.',
    steps: [WHO, 'Slow down now, or raise the limit in time.'],
    fires: [
      {
        ...{ name: 'half used in a quarter', series: { ...PERIOD, ...used('0.5x160') }, at: '42m', labels: B },
        summary: 'Budget core is on the way to 198.4% of its limit',
      },
    ],
    silent: [
      { name: 'half used in a half', series: { ...PERIOD, ...used('0.4x160') }, at: '84m' },
      { name: 'at the very beginning', series: { ...PERIOD, ...used('0.5x160') }, at: '15m' },
    ],
  },
  {
    name: 'TollCallsUnchecked',
    severity: 'warning',
    expr: `${total('agent', increase(TOLL.policyUnchecked, '15m'))} > 0`,
    for: '0m',
    keepFiringFor: '15m',
    summary: '{{ $labels.agent }} made calls that no budget was checked for',
    meaning:
      'Its bridge did not answer in time, and `verdict.fail` lets calls go ahead then. What they cost is counted all the same.',
    steps: [
      'Look into the log of the bridge on that machine for a stop or a restart, and at its load.',
      'Where an unchecked call is worse than none, set `verdict.fail` to `closed` and run `tollbridge install opencode`.',
    ],
    fires: [
      {
        name: 'after an outage',
        series: { 'toll_policy_unchecked_total{agent="opencode"}': '0x20 3x40' },
        ...{ at: '25m', labels: { agent: 'opencode' } },
        summary: 'opencode made calls that no budget was checked for',
      },
    ],
    silent: [{ name: 'none', series: { 'toll_policy_unchecked_total{agent="opencode"}': '3x60' }, at: '50m' }],
  },
];
