// Tells other bridges, soon after every commit, where budgets stand by our own ledger, and judges by what they tell. Nothing in it
// is waited for by a verdict: what cannot be told or heard now leaves standing what was known last.

import type { NatsConfig } from './config.ts';
import { messageOf } from './failure.ts';
import type { Standing } from './ledger/reading.ts';
import type { Log } from './log.ts';
import { BudgetBucket, figuresKey, figuresOwner } from './nats/budget-bucket.ts';
import type { NatsLink } from './nats/connection.ts';
import { figuresIn, figuresText, SharedStandings } from './policy/shared-standings.ts';

/** From a commit to its being told, at most; what is committed meanwhile goes with it. */
const TELL_WITHIN_MS = 200;

export interface BudgetSharingOptions {
  readonly link: NatsLink;
  readonly config: NatsConfig;
  /** Where budgets and caps stand by our own ledger. */
  readonly own: () => readonly Standing[];
  /** Whether our own ledger does not hold yet what it is to hold. */
  readonly isFilling: () => boolean;
  readonly log: Log;
}

export class BudgetSharing {
  readonly #options: BudgetSharingOptions;
  readonly #shared: SharedStandings;
  readonly #bucket: BudgetBucket;
  readonly #ownKey: string;
  /** What the bucket holds under our own key. */
  #held: string | undefined;
  #telling: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(options: BudgetSharingOptions) {
    this.#options = options;
    const { link, config, own, log } = options;
    this.#ownKey = figuresKey(config);
    this.#shared = new SharedStandings({ partition: config.partition.k, own });
    this.#bucket = new BudgetBucket({
      ...{ link, config, log },
      take: (key, text) => this.#hear(key, text),
      onCaughtUp: (keys) => {
        // The bucket may have been made anew.
        if (!keys.has(this.#ownKey)) this.#held = undefined;
        this.#tell();
      },
    });
  }

  /** What keeps figures from being told or heard, one line for people. */
  problem(): string | undefined {
    return this.#bucket.problem();
  }

  /** Where budgets stand over all partitions, and caps by our own ledger. */
  standings(): readonly Standing[] {
    return this.#shared.standings();
  }

  start(): void {
    this.#bucket.start();
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
    this.#tell();
    await this.#bucket.stop();
  }

  #tell(): void {
    // What a ledger holds that is being filled is less than what was told of it before.
    if (this.#options.isFilling()) {
      this.noteCommit();
      return;
    }
    try {
      const text = figuresText(this.#options.own());
      if (text === this.#held) return;
      this.#held = text;
      this.#bucket.put(this.#ownKey, text);
    } catch (error) {
      this.#options.log.debug({ error: messageOf(error) }, 'where budgets stand is told after the next commit');
    }
  }

  #hear(key: string, text: string | undefined): void {
    if (key === this.#ownKey) this.#held = text;
    const owner = figuresOwner(key);
    if (!owner || owner.of !== this.#options.config.partition.of) return;
    const told = text === undefined ? undefined : figuresIn(text);
    // What cannot be read says nothing: what its bridge told before it stands.
    if (text !== undefined && !told) return;
    this.#shared.hear({ partition: owner.k, replica: owner.replica }, told);
  }
}
