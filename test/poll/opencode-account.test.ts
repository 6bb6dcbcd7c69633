// One account with several remotes: which are asked with what, and what their answers together come to.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Account } from '../../src/poll/detect.ts';
import { OpencodeAccount } from '../../src/poll/opencode-account.ts';
import { AccountBench } from './account-bench.ts';
import {
  CONSOLE_PATHS,
  CONSOLE_ROUTES,
  NOW_MS,
  ORG_ID,
  SERVICE_KEY,
  SESSION_TOKEN,
  startConsole,
  ZEN_PATHS,
} from './console-server.ts';
import { credentialOf, goWindows, KEY, startOpencode, UNKNOWN_KEY } from './opencode-server.ts';

const key = credentialOf(KEY);
const consoleKey = credentialOf(SERVICE_KEY, 'CONSOLE_KEY');

test('which remotes are asked, with which credential', async (t) => {
  const server = await startConsole(t);
  const asked = async (account: Partial<Account>) => {
    server.seen.length = 0;
    const bench = new AccountBench(t, server, account);
    await bench.poll();
    const secrets = new Map<string, Set<string>>();
    for (const line of server.seen) {
      const [path = '', secret = ''] = line.split(' ');
      const of = path.startsWith('/zen') ? 'zen' : path === CONSOLE_PATHS['go/status'] ? 'go' : 'console';
      secrets.set(of, (secrets.get(of) ?? new Set()).add(secret));
    }
    return Object.fromEntries([...secrets].map(([of, set]) => [of, [...set].join()]).sort());
  };
  const absent = credentialOf(undefined, 'OPENCODE_CONSOLE_TOKEN');
  const optional = { isConsoleOptional: true as const };
  assert.deepEqual(await asked({ key }), { go: KEY, zen: KEY }, 'an API key is good for one route of the console');
  assert.deepEqual(await asked({ key, consoleKey }), { console: SERVICE_KEY, go: SERVICE_KEY, zen: KEY });
  assert.deepEqual(await asked({ consoleKey }), { console: SERVICE_KEY, go: SERVICE_KEY });
  assert.deepEqual(await asked({ key, consoleKey: absent, ...optional }), { go: KEY, zen: KEY });
  assert.deepEqual(await asked({ key, consoleKey: absent }), { zen: KEY }, 'a console key that is named must be there');
  assert.deepEqual(
    await asked({ key, consoleUrl: 'https://console.example' }),
    { zen: KEY },
    'and stays at its server',
  );
});

test('a sign-in that comes later is noticed, and used', async (t) => {
  const server = await startConsole(t);
  let secret: string | undefined;
  const signIn = { ...credentialOf(undefined, 'OPENCODE_CONSOLE_TOKEN'), read: () => credentialOf(secret).read() };
  const bench = new AccountBench(t, server, { key, consoleKey: signIn, isConsoleOptional: true });
  assert.equal((await bench.poll()).message, 'Auth OK · 2 Zen models');
  assert.match(bench.account.access().more ?? '', /opencode console login/);
  const probe = bench.account.probes[1]!;
  assert.equal(probe.hasNewCredential(), false);
  secret = SERVICE_KEY;
  assert.equal(probe.hasNewCredential(), true);
  assert.equal((await bench.poll()).message, '$42.50 balance · 2 Zen models');
  assert.deepEqual([probe.hasNewCredential(), bench.account.access().more], [false, undefined]);
  secret = undefined;
  assert.equal(probe.hasNewCredential(), true);
  assert.equal((await bench.poll()).message, 'Auth OK · 2 Zen models');
});

test('a sign-in that was found and cannot be used takes nothing from the key; one that is named is trouble', async (t) => {
  const server = await startConsole(t);
  const open = {
    ...credentialOf(undefined, "OpenCode's database"),
    read: () => ({ type: 'unusable', problem: 'chmod 600' }) as const,
  };
  const found = new AccountBench(t, server, { key, consoleKey: open, isConsoleOptional: true });
  assert.equal((await found.poll()).message, 'Auth OK · 2 Zen models');
  const { problem } = found.account.access().credentials[1] ?? {};
  assert.equal(problem, 'chmod 600');
  const named = await new AccountBench(t, server, { key, consoleKey: open }).poll();
  assert.deepEqual([named.status, named.message], ['auth_required', 'no console key: chmod 600']);
});

test('a key that is refused at the one route it is good for is no trouble', async (t) => {
  for (const status of [401, 403, 404]) {
    const server = await startConsole(t);
    server.plays[CONSOLE_PATHS['go/status']] = { status };
    const bench = new AccountBench(t, server, { key });
    const { reports, ...polled } = await bench.poll();
    assert.deepEqual([polled.status, polled.message], ['ok', 'Auth OK · 2 Zen models'], String(status));
    assert.equal(reports[1]?.trouble, undefined);
  }
});

test('a session goes with its organisation, and to no other server than its own', async (t) => {
  const server = await startConsole(t);
  const headers: unknown[] = [];
  server.plays[CONSOLE_PATHS['budgets/org']] = (request) => {
    headers.push(request.headers['x-org-id']);
    return { status: 404 };
  };
  const session = (issuer: string, orgId?: string): Partial<Account> => ({
    consoleKey: {
      ...credentialOf(SESSION_TOKEN),
      read: () => ({ type: 'found', secret: SESSION_TOKEN, issuer, ...(orgId ? { orgId } : {}) }),
    },
  });
  await new AccountBench(t, server, session(`${server.url}/console/`, ORG_ID)).poll();
  const named = Object.defineProperty(session(`${server.url}/console`, ORG_ID), 'workspaceId', {
    value: 'wrk_NAMED',
    enumerable: true,
  });
  await new AccountBench(t, server, named).poll();
  assert.deepEqual(headers, [ORG_ID, 'wrk_NAMED']);
  server.seen.length = 0;
  for (const issuer of ['https://elsewhere.example/console', `${server.url}/other`, 'no URL']) {
    const { status, message } = await new AccountBench(t, server, session(issuer)).poll();
    assert.equal(status, 'auth_required');
    assert.match(message, /^the console session belongs to another server than console_url/);
  }
  assert.deepEqual(server.seen, []);
});

test('of two remotes in trouble the worse is told: auth_required, error, limited', async (t) => {
  const all = (status: number) => Object.fromEntries(CONSOLE_ROUTES.map((route) => [CONSOLE_PATHS[route], { status }]));
  const cases: [number, number, string][] = [
    [200, 401, 'auth_required'],
    [401, 500, 'auth_required'],
    [503, 401, 'auth_required'],
    [429, 500, 'error'],
    [503, 429, 'error'],
    [429, 200, 'limited'],
    [200, 429, 'limited'],
    [200, 500, 'error'],
  ];
  for (const [zen, consoles, expected] of cases) {
    const server = await startConsole(t);
    if (consoles !== 200) Object.assign(server.plays, all(consoles));
    if (zen !== 200) server.plays[ZEN_PATHS.models] = { status: zen };
    const bench = new AccountBench(t, server, { key, consoleKey });
    await bench.poll();
    assert.equal(await bench.state(), expected, `${zen} ${consoles}`);
  }
});

test('what the numbers show: plan before monthly limit before balance', async (t) => {
  const budget = (limit: number, spent: number) => ({
    body: { limitMicroCents: limit * 1e8, spentMicroCents: spent * 1e8, resetsAt: '2026-12-01T00:00:00.000Z' },
  });
  const GO = ZEN_PATHS['go/usage'];
  const BUDGET = CONSOLE_PATHS['budgets/org'];
  const balance = { body: { balanceMicroCents: '450000000' } };
  const full = '2026-11-23T00:00:00.000Z';
  const cases: [string, Record<string, object>, string, string][] = [
    ['a share of the budget', { [BUDGET]: budget(60, 48) }, 'near_limit', 'Monthly limit nearly reached (80 %)'],
    ['the whole budget', { [BUDGET]: budget(60, 60) }, 'limited', 'Monthly limit reached'],
    ['a window', { [GO]: goWindows({ rolling: 85 }, full) }, 'near_limit', 'Go plan nearly used up (5h 85 %)'],
    [
      'a window and the budget',
      { [GO]: goWindows({ rolling: 85 }, full), [BUDGET]: budget(60, 60) },
      'limited',
      'Monthly limit reached',
    ],
    ['a full window', { [GO]: goWindows({ weekly: 100 }, full) }, 'limited', 'Go plan used up (7d)'],
    [
      'a low balance that is not reloaded',
      { [CONSOLE_PATHS['billing/status']]: balance },
      ...(['near_limit', '$4.50 balance, below the reload trigger and not reloaded'] as const),
    ],
    [
      'a balance below zero',
      { [CONSOLE_PATHS['billing/status']]: { body: { balanceMicroCents: '-14496000' } } },
      ...(['near_limit', '-$0.14 balance, below the reload trigger and not reloaded'] as const),
    ],
  ];
  for (const [name, plays, status, message] of cases) {
    const server = await startConsole(t, plays);
    const polled = await new AccountBench(t, server, { key, consoleKey }).poll();
    assert.deepEqual([polled.status, polled.message], [status, `${message} · 2 Zen models`], name);
  }
});

test('dollars of the plan decide only where its percent is not known', async (t) => {
  const meters = { fiveHour: { limitMicroCents: '1200000000', usedMicroCents: '1300000000' } };
  const go = { body: { product: 'go', useBalance: true, access: { endsAt: '2026-12-10T00:00:00Z', meters } } };
  const server = await startConsole(t, { [CONSOLE_PATHS['go/status']]: go });
  assert.equal((await new AccountBench(t, server, { key, consoleKey }).poll()).status, 'ok');
  const bench = new AccountBench(t, server, { consoleKey });
  assert.equal((await bench.poll()).status, 'limited');
  const series = await bench.series();
  assert.equal(series['toll_quota_used_ratio{quota=go_usd,window=5h}'], 1);
  assert.equal(series['toll_quota_remaining{quota=go_usd,unit=usd,window=5h}'], -1);
});

test('what doctor and status read: places and never values, what is seen, what is not and why', async (t) => {
  const server = await startConsole(t);
  server.plays[CONSOLE_PATHS['usage/models']] = { status: 403 };
  const bench = new AccountBench(t, server, { key, consoleKey });
  await bench.poll();
  const access = bench.account.access();
  assert.deepEqual(access.credentials, [
    { opens: 'Zen and Go', place: 'ZEN_API_KEY' },
    { opens: 'the console', place: 'CONSOLE_KEY' },
  ]);
  assert.deepEqual(access.cannotSee, [{ what: 'cost by model', why: 'HTTP 403' }]);
  assert.ok(access.sees.includes('balance') && access.sees.includes('monthly limit'));
  assert.doesNotMatch(JSON.stringify(access), /EXAMPLE/);
});

test('an account that was never read well is in error for three intervals, then unknown', async (t) => {
  const server = await startOpencode(t);
  const bench = new AccountBench(t, server, { key, consoleUrl: 'https://console.example' });
  await bench.poll();
  assert.equal(await bench.state(), 'error');
  bench.nowMs = NOW_MS + 89_999;
  await bench.poll();
  assert.equal(await bench.state(), 'error');
  bench.nowMs = NOW_MS + 90_000;
  await bench.poll();
  assert.equal(await bench.state(), 'unknown');
  assert.match((await bench.poll()).message, /HTTP 404/, 'people are still told why');
});

test('a refused key stays refused between its retries, and is unknown when nobody asks any more', async (t) => {
  const server = await startOpencode(t, { [ZEN_PATHS.models]: UNKNOWN_KEY });
  const bench = new AccountBench(t, server, { key, consoleUrl: 'https://console.example' });
  await bench.poll();
  bench.nowMs = NOW_MS + 600_000;
  assert.equal(await bench.state(), 'auth_required');
  bench.nowMs = NOW_MS + 2 * 3_600_000;
  assert.equal(await bench.state(), 'unknown');
});

test('no account without a probe: one without any credential says what to do', async () => {
  const account = new OpencodeAccount({
    account: { provider: 'opencode', id: 'a', foundIn: 'tollbridge.yaml', key: credentialOf(undefined, 'WORK_KEY') },
    ...{ timeoutMs: 1000, intervalMs: 1000, consoleIntervalMs: 1000 },
  });
  const { result } = await account.poll(account.probes[0]!, NOW_MS);
  assert.match(result.message, /^no API key: set WORK_KEY/);
});
