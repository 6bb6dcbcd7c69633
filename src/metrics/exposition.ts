// The ledger's metrics as Prometheus text, format 0.0.4. It exists because PrometheusSerializer builds every line of
// every series anew at each scrape and holds the event loop meanwhile; tests keep the two equal. Here a series keeps its
// text, and a few series that follow each other keep their bytes, for as long as no value changes.

import { setImmediate as nextTurnOfLoop } from 'node:timers/promises';
import type { Attributes } from '@opentelemetry/api';
import type { DataPoint, Histogram, MetricData } from '@opentelemetry/sdk-metrics';
import { type MetricFamily, TOLL } from './catalogue.ts';

/** How long others may be kept waiting, and after how many series the clock is looked at. */
const SLICE_MS = 1;
const LOOK_EVERY = 64;
/** Series are kept as bytes in pieces of at least so many characters: a change makes its whole piece be joined anew. */
const PIECE_CHARS = 4096;
/** Pieces are handed out together, about so many bytes at once: each write to a connection has its price. */
const CHUNK_BYTES = 256 * 1024;

const FAMILY_BY_OTEL_NAME = new Map<string, MetricFamily>(
  Object.values(TOLL).map((family) => [family.otelName, family]),
);

type AnyPoint = DataPoint<number | Histogram>;

/** A series as it was last written. */
interface Written {
  readonly attributes: Attributes;
  /** The value, or a histogram's count: it grows with every observation, so while it stands nothing else changed. */
  mark: number;
  /**
   * Its line with the end; of a histogram the labels alone, because its many lines are a piece of their own. Joined,
   * because a string built by concatenation stays a tree, which is walked each time.
   */
  text: string;
  /** Where it is shown. */
  piece: Piece | undefined;
}

/** Series that are shown one after the other. */
interface Piece {
  readonly series: readonly Written[];
  /** Absent when one of them changed. */
  bytes: Buffer | undefined;
}

interface WrittenFamily {
  /** In the order in which the points came. */
  readonly arrived: readonly Written[];
  /** In the order in which they are shown; absent when series came or went. */
  readonly pieces: readonly Piece[] | undefined;
}

/** Renders metrics whose attribute objects live as long as their series: what is known of one is kept by identity. */
export class Exposition {
  #families = new Map<string, WrittenFamily>();
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
    const families = new Map<string, WrittenFamily>();
    const chunks: Buffer[] = [];
    // The metrics were collected without a pause.
    await nextTurnOfLoop();
    const slice = new Slice();
    let gathered: Buffer[] = [];
    let bytes = 0;
    const hand = (piece: Buffer) => {
      gathered.push(piece);
      bytes += piece.length;
      if (bytes < CHUNK_BYTES) return;
      chunks.push(Buffer.concat(gathered, bytes));
      gathered = [];
      bytes = 0;
    };
    for (const metric of metrics) {
      const family = FAMILY_BY_OTEL_NAME.get(metric.descriptor.name);
      if (!family) throw new Error(`the metric ${metric.descriptor.name} is not in the catalogue`);
      const { name, help, type } = family;
      const points = metric.dataPoints as readonly AnyPoint[];
      const { arrived, pieces: kept } = placed(points, this.#families.get(name));
      for (let index = 0; index < arrived.length; index++) {
        write(arrived[index]!, name, points[index]!.value);
        if (index % LOOK_EVERY === 0) await slice.end();
      }
      const pieces = kept ?? piecesOf(arrived, type === 'histogram');
      families.set(name, { arrived, pieces });
      hand(Buffer.from(`# HELP ${name} ${escapeText(help)}\n# TYPE ${name} ${type}\n`));
      for (const piece of pieces) {
        piece.bytes ??= encoded(piece.series.map(({ text }) => text).join(''));
        hand(piece.bytes);
        await slice.end();
      }
    }
    this.#families = families;
    return [...chunks, ...gathered];
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

/** What is known of these points' series. */
function placed(points: readonly AnyPoint[], last: WrittenFamily | undefined): WrittenFamily {
  const known = last?.arrived ?? [];
  if (last && known.length === points.length && points.every((point, at) => point.attributes === known[at]!.attributes))
    return last;
  const byAttributes = new Map(known.map((series) => [series.attributes, series]));
  const arrived = points.map(
    ({ attributes }) => byAttributes.get(attributes) ?? { attributes, mark: Number.NaN, text: '', piece: undefined },
  );
  return { arrived, pieces: undefined };
}

/** Sorts series by their labels and divides them. */
function piecesOf(series: readonly Written[], areHistograms: boolean): Piece[] {
  const sorted = series.toSorted((a, b) => (a.text < b.text ? -1 : 1));
  if (areHistograms) return sorted.map(({ piece }) => piece!);
  const pieces: Piece[] = [];
  let members: Written[] = [];
  let chars = 0;
  for (const each of sorted) {
    if (members.length === 0 || chars >= PIECE_CHARS) {
      members = [];
      chars = 0;
      pieces.push({ series: members, bytes: undefined });
    }
    each.piece = pieces.at(-1);
    members.push(each);
    chars += each.text.length;
  }
  return pieces;
}

/** Brings the text of a series up to date. */
function write(series: Written, name: string, value: number | Histogram): void {
  const mark = typeof value === 'number' ? value : value.count;
  // The mark of a new series equals no number.
  if (mark === series.mark) return;
  series.mark = mark;
  if (typeof value !== 'number') {
    series.text ||= labelText(series.attributes);
    series.piece ??= { series: [], bytes: undefined };
    series.piece.bytes = encoded(histogramText(name, series.text, value));
    return;
  }
  if (series.piece) series.piece.bytes = undefined;
  const head = series.text.slice(0, series.text.lastIndexOf(' ')) || `${name}${labelText(series.attributes)}`;
  series.text = [head, ' ', numberText(value), '\n'].join('');
}

/** In memory of its own: what lies in Node's pool keeps its neighbours' memory. */
function encoded(text: string): Buffer {
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text));
  bytes.write(text);
  return bytes;
}

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
