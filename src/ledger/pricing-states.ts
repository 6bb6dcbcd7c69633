// How the newest turn of each model was priced. Every scrape shows all of them and few ever change, so what was read is
// kept until a commit brings another state.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { ModelPricing } from './reading.ts';

export class PricingStates {
  readonly #select: StatementSync;
  readonly #upsert: StatementSync;
  /** What the transaction under way learned, to be written once. */
  readonly #noted = new Map<string, { readonly pricing: ModelPricing; readonly datedMs: number }>();
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
  note(pricing: ModelPricing, datedMs: number): void {
    const key = keyOf(pricing);
    const noted = this.#noted.get(key);
    if (noted && noted.datedMs > datedMs) return;
    this.#noted.set(key, { pricing, datedMs });
  }

  /** Writes what changed; call it inside the transaction that books the cause. */
  flush(): void {
    for (const [key, { pricing, datedMs }] of this.#noted) {
      const { provider, model, state } = pricing;
      this.#upsert.run(provider, model, state, datedMs);
      // Whichever of two equal states stays, what is known holds; also when the transaction is undone.
      if (this.#known?.get(key)?.state !== state) this.#known = undefined;
    }
    this.forget();
  }

  /** Forgets what was not written. */
  forget(): void {
    this.#noted.clear();
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
const keyOf = ({ provider, model }: ModelPricing) => `${provider}\0${model}`;
