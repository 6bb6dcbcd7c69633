// Accounts that others read: what is reported to the stream, and what a bridge of the same stream polls and publishes.

import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConfig } from '../config-nats.ts';
import { RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import type { NatsLink } from '../nats/connection.ts';
import { followPolled, followReported, type LatestReading } from '../nats/latest-readings.ts';
import { streamNames } from '../nats/streams.ts';
import { accountIn } from '../nats/subjects.ts';
import { streamTrouble } from '../nats/trouble.ts';
import type { PollResult } from '../poll/poll-result.ts';
import { parsePublished } from '../poll/published-result.ts';
import { type Decoded, rejected } from '../turn/decoded.ts';
import { decodeBody } from '../turn/normalize.ts';
import { type Intake, placeOf, type Source, type SourceMeter } from './source.ts';
import { guarded } from './subject-guard.ts';

/** Reports count with the turns, which come the same way. */
const SOURCE = 'jetstream';
const MESSAGE_MAX_BYTES = 4 * 1024 * 1024;
const TOO_LARGE = rejected({ reason: 'too_large', detail: `a message may hold ${MESSAGE_MAX_BYTES} bytes` });
const RETRY_MS = 5000;

export interface AccountFollowerOptions {
  readonly link: NatsLink;
  readonly config: NatsConfig;
  readonly intake: Intake;
  /** Keeps what another bridge polled, unless something newer is known. */
  readonly record: (result: PollResult) => Promise<unknown>;
  readonly meter: Pick<SourceMeter, 'identityMismatch'>;
  readonly log: Log;
}

export class AccountFollower implements Source {
  readonly name = 'accounts';
  readonly #options: AccountFollowerOptions;
  readonly #stopping = new AbortController();
  readonly #problems = new Map<string, string>();
  #running: Promise<unknown> | undefined;

  constructor(options: AccountFollowerOptions) {
    this.#options = options;
  }

  /** What keeps accounts from being followed, one line for people. */
  problem(): string | undefined {
    return this.#options.link.problem() ?? [...this.#problems.values()][0];
  }

  async start(): Promise<void> {
    const { polls, accounts } = streamNames(this.#options.config);
    this.#running ??= Promise.all([
      this.#follow(polls, followReported, (reading) => this.#report(reading)),
      this.#follow(`KV_${accounts}`, followPolled, (reading) => this.#record(reading)),
    ]);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #follow(
    stream: string,
    follow: typeof followReported,
    take: (reading: LatestReading) => Promise<void>,
  ): Promise<void> {
    const { link, config, log } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        const connection = await link.connected(signal);
        const following = follow(connection, { config, signal, take });
        this.#problems.delete(stream);
        await following;
      } catch (error) {
        if (signal.aborted) return;
        const problem = streamTrouble(error, { stream });
        if (!link.problem() && problem !== this.#problems.get(stream)) log.warn({ source: SOURCE }, problem);
        this.#problems.set(stream, problem);
      }
      await delay(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }

  async #report({ subject, data, storedMs: receivedMs }: LatestReading): Promise<void> {
    const items =
      data.length > MESSAGE_MAX_BYTES ? [TOO_LARGE] : decodeBody(Buffer.from(data)).map(({ decoded }) => decoded);
    const { decoded, mismatches } = guarded(subject, items);
    // A reading is as old as the stream has had it.
    const aged = decoded.map((item): Decoded => {
      return item.type === 'poll' ? { ...item, poll: { ...item.poll, receivedMs } } : item;
    });
    await this.#tried(() => this.#options.intake.accept(SOURCE, aged, {}));
    for (let n = 0; n < mismatches; n++) this.#options.meter.identityMismatch(SOURCE);
  }

  async #record({ subject, data }: LatestReading): Promise<void> {
    const result = parsePublished(Buffer.from(data).toString('utf8'));
    const account = accountIn(subject);
    if (!result || !account) return;
    await this.#tried(() => this.#options.record({ ...result, ...account }));
  }

  /** A reading that cannot be recorded is given up: the next one says the same, and more. */
  async #tried(record: () => Promise<unknown>): Promise<void> {
    try {
      await record();
    } catch (error) {
      if (!(error instanceof RetryableFailure))
        this.#options.log.error(placeOf(error), 'a reading could not be recorded');
    }
  }
}
