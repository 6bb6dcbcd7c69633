// Reads OpenCode's own database again and again, so that what its plugin lost or never saw comes in by itself.

import { messageOf, PermanentFailure, RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import { type OpencodePlace, opencodeDatabaseFile } from '../poll/opencode-files.ts';
import { decodeHook } from '../turn/normalize.ts';
import type { Identity } from '../turn/turn-event.ts';
import { readHistory } from './opencode-history.ts';
import { RepeatedReading } from './repeated-reading.ts';
import { IMPORT_SOURCE, type Intake, type Source, type SourceMeter } from './source.ts';

/** What was written this long before the last reading is read again: tool parts may end after their message. */
const OVERLAP_MS = 10 * 60_000;

export interface OpencodeImportOptions {
  /** As configured; without it OpenCode's own place. */
  readonly file: string | undefined;
  readonly where: OpencodePlace;
  readonly intervalMs: number;
  readonly identity: Identity;
  readonly intake: Intake;
  readonly meter: SourceMeter;
  readonly log: Log;
}

/** The source `import`. It is up while the database can be read, and while OpenCode has none yet. */
export class OpencodeImport implements Source {
  readonly name = IMPORT_SOURCE;
  readonly #options: OpencodeImportOptions;
  readonly #reading: RepeatedReading;
  /** Where to read on, Unix ms. Only this process remembers: the ledger knows each turn again. */
  #readToMs = 0;

  constructor(options: OpencodeImportOptions) {
    this.#options = options;
    const { intervalMs, meter, log } = options;
    this.#reading = new RepeatedReading({
      ...{ source: IMPORT_SOURCE, intervalMs, meter, log },
      read: (signal) => this.#read(signal),
      brokeOff: 'an import broke off inside the bridge; it is tried again later',
    });
  }

  /** What keeps the database from being read, one line for people. */
  problem(): string | undefined {
    return this.#reading.problem();
  }

  async start(): Promise<void> {
    this.#reading.start();
  }

  stop(): Promise<void> {
    return this.#reading.stop();
  }

  async #read(signal: AbortSignal): Promise<string | undefined> {
    try {
      await this.#readOn(signal);
      return undefined;
    } catch (error) {
      if (error instanceof PermanentFailure || error instanceof RetryableFailure) return messageOf(error);
      throw error;
    }
  }

  async #readOn(signal: AbortSignal): Promise<void> {
    const { file, where, intake, identity } = this.#options;
    const database = file ?? opencodeDatabaseFile(where);
    if (database === undefined) return;
    for (const { payloads, writtenMs } of readHistory(database, this.#readToMs - OVERLAP_MS)) {
      const decoded = payloads.flatMap((payload) => decodeHook('opencode', payload, {}));
      await intake.accept(IMPORT_SOURCE, decoded, identity);
      this.#readToMs = writtenMs;
      if (signal.aborted) return;
    }
  }
}
