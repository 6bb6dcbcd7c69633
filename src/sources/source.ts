// What every source has in common: it is started and stopped, and all that it takes in goes through the intake, which
// books it and counts it. Conservation holds by construction: an event is counted as received in the same step as its outcome.

import { readSnapshot } from '../poll/openusage.ts';
import type { PollResult } from '../poll/poll-result.ts';
import { type Decoded, ignored, type StatedPoll } from '../turn/decoded.ts';
import type { Booking, Identity, MeterEvent, StatedEvent } from '../turn/turn-event.ts';

/** What another poller says counts as fresh for three times this, the 300 s of OpenUsage's hub, unless it says otherwise. */
const REPORTED_INTERVAL_MS = 100_000;
/** Agents are named by senders, so what is remembered about them is bounded. */
const AGENTS_REMEMBERED = 50;
/** A fork posts a message and its parts together, so a part comes long before this many other copies do. */
const COPIES_REMEMBERED = 10_000;

/** Something that brings events in. Starting twice or stopping twice is harmless. */
export interface Source {
  readonly name: string;
  /** @throws PermanentFailure when it can never work as configured */
  start(): Promise<void>;
  /** Lets what was taken in be booked, then returns. */
  stop(): Promise<void>;
}

/** Where the counts of all sources go. */
export interface SourceMeter {
  received(source: string, events: number): void;
  /** One call per received event. */
  booked(source: string, booking: Booking): void;
  truncated(source: string): void;
  /** A sender was told to come again later. */
  refused(source: string, reason: 'backlog' | 'ledger' | 'connections'): void;
  /** A request is gone: its sender had left, and it could not be booked. */
  lost(source: string): void;
  up(source: string, isUp: boolean): void;
  success(source: string, atMs: number): void;
}

/** The part of the ledger that sources write to. */
export interface EventSink {
  /** One booking per event, in order, after the commit. @throws RetryableFailure when nothing was committed */
  submit(events: readonly MeterEvent[]): Promise<Booking[]>;
  /** @throws RetryableFailure when it was not committed */
  recordPoll(poll: PollResult): Promise<Booking>;
  /** Events submitted and not yet committed. */
  readonly backlogEvents: number;
}

/** Adds to a stated event what our own rules say about it. */
export interface Attributor {
  attribute(event: StatedEvent, identity: Identity): MeterEvent;
}

export interface IntakeOptions {
  readonly sink: EventSink;
  readonly attribution: Attributor;
  readonly meter: SourceMeter;
  /** Unix time in ms. */
  readonly now?: () => number;
}

/** The one door to the ledger: attributes, books and counts what sources decoded. */
export class Intake {
  readonly #sink: EventSink;
  readonly #attribution: Attributor;
  readonly #meter: SourceMeter;
  readonly #now: () => number;
  readonly #lastHeardMs = new Map<string, number>();
  /** Ids of messages that forks copied, the newest last. */
  readonly #copiedMessages = new Set<string>();

  constructor({ sink, attribution, meter, now = Date.now }: IntakeOptions) {
    this.#sink = sink;
    this.#attribution = attribution;
    this.#meter = meter;
    this.#now = now;
  }

  /** Events that wait for a commit, whichever source brought them. */
  get backlogEvents(): number {
    return this.#sink.backlogEvents;
  }

  /** When each agent was last heard through any source, Unix ms. */
  lastHeardMs(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#lastHeardMs);
  }

  /** Notes that an agent's sender is alive, also when it sends nothing that is metered. */
  heard(agent: string): void {
    if (this.#lastHeardMs.has(agent) || this.#lastHeardMs.size < AGENTS_REMEMBERED) {
      this.#lastHeardMs.set(agent, this.#now());
    }
  }

  /**
   * Books what one request, file or message held, and counts it, after the commit.
   * @returns one booking per decoded item, in order
   * @throws RetryableFailure when the commit failed. Nothing is counted then, because the sender keeps the events and
   * sends them again; what was committed all the same will be a duplicate.
   */
  async accept(source: string, decoded: readonly Decoded[], identity: Identity): Promise<Booking[]> {
    const items = decoded.map((item) => this.#withoutCopy(item));
    const events: MeterEvent[] = [];
    const polls: StatedPoll[] = [];
    for (const item of items) {
      if (item.type === 'event') events.push(this.#attribution.attribute(item.event, identity));
      else if (item.type === 'poll') polls.push(item.poll);
    }
    // Polls go first: writing one twice changes nothing, so a commit of the events that fails leaves nothing half counted.
    // All of them at once, so that they share a commit.
    const polled = await Promise.all(polls.map((poll) => this.#recordPoll(poll)));
    const booked = events.length > 0 ? await this.#sink.submit(events) : [];

    const [nextPolled, nextBooked] = [polled.values(), booked.values()];
    const bookings = items.map((item): Booking => {
      if (item.type === 'event') return nextBooked.next().value!;
      if (item.type === 'poll') return nextPolled.next().value!;
      return { outcome: item };
    });
    this.#count(source, bookings);
    for (const { agent } of events) this.heard(agent);
    return bookings;
  }

  async #recordPoll({ snapshot, intervalMs = REPORTED_INTERVAL_MS, ...sender }: StatedPoll): Promise<Booking> {
    const receipt = { receivedMs: this.#now(), intervalMs, ...sender };
    const { result, unitCorrections } = readSnapshot(snapshot, receipt);
    const booking = await this.#sink.recordPoll(result);
    const isNew = booking.outcome.type === 'recorded' || booking.outcome.type === 'updated';
    if (!isNew || unitCorrections === 0) return booking;
    return { ...booking, unitCorrections: { provider: snapshot.provider, values: unitCorrections } };
  }

  /** A tool part need not state when its call began; then only its message tells that a fork copied it. */
  #withoutCopy(item: Decoded): Decoded {
    if (item.type === 'ignored' && item.copiedMessageId !== undefined) {
      this.#copiedMessages.delete(item.copiedMessageId);
      this.#copiedMessages.add(item.copiedMessageId);
      if (this.#copiedMessages.size > COPIES_REMEMBERED) {
        this.#copiedMessages.delete(this.#copiedMessages.values().next().value!);
      }
    } else if (item.type === 'event' && item.event.kind === 'tool') {
      const { messageId } = item.event;
      if (messageId !== undefined && this.#copiedMessages.has(messageId)) return ignored('fork_copy');
    }
    return item;
  }

  #count(source: string, bookings: readonly Booking[]): void {
    if (bookings.length === 0) return;
    this.#meter.received(source, bookings.length);
    for (const booking of bookings) this.#meter.booked(source, booking);
    if (bookings.some(({ outcome }) => outcome.type !== 'rejected')) this.#meter.success(source, this.#now());
  }
}

/** Where an unexpected error was thrown, for the log. Its message is left out: it may quote a payload. */
export function placeOf(thrown: unknown): { error: string; at: string[] } {
  const error = thrown instanceof Error ? thrown : new Error();
  const frames = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  return { error: error.name, at: frames.slice(0, 5).map((line) => line.trim()) };
}
