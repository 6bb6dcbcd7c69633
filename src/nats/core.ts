// Subscriptions to plain NATS.

import type { NatsConnection } from 'nats';
import { isInbox } from './subjects.ts';
import { streamTrouble } from './trouble.ts';

export interface Heard {
  readonly subject: string;
  readonly data: Uint8Array;
  /** Answers a sender that asked; says nothing to one that did not. */
  respond(text: string): void;
}

export interface HearingOptions {
  readonly subjects: readonly string[];
  readonly queue: string;
  readonly signal: AbortSignal;
  readonly take: (heard: Heard) => void;
}

/**
 * Hands over every message of some subjects, of several bridges with the same queue to one each. Resolves when that ends: with what
 * is wrong, or with undefined after `signal` aborts or the connection was closed.
 */
export async function hear(
  connection: NatsConnection,
  { subjects, queue, signal, take }: HearingOptions,
): Promise<string | undefined> {
  let problem: string | undefined;
  const subscriptions = subjects.map((each) => {
    const subscription = connection.subscribe(each, {
      queue,
      callback: (error, message) => {
        if (error) {
          problem ??= streamTrouble(error, { stream: '' });
          for (const one of subscriptions) one.unsubscribe();
          return;
        }
        const { subject, data, reply } = message;
        take({ subject, data, respond: (text) => void (reply && isInbox(reply) && message.respond(text)) });
      },
    });
    return subscription;
  });
  const stop = () => {
    for (const subscription of subscriptions) subscription.drain().catch(() => {});
  };
  signal.addEventListener('abort', stop);
  try {
    await Promise.all(subscriptions.map(({ closed }) => closed));
  } catch (error) {
    problem ??= streamTrouble(error, { stream: '' });
  } finally {
    signal.removeEventListener('abort', stop);
  }
  return problem;
}
