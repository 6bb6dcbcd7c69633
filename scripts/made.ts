// Steps that make something from files, once: what is large or slow to make is made anew only when those files changed.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export interface Step {
  /** The folder that the step runs in and that all names are from. */
  readonly folder: string;
  /** The folder that it makes. */
  readonly made: string;
  readonly from: readonly string[];
  readonly command: readonly [string, ...string[]];
  /** What it does, for people who wait for it. */
  readonly say: string;
}

/** Runs a step unless its result was made from the same files. @throws Error with what it said */
export function make({ folder, made, from, command, say }: Step): void {
  const hash = createHash('sha256');
  for (const file of from) hash.update(file).update(readFileSync(path.join(folder, file)));
  const now = hash.digest('hex');
  const stamp = path.join(folder, made, '.made-from');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === now) return;
  process.stderr.write(`tollbridge: ${say} …\n`);
  const [program, ...args] = command;
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: folder, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command.join(' ')} failed: ${error?.message ?? `${stdout}${stderr}`.trim()}`);
  writeFileSync(stamp, now);
}

/** Installs packages of a folder's own, as its lockfile says. */
export function installOwnPackages(folder: string, say: string): void {
  make({
    ...{ folder, say, made: 'node_modules', from: ['package.json', 'package-lock.json'] },
    command: ['npm', 'install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund'],
  });
}
