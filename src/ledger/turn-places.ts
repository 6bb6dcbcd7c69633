// Where a turn is booked: under what it stated, and under what of that is exported by the label caps of the moment.

import { TOLL } from '../metrics/catalogue.ts';
import { type TurnEvent, totalTokens } from '../turn/turn-event.ts';
import { type Dimension, type Dimensions, LABELS, labelsOf } from './dimensions.ts';
import type { Admitted, LabelCaps } from './label-caps.ts';
import { OTHER, type Totals } from './totals.ts';

/** Label combinations whose place is remembered. */
const REMEMBERED_MAX = 20_000;

export interface Place {
  /** What the turn stated. */
  readonly dimension_id: number;
  /** What is exported of it. */
  readonly series_id: number;
  readonly cell_id: number;
  /** A turn was booked there before. */
  readonly isKnown?: true;
}

interface KnownPlace extends Place {
  readonly isKnown: true;
  /** The values of its labels that have series of their own, and keep them. */
  readonly admitted: readonly Admitted[];
}

export interface TurnPlacesParts {
  readonly totals: Totals;
  readonly caps: LabelCaps;
  readonly dimensions: Dimensions;
}

export class TurnPlaces {
  readonly #parts: TurnPlacesParts;
  /** By what was stated, the places where nothing is folded: those never change. */
  readonly #known = new Map<number, KnownPlace>();

  constructor(parts: TurnPlacesParts) {
    this.#parts = parts;
  }

  /** Finds the place of a turn, inside the caller's transaction; its labels weigh what it spends. */
  of(event: TurnEvent): Place {
    const { dimensions, caps } = this.#parts;
    const stated = labelsOf(event);
    // A turn that ended is more than a birth even when it used nothing: it is counted, so its values keep their series.
    const { costNano = 0, estimatedNano = 0 } = event;
    const spent = costNano + estimatedNano + totalTokens(event.tokens);
    const weight = event.phase === 'in_progress' ? 0 : Math.max(1, spent);
    const dimension_id = dimensions.idOf(stated);
    const known = this.#known.get(dimension_id);
    if (!known) return this.#find(dimension_id, stated, weight);
    if (weight > 0) caps.spend(known.admitted, weight);
    return known;
  }

  /** Forgets what may not be on disk. */
  forget(): void {
    this.#known.clear();
  }

  #find(dimension_id: number, stated: Dimension, weight: number): Place {
    const { dimensions, caps, totals } = this.#parts;
    const exported = { ...stated };
    for (const name of LABELS) exported[name] = caps.exported(name, stated[name], weight);
    if (totals.isFull && !totals.has(TOLL.cost, exported)) {
      // The whole turn folds, once and for good: its corrections must find what they correct.
      for (const name of LABELS) if (exported[name]) exported[name] = OTHER;
    }
    const isAsStated = LABELS.every((name) => exported[name] === stated[name]);
    const series_id = isAsStated ? dimension_id : dimensions.idOf(exported);
    if (series_id !== dimension_id) totals.add(TOLL.seriesOverflow, { metric: TOLL.turns.name }, 1);
    const cell_id = dimensions.cellOf({
      upstreamProvider: exported.upstream_provider,
      provider: exported.provider,
      model: stated.model,
    });
    const place = { dimension_id, series_id, cell_id };
    const admitted = isAsStated ? caps.admitted(stated) : undefined;
    if (admitted) this.#remember({ ...place, isKnown: true, admitted });
    return place;
  }

  #remember(place: KnownPlace): void {
    if (this.#known.size >= REMEMBERED_MAX) this.#known.clear();
    this.#known.set(place.dimension_id, place);
  }
}
