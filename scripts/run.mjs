// The one entry of every npm script: sets the clone up, then hands over to Node 24.
// Plain JavaScript that Node 20 can read (see set-up.mjs).

import { spawn } from 'node:child_process';
import path from 'node:path';
import { nodeBinary, root, setUp } from './set-up.mjs';

const [command, ...args] = process.argv.slice(2);
const bin = (name) => path.join(root, 'node_modules', '.bin', name);

/** Runs a program to its end with our terminal; signals sent to us are passed on. Resolves to its exit code. */
function run(program, programArgs) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, programArgs, { cwd: process.env.INIT_CWD ?? process.cwd(), stdio: 'inherit', env: process.env });
    const pass = (signal) => child.kill(signal);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, pass);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(name, pass);
      resolve(signal ? 128 + ({ SIGINT: 2, SIGTERM: 15, SIGKILL: 9 }[signal] ?? 1) : code);
    });
  });
}

const node = (...nodeArgs) => run(nodeBinary(), nodeArgs);
const script = (name, ...scriptArgs) => node(path.join(root, 'scripts', name), ...scriptArgs);
const cli = (...cliArgs) => node(path.join(root, 'src', 'cli.ts'), ...cliArgs);

/** command → [needs the packages of the tests, what to run] */
const commands = {
  start: [false, () => cli('start', ...args)],
  cli: [false, () => cli(...args)],
  test: [true, () => script('test.ts', ...args)],
  check: [true, () => script('check.ts', ...args)],
  fix: [true, () => run(bin('biome'), ['check', '--write', root])],
  bench: [true, () => script('bench.ts', ...args)],
  build: [true, () => script('build.ts', ...args)],
  generate: [true, () => script('generate.ts', ...args)],
};

const entry = commands[command];
if (!entry) {
  console.error(`tollbridge: no such script "${command}". Known: ${Object.keys(commands).join(', ')}`);
  process.exit(2);
}
try {
  await setUp({ dev: entry[0] });
  process.exit(await entry[1]());
} catch (error) {
  console.error(`tollbridge: ${error.message}`);
  process.exit(1);
}
