// How many answers each rule gave, gathered for a moment and booked together: an answer must not cost a commit, because
// a turn waits for it.

import { messageOf } from '../failure.ts';
import type { Log } from '../log.ts';

const GATHER_MS = 250;

export interface VerdictCount {
  readonly decision: string;
  readonly rule: string;
  readonly times: number;
}

export interface VerdictCountsOptions {
  /** Commits counts. Rejects when they were not committed; they are offered again then. */
  readonly book: (counts: readonly VerdictCount[]) => Promise<void>;
  readonly log: Log;
  readonly gatherMs?: number;
}

export class VerdictCounts {
  readonly #options: VerdictCountsOptions;
  /** Not yet offered, by decision and rule. */
  readonly #waiting = new Map<string, VerdictCount>();
  #timer: NodeJS.Timeout | undefined;
  #booking: Promise<void> = Promise.resolve();

  constructor(options: VerdictCountsOptions) {
    this.#options = options;
  }

  /** Counts one answer. It is booked within a quarter of a second; a crash loses what was not. */
  add(decision: string, rule: string): void {
    this.#wait({ decision, rule, times: 1 });
    this.#schedule();
  }

  /** Books what waits, in one try. Resolves when that is over, well or ill. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#booking = this.#booking.then(() => this.#book());
    return this.#booking;
  }

  #wait({ decision, rule, times }: VerdictCount): void {
    const key = `${decision} ${rule}`;
    this.#waiting.set(key, { decision, rule, times: (this.#waiting.get(key)?.times ?? 0) + times });
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
