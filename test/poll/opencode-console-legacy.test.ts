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
  'timeMonthlyUsageUpdated:$R[1]=new Date("2026-11-20T10:00:00.000Z"),reloadError:null,timeReloadError:null,' +
  'subscription:null,subscriptionID:null,lite:$R[2]={useBalance:!1},liteSubscriptionID:null';
/** What nobody has of anything; a field that follows it wins over it. */
const NOTHING = 'balance:null,subscriptionID:null,liteSubscriptionID:null';
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

/** The facts that an answer with these fields comes to, all others being null or missing. */
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
  assert.match(String(headers['x-server-id']), /^[0-9a-f]{64}$/);
  assert.match(String(headers.accept), /^text\/javascript/);
  assert.equal(headers.origin, url.origin);
  assert.equal(headers.cookie, `auth=${COOKIE}`);
  assert.match(String(headers.referer), new RegExp(`/workspace/${WORKSPACE}/billing$`));
  const list = { t: 9, i: 0, l: 1, a: [{ t: 1, s: WORKSPACE }], o: 0 };
  assert.deepEqual(JSON.parse(url.searchParams.get('args')!), { t: list, f: 31, m: [] });
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
    ['a spent balance', 'balance:0', { ...none, balances: [balance(0)] }],
    ['a negative balance', 'balance:-14496', { ...none, balances: [balance(-144960)] }],
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
    [
      'a limit, amounts and a usage below zero',
      'monthlyLimit:-1,monthlyUsage:-1,reloadAmount:-1,reloadTrigger:-1',
      none,
    ],
    ['other types', 'monthlyLimit:"50",monthlyUsage:!0,reload:1,reloadAmount:"20",subscription:5,lite:[]', none],
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
      'only that a reload failed',
      'timeReloadError:new Date("2026-11-20")',
      { ...none, reload: { currency: 'USD', isFailing: true } },
    ],
    ['only that no reload failed', 'reloadError:null', none],
    [
      'a reload of which nobody says whether it failed',
      'reload:!0',
      { ...none, reload: { currency: 'USD', isEnabled: true } },
    ],
    ['ids that are no text', 'subscriptionID:7,liteSubscriptionID:!0', {}],
    ['no ids', 'subscriptionID:void 0,liteSubscriptionID:void 0', {}],
    ['one id', 'subscriptionID:null,liteSubscriptionID:void 0', none],
    [
      'Black without an id',
      'subscriptionID:void 0,subscription:{plan:"20"}',
      { plan: { name: 'black-20', ...none.plan } },
    ],
    ['Black given up', 'subscription:{plan:"20",useBalance:!0}', none],
    [
      'Black beside a balance switch of Go',
      'subscriptionID:"sub_1",subscription:{plan:"200",useBalance:!1},lite:{useBalance:!0}',
      { plan: { name: 'black-200', isSubscribed: true, drawsOnBalance: false } },
    ],
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
    [
      'Black of a size that turns into no text',
      'subscriptionID:"sub_1",subscription:{plan:{a:1},useBalance:!0}',
      { plan: { name: 'black', isSubscribed: true, drawsOnBalance: true } },
    ],
    ['Black booked only', 'subscriptionPlan:"200"', none],
    [
      'Go',
      'liteSubscriptionID:"sub_2",lite:{useBalance:!0}',
      { plan: { name: 'go', isSubscribed: true, drawsOnBalance: true } },
    ],
    ['payment details', 'paymentMethodLast4:"4242",paymentMethodType:"card",customerID:"cus_1"', none],
  ];
  for (const [name, fields, expected] of cases) {
    assert.deepEqual(await factsOf(t, `${NOTHING},${fields}`), expected, name);
  }
});

function balance(nano: number) {
  return { kind: 'console', currency: 'USD', nano, owner: balanceOwner(WORKSPACE) };
}

test('in every way to fail: the state, and what to do', async (t) => {
  const expired = /^the console session has expired: sign in/;
  const noWorkspace = /^opencode console: HTTP \d+ when asked for the workspace: set extra\.opencode_workspace_id/;
  const staleFunction = /^opencode console: HTTP \d+ for the function .*: set extra\.opencode_billing_function_id$/;
  const silent = /^opencode console: 127\.0\.0\.1:\d+ did not answer within 0\.3 s$/;
  const limited = /^opencode console: rate limited \(HTTP 429\)$/;
  const otherAnswer = /^opencode console: the answer is not the billing of a workspace$/;
  const silence: Play = () => undefined;
  const signIn = workspaceAt('/auth/authorize');
  const page: Play = { headers: { 'content-type': 'text/html' }, body: '<html>' };
  const slowDown: Play = { status: 429, headers: { 'retry-after': '70' } };
  const chained = `($R[0]=[]${Array.from({ length: 6000 }, (_, n) => `,$R[${n + 1}]=[$R[${n}]]`).join('')})`;
  const statuses = { auth: 'auth_required', error: 'error', limited: 'limited', timeout: 'error' } as const;
  const states = { auth: 'refused', error: 'error', limited: 'limited', timeout: 'timeout' } as const;
  type More = { readonly state?: 'missing'; readonly retryAfterS?: number };
  const cases: [string, Play, keyof typeof states, RegExp, More?][] = [
    ['/auth', signIn, 'auth', expired],
    ['/auth', workspaceAt(`/auth/authorize?next=/workspace/${WORKSPACE}/billing`), 'auth', expired],
    ['/auth', workspaceAt('http://['), 'auth', expired],
    ['/auth', { status: 302 }, 'auth', expired],
    ['/auth', page, 'auth', expired],
    ['/auth', { status: 401 }, 'auth', expired],
    ['/auth', { status: 403 }, 'auth', expired],
    ['/auth', { status: 404 }, 'error', noWorkspace, { state: 'missing' }],
    ['/auth', { status: 500 }, 'error', noWorkspace],
    ['/auth', { status: 503 }, 'error', /^opencode console: HTTP 503$/],
    ['/auth', { status: 429 }, 'limited', limited, { retryAfterS: 60 }],
    ['/auth', silence, 'timeout', silent],
    ['/_server', signIn, 'auth', expired],
    ['/_server', page, 'auth', expired],
    ['/_server', { status: 401 }, 'auth', expired],
    ['/_server', { status: 403 }, 'auth', expired],
    ['/_server', { status: 404 }, 'error', staleFunction, { state: 'missing' }],
    ['/_server', { status: 500 }, 'error', staleFunction],
    ['/_server', { status: 503 }, 'error', /^opencode console: HTTP 503$/],
    ['/_server', slowDown, 'limited', limited, { retryAfterS: 70 }],
    ['/_server', silence, 'timeout', silent],
    ['/_server', { body: ' '.repeat(1024 * 1024 + 1) }, 'error', /larger than 1 MiB$/],
    ['/_server', { body: '' }, 'error', /the answer is empty$/],
    ['/_server', { body: '({' }, 'error', /^opencode console: the answer is not JavaScript$/],
    [
      '/_server',
      { body: '(process.exit(1))' },
      'error',
      /the answer holds code \(MemberExpression\), which is never run$/,
    ],
    ['/_server', { body: '(Object.assign(new Error("x"),{}))' }, 'error', /answered with an error of its own: check/],
    ['/_server', { body: chained }, 'error', /the answer is nested more than 50 levels deep$/],
    ['/_server', answer('email:"a@example.com"'), 'error', otherAnswer],
    ['/_server', { body: '([1])' }, 'error', otherAnswer],
    ['/_server', { body: '(null)' }, 'error', otherAnswer],
  ];
  for (const [index, [path, play, outcome, message, { state, retryAfterS } = {}]] of cases.entries()) {
    const { probe } = await start(t, { [path]: play }, { timeoutMs: 300 });
    const report = await probe.ask(NOW_MS);
    const name = `case ${index}: ${path}`;
    assert.match(report.trouble?.message ?? '', message, name);
    assert.deepEqual(
      [report.outcome, report.trouble?.status, report.routes[0]?.state, report.scope, report.retryAfterS],
      [outcome, statuses[outcome], state ?? states[outcome], 'console', retryAfterS],
      name,
    );
    assert.deepEqual(report.readings, [], name);
  }
  const { probe } = await start(t, {}, { baseUrl: 'http://127.0.0.1:1' });
  const { outcome, trouble } = await probe.ask(NOW_MS);
  assert.deepEqual([outcome, trouble?.status], ['error', 'error']);
  assert.equal(trouble?.message, 'opencode console: 127.0.0.1:1 cannot be reached (ECONNREFUSED)');
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
  for (const pasted of [COOKIE, `auth=${COOKIE}`, `auth=${COOKIE}; Path=/; HttpOnly`, `${COOKIE};x=1`]) {
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
  for (const none of [undefined, 'auth=', '; Path=/']) {
    secret = none;
    const { outcome, trouble, scope } = await probe.ask(NOW_MS + 2000);
    assert.deepEqual([outcome, trouble?.status, scope], ['auth', 'auth_required', undefined]);
    assert.match(trouble?.message ?? '', /^no console cookie: set console_cookie_file/);
  }
  secret = 'two words\n';
  assert.match((await probe.ask(NOW_MS + 3000)).trouble?.message ?? '', /^the cookie holds characters/);
  assert.equal(requests.length, 4, 'nothing was asked with either');
  const problem = 'the console_cookie_file of account "a" may be read by others';
  const unusable = { ...credential, read: () => ({ type: 'unusable', problem }) as const };
  const refused = await (await start(t, {}, { credential: unusable })).probe.ask(NOW_MS);
  assert.deepEqual(refused.trouble, { status: 'auth_required', message: `no console cookie: ${problem}` });
});

test('a session that ends is told as such, though the workspace was known', async (t) => {
  const { probe, set } = await start(t);
  await probe.ask(NOW_MS);
  set({ '/auth': workspaceAt('/auth/authorize'), '/_server': { body: '(Object.assign(new Error("x"),{}))' } });
  assert.equal((await probe.ask(NOW_MS + 1000)).outcome, 'error');
  const { outcome, trouble } = await probe.ask(NOW_MS + 2000);
  assert.equal(outcome, 'auth');
  assert.match(trouble?.message ?? '', /^the console session has expired/);
});

test('while the console asks to be left alone it is, and what is wrong stays told', async (t) => {
  const { probe, requests, set } = await start(t);
  set({ '/_server': { status: 429, headers: { 'retry-after': '70' } } });
  const { trouble } = await probe.ask(NOW_MS);
  set({ '/_server': answer(WORKED) });
  const paused = await probe.ask(NOW_MS + 10_000);
  assert.deepEqual([paused.outcome, paused.trouble, paused.retryAfterS], ['limited', trouble, 60]);
  assert.equal(requests.length, 2);
  const after = await probe.ask(NOW_MS + 70_000);
  assert.deepEqual([after.outcome, after.trouble, after.retryAfterS], ['ok', undefined, undefined]);
});

test('last good values outlive failures by three intervals', async (t) => {
  const { probe, set } = await start(t);
  await probe.ask(NOW_MS);
  set({ '/_server': { status: 500 } });
  assert.equal((await probe.ask(NOW_MS + 3 * INTERVAL_MS - 1)).readings.length, 1);
  assert.equal((await probe.ask(NOW_MS + 3 * INTERVAL_MS)).readings.length, 0);
});

test('what was read in one month says nothing of the next', async (t) => {
  const { probe, set } = await start(t);
  await probe.ask(NEXT_MONTH_MS - 1000);
  set({ '/_server': { status: 500 } });
  const [limit] = (await probe.ask(NEXT_MONTH_MS + 1000)).readings[0]?.facts.spendLimits ?? [];
  assert.deepEqual([limit?.usedNano, limit?.resetMs], [4.2 * USD, NEXT_MONTH_MS]);
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
    { '/auth': auth, '/_server': { body: `(Object.assign(new Error("${canary}"),{stack:"${canary}"}))` } },
    { '/auth': auth, '/_server': { headers: { 'content-type': 'text/html' }, body: `<html>${canary}` } },
    { '/auth': auth, '/_server': { status: 302, headers: { location: `https://${canary}.example/` } } },
    { '/auth': workspaceAt(`/auth/${canary}`) },
    { '/auth': { status: 500, body: canary } },
  ];
  for (const play of plays) {
    const { probe, requests } = await start(t, play, { credential: credentialOf(`auth=${canary}-cookie`, 'COOKIE') });
    const report = await probe.ask(NOW_MS);
    assert.doesNotMatch(JSON.stringify(report), new RegExp(canary));
    assert.equal(requests[0]?.headers.cookie, `auth=${canary}-cookie`, 'it was there to be told');
    assert.equal(report.readings.length, play === plays[0] ? 1 : 0);
  }
  const configured = { workspaceId: `wrk_${canary}`, functionId: canary, credential: credentialOf(canary, 'COOKIE') };
  for (const play of [answer(fields), { status: 404 }, { body: `(${canary})` }]) {
    const { probe } = await start(t, { '/_server': play }, configured);
    assert.doesNotMatch(JSON.stringify(await probe.ask(NOW_MS)), new RegExp(canary));
  }
});
