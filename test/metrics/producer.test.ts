import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MetricData } from '@opentelemetry/sdk-metrics';
import { AggregationTemporality, DataPointType } from '@opentelemetry/sdk-metrics';
import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { LEDGER_SCOPE, type LedgerMetricProducer } from '../../src/metrics/producer.ts';
import { CREATED_MS, fullHand, type HandMade, producerOf, readingOfRoute, rowsOf } from './fixture.ts';

async function collected(producer: LedgerMetricProducer): Promise<Map<string, MetricData>> {
  const { resourceMetrics, errors } = await producer.collect();
  assert.deepEqual(errors, []);
  assert.deepEqual(
    resourceMetrics.scopeMetrics.map(({ scope }) => scope.name),
    [LEDGER_SCOPE],
  );
  return new Map(resourceMetrics.scopeMetrics[0]!.metrics.map((metric) => [metric.descriptor.name, metric]));
}

/** The points of a family as [labels, value] pairs. */
async function pointsOf(family: MetricFamily, hand: HandMade): Promise<[Record<string, unknown>, unknown][]> {
  const metric = (await collected(producerOf(hand))).get(family.otelName);
  return (metric?.dataPoints ?? []).map((point) => [point.attributes, point.value]);
}

const CLAUDE = { upstreamProvider: 'anthropic', provider: 'opencode' };

describe('the ledger as a metric producer', () => {
  it('exports every family of the catalogue, each as the catalogue describes it', async () => {
    const metrics = await collected(producerOf(fullHand()));
    assert.deepEqual(
      [...metrics.keys()].sort(),
      Object.values(TOLL)
        .map((family) => family.otelName)
        .sort(),
    );
    for (const family of Object.values(TOLL) as MetricFamily[]) {
      const metric = metrics.get(family.otelName)!;
      const types = { counter: DataPointType.SUM, gauge: DataPointType.GAUGE, histogram: DataPointType.HISTOGRAM };
      assert.equal(metric.dataPointType, types[family.type], family.name);
      assert.equal(metric.aggregationTemporality, AggregationTemporality.CUMULATIVE);
      assert.equal(metric.descriptor.unit, family.unit);
      assert.equal(metric.descriptor.description, family.help);
      if (metric.dataPointType === DataPointType.SUM) assert.equal(metric.isMonotonic, true);
      for (const point of metric.dataPoints) {
        const optional = new Set(family.optional ?? []);
        const names = Object.keys(point.attributes);
        assert.deepEqual(
          names.filter((name) => !family.labels.includes(name)),
          [],
          `${family.name} has other labels`,
        );
        assert.deepEqual(
          family.labels.filter((name) => !optional.has(name) && !names.includes(name)),
          [],
          family.name,
        );
        assert.deepEqual(point.startTime, [CREATED_MS / 1000 - 0.25, 250e6], 'starts with the ledger');
        if (metric.dataPointType === DataPointType.HISTOGRAM) {
          const { buckets } = point.value as { buckets: { boundaries: number[]; counts: number[] } };
          assert.deepEqual(buckets.boundaries, family.buckets);
          assert.equal(buckets.counts.length, buckets.boundaries.length + 1);
        }
      }
    }
  });

  it('leaves out families that have nothing to show', async () => {
    const metrics = await collected(producerOf({}, []));
    assert.deepEqual([...metrics.keys()].sort(), [
      'toll_window_start_timestamp_seconds',
      'tollbridge_ledger_created_timestamp_seconds',
      'tollbridge_ledger_size_bytes',
      'tollbridge_series',
    ]);
  });

  it('divides integers once, so that a total never steps back', async () => {
    const labels = { agent: 'opencode' };
    let last = -1;
    for (const value of [0, 1, 2, 3, 299_999_999, 300_000_000, 300_000_001, 2 ** 53 - 2, 2 ** 53 - 1]) {
      const points = await pointsOf(TOLL.cost, { counters: { [TOLL.cost.name]: [{ labels, value }] } });
      assert.equal(points[0]![1], value / 1e9);
      assert.ok((points[0]![1] as number) >= last);
      last = points[0]![1] as number;
    }
  });

  it('gives a series the same label object in every collect, and forgets those that ended', async () => {
    const hand = fullHand();
    const producer = producerOf(hand);
    const objects = (metrics: Map<string, MetricData>) =>
      new Map([...metrics].map(([name, metric]) => [name, metric.dataPoints.map((point) => point.attributes)]));
    const first = objects(await collected(producer));
    const second = objects(await collected(producer));
    for (const [name, attributes] of first) {
      for (const [index, labels] of attributes.entries()) assert.equal(second.get(name)![index], labels, name);
    }
    const polls = hand.polls!;
    hand.polls = [];
    await collected(producer);
    hand.polls = polls;
    const later = objects(await collected(producer));
    const quota = TOLL.quotaUsedRatio.otelName;
    assert.deepEqual(later.get(quota), first.get(quota));
    assert.notEqual(later.get(quota)![0], first.get(quota)![0]);
  });

  it('counts the label sets of every restored family, also of those that hold none', async () => {
    const points = await pointsOf(TOLL.series, fullHand());
    const series = new Map(points.map(([labels, value]) => [labels.metric, value]));
    assert.equal(series.get('toll_cost_usd_total'), 2);
    assert.equal(series.get('toll_turn_duration_seconds'), 1);
    assert.equal(series.has('toll_window_cost_usd'), false);
    assert.equal(
      (await pointsOf(TOLL.series, {})).every(([, value]) => value === 0),
      true,
    );
  });

  it('rejects with what the ledger throws', async () => {
    const hand = fullHand();
    hand.sessions = () => {
      throw new Error('the ledger is closed');
    };
    await assert.rejects(producerOf(hand).collect(), /the ledger is closed/);
  });
});

describe('windows', () => {
  it('sums the models of a provider and leaves cost out where none of it is known', async () => {
    const tokens = { withoutCacheRead: 10, cacheRead: 5 };
    const rows = [
      ...rowsOf({ ...CLAUDE, model: 'a' }, { today: { costNano: 300, turns: 2, pricedTurns: 2, tokens } }),
      ...rowsOf({ ...CLAUDE, model: 'b' }, { today: { turns: 1, tokens }, '7d': { turns: 1, tokens } }),
    ];
    const labels = { window: 'today', tile: 'claude_code', upstream_provider: 'anthropic', provider: 'opencode' };
    const cost = await pointsOf(TOLL.windowCost, { rows });
    assert.deepEqual(cost[0], [labels, 300 / 1e9]);
    const windows = cost.map(([{ window }]) => window);
    assert.deepEqual(windows, ['today', '3d', '30d', 'month', 'all'], 'absent in 7d: its only turn is unpriced');
    assert.equal(cost.find(([{ window }]) => window === '3d')![1], 0, '0 where there are no turns');
    assert.deepEqual((await pointsOf(TOLL.windowTokens, { rows }))[0]![1], 20);
    assert.deepEqual((await pointsOf(TOLL.windowCacheReadTokens, { rows }))[0]![1], 10);
    assert.deepEqual((await pointsOf(TOLL.windowTurns, { rows }))[0]![1], 3);
    const byModel = await pointsOf(TOLL.windowModelCost, { rows });
    const today = byModel.filter(([{ window }]) => window === 'today');
    assert.deepEqual(today, [[{ ...labels, model: 'a' }, 300 / 1e9]], 'the unpriced model has no cost');
    const modelTokens = (await pointsOf(TOLL.windowModelTokens, { rows })).filter(([{ window }]) => window === 'today');
    assert.deepEqual(
      modelTokens.map(([{ model }, value]) => [model, value]),
      [
        ['a', 10],
        ['b', 10],
      ],
    );
  });

  it('names the 20 models that cost most, by tokens where cost is equal; the rest is other', async () => {
    const rows = Array.from({ length: 30 }, (_, n) =>
      rowsOf(
        { ...CLAUDE, model: n === 29 ? 'other' : `model-${n}` },
        { all: { costNano: n < 10 ? 0 : n, turns: 1, pricedTurns: 1, tokens: { withoutCacheRead: n, cacheRead: 0 } } },
      ),
    ).flat();
    const all = (points: [Record<string, unknown>, unknown][]) =>
      new Map(points.filter(([{ window }]) => window === 'all').map(([{ model }, value]) => [model, value]));
    const cost = all(await pointsOf(TOLL.windowModelCost, { rows }));
    assert.equal(cost.size, 21);
    assert.deepEqual(
      Array.from({ length: 30 }, (_, n) => `model-${n}`).filter((model) => !cost.has(model)),
      [...Array.from({ length: 9 }, (_, n) => `model-${n}`), 'model-29'],
    );
    assert.equal(cost.get('other'), 29 / 1e9, 'the ledger’s own `other`, and nine models that cost nothing');
    const total = (await pointsOf(TOLL.windowCost, { rows })).find(([{ window }]) => window === 'all')![1];
    const nano = [...cost.values()].reduce<number>((sum, value) => sum + Math.round((value as number) * 1e9), 0);
    assert.equal(nano, Math.round((total as number) * 1e9), 'models add up to their provider');
  });

  it('asks for the sessions of a tile, not of its providers', async () => {
    const asked: string[] = [];
    const hand: HandMade = {
      rows: [
        ...rowsOf({ ...CLAUDE, model: 'a' }, {}),
        ...rowsOf({ ...CLAUDE, upstreamProvider: 'claude_code', model: 'a' }, {}),
      ],
      sessions: (window, upstreams) => {
        asked.push(`${window} ${upstreams.join('+')}`);
        return 4;
      },
    };
    const points = await pointsOf(TOLL.windowSessions, hand);
    assert.equal(points.length, 6);
    assert.deepEqual(points[0], [{ window: 'today', tile: 'claude_code' }, 4]);
    assert.equal(asked[0], 'today anthropic+claude_code');
  });

  it('says which tile shows an upstream provider, and which has none', async () => {
    assert.deepEqual(
      await pointsOf(TOLL.tileInfo, fullHand()),
      [
        [{ upstream_provider: 'cerebras', tile: 'cerebras' }, 1],
        [{ upstream_provider: 'anthropic', tile: 'claude_code' }, 1],
      ].sort(([a], [b]) => ((a as { tile: string }).tile < (b as { tile: string }).tile ? -1 : 1)),
    );
    const unmapped = await pointsOf(TOLL.upstreamUnmapped, fullHand());
    assert.deepEqual(unmapped, [[{ upstream_provider: 'cerebras', reason: 'unconfigured' }, 1]]);
  });
});

describe('accounts', () => {
  const statusOf = (points: [Record<string, unknown>, unknown][]) =>
    points.filter(([, value]) => value === 1).map(([{ account, status }]) => `${account}: ${status}`);

  it('are shown before their first reading, as unknown', async () => {
    const hand = { polls: [] };
    assert.deepEqual(await pointsOf(TOLL.accountInfo, hand), [[{ provider: 'opencode', account: 'opencode' }, 1]]);
    const status = await pointsOf(TOLL.accountStatus, hand);
    assert.equal(status.length, 7);
    assert.deepEqual(statusOf(status), ['opencode: unknown']);
    for (const family of [TOLL.quotaUsedRatio, TOLL.modelsAvailable, TOLL.modelInfo, TOLL.snapshotTimestamp]) {
      assert.deepEqual(await pointsOf(family, hand), []);
    }
  });

  it('show what a poll said, in exported units', async () => {
    const hand = fullHand();
    const account = { provider: 'opencode', account: 'opencode' };
    const info = { ...account, display_name: 'Work', plan: 'pay-as-you-go', subscription: 'false' };
    assert.deepEqual(await pointsOf(TOLL.accountInfo, hand), [
      [{ ...info, auth_scope: 'api_key', machine: 'laptop' }, 1],
    ]);
    assert.deepEqual(statusOf(await pointsOf(TOLL.accountStatus, hand)), ['opencode: near_limit']);
    const quota = { ...account, quota: 'go', window: '5h' };
    assert.deepEqual(await pointsOf(TOLL.quotaUsedRatio, hand), [[quota, 0.85]]);
    assert.deepEqual(await pointsOf(TOLL.quotaReset, hand), [[quota, CREATED_MS / 1000 + 3600]]);
    const percent = { ...quota, unit: 'percent' };
    assert.deepEqual(await pointsOf(TOLL.quotaLimit, hand), [[percent, 100]]);
    assert.deepEqual(await pointsOf(TOLL.quotaUsed, hand), [[percent, 85]]);
    assert.deepEqual(await pointsOf(TOLL.quotaRemaining, hand), [[percent, 15]]);
    assert.deepEqual(await pointsOf(TOLL.modelsAvailable, hand), [[account, 1]]);
    assert.deepEqual(await pointsOf(TOLL.snapshotTimestamp, hand), [[account, CREATED_MS / 1000 + 9]]);
  });

  it('show money in whole units of its currency, exactly', async () => {
    const hand = fullHand();
    const account = { provider: 'opencode', account: 'opencode' };
    const usd = { ...account, currency: 'USD' };
    const monthly = { ...account, limit: 'monthly', currency: 'USD' };
    const cases: [MetricFamily, object, number][] = [
      [TOLL.balance, { ...account, kind: 'console', currency: 'USD' }, 42.5],
      [TOLL.balanceSpent, { ...account, kind: 'console', currency: 'USD' }, 3],
      [TOLL.balanceTopup, { ...account, kind: 'console', currency: 'USD' }, 12],
      [TOLL.spendLimit, monthly, 60],
      [TOLL.spendLimitUsed, monthly, 6.1735557],
      [TOLL.spendLimitReset, { ...account, limit: 'monthly' }, CREATED_MS / 1000 + 7200],
      [TOLL.reloadTrigger, usd, 5],
      [TOLL.reloadAmount, usd, 20],
      [TOLL.reloadEnabled, account, 1],
      [TOLL.reloadFailing, account, 0],
      [TOLL.reportedCost, { ...account, window: 'month', currency: 'USD' }, 1],
      [TOLL.reportedTokens, { ...account, window: 'month', token_type: 'input' }, 12],
      [TOLL.reportedModelTokens, { ...account, window: 'month', model: 'glm-5', token_type: 'input' }, 7],
      [TOLL.reportedValue, { ...account, metric: 'keys_total', field: 'used', unit: 'keys', window: 'current' }, 3],
    ];
    for (const [family, labels, value] of cases) {
      assert.deepEqual(await pointsOf(family, hand), [[labels, value]], family.name);
    }
    const model = { ...account, window: 'month', currency: 'USD', model: 'glm-5', product: 'opencode' };
    assert.deepEqual(await pointsOf(TOLL.reportedModelCost, hand), [[model, 0.5]]);
  });

  it('show nothing that was not learned: no models, no reset, no good answer', async () => {
    const [poll] = fullHand().polls!;
    const { authScope, ...bare } = poll!;
    const quotas = [{ quota: 'go', window: '7d', unit: 'percent', usedRatio: 0 }];
    const hand = { polls: [{ ...bare, readings: [readingOfRoute('go/usage', 0, { quotas })] }] };
    assert.equal((await pointsOf(TOLL.quotaUsedRatio, hand))[0]![1], 0);
    const absent = [
      ...[TOLL.quotaReset, TOLL.quotaLimit, TOLL.modelsAvailable, TOLL.modelInfo, TOLL.balance, TOLL.spendLimit],
      ...[TOLL.spendLimitUsed, TOLL.spendLimitReset, TOLL.reloadTrigger, TOLL.reloadAmount, TOLL.reloadEnabled],
      ...[TOLL.reloadFailing, TOLL.reportedCost, TOLL.reportedValue, TOLL.driftUsd, TOLL.driftRatio],
    ];
    for (const family of absent) assert.deepEqual(await pointsOf(family, hand), [], family.name);
    const silent = { polls: [{ ...bare, readings: [] }] };
    assert.deepEqual(await pointsOf(TOLL.snapshotTimestamp, silent), []);
  });

  it('export one value for a label set that a poll repeats', async () => {
    const [poll] = fullHand().polls!;
    const quota = { quota: 'go', window: '5h', unit: 'percent', usedRatio: 0.1 };
    const readings = [readingOfRoute('go/usage', 0, { quotas: [quota, { ...quota, usedRatio: 0.2 }] })];
    assert.equal((await pointsOf(TOLL.quotaUsedRatio, { polls: [{ ...poll!, readings }] })).length, 1);
  });

  it('of other machines are shown beside the configured ones', async () => {
    const [poll] = fullHand().polls!;
    const hand = { polls: [{ ...poll!, account: 'laptop', status: 'ok' as const }] };
    assert.deepEqual(statusOf(await pointsOf(TOLL.accountStatus, hand)), ['opencode: unknown', 'laptop: ok']);
  });

  it('names the part of the turns in all that its ledger counted, and in nothing about accounts', async () => {
    const whole = await collected(producerOf(fullHand()));
    const parted = await collected(producerOf({ ...fullHand(), partition: '1/2' }));
    for (const family of Object.values(TOLL) as MetricFamily[]) {
      const points = parted.get(family.otelName)?.dataPoints ?? [];
      const isCounted = family.labels.includes('partition');
      for (const { attributes } of points) {
        assert.equal(attributes.partition, isCounted ? '1/2' : undefined, family.name);
      }
      for (const { attributes } of whole.get(family.otelName)?.dataPoints ?? []) {
        assert.equal(attributes.partition, undefined, family.name);
      }
      if (!/drift/.test(family.name)) assert.ok(points.length > 0, family.name);
    }
    assert.equal(TOLL.cost.labels.includes('partition'), true);
    for (const about of [TOLL.balance, TOLL.balanceSpent, TOLL.accountStatus, TOLL.tileInfo]) {
      assert.equal(about.labels.includes('partition'), false, about.name);
    }
    // What an account lost can be compared with all of its turns only.
    assert.equal(parted.has(TOLL.driftUsd.otelName), false);
    assert.equal(whole.has(TOLL.driftUsd.otelName), true);
  });
});
