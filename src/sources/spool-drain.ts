// The spool: a folder of small files in which hooks and plugins leave what they could not deliver. A file is removed only
// after what it holds has been committed, so a crash in between leads to duplicates and never to a loss.

import { constants, type Stats, statSync } from 'node:fs';
import { access, lstat, mkdir, open, readdir, unlink } from 'node:fs/promises';
import path from 'node:path';
import { messageOf, PermanentFailure, RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import { type Decoded, rejected } from '../turn/decoded.ts';
import { decodeBody } from '../turn/normalize.ts';
import type { Booking, Identity, RejectReason } from '../turn/turn-event.ts';
import { type Intake, placeOf, type Source, type SourceMeter } from './source.ts';
import { type Findings, SpoolQuarantine } from './spool-quarantine.ts';

const SOURCE = 'spool';
const DRAIN_EVERY_MS = 2000;
/** Files per commit, and bytes: what is read waits in memory until it is booked. */
const BATCH_FILES = 500;
/** Records per commit, unless one file alone holds more: the ledger takes no more at once. */
const BATCH_RECORDS = 1000;
const BATCH_BYTES = 16 * 1024 * 1024;
/** As much as the socket takes. */
const FILE_MAX_BYTES = 4 * 1024 * 1024;
/** Shell hooks write in place; a file that does not parse is left until it has not changed for this long. */
const HALF_WRITTEN_MS = 5000;
/** A writer's temporary file belongs to the writer, until it has certainly died. */
const TEMPORARY_KEPT_MS = 24 * 3600_000;
const TIDY_EVERY_MS = 15 * 60_000;
/** A ledger that is busy takes the files soon; one that has refused them in so many passes needs people. */
const REFUSED_PASSES_TOLD = 5;

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

/** A file that is booked and still lies in the spool. */
interface BookedFile extends Findings {
  readonly version: string;
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
  /** Removing these failed: it is tried again, and they are not booked and counted again meanwhile. */
  readonly #booked = new Map<string, BookedFile>();
  #waiting = 0;
  #tidiedMs = Number.NEGATIVE_INFINITY;
  #problem: string | undefined;
  #running = false;
  #stopping = false;
  /** What went wrong with single files in this pass; it does not keep the others from being drained. */
  #failed: { files: number; first?: unknown } = { files: 0 };
  #refusedPasses = 0;
  #hasToldOfLinks = false;
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

  /** @throws PermanentFailure when something else than a folder has the spool's place */
  async start(): Promise<void> {
    if (this.#running) return;
    assertNothingElse(this.#options.dir);
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
        this.#refusedPasses = 0;
        this.#report(this.#fileProblem(), { isUp: true });
        return 0;
      })
      .catch((error) => {
        if (error instanceof RetryableFailure) return this.#noteRefusal(error);
        this.#report(`the spool folder cannot be drained: ${messageOf(error)}`, { isUp: false });
        return 0;
      })
      .finally(() => {
        this.#pass = undefined;
      });
    return this.#pass;
  }

  /** A ledger that cannot commit is no fault of the folder, and reports for itself, until it looks as if it will last. */
  #noteRefusal(error: RetryableFailure): number {
    this.#refusedPasses++;
    const isLasting = this.#refusedPasses >= REFUSED_PASSES_TOLD;
    const problem = `the ledger has refused the spool's files ${REFUSED_PASSES_TOLD} times in a row: ${error.message}`;
    this.#report(isLasting ? problem : this.#fileProblem(), { isUp: !isLasting });
    return error.retryAfterS * 1000;
  }

  #fileProblem(): string | undefined {
    const { files, first } = this.#failed;
    if (files === 0) return undefined;
    // The system's own messages hold the names of files.
    const why = first instanceof PermanentFailure ? first.message : (codeOf(first) ?? placeOf(first).error);
    return `${files} ${files === 1 ? 'file' : 'files'} of the spool folder cannot be read, booked or removed (${why}); the others are drained`;
  }

  #report(problem: string | undefined, { isUp }: { isUp: boolean }): void {
    const { log, meter } = this.#options;
    const { first } = this.#failed;
    const isMistake = first !== undefined && codeOf(first) === undefined && !(first instanceof PermanentFailure);
    if (problem && problem !== this.#problem)
      log.warn(isMistake ? placeOf(first) : {}, `${problem}. What is not booked is kept and tried again.`);
    if (!problem && this.#problem) log.info('the spool folder is drained again');
    this.#problem = problem;
    meter.up(SOURCE, isUp);
  }

  async #drainFolder(): Promise<void> {
    const { dir } = this.#options;
    this.#failed = { files: 0 };
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await access(dir, constants.R_OK | constants.W_OK); // What cannot be removed must not be booked over and over.
    const entries = await readdir(dir, { withFileTypes: true });
    this.#tellOfLinks(entries.filter((entry) => entry.isSymbolicLink() && entry.name.endsWith('.json')).length);
    const names = entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
    const spooled = names.filter((name) => name.endsWith('.json')).sort();
    this.#waiting = spooled.length;
    const isThere = new Set(spooled);
    for (const known of [this.#halfWritten, this.#booked])
      for (const name of known.keys()) if (!isThere.has(name)) known.delete(name);

    await this.#drainFiles(spooled);
    await this.#attempt(this.#quarantine.endPass());
    await this.#tidy(names);
  }

  async #drainFiles(names: readonly string[]): Promise<void> {
    let batch: SpoolFile[] = [];
    let [records, bytes] = [0, 0];
    for (const name of names) {
      if (this.#stopping) break;
      if (this.#booked.has(name)) {
        await this.#attempt(this.#remove(name));
        continue;
      }
      const file = await this.#attempt(this.#read(name));
      if (!file) continue;
      records += file.items.length;
      bytes += file.bytes;
      if (batch.length === BATCH_FILES || records > BATCH_RECORDS || bytes > BATCH_BYTES) {
        await this.#attempt(this.#book(batch));
        batch = [];
        [records, bytes] = [file.items.length, file.bytes];
      }
      batch.push(file);
    }
    await this.#attempt(this.#book(batch));
  }

  #tellOfLinks(links: number): void {
    if (links > 0 && !this.#hasToldOfLinks) {
      this.#options.log.warn(
        { links },
        'the spool folder holds symbolic links, which are left alone: put the files themselves there',
      );
    }
    this.#hasToldOfLinks = links > 0;
  }

  /** What goes wrong with one file is told when the others are drained. */
  async #attempt<T>(work: Promise<T>): Promise<T | undefined> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof RetryableFailure) throw error;
      // Gone, or become a link meanwhile: not ours any more.
      const code = codeOf(error);
      if (code === 'ENOENT' || code === 'ELOOP') return undefined;
      this.#failed.files++;
      this.#failed.first ??= error;
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
        await this.#quarantine.prepare();
        return { name, bytes: 0, version, items };
      }
      const content = await handle.readFile();
      const decoded = decodeBody(content);
      const items = decoded.length > 0 ? decoded : oneRejection('invalid_json', 'the file is empty');
      if (isMalformed(items) && !this.#hasSettled(name, { version, mtimeMs: stat.mtimeMs })) return undefined;
      // Else it would be booked, and what is wrong with it counted, without a place to put it afterwards.
      if (items.some(({ decoded: { type } }) => type === 'rejected')) await this.#quarantine.prepare();
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
    let bookings: Booking[];
    try {
      bookings = await this.#options.intake.accept(SOURCE, decoded, this.#options.identity);
    } catch (error) {
      if (error instanceof RetryableFailure || batch.length === 1) throw error;
      // Not the ledger's usual refusal: one file that cannot be booked must not hold up the others.
      for (const file of batch) await this.#attempt(this.#book([file]));
      return;
    }
    let next = 0;
    for (const { name, version, items } of batch) {
      const rejections = items.flatMap(({ index }) => {
        const { outcome } = bookings[next++]!;
        return outcome.type === 'rejected' ? [{ index, reason: outcome.reason, detail: outcome.detail }] : [];
      });
      this.#booked.set(name, { version, records: items.length, rejections });
      await this.#attempt(this.#remove(name));
    }
  }

  /** Removes a booked file, or puts it in quarantine. One that has changed since is left: it has more to say. */
  async #remove(name: string): Promise<void> {
    const booked = this.#booked.get(name)!;
    const at = path.join(this.#options.dir, name);
    if (versionOf(await lstat(at)) === booked.version) {
      if (booked.rejections.length > 0) await this.#quarantine.take(at, booked);
      else await unlink(at);
      this.#waiting--;
    }
    this.#booked.delete(name);
  }

  async #tidy(names: readonly string[]): Promise<void> {
    const nowMs = this.#now();
    if (nowMs - this.#tidiedMs < TIDY_EVERY_MS) return;
    this.#tidiedMs = nowMs;
    await this.#attempt(this.#quarantine.tidy());
    let removed = 0;
    for (const name of names.filter((entry) => entry.endsWith('.json.tmp'))) {
      if (await this.#attempt(removeOlder(path.join(this.#options.dir, name), nowMs - TEMPORARY_KEPT_MS))) removed++;
    }
    if (removed > 0)
      this.#options.log.warn(
        { files: removed },
        'removed temporary spool files whose writers died more than a day ago',
      );
  }
}

/** A folder that is missing is made, and one that cannot be used may be mended; a file in its place is a mistake. */
function assertNothingElse(dir: string): void {
  let isFolder: boolean;
  try {
    isFolder = statSync(dir).isDirectory();
  } catch (error) {
    isFolder = codeOf(error) !== 'ENOTDIR';
  }
  if (isFolder) return;
  throw new PermanentFailure(
    `The spool ${dir} cannot be a folder: a file stands there, or on the way to it, so hooks can leave nothing. ` +
      'Move it away, set spool.dir to another place, or set spool.enabled to false.',
  );
}

/** @returns whether it was old enough */
async function removeOlder(file: string, thanMs: number): Promise<boolean> {
  if ((await lstat(file)).mtimeMs >= thanMs) return false;
  await unlink(file);
  return true;
}

const codeOf = (thrown: unknown) => (thrown as NodeJS.ErrnoException | undefined)?.code;

const versionOf = ({ ino, size, mtimeMs }: Stats) => `${ino}:${size}:${mtimeMs}`;

const oneRejection = (reason: RejectReason, detail: string): SpoolFile['items'] => [
  { index: 0, decoded: rejected({ reason, detail }) },
];

const isMalformed = (items: SpoolFile['items']) =>
  items.some(({ decoded }) => decoded.type === 'rejected' && decoded.reason === 'invalid_json');
