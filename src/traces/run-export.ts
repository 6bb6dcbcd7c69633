// Runs on their way out: what was booked and judged becomes spans and log records, and each kind goes to its receiver.

import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import type { OtlpTarget } from '../config-otlp.ts';
import type { Log } from '../log.ts';
import { OtlpSender, type OtlpSenderOptions } from '../otlp-sender.ts';
import type { Booking, MeterEvent } from '../turn/turn-event.ts';
import { type ExportMeter, Outbox } from './outbox.ts';
import { Runs } from './runs.ts';
import { type LogRecord, type Span, type ToldVerdict, verdictLog } from './telling.ts';

const TIMEOUT_MS = 10_000;
const SWEEP_EVERY_MS = 5_000;

/** A receiver and what it is shown. */
export interface Receiver extends OtlpTarget {
  readonly headers: Readonly<Record<string, string>>;
}

export interface RunExportOptions {
  readonly traces?: Receiver | undefined;
  readonly logs?: Receiver | undefined;
  readonly meter: ExportMeter;
  readonly log: Log;
  /** Unix ms. */
  readonly now?: () => number;
}

/** How sending to one receiver goes. */
export interface ExportState {
  readonly signal: 'traces' | 'logs';
  readonly endpoint: string;
  readonly problem: string | undefined;
  readonly lastOkMs: number | undefined;
}

export class RunExport {
  readonly #traces: Outbox<Span> | undefined;
  readonly #logs: Outbox<LogRecord> | undefined;
  readonly #runs: Runs;
  readonly #sweeping: NodeJS.Timeout;

  constructor({ traces, logs, meter, log, now = Date.now }: RunExportOptions) {
    const outbox = <T>(signal: 'traces' | 'logs', to: Receiver, exporter: OtlpSenderOptions<T[]>['exporter']) =>
      new Outbox<T>({
        ...{ signal, endpoint: to.endpoint, meter, log },
        sender: new OtlpSender<T[]>({ url: to.url, headers: to.headers, timeoutMs: TIMEOUT_MS, exporter }),
      });
    this.#traces = traces && outbox<Span>('traces', traces, (options) => new OTLPTraceExporter(options));
    this.#logs = logs && outbox<LogRecord>('logs', logs, (options) => new OTLPLogExporter(options));
    this.#runs = new Runs({
      now,
      span: (span) => this.#traces?.add(span),
      record: (record) => this.#logs?.add(record),
      onDropped: (what, reason) => {
        if (what === 'span' ? this.#traces : this.#logs) meter.dropped(what === 'span' ? 'traces' : 'logs', reason, 1);
      },
    });
    this.#sweeping = setInterval(() => this.#runs.sweep(), SWEEP_EVERY_MS);
  }

  /** Tells what was committed: one booking per event, in order. */
  booked(events: readonly MeterEvent[], bookings: readonly Booking[]): void {
    this.#runs.booked(events, bookings);
  }

  /** Tells that a policy warned, or refused a call. */
  judged(verdict: ToldVerdict): void {
    this.#logs?.add(verdictLog(verdict, Date.now()));
  }

  /** Each receiver, in the order traces, logs. */
  states(): ExportState[] {
    const stateOf = (
      signal: ExportState['signal'],
      outbox: Pick<Outbox<Span>, 'endpoint' | 'problem' | 'lastOkMs'> | undefined,
    ) => (outbox ? [{ signal, endpoint: outbox.endpoint, problem: outbox.problem, lastOkMs: outbox.lastOkMs }] : []);
    return [...stateOf('traces', this.#traces), ...stateOf('logs', this.#logs)];
  }

  /** Ends every run, and sends what waits: five seconds at most, whatever the receivers do. */
  async stop(): Promise<void> {
    clearInterval(this.#sweeping);
    this.#runs.endAll();
    await Promise.all([this.#traces?.stop(), this.#logs?.stop()]);
  }
}
