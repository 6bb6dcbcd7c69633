// What a transaction under way adds to rows that are kept by quarter of an hour: put together, to be written once.

export class PendingQuarters<T> {
  readonly #nothing: () => T;
  readonly #changes = new Map<number, Map<number, T>>();
  /** Turns of one sender follow each other within a quarter. */
  #last: { readonly id: number; readonly bucket: number; readonly change: T } | undefined;

  /** @param nothing makes the change that changes nothing */
  constructor(nothing: () => T) {
    this.#nothing = nothing;
  }

  /** The change of a row, to be added to. */
  of(id: number, bucket: number): T {
    const last = this.#last;
    if (last && last.id === id && last.bucket === bucket) return last.change;
    let quarters = this.#changes.get(id);
    if (!quarters) {
      quarters = new Map();
      this.#changes.set(id, quarters);
    }
    let change = quarters.get(bucket);
    if (!change) {
      change = this.#nothing();
      quarters.set(bucket, change);
    }
    this.#last = { id, bucket, change };
    return change;
  }

  each(write: (id: number, bucket: number, change: T) => void): void {
    for (const [id, quarters] of this.#changes) for (const [bucket, change] of quarters) write(id, bucket, change);
  }

  clear(): void {
    this.#changes.clear();
    this.#last = undefined;
  }
}
