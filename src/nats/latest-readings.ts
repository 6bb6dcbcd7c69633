// The newest reading of every account: those that anybody reported, by subject, and those that a bridge polled itself, in
// a bucket. Whoever begins to follow has the last one of each at once.

import { DeliverPolicy, jetstream } from '@nats-io/jetstream';
import type { NatsConnection } from 'nats';
import type { NatsConfig } from '../config-nats.ts';
import { StreamPublisher } from './publisher.ts';
import { streamNames } from './streams.ts';

export interface LatestReading {
  readonly subject: string;
  readonly data: Uint8Array;
  /** When the stream took it in, Unix ms. */
  readonly storedMs: number;
}

type Take = (reading: LatestReading) => Promise<void>;

/** Hands over the last report of each account and then every new one. Ends when `signal` aborts. */
export async function followReported(
  connection: NatsConnection,
  { config, signal, take }: { config: NatsConfig; signal: AbortSignal; take: Take },
): Promise<void> {
  const consumer = await jetstream(connection).consumers.get(streamNames(config).polls, {
    deliver_policy: DeliverPolicy.LastPerSubject,
  });
  const messages = await consumer.consume({ max_messages: 20, abort_on_missing_resource: true });
  const stop = () => messages.stop();
  signal.addEventListener('abort', stop);
  try {
    for await (const { subject, data, time } of messages) await take({ subject, data, storedMs: time.getTime() });
  } finally {
    signal.removeEventListener('abort', stop);
    messages.stop();
  }
}

/** The same for what a bridge polled itself. */
export async function followPolled(
  connection: NatsConnection,
  { config, signal, take }: { config: NatsConfig; signal: AbortSignal; take: Take },
): Promise<void> {
  const bucket = await new StreamPublisher(connection, config).accounts();
  const entries = await bucket.watch({ ignoreDeletes: true });
  const stop = () => entries.stop();
  signal.addEventListener('abort', stop);
  try {
    for await (const { key, value, created } of entries) {
      await take({ subject: key, data: value, storedMs: created.getTime() });
    }
  } finally {
    signal.removeEventListener('abort', stop);
    entries.stop();
  }
}
