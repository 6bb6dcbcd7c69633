// The end of the road on a machine whose turns are booked elsewhere, or by several bridges at once: everything goes into
// the stream. What the stream does not take now waits on disk; only what neither of them took is refused.

import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConfig } from '../config-nats.ts';
import { RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import type { NatsLink } from '../nats/connection.ts';
import type { DiskQueue } from '../nats/disk-queue.ts';
import { isUnpublishable, type Outgoing, outgoing, StreamPublisher } from '../nats/publisher.ts';
import { streamNames } from '../nats/streams.ts';
import { streamTrouble } from '../nats/trouble.ts';
import { contradictsProject } from '../turn/attribution.ts';
import type { Booking } from '../turn/turn-event.ts';
import { type Delivery, type EventSink, placeOf, type SourceMeter } from './source.ts';

const SOURCE = 'relay';
/** Published at once and not yet answered for. */
const WINDOW = 500;
const RETRY_MIN_MS = 200;
const RETRY_MAX_MS = 10_000;
/** How often an idle queue is looked at; what goes into it wakes it before. */
const LOOK_EVERY_MS = 1000;
const TOO_LARGE: Booking = {
  outcome: {
    type: 'rejected',
    reason: 'too_large',
    detail: 'larger than what the NATS server takes (its max_payload)',
  },
};
const FORWARDED: Booking = { outcome: { type: 'forwarded' } };

type Fate = 'published' | 'refused' | 'failed';

export interface StreamSinkOptions {
  readonly link: NatsLink;
  readonly config: NatsConfig;
  readonly queue: DiskQueue;
  readonly meter: Pick<SourceMeter, 'lost'>;
  readonly log: Log;
}

export class StreamSink implements EventSink {
  readonly #options: StreamSinkOptions;
  readonly #stopping = new AbortController();
  #backlogEvents = 0;
  #problem: string | undefined;
  #publisher: { readonly connection: object; readonly publisher: StreamPublisher } | undefined;
  #wake: () => void = () => {};
  #running: Promise<void> | undefined;

  constructor(options: StreamSinkOptions) {
    this.#options = options;
  }

  get backlogEvents(): number {
    return this.#backlogEvents;
  }

  /** What keeps turns from reaching the stream, one line for people. Nothing is lost by it while the queue has room. */
  problem(): string | undefined {
    const { link, queue } = this.#options;
    return queue.problem ?? link.problem() ?? this.#problem;
  }

  /** Begins to publish what waits on disk. */
  start(): void {
    this.#running ??= this.#drain();
  }

  /** What waits stays on disk. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#running;
  }

  async submit(deliveries: readonly Delivery[]): Promise<Booking[]> {
    const bookings: Booking[] = [];
    for (const delivery of deliveries) bookings.push(...(await this.#submit(delivery)));
    return bookings;
  }

  async #submit({ items, identity }: Delivery): Promise<Booking[]> {
    this.#backlogEvents += items.length;
    try {
      const messages = items.map((item) => outgoing(item, identity));
      const fates = await this.#publishAll(messages);
      // A reading tells of its moment: kept for later it would pass for news.
      if (items.some(({ type }, index) => type === 'poll' && fates[index] === 'failed')) {
        throw new RetryableFailure('NATS does not take readings now, and they are not kept for later.');
      }
      const waiting = messages.filter((_, index) => fates[index] === 'failed');
      if (waiting.length > 0) {
        await this.#options.queue.put(waiting);
        this.#wake();
      }
      return fates.map((fate, index) => {
        if (fate === 'refused') return TOO_LARGE;
        const item = items[index]!;
        // Team and user are compared by the bridge that reads them; what a project was stated does not travel.
        const isMismatch = item.type === 'event' && contradictsProject(item.event, identity);
        return isMismatch ? { ...FORWARDED, identityMismatch: true } : FORWARDED;
      });
    } finally {
      this.#backlogEvents -= items.length;
    }
  }

  /** What became of each message. Never throws. */
  async #publishAll(messages: readonly Outgoing[]): Promise<Fate[]> {
    const fates: Fate[] = [];
    for (let from = 0; from < messages.length; from += WINDOW) {
      const publisher = this.#currentPublisher();
      const window = messages.slice(from, from + WINDOW);
      // After a failure the rest is not tried: each would wait for its own timeout.
      const isLost = publisher === undefined || fates.at(-1) === 'failed';
      fates.push(...(isLost ? window.map((): Fate => 'failed') : await this.#publishWindow(publisher, window)));
    }
    return fates;
  }

  #publishWindow(publisher: StreamPublisher, window: readonly Outgoing[]): Promise<Fate[]> {
    return Promise.all(
      window.map(async (message): Promise<Fate> => {
        try {
          await publisher.publish(message);
          this.#problem = undefined;
          return 'published';
        } catch (error) {
          if (isUnpublishable(error)) return 'refused';
          this.#note(error);
          return 'failed';
        }
      }),
    );
  }

  #currentPublisher(): StreamPublisher | undefined {
    const { link, config } = this.#options;
    const connection = link.current;
    if (!connection) return undefined;
    if (this.#publisher?.connection !== connection) {
      this.#publisher = { connection, publisher: new StreamPublisher(connection, config) };
    }
    return this.#publisher.publisher;
  }

  #note(error: unknown): void {
    const { link, config, log } = this.#options;
    if (link.problem() || this.#stopping.signal.aborted) return;
    const problem = `turns are kept on disk, because the stream does not take them: ${streamTrouble(error, { stream: streamNames(config).turns, isPublishing: true })}`;
    if (problem !== this.#problem) log.warn(problem);
    this.#problem = problem;
  }

  async #drain(): Promise<void> {
    const { link, queue, log } = this.#options;
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; ) {
      try {
        await link.connected(signal);
        const waiting = queue.oldest(WINDOW);
        if (waiting.length === 0) {
          failures = 0;
          await this.#sleep(LOOK_EVERY_MS);
          continue;
        }
        const fates = await this.#publishAll(waiting);
        const done = waiting.filter((_, index) => fates[index] !== 'failed');
        await queue.remove(done);
        for (const fate of fates) if (fate === 'refused') this.#lose();
        if (done.length === waiting.length) {
          failures = 0;
          if (queue.events === 0) log.info('what waited on disk is published');
          continue;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof RetryableFailure))
          log.error(placeOf(error), 'publishing what waits broke off; it is tried again');
      }
      await this.#sleep(Math.min(RETRY_MIN_MS * 2 ** failures++, RETRY_MAX_MS) * (0.5 + Math.random()));
    }
  }

  /** A message fitted when it came, and a server that takes less was put in the place of the other. */
  #lose(): void {
    this.#options.meter.lost(SOURCE);
    this.#options.log.error(
      'a turn that waited on disk is larger than what the NATS server takes (its max_payload), and is lost',
    );
  }

  async #sleep(ms: number): Promise<void> {
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    await Promise.race([woken, delay(ms, undefined, { signal: this.#stopping.signal, ref: false }).catch(() => {})]);
  }
}
