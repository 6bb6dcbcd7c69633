// Tells other bridges, soon after every commit, where budgets stand by our own ledger, and judges by what they tell; tells
// relays the rules and the sums. Nothing in it is waited for by a verdict: what cannot be told or heard now leaves standing
// what was known last.

import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConfig } from './config.ts';
import { messageOf } from './failure.ts';
import type { Standing } from './ledger/reading.ts';
import type { Log } from './log.ts';
import { BudgetBucket, figuresKey, figuresOwner, POLICY_KEY, STANDINGS_KEY } from './nats/budget-bucket.ts';
import type { NatsLink } from './nats/connection.ts';
import { digestOf, figuresIn, figuresText, SharedStandings } from './policy/shared-standings.ts';
import { holdSameRules } from './policy/told-policy.ts';

/** From a commit to its being told, at most; what is committed meanwhile goes with it. */
const TELL_WITHIN_MS = 200;
/** How long a start waits for what the others told. */
const FIRST_HEARD_MS = 1000;
/** How often it is looked whether relays are to be told something. */
const RELAYS_EVERY_MS = 1000;
/** Relays are told so often that nothing has changed: so they know that somebody still counts. */
const ASSURE_EVERY_MS = 30_000;

export interface BudgetSharingOptions {
  readonly link: NatsLink;
  readonly config: NatsConfig;
  /** Tells our own ledger from every other. */
  readonly ledger: string;
  /** Where budgets and caps stand by our own ledger. */
  readonly own: () => readonly Standing[];
  readonly hasBudgets: boolean;
  /** Our rules, as relays are told them. */
  readonly policy: string;
  /** Whether our own ledger does not hold yet what it is to hold. */
  readonly isFilling: () => boolean;
  readonly log: Log;
}

export class BudgetSharing {
  readonly #options: BudgetSharingOptions;
  readonly #shared: SharedStandings;
  readonly #bucket: BudgetBucket;
  readonly #ownKey: string;
  /** Not at the same moment as every other bridge. */
  readonly #assureEveryMs = ASSURE_EVERY_MS * (1 + Math.random() / 2);
  /** What the bucket holds, as far as it concerns us: our own key, and those for relays. */
  readonly #held = new Map<string, { readonly text: string; readonly sinceMs: number }>();
  /** The sums that we had to tell last, whoever told them. */
  #sums = '';
  #hasToldPolicy = false;
  #isCaughtUp = false;
  readonly #hasHeard = Promise.withResolvers<void>();
  #hasLookedForLoss = false;
  #telling: NodeJS.Timeout | undefined;
  #watching: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(options: BudgetSharingOptions) {
    this.#options = options;
    const { link, config, ledger, own, log } = options;
    const { replica, partition } = config;
    this.#ownKey = figuresKey(config, ledger);
    this.#shared = new SharedStandings({ teller: { partition: partition.k, replica, ledger }, own });
    this.#bucket = new BudgetBucket({
      ...{ link, config, log },
      take: (key, text) => this.#hear(key, text),
      onCaughtUp: (keys) => this.#caughtUp(keys),
    });
  }

  /** What keeps figures from being told or heard, or makes bridges judge differently, one line for people. */
  problem(): string | undefined {
    return this.#bucket.problem() ?? this.#otherRules() ?? this.#silence();
  }

  #otherRules(): string | undefined {
    const policy = this.#held.get(POLICY_KEY)?.text;
    if (policy === undefined || holdSameRules(policy, this.#options.policy)) return undefined;
    return (
      'another bridge of this stream was started with other rules (budgets, caps, guardrails, verdict, gateways, pricing, ' +
      'labels.project or time_zone), and relays follow those: give all bridges the same and start this one again'
    );
  }

  #silence(): string | undefined {
    const { hasBudgets, config } = this.#options;
    const { of } = config.partition;
    const silent = hasBudgets && this.#isCaughtUp ? this.#shared.silent(of) : [];
    if (silent.length === 0) return undefined;
    return `no bridge of partition ${silent.join(', ')} of ${of} has told what it spent, so budgets lack it: start it`;
  }

  /** Where budgets stand over all partitions, and caps by our own ledger. */
  standings(): readonly Standing[] {
    return this.#shared.standings();
  }

  /** Begins to tell and to hear. What the others told can be judged by when it resolves, as far as it can be had at once. */
  async start(): Promise<void> {
    this.#bucket.start();
    this.#watching ??= setInterval(() => this.#tellRelays(), RELAYS_EVERY_MS);
    if (this.#options.link.current)
      await Promise.race([this.#hasHeard.promise, delay(FIRST_HEARD_MS, undefined, { ref: false })]);
  }

  /** Our ledger has committed something, which is to be told. */
  noteCommit(): void {
    if (this.#isStopped) return;
    this.#telling ??= setTimeout(() => {
      this.#telling = undefined;
      this.#tell();
    }, TELL_WITHIN_MS);
  }

  /** Tells where budgets stand at the end, then stops. Idempotent. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#telling);
    clearInterval(this.#watching);
    this.#tell();
    this.#tellRelays();
    await this.#bucket.stop();
  }

  #caughtUp(keys: ReadonlySet<string>): void {
    // The bucket may have been made anew.
    for (const key of this.#held.keys()) if (!keys.has(key)) this.#held.delete(key);
    this.#isCaughtUp = true;
    this.#hasHeard.resolve();
    const { policy } = this.#options;
    // Once only: bridges with different rules would otherwise take turns for ever.
    if (!this.#hasToldPolicy || !this.#held.has(POLICY_KEY)) this.#put(POLICY_KEY, policy);
    this.#hasToldPolicy = true;
    this.#tell();
  }

  #tell(): void {
    // What a ledger holds that is being filled is less than what was told of it before.
    if (this.#options.isFilling()) {
      this.noteCommit();
      return;
    }
    this.#tried(() => {
      this.#sayWhatIsLost();
      this.#put(this.#ownKey, figuresText(this.#options.own()));
    });
  }

  /** Once: what our ledger holds now is all that the stream still had of earlier ones. */
  #sayWhatIsLost(): void {
    if (!this.#isCaughtUp || this.#hasLookedForLoss) return;
    this.#hasLookedForLoss = true;
    const budgets = this.#shared.lost();
    if (budgets.length === 0) return;
    this.#options.log.warn(
      { budgets },
      'an earlier ledger of this replica told more than this one knows: until these periods end, what it told counts as well',
    );
  }

  /** Any bridge may tell relays the sums; who has nothing new to say leaves it to the others. */
  #tellRelays(): void {
    if (!this.#isCaughtUp || this.#options.isFilling()) return;
    this.#tried(() => {
      const held = this.#held.get(STANDINGS_KEY);
      const policy = digestOf(this.#held.get(POLICY_KEY)?.text ?? this.#options.policy);
      const sums = figuresText(this.standings(), policy);
      const isNews = sums !== this.#sums;
      this.#sums = sums;
      const isDue = !held || performance.now() - held.sinceMs > this.#assureEveryMs;
      if (isDue || (isNews && sums !== held.text)) this.#put(STANDINGS_KEY, sums, { isAssurance: isDue });
    });
  }

  #put(key: string, text: string, { isAssurance = false } = {}): void {
    if (!isAssurance && this.#held.get(key)?.text === text) return;
    this.#held.set(key, { text, sinceMs: performance.now() });
    this.#bucket.put(key, text);
  }

  /** A ledger that cannot be read now has said so; the next commit or look tries again. */
  #tried(tell: () => void): void {
    try {
      tell();
    } catch (error) {
      this.#options.log.debug({ error: messageOf(error) }, 'where budgets stand could not be told yet');
    }
  }

  #hear(key: string, text: string | undefined): void {
    if (key === this.#ownKey || key === POLICY_KEY || key === STANDINGS_KEY) {
      if (text === undefined) this.#held.delete(key);
      else this.#held.set(key, { text, sinceMs: performance.now() });
    }
    const owner = figuresOwner(key);
    if (!owner || owner.of !== this.#options.config.partition.of) return;
    const told = text === undefined ? undefined : figuresIn(text)?.budgets;
    // What cannot be read says nothing: what its bridge told before it stands.
    if (text !== undefined && !told) return;
    this.#shared.hear({ partition: owner.k, ...owner }, told);
  }
}
