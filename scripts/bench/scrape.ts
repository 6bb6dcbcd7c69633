// What a scrape costs: everything from the values to the bytes of the answer, without the sending, which is the same for
// all. Ours reads a ledger; beside it are the same lines kept as strings, the exporter of OpenTelemetry, and prom-client.
// Before each scrape a tenth of the series is given a new value.

import path from 'node:path';
import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { RuntimeNodeInstrumentation } from '@opentelemetry/instrumentation-runtime-node';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import { Counter, collectDefaultMetrics, Registry } from 'prom-client';
import { BenchLedger, modelsFor, scratchFolder } from './bench-ledger.ts';
import { type Benchmark, quantile, type Round } from './measure.ts';

const ROUNDS = 7;
/** Scrapes of a round, and before the first one: a bridge that is scraped every 15 s is warm after some minutes. */
const scrapesOf = (series: number) => (series > 50_000 ? 5 : 25);
const WARM_UP_ROUNDS = 4;
const CHANGED_EVERY = 10;

const everyTenth = <T>(all: readonly T[]) => all.filter((_, n) => n % CHANGED_EVERY === 0);

interface Exporter {
  /** Gives every tenth series a new value. */
  change(): Promise<unknown>;
  /** The answer to a scrape. */
  scrape(): Promise<readonly Buffer[]>;
  stop(): Promise<void>;
}

export interface Ours extends Exporter {
  readonly bench: BenchLedger;
  lines(): Promise<string[]>;
}

export async function startOurs(series: number): Promise<Ours> {
  const { dir, clear } = scratchFolder();
  const bench = new BenchLedger(path.join(dir, 'ledger.db'));
  const models = modelsFor(series);
  await bench.bookModels(models);
  return {
    bench,
    change: () => bench.bookModels(models, CHANGED_EVERY),
    scrape: () => bench.health.collect(),
    lines: async () => (await bench.health.scrape()).split('\n').filter((line) => line !== '' && !line.startsWith('#')),
    async stop() {
      await bench.close();
      clear();
    },
  };
}

/** The limit: nothing but to put each line's beginning and its value together. */
async function startStrings(lines: readonly string[]): Promise<Exporter> {
  const kept = lines.map((line) => {
    const end = line.lastIndexOf(' ') + 1;
    // Flat strings, as a cache would hold them.
    return { head: Buffer.from(line.slice(0, end)).toString(), value: Number(line.slice(end)) };
  });
  return {
    change: async () => {
      for (const line of everyTenth(kept)) line.value += 1;
    },
    scrape: async () => [Buffer.from(kept.map(({ head, value }) => `${head}${value}\n`).join(''))],
    stop: async () => {},
  };
}

/** Labels like those of a turn. */
export const labelsOf = (n: number): Record<string, string> => ({
  ...{ agent: 'opencode', provider: 'opencode', upstream_provider: 'anthropic', model: `model-${n}`, project: 'shop' },
});
const COST_USD = 0.0042;

async function startStock(series: number): Promise<Exporter> {
  const exporter = new PrometheusExporter({ preventServerStart: true });
  const serializer = new PrometheusSerializer();
  // By default it keeps 2,000 label sets.
  const views = [{ instrumentName: '*', aggregationCardinalityLimit: 2 * series }];
  const provider = new MeterProvider({ readers: [exporter], views });
  // A bridge built with it would have these as well, as ours does.
  const runtime = new RuntimeNodeInstrumentation();
  runtime.setMeterProvider(provider);
  const counter = provider.getMeter('bench').createCounter('toll_cost_usd');
  const labels = Array.from({ length: series }, (_, n) => labelsOf(n));
  for (const each of labels) counter.add(COST_USD, each);
  return {
    change: async () => {
      for (const each of everyTenth(labels)) counter.add(COST_USD, each);
    },
    scrape: async () => [Buffer.from(serializer.serialize((await exporter.collect()).resourceMetrics))],
    async stop() {
      runtime.disable();
      await provider.shutdown();
    },
  };
}

async function startPromClient(series: number): Promise<Exporter> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const labelNames = Object.keys(labelsOf(0));
  const counter = new Counter({ name: 'toll_cost_usd_total', help: 'x', labelNames, registers: [registry] });
  const labels = Array.from({ length: series }, (_, n) => labelsOf(n));
  for (const each of labels) counter.inc(each, COST_USD);
  return {
    change: async () => {
      for (const each of everyTenth(labels)) counter.inc(each, COST_USD);
    },
    scrape: async () => [Buffer.from(await registry.metrics())],
    async stop() {
      registry.clear();
    },
  };
}

/** The median time of some scrapes, each after a change, in ms. */
export async function scrapeMs(exporter: Exporter, scrapes: number): Promise<number> {
  const ms: number[] = [];
  for (let n = 0; n < scrapes; n++) {
    await exporter.change();
    const startedMs = performance.now();
    await exporter.scrape();
    ms.push(performance.now() - startedMs);
  }
  return quantile(ms, 0.5);
}

/** The longest time for which a scrape lets nobody else have the event loop, in ms; the median of some scrapes. */
async function blockMs(exporter: Exporter, scrapes: number): Promise<number> {
  const longest: number[] = [];
  for (let n = 0; n < scrapes; n++) {
    await exporter.change();
    let isOver = false;
    let longestMs = 0;
    let lastMs = performance.now();
    const look = () => {
      const nowMs = performance.now();
      longestMs = Math.max(longestMs, nowMs - lastMs);
      lastMs = nowMs;
      if (!isOver) setImmediate(look);
    };
    setImmediate(look);
    await exporter.scrape();
    look();
    isOver = true;
    longest.push(longestMs);
  }
  return quantile(longest, 0.5);
}

/** Ours beside another, both of so many series. */
function against(
  series: number,
  other: (lines: string[]) => Promise<Exporter>,
  measure: (exporter: Exporter, scrapes: number) => Promise<number>,
  toRound = (ours: number, theirs: number): Round => ({ ours, theirs }),
) {
  return async function* (): AsyncGenerator<Round> {
    const ours = await startOurs(series);
    const theirs = await other(await ours.lines());
    try {
      const scrapes = scrapesOf(series);
      for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
        const both = toRound(await measure(ours, scrapes), await measure(theirs, scrapes));
        if (round >= 0) yield both;
      }
    } finally {
      await theirs.stop();
      await ours.stop();
    }
  };
}

const count = (series: number) => series.toLocaleString('en');
const cache = (series: number, atMost: number): Benchmark => ({
  name: `scrape-${series / 1000}k`,
  what: `a scrape of ${count(series)} series`,
  unit: 'ms',
  yardstick: 'the same lines, beginnings kept as strings',
  reach: { atMost },
  rounds: against(series, startStrings, scrapeMs),
});
const block = (series: number, part: number): Benchmark => ({
  name: `block-${series / 1000}k`,
  what: `the longest time that a scrape of ${count(series)} series holds the event loop`,
  unit: 'ms',
  yardstick: "OpenTelemetry's exporter",
  reach: { atMost: 1 / part },
  rounds: against(series, (lines) => startStock(lines.length), blockMs),
});
/** How many times as fast. */
const faster = (name: string, yardstick: string, start: (series: number) => Promise<Exporter>, atLeast: number) => ({
  name,
  what: 'scrapes of 10,000 series',
  unit: '/s',
  yardstick,
  reach: { atLeast },
  rounds: against(
    10_000,
    (lines) => start(lines.length),
    scrapeMs,
    (ours, theirs) => ({ ours: 1e3 / ours, theirs: 1e3 / theirs }),
  ),
});

export const scrapeBenchmarks: readonly Benchmark[] = [
  cache(10_000, 1.5),
  cache(100_000, 3),
  faster('scrape-stock', "OpenTelemetry's counters and exporter", startStock, 15),
  faster('scrape-prom-client', 'prom-client 15', startPromClient, 9),
  block(10_000, 15),
  block(100_000, 20),
];
