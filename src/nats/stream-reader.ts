// Reads the turns of one partition in the order of the stream, from where a ledger ends. What a consumer on the server
// remembers is a convenience: where it differs from the ledger, it is replaced.

import type { Consumer, ConsumerInfo, JetStreamManager, JsMsg } from '@nats-io/jetstream';
import { JetStreamError, jetstream } from '@nats-io/jetstream';
import type { NatsConnection } from 'nats';
import { commandText } from '../command-text.ts';
import type { NatsConfig } from '../config.ts';
import { PermanentFailure, RetryableFailure } from '../failure.ts';
import type { StreamPosition } from '../ledger/stream-positions.ts';
import { consumerConfig, consumerName, managerOf, streamNames } from './streams.ts';
import { TURNS } from './subjects.ts';
import { isConsumerMissing } from './trouble.ts';

/** What one pull may bring. It must be larger than any message, or that message could never be had. */
const PULL_MAX_BYTES = 16 * 1024 * 1024;
const PULL_EXPIRES_MS = 5000;
/**
 * The messages of one pull: what the client library asks for where bytes are bounded. It waits in vain for more, so a
 * pull that has brought as many is ended.
 */
const PULL_MESSAGES = 100;
/** As many are handed on together while more are stored: each batch is a commit. Far below what may be unacknowledged. */
const BATCH_MESSAGES = 1000;
/** What more there is comes at once, or not at all. */
const MORE_EXPIRES_MS = 1000;

export class StreamMessage {
  readonly subject: string;
  readonly data: Buffer;
  readonly seq: number;
  /** When the stream took it in, Unix ms. */
  readonly storedMs: number;
  readonly #delivered: JsMsg;

  constructor(delivered: JsMsg) {
    const { subject, data, seq, time } = delivered;
    this.subject = subject;
    this.data = Buffer.isBuffer(data) ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    this.seq = seq;
    this.storedMs = time.getTime();
    this.#delivered = delivered;
  }

  /** Says that it and all before it are booked. */
  ack(): void {
    this.#delivered.ack();
  }

  /** Gives it back, to be delivered again after so long. */
  nak(afterMs: number): void {
    this.#delivered.nak(afterMs);
  }
}

/** Deliveries were lost on their way, or somebody else took some: reading must begin anew where the ledger ends. */
export class OutOfStep extends RetryableFailure {}

export interface StreamReaderOptions {
  readonly connection: NatsConnection;
  readonly config: NatsConfig;
  /** Names the ledger that is filled, so that two ledgers never share what one must have. */
  readonly owner: string;
}

export class StreamReader {
  readonly #options: StreamReaderOptions;
  readonly #manager: JetStreamManager;
  readonly #stream: string;
  #standing: { readonly info: ConsumerInfo; readonly afterSeq: number } | undefined;

  private constructor(options: StreamReaderOptions, manager: JetStreamManager) {
    this.#options = options;
    this.#manager = manager;
    this.#stream = streamNames(options.config).turns;
  }

  static async open(options: StreamReaderOptions): Promise<StreamReader> {
    return new StreamReader(options, await managerOf(options.connection));
  }

  /**
   * Compares a position with the stream. It does not hold there what was booked after it was made anew, or brought back
   * from a copy, or lost its end with its machine; its numbers then stand for other messages.
   * @returns whether it still is the stream that was read, and how many messages it forgot before they were read, where
   *   that can be told: of several partitions nobody knows whose they were
   */
  async inspect({ seq, storedMs }: StreamPosition): Promise<{ readonly isSame: boolean; readonly forgotten: number }> {
    if (seq === 0) return { isSame: true, forgotten: 0 };
    const { state } = await this.#manager.streams.info(this.#stream);
    if (seq > state.last_seq) return { isSame: false, forgotten: 0 };
    const message = seq < state.first_seq ? null : await this.#manager.streams.getMessage(this.#stream, { seq });
    // One that is no longer kept proves nothing, and is the usual case in a stream that forgets by age.
    // The library rounds the time of a delivered message otherwise than that of one that was asked for.
    const isSame = message === null || Math.abs(message.time.getTime() - storedMs) <= 1;
    const isWhole = this.#options.config.partition.of === 1;
    return { isSame, forgotten: isSame && isWhole ? Math.max(0, state.first_seq - 1 - seq) : 0 };
  }

  /** Messages that no partition reads, because the server does not divide them. */
  async undivided(): Promise<number> {
    const { partition } = this.#options.config;
    if (partition.of === 1) return 0;
    const { state } = await this.#manager.streams.info(this.#stream, { subjects_filter: `${TURNS}.*.*` });
    return Object.values(state.subjects ?? {}).reduce((sum, messages) => sum + messages, 0);
  }

  /** Messages that are stored and not yet delivered. */
  async pending(): Promise<number> {
    const { num_pending } = await this.#manager.consumers.info(this.#stream, consumerName(this.#options.config));
    return num_pending;
  }

  /**
   * Stands after `afterSeq`, so that `batches` begins with the message that follows.
   * @returns how many follow already
   * @throws PermanentFailure when another ledger reads under this name
   */
  async attach(afterSeq: number): Promise<{ readonly backlog: number }> {
    const info = await this.#consumerAfter(afterSeq);
    this.#standing = { info, afterSeq };
    return { backlog: info.num_pending };
  }

  /**
   * The messages from there on, in order and without a gap, as they come; each batch waits until the one before was
   * dealt with. Ends when `signal` aborts.
   * @throws OutOfStep when a gap is seen
   */
  async *batches(signal: AbortSignal): AsyncGenerator<StreamMessage[]> {
    const { connection } = this.#options;
    if (!this.#standing) throw new Error('attach first');
    const { info, afterSeq } = this.#standing;
    const consumer = await jetstream(connection).consumers.get(this.#stream, info.name);
    // A message larger than what a pull may bring would block the consumer for good.
    const maxBytes = Math.max(PULL_MAX_BYTES, 2 * (connection.info?.max_payload ?? 0));
    let deliveries = info.delivered.consumer_seq;
    let lastSeq = afterSeq;
    let gathered: StreamMessage[] = [];
    let bytes = 0;
    while (!signal.aborted) {
      let isMoreStored = false;
      const expiresMs = gathered.length > 0 ? MORE_EXPIRES_MS : PULL_EXPIRES_MS;
      for await (const batch of pull(consumer, { maxBytes, expiresMs, signal })) {
        for (const message of batch) {
          deliveries += 1;
          if (message.info.deliverySequence !== deliveries) throw new OutOfStep('deliveries of the stream were lost');
          // Somebody gave back what they never had: it comes before its turn, and what lies between would be taken for known.
          if (message.seq > lastSeq && message.redelivered) throw new OutOfStep('a message of the stream came early');
          // Delivered again: its acknowledgement came late or was lost, or somebody gave it back. To acknowledge it is to
          // acknowledge all before it, and what is gathered is not booked yet; that answer will be one for this as well.
          if (message.seq > lastSeq) gathered.push(new StreamMessage(message));
          else if (gathered.length === 0) message.ack();
          bytes += message.data.length;
          lastSeq = Math.max(lastSeq, message.seq);
          isMoreStored = message.info.pending > 0;
        }
        if (isMoreStored && gathered.length < BATCH_MESSAGES && bytes < PULL_MAX_BYTES) continue;
        if (gathered.length > 0) yield gathered;
        [gathered, bytes] = [[], 0];
      }
      // The pull brought nothing, so what was said to be stored does not come.
      if (!isMoreStored && gathered.length > 0) {
        yield gathered;
        [gathered, bytes] = [[], 0];
      }
    }
    if (gathered.length > 0) yield gathered;
  }

  /** The consumer, standing exactly after `afterSeq`: as it is, or made anew. */
  async #consumerAfter(afterSeq: number): Promise<ConsumerInfo> {
    const { config, owner } = this.#options;
    const name = consumerName(config);
    const wanted = consumerConfig(config, { afterSeq, owner });
    const known = await this.#manager.consumers.info(this.#stream, name).catch((error) => {
      if (isConsumerMissing(error)) return undefined;
      throw error;
    });
    if (known) {
      const of = known.config.description ?? '';
      if (of !== '' && of !== owner && known.num_waiting > 0) {
        throw new PermanentFailure(
          `another bridge, with another ledger, reads as replica "${config.replica}" of partition ${config.partition.k}/${config.partition.of}: ` +
            'each would have half of the turns. Give each bridge a nats.replica of its own, then see ' +
            `${commandText('doctor')}`,
        );
      }
      const stands = known.num_ack_pending === 0 && known.delivered.stream_seq === afterSeq;
      const { filter_subject, ack_policy } = known.config;
      const isAsWanted = filter_subject === wanted.filter_subject && ack_policy === wanted.ack_policy;
      if (of === owner && stands && isAsWanted) return known;
      await this.#manager.consumers.delete(this.#stream, name);
    }
    return this.#manager.consumers.add(this.#stream, wanted);
  }
}

/** What one pull brings, in batches of what has come. Ends when the pull is used up, or `signal` aborts. */
async function* pull(
  consumer: Consumer,
  {
    maxBytes,
    expiresMs,
    signal,
  }: { readonly maxBytes: number; readonly expiresMs: number; readonly signal: AbortSignal },
): AsyncGenerator<JsMsg[]> {
  const pulled = await consumer.fetch({ max_bytes: maxBytes, expires: expiresMs });
  const stop = () => pulled.stop();
  signal.addEventListener('abort', stop);
  // It may have aborted while the pull was sent off.
  if (signal.aborted) stop();
  let batch: JsMsg[] = [];
  let received = 0;
  try {
    for await (const message of pulled) {
      batch.push(message);
      received += 1;
      if (received === PULL_MESSAGES) break;
      if (pulled.getPending() > 0) continue;
      yield batch;
      batch = [];
    }
  } catch (error) {
    // The next message did not fit into what was left of this pull; it comes with the next one.
    if (!isPullFull(error)) throw error;
  } finally {
    signal.removeEventListener('abort', stop);
    pulled.stop();
  }
  if (batch.length > 0) yield batch;
}

function isPullFull(error: unknown): boolean {
  return error instanceof JetStreamError && /exceeds maxbytes/i.test(error.message);
}
