// What a benchmark is, and how its rounds become a row. Ours and the yardstick are measured in turns in one run, and only
// their ratio means anything: machines are shared, noisy and unlike each other.

export interface Round {
  readonly ours: number;
  readonly theirs: number;
}

export interface Benchmark {
  /** As `--only` takes it. */
  readonly name: string;
  readonly what: string;
  readonly unit: string;
  readonly yardstick: string;
  /** The ratio of ours to the yardstick that is to be reached. Absent where it is shown for information. */
  readonly reach?: { readonly atLeast: number } | { readonly atMost: number };
  /** Measures in rounds, each ours and the yardstick close together. */
  rounds(): AsyncGenerator<Round>;
}

export interface Row {
  readonly name: string;
  readonly what: string;
  readonly yardstick: string;
  readonly unit: string;
  readonly ours: number;
  readonly theirs: number;
  readonly ratio: { readonly min: number; readonly median: number; readonly max: number };
  readonly reach?: string;
  readonly isReached?: boolean;
}

export const median = (values: readonly number[]) => quantile(values, 0.5);

export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export async function measured({ rounds, reach, ...about }: Benchmark): Promise<Row> {
  const all: Round[] = [];
  for await (const round of rounds()) all.push(round);
  const ratios = all.map(({ ours, theirs }) => ours / theirs);
  const ratio = { min: Math.min(...ratios), median: median(ratios), max: Math.max(...ratios) };
  return {
    ...about,
    ours: median(all.map(({ ours }) => ours)),
    theirs: median(all.map(({ theirs }) => theirs)),
    ratio,
    ...(reach && {
      reach: 'atLeast' in reach ? `≥ ${reach.atLeast}` : `≤ ${Number(reach.atMost.toPrecision(2))}`,
      isReached: 'atLeast' in reach ? ratio.median >= reach.atLeast : ratio.median <= reach.atMost,
    }),
  };
}

const short = (value: number) =>
  value >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));

export const TABLE_HEAD =
  '| what | ours | yardstick, in the same run | ratio: median (min–max) | reach |\n|---|---|---|---|---|';

export function tableRow({ what, unit, ours, yardstick, theirs, ratio, reach, isReached }: Row): string {
  const spread = `${short(ratio.median)} (${short(ratio.min)}–${short(ratio.max)})`;
  const mark = reach === undefined ? '' : `${reach} ${isReached ? '✔' : '✘'}`;
  return `| ${what} | ${short(ours)} ${unit} | ${yardstick}: ${short(theirs)} ${unit} | ${spread} | ${mark} |`;
}

/** Events or requests per second of processor time that this process spent, with all its threads. */
export async function perCpuSecond(count: number, work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (count * 1e6) / (user + system);
}

/** Things done per second. */
export async function perSecond(count: number, work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (count * 1e3) / (performance.now() - startedMs);
}
