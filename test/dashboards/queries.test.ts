// Every query of every dashboard, asked of a real Prometheus that scraped a real bridge with the demonstration's turns:
// each is valid and finds something, and what it finds is what was sent, to the last digit.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { RECORDING_RULES } from '../../dashboards/alerts/expressions.ts';
import { ALERTS } from '../../dashboards/alerts/pack.ts';
import { PLACED } from '../../dashboards/grafana/pack.ts';
import { aligned } from '../../dashboards/preview/src/grafana-time.ts';
import { FORBIDDEN } from '../../src/demo/cast.ts';
import { demoRules } from '../../src/demo/rules.ts';
import { askQuarter, QUARTER_MS } from '../../src/demo/story.ts';
import { WINDOWS } from '../../src/ledger/reading.ts';
import { totalTokens } from '../../src/turn/turn-event.ts';
import { type DemoStage, SEED, startDemoStage } from './demo-stage.ts';
import { type Asked, asked, type DashboardJson, panelsOf, readDashboard } from './expand.ts';
import { type Sent, type SentTool, type SentTurn, sentBetween, sumBy } from './truth.ts';

/** Further back scrapes are an hour apart, and a month may begin between two of them. */
const DAYS = 10;
const DAY_S = 86_400;
/** What this demonstration has nothing of: no stream, no poller of its own, no two weeks, and nothing goes wrong in it. */
const NOT_IN_DEMO = new Set([
  'tollbridge-health queue',
  'tollbridge-health polls',
  'tollbridge-health unfinished',
  'tollbridge-health trouble',
  'tollbridge-analytics trend',
]);

let stage: DemoStage;
let nowS: number;
const startMs = new Map<string, number>();
const sent = new Map<string, Sent>();

async function labelValues(label: string): Promise<string[]> {
  const found = await stage.prometheus.query(`count by (${label}) ({__name__=~"toll_.+",${label}!=""})`, nowS);
  return found.map(({ metric }) => metric[label]!).sort();
}

async function variablesFor(window: string): Promise<Record<string, string | string[]>> {
  const names = ['tile', 'upstream_provider', 'provider', 'team', 'agent'];
  const values = await Promise.all(names.map(labelValues));
  return {
    window,
    start: String(startMs.get(window)! / 1000),
    __to: String(Math.floor(nowS)),
    ...Object.fromEntries(names.map((name, index) => [name, values[index]!])),
    // One is chosen, and all of the demonstration have this name.
    account: 'team',
  };
}

/** By panel, the labels that tables of several queries show, but for the one that these are joined by. */
function labelColumns(dashboard: DashboardJson): Map<number, string[]> {
  return new Map(
    panelsOf(dashboard).map(({ panel: { id, transformations = [] } }) => {
      const byField = transformations.find((each) => each.id === 'joinByField')?.options.byField;
      const names = transformations.find((each) => each.id === 'filterFieldsByName')?.options.include?.names ?? [];
      return [id, byField === undefined ? [] : names.filter((name) => name !== byField && !/^Value/.test(name))];
    }),
  );
}

function ask({ expr, isRange, interval }: Asked) {
  if (!isRange) return stage.prometheus.query(expr, nowS);
  // What only the running bridge tells began seconds ago, so a chart of hours would step over it.
  const stepS = interval === '1d' ? DAY_S : 2;
  const startS = nowS - (interval === '1d' ? 7 * DAY_S : 1200);
  return stage.prometheus.queryRange(expr, aligned({ startS, endS: nowS, stepS }));
}

before(async () => {
  stage = await startDemoStage({ days: DAYS });
  nowS = Date.now() / 1000;
  for (const { metric, value } of await stage.prometheus.query('toll_window_start_timestamp_seconds', nowS)) {
    startMs.set(metric.window!, value * 1000);
    sent.set(metric.window!, sentBetween(stage.fromMs, stage.toMs));
  }
  for (const [window, { turns, tools, errors }] of sent) {
    const fromMs = startMs.get(window)!;
    const isIn = (event: SentTurn | SentTool) => event.completedMs! >= fromMs;
    const failedIn = errors.filter(({ failedMs }) => failedMs >= fromMs);
    sent.set(window, { turns: turns.filter(isIn), tools: tools.filter(isIn), errors: failedIn });
  }
});
after(() => stage?.stop());

describe('every query', () => {
  for (const { dashboard, panels } of PLACED) {
    it(`of ${dashboard.title} is valid and finds something`, async () => {
      // One tile at a time where a dashboard is about one.
      const isOfOneTile = dashboard.uid === 'tollbridge-tile';
      const values = await variablesFor('7d');
      const chosen = isOfOneTile ? { ...values, tile: 'claude_code' } : values;
      const specs = new Map([...panels].map(([key, { id, spec }]) => [id, { key, spec }]));
      const found = new Map<string, number>();
      const columns = labelColumns(readDashboard(dashboard.uid!));
      const told = new Map<string, Set<string>>();
      for (const query of asked(readDashboard(dashboard.uid!), chosen)) {
        const points = await ask(query);
        for (const column of columns.get(query.panelId) ?? []) {
          const of = `${query.panel}: ${column}`;
          const isTold = points.some(({ metric }) => metric[column] !== undefined);
          if (isTold) told.set(of, (told.get(of) ?? new Set()).add(query.refId));
        }
        const { key, spec } = specs.get(query.panelId)!;
        found.set(key, (found.get(key) ?? 0) + points.length);
        if (points.length === 0 && !spec.mayBeEmpty) {
          assert.fail(`${query.panel} ${query.refId} (${query.values.tile}) finds nothing: ${query.expr}`);
        }
      }
      for (const [key, points] of found) {
        const mayFindNothing = isOfOneTile || NOT_IN_DEMO.has(`${dashboard.uid} ${key}`);
        assert.ok(points > 0 || mayFindNothing, `${key} finds nothing for any tile`);
      }
      for (const [column, refIds] of told) {
        assert.equal(refIds.size, 1, `${column} is told by ${[...refIds]}, and a join makes two columns of it`);
      }
    });
  }

  it('that is not valid would be told', async () => {
    await assert.rejects(stage.prometheus.query('rate(toll_cost_usd_total)'), /expected type range vector/);
  });
});

/** What alerts look at and the demonstration has nothing of, because it is only there when it happens. */
const ONLY_WHEN_IT_HAPPENS = new Set([
  'tollbridge_requests_lost_total',
  'tollbridge_relay_queue_events',
  'tollbridge_certificate_end_timestamp_seconds',
  'tollbridge_series_overflow_total',
  'toll_policy_unchecked_total',
  'tollbridge_polls_total',
  ...['updated', 'forwarded', 'ignored', 'rejected'].map((outcome) => `tollbridge_events_${outcome}_total`),
  'toll_drift_usd',
  'toll_drift_ratio',
]);

it('every metric that an alert or a recording rule looks at is in a live scrape', async () => {
  const exprs = [...ALERTS, ...RECORDING_RULES].map(({ expr }) => expr).join(' ');
  const names = [...new Set(exprs.match(/\b(?:toll|tollbridge)_[a-z_]*[a-z]\b/g))].sort();
  assert.ok(names.length > 20);
  const missing: string[] = [];
  for (const name of names) {
    const found = await stage.prometheus.query(`count(${name})`, nowS);
    if (found.length === 0 && !ONLY_WHEN_IT_HAPPENS.has(name)) missing.push(name);
  }
  assert.deepEqual(missing, []);
});

/** What a panel's query finds, as label → value. */
async function shown(uid: string, panelKey: string, refId: string, window: string, more: Record<string, string> = {}) {
  const { dashboard, panels } = PLACED.find((placed) => placed.dashboard.uid === uid)!;
  const { id } = panels.get(panelKey)!;
  const values = { ...(await variablesFor(window)), ...more };
  const query = asked(readDashboard(dashboard.uid!), values).find(
    (each) => each.panelId === id && each.refId === refId,
  )!;
  const points = await stage.prometheus.query(query.expr, nowS);
  return new Map(
    points
      .map(({ metric, value }): [string, number] => [Object.values(metric).join(' '), value])
      .filter(([, value]) => value !== 0 && !Number.isNaN(value))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

/** Money is compared in whole nano-USD: the shown sum of doubles may differ in the 15th digit. */
const inNano = (usd: Map<string, number>) => new Map([...usd].map(([key, value]) => [key, Math.round(value * 1e9)]));
const cost = (turn: SentTurn) => turn.costNano ?? 0;
/** By the rule of the demonstration for turns of Google that state no cost. */
const estimate = ({ provider, costNano, tokens: of }: SentTurn) =>
  provider === 'google' && costNano === undefined
    ? of.input * 2000 + (of.output + of.reasoning) * 12_000 + of.cache_read * 200
    : 0;
const fresh = ({ tokens }: SentTurn) => tokens.input + tokens.output + tokens.reasoning + tokens.cache_write;
const all = () => '';

describe('what is shown is what was sent', () => {
  for (const window of WINDOWS) {
    it(`on the home dashboard, in the window ${window}`, async () => {
      const { turns } = sent.get(window)!;
      assert.deepEqual(inNano(await shown('tollbridge-tiles', 'spend', 'A', window)), sumBy(turns, all, cost));
      assert.deepEqual(await shown('tollbridge-tiles', 'tokens', 'A', window), sumBy(turns, all, fresh));
      assert.deepEqual(
        await shown('tollbridge-tiles', 'turns', 'A', window),
        sumBy(turns, all, () => 1),
      );
    });

    it(`of agents beside each other, in the window ${window}`, async () => {
      const { turns, errors } = sent.get(window)!;
      const agent = (event: { readonly agent: string }) => event.agent;
      const column = (refId: string) => shown('tollbridge-analytics', 'agents', refId, window);
      const isAborted = ({ status }: SentTurn) => status === 'aborted';
      const one = () => 1;
      assert.deepEqual(await column('A'), sumBy(turns, agent, one));
      assert.deepEqual(
        await column('B'),
        sumBy(turns, agent, ({ tokens }) => totalTokens(tokens)),
      );
      assert.deepEqual(inNano(await column('C')), sumBy(turns, agent, cost));
      assert.deepEqual(inNano(await column('D')), sumBy(turns, agent, estimate));
      const failed = [...turns.filter(({ status }) => status === 'error'), ...errors];
      const calls = sumBy([...turns, ...errors], agent, one);
      assert.deepEqual(await column('E'), sumBy(failed, agent, one));
      const share = (of: Map<string, number>, whole: Map<string, number>) =>
        new Map([...of].map(([name, count]) => [name, count / whole.get(name)!]));
      assert.deepEqual(await column('F'), share(sumBy(failed, agent, one), calls));
      const own = sumBy(turns, agent, one);
      assert.deepEqual(await column('G'), share(sumBy(turns.filter(isAborted), agent, one), own));
      const titles = turns.filter(({ isTitle }) => isTitle);
      assert.deepEqual(await column('H'), share(sumBy(titles, agent, one), own));
      // Zeros are left out of what is shown: all but OpenCode, of which everything arrives.
      const others = turns.filter((turn) => turn.agent !== 'opencode');
      assert.deepEqual(
        [...(await column('I'))],
        [...sumBy(others, agent, one).keys()].map((name) => [name, 1]),
      );
      // Control: failed calls that are no turns are not in the number of turns.
      if (errors.length > 0) assert.notDeepEqual(calls, own);
    });

    it(`on every card, in the window ${window}`, async () => {
      const { turns } = sent.get(window)!;
      const tiles = [...new Set(sent.get('all')!.turns.map(({ tile }) => tile))];
      for (const tile of tiles) {
        const of = turns.filter((turn) => turn.tile === tile);
        const card = (refId: string) => shown('tollbridge-tiles', 'card', refId, window, { tile });
        assert.deepEqual(inNano(await card('G')), sumBy(of, all, cost), `cost of ${tile}`);
        assert.deepEqual(
          await card('H'),
          sumBy(of, all, () => 1),
          `turns of ${tile}`,
        );
        assert.deepEqual(await card('I'), sumBy(of, all, fresh), `tokens of ${tile}`);
      }
    });

    it(`in the sections, from counters over a restart and a gap in the scrapes, in the window ${window}`, async () => {
      const { turns, tools } = sent.get(window)!;
      const tile = 'claude_code';
      const of = turns.filter((turn) => turn.tile === tile);
      const section = (key: string, refId: string) =>
        shown('tollbridge-tile', `section-${key}`, refId, window, { tile });
      const types = ['input', 'output', 'cache_read', 'cache_write', 'reasoning'] as const;
      for (const [index, type] of types.entries()) {
        const expected = sumBy(
          of,
          ({ model }) => model,
          ({ tokens }) => tokens[type],
        );
        assert.deepEqual(await section('tokens', 'ABCDE'[index]!), expected, type);
      }
      assert.deepEqual(
        await section('projects', 'A'),
        sumBy(
          of,
          ({ project }) => project!,
          () => 1,
        ),
      );
      const calls = tools.filter((tool) => tool.tile === tile);
      assert.deepEqual(
        await section('tools', 'A'),
        sumBy(
          calls,
          ({ tool }) => tool,
          () => 1,
        ),
      );
      assert.deepEqual(
        await section('tool-summary', 'A'),
        sumBy(calls, all, () => 1),
      );
    });

    it(`by team and user, net of what was taken back, in the window ${window}`, async () => {
      const { turns } = sent.get(window)!;
      for (const label of ['team', 'user', 'project'] as const) {
        const expected = sumBy(turns, (turn) => turn[label]!, cost);
        assert.deepEqual(inNano(await shown('tollbridge-attribution', `by-${label}`, 'A', window)), expected, label);
      }
    });
  }

  it('in every budget, in its running period and its unit', async () => {
    const begun = new Map(
      (await stage.prometheus.query('toll_policy_period_start_timestamp_seconds', nowS)).map(
        ({ metric, value }): [string, number] => [metric.budget!, value * 1000],
      ),
    );
    const expected = new Map<string, number>();
    for (const { name, scope, ...limit } of demoRules(stage.toMs).budgets) {
      const unit = 'limit_usd' in limit ? 'usd' : 'tokens';
      const amount = (turn: SentTurn) =>
        unit === 'usd' ? (cost(turn) + estimate(turn)) / 1e7 : fresh(turn) + turn.tokens.cache_read;
      const of = sent
        .get('all')!
        .turns.filter(
          ({ completedMs, team, user }) =>
            completedMs! >= begun.get(name)! && team === scope.team && (!('user' in scope) || user === scope.user),
        );
      const sum = Math.round(of.reduce((all, turn) => all + amount(turn), 0));
      if (sum > 0) expected.set(`${name} ${unit}`, unit === 'usd' ? sum / 100 : sum);
    }
    assert.ok(expected.size >= 2);
    const sorted = new Map([...expected].sort(([a], [b]) => (a < b ? -1 : 1)));
    assert.deepEqual(await shown('tollbridge-attribution', 'budgets', 'C', '7d'), sorted);
  });

  it('in what rules answered: every question once, and a stop for each model that is forbidden', async () => {
    let asked = 0;
    let forbidden = 0;
    for (let startMs = stage.fromMs; startMs < stage.toMs; startMs += QUARTER_MS) {
      for (const { atMs, question } of askQuarter({ seed: SEED, startMs })) {
        if (atMs > stage.toMs) continue;
        asked++;
        if (question.model === FORBIDDEN.model) forbidden++;
      }
    }
    const answers = await Promise.all(
      ['A', 'B', 'C'].map((refId) => shown('tollbridge-attribution', 'verdicts', refId, 'all')),
    );
    const counts = answers.flatMap((of) => [...of.values()]);
    assert.equal(
      counts.reduce((all, one) => all + one, 0),
      asked,
    );
    const [stops] = answers;
    assert.equal(stops!.get('guardrail/house-models'), forbidden);
  });

  it('by day, today included so far', async () => {
    const { turns } = sent.get('all')!;
    const { panels } = PLACED.find(({ dashboard }) => dashboard.uid === 'tollbridge-analytics')!;
    const id = panels.get('cost-over-time')!.id;
    const query = asked(readDashboard('tollbridge-analytics'), await variablesFor('7d')).find(
      (each) => each.panelId === id,
    )!;
    const chart = aligned({ startS: nowS - 7 * DAY_S, endS: nowS, stepS: DAY_S });
    for (const daysAgo of [0, 1, 3]) {
      const startS = chart.endS - daysAgo * DAY_S;
      const of = turns.filter(({ completedMs }) => Math.floor(completedMs! / 1000 / DAY_S) * DAY_S === startS);
      const points = await stage.prometheus.rangeAt(query.expr, chart, startS);
      const found = new Map(points.map(({ metric, value }): [string, number] => [metric.upstream_provider!, value]));
      const sums = new Map([...inNano(found)].filter(([, value]) => value !== 0).sort(([a], [b]) => (a < b ? -1 : 1)));
      assert.deepEqual(
        sums,
        sumBy(of, ({ upstream }) => upstream, cost),
        `${daysAgo} days ago`,
      );
    }
  });

  it('and a sum that forgets what was taken back would be told apart', async () => {
    const gross = await stage.prometheus.query('sum(toll_cost_usd_total)', nowS);
    const { turns } = sent.get('all')!;
    assert.notEqual(Math.round(gross[0]!.value * 1e9), sumBy(turns, all, cost).get(''));
  });
});
