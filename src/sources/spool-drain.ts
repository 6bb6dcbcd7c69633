// The spool: a folder of small files in which hooks and plugins leave what they could not deliver. A file is removed only
// after what it holds has been committed, so a crash in between leads to duplicates and never to a loss.

import { constants, type Stats } from 'node:fs';
import { access, lstat, mkdir, open, readdir, unlink } from 'node:fs/promises';
import path from 'node:path';
import { messageOf, RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import { type Decoded, rejected } from '../turn/decoded.ts';
import { decodeBody } from '../turn/normalize.ts';
import type { Identity, Rejection, RejectReason } from '../turn/turn-event.ts';
import type { Intake, Source, SourceMeter } from './source.ts';
import { SpoolQuarantine } from './spool-quarantine.ts';

const SOURCE = 'spool';
const DRAIN_EVERY_MS = 2000;
/** Files per commit, and bytes: what is read waits in memory until it is booked. */
const BATCH_FILES = 500;
const BATCH_BYTES = 16 * 1024 * 1024;
/** As much as the socket takes. */
const FILE_MAX_BYTES = 4 * 1024 * 1024;
/** Shell hooks write in place; a file that does not parse is left until it has not changed for this long. */
const HALF_WRITTEN_MS = 5000;
/** A writer's temporary file belongs to the writer, until it has certainly died. */
const TEMPORARY_KEPT_MS = 24 * 3600_000;
const TIDY_EVERY_MS = 15 * 60_000;

export interface SpoolDrainOptions {
  readonly dir: string;
  readonly intake: Intake;
  /** Who writes to this folder. */
  readonly identity: Identity;
  readonly meter: SourceMeter;
  readonly log: Log;
  readonly everyMs?: number;
  /** Unix time in ms. */
  readonly now?: () => number;
}

interface SpoolFile {
  readonly name: string;
  readonly bytes: number;
  /** Changes whenever the file does. */
  readonly version: string;
  readonly items: readonly { readonly index: number; readonly decoded: Decoded }[];
}

/** How a bad file looked when it was last seen. */
interface Sighting {
  readonly version: string;
  readonly sinceMs: number;
}

export class SpoolDrain implements Source {
  readonly name = SOURCE;
  readonly #options: SpoolDrainOptions;
  readonly #now: () => number;
  readonly #quarantine: SpoolQuarantine;
  readonly #halfWritten = new Map<string, Sighting>();
  #waiting = 0;
  #tidiedMs = Number.NEGATIVE_INFINITY;
  #problem: string | undefined;
  #running = false;
  #stopping = false;
  /** The first thing that went wrong with a file in this pass; it does not keep the others from being drained. */
  #failure: unknown;
  #timer: NodeJS.Timeout | undefined;
  #pass: Promise<number> | undefined;

  constructor(options: SpoolDrainOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#quarantine = new SpoolQuarantine({
      dir: path.join(options.dir, 'quarantine'),
      log: options.log,
      now: this.#now,
    });
  }

  /** Files that the last pass left for the next one. */
  waiting(): number {
    return this.#waiting;
  }

  /** Files in quarantine, as the last pass saw them. */
  quarantined(): number {
    return this.#quarantine.count;
  }

  /** What keeps the folder from being drained, one line for people. */
  problem(): string | undefined {
    return this.#problem;
  }

  async start(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    this.#stopping = false;
    this.#schedule(0);
  }

  async stop(): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    this.#stopping = true;
    clearTimeout(this.#timer);
    await this.#pass;
    this.#options.meter.up(SOURCE, false);
  }

  /** Drains what is there now. Never fails: what went wrong is logged, shown in `problem`, and tried again. */
  async drain(): Promise<void> {
    await this.#drainOnce();
  }

  #schedule(afterMs: number): void {
    this.#timer = setTimeout(async () => {
      const pauseMs = await this.#drainOnce();
      if (this.#running) this.#schedule(Math.max(pauseMs, this.#options.everyMs ?? DRAIN_EVERY_MS));
    }, afterMs);
  }

  /** @returns how long to wait at least before the next pass, in ms */
  #drainOnce(): Promise<number> {
    this.#pass ??= this.#drainFolder()
      .then(() => {
        this.#report(undefined);
        return 0;
      })
      .catch((error) => {
        // A ledger that cannot commit is no fault of the folder: its files are kept, and the ledger reports for itself.
        const isLedgers = error instanceof RetryableFailure;
        this.#report(isLedgers ? undefined : `the spool folder cannot be drained: ${messageOf(error)}`);
        return isLedgers ? error.retryAfterS * 1000 : 0;
      })
      .finally(() => {
        this.#pass = undefined;
      });
    return this.#pass;
  }

  #report(problem: string | undefined): void {
    if (problem && problem !== this.#problem)
      this.#options.log.warn(`${problem}. Its files are kept; it is tried again.`);
    if (!problem && this.#problem) this.#options.log.info('the spool folder is drained again');
    this.#problem = problem;
    this.#options.meter.up(SOURCE, problem === undefined);
  }

  async #drainFolder(): Promise<void> {
    const { dir } = this.#options;
    this.#failure = undefined;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await access(dir, constants.R_OK | constants.W_OK); // What cannot be removed must not be booked over and over.
    const entries = (await readdir(dir, { withFileTypes: true })).filter((entry) => entry.isFile());
    const names = entries.map((entry) => entry.name).sort();
    const spooled = names.filter((name) => name.endsWith('.json'));
    this.#waiting = spooled.length;
    for (const name of this.#halfWritten.keys()) if (!spooled.includes(name)) this.#halfWritten.delete(name);
    await this.#tidy(names);

    let at = 0;
    while (at < spooled.length && !this.#stopping) {
      const batch: SpoolFile[] = [];
      for (let bytes = 0; at < spooled.length && batch.length < BATCH_FILES && bytes < BATCH_BYTES; at++) {
        const file = await this.#attempt(this.#read(spooled[at]!));
        if (file) batch.push(file);
        bytes += file?.bytes ?? 0;
      }
      await this.#book(batch);
    }
    await this.#quarantine.endPass();
    if (this.#failure) throw this.#failure;
  }

  /** What goes wrong with one file is told when the others are drained. */
  async #attempt<T>(work: Promise<T>): Promise<T | undefined> {
    try {
      return await work;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (error instanceof RetryableFailure) throw error;
      // Gone, or become a link meanwhile: not ours any more.
      if (code !== 'ENOENT' && code !== 'ELOOP') this.#failure ??= error;
      return undefined;
    }
  }

  /** @returns undefined when the file must be left as it is */
  async #read(name: string): Promise<SpoolFile | undefined> {
    // Not through a link, and without waiting for the other end of a pipe, should the name have changed hands.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const handle = await open(path.join(this.#options.dir, name), flags);
    try {
      const stat = await handle.stat();
      if (!stat.isFile()) return undefined;
      const version = versionOf(stat);
      if (stat.size > FILE_MAX_BYTES) {
        const items = oneRejection('too_large', `a file may hold ${FILE_MAX_BYTES} bytes`);
        return { name, bytes: 0, version, items };
      }
      const content = await handle.readFile();
      const decoded = decodeBody(content);
      const items = decoded.length > 0 ? decoded : oneRejection('invalid_json', 'the file is empty');
      if (isMalformed(items) && !this.#hasSettled(name, { version, mtimeMs: stat.mtimeMs })) return undefined;
      return { name, bytes: content.length, version, items };
    } finally {
      await handle.close();
    }
  }

  /** Whether a malformed file has not changed for a while, so that nobody is writing it any more. */
  #hasSettled(name: string, { version, mtimeMs }: { version: string; mtimeMs: number }): boolean {
    const nowMs = this.#now();
    const seen = this.#halfWritten.get(name);
    let sinceMs = nowMs;
    if (seen?.version === version) sinceMs = seen.sinceMs;
    else if (!seen && mtimeMs < nowMs) sinceMs = mtimeMs; // A file dated ahead of our clock counts from its first sight.
    this.#halfWritten.set(name, { version, sinceMs });
    return nowMs - sinceMs >= HALF_WRITTEN_MS;
  }

  async #book(batch: readonly SpoolFile[]): Promise<void> {
    if (batch.length === 0) return;
    const decoded = batch.flatMap((file) => file.items.map((item) => item.decoded));
    const accepted = this.#options.intake.accept(SOURCE, decoded, this.#options.identity);
    const bookings = await this.#attempt(accepted);
    if (!bookings) {
      // Not the ledger's usual refusal: one file that cannot be booked must not hold up the others.
      if (batch.length > 1) for (const file of batch) await this.#book([file]);
      return;
    }
    let next = 0;
    for (const file of batch) {
      const rejections = file.items.flatMap(({ index }) => {
        const { outcome } = bookings[next++]!;
        return outcome.type === 'rejected' ? [{ index, reason: outcome.reason, detail: outcome.detail }] : [];
      });
      await this.#attempt(this.#remove(file, rejections));
    }
  }

  /** Removes a booked file, or puts it in quarantine. One that has changed since is left: it has more to say. */
  async #remove(file: SpoolFile, rejections: readonly (Rejection & { index: number })[]): Promise<void> {
    const at = path.join(this.#options.dir, file.name);
    if (versionOf(await lstat(at)) !== file.version) return;
    if (rejections.length > 0) await this.#quarantine.take(at, { records: file.items.length, rejections });
    else await unlink(at);
    this.#waiting--;
  }

  async #tidy(names: readonly string[]): Promise<void> {
    const nowMs = this.#now();
    if (nowMs - this.#tidiedMs < TIDY_EVERY_MS) return;
    this.#tidiedMs = nowMs;
    await this.#quarantine.tidy();
    let removed = 0;
    for (const name of names.filter((entry) => entry.endsWith('.json.tmp'))) {
      const file = path.join(this.#options.dir, name);
      if ((await lstat(file)).mtimeMs >= nowMs - TEMPORARY_KEPT_MS) continue;
      await unlink(file);
      removed++;
    }
    if (removed > 0)
      this.#options.log.warn(
        { files: removed },
        'removed temporary spool files whose writers died more than a day ago',
      );
  }
}

const versionOf = ({ ino, size, mtimeMs }: Stats) => `${ino}:${size}:${mtimeMs}`;

const oneRejection = (reason: RejectReason, detail: string): SpoolFile['items'] => [
  { index: 0, decoded: rejected({ reason, detail }) },
];

const isMalformed = (items: SpoolFile['items']) =>
  items.some(({ decoded }) => decoded.type === 'rejected' && decoded.reason === 'invalid_json');
