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
export interface SeriesOf {
  /** As `raise`. `own` is what tells the series from others of its family; `values` are asked for when it is first met. */
  raise(family: MetricFamily, delta: number, own: string, values: () => LabelValues): void;
  /** As `observe`. */
  observe(family: MetricFamily, value: number, own: string, values: () => LabelValues): void;
}

/** A series of a label set; there are a dozen of each, so looking through them is as fast as a map, and much smaller. */
interface Found<T> {
  readonly family: MetricFamily;
  readonly own: string;
  readonly series: T;
}

function among<T>(found: readonly Found<T>[], family: MetricFamily, own: string): T | undefined {
  for (const each of found) if (each.family === family && each.own === own) return each.series;
  return undefined;
}

export class Totals {
  readonly #counters = new Map<string, Map<string, Counter>>();
  readonly #histograms = new Map<string, Map<string, Histogram>>();
  readonly #grand = new Map<string, number>();
  readonly #dirtyCounters = new Map<Counter, string>();
  readonly #dirtyHistograms = new Map<Histogram, string>();
  #known = new WeakMap<LabelValues, SeriesOf>();
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
    return this.#counters.get(name)?.values() ?? [];
  }

  histograms(name: string): Iterable<HistogramPoint> {
    return this.#histograms.get(name)?.values() ?? [];
  }

  /** The sum over all series of a counter, kept as it grows. */
  grand(family: MetricFamily): number {
    return this.#grand.get(family.name) ?? 0;
  }

  /** Whether so many series are held that new label sets fold into `other`. */
  get isFull(): boolean {
    return this.#seriesCount >= this.#maxSeries;
  }

  /** Whether a counter has a series with these labels. */
  has(family: MetricFamily, values: LabelValues): boolean {
    return this.#counters.get(family.name)?.has(keyOf(family, values)) ?? false;
  }

  /**
   * Adds to a counter under exactly these labels; `delta` 0 gives birth to the series.
   * @param delta integer ≥ 0 in the family's unit
   */
  raise(family: MetricFamily, values: LabelValues, delta: number): void {
    this.#raise(family, this.#counter(family, pick(family, values, false)), delta);
  }

  /** As `raise`, but a new label set folds when there are too many series. */
  add(family: MetricFamily, values: LabelValues, delta: number): void {
    const fold = this.isFull && !this.has(family, values);
    this.#raise(family, this.#counter(family, pick(family, values, fold)), delta);
    if (fold && delta > 0) this.#noteFold(family);
  }

  /**
   * What was found of the series of a label set before: a turn raises a dozen of them, and spelling out their labels
   * costs more than raising them.
   * @param labels an object that lasts and does not change
   */
  of(labels: LabelValues): SeriesOf {
    let known = this.#known.get(labels);
    if (known) return known;
    const counters: Found<Counter>[] = [];
    const histograms: Found<Histogram>[] = [];
    known = {
      raise: (family, delta, own, values) => {
        let series = among(counters, family, own);
        if (!series) {
          series = this.#counter(family, pick(family, values(), false));
          counters.push({ family, own, series });
        }
        this.#raise(family, series, delta);
      },
      observe: (family, value, own, values) => {
        const series = among(histograms, family, own);
        if (series) return this.#observe(family, series, value);
        const { found, isFolded } = this.#histogram(family, values());
        // What folds is looked for again each time, because each time is told.
        if (!isFolded) histograms.push({ family, own, series: found });
        this.#observe(family, found, value);
      },
    };
    this.#known.set(labels, known);
    return known;
  }

  /** Adds one observation to a histogram. `value` is an integer ≥ 0 in the family's unit (ms for seconds). */
  observe(family: MetricFamily, values: LabelValues, value: number): void {
    this.#observe(family, this.#histogram(family, values).found, value);
  }

  /** The histogram with these labels, born empty when it is new; where there are too many series, the one it folds into. */
  #histogram(family: MetricFamily, values: LabelValues): { found: Histogram; isFolded: boolean } {
    const buckets = family.buckets ?? [];
    const series = this.#family(this.#histograms, family);
    const known = series.get(keyOf(family, values));
    if (known) return { found: known, isFolded: false };
    const isFolded = this.isFull;
    if (isFolded) this.#noteFold(family);
    const labels = pick(family, values, isFolded);
    const key = keyOf(family, labels);
    let found = series.get(key);
    if (!found) {
      found = { labels, counts: new Array(buckets.length + 1).fill(0), sum: 0, count: 0 };
      series.set(key, found);
      this.#seriesCount += buckets.length + 3;
    }
    return { found, isFolded };
  }

  #observe(family: MetricFamily, histogram: Histogram, value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${family.name}: cannot observe ${value}`);
    const buckets = family.buckets ?? [];
    const at = buckets.findIndex((bound) => value <= bound * family.scale);
    const index = at === -1 ? buckets.length : at;
    if (!this.#dirtyHistograms.has(histogram)) histogram.counts = [...histogram.counts];
    histogram.counts[index] = (histogram.counts[index] as number) + 1;
    histogram.sum += value;
    histogram.count += 1;
    this.#dirtyHistograms.set(histogram, family.name);
  }

  /** Writes what changed; call it inside the transaction that books the cause. */
  flush(db: DatabaseSync): void {
    this.#upsertCounter ??= db.prepare(
      'INSERT INTO counter (family, labels, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value',
    );
    for (const [counter, name] of this.#dirtyCounters) {
      this.#upsertCounter.run(name, JSON.stringify(counter.labels), counter.value);
    }
    this.#upsertHistogram ??= db.prepare(
      'INSERT INTO histogram (family, labels, counts, sum) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET counts = excluded.counts, sum = excluded.sum',
    );
    for (const [histogram, name] of this.#dirtyHistograms) {
      const { labels, counts, sum } = histogram;
      this.#upsertHistogram.run(name, JSON.stringify(labels), JSON.stringify(counts), sum);
    }
    this.#forgetDirty();
  }

  /** Replaces everything in memory by what the disk holds. */
  load(db: DatabaseSync, families: readonly MetricFamily[]): void {
    this.#counters.clear();
    this.#histograms.clear();
    this.#grand.clear();
    this.#known = new WeakMap();
    this.#forgetDirty();
    this.#seriesCount = 0;
    const byName = new Map(families.map((family) => [family.name, family]));
    for (const row of db.prepare('SELECT family, labels, value FROM counter').iterate()) {
      const family = byName.get(row.family as string);
      if (!family) continue;
      const labels: Labels = Object.freeze(JSON.parse(row.labels as string));
      this.#family(this.#counters, family).set(keyOf(family, labels), { labels, value: row.value as number });
      this.#grand.set(family.name, this.grand(family) + (row.value as number));
      this.#seriesCount += 1;
    }
    for (const row of db.prepare('SELECT family, labels, counts, sum FROM histogram').iterate()) {
      const family = byName.get(row.family as string);
      if (!family) continue;
      const labels: Labels = Object.freeze(JSON.parse(row.labels as string));
      const counts = JSON.parse(row.counts as string) as number[];
      const count = counts.reduce((total, each) => total + each, 0);
      const histogram = { labels, counts, sum: row.sum as number, count };
      this.#family(this.#histograms, family).set(keyOf(family, labels), histogram);
      this.#seriesCount += counts.length + 2;
    }
  }

  #noteFold({ name }: MetricFamily): void {
    this.#raise(TOLL.seriesOverflow, this.#counter(TOLL.seriesOverflow, { metric: name }), 1);
  }

  /** The series with these labels, born at 0 when it is new. */
  #counter(family: MetricFamily, labels: Labels): Counter {
    const series = this.#family(this.#counters, family);
    const key = keyOf(family, labels);
    let counter = series.get(key);
    if (!counter) {
      counter = { labels, value: 0 };
      series.set(key, counter);
      this.#seriesCount += 1;
      this.#dirtyCounters.set(counter, family.name);
    }
    return counter;
  }

  #raise(family: MetricFamily, counter: Counter, delta: number): void {
    if (!Number.isSafeInteger(delta) || delta < 0)
      throw new RangeError(`${family.name}: a counter cannot move by ${delta}`);
    if (delta === 0) return;
    counter.value += delta;
    this.#grand.set(family.name, this.grand(family) + delta);
    this.#dirtyCounters.set(counter, family.name);
  }

  #family<T>(families: Map<string, Map<string, T>>, family: MetricFamily): Map<string, T> {
    let series = families.get(family.name);
    if (!series) {
      series = new Map();
      families.set(family.name, series);
    }
    return series;
  }

  #forgetDirty(): void {
    this.#dirtyCounters.clear();
    this.#dirtyHistograms.clear();
  }
}
