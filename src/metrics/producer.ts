// The bridge from the ledger to OpenTelemetry: a MetricProducer that reads totals instead of counting itself. Its
// counters survive restarts, and a series that the ledger no longer shows is gone at the next collect.

import { type HrTime, ValueType } from '@opentelemetry/api';
import { emptyResource } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  type CollectionResult,
  DataPointType,
  type Histogram,
  type MetricData,
  type MetricProducer,
} from '@opentelemetry/sdk-metrics';
import { type Labels, type LedgerReading, UNIT_SCALE, WINDOWS, type WindowRow } from '../ledger/reading.ts';
import { OTHER } from '../ledger/totals.ts';
import { ACCOUNT_STATUSES, type PollResult } from '../poll/poll-result.ts';
import { pollGauges, type SetGauge } from './account-gauges.ts';
import { type MetricFamily, PARTITION, TOLL } from './catalogue.ts';
import { driftOf } from './drift.ts';
import { LabelSets } from './label-sets.ts';
import { sumRows, type TileMap, upstreamsByTile, type WindowSum } from './tile-report.ts';

/** The scope of everything that comes from the ledger. */
export const LEDGER_SCOPE = 'tollbridge.ledger';

/** Models shown by name per window and provider; beyond these a chart is unreadable and the series add up. */
const WINDOW_MODELS_MAX = 20;

const FAMILIES: readonly MetricFamily[] = Object.values(TOLL);

/** An account that turns and polls are labelled with. */
export interface ConfiguredAccount {
  readonly provider: string;
  readonly id: string;
  /** Where it was found, for people; not a label. */
  readonly foundIn: string;
}

interface Span {
  readonly startTime: HrTime;
  readonly endTime: HrTime;
}

/** Values in the ledger's units. One label set has one value, whatever a poll repeats: Prometheus takes no duplicates. */
type Gauges = Map<MetricFamily, Map<Labels, number>>;

/**
 * All families of the ledger as OpenTelemetry metrics, cumulative since the ledger was created. A collect is one
 * synchronous pass over committed state, so its families agree with each other, and nothing in it changes later. It
 * rejects with whatever the ledger throws.
 */
export class LedgerMetricProducer implements MetricProducer {
  readonly #reading: LedgerReading;
  readonly #tiles: TileMap;
  readonly #accounts: readonly ConfiguredAccount[];
  readonly #labels = new LabelSets();

  constructor(options: { reading: LedgerReading; tiles: TileMap; accounts: readonly ConfiguredAccount[] }) {
    this.#reading = options.reading;
    this.#tiles = options.tiles;
    this.#accounts = options.accounts;
  }

  async collect(): Promise<CollectionResult> {
    const span: Span = { startTime: hrTime(this.#reading.createdMs), endTime: hrTime(Date.now()) };
    const metrics = FAMILIES.filter((family) => family.type !== 'gauge').map((family) => this.#restored(family, span));
    const series = new Map(metrics.map((metric) => [metric.descriptor.name, metric.dataPoints.length]));
    for (const [family, values] of this.#gauges(series)) metrics.push(gaugeMetric(family, values, span));
    this.#labels.forgetUnused();
    const scopeMetrics = [{ scope: { name: LEDGER_SCOPE }, metrics: metrics.filter((m) => m.dataPoints.length > 0) }];
    return { resourceMetrics: { resource: emptyResource(), scopeMetrics }, errors: [] };
  }

  /** A counter or histogram, as far as the ledger holds it. */
  #restored(family: MetricFamily, span: Span): MetricData {
    const { name, type, scale } = family;
    if (type === 'counter') {
      const dataPoints = Array.from(this.#reading.counters(name), ({ labels, value }) => ({
        ...span,
        attributes: this.#inPartition(family, labels),
        // Divided once, from an integer: as monotone as the integer itself.
        value: value / scale,
      }));
      return { ...described(family), dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints };
    }
    const boundaries = [...(family.buckets ?? [])];
    const dataPoints = Array.from(this.#reading.histograms(name), ({ labels, counts, sum, count }) => {
      // The type of a point allows changes, which nobody makes.
      const value: Histogram = { buckets: { boundaries, counts: counts as number[] }, sum: sum / scale, count };
      return { ...span, attributes: this.#inPartition(family, labels), value };
    });
    return { ...described(family), dataPointType: DataPointType.HISTOGRAM, dataPoints };
  }

  /** The labels of what this ledger counted, with the part that it holds where it does not hold everything. */
  #inPartition(family: MetricFamily, labels: Labels): Labels {
    const { partition } = this.#reading;
    if (partition === undefined || !family.labels.includes(PARTITION)) return labels;
    return this.#labels.of({ ...labels, [PARTITION]: partition });
  }

  #gauges(series: ReadonlyMap<string, number>): Gauges {
    const gauges: Gauges = new Map();
    const set: SetGauge = (family, labels, value) => {
      if (value === undefined) return;
      const values = gauges.get(family) ?? new Map<Labels, number>();
      gauges.set(family, values.set(this.#inPartition(family, this.#labels.of(labels)), value));
    };
    this.#ledgerGauges(set, series);
    const priced = this.#reading.pricingStates();
    if (priced.length > 0) gauges.set(TOLL.pricingInfo, new Map(priced.map((labels) => [labels, 1])));
    this.#tileGauges(set);
    this.#windowGauges(set);
    this.#accountGauges(set);
    this.#policyGauges(set);
    return gauges;
  }

  #ledgerGauges(set: SetGauge, series: ReadonlyMap<string, number>): void {
    const reading = this.#reading;
    set(TOLL.ledgerSize, {}, reading.sizeBytes());
    set(TOLL.ledgerCreated, {}, reading.createdMs);
    for (const { name, otelName } of FAMILIES) {
      const held = series.get(otelName);
      if (held !== undefined) set(TOLL.series, { metric: name }, held);
    }
    for (const { agent, provider, turns } of reading.unfinishedTurns()) {
      set(TOLL.turnsUnfinished, { agent, provider }, turns);
    }
  }

  #tileGauges(set: SetGauge): void {
    const accounts = [...this.#accounts, ...this.#reading.pollResults()].map(({ provider }) => provider);
    const upstreams = this.#reading.upstreamProviders();
    for (const { tile, title } of this.#tiles.all(upstreams, accounts)) set(TOLL.tile, { tile, title }, 1);
    for (const [tile, upstreams] of upstreamsByTile(this.#reading, this.#tiles)) {
      for (const upstream of upstreams) set(TOLL.tileInfo, { upstream_provider: upstream, tile }, 1);
      for (const window of WINDOWS) {
        set(TOLL.windowSessions, { window, tile }, this.#reading.windowSessions(window, upstreams));
      }
    }
    for (const { upstreamProvider, reason } of this.#tiles.unmapped(this.#reading.upstreamProviders())) {
      set(TOLL.upstreamUnmapped, { upstream_provider: upstreamProvider, reason }, 1);
    }
  }

  #windowGauges(set: SetGauge): void {
    for (const window of WINDOWS) set(TOLL.windowStart, { window }, this.#reading.windowStartMs(window));
    for (const rows of byProvider(this.#reading.windowRows())) {
      const { window, upstreamProvider, provider } = rows[0]!;
      const tile = this.#tiles.tileOf(upstreamProvider);
      const labels = this.#labels.of({ window, tile, upstream_provider: upstreamProvider, provider });
      const all = sumRows(rows);
      set(TOLL.windowCost, labels, all.costNano);
      set(TOLL.windowTokens, labels, all.tokens);
      set(TOLL.windowCacheReadTokens, labels, all.cacheReadTokens);
      set(TOLL.windowTurns, labels, all.turns);
      for (const [model, sum] of topModels(rows)) {
        const ofModel = this.#labels.of({ ...labels, model });
        set(TOLL.windowModelCost, ofModel, sum.costNano);
        set(TOLL.windowModelTokens, ofModel, sum.tokens);
      }
    }
  }

  #policyGauges(set: SetGauge): void {
    for (const { name: budget, unit, limit, spent, startMs, endMs, rule } of this.#reading.standings()) {
      if (!rule) continue;
      set(TOLL.policyBudgetInfo, { budget, period: rule.period, hard: String(rule.hard) }, 1);
      for (const step of rule.warn_at) set(TOLL.policyWarnAt, { budget, step: String(step) }, step);
      set(TOLL.policyLimit, { budget, unit }, limit / UNIT_SCALE[unit]);
      set(TOLL.policySpent, { budget, unit }, spent / UNIT_SCALE[unit]);
      set(TOLL.policyUsedRatio, { budget }, spent / limit);
      set(TOLL.policyPeriodStart, { budget }, startMs);
      set(TOLL.policyPeriodEnd, { budget }, endMs);
    }
  }

  #accountGauges(set: SetGauge): void {
    const accounts = new Map<string, { provider: string; account: string; result?: PollResult }>();
    for (const { provider, id } of this.#accounts) accounts.set(`${provider} ${id}`, { provider, account: id });
    for (const result of this.#reading.pollResults()) {
      const { provider, account } = result;
      accounts.set(`${provider} ${account}`, { provider, account, result });
    }
    for (const { provider, account, result } of accounts.values()) {
      const labels = { provider, account };
      const current = result?.status ?? 'unknown';
      for (const status of ACCOUNT_STATUSES) set(TOLL.accountStatus, { ...labels, status }, status === current ? 1 : 0);
      if (result) pollGauges(result, set);
      else set(TOLL.accountInfo, labels, 1);
    }
    for (const { provider, id } of this.#accounts) {
      const drift = driftOf(this.#reading, accounts.get(`${provider} ${id}`)?.result);
      for (const { window, nano, ratio } of drift.windows) {
        set(TOLL.driftUsd, { provider, account: id, window }, nano);
        set(TOLL.driftRatio, { provider, account: id, window }, ratio);
      }
    }
  }
}

/** The rows of each window, upstream provider and provider. Step by step: keys put together of all three cost more. */
function byProvider(all: readonly WindowRow[]): WindowRow[][] {
  return [...Map.groupBy(all, ({ window }) => window).values()].flatMap((ofWindow) =>
    [...Map.groupBy(ofWindow, ({ upstreamProvider }) => upstreamProvider).values()].flatMap((ofUpstream) => [
      ...Map.groupBy(ofUpstream, ({ provider }) => provider).values(),
    ]),
  );
}

/** The sums by model of the rows of one window and provider: those on top, and the rest under `other`. */
function topModels(rows: readonly WindowRow[]): [model: string, sum: WindowSum][] {
  const top: WindowRow[] = [];
  const rest: WindowRow[] = [];
  for (const row of rows) {
    if (row.model === OTHER) {
      rest.push(row);
      continue;
    }
    // Few of many get in, so looking at the last one first spares a sort of all.
    if (top.length === WINDOW_MODELS_MAX) {
      const isIn = isBefore(row, top.at(-1)!);
      rest.push(isIn ? top.pop()! : row);
      if (!isIn) continue;
    }
    let at = top.length;
    while (at > 0 && isBefore(row, top[at - 1]!)) at -= 1;
    top.splice(at, 0, row);
  }
  const sums = top.map((row): [string, WindowSum] => [row.model, sumRows([row])]);
  return rest.length === 0 ? sums : [...sums, [OTHER, sumRows(rest)]];
}

/** Whether a model is above another: by its cost, then by its tokens. */
function isBefore(one: WindowRow, other: WindowRow): boolean {
  const by = other.costNano - one.costNano || other.tokens.withoutCacheRead - one.tokens.withoutCacheRead;
  return by === 0 ? one.model < other.model : by < 0;
}

function gaugeMetric(family: MetricFamily, values: ReadonlyMap<Labels, number>, span: Span): MetricData {
  const dataPoints = Array.from(values, ([labels, value]) => ({
    ...span,
    attributes: labels,
    value: value / family.scale,
  }));
  return { ...described(family), dataPointType: DataPointType.GAUGE, dataPoints };
}

function described(family: MetricFamily) {
  const { otelName, help, unit, scale, type } = family;
  return {
    descriptor: {
      name: otelName,
      description: help,
      unit,
      valueType: type === 'counter' && scale === 1 ? ValueType.INT : ValueType.DOUBLE,
    },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  };
}

function hrTime(ms: number): HrTime {
  return [Math.trunc(ms / 1e3), (ms % 1e3) * 1e6];
}
