// `tollbridge report` beside a real bridge: its sums are those of the scrape, whatever it is by and however it is shown.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { mistakeInFlags, type ReportFlags, showReport } from '../../src/commands/report.ts';
import { REPORT_BY } from '../../src/ledger/spend-report.ts';
import { samplesOf } from '../scrape.ts';
import { ask } from '../sources/intake-fixture.ts';
import { plain, scratchConfig, serveSocket, statusOf } from './bridge-fixture.ts';
import { recordOf, runBridge } from './running-bridge.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** In Berlin half past midnight on Sunday the 15th of March, in UTC still Saturday. */
const NOW_MS = Date.parse('2026-03-14T23:30:00Z');
const PRICING = [
  { model: 'my-*', state: 'estimated', usd_per_million_tokens: { input: 3, output: 15, cache_read: 0 } },
];

const flags = (said: Partial<ReportFlags> = {}): ReportFlags => ({ by: 'model', format: 'json', ...said });

/** Net of corrections, in whole nano-dollars, tokens and turns, over all series. */
function netOf(scraped: string) {
  const sum = (name: string, scale: number) =>
    samplesOf(scraped).reduce(
      (before, { name: of, value }) => before + (of === name ? Math.round(value * scale) : 0),
      0,
    );
  return {
    cost_nano: sum('toll_cost_usd_total', 1e9) - sum('toll_cost_corrections_usd_total', 1e9),
    estimated_nano: sum('toll_cost_estimated_usd_total', 1e9) - sum('toll_cost_estimated_corrections_usd_total', 1e9),
    tokens: sum('toll_tokens_total', 1) - sum('toll_tokens_corrections_total', 1),
    turns: sum('toll_turns_total', 1),
  };
}

type Running = Awaited<ReturnType<typeof runBridge>>;

async function reported({ config }: Pick<Running, 'config'>, said: Partial<ReportFlags> = {}, nowMs = NOW_MS) {
  const { lines, notes, exitCode } = await showReport({ flags: flags(said), config, env: {}, nowMs });
  assert.equal(exitCode, 0);
  return { lines: plain(lines), notes };
}

async function told(running: Pick<Running, 'config'>, said: Partial<ReportFlags> = {}, nowMs = NOW_MS) {
  return JSON.parse((await reported(running, said, nowMs)).lines.join('\n'));
}

/** Stated, corrected downwards, estimated, free of labels, with nano-dollars that a float would blur. */
async function spend({ send }: Pick<Running, 'send'>): Promise<void> {
  const finished = { time: { started: NOW_MS - HOUR_MS }, finished: true };
  const statuses = [
    await send(
      recordOf('a', NOW_MS - 1000, { cost_usd: 1234.000000001, project: 'shop' }),
      recordOf('b', NOW_MS - DAY_MS, { cost_usd: 0.000000007, model: '@cf/meta/llama-3', provider: 'cloudflare' }),
      recordOf('c', NOW_MS - 2 * DAY_MS, { cost_usd: 0, model: 'my-model', id: { session: 'ses_2', message: 'c' } }),
      recordOf('d', NOW_MS, { ...finished, event_id: 'evt_1', cost_usd: 5, tokens: { output: 500 } }),
    ),
    await send(recordOf('d', NOW_MS, { ...finished, event_id: 'evt_2', cost_usd: 2.5, tokens: { output: 300 } })),
  ];
  assert.deepEqual(statuses, [202, 202]);
}

describe('a report', () => {
  test('equals the net metrics of the scrape to the nano-dollar, whatever it is by', async (t) => {
    const running = await runBridge(t, { pricing: PRICING });
    await spend(running);
    const scraped = await running.scrape();
    const net = netOf(scraped);
    assert.match(scraped, /^toll_cost_corrections_usd_total\{.*\} 2\.5$/m);
    assert.equal(net.cost_nano, 1236.5e9 + 8);
    assert.equal(net.estimated_nano, 3e6);
    for (const by of REPORT_BY) {
      const { rows, total } = await told(running, { by, period: 'all' });
      for (const name of ['cost_nano', 'estimated_nano', 'tokens', 'turns'] as const) {
        assert.equal(total[name], net[name], `${name} by ${by}`);
        const added = rows.reduce((sum: number, row: Record<string, number>) => sum + row[name]!, 0);
        assert.equal(added, net[name], `the rows of ${name} by ${by}`);
      }
      assert.equal(total.cost_usd, '1236.500000008');
    }
  });

  test('has all digits as CSV, and no cell that a spreadsheet would run', async (t) => {
    const running = await runBridge(t, { pricing: PRICING });
    await spend(running);
    const { lines, notes } = await reported(running, { by: 'model', period: 'all', format: 'csv' });
    assert.deepEqual(lines, [
      'model,cost_usd,cost_nano,estimated_usd,estimated_nano,tokens,turns',
      'claude-sonnet-4-5,1236.500000001,1236500000001,0.000000000,0,10300,1',
      "'@cf/meta/llama-3,0.000000007,7,0.000000000,0,10000,1",
      'my-model,0.000000000,0,0.003000000,3000000,10000,1',
      '(total),1236.500000008,1236500000008,0.003000000,3000000,30300,3',
    ]);
    assert.deepEqual(notes, []);
  });

  test('quotes what would end a cell', async (t) => {
    const running = await runBridge(t);
    const nasty = ['＝1+1', 'x; =1+1;y', '=1+1', '-a', '+b,c', 'say "hi"', 'plain'];
    await running.send(...nasty.map((project, at) => recordOf(`m${at}`, NOW_MS, { project, cost_usd: at + 1 })));
    const { lines } = await reported(running, { by: 'project', period: 'all', format: 'csv' });
    assert.deepEqual(
      lines.slice(1, -1).map((line) => line.split(/,\d+\.\d{9},/)[0]),
      ['plain', '"say ""hi"""', '"\'+b,c"', "'-a", "'=1+1", `"x;' =1+1;y"`, "'＝1+1"],
    );
  });

  test('is a table of 80 columns with its numbers on the right', async (t) => {
    const running = await runBridge(t, { pricing: PRICING });
    await spend(running);
    const { lines } = await reported(running, { by: 'project', period: 'all', format: 'table' });
    assert.deepEqual(lines.slice(0, 5), [
      'spent by project, all that is known',
      '',
      'project         cost  estimated  tokens  turns',
      'shop     $1,234.0000    $0.0000  10,000      1',
      '(none)       $2.5000    $0.0030  20,300      2',
    ]);
    assert.equal(lines[5], 'total    $1,236.5000    $0.0030  30,300      3');
    const long = 'x'.repeat(128);
    await running.send(recordOf('long', NOW_MS, { project: long, cost_usd: 9000, tokens: { input: 1e9 } }));
    for (const by of REPORT_BY) {
      for (const line of (await reported(running, { by, format: 'table' })).lines) assert.ok(line.length <= 80, line);
    }
  });

  const PERIODS: [said: Partial<ReportFlags>, turns: string[]][] = [
    [{ period: 'today' }, ['now', 'midnight']],
    [{ period: 'week' }, ['now', 'midnight', 'yesterday', 'monday']],
    [{}, ['now', 'midnight', 'yesterday', 'monday', 'first']],
    [{ period: '30d' }, ['now', 'midnight', 'yesterday', 'monday', 'first', 'february']],
    [{ period: 'all' }, ['now', 'midnight', 'yesterday', 'monday', 'first', 'february', 'winter']],
    [{ since: '2026-03-09' }, ['now', 'midnight', 'yesterday', 'monday']],
    [{ since: '2026-03-14', until: '2026-03-14' }, ['yesterday']],
    [{ until: '2026-02-28' }, ['february', 'winter']],
  ];
  test('counts by the days of the configured time zone', async (t) => {
    const running = await runBridge(t);
    const moments: Record<string, string> = {
      now: '2026-03-14T23:29:00Z',
      midnight: '2026-03-14T23:00:00Z',
      yesterday: '2026-03-14T22:59:59Z',
      monday: '2026-03-08T23:00:00Z',
      first: '2026-02-28T23:00:00Z',
      february: '2026-02-28T22:59:59Z',
      winter: '2026-01-10T12:00:00Z',
    };
    await running.send(...Object.entries(moments).map(([name, at]) => recordOf(name, Date.parse(at))));
    for (const [said, expected] of PERIODS) {
      const { rows } = await told(running, { by: 'turn', ...said });
      const found = rows.map((row: Record<string, string>) => row.message_id).sort();
      assert.deepEqual(found, expected.toSorted(), JSON.stringify(said));
      assert.equal((await told(running, { by: 'agent', ...said })).total.turns, expected.length, JSON.stringify(said));
    }
  });

  test('says that a cost of 0 may be one that nobody knows', async (t) => {
    const running = await runBridge(t);
    await running.send(recordOf('a', NOW_MS, { cost_usd: 0 }));
    const { notes } = await reported(running, { period: 'all', format: 'csv' });
    assert.match(notes.join(), /no cost is known: toll_unpriced_tokens_total/);
  });

  test('of nothing is a total of 0', async (t) => {
    const running = await runBridge(t);
    const { lines } = await reported(running, { format: 'csv' });
    assert.deepEqual(lines.slice(1), ['(total),0.000000000,0,0.000000000,0,0,0']);
  });
});

describe('notes of a report', () => {
  test('tell what is cut, what is no longer kept, and whose the rest is', async (t) => {
    const config = scratchConfig(t);
    const sums = { cost_nano: 5, estimated_nano: 0, tokens: 1, turns: 1 };
    const report = {
      ...{ by: 'turn', columns: ['agent', 'session_id', 'message_id', 'dated_ms'] },
      ...{ rows: [{ agent: 'opencode', session_id: 's', message_id: 'm', dated_ms: NOW_MS, ...sums }], total: sums },
      ...{ not_listed: { rows: 2, ...sums }, kept_from_ms: NOW_MS - DAY_MS, partition: '1/4' },
    };
    await serveSocket(t, config, ({ url }) => ({
      body: JSON.stringify(url === '/v1/status' ? statusOf(config, { not_ready: ['It fills.'] }) : report),
    }));
    const { notes, lines } = await reported({ config }, { by: 'turn', period: 'all', format: 'csv' });
    assert.deepEqual(
      [/dearest rows are listed/, /kept since 2026-03-13 only/, /part 1\/4/, /not ready.*It fills\./].map((pattern) =>
        notes.findIndex((note) => pattern.test(note)),
      ),
      [0, 1, 2, 3],
    );
    assert.match(lines[2] ?? '', /^\(not listed: 2 rows\),,,,0\.000000005,5,/);
  });
});

const MISTAKES: [said: Partial<ReportFlags>, mistake: RegExp | undefined][] = [
  [{}, undefined],
  [{ period: 'today', format: 'csv' }, undefined],
  [{ since: '2028-02-29', until: '2028-02-29' }, undefined],
  [{ by: 'prompt' }, /^--by must be one of team, user, /],
  [{ by: 'constructor' }, /^--by/],
  [{ format: 'toString' }, /^--format must be one of table, csv, json$/],
  [{ period: 'year' }, /^--period must be one of today, week, month, 30d, all$/],
  [{ since: '2026-02-30' }, /^--since must be a day such as/],
  [{ since: '2026-13-01' }, /^--since/],
  [{ until: 'yesterday' }, /^--until must be a day/],
  [{ since: '2026-02-02', until: '2026-02-01' }, /^--since must not be after --until$/],
  [{ period: 'week', since: '2026-02-02' }, /not both$/],
];
for (const [said, mistake] of MISTAKES) {
  test(`the command line ${JSON.stringify(said)} is ${mistake ? 'refused' : 'taken'}`, () => {
    const found = mistakeInFlags(flags(said));
    if (mistake) assert.match(found ?? '', mistake);
    else assert.equal(found, undefined);
  });
}

test('the socket refuses a question that is none', async (t) => {
  const { config } = await runBridge(t);
  const QUERIES: [query: string, status: number][] = [
    ['by=team', 200],
    ['by=team&from_ms=0&to_ms=8640000000000000', 200],
    ['', 400],
    ['by=prompt', 400],
    ['by=team&from_ms=yesterday', 400],
    ['by=team&from_ms=-1', 400],
    ['by=team&from_ms=5&to_ms=5', 400],
    ['by=team&to_ms=8640000000000001', 400],
  ];
  for (const [query, status] of QUERIES) {
    assert.equal((await ask(config.socket.path, `/v1/report?${query}`)).status, status, query);
  }
  assert.equal((await ask(config.socket.path, '/v1/report?by=team', { method: 'POST' })).status, 405);
});

describe('where nothing can be reported', () => {
  test('no bridge', async (t) => {
    await assert.rejects(
      reported({ config: scratchConfig(t) }),
      /^RetryableFailure: No bridge answers: there is no socket/,
    );
  });

  const REFUSALS: [answer: { status: number; body: string }, failure: RegExp][] = [
    [{ status: 404, body: '{"error":"no such route"}' }, /^PermanentFailure: .*older version\. Restart it/],
    [{ status: 400, body: '{"error":"by: expected more"}' }, /^PermanentFailure: .*by: expected more/],
    [{ status: 500, body: 'null' }, /^RetryableFailure: .*HTTP 500\. Ask again/],
    [{ status: 200, body: '<html>' }, /^RetryableFailure: .*does not speak JSON/],
  ];
  for (const [answer, failure] of REFUSALS) {
    test(`a bridge that answers ${answer.status} ${answer.body}`, async (t) => {
      const config = scratchConfig(t);
      await serveSocket(t, config, ({ url }) =>
        url === '/v1/status' ? { body: JSON.stringify(statusOf(config)) } : answer,
      );
      await assert.rejects(reported({ config }), failure);
    });
  }
});
