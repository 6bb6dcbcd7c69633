import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RetryableFailure } from '../../src/failure.ts';
import type { Decoded, UsageSnapshot } from '../../src/turn/decoded.ts';
import { decodeHook } from '../../src/turn/normalize.ts';
import { diskFull, newIntake, turnPayload } from './intake-fixture.ts';

const snapshotOf = (account: string, takenMs: number): UsageSnapshot => ({
  ...{ provider: 'openai', account, takenMs, status: 'ok' },
  ...{ metrics: {}, resets: {}, attributes: {}, models: [] },
});
const turn = (n: number) => decodeHook('opencode', turnPayload(n), {})[0]!;
const mixed = (): Decoded[] => [
  { type: 'ignored', kind: 'delta' },
  turn(1),
  { type: 'rejected', reason: 'out_of_range', detail: 'tokens.input: expected a whole number' },
  { type: 'poll', poll: { snapshot: snapshotOf('a', 5), machine: 'laptop' } },
  turn(2),
  turn(1),
];

test('every decoded item gets one booking, in order, and is counted once', async () => {
  const { intake, meter, sink } = newIntake(() => 77);
  const bookings = await intake.accept('socket', mixed(), { team: 'core', user: 'ada' });
  assert.deepEqual(
    bookings.map(({ outcome }) => outcome.type),
    ['ignored', 'recorded', 'rejected', 'recorded', 'recorded', 'duplicate'],
  );
  assert.deepEqual(meter.of('socket'), {
    ...{ received: 6, recorded: 3, updated: 0, duplicate: 1, ignored: 1, rejected: 1, truncated: 0 },
    'rejected:out_of_range': 1,
    'ignored:delta': 1,
  });
  meter.assertConserved('socket');
  const [first] = sink.events;
  assert.equal(first?.kind === 'turn' && `${first.team} ${first.user} ${first.upstreamProvider}`, 'core ada anthropic');
  assert.deepEqual(intake.lastHeardMs(), { opencode: 77 });
});

test('a poll that a sender made is kept in our own words', async () => {
  const { intake, sink } = newIntake(() => 77);
  await intake.accept('socket', mixed(), {});
  assert.deepEqual(sink.polls, [
    {
      ...{ provider: 'openai', account: 'a', takenMs: 5, status: 'ok', machine: 'laptop' },
      ...{ message: 'Reported by laptop', statusHoldsMs: 300_000 + 72 },
      readings: [{ route: 'reported', readMs: 77, intervalMs: 100_000, facts: {} }],
    },
  ]);
});

test('the polls of a body share a commit, and keep their order', async () => {
  const { intake, sink } = newIntake();
  const polls = Array.from({ length: 50 }, (_, n): Decoded => {
    return { type: 'poll', poll: { snapshot: snapshotOf(`a${n}`, n) } };
  });
  const commit = Promise.withResolvers<void>();
  const waiting: string[] = [];
  sink.recordPoll = async ({ account, takenMs }) => {
    waiting.push(account);
    if (waiting.length === polls.length) commit.resolve();
    await commit.promise;
    return { outcome: takenMs % 2 === 0 ? { type: 'recorded' } : { type: 'duplicate' } };
  };
  const bookings = await intake.accept('socket', polls, {});
  assert.deepEqual(
    bookings.map(({ outcome }) => outcome.type),
    polls.map((_, n) => (n % 2 === 0 ? 'recorded' : 'duplicate')),
  );
});

/** A message that a fork copied, and a tool part of it or of another one, which does not say when it began. */
const copy = (messageId: string): Decoded => ({ type: 'ignored', kind: 'fork_copy', copiedMessageId: messageId });
const undatedPart = (messageId?: string): Decoded => ({
  type: 'event',
  event: {
    ...{ kind: 'tool', agent: 'opencode', sessionId: 's', callId: 'c', tool: 'bash', status: 'ok', origin: 'part' },
    ...(messageId !== undefined && { messageId }),
  },
});

test('an undated tool part of a message that a fork copied goes with it, in later bodies too', async () => {
  const { intake, sink, meter } = newIntake();
  const outcomes = async (...items: Decoded[]) =>
    (await intake.accept('socket', items, {})).map(({ outcome }) =>
      outcome.type === 'ignored' ? outcome.kind : outcome.type,
    );
  assert.deepEqual(await outcomes(copy('m1'), undatedPart('m1')), ['fork_copy', 'fork_copy']);
  assert.deepEqual(await outcomes(undatedPart('m1'), undatedPart('m2'), undatedPart()), [
    'fork_copy',
    'recorded',
    'recorded',
  ]);
  assert.equal(sink.events.length, 2);
  meter.assertConserved('socket');
});

test('only the newest copies are remembered', async () => {
  const { intake } = newIntake();
  await intake.accept('socket', [copy('m'), ...Array.from({ length: 9999 }, (_, n) => copy(`${n}`)), copy('m')], {});
  await intake.accept('socket', [copy('newest')], {});
  const bookings = await intake.accept('socket', [undatedPart('0'), undatedPart('1'), undatedPart('m')], {});
  assert.deepEqual(
    bookings.map(({ outcome }) => outcome.type),
    ['recorded', 'ignored', 'ignored'],
  );
});

test('a failed commit counts nothing, and the second try counts everything once', async () => {
  const { intake, meter, sink } = newIntake();
  sink.failure = diskFull;
  await assert.rejects(intake.accept('socket', mixed(), {}), RetryableFailure);
  assert.equal(meter.of('socket').received, 0);
  meter.assertConserved('socket');
  sink.failure = () => undefined;
  await intake.accept('socket', mixed(), {});
  assert.equal(meter.of('socket').received, 6);
  meter.assertConserved('socket');
});

test('what needs no commit is counted although no commit works', async () => {
  const { intake, meter, sink } = newIntake();
  sink.failure = diskFull;
  await intake.accept('spool', [{ type: 'ignored', kind: 'boot' }], {});
  assert.equal(meter.of('spool').ignored, 1);
  assert.equal(sink.attempts, 0);
});

test('senders cannot fill the memory of who was heard', () => {
  const { intake } = newIntake(() => 1);
  for (let n = 0; n < 200; n++) intake.heard(`agent-${n}`);
  assert.equal(Object.keys(intake.lastHeardMs()).length, 50);
});
