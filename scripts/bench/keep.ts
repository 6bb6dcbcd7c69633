// What it costs to remember: memory by series and by turn, each in a process of its own, and the time to be back after a
// restart.

import { spawnSync } from 'node:child_process';
import { createReadStream, statSync } from 'node:fs';
import path from 'node:path';
import { Counter, Registry } from 'prom-client';
import { BenchLedger, scratchFolder, turnRecord } from './bench-ledger.ts';
import type { Benchmark, Round } from './measure.ts';
import { labelsOf, startOurs } from './scrape.ts';

const SERIES = 100_000;
const TURNS = 1_000_000;
/** `TOLLBRIDGE_BENCH_TURNS=5000000` for the full measure: it takes some minutes to fill. */
const START_TURNS = Number(process.env.TOLLBRIDGE_BENCH_TURNS ?? 500_000);
const ROUNDS = 3;
const FILL_BATCH = 5000;

/** Bytes on the heap and beside it that stay after a collection. */
function heldBytes(): number {
  for (let n = 0; n < 3; n++) globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** name → bytes that holding so much takes; each is run in a process of its own. */
const HOLDERS: Readonly<Record<string, () => Promise<number>>> = {
  async seriesOurs() {
    // What runs for the first time brings its code with it, which is no series.
    const first = await startOurs(SERIES / 100);
    await first.lines();
    await first.stop();
    const before = heldBytes();
    const ours = await startOurs(SERIES);
    // In a call of its own, so that nothing holds its answer.
    const countLines = async () => (await ours.lines()).length;
    const lines = await countLines();
    const bytes = heldBytes() - before;
    await ours.stop();
    return bytes / lines;
  },
  async seriesPromClient() {
    (await promClientOf(SERIES / 100)).clear();
    const before = heldBytes();
    const registry = await promClientOf(SERIES);
    const bytes = heldBytes() - before;
    registry.clear();
    return bytes / SERIES;
  },
  async turnsOurs() {
    const { dir, clear } = scratchFolder();
    const bench = new BenchLedger(path.join(dir, 'ledger.db'));
    await fill(bench, FILL_BATCH);
    const before = heldBytes();
    await fill(bench, TURNS);
    // Less than before is nothing: what was collected in between was no turn.
    const bytes = Math.max(0, heldBytes() - before);
    await bench.close();
    clear();
    return bytes;
  },
  async turnsSet() {
    const before = heldBytes();
    const ids = new Set<string>();
    // As flat strings, as a parser makes them.
    for (let n = 0; n < TURNS; n++) ids.add(Buffer.from(`opencode ses_${Math.floor(n / 50)} msg_${n}`).toString());
    const bytes = heldBytes() - before;
    if (ids.size !== TURNS) throw new Error('the set is not full');
    return bytes;
  },
};

/** Scraped once. */
async function promClientOf(series: number): Promise<Registry> {
  const registry = new Registry();
  const labelNames = Object.keys(labelsOf(0));
  const counter = new Counter({ name: 'toll_cost_usd_total', help: 'x', labelNames, registers: [registry] });
  for (let n = 0; n < series; n++) counter.inc(labelsOf(n), 1);
  await registry.metrics();
  return registry;
}

async function fill(bench: BenchLedger, turns: number): Promise<void> {
  for (let from = 0; from < turns; from += FILL_BATCH) {
    await bench.book(Array.from({ length: Math.min(FILL_BATCH, turns - from) }, () => turnRecord()));
  }
}

/** Runs a part of this file in a process of its own. */
function apart(...task: readonly string[]): number {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--expose-gc', import.meta.filename, ...task], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return Number(stdout);
}

function held(ours: string, theirs: string, scale: number) {
  return async function* (): AsyncGenerator<Round> {
    yield { ours: apart(ours) / scale, theirs: apart(theirs) / scale };
  };
}

/** From the opening of a ledger to the first answer to a scrape, in ms; in a process of its own that has loaded its code. */
async function startMs(file: string): Promise<number> {
  const startedMs = performance.now();
  const bench = new BenchLedger(file);
  await bench.health.collect();
  const ms = performance.now() - startedMs;
  await bench.close();
  return ms;
}

async function readMs(file: string): Promise<number> {
  const startedMs = performance.now();
  let bytes = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) bytes += (chunk as Buffer).length;
  if (bytes !== statSync(file).size) throw new Error('the file changed');
  return performance.now() - startedMs;
}

async function* starting(): AsyncGenerator<Round> {
  const { dir, clear } = scratchFolder();
  const file = path.join(dir, 'ledger.db');
  try {
    const bench = new BenchLedger(file);
    await fill(bench, START_TURNS);
    await bench.close();
    for (let round = 0; round < ROUNDS; round++) {
      yield { ours: apart('start', file), theirs: await readMs(file) };
    }
  } finally {
    clear();
  }
}

export const keepBenchmarks: readonly Benchmark[] = [
  {
    ...{
      name: 'memory-series',
      what: `memory of a series, scraped once, of ${SERIES.toLocaleString('en')}`,
      unit: 'bytes',
    },
    ...{ yardstick: 'prom-client 15', reach: { atMost: 0.5 }, rounds: held('seriesOurs', 'seriesPromClient', 1) },
  },
  {
    ...{ name: 'memory-turns', what: 'memory of a million remembered turns', unit: 'MB' },
    ...{ yardstick: 'a `Set` of their ids', reach: { atMost: 0.5 }, rounds: held('turnsOurs', 'turnsSet', 1e6) },
  },
  {
    name: 'start',
    what: `from opening a ledger of ${START_TURNS.toLocaleString('en')} turns to the first scrape`,
    ...{ unit: 'ms', yardstick: 'reading its file once', reach: { atMost: 3 }, rounds: starting },
  },
];

if (process.argv[1] === import.meta.filename) {
  const [task = '', file = ''] = process.argv.slice(2);
  const value = task === 'start' ? await startMs(file) : await HOLDERS[task]!();
  process.stdout.write(String(value));
}
