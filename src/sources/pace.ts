// How fast one sender may ask: a bucket that holds some seconds' worth of requests and is filled at a steady rate.

/** What an agent keeps back while the bridge restarts comes at once and is no flood. */
const BURST_SECONDS = 10;

export class Pace {
  readonly #perSecond: number;
  readonly #nowMs: () => number;
  #left: number;
  #filledMs: number;

  /** @param nowMs a clock that never steps back */
  constructor(perSecond: number, nowMs: () => number = () => performance.now()) {
    this.#perSecond = perSecond;
    this.#nowMs = nowMs;
    this.#left = perSecond * BURST_SECONDS;
    this.#filledMs = nowMs();
  }

  /** Whether one more request may come now; if so it is counted. */
  admits(): boolean {
    const nowMs = this.#nowMs();
    const most = this.#perSecond * BURST_SECONDS;
    this.#left = Math.min(most, this.#left + ((nowMs - this.#filledMs) / 1000) * this.#perSecond);
    this.#filledMs = nowMs;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
