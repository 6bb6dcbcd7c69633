// The end of the road on a machine that keeps a ledger: adds to what was stated what our own rules say, and books it.

import type { LedgerPart } from '../ledger/ledger.ts';
import { readSnapshot } from '../poll/openusage.ts';
import type { PollResult } from '../poll/poll-result.ts';
import { contradictsProject } from '../turn/attribution.ts';
import type { StatedPoll } from '../turn/decoded.ts';
import type { Booking, Identity, MeterEvent, StatedEvent } from '../turn/turn-event.ts';
import { type ProviderOf, SessionProviders } from './session-providers.ts';
import type { Delivery, EventSink } from './source.ts';

/** What another poller says counts as fresh for three times this, the 300 s of OpenUsage's hub, unless it says otherwise. */
const REPORTED_INTERVAL_MS = 100_000;

/** The part of the ledger that is written to. */
export interface EventLedger {
  /** One booking per event of all parts, in order, after the commit. @throws RetryableFailure when nothing was committed */
  submitAll(parts: readonly LedgerPart[]): Promise<Booking[]>;
  /** @throws RetryableFailure when it was not committed */
  recordPoll(poll: PollResult): Promise<Booking>;
  /** Events submitted and not yet committed. */
  readonly backlogEvents: number;
  readonly providerOf?: ProviderOf;
}

/** Adds to a stated event what our own rules say about it. */
export interface Attributor {
  attribute(event: StatedEvent, identity: Identity): MeterEvent;
}

export interface LedgerSinkOptions {
  readonly ledger: EventLedger;
  readonly attribution: Attributor;
  /** Is shown everything that was committed: one booking per event, in order. */
  readonly onBooked?: (events: readonly MeterEvent[], bookings: readonly Booking[]) => void;
  /** Unix time in ms. */
  readonly now?: () => number;
}

export class LedgerSink implements EventSink {
  readonly #ledger: EventLedger;
  readonly #attribution: Attributor;
  readonly #providers: SessionProviders;
  readonly #onBooked: LedgerSinkOptions['onBooked'];
  readonly #now: () => number;

  constructor({ ledger, attribution, onBooked, now = Date.now }: LedgerSinkOptions) {
    this.#ledger = ledger;
    this.#attribution = attribution;
    this.#providers = new SessionProviders((agent, sessionId) => ledger.providerOf?.(agent, sessionId));
    this.#onBooked = onBooked;
    this.#now = now;
  }

  get backlogEvents(): number {
    return this.#ledger.backlogEvents;
  }

  async submit(deliveries: readonly Delivery[]): Promise<Booking[]> {
    // Polls are submitted apart, before the turns: they never come with a position in a stream, which could overtake them.
    const polling: Promise<Booking>[] = [];
    const all: MeterEvent[] = [];
    const parts = deliveries.map(({ items, identity, step }): LedgerPart => {
      const events: MeterEvent[] = [];
      for (const item of items) {
        if (item.type === 'poll') polling.push(this.#recordPoll(item.poll));
        else events.push(this.#attribution.attribute(this.#providers.settle(item.event), identity));
      }
      all.push(...events);
      return { events, step };
    });
    const isBooking = all.length > 0 || parts.some(({ step }) => step !== undefined);
    const [polled, booked] = await Promise.all([Promise.all(polling), isBooking ? this.#ledger.submitAll(parts) : []]);
    this.#onBooked?.(all, booked);
    const bookings: Booking[] = [];
    let [nextPolled, nextBooked] = [0, 0];
    for (const { items, identity } of deliveries) {
      for (const item of items) {
        if (item.type === 'poll') {
          bookings.push(polled[nextPolled++]!);
          continue;
        }
        const booking = booked[nextBooked++]!;
        bookings.push(isMismatch(item.event, identity) ? { ...booking, identityMismatch: true } : booking);
      }
    }
    return bookings;
  }

  async #recordPoll({ snapshot, intervalMs = REPORTED_INTERVAL_MS, ...sender }: StatedPoll): Promise<Booking> {
    const nowMs = this.#now();
    const receivedMs = Math.min(sender.receivedMs ?? nowMs, nowMs);
    const { result, unitCorrections } = readSnapshot(snapshot, { intervalMs, ...sender, receivedMs });
    const booking = await this.#ledger.recordPoll(result);
    const isNew = booking.outcome.type === 'recorded' || booking.outcome.type === 'updated';
    if (!isNew || unitCorrections === 0) return booking;
    return { ...booking, unitCorrections: { provider: snapshot.provider, values: unitCorrections } };
  }
}

/** Whether an event's sender names another team, user or project than its credential. */
function isMismatch(event: StatedEvent, identity: Identity): boolean {
  const stated = event.kind === 'turn' ? event.statedIdentity : undefined;
  if (stated && (differ(stated.team, identity.team) || differ(stated.user, identity.user))) return true;
  return contradictsProject(event, identity);
}

const differ = (stated: string | undefined, known: string | undefined) =>
  stated !== undefined && known !== undefined && stated !== known;
