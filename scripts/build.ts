// Compiles src/ to dist/, which is what the npm package holds, and proves that it starts.

import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const dist = path.join(root, 'dist');
const cli = path.join(dist, 'cli.js');
const node = (...args: string[]) => execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8' });

rmSync(dist, { recursive: true, force: true });
try {
  node(path.join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.build.json');
} catch (error) {
  process.stderr.write(
    `${(error as { stdout?: string }).stdout ?? error}\nThe types are wrong, so nothing was built.\n`,
  );
  process.exit(1);
}
chmodSync(cli, 0o755);

const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
const answer = node(cli, '--version').trim();
if (answer !== version) throw new Error(`dist/cli.js says it is ${answer}, but package.json says ${version}`);
process.stdout.write(`dist/ holds Tollbridge ${version}\n`);
