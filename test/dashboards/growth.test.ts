// What counters are said to have grown by when targets change: renamed, moved, relabelled, away, just begun. Each scene is
// a job of its own in one real Prometheus, asked as Grafana asks; the naive query beside it shows what would go wrong.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { PLACED } from '../../dashboards/grafana/pack.ts';
import { aligned } from '../../dashboards/preview/src/grafana-time.ts';
import { byDay, inWindow, type Net } from '../../dashboards/promql.ts';
import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import type { Prometheus } from '../prometheus-server.ts';
import { fill } from './expand.ts';
import { prometheusWith, type Sample } from './imported-samples.ts';

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;
/** A midnight in UTC. Times of scenes are hours since then, and there is a scrape at each. */
const ZERO_S = Date.UTC(2026, 0, 5) / 1000;
const LONG_AGO = -1000;
const CREATED = TOLL.ledgerCreated.name;
const COST: Net = { counter: TOLL.cost };

/** What a target said, once an hour. */
interface Said {
  readonly family: MetricFamily;
  readonly labels: Readonly<Record<string, string>>;
  /** Hours, both included. */
  readonly from: number;
  readonly to: number;
  value(hour: number): number;
}

type Scene = readonly Said[];
type Labels = Readonly<Record<string, string>>;

/** A bridge: when its ledger began, and what its counter says while it is scraped. */
function bridge(labels: Labels, { from, to, began = LONG_AGO }: { from: number; to: number; began?: number }): Scene {
  const value = (hour: number) => 100 + hour;
  return [
    { family: TOLL.cost, labels: { ...labels, model: 'a' }, from, to, value },
    { family: TOLL.ledgerCreated, labels, from, to, value: () => ZERO_S + began * HOUR_S },
  ];
}

const cost = (labels: Labels, from: number, to: number, usd: number): Said => ({
  ...{ family: TOLL.cost, labels: { ...labels, model: 'b' }, from, to },
  value: () => usd,
});

const [A, B] = [{ instance: 'a:1' }, { instance: 'b:1' }];
const PROD = { ...A, environment: 'prod' };
/** The first nine days cost a dollar an hour, and the days after that two. */
const doubling = (hour: number) => (hour <= 216 ? hour : 2 * hour - 216);

const SCENES = {
  steady: bridge(A, { from: 0, to: 60 }),
  // The same, for ranges that ended while it went on.
  past: bridge(A, { from: 0, to: 100 }),
  midnight: bridge(A, { from: 0, to: 48 }),
  relabelled: [...bridge(A, { from: 0, to: 47 }), ...bridge(PROD, { from: 48, to: 60 })],
  moved: [...bridge(A, { from: 0, to: 36 }), ...bridge(B, { from: 37, to: 60 })],
  newSeries: [...bridge(A, { from: 0, to: 60 }), cost(A, 53, 60, 7)],
  newSeriesThenRelabelled: [
    ...bridge(A, { from: 0, to: 49 }),
    cost(A, 30, 49, 7),
    ...bridge(PROD, { from: 50, to: 60 }),
    cost(PROD, 50, 60, 7),
  ],
  justBegun: bridge(A, { from: 31, to: 60, began: 30 }),
  awayAtStart: [...bridge(A, { from: 0, to: 20 }), ...bridge(A, { from: 50, to: 60 })],
  // The first one was away when the window began, and the other one's ledger is younger: it took over what had been counted.
  youngReplica: [...bridge(A, { from: 50, to: 60 }), ...bridge(B, { from: 52, to: 60, began: 51 })],
  // Accounts have no partition, the ledger has one.
  topup: [
    ...bridge({ ...A, partition: '1/2' }, { from: 0, to: 60 }),
    { family: TOLL.balanceSpent, labels: { ...A, account: 'x' }, from: 50, to: 60, value: () => 3 },
  ],
  tenDays: [{ ...bridge(A, { from: 0, to: 245 })[0]!, value: doubling }, bridge(A, { from: 0, to: 245 })[1]!],
  sixteenDays: [{ ...bridge(A, { from: 0, to: 389 })[0]!, value: doubling }, bridge(A, { from: 0, to: 389 })[1]!],
} satisfies Record<string, Scene>;
type SceneName = keyof typeof SCENES;

const samples = Object.entries(SCENES).flatMap(([job, scene]) =>
  scene.flatMap(({ family, labels, from, to, value }: Said) =>
    Array.from({ length: to - from + 1 }, (_, index): Sample => {
      const hour = from + index;
      return { family, labels: { ...labels, job }, value: value(hour), atS: ZERO_S + hour * HOUR_S };
    }),
  ),
);

let stage: Awaited<ReturnType<typeof prometheusWith>>;
let prometheus: Prometheus;

before(async () => {
  stage = await prometheusWith(samples);
  prometheus = stage.prometheus;
});
after(() => stage?.stop());

/** What one query says, or nothing. */
async function ask(expr: string, { at, since = 0 }: { at: number; since?: number }): Promise<number | undefined> {
  const found = await prometheus.query(fill(expr, { start: String(ZERO_S + since * HOUR_S) }), ZERO_S + at * HOUR_S);
  assert.ok(found.length <= 1);
  return found[0]?.value;
}

/** The difference as it was before it was folded and compared with its own target. */
const naive = (job: string) => {
  const x = `toll_cost_usd_total{job="${job}"}`;
  const created = `${CREATED}{job="${job}"}`;
  const zero = `${x} * 0 and on (instance)`;
  return `sum(${x} - (${x} @ $start or ${zero} ${created} @ $start or ${zero} ${created} >= $start))`;
};

describe('growth since a window began', () => {
  interface Case {
    readonly scene: SceneName;
    readonly since: number;
    readonly grown: number | undefined;
    /** What the naive query says, where it is wrong. */
    readonly naively?: number | undefined;
    readonly why: string;
  }
  const cases: readonly Case[] = [
    { scene: 'steady', since: 24, grown: 36, why: 'it stands still and is scraped' },
    { scene: 'relabelled', since: 24, grown: undefined, naively: 160, why: 'it got a label since: unknown, not all' },
    { scene: 'relabelled', since: 50, grown: 10, why: 'it had its label when the window began' },
    { scene: 'moved', since: 24, grown: 36, naively: undefined, why: 'it moved, and its ledger with it' },
    { scene: 'newSeries', since: 24, grown: 43, why: 'a series was born' },
    { scene: 'justBegun', since: 24, grown: 160, why: 'the ledger is younger' },
    { scene: 'awayAtStart', since: 24, grown: undefined, why: 'nobody was scraped, and the ledger is older' },
    { scene: 'youngReplica', since: 24, grown: undefined, naively: 160, why: 'only one of its ledgers is younger' },
  ];
  for (const { scene, since, grown, why, ...wrong } of cases) {
    it(`${scene}: ${why}`, async () => {
      assert.equal(await ask(inWindow('', COST, { job: scene }), { at: 60, since }), grown);
      const naively = await ask(naive(scene), { at: 60, since });
      assert.equal(naively, 'naively' in wrong ? wrong.naively : grown, 'the naive query');
    });
  }

  it('knows the baseline of a family without the label that tells ledgers apart', async () => {
    const net = { counter: TOLL.balanceSpent };
    assert.equal(await ask(inWindow('', net, { job: 'topup' }), { at: 60, since: 24 }), 3);
  });

  it('is written in the documentation with the same labels', () => {
    const ignoring = /and ignoring \([^)]*\)/;
    const text = readFileSync(new URL('../../docs/queries.md', import.meta.url), 'utf8');
    assert.ok(text.includes(ignoring.exec(inWindow('', COST))![0]));
  });
});

/** What a chart by day of three days shows, as hour of the bar → USD. */
async function bars(expr: string, endHour: number): Promise<Record<number, number>> {
  const endS = ZERO_S + endHour * HOUR_S;
  const chart = aligned({ startS: endS - 3 * DAY_S, endS, stepS: DAY_S });
  const found: Record<number, number> = {};
  for (let atS = chart.startS; atS <= chart.endS; atS += DAY_S) {
    const points = await prometheus.rangeAt(fill(expr, { __to: String(endS) }), chart, atS);
    for (const { value } of points) found[(atS - ZERO_S) / HOUR_S] = value;
  }
  return found;
}

describe('growth by day', () => {
  interface Case {
    readonly scene: SceneName;
    readonly end: number;
    /** The hour at which each day begins, and what is shown of it in USD. */
    readonly shown: Readonly<Record<number, number>>;
    readonly why: string;
  }
  const cases: readonly Case[] = [
    { scene: 'steady', end: 60, shown: { 0: 24, 24: 24, 48: 12 }, why: 'today so far' },
    { scene: 'midnight', end: 48, shown: { 0: 24, 24: 24, 48: 0 }, why: 'at midnight today has nothing yet' },
    { scene: 'past', end: 48, shown: { 0: 24, 24: 24, 48: 24 }, why: 'it ended at a midnight long ago' },
    {
      scene: 'past',
      end: 60,
      shown: { 0: 24, 24: 24, 48: 24 },
      why: 'it ended within a day that is over, shown whole',
    },
    { scene: 'past', end: 100, shown: { 24: 24, 48: 24, 72: 24, 96: 4 }, why: 'today so far, four days later' },
    { scene: 'relabelled', end: 60, shown: { 0: 24, 48: 12 }, why: 'nothing of the day on which it got a label' },
    { scene: 'newSeriesThenRelabelled', end: 60, shown: { 0: 24, 24: 31 }, why: 'what was born before counts from 0' },
    { scene: 'moved', end: 60, shown: { 0: 24, 24: 24, 48: 12 }, why: 'it moved, and its ledger with it' },
    { scene: 'newSeries', end: 60, shown: { 0: 24, 24: 24, 48: 19 }, why: 'a series was born today' },
    { scene: 'justBegun', end: 60, shown: { 24: 148, 48: 12 }, why: 'the ledger began within a day' },
    { scene: 'awayAtStart', end: 60, shown: {}, why: 'nobody was scraped at any midnight' },
  ];
  for (const { scene, end, shown, why } of cases) {
    it(`${scene} until hour ${end}: ${why}`, async () => {
      assert.deepEqual(await bars(byDay('', COST, { job: scene }), end), shown);
    });
  }

  const naiveDay = (job: string, end: string) => {
    const x = `toll_cost_usd_total{job="${job}"}`;
    const zero = `${x} @ ${end} * 0 and on (instance)`;
    const created = `${CREATED}{job="${job}"}`;
    const isToday = `timestamp(${created} @ ${end}) < time() + 86400`;
    const then = `${x} or ${zero} ${created} or ${zero} (${created} @ ${end} >= time())`;
    return `sum((${x} offset -1d or (${x} @ ${end} and on (instance) (${isToday}))) - (${then}))`;
  };
  it('control: a query that takes the end of the chart for now has no today', async () => {
    assert.deepEqual(await bars(naiveDay('steady', 'end()'), 60), { 0: 24, 24: 24, 48: 0 });
  });
  it('control: a query that compares bridges by their address counts everything again', async () => {
    assert.equal((await bars(naiveDay('relabelled', '$__to'), 60))[24], 148);
  });
});

describe('what analytics says of days and weeks', () => {
  const { panels } = PLACED.find(({ dashboard }) => dashboard.uid === 'tollbridge-analytics')!;
  const panel = (key: string, job: string) => {
    const [query] = panels.get(key)!.spec.queries!;
    return query!.expr.replace(
      /\b(toll_cost(?:_corrections)?_usd_total|tollbridge_ledger_created\w+)/g,
      `$1{job="${job}"}`,
    );
  };

  it('compares two whole weeks', async () => {
    assert.equal(await ask(panel('trend', 'sixteenDays'), { at: 389 }), 1);
  });
  it('says nothing of a week that it has not seen whole', async () => {
    assert.equal(await ask(panel('trend', 'tenDays'), { at: 245 }), undefined);
    assert.ok(panels.get('trend')!.spec.mayBeEmpty);
  });
  it('control: sums of the days that there are make a trend of ten days', async () => {
    const day = '(sum(toll_cost_usd_total{job="tenDays"}) - sum(toll_cost_usd_total{job="tenDays"} offset 1d))';
    const trend = await ask(`sum_over_time(${day}[7d:1d]) / sum_over_time(${day}[7d:1d] offset 7d) - 1`, { at: 245 });
    assert.ok(trend !== undefined && trend > 1);
  });
  it('divides by the days on which anything was spent', async () => {
    assert.equal(await ask(panel('per-active-day', 'sixteenDays'), { at: 389 }), doubling(384) / 16);
  });
});
