// npm run bench: what the bridge costs beside the least that could do the job, or beside what others would use for it,
// measured in turns in one run. Only the ratios mean anything.
//   npm run bench                     everything, and writes docs/performance.md
//   npm run bench -- --only scrape    those whose name begins so; writes nothing
//   npm run bench -- --json           for machines
//   npm run bench -- --turns 1e7      how far the growth of a ledger is followed (1e6 if not said)

import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type Growth, grow, growthPicture, growthTables } from './bench/growth.ts';
import { ingestBenchmarks } from './bench/ingest.ts';
import { keepBenchmarks } from './bench/keep.ts';
import { measured, type Row, TABLE_HEAD, tableRow } from './bench/measure.ts';
import { queryBenchmarks } from './bench/query.ts';
import { scrapeBenchmarks } from './bench/scrape.ts';
import { provideTools } from './test-tools.ts';

const docs = path.join(path.dirname(import.meta.dirname), 'docs');
const BENCHMARKS = [...ingestBenchmarks, ...scrapeBenchmarks, ...keepBenchmarks, ...queryBenchmarks];

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
    turns: { type: 'string', default: '1e6' },
  },
});
const { only, json: isForMachines } = values;
const maxTurns = Number(values.turns);

/** Puts what was measured between the marks of its name. */
function placed(text: string, name: string, what: string): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [head, rest] = text.split(begin);
  const tail = rest?.split(end)[1];
  if (head === undefined || tail === undefined) throw new Error(`docs/performance.md has no place for ${name}`);
  return `${head}${begin}\n${what}\n${end}${tail}`;
}

function write(rows: readonly Row[], growth: Growth): void {
  const file = path.join(docs, 'performance.md');
  const table = [TABLE_HEAD, ...rows.map(tableRow)].join('\n');
  writeFileSync(file, placed(placed(readFileSync(file, 'utf8'), 'ratios', table), 'growth', growthTables(growth)));
  writeFileSync(path.join(docs, 'growth.svg'), growthPicture(growth));
}

const chosen = BENCHMARKS.filter(({ name }) => only === undefined || name.startsWith(only));
const toolProblem = provideTools();
if (toolProblem || chosen.length === 0 || !(maxTurns >= 1e4)) {
  const names = BENCHMARKS.map(({ name }) => name).join(', ');
  process.stderr.write(
    `${toolProblem ?? (chosen.length ? '--turns: expected 1e4 or more' : `--only: expected one of ${names}`)}\n`,
  );
  process.exitCode = 1;
} else {
  const say = (line: string) => process.stdout.write(isForMachines ? '' : `${line}\n`);
  const rows: Row[] = [];
  say(TABLE_HEAD);
  for (const benchmark of chosen) {
    if (process.stderr.isTTY) process.stderr.write(`\r${benchmark.name} …\u001b[K\r`);
    const row = await measured(benchmark);
    rows.push(row);
    say(tableRow(row));
  }
  const growth = only === undefined ? await grow(maxTurns) : undefined;
  if (growth) {
    say(`\n${growthTables(growth)}`);
    write(rows, growth);
  }
  if (isForMachines) process.stdout.write(`${JSON.stringify({ rows, ...(growth && { growth }) }, null, 2)}\n`);
}
