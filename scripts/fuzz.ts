// npm run fuzz: hostile inputs for everything that reads what others wrote, in a thread that is watched from here, so
// that an input that never ends is told, too.
//   npm run fuzz                                 a million inputs, by a seed of today
//   npm run fuzz -- --inputs 10000 --seed 7      fewer, the same every time
//   npm run fuzz -- --target bodies --seed 7 --path 3:1     one of them again, as a failure says it

import { fileURLToPath } from 'node:url';
import { inspect, parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { fuzzPipeline } from '../test/fuzz/pipeline.ts';
import { fuzzProbes } from '../test/fuzz/probes.ts';
import { fuzz } from '../test/fuzz/run.ts';
import { fuzzTargets } from '../test/fuzz/targets.ts';

/** In parts, after each of which the memory is looked at. */
const PART_INPUTS = 20_000;
const LOOKED_AT_EVERY_MS = 1000;
const HUNG_MS = 60_000;
const MEMORY_MAX_MB = 512;
const MIB = 1024 * 1024;

interface Order {
  readonly inputs: number;
  readonly seed: number;
  readonly target?: string | undefined;
  readonly path?: string | undefined;
  /** Counts inputs, for whoever watches. */
  readonly count: Int32Array;
}

/** What takes far longer for an input than the targets do: how many of these it gets beside theirs. */
const SLOW = [
  ['pipeline', 0.05, fuzzPipeline],
  ['probes', 0.005, fuzzProbes],
] as const;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

async function work({ inputs, seed, target: only, path, count }: Order): Promise<void> {
  const { targets, end } = fuzzTargets();
  const say = (line: string) => parentPort?.postMessage(line);
  const chosen = targets.filter(({ name }) => only === undefined || name === only);
  const names = [...targets.map(({ name }) => name), ...SLOW.map(([name]) => name)];
  if (only !== undefined && !names.includes(only))
    throw new Error(`no such target: ${only}. There are ${names.join(', ')}`);
  const started = () => void Atomics.add(count, 0, 1);
  try {
    for (const target of chosen) {
      let [left, part, slowestMs] = [only === undefined ? Math.round((inputs * target.share) / 100) : inputs, 0, 0];
      for (; left > 0; left -= PART_INPUTS, part++) {
        say(`… ${target.name}, seed ${seed + part}`);
        const result = fuzz(target, { inputs: Math.min(left, PART_INPUTS), seed: seed + part, path }, started);
        slowestMs = Math.max(slowestMs, result.slowestMs);
        if (path !== undefined) break;
      }
      collectGarbage();
      const heapMib = Math.round(process.memoryUsage().heapUsed / MIB);
      say(`${target.name}: fine, the slowest ${slowestMs.toFixed(1)} ms, ${heapMib} MiB of heap`);
    }
    for (const [name, share, part] of SLOW) {
      if (only !== undefined && name !== only) continue;
      let [left, at] = [only === undefined ? Math.round(inputs * share) : inputs, 0];
      for (; left > 0; left -= PART_INPUTS, at++) {
        say(`… ${name}, seed ${seed + at}`);
        const found = await part({ inputs: Math.min(left, PART_INPUTS), seed: seed + at, onInput: started });
        say(`${name}: fine, ${inspect(found, { breakLength: Number.POSITIVE_INFINITY })}`);
      }
    }
  } finally {
    end();
  }
}

/** Resolves to whether all was fine. */
function watch(order: Omit<Order, 'count'>): Promise<boolean> {
  const count = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(fileURLToPath(import.meta.url), {
    workerData: { ...order, count } satisfies Order,
    execArgv: [...process.execArgv],
    resourceLimits: { maxOldGenerationSizeMb: MEMORY_MAX_MB },
  });
  let doing = '';
  let [seen, sinceMs] = [-1, Date.now()];
  return new Promise((resolve) => {
    const end = (isFine: boolean, text = '') => {
      clearInterval(looking);
      if (text) process.stderr.write(`${text}\n`);
      void worker.terminate().then(() => resolve(isFine));
    };
    const looking = setInterval(() => {
      const now = Atomics.load(count, 0);
      if (now !== seen) [seen, sinceMs] = [now, Date.now()];
      else if (Date.now() - sinceMs > HUNG_MS) end(false, `an input did not end, after ${now} inputs in all: ${doing}`);
    }, LOOKED_AT_EVERY_MS);
    worker.on('message', (line: string) => {
      doing = line;
      if (!line.startsWith('…')) process.stdout.write(`${line}\n`);
    });
    worker.on('error', (error) => end(false, `${doing}\n${inspect(error)}`));
    worker.on('exit', (code) => end(code === 0, code === 0 ? '' : `it ended with ${code}: ${doing}`));
  });
}

if (isMainThread) {
  const { values } = parseArgs({
    options: {
      inputs: { type: 'string', default: '1000000' },
      seed: { type: 'string', default: String(Math.floor(Date.now() / 86_400_000)) },
      target: { type: 'string' },
      path: { type: 'string' },
    },
  });
  const { target, path } = values;
  const [inputs, seed] = [Number(values.inputs), Number(values.seed)];
  if (!Number.isSafeInteger(inputs) || inputs < 1 || !Number.isSafeInteger(seed)) {
    throw new Error('--inputs and --seed are whole numbers');
  }
  process.stdout.write(`${inputs} inputs, seed ${seed}\n`);
  process.exitCode = (await watch({ inputs, seed, target, path })) ? 0 : 1;
} else {
  await work(workerData as Order);
}
