// Every route of the console, and the API key's two, in every way in which they can answer, over HTTP to the text that
// Prometheus scrapes: what is there, and what is not.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Account } from '../../src/poll/detect.ts';
import { dayWindows } from '../../src/poll/opencode-console-routes.ts';
import { AccountBench, CONSOLE_INTERVAL_MS, ZEN_INTERVAL_MS } from './account-bench.ts';
import {
  CONSOLE_PATHS,
  CONSOLE_ROUTES,
  GOOD_CONSOLE,
  modelPage,
  modelRow,
  NOW_MS,
  ORG_ID,
  SERVICE_KEY,
  SESSION_TOKEN,
  startConsole,
  ZEN_PATHS,
} from './console-server.ts';
import { type Answer, credentialOf, KEY, type Play, startOpencode } from './opencode-server.ts';

const PATHS = { ...CONSOLE_PATHS, ...ZEN_PATHS };
type RouteName = keyof typeof PATHS;
const ROUTES = Object.keys(PATHS) as readonly RouteName[];

/** The series that each route brings, as patterns. Together they are all that a good poll shows. */
const SERIES: Readonly<Record<RouteName, readonly RegExp[]>> = {
  models: [/^toll_models_available/, /^toll_model_info/],
  'go/usage': [/quota=go[,}]/],
  'billing/status': [/^toll_balance/],
  'billing/account': [],
  'billing/auto-recharge': [/^toll_reload/],
  'budgets/org': [/limit=monthly/],
  'usage/cost-by-day': [/^toll_reported_cost/],
  'usage/models': [/^toll_reported_model_/],
  'usage/summary': [/^toll_reported_tokens/],
  'go/status': [/quota=go_usd/],
};
/** Of the account, whatever routes there are. */
const ALWAYS = [/^toll_account_info/, /^toll_snapshot_timestamp/];

const KEYS: Partial<Account> = {
  key: credentialOf(KEY),
  consoleKey: credentialOf(SERVICE_KEY, 'CONSOLE_KEY'),
};

/** An answer that does not come while the poll has patience. */
const silence: Play = () => undefined;
const endless: Play = (_, response) => {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.write('{');
  return undefined;
};

/** How a route can fail, with what doctor says of it. The redirect's target is filled in. */
const FAILURES: readonly (readonly [string, Play, RegExp])[] = [
  ['401', { status: 401, body: '{"error":"x"}' }, /^HTTP 401/],
  ['403', { status: 403, body: '{"error":"x"}' }, /^HTTP 403/],
  ['404', { status: 404 }, /^HTTP 404$/],
  ['429 with Retry-After', { status: 429, headers: { 'retry-after': '120' } }, /^rate limited \(HTTP 429\)$/],
  ['500', { status: 500, body: 'oops' }, /^HTTP 500$/],
  ['503', { status: 503 }, /^HTTP 503$/],
  [
    'a sign-in page',
    { headers: { 'content-type': 'text/html; charset=utf-8' }, body: '<html>sign in' },
    /web page|not JSON/,
  ],
  ['malformed JSON', { body: '{"balanceMicroCents":' }, /not JSON/],
  ['an empty body', { body: '' }, /form|^$/],
  ['another form', { body: { hello: 'world' } }, /form|not a list of models/],
  ['a list of something else', { body: [1, 2, 3] }, /form|not a list of models/],
  ['null', { body: 'null' }, /form|not a list of models/],
  ['more than a megabyte', { body: ' '.repeat(1024 * 1024 + 1) }, /larger than 1 MiB/],
  ['nothing at all', silence, /did not answer within 0\.3 s/],
  ['no end', endless, /did not answer within 0\.3 s/],
];
/** Answers that say nothing on purpose: that is no failure. 403 of the Go route: a known key without the plan. */
const NO_FAILURE: readonly string[] = ['models an empty body', 'go/usage 403'];

test('the table of series covers a good poll, and no series belongs to two routes', async (t) => {
  const bench = new AccountBench(t, await startConsole(t), KEYS);
  const polled = await bench.poll();
  assert.deepEqual([polled.status, polled.message], ['ok', '$42.50 balance · 2 Zen models']);
  const patterns = [...Object.values(SERIES).flat(), ...ALWAYS];
  for (const name of Object.keys(await bench.series())) {
    assert.equal(patterns.filter((pattern) => pattern.test(name)).length, 1, name);
  }
});

for (const route of ROUTES) {
  test(`${route}: each way to fail takes its own series and no other`, async (t) => {
    const good = new AccountBench(t, await startConsole(t), KEYS);
    await good.poll();
    const expected = await good.series();
    const others = Object.fromEntries(
      Object.entries(expected).filter(([name]) => !SERIES[route].some((pattern) => pattern.test(name))),
    );
    assert.equal(Object.keys(others).length < Object.keys(expected).length, SERIES[route].length > 0);
    for (const [name, play, problem] of FAILURES) {
      if (NO_FAILURE.includes(`${route} ${name}`)) continue;
      await t.test(name, async (t) => {
        const server = await startConsole(t);
        server.plays[PATHS[route]] = play;
        const bench = new AccountBench(t, server, KEYS, 300);
        const { reports } = await bench.poll();
        const seen = await bench.series();
        const info = (series: Record<string, number>) => Object.keys(series).filter((key) => !/_info\{auth/.test(key));
        // The plan is told by two routes, so the account's own line may say less.
        assert.deepEqual(info(seen), info(others));
        for (const key of info(others)) assert.equal(seen[key], others[key], key);
        const report = reports.flatMap(({ routes }) => routes).find((each) => each.route === route);
        assert.match(report?.problem ?? '', problem);
        assert.notEqual(report?.state, 'ok');
      });
    }
  });
}

test('a redirect is not followed: the other server is never asked, and no credential leaves', async (t) => {
  const other = await startOpencode(t, Object.fromEntries(ROUTES.map((route) => [PATHS[route], { body: {} }])));
  for (const status of [301, 302, 303, 307, 308]) {
    const server = await startConsole(t);
    for (const route of ROUTES) {
      server.plays[PATHS[route]] = { status, headers: { location: other.url + PATHS[route] } };
    }
    const bench = new AccountBench(t, server, KEYS);
    const polled = await bench.poll();
    assert.equal(polled.status, 'auth_required', String(status));
    assert.deepEqual(Object.keys(await bench.series()), ['toll_account_info{auth_scope=zen+console}']);
  }
  assert.deepEqual(other.seen, []);
});

test('amounts are read as strings and as numbers, exactly, and below zero', async (t) => {
  const balanceOf = async (balanceMicroCents: unknown) => {
    const server = await startConsole(t);
    server.plays[PATHS['billing/status']] = { body: { balanceMicroCents } };
    const bench = new AccountBench(t, server, KEYS);
    await bench.poll();
    return (await bench.series())['toll_balance{currency=USD,kind=console}'];
  };
  const cases: [unknown, number | undefined][] = [
    ['4250000000', 42.5],
    [4250000000, 42.5],
    ['-14496', -0.00014496],
    [-14496, -0.00014496],
    ['1', 0.00000001],
    ['0', 0],
    [0, 0],
    ['900000000000000', 9_000_000],
    [null, undefined],
    ['1e9', undefined],
    ['12.5', undefined],
    [12.5, undefined],
    ['', undefined],
    [' 1', undefined],
    ['0x10', undefined],
    ['1234567890123456789', undefined],
    ['999999999999999999', undefined],
    [true, undefined],
    [{}, undefined],
  ];
  for (const [stated, expected] of cases) assert.equal(await balanceOf(stated), expected, JSON.stringify(stated));
});

test('the monthly limit: the budget, else the credit limit with this month’s days, else nothing', async (t) => {
  const noBudget = { body: { limitMicroCents: null, spentMicroCents: null, exceeded: null, resetsAt: null } };
  const noCredit = { body: { orgId: ORG_ID, creditLimitMicroCents: null } };
  const failing: Answer = { status: 500 };
  const NEXT_MONTH_S = Date.UTC(2026, 11, 1) / 1000;
  const cases: [string, Record<string, Answer>, (number | undefined)[]][] = [
    ['a budget', {}, [60, 6.1735557, NEXT_MONTH_S]],
    ['no budget: the credit limit', { [PATHS['budgets/org']]: noBudget }, [100, 1.5, NEXT_MONTH_S]],
    ['neither', { [PATHS['budgets/org']]: noBudget, [PATHS['billing/account']]: noCredit }, []],
    ['a budget that is not known', { [PATHS['budgets/org']]: failing }, []],
    ['no budget, no account', { [PATHS['budgets/org']]: noBudget, [PATHS['billing/account']]: failing }, []],
    [
      'the credit limit without days',
      { [PATHS['budgets/org']]: noBudget, [PATHS['usage/cost-by-day']]: failing },
      [100, undefined, NEXT_MONTH_S],
    ],
    [
      'no day yet',
      { [PATHS['budgets/org']]: noBudget, [PATHS['usage/cost-by-day']]: { body: [] } },
      [100, 0, NEXT_MONTH_S],
    ],
  ];
  for (const [name, plays, [limit, used, resetS]] of cases) {
    const bench = new AccountBench(t, await startConsole(t, plays), KEYS);
    await bench.poll();
    const series = await bench.series();
    const shown = [
      series['toll_spend_limit{currency=USD,limit=monthly}'],
      series['toll_spend_limit_used{currency=USD,limit=monthly}'],
      series['toll_spend_limit_reset_timestamp_seconds{limit=monthly}'],
    ];
    assert.deepEqual(shown, [limit, used, resetS], name);
  }
});

test('the credit limit as the monthly limit is as old as the oldest answer it is made of', async (t) => {
  const server = await startConsole(t, { [PATHS['budgets/org']]: { body: { limitMicroCents: null } } });
  const bench = new AccountBench(t, server, { consoleKey: credentialOf(SERVICE_KEY) });
  const fallback = async (sinceMs: number) => {
    bench.nowMs = NOW_MS + sinceMs;
    const { reports } = await bench.poll();
    const reading = reports[0]?.readings.find(({ route }) => route === 'billing/account');
    const [limit] = reading?.facts.spendLimits ?? [];
    return limit && [(reading?.readMs ?? 0) - NOW_MS, limit.limitNano, limit.usedNano];
  };
  const limitNano = 100_000_000_000;
  assert.deepEqual(await fallback(0), [0, limitNano, 1_500_000_000]);
  server.plays[PATHS['usage/cost-by-day']] = { status: 500 };
  const endMs = 3 * CONSOLE_INTERVAL_MS;
  assert.deepEqual(await fallback(endMs - 1), [0, limitNano, 1_500_000_000], 'the days are old, and hold still');
  assert.deepEqual(await fallback(endMs), [endMs, limitNano, undefined], 'the days have expired');
  server.plays[PATHS['budgets/org']] = { status: 500 };
  assert.deepEqual(await fallback(2 * endMs - 1), [endMs, limitNano, undefined]);
  assert.equal(await fallback(2 * endMs), undefined, 'nobody knows any more that there is no budget');
});

test('an hour of failing polls: values go after three intervals, then the state is unknown, and nothing is 0', async (t) => {
  const server = await startConsole(t);
  const bench = new AccountBench(t, server, KEYS);
  await bench.poll();
  const good = await bench.series();
  for (const route of ROUTES) server.plays[PATHS[route]] = { status: 503 };
  const isOfZen = (name: string) => [...SERIES.models, ...SERIES['go/usage']].some((pattern) => pattern.test(name));
  const isCounter = (name: string) => /_total\{/.test(name);
  for (let minute = 1; minute <= 60; minute += 1) {
    bench.nowMs = NOW_MS + minute * 60_000;
    await bench.poll();
    const sinceMs = bench.nowMs - NOW_MS;
    const seen = await bench.series();
    const [zen, console] = [sinceMs < 3 * ZEN_INTERVAL_MS, sinceMs < 3 * CONSOLE_INTERVAL_MS];
    const expected = Object.keys(good).filter((name) => {
      if (/_info\{auth/.test(name) || /snapshot_timestamp/.test(name)) return false;
      return isCounter(name) || (isOfZen(name) ? zen : console);
    });
    const shown = Object.keys(seen).filter((name) => !/_info\{auth/.test(name) && !/snapshot_timestamp/.test(name));
    assert.deepEqual(shown, expected, `minute ${minute}`);
    for (const name of shown) assert.equal(seen[name], good[name], name);
    assert.equal(
      Object.keys(seen).some((name) => /snapshot_timestamp/.test(name)),
      zen || console,
    );
    assert.equal(await bench.state(), console ? 'error' : 'unknown', `minute ${minute}`);
  }
  for (const route of CONSOLE_ROUTES) server.plays[PATHS[route]] = { body: GOOD_CONSOLE[route] };
  const back = await bench.poll();
  assert.equal(back.status, 'error', 'the API key’s routes are still away');
  assert.equal((await bench.series())['toll_balance{currency=USD,kind=console}'], 42.5);
});

test('what was read before midnight says nothing of the day and month that have begun since', async (t) => {
  const noBudget = { body: { limitMicroCents: null, spentMicroCents: null, resetsAt: null } };
  const server = await startConsole(t, { [PATHS['budgets/org']]: noBudget });
  const days = [{ date: '2026-11-30', totalCostMicroCents: '75000000' }];
  server.plays[PATHS['usage/cost-by-day']] = { body: days };
  const bench = new AccountBench(t, server, KEYS);
  bench.nowMs = Date.UTC(2026, 10, 30, 23, 58);
  await bench.poll();
  const used = 'toll_spend_limit_used{currency=USD,limit=monthly}';
  const before = await bench.series();
  assert.deepEqual([before['toll_reported_cost{currency=USD,window=1d}'], before[used]], [0.75, 0.75]);
  for (const route of CONSOLE_ROUTES) server.plays[PATHS[route]] = { status: 500 };
  bench.nowMs = Date.UTC(2026, 11, 1, 0, 1);
  await bench.poll();
  const after = await bench.series();
  assert.equal(after['toll_reported_cost{currency=USD,window=1d}'], 0.75, 'not 0: that is not known');
  assert.deepEqual([after['toll_spend_limit{currency=USD,limit=monthly}'], after[used]], [100, undefined]);
});

test('cost by day: a window is told only as far as the list is known to go back', () => {
  const at = (date: string) => Date.parse(`${date}T12:00:00Z`);
  const cases: [string, string[], Record<string, number>][] = [
    ['2026-11-20', ['2026-11-20', '2026-11-14', '2026-11-13'], { '1d': 1, '7d': 2, month: 3 }],
    ['2026-11-20', ['2026-10-20', '2026-10-22', '2026-11-20'], { '1d': 1, '7d': 1, '30d': 2, month: 1 }],
    ['2026-11-03', ['2026-11-03', '2026-11-01'], { '1d': 1, month: 2 }],
    ['2026-11-03', ['2026-11-03', '2026-10-28', '2026-11-04'], { '1d': 1, '7d': 2, month: 1 }],
    ['2026-11-20', [], { '1d': 0, '7d': 0, month: 0 }],
  ];
  for (const [today, dates, expected] of cases) {
    const days = dates.map((date) => ({ dayMs: Date.parse(date), nano: 1 }));
    const told = dayWindows(days, at(today)).map(({ window, nano }) => [window, nano]);
    assert.deepEqual(Object.fromEntries(told), expected, `${today}: ${dates.join(', ')}`);
  }
});

test('cost by model: all pages or none, one row for each model and product, the dearest by name', async (t) => {
  const PATH = PATHS['usage/models'];
  const page = (n: number) => PATH.replace('page=1', `page=${n}`);
  const costs = async (plays: Record<string, Play>) => {
    const server = await startConsole(t);
    Object.assign(server.plays, plays);
    const bench = new AccountBench(t, server, KEYS);
    await bench.poll();
    const series = Object.entries(await bench.series()).filter(([name]) => /^toll_reported_model_cost/.test(name));
    return series.map(([name, usd]) => [/model=([^,]+)/.exec(name)?.[1], usd]);
  };
  const rows = (names: readonly string[], usd: number) => names.map((name) => modelRow(name, String(usd * 1e8)));
  const two = {
    [PATH]: { body: modelPage(rows(['a', 'b'], 2), 1, 2) },
    [page(2)]: { body: modelPage(rows(['a', 'c'], 1), 2, 2) },
  };
  assert.deepEqual(await costs(two), [
    ['a', 3],
    ['b', 2],
    ['c', 1],
  ]);
  assert.deepEqual(await costs({ ...two, [page(2)]: { status: 500 } }), [], 'half of the models would be a wrong sum');
  assert.deepEqual(await costs({ [PATH]: { body: modelPage(rows(['a'], 1), 1, 11) } }), []);
  const many = Array.from({ length: 250 }, (_, n) => modelRow(`m-${n}`, String((n + 1) * 1e8)));
  const shown = await costs({ [PATH]: { body: modelPage(many) } });
  assert.deepEqual([shown.length, shown.find(([model]) => model === 'other')?.[1]], [201, 1275]);
  const odd = await costs({ [PATH]: { body: modelPage([modelRow('two\nlines', '100000000'), modelRow('', '5')]) } });
  assert.deepEqual(odd, [['other', 1.00000005]]);
});

test('all routes of the console failing alike: what the account says, and what to do', async (t) => {
  const all = (play: Play) => Object.fromEntries(CONSOLE_ROUTES.map((route) => [CONSOLE_PATHS[route], play]));
  const cases: [string, Play, string, string, RegExp, number?][] = [
    ['401', { status: 401 }, 'auth_required', 'auth', /^the console refused the key: check CONSOLE_KEY$/],
    ['404', { status: 404 }, 'error', 'error', /^there is no console API at 127\.0\.0\.1:\d+: check console_url$/],
    [
      '429',
      { status: 429, headers: { 'retry-after': '90' } },
      'limited',
      'limited',
      /^opencode console: rate limited/,
      90,
    ],
    ['500', { status: 500 }, 'error', 'error', /^opencode console: HTTP 500$/],
    ['silence', silence, 'error', 'timeout', /^opencode console: 127\.0\.0\.1:\d+ did not answer/],
  ];
  for (const [name, play, status, outcome, message, retryAfterS] of cases) {
    const server = await startConsole(t);
    Object.assign(server.plays, all(play));
    const bench = new AccountBench(t, server, KEYS, 300);
    const { reports, ...polled } = await bench.poll();
    assert.equal(polled.status, status, name);
    assert.match(polled.message, message);
    assert.deepEqual([reports[0]?.outcome, reports[1]?.outcome], ['ok', outcome], name);
    assert.equal(reports[1]?.retryAfterS, retryAfterS, name);
  }
  const server = await startConsole(t);
  Object.assign(server.plays, all({ headers: { 'content-type': 'text/html' }, body: '<html>' }));
  const session = { ...KEYS, consoleKey: credentialOf(SESSION_TOKEN) };
  const { message } = await new AccountBench(t, server, { ...session, workspaceId: ORG_ID }).poll();
  assert.equal(message, 'the console session has expired or is invalid: run "opencode console login"');
  const alone = await new AccountBench(t, server, session).poll();
  assert.match(alone.message, /it takes the organisation's id too\. Set extra\.opencode_workspace_id/);
});

test('no secret and no text of an answer is in a report, a message or a metric', async (t) => {
  const secret = (of: string) => `CANARY${of}7f3a9c`;
  const isRead = /^-?\d+$|^\d{4}-\d\d-\d\d|^(pay-as-you-go|opencode|opencode-go|deepseek-v4\.1-flash|glm-5)$/;
  const poisoned = (value: unknown): unknown => {
    if (typeof value === 'string') return isRead.test(value) ? value : secret('text');
    if (Array.isArray(value)) return value.map(poisoned);
    if (typeof value !== 'object' || value === null) return value;
    const poison = (key: string, of: unknown) => (key === 'provider' ? secret('provider') : poisoned(of));
    const entries = Object.entries(value).map(([key, of]) => [key, poison(key, of)]);
    const failing = Object.hasOwn(value, 'failureReason') ? { failureReason: secret('reason') } : {};
    return { ...Object.fromEntries(entries), ...failing, email: secret('mail'), last4: secret('card') };
  };
  const headers = { location: `/${secret('location')}`, 'x-error': secret('header') };
  const cases: [string, (good: unknown) => Answer, string, number][] = [
    ['good', (good) => ({ headers, body: poisoned(good) }), 'ok', CONSOLE_ROUTES.length],
    ['refused', () => ({ status: 401, headers, body: secret('body') }), 'auth', 0],
    ['redirected', () => ({ status: 302, headers, body: secret('body') }), 'auth', 0],
    ['down', () => ({ status: 500, headers, body: secret('body') }), 'error', 0],
    ['no JSON', () => ({ headers, body: secret('body') }), 'error', 0],
    ['another form', () => ({ headers, body: { [secret('field')]: secret('value') } }), 'error', 0],
  ];
  for (const [name, answerOf, outcome, readings] of cases) {
    const plays = CONSOLE_ROUTES.map((route) => [CONSOLE_PATHS[route], answerOf(GOOD_CONSOLE[route])]);
    const server = await startConsole(t, Object.fromEntries(plays));
    for (const issuer of [`${server.url}/console`, `https://${secret('issuer')}.example`]) {
      const found = { type: 'found', secret: `st_${secret('token')}`, orgId: `wrk_${secret('org')}`, issuer } as const;
      const bench = new AccountBench(t, server, { consoleKey: { ...credentialOf(undefined), read: () => found } });
      const polled = await bench.poll();
      assert.doesNotMatch(JSON.stringify(polled) + (await bench.text()), /CANARY/i, name);
      const [report] = polled.reports;
      const isSent = issuer.startsWith('http:');
      assert.deepEqual([report?.outcome, report?.readings.length], isSent ? [outcome, readings] : ['auth', 0], name);
      const reload = report?.readings.flatMap(({ facts }) => facts.reload ?? [])[0];
      assert.equal(reload?.isFailing, isSent && readings > 0 ? true : undefined, name);
    }
  }
});
