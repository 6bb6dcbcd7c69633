// Pushes what a scrape would show to an OTLP receiver. Points are cumulative, so whatever one push misses the next one
// brings: nothing is queued, and a receiver that is away costs nothing.

import { ExportResultCode } from '@opentelemetry/core';
import { ProtobufMetricsSerializer } from '@opentelemetry/otlp-transformer';
import {
  AggregationTemporality,
  type MetricData,
  type MetricProducer,
  type MetricReader,
  PeriodicExportingMetricReader,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
import type { OtlpTarget } from '../config-otlp.ts';
import { messageOf } from '../failure.ts';
import type { Log } from '../log.ts';
import { OtlpSender } from '../otlp-sender.ts';
import { BRIDGE, type MetricFamily, TOLL } from './catalogue.ts';
import { SERIES_PER_INSTRUMENT_MAX } from './health.ts';

const TIMEOUT_MAX_MS = 10_000;
/** The part of an interval that a push may take, so that it is over before the next one begins. */
const TIMEOUT_SHARE = 0.8;
const FAMILIES: readonly MetricFamily[] = [...Object.values(TOLL), ...Object.values(BRIDGE)];
const OTEL_NAMES = new Set(FAMILIES.map(({ otelName }) => otelName));

export interface OtlpPushOptions {
  readonly target: OtlpTarget;
  readonly headers: Readonly<Record<string, string>>;
  readonly intervalMs: number;
  /** What a scrape exports beside the SDK's instruments. May be the very one that scrapes read. */
  readonly producer: MetricProducer;
  readonly log: Log;
  /** Whether the totals are all there. Until then nothing is pushed, as nothing is scraped. */
  readonly isDue: () => boolean;
  readonly onEnd: (result: 'ok' | 'error') => void;
}

/** Pushes at an interval from when its `reader` is bound to a MeterProvider. No receiver can hold it, or what it reads. */
export class OtlpPush {
  readonly reader: MetricReader;
  readonly intervalMs: number;
  /** Where it goes, and how it went. */
  readonly sender: OtlpSender<ResourceMetrics>;
  readonly #isDue: () => boolean;

  constructor({ target, headers, intervalMs, producer, log, isDue, onEnd }: OtlpPushOptions) {
    this.intervalMs = intervalMs;
    this.#isDue = isDue;
    this.sender = new OtlpSender<ResourceMetrics>({
      ...{ endpoint: target.endpoint, url: target.url, headers, onEnd, log },
      timeoutMs: Math.min(TIMEOUT_MAX_MS, intervalMs * TIMEOUT_SHARE),
      serializer: ProtobufMetricsSerializer,
      words: {
        failing:
          'metrics cannot be pushed by OTLP; it is tried again, and nothing is lost, because totals are cumulative',
        again: 'metrics are pushed by OTLP again',
      },
    });
    this.reader = new PeriodicExportingMetricReader({
      exporter: {
        // How it ended is told here; the reader would only tell the SDK's own log.
        export: (metrics, done) => void this.#push(metrics).then(() => done({ code: ExportResultCode.SUCCESS })),
        selectAggregationTemporality: () => AggregationTemporality.CUMULATIVE,
        forceFlush: async () => {},
        shutdown: async () => {},
      },
      exportIntervalMillis: intervalMs,
      exportTimeoutMillis: intervalMs,
      metricProducers: [{ collect: (options) => this.#collect(producer, options) }],
      cardinalityLimits: { default: SERIES_PER_INSTRUMENT_MAX },
    });
  }

  /** Pushes a last time if it is due, and no more after. Takes five seconds at most, whatever the receiver does. */
  stop(): Promise<void> {
    return this.sender.close(() => this.reader.shutdown());
  }

  async #collect(producer: MetricProducer, options: Parameters<MetricProducer['collect']>[0]) {
    try {
      return await producer.collect(options);
    } catch (error) {
      if (this.#isDue() && !this.sender.isGivenUp) this.sender.ended(`the ledger cannot be read: ${messageOf(error)}`);
      throw error;
    }
  }

  /** Never rejects. */
  async #push(metrics: ResourceMetrics): Promise<void> {
    if (this.#isDue()) await this.sender.send(namedAsScraped(metrics));
  }
}

/**
 * A receiver makes suffixes of units, a scrape does not. Our names have their suffixes; those of Node's runtime do not,
 * so their units go as annotations, which no receiver adds. Metrics without points are left out, as in a scrape.
 */
function namedAsScraped({ resource, scopeMetrics }: ResourceMetrics): ResourceMetrics {
  const named = (metric: MetricData): MetricData => {
    const { name, unit } = metric.descriptor;
    if (OTEL_NAMES.has(name) || unit === '' || unit.startsWith('{')) return metric;
    return { ...metric, descriptor: { ...metric.descriptor, unit: `{${unit}}` } };
  };
  return {
    resource,
    scopeMetrics: scopeMetrics.map(({ scope, metrics }) => ({
      scope,
      metrics: metrics.filter(({ dataPoints }) => dataPoints.length > 0).map(named),
    })),
  };
}
