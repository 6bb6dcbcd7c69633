// The largest value of the last while, without keeping all of them.

export class SlidingMax {
  readonly #spanMs: number;
  /** Falling values with rising times: each is the largest of all that came after the one before it. */
  #candidates: { readonly atMs: number; readonly value: number }[] = [];

  constructor(spanMs: number) {
    this.#spanMs = spanMs;
  }

  add(atMs: number, value: number): void {
    const candidates = this.#candidates;
    let at = candidates.length;
    while (at > 0 && candidates[at - 1]!.atMs > atMs) at--;
    // A later one that is as large outlives it, and of those the first is the largest.
    if (at < candidates.length && candidates[at]!.value >= value) return;
    let from = at;
    while (from > 0 && candidates[from - 1]!.value <= value) from--;
    candidates.splice(from, at - from, { atMs, value });
  }

  /** The largest value of the span that ends at `nowMs`; undefined when there is none. */
  max(nowMs: number): number | undefined {
    const first = this.#candidates.findIndex(({ atMs }) => atMs >= nowMs - this.#spanMs);
    this.#candidates = first === -1 ? [] : this.#candidates.slice(first);
    return this.#candidates[0]?.value;
  }
}
