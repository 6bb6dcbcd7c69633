// The demonstration: the same past for the same seed, nothing of the user's touched, nothing left behind.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { FORBIDDEN, NIGHTLY } from '../src/demo/cast.ts';
import { askQuarter, QUARTER_MS, tellQuarter } from '../src/demo/story.ts';
import { freePort, until } from './prometheus-server.ts';
import { shownBy } from './scrape.ts';
import { temporaryFolder } from './sources/intake-fixture.ts';

const CLI = path.join(path.dirname(import.meta.dirname), 'src/cli.ts');
const MONDAY_MS = Date.UTC(2026, 10, 23);

describe('the story', () => {
  const day = (seed: number, isLively = false) =>
    Array.from({ length: 96 }, (_, n) => tellQuarter({ seed, startMs: MONDAY_MS + n * QUARTER_MS, isLively })).flat();

  test('is the same for the same seed, and another for another', () => {
    assert.deepEqual(day(1), day(1));
    assert.notDeepEqual(day(1), day(2));
  });

  test('has turns that add up: ids once, tools of turns that are there, whole nano-USD', () => {
    const told = day(1);
    const turns = told.flatMap(({ event }) => (event.kind === 'turn' && event.phase === 'completed' ? event : []));
    assert.ok(turns.length > 200);
    const ids = new Set(turns.map(({ messageId }) => messageId));
    assert.equal(ids.size, turns.length);
    for (const { event } of told) if (event.kind === 'tool') assert.ok(ids.has(event.messageId!));
    for (const { costNano = 0 } of turns) assert.ok(Number.isSafeInteger(costNano) && costNano >= 0);
  });

  test('has an agent that uses up the money of its day, and takes no turn after that', () => {
    for (let day = 0; day < 60; day++) {
      const midnightMs = MONDAY_MS + day * 24 * 3_600_000;
      const turns = tellQuarter({ seed: day, startMs: midnightMs }).flatMap(({ event, identity }) =>
        event.kind === 'turn' && event.phase === 'completed' && identity.user === NIGHTLY.user ? event : [],
      );
      assert.ok(turns.at(-1)!.completedMs! < midnightMs + QUARTER_MS, 'it is within its quarter');
      const usd = (of: typeof turns) => of.reduce((sum, { costNano = 0 }) => sum + costNano, 0) / 1e9;
      assert.ok(usd(turns) >= NIGHTLY.usdPerDay);
      assert.ok(usd(turns.slice(0, -1)) < NIGHTLY.usdPerDay, 'its last turn is the one that passed the limit');
    }
  });

  test('asks before every turn of the agent that has the plugin, and for some models in vain', () => {
    const quarters = Array.from({ length: 96 }, (_, n) => ({ seed: 1, startMs: MONDAY_MS + n * QUARTER_MS }));
    const asked = quarters.flatMap(askQuarter);
    const taken = quarters.flatMap(tellQuarter).flatMap(({ event }) => (event.kind === 'turn' ? event : []));
    const completed = taken.filter(({ phase, agent }) => phase === 'completed' && agent === 'opencode');
    const tried = asked.filter(({ question: { model } }) => model === FORBIDDEN.model);
    assert.equal(asked.length, completed.length + tried.length + quarters.length, 'the nightly agent asks once more');
    assert.ok(tried.length > 0);
    assert.ok(taken.every(({ agent, model }) => agent !== FORBIDDEN.agent || model !== FORBIDDEN.model));
    assert.ok(asked.every(({ question: { agent } }) => agent === 'opencode'));
  });

  test('goes on at night when somebody watches', () => {
    const night = { seed: 1, startMs: MONDAY_MS + 3 * 3_600_000 };
    assert.ok(tellQuarter({ ...night, isLively: true }).length > tellQuarter(night).length);
  });
});

test('`demo` fills a ledger of its own, goes on, and leaves nothing behind', async (t) => {
  const home = temporaryFolder(t);
  const tmp = path.join(home, 'tmp');
  mkdirSync(tmp);
  const port = await freePort();
  const history = path.join(home, 'history.om');
  const options = ['--listen', `127.0.0.1:${port}`, '--days', '2', '--history', history, '--instance', 'x'];
  const env = { PATH: process.env.PATH, HOME: home, TMPDIR: tmp, OPENCODE_API_KEY: 'sk-not-to-be-used' };
  const child = spawn(process.execPath, [CLI, 'demo', ...options], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stdout.on('data', (chunk) => {
    said += chunk;
  });
  child.stderr.on('data', (chunk) => {
    said += chunk;
  });
  await until('the demonstration', () => said.includes('Ctrl-C ends it') || child.exitCode !== null, 2400);
  assert.match(said, new RegExp(`runs at http://127.0.0.1:${port}/ with 2 days of made-up turns and eight accounts`));
  assert.doesNotMatch(said, /%/, 'no progress in a pipe');

  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  assert.ok(Object.keys(shownBy(text).costNano).length > 5);
  assert.equal(text.match(/^toll_account_status\{.*\} 1$/gm)?.length, 8);
  assert.equal(text.match(/^toll_policy_used_ratio\{/gm)?.length, 4);
  const told = new Map([...text.matchAll(/^toll_policy_verdicts_total\{(.*)\} (\d+)$/gm)].map(([, of, n]) => [of, n]));
  for (const stopped of ['budget/nightly-day', 'guardrail/house-models'])
    assert.ok(Number(told.get(`decision="stop",rule="${stopped}"`)) > 0, [...told.keys()].join(' '));
  assert.doesNotMatch(text, /sk-not/);
  const lines = readFileSync(history, 'utf8').trimEnd().split('\n');
  assert.equal(lines.at(-1), '# EOF');
  assert.match(
    lines.find((line) => line.startsWith('toll_cost_usd_total'))!,
    /instance="x",job="tollbridge"\} \S+ \d+$/,
  );

  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  assert.equal(await ended, 0);
  assert.deepEqual(readdirSync(tmp), [], 'its folder is gone');
  for (const folder of ['.local', '.config']) assert.equal(existsSync(path.join(home, folder)), false, folder);
});

test('what it is asked wrongly is told, and ends with 2', () => {
  const { status, stderr } = spawnSync(process.execPath, [CLI, 'demo', '--days', 'many'], { encoding: 'utf8' });
  assert.equal(status, 2);
  assert.match(stderr, /--days must be a whole number from 1 to 90/);
});
