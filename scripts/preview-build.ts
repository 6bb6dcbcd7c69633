// Makes the preview of the dashboards ready: its packages, which are large and therefore not among ours, and its page.
// Each is made anew only when what it is made from has changed.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, globSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const FOLDER = path.join(path.dirname(import.meta.dirname), 'dashboards', 'preview');
const PAGE = ['src/**/*', 'index.html', 'vite.config.ts', 'tsconfig.json'];

function digest(files: readonly string[]): string {
  const hash = createHash('sha256');
  for (const file of files) hash.update(file).update(readFileSync(path.join(FOLDER, file)));
  return hash.digest('hex');
}

/** Runs a step whose result is in `made`, unless it was made from the same files. @throws Error with what it said */
function make(step: {
  made: string;
  from: readonly string[];
  command: readonly [string, ...string[]];
  say: string;
}): void {
  const stamp = path.join(FOLDER, step.made, '.made-from');
  const now = digest(step.from);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === now) return;
  process.stderr.write(`tollbridge: ${step.say} …\n`);
  const [program, ...args] = step.command;
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: FOLDER, encoding: 'utf8' });
  if (status !== 0)
    throw new Error(`${step.command.join(' ')} failed: ${error?.message ?? `${stdout}${stderr}`.trim()}`);
  writeFileSync(stamp, now);
}

/** Installs and builds what is not there. Takes some two minutes the first time. */
export function buildPreview(): void {
  make({
    made: 'node_modules',
    from: ['package.json', 'package-lock.json'],
    command: ['npm', 'install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund'],
    say: "installing Grafana's libraries for the preview of the dashboards, some 700 MB",
  });
  const bin = (name: string) => path.join('node_modules', name);
  const page = PAGE.flatMap((pattern) => globSync(pattern, { cwd: FOLDER }))
    .filter((file) => path.extname(file) !== '')
    .sort();
  const lock = 'package-lock.json';
  make({
    made: 'dist',
    from: [...page, lock],
    command: [process.execPath, bin('vite/bin/vite.js'), 'build'],
    say: 'building the preview of the dashboards',
  });
}
