// Reads OpenCode's own database again and again, so that what its plugin lost or never saw comes in by itself.

import { setImmediate as turnOfOthers } from 'node:timers/promises';
import { messageOf, PermanentFailure, RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import { type OpencodePlace, opencodeDatabaseFile } from '../poll/opencode-files.ts';
import { decodeHook } from '../turn/normalize.ts';
import type { Identity } from '../turn/turn-event.ts';
import type { ImportPosition } from './import-position.ts';
import { readHistory } from './opencode-history.ts';
import { RepeatedReading } from './repeated-reading.ts';
import { IMPORT_SOURCE, type Intake, placeOf, type Source, type SourceMeter } from './source.ts';

/** What was written this long before the last reading is read again: tool parts may end after their message. */
const OVERLAP_MS = 10 * 60_000;
/** The same for a reading by an earlier process: how far the clock was set in between is not known. */
const RESTART_OVERLAP_MS = 24 * 3_600_000;
/** Nobody else is served while it is waited for. */
const BUSY_MS = 50;

export interface OpencodeImportOptions {
  /** As configured; without it OpenCode's own place. */
  readonly file: string | undefined;
  readonly where: OpencodePlace;
  readonly intervalMs: number;
  /** What was written before it is refused as too old, Unix ms. */
  readonly horizonMs?: (() => number) | undefined;
  /** Where it is kept how far was read, where what is told twice is not forgotten at once. */
  readonly position?: ImportPosition | undefined;
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
  /** When the last whole reading of this process began. */
  #lastRead: Moment | undefined;
  /** The reading that is under way or broke off, which goes on where it was. */
  #reads: { readonly begun: Moment; readonly sinceMs: number; after: string } | undefined;

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
    const { file, where, intake, identity, horizonMs = () => 0 } = this.#options;
    const database = file ?? opencodeDatabaseFile(where);
    if (database === undefined) return;
    const now = momentNow();
    this.#reads ??= { begun: now, sinceMs: Math.max(this.#sinceMs(database, now), horizonMs()), after: '' };
    const reads = this.#reads;
    for (const { payloads, after } of readHistory(database, { ...reads, busyMs: BUSY_MS })) {
      const decoded = payloads.flatMap((payload) => decodeHook('opencode', payload, {}));
      if (decoded.length > 0) await intake.accept(IMPORT_SOURCE, decoded, identity);
      else await turnOfOthers();
      reads.after = after;
      if (signal.aborted) return;
    }
    this.#lastRead = reads.begun;
    this.#reads = undefined;
    this.#keepPosition(database, reads.begun);
  }

  /** From when on there may be news, by a clock that was set back or ahead since the last reading as well. */
  #sinceMs(database: string, now: Moment): number {
    const last = this.#lastRead;
    if (last) return Math.min(last.wallMs, now.wallMs - (now.steadyMs - last.steadyMs)) - OVERLAP_MS;
    const keptMs = this.#options.position?.of(database) ?? 0;
    return Math.min(keptMs, now.wallMs) - RESTART_OVERLAP_MS;
  }

  /** Without it more is told once more than need be. */
  #keepPosition(database: string, begun: Moment): void {
    try {
      this.#options.position?.keep(database, begun.wallMs);
    } catch (error) {
      this.#options.log.warn(
        placeOf(error),
        'how far the database was read cannot be kept; after a restart all of it is read',
      );
    }
  }
}

/** The same moment by the clock that the database is written by, and by one that is never set. */
interface Moment {
  readonly wallMs: number;
  readonly steadyMs: number;
}

const momentNow = (): Moment => ({ wallMs: Date.now(), steadyMs: performance.now() });
