// The ledger's metrics as Prometheus text, format 0.0.4. It exists because PrometheusSerializer builds every label of
// every series anew at each scrape and holds the event loop meanwhile; tests keep the two equal.

import { setImmediate as nextTurnOfLoop } from 'node:timers/promises';
import type { Attributes } from '@opentelemetry/api';
import type { DataPoint, Histogram, MetricData } from '@opentelemetry/sdk-metrics';
import { type MetricFamily, TOLL } from './catalogue.ts';

/** Points written before others get a turn: about a millisecond. */
const POINTS_PER_SLICE = 2_000;

const FAMILY_BY_OTEL_NAME = new Map<string, MetricFamily>(
  Object.values(TOLL).map((family) => [family.otelName, family]),
);

type AnyPoint = DataPoint<number | Histogram>;

/** Renders metrics whose attribute objects live as long as their series: what is known of one is kept by identity. */
export class Exposition {
  readonly #labelText = new WeakMap<Attributes, string>();
  /** The series of each family as they were last written, so that only new ones must find their place. */
  #lastOrder = new Map<string, readonly Attributes[]>();

  /**
   * @param metrics of families in the catalogue, no two points of one with equal labels
   * @returns the text, each family once with its HELP and TYPE, its series sorted by their labels
   */
  async render(metrics: readonly MetricData[]): Promise<string> {
    const order = new Map<string, readonly Attributes[]>();
    const texts: string[] = [];
    let pointsSinceYield = 0;
    for (const metric of metrics) {
      const family = FAMILY_BY_OTEL_NAME.get(metric.descriptor.name);
      if (!family) throw new Error(`the metric ${metric.descriptor.name} is not in the catalogue`);
      texts.push(`# HELP ${family.name} ${escapeText(family.help)}\n# TYPE ${family.name} ${family.type}\n`);
      const points = new Map<Attributes, AnyPoint>();
      for (const point of metric.dataPoints) points.set(point.attributes, point as AnyPoint);
      const sorted = this.#sorted(points, this.#lastOrder.get(family.name) ?? []);
      order.set(family.name, sorted);
      for (let from = 0; from < sorted.length; from += POINTS_PER_SLICE) {
        const slice = sorted.slice(from, from + POINTS_PER_SLICE);
        texts.push(
          this.#seriesText(
            family.name,
            slice.map((attributes) => points.get(attributes) as AnyPoint),
          ),
        );
        pointsSinceYield += slice.length;
        if (pointsSinceYield < POINTS_PER_SLICE) continue;
        await nextTurnOfLoop();
        pointsSinceYield = 0;
      }
    }
    this.#lastOrder = order;
    return texts.join('');
  }

  #seriesText(name: string, points: readonly AnyPoint[]): string {
    const lines: string[] = [];
    for (const { attributes, value } of points) {
      const labels = this.#labels(attributes);
      if (typeof value === 'number') {
        lines.push(`${name}${labels} ${numberText(value)}\n`);
        continue;
      }
      const { buckets, sum, count } = value;
      const open = labels === '' ? '{' : `${labels.slice(0, -1)},`;
      let cumulative = 0;
      for (let index = 0; index < buckets.counts.length; index += 1) {
        cumulative += buckets.counts[index] ?? 0;
        const bound = buckets.boundaries[index] ?? Number.POSITIVE_INFINITY;
        lines.push(`${name}_bucket${open}le="${numberText(bound)}"} ${cumulative}\n`);
      }
      lines.push(`${name}_sum${labels} ${numberText(sum ?? 0)}\n${name}_count${labels} ${count}\n`);
    }
    return lines.join('');
  }

  /** Nearly free when no series came or went: the sort meets one long ascending run. */
  #sorted(points: ReadonlyMap<Attributes, unknown>, last: readonly Attributes[]): readonly Attributes[] {
    const kept = last.filter((attributes) => points.has(attributes));
    if (kept.length === points.size) return kept;
    const placed = new Set(kept);
    for (const attributes of points.keys()) if (!placed.has(attributes)) kept.push(attributes);
    return kept.sort((a, b) => (this.#labels(a) < this.#labels(b) ? -1 : 1));
  }

  /** `{name="value",…}`, or nothing where there are no labels. */
  #labels(attributes: Attributes): string {
    const known = this.#labelText.get(attributes);
    if (known !== undefined) return known;
    const pairs = Object.entries(attributes).map(([name, value]) => `${name}="${escapeLabel(String(value))}"`);
    // Through a buffer, because a string built from pieces stays a tree, which would be flattened at each scrape.
    const text = Buffer.from(pairs.length === 0 ? '' : `{${pairs.join(',')}}`).toString();
    this.#labelText.set(attributes, text);
    return text;
  }
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
