import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  credentialOf,
  GO_KEY,
  GO_USAGE,
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
  zenAt,
} from './opencode-server.ts';

const twoModels = modelList('glm-5', 'kimi-k3');

test('last good values outlive a failed route by three intervals, each route by its own', async (t) => {
  const server = await startOpencode(t, { [MODELS]: twoModels, [GO_USAGE]: goWindows({ weekly: 85 }) });
  const zen = zenAt(server);
  await zen.poll(NOW_MS);
  server.plays[GO_USAGE] = { status: 500 };
  const laterMs = NOW_MS + INTERVAL_MS;
  const half = await zen.poll(laterMs);
  assert.equal(half.result.status, 'near_limit', 'a window that is still shown still counts');
  assert.deepEqual(half.result.routes, { models: laterMs, 'go/usage': NOW_MS });

  server.plays[MODELS] = { status: 503 };
  const justBefore = await zen.poll(NOW_MS + 3 * INTERVAL_MS - 1);
  assert.deepEqual(justBefore.result.routes, { models: laterMs, 'go/usage': NOW_MS });
  assert.deepEqual([justBefore.result.status, justBefore.result.quotas?.length], ['error', 1]);
  const expired = await zen.poll(NOW_MS + 3 * INTERVAL_MS);
  assert.deepEqual([expired.result.quotas, expired.result.models?.length], [undefined, 2]);
  const allExpired = await zen.poll(laterMs + 3 * INTERVAL_MS);
  assert.deepEqual([allExpired.result.models, allExpired.result.routes], [undefined, {}]);

  server.plays[MODELS] = modelList('back');
  assert.equal((await zen.poll(laterMs + 4 * INTERVAL_MS)).result.models?.length, 1);
});

test('a Go plan that ended is gone at once', async (t) => {
  const server = await startOpencode(t, { [MODELS]: twoModels, [GO_USAGE]: goWindows({ weekly: 100 }) });
  const zen = zenAt(server);
  assert.equal((await zen.poll(NOW_MS)).result.status, 'limited');
  server.plays[GO_USAGE] = NO_GO_PLAN;
  const { result } = await zen.poll(NOW_MS + 1000);
  assert.deepEqual([result.status, result.quotas], ['ok', undefined]);
});

test('a window that ends between polls is left out although its reading is still good', async (t) => {
  const server = await startOpencode(t, {
    [MODELS]: twoModels,
    [GO_USAGE]: goWindows({ rolling: 100 }, '2026-11-21T20:00:10Z'),
  });
  const zen = zenAt(server);
  assert.equal((await zen.poll(NOW_MS)).result.status, 'limited');
  server.plays[GO_USAGE] = { status: 500 };
  assert.equal((await zen.poll(NOW_MS + 10_000)).result.status, 'ok');
});

test('an unknown key stays unknown while the Go route is silent, until it speaks or the key changes', async (t) => {
  const server = await startOpencode(t, { [MODELS]: twoModels, [GO_USAGE]: UNKNOWN_KEY });
  let key = KEY;
  const zen = zenAt(server, { key: { ...credentialOf(KEY), read: () => credentialOf(key).read() } });
  const statusAfter = async (usage: Play) => {
    server.plays[GO_USAGE] = usage;
    return (await zen.poll(NOW_MS)).result.status;
  };
  assert.equal(await statusAfter(UNKNOWN_KEY), 'auth_required');
  assert.equal(await statusAfter({ status: 503 }), 'auth_required');
  assert.equal(await statusAfter(NO_GO_PLAN), 'ok');
  assert.equal(await statusAfter(UNKNOWN_KEY), 'auth_required');
  assert.equal(await statusAfter({ status: 404 }), 'ok', 'a server without the route cannot judge keys');
  assert.equal(await statusAfter(UNKNOWN_KEY), 'auth_required');
  key = GO_KEY;
  assert.equal(await statusAfter({ status: 503 }), 'ok');
});

test('another key starts from nothing', async (t) => {
  const server = await startOpencode(t, { [MODELS]: twoModels, [GO_USAGE]: goWindows({ weekly: 10 }) });
  let key: string | undefined = KEY;
  const zen = zenAt(server, { key: { ...credentialOf(KEY), read: () => credentialOf(key).read() } });
  await zen.poll(NOW_MS);
  server.plays[MODELS] = { status: 500 };
  server.plays[GO_USAGE] = { status: 500 };
  key = GO_KEY;
  const { result } = await zen.poll(NOW_MS + 1000);
  assert.deepEqual([result.models, result.quotas, result.routes], [undefined, undefined, {}]);
});

test('Retry-After of the Go route pauses that route and no other', async (t) => {
  const tooMany = { status: 429, headers: { 'retry-after': '120' } };
  const server = await startOpencode(t, { [MODELS]: twoModels, [GO_USAGE]: tooMany });
  const zen = zenAt(server);
  const asked = () => server.seen.filter((line) => line.startsWith(GO_USAGE)).length;
  const first = await zen.poll(NOW_MS);
  assert.deepEqual([first.result.status, first.outcome, first.retryAfterS], ['ok', 'ok', undefined]);
  await zen.poll(NOW_MS + 119_000);
  assert.equal(asked(), 1);
  await zen.poll(NOW_MS + 120_000);
  assert.equal(asked(), 2);
  assert.equal(server.seen.length - asked(), 3);

  server.plays[GO_USAGE] = { status: 429, headers: { 'retry-after': '999999999' } };
  await zen.poll(NOW_MS + 240_000);
  assert.equal(asked(), 3);
  await zen.poll(NOW_MS + 240_000 + 3_600_000);
  assert.equal(asked(), 4, 'an hour is the longest pause');
});

test('neither keys nor a word of a response come out, whatever the remote does', async (t) => {
  const canary = 'CANARY';
  const plays: Play[] = [
    { body: `${canary} not JSON` },
    { body: { data: canary } },
    { body: { [canary]: canary, data: [{ id: 'glm-5', [canary]: canary }], error: { message: canary } } },
    { status: 401, body: canary },
    { status: 429, body: canary, headers: { 'retry-after': canary } },
    { status: 500, body: canary, headers: { [`x-${canary}`]: canary } },
    { status: 302, headers: { location: `https://${canary}.example` } },
    {
      body: {
        usage: { rolling: { percent: 10, status: canary, resetsAt: canary }, [canary]: { percent: 1 } },
        userID: canary,
      },
    },
  ];
  for (const play of plays) {
    const server = await startOpencode(t, { [MODELS]: play, [GO_USAGE]: play });
    const told = await zenAt(server, { goKey: credentialOf(GO_KEY) }).poll(NOW_MS);
    assert.doesNotMatch(JSON.stringify(told), /CANARY|sk-EXAMPLE/);
  }
});
