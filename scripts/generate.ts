// Writes the files that are derived from the code; with --check only compares them, and says how to mend a difference.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { alertFiles } from '../dashboards/alerts/pack.ts';
import { coverageFile } from '../dashboards/grafana/coverage.ts';
import { dashboardFiles, runsDashboardFile } from '../dashboards/grafana/pack.ts';
import { exampleUnit } from '../src/commands/service-unit.ts';
import { metricReference } from '../src/metrics/reference.ts';
import { eventSchema } from '../src/turn/event-record.ts';
import { licencePage } from './licences.ts';

const root = path.dirname(import.meta.dirname);
const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
const say = (text: string) => process.stdout.write(`${text}\n`);

const generated = [
  { file: 'docs/metrics.md', text: metricReference() },
  { file: 'docs/event.schema.json', text: JSON.stringify(eventSchema(), null, 2) },
  {
    file: 'deploy/systemd/tollbridge.service',
    text: `# What "tollbridge install service" writes, with example paths. To use it by hand, put yours into ExecStart=.\n${exampleUnit()}`,
  },
  {
    file: 'docs/licences.md',
    text: licencePage(JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8'))),
  },
  ...alertFiles(),
  ...dashboardFiles(),
  runsDashboardFile(),
  coverageFile(),
].map(({ file, text }) => ({ file, text: `${text.trimEnd()}\n` }));

function standing(file: string): string | undefined {
  try {
    return readFileSync(path.join(root, file), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

const outdated = generated.filter(({ file, text }) => standing(file) !== text);
if (values.check) {
  for (const { file } of outdated) say(`${file} is not what the code says. Write it anew with: npm run generate`);
  process.exitCode = outdated.length === 0 ? 0 : 1;
} else {
  for (const { file, text } of outdated) {
    mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
    writeFileSync(path.join(root, file), text);
    say(`${file} written`);
  }
  if (outdated.length === 0) say('Every generated file is up to date.');
}
