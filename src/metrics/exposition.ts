// The ledger's metrics as Prometheus text, format 0.0.4. It exists because PrometheusSerializer builds every line of
// every series anew at each scrape and holds the event loop meanwhile; tests keep the two equal. Here a series keeps its
// bytes, and nothing else of its text: a new value is written over the old one.

import { setImmediate as nextTurnOfLoop } from 'node:timers/promises';
import type { Attributes } from '@opentelemetry/api';
import type { DataPoint, Histogram, MetricData } from '@opentelemetry/sdk-metrics';
import { type MetricFamily, TOLL } from './catalogue.ts';

/** How long others may be kept waiting, and after how many series the clock is looked at. */
const SLICE_MS = 1;
const LOOK_EVERY = 64;
/** Series that follow each other share a buffer of about so many bytes: what follows a longer value moves. */
const PIECE_BYTES = 8192;
/** Pieces are handed out together, about so many bytes at once: each write to a connection has its price. */
const CHUNK_BYTES = 256 * 1024;
/** What a buffer that became too small gets more than it needs. */
const SPARE_BYTES = 128;
const SPACE = 0x20;

const FAMILY_BY_OTEL_NAME = new Map<string, MetricFamily>(
  Object.values(TOLL).map((family) => [family.otelName, family]),
);

type AnyPoint = DataPoint<number | Histogram>;

/** Renders metrics whose attribute objects live as long as their series: what is known of one is kept by identity. */
export class Exposition {
  #families = new Map<string, FamilyText>();
  #rendering: Promise<unknown> = Promise.resolve();

  /**
   * Renders after the one before: two at once would write each other's series.
   * @param metrics of families in the catalogue, no two points of one with equal labels; histograms only ever grow
   * @returns the text in UTF-8, in pieces; each family once with its HELP and TYPE, its series sorted by their labels
   */
  render(metrics: readonly MetricData[]): Promise<Buffer[]> {
    const rendered = this.#rendering.then(() => this.#render(metrics));
    // Not what was rendered: that would be held until the next scrape.
    this.#rendering = rendered.then(
      () => {},
      () => {},
    );
    return rendered;
  }

  async #render(metrics: readonly MetricData[]): Promise<Buffer[]> {
    const families = new Map<string, FamilyText>();
    const chunks = new Chunks();
    // The metrics were collected without a pause.
    await nextTurnOfLoop();
    const slice = new Slice();
    for (const metric of metrics) {
      const family = FAMILY_BY_OTEL_NAME.get(metric.descriptor.name);
      if (!family) throw new Error(`the metric ${metric.descriptor.name} is not in the catalogue`);
      const text = this.#families.get(family.name) ?? new FamilyText(family);
      families.set(family.name, text);
      await text.update(metric.dataPoints as readonly AnyPoint[], slice);
      await text.copyTo(chunks, slice);
    }
    this.#families = families;
    return chunks.end();
  }
}

/** The event loop's time, taken in slices. */
class Slice {
  #begunMs = performance.now();

  /** Gives others a turn when enough was taken. */
  async end(): Promise<void> {
    if (performance.now() - this.#begunMs < SLICE_MS) return;
    await nextTurnOfLoop();
    this.#begunMs = performance.now();
  }
}

/** Bytes copied one after the other into a few buffers. */
class Chunks {
  readonly #full: Buffer[] = [];
  #last = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  #used = 0;

  add(bytes: Buffer, length = bytes.length): void {
    if (this.#used + length > this.#last.length) {
      this.#full.push(this.#last.subarray(0, this.#used));
      this.#last = Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, length));
      this.#used = 0;
    }
    bytes.copy(this.#last, this.#used, 0, length);
    this.#used += length;
  }

  end(): Buffer[] {
    return [...this.#full, this.#last.subarray(0, this.#used)];
  }
}

/** A series as it was last written. */
interface Series {
  readonly attributes: Attributes;
  /** The value, or a histogram's count: it grows with every observation, so while it stands nothing else changed. */
  mark: number;
  /** Where it is shown. */
  piece: Piece | undefined;
}

/** One family, from scrape to scrape. */
class FamilyText {
  readonly #name: string;
  readonly #head: Buffer;
  /** In the order in which the points came. */
  #arrived: readonly Series[] = [];
  /** In the order in which the series are shown. */
  #pieces: readonly Piece[] = [];

  constructor({ name, help, type }: MetricFamily) {
    this.#name = name;
    this.#head = Buffer.from(`# HELP ${name} ${escapeText(help)}\n# TYPE ${name} ${type}\n`);
  }

  /** Brings the text up to date. */
  async update(points: readonly AnyPoint[], slice: Slice): Promise<void> {
    const arrived = this.#arrived;
    const areSame = arrived.length === points.length;
    if (!areSame || points.some(({ attributes }, at) => attributes !== arrived[at]!.attributes)) {
      await this.#place(points, slice);
    }
    for (const [at, { value }] of points.entries()) {
      const series = this.#arrived[at]!;
      const mark = markOf(value);
      // NaN is no number's equal, but its own.
      if (!Object.is(mark, series.mark)) {
        series.mark = mark;
        if (typeof value === 'number') series.piece!.writeValue(series, numberText(value));
        else series.piece!.write(series, histogramText(this.#name, labelText(series.attributes), value));
      }
      if (at % LOOK_EVERY === 0) await slice.end();
    }
  }

  async copyTo(chunks: Chunks, slice: Slice): Promise<void> {
    chunks.add(this.#head);
    for (const piece of this.#pieces) {
      piece.copyTo(chunks);
      await slice.end();
    }
  }

  /** Finds the place of series that came, and closes the gaps of those that went. */
  async #place(points: readonly AnyPoint[], slice: Slice): Promise<void> {
    const known = new Map(this.#arrived.map((series) => [series.attributes, series]));
    const arrived: Series[] = [];
    const fresh: { series: Series; labels: string; text: Buffer }[] = [];
    for (const { attributes, value } of points) {
      let series = known.get(attributes);
      if (!series) {
        series = { attributes, mark: markOf(value), piece: undefined };
        const labels = labelText(attributes);
        const isNumber = typeof value === 'number';
        const text = isNumber
          ? `${this.#name}${labels} ${numberText(value)}\n`
          : histogramText(this.#name, labels, value);
        fresh.push({ series, labels, text: Buffer.from(text) });
        if (fresh.length % LOOK_EVERY === 0) await slice.end();
      }
      arrived.push(series);
    }
    fresh.sort((one, other) => (one.labels < other.labels ? -1 : 1));
    const staying = new Set(arrived);
    const shown = this.#pieces.flatMap((piece) => piece.series).filter((series) => staying.has(series));
    const pieces: Piece[] = [];
    let filling = new PieceToBe();
    const show = (series: Series, text: Buffer) => {
      if (filling.bytes >= PIECE_BYTES) {
        pieces.push(new Piece(filling));
        filling = new PieceToBe();
      }
      filling.add(series, text);
    };
    let next = 0;
    for (const { series, labels, text } of fresh) {
      const end = firstAfter(shown, labels, next);
      for (; next < end; next++) show(shown[next]!, shown[next]!.piece!.text(shown[next]!));
      show(series, text);
    }
    for (; next < shown.length; next++) show(shown[next]!, shown[next]!.piece!.text(shown[next]!));
    pieces.push(new Piece(filling));
    this.#arrived = arrived;
    this.#pieces = pieces;
    for (const piece of pieces) for (const series of piece.series) series.piece = piece;
  }
}

/** Where the first of some sorted series is that comes after these labels. */
function firstAfter(sorted: readonly Series[], labels: string, from: number): number {
  let [low, high] = [from, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (labelText(sorted[middle]!.attributes) < labels) low = middle + 1;
    else high = middle;
  }
  return low;
}

class PieceToBe {
  readonly series: Series[] = [];
  readonly texts: Buffer[] = [];
  bytes = 0;

  add(series: Series, text: Buffer): void {
    this.series.push(series);
    this.texts.push(text);
    this.bytes += text.length;
  }
}

/** The text of series that are shown one after the other. */
class Piece {
  readonly series: readonly Series[];
  /** Where the text of each ends. */
  readonly #ends: number[];
  #bytes: Buffer;

  constructor({ series, texts, bytes }: PieceToBe) {
    this.series = [...series];
    let end = 0;
    this.#ends = texts.map((text) => (end += text.length));
    // In memory of its own: what lies in Node's pool keeps its neighbours' memory.
    this.#bytes = Buffer.allocUnsafeSlow(bytes);
    for (const [at, text] of texts.entries()) text.copy(this.#bytes, this.#ends[at]! - text.length);
  }

  text(series: Series): Buffer {
    const at = this.series.indexOf(series);
    return this.#bytes.subarray(this.#start(at), this.#ends[at]);
  }

  /** Everything that a series says. */
  write(series: Series, text: string): void {
    const at = this.series.indexOf(series);
    this.#replace(at, this.#start(at), this.#ends[at]!, text);
  }

  /** What stands behind the last space of a series' only line. */
  writeValue(series: Series, value: string): void {
    const at = this.series.indexOf(series);
    const end = this.#ends[at]! - 1;
    let from = end;
    while (this.#bytes[from - 1] !== SPACE) from -= 1;
    this.#replace(at, from, end, value);
  }

  copyTo(chunks: Chunks): void {
    chunks.add(this.#bytes, this.#ends.at(-1) ?? 0);
  }

  #start(at: number): number {
    return at === 0 ? 0 : this.#ends[at - 1]!;
  }

  /** Puts other text in the place of some bytes of one series. */
  #replace(at: number, from: number, to: number, text: string): void {
    const grown = from + Buffer.byteLength(text) - to;
    if (grown !== 0) {
      const end = this.#ends.at(-1)!;
      if (end + grown > this.#bytes.length) {
        const larger = Buffer.allocUnsafeSlow(end + grown + SPARE_BYTES);
        this.#bytes.copy(larger, 0, 0, end);
        this.#bytes = larger;
      }
      this.#bytes.copyWithin(to + grown, to, end);
      for (let later = at; later < this.#ends.length; later++) this.#ends[later]! += grown;
    }
    this.#bytes.write(text, from);
  }
}

const markOf = (value: number | Histogram) => (typeof value === 'number' ? value : value.count);

function histogramText(name: string, labels: string, { buckets, sum, count }: Histogram): string {
  const lines: string[] = [];
  const open = labels === '' ? '{' : `${labels.slice(0, -1)},`;
  let cumulative = 0;
  for (let index = 0; index < buckets.counts.length; index += 1) {
    cumulative += buckets.counts[index] ?? 0;
    const bound = buckets.boundaries[index] ?? Number.POSITIVE_INFINITY;
    lines.push(`${name}_bucket${open}le="${numberText(bound)}"} ${cumulative}\n`);
  }
  lines.push(`${name}_sum${labels} ${numberText(sum ?? 0)}\n${name}_count${labels} ${count}\n`);
  return lines.join('');
}

/** `{name="value",…}`, or nothing where there are no labels. */
function labelText(attributes: Attributes): string {
  const pairs = Object.entries(attributes).map(([name, value]) => `${name}="${escapeLabel(String(value))}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escapeText(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function escapeLabel(text: string): string {
  return escapeText(text).replaceAll('"', '\\"');
}

/** As Prometheus spells numbers; every other one as JavaScript does, which reads back as the same number. */
function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  if (value === Number.NEGATIVE_INFINITY) return '-Inf';
  return String(value);
}
