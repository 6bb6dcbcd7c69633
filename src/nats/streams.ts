// The streams that Tollbridge uses, as data, and what makes them. A bridge only looks for them: what is kept for how long
// is the operator's to say, so they are made by `nats setup` and not behind anybody's back.

import {
  AckPolicy,
  DeliverPolicy,
  DiscardPolicy,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamUpdateConfig,
} from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { type NatsConnection, nanos } from 'nats';
import type { NatsConfig } from '../config.ts';
import { DEAD_LETTERS, POLLS, TURNS, turnFilter } from './subjects.ts';
import { isConsumerMissing, isStreamMissing } from './trouble.ts';

const DAY_MS = 86_400_000;
const API_TIMEOUT_MS = 5000;
/** Longer than any commit takes; a message that is not acknowledged by then is delivered again, which harms nothing. */
export const ACK_WAIT_MS = 30_000;
/** The messages that a bridge may hold unacknowledged. What it holds in bytes is bounded by how it pulls. */
const ACK_PENDING_MAX = 5000;
/** The server drops a message published twice within it; the ledger tells later ones. */
const DUPLICATE_WINDOW_MS = 120_000;
/** A consumer that nobody read from for so long is let go of: its bridge has another name now, or makes it anew. */
const CONSUMER_KEPT_MS = 7 * DAY_MS;
const POLLS_KEPT_MS = DAY_MS;
const DEAD_LETTERS_KEPT_MS = 30 * DAY_MS;
const DEAD_LETTERS_MAX_BYTES = 256 * 1024 * 1024;

export interface StreamNames {
  /** The turns of everybody. */
  readonly turns: string;
  /** The newest reading of each account that anybody reported. */
  readonly polls: string;
  /** Which messages could not be read, and why. */
  readonly deadLetters: string;
  /** The bucket with the newest reading of each account that a bridge polled itself. */
  readonly accounts: string;
  /** The bucket in which bridges tell where budgets stand. */
  readonly budgets: string;
}

export function streamNames({ jetstream: { stream } }: Pick<NatsConfig, 'jetstream'>): StreamNames {
  return {
    ...{ turns: stream, polls: `${stream}_POLLS`, deadLetters: `${stream}_DLQ` },
    accounts: `${stream.toLowerCase()}_accounts`,
    budgets: `${stream.toLowerCase()}_budgets`,
  };
}

/** The consumer of one bridge: each reads for itself, with a ledger of its own. */
export function consumerName({ replica, partition }: Pick<NatsConfig, 'replica' | 'partition'>): string {
  return `tollbridge_${replica}_${partition.k}_of_${partition.of}`;
}

/** Does not ask whether JetStream is there: whatever is asked next will say so. */
export function managerOf(connection: NatsConnection): Promise<JetStreamManager> {
  return jetstreamManager(connection, { checkAPI: false, timeout: API_TIMEOUT_MS });
}

type Wanted = Partial<StreamConfig> & { readonly name: string; readonly subjects: string[] };

function wantedStreams(config: NatsConfig): Wanted[] {
  const { turns, polls, deadLetters } = streamNames(config);
  const { replicas, max_age = 0 } = config.jetstream;
  const common = { storage: StorageType.File, retention: RetentionPolicy.Limits, num_replicas: replicas };
  return [
    {
      ...common,
      name: turns,
      description: 'Tollbridge: the turns of coding agents',
      subjects: [`${TURNS}.*.*`, `${TURNS}.*.*.*`],
      max_age: nanos(max_age),
      duplicate_window: nanos(DUPLICATE_WINDOW_MS),
      // A full stream tells its publishers, who keep what they have; the other way it would forget the oldest in silence.
      discard: DiscardPolicy.New,
    },
    {
      ...common,
      name: polls,
      description: 'Tollbridge: the newest reading of each account',
      subjects: [`${POLLS}.*.*`],
      max_msgs_per_subject: 1,
      max_age: nanos(POLLS_KEPT_MS),
      discard: DiscardPolicy.Old,
    },
    {
      ...common,
      name: deadLetters,
      description: 'Tollbridge: messages that could not be read, and why',
      subjects: [`${DEAD_LETTERS}.>`],
      max_age: nanos(DEAD_LETTERS_KEPT_MS),
      max_bytes: DEAD_LETTERS_MAX_BYTES,
      discard: DiscardPolicy.Old,
    },
  ];
}

/** The settings of a consumer that begins after `seq`. */
export function consumerConfig(config: NatsConfig, { afterSeq, owner }: { afterSeq: number; owner: string }) {
  return {
    durable_name: consumerName(config),
    description: owner,
    // One answer for a whole batch. After a crash it would pass over what was delivered and never booked, were it believed:
    // where a bridge goes on is said by its ledger alone.
    ack_policy: AckPolicy.All,
    ack_wait: nanos(ACK_WAIT_MS),
    max_deliver: -1,
    max_ack_pending: ACK_PENDING_MAX,
    inactive_threshold: nanos(CONSUMER_KEPT_MS),
    filter_subject: turnFilter(config.partition),
    ...(afterSeq > 0
      ? { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: afterSeq + 1 }
      : { deliver_policy: DeliverPolicy.All }),
  };
}

export interface SetUpStep {
  /** Such as `stream TOLL`. */
  readonly what: string;
  readonly did: 'made' | 'changed' | 'unchanged';
  /** What was changed, or what it holds, for people. */
  readonly detail?: string;
}

/**
 * Makes what is missing and changes what differs; what is right is left alone, and nothing is ever deleted.
 * @throws what the server answered; see streamTrouble
 */
export async function setUpStreams(connection: NatsConnection, config: NatsConfig): Promise<SetUpStep[]> {
  const manager = await managerOf(connection);
  const steps: SetUpStep[] = [];
  for (const wanted of wantedStreams(config)) steps.push(await setUpStream(manager, wanted));
  const { accounts, budgets } = streamNames(config);
  const buckets = [
    { name: accounts, description: 'Tollbridge: the newest reading of each polled account' },
    { name: budgets, description: 'Tollbridge: where budgets stand, and the rules for relays' },
  ];
  for (const bucket of buckets) steps.push(await setUpBucket(connection, manager, { ...bucket, config }));
  steps.push(await setUpConsumer(manager, config));
  return steps;
}

async function setUpStream(manager: JetStreamManager, wanted: Wanted): Promise<SetUpStep> {
  const what = `stream ${wanted.name}`;
  try {
    const { config, state } = await manager.streams.info(wanted.name);
    const stated = config as unknown as Record<string, unknown>;
    const differing = Object.entries(wanted).filter(
      ([key, value]) => key !== 'storage' && JSON.stringify(stated[key]) !== JSON.stringify(value),
    );
    const detail = `${state.messages.toLocaleString('en')} messages`;
    if (differing.length === 0) return { what, did: 'unchanged', detail };
    await manager.streams.update(wanted.name, Object.fromEntries(differing) as Partial<StreamUpdateConfig>);
    return { what, did: 'changed', detail: differing.map(([key]) => key).join(', ') };
  } catch (error) {
    if (!isStreamMissing(error)) throw error;
  }
  await manager.streams.add(wanted);
  return { what, did: 'made', detail: wanted.subjects.join(', ') };
}

async function setUpBucket(
  connection: NatsConnection,
  manager: JetStreamManager,
  { name, description, config }: { name: string; description: string; config: NatsConfig },
): Promise<SetUpStep> {
  const what = `bucket ${name}`;
  try {
    await manager.streams.info(`KV_${name}`);
    return { what, did: 'unchanged' };
  } catch (error) {
    if (!isStreamMissing(error)) throw error;
  }
  await new Kvm(jetstream(connection)).create(name, {
    ...{ description, history: 1, replicas: config.jetstream.replicas, storage: StorageType.File },
  });
  return { what, did: 'made' };
}

async function setUpConsumer(manager: JetStreamManager, config: NatsConfig): Promise<SetUpStep> {
  const { turns } = streamNames(config);
  const name = consumerName(config);
  const what = `consumer ${name}`;
  try {
    const { num_pending } = await manager.consumers.info(turns, name);
    return { what, did: 'unchanged', detail: `${num_pending.toLocaleString('en')} messages to read` };
  } catch (error) {
    if (!isConsumerMissing(error)) throw error;
  }
  await manager.consumers.add(turns, consumerConfig(config, { afterSeq: 0, owner: '' }));
  return { what, did: 'made', detail: turnFilter(config.partition) };
}
