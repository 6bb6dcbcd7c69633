// Budgets on their dashboard: one in every state, one of two ledgers with a replica, one that has only just begun. All of
// it is made-up scrapes in a real Prometheus; beside some queries stands one that would go wrong.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { POLICY_ALERTS } from '../../dashboards/alerts/policy-alerts.ts';
import { BUDGET_STATE_CODES } from '../../dashboards/grafana/look.ts';
import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { panelQuery } from './expand.ts';
import { prometheusWith, type Sample } from './imported-samples.ts';

const DAY_S = 86_400;
const END_S = Math.floor(Date.now() / 1000 / 3600) * 3600;

interface Budget {
  /** Share of the limit that each target shows. */
  readonly used: readonly number[];
  readonly limit: number;
  readonly unit?: string;
  readonly hard?: boolean;
  readonly warnAt?: readonly number[];
  /** Of a period of ten days. */
  readonly daysOver?: number;
}

const BUDGETS: Readonly<Record<string, Budget>> = {
  easy: { used: [0.3], limit: 100 },
  fast: { used: [0.6], limit: 3_000_000, unit: 'tokens', warnAt: [0.8] },
  warned: { used: [0.85], limit: 200, daysOver: 9 },
  soft: { used: [1.2], limit: 100 },
  hard: { used: [1], limit: 0.5, hard: true },
  young: { used: [0.2], limit: 40, unit: 'turns', daysOver: 0.5 },
  silent: { used: [0.3], limit: 100, warnAt: [] },
  // A ledger for each of two partitions, and a replica of the first.
  split: { used: [0.3, 0.1, 0.3], limit: 100 },
};
const TARGETS = [
  { instance: 'a:1', partition: '1/2' },
  { instance: 'b:1', partition: '2/2' },
  { instance: 'c:1', partition: '1/2' },
];

function samplesOf([budget, of]: [string, Budget]): Sample[] {
  const { used, limit, unit = 'usd', hard = false, warnAt = [0.5, 0.8, 0.95], daysOver = 5 } = of;
  const startS = END_S - daysOver * DAY_S;
  return used.flatMap((share, index) => {
    const { instance, partition } = TARGETS[index]!;
    const say = (family: MetricFamily, value: number, more = {}): Sample => {
      const part = family.labels.includes('partition') && used.length > 1 ? { partition } : {};
      return { family, labels: { job: 'tollbridge', instance, budget, ...part, ...more }, value, atS: END_S };
    };
    return [
      say(TOLL.policyBudgetInfo, 1, { period: '10d', hard: String(hard) }),
      ...warnAt.map((step) => say(TOLL.policyWarnAt, step, { step: String(step) })),
      say(TOLL.policyLimit, limit, { unit }),
      say(TOLL.policySpent, share * limit, { unit }),
      say(TOLL.policyUsedRatio, share),
      say(TOLL.policyPeriodStart, startS),
      say(TOLL.policyPeriodEnd, startS + 10 * DAY_S),
    ];
  });
}

let stage: Awaited<ReturnType<typeof prometheusWith>>;
before(async () => {
  stage = await prometheusWith(Object.entries(BUDGETS).flatMap(samplesOf));
});
after(() => stage?.stop());

const queryOf = (key: string, number: number) => panelQuery({ uid: 'tollbridge-attribution', key, number }, {});

/** Budget → value to the ninth digit, by name. */
async function found(expr: string): Promise<Record<string, number>> {
  const points = await stage.prometheus.query(expr, END_S);
  const named = points.map(({ metric, value }): [string, number] => [metric.budget!, Number(value.toPrecision(9))]);
  assert.equal(new Set(named.map(([budget]) => budget)).size, named.length, 'each budget is shown once');
  return Object.fromEntries(named.sort(([a], [b]) => (a < b ? -1 : 1)));
}
const shown = (key: string, number: number) => found(queryOf(key, number));

describe('the bars of what is used', () => {
  it('are red where it is used up, yellow where a step was reached, and green else; each budget has one', async () => {
    const [red, yellow, green] = await Promise.all([0, 1, 2].map((number) => shown('budgets-used', number)));
    assert.deepEqual(red, { hard: 1, soft: 1.2 });
    assert.deepEqual(yellow, { warned: 0.85 });
    assert.deepEqual(green, { easy: 0.3, fast: 0.6, silent: 0.3, split: 0.4, young: 0.2 });
  });

  it('would count a replica twice, were it not folded', async () => {
    const all = await found(`sum by (budget) (${TOLL.policyUsedRatio.name})`);
    assert.equal(all.split, 0.7);
  });
});

describe('the forecast', () => {
  const leads = { easy: 0.6, fast: 1.2, hard: 1, silent: 0.6, soft: 1.2, split: 0.8, warned: 0.944444444 };

  it('is the share at the end at the pace so far; what is used up stays, and what has just begun has none', async () => {
    assert.deepEqual(await shown('budgets-forecast', 0), leads);
    assert.deepEqual(await shown('forecast-over-time', 0), leads);
    const secondsOver = `(time() - ${TOLL.policyPeriodStart.name})`;
    const naive = `${TOLL.policyUsedRatio.name} / on (budget, instance) ${secondsOver} * ${10 * DAY_S}`;
    const wrong = await found(`max by (budget) (${naive})`);
    assert.deepEqual([wrong.young, wrong.soft], [4, 2.4], 'control: a pace of half a day, and of money that is gone');
  });

  it('is, to the letter, what the alert compares', async () => {
    const { expr } = POLICY_ALERTS.find(({ name }) => name === 'TollBudgetForecastOver')!;
    const forecast = /^sort_desc\((.*)\)$/.exec(queryOf('budgets-forecast', 0))![1]!;
    assert.ok(expr.startsWith(`${forecast} > 1 and `), expr);
    assert.equal(queryOf('forecast-over-time', 0), forecast);
    assert.deepEqual(await found(expr), { fast: 1.2 });
  });
});

describe('the table', () => {
  const columns: readonly (readonly [column: string, number: number, of: Record<string, number>])[] = [
    [
      'state',
      1,
      {
        ...{ easy: 0, fast: BUDGET_STATE_CODES.leadsOver, hard: BUDGET_STATE_CODES.stops, silent: 0 },
        ...{ soft: BUDGET_STATE_CODES.usedUp, split: 0, warned: BUDGET_STATE_CODES.warns, young: 0 },
      },
    ],
    ['spent', 2, { easy: 30, fast: 1_800_000, hard: 0.5, silent: 30, soft: 120, split: 40, warned: 170, young: 8 }],
    ['limit', 3, { easy: 100, fast: 3e6, hard: 0.5, silent: 100, soft: 100, split: 100, warned: 200, young: 40 }],
    ['left', 4, { easy: 70, fast: 1_200_000, hard: 0, silent: 70, soft: 0, split: 60, warned: 30, young: 32 }],
    ['next warning', 5, { easy: 0.5, fast: 0.8, split: 0.5, warned: 0.95, young: 0.5 }],
    ['spent a day', 6, { easy: 6, fast: 360_000, hard: 0.1, silent: 6, soft: 24, split: 8, warned: 18.89 }],
    ['fits a day', 7, { easy: 14, fast: 240_000, hard: 0, silent: 14, soft: 0, split: 12, warned: 30, young: 3 }],
    ['at the end', 8, { easy: 60, fast: 3_600_000, hard: 0.5, silent: 60, soft: 120, split: 80, warned: 188.89 }],
    [
      'resets in',
      9,
      Object.fromEntries(
        Object.entries(BUDGETS)
          .map(([name, { daysOver = 5 }]): [string, number] => [name, (10 - daysOver) * DAY_S])
          .sort(([a], [b]) => (a < b ? -1 : 1)),
      ),
    ],
  ];
  for (const [column, number, of] of columns) {
    it(`has the right ${column}`, async () => assert.deepEqual(await shown('budgets', number), of));
  }

  it('has one row for each budget, with its period and its unit', async () => {
    const [info, spent] = await Promise.all(
      [0, 2].map((number) => stage.prometheus.query(queryOf('budgets', number), END_S)),
    );
    const of = (points: typeof info, label: string) =>
      new Map(points!.map(({ metric }) => [metric.budget!, metric[label]]));
    assert.deepEqual([...of(info, 'period').keys()].sort(), Object.keys(BUDGETS).sort());
    assert.deepEqual(new Set(of(info, 'period').values()), new Set(['10d']));
    for (const [name, { unit = 'usd' }] of Object.entries(BUDGETS)) assert.equal(of(spent, 'unit').get(name), unit);
  });

  it('says that a burn above what fits leads over the limit, and that no other does', async () => {
    const [burn, fits, forecast] = await Promise.all([
      shown('budgets', 6),
      shown('budgets', 7),
      shown('budgets-forecast', 0),
    ]);
    for (const [name, share] of Object.entries(forecast)) {
      if (share !== 1) assert.equal(burn[name]! > fits[name]!, share > 1, name);
    }
  });
});
