// What every source has in common: it is started and stopped, and all that it takes in goes through the intake, which
// books it and counts it. Conservation holds by construction: an event is counted as received in the same step as its outcome.

import type { SourceRules } from '../config.ts';
import type { StreamStep } from '../ledger/stream-positions.ts';
import { type Bookable, type Decoded, ignored } from '../turn/decoded.ts';
import type { Booking, Identity } from '../turn/turn-event.ts';
import { TwinTurns } from './twin-turns.ts';

/** The source of what agents export by themselves. */
export const OTLP_SOURCE = 'otlp';
/** What an agent wrote down itself and is read later, whichever way it comes in. */
export const IMPORT_SOURCE = 'import';
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

export type Refusal = 'backlog' | 'ledger' | 'connections' | 'rate_limit' | 'unauthorized' | 'malformed' | 'too_large';

/** Where the counts of all sources go. */
export interface SourceMeter {
  received(source: string, events: number): void;
  /** What became of events that were received. */
  booked(source: string, bookings: readonly Booking[]): void;
  truncated(source: string): void;
  /**
   * A sender was told to come again later, or (`unauthorized`) with a credential; or what it asked is no question
   * (`malformed`, `too_large`).
   */
  refused(source: string, reason: Refusal): void;
  /** Requests or messages are gone for good. */
  lost(source: string, requests?: number): void;
  /** A sender named somebody else than its credential or subject does. */
  identityMismatch(source: string): void;
  up(source: string, isUp: boolean): void;
  success(source: string, atMs: number): void;
}

/** What one request, file or message brought. */
interface Brought<T> {
  readonly items: readonly T[];
  /** Whose credential it came with. */
  readonly identity: Identity;
  /** The position in a stream that goes with it, where it came from one. */
  readonly step?: StreamStep | undefined;
}
export type Delivery = Brought<Bookable>;

/** Where what was taken in goes: into the ledger, or into a stream that leads to one. */
export interface EventSink {
  /**
   * @returns one booking per item of all deliveries, in order, when they are durable
   * @throws RetryableFailure when they are not, and may be later
   */
  submit(deliveries: readonly Delivery[]): Promise<Booking[]>;
  /** Events submitted and not yet durable. */
  readonly backlogEvents: number;
}

export interface IntakeOptions {
  readonly sink: EventSink;
  readonly meter: SourceMeter;
  /** By which road the turns of an agent are taken, where it may deliver by two. */
  readonly roads?: SourceRules | undefined;
  /** Unix time in ms. */
  readonly now?: () => number;
}

/** The one door: passes on what sources decoded, and counts what became of it. */
export class Intake {
  readonly #sink: EventSink;
  readonly #meter: SourceMeter;
  readonly #now: () => number;
  readonly #lastHeardMs = new Map<string, number>();
  /** Ids of messages that forks copied, the newest last. */
  readonly #copiedMessages = new Set<string>();
  readonly #twins = new TwinTurns();
  readonly #roads: SourceRules;

  constructor({ sink, meter, roads = {}, now = Date.now }: IntakeOptions) {
    this.#sink = sink;
    this.#roads = roads;
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
   * @param step the position in a stream that goes with it
   * @returns one booking per decoded item, in order
   * @throws RetryableFailure when the commit failed. Nothing is counted then, because the sender keeps the events and
   * sends them again; what was committed all the same will be a duplicate.
   */
  accept(source: string, decoded: readonly Decoded[], identity: Identity, step?: StreamStep): Promise<Booking[]> {
    return this.acceptAll(source, [{ items: decoded, identity, step }]);
  }

  /** The same of several messages, together: where one of them cannot be booked, none is. */
  async acceptAll(source: string, brought: readonly Brought<Decoded>[]): Promise<Booking[]> {
    const items: Decoded[] = [];
    const deliveries: Delivery[] = [];
    for (const { items: decoded, identity, step } of brought) {
      const bookable: Bookable[] = [];
      for (const stated of decoded) {
        const item = this.#byItsRoad(source, this.#withoutCopy(stated));
        items.push(item);
        if (item.type === 'event' || item.type === 'poll') bookable.push(item);
      }
      if (bookable.length > 0 || step) deliveries.push({ items: bookable, identity, step });
    }
    const booked = deliveries.length > 0 ? await this.#sink.submit(deliveries) : [];
    let next = 0;
    const bookings = items.map((item): Booking => {
      if (item.type === 'poll') return booked[next++]!;
      return item.type === 'event' ? this.#noted(source, item, booked[next++]!) : { outcome: item };
    });
    this.#count(source, bookings);
    let agent = '';
    for (const item of items) {
      if (item.type !== 'event' || item.event.agent === agent) continue;
      agent = item.event.agent;
      this.heard(agent);
    }
    return bookings;
  }

  /** What one agent delivers by two roads is taken by the configured one. */
  #byItsRoad(source: string, item: Decoded): Decoded {
    if (item.type !== 'event' || (item.event.kind !== 'turn' && item.event.kind !== 'error')) return item;
    const road = this.#roads[item.event.agent as keyof SourceRules];
    const isTaken = road === undefined || (road === 'otlp') === (source === OTLP_SOURCE);
    return isTaken ? item : ignored('other_source');
  }

  #noted(source: string, { event, isInconsistent }: Extract<Decoded, { type: 'event' }>, booking: Booking): Booking {
    const isNew = booking.outcome.type === 'recorded' || booking.outcome.type === 'forwarded';
    const isTwin = isNew && event.kind === 'turn' && this.#twins.isTwin(source, event);
    if (!isTwin && !isInconsistent) return booking;
    return { ...booking, ...(isTwin && { twin: true }), ...(isInconsistent && { inconsistent: true }) };
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
    this.#meter.booked(source, bookings);
    if (bookings.some(({ outcome }) => outcome.type !== 'rejected')) this.#meter.success(source, this.#now());
  }
}

/** Where an unexpected error was thrown, for the log. Its message is left out: it may quote a payload. */
export function placeOf(thrown: unknown): { error: string; at: string[] } {
  const error = thrown instanceof Error ? thrown : new Error();
  const frames = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  return { error: error.name, at: frames.slice(0, 5).map((line) => line.trim()) };
}
