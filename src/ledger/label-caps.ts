// Which label values get series of their own. Exact, monotone, one-way: a value that has its own series keeps it, a
// value that came too late counts under `other`, and every sum stays exact whatever is folded.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { OTHER } from './totals.ts';

/** This share of the slots goes to first comers; the rest waits for latecomers that turn out to matter. */
const FIRST_COMERS_SHARE = 0.9;
/** Values waiting in `other` that are remembered, as a multiple of the cap: a flood of names must not fill the memory. */
const WAITING_PER_SLOT = 10;

interface Value {
  readonly label: string;
  readonly value: string;
  /** What it spent: under its own name once admitted, before that inside `other`. */
  weight: number;
  admitted: boolean;
}

/** A label's value that has series of its own. */
export type Admitted = Value;

interface Label {
  readonly values: Map<string, Value>;
  /** Values shown at 0 before they spent anything. They hold no slot, so they are bounded on their own. */
  readonly born: Set<string>;
  admitted: number;
}

export class LabelCaps {
  readonly #limits: Readonly<Record<string, number>>;
  readonly #labels = new Map<string, Label>();
  readonly #dirty = new Set<Value>();
  #upsert: StatementSync | undefined;

  /** @param limits label name → how many values get series of their own */
  constructor(limits: Readonly<Record<string, number>>) {
    this.#limits = limits;
  }

  /**
   * The value under which an increment is exported: its own, or `other`.
   * @param weight what the increment spends (nano-USD + tokens, or calls); 0 for a birth, which takes no slot
   */
  exported(label: string, value: string, weight: number): string {
    const limit = this.#limits[label];
    if (limit === undefined || !this.#isCapped(label, value)) return value;
    const state = this.#label(label);
    const known = state.values.get(value);
    if (known?.admitted) {
      this.#spend(known, weight);
      return value;
    }
    if (weight === 0) return this.#bear(state, value, limit);
    if (state.admitted < Math.max(1, Math.floor(limit * FIRST_COMERS_SHARE))) {
      this.#admit(known ?? { label, value, weight: 0, admitted: false }, weight);
      return value;
    }
    if (!known && state.values.size - state.admitted >= limit * WAITING_PER_SLOT) return OTHER;
    const waiting = known ?? { label, value, weight: 0, admitted: false };
    state.values.set(value, waiting);
    // It is admitted by what it has spent inside `other`, this increment included, and starts at the next one.
    if (state.admitted < limit && waiting.weight + weight > this.#medianAdmitted(state)) {
      this.#admit(waiting, weight);
    } else {
      this.#spend(waiting, weight);
    }
    return OTHER;
  }

  /** The values of some labels, as far as they are capped; undefined while one of them has no series of its own. */
  admitted(labels: Readonly<Record<string, string>>): readonly Admitted[] | undefined {
    const admitted: Admitted[] = [];
    for (const [label, value] of Object.entries(labels)) {
      if (!this.#isCapped(label, value)) continue;
      const known = this.#labels.get(label)?.values.get(value);
      if (!known?.admitted) return undefined;
      admitted.push(known);
    }
    return admitted;
  }

  /** As `exported`, of values that have series of their own. */
  spend(admitted: readonly Admitted[], weight: number): void {
    for (const value of admitted) this.#spend(value, weight);
  }

  #isCapped(label: string, value: string): boolean {
    return this.#limits[label] !== undefined && value !== '' && value !== OTHER;
  }

  /** Writes what changed; call it inside the transaction that books the cause. */
  flush(db: DatabaseSync): void {
    if (this.#dirty.size === 0) return;
    this.#upsert ??= db.prepare(
      'INSERT INTO label_value (label, value, weight, admitted) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET weight = excluded.weight, admitted = excluded.admitted',
    );
    for (const { label, value, weight, admitted } of this.#dirty) {
      this.#upsert.run(label, value, weight, admitted ? 1 : 0);
    }
    this.#dirty.clear();
  }

  /** Replaces everything in memory by what the disk holds. */
  load(db: DatabaseSync): void {
    this.#labels.clear();
    this.#dirty.clear();
    for (const row of db.prepare('SELECT label, value, weight, admitted FROM label_value').iterate()) {
      const { label, value, weight } = row as unknown as Value;
      const state = this.#label(label);
      state.values.set(value, { label, value, weight, admitted: row.admitted === 1 });
      if (row.admitted === 1) state.admitted += 1;
    }
  }

  #label(label: string): Label {
    let state = this.#labels.get(label);
    if (!state) {
      state = { values: new Map(), born: new Set(), admitted: 0 };
      this.#labels.set(label, state);
    }
    return state;
  }

  #bear(state: Label, value: string, limit: number): string {
    if (state.born.has(value)) return value;
    if (state.admitted + state.born.size >= limit) return OTHER;
    state.born.add(value);
    return value;
  }

  #admit(value: Value, weight: number): void {
    value.admitted = true;
    const admitting = this.#label(value.label);
    admitting.values.set(value.value, value);
    admitting.born.delete(value.value);
    admitting.admitted += 1;
    this.#spend(value, weight);
  }

  #spend(value: Value, weight: number): void {
    // A rank needs no more precision than a float's, and the column is an integer: stop before it overflows.
    value.weight = Math.min(value.weight + weight, Number.MAX_SAFE_INTEGER);
    this.#dirty.add(value);
  }

  #medianAdmitted(state: Label): number {
    const weights = [...state.values.values()].filter((v) => v.admitted).map((v) => v.weight);
    weights.sort((a, b) => a - b);
    return weights[Math.floor(weights.length / 2)] ?? 0;
  }
}
