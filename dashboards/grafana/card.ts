// The card of a tile: its account's state, how full its plan is, what is left of its money, and what was done with it in
// the window. Every card has the same lines, so that equal tiles look equal; what is not known is a dash.

import { TOLL } from '../../src/metrics/catalogue.ts';
import { fold, inWindow, type Matchers, series } from '../promql.ts';
import { NOT_POLLED, STATUS_TEXT, STATUSES } from './look.ts';
import type { Query } from './panel.ts';
import { windowGauge } from './tile-sums.ts';

/** Lengths of the plan windows whose pace can be told. */
const WINDOW_SECONDS: Readonly<Record<string, number>> = {
  '5h': 18_000,
  '1d': 86_400,
  '7d': 604_800,
  '30d': 2_592_000,
};

const UNKNOWN = 'or on () vector(NaN)';
/** A dash under a name, where the query before has nothing. */
const orDash = (expr: string, label: string, name: string) =>
  `${expr} or on () label_replace(vector(NaN), "${label}", "${name}", "", "")`;

/** Code of the state that each account is in (look.ts has their names). */
export function statusCode(matchers: Matchers): string {
  const codes = STATUSES.map(
    (status, code) => `${fold(series(TOLL.accountStatus, { ...matchers, status }))} * ${code}`,
  );
  return `max by (provider, account) (${codes.join(' or ')})`;
}

/** Used share of every plan window and of every limit on spending, each with a label `gauge` that names it. */
export function usedShares(matchers: Matchers): string {
  const of = 'provider, account';
  const quota = fold(series(TOLL.quotaUsedRatio, matchers));
  const used = fold(series(TOLL.spendLimitUsed, matchers));
  const limit = fold(series(TOLL.spendLimit, matchers));
  return (
    `max by (${of}, gauge) (label_join(${quota}, "gauge", " ", "quota", "window") ` +
    `or label_replace(${used} / (${limit} > 0), "gauge", "$1 limit", "limit", "(.*)"))`
  );
}

/**
 * Share that will be used when a plan window starts anew, at its pace so far: what tiles call "by reset". Nothing before
 * a twentieth of the window has passed, because one turn would look like a disaster.
 */
export function projectedShares(matchers: Matchers): string {
  const each = Object.entries(WINDOW_SECONDS).map(([window, seconds]) => {
    const used = fold(series(TOLL.quotaUsedRatio, { ...matchers, window }));
    const left = `(${fold(series(TOLL.quotaReset, { ...matchers, window }))} - time())`;
    const elapsed = `((${seconds} - ${left}) > ${seconds / 20} < ${seconds})`;
    return `clamp_max((${used} > 0 < 1) * ${seconds} / ${elapsed}, 1)`;
  });
  return each.join(' or ');
}

/** Seconds until a plan window starts anew. */
export const secondsToReset = (matchers: Matchers): string =>
  `(${fold(series(TOLL.quotaReset, matchers))} or ${fold(series(TOLL.spendLimitReset, matchers))}) - time() > 0`;

/**
 * The money that a card is about, the first that is known: what was spent of a limit, else what is left. The label `hero`
 * says which; the currency is never converted.
 */
function heroMoney(matchers: Matchers): string {
  const spent = (limit: string) =>
    `label_replace(${fold(series(TOLL.spendLimitUsed, { ...matchers, limit }))} ` +
    `and ${fold(series(TOLL.spendLimit, { ...matchers, limit }))}, "hero", "Spent of ${limit} limit", "", "")`;
  const balance = `label_replace(sum by (account, currency) (${fold(series(TOLL.balance, matchers))}), "hero", "Balance", "", "")`;
  const reported = `label_replace(${fold(series(TOLL.reportedCost, { ...matchers, window: '1d' }))}, "hero", "Today, as reported", "", "")`;
  const choices = [
    spent('spend'),
    spent('plan'),
    spent('plan_total'),
    spent('monthly'),
    balance,
    spent('credit'),
    reported,
  ];
  return choices.map((choice) => `sum by (hero, currency) (${choice})`).join(' or on () ');
}

/** What is left of that limit; where the card is about a balance, what was spent of it in the window. */
function moneyLeft(matchers: Matchers): string {
  const limits = { ...matchers, limit: '!=credit' };
  const left = `${fold(series(TOLL.spendLimit, limits))} - ${fold(series(TOLL.spendLimitUsed, limits))}`;
  const spent = inWindow('currency', { counter: TOLL.balanceSpent }, matchers);
  return (
    `sum by (left, currency) (label_replace(${left}, "left", "Left of $1 limit", "limit", "(.*)")) ` +
    `or on () label_replace(${spent}, "left", "Spent of balance", "", "")`
  );
}

/** The lines of the card of the tile `$tile` in the window `$window`, from top to bottom. */
export function cardLines(): Query[] {
  const account = { provider: '$tile' };
  return [
    {
      expr: `max(${statusCode(account)}) or on () vector(${NOT_POLLED})`,
      legend: 'Status',
      look: { mappings: [STATUS_TEXT], unit: 'none' },
    },
    {
      expr: orDash(`topk(1, max by (gauge) (${usedShares(account)}))`, 'gauge', 'Plan or limit'),
      legend: '{{gauge}} used',
      look: { unit: 'percentunit', decimals: 1, thresholds: 'used', min: 0, max: 1 },
    },
    {
      expr: orDash(`topk(1, max by (quota, window) (${projectedShares(account)}))`, 'quota', 'Plan'),
      legend: '{{quota}} {{window}} by reset',
      look: { unit: 'percentunit', decimals: 0, thresholds: 'used', min: 0, max: 1 },
    },
    { expr: `min(${secondsToReset(account)}) ${UNKNOWN}`, legend: 'Resets in', look: { unit: 'dtdhms', decimals: 0 } },
    {
      expr: orDash(heroMoney(account), 'hero', 'Money'),
      legend: '{{hero}} {{currency}}',
      look: { unit: 'none', decimals: 2 },
    },
    {
      expr: orDash(moneyLeft(account), 'left', 'Left'),
      legend: '{{left}} {{currency}}',
      look: { unit: 'none', decimals: 2 },
    },
    {
      expr: `sum ${windowGauge(TOLL.windowCost)} ${UNKNOWN}`,
      legend: 'Cost of turns',
      look: { unit: 'currencyUSD', decimals: 2 },
    },
    { expr: `sum ${windowGauge(TOLL.windowTurns)} ${UNKNOWN}`, legend: 'Turns', look: { unit: 'locale', decimals: 0 } },
    {
      expr: `sum ${windowGauge(TOLL.windowTokens)} ${UNKNOWN}`,
      legend: 'Tokens',
      look: { unit: 'sishort', decimals: 1 },
    },
    {
      expr: `count(sum by (model) ${windowGauge(TOLL.windowModelTokens)} > 0) ${UNKNOWN}`,
      legend: 'Models',
      look: { unit: 'none', decimals: 0 },
    },
    {
      expr: `time() - max(${fold(series(TOLL.snapshotTimestamp, account))}) ${UNKNOWN}`,
      legend: 'Read',
      look: { unit: 's', decimals: 0, thresholds: 'age' },
    },
  ];
}
