// The console's probe by itself: the exact facts of each route, what is left when one or all of them fail, and what each
// reader takes and refuses. The text for Prometheus is looked at in opencode-console.test.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { balanceOwner } from '../../src/poll/balance-owner.ts';
import type { Credential } from '../../src/poll/credential.ts';
import { OpencodeConsole, type OpencodeConsoleOptions } from '../../src/poll/opencode-console.ts';
import {
  readAccount,
  readAutoRecharge,
  readBudget,
  readDays,
  readGoStatus,
  readStatus,
  readSummary,
} from '../../src/poll/opencode-console-routes.ts';
import type { Facts } from '../../src/poll/poll-result.ts';
import type { ProbeReport } from '../../src/poll/probe.ts';
import {
  CONSOLE_PATHS,
  CONSOLE_ROUTES,
  type ConsoleRoute,
  GOOD_CONSOLE,
  NOW_MS,
  ORG_ID,
  SERVICE_KEY,
  startConsole,
} from './console-server.ts';
import { credentialOf, KEY, type OpencodeServer, type Play, startOpencode } from './opencode-server.ts';

const INTERVAL_MS = 300_000;
/** How long a silent route is waited for; the others have to answer within it. */
const PATIENCE_MS = 2000;
const USD = { currency: 'USD' } as const;

function tokensOf(labels: object, input = 1000) {
  const counts = { input, output: 200, cache_read: 300, cache_write: 42 };
  return Object.entries(counts).map(([tokenType, tokens]) => ({ window: 'month', tokenType, tokens, ...labels }));
}
function meter(window: string, limit: number, used: number, more: object) {
  return { ...{ quota: 'go_usd', window, unit: 'usd', limit, used }, ...more };
}
const DEEPSEEK = { model: 'deepseek-v4.1-flash', product: 'opencode-go' };
const GLM = { model: 'glm-5', product: 'opencode' };

/** What the good answers say. */
const GOOD_FACTS: Readonly<Record<ConsoleRoute, Facts>> = {
  'billing/status': {
    balances: [{ kind: 'console', ...USD, nano: 42_500_000_000, owner: balanceOwner(ORG_ID) }],
    plan: { name: 'pay-as-you-go' },
  },
  'billing/account': {},
  'billing/auto-recharge': {
    reload: { ...USD, triggerNano: 5_000_000_000, amountNano: 20_000_000_000, isEnabled: false, isFailing: false },
  },
  'budgets/org': {
    spendLimits: [
      {
        ...{ limit: 'monthly', ...USD, limitNano: 60_000_000_000, usedNano: 6_173_555_700 },
        resetMs: Date.UTC(2026, 11, 1),
      },
    ],
  },
  'usage/cost-by-day': {
    reportedCosts: [
      { window: '1d', ...USD, nano: 250_000_000 },
      { window: '7d', ...USD, nano: 1_000_000_000 },
      { window: '30d', ...USD, nano: 1_500_000_000 },
      { window: 'month', ...USD, nano: 1_500_000_000 },
    ],
  },
  'usage/models': {
    reportedCosts: [
      { window: 'month', ...USD, nano: 5_464_831_510, ...DEEPSEEK },
      { window: 'month', ...USD, nano: 1_000_000_000, ...GLM },
    ],
    reportedTokens: [...tokensOf(DEEPSEEK), ...tokensOf(GLM)],
  },
  'usage/summary': { reportedTokens: tokensOf({}, 2000) },
  'go/status': {
    quotas: [
      meter('5h', 12, 0.84289897, {
        ...{ remaining: 11.15710103, usedRatio: 842_898_970 / 12_000_000_000 },
        resetMs: Date.UTC(2026, 10, 21, 23),
      }),
      meter('7d', 30, 15, { remaining: 15, usedRatio: 0.5, resetMs: Date.UTC(2026, 10, 23) }),
      meter('month', 60, 15, { remaining: 45, usedRatio: 0.25, resetMs: Date.UTC(2026, 11, 10) }),
    ],
    plan: { name: 'go', isSubscribed: true, drawsOnBalance: false },
  },
};

function consoleAt(server: OpencodeServer, options: Partial<OpencodeConsoleOptions> = {}) {
  return new OpencodeConsole({
    ...{ credential: credentialOf(SERVICE_KEY, 'CONSOLE_KEY'), orgId: ORG_ID, baseUrl: `${server.url}/console` },
    ...{ timeoutMs: 10_000, intervalMs: INTERVAL_MS, dispatcher: server.dispatcher, ...options },
  });
}
const factsOf = ({ readings }: ProbeReport) => Object.fromEntries(readings.map(({ route, facts }) => [route, facts]));
const playAll = (server: OpencodeServer, play: Play) => {
  for (const route of CONSOLE_ROUTES) server.plays[CONSOLE_PATHS[route]] = play;
};

test('a good poll: the exact facts of every route', async (t) => {
  const server = await startConsole(t);
  const { readings, routes, ...rest } = await consoleAt(server).ask(NOW_MS);
  assert.deepEqual(factsOf({ readings, routes, ...rest }), GOOD_FACTS);
  for (const reading of readings) assert.deepEqual([reading.readMs, reading.intervalMs], [NOW_MS, INTERVAL_MS]);
  assert.deepEqual(rest, { outcome: 'ok', scope: 'console' });
  const tells = ['balance', 'credit limit', 'auto-reload', 'monthly limit', 'cost by day', 'cost by model', 'tokens'];
  assert.deepEqual(
    routes.map((route) => route.tells),
    [...tells, 'Go plan in dollars'],
  );
  assert.deepEqual(server.seen.toSorted(), CONSOLE_ROUTES.map((r) => `${CONSOLE_PATHS[r]} ${SERVICE_KEY}`).toSorted());
});

test('whose balance it is: the organisation that the account names, else the one that was asked for', async (t) => {
  const server = await startConsole(t);
  const ownerOf = async (orgId: string | undefined) => {
    const report = await consoleAt(server, { orgId }).ask(NOW_MS);
    return factsOf(report)['billing/status']?.balances?.[0]?.owner;
  };
  assert.equal(await ownerOf('wrk_ASKED'), balanceOwner(ORG_ID));
  server.plays[CONSOLE_PATHS['billing/account']] = { status: 500 };
  assert.deepEqual([await ownerOf('wrk_ASKED'), await ownerOf(undefined)], [balanceOwner('wrk_ASKED'), undefined]);
});

/** How an answer fails; then what the account says when all routes do so: outcome, status, message, retryAfterS. */
type Failure = readonly [string, Play, string, string, RegExp, number?];
const refused = ['auth', 'auth_required', /^the console refused the key: check CONSOLE_KEY$/] as const;
const error = (message: RegExp) => ['error', 'error', message] as const;
const failures = (otherUrl: string): readonly Failure[] => [
  ['401', { status: 401 }, ...refused],
  ['403', { status: 403 }, ...refused],
  ['a redirect to elsewhere', { status: 302, headers: { location: `${otherUrl}/login` } }, ...refused],
  ['a sign-in page', { headers: { 'content-type': 'text/html; charset=utf-8' }, body: '<html>' }, ...refused],
  ['404', { status: 404 }, ...error(/^there is no console API at 127\.0\.0\.1:\d+: check console_url$/)],
  [
    ...(['429', { status: 429, headers: { 'retry-after': '90' } }, 'limited', 'limited'] as const),
    ...([/^opencode console: rate limited \(HTTP 429\)$/, 90] as const),
  ],
  ['500', { status: 500 }, ...error(/^opencode console: HTTP 500$/)],
  ['503 with Retry-After', { status: 503, headers: { 'retry-after': '7' } }, ...error(/: HTTP 503$/), 7],
  ['malformed JSON', { body: '{"balanceMicroCents":' }, ...error(/it is not JSON$/)],
  ['another form', { body: { hello: 'world' } }, ...error(/of a form that this version does not know$/)],
  ['more than a megabyte', { body: ' '.repeat(1024 * 1024 + 1) }, ...error(/larger than 1 MiB$/)],
  ['silence', () => undefined, 'timeout', 'error', /127\.0\.0\.1:\d+ did not answer within 2 s$/],
];

test('a route that fails takes its own facts and nothing else; all of them say what to do', async (t) => {
  const other = await startOpencode(t);
  for (const [name, play, outcome, status, message, retryAfterS] of failures(other.url)) {
    await t.test(name, async (t) => {
      const timeoutMs = name === 'silence' ? PATIENCE_MS : 10_000;
      const one = async (route: ConsoleRoute) => {
        const server = await startConsole(t);
        server.plays[CONSOLE_PATHS[route]] = play;
        const report = await consoleAt(server, { timeoutMs }).ask(NOW_MS);
        const { [route]: _, ...others } = GOOD_FACTS;
        assert.deepEqual(factsOf(report), others, route);
        const { outcome, trouble, retryAfterS } = report;
        assert.deepEqual([outcome, trouble, retryAfterS], ['ok', undefined, undefined], route);
        const failed = report.routes.filter(({ state }) => state !== 'ok').map((each) => each.route);
        assert.deepEqual(failed, [route]);
      };
      await Promise.all(CONSOLE_ROUTES.map(one));

      const server = await startConsole(t);
      playAll(server, play);
      const report = await consoleAt(server, { timeoutMs }).ask(NOW_MS);
      assert.deepEqual([report.readings, report.outcome, report.trouble?.status], [[], outcome, status]);
      assert.match(report.trouble?.message ?? '', message);
      assert.equal(report.retryAfterS, retryAfterS);
    });
  }
  assert.deepEqual(other.seen, [], 'no redirect was followed');
});

test('routes that fail in different ways: which failure is told', async (t) => {
  const cases: [string, number, number, string][] = [
    ['refused, one not there', 401, 404, 'auth'],
    ['not there, one refused', 404, 401, 'auth'],
    ['refused, one down', 401, 500, 'error'],
    ['slowed down, one down', 429, 500, 'error'],
    ['not there, one slowed down', 404, 429, 'limited'],
    ['refused, one that still pauses', 401, 429, 'auth'],
  ];
  for (const [name, most, one, outcome] of cases) {
    const server = await startConsole(t);
    playAll(server, { status: most });
    server.plays[CONSOLE_PATHS['billing/status']] = { status: one };
    assert.equal((await consoleAt(server).ask(NOW_MS)).outcome, outcome, name);
  }
});

test('a route that asks to be left alone is, and its last answer stays; the others are asked', async (t) => {
  const server = await startConsole(t);
  const probe = consoleAt(server);
  await probe.ask(NOW_MS);
  const path = CONSOLE_PATHS['usage/summary'];
  server.plays[path] = { status: 429, headers: { 'retry-after': '120' } };
  await probe.ask(NOW_MS + 1000);
  server.plays[path] = { body: GOOD_CONSOLE['usage/summary'] };
  const asked = async (nowMs: number) => {
    server.seen.length = 0;
    assert.deepEqual(factsOf(await probe.ask(nowMs)), GOOD_FACTS);
    return server.seen.length;
  };
  assert.deepEqual([await asked(NOW_MS + 120_999), await asked(NOW_MS + 121_000)], [7, 8]);

  playAll(server, { status: 429, headers: { 'retry-after': '600' } });
  await probe.ask(NOW_MS + 130_000);
  server.seen.length = 0;
  const { outcome, trouble, retryAfterS, routes } = await probe.ask(NOW_MS + 140_000);
  assert.deepEqual([server.seen, outcome, trouble?.status, retryAfterS], [[], 'limited', 'limited', 590]);
  assert.deepEqual([...new Set(routes.map(({ state }) => state))], ['limited']);
});

test('another credential is noticed, and nothing that the former one saw is told', async (t) => {
  const server = await startConsole(t);
  let found = { type: 'found', secret: SERVICE_KEY, orgId: ORG_ID } as ReturnType<Credential['read']>;
  const credential: Credential = { ...credentialOf(SERVICE_KEY), read: () => found };
  const probe = consoleAt(server, { credential, orgId: undefined });
  const later: (typeof found)[] = [
    { type: 'found', secret: `${SERVICE_KEY}2`, orgId: ORG_ID },
    { type: 'found', secret: SERVICE_KEY, orgId: 'wrk_OTHER' },
    { type: 'absent' },
    { type: 'unusable', problem: 'close it' },
  ];
  for (const other of later) {
    found = { type: 'found', secret: SERVICE_KEY, orgId: ORG_ID };
    for (const route of CONSOLE_ROUTES) server.plays[CONSOLE_PATHS[route]] = { body: GOOD_CONSOLE[route] };
    assert.equal((await probe.ask(NOW_MS)).readings.length, CONSOLE_ROUTES.length);
    assert.equal(probe.hasNewCredential(), false);
    found = other;
    assert.equal(probe.hasNewCredential(), true);
    playAll(server, { status: 500 });
    assert.deepEqual((await probe.ask(NOW_MS + 1)).readings, []);
    assert.equal(probe.hasNewCredential(), false);
  }
});

test('what cannot be sent is not, and the message says what is wrong without it', async (t) => {
  const server = await startConsole(t);
  const cases: [string, Parameters<typeof consoleAt>[1], RegExp][] = [
    ['a key of two words', { credential: credentialOf('oc_sk EXAMPLE', 'PLACE') }, /^the console key holds .* PLACE$/],
    ['an id of two lines', { orgId: 'wrk_EXAMPLE\nx: 1' }, /^the organisation's id holds .*opencode_workspace_id/],
    ['an id in another script', { orgId: 'wrk_EXÄMPLE\u{1f600}' }, /^the organisation's id holds/],
  ];
  for (const [name, options, message] of cases) {
    const { outcome, trouble, scope } = await consoleAt(server, options).ask(NOW_MS);
    assert.deepEqual([outcome, trouble?.status, scope], ['auth', 'auth_required', undefined], name);
    assert.match(trouble?.message ?? '', message);
    assert.doesNotMatch(trouble?.message ?? '', /EX.MPLE/);
  }
  assert.deepEqual(server.seen, []);
});

test('an API key asks one route, and however that fails, nothing is wrong with the account', async (t) => {
  const other = await startOpencode(t);
  const byKey = { credential: credentialOf(KEY), routes: 'go' } as const;
  const good = await startConsole(t);
  const { readings, outcome, scope } = await consoleAt(good, byKey).ask(NOW_MS);
  assert.deepEqual([readings.map(({ facts }) => facts), outcome, scope], [[GOOD_FACTS['go/status']], 'ok', undefined]);
  assert.deepEqual(good.seen, [`${CONSOLE_PATHS['go/status']} ${KEY}`]);
  for (const [name, play, failedAs] of failures(other.url)) {
    const server = await startConsole(t);
    playAll(server, play);
    const report = await consoleAt(server, { ...byKey, timeoutMs: PATIENCE_MS }).ask(NOW_MS);
    const expected = failedAs === 'auth' ? 'ok' : failedAs;
    assert.deepEqual([report.outcome, report.trouble, report.readings], [expected, undefined, []], name);
  }
});

const DEC_1 = Date.UTC(2026, 11, 1);
/** Of each reader: an answer, and what is taken out of it; undefined where the answer is refused. */
const READERS: Readonly<Record<string, readonly [(json: unknown) => unknown, ...(readonly [unknown, unknown])[]]>> = {
  'billing/status': [
    readStatus,
    [{ balanceMicroCents: null, mode: 'my own plan' }, {}],
    [
      { balanceMicroCents: '-14496', mode: 7, billingMode: 'prepaid' },
      { balanceNano: -144_960, plan: 'prepaid' },
    ],
    [{ mode: 'prepaid' }, undefined],
  ],
  'billing/account': [
    readAccount,
    [{ orgId: 7, creditLimitMicroCents: null }, {}],
    [{ creditLimitMicroCents: 100 }, { creditLimitNano: 1000 }],
    [{ creditLimitMicroCents: 'much' }, undefined],
  ],
  'billing/auto-recharge': [
    readAutoRecharge,
    [
      { enabled: true, failureReason: '' },
      { ...USD, isEnabled: true, isFailing: true },
    ],
    [{ enabled: null, thresholdDollars: null }, USD],
    [{ enabled: true, thresholdDollars: '5' }, undefined],
    [{ enabled: 'yes' }, undefined],
  ],
  'budgets/org': [
    readBudget,
    [{ limitMicroCents: null, spentMicroCents: null, resetsAt: null }, {}],
    ...['2026-12-01T00:00:00.000Z', '2026-12-01T01:00:00+01:00', '2026-12-01T00:00:00', '2026-12-01'].map(
      (resetsAt) =>
        [
          { limitMicroCents: 1, resetsAt },
          { limitNano: 10, resetMs: DEC_1 },
        ] as const,
    ),
    ...['5', 'soon', '12/1/2026', {}].map((resetsAt) => [{ limitMicroCents: 1, resetsAt }, undefined] as const),
    [{ limitMicroCents: 1, spentMicroCents: 1.5 }, undefined],
  ],
  'usage/cost-by-day': [
    readDays,
    [[], []],
    [[{ date: '2026-12-01', totalCostMicroCents: 5 }], [{ dayMs: DEC_1, nano: 50 }]],
    ...['2026-02-30', '2026-13-01', '2026-12-1', '2026-12-01T00:00:00Z', 5].map(
      (date) => [[{ date, totalCostMicroCents: 5 }], undefined] as const,
    ),
    [[{ date: '2026-12-01', totalCostMicroCents: null }], undefined],
  ],
  'usage/summary': [
    readSummary,
    [
      { totalInputTokens: 7, totalCostMicroCents: 1 },
      { nano: 10, tokens: { input: 7 } },
    ],
    [
      { items: [1, 2].map((n) => ({ totalOutputTokens: n, totalCacheWrite1hTokens: '3', totalCostMicroCents: n })) },
      { nano: 30, tokens: { output: 3, cache_write: 6 } },
    ],
    [
      { items: [], pageInfo: { pageCount: 1 } },
      { nano: 0, tokens: {} },
    ],
    [{ items: [{ totalCostMicroCents: 1 }], pageInfo: { page: 1, pageCount: 2 } }, undefined],
    ...[-1, 1.5, '1.5', 'many'].map((n) => [{ totalInputTokens: n, totalCostMicroCents: 1 }, undefined] as const),
  ],
  'go/status': [
    readGoStatus,
    ...[{}, { access: null }].map(
      (access) =>
        [
          { product: 'go', ...access },
          { hasPlan: false, drawsOnBalance: false, quotas: [] },
        ] as const,
    ),
    ...[{}, { meters: null }, { meters: { fiveHour: null } }].map(
      (access) =>
        [
          { product: 'go', useBalance: true, access },
          { hasPlan: true, drawsOnBalance: true, quotas: [] },
        ] as const,
    ),
    [
      {
        product: 'go',
        access: {
          endsAt: '2026-12-01T00:00:00Z',
          meters: {
            fiveHour: { limitMicroCents: '0', usedMicroCents: 0 },
            week: { limitMicroCents: 1e8, usedMicroCents: '150000000', resetsAt: '2026-12-01T00:00:00Z' },
            month: { limitMicroCents: 1e8, usedMicroCents: -1e8, resetsAt: null },
          },
        },
      },
      {
        ...{ hasPlan: true, drawsOnBalance: false },
        quotas: [
          meter('5h', 0, 0, { remaining: 0 }),
          meter('7d', 1, 1.5, { remaining: -0.5, usedRatio: 1, resetMs: DEC_1 }),
          meter('month', 1, -1, { remaining: 2, usedRatio: 0, resetMs: DEC_1 }),
        ],
      },
    ],
    ...[7, {}, { limitMicroCents: 'x', usedMicroCents: 1 }, { limitMicroCents: 1 }].map(
      (week) => [{ product: 'go', access: { meters: { week } } }, undefined] as const,
    ),
    [{ access: {} }, undefined],
  ],
};

for (const [route, [read, ...cases]] of Object.entries(READERS)) {
  test(`${route}: what is read, and what is refused whole`, () => {
    for (const [json, expected] of cases) assert.deepEqual(read(json), expected, JSON.stringify(json));
    for (const json of [undefined, null, 7, 'text', [7], {}]) assert.equal(read(json), undefined, JSON.stringify(json));
  });
}
