// The subscription to plain NATS.

import type { NatsConnection } from 'nats';
import { TURNS } from './subjects.ts';
import { streamTrouble } from './trouble.ts';

export interface Heard {
  readonly subject: string;
  readonly data: Uint8Array;
  /** Answers a sender that asked; says nothing to one that did not. */
  respond(text: string): void;
}

/**
 * Hands over every message of turns, one of several bridges with the same queue each. Resolves when that ends: with what
 * is wrong, or with undefined after `signal` aborts or the connection was closed.
 */
export async function hear(
  connection: NatsConnection,
  { queue, signal, take }: { queue: string; signal: AbortSignal; take: (heard: Heard) => void },
): Promise<string | undefined> {
  let problem: string | undefined;
  const subscription = connection.subscribe(`${TURNS}.>`, {
    queue,
    callback: (error, message) => {
      if (error) {
        problem = streamTrouble(error, { stream: '' });
        subscription.unsubscribe();
        return;
      }
      const { subject, data } = message;
      take({ subject, data, respond: (text) => void (message.reply && message.respond(text)) });
    },
  });
  const stop = () => void subscription.drain().catch(() => {});
  signal.addEventListener('abort', stop);
  try {
    await subscription.closed;
  } catch (error) {
    problem ??= streamTrouble(error, { stream: '' });
  } finally {
    signal.removeEventListener('abort', stop);
  }
  return problem;
}
