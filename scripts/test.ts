// npm test: gets the tools that the tests run, makes the checks, runs the tests and closes with one summary of them all.
//   npm test                     everything
//   npm run test:full            with the long versions of the long tests
//   npm run test:opencode        only those with a real OpenCode
//   npm run test:agents          only those with a real Claude Code, Codex and Gemini CLI, which no other run contains
//   npm test -- test/x.test.ts   only these files, without the checks

import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { runTests, type TestGroup } from './test-run.ts';
import { provideTools } from './test-tools.ts';

const root = path.dirname(import.meta.dirname);
/** Longer than the longest single test takes on a slow machine. */
const SILENCE_MS = { short: 10 * 60_000, full: 40 * 60_000 };
const OPENCODE_TESTS = path.join('test', 'opencode') + path.sep;
/** They take programs of 900 MB, so nobody gets them who has not asked for them. */
const AGENT_TESTS = path.join('test', 'agents') + path.sep;

const { values, positionals } = parseArgs({
  options: {
    full: { type: 'boolean', default: false },
    opencode: { type: 'boolean', default: false },
    agents: { type: 'boolean', default: false },
  },
  allowPositionals: true,
});

process.chdir(root);
if (values.full) process.env.TOLLBRIDGE_TEST_FULL = '1';

function testGroups(): TestGroup[] {
  if (positionals.length > 0) {
    const userFolder = process.env.INIT_CWD ?? root;
    return [{ files: positionals.map((file) => path.resolve(userFolder, file)), concurrency: 1 }];
  }
  const all = globSync('test/**/*.test.ts').sort();
  const isOfAgents = (file: string) => file.startsWith(AGENT_TESTS);
  if (values.agents) return [{ files: all.filter(isOfAgents), concurrency: 1 }];
  const files = all.filter((file) => !isOfAgents(file));
  // A real OpenCode is given the machine to itself.
  const withOpencode = { files: files.filter((file) => file.startsWith(OPENCODE_TESTS)), concurrency: 1 };
  if (values.opencode) return [withOpencode];
  // Many wait for other programs, so three keep two cores busy.
  return [{ files: files.filter((file) => !file.startsWith(OPENCODE_TESTS)), concurrency: 3 }, withOpencode];
}

const isWhole = positionals.length === 0 && !values.opencode && !values.agents;
const groups = testGroups();
const toolProblem = provideTools();
if (toolProblem) {
  process.stderr.write(`${toolProblem}\n`);
  process.exitCode = 1;
} else {
  const checks = isWhole ? spawnSync(process.execPath, ['scripts/check.ts'], { stdio: 'inherit' }) : { status: 0 };
  const areTestsFine = await runTests(groups, {
    isVerbose: process.stdout.isTTY,
    silenceMs: values.full ? SILENCE_MS.full : SILENCE_MS.short,
    lastWord: checks.status === 0 ? '' : 'The checks before the tests failed: see above, or run "npm run check".',
  });
  process.exitCode = checks.status === 0 && areTestsFine ? 0 : 1;
}
