// The bridge's own health, and the one place where a scrape is put together: SDK instruments for what this process
// does, the ledger's producer beside them, one reader over both.

import { type Meter, ValueType } from '@opentelemetry/api';
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { RuntimeNodeInstrumentation } from '@opentelemetry/instrumentation-runtime-node';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider, type MetricProducer, MetricReader } from '@opentelemetry/sdk-metrics';
import type { OtlpSignal } from '../config-otlp.ts';
import { messageOf } from '../failure.ts';
import { DROP_REASONS, type DropReason } from '../otlp-sender.ts';
import type { PollOutcome } from '../poll/poll-result.ts';
import type { SourceStatus } from '../status.ts';
import type { Booking, Outcome } from '../turn/turn-event.ts';
import { BRIDGE, type MetricFamily } from './catalogue.ts';
import { Exposition } from './exposition.ts';
import { LEDGER_SCOPE } from './producer.ts';

/** All labels here are closed sets, so this is never reached; the SDK's own limit of 2000 would fold series silently. */
export const SERIES_PER_INSTRUMENT_MAX = 100_000;

const REFUSAL_REASONS = [
  'backlog',
  'ledger',
  'connections',
  'rate_limit',
  'unauthorized',
  'malformed',
  'too_large',
] as const;
const EXPORT_RESULTS = ['ok', 'error'] as const;

type EventOutcome = Booking['outcome']['type'];
export type EventCounts = Record<'received' | EventOutcome, number>;

interface SourceState {
  readonly events: EventCounts;
  isUp: boolean;
  lastSuccessMs?: number;
}

/** A reader that is asked, and never asks by itself. */
class ScrapeReader extends MetricReader {
  protected override async onShutdown(): Promise<void> {}
  protected override async onForceFlush(): Promise<void> {}
}

/** Counts what sources, pollers and the ledger report, and renders it together with the ledger's own metrics. */
export class Health {
  readonly #reader: ScrapeReader;
  readonly #provider: MeterProvider;
  readonly #runtime = new RuntimeNodeInstrumentation({ enabled: false });
  readonly #ledgerText = new Exposition();
  readonly #healthText = new PrometheusSerializer(undefined, false, undefined, true, true);
  readonly #instruments: ReturnType<typeof createInstruments>;
  readonly #sources = new Map<string, SourceState>();
  #isShutDown = false;

  /**
   * @param options.sources every source this bridge runs; their counters start at 0
   * @param options.producers what is exported beside the health metrics, in the ledger's scope
   * @param options.instance which of several bridges this is, where they push to one receiver
   * @param options.pushing the reader that pushes, which has the producers already
   * @param options.signals what is sent by OTLP; their counters start at 0
   */
  constructor(options: {
    version: string;
    sources: readonly string[];
    producers: readonly MetricProducer[];
    instance?: string;
    pushing?: MetricReader | undefined;
    signals?: readonly OtlpSignal[] | undefined;
  }) {
    const { version, instance, pushing, signals = [] } = options;
    this.#reader = new ScrapeReader({
      metricProducers: [...options.producers],
      cardinalitySelector: () => SERIES_PER_INSTRUMENT_MAX,
    });
    this.#provider = new MeterProvider({
      resource: resourceFromAttributes({
        'service.name': 'tollbridge',
        'service.version': version,
        ...(instance === undefined ? {} : { 'service.instance.id': instance }),
      }),
      readers: [this.#reader, ...(pushing ? [pushing] : [])],
    });
    this.#instruments = createInstruments(this.#provider.getMeter('tollbridge'));
    this.#runtime.setMeterProvider(this.#provider);
    this.#runtime.enable();
    this.#instruments.buildInfo.record(1, { version, node: process.version });
    this.#instruments.unitCorrections.add(0, { provider: 'opencode' });
    for (const signal of signals) {
      for (const result of EXPORT_RESULTS) this.#instruments.otlpExports.add(0, { signal, result });
      // What a push of metrics misses, the next one brings.
      if (signal !== 'metrics') for (const reason of DROP_REASONS) this.dropped(signal, reason, 0);
    }
    for (const source of options.sources) this.#source(source);
  }

  /** So many events came in. Their outcomes follow through `booked`. */
  received(source: string, events: number): void {
    this.#source(source).events.received += events;
    this.#instruments.received.add(events, { source });
  }

  /** What became of events. */
  booked(source: string, bookings: readonly Booking[]): void {
    const { events } = this.#source(source);
    const counted: Partial<Record<Outcome['type'], number>> = {};
    for (const booking of bookings) {
      const { type } = booking.outcome;
      counted[type] = (counted[type] ?? 0) + 1;
      this.#noted(source, booking);
    }
    for (const [type, count] of Object.entries(counted) as [Outcome['type'], number][]) {
      events[type] += count;
      // The others are told apart by more than their source.
      if (type !== 'ignored' && type !== 'rejected') this.#instruments[type].add(count, { source });
    }
  }

  #noted(source: string, booking: Booking): void {
    const { outcome, conflicts, unitCorrections } = booking;
    const counters = this.#instruments;
    if (outcome.type === 'ignored') counters.ignored.add(1, { source, kind: outcome.kind });
    else if (outcome.type === 'rejected') counters.rejected.add(1, { source, reason: outcome.reason });
    if (booking.identityMismatch) this.identityMismatch(source);
    if (booking.inconsistent) counters.inconsistent.add(1, { source });
    if (booking.twin) counters.twins.add(1, { source });
    if (booking.redated) counters.redated.add(1, { source });
    for (const field of conflicts ?? []) counters.conflicting.add(1, { source, field });
    if (unitCorrections) counters.unitCorrections.add(unitCorrections.values, { provider: unitCorrections.provider });
  }

  /** A sender left in the middle of a request. */
  truncated(source: string): void {
    this.#source(source);
    this.#instruments.truncated.add(1, { source });
  }

  /** A sender was told to come again later, or why what it asked is not answered. */
  refused(source: string, reason: (typeof REFUSAL_REASONS)[number]): void {
    this.#source(source);
    this.#instruments.refused.add(1, { source, reason });
  }

  /** Requests or messages are gone for good. */
  lost(source: string, requests = 1): void {
    this.#source(source);
    this.#instruments.lost.add(requests, { source });
  }

  /** A sender named somebody else than its credential or subject does. */
  identityMismatch(source: string): void {
    this.#source(source);
    this.#instruments.identityMismatch.add(1, { source });
  }

  up(source: string, isUp: boolean): void {
    this.#source(source).isUp = isUp;
    this.#instruments.sourceUp.record(isUp ? 1 : 0, { source });
  }

  /** A source delivered; Unix ms. */
  success(source: string, atMs: number): void {
    this.#source(source).lastSuccessMs = atMs;
    this.#instruments.sourceLastSuccess.record(atMs / 1e3, { source });
  }

  /** A poll ended. `intervalSeconds` is the pause until the next one, back-off included. */
  polled(poll: {
    provider: string;
    account: string;
    result: PollOutcome;
    seconds: number;
    intervalSeconds: number;
  }): void {
    const { provider, account, result } = poll;
    this.#instruments.polls.add(1, { provider, account, result });
    this.#instruments.pollDuration.record(poll.seconds, { provider });
    this.#instruments.pollInterval.record(poll.intervalSeconds, { provider, account });
  }

  /** Whether a route of a polled account answered well when it was last asked. */
  routeUp(route: { provider: string; account: string; route: string }, isUp: boolean): void {
    this.#instruments.pollRouteUp.record(isUp ? 1 : 0, { ...route });
  }

  /** Which part of the turns this bridge counts, as `k/N`. */
  ownsPartition(partition: string): void {
    this.#instruments.partitionOwned.record(1, { partition });
  }

  /** What waits on disk to be published is asked for whenever somebody reads. */
  watchQueue(queue: { readonly events: number; readonly bytes: number }): void {
    this.#instruments.relayQueueEvents.addCallback((result) => result.observe(queue.events));
    this.#instruments.relayQueueBytes.addCallback((result) => result.observe(queue.bytes));
  }

  /** The end of a certificate changes when it is renewed. @param endsMs Unix ms; undefined where none is shown */
  watchCertificate(listener: 'metrics' | 'tcp' | 'otlp', endsMs: () => number | undefined): void {
    this.#instruments.certificateEnd.addCallback((result) => {
      const ms = endsMs();
      if (ms !== undefined) result.observe(ms / 1000, { listener });
    });
  }

  /** A push by OTLP ended. */
  exported(signal: OtlpSignal, result: (typeof EXPORT_RESULTS)[number]): void {
    this.#instruments.otlpExports.add(1, { signal, result });
  }

  /** Spans or log records that were not sent by OTLP, and will not be. */
  dropped(signal: OtlpSignal, reason: DropReason, records: number): void {
    this.#instruments.otlpDropped.add(records, { signal, reason });
  }

  /** The ledger committed a batch. */
  committed(commit: { events: number; seconds: number }): void {
    this.#instruments.batchSize.record(commit.events);
    this.#instruments.commitDuration.record(commit.seconds);
  }

  /** Events of a source since this process began, by what became of them. */
  events(source: string): Readonly<EventCounts> {
    return { ...this.#source(source).events };
  }

  /** What the source last said of itself; false before it said anything. */
  isUp(source: string): boolean {
    return this.#sources.get(source)?.isUp ?? false;
  }

  /** Unix ms; undefined before the first delivery. */
  lastSuccessMs(source: string): number | undefined {
    return this.#sources.get(source)?.lastSuccessMs;
  }

  /** All of it, with what keeps the source from being reached, one line for people. */
  sourceStatus(source: string, problem: string | undefined): SourceStatus {
    const lastSuccessMs = this.lastSuccessMs(source);
    return {
      ...{ source, up: this.isUp(source), events: this.events(source) },
      ...(lastSuccessMs === undefined ? {} : { last_success_ms: lastSuccessMs }),
      ...(problem === undefined ? {} : { problem }),
    };
  }

  /**
   * Everything as Prometheus text, format 0.0.4, in pieces: whole or not at all, because a family that is missing from one scrape
   * reads as a series that ended.
   * @throws Error when any part could not be collected
   */
  async collect(): Promise<Buffer[]> {
    const startedMs = performance.now();
    try {
      const { resourceMetrics, errors } = await this.#reader.collect();
      if (errors.length > 0) throw new Error(errors.map(messageOf).join('; '));
      const { resource, scopeMetrics } = resourceMetrics;
      const ledger = scopeMetrics.filter(({ scope }) => scope.name === LEDGER_SCOPE);
      const health = scopeMetrics
        .filter(({ scope }) => scope.name !== LEDGER_SCOPE)
        .map(({ scope, metrics }) => ({ scope, metrics: metrics.filter((metric) => metric.dataPoints.length > 0) }));
      const ledgerText = await this.#ledgerText.render(ledger.flatMap(({ metrics }) => metrics));
      return [...ledgerText, Buffer.from(this.#healthText.serialize({ resource, scopeMetrics: health }))];
    } finally {
      this.#instruments.scrapeDuration.record((performance.now() - startedMs) / 1e3);
    }
  }

  /** The same as one text. */
  async scrape(): Promise<string> {
    return Buffer.concat(await this.collect()).toString();
  }

  /** Stops measuring; scrapes fail from then on. */
  async shutdown(): Promise<void> {
    if (this.#isShutDown) return;
    this.#isShutDown = true;
    this.#runtime.disable();
    await this.#provider.shutdown();
  }

  #source(source: string): SourceState {
    const known = this.#sources.get(source);
    if (known) return known;
    const { received, recorded, updated, duplicate, forwarded, ...noted } = this.#instruments;
    const { redated, inconsistent, twins, identityMismatch, truncated, lost } = noted;
    for (const counter of [
      ...[received, recorded, updated, duplicate, forwarded],
      ...[redated, inconsistent, twins, identityMismatch, truncated, lost],
    ])
      counter.add(0, { source });
    for (const reason of REFUSAL_REASONS) this.#instruments.refused.add(0, { source, reason });
    const events: EventCounts = {
      ...{ received: 0, recorded: 0, updated: 0, duplicate: 0, forwarded: 0, ignored: 0, rejected: 0 },
    };
    const state: SourceState = { events, isUp: false };
    this.#sources.set(source, state);
    return state;
  }
}

function createInstruments(meter: Meter) {
  const counter = ({ otelName, help, unit }: MetricFamily) =>
    meter.createCounter(otelName, { description: help, unit, valueType: ValueType.INT });
  const gauge = ({ otelName, help, unit }: MetricFamily) => meter.createGauge(otelName, { description: help, unit });
  const watched = ({ otelName, help, unit }: MetricFamily) =>
    meter.createObservableGauge(otelName, { description: help, unit });
  const histogram = ({ otelName, help, unit, buckets = [] }: MetricFamily) =>
    meter.createHistogram(otelName, { description: help, unit, advice: { explicitBucketBoundaries: [...buckets] } });
  return {
    buildInfo: gauge(BRIDGE.buildInfo),
    received: counter(BRIDGE.received),
    recorded: counter(BRIDGE.recorded),
    updated: counter(BRIDGE.updated),
    duplicate: counter(BRIDGE.duplicate),
    ignored: counter(BRIDGE.ignored),
    rejected: counter(BRIDGE.rejected),
    conflicting: counter(BRIDGE.conflicting),
    redated: counter(BRIDGE.redated),
    inconsistent: counter(BRIDGE.inconsistent),
    twins: counter(BRIDGE.twins),
    forwarded: counter(BRIDGE.forwarded),
    identityMismatch: counter(BRIDGE.identityMismatch),
    truncated: counter(BRIDGE.truncated),
    refused: counter(BRIDGE.refused),
    lost: counter(BRIDGE.lost),
    sourceUp: gauge(BRIDGE.sourceUp),
    sourceLastSuccess: gauge(BRIDGE.sourceLastSuccess),
    unitCorrections: counter(BRIDGE.unitCorrections),
    polls: counter(BRIDGE.polls),
    pollRouteUp: gauge(BRIDGE.pollRouteUp),
    pollDuration: histogram(BRIDGE.pollDuration),
    pollInterval: gauge(BRIDGE.pollInterval),
    partitionOwned: gauge(BRIDGE.partitionOwned),
    certificateEnd: watched(BRIDGE.certificateEnd),
    relayQueueEvents: watched(BRIDGE.relayQueueEvents),
    relayQueueBytes: watched(BRIDGE.relayQueueBytes),
    commitDuration: histogram(BRIDGE.commitDuration),
    batchSize: histogram(BRIDGE.batchSize),
    scrapeDuration: histogram(BRIDGE.scrapeDuration),
    otlpExports: counter(BRIDGE.otlpExports),
    otlpDropped: counter(BRIDGE.otlpDropped),
  } satisfies Record<keyof typeof BRIDGE, unknown>;
}
