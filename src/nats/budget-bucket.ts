// The bucket in which bridges tell each other, and relays, where budgets stand. Every bridge has a key of its own for what
// its ledger holds; the two for relays any bridge may write.
//
//   spent.<k>_of_<N>.<replica>.<ledger>   what one ledger holds of each budget
//   policy                                the rules
//   standings                             what all partitions together have spent

import { setTimeout as delay } from 'node:timers/promises';
import { type JetStreamClient, jetstream } from '@nats-io/jetstream';
import { type KV, Kvm } from '@nats-io/kv';
import type { NatsConnection } from 'nats';
import type { NatsConfig } from '../config.ts';
import type { Log } from '../log.ts';
import type { NatsLink } from './connection.ts';
import { managerOf, streamNames } from './streams.ts';
import { streamTrouble } from './trouble.ts';

export const POLICY_KEY = 'policy';
export const STANDINGS_KEY = 'standings';
/** What a relay reads. It has the right to these and no other. */
export const RELAY_KEYS = [POLICY_KEY, STANDINGS_KEY] as const;
const FOLLOWING = Symbol('following');
const FIGURES_KEY = /^spent\.([1-9]\d{0,3})_of_([1-9]\d{0,3})\.([A-Za-z0-9_-]+)(?:\.([a-z0-9]+))?$/;
const API_TIMEOUT_MS = 5000;
const RETRY_MS = 2000;
/** How often it is looked whether the bucket is still the one that is followed: nothing tells of one that is made anew. */
const LOOK_EVERY_MS = 10_000;
/** How long a stop waits for what was to be written last. */
const STOP_GRACE_MS = 1000;

/** Whose figures a key holds. */
export interface FiguresOf {
  readonly k: number;
  readonly of: number;
  readonly replica: string;
  /** Absent in keys that earlier versions wrote. */
  readonly ledger: string | undefined;
}

/** The key of what one ledger holds. A new ledger of the same bridge may know less, so it has a key of its own. */
export function figuresKey(
  { replica, partition: { k, of } }: Pick<NatsConfig, 'replica' | 'partition'>,
  ledger: string,
): string {
  return `spent.${k}_of_${of}.${replica}.${ledger}`;
}

/** Whose figures are under a key; undefined when it is another kind of key. */
export function figuresOwner(key: string): FiguresOf | undefined {
  const [, k, of, replica, ledger] = FIGURES_KEY.exec(key) ?? [];
  if (replica === undefined || Number(k) > Number(of)) return undefined;
  return { k: Number(k), of: Number(of), replica, ledger };
}

export interface BudgetBucketOptions {
  readonly link: NatsLink;
  readonly config: NatsConfig;
  /** Called for every key, and again whenever it changes; `text` is undefined when it was deleted. */
  readonly take: (key: string, text: string | undefined) => void;
  /** Called when all that the bucket held has been handed over, with its keys, each time that following begins. */
  readonly onCaughtUp: (keys: ReadonlySet<string>) => void;
  readonly log: Log;
}

export class BudgetBucket {
  readonly #options: BudgetBucketOptions;
  readonly #stopping = new AbortController();
  /** By key: what waits to be written. A later text takes the place of an earlier one. */
  readonly #waiting = new Map<string, string>();
  #bucket: { readonly connection: NatsConnection; readonly kv: Promise<KV> } | undefined;
  /** What keeps it from being followed, and by key what keeps that from being written. */
  readonly #problems = new Map<string | typeof FOLLOWING, string>();
  /** Makes the following begin anew. */
  #broken = new AbortController();
  #following: Promise<void> | undefined;
  #writing: Promise<void> | undefined;

  constructor(options: BudgetBucketOptions) {
    this.#options = options;
  }

  /** What keeps it from being read or written, one line for people. */
  problem(): string | undefined {
    return this.#options.link.problem() ?? this.#problems.get(FOLLOWING) ?? [...this.#problems.values()][0];
  }

  start(): void {
    if (this.#following) return;
    this.#options.link.onChange(() => {
      // What a server that was away remembers of a follower is noticed late, or never.
      if (!this.#options.link.current) this.#broken.abort();
      this.#write();
    });
    this.#following = this.#follow();
  }

  /** Writes a key as soon as it can, unless something newer is to be written by then. */
  put(key: string, text: string): void {
    this.#waiting.set(key, text);
    this.#write();
  }

  /** Ends after what waits is written, or a moment later. Idempotent. */
  async stop(): Promise<void> {
    const end = delay(STOP_GRACE_MS, undefined, { ref: false });
    await Promise.race([this.#writing, end]);
    this.#stopping.abort();
    this.#broken.abort();
    await Promise.race([Promise.all([this.#following, this.#writing]), end]);
  }

  async #follow(): Promise<void> {
    const { link } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        const connection = await link.connected(signal);
        this.#broken = new AbortController();
        await this.#handOver(connection, AbortSignal.any([signal, this.#broken.signal]));
      } catch (error) {
        this.#note(FOLLOWING, error);
      }
      await delay(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Hands over what the bucket holds and then every change. Ends when `signal` aborts. */
  async #handOver(connection: NatsConnection, signal: AbortSignal): Promise<void> {
    const { take, onCaughtUp } = this.#options;
    const kv = await this.#open(connection);
    const { values, streamInfo } = await kv.status();
    const entries = await kv.watch();
    const stop = () => entries.stop();
    signal.addEventListener('abort', stop);
    const looking = setInterval(() => this.#look(kv, streamInfo.created), LOOK_EVERY_MS);
    try {
      this.#problems.delete(FOLLOWING);
      const keys = new Set<string>();
      let isBehind = values > 0;
      if (!isBehind) onCaughtUp(keys);
      for await (const entry of entries) {
        if (signal.aborted) return;
        const isThere = entry.operation === 'PUT';
        if (isThere && isBehind) keys.add(entry.key);
        take(entry.key, isThere ? entry.string() : undefined);
        if (isBehind && entry.delta === 0) onCaughtUp(keys);
        isBehind &&= entry.delta !== 0;
      }
    } finally {
      clearInterval(looking);
      signal.removeEventListener('abort', stop);
      entries.stop();
    }
  }

  async #look(kv: KV, created: string): Promise<void> {
    if (!this.#options.link.current) return;
    try {
      if ((await kv.status()).streamInfo.created === created) return;
    } catch (error) {
      this.#note(FOLLOWING, error);
    }
    this.#broken.abort();
  }

  #write(): void {
    if (this.#writing || this.#stopping.signal.aborted || !this.#options.link.current) return;
    this.#writing = this.#writeAll().finally(() => {
      this.#writing = undefined;
      // What was put while the last write ended.
      if (this.#waiting.size > 0) this.#write();
    });
  }

  async #writeAll(): Promise<void> {
    const { link } = this.#options;
    while (this.#waiting.size > 0 && link.current && !this.#stopping.signal.aborted) {
      const [key, text] = this.#waiting.entries().next().value!;
      try {
        await (await this.#open(link.current)).put(key, text);
        if (this.#waiting.get(key) === text) this.#waiting.delete(key);
        this.#problems.delete(key);
      } catch (error) {
        this.#note(key, error);
        // The others need not wait for one that cannot be written.
        const newest = this.#waiting.get(key)!;
        this.#waiting.delete(key);
        this.#waiting.set(key, newest);
        // Who cannot write there may have lost what it follows as well.
        this.#broken.abort();
        await delay(RETRY_MS, undefined, { signal: this.#stopping.signal }).catch(() => {});
      }
    }
  }

  #open(connection: NatsConnection): Promise<KV> {
    if (this.#bucket?.connection !== connection)
      this.#bucket = { connection, kv: openBucket(connection, this.#options.config) };
    return this.#bucket.kv;
  }

  #note(what: string | typeof FOLLOWING, error: unknown): void {
    const { link, config, log } = this.#options;
    this.#bucket = undefined;
    if (link.problem() || this.#stopping.signal.aborted) return;
    const stream = `KV_${streamNames(config).budgets}`;
    const why = streamTrouble(error, { stream, isPublishing: what !== FOLLOWING });
    const problem =
      what === FOLLOWING
        ? `what other bridges spent of budgets is known as of before: ${why}`
        : `other bridges and relays do not hear what was spent here: ${why}`;
    if (problem !== this.#problems.get(what)) log.warn(problem);
    this.#problems.set(what, problem);
  }
}

export interface Told {
  readonly text: string;
  /** When the bucket took it in, Unix ms. */
  readonly storedMs: number;
}

/**
 * What the bucket holds under a key for relays. Asked for and not followed: there are many relays, and a follower of each
 * would have to be kept by the server.
 * @throws what the server answered
 */
export async function readForRelay(
  { connection, config }: { connection: NatsConnection; config: NatsConfig },
  key: (typeof RELAY_KEYS)[number],
): Promise<Told | undefined> {
  const { budgets } = streamNames(config);
  const manager = await managerOf(connection);
  const message = await manager.direct.getMessage(`KV_${budgets}`, { last_by_subj: `$KV.${budgets}.${key}` });
  return message ? { text: message.string(), storedMs: message.time.getTime() } : undefined;
}

/** @throws what the server answered when there is none */
async function openBucket(connection: NatsConnection, config: NatsConfig): Promise<KV> {
  const { budgets } = streamNames(config);
  const client: JetStreamClient = jetstream(connection, { timeout: API_TIMEOUT_MS });
  // Opening one that is not there would succeed, and fail with every use.
  await (await managerOf(connection)).streams.info(`KV_${budgets}`);
  return new Kvm(client).open(budgets);
}
