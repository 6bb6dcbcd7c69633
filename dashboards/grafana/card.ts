// The card of a tile: its account's state, how full its plan is, what is left of its money, and what was done with it in
// the window. Every card has the same lines, so that equal tiles look equal; what is not known is a dash.

import { TOLL } from '../../src/metrics/catalogue.ts';
import { inWindow, type Matchers, ofAccounts, reading, series } from '../promql.ts';
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
  const codes = STATUSES.map((status, code) => `${reading(TOLL.accountStatus, { ...matchers, status })} * ${code}`);
  return `max by (provider, account) (${codes.join(' or ')})`;
}

/** What each account's balance lost per second, at the pace of the last day. */
export const balancePace = (matchers: Matchers): string =>
  `sum by (account, currency) (${ofAccounts(TOLL.balanceSpent, `rate(${series(TOLL.balanceSpent, matchers)}[1d])`)})`;

/** What names a plan window or a limit on spending, under the label `gauge`. */
const ofQuota = (expr: string) => `label_join(${expr}, "gauge", " ", "quota", "window")`;
const ofLimit = (expr: string) => `label_replace(${expr}, "gauge", "$1 limit", "limit", "(.*)")`;
const GAUGE = 'provider, account, gauge';

/** Used share of every plan window and of every limit on spending, by account and `gauge`; 1 is all of it. */
export function usedShares(matchers: Matchers): string {
  const used = reading(TOLL.spendLimitUsed, matchers);
  const limit = reading(TOLL.spendLimit, matchers);
  const quotas = ofQuota(reading(TOLL.quotaUsedRatio, matchers));
  return `max by (${GAUGE}) (${quotas} or ${ofLimit(`${used} / (${limit} > 0)`)})`;
}

/**
 * Share that will be used when a plan window starts anew, at its pace so far: what tiles call "by reset", by account and
 * `gauge`. It may be more than all. Nothing before a twentieth of the window has passed, because one turn would look like
 * a disaster; what is used up stays so.
 */
export function projectedShares(matchers: Matchers): string {
  const each = Object.entries(WINDOW_SECONDS).map(([window, seconds]) => {
    const used = reading(TOLL.quotaUsedRatio, { ...matchers, window });
    const left = `(${reading(TOLL.quotaReset, { ...matchers, window })} - time())`;
    const elapsed = `((${seconds} - ${left}) > ${seconds / 20} < ${seconds})`;
    return `${used} >= 1 or (${used} < 1) * ${seconds} / ${elapsed}`;
  });
  return `max by (${GAUGE}) (${ofQuota(`(${each.join(' or ')})`)})`;
}

/** Seconds until each plan window and limit starts anew, by account and `gauge`. */
export function secondsToReset(matchers: Matchers): string {
  const quotas = ofQuota(reading(TOLL.quotaReset, matchers));
  const limits = ofLimit(reading(TOLL.spendLimitReset, matchers));
  return `(max by (${GAUGE}) (${quotas} or ${limits}) - time() > 0)`;
}

/**
 * Adds a label `whose` for legends: the account and a space where a tile has several, else nothing, because one account
 * needs no name. @param expr by account, of one provider
 */
export function whose(expr: string, matchers: Matchers): string {
  const accounts = `max by (account) (${series(TOLL.accountInfo, matchers)})`;
  const named = `label_replace(${accounts}, "whose", "$1 ", "account", "(.*)")`;
  return `${expr} * on (account) group_left (whose) (${named} and on () count(${accounts}) > 1 or on (account) ${accounts})`;
}

/** The fullest plan window or limit. @param by of each of these; of all where it is left out */
export const fullest = (matchers: Matchers, by = ''): string =>
  `topk${by && ` by (${by})`} (1, ${usedShares(matchers)})`;
/** What is known of the fullest one, and of no other. @param expr by account and `gauge` */
export const ofFullest = (expr: string, matchers: Matchers, by = ''): string =>
  `(${expr} and on (${GAUGE}) ${fullest(matchers, by)})`;

/** Of each account the first that is known; then accounts are added up that show the same in the same currency. */
function firstKnown(label: string, choices: readonly (readonly [name: string, expr: string])[]): string {
  const ofEach = choices.map(
    ([name, expr]) => `sum by (account, ${label}, currency) (label_replace(${expr}, "${label}", "${name}", "", ""))`,
  );
  return `sum by (${label}, currency) (${ofEach.join(' or on (account) ')})`;
}

/** Limits that a card is about, the first of them that there is. */
const CARD_LIMITS = ['spend', 'plan', 'plan_total', 'monthly'] as const;

/**
 * The money that a card is about, the first that is known: what was spent of a limit, else what is left. The label `hero`
 * says which; the currency is never converted.
 */
function heroMoney(matchers: Matchers): string {
  const spent = (limit: string) => {
    const of = { ...matchers, limit };
    return [
      `Spent of ${limit} limit`,
      `${reading(TOLL.spendLimitUsed, of)} and ${reading(TOLL.spendLimit, of)}`,
    ] as const;
  };
  return firstKnown('hero', [
    ...CARD_LIMITS.map(spent),
    ['Balance', reading(TOLL.balance, matchers)],
    spent('credit'),
    ['Today, as reported', reading(TOLL.reportedCost, { ...matchers, window: '1d' })],
  ]);
}

/** What is left of that limit; where the card is about a balance, what was spent of it in the window. */
function moneyLeft(matchers: Matchers): string {
  const left = (limit: string) => {
    const of = { ...matchers, limit };
    return [`Left of ${limit} limit`, `${reading(TOLL.spendLimit, of)} - ${reading(TOLL.spendLimitUsed, of)}`] as const;
  };
  const spent = inWindow('account, currency', { counter: TOLL.balanceSpent }, matchers);
  return firstKnown('left', [...CARD_LIMITS.map(left), ['Spent of balance', spent]]);
}

/** What a card says of itself. */
export const CARD_DESCRIPTION =
  'State and plan of the account as its provider reports them, of its fullest plan window or limit; of several accounts the one that needs you most, and their money together. Cost, turns and tokens of the turns that this provider served in the window, or that were paid through it where it serves none itself; so do not add up cards. A dash is unknown, which is not zero.';

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
      expr: orDash(whose(fullest(account), account), 'gauge', 'Plan or limit'),
      legend: '{{whose}}{{gauge}} used',
      look: { unit: 'percentunit', decimals: 1, thresholds: 'used', min: 0, max: 1 },
    },
    {
      expr: `max(${ofFullest(projectedShares(account), account)}) ${UNKNOWN}`,
      legend: 'By reset',
      look: { unit: 'percentunit', decimals: 0, thresholds: 'used', min: 0, max: 1 },
    },
    {
      expr: `min(${ofFullest(secondsToReset(account), account)}) ${UNKNOWN}`,
      legend: 'Resets in',
      look: { unit: 'dtdhms', decimals: 0 },
    },
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
      expr: `time() - min(${reading(TOLL.snapshotTimestamp, account)}) ${UNKNOWN}`,
      legend: 'Read',
      look: { unit: 's', decimals: 0, thresholds: 'age' },
    },
  ];
}
