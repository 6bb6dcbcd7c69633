// How many answers each rule gave, and how many calls nobody could ask about, gathered for a moment and booked together:
// an answer must not cost a commit, because a turn waits for it.

import { messageOf } from '../failure.ts';
import type { PolicyCount } from '../ledger/reading.ts';
import type { Log } from '../log.ts';

const GATHER_MS = 250;

export interface PolicyCountsOptions {
  /** Commits counts. Rejects when they were not committed; they are offered again then. */
  readonly book: (counts: readonly PolicyCount[]) => Promise<void>;
  readonly log: Log;
  readonly gatherMs?: number;
}

export class PolicyCounts {
  readonly #options: PolicyCountsOptions;
  /** Not yet offered, by counter and labels. */
  readonly #waiting = new Map<string, PolicyCount>();
  #timer: NodeJS.Timeout | undefined;
  #booking: Promise<void> = Promise.resolve();

  constructor(options: PolicyCountsOptions) {
    this.#options = options;
  }

  /** Raises a counter within a quarter of a second; a crash loses what was not booked by then. */
  add(counter: PolicyCount['counter'], labels: PolicyCount['labels'], times = 1): void {
    this.#wait({ counter, labels, times });
    this.#schedule();
  }

  /** Books what waits, in one try. Resolves when that is over, well or ill. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#booking = this.#booking.then(() => this.#book());
    return this.#booking;
  }

  #wait({ counter, labels, times }: PolicyCount): void {
    const key = JSON.stringify([counter, labels]);
    this.#waiting.set(key, { counter, labels, times: (this.#waiting.get(key)?.times ?? 0) + times });
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => void this.flush(), this.#options.gatherMs ?? GATHER_MS);
  }

  async #book(): Promise<void> {
    if (this.#waiting.size === 0) return;
    const taken = [...this.#waiting.values()];
    this.#waiting.clear();
    try {
      await this.#options.book(taken);
    } catch (error) {
      // They go with the next ones: a ledger that does not take them would not take them in a moment either.
      for (const count of taken) this.#wait(count);
      this.#options.log.debug({ error: messageOf(error) }, 'answers to agents could not be counted yet');
    }
  }
}
