// How the newest turn of each model was priced. Every scrape shows all of them and few ever change, so what was read is
// kept until a commit brings another state.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { PricingState } from '../turn/turn-event.ts';
import type { ModelPricing } from './reading.ts';

interface Noted {
  readonly provider: string;
  readonly model: string;
  state: PricingState;
  datedMs: number;
}

export class PricingStates {
  readonly #select: StatementSync;
  readonly #upsert: StatementSync;
  /** What the transaction under way learned, to be written once. */
  readonly #noted = new Map<string, Noted>();
  #last: Noted | undefined;
  /** As committed; absent when it has to be read. */
  #known: Map<string, ModelPricing> | undefined;

  constructor(db: DatabaseSync) {
    this.#select = db.prepare('SELECT provider, model, state FROM pricing_state');
    this.#upsert = db.prepare(
      `INSERT INTO pricing_state (provider, model, state, dated_ms) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET state = excluded.state, dated_ms = excluded.dated_ms WHERE excluded.dated_ms >= dated_ms`,
    );
  }

  /** A turn of a model, dated so, was priced. */
  note(of: Pick<ModelPricing, 'provider' | 'model'>, state: PricingState, datedMs: number): void {
    const noted = this.#notedOf(of);
    if (datedMs < noted.datedMs) return;
    noted.state = state;
    noted.datedMs = datedMs;
  }

  /** What was noted of a model, which is mostly that of the turn before. */
  #notedOf({ provider, model }: Pick<ModelPricing, 'provider' | 'model'>): Noted {
    const last = this.#last;
    if (last && last.provider === provider && last.model === model) return last;
    const key = keyOf({ provider, model });
    let noted = this.#noted.get(key);
    if (!noted) {
      noted = { provider, model, state: 'unknown', datedMs: Number.NEGATIVE_INFINITY };
      this.#noted.set(key, noted);
    }
    this.#last = noted;
    return noted;
  }

  /** Writes what changed; call it inside the transaction that books the cause. */
  flush(): void {
    for (const [key, { provider, model, state, datedMs }] of this.#noted) {
      this.#upsert.run(provider, model, state, datedMs);
      // Whichever of two equal states stays, what is known holds; also when the transaction is undone.
      if (this.#known?.get(key)?.state !== state) this.#known = undefined;
    }
    this.forget();
  }

  /** Forgets what was not written. */
  forget(): void {
    this.#noted.clear();
    this.#last = undefined;
  }

  /** All of them; the same objects until one changes. */
  all(): ModelPricing[] {
    this.#known ??= new Map(
      (this.#select.all() as unknown as ModelPricing[])
        .map(({ provider, model, state }) => Object.freeze({ provider, model, state }))
        .map((pricing) => [keyOf(pricing), pricing]),
    );
    return [...this.#known.values()];
  }
}

/** NUL separates: decoders refuse control characters, so no value holds one. */
const keyOf = ({ provider, model }: Pick<ModelPricing, 'provider' | 'model'>) => `${provider}\0${model}`;
