// A day in the life of a bridge, in seconds: turns, tool calls and spool files all the time, a scrape as often as
// Prometheus makes one. Afterwards every total is exact, and neither memory nor the number of series went on growing.

import assert from 'node:assert/strict';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fastClock, fastNowMs } from './fast-clock.ts';
import { killableBridge } from './killable-bridge.ts';
import { until } from './prometheus-server.ts';
import { samplesOf } from './scrape.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const DAY_S = 86_400;
const LASTS_S = FULL ? 240 : 10;
const SCRAPES = FULL ? 5760 : 100;
const POSTS = FULL ? 40_000 : 1200;
const MODELS = 12;
const PROJECTS = 6;
const KIB = 1024;
/** What the heap may grow by in the second half of the day: caches fill, and pages of code are compiled late. */
const HEAP_GROWTH_MAX_BYTES = 3 * KIB * KIB;

/** The slope of a line through points, by least squares. */
function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (of: (point: readonly [number, number]) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [meanX, meanY] = [mean(([x]) => x), mean(([, y]) => y)];
  const over = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  return over / points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
}

test('a day in seconds: exact, and flat', async (t) => {
  const pace = { sinceMs: Date.now(), clock: DAY_S / LASTS_S, intervals: FULL ? 60 : 200 };
  const config = { labels: { caps: { user: 20 } }, budgets: [{ name: 'day', limit_usd: 5, period: 'day' }] };
  const { bridge, post } = await killableBridge(t, { connections: 2, config, node: fastClock(pace) });
  await bridge.start();
  mkdirSync(bridge.spool, { recursive: true });
  const bornMs = Date.now();
  let turns = 0;
  let costNano = 0;
  const recordsOf = (nth: number) => {
    const now = fastNowMs(pace);
    const session = `ses_${Math.floor(nth / 20)}`;
    const id = { session, message: `msg_${nth}` };
    const nano = 1000 + nth;
    turns += 1;
    costNano += nano;
    return [
      {
        ...{ v: 1, kind: 'turn', agent: 'opencode', id, provider: 'opencode', model: `model-${nth % MODELS}` },
        ...{ project: `project-${nth % PROJECTS}`, status: 'ok', tokens: { input: 100, output: 10 } },
        ...{ cost_usd: nano / 1e9, time: { started: now - 5000, completed: now } },
      },
      {
        ...{ v: 1, kind: 'tool', agent: 'opencode', id: { ...id, call: `call_${nth}` }, tool: `tool-${nth % 5}` },
        ...{ status: 'ok', time: { started: now - 4000, completed: now - 3000 } },
      },
      { v: 1, kind: 'session', agent: 'opencode', id: { session }, project: `project-${nth % PROJECTS}` },
    ];
  };
  const passedS = () => (Date.now() - bornMs) / 1000;
  const pacing = async (share: number) => {
    const aheadMs = (share * LASTS_S - passedS()) * 1000;
    if (aheadMs > 0) await new Promise((resolve) => setTimeout(resolve, aheadMs));
  };
  const sending = (async () => {
    for (let nth = 0; nth < POSTS; nth++) {
      const records = recordsOf(nth);
      if (nth % 10 === 0) {
        const file = path.join(bridge.spool, `${nth}.json`);
        writeFileSync(`${file}.tmp`, records.map((record) => JSON.stringify(record)).join('\n'));
        renameSync(`${file}.tmp`, file);
      } else {
        assert.equal(await post(records), 202);
      }
      await pacing(nth / POSTS);
    }
  })();
  sending.catch(() => {}); // It is awaited below.
  const heap: [s: number, bytes: number][] = [];
  const resident: [s: number, bytes: number][] = [];
  const series: number[] = [];
  for (let scrape = 0; scrape < SCRAPES; scrape++) {
    const samples = samplesOf(await bridge.scrape());
    const used = samples.filter(({ name }) => name === 'v8js_memory_heap_used');
    assert.ok(used.length > 0, 'the heap is known');
    heap.push([passedS(), used.reduce((sum, { value }) => sum + value, 0)]);
    resident.push([passedS(), bridge.residentBytes()]);
    series.push(samples.filter(({ name }) => name.startsWith('toll_')).length);
    await pacing(scrape / SCRAPES);
  }
  await sending;
  const sum = async (name: string) =>
    samplesOf(await bridge.scrape()).reduce((total, each) => total + (each.name === name ? each.value : 0), 0);
  await until('the last of the spool', async () => (await sum('toll_turns_total')) === turns, 200);
  assert.equal(Math.round((await sum('toll_cost_usd_total')) * 1e9), costNano);

  const secondHalf = <T>(of: readonly T[]) => of.slice(Math.floor(of.length / 2));
  const perDay = (points: readonly (readonly [number, number])[]) => slope(secondHalf(points)) * LASTS_S;
  const grown = secondHalf(series);
  assert.equal(new Set(grown).size, 1, `the number of series changed: ${[...new Set(grown)].join(', ')}`);
  // Half of what the slope says of a day: over the second half.
  assert.ok(perDay(heap) / 2 < HEAP_GROWTH_MAX_BYTES, `the heap grows by ${Math.round(perDay(heap) / KIB)} KiB a day`);
  assert.equal(await sum('toll_series_overflow_total'), 0);
  t.diagnostic(
    `a day of ${turns} turns and ${SCRAPES} scrapes in ${LASTS_S} s: slope of the second half ${Math.round(perDay(heap) / KIB)} ` +
      `KiB of heap a day, ${Math.round(perDay(resident) / KIB)} KiB resident; ${grown[0]} series; ${costNano} nano-USD, difference 0`,
  );
});
