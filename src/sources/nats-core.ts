// Turns from plain NATS, at most once: a message that comes while no bridge listens, or while the ledger cannot commit
// for long, is gone, because its sender is not asked to keep it. A sender that asks (request) is answered as on the socket.

import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConfig } from '../config-nats.ts';
import { RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import type { NatsLink } from '../nats/connection.ts';
import { type Heard, hear } from '../nats/core.ts';
import type { Decoded } from '../turn/decoded.ts';
import { type Answer, refuse, takeEvents } from './socket-routes.ts';
import { type Intake, placeOf, type Source, type SourceMeter } from './source.ts';
import { guarded } from './subject-guard.ts';

const SOURCE = 'nats';
/** As much as the socket takes. */
const MESSAGE_MAX_BYTES = 4 * 1024 * 1024;
/** What waits for its commit; beyond it messages are dropped and counted, because nobody can be told to wait. */
const IN_FLIGHT_MAX_BYTES = 64 * 1024 * 1024;
/** How long a message is offered to a ledger that cannot commit. Nobody else has it. */
const PATIENCE_MS = 60_000;

export interface NatsCoreSourceOptions {
  readonly link: NatsLink;
  readonly config: NatsConfig;
  readonly intake: Intake;
  readonly meter: SourceMeter;
  readonly log: Log;
}

export class NatsCoreSource implements Source {
  readonly name = SOURCE;
  readonly #options: NatsCoreSourceOptions;
  readonly #stopping = new AbortController();
  readonly #inHand = new Set<Promise<void>>();
  #inFlightBytes = 0;
  #problem: string | undefined;
  #isListening = false;
  #running: Promise<void> | undefined;

  constructor(options: NatsCoreSourceOptions) {
    this.#options = options;
  }

  /** What keeps messages from coming in, one line for people. */
  problem(): string | undefined {
    return this.#options.link.problem() ?? this.#problem;
  }

  async start(): Promise<void> {
    if (this.#running) return;
    this.#options.link.onChange(() => this.#tellUp());
    this.#running = this.#run();
  }

  /** Books what came in, then returns. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    while (this.#inHand.size > 0) await Promise.all(this.#inHand);
    this.#options.meter.up(SOURCE, false);
  }

  #tellUp(): void {
    this.#options.meter.up(SOURCE, this.#isListening && this.#options.link.current !== undefined);
  }

  async #run(): Promise<void> {
    const { link, config, log } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        const connection = await link.connected(signal);
        const ended = hear(connection, { queue: config.core.queue, signal, take: (heard) => this.#receive(heard) });
        this.#problem = undefined;
        this.#isListening = true;
        this.#tellUp();
        const problem = await ended;
        if (problem !== undefined && problem !== this.#problem) log.warn({ source: SOURCE }, problem);
        this.#problem = problem;
      } catch (error) {
        if (!signal.aborted) log.error(placeOf(error), 'listening on NATS broke off inside the bridge');
      }
      this.#isListening = false;
      this.#tellUp();
      await delay(1000, undefined, { signal }).catch(() => {});
    }
  }

  #receive(heard: Heard): void {
    const bytes = heard.data.length;
    if (this.#inFlightBytes + bytes > IN_FLIGHT_MAX_BYTES) {
      this.#options.meter.lost(SOURCE);
      heard.respond(JSON.stringify({ error: 'too much is waiting to be booked; send it again later' }));
      return;
    }
    this.#inFlightBytes += bytes;
    const done = this.#book(heard)
      .catch((error) => {
        this.#options.meter.lost(SOURCE);
        this.#options.log.error(placeOf(error), 'a message from NATS could not be booked');
      })
      .finally(() => {
        this.#inFlightBytes -= bytes;
        this.#inHand.delete(done);
      });
    this.#inHand.add(done);
  }

  async #book(heard: Heard): Promise<void> {
    const { intake, meter } = this.#options;
    const accept = async (items: readonly Decoded[]) => {
      const { identity, decoded, mismatches } = guarded(heard.subject, items);
      const bookings = await intake.accept(SOURCE, decoded, identity);
      for (let n = 0; n < mismatches; n++) meter.identityMismatch(SOURCE);
      return bookings;
    };
    const sinceMs = performance.now();
    for (let tries = 1; ; tries++) {
      try {
        const answer = await take(heard.data, accept);
        heard.respond(JSON.stringify(answer.body));
        return;
      } catch (error) {
        const isPatient = performance.now() - sinceMs < PATIENCE_MS && !this.#stopping.signal.aborted;
        if (!(error instanceof RetryableFailure) || !isPatient) throw error;
        const pauseMs = error.retryAfterS * tries * 1000;
        await delay(pauseMs, undefined, { signal: this.#stopping.signal }).catch(() => {});
      }
    }
  }
}

function take(data: Uint8Array, accept: Parameters<typeof takeEvents>[1]): Promise<Answer> {
  if (data.length <= MESSAGE_MAX_BYTES) {
    return takeEvents(Buffer.from(data.buffer, data.byteOffset, data.byteLength), accept);
  }
  const detail = `a message may hold ${MESSAGE_MAX_BYTES} bytes`;
  return refuse(accept, { status: 413, error: detail }, { reason: 'too_large', detail });
}
