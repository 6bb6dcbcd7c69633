// What waits to be sent to one receiver. Runs are told as they happen and never twice on purpose, so what cannot be sent
// is kept and tried again while there is room, and what there is no room for is counted. Nothing here holds up a booking.

import type { OtlpSignal } from '../config-otlp.ts';
import type { Log } from '../log.ts';
import type { DropReason, OtlpSender } from '../otlp-sender.ts';

/** Counts what became of exports. */
export interface ExportMeter {
  exported(signal: OtlpSignal, result: 'ok' | 'error'): void;
  dropped(signal: OtlpSignal, reason: DropReason, records: number): void;
}

export const QUEUE_MAX = 10_000;
const BATCH_MAX = 500;
/** How long the first record waits for others. */
const GATHER_MS = 1_000;
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 30_000;
const STOP_MAX_MS = 5_000;
/** A receiver that was away before is hardly back now, and nobody likes to wait for a program that stops. */
const STOP_MAX_WHILE_FAILING_MS = 1_000;

export interface OutboxOptions<T> {
  readonly signal: OtlpSignal;
  /** As configured, for messages. */
  readonly endpoint: string;
  readonly sender: OtlpSender<T[]>;
  readonly meter: ExportMeter;
  readonly log: Log;
}

export class Outbox<T> {
  readonly #options: OutboxOptions<T>;
  #queue: T[] = [];
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  #retryMs = RETRY_MIN_MS;
  #problem: string | undefined;
  #lastOkMs: number | undefined;
  #isStopped = false;

  constructor(options: OutboxOptions<T>) {
    this.#options = options;
  }

  get endpoint(): string {
    return this.#options.endpoint;
  }

  /** Why the last batch was not taken, one line for people; undefined when it was. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Unix ms; undefined before the first batch that was taken. */
  get lastOkMs(): number | undefined {
    return this.#lastOkMs;
  }

  /** Records that wait. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Sends it with the next batch. When too much waits, the oldest goes. */
  add(record: T): void {
    const { signal, meter } = this.#options;
    if (this.#isStopped) {
      meter.dropped(signal, 'stopped', 1);
      return;
    }
    this.#queue.push(record);
    if (this.#queue.length > QUEUE_MAX) {
      this.#queue.splice(0, this.#queue.length - QUEUE_MAX);
      meter.dropped(signal, 'queue_full', 1);
    }
    this.#sendIn(GATHER_MS);
  }

  /** Sends what waits a last time, for five seconds at most, whatever the receiver does. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    const { sender, signal, meter, log } = this.#options;
    const patienceMs = this.#problem === undefined ? STOP_MAX_MS : STOP_MAX_WHILE_FAILING_MS;
    const bound = setTimeout(() => sender.giveUp(), patienceMs);
    await this.#sending;
    await this.#sendAll();
    clearTimeout(bound);
    sender.giveUp();
    const left = this.#queue.length;
    if (left === 0) return;
    this.#queue = [];
    meter.dropped(signal, 'stopped', left);
    log.warn({ signal, records: left }, 'records could not be sent by OTLP before the end, and are not told any more');
  }

  #sendIn(ms: number): void {
    if (this.#timer || this.#sending || this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#sending = this.#sendAll().finally(() => {
        this.#sending = undefined;
        if (this.#queue.length > 0) this.#sendIn(this.#problem === undefined ? GATHER_MS : this.#nextRetryMs());
      });
    }, ms);
  }

  #nextRetryMs(): number {
    const ms = this.#retryMs;
    this.#retryMs = Math.min(RETRY_MAX_MS, ms * 2);
    return ms;
  }

  /** Sends batch after batch until nothing waits, or one could not be sent. Never rejects. */
  async #sendAll(): Promise<void> {
    const { sender, signal, meter } = this.#options;
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, BATCH_MAX);
      const problem = await sender.send(batch);
      this.#ended(problem?.text);
      if (problem?.isRefusal) {
        meter.dropped(signal, 'refused', batch.length);
        continue;
      }
      if (!problem) continue;
      const room = QUEUE_MAX - this.#queue.length;
      const lost = Math.max(0, batch.length - room);
      if (lost > 0) meter.dropped(signal, 'queue_full', lost);
      this.#queue.unshift(...batch.slice(lost));
      return;
    }
  }

  /** Tells when failing begins and when it ends, and not each time. */
  #ended(problem: string | undefined): void {
    const { signal, endpoint, meter, log } = this.#options;
    if (problem === undefined) {
      this.#lastOkMs = Date.now();
      this.#retryMs = RETRY_MIN_MS;
    }
    if (problem !== undefined && this.#problem === undefined) {
      log.warn(
        { endpoint, problem },
        `${signal} cannot be sent by OTLP; up to ${QUEUE_MAX} wait and are tried again, and what is counted is not touched`,
      );
    } else if (problem === undefined && this.#problem !== undefined) {
      log.info({ endpoint }, `${signal} are sent by OTLP again`);
    }
    this.#problem = problem;
    meter.exported(signal, problem === undefined ? 'ok' : 'error');
  }
}
