// Pieces of PromQL that panels and alerts share, written from the catalogue, so that a renamed metric or label breaks
// the build and not a picture. Replicas of a bridge say the same, so they are folded (`max`) before anything is summed.

import { type MetricFamily, TOLL } from '../src/metrics/catalogue.ts';

/** Label → value; one that begins with `=~`, `!=` or `!~` is that kind of matcher. */
export type Matchers = Readonly<Record<string, string>>;

/** Labels that Prometheus itself adds, and the histograms' own. */
const NOT_OURS: readonly string[] = ['instance', 'replica', 'job', 'le'];

/** `name{label="value",…}`. @throws Error when the family has no such label */
export function series(family: MetricFamily, matchers: Matchers = {}, suffix = ''): string {
  const parts = Object.entries(matchers).map(([label, stated]) => {
    if (!family.labels.includes(label) && !NOT_OURS.includes(label)) {
      throw new Error(`${family.name} has no label ${label}`);
    }
    const [, operator = '=', value = ''] = /^(=~|!=|!~)?(.*)$/s.exec(stated)!;
    return `${label}${operator}"${value}"`;
  });
  return `${family.name}${suffix}${parts.length > 0 ? `{${parts.join(',')}}` : ''}`;
}

/** Whichever bridge says it. */
export const fold = (inner: string): string => `max without (instance, replica) (${inner})`;

/**
 * What bridges say of accounts. Several that read the same account say the same of it, in whichever environment they run,
 * so labels of the target never tell two accounts apart.
 */
export const ofAccounts = (family: MetricFamily, inner: string): string =>
  `max by (${family.labels.join(', ')}) (${inner})`;

/** A gauge of accounts as it was read. */
export const reading = (family: MetricFamily, matchers: Matchers = {}): string =>
  ofAccounts(family, series(family, matchers));

/** Replicas folded, then added up. @param by label names; '' for one sum of all */
export const total = (by: string, inner: string): string =>
  by === '' ? `sum(${fold(inner)})` : `sum by (${by}) (${fold(inner)})`;

/** A gauge as it stands, added up. */
export const now = (by: string, family: MetricFamily, matchers: Matchers = {}): string =>
  total(by, series(family, matchers));

/** How fast a counter grows, per second, for charts of pace. */
export const pace = (by: string, family: MetricFamily, matchers: Matchers = {}): string =>
  total(by, `rate(${series(family, matchers)}[$__rate_interval])`);

/**
 * What was observed of a histogram per second, at a share of all observations.
 * @param share 0..1, for example 0.95
 */
export const quantile = (share: number, by: string, family: MetricFamily, window: string, matchers: Matchers = {}) =>
  `histogram_quantile(${share}, ${total(`${by}, le`, `rate(${series(family, matchers, '_bucket')}[${window}])`)})`;

/** A counter with what was taken back of it later. */
export interface Net {
  readonly counter: MetricFamily;
  readonly corrections?: MetricFamily;
}

export const NET_COST: Net = { counter: TOLL.cost, corrections: TOLL.costCorrections };
export const NET_TOKENS: Net = { counter: TOLL.tokens, corrections: TOLL.tokensCorrections };

const CREATED = TOLL.ledgerCreated.name;

/**
 * How much a counter grew since a time, exactly: counters here never reset, so it is a difference. A series that did not
 * exist then counts from 0 where that is known, because the bridge was scraped then or its ledger is younger; else
 * there is no answer, which is better than a wrong one.
 */
function grownSince(start: string, family: MetricFamily, matchers: Matchers): string {
  const x = series(family, matchers);
  const zero = `${x} * 0 and on (instance)`;
  return fold(`${x} - (${x} @ ${start} or ${zero} ${CREATED} @ ${start} or ${zero} ${CREATED} >= ${start})`);
}

/**
 * How much a counter grew over the day that begins at each point of a chart with a step of one day; of today, so far.
 */
function grownInDay(family: MetricFamily, matchers: Matchers): string {
  const x = series(family, matchers);
  const zero = `${x} @ end() * 0 and on (instance)`;
  const isToday = `timestamp(${CREATED} @ end()) < time() + 86400`;
  const then = `${x} or ${zero} ${CREATED} or ${zero} (${CREATED} @ end() >= time())`;
  return fold(`(${x} offset -1d or (${x} @ end() and on (instance) (${isToday}))) - (${then})`);
}

const netOf = ({ counter, corrections }: Net, by: string, grown: (family: MetricFamily) => string): string => {
  const taken = corrections && ` or label_replace(0 - ${grown(corrections)}, "sign", "-", "", "")`;
  // A ledger counts what its own turns cost, but of an account's balance every bridge counts the same.
  const isOfAccounts = counter.labels.includes('account') && !counter.labels.includes('agent');
  const gained = isOfAccounts ? ofAccounts(counter, grown(counter)) : grown(counter);
  return `sum${by === '' ? '' : ` by (${by})`} (${gained}${taken ?? ''})`;
};

/** Net growth since the start of the window that a dashboard shows; its variable `start` holds when that is. */
export const inWindow = (by: string, net: Net, matchers: Matchers = {}): string =>
  netOf(net, by, (family) => grownSince('$start', family, matchers));

/** Net growth by day, for charts whose step is a day. */
export const byDay = (by: string, net: Net, matchers: Matchers = {}): string =>
  netOf(net, by, (family) => grownInDay(family, matchers));
