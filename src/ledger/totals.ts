// The running totals behind every counter and histogram: integers in memory for the scrape, the same integers on disk.
// They only grow. A change becomes visible in memory and is flushed in the same synchronous transaction; when that
// fails, the ledger loads them anew, so memory never shows what the disk does not hold.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { type MetricFamily, TOLL } from '../metrics/catalogue.ts';
import type { CounterPoint, HistogramPoint, Labels } from './reading.ts';

/** Label values by name; undefined and '' mean that the label is left out. */
export type LabelValues = Readonly<Record<string, string | undefined>>;

export const OTHER = 'other';

/** Labels whose values are a closed set of our own: they never need folding. */
const CLOSED_LABELS: ReadonlySet<string> = new Set([
  'status',
  'token_type',
  'reason',
  'error_type',
  'gen_ai_operation_name',
  'gen_ai_token_type',
  'metric',
]);

/** Names a series of a label set: what its family calls it. A constant, because it is what the series is found by. */
export type Naming<T extends LabelValues> = (labels: T) => LabelValues;

interface Counter {
  readonly labels: Labels;
  value: number;
}

interface Histogram {
  readonly labels: Labels;
  /** Replaced at the first observation of a transaction: what was read stays as it was. */
  counts: number[];
  sum: number;
  count: number;
}

/** All series of a family. */
interface Family<T> {
  readonly family: MetricFamily;
  readonly series: Map<string, T>;
  /** What the transaction under way changed. */
  readonly dirty: Set<T>;
  /** The sum over all series, kept as it grows. */
  grand: number;
}

function pick(family: MetricFamily, values: LabelValues, fold: boolean): Labels {
  const labels: Record<string, string> = {};
  for (const name of family.labels) {
    const value = values[name];
    if (value) labels[name] = fold && !CLOSED_LABELS.has(name) ? OTHER : value;
  }
  return Object.freeze(labels);
}

/**
 * NUL separates: decoders refuse control characters, so no value holds one. Joined, because a key that is put together
 * by concatenation is kept as a tree of its parts, which takes several times as much memory.
 */
function keyOf(family: MetricFamily, values: LabelValues): string {
  return family.labels.map((name) => values[name] ?? '').join('\0');
}

/** The series of one label set, found once each. Good until the totals are loaded anew. */
export interface SeriesOf<T extends LabelValues> {
  /** As `raise` of the totals. */
  raise(family: MetricFamily, delta: number, naming: Naming<T>): void;
  /** As `observe` of the totals. */
  observe(family: MetricFamily, value: number, naming: Naming<T>): void;
}

/** A series of a label set; there are a dozen of each, so looking through them is as fast as a map, and much smaller. */
interface Found<T> {
  readonly of: Family<T>;
  readonly naming: Naming<never>;
  readonly series: T;
}

function among<T>(found: readonly Found<T>[], family: MetricFamily, naming: Naming<never>): Found<T> | undefined {
  for (const each of found) if (each.naming === naming && each.of.family === family) return each;
  return undefined;
}

export class Totals {
  readonly #counters = new Map<string, Family<Counter>>();
  readonly #histograms = new Map<string, Family<Histogram>>();
  #known = new WeakMap<LabelValues, SeriesOf<never>>();
  readonly #maxSeries: number;
  #seriesCount = 0;
  #upsertCounter: StatementSync | undefined;
  #upsertHistogram: StatementSync | undefined;

  /** @param maxSeries beyond this many series, new label sets fold into `other` */
  constructor(maxSeries: number) {
    this.#maxSeries = maxSeries;
  }

  /** Series held, each histogram bucket, sum and count being one. */
  get seriesCount(): number {
    return this.#seriesCount;
  }

  counters(name: string): Iterable<CounterPoint> {
    return this.#counters.get(name)?.series.values() ?? [];
  }

  histograms(name: string): Iterable<HistogramPoint> {
    return this.#histograms.get(name)?.series.values() ?? [];
  }

  /** The sum over all series of a counter. */
  grand(family: MetricFamily): number {
    return this.#counters.get(family.name)?.grand ?? 0;
  }

  /** Whether so many series are held that new label sets fold into `other`. */
  get isFull(): boolean {
    return this.#seriesCount >= this.#maxSeries;
  }

  /** Whether a counter has a series with these labels. */
  has(family: MetricFamily, values: LabelValues): boolean {
    return this.#counters.get(family.name)?.series.has(keyOf(family, values)) ?? false;
  }

  /**
   * Adds to a counter under exactly these labels; `delta` 0 gives birth to the series.
   * @param delta integer ≥ 0 in the family's unit
   */
  raise(family: MetricFamily, values: LabelValues, delta: number): void {
    const of = familyIn(this.#counters, family);
    raise(of, this.#counter(of, pick(family, values, false)), delta);
  }

  /** As `raise`, but a new label set folds when there are too many series. */
  add(family: MetricFamily, values: LabelValues, delta: number): void {
    const fold = this.isFull && !this.has(family, values);
    const of = familyIn(this.#counters, family);
    raise(of, this.#counter(of, pick(family, values, fold)), delta);
    if (fold && delta > 0) this.#noteFold(family);
  }

  /**
   * What was found of the series of a label set before: a turn raises a dozen of them, and spelling out their labels
   * costs more than raising them.
   * @param labels an object that lasts and does not change
   */
  of<T extends LabelValues>(labels: T): SeriesOf<T> {
    const known = this.#known.get(labels);
    if (known) return known as SeriesOf<T>;
    const counters: Found<Counter>[] = [];
    const histograms: Found<Histogram>[] = [];
    const series: SeriesOf<T> = {
      raise: (family, delta, naming) => {
        let found = among(counters, family, naming);
        if (!found) {
          const of = familyIn(this.#counters, family);
          found = { of, naming, series: this.#counter(of, pick(family, naming(labels), false)) };
          counters.push(found);
        }
        raise(found.of, found.series, delta);
      },
      observe: (family, value, naming) => {
        const found = among(histograms, family, naming);
        if (found) return observe(found.of, found.series, value);
        const of = familyIn(this.#histograms, family);
        const { histogram, isFolded } = this.#histogram(of, naming(labels));
        // What folds is looked for again each time, because each time is told.
        if (!isFolded) histograms.push({ of, naming, series: histogram });
        observe(of, histogram, value);
      },
    };
    this.#known.set(labels, series as SeriesOf<never>);
    return series;
  }

  /** Adds one observation to a histogram. `value` is an integer ≥ 0 in the family's unit (ms for seconds). */
  observe(family: MetricFamily, values: LabelValues, value: number): void {
    const of = familyIn(this.#histograms, family);
    observe(of, this.#histogram(of, values).histogram, value);
  }

  /** The histogram with these labels, born empty when it is new; where there are too many series, the one it folds into. */
  #histogram({ family, series }: Family<Histogram>, values: LabelValues): { histogram: Histogram; isFolded: boolean } {
    const known = series.get(keyOf(family, values));
    if (known) return { histogram: known, isFolded: false };
    const isFolded = this.isFull;
    if (isFolded) this.#noteFold(family);
    const labels = pick(family, values, isFolded);
    const key = keyOf(family, labels);
    let histogram = series.get(key);
    if (!histogram) {
      const bounds = family.buckets?.length ?? 0;
      histogram = { labels, counts: new Array(bounds + 1).fill(0), sum: 0, count: 0 };
      series.set(key, histogram);
      this.#seriesCount += bounds + 3;
    }
    return { histogram, isFolded };
  }

  /** Writes what changed; call it inside the transaction that books the cause. */
  flush(db: DatabaseSync): void {
    this.#upsertCounter ??= db.prepare(
      'INSERT INTO counter (family, labels, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value',
    );
    for (const { family, dirty } of this.#counters.values()) {
      for (const { labels, value } of dirty) this.#upsertCounter.run(family.name, JSON.stringify(labels), value);
      dirty.clear();
    }
    this.#upsertHistogram ??= db.prepare(
      'INSERT INTO histogram (family, labels, counts, sum) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET counts = excluded.counts, sum = excluded.sum',
    );
    for (const { family, dirty } of this.#histograms.values()) {
      for (const { labels, counts, sum } of dirty) {
        this.#upsertHistogram.run(family.name, JSON.stringify(labels), JSON.stringify(counts), sum);
      }
      dirty.clear();
    }
  }

  /** Replaces everything in memory by what the disk holds. */
  load(db: DatabaseSync, families: readonly MetricFamily[]): void {
    this.#counters.clear();
    this.#histograms.clear();
    this.#known = new WeakMap();
    this.#seriesCount = 0;
    const byName = new Map(families.map((family) => [family.name, family]));
    for (const row of db.prepare('SELECT family, labels, value FROM counter').iterate()) {
      const family = byName.get(row.family as string);
      if (!family) continue;
      const labels: Labels = Object.freeze(JSON.parse(row.labels as string));
      const of = familyIn(this.#counters, family);
      of.series.set(keyOf(family, labels), { labels, value: row.value as number });
      of.grand += row.value as number;
      this.#seriesCount += 1;
    }
    for (const row of db.prepare('SELECT family, labels, counts, sum FROM histogram').iterate()) {
      const family = byName.get(row.family as string);
      if (!family) continue;
      const labels: Labels = Object.freeze(JSON.parse(row.labels as string));
      const counts = JSON.parse(row.counts as string) as number[];
      const count = counts.reduce((total, each) => total + each, 0);
      const histogram = { labels, counts, sum: row.sum as number, count };
      familyIn(this.#histograms, family).series.set(keyOf(family, labels), histogram);
      this.#seriesCount += counts.length + 2;
    }
  }

  #noteFold({ name: metric }: MetricFamily): void {
    this.raise(TOLL.seriesOverflow, { metric }, 1);
  }

  /** The series with these labels, born at 0 when it is new. */
  #counter({ family, series, dirty }: Family<Counter>, labels: Labels): Counter {
    const key = keyOf(family, labels);
    let counter = series.get(key);
    if (!counter) {
      counter = { labels, value: 0 };
      series.set(key, counter);
      this.#seriesCount += 1;
      dirty.add(counter);
    }
    return counter;
  }
}

function familyIn<T>(families: Map<string, Family<T>>, family: MetricFamily): Family<T> {
  let of = families.get(family.name);
  if (!of) {
    of = { family, series: new Map(), dirty: new Set(), grand: 0 };
    families.set(family.name, of);
  }
  return of;
}

function raise(of: Family<Counter>, counter: Counter, delta: number): void {
  if (!Number.isSafeInteger(delta) || delta < 0)
    throw new RangeError(`${of.family.name}: a counter cannot move by ${delta}`);
  if (delta === 0) return;
  counter.value += delta;
  of.grand += delta;
  of.dirty.add(counter);
}

function observe({ family, dirty }: Family<Histogram>, histogram: Histogram, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${family.name}: cannot observe ${value}`);
  const { buckets = [], scale } = family;
  let at = 0;
  while (at < buckets.length && value > buckets[at]! * scale) at++;
  if (!dirty.has(histogram)) histogram.counts = [...histogram.counts];
  histogram.counts[at]! += 1;
  histogram.sum += value;
  histogram.count += 1;
  dirty.add(histogram);
}
