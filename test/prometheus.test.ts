// What a real Prometheus makes of a bridge: it scrapes it, promtool finds nothing to complain about, and the guarded
// difference of docs/queries.md shows the first value of a new series.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { Client, request } from 'undici';
import { Bridge } from '../src/bridge.ts';
import { parseConfig } from '../src/config.ts';
import { createLog } from '../src/log.ts';
import { TOLL } from '../src/metrics/catalogue.ts';
import { freePort, Prometheus, until } from './prometheus-server.ts';

const SCRAPE_MS = 200;

/** The guarded difference as the documentation gives it, for a range in seconds. */
function guarded(rangeS: number): string {
  const text = readFileSync(new URL('../docs/queries.md', import.meta.url), 'utf8');
  const query = /```promql guarded\n([\s\S]*?)```/.exec(text)?.[1] ?? '';
  assert.ok(query.includes('offset 7d'), 'docs/queries.md holds the guarded difference');
  return query.replaceAll('7d', `${rangeS}s`).replaceAll('7 * 86400', String(rangeS));
}

function turn(model: string, usd: number) {
  const id = `${model}-${usd}`;
  return {
    v: 1,
    kind: 'turn',
    agent: 'opencode',
    id: { session: 'ses_1', message: `msg_${id}` },
    time: { started: Date.now() - 2000, completed: Date.now() - 1000 },
    provider: 'opencode',
    model,
    status: 'ok',
    tokens: { input: 100, output: 10, reasoning: 0, cache_read: 0, cache_write: 0 },
    cost_usd: usd,
  };
}

test('a real Prometheus scrapes it, and a new series shows its first value', async (t) => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const port = await freePort();
  const socketPath = path.join(dir, 's');
  const config = parseConfig({
    state_dir: dir,
    detect: false,
    metrics: { listen: `127.0.0.1:${port}` },
    socket: { path: socketPath },
  });
  const bridge = await Bridge.start({ config, log: createLog('error') });
  const prometheus = await Prometheus.start({ dir, targets: [`127.0.0.1:${port}`], scrapeMs: SCRAPE_MS });
  const client = new Client('http://tollbridge', { socketPath });
  const send = async (record: object) => {
    const answer = await client.request({ path: '/v1/events', method: 'POST', body: JSON.stringify(record) });
    assert.equal(answer.statusCode, 202, await answer.body.text());
  };
  const usd = async (query: string, model: string) =>
    (await prometheus.query(query)).find(({ metric }) => metric.model === model)?.value;
  const seen = (model: string, value: number) =>
    until(`Prometheus shows ${model}`, async () => (await usd('toll_cost_usd_total', model)) === value);
  try {
    await send(turn('claude-sonnet-4-5', 1.5));
    await seen('claude-sonnet-4-5', 1.5);
    assert.equal(await usd(guarded(3600), 'claude-sonnet-4-5'), 1.5, 'a ledger younger than the range: all of it');

    const RANGE_S = 3;
    await until('the ledger is older than the range', async () => {
      const [created] = await prometheus.query(`tollbridge_ledger_created_timestamp_seconds offset ${RANGE_S}s`);
      return created !== undefined && created.value < Date.now() / 1000 - RANGE_S;
    });
    await send(turn('gpt-5.1', 0.25));
    await seen('gpt-5.1', 0.25);
    assert.equal(await usd(guarded(RANGE_S), 'gpt-5.1'), 0.25, 'born in the range: its first value is in');
    // What goes wrong without the guard, so that this test is known to be able to fail.
    assert.equal(await usd(`toll_cost_usd_total - toll_cost_usd_total offset ${RANGE_S}s`, 'gpt-5.1'), undefined);
    assert.notEqual(await usd(`increase(toll_cost_usd_total[${RANGE_S}s])`, 'gpt-5.1'), 0.25);

    const [up] = await prometheus.query('up');
    assert.equal(up?.value, 1);
    const text = await (await request(`http://127.0.0.1:${port}/metrics`)).body.text();
    const lint = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
    assert.equal(lint.stdout + lint.stderr, '');
    assert.equal(lint.status, 0);

    const names = new Set(Object.values(TOLL).map(({ name }) => name));
    const shown = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name as string));
    for (const name of shown) {
      if (name.startsWith('toll_')) assert.ok(names.has(name as never), `${name} is in the catalogue`);
    }
    t.diagnostic(`${shown.size} families served, promtool silent`);
  } finally {
    await client.destroy();
    await prometheus.stop();
    await bridge.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});

test('the guarded difference is empty, not wrong, when nobody knows the baseline', () => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  // A day of scrapes at one a minute; the ledger is long older than that, and was down (stale) for the first two hours.
  const range = guarded(6 * 3600).replaceAll(/\s+/g, ' ');
  const cases = [
    { at: '7h', expected: [], why: 'down one range ago, and the ledger is older: unknown' },
    {
      at: '9h',
      expected: [
        { labels: '{model="a"}', value: 360 },
        { labels: '{model="b"}', value: 5 },
      ],
      why: 'up one range ago: exact, the new series from 0',
    },
  ];
  const suite = {
    rule_files: [],
    evaluation_interval: '1m',
    tests: [
      {
        interval: '1m',
        input_series: [
          { series: 'toll_cost_usd_total{model="a"}', values: '_x120 120+1x600' },
          { series: 'toll_cost_usd_total{model="b"}', values: '_x500 5x300' },
          { series: 'tollbridge_ledger_created_timestamp_seconds', values: '_x120 -900000x600' },
        ],
        promql_expr_test: cases.map(({ at, expected }) => ({
          expr: `sum by (model) (${range})`,
          eval_time: at,
          exp_samples: expected,
        })),
      },
    ],
  };
  try {
    const file = path.join(dir, 'guard.yaml');
    writeFileSync(file, JSON.stringify(suite));
    const { stdout, stderr, status } = spawnSync('promtool', ['test', 'rules', file], { encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
