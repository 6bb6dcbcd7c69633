// Asks Prometheus as Grafana's datasource would, and makes data frames of the answers.

import { createDataFrame, type DataFrame, FieldType, rangeUtil, type TimeRange } from '@grafana/data';
import { aligned, atLeast, timeVariables } from './grafana-time';
import type { Target } from './model';
import { fill, type Variables } from './variables';

interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly value?: readonly [number, string];
  readonly values?: readonly (readonly [number, string])[];
}

export interface Ask {
  readonly target: Target;
  readonly range: TimeRange;
  readonly variables: Variables;
  /** More points than pixels are not asked for. */
  readonly maxPoints: number;
  /** The smallest step, for example `1d`. */
  readonly interval?: string;
}

export class Prometheus {
  readonly #url: string;

  /** @param url where its API is, without `/api` */
  constructor(url: string) {
    this.#url = url;
  }

  /** The frames of one query; none where nothing was found. @throws Error with what Prometheus says is wrong */
  async query({ target, range, variables, maxPoints, interval }: Ask): Promise<DataFrame[]> {
    const [startS, endS] = [range.from.valueOf() / 1000, range.to.valueOf() / 1000];
    const stated = { startS, endS, stepS: stepOf(endS - startS, maxPoints, target.interval ?? interval) };
    const expr = fill(target.expr, variables, timeVariables(stated), true);
    if (target.format === 'table') return tableOf(target, await this.#instant(expr, endS));
    if (!target.range) return (await this.#instant(expr, endS)).map((series) => frameOf(target, series));
    const asked = aligned(stated, range.to.utcOffset() * 60);
    const found = await this.#ask('query_range', {
      query: expr,
      start: String(asked.startS),
      end: String(asked.endS),
      step: String(asked.stepS),
    });
    return (found.result as Series[]).map((series) => frameOf(target, series));
  }

  /** What a variable's query finds, as the texts that its regular expression is held against. */
  async variableQuery(query: string): Promise<string[]> {
    const labelValues = /^label_values\((?:(.+),\s*)?(\w+)\)$/.exec(query);
    if (labelValues) {
      const [, metric, label] = labelValues;
      return this.#ask(`label/${label}/values`, metric ? { 'match[]': metric } : {});
    }
    const result = /^query_result\((.+)\)$/.exec(query);
    if (!result) throw new Error(`a variable's query is not understood: ${query}`);
    const found = await this.#instant(result[1]!, Date.now() / 1000);
    return found.map(({ metric, value }) => {
      const { __name__ = '', ...labels } = metric;
      const text = Object.entries(labels).map(([label, of]) => `${label}="${of}"`);
      return `${__name__}{${text.join(',')}} ${value?.[1]} ${(value?.[0] ?? 0) * 1000}`;
    });
  }

  async #instant(query: string, time: number): Promise<Series[]> {
    const { resultType, result } = await this.#ask('query', { query, time: String(time) });
    return resultType === 'scalar' ? [{ metric: {}, value: result }] : result;
  }

  // biome-ignore lint/suspicious/noExplicitAny: the answers of different routes have nothing in common
  async #ask(route: string, parameters: Record<string, string>): Promise<any> {
    const answer = await fetch(`${this.#url}/api/v1/${route}?${new URLSearchParams(parameters)}`);
    const { status, error, data } = await answer.json();
    if (status !== 'success') throw new Error(error);
    return data;
  }
}

function stepOf(seconds: number, maxPoints: number, least: string | undefined): number {
  const rounded = rangeUtil.roundInterval((seconds / maxPoints) * 1000) / 1000;
  return atLeast(rounded, least ? rangeUtil.intervalToSeconds(least) : undefined);
}

function nameOf({ legendFormat }: Target, metric: Series['metric']): string {
  if (legendFormat && legendFormat !== '__auto') {
    return legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? '').trim();
  }
  const { __name__ = '', ...labels } = metric;
  const text = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return `${__name__}${text.length > 0 ? `{${text.join(', ')}}` : ''}` || 'Value';
}

/** A chart cannot draw what is not a number; Grafana shows it as a gap, too. */
function numberOf(text: string | undefined): number | null {
  const value = Number(text);
  return Number.isNaN(value) ? null : value;
}

function frameOf(target: Target, { metric, value, values = value ? [value] : [] }: Series): DataFrame {
  const name = nameOf(target, metric);
  const { __name__: _, ...labels } = metric;
  return createDataFrame({
    refId: target.refId,
    name,
    fields: [
      { name: 'Time', type: FieldType.time, values: values.map(([at]) => at * 1000) },
      {
        name: 'Value',
        type: FieldType.number,
        labels,
        config: { displayNameFromDS: name },
        values: values.map(([, of]) => numberOf(of)),
      },
    ],
  });
}

/** One frame with a column for each label; its value column is told apart by the query where there are several. */
function tableOf({ refId }: Target, found: readonly Series[]): DataFrame[] {
  if (found.length === 0) return [];
  const labels = [...new Set(found.flatMap(({ metric }) => Object.keys(metric)))].sort();
  return [
    createDataFrame({
      refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: found.map(({ value }) => (value?.[0] ?? 0) * 1000) },
        ...labels.map((label) => ({
          name: label,
          type: FieldType.string,
          values: found.map(({ metric }) => metric[label] ?? ''),
        })),
        { name: 'Value', type: FieldType.number, values: found.map(({ value }) => numberOf(value?.[1])) },
      ],
    }),
  ];
}

/** As Grafana names them before it transforms several tables together; a chart would take its colours from that name. */
export function withDistinctValues(frames: readonly DataFrame[], queries: number): DataFrame[] {
  if (queries < 2) return [...frames];
  return frames.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field) => (field.name === 'Value' ? { ...field, name: `Value #${frame.refId}` } : field)),
  }));
}
