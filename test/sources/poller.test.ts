import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setImmediate as turnOfLoop } from 'node:timers/promises';
import { createLog } from '../../src/log.ts';
import type { Account } from '../../src/poll/detect.ts';
import { OpencodeZen } from '../../src/poll/opencode-zen.ts';
import type { PollAccount } from '../../src/poll/poll.ts';
import type { AccountStatus, PollOutcome, PollResult } from '../../src/poll/poll-result.ts';
import { nextPollInMs, Poller, type PollMeter } from '../../src/sources/poller.ts';
import { GO_USAGE, MODELS, modelList, startOpencode } from '../poll/opencode-server.ts';

const INTERVAL_MS = 30_000;
const MINUTE_MS = 60_000;
const KEY = ['sk', 'EXAMPLE', 'zen'].join('-');

function account(id: string, baseUrl?: string): Account {
  return {
    provider: 'opencode',
    id,
    foundIn: 'tollbridge.yaml',
    ...(baseUrl ? { baseUrl } : {}),
    keyName: 'WORK_KEY',
    keyRemedy: 'set WORK_KEY',
    key: () => KEY,
  };
}

const STATUS_OF: Record<PollOutcome, AccountStatus> = {
  ok: 'ok',
  auth: 'auth_required',
  limited: 'limited',
  error: 'error',
  timeout: 'error',
};

function resultOf(id: string, takenMs: number, outcome: PollOutcome = 'ok'): PollResult {
  const routes = outcome === 'ok' ? { models: takenMs } : {};
  return {
    provider: 'opencode',
    account: id,
    takenMs,
    status: STATUS_OF[outcome],
    message: outcome,
    routes,
    intervalMs: INTERVAL_MS,
  };
}

/** Everything that a poller tells, and log lines as text. */
function witness() {
  const polls: { account: string; result: PollOutcome; intervalSeconds: number }[] = [];
  const ups: boolean[] = [];
  const successes: number[] = [];
  const lines: string[] = [];
  const meter: PollMeter = {
    polled: ({ account, result, intervalSeconds, seconds, provider }) => {
      assert.ok(seconds >= 0 && provider === 'opencode');
      polls.push({ account, result, intervalSeconds });
    },
    up: (source, isUp) => ups.push(isUp) && assert.equal(source, 'poller'),
    success: (source, atMs) => successes.push(atMs) && assert.equal(source, 'poller'),
  };
  const log = createLog('debug', { write: (line: string) => lines.push(line) });
  return { polls, ups, successes, lines, meter, log };
}

/** Lets everything run that waits for nothing but the loop. */
async function settle(): Promise<void> {
  for (let n = 0; n < 5; n += 1) await turnOfLoop();
}

function mockTime(t: TestContext): (ms: number) => Promise<void> {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.UTC(2026, 10, 21) });
  return async (ms) => {
    t.mock.timers.tick(ms);
    await settle();
  };
}

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
    ['error', 5, 30 * s, undefined, 480 * s],
    ['error', 1e6, 30 * s, undefined, 480 * s],
    ['error', 4, 2 * MINUTE_MS, undefined, 15 * MINUTE_MS],
    ['error', 1, 60 * MINUTE_MS, undefined, 60 * MINUTE_MS],
    ['error', 1, 30 * s, 300, 300 * s],
    ['error', 1, 30 * s, 1e9, 3600 * s],
    ['error', 1, 30 * s, Number.POSITIVE_INFINITY, 3600 * s],
    ['limited', 1, 30 * s, undefined, 60 * s],
    ['limited', 2, 30 * s, undefined, 120 * s],
    ['limited', 9, 30 * s, undefined, 120 * s],
    ['limited', 9, 2 * MINUTE_MS, undefined, 5 * MINUTE_MS],
    ['limited', 1, 30 * s, 61, 61 * s],
    ['auth', 0, 30 * s, undefined, 120 * s],
    ['auth', 0, 2 * MINUTE_MS, undefined, 5 * MINUTE_MS],
    ['auth', 0, 10 * MINUTE_MS, undefined, 10 * MINUTE_MS],
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
    ['error', 480],
    ['ok', 30],
    ['error', 60],
    ['auth', 120],
    ['auth', 120],
    ['error', 60],
    ['limited', 120],
    ['limited', 500, 500],
    ['ok', 30],
  ];
  let done = 0;
  const poll: PollAccount = async (nowMs) => {
    const [outcome, , retryAfterS] = script[done % script.length]!;
    done += 1;
    return { result: resultOf('a', nowMs, outcome), outcome, ...(retryAfterS ? { retryAfterS } : {}) };
  };
  const seen = witness();
  const recorded: PollResult[] = [];
  const poller = new Poller({
    pollers: [{ account: account('a'), poll }],
    intervalMs: INTERVAL_MS,
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
  assert.deepEqual(seen.ups.slice(0, 9), [true, false, false, false, false, false, true, false, true]);
  await poller.stop();
});

test('jitter is ±10 %, and never shortens what the remote asked for', async (t) => {
  const pass = mockTime(t);
  let random = 0;
  let retryAfterS: number | undefined;
  let done = 0;
  const poller = new Poller({
    pollers: [
      {
        account: account('a'),
        poll: async (nowMs) => {
          done += 1;
          return { result: resultOf('a', nowMs), outcome: 'ok', ...(retryAfterS ? { retryAfterS } : {}) };
        },
      },
    ],
    intervalMs: INTERVAL_MS,
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
    pollers: [{ account: account('a'), poll: async (nowMs) => ({ result: resultOf('a', nowMs), outcome: 'ok' }) }],
    intervalMs: 90 * 86_400_000,
    record: async () => {},
    ...witness(),
  });
  poller.start();
  await settle();
  assert.deepEqual(waits, [2 ** 31 - 1]);
  await poller.stop();
});

test('one account that hangs, throws or fails delays no other, and no poll overlaps its own kind', async (t) => {
  const pass = mockTime(t);
  const counts = { hangs: 0, throws: 0, fails: 0, good: 0 };
  const canary = 'CANARY';
  const polls: Record<keyof typeof counts, PollAccount> = {
    hangs: (nowMs, signal) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () =>
          resolve({ result: resultOf('hangs', nowMs, 'error'), outcome: 'error' }),
        );
      }),
    throws: async () => {
      throw new TypeError(canary);
    },
    fails: async (nowMs) => ({ result: resultOf('fails', nowMs, 'error'), outcome: 'error' }),
    good: async (nowMs) => ({ result: resultOf('good', nowMs), outcome: 'ok' }),
  };
  const names = Object.keys(polls) as (keyof typeof counts)[];
  const seen = witness();
  const recorded: string[] = [];
  const poller = new Poller({
    pollers: names.map((name) => ({
      account: account(name),
      poll: (nowMs, signal) => {
        counts[name] += 1;
        return polls[name](nowMs, signal);
      },
    })),
    intervalMs: INTERVAL_MS,
    record: async (result) => void recorded.push(result.account),
    random: () => 0.5,
    ...seen,
  });
  poller.start();
  await settle();
  for (let n = 0; n < 4; n += 1) await pass(INTERVAL_MS);
  assert.deepEqual(counts, { hangs: 1, throws: 2, fails: 2, good: 5 });
  assert.equal(seen.ups.at(-1), true);
  assert.deepEqual(
    poller.lastResults().map((last) => [last.account.id, last.result?.status]),
    [
      ['hangs', undefined],
      ['throws', undefined],
      ['fails', 'error'],
      ['good', 'ok'],
    ],
  );
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
    pollers: [{ account: account('a'), poll: async (nowMs) => ({ result: resultOf('a', nowMs), outcome: 'ok' }) }],
    intervalMs: INTERVAL_MS,
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
    pollers: [
      {
        account: account('a'),
        poll: async (nowMs) => {
          const outcome = outcomes.shift() ?? 'ok';
          return { result: resultOf('a', nowMs, outcome), outcome };
        },
      },
    ],
    intervalMs: INTERVAL_MS,
    record: async () => {},
    random: () => 0.5,
    ...seen,
  });
  poller.start();
  await settle();
  for (let n = 0; n < 6; n += 1) await pass(4 * INTERVAL_MS);
  await poller.stop();
  const told = seen.lines.map((line) => JSON.parse(line)).map(({ level, status }) => [level, status]);
  assert.deepEqual(told, [
    [30, 'ok'],
    [40, 'auth_required'],
    [30, 'ok'],
  ]);
});

test('without accounts there is nothing to do and nothing to tell', async () => {
  const seen = witness();
  const poller = new Poller({ pollers: [], intervalMs: INTERVAL_MS, record: async () => {}, ...seen });
  poller.start();
  await settle();
  await poller.stop();
  assert.deepEqual([seen.ups, seen.polls, poller.lastResults()], [[], [], []]);
});

test('stop before start, and a start after stop, do nothing', async () => {
  let polls = 0;
  const poller = new Poller({
    pollers: [
      {
        account: account('a'),
        poll: async (nowMs) => {
          polls += 1;
          return { result: resultOf('a', nowMs), outcome: 'ok' };
        },
      },
    ],
    intervalMs: INTERVAL_MS,
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
    pollers: [{ account: account('a'), poll: async (nowMs) => ({ result: resultOf('a', nowMs), outcome: 'ok' }) }],
    intervalMs: INTERVAL_MS,
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
  const pollerOf = (id: string, at: typeof server) => {
    const zen = new OpencodeZen({
      account: account(id, at.url),
      timeoutMs: 3_600_000,
      intervalMs: INTERVAL_MS,
      dispatcher: at.dispatcher,
    });
    return { account: account(id, at.url), poll: zen.poll.bind(zen) };
  };
  const isRecorded = Promise.withResolvers<PollResult>();
  const recorded: string[] = [];
  const seen = witness();
  const poller = new Poller({
    pollers: [pollerOf('good', server), pollerOf('silent', silent)],
    intervalMs: INTERVAL_MS,
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
