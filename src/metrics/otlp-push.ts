// Pushes what a scrape would show to an OTLP receiver. Points are cumulative, so whatever one push misses the next one
// brings: nothing is queued, and a receiver that is away costs nothing.

import http, { validateHeaderName, validateHeaderValue } from 'node:http';
import https from 'node:https';
import { ExportResultCode } from '@opentelemetry/core';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-proto';
import {
  AggregationTemporality,
  type MetricData,
  type MetricProducer,
  type MetricReader,
  PeriodicExportingMetricReader,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
import { type OtlpConfig, otlpMetricsUrl } from '../config-otlp.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import { BRIDGE, type MetricFamily, TOLL } from './catalogue.ts';
import { SERIES_PER_INSTRUMENT_MAX } from './health.ts';

const TIMEOUT_MAX_MS = 10_000;
/** The part of an interval that a push may take, so that it is over before the next one begins. */
const TIMEOUT_SHARE = 0.8;
const STOP_MAX_MS = 5_000;
/** A receiver that was away before is hardly back now, and nobody likes to wait for a program that stops. */
const STOP_MAX_WHILE_FAILING_MS = 1_000;
const FAMILIES: readonly MetricFamily[] = [...Object.values(TOLL), ...Object.values(BRIDGE)];
const OTEL_NAMES = new Set(FAMILIES.map(({ otelName }) => otelName));

export interface OtlpPushOptions {
  readonly otlp: OtlpConfig;
  readonly headers: Readonly<Record<string, string>>;
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
  readonly #otlp: OtlpConfig;
  readonly #log: Log;
  readonly #isDue: () => boolean;
  readonly #onEnd: OtlpPushOptions['onEnd'];
  readonly #timeoutMs: number;
  readonly #agent: http.Agent;
  readonly #exporter: OTLPMetricExporter;
  #problem: string | undefined;
  #lastOkMs: number | undefined;
  #isGivenUp = false;
  #giveUp: () => void = () => {};

  constructor({ otlp, headers, producer, log, isDue, onEnd }: OtlpPushOptions) {
    this.#otlp = otlp;
    this.#log = log;
    this.#isDue = isDue;
    this.#onEnd = onEnd;
    this.#timeoutMs = Math.min(TIMEOUT_MAX_MS, otlp.interval * TIMEOUT_SHARE);
    const url = otlpMetricsUrl(otlp);
    const Agent = url.startsWith('https:') ? https.Agent : http.Agent;
    this.#agent = new Agent({ keepAlive: true });
    this.#exporter = withoutOtelVariables(
      () =>
        new OTLPMetricExporter({
          url,
          timeoutMillis: this.#timeoutMs,
          httpAgentOptions: () => this.#agent,
          // Asked for at every try, and the exporter tries again by itself: the one way to stop it.
          headers: async () => {
            if (this.#isGivenUp) throw new Error('given up');
            return { ...headers };
          },
        }),
    );
    this.reader = new PeriodicExportingMetricReader({
      exporter: {
        // How it ended is told here; the reader would only tell the SDK's own log.
        export: (metrics, done) => void this.#push(metrics).then(() => done({ code: ExportResultCode.SUCCESS })),
        selectAggregationTemporality: () => AggregationTemporality.CUMULATIVE,
        forceFlush: async () => {},
        shutdown: async () => {},
      },
      exportIntervalMillis: otlp.interval,
      exportTimeoutMillis: otlp.interval,
      metricProducers: [{ collect: (options) => this.#collect(producer, options) }],
      cardinalityLimits: { default: SERIES_PER_INSTRUMENT_MAX },
    });
  }

  /** As configured. */
  get endpoint(): string {
    return this.#otlp.endpoint;
  }

  get intervalMs(): number {
    return this.#otlp.interval;
  }

  /** Why the last push failed, one line for people; undefined when it did not. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Unix ms; undefined before the first push that was taken. */
  get lastOkMs(): number | undefined {
    return this.#lastOkMs;
  }

  /** Pushes a last time if it is due, and no more after. Takes five seconds at most, whatever the receiver does. */
  async stop(): Promise<void> {
    const bound = setTimeout(
      () => this.#abandon(),
      this.#problem === undefined ? STOP_MAX_MS : STOP_MAX_WHILE_FAILING_MS,
    );
    try {
      await this.reader.shutdown();
    } finally {
      clearTimeout(bound);
      this.#abandon();
    }
  }

  #abandon(): void {
    this.#isGivenUp = true;
    this.#giveUp();
    this.#agent.destroy();
  }

  async #collect(producer: MetricProducer, options: Parameters<MetricProducer['collect']>[0]) {
    try {
      return await producer.collect(options);
    } catch (error) {
      if (this.#isDue() && !this.#isGivenUp) this.#ended(`the ledger cannot be read: ${messageOf(error)}`);
      throw error;
    }
  }

  /** Never rejects. */
  async #push(metrics: ResourceMetrics): Promise<void> {
    if (!this.#isDue()) return;
    try {
      this.#ended(await this.#send(namedAsScraped(metrics)));
    } catch (error) {
      this.#ended(troubleText(error));
    }
  }

  /** What went wrong. The exporter's own timeout only notices a connection on which nothing moves. */
  #send(metrics: ResourceMetrics): Promise<string | undefined> {
    return new Promise((resolve) => {
      const cut = (why: string) => {
        resolve(why);
        this.#agent.destroy();
      };
      this.#giveUp = () => cut('it did not answer before the bridge stopped');
      if (this.#isGivenUp) return this.#giveUp();
      const timer = setTimeout(() => cut(`it did not answer within ${this.#timeoutMs / 1e3} s`), this.#timeoutMs);
      this.#exporter.export(metrics, ({ code, error }) => {
        clearTimeout(timer);
        resolve(code === ExportResultCode.SUCCESS ? undefined : troubleText(error));
      });
    });
  }

  /** Tells when failing begins and when it ends, and not each time. */
  #ended(problem: string | undefined): void {
    const { endpoint } = this.#otlp;
    if (problem === undefined) this.#lastOkMs = Date.now();
    if (problem !== undefined && this.#problem === undefined) {
      this.#log.warn(
        { endpoint, problem },
        'metrics cannot be pushed by OTLP; it is tried again, and nothing is lost, because totals are cumulative',
      );
    } else if (problem === undefined && this.#problem !== undefined) {
      this.#log.info({ endpoint }, 'metrics are pushed by OTLP again');
    }
    this.#problem = problem;
    this.#onEnd(problem === undefined ? 'ok' : 'error');
  }
}

/**
 * Headers as OTEL_EXPORTER_OTLP_HEADERS holds them: `key=value,key2=value2`, percent-encoded where need be.
 * @param variable the one that `otlp.headers_env` names
 * @throws PermanentFailure when it is empty or not of that form; never says what it holds
 */
export function otlpHeaders(variable: string | undefined, env: NodeJS.ProcessEnv): Record<string, string> {
  if (variable === undefined) return {};
  const text = env[variable]?.trim();
  if (!text) {
    throw new PermanentFailure(
      `otlp.headers_env names ${variable}, but that variable is empty. Set it, or remove the key.`,
    );
  }
  const pairs = text.split(',').filter((pair) => pair.trim() !== '');
  const entries = pairs.map((pair, index) => {
    try {
      const at = pair.indexOf('=');
      const name = decodeURIComponent(pair.slice(0, at).trim());
      const value = decodeURIComponent(pair.slice(at + 1).trim());
      if (at < 1) throw new Error('no name');
      validateHeaderName(name);
      validateHeaderValue(name, value);
      return [name, value];
    } catch {
      throw new PermanentFailure(
        `otlp.headers_env names ${variable}, but number ${index + 1} of what it holds is no header. ` +
          'Expected key=value,key2=value2, with a comma or % in a value written as %2C and %25.',
      );
    }
  });
  return Object.fromEntries(entries);
}

/**
 * The exporter adds what OTEL_EXPORTER_OTLP_* say to what it is told, the headers with their keys among it; those are
 * meant for the receiver of another program. It reads them once, while it is built.
 */
function withoutOtelVariables<T>(build: () => T): T {
  const hidden = Object.entries(process.env).filter(([name]) => name.startsWith('OTEL_EXPORTER_OTLP_'));
  for (const [name] of hidden) delete process.env[name];
  try {
    return build();
  } finally {
    Object.assign(process.env, Object.fromEntries(hidden));
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

/** An error by its number and name: its text may quote what was sent, or what a receiver thought fit to say. */
function troubleText(error: unknown): string {
  const { code, name, message } = (error ?? {}) as { code?: unknown; name?: unknown; message?: unknown };
  if (typeof code === 'number') return `it answers with HTTP ${code}`;
  if (typeof code === 'string') return `it cannot be reached (${code})`;
  // The exporter keeps no number of an answer after which it may try again.
  if (message === 'Export failed with retryable status') return 'it answers that it cannot take them now';
  if (message === 'Request timed out') return 'it did not answer in time';
  return `it cannot be reached (${typeof name === 'string' ? name : 'unknown error'})`;
}
