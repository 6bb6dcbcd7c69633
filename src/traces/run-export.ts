// Runs on their way out: what was booked and judged becomes spans and log records, and each kind goes to its receiver.

import { ProtobufLogsSerializer, ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import type { Log } from '../log.ts';
import type { Booking, MeterEvent } from '../turn/turn-event.ts';
import { type ExportMeter, Outbox, type Receiver } from './outbox.ts';
import { Runs } from './runs.ts';
import { type LogRecord, type Span, type ToldVerdict, verdictLog } from './telling.ts';

const SWEEP_EVERY_MS = 5_000;

export interface RunExportOptions {
  readonly traces?: Receiver | undefined;
  readonly logs?: Receiver | undefined;
  readonly meter: ExportMeter;
  readonly log: Log;
  /** Unix ms. */
  readonly now?: () => number;
}

export class RunExport {
  readonly #traces: Outbox<Span> | undefined;
  readonly #logs: Outbox<LogRecord> | undefined;
  readonly #runs: Runs;
  readonly #log: Log;
  readonly #sweeping: NodeJS.Timeout;

  constructor({ traces, logs, meter, log, now = Date.now }: RunExportOptions) {
    this.#log = log;
    const own = { meter, log };
    this.#traces =
      traces &&
      new Outbox<Span>({
        ...{ ...own, signal: 'traces', to: traces },
        serializer: ProtobufTraceSerializer,
      });
    this.#logs =
      logs && new Outbox<LogRecord>({ ...own, signal: 'logs', to: logs, serializer: ProtobufLogsSerializer });
    this.#runs = new Runs({
      now,
      span: (span) => this.#traces?.add(span),
      record: (record) => this.#logs?.add(record),
      onDropped: (what, reason) => {
        const outbox = what === 'span' ? this.#traces : this.#logs;
        if (outbox) meter.dropped(outbox.signal, reason, 1);
      },
    });
    this.#sweeping = setInterval(() => this.#runs.sweep(), SWEEP_EVERY_MS);
  }

  /** Tells what was committed: one booking per event, in order. Never throws: who sent it must hear that it is booked. */
  booked(events: readonly MeterEvent[], bookings: readonly Booking[]): void {
    try {
      this.#runs.booked(events, bookings);
    } catch (error) {
      // Its name alone: a message may quote what it is about.
      const { name } = error instanceof Error ? error : new Error();
      this.#log.error({ error: name }, 'a fault of Tollbridge: runs were not told of; what is counted is not touched');
    }
  }

  /** Tells that a policy warned, or refused a call. */
  judged(verdict: ToldVerdict): void {
    this.#logs?.add(verdictLog(verdict, Date.now()));
  }

  /** What goes where, in the order traces, logs. */
  outboxes(): Pick<Outbox<unknown>, 'signal' | 'sender'>[] {
    return [this.#traces, this.#logs].filter((outbox) => outbox !== undefined);
  }

  /** Ends every run, and sends what waits: five seconds at most, whatever the receivers do. */
  async stop(): Promise<void> {
    clearInterval(this.#sweeping);
    this.#runs.endAll();
    await Promise.all([this.#traces?.stop(), this.#logs?.stop()]);
  }
}
