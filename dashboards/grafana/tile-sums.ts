// Sums of the tile `$tile` in the window `$window`: from window gauges where there is one, else from counters.

import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { byDay, fold, inWindow, type Matchers, type Net, series, total } from '../promql.ts';

const TILE = { tile: '$tile' };

/** Of a tile that serves nothing itself, such as a reseller's, what was paid through it: else the first has it all. */
const orPaidThrough = (served: string, paid: string) =>
  `(${served} or (${paid} unless on () ${fold(series(TOLL.tileInfo, TILE))}))`;

/** A window gauge of the tile, or of what was paid through it. */
export const windowGauge = (family: MetricFamily, matchers: Matchers = {}) =>
  orPaidThrough(
    fold(series(family, { ...TILE, window: '$window', ...matchers })),
    fold(series(family, { provider: '$tile', window: '$window', ...matchers })),
  );

/** What counters say of the turns that the upstream providers of the tile served, or that were paid through it. */
function ofTile(by: string, net: Net, grown: (by: string, matchers: Matchers) => string, matchers: Matchers): string {
  const served = grown(by === '' ? 'upstream_provider' : `${by}, upstream_provider`, matchers);
  const ofTile = `(${served} and on (upstream_provider) ${fold(series(TOLL.tileInfo, TILE))})`;
  const all = net.counter.labels.includes('provider')
    ? orPaidThrough(ofTile, grown(by, { ...matchers, provider: '$tile' }))
    : ofTile;
  return `sum${by === '' ? '' : ` by (${by})`} ${all}`;
}

/** Net growth of a counter in the window. */
export const windowOfTile = (by: string, net: Net, matchers: Matchers = {}) =>
  ofTile(by, net, (all, of) => inWindow(all, net, of), matchers);
/** The same by day, for charts whose step is a day. */
export const daysOfTile = (by: string, net: Net) => ofTile(by, net, (all, of) => byDay(all, net, of), {});
/** How fast it grew in a time until now, per second, as an estimate: what was taken back is not taken off. */
export const paceOfTile = (duration: string, net: Net) =>
  ofTile('', net, (all, of) => total(all, `rate(${series(net.counter, of)}[${duration}])`), {});
