// Publishes to the streams. A message is published when the stream has said so, and not before.

import { createHash } from 'node:crypto';
import { JetStreamApiError, type JetStreamClient, jetstream } from '@nats-io/jetstream';
import { type KV, Kvm } from '@nats-io/kv';
import { errors, type NatsConnection } from 'nats';
import type { NatsConfig } from '../config.ts';
import { ofBoundProject } from '../turn/attribution.ts';
import type { Bookable } from '../turn/decoded.ts';
import { encodeRecord } from '../turn/encode-record.ts';
import type { Identity } from '../turn/turn-event.ts';
import { managerOf, streamNames } from './streams.ts';
import { DEAD_LETTERS, pollSubject, turnSubject } from './subjects.ts';

/** How long a publisher waits for a stream: a cluster elects a leader well within it. */
const PUBLISH_TIMEOUT_MS = 5000;
const DIGEST_BYTES = 16;
/** The server's code for a message that is larger than its stream's `max_msg_size`. */
const MESSAGE_EXCEEDS_MAXIMUM = 10_054;

/** A message as it is published. */
export interface Outgoing {
  readonly subject: string;
  /** The same event said once more has the same id, and one that says more has another. */
  readonly id: string;
  readonly body: string;
}

export interface DeadLetter {
  readonly stream: string;
  readonly seq: number;
  /** Whose turns it was published as. */
  readonly identity: Identity;
  readonly bytes: number;
  /** Which of its records were refused, and why; never what they hold. */
  readonly rejections: readonly { readonly index: number; readonly reason: string; readonly detail: string }[];
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest().subarray(0, DIGEST_BYTES).toString('base64url');
}

/** What the ledger tells one event from another by. */
function keyOf(item: Bookable): string {
  if (item.type === 'poll') return JSON.stringify(['poll', item.poll.snapshot.provider, item.poll.snapshot.account]);
  const { event } = item;
  switch (event.kind) {
    case 'turn':
      return JSON.stringify(['turn', event.agent, event.sessionId, event.messageId]);
    case 'tool':
      return JSON.stringify(['tool', event.agent, event.sessionId, event.callId]);
    case 'permission':
      return JSON.stringify(['permission', event.agent, event.sessionId, event.requestId]);
    case 'error':
      return JSON.stringify(['error', event.agent, event.sessionId, event.attemptId]);
    case 'session':
      return JSON.stringify(['session', event.agent, event.sessionId]);
  }
}

/**
 * The message that brings an event to a bridge. Its body is written from the normal form, never from a payload.
 * @param hasProject whether the project's name may leave this machine
 */
export function outgoing(item: Bookable, identity: Identity, { hasProject = true } = {}): Outgoing {
  // A subject names team and user; a bound project has no place in it, so it goes into the body.
  const bound: Bookable = item.type === 'event' ? { ...item, event: ofBoundProject(item.event, identity) } : item;
  const body = JSON.stringify({ ...encodeRecord(bound), ...(!hasProject && { project: undefined }) });
  return {
    subject: item.type === 'poll' ? pollSubject(item.poll.snapshot) : turnSubject(identity),
    // Never the key alone: the stream would swallow the turn's last description as a copy of its first.
    id: `${digest(keyOf(item))}.${digest(body)}`,
    body,
  };
}

export class StreamPublisher {
  readonly #client: JetStreamClient;
  readonly #config: NatsConfig;
  readonly #connection: NatsConnection;
  #accounts: Promise<KV> | undefined;

  constructor(connection: NatsConnection, config: NatsConfig) {
    this.#connection = connection;
    this.#client = jetstream(connection, { timeout: PUBLISH_TIMEOUT_MS });
    this.#config = config;
  }

  /** Resolves when the stream has it. @throws what the server answered, or a timeout: then it may have it all the same */
  async publish({ subject, id, body }: Outgoing): Promise<void> {
    // Once: whoever keeps the message knows better when to try again, and for how long.
    await this.#client.publish(subject, body, { msgID: id, timeout: PUBLISH_TIMEOUT_MS, retries: 1 });
  }

  /** Notes a message that could not be read. It stays in its stream for as long as that keeps it. */
  async deadLetter({ stream, seq, identity, ...rest }: DeadLetter): Promise<void> {
    const body = JSON.stringify({ v: 1, stream, seq, ...identity, ...rest });
    await this.#client.publish(`${DEAD_LETTERS}.${stream}`, body, { msgID: `${stream}:${seq}` });
  }

  /** Makes `body` the newest reading of an account. */
  async putAccount({ provider, account }: { provider: string; account: string }, body: string): Promise<void> {
    const bucket = await this.accounts();
    await bucket.put(pollSubject({ provider, account }), body);
  }

  /** The bucket of the newest readings. @throws what the server answered when there is none */
  accounts(): Promise<KV> {
    this.#accounts ??= this.#openAccounts().catch((error) => {
      this.#accounts = undefined;
      throw error;
    });
    return this.#accounts;
  }

  async #openAccounts(): Promise<KV> {
    const { accounts } = streamNames(this.#config);
    // Opening one that is not there would succeed, and fail with every use.
    await (await managerOf(this.#connection)).streams.info(`KV_${accounts}`);
    return new Kvm(this.#client).open(accounts);
  }
}

/** Whether a message is refused for what it is, so that publishing it again cannot help. */
export function isUnpublishable(error: unknown): boolean {
  if (error instanceof JetStreamApiError) return error.code === MESSAGE_EXCEEDS_MAXIMUM;
  return error instanceof errors.InvalidArgumentError && /payload/i.test(error.message);
}
