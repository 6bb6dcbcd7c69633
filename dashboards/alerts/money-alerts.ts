// Balance, monthly limit, pace and plan windows.

import { TOLL } from '../../src/metrics/catalogue.ts';
import type { Alert } from './alert.ts';
import {
  LIMIT_CRIT,
  LIMIT_RESET,
  LIMIT_USD,
  LIMIT_WARN,
  ofMoney,
  RECORDED,
  UNLESS_CATCHING_UP,
  UNLESS_RELOAD_WORKS,
  USED_OF_LIMIT,
} from './expressions.ts';

const WORK = { provider: 'opencode', account: 'work' };
const WORK_USD = { ...WORK, currency: 'USD' };
const ID = 'provider="opencode",account="work"';
const balance = (values: string) => ({ [`toll_balance{${ID},kind="console",currency="USD"}`]: values });
const limit = (values: string) => ({ [`toll_spend_limit{${ID},limit="monthly",currency="USD"}`]: values });
const used = (values: string) => ({ [`toll_spend_limit_used{${ID},limit="monthly",currency="USD"}`]: values });
const cost = (values: string) => ({ [`toll_cost_usd_total{${ID},model="m"}`]: values });
const reload = (enabled: string, failing?: string) => ({
  [`toll_reload_enabled{${ID}}`]: enabled,
  ...(failing === undefined ? {} : { [`toll_reload_failing{${ID}}`]: failing }),
});

const TOP_UP = 'Top the account up, or switch auto-reload on, in its console.';
const WHO =
  'See who spends: `topk(5, sum by (team, user, model) (max without (instance, replica) (rate(toll_cost_usd_total[1h]))))`.';
const SLOW_DOWN = 'If it is not meant: stop the agent that loops, or take its key away, then look at its last session.';

export const MONEY_ALERTS: readonly Alert[] = [
  {
    name: 'TollMonthlyLimitSoft',
    severity: 'warning',
    expr: `${RECORDED.limitUsed} >= ${LIMIT_WARN} < ${LIMIT_CRIT}`,
    for: '5m',
    keepFiringFor: '15m',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }} has used {{ $value | humanizePercentage }} of its monthly limit',
    meaning:
      'The provider itself says so. At 100 % it refuses every call until the month is over or the limit is raised.',
    steps: [WHO, 'Decide whether the month may cost more, and raise the limit in the console before it is reached.'],
    fires: [
      {
        ...{ name: 'at 85 %', series: { ...limit('100x60'), ...used('85x60') }, at: '30m', labels: WORK_USD },
        summary: 'opencode/work has used 85% of its monthly limit',
      },
    ],
    silent: [
      { name: 'at 79 %', series: { ...limit('100x60'), ...used('79x60') }, at: '30m' },
      { name: 'at 96 %, which is another alert', series: { ...limit('100x60'), ...used('96x60') }, at: '30m' },
      { name: 'at the rollover of the month', series: { ...limit('100x60'), ...used('90x4 1x56') }, at: '40m' },
      { name: 'when the polls have gone stale', series: { ...limit('100x4 stale'), ...used('90x4 stale') }, at: '30m' },
    ],
  },
  {
    name: 'TollMonthlyLimitHard',
    severity: 'critical',
    expr: `${RECORDED.limitUsed} >= ${LIMIT_CRIT}`,
    for: '2m',
    keepFiringFor: '15m',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }} has used {{ $value | humanizePercentage }} of its monthly limit',
    meaning: 'Calls are about to be refused, or are refused already: agents stop in the middle of their work.',
    steps: ['Raise the limit in the console now, or tell the people who use this account to move to another one.', WHO],
    fires: [
      {
        ...{ name: 'at 96 %, also with two bridges', at: '10m', labels: WORK_USD },
        series: {
          [`toll_spend_limit{${ID},limit="monthly",currency="USD",instance="a"}`]: '100x30',
          [`toll_spend_limit{${ID},limit="monthly",currency="USD",instance="b"}`]: '100x30',
          [`toll_spend_limit_used{${ID},limit="monthly",currency="USD",instance="a"}`]: '96x30',
          [`toll_spend_limit_used{${ID},limit="monthly",currency="USD",instance="b"}`]: '96x30',
        },
        summary: 'opencode/work has used 96% of its monthly limit',
      },
    ],
    silent: [{ name: 'at 94 %', series: { ...limit('100x30'), ...used('94x30') }, at: '10m' }],
  },
  {
    name: 'TollMonthlyLimitForecastOver',
    severity: 'warning',
    expr:
      `${USED_OF_LIMIT.replace('provider, account, currency', 'provider, account').replace('limit="monthly"', 'limit="monthly",currency="USD"')}` +
      ` + on (provider, account) ${RECORDED.spend('3d')} * on (provider, account) (${LIMIT_RESET} - time())` +
      ` > on (provider, account) 1.05 * ${LIMIT_USD}`,
    for: '6h',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }} comes to {{ $value | printf "%.2f" }} USD by the end of its month, above its limit',
    meaning: 'At the pace of the last three days the limit is reached before the month is over.',
    steps: [WHO, 'Raise the limit in time, move work to a cheaper model, or let it come to the limit knowingly.'],
    fires: [
      {
        name: 'half used, with half the month to go at twice the even pace',
        interval: '5m',
        series: {
          ...limit('100x1200'),
          ...used('50+0.0233333x1200'),
          ...cost('0+0.0233333x1200'),
          [`toll_spend_limit_reset_timestamp_seconds{${ID},limit="monthly"}`]: '1650000x1200',
        },
        ...{
          at: '90h',
          labels: WORK,
          summary: 'opencode/work comes to 178.33 USD by the end of its month, above its limit',
        },
      },
    ],
    silent: [
      {
        name: 'a good week: the even pace',
        interval: '5m',
        series: {
          ...limit('100x1200'),
          ...used('10+0.0083333x1200'),
          ...cost('0+0.0083333x1200'),
          [`toll_spend_limit_reset_timestamp_seconds{${ID},limit="monthly"}`]: '1650000x1200',
        },
        at: '90h',
      },
    ],
  },
  {
    name: 'TollBalanceExhausted',
    severity: 'critical',
    expr: `${RECORDED.balance} <= 0`,
    for: '1m',
    summary: '{{ $labels.provider }}/{{ $labels.account }} has no balance left',
    meaning: 'The provider refuses calls that are paid from it.',
    steps: [TOP_UP, 'If auto-reload was on: its card was refused, or its limit reached; the console says which.'],
    fires: [
      {
        ...{ name: 'below zero', series: balance('3x5 -0.2x20'), at: '15m', labels: WORK_USD },
        summary: 'opencode/work has no balance left',
      },
    ],
    silent: [
      { name: 'a cent left', series: balance('0.01x20'), at: '15m' },
      { name: 'a balance that is not known', series: balance('3x5 stale'), at: '15m' },
      { name: 'refilled', series: balance('-1x5 20x20'), at: '15m' },
    ],
  },
  {
    name: 'TollBalanceCannotCoverLimit',
    severity: 'warning',
    expr: `${RECORDED.balance} < on (provider, account, currency) (${RECORDED.limit} - on (provider, account, currency) ${USED_OF_LIMIT}) ${UNLESS_RELOAD_WORKS}`,
    for: '15m',
    keepFiringFor: '15m',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }} has {{ $value | printf "%.2f" }} {{ $labels.currency }} left, less than its monthly limit still allows',
    meaning:
      'The limit lets people spend more this month than there is: the balance ends first, without a warning of the provider.',
    steps: [TOP_UP, 'Or lower the monthly limit to what there is.'],
    fires: [
      {
        name: '5 left where 40 are still allowed',
        series: { ...balance('5x60'), ...limit('100x60'), ...used('60x60') },
        ...{ at: '40m', labels: WORK_USD },
        summary: 'opencode/work has 5.00 USD left, less than its monthly limit still allows',
      },
      {
        name: 'auto-reload is on, and fails',
        series: { ...balance('5x60'), ...limit('100x60'), ...used('60x60'), ...reload('1x60', '1x60') },
        ...{ at: '40m', labels: WORK_USD },
        summary: 'opencode/work has 5.00 USD left, less than its monthly limit still allows',
      },
    ],
    silent: [
      { name: 'enough', series: { ...balance('50x60'), ...limit('100x60'), ...used('60x60') }, at: '40m' },
      {
        ...{ name: 'auto-reload works', at: '40m' },
        series: { ...balance('5x60'), ...limit('100x60'), ...used('60x60'), ...reload('1x60', '0x60') },
      },
      {
        ...{ name: 'another currency than the limit', at: '40m' },
        series: { [`toll_balance{${ID},kind="console",currency="EUR"}`]: '5x60', ...limit('100x60'), ...used('60x60') },
      },
      { name: 'no limit', series: balance('5x60'), at: '40m' },
    ],
  },
  {
    name: 'TollBalanceBelowReloadTrigger',
    severity: 'warning',
    expr: `${RECORDED.balance} < on (provider, account, currency) ${ofMoney(TOLL.reloadTrigger)} ${UNLESS_RELOAD_WORKS}`,
    for: '10m',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }} has {{ $value | printf "%.2f" }} {{ $labels.currency }} left, below the point at which it should reload, and nothing reloads it',
    meaning: 'Auto-reload is off, or its payment fails.',
    steps: ['Look at the payment method in the console: an expired card is the usual cause.', TOP_UP],
    fires: [
      {
        name: 'off',
        series: { ...balance('4x30'), [`toll_reload_trigger{${ID},currency="USD"}`]: '5x30', ...reload('0x30') },
        ...{ at: '20m', labels: WORK_USD },
        summary: 'opencode/work has 4.00 USD left, below the point at which it should reload, and nothing reloads it',
      },
    ],
    silent: [
      {
        ...{ name: 'on, and about to reload', at: '20m' },
        series: {
          ...balance('4x30'),
          [`toll_reload_trigger{${ID},currency="USD"}`]: '5x30',
          ...reload('1x30', '0x30'),
        },
      },
      {
        ...{ name: 'above it', at: '20m' },
        series: { ...balance('6x30'), [`toll_reload_trigger{${ID},currency="USD"}`]: '5x30', ...reload('0x30') },
      },
    ],
  },
  {
    name: 'TollBalanceForecastEmpty',
    severity: 'warning',
    expr: `${RECORDED.balance} / (${RECORDED.balanceSpent} > 0) < 3 * 86400 and ${RECORDED.balance} > 0 ${UNLESS_RELOAD_WORKS}`,
    for: '30m',
    keepFiringFor: '1h',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }} runs out in {{ $value | humanizeDuration }} at the pace of the last 6 hours',
    meaning: 'What the balance lost in six hours, top-ups left out, would empty it within three days.',
    steps: [TOP_UP, WHO],
    fires: [
      {
        name: 'a steady fall, with a refill of 20 in between',
        interval: '2m',
        series: {
          ...balance('60-0.04x230 70.76-0.04x125'),
          [`toll_balance_spent_total{${ID},kind="console",currency="USD"}`]: '0+0.04x360',
        },
        ...{ at: '9h', labels: WORK_USD },
        summary: 'opencode/work runs out in 2d 9h 40m 0s at the pace of the last 6 hours',
      },
    ],
    silent: [
      {
        ...{ name: 'a slow fall', interval: '2m', at: '9h' },
        series: {
          ...balance('60-0.004x360'),
          [`toll_balance_spent_total{${ID},kind="console",currency="USD"}`]: '0+0.004x360',
        },
      },
      {
        ...{ name: 'auto-reload works', interval: '2m', at: '9h' },
        series: {
          ...balance('20-0.04x360'),
          [`toll_balance_spent_total{${ID},kind="console",currency="USD"}`]: '0+0.04x360',
          ...reload('1x360', '0x360'),
        },
      },
    ],
  },
  {
    name: 'TollBalanceBelowDayOfSpend',
    severity: 'critical',
    expr: `${RECORDED.balance}{currency="USD"} > 0 < on (provider, account) group_left () (${RECORDED.spend('1d')} * 86400) ${UNLESS_RELOAD_WORKS}`,
    for: '5m',
    keepFiringFor: '15m',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }} has {{ $value | printf "%.2f" }} USD left, less than the last day cost',
    meaning: 'Another day like the last one, and calls are refused.',
    steps: [TOP_UP, WHO],
    fires: [
      {
        name: '10 left after a day of 14.4',
        series: { ...balance('10x1500'), ...cost('0+0.01x1500') },
        ...{ at: '24h', labels: WORK_USD },
        summary: 'opencode/work has 10.00 USD left, less than the last day cost',
      },
    ],
    silent: [
      { name: '20 left', series: { ...balance('20x1500'), ...cost('0+0.01x1500') }, at: '24h' },
      { name: 'the first hour of data', series: { ...balance('10x60'), ...cost('0+0.01x60') }, at: '1h' },
    ],
  },
  {
    name: 'TollBurnRateFast',
    severity: 'critical',
    expr:
      `((${RECORDED.burn('1h')} > 14.4 and ${RECORDED.burn('5m')} > 14.4)` +
      ` or (${RECORDED.burn('6h')} > 6 and ${RECORDED.burn('30m')} > 6)) ${UNLESS_CATCHING_UP}`,
    for: '2m',
    keepFiringFor: '10m',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }} burns its monthly limit at {{ $value | printf "%.1f" }} times the even pace',
    meaning:
      'Something spends far faster than a working day does (some 4 times the even pace): usually an agent in a loop.',
    steps: [WHO, SLOW_DOWN],
    fires: [
      {
        ...{ name: 'a loop at 20 times', series: { ...limit('100x180'), ...cost('0+0.0463x180') }, at: '70m' },
        ...{ labels: WORK, summary: 'opencode/work burns its monthly limit at 20.0 times the even pace' },
      },
      {
        name: 'the same where turns are read from a database all day long',
        series: {
          ...limit('100x1600'),
          ...cost('0x1440 0+0.0463x160'),
          'tollbridge_events_recorded_total{source="import"}': '0+5x1600',
        },
        at: '1510m',
        ...{ labels: WORK, summary: 'opencode/work burns its monthly limit at 20.0 times the even pace' },
      },
    ],
    silent: [
      { name: 'a working day at 4.1 times', series: { ...limit('100x480'), ...cost('0+0.00949x480') }, at: '7h' },
      {
        ...{ name: 'a spool that is drained', at: '30m' },
        series: {
          ...limit('100x60'),
          ...cost('0x10 0+1x50'),
          'tollbridge_events_recorded_total{source="spool"}': '0x10 0+20x50',
        },
      },
      {
        ...{ name: 'an import of what happened before', at: '30m' },
        series: {
          ...limit('100x60'),
          ...cost('0x10 0+1x50'),
          'tollbridge_events_recorded_total{source="import"}': '0x10 0+20x50',
        },
      },
      {
        ...{ name: 'one of two replicas gone', at: '90m' },
        series: {
          ...limit('100x120'),
          [`toll_cost_usd_total{${ID},model="m",instance="a"}`]: '0+0.00949x120',
          [`toll_cost_usd_total{${ID},model="m",instance="b"}`]: '0+0.00949x60 stale',
        },
      },
    ],
  },
  {
    name: 'TollBurnRateSlow',
    severity: 'warning',
    expr:
      `((${RECORDED.burn('1d')} > 3 and ${RECORDED.burn('2h')} > 3)` +
      ` or (${RECORDED.burn('3d')} > 2 and ${RECORDED.burn('6h')} > 2)) ${UNLESS_CATCHING_UP}`,
    for: '1h',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }} burns its monthly limit at {{ $value | printf "%.1f" }} times the even pace',
    meaning: 'For a day or more it has cost two to three times what the month allows.',
    steps: [WHO, 'Raise the limit, move work to a cheaper model, or agree on less.'],
    fires: [
      {
        name: 'a day and a half at 3.5 times',
        interval: '5m',
        series: { ...limit('100x432'), ...cost('0+0.0405x432') },
        ...{ at: '35h', labels: WORK, summary: 'opencode/work burns its monthly limit at 3.5 times the even pace' },
      },
    ],
    silent: [
      {
        ...{ name: 'a good week: 1.4 times over the day', interval: '5m', at: '35h' },
        series: { ...limit('100x432'), ...cost('0+0.0162x432') },
      },
    ],
  },
  {
    name: 'TollSpendSpike',
    severity: 'warning',
    expr:
      `((${RECORDED.spentHour} > (${RECORDED.spentHour} offset 1w + ${RECORDED.spentHour} offset 2w + ${RECORDED.spentHour} offset 3w))` +
      ` or (${RECORDED.spentHour} > 5 * avg_over_time(${RECORDED.spentHour}[1d]) unless ${RECORDED.spentHour} offset 3w))` +
      ` and on (provider, account) (${RECORDED.spentHour} > on (provider, account) 0.01 * ${LIMIT_USD}) ${UNLESS_CATCHING_UP}`,
    for: '5m',
    keepFiringFor: '30m',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }} spent {{ $value | printf "%.2f" }} USD in one hour, far above its usual hour',
    meaning:
      'More than three times the mean of this hour in the last three weeks; before there are three weeks, more than five times the mean of the day.',
    steps: [WHO, SLOW_DOWN],
    fires: [
      {
        name: 'in the first weeks: five times the day, and more than 1 % of the limit',
        interval: '5m',
        series: { ...limit('100x312'), ...cost('0+0.004x288 3+0.25x24') },
        ...{ at: '25h', labels: WORK, summary: 'opencode/work spent 4.60 USD in one hour, far above its usual hour' },
      },
    ],
    silent: [
      {
        ...{ name: 'before it', interval: '5m', at: '20h' },
        series: { ...limit('100x312'), ...cost('0+0.004x288 3+0.25x24') },
      },
      {
        ...{ name: 'a spike of cents', interval: '5m', at: '25h' },
        series: { ...limit('100x312'), ...cost('0+0.0001x288 0.1+0.005x24') },
      },
    ],
  },
  {
    name: 'TollQuotaExhausted',
    severity: 'warning',
    expr:
      `max by (provider, account, quota, window) (${TOLL.quotaUsedRatio.name}) >= 1` +
      ` and on (provider, account, quota, window) (max by (provider, account, quota, window) (${TOLL.quotaReset.name}) - time() > 900)`,
    for: '5m',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }} has used up its {{ $labels.quota }} window of {{ $labels.window }}',
    meaning: 'The plan answers no more until the window starts anew, which is more than a quarter of an hour away.',
    steps: [
      'Wait, or use another model or account meanwhile.',
      'If it happens often, the plan is too small for its use.',
    ],
    fires: [
      {
        name: 'used up, an hour to go',
        series: {
          [`toll_quota_used_ratio{${ID},quota="go",window="5h"}`]: '1x30',
          [`toll_quota_reset_timestamp_seconds{${ID},quota="go",window="5h"}`]: '5000x30',
        },
        ...{ at: '20m', labels: { ...WORK, quota: 'go', window: '5h' } },
        summary: 'opencode/work has used up its go window of 5h',
      },
    ],
    silent: [
      {
        ...{ name: 'about to start anew', at: '20m' },
        series: {
          [`toll_quota_used_ratio{${ID},quota="go",window="5h"}`]: '1x30',
          [`toll_quota_reset_timestamp_seconds{${ID},quota="go",window="5h"}`]: '1500x30',
        },
      },
      {
        ...{ name: 'nearly used up', at: '20m' },
        series: {
          [`toll_quota_used_ratio{${ID},quota="go",window="5h"}`]: '0.99x30',
          [`toll_quota_reset_timestamp_seconds{${ID},quota="go",window="5h"}`]: '5000x30',
        },
      },
    ],
  },
];
