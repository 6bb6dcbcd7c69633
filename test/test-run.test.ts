// The runner of the tests itself: a file that never ends must fail and must not hold up the others.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from './sources/intake-fixture.ts';

const IMPORT = "import { test } from 'node:test'; import { spawn } from 'node:child_process';";
const FOR_EVER = 'setInterval(() => {}, 1000);';
const HANGING = {
  'a timer after a test that passed': `test('one', () => {}); ${FOR_EVER}`,
  'a timer after a test that failed': `test('one', () => { ${FOR_EVER} throw new Error('no'); });`,
  'a cleanup that never ends': `test('one', (t) => { ${FOR_EVER} t.after(() => new Promise(() => {})); });`,
  'a loop': "test('one', () => { for (;;); });",
  'deaf to SIGTERM': `process.on('SIGTERM', () => {}); test('one', () => {}); ${FOR_EVER}`,
  'a program that holds the output': "test('one', () => { spawn('sleep', ['60'], { stdio: 'inherit' }); });",
};
const RUNNER = `import { runTests } from ${JSON.stringify(path.join(import.meta.dirname, '..', 'scripts', 'test-run.ts'))};
const arePassed = await runTests([{ files: process.argv.slice(2), concurrency: 8 }], { isVerbose: true, lastWord: '', silenceMs: 2500 });
process.exitCode = arePassed ? 0 : 1;`;

test('a test file that hangs is killed and failed, and takes no other with it', (t) => {
  const dir = temporaryFolder(t);
  const write = (name: string, text: string) => {
    const file = path.join(dir, name);
    writeFileSync(file, text);
    return file;
  };
  const runner = write('runner.ts', RUNNER);
  const run = (files: readonly string[]) => {
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { status, stdout, stderr, signal } = spawnSync(process.execPath, [runner, ...files], {
      ...{ encoding: 'utf8', env, timeout: 60_000 },
    });
    assert.equal(signal, null, 'the run did not end');
    return { status, said: `${stdout}${stderr}` };
  };
  const fine = write('fine.test.mjs', `${IMPORT} test('fine', () => {});`);
  assert.equal(run([fine]).status, 0);

  const hanging = Object.entries(HANGING).map(([name, text], place) => ({
    name,
    file: write(`hanging-${place}.test.mjs`, `${IMPORT} ${text}`),
  }));
  const { status, said } = run([...hanging.map(({ file }) => file), fine]);
  assert.equal(status, 1);
  assert.match(said, /✔ fine/);
  for (const { name, file } of hanging) {
    assert.ok(said.includes(`${file}: no test began or ended for`), `${name}\n${said}`);
  }
  assert.match(said, new RegExp(`fail ${hanging.length}\\b`), said);
});
