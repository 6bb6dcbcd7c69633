// What waits to be sent to one receiver. Runs are told as they happen and never twice on purpose, so what cannot be sent
// is kept and tried again while there is room, and what there is no room for is counted. Nothing here holds up a booking.

import type { OtlpSignal, OtlpTarget } from '../config-otlp.ts';
import type { Log } from '../log.ts';
import { type DropReason, OtlpSender, type OtlpSenderOptions } from '../otlp-sender.ts';

/** Counts what became of exports. */
export interface ExportMeter {
  exported(signal: OtlpSignal, result: 'ok' | 'error'): void;
  dropped(signal: OtlpSignal, reason: DropReason, records: number): void;
}

const QUEUE_MAX = 10_000;
const BATCH_MAX = 500;
/** How long the first record waits for others. */
const GATHER_MS = 1_000;
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 30_000;
const TIMEOUT_MS = 10_000;

/** A receiver and what it is shown. */
export interface Receiver extends OtlpTarget {
  readonly headers: Readonly<Record<string, string>>;
}

export interface OutboxOptions<T> {
  readonly signal: Exclude<OtlpSignal, 'metrics'>;
  readonly to: Receiver;
  readonly serializer: OtlpSenderOptions<T[]>['serializer'];
  readonly meter: ExportMeter;
  readonly log: Log;
}

export class Outbox<T> {
  readonly signal: OutboxOptions<T>['signal'];
  /** Where it goes, and how it went. */
  readonly sender: OtlpSender<T[]>;
  readonly #meter: ExportMeter;
  readonly #log: Log;
  readonly #queue = new Queue<T>();
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  #retryMs = RETRY_MIN_MS;
  /** How long the receiver wants to be left alone. */
  #askedToWaitMs = 0;
  #isStopped = false;

  constructor({ signal, to, serializer, meter, log }: OutboxOptions<T>) {
    this.signal = signal;
    this.#meter = meter;
    this.#log = log;
    this.sender = new OtlpSender<T[]>({
      ...{ endpoint: to.endpoint, url: to.url, headers: to.headers, timeoutMs: TIMEOUT_MS, serializer, log },
      words: {
        failing: `${signal} are not all taken by OTLP: what the receiver refuses is dropped, else up to ${QUEUE_MAX} wait and are tried again. What is metered is not touched`,
        again: `${signal} are sent by OTLP again`,
      },
      onEnd: (result) => meter.exported(signal, result),
    });
  }

  /** Sends it with the next batch. When too much waits, the oldest goes. */
  add(record: T): void {
    if (this.#isStopped) {
      this.#meter.dropped(this.signal, 'stopped', 1);
      return;
    }
    this.#queue.add(record);
    if (this.#queue.size > QUEUE_MAX) {
      this.#queue.take(1);
      this.#meter.dropped(this.signal, 'queue_full', 1);
    }
    this.#sendIn(GATHER_MS);
  }

  /** Sends what waits a last time, for five seconds at most, whatever the receiver does. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.sender.close(async () => {
      await this.#sending;
      await this.#sendAll();
    });
    const left = this.#queue.take(QUEUE_MAX).length;
    if (left === 0) return;
    this.#meter.dropped(this.signal, 'stopped', left);
    this.#log.warn(
      { signal: this.signal, records: left },
      'records could not be sent by OTLP before the end, and are not told any more',
    );
  }

  #sendIn(ms: number): void {
    if (this.#timer || this.#sending || this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#sending = this.#sendAll().finally(() => {
        this.#sending = undefined;
        if (this.#queue.size > 0) this.#sendIn(this.sender.problem === undefined ? GATHER_MS : this.#nextRetryMs());
      });
    }, ms);
  }

  #nextRetryMs(): number {
    const ms = this.#retryMs;
    this.#retryMs = Math.min(RETRY_MAX_MS, ms * 2);
    return Math.min(RETRY_MAX_MS, Math.max(ms, this.#askedToWaitMs));
  }

  /** Sends batch after batch until nothing waits, or one could not be sent. Never rejects. */
  async #sendAll(): Promise<void> {
    while (this.#queue.size > 0) {
      const batch = this.#queue.take(BATCH_MAX);
      const problem = await this.sender.send(batch);
      if (!problem) {
        this.#retryMs = RETRY_MIN_MS;
        continue;
      }
      if (problem.refused !== undefined) {
        const refused = problem.refused === 'all' ? batch.length : Math.min(problem.refused, batch.length);
        this.#meter.dropped(this.signal, 'refused', refused);
        continue;
      }
      this.#askedToWaitMs = problem.retryAfterMs ?? 0;
      const room = QUEUE_MAX - this.#queue.size;
      const lost = Math.max(0, batch.length - room);
      if (lost > 0) this.#meter.dropped(this.signal, 'queue_full', lost);
      this.#queue.putBack(batch.slice(lost));
      return;
    }
  }
}

/** First in, first out. What was taken is let go of now and then: to move everything up each time costs more than a turn. */
class Queue<T> {
  #items: T[] = [];
  #taken = 0;

  get size(): number {
    return this.#items.length - this.#taken;
  }

  add(item: T): void {
    this.#items.push(item);
  }

  /** The first `count`, or as many as there are. */
  take(count: number): T[] {
    const first = this.#items.slice(this.#taken, this.#taken + count);
    this.#taken += first.length;
    if (this.#taken >= BATCH_MAX || this.size === 0) {
      this.#items.splice(0, this.#taken);
      this.#taken = 0;
    }
    return first;
  }

  putBack(items: readonly T[]): void {
    this.#items = [...items, ...this.#items.slice(this.#taken)];
    this.#taken = 0;
  }
}
