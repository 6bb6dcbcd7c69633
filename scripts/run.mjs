// The one entry of every npm script: sets the clone up, then hands over to Node 24.
// Plain JavaScript that Node 20 can read (see set-up.mjs).

import { spawn } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { nodeBinary, root, setUp } from './set-up.mjs';

const PASSED_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];
/** npm runs scripts in the root of the clone; files that a user names are meant from where the user stands. */
const userFolder = process.env.INIT_CWD ?? process.cwd();

const [command, ...args] = process.argv.slice(2);

/** Runs a script or program with Node 24 and our terminal; signals sent to us are passed on. Resolves to its exit code. */
function run(cwd, nodeArgs) {
  return new Promise((resolve, reject) => {
    const child = spawn(nodeBinary(), nodeArgs, { cwd, stdio: 'inherit' });
    const pass = (signal) => child.kill(signal);
    for (const signal of PASSED_SIGNALS) process.on(signal, pass);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      for (const name of PASSED_SIGNALS) process.off(name, pass);
      resolve(signal ? 128 + os.constants.signals[signal] : code);
    });
  });
}

const script = (name) => run(root, [path.join(root, 'scripts', name), ...args]);
const cli = (...first) => run(userFolder, [path.join(root, 'src', 'cli.ts'), ...first, ...args]);

/** command → what it needs to be installed, what to run */
const commands = {
  start: { dev: false, run: () => cli('start') },
  cli: { dev: false, run: () => cli() },
  test: { dev: true, run: () => script('test.ts') },
  check: { dev: true, run: () => script('check.ts') },
  fix: {
    dev: true,
    run: () =>
      run(root, [path.join(root, 'node_modules', '@biomejs', 'biome', 'bin', 'biome'), 'check', '--write', ...args]),
  },
  fuzz: { dev: true, run: () => script('fuzz.ts') },
  bench: { dev: true, run: () => script('bench.ts') },
  build: { dev: true, run: () => script('build.ts') },
  generate: { dev: true, run: () => script('generate.ts') },
  preview: { dev: true, run: () => script('preview.ts') },
};

try {
  const entry = Object.hasOwn(commands, command ?? '') ? commands[command] : undefined;
  if (!entry) throw new Error(`no such script "${command}". Known: ${Object.keys(commands).join(', ')}`);
  await setUp({ dev: entry.dev });
  process.exitCode = await entry.run();
} catch (error) {
  process.stderr.write(`tollbridge: ${error.message}\n`);
  process.exitCode = 1;
}
