// How budgets stand, in PromQL, for panels and alerts alike. Parts that several ledgers hold are added up.

import { TOLL } from '../src/metrics/catalogue.ts';
import { fold, type Matchers, series } from './promql.ts';

const SECONDS_PER_DAY = 86_400;
/** Before a tenth of a period is over its pace says little. */
const PACE_FROM = 0.1;
const START = `max by (budget) (${fold(TOLL.policyPeriodStart.name)})`;
const END = `max by (budget) (${fold(TOLL.policyPeriodEnd.name)})`;
/** How much of the period is over, 0 to 1; nothing while its pace says little. */
const ELAPSED = `((time() - ${START}) / (${END} - ${START}) > ${PACE_FROM})`;

/** Used share of the limit; 1 is all of it. */
export const USED = `sum by (budget) (${fold(TOLL.policyUsedRatio.name)})`;
export const UNTIL_RESET = `(${END} - time() > 0)`;
/** Used share at the end of the period, at its pace so far; what is used up stays as it is. */
export const FORECAST = `(${USED} >= 1 or (${USED} < 1) / ${ELAPSED})`;

/** The highest step of `warn_at` that was reached. */
const REACHED = `max by (budget) (${fold(TOLL.policyWarnAt.name)} <= on (budget) group_left () ${USED})`;
/** The lowest one that was not. */
export const NEXT_STEP = `min by (budget) (${fold(TOLL.policyWarnAt.name)} > on (budget) group_left () ${USED})`;
const HARD = `max by (budget) (${series(TOLL.policyBudgetInfo, { hard: 'true' })})`;

/** What a budget is like, the worst first. Every budget is one of these. */
export const STATES = {
  stops: `(${USED} >= 1 and ${HARD})`,
  usedUp: `(${USED} >= 1 unless ${HARD})`,
  warns: `(${USED} < 1 and ${REACHED})`,
  leadsOver: `(${FORECAST} > 1 and ${USED} < 1 unless ${REACHED})`,
} as const;
export type State = keyof typeof STATES;

const spent = (matchers: Matchers) => `sum by (budget, unit) (${fold(series(TOLL.policySpent, matchers))})`;
const limit = (matchers: Matchers) => `max by (budget, unit) (${series(TOLL.policyLimit, matchers)})`;
const perDay = (amount: string, seconds: string) =>
  `${amount} / on (budget) group_left () ${seconds} * ${SECONDS_PER_DAY}`;

/** An amount in the budget's own unit, USD to the cent and others whole. */
const amount = (of: (matchers: Matchers) => string): string =>
  `round(${of({ unit: 'usd' })}, 0.01) or round(${of({ unit: '!=usd' })})`;

/** Amounts by budget and `unit`, which must not be added up. */
export const AMOUNTS = {
  spent: amount(spent),
  limit: amount(limit),
  left: amount((of) => `clamp_min(${limit(of)} - ${spent(of)}, 0)`),
  atEnd: amount((of) => `${limit(of)} * on (budget) group_left () ${FORECAST}`),
  /** What was spent in a day, on the average of the period so far. */
  burn: amount((of) => perDay(spent(of), `(${ELAPSED} * (${END} - ${START}))`)),
  /** What may be spent in a day from now on, so that the limit is just reached at the end of the period. */
  fits: amount((of) => perDay(`clamp_min(${limit(of)} - ${spent(of)}, 0)`, UNTIL_RESET)),
} as const;
