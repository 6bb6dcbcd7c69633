// The ledger's metrics as Prometheus text, format 0.0.4. It exists because PrometheusSerializer builds every line of
// every series anew at each scrape and holds the event loop meanwhile; tests keep the two equal. Here a series keeps its
// bytes, and nothing else of its text. They lie in pieces that are handed out as they are and never change: a piece in
// which a value changed is put together anew, and whoever still sends the old one has it for as long as he likes.

import { setImmediate as nextTurnOfLoop } from 'node:timers/promises';
import type { Attributes } from '@opentelemetry/api';
import type { DataPoint, Histogram, MetricData } from '@opentelemetry/sdk-metrics';
import { type MetricFamily, TOLL } from './catalogue.ts';

/** How long others may be kept waiting, and after how many series the clock is looked at. */
const SLICE_MS = 0.25;
const LOOK_EVERY = 16;
/**
 * Series that follow each other share a buffer of about so many bytes. Larger ones are put together anew more often, and
 * of smaller ones there are many, when each write to a connection has its price.
 */
const PIECE_BYTES = 16 * 1024;
const SPACE = 0x20;

const FAMILY_BY_OTEL_NAME = new Map<string, MetricFamily>(
  Object.values(TOLL).map((family) => [family.otelName, family]),
);

type AnyPoint = DataPoint<number | Histogram>;

/** Renders metrics whose attribute objects live as long as their series: what is known of one is kept by identity. */
export class Exposition {
  readonly #pieceBytes: number;
  #families = new Map<string, FamilyText>();
  #rendering: Promise<unknown> = Promise.resolve();

  constructor({ pieceBytes = PIECE_BYTES } = {}) {
    this.#pieceBytes = pieceBytes;
  }

  /**
   * Renders after the one before: two at once would change each other's series.
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
    const pieces: Buffer[] = [];
    // The metrics were collected without a pause.
    await nextTurnOfLoop();
    const slice = new Slice();
    for (const metric of metrics) {
      const family = FAMILY_BY_OTEL_NAME.get(metric.descriptor.name);
      if (!family) throw new Error(`the metric ${metric.descriptor.name} is not in the catalogue`);
      const text = this.#families.get(family.name) ?? new FamilyText(family, this.#pieceBytes);
      families.set(family.name, text);
      await text.update(metric.dataPoints as readonly AnyPoint[], slice);
      pieces.push(text.head);
      for (const piece of text.pieces) {
        pieces.push(piece.bytes());
        await slice.end();
      }
    }
    this.#families = families;
    return pieces;
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

/** A series as it was last written. */
interface Series {
  readonly attributes: Attributes;
  /** The value, or a histogram's count: it grows with every observation, so while it stands nothing else changed. */
  mark: number;
  /** Where it is shown. */
  piece: Piece | undefined;
}

/** What a series says. */
interface Line {
  readonly series: Series;
  readonly text: Buffer;
}

interface NewLine extends Line {
  readonly labels: string;
}

/** One family, from scrape to scrape. */
class FamilyText {
  /** What is said of the family. */
  readonly head: Buffer;
  readonly #name: string;
  readonly #pieceBytes: number;
  /** In the order in which the points came. */
  #arrived: readonly Series[] = [];
  /** In the order in which the series are shown. */
  #pieces: readonly Piece[] = [];

  constructor({ name, help, type }: MetricFamily, pieceBytes: number) {
    this.#name = name;
    this.#pieceBytes = pieceBytes;
    this.head = Buffer.from(`# HELP ${name} ${escapeText(help)}\n# TYPE ${name} ${type}\n`);
  }

  get pieces(): readonly Piece[] {
    return this.#pieces;
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
        series.piece!.change(series, this.#textOf(value, series.attributes));
      }
      if (at % LOOK_EVERY === 0) await slice.end();
    }
  }

  /** Of a histogram everything, of others the value alone: nothing else of their line ever changes. */
  #textOf(value: number | Histogram, attributes: Attributes): string {
    return typeof value === 'number' ? numberText(value) : histogramText(this.#name, labelText(attributes), value);
  }

  /** Finds the place of series that came, and closes the gaps of those that went. */
  async #place(points: readonly AnyPoint[], slice: Slice): Promise<void> {
    const known = new Map(this.#arrived.map((series) => [series.attributes, series]));
    const arrived: Series[] = [];
    const fresh: NewLine[] = [];
    for (const { attributes, value } of points) {
      let series = known.get(attributes);
      if (!series) {
        series = { attributes, mark: markOf(value), piece: undefined };
        const labels = labelText(attributes);
        const own = this.#textOf(value, attributes);
        const text = Buffer.from(typeof value === 'number' ? `${this.#name}${labels} ${own}\n` : own);
        fresh.push({ series, labels, text });
        if (fresh.length % LOOK_EVERY === 0) await slice.end();
      }
      arrived.push(series);
    }
    fresh.sort((one, other) => (one.labels < other.labels ? -1 : 1));
    const isAnyGone = arrived.length - fresh.length < this.#arrived.length;
    this.#pieces = isAnyGone || this.#pieces.length === 0 ? this.#placedAnew(arrived, fresh) : this.#placedAmong(fresh);
    this.#arrived = arrived;
  }

  #placedAnew(arrived: readonly Series[], fresh: readonly NewLine[]): Piece[] {
    const staying = new Set(arrived);
    const lines = this.#pieces.flatMap((piece) => piece.lines()).filter(({ series }) => staying.has(series));
    return piecesOf(merged(lines, fresh), this.#pieceBytes);
  }

  /** Only the pieces in which series come to stand change. */
  #placedAmong(fresh: readonly NewLine[]): Piece[] {
    let next = 0;
    return this.#pieces.flatMap((piece, at) => {
      const following = this.#pieces[at + 1];
      const begins = following && labelText(following.first.attributes);
      const from = next;
      while (next < fresh.length && (begins === undefined || fresh[next]!.labels < begins)) next += 1;
      return next === from ? [piece] : piecesOf(merged(piece.lines(), fresh.slice(from, next)), this.#pieceBytes);
    });
  }
}

/** Sorted lines with others, sorted too, among them. */
function merged(lines: readonly Line[], fresh: readonly NewLine[]): Line[] {
  const all: Line[] = [];
  let next = 0;
  for (const line of fresh) {
    const end = firstAfter(lines, line.labels, next);
    while (next < end) all.push(lines[next++]!);
    all.push(line);
  }
  while (next < lines.length) all.push(lines[next++]!);
  return all;
}

/** Where the first of some sorted lines is that comes after these labels. */
function firstAfter(sorted: readonly Line[], labels: string, from: number): number {
  let [low, high] = [from, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (labelText(sorted[middle]!.series.attributes) < labels) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Pieces of about the same size, none much smaller than `pieceBytes` where there is more than one. */
function piecesOf(lines: readonly Line[], pieceBytes: number): Piece[] {
  const bytes = lines.reduce((sum, { text }) => sum + text.length, 0);
  const size = bytes / Math.max(1, Math.floor(bytes / pieceBytes));
  const pieces: Piece[] = [];
  let [from, filled] = [0, 0];
  for (const [at, { text }] of lines.entries()) {
    filled += text.length;
    if (filled < size && at < lines.length - 1) continue;
    pieces.push(new Piece(lines.slice(from, at + 1)));
    [from, filled] = [at + 1, 0];
  }
  return pieces;
}

/** The text of series that are shown one after the other. */
class Piece {
  readonly #series: readonly Series[];
  /** Where the text of each ends. */
  readonly #ends: number[];
  /** Never written to once it was handed out. */
  #bytes: Buffer;
  /** What is to stand in the place of what some say now. */
  readonly #changes = new Map<Series, string>();

  constructor(lines: readonly Line[]) {
    this.#series = lines.map(({ series }) => series);
    let end = 0;
    this.#ends = lines.map(({ text }) => (end += text.length));
    // In memory of its own: what lies in Node's pool keeps its neighbours' memory.
    this.#bytes = Buffer.allocUnsafeSlow(end);
    for (const [at, { series, text }] of lines.entries()) {
      text.copy(this.#bytes, this.#start(at));
      series.piece = this;
    }
  }

  get first(): Series {
    return this.#series[0]!;
  }

  lines(): Line[] {
    const bytes = this.bytes();
    return this.#series.map((series, at) => ({ series, text: bytes.subarray(this.#start(at), this.#ends[at]) }));
  }

  /** @param text of a counter or gauge its new value; of a histogram all that it says */
  change(series: Series, text: string): void {
    this.#changes.set(series, text);
  }

  /** What stands here now; stays as it is. */
  bytes(): Buffer {
    if (this.#changes.size > 0) this.#rebuild();
    return this.#bytes;
  }

  #start(at: number): number {
    return at === 0 ? 0 : this.#ends[at - 1]!;
  }

  #rebuild(): void {
    const places: { readonly from: number; readonly to: number; readonly text: string }[] = [];
    let grown = 0;
    let start = 0;
    for (const [at, series] of this.#series.entries()) {
      const end = this.#ends[at]!;
      const text = this.#changes.get(series);
      if (text !== undefined) {
        const place = text.endsWith('\n')
          ? { from: start, to: end }
          : { from: this.#valueBefore(end - 1), to: end - 1 };
        places.push({ ...place, text });
        grown += Buffer.byteLength(text) - (place.to - place.from);
      }
      start = end;
      this.#ends[at] = end + grown;
    }
    this.#changes.clear();
    const old = this.#bytes;
    this.#bytes = Buffer.allocUnsafeSlow(old.length + grown);
    let [read, written] = [0, 0];
    for (const { from, to, text } of places) {
      written += old.copy(this.#bytes, written, read, from);
      written += this.#bytes.write(text, written);
      read = to;
    }
    old.copy(this.#bytes, written, read);
  }

  /** Where the value begins that ends here. */
  #valueBefore(end: number): number {
    let from = end;
    while (this.#bytes[from - 1] !== SPACE) from -= 1;
    return from;
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
