// Everything about the code that can be told without running it. Makes all checks, then fails if one of them did.

import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { styleText } from 'node:util';

const root = path.dirname(import.meta.dirname);
const tool = (...parts: string[]) => path.join(root, 'node_modules', ...parts);

/** Each with what Node runs, and how to mend what it finds. */
const CHECKS = [
  { name: 'format and lint', run: [tool('@biomejs', 'biome', 'bin', 'biome'), 'check'], mend: 'npm run fix' },
  { name: 'types', run: [tool('typescript', 'bin', 'tsc'), '-p', '.'] },
  { name: 'unused files, exports and packages', run: [tool('knip', 'bin', 'knip.js'), '--no-progress'] },
  { name: 'architecture', run: ['--test', path.join('test', 'architecture.test.ts')] },
  { name: 'generated files', run: [path.join('scripts', 'generate.ts'), '--check'] },
] as const;

const say = (text: string) => process.stdout.write(`${text}\n`);

const failed = CHECKS.filter((check) => {
  const { status, error, stdout, stderr } = spawnSync(process.execPath, check.run, { cwd: root, encoding: 'utf8' });
  const isFine = status === 0;
  say(isFine ? `${styleText('green', '✔')} ${check.name}` : `${styleText('red', '✖')} ${check.name}`);
  if (!isFine) say(`${stdout ?? ''}${stderr ?? ''}${error ?? ''}`.trimEnd());
  if (!isFine && 'mend' in check) say(`Most of it is mended by: ${check.mend}`);
  return !isFine;
});
say(failed.length === 0 ? 'All checks passed.' : `Failed: ${failed.map(({ name }) => name).join(', ')}.`);
process.exitCode = failed.length === 0 ? 0 : 1;
