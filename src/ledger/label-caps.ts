// Which label values get series of their own. Exact, monotone, one-way: a value that has its own series keeps it, a
// value that came too late counts under `other`, and every sum stays exact whatever is folded.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { OTHER } from './totals.ts';

/** This share of the slots goes to first comers; the rest waits for latecomers that turn out to matter. */
const FIRST_COMERS_SHARE = 0.9;
/** Values waiting in `other` that are remembered, as a multiple of the cap: a flood of names must not fill the memory. */
const WAITING_PER_SLOT = 10;

interface Value {
  /** What it spent: under its own name once admitted, before that inside `other`. */
  weight: number;
  admitted: boolean;
}

interface Label {
  readonly values: Map<string, Value>;
  /** Values shown at 0 before they spent anything. They hold no slot, so they are bounded on their own. */
  readonly born: Set<string>;
  admitted: number;
}

export class LabelCaps {
  readonly #limits: Readonly<Record<string, number>>;
  readonly #labels = new Map<string, Label>();
  readonly #dirty = new Map<Value, readonly [label: string, value: string]>();
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
    if (limit === undefined || value === '' || value === OTHER) return value;
    const state = this.#label(label);
    const known = state.values.get(value);
    if (known?.admitted) {
      this.#spend(label, value, known, weight);
      return value;
    }
    if (weight === 0) return this.#bear(state, value, limit);
    if (state.admitted < Math.max(1, Math.floor(limit * FIRST_COMERS_SHARE))) {
      this.#admit(label, value, known ?? { weight: 0, admitted: false }, weight);
      return value;
    }
    if (!known && state.values.size - state.admitted >= limit * WAITING_PER_SLOT) return OTHER;
    const waiting = known ?? { weight: 0, admitted: false };
    state.values.set(value, waiting);
    // It is admitted by what it has spent inside `other`, this increment included, and starts at the next one.
    if (state.admitted < limit && waiting.weight + weight > this.#medianAdmitted(state)) {
      this.#admit(label, value, waiting, weight);
    } else {
      this.#spend(label, value, waiting, weight);
    }
    return OTHER;
  }

  /** Writes what changed; call it inside the transaction that books the cause. */
  flush(db: DatabaseSync): void {
    if (this.#dirty.size === 0) return;
    this.#upsert ??= db.prepare(
      'INSERT INTO label_value (label, value, weight, admitted) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET weight = excluded.weight, admitted = excluded.admitted',
    );
    for (const [state, [label, value]] of this.#dirty) {
      this.#upsert.run(label, value, state.weight, state.admitted ? 1 : 0);
    }
    this.#dirty.clear();
  }

  /** Replaces everything in memory by what the disk holds. */
  load(db: DatabaseSync): void {
    this.#labels.clear();
    this.#dirty.clear();
    for (const row of db.prepare('SELECT label, value, weight, admitted FROM label_value').iterate()) {
      const state = this.#label(row.label as string);
      state.values.set(row.value as string, { weight: row.weight as number, admitted: row.admitted === 1 });
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

  #admit(label: string, value: string, state: Value, weight: number): void {
    state.admitted = true;
    const admitting = this.#label(label);
    admitting.values.set(value, state);
    admitting.born.delete(value);
    admitting.admitted += 1;
    this.#spend(label, value, state, weight);
  }

  #spend(label: string, value: string, state: Value, weight: number): void {
    // A rank needs no more precision than a float's, and the column is an integer: stop before it overflows.
    state.weight = Math.min(state.weight + weight, Number.MAX_SAFE_INTEGER);
    this.#dirty.set(state, [label, value]);
  }

  #medianAdmitted(state: Label): number {
    const weights = [...state.values.values()].filter((v) => v.admitted).map((v) => v.weight);
    weights.sort((a, b) => a - b);
    return weights[Math.floor(weights.length / 2)] ?? 0;
  }
}
