// A taste of `npm run fuzz`, and proof that it would notice.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fuzzPipeline } from './pipeline.ts';
import { fuzzProbes } from './probes.ts';
import { fuzz } from './run.ts';
import { type FuzzTarget, fuzzTargets } from './targets.ts';

const INPUTS = 18_000;
const PIPELINE_INPUTS = 2000;
const POLLS = 150;

test('nothing hostile harms what reads it', (t) => {
  const { targets, end } = fuzzTargets();
  t.after(end);
  const seed = Date.now() % 2 ** 31;
  assert.equal(
    targets.reduce((sum, { share }) => sum + share, 0),
    100,
  );
  for (const target of targets) {
    const { inputs, slowestMs } = fuzz(target, { inputs: (INPUTS * target.share) / 100, seed });
    t.diagnostic(`${target.name}: ${inputs} inputs, the slowest ${slowestMs.toFixed(1)} ms, seed ${seed}`);
  }
});

test('nothing hostile comes out of a scrape, the ledger or the log', async (t) => {
  const seed = Date.now() % 2 ** 31;
  const { bodies, events, recorded, series } = await fuzzPipeline({ inputs: PIPELINE_INPUTS, seed });
  assert.ok(recorded > 50, `only ${recorded} events were recorded`);
  t.diagnostic(`${bodies} bodies, ${events} events, ${recorded} recorded, ${series} series, seed ${seed}`);
});

test('remotes that answer anything are read, or said to be unreadable', async (t) => {
  const seed = Date.now() % 2 ** 31;
  const readings = await fuzzProbes({ inputs: POLLS, seed });
  assert.ok(readings > POLLS, `only ${readings} readings`);
  t.diagnostic(`${3 * POLLS} polls, ${readings} readings, seed ${seed}`);
});

test('what breaks a promise is found, made small, and can be brought back', () => {
  const inherited = Object.prototype as Record<string, unknown>;
  const BROKEN: Readonly<Record<string, [read: (text: string) => void, found: RegExp]>> = {
    throws: [(text) => assert.ok(!text.includes('x')), /input: \["x"\]/],
    'is slow': [
      (text) => {
        if (text.length === 0) return;
        const before = process.threadCpuUsage();
        for (let usedUs = 0; usedUs < 60_000; ) {
          const { user, system } = process.threadCpuUsage(before);
          usedUs = user + system;
        }
      },
      /it took [67]\d ms/,
    ],
    'changes a prototype': [
      (text) => {
        if (text.length > 3) inherited[`polluted-${text}`] = 1;
      },
      /a prototype was changed/,
    ],
  };
  for (const [name, [read, found]] of Object.entries(BROKEN)) {
    const inputs = fc.string({ unit: fc.constantFrom('a', 'x'), maxLength: name === 'is slow' ? 1 : 6 });
    const target: FuzzTarget = { name, share: 1, inputs, read };
    const failure = () => {
      try {
        fuzz(target, { inputs: 200, seed: 4 });
      } catch (error) {
        return (error as Error).message;
      } finally {
        for (const key of Object.keys(inherited)) delete inherited[key];
      }
      return assert.fail(`what ${name} was not found`);
    };
    const message = failure();
    assert.match(message, found);
    const path = / path (\S+):/.exec(message)![1]!;
    assert.throws(() => fuzz(target, { inputs: 200, seed: 4, path }), found, 'the path leads back to it');
    for (const key of Object.keys(inherited)) delete inherited[key];
  }
});
