// The end of the road on a machine whose turns are booked elsewhere, or by several bridges at once: everything goes into
// the stream. What the stream does not take now waits on disk; only what neither of them took is refused.

import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConfig } from '../config-nats.ts';
import { RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import type { NatsLink } from '../nats/connection.ts';
import type { DiskQueue, Queued } from '../nats/disk-queue.ts';
import { isUnpublishable, type Outgoing, outgoing, StreamPublisher } from '../nats/publisher.ts';
import { streamNames } from '../nats/streams.ts';
import { streamTrouble } from '../nats/trouble.ts';
import { contradictsProject } from '../turn/attribution.ts';
import type { Booking } from '../turn/turn-event.ts';
import { type Delivery, type EventSink, placeOf } from './source.ts';

/** Published at once and not yet answered for. */
const WINDOW = 500;
/** Of one post; what is beyond it takes the disk, which is quicker: the stream would be waited for while others are refused. */
const AT_ONCE_MAX = 4 * WINDOW;
const RETRY_MIN_MS = 200;
const RETRY_MAX_MS = 10_000;
/** How often an idle queue is looked at; what goes into it wakes it before. */
const LOOK_EVERY_MS = 1000;
/** How long the stream is waited for at a stop: less than senders are. */
const STOP_PATIENCE_MS = 1000;
const TOO_LARGE = 'larger than what NATS takes (max_payload of the server, max_msg_size of the stream)';
/** Where another server was put in the place of the one that they were meant for. */
const OVERSIZED = `turns wait on disk that are ${TOO_LARGE}: let it take as much as before`;
const REFUSED: Booking = { outcome: { type: 'rejected', reason: 'too_large', detail: TOO_LARGE } };
const FORWARDED: Booking = { outcome: { type: 'forwarded' } };

/** What became of a message; a failure says what is wrong, where that is not the link. */
type Fate =
  | { readonly type: 'published' }
  | { readonly type: 'refused' }
  | { readonly type: 'failed'; readonly problem?: string | undefined };
const PUBLISHED: Fate = { type: 'published' };
const FAILED: Fate = { type: 'failed' };

export interface StreamSinkOptions {
  readonly link: NatsLink;
  readonly config: NatsConfig;
  readonly queue: DiskQueue;
  /** Whether names of projects go on from here; true by default. */
  readonly hasProject?: boolean | undefined;
  readonly log: Log;
}

export class StreamSink implements EventSink {
  readonly #options: StreamSinkOptions;
  readonly #stopping = new AbortController();
  /** Settle what is under way. */
  readonly #underway = new Set<(fate: Fate) => void>();
  /** The stream is not to be waited for any longer. */
  #isHasty = false;
  /**
   * Subjects of which the stream took nothing when it was tried last, and why. What comes for one waits on disk behind
   * the others, of which one alone is tried at a time: a server that stands still costs no sender a wait, and one that
   * denies a team holds up no other team.
   */
  readonly #held = new Map<string, string | undefined>();
  /** How far the waiting messages of a subject were tried: what is larger than NATS takes holds up none behind it. */
  readonly #tried = new Map<string, number>();
  /** Published, and not yet let go of by a full disk. */
  readonly #published = new Set<number>();
  /** Waiting, and larger than NATS takes. */
  readonly #oversized = new Set<number>();
  #saidLast: string | undefined;
  #backlogEvents = 0;
  #publisher: { readonly connection: object; readonly publisher: StreamPublisher } | undefined;
  #wake: () => void = () => {};
  #wakeIdle: () => void = () => {};
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
    const held = [...this.#held.values()].find((problem) => problem !== undefined);
    return queue.problem ?? link.problem() ?? held ?? (this.#oversized.size > 0 ? OVERSIZED : undefined);
  }

  /** Begins to publish what waits on disk. */
  start(): void {
    if (this.#running) return;
    const { link } = this.#options;
    link.onChange(() => link.current && this.#wake());
    this.#running = this.#drain();
  }

  /** The stream has a moment left for what is under way and what still comes; what it has not taken by then is kept on disk. */
  hasten(): void {
    const giveUp = () => {
      this.#isHasty = true;
      for (const settle of this.#underway) settle(FAILED);
    };
    setTimeout(giveUp, STOP_PATIENCE_MS).unref();
  }

  /** What waits stays on disk. Idempotent. */
  async stop(): Promise<void> {
    this.hasten();
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
      const { hasProject } = this.#options;
      const messages = items.map((item) => outgoing(item, identity, { hasProject }));
      const fates = await this.#publishAll(messages);
      // A reading tells of its moment: kept for later it would pass for news.
      if (items.some(({ type }, index) => type === 'poll' && fates[index]!.type === 'failed')) {
        throw new RetryableFailure('NATS does not take readings now, and they are not kept for later.');
      }
      const waiting = messages.filter((_, index) => fates[index]!.type === 'failed');
      if (waiting.length > 0) await this.#options.queue.put(waiting);
      // Only now: what is held waits on disk, where it is tried again.
      this.#hold(messages, fates);
      this.#wakeIdle();
      return fates.map(({ type }, index) => {
        if (type === 'refused') return REFUSED;
        const item = items[index]!;
        // Team and user are compared by the bridge that reads them; what a project was stated does not travel.
        const isMismatch = item.type === 'event' && contradictsProject(item.event, identity);
        return isMismatch ? { ...FORWARDED, identityMismatch: true } : FORWARDED;
      });
    } finally {
      this.#backlogEvents -= items.length;
    }
  }

  #hold(messages: readonly Outgoing[], fates: readonly Fate[]): void {
    for (const [index, { subject }] of messages.entries()) {
      const fate = fates[index]!;
      if (fate.type === 'failed' && this.#held.get(subject) === undefined) this.#held.set(subject, fate.problem);
    }
  }

  /** What became of each message that just came. Never throws. */
  async #publishAll(messages: readonly Outgoing[]): Promise<Fate[]> {
    const fates: Fate[] = [];
    const most = this.#options.queue.problem === undefined ? AT_ONCE_MAX : messages.length;
    for (let from = 0; from < messages.length; from += WINDOW) {
      // After a failure the rest is not tried: each would wait for its own timeout.
      const isLost = from >= most || fates.at(-1)?.type === 'failed';
      const publish = async (message: Outgoing) =>
        isLost || this.#held.has(message.subject) ? FAILED : this.#publish(message);
      fates.push(...(await Promise.all(messages.slice(from, from + WINDOW).map(publish))));
    }
    return fates;
  }

  /** Never rejects. */
  async #publish(message: Outgoing): Promise<Fate> {
    const publisher = this.#currentPublisher();
    if (!publisher || this.#isHasty) return FAILED;
    const { promise, resolve: settle } = Promise.withResolvers<Fate>();
    this.#underway.add(settle);
    publisher.publish(message).then(
      () => settle(PUBLISHED),
      (error) => settle(isUnpublishable(error) ? { type: 'refused' } : { type: 'failed', problem: this.#told(error) }),
    );
    const fate = await promise;
    this.#underway.delete(settle);
    return fate;
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

  /** Says what keeps a message from the stream, once. */
  #told(error: unknown): string | undefined {
    const { link, config, log } = this.#options;
    if (link.problem() || this.#stopping.signal.aborted) return undefined;
    const problem = `turns are kept on disk, because the stream does not take them: ${streamTrouble(error, { stream: streamNames(config).turns, isPublishing: true })}`;
    const isKnown = problem === this.#saidLast || [...this.#held.values()].includes(problem);
    if (!isKnown) log.warn(problem);
    this.#saidLast = problem;
    return problem;
  }

  async #drain(): Promise<void> {
    const { link, queue, log } = this.#options;
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; ) {
      try {
        await link.connected(signal);
        const waiting = this.#next();
        if (waiting.length === 0) {
          failures = 0;
          await this.#sleep(LOOK_EVERY_MS, { isIdle: true });
          continue;
        }
        if (await this.#publishWaiting(waiting)) {
          failures = 0;
          if (queue.events === 0) log.info('nothing waits on disk any more');
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

  /** @returns whether it came any further */
  async #publishWaiting(waiting: readonly Queued[]): Promise<boolean> {
    const { queue } = this.#options;
    const fates = await Promise.all(
      waiting.map((message) => (this.#published.has(message.place) ? PUBLISHED : this.#publish(message))),
    );
    this.#judge(waiting, fates);
    const done = waiting.filter((_, index) => fates[index]!.type === 'published');
    const isFurther = done.some(({ place }) => !this.#published.has(place));
    for (const { place } of done) this.#published.add(place);
    if (done.length === 0 || !(await isLetGo(queue.remove(done)))) return isFurther;
    for (const { place } of done) this.#published.delete(place);
    return true;
  }

  /** What is held after something of each subject was tried: of which some failed, and none was published. */
  #judge(waiting: readonly Queued[], fates: readonly Fate[]): void {
    for (const { subject, place } of waiting) {
      this.#tried.set(subject, place);
      this.#release(subject);
    }
    this.#hold(waiting, fates);
    const couldTell = this.#oversized.size > 0;
    for (const [index, { subject, place }] of waiting.entries()) {
      const { type } = fates[index]!;
      if (type === 'published') this.#release(subject);
      if (type === 'refused') this.#oversized.add(place);
      else this.#oversized.delete(place);
    }
    if (this.#oversized.size > 0 && !couldTell) this.#options.log.error(OVERSIZED);
  }

  /** What is tried next: of each subject the oldest, in equal parts, and of one that is held a single one. */
  #next(): Queued[] {
    const { queue } = this.#options;
    const subjects = queue.subjects();
    const part = Math.ceil(WINDOW / subjects.length);
    return subjects.flatMap((subject) => {
      const most = this.#held.has(subject) ? 1 : part;
      const next = queue.oldest(subject, { most, after: this.#tried.get(subject) ?? 0 });
      return next.length > 0 ? next : queue.oldest(subject, { most });
    });
  }

  #release(subject: string): void {
    if (this.#held.get(subject) === this.#saidLast) this.#saidLast = undefined;
    this.#held.delete(subject);
  }

  /** Until it is woken: when the link is there again or, where nothing waited, when something does. */
  async #sleep(ms: number, { isIdle = false } = {}): Promise<void> {
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#wakeIdle = isIdle ? resolve : () => {};
    });
    await Promise.race([woken, delay(ms, undefined, { signal: this.#stopping.signal, ref: false }).catch(() => {})]);
  }
}

/** Whether a queue let go of messages: a full disk does not. */
async function isLetGo(removing: Promise<void>): Promise<boolean> {
  try {
    await removing;
    return true;
  } catch (error) {
    if (error instanceof RetryableFailure) return false;
    throw error;
  }
}
