// Label objects that live as long as their series, so that whoever renders them can remember them by identity.

import type { Labels } from '../ledger/reading.ts';

interface Known {
  readonly labels: Labels;
  /** When it was last asked for. */
  round: number;
}

/** Hands out one object per label set. What a whole round did not ask for is forgotten, so churn leaves nothing behind. */
export class LabelSets {
  readonly #known = new Map<string, Known>();
  /** To know one of ours without looking at its labels. */
  readonly #ours = new WeakMap<object, Known>();
  #round = 0;

  /** The lasting object that equals `labels`; labels without a value are left out. */
  of(labels: Readonly<Record<string, string | undefined>>): Labels {
    let known = this.#ours.get(labels);
    // One of an earlier round may have been forgotten since.
    if (known?.round !== this.#round) {
      let key = '';
      // NUL separates: no label holds a control character.
      for (const name in labels) key += `${name}\0${labels[name] ?? ''}\0`;
      known = this.#known.get(key);
      if (!known) {
        const lasting: Labels = Object.fromEntries(
          Object.entries(labels).filter((entry): entry is [string, string] => !!entry[1]),
        );
        known = { labels: lasting, round: this.#round };
        this.#known.set(key, known);
        this.#ours.set(lasting, known);
      }
      known.round = this.#round;
    }
    return known.labels;
  }

  /** Ends a round. */
  forgetUnused(): void {
    for (const [key, { round }] of this.#known) if (round !== this.#round) this.#known.delete(key);
    this.#round += 1;
  }
}
