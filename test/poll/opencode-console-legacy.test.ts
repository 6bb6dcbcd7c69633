// An older console on a real server: what its billing page's function says, in every way in which it can fail.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { balanceOwner } from '../../src/poll/balance-owner.ts';
import { OpencodeConsoleLegacy, type OpencodeConsoleLegacyOptions } from '../../src/poll/opencode-console-legacy.ts';
import type { Facts } from '../../src/poll/poll-result.ts';
import { credentialOf, INTERVAL_MS, NOW_MS, type Play, startOpencode } from './opencode-server.ts';

const COOKIE = ['Fe26.2', 'EXAMPLE', 'cookie'].join('**');
const WORKSPACE = 'wrk_01EXAMPLE0000000000000000';
const USD = 1e9;
const NEXT_MONTH_MS = Date.UTC(2026, 11, 1);

const frame = (payload: string) => `;0x${Buffer.byteLength(payload).toString(16).padStart(8, '0')};${payload}`;
const answer = (fields: string): Play => ({
  headers: { 'content-type': 'text/javascript' },
  body: frame(`((self.$R=self.$R||{})["server-fn:1"]=[],($R=>$R[0]={${fields}})($R["server-fn:1"]))`),
});
const WORKED =
  'balance:1234000000,monthlyLimit:50,reload:!0,reloadAmount:20,reloadTrigger:5,monthlyUsage:420000000,' +
  'timeMonthlyUsageUpdated:$R[1]=new Date("2026-11-20T10:00:00.000Z"),subscription:null,subscriptionID:null,' +
  'lite:$R[2]={useBalance:!1},liteSubscriptionID:null';
const workspaceAt = (location: string): Play => ({ status: 302, headers: { location } });

async function start(
  t: TestContext,
  plays: Record<string, Play> = {},
  options: Partial<OpencodeConsoleLegacyOptions> = {},
) {
  const requests: { url: URL; headers: Record<string, unknown> }[] = [];
  const server = await startOpencode(t);
  const noted =
    (play: Play): Play =>
    (request, response) => {
      requests.push({ url: new URL(request.url ?? '', server.url), headers: request.headers });
      return typeof play === 'function' ? play(request, response) : play;
    };
  const set = (changed: Record<string, Play>) => {
    for (const [path, play] of Object.entries(changed)) server.plays[path] = noted(play);
  };
  set({ '/auth': workspaceAt(`/workspace/${WORKSPACE}`), '/_server': answer(WORKED), ...plays });
  const probe = new OpencodeConsoleLegacy({
    ...{ credential: credentialOf(COOKIE, 'console_cookie_file'), baseUrl: server.url },
    ...{ timeoutMs: 2000, intervalMs: INTERVAL_MS, dispatcher: server.dispatcher, ...options },
  });
  return { probe, requests, set };
}

/** The facts that an answer with these fields comes to. */
async function factsOf(t: TestContext, fields: string): Promise<Facts> {
  const { probe } = await start(t, { '/_server': answer(fields) });
  const { readings, trouble } = await probe.ask(NOW_MS);
  assert.equal(trouble, undefined);
  return readings[0]!.facts;
}

test('the worked example: balance 12.34, limit 50, used 4.20', async (t) => {
  const { probe, requests } = await start(t);
  const report = await probe.ask(NOW_MS);
  const owner = balanceOwner(WORKSPACE);
  assert.deepEqual(report, {
    outcome: 'ok',
    scope: 'console',
    routes: [{ route: 'billing', tells: 'balance, monthly limit', state: 'ok' }],
    readings: [
      {
        ...{ route: 'billing', readMs: NOW_MS, intervalMs: INTERVAL_MS },
        facts: {
          balances: [{ kind: 'console', currency: 'USD', nano: 12.34 * USD, owner }],
          spendLimits: [
            { limit: 'monthly', currency: 'USD', limitNano: 50 * USD, usedNano: 4.2 * USD, resetMs: NEXT_MONTH_MS },
          ],
          reload: { currency: 'USD', amountNano: 20 * USD, triggerNano: 5 * USD, isEnabled: true, isFailing: false },
          plan: { isSubscribed: false },
        },
      },
    ],
  });
  const [first, second] = requests;
  assert.deepEqual([requests.length, first?.url.pathname, second?.url.pathname], [2, '/auth', '/_server']);
  assert.equal(first?.headers.cookie, `auth=${COOKIE}`);
  const { headers, url } = second!;
  assert.equal(headers['x-server-instance'], 'server-fn:1');
  assert.equal(headers['x-server-id'], url.searchParams.get('id'));
  assert.match(String(headers.referer), new RegExp(`/workspace/${WORKSPACE}/billing$`));
  assert.deepEqual(JSON.parse(url.searchParams.get('args')!).t.a, [{ t: 1, s: WORKSPACE }]);
  await probe.ask(NOW_MS + 1000);
  assert.equal(requests.length, 3, 'the workspace is remembered');
});

test('each field by its own unit; null, missing and odd ones are absent', async (t) => {
  const monthly = { limit: 'monthly', currency: 'USD', resetMs: NEXT_MONTH_MS };
  const used = 'monthlyUsage:420000000,timeMonthlyUsageUpdated:$R[1]=new Date';
  const none = { plan: { isSubscribed: false } };
  const cases: [string, string, Facts][] = [
    ['nothing', 'balance:null', none],
    ['text for a balance', 'balance:"12"', none],
    ['a negative balance', 'balance:-14496', { ...none, balances: [{ ...balance(-144960) }] }],
    ['whole dollars', 'monthlyLimit:50', { ...none, spendLimits: [{ ...monthly, limitNano: 50 * USD }] }],
    ['a limit of 0', 'monthlyLimit:0', { ...none, spendLimits: [{ ...monthly, limitNano: 0 }] }],
    ['just below', 'monthlyLimit:8999999', { ...none, spendLimits: [{ ...monthly, limitNano: 8_999_999 * USD }] }],
    ['micro-cents', 'monthlyLimit:5000000000', { ...none, spendLimits: [{ ...monthly, limitNano: 50 * USD }] }],
    [
      '10,000,000 is micro-cents',
      'monthlyLimit:10000000',
      { ...none, spendLimits: [{ ...monthly, limitNano: 0.1 * USD }] },
    ],
    ['no limit', 'monthlyLimit:null', none],
    ['this month', `${used}("2026-11-01T00:00:00Z")`, { ...none, spendLimits: [{ ...monthly, usedNano: 4.2 * USD }] }],
    ['a past month', `${used}("2026-10-31T23:59:59Z")`, { ...none, spendLimits: [{ ...monthly, usedNano: 0 }] }],
    ['last year', `${used}("2025-11-20T00:00:00Z")`, { ...none, spendLimits: [{ ...monthly, usedNano: 0 }] }],
    ['no date', 'monthlyUsage:420000000', { ...none, spendLimits: [{ ...monthly, usedNano: 4.2 * USD }] }],
    ['no usage', 'monthlyUsage:null,timeMonthlyUsageUpdated:null', none],
    [
      'a failed reload',
      'reload:!1,reloadAmount:30,reloadTrigger:7,reloadError:"card declined",timeReloadError:null',
      {
        ...none,
        reload: { currency: 'USD', amountNano: 30 * USD, triggerNano: 7 * USD, isEnabled: false, isFailing: true },
      },
    ],
    ['a reload that is not told', 'reload:null', none],
    [
      'Black',
      'subscriptionID:"sub_1",subscription:{status:"subscribed",plan:"100",useBalance:!0}',
      { plan: { name: 'black-100', isSubscribed: true, drawsOnBalance: true } },
    ],
    [
      'Black of an unknown size',
      'subscriptionID:"sub_1",subscription:{plan:"7"}',
      { plan: { name: 'black', isSubscribed: true, drawsOnBalance: false } },
    ],
    ['Black booked only', 'subscriptionPlan:"200"', none],
    [
      'Go',
      'liteSubscriptionID:"sub_2",lite:{useBalance:!0}',
      { plan: { name: 'go', isSubscribed: true, drawsOnBalance: true } },
    ],
    ['payment details', 'paymentMethodLast4:"4242",paymentMethodType:"card",customerID:"cus_1"', none],
  ];
  for (const [name, fields, expected] of cases) assert.deepEqual(await factsOf(t, fields), expected, name);
});

function balance(nano: number) {
  return { kind: 'console', currency: 'USD', nano, owner: balanceOwner(WORKSPACE) };
}

test('in every way to fail: the state, and what to do', async (t) => {
  const expired = /^the console session has expired: sign in/;
  const silence: Play = () => undefined;
  const cases: [string, Record<string, Play>, string, string, RegExp, string, number?][] = [
    // name, answers, outcome, status, message, state of the route, Retry-After
    ['signed out', { '/auth': workspaceAt('/auth/authorize') }, 'auth', 'auth_required', expired, 'refused'],
    ['a sign-in page', { '/auth': { body: '<html>' } }, 'auth', 'auth_required', expired, 'refused'],
    ['401 of /auth', { '/auth': { status: 401 } }, 'auth', 'auth_required', expired, 'refused'],
    ['500 of /auth', { '/auth': { status: 500 } }, 'error', 'error', /^opencode console: HTTP 500/, 'error'],
    ['401', { '/_server': { status: 401 } }, 'auth', 'auth_required', expired, 'refused'],
    ['403', { '/_server': { status: 403 } }, 'auth', 'auth_required', expired, 'refused'],
    ['redirect', { '/_server': workspaceAt('/auth/authorize') }, 'auth', 'auth_required', expired, 'refused'],
    [
      'a web page',
      { '/_server': { headers: { 'content-type': 'text/html' }, body: '<html>' } },
      ...(['auth', 'auth_required', expired, 'refused'] as const),
    ],
    ['404', { '/_server': { status: 404 } }, 'error', 'error', /set extra\.opencode_billing_function_id$/, 'missing'],
    ['500', { '/_server': { status: 500 } }, 'error', 'error', /set extra\.opencode_billing_function_id$/, 'error'],
    [
      '429',
      { '/_server': { status: 429, headers: { 'retry-after': '70' } } },
      'limited',
      'limited',
      /rate limited/,
      'limited',
      70,
    ],
    [
      'not JavaScript',
      { '/_server': { body: '({' } },
      'error',
      'error',
      /^opencode console: the answer is not JavaScript$/,
      'error',
    ],
    [
      'code',
      { '/_server': { body: '(process.exit(1))' } },
      'error',
      'error',
      /holds code \(CallExpression|MemberExpression/,
      'error',
    ],
    [
      'an error of the server',
      { '/_server': { body: '(Object.assign(new Error("CANARY"),{}))' } },
      ...(['error', 'error', /^opencode console: the server answered with an error of its own$/, 'error'] as const),
    ],
    ['a list', { '/_server': { body: '([1])' } }, 'error', 'error', /not the billing of a workspace$/, 'error'],
    [
      'too large',
      { '/_server': { body: ' '.repeat(1024 * 1024 + 1) } },
      'error',
      'error',
      /larger than 1 MiB$/,
      'error',
    ],
    ['silence', { '/_server': silence }, 'timeout', 'error', /did not answer within 0\.3 s$/, 'timeout'],
  ];
  for (const [name, plays, outcome, status, message, state, retryAfterS] of cases) {
    const { probe } = await start(t, plays, { timeoutMs: 300 });
    const report = await probe.ask(NOW_MS);
    assert.deepEqual([report.outcome, report.trouble?.status, report.routes[0]?.state], [outcome, status, state], name);
    assert.match(report.trouble?.message ?? '', message, name);
    assert.deepEqual([report.readings, report.retryAfterS], [[], retryAfterS], name);
  }
});

test('the workspace: from the configuration, or from any form of the redirect', async (t) => {
  const configured = await start(t, {}, { workspaceId: WORKSPACE });
  await configured.probe.ask(NOW_MS);
  assert.deepEqual(
    configured.requests.map(({ url }) => url.pathname),
    ['/_server'],
  );
  const locations = [
    `/en/workspace/${WORKSPACE}/billing`,
    `https://opencode.ai/workspace/${WORKSPACE}?x=1`,
    `/workspace/${WORKSPACE}#top`,
  ];
  for (const location of locations) {
    const { probe, requests } = await start(t, { '/auth': workspaceAt(location) });
    await probe.ask(NOW_MS);
    assert.match(requests[1]?.url.search ?? '', new RegExp(WORKSPACE), location);
  }
});

test('the cookie: with or without its name, alone of what was pasted; another one starts from nothing', async (t) => {
  for (const pasted of [COOKIE, `auth=${COOKIE}`, `auth=${COOKIE}; Path=/; HttpOnly`]) {
    const { probe, requests } = await start(t, {}, { credential: credentialOf(pasted) });
    await probe.ask(NOW_MS);
    assert.equal(requests[0]?.headers.cookie, `auth=${COOKIE}`);
  }
  let secret: string | undefined = COOKIE;
  const credential = { ...credentialOf(COOKIE, 'console_cookie_file'), read: () => credentialOf(secret).read() };
  const { probe, requests, set } = await start(t, {}, { credential });
  await probe.ask(NOW_MS);
  assert.equal(probe.hasNewCredential(), false);
  secret = 'another';
  assert.equal(probe.hasNewCredential(), true);
  set({ '/_server': { status: 500 } });
  assert.deepEqual((await probe.ask(NOW_MS + 1000)).readings, []);
  assert.equal(requests.filter(({ url }) => url.pathname === '/auth').length, 2, 'its workspace is asked anew');
  secret = undefined;
  const without = await probe.ask(NOW_MS + 2000);
  assert.match(without.trouble?.message ?? '', /^no console cookie: set console_cookie_file/);
  secret = 'two words\n';
  assert.match((await probe.ask(NOW_MS + 3000)).trouble?.message ?? '', /^the cookie holds characters/);
  assert.equal(requests.length, 4, 'nothing was asked with either');
});

test('last good values outlive failures by three intervals', async (t) => {
  const { probe, set } = await start(t);
  await probe.ask(NOW_MS);
  set({ '/_server': { status: 500 } });
  assert.equal((await probe.ask(NOW_MS + 3 * INTERVAL_MS - 1)).readings.length, 1);
  assert.equal((await probe.ask(NOW_MS + 3 * INTERVAL_MS)).readings.length, 0);
});

test('no secret and no word of an answer comes out', async (t) => {
  const canary = 'CANARY';
  const fields =
    `balance:1,customerID:"${canary}",paymentMethodID:"${canary}",paymentMethodType:"${canary}",paymentMethodLast4:"${canary}",` +
    `email:"${canary}@example.com",reloadError:"${canary}",subscriptionID:"${canary}",subscription:{status:"${canary}",` +
    `plan:"${canary}",coupon:"${canary}"},subscriptionPlan:"${canary}",${canary}:"${canary}"`;
  const auth = workspaceAt(`/workspace/wrk_${canary}`);
  const plays: Record<string, Play>[] = [
    { '/auth': auth, '/_server': answer(fields) },
    { '/auth': auth, '/_server': { body: `(${canary})` } },
    { '/auth': auth, '/_server': { status: 500, body: canary, headers: { 'x-error': canary } } },
    { '/auth': workspaceAt(`/auth/${canary}`) },
    { '/auth': { status: 500, body: canary } },
  ];
  for (const play of plays) {
    const { probe } = await start(t, play, { credential: credentialOf(`auth=${canary}-cookie`, 'COOKIE') });
    assert.doesNotMatch(JSON.stringify(await probe.ask(NOW_MS)), new RegExp(canary));
  }
});
