// Turns from JetStream, at least once on their way and exactly once in the ledger: a message is acknowledged after its
// commit, and the ledger itself knows how far it has read. No correctness stands on what the server remembers.

import { setTimeout as delay } from 'node:timers/promises';
import { commandText } from '../command-text.ts';
import { type NatsConfig, partitionText } from '../config-nats.ts';
import { PermanentFailure, RetryableFailure } from '../failure.ts';
import type { StreamPosition, StreamStep } from '../ledger/stream-positions.ts';
import type { Log } from '../log.ts';
import type { NatsLink } from '../nats/connection.ts';
import { type DeadLetter, StreamPublisher } from '../nats/publisher.ts';
import { OutOfStep, type StreamMessage, StreamReader } from '../nats/stream-reader.ts';
import { streamNames } from '../nats/streams.ts';
import { identityIn } from '../nats/subjects.ts';
import { streamTrouble } from '../nats/trouble.ts';
import { type Decoded, rejected } from '../turn/decoded.ts';
import { decodeBody } from '../turn/normalize.ts';
import type { Identity } from '../turn/turn-event.ts';
import { type Intake, placeOf, type Source, type SourceMeter } from './source.ts';
import { guarded } from './subject-guard.ts';

const SOURCE = 'jetstream';
/** As much as the socket takes. */
const MESSAGE_MAX_BYTES = 4 * 1024 * 1024;
/** What is booked together. */
const GROUP_MAX_ITEMS = 1000;
const RETRY_MIN_MS = 250;
const RETRY_MAX_MS = 15_000;
/** A dead letter lists no more than these. */
const REJECTIONS_NOTED = 20;
/** How often it is looked whether there are turns that nobody reads. */
const WATCH_EVERY_MS = 30_000;
const EMPTY = rejected({ reason: 'invalid_json', detail: 'the message holds no record' });
const UNBOOKABLE = rejected({
  reason: 'unbookable',
  detail: 'an event cannot be booked: a field is missing or does not fit',
});

/** The part of the ledger that knows how far a stream was read. */
export interface StreamLedger {
  readonly id: string;
  openStream(stream: string, partition: string): StreamPosition;
  resetStream(stream: string): void;
}

export interface JetStreamSourceOptions {
  readonly link: NatsLink;
  readonly config: NatsConfig;
  readonly ledger: StreamLedger;
  readonly intake: Intake;
  readonly meter: SourceMeter;
  readonly log: Log;
}

/** A message with what it says. */
interface Read {
  readonly message: StreamMessage;
  readonly step: StreamStep;
  readonly identity: Identity;
  readonly items: readonly Decoded[];
  /** Those of its records that cannot be read, by their place in it. */
  readonly rejections: DeadLetter['rejections'];
}

export class JetStreamSource implements Source {
  readonly name = SOURCE;
  readonly #options: JetStreamSourceOptions;
  readonly #stream: string;
  readonly #stopping = new AbortController();
  #problem: string | undefined;
  #undivided = 0;
  #unread = 0;
  #isNew = false;
  #failures = 0;
  #isReading = false;
  /** The ledger did not take what was read last. */
  #isRefused = false;
  #hasToldOfLetters = false;
  #hasToldOfForgotten = false;
  #running: Promise<void> | undefined;

  constructor(options: JetStreamSourceOptions) {
    this.#options = options;
    this.#stream = streamNames(options.config).turns;
  }

  /** What keeps turns from being read, one line for people. */
  problem(): string | undefined {
    const problem = this.#options.link.problem() ?? this.#problem;
    if (problem !== undefined || this.#undivided === 0) return problem;
    return (
      `${this.#undivided} messages of the stream ${this.#stream} belong to no partition, so no bridge reads them. ` +
      `The mapping in nats-server.conf that divides them is missing; see: ${commandText('nats setup --print')}`
    );
  }

  /** Whether the ledger began empty, and does not yet hold what the stream held by then. */
  isFilling(): boolean {
    return this.#isNew;
  }

  /** @throws PermanentFailure when the ledger holds another partition */
  async start(): Promise<void> {
    if (this.#running) return;
    const { seq } = this.#options.ledger.openStream(this.#stream, partitionText(this.#options.config));
    this.#isNew = seq === 0;
    this.#options.link.onChange(() => this.#tellUp());
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#options.meter.up(SOURCE, false);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        const connection = await this.#options.link.connected(signal);
        await this.#read(connection);
      } catch (error) {
        if (signal.aborted) return;
        this.#note(error);
        // Reading anew is the way out of being out of step, and need not wait.
        const pauseMs =
          error instanceof OutOfStep ? RETRY_MIN_MS : Math.min(RETRY_MIN_MS * 2 ** this.#failures++, RETRY_MAX_MS);
        await delay(pauseMs * (0.5 + Math.random()), undefined, { signal }).catch(() => {});
      }
    }
  }

  #note(error: unknown): void {
    const { link, log } = this.#options;
    if (error instanceof OutOfStep) {
      log.info(
        { source: SOURCE },
        'deliveries were lost on their way; the stream is read again from where the ledger ends',
      );
      return;
    }
    this.#tellUp();
    // It has told of itself.
    if (link.problem()) return;
    const isOurs = error instanceof RetryableFailure || error instanceof PermanentFailure;
    let problem: string;
    if (error instanceof RetryableFailure) problem = `turns wait in the stream: ${error.message}`;
    else problem = isOurs ? error.message : streamTrouble(error, { stream: this.#stream });
    // Every try would say the same again.
    if (problem !== this.#problem) log.warn({ source: SOURCE, ...(isOurs ? {} : placeOf(error)) }, problem);
    this.#problem = problem;
  }

  /** Reads from where the ledger ends until something goes wrong. */
  async #read(connection: NatsLink['current'] & {}): Promise<void> {
    const { config, ledger, log } = this.#options;
    const { signal } = this.#stopping;
    const reader = await StreamReader.open({ connection, config, owner: ledger.id });
    const publisher = new StreamPublisher(connection, config);
    let position = ledger.openStream(this.#stream, partitionText(config));
    const { isSame, forgotten } = await reader.inspect(position);
    if (forgotten > 0) this.#tellOfForgotten(forgotten);
    if (!isSame) {
      log.warn(
        { source: SOURCE, stream: this.#stream },
        'the stream is not the one that was read (made anew, brought back, or cut short); it is read from its beginning, and what was booked is told by its key',
      );
      ledger.resetStream(this.#stream);
      position = ledger.openStream(this.#stream, partitionText(config));
    }
    this.#undivided = await reader.undivided();
    const watch = setInterval(() => {
      reader.undivided().then(
        (messages) => {
          this.#undivided = messages;
        },
        () => {},
      );
    }, WATCH_EVERY_MS);
    try {
      this.#unread = (await reader.attach(position.seq)).backlog;
      // A ledger that refused what is to be read next has to take it before all is well again.
      if (!this.#isRefused || this.#unread === 0) this.#recovered();
      let after = position.seq;
      for await (const messages of reader.batches(signal)) {
        const read: Read[] = [];
        for (const message of messages) {
          read.push(this.#decode(message, after));
          after = message.seq;
        }
        await this.#book(publisher, read);
        this.#unread -= read.length;
        this.#recovered();
      }
    } finally {
      clearInterval(watch);
      this.#isReading = false;
    }
  }

  #recovered(): void {
    if (this.#problem) this.#options.log.info({ source: SOURCE }, 'turns are read from the stream again');
    this.#problem = undefined;
    this.#failures = 0;
    this.#isRefused = false;
    this.#isReading = true;
    if (this.#unread <= 0) this.#isNew = false;
    this.#tellUp();
  }

  /** Once a process: until the next message is booked the position stays before them. */
  #tellOfForgotten(messages: number): void {
    if (this.#hasToldOfForgotten) return;
    this.#hasToldOfForgotten = true;
    const { log, meter } = this.#options;
    log.error(
      { source: SOURCE, stream: this.#stream, messages },
      'the stream let go of messages before they were read: this bridge was away for longer than the stream keeps them (nats.jetstream.max_age), or somebody deleted them. Their turns are not counted',
    );
    meter.lost(SOURCE, messages);
  }

  #tellUp(): void {
    this.#options.meter.up(SOURCE, this.#isReading && this.#options.link.current !== undefined);
  }

  #decode(message: StreamMessage, after: number): Read {
    const { seq, storedMs, data, subject } = message;
    const step = { stream: this.#stream, after, seq, storedMs };
    if (data.length > MESSAGE_MAX_BYTES) {
      const detail = `a message may hold ${MESSAGE_MAX_BYTES} bytes`;
      const decoded = [rejected({ reason: 'too_large', detail })];
      const rejections = rejectionsOf(decoded);
      return { message, step, identity: identityIn(subject) ?? {}, items: decoded, rejections };
    }
    const records = decodeBody(data);
    if (records.length === 0) records.push({ index: 0, decoded: EMPTY });
    const { decoded, identity } = guarded(
      subject,
      records.map((record) => record.decoded),
    );
    return { message, step, identity, items: decoded, rejections: rejectionsOf(decoded, records) };
  }

  /**
   * Books a batch in order, then acknowledges all of it. What cannot be read is noted in the dead letters first, because
   * the position moves past it.
   * @throws RetryableFailure when some of it was not booked; it is given back to the stream then
   */
  async #book(publisher: StreamPublisher, batch: readonly Read[]): Promise<void> {
    let canNote = true;
    for (const read of batch) {
      // A list that cannot be written to is not waited for once more for every message.
      if (canNote && read.rejections.length > 0) canNote = await this.#noteRejections(publisher, read);
    }
    try {
      // One after another: what is booked of a batch has no gap, and what waits for the ledger is never more than a group.
      for (const group of inGroups(batch)) await this.#bookGroup(publisher, group);
    } catch (reason) {
      const retryAfterS = reason instanceof RetryableFailure ? reason.retryAfterS : 1;
      for (const { message } of batch) message.nak(retryAfterS * 1000);
      this.#isRefused = true;
      throw reason;
    }
    batch.at(-1)?.message.ack();
  }

  /**
   * Books a group together. Where something in it cannot be booked it is halved until that stands alone, and is given up.
   * @throws RetryableFailure when the rest of it was not booked
   */
  async #bookGroup(publisher: StreamPublisher, group: readonly Read[]): Promise<void> {
    try {
      await this.#options.intake.acceptAll(SOURCE, group);
    } catch (reason) {
      if (!(reason instanceof PermanentFailure)) throw reason;
      if (group.length === 1) return this.#giveUp(publisher, group[0]!);
      const middle = Math.ceil(group.length / 2);
      await this.#bookGroup(publisher, group.slice(0, middle));
      await this.#bookGroup(publisher, group.slice(middle));
    }
  }

  /** Counts a message that the ledger can never book, and moves past it. */
  async #giveUp(publisher: StreamPublisher, read: Read): Promise<void> {
    await this.#noteRejections(publisher, { ...read, rejections: rejectionsOf([UNBOOKABLE]) });
    await this.#options.intake.accept(SOURCE, [UNBOOKABLE], {}, read.step);
  }

  /** @returns whether it could be noted */
  async #noteRejections(publisher: StreamPublisher, { message, identity, rejections }: Read): Promise<boolean> {
    const { seq, data } = message;
    try {
      // Not the subject itself: anybody may have written anything into it.
      await publisher.deadLetter({ stream: this.#stream, seq, identity, bytes: data.length, rejections });
      return true;
    } catch (error) {
      if (this.#options.link.current === undefined) throw error;
      // It is counted all the same, and stays in the stream: a missing list of mistakes must not hold up the turns.
      if (!this.#hasToldOfLetters) {
        const why = streamTrouble(error, { stream: streamNames(this.#options.config).deadLetters });
        this.#options.log.warn({ source: SOURCE }, `messages that could not be read are counted but not noted: ${why}`);
      }
      this.#hasToldOfLetters = true;
      return false;
    }
  }
}

/** Messages in groups that are booked together, each short enough not to hold the event loop. */
function inGroups(batch: readonly Read[]): Read[][] {
  const groups: Read[][] = [];
  let room = 0;
  for (const read of batch) {
    const group = groups.at(-1);
    room -= read.items.length;
    if (group && room >= 0) group.push(read);
    else {
      groups.push([read]);
      room = GROUP_MAX_ITEMS - read.items.length;
    }
  }
  return groups;
}

const NONE: DeadLetter['rejections'] = [];

/** @param records where what was decoded stood in its message, where that is not at its beginning */
function rejectionsOf(
  decoded: readonly Decoded[],
  records: readonly { readonly index: number }[] = [],
): DeadLetter['rejections'] {
  if (!decoded.some(({ type }) => type === 'rejected')) return NONE;
  const rejections = decoded.flatMap((item, at) =>
    item.type === 'rejected' ? [{ index: records[at]?.index ?? 0, reason: item.reason, detail: item.detail }] : [],
  );
  return rejections.slice(0, REJECTIONS_NOTED);
}
