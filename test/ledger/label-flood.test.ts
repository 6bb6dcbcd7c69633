// A flood of names, under the caps that everybody has: models, projects and users that nobody has seen before, turn after
// turn, and among them a few that are always there. The sums are exact, the series bounded, the memory flat.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parseConfig } from '../../src/config.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { randomFrom } from '../composed-stream.ts';
import { Bench, growing, labelSets, total, windowRow } from './bench.ts';
import { SECOND_MS, tokens, turn } from './events.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const TURNS = FULL ? 1_000_000 : 50_000;
const BATCH = 1000;
const RESTARTS = 4;
/** One turn in so many is of names that come again and again. */
const REGULAR_SHARE = 20;
const REGULARS = 30;
const MIB = 1024 * 1024;
const HEAP_GROWTH_MAX_BYTES = 8 * MIB;

test(`${TURNS} turns of random models, projects and users`, async (t) => {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const { caps } = parseConfig({}).labels;
  const bench = new Bench(t, { caps });
  const seed = Date.now() % 2 ** 31;
  const random = randomFrom(seed);
  const name = (kind: string) => `${kind}-${Math.floor(random() * 2 ** 48).toString(36)}`;
  const spentBy = new Map<string, number>();
  let [costNano, tokensSum] = [0, 0];
  const makeTurn = (at: number) => {
    const isRegular = at % REGULAR_SHARE === 0;
    const of = (kind: string) => (isRegular ? `${kind}-regular-${(at / REGULAR_SHARE) % REGULARS}` : name(kind));
    const cost = Math.floor(random() * 1_000_000);
    const model = of('model');
    costNano += cost;
    tokensSum += 30;
    if (isRegular) spentBy.set(model, (spentBy.get(model) ?? 0) + cost);
    return turn({
      ...{ messageId: `msg_${at}`, sessionId: `ses_${at % 100}`, model, project: of('project'), user: of('user') },
      ...{ costNano: cost, tokens: tokens({ input: 10, output: 20 }), startedMs: bench.nowMs - SECOND_MS },
    });
  };
  const heapBytes: number[] = [];
  const shownValues = { model: new Set<string>(), project: new Set<string>(), user: new Set<string>() };
  let before: Record<string, number> = {};
  for (let at = 0; at < TURNS; at += BATCH) {
    await bench.ledger.submit(Array.from({ length: BATCH }, (_, index) => makeTurn(at + index)));
    const isLooked = (at / BATCH) % Math.max(1, Math.floor(TURNS / BATCH / 20)) === 0;
    if (!isLooked) continue;
    collectGarbage();
    heapBytes.push(process.memoryUsage().heapUsed);
    if (heapBytes.length % Math.floor(20 / RESTARTS) === 0) bench.reopen();
    const now = growing(bench.ledger);
    for (const [series, value] of Object.entries(before)) {
      assert.ok((now[series] ?? -1) >= value, `${series} fell from ${value} to ${now[series]}`);
    }
    before = now;
    for (const label of ['model', 'project', 'user'] as const) {
      const values = new Set(labelSets(bench.ledger, TOLL.cost).map((labels) => labels[label] ?? ''));
      for (const value of shownValues[label]) assert.ok(values.has(value), `${value} lost its series`);
      shownValues[label] = values;
    }
  }
  assert.deepEqual(
    [total(bench.ledger, TOLL.cost), total(bench.ledger, TOLL.tokens), total(bench.ledger, TOLL.turns)],
    [costNano, tokensSum, TURNS],
  );
  const all = bench.ledger.windowRows().filter(({ window }) => window === 'all');
  assert.equal(
    all.reduce((sum, row) => sum + row.costNano, 0),
    costNano,
  );
  for (const label of ['model', 'project', 'user'] as const) {
    const own = [...shownValues[label]].filter((value) => value !== 'other');
    assert.ok(own.length >= caps[label] * 0.9 - 1 && own.length <= caps[label], `${own.length} of ${label}`);
  }
  const series = Object.keys(before).length;
  assert.ok(series <= caps.series * 1.01, `${series} series`);
  assert.ok(total(bench.ledger, TOLL.seriesOverflow) > 0, 'what was folded is counted');
  // Who came first keeps all that it spent under its own name, however many came after.
  const model = 'model-regular-0';
  assert.equal(windowRow(bench.ledger, 'all', model).costNano, spentBy.get(model));
  assert.ok(bench.ledger.health().booksBalance);
  const half = heapBytes.slice(heapBytes.length / 2);
  const grown = Math.max(...half.slice(-3)) - Math.max(...half.slice(0, 3));
  assert.ok(grown < HEAP_GROWTH_MAX_BYTES, `the heap grew by ${Math.round(grown / MIB)} MiB in the second half`);
  t.diagnostic(
    `${TURNS} turns, ${shownValues.model.size} models, ${shownValues.project.size} projects, ${shownValues.user.size} users shown, ` +
      `${series} values of series, ${total(bench.ledger, TOLL.seriesOverflow)} folded; heap ${Math.round(grown / 1024)} KiB more in the ` +
      `second half; ${costNano} nano-USD, difference 0; seed ${seed}`,
  );
});
