// Turns from plain NATS, at most once: a message that comes while no bridge listens, or while the ledger cannot commit
// for long, is gone, because its sender is not asked to keep it. A sender that asks (request) is answered as on the socket.

import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConfig } from '../config-nats.ts';
import { RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import type { NatsLink } from '../nats/connection.ts';
import type { Heard } from '../nats/core.ts';
import { POLLS, TURNS } from '../nats/subjects.ts';
import type { Decoded } from '../turn/decoded.ts';
import { NatsListener } from './nats-listener.ts';
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
  readonly #listener: NatsListener;
  readonly #inHand = new Set<Promise<void>>();
  #inFlightBytes = 0;

  constructor(options: NatsCoreSourceOptions) {
    this.#options = options;
    const { link, config, meter, log } = options;
    this.#listener = new NatsListener({
      ...{ link, log, subjects: [`${TURNS}.>`, `${POLLS}.>`], queue: config.core.queue },
      take: (heard) => this.#receive(heard),
      onChange: (isHearing) => meter.up(SOURCE, isHearing),
    });
  }

  /** What keeps messages from coming in, one line for people. */
  problem(): string | undefined {
    return this.#listener.problem();
  }

  async start(): Promise<void> {
    this.#listener.start();
  }

  /** Books what came in, then returns. */
  async stop(): Promise<void> {
    await this.#listener.stop();
    while (this.#inHand.size > 0) await Promise.all(this.#inHand);
    this.#options.meter.up(SOURCE, false);
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
    const { stopping } = this.#listener;
    const sinceMs = performance.now();
    for (let tries = 1; ; tries++) {
      try {
        const answer = await take(heard.data, accept);
        heard.respond(JSON.stringify(answer.body));
        return;
      } catch (error) {
        const isPatient = performance.now() - sinceMs < PATIENCE_MS && !stopping.aborted;
        if (!(error instanceof RetryableFailure) || !isPatient) throw error;
        const pauseMs = error.retryAfterS * tries * 1000;
        await delay(pauseMs, undefined, { signal: stopping }).catch(() => {});
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
