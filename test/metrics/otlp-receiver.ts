// A receiver of OTLP over HTTP. It decodes metrics with a protobuf library of somebody else's, and names series as a
// Collector's Prometheus exporter does, so that they can be compared with a scrape.

import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { type KeyValue, messageType } from '../otlp-messages.ts';

const REQUEST = messageType('Metrics');
export const CUMULATIVE = 2;

export interface Point {
  readonly startTimeUnixNano: string;
  readonly asDouble?: number;
  readonly asInt?: string;
  readonly count?: string;
  readonly sum?: number;
  readonly bucketCounts?: readonly string[];
  readonly explicitBounds?: readonly number[];
  readonly attributes: readonly KeyValue[];
}

interface Points {
  readonly dataPoints: readonly Point[];
  readonly aggregationTemporality?: number;
  readonly isMonotonic?: boolean;
}

export interface Metric {
  readonly name: string;
  readonly description: string;
  readonly unit: string;
  readonly gauge?: Points;
  readonly sum?: Points;
  readonly histogram?: Points;
}

/** One request of another signal, as it came. */
export interface Post {
  readonly path: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

/** One request, decoded. */
export interface Push {
  readonly path: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly resource: Readonly<Record<string, unknown>>;
  readonly metrics: readonly Metric[];
}

const flat = (attributes: readonly KeyValue[]) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value ?? {})[0] ?? '']));

function decoded(body: Buffer): Pick<Push, 'resource' | 'metrics'> {
  const request = REQUEST.toObject(REQUEST.decode(body), { longs: String, arrays: true }) as {
    resourceMetrics: { resource: { attributes: KeyValue[] }; scopeMetrics: { metrics: Metric[] }[] }[];
  };
  const [first, ...more] = request.resourceMetrics;
  if (!first || more.length > 0) throw new Error('expected one resource');
  return {
    resource: flat(first.resource.attributes),
    metrics: first.scopeMetrics.flatMap(({ metrics }) => metrics),
  };
}

export const pointsOf = ({ gauge, sum, histogram }: Metric): Points => (gauge ?? sum ?? histogram)!;

type Answer = 'take' | 'hang' | 'drip' | number | { readonly rejects: number } | { readonly says: Buffer };

/** Listens at a port of its own until the test ends. */
export class OtlpReceiver {
  readonly pushes: Push[] = [];
  /** What came that are no metrics. */
  readonly posts: Post[] = [];
  /** Every request that arrived whole, whatever was answered. */
  requests = 0;
  /**
   * What it does with the next requests: take them, say nothing, say something for ever, fail with a status, take all but
   * some of what they hold, or take them and say something of its own.
   */
  answer: Answer = 'take';
  readonly #server = http.createServer((request, response) => void this.#take(request, response));
  #port = 0;

  static async start(t: TestContext): Promise<OtlpReceiver> {
    const receiver = new OtlpReceiver();
    await receiver.up();
    t.after(() => receiver.down());
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get last(): Push | undefined {
    return this.pushes.at(-1);
  }

  /** Listens, again at the same port. */
  async up(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async down(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  async #take(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      return;
    }
    this.requests += 1;
    if (this.answer === 'hang') return;
    if (this.answer === 'drip') {
      response.writeHead(200);
      const drip = setInterval(() => response.write('.'), 10);
      response.on('close', () => clearInterval(drip));
      return;
    }
    if (typeof this.answer === 'number') {
      // What a receiver says may hold what it was sent.
      response.writeHead(this.answer, `bad ${request.headers.authorization}`).end(JSON.stringify(request.headers));
      return;
    }
    const [to = '', body] = [request.url, Buffer.concat(chunks)];
    if (to.endsWith('/v1/metrics')) this.pushes.push({ path: to, headers: request.headers, ...decoded(body) });
    else this.posts.push({ path: to, headers: request.headers, body });
    response.writeHead(200, { 'content-type': 'application/x-protobuf' });
    if (this.answer === 'take') response.end();
    else response.end('says' in this.answer ? this.answer.says : partialSuccess(this.answer.rejects));
  }
}

/** The same message for every signal: how many were rejected, and why, which may quote them. */
function partialSuccess(rejected: number): Buffer {
  const why = Buffer.from('CANARY');
  const partial = Buffer.from([0x08, rejected, 0x12, why.length, ...why]);
  return Buffer.from([0x0a, partial.length, ...partial]);
}

const UNIT_SUFFIXES: Readonly<Record<string, string>> = { s: 'seconds', ms: 'milliseconds', By: 'bytes' };

/**
 * The name that a Collector's Prometheus exporter, or Prometheus' own OTLP receiver, gives a metric: unit and type
 * become suffixes unless the name holds them, units in braces are passed over.
 */
export function translatedName(name: string, unit: string, type: 'counter' | 'gauge' | 'histogram'): string {
  let tokens = name.split(/[^a-zA-Z0-9:]+/).filter((token) => token !== '');
  const suffix = unit.startsWith('{') ? undefined : unit === '1' ? undefined : (UNIT_SUFFIXES[unit] ?? unit);
  if (suffix && !tokens.includes(suffix)) tokens.push(suffix);
  if (type === 'counter') tokens = [...tokens.filter((token) => token !== 'total'), 'total'];
  if (type === 'gauge' && unit === '1') tokens = [...tokens.filter((token) => token !== 'ratio'), 'ratio'];
  return tokens.join('_');
}

/** A series' name and labels as a key, whatever the order of its labels. */
export function seriesKey(name: string, labels: Readonly<Record<string, unknown>>): string {
  return JSON.stringify([name, ...Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** What was pushed as the samples that a scrape would show of it. */
export function samplesOfPush({ metrics }: Push): Map<string, number> {
  const samples = new Map<string, number>();
  const add = (name: string, labels: Record<string, unknown>, value: number) => {
    const key = seriesKey(name, labels);
    if (samples.has(key)) throw new Error(`pushed twice: ${key}`);
    samples.set(key, value);
  };
  for (const metric of metrics) {
    const type = metric.histogram ? 'histogram' : metric.sum?.isMonotonic ? 'counter' : 'gauge';
    const name = translatedName(metric.name, metric.unit, type);
    for (const { attributes, asDouble, asInt, count, sum, bucketCounts = [], explicitBounds = [] } of pointsOf(metric)
      .dataPoints) {
      const labels = flat(attributes);
      if (type !== 'histogram') {
        add(name, labels, Number(asDouble ?? asInt));
        continue;
      }
      let cumulative = 0;
      for (const [index, bucket] of bucketCounts.entries()) {
        cumulative += Number(bucket);
        add(`${name}_bucket`, { ...labels, le: String(explicitBounds[index] ?? '+Inf') }, cumulative);
      }
      add(`${name}_sum`, labels, sum ?? 0);
      add(`${name}_count`, labels, Number(count));
    }
  }
  return samples;
}
