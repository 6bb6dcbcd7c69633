// Chance that repeats itself: the same seed and place give the same numbers, whatever was drawn elsewhere.

/** FNV-1a, then mulberry32. */
export class Chance {
  #state: number;

  /** @param place what the numbers are for; any change of it gives others */
  constructor(...place: readonly (string | number)[]) {
    let hash = 0x811c9dc5;
    for (const byte of Buffer.from(place.join('\0'))) hash = Math.imul(hash ^ byte, 0x01000193);
    this.#state = hash >>> 0;
  }

  /** 0 ≤ x < 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from `least` up to `most`, both possible. */
  whole(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  /** A whole number around `middle`, now and then several times as large, as sizes of real work are. */
  about(middle: number): number {
    return Math.max(1, Math.round(middle * Math.exp((this.next() + this.next() + this.next() - 1.5) * 1.2)));
  }

  happens(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.next() * from.length)]!;
  }

  /** One of them, the likelier the more it weighs. */
  weighed<T extends { readonly weight: number }>(from: readonly T[]): T {
    let rest = this.next() * from.reduce((sum, { weight }) => sum + weight, 0);
    for (const each of from) {
      rest -= each.weight;
      if (rest < 0) return each;
    }
    return from[0]!;
  }
}
