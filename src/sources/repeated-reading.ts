// Reads something of this machine again and again, and tells whether it can be read.

import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../log.ts';
import { placeOf, type SourceMeter } from './source.ts';

export interface RepeatedReadingOptions {
  /** The name of the source. */
  readonly source: string;
  readonly intervalMs: number;
  /** Reads once. Gives what keeps it from that, one line for people, or undefined; what it throws is a mistake of ours. */
  readonly read: (signal: AbortSignal) => Promise<string | undefined>;
  /** For the log, when there was such a mistake. */
  readonly brokeOff: string;
  readonly meter: SourceMeter;
  readonly log: Log;
}

export class RepeatedReading {
  readonly #options: RepeatedReadingOptions;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #problem: string | undefined;

  constructor(options: RepeatedReadingOptions) {
    this.#options = options;
  }

  /** What keeps it from being read, one line for people. */
  problem(): string | undefined {
    return this.#problem;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#read(signal);
      await delay(this.#options.intervalMs, undefined, { signal }).catch(() => {});
    }
  }

  async #read(signal: AbortSignal): Promise<void> {
    const { source, read, brokeOff, meter, log } = this.#options;
    const problem = await read(signal).catch((error: unknown) => {
      log.error(placeOf(error), brokeOff);
      return 'the bridge made a mistake; its log says where';
    });
    if (signal.aborted) return;
    meter.up(source, problem === undefined);
    if (problem !== this.#problem && problem !== undefined) log.warn({ source }, problem);
    this.#problem = problem;
  }
}
