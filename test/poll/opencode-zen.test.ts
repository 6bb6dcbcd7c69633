import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Account } from '../../src/poll/detect.ts';
import {
  credentialOf,
  GO_KEY,
  GO_USAGE,
  goQuota,
  goWindows,
  INTERVAL_MS,
  KEY,
  MODELS,
  modelList,
  NO_GO_PLAN,
  NOW_MS,
  type Play,
  startOpencode,
  UNKNOWN_KEY,
  WEEK_END_MS,
  zenAt,
} from './opencode-server.ts';

async function pollOnce(t: TestContext, plays: Record<string, Play>, account?: Partial<Account>) {
  const server = await startOpencode(t, plays);
  return { ...(await zenAt(server, account).poll(NOW_MS)), seen: server.seen };
}

const twoModels = modelList('glm-5', 'kimi-k3');

test('a good poll says everything that both routes said, and no more', async (t) => {
  const usage = {
    body: {
      usage: {
        rolling: { status: 'ok', percent: 1, resetsAt: '2026-11-21T23:10:00.000Z', note: 'unread' },
        weekly: { status: 'ok', percent: 42, resetsAt: '2026-11-23T00:00:00Z' },
        monthly: { status: 'ok', percent: 79, resetsAt: '2026-12-03T08:00:00.5+00:00' },
        yearly: { status: 'ok', percent: 5 },
      },
      workspaceID: 'wrk_EXAMPLE',
      userID: 'usr_EXAMPLE',
    },
  };
  const { seen, ...poll } = await pollOnce(t, { [MODELS]: twoModels, [GO_USAGE]: usage });
  assert.deepEqual(poll, {
    outcome: 'ok',
    result: {
      provider: 'opencode',
      account: 'opencode',
      takenMs: NOW_MS,
      status: 'ok',
      message: 'Auth OK · 2 Zen models',
      authScope: 'zen',
      models: [
        { id: 'glm-5', ownedBy: 'opencode' },
        { id: 'kimi-k3', ownedBy: 'opencode' },
      ],
      quotas: [
        goQuota('5h', 1, Date.UTC(2026, 10, 21, 23, 10)),
        goQuota('7d', 42, WEEK_END_MS),
        goQuota('month', 79, Date.UTC(2026, 11, 3, 8, 0, 0, 500)),
      ],
      routes: { models: NOW_MS, 'go/usage': NOW_MS },
      statusHoldsMs: 3 * INTERVAL_MS,
    },
    retryAfterS: undefined,
  });
  assert.deepEqual(seen.toSorted(), [`${GO_USAGE} ${KEY}`, `${MODELS} ${KEY}`].toSorted());
});

test('the models route decides the status, in this order', async (t) => {
  const listed = { [MODELS]: twoModels };
  const cases: [string, Record<string, Play>, string, string, string, number?][] = [
    ['403 of Go is a known key', { ...listed, [GO_USAGE]: NO_GO_PLAN }, 'ok', 'ok', 'Auth OK · 2 Zen models'],
    ['Go route missing', listed, 'ok', 'ok', 'Auth OK · 2 Zen models'],
    ['Go 500', { ...listed, [GO_USAGE]: { status: 500 } }, 'ok', 'ok', 'Auth OK · 2 Zen models'],
    ['Go is a web page', { ...listed, [GO_USAGE]: { body: '<html>' } }, 'ok', 'ok', 'Auth OK · 2 Zen models'],
    ['Go 429', { ...listed, [GO_USAGE]: { status: 429 } }, 'ok', 'ok', 'Auth OK · 2 Zen models'],
    ['no models', { [MODELS]: modelList(), [GO_USAGE]: NO_GO_PLAN }, 'ok', 'ok', 'Auth OK · 0 Zen models'],
    ['empty body', { [MODELS]: {}, [GO_USAGE]: NO_GO_PLAN }, 'ok', 'ok', 'Auth OK · 0 Zen models'],
    ['null list', { [MODELS]: { body: { data: null } } }, 'ok', 'ok', 'Auth OK · 0 Zen models'],
    ['Go 401', { ...listed, [GO_USAGE]: UNKNOWN_KEY }, 'auth_required', 'auth', 'HTTP 401 – check ZEN_API_KEY'],
    ['models 401', { [MODELS]: UNKNOWN_KEY }, 'auth_required', 'auth', 'HTTP 401 – check ZEN_API_KEY'],
    ['models 403', { [MODELS]: { status: 403 } }, 'auth_required', 'auth', 'HTTP 403 – check ZEN_API_KEY'],
    [
      'unknown key and models away',
      { [MODELS]: { status: 503 }, [GO_USAGE]: UNKNOWN_KEY },
      'auth_required',
      'auth',
      'HTTP 401 – check ZEN_API_KEY',
    ],
    ['429', { [MODELS]: { status: 429 } }, 'limited', 'limited', 'rate limited (HTTP 429)'],
    [
      '429 with seconds',
      { [MODELS]: { status: 429, headers: { 'retry-after': '120' } } },
      'limited',
      'limited',
      'rate limited (HTTP 429)',
      120,
    ],
    [
      '429 with a date',
      { [MODELS]: { status: 429, headers: { 'retry-after': new Date(NOW_MS + 90_000).toUTCString() } } },
      'limited',
      'limited',
      'rate limited (HTTP 429)',
      90,
    ],
    [
      '429 with nonsense',
      { [MODELS]: { status: 429, headers: { 'retry-after': '-5' } } },
      'limited',
      'limited',
      'rate limited (HTTP 429)',
    ],
    [
      '503 with seconds',
      { [MODELS]: { status: 503, headers: { 'retry-after': '7' } } },
      'error',
      'error',
      'opencode zen models: HTTP 503',
      7,
    ],
    ['201 is no list', { [MODELS]: { status: 201 } }, 'error', 'error', 'opencode zen models: HTTP 201'],
    ['404', {}, 'error', 'error', 'opencode zen models: HTTP 404'],
    [
      'not JSON',
      { [MODELS]: { body: '{"data":[' } },
      'error',
      'error',
      'opencode zen models: parsing response: it is not JSON',
    ],
    [
      'another JSON',
      { [MODELS]: { body: { ok: true } } },
      'error',
      'error',
      'opencode zen models: parsing response: it is not a list of models; check base_url',
    ],
  ];
  for (const [name, plays, status, outcome, message, retryAfterS] of cases) {
    await t.test(name, async (t) => {
      const poll = await pollOnce(t, plays);
      assert.deepEqual(
        [poll.result.status, poll.outcome, poll.result.message, poll.retryAfterS],
        [status, outcome, message, retryAfterS],
      );
      assert.equal(poll.result.quotas, undefined);
      assert.equal('models' in poll.result.routes, poll.result.models !== undefined);
    });
  }
});

test('an answer that is cut off in the middle is an error that names the host and the code', async (t) => {
  const { result, outcome } = await pollOnce(t, {
    [MODELS]: (_, response) => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('{"data":', () => response.destroy());
      return undefined;
    },
  });
  assert.deepEqual([outcome, result.status, result.models], ['error', 'error', undefined]);
  assert.match(
    result.message,
    /^127\.0\.0\.1:\d+ cannot be reached \(UND_ERR_SOCKET\); this account has no new values until it answers$/,
  );
});

test('Go windows decide between ok, near_limit and limited', async (t) => {
  const cases: [string, Play, string, string][] = [
    ['below', goWindows({ rolling: 79, weekly: 10 }), 'ok', 'Auth OK · 2 Zen models'],
    [
      'at 80 %',
      goWindows({ rolling: 80, weekly: 10 }),
      'near_limit',
      'Go plan nearly used up (5h 80 %) · 2 Zen models',
    ],
    ['at 100 %', goWindows({ rolling: 5, monthly: 100 }), 'limited', 'Go plan used up (month) · 2 Zen models'],
    [
      'rate-limited below 100 %',
      { body: { usage: { weekly: { status: 'rate-limited', percent: 97, resetsAt: null } } } },
      'limited',
      'Go plan used up (7d) · 2 Zen models',
    ],
    ['lapsed at 100 %', goWindows({ rolling: 100 }, '2026-11-21T19:59:59.999Z'), 'ok', 'Auth OK · 2 Zen models'],
  ];
  for (const [name, usage, status, message] of cases) {
    await t.test(name, async (t) => {
      const { result, outcome } = await pollOnce(t, { [MODELS]: twoModels, [GO_USAGE]: usage });
      assert.deepEqual([result.status, result.message, outcome], [status, message, 'ok']);
    });
  }
});

test('a Go window that makes no sense is left out, and harms no other', async (t) => {
  const good = { status: 'ok', percent: 10, resetsAt: '2026-11-23T00:00:00.000Z' };
  const bad = [
    null,
    [],
    'x',
    {},
    { percent: '10' },
    { percent: -1 },
    { percent: 101 },
    { percent: null },
    { percent: true },
  ];
  for (const rolling of bad) {
    const { result } = await pollOnce(t, {
      [MODELS]: twoModels,
      [GO_USAGE]: { body: { usage: { rolling, weekly: good } } },
    });
    const quotas = [goQuota('7d', 10, WEEK_END_MS)];
    assert.deepEqual(result.quotas, quotas, JSON.stringify(rolling));
  }
});

test('the end of a Go window is read leniently, and left out when it is no date', async (t) => {
  const cases: [unknown, number | undefined][] = [
    ['2026-11-23T00:00:00.000Z', WEEK_END_MS],
    ['2026-11-23T00:00:00Z', WEEK_END_MS],
    ['2026-11-23T00:00Z', WEEK_END_MS],
    ['2026-11-23 00:00:00', WEEK_END_MS],
    ['2026-11-23T00:00:00', WEEK_END_MS],
    ['2026-11-23T01:00:00+01:00', WEEK_END_MS],
    [' 2026-11-23T00:00:00.000000z ', WEEK_END_MS],
    ['5', undefined],
    ['tomorrow', undefined],
    ['2026-13-45T00:00:00Z', undefined],
    [1790000000, undefined],
    [null, undefined],
    [undefined, undefined],
  ];
  for (const [resetsAt, resetMs] of cases) {
    const usage = { body: { usage: { weekly: { status: 'ok', percent: 10, resetsAt } } } };
    const { result } = await pollOnce(t, { [MODELS]: twoModels, [GO_USAGE]: usage });
    assert.equal(result.quotas?.length, 1, String(resetsAt));
    assert.equal(result.quotas?.[0]?.resetMs, resetMs, String(resetsAt));
  }
});

test('models: odd entries are passed over, owners kept, names bounded', async (t) => {
  const data = [
    { id: 'glm-5', owned_by: 'Z AI' },
    { id: ' glm-5 ', owned_by: 'twice' },
    { id: 'no-owner' },
    { id: 'odd-owner', owned_by: 7 },
    { id: 'long-owner', owned_by: 'o'.repeat(129) },
    { id: 'm'.repeat(128), owned_by: 'o'.repeat(128) },
    { id: 'm'.repeat(129) },
    { id: 'two\nlines' },
    { id: '  ' },
    { id: 5 },
    null,
    'glm-6',
    [],
  ];
  const { result } = await pollOnce(t, { [MODELS]: { body: { data } } });
  assert.deepEqual(result.models, [
    { id: 'glm-5', ownedBy: 'Z AI' },
    { id: 'no-owner', ownedBy: 'unknown' },
    { id: 'odd-owner', ownedBy: 'unknown' },
    { id: 'long-owner', ownedBy: 'unknown' },
    { id: 'm'.repeat(128), ownedBy: 'o'.repeat(128) },
  ]);
  const many = await pollOnce(t, { [MODELS]: modelList(...Array.from({ length: 1001 }, (_, n) => `model-${n}`)) });
  assert.equal(many.result.models?.length, 1000);
  assert.equal(many.result.message, 'Auth OK · 1000 Zen models');
});

test('a remote that does not answer, or not to the end, is a timeout', async (t) => {
  const silent: Play = () => undefined;
  const endless: Play = (_, response) => {
    response.writeHead(200);
    response.write('{"data":');
    return undefined;
  };
  for (const play of [silent, endless]) {
    const server = await startOpencode(t, { [MODELS]: play, [GO_USAGE]: play });
    const { result, outcome } = await zenAt(server, {}, 100).poll(NOW_MS);
    assert.deepEqual([outcome, result.status], ['timeout', 'error']);
    assert.match(result.message, /^127\.0\.0\.1:\d+ did not answer within 0\.1 s; this account has no new values/);
  }
});

test('a slow Go route takes nothing from the models', async (t) => {
  const server = await startOpencode(t, { [MODELS]: twoModels, [GO_USAGE]: () => undefined });
  const { result, outcome } = await zenAt(server, {}, 1500).poll(NOW_MS);
  assert.deepEqual([outcome, result.status, result.routes], ['ok', 'ok', { models: NOW_MS }]);
});

test('a status counts even when its body never ends', async (t) => {
  const { result } = await pollOnce(t, {
    [MODELS]: twoModels,
    [GO_USAGE]: (_, response) => {
      response.writeHead(401);
      response.write('x'.repeat(64 * 1024));
      return undefined;
    },
  });
  assert.equal(result.status, 'auth_required');
});

test('a body beyond 1 MiB is refused, declared or not; one of 1 MiB is read', async (t) => {
  const filled = (bytes: number) => JSON.stringify({ data: [], pad: 'x'.repeat(bytes - 20) });
  assert.equal(filled(1024 * 1024).length, 1024 * 1024);
  const chunked: Play = (_, response) => {
    response.writeHead(200);
    const more = () => {
      while (response.write(Buffer.alloc(64 * 1024, 32)));
    };
    response.on('drain', more);
    more();
    return undefined;
  };
  const tooLarge = 'opencode zen models: the response is larger than 1 MiB';
  assert.equal((await pollOnce(t, { [MODELS]: { body: filled(1024 * 1024) } })).result.status, 'ok');
  assert.equal((await pollOnce(t, { [MODELS]: { body: filled(1024 * 1024 + 1) } })).result.message, tooLarge);
  assert.equal((await pollOnce(t, { [MODELS]: chunked })).result.message, tooLarge);
});

test('a redirect is an error, and the key is not sent on', async (t) => {
  const other = await startOpencode(t, { [MODELS]: twoModels, [GO_USAGE]: NO_GO_PLAN });
  for (const status of [301, 302, 303, 307, 308]) {
    const redirect = { status, headers: { location: other.url + MODELS } };
    const { result, outcome } = await pollOnce(t, { [MODELS]: redirect, [GO_USAGE]: redirect });
    assert.deepEqual([outcome, result.status], ['error', 'error']);
    assert.match(result.message, new RegExp(`^opencode zen models: HTTP ${status}: a redirect, .*check base_url$`));
  }
  assert.deepEqual(other.seen, []);
});

test('no server at all is an error that names the cause', async (t) => {
  const server = await startOpencode(t);
  const zen = zenAt(server, { baseUrl: 'http://127.0.0.1:1' });
  const { result, outcome } = await zen.poll(NOW_MS);
  assert.equal(outcome, 'error');
  assert.equal(
    result.message,
    '127.0.0.1:1 cannot be reached (ECONNREFUSED); this account has no new values until it answers',
  );
});

test('base_url: trailing slashes and what is no address are dropped, a path is kept', async (t) => {
  const server = await startOpencode(t, { [MODELS]: twoModels, [`/proxy${MODELS}`]: modelList('a') });
  const { host } = new URL(server.url);
  const cases: [string, number][] = [
    [server.url, 2],
    [`${server.url}/`, 2],
    [`${server.url}//`, 2],
    [`${server.url}/proxy/`, 1],
    [`http://user:secret@${host}/?a=1#b`, 2],
  ];
  for (const [baseUrl, models] of cases) {
    const { result } = await zenAt(server, { baseUrl }).poll(NOW_MS);
    assert.equal(result.models?.length, models, baseUrl);
  }
});

test('without a usable key nothing is asked, and the message says what to do', async (t) => {
  const cases: [string | undefined, RegExp][] = [
    [undefined, /^no API key: set ZEN_API_KEY/],
    ['sk EXAMPLE', /^the API key holds blanks .* – check ZEN_API_KEY$/],
    ['sk-EXAMPLE\r\nx-other: 1', /^the API key holds blanks/],
    ['sk-EXÄMPLE', /^the API key holds blanks/],
  ];
  for (const [key, message] of cases) {
    const poll = await pollOnce(t, { [MODELS]: twoModels }, { key: credentialOf(key) });
    assert.deepEqual([poll.outcome, poll.result.status, poll.seen], ['auth', 'auth_required', []]);
    assert.match(poll.result.message, message);
    assert.deepEqual(poll.result.routes, {});
  }
});

test('two keys: the Go key is asked when the first has no plan, and vouches for nobody else', async (t) => {
  const byKey =
    (answers: Record<string, Play>): Play =>
    (request, response) => {
      const play = answers[request.headers.authorization?.replace('Bearer ', '') ?? ''] ?? { status: 500 };
      return typeof play === 'function' ? play(request, response) : play;
    };
  const plan = goWindows({ weekly: 42 });
  const quota = [goQuota('7d', 42, WEEK_END_MS)];
  const cases: [string, Play, Play, string, unknown, number][] = [
    ['only the Go key has the plan', NO_GO_PLAN, plan, 'ok', quota, 2],
    ['the first key has the plan', plan, goWindows({ weekly: 7 }), 'ok', quota, 1],
    ['the first key is unknown', UNKNOWN_KEY, plan, 'auth_required', quota, 2],
    ['the Go key is unknown', NO_GO_PLAN, UNKNOWN_KEY, 'ok', undefined, 2],
    ['neither has a plan', NO_GO_PLAN, NO_GO_PLAN, 'ok', undefined, 2],
    ['the route is away', { status: 500 }, plan, 'ok', undefined, 1],
  ];
  for (const [name, first, second, status, quotas, asked] of cases) {
    await t.test(name, async (t) => {
      const usage = byKey({ [KEY]: first, [GO_KEY]: second });
      const poll = await pollOnce(t, { [MODELS]: twoModels, [GO_USAGE]: usage }, { goKey: credentialOf(GO_KEY) });
      assert.equal(poll.result.status, status);
      assert.deepEqual(poll.result.quotas, quotas);
      assert.equal(poll.seen.filter((line) => line.startsWith(GO_USAGE)).length, asked);
      assert.equal(poll.seen.includes(`${MODELS} ${GO_KEY}`), false);
    });
  }
  await t.test('the same key is not asked twice', async (t) => {
    const poll = await pollOnce(t, { [MODELS]: twoModels, [GO_USAGE]: NO_GO_PLAN }, { goKey: credentialOf(KEY) });
    assert.equal(poll.seen.length, 2);
  });
});

test('a poll that is cut short ends at once', async (t) => {
  const ending = new AbortController();
  const abortAtSecond = () => {
    if (server.seen.length === 2) ending.abort();
    return undefined;
  };
  const server = await startOpencode(t, { [MODELS]: abortAtSecond, [GO_USAGE]: abortAtSecond });
  const { outcome } = await zenAt(server, {}, 3_600_000).poll(NOW_MS, ending.signal);
  assert.equal(outcome, 'error');
  await zenAt(server, {}, 3_600_000).poll(NOW_MS, AbortSignal.abort());
  assert.equal(server.seen.length, 2);
});
