// The subscription to plain NATS.

import type { NatsConnection } from 'nats';
import { POLLS, TURNS } from './subjects.ts';
import { streamTrouble } from './trouble.ts';

export interface Heard {
  readonly subject: string;
  readonly data: Uint8Array;
  /** Answers a sender that asked; says nothing to one that did not. */
  respond(text: string): void;
}

/**
 * Hands over every message of turns and readings, one of several bridges with the same queue each. Resolves when that ends: with what
 * is wrong, or with undefined after `signal` aborts or the connection was closed.
 */
export async function hear(
  connection: NatsConnection,
  { queue, signal, take }: { queue: string; signal: AbortSignal; take: (heard: Heard) => void },
): Promise<string | undefined> {
  let problem: string | undefined;
  const subscriptions = [TURNS, POLLS].map((subjects) => {
    const subscription = connection.subscribe(`${subjects}.>`, {
      queue,
      callback: (error, message) => {
        if (error) {
          problem ??= streamTrouble(error, { stream: '' });
          for (const each of subscriptions) each.unsubscribe();
          return;
        }
        const { subject, data } = message;
        take({ subject, data, respond: (text) => void (message.reply && message.respond(text)) });
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
