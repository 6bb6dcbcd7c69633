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

const CREATED = TOLL.ledgerCreated;
/** When the range that a dashboard shows ends, Unix time. A chart's `end()` is rounded down to its step: last midnight. */
const RANGE_END = '${__to:date:seconds}';

/** A stretch of time: what a series says at its two ends. */
interface Stretch {
  begin(of: string): string;
  /** Each bridge's value is folded by `folded`. */
  end(of: string, folded: (inner: string) => string): string;
  /** When it begins, Unix time: a ledger that is younger counts from 0. Without it such a ledger has no answer. */
  readonly beginS?: string;
}

const leastOf = (inner: string): string => `min without (instance, replica) (${inner})`;

/**
 * Ignores what only one of a family and the ledger's creation has: what is left is the labels that the target has, so that
 * a series is compared with the ledger of the very same target.
 */
function sameTarget({ labels }: MetricFamily): string {
  const ofOne = [
    ...labels.filter((label) => !CREATED.labels.includes(label)),
    ...CREATED.labels.filter((label) => !labels.includes(label)),
  ];
  return `and ignoring (${ofOne.join(', ')})`;
}

/**
 * How much a counter grew, exactly: counters here never reset, so it is a difference. Bridges are folded first, because a
 * bridge that moved goes on counting where it was. A series that did not exist then counts from 0 where that is known: its
 * target was scraped then, or all its ledgers are younger. Else there is no answer, which is better than a wrong one.
 */
function grown({ begin, end, beginS }: Stretch, family: MetricFamily, matchers: Matchers): string {
  const x = series(family, matchers);
  const wasScraped = fold(begin(CREATED.name));
  const isKnown = beginS === undefined ? wasScraped : `(${wasScraped} or ${end(CREATED.name, leastOf)} >= ${beginS})`;
  return `(${end(x, fold)} - (${fold(begin(x))} or ${end(x, fold)} * 0 ${sameTarget(family)} ${isKnown}))`;
}

const SINCE_START: Stretch = {
  begin: (of) => `${of} @ $start`,
  end: (of, folded) => folded(of),
  beginS: '$start',
};

/** The day that begins at each point of a chart with a step of one day; of the day in which the range ends, so far. */
const DAY: Stretch = {
  begin: (of) => of,
  end: (of, folded) =>
    `(${folded(`${of} offset -1d`)} or ${folded(`${of} @ ${RANGE_END}`)} ` +
    `and on () vector(${RANGE_END}) >= time() < time() + 86400)`,
  beginS: 'time()',
};

const before = (duration: string): Stretch => ({
  begin: (of) => `${of} offset ${duration}`,
  end: (of, folded) => folded(of),
});

const netOf = ({ counter, corrections }: Net, by: string, grown: (family: MetricFamily) => string): string => {
  const taken = corrections && ` or label_replace(0 - ${grown(corrections)}, "sign", "-", "", "")`;
  // A ledger counts what its own turns cost, but of an account's balance every bridge counts the same.
  const isOfAccounts = counter.labels.includes('account') && !counter.labels.includes('agent');
  const gained = isOfAccounts ? ofAccounts(counter, grown(counter)) : grown(counter);
  return `sum${by === '' ? '' : ` by (${by})`} (${gained}${taken ?? ''})`;
};

/** Net growth since the start of the window that a dashboard shows; its variable `start` holds when that is. */
export const inWindow = (by: string, net: Net, matchers: Matchers = {}): string =>
  netOf(net, by, (family) => grown(SINCE_START, family, matchers));

/** Net growth by day, for charts whose step is a day. */
export const byDay = (by: string, net: Net, matchers: Matchers = {}): string =>
  netOf(net, by, (family) => grown(DAY, family, matchers));

/** Net growth in a time until now, such as `7d`, of targets that were scraped when it began. */
export const inTheLast = (duration: string, net: Net, matchers: Matchers = {}): string =>
  netOf(net, '', (family) => grown(before(duration), family, matchers));
