// Hears subjects of plain NATS for as long as it runs: over every connection that comes, and again after every break.

import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../log.ts';
import type { NatsLink } from '../nats/connection.ts';
import { type Heard, hear } from '../nats/core.ts';
import { placeOf } from './source.ts';

const RETRY_MS = 1000;

export interface NatsListenerOptions {
  readonly link: NatsLink;
  readonly subjects: readonly string[];
  /** Of several bridges with the same queue one hears each message. */
  readonly queue: string;
  readonly take: (heard: Heard) => void;
  /** Called whenever it begins or ceases to hear. */
  readonly onChange?: (isHearing: boolean) => void;
  readonly log: Log;
}

export class NatsListener {
  readonly #options: NatsListenerOptions;
  readonly #stopping = new AbortController();
  #problem: string | undefined;
  #isListening = false;
  #running: Promise<void> | undefined;

  constructor(options: NatsListenerOptions) {
    this.#options = options;
  }

  /** What keeps messages from being heard, one line for people. */
  problem(): string | undefined {
    return this.#options.link.problem() ?? this.#problem;
  }

  /** Aborts when it is to stop. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  start(): void {
    if (this.#running) return;
    this.#options.link.onChange(() => this.#tell());
    this.#running = this.#run();
  }

  /** Hears what came until now, then returns. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  #tell(): void {
    this.#options.onChange?.(this.#isListening && this.#options.link.current !== undefined);
  }

  async #run(): Promise<void> {
    const { link, subjects, queue, take, log } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        const connection = await link.connected(signal);
        const ended = hear(connection, { subjects, queue, signal, take });
        this.#problem = undefined;
        this.#isListening = true;
        this.#tell();
        const problem = await ended;
        if (problem !== undefined && problem !== this.#problem) log.warn({ subjects }, problem);
        this.#problem = problem;
      } catch (error) {
        if (!signal.aborted) log.error(placeOf(error), 'listening on NATS broke off inside the bridge');
      }
      this.#isListening = false;
      this.#tell();
      await delay(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }
}
