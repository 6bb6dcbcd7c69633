import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OpencodeAccount } from '../../src/poll/opencode-account.ts';
import type { PollOutcome, PollResult } from '../../src/poll/poll-result.ts';
import type { Probe } from '../../src/poll/probe.ts';
import { nextPollInMs, Poller } from '../../src/sources/poller.ts';
import { credentialOf, GO_USAGE, MODELS, modelList, startOpencode } from '../poll/opencode-server.ts';
import {
  INTERVAL_MS,
  KEY,
  MINUTE_MS,
  mockTime,
  type Play,
  type Polled,
  polled,
  settle,
  witness,
} from './poller-fixture.ts';

test('how long to wait after a poll', () => {
  const s = 1000;
  const cases: [PollOutcome, number, number, number | undefined, number][] = [
    // outcome, failures, interval, Retry-After in s, wait
    ['ok', 0, 30 * s, undefined, 30 * s],
    ['ok', 0, 30 * s, 90, 90 * s],
    ['ok', 0, 30 * s, 5, 30 * s],
    ['error', 1, 30 * s, undefined, 60 * s],
    ['error', 2, 30 * s, undefined, 120 * s],
    ['timeout', 3, 30 * s, undefined, 240 * s],
    ['error', 4, 30 * s, undefined, 480 * s],
    ['error', 5, 30 * s, undefined, 15 * MINUTE_MS],
    ['error', 1e6, 30 * s, undefined, 15 * MINUTE_MS],
    ['error', 4, 2 * MINUTE_MS, undefined, 15 * MINUTE_MS],
    ['error', 1, 60 * MINUTE_MS, undefined, 60 * MINUTE_MS],
    ['error', 1, 30 * s, 300, 300 * s],
    ['error', 1, 30 * s, 1e9, 3600 * s],
    ['error', 1, 30 * s, Number.POSITIVE_INFINITY, 3600 * s],
    ['limited', 1, 30 * s, undefined, 60 * s],
    ['limited', 2, 30 * s, undefined, 120 * s],
    ['limited', 9, 30 * s, undefined, 15 * MINUTE_MS],
    ['limited', 9, 20 * MINUTE_MS, undefined, 20 * MINUTE_MS],
    ['limited', 1, 30 * s, 61, 61 * s],
    ['auth', 0, 30 * s, undefined, 10 * MINUTE_MS],
    ['auth', 0, 30 * s, 3000, 3000 * s],
    ['auth', 0, 11 * MINUTE_MS, undefined, 11 * MINUTE_MS],
  ];
  for (const [outcome, failures, intervalMs, retryAfterS, expected] of cases) {
    const name = `${outcome} ${failures} ${intervalMs} ${retryAfterS}`;
    assert.equal(nextPollInMs({ outcome, failures, intervalMs, retryAfterS }), expected, name);
  }
});

test('polls at once, then by back-off; any answer resets the pace', async (t) => {
  const pass = mockTime(t);
  const script: [PollOutcome, number, number?][] = [
    // what the poll ends with, and after how many seconds the next one follows
    ['ok', 30],
    ['error', 60],
    ['timeout', 120],
    ['error', 240],
    ['error', 480],
    ['error', 900],
    ['error', 900],
    ['ok', 30],
    ['error', 60],
    ['auth', 600],
    ['auth', 600],
    ['error', 60],
    ['limited', 120],
    ['limited', 500, 500],
    ['ok', 30],
  ];
  let done = 0;
  const play: Play = async () => {
    const [outcome, , retryAfterS] = script[done % script.length]!;
    done += 1;
    return { outcome, ...(retryAfterS ? { retryAfterS } : {}) };
  };
  const seen = witness();
  const recorded: PollResult[] = [];
  const poller = new Poller({
    accounts: [polled('a', play)],
    record: async (result) => void recorded.push(result),
    random: () => 0.5,
    ...seen,
  });
  poller.start();
  poller.start();
  await settle();
  for (const [index, [, seconds]] of script.entries()) {
    assert.equal(done, index + 1);
    assert.equal(seen.polls.at(-1)?.intervalSeconds, seconds);
    await pass(seconds * 1000 - 1);
    assert.equal(done, index + 1, `not earlier than after ${seconds} s`);
    await pass(1);
  }
  assert.equal(done, script.length + 1);
  assert.deepEqual(
    recorded.slice(0, script.length).map(({ message }) => message),
    script.map(([outcome]) => outcome),
  );
  assert.deepEqual(
    seen.polls.slice(0, script.length).map(({ result }) => result),
    script.map(([outcome]) => outcome),
  );
  assert.deepEqual(seen.ups.slice(0, 10), [true, false, false, false, false, false, false, true, false, true]);
  await poller.stop();
});

test('jitter is ±10 %, and never shortens what the remote asked for', async (t) => {
  const pass = mockTime(t);
  let random = 0;
  let retryAfterS: number | undefined;
  let done = 0;
  const poller = new Poller({
    accounts: [
      polled('a', async () => {
        done += 1;
        return { outcome: 'ok', ...(retryAfterS ? { retryAfterS } : {}) };
      }),
    ],
    record: async () => {},
    random: () => random,
    ...witness(),
  });
  const expectNextAfter = async (ms: number) => {
    const before = done;
    await pass(ms - 1);
    assert.equal(done, before);
    await pass(1);
    assert.equal(done, before + 1);
  };
  poller.start();
  await settle();
  random = 1;
  await expectNextAfter(27_000);
  random = 0;
  retryAfterS = 60;
  await expectNextAfter(33_000);
  await expectNextAfter(60_000);
  await poller.stop();
});

test('an interval beyond what a timer can hold does not become a busy loop', async (t) => {
  mockTime(t);
  const waits: number[] = [];
  const realTimer = setTimeout;
  t.mock.method(globalThis, 'setTimeout', (callback: () => void, ms: number) => {
    waits.push(ms);
    return realTimer(callback, ms);
  });
  const poller = new Poller({
    accounts: [polled('a', async () => ({ outcome: 'ok' }), { intervalMs: 90 * 86_400_000 })],
    record: async () => {},
    ...witness(),
  });
  poller.start();
  await settle();
  assert.deepEqual(waits, [5000]);
  await poller.stop();
});

test('one account that hangs, throws or fails delays no other, and no poll overlaps its own kind', async (t) => {
  const pass = mockTime(t);
  const counts = { hangs: 0, throws: 0, fails: 0, good: 0 };
  const canary = 'CANARY';
  const plays: Record<keyof typeof counts, Play> = {
    hangs: (_, signal) =>
      new Promise((resolve) => {
        signal?.addEventListener('abort', () => resolve({ outcome: 'error' }));
      }),
    throws: async () => {
      throw new TypeError(canary);
    },
    fails: async () => ({ outcome: 'error' }),
    good: async () => ({ outcome: 'ok' }),
  };
  const names = Object.keys(plays) as (keyof typeof counts)[];
  const seen = witness();
  const recorded: string[] = [];
  const poller = new Poller({
    accounts: names.map((name) =>
      polled(name, (nowMs, signal) => {
        counts[name] += 1;
        return plays[name](nowMs, signal);
      }),
    ),
    record: async (result) => void recorded.push(result.account),
    random: () => 0.5,
    ...seen,
  });
  poller.start();
  await settle();
  for (let n = 0; n < 4; n += 1) await pass(INTERVAL_MS);
  assert.deepEqual(counts, { hangs: 1, throws: 2, fails: 2, good: 5 });
  assert.equal(seen.ups.at(-1), true);
  await poller.stop();
  await poller.stop();
  assert.equal(recorded.includes('hangs'), false, 'a poll that was cut short says nothing');
  assert.equal(
    seen.polls.some((poll) => poll.account === 'hangs'),
    false,
  );
  await pass(60 * MINUTE_MS);
  assert.equal(counts.good, 5, 'nothing runs on after the stop');
  assert.doesNotMatch(seen.lines.join(''), new RegExp(canary));
  assert.match(seen.lines.join(''), /"account":"throws","error":"TypeError"/);
});

test('a reading that cannot be recorded takes the source down, and the next one is tried as usual', async (t) => {
  const pass = mockTime(t);
  let isFull = true;
  const seen = witness();
  const poller = new Poller({
    accounts: [polled('a', async () => ({ outcome: 'ok' }))],
    record: async () => {
      if (isFull) throw new Error('CANARY: the disk is full');
    },
    random: () => 0.5,
    ...seen,
  });
  poller.start();
  await settle();
  assert.deepEqual([seen.ups, seen.successes.length], [[false], 0]);
  isFull = false;
  await pass(INTERVAL_MS);
  assert.deepEqual(seen.ups, [false, true]);
  assert.deepEqual(seen.successes, [Date.now()]);
  assert.doesNotMatch(seen.lines.join(''), /CANARY/);
  await poller.stop();
});

test('the log tells a change of an account’s state once', async (t) => {
  const pass = mockTime(t);
  const outcomes: PollOutcome[] = ['ok', 'ok', 'auth', 'auth', 'ok'];
  const seen = witness();
  const poller = new Poller({
    accounts: [polled('a', async () => ({ outcome: outcomes.shift() ?? 'ok' }))],
    record: async () => {},
    random: () => 0.5,
    ...seen,
  });
  poller.start();
  await settle();
  for (let n = 0; n < 6; n += 1) await pass(10 * MINUTE_MS);
  await poller.stop();
  const told = seen.lines.map((line) => JSON.parse(line)).map(({ level, status }) => [level, status]);
  assert.deepEqual(told, [
    [30, 'ok'],
    [40, 'auth_required'],
    [30, 'ok'],
  ]);
});

test('a changed credential is tried at once, not after the pause that a refused one earned', async (t) => {
  const pass = mockTime(t);
  let isNew = false;
  const seen = witness();
  const play: Play = async () => {
    isNew = false;
    return { outcome: seen.polls.length === 0 ? 'auth' : 'ok' };
  };
  const poller = new Poller({
    accounts: [polled('a', play, { hasNewCredential: () => isNew })],
    record: async () => {},
    random: () => 0.5,
    ...seen,
  });
  poller.start();
  await settle();
  for (let n = 0; n < 60; n += 1) await pass(1000);
  assert.equal(seen.polls.length, 1, 'a refused credential rests for ten minutes');
  isNew = true;
  await pass(5000);
  assert.deepEqual(
    seen.polls.map(({ result }) => result),
    ['auth', 'ok'],
  );
  await poller.stop();
});

test('each route’s state is told, and the interval of the remote that is asked most often', async (t) => {
  mockTime(t);
  const seen = witness();
  const routes = [
    { route: 'models', tells: 'models', state: 'ok' as const },
    { route: 'go/usage', tells: 'Go plan', state: 'timeout' as const, problem: 'late' },
  ];
  const one = polled('a', async () => ({ outcome: 'ok', routes }));
  const slow: Probe = { ...one.probes[0]!, name: 'console', intervalMs: 10 * INTERVAL_MS };
  const both: Polled = {
    ...one,
    probes: [slow, one.probes[0]!],
    poll: (_, ...rest) => one.poll(one.probes[0]!, ...rest),
  };
  const poller = new Poller({ accounts: [both], record: async () => {}, ...seen });
  poller.start();
  await settle();
  await poller.stop();
  assert.deepEqual(seen.routes.slice(0, 2), ['opencode/a models true', 'opencode/a go/usage false']);
  assert.deepEqual(
    seen.polls.map(({ intervalSeconds }) => intervalSeconds),
    [INTERVAL_MS / 1000, INTERVAL_MS / 1000],
  );
});

test('without accounts there is nothing to do and nothing to tell', async () => {
  const seen = witness();
  const poller = new Poller({ accounts: [], record: async () => {}, ...seen });
  poller.start();
  await settle();
  await poller.stop();
  assert.deepEqual([seen.ups, seen.polls, seen.routes], [[], [], []]);
});

test('stop before start, and a start after stop, do nothing', async () => {
  let polls = 0;
  const poller = new Poller({
    accounts: [
      polled('a', async () => {
        polls += 1;
        return { outcome: 'ok' };
      }),
    ],
    record: async () => {},
    ...witness(),
  });
  await poller.stop();
  poller.start();
  await settle();
  assert.equal(polls, 0);
});

test('stop waits for a record under way', async () => {
  let finish = () => {};
  const poller = new Poller({
    accounts: [polled('a', async () => ({ outcome: 'ok' }))],
    record: () => new Promise((resolve) => (finish = resolve)),
    ...witness(),
  });
  poller.start();
  await settle();
  let isStopped = false;
  const stopped = poller.stop().then(() => (isStopped = true));
  await settle();
  assert.equal(isStopped, false);
  finish();
  await stopped;
});

test('over HTTP: a good reading is recorded; a stop ends a request under way and records nothing', async (t) => {
  const server = await startOpencode(t, { [MODELS]: modelList('glm-5') });
  const isAsked = Promise.withResolvers<void>();
  const isDropped = Promise.withResolvers<void>();
  const silent = await startOpencode(t, {
    [GO_USAGE]: { status: 404 },
    [MODELS]: (_, response) => {
      response.on('close', () => isDropped.resolve());
      isAsked.resolve();
      return undefined;
    },
  });
  const accountAt = (id: string, { url: baseUrl, dispatcher }: typeof server) =>
    new OpencodeAccount({
      account: { provider: 'opencode', id, foundIn: 'tollbridge.yaml', baseUrl, key: credentialOf(KEY, 'WORK_KEY') },
      ...{ timeoutMs: 3_600_000, intervalMs: INTERVAL_MS, consoleIntervalMs: INTERVAL_MS, dispatcher },
    });
  const isRecorded = Promise.withResolvers<PollResult>();
  const recorded: string[] = [];
  const seen = witness();
  const poller = new Poller({
    accounts: [accountAt('good', server), accountAt('silent', silent)],
    record: async (result) => {
      recorded.push(result.account);
      isRecorded.resolve(result);
    },
    ...seen,
  });
  t.after(() => poller.stop());
  poller.start();
  assert.equal((await isRecorded.promise).message, 'Auth OK · 1 Zen models');
  await isAsked.promise;
  await poller.stop();
  await isDropped.promise;
  assert.deepEqual(recorded, ['good']);
  assert.deepEqual(
    seen.polls.map((poll) => poll.account),
    ['good'],
  );
  assert.doesNotMatch(seen.lines.join(''), /sk-EXAMPLE/);
});
