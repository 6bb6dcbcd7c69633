// Label objects that live as long as their series, so that whoever renders them can remember them by identity.

import type { Labels } from '../ledger/reading.ts';

/** Hands out one object per label set. What a whole round did not ask for is forgotten, so churn leaves nothing behind. */
export class LabelSets {
  #known = new Map<string, Labels>();
  #used = new Map<string, Labels>();
  /** The objects of this round, to know one of ours without looking at its labels. */
  #given = new Set<Labels>();

  /** The lasting object that equals `labels`; labels without a value are left out. */
  of(labels: Readonly<Record<string, string | undefined>>): Labels {
    if (this.#given.has(labels as Labels)) return labels as Labels;
    let key = '';
    // NUL separates: no label holds a control character.
    for (const name in labels) key += `${name}\0${labels[name] ?? ''}\0`;
    let lasting = this.#used.get(key) ?? this.#known.get(key);
    lasting ??= Object.fromEntries(Object.entries(labels).filter((entry): entry is [string, string] => !!entry[1]));
    this.#used.set(key, lasting);
    this.#given.add(lasting);
    return lasting;
  }

  /** Ends a round. */
  forgetUnused(): void {
    this.#known = this.#used;
    this.#used = new Map();
    this.#given = new Set();
  }
}
