// The hub on a real port, into a real ledger: what a daemon's push becomes, and whom it turns away.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { type TestContext, test } from 'node:test';
import { RetryableFailure } from '../../src/failure.ts';
import { BearerToken } from '../../src/listen.ts';
import { createLog } from '../../src/log.ts';
import { Exposition } from '../../src/metrics/exposition.ts';
import { LedgerMetricProducer } from '../../src/metrics/producer.ts';
import { HubServer } from '../../src/sources/hub-server.ts';
import { LedgerSink } from '../../src/sources/ledger-sink.ts';
import { Intake } from '../../src/sources/source.ts';
import { TILE_IDS, Tiles } from '../../src/turn/tiles.ts';
import { Bench } from '../ledger/bench.ts';
import { parseExposition, rendered } from '../metrics/fixture.ts';
import { CountingMeter } from './intake-fixture.ts';

const FIXTURES = new URL('../fixtures/openusage/', import.meta.url);
const TOKEN = ['hub', 'EXAMPLE', 'token'].join('-');
const SAMPLE = readFileSync(new URL('hub-push.json', FIXTURES), 'utf8');
const SAMPLE_MS = Date.UTC(2026, 1, 22, 10);
const TILES = JSON.parse(readFileSync(new URL('tiles.json', FIXTURES), 'utf8')) as Record<string, unknown>[];
const TILES_MS = Date.UTC(2026, 10, 21, 11, 1);

interface Options {
  readonly token?: string;
  readonly nowMs?: number;
}

async function startHub(t: TestContext, { token, nowMs = SAMPLE_MS }: Options = {}) {
  const bench = new Bench(t);
  bench.nowMs = nowMs;
  const meter = new CountingMeter();
  const lines: string[] = [];
  const log = createLog('debug', { write: (line: string) => lines.push(line) });
  const attribution = { attribute: () => assert.fail('no turn comes by the hub') };
  const now = () => bench.nowMs;
  const intake = new Intake({ sink: new LedgerSink({ ledger: bench.ledger, attribution, now }), meter, now });
  const hub = new HubServer({
    ...{ listen: { host: '127.0.0.1', port: 0 }, intake, meter, log, now },
    ...(token ? { token: new BearerToken(token) } : {}),
  });
  await hub.start();
  t.after(() => hub.stop());
  const ask = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(hub.url + path, init);
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : undefined };
  };
  const push = (body: string, headers: Record<string, string> = {}) =>
    ask('/v1/push', { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body });
  const series = async () => {
    const producer = new LedgerMetricProducer({ reading: bench.ledger, tiles: new Tiles({}, []), accounts: [] });
    const { resourceMetrics } = await producer.collect();
    const text = await rendered(
      new Exposition(),
      resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics),
    );
    return { text, samples: parseExposition(text).samples };
  };
  return { hub, bench, meter, lines, intake, ask, push, series };
}

const envelope = (machine: string, snapshots: readonly object[]) =>
  JSON.stringify({ machine, sent_at: 'x', snapshots });
const balance = (usd: number, timestampMs: number, account = 'opencode') => ({
  ...{ provider_id: 'opencode', account_id: account, timestamp: timestampMs, status: 'OK' },
  metrics: { console_balance: { remaining: usd, unit: 'USD', window: 'current' } },
});

test('the sample of a push, in our names: what is there and what is not', async (t) => {
  const { push, series, meter } = await startHub(t);
  assert.deepEqual(await push(SAMPLE).then(({ status, body }) => [status, body]), [200, { ok: true }]);
  const { text } = await series();
  const accounts = text.split('\n').filter((line) => /^toll_.*account="/.test(line) && !/ 0$/.test(line));
  const opencode = 'provider="opencode",account="opencode"';
  assert.deepEqual(
    accounts.sort(),
    [
      `toll_account_info{${opencode},auth_scope="zen+console",machine="dev-1"} 1`,
      'toll_account_info{provider="xai",account="default",machine="dev-1"} 1',
      `toll_account_status{${opencode},status="ok"} 1`,
      'toll_account_status{provider="xai",account="default",status="auth_required"} 1',
      `toll_balance{${opencode},kind="console",currency="USD"} 12.5`,
      `toll_spend_limit{${opencode},limit="monthly",currency="USD"} 20`,
      `toll_spend_limit_used{${opencode},limit="monthly",currency="USD"} 7.5`,
      `toll_snapshot_timestamp_seconds{${opencode}} ${Date.parse('2026-02-22T08:59:58.123Z') / 1000}`,
      `toll_snapshot_timestamp_seconds{provider="xai",account="default"} ${SAMPLE_MS / 1000}`,
    ].sort(),
  );
  assert.equal(meter.of('hub')['corrected:opencode'], 1);
  meter.assertConserved('hub');
});

test('one batch with every provider gives one tile each, in known windows', async (t) => {
  const { push, series, meter } = await startHub(t, { nowMs: TILES_MS });
  assert.equal((await push(envelope('laptop', TILES))).status, 200);
  const { samples } = await series();
  const providers = [...samples].flatMap(([key, value]) => {
    const [name, ...labels] = JSON.parse(key) as [string, ...[string, string][]];
    return name === 'toll_account_info' && value === '1' ? labels.filter(([label]) => label === 'provider') : [];
  });
  assert.deepEqual(providers.map(([, provider]) => provider).sort(), TILE_IDS.toSorted());
  assert.equal(meter.of('hub').recorded, 35);
  meter.assertConserved('hub');
});

test('two machines that push one account are one account, of the newest reading', async (t) => {
  const { push, series, bench, meter } = await startHub(t);
  const shown = async () => {
    const { text } = await series();
    const of = (pattern: RegExp) => text.split('\n').filter((line) => pattern.test(line));
    return [...of(/^toll_balance\{/), ...of(/^toll_account_info\{/)].map((line) =>
      line.replace(/^.*?(machine="\w+".*| [\d.]+)$/, '$1'),
    );
  };
  await push(envelope('one', [balance(10, SAMPLE_MS - 60_000)]));
  await push(envelope('two', [balance(9, SAMPLE_MS - 30_000)]));
  assert.deepEqual(await shown(), [' 9', 'machine="two"} 1']);
  await push(envelope('one', [balance(10, SAMPLE_MS - 60_000)]));
  assert.deepEqual(await shown(), [' 9', 'machine="two"} 1'], 'an older reading changes nothing');
  bench.nowMs += 30_000;
  await push(envelope('one', [balance(8.5, bench.nowMs)]));
  assert.deepEqual(await shown(), [' 8.5', 'machine="one"} 1']);
  assert.deepEqual(meter.of('hub').duplicate, 1);
  const { text } = await series();
  assert.match(text, /toll_balance_spent_total\{.*\} 1\.5\n/);
});

test('a reading that is pushed again unchanged stays; one that is pushed no more goes after 300 s', async (t) => {
  const { push, series, bench, ask } = await startHub(t);
  const isShown = async () => /^toll_balance\{/m.test((await series()).text);
  const state = async () => /toll_account_status\{.*status="(\w+)"\} 1/.exec((await series()).text)?.[1];
  const same = envelope('one', [balance(10, SAMPLE_MS)]);
  await push(same);
  for (let minute = 1; minute <= 10; minute += 1) {
    bench.nowMs = SAMPLE_MS + minute * 60_000;
    await push(same);
    assert.ok(await isShown(), `minute ${minute}`);
  }
  bench.nowMs += 299_999;
  assert.deepEqual([await isShown(), await state()], [true, 'ok']);
  assert.deepEqual((await ask('/healthz')).body.machines, ['one']);
  bench.nowMs += 2;
  assert.deepEqual([await isShown(), await state()], [false, 'unknown']);
  assert.deepEqual((await ask('/healthz')).body, { status: 'ok', machines: [] });
  assert.deepEqual((await ask('/v1/snapshots')).body, {});
});

test('a template says nothing, and never takes a good reading away', async (t) => {
  const { push, series, meter } = await startHub(t);
  await push(envelope('one', [balance(10, SAMPLE_MS)]));
  const template = {
    provider_id: 'opencode',
    account_id: 'opencode',
    timestamp: '0001-01-01T00:00:00Z',
    status: 'UNKNOWN',
    metrics: null,
  };
  await push(envelope('one', [template, { ...template, status: '', metrics: {} }]));
  assert.match((await series()).text, /^toll_balance\{.*\} 10$/m);
  assert.equal(meter.of('hub')['ignored:not_ready'], 2);
  meter.assertConserved('hub');
});

test('one bad snapshot harms no other', async (t) => {
  const { push, series, meter } = await startHub(t);
  const bad = [
    null,
    5,
    {},
    balance(1, SAMPLE_MS, 'a@b.example'),
    { ...balance(1, 0), timestamp: 'never' },
    { ...balance(1, SAMPLE_MS), status: 'FINE' },
  ];
  const { status } = await push(envelope('one', [...bad, balance(3, SAMPLE_MS)] as object[]));
  assert.equal(status, 200);
  assert.match((await series()).text, /^toll_balance\{.*\} 3$/m);
  assert.deepEqual([meter.of('hub').rejected, meter.of('hub').ignored, meter.of('hub').recorded], [5, 1, 1]);
});

test('whom it turns away, in the hub’s own words', async (t) => {
  const { ask, push, meter } = await startHub(t, { token: TOKEN });
  const bearer = { authorization: `Bearer ${TOKEN}` };
  const missing = await push(SAMPLE);
  assert.deepEqual([missing.status, missing.body], [401, { error: 'missing bearer token' }]);
  assert.equal(missing.headers.get('www-authenticate'), 'Bearer realm="openusage-hub"');
  const wrong = await push(SAMPLE, { authorization: 'Bearer wrong' });
  assert.deepEqual([wrong.status, wrong.body], [401, { error: 'invalid bearer token' }]);
  assert.match(wrong.headers.get('www-authenticate') ?? '', /error="invalid_token"/);
  assert.equal((await ask('/v1/snapshots')).status, 401);
  assert.deepEqual(await ask('/healthz').then(({ status, body }) => [status, body]), [
    200,
    { status: 'ok', machines: [] },
  ]);
  assert.equal((await push(SAMPLE, bearer)).status, 200);
  assert.deepEqual((await ask('/healthz')).body.machines, ['dev-1']);
  const cases: [string, number, string][] = [
    ['', 400, 'empty body'],
    [' \n', 400, 'empty body'],
    ['{', 400, 'invalid JSON'],
    ['[]', 400, 'invalid JSON'],
    ['null', 400, 'invalid JSON'],
    ['{"machine":"a","snapshots":{}}', 400, 'invalid JSON'],
    ['{}', 400, 'machine name required: 1 to 63 of A-Z a-z 0-9 . _ -'],
    ['{"machine":" "}', 400, 'machine name required: 1 to 63 of A-Z a-z 0-9 . _ -'],
    ['{"machine":"a@b.example","snapshots":[]}', 400, 'machine name required: 1 to 63 of A-Z a-z 0-9 . _ -'],
    [`{"machine":"a","snapshots":[${'null,'.repeat(500)}null]}`, 400, 'more than 500 snapshots'],
    [`"${' '.repeat(4 * 1024 * 1024)}"`, 413, 'request body too large'],
  ];
  for (const [body, status, error] of cases) {
    const answer = await push(body, bearer);
    assert.deepEqual([answer.status, answer.body], [status, { error }], body.slice(0, 40));
  }
  assert.equal((await push('{"machine":"a"}', bearer)).status, 200, 'nothing to say is fine');
  assert.equal((await push(`{"machine":"a","snapshots":null}`, bearer)).status, 200);
  const get = await ask('/v1/push', { headers: bearer });
  assert.deepEqual([get.status, get.body, get.headers.get('allow')], [405, { error: 'method not allowed' }, 'POST']);
  assert.equal((await ask('/v1/snapshots', { method: 'POST', headers: bearer })).status, 405);
  assert.equal((await ask('/v1/other', { headers: bearer })).status, 404);
  meter.assertConserved('hub');
});

test('without a token, no web page can push or read', async (t) => {
  const { hub, push, ask } = await startHub(t);
  assert.equal((await push(SAMPLE, { origin: 'https://evil.example' })).status, 403);
  const { port } = new URL(hub.url);
  const status = await new Promise((resolve, reject) => {
    http
      .get({ port, host: '127.0.0.1', path: '/v1/snapshots', headers: { host: 'evil.example' } }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
      .on('error', reject);
  });
  assert.equal(status, 403);
  assert.equal((await ask('/v1/snapshots')).status, 200);
});

test('what the viewer reads: by machine, provider and account, and only what was let in', async (t) => {
  const { push, ask } = await startHub(t);
  await push(SAMPLE);
  const { body } = await ask('/v1/snapshots');
  assert.deepEqual(Object.keys(body), ['dev-1:opencode:opencode', 'dev-1:xai:default']);
  assert.deepEqual(body['dev-1:opencode:opencode'], {
    ...{ provider_id: 'opencode', account_id: 'dev-1:opencode:opencode', status: 'OK', resets: {} },
    timestamp: '2026-02-22T08:59:58.123Z',
    metrics: {
      console_balance: { remaining: 12.5, unit: 'USD', window: 'current' },
      monthly_limit: { limit: 2e-7, remaining: -7.4999998, used: 7.5, unit: 'USD', window: 'month' },
      monthly_usage: { used: 7.5, unit: 'USD', window: 'month' },
    },
    attributes: { auth_scope: 'zen+console' },
  });
  await push(envelope('other', Object.values(body)));
  const again = Object.keys((await ask('/v1/snapshots')).body);
  assert.deepEqual(again.sort(), [
    'dev-1:opencode:opencode',
    'dev-1:xai:default',
    'other:opencode:opencode',
    'other:xai:default',
  ]);
});

test('machines are bounded, and those that left make room', async (t) => {
  const { push, bench } = await startHub(t);
  for (let n = 0; n < 100; n += 1) assert.equal((await push(envelope(`m-${n}`, []))).status, 200);
  const refused = await push(envelope('one-more', []));
  assert.deepEqual([refused.status, refused.body], [503, { error: 'more than 100 machines push to this hub' }]);
  assert.equal((await push(envelope('m-7', []))).status, 200);
  bench.nowMs += 300_001;
  assert.equal((await push(envelope('one-more', []))).status, 200);
});

test('an answer is given after the commit; while the ledger cannot take it, the daemon is asked to come again', async (t) => {
  const { push, intake, meter, ask } = await startHub(t);
  t.mock.method(intake, 'accept', async () => {
    throw new RetryableFailure('The disk is full.', { retryAfterS: 7 });
  });
  const refused = await push(SAMPLE);
  assert.deepEqual([refused.status, refused.headers.get('retry-after')], [503, '7']);
  assert.deepEqual((await ask('/v1/snapshots')).body, {}, 'nothing was taken in');
  t.mock.restoreAll();
  assert.equal((await push(SAMPLE)).status, 200);
  assert.equal(meter.of('hub')['refused:ledger'], 1);
});

test('nothing of its texts comes out, whatever they hold', async (t) => {
  const { push, series, ask, lines } = await startHub(t);
  const canary = 'CANARY';
  const at = { unit: canary.repeat(9), window: `${canary}@x` };
  const snapshot = {
    ...balance(1, SAMPLE_MS),
    ...{
      message: canary,
      raw: { [canary]: canary },
      diagnostics: { [canary]: canary },
      daily_series: { [canary]: [] },
    },
    attributes: { email: `${canary}@example.com`, payment_method_last4: canary, plan: `${canary}@x`, [canary]: canary },
    metrics: {
      ...Object.fromEntries(
        ['client_', 'project_', 'tool_', 'mcp_', ''].map((key) => [`${key}${canary}`, { used: 1, ...at }]),
      ),
      console_balance: { remaining: 1, unit: 'USD', window: `/home/${canary}` },
      keys_total: { used: 1, ...at },
    },
    resets: { [canary]: canary },
  };
  await push(JSON.stringify({ machine: 'm', sent_at: canary, [canary]: canary, snapshots: [snapshot] }));
  await push(`{"machine":"${canary}@example.com"}`);
  await push(`{"${canary}`);
  const { text } = await series();
  assert.match(text, /metric="keys_total"/);
  assert.doesNotMatch(text, /CANARY/i);
  assert.doesNotMatch(lines.join(''), /CANARY/i);
  const shown = JSON.stringify((await ask('/v1/snapshots')).body);
  assert.doesNotMatch(shown, /@|\/home|last4/);
});

test('a port that is taken is told with the key to change', async (t) => {
  const { hub, intake, meter } = await startHub(t);
  const port = Number(new URL(hub.url).port);
  const second = new HubServer({ listen: { host: '127.0.0.1', port }, intake, meter, log: createLog('silent') });
  await assert.rejects(second.start(), /is in use.*the hub cannot be served.*set hub\.listen/s);
  await second.stop();
  await hub.stop();
  await hub.stop();
  await assert.rejects(fetch(`${hub.url}/healthz`));
});
