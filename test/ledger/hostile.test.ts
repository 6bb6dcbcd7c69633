// What a hostile sender, a careless user or a full disk can do to a ledger, and what must hold all the same.

import assert from 'node:assert/strict';
import { readFileSync, renameSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { TOLL } from '../../src/metrics/catalogue.ts';
import type { PollResult } from '../../src/poll/poll-result.ts';
import { Bench, labelSets, total, typesOf, WIDE_CAPS, windowRow } from './bench.ts';
import { HOUR_MS, NOON_MS, SECOND_MS, tokens, turn } from './events.ts';

const poll = (said: Partial<PollResult>): PollResult => ({
  provider: 'opencode',
  account: 'mine',
  takenMs: NOON_MS,
  status: 'ok',
  message: 'fine',
  statusHoldsMs: 90 * SECOND_MS,
  readings: [{ route: 'reported', readMs: said.takenMs ?? NOON_MS, intervalMs: 30 * SECOND_MS, facts: {} }],
  ...said,
});

describe('too much at once', () => {
  test('one submission larger than all that may wait is booked, not refused for ever', async (t) => {
    const bench = new Bench(t);
    const sessions = Array.from({ length: 100_001 }, (_, at) => ({
      kind: 'session' as const,
      agent: 'opencode',
      sessionId: `ses_${at}`,
    }));
    const bookings = await bench.ledger.submit(sessions);
    assert.equal(typesOf(bookings).filter((type) => type === 'recorded').length, sessions.length);
    // Behind something that waits it is refused, to be sent again.
    const first = bench.ledger.submit([turn({ messageId: 'msg_first' })]);
    await assert.rejects(bench.ledger.submit(sessions), { name: 'RetryableFailure' });
    await first;
  });

  test('window rows are bounded: pairs and models beyond the bound are `other`, sums stay exact', async (t) => {
    const bench = new Bench(t);
    const turns = Array.from({ length: 3000 }, (_, at) =>
      turn({
        messageId: `msg_${at}`,
        provider: `provider-${at % 150}`,
        upstreamProvider: `upstream-${at % 150}`,
        model: `model-${at}`,
        costNano: 1,
      }),
    );
    await bench.submit(...turns);
    const rows = bench.ledger.windowRows().filter(({ window }) => window === 'all');
    assert.ok(rows.length <= 1101, `${rows.length} rows`);
    const pairs = new Set(rows.map(({ upstreamProvider, provider }) => `${upstreamProvider}/${provider}`));
    assert.ok(pairs.size <= 101, `${pairs.size} pairs`);
    assert.ok(pairs.has('other/other'));
    assert.equal(
      rows.reduce((sum, { costNano }) => sum + costNano, 0),
      3000,
    );
    const before = bench.ledger.windowRows();
    bench.reopen();
    assert.deepEqual(bench.ledger.windowRows().length, before.length);
  });

  test('accounts that senders report are bounded, and what is over is said', async (t) => {
    const bench = new Bench(t);
    for (let at = 0; at < 200; at++) await bench.ledger.recordPoll(poll({ account: `a-${at}` }));
    const { outcome } = await bench.ledger.recordPoll(poll({ account: 'one-more' }));
    assert.equal(outcome.type === 'rejected' && outcome.reason, 'overflow');
    const again = await bench.ledger.recordPoll(poll({ account: 'a-7', takenMs: NOON_MS - SECOND_MS }));
    assert.equal(again.outcome.type, 'duplicate');
    assert.equal(bench.ledger.pollResults().length, 200);
  });
});

describe('the accounts that are kept', () => {
  test('make room for new ones when they say nothing any more, and our own poll is never kept out', async (t) => {
    const bench = new Bench(t);
    const old = NOON_MS - 3 * HOUR_MS;
    for (let at = 0; at < 199; at++) await bench.ledger.recordPoll(poll({ account: `old-${at}`, takenMs: old }));
    for (let at = 0; at < 200; at++) {
      const { outcome } = await bench.ledger.recordPoll(poll({ account: `new-${at}` }));
      assert.equal(outcome.type, 'recorded', `new-${at}`);
    }
    const own = await bench.ledger.recordPoll(poll({ account: 'own' }), { isOwn: true });
    assert.equal(own.outcome.type, 'recorded');
  });
});

describe('settling', () => {
  test('finds what waits by its index, however many turns there are', async (t) => {
    const bench = new Bench(t);
    bench.ledger.close();
    const db = new DatabaseSync(bench.file, { readOnly: true });
    t.after(() => db.close());
    for (const file of ['turn-book.ts', 'model-time.ts']) {
      const source = readFileSync(new URL(`../../src/ledger/${file}`, import.meta.url), 'utf8');
      const query = /`(SELECT turn\.\*[^`]*WHERE settled = 0[^`]*)`/.exec(source)?.[1] ?? '';
      const plan = db.prepare(`EXPLAIN QUERY PLAN ${query}`).all(0, 1);
      assert.match(JSON.stringify(plan), /USING INDEX turn_unsettled/, file);
    }
  });
});

describe('a turn that is dated anew', () => {
  test('takes its session along', async (t) => {
    const bench = new Bench(t);
    const at = (completedMs: number) => ({ startedMs: completedMs - SECOND_MS, completedMs });
    await bench.submit(turn({ eventId: 'evt_1', ...at(NOON_MS - 40 * 24 * HOUR_MS) }));
    assert.equal(bench.ledger.windowSessions('today', ['anthropic']), 0);
    await bench.submit(turn({ eventId: 'evt_2', ...at(NOON_MS) }));
    assert.equal(windowRow(bench.ledger, 'today').turns, 1);
    assert.equal(bench.ledger.windowSessions('today', ['anthropic']), 1);
  });
});

describe('a reading dated far ahead', () => {
  test('is dated by receipt, counted as redated, and later ones win', async (t) => {
    const bench = new Bench(t);
    const ahead = await bench.ledger.recordPoll(poll({ takenMs: NOON_MS + 1000 * HOUR_MS, status: 'ok' }));
    assert.deepEqual(ahead, { outcome: { type: 'recorded' }, redated: true });
    assert.equal(bench.ledger.pollResults()[0]?.readings[0]?.readMs, NOON_MS);
    bench.nowMs = NOON_MS + SECOND_MS;
    await bench.ledger.recordPoll(poll({ takenMs: bench.nowMs, status: 'auth_required' }));
    assert.equal(bench.ledger.pollResults()[0]?.status, 'auth_required');
  });

  test('does not outlive a clock that was set back', async (t) => {
    const bench = new Bench(t);
    bench.nowMs = NOON_MS + 1000 * HOUR_MS;
    await bench.ledger.recordPoll(poll({ takenMs: bench.nowMs, status: 'ok' }));
    bench.nowMs = NOON_MS;
    await bench.ledger.recordPoll(poll({ takenMs: NOON_MS, status: 'error' }));
    assert.equal(bench.ledger.pollResults()[0]?.status, 'error');
  });
});

describe('unpriced tokens', () => {
  test('count the most that a turn ever had, however often it goes up and down', async (t) => {
    const bench = new Bench(t);
    for (const [at, input] of [100, 50, 100, 50, 120].entries()) {
      await bench.submit(turn({ eventId: `evt_${at}`, pricing: 'unknown', costNano: 0, tokens: tokens({ input }) }));
    }
    assert.equal(total(bench.ledger, TOLL.unpricedTokens), 120);
    assert.equal(total(bench.ledger, TOLL.tokens) - total(bench.ledger, TOLL.tokensCorrections), 120);
  });
});

describe('the cap on all series, raised after a restart', () => {
  test('what was folded stays folded: no series is corrected below 0', async (t) => {
    const bench = new Bench(t, { caps: { ...WIDE_CAPS, series: 100 } });
    for (let at = 0; at < 20; at++) await bench.submit(turn({ messageId: `msg_${at}`, model: `m-${at}`, costNano: 1 }));
    await bench.submit(turn({ messageId: 'msg_late', model: 'late', costNano: 5000, eventId: 'evt_1' }));
    assert.ok(!labelSets(bench.ledger, TOLL.cost).some(({ model }) => model === 'late'));
    bench.reopen({ caps: WIDE_CAPS });
    await bench.submit(turn({ messageId: 'msg_later', model: 'late', costNano: 10 }));
    await bench.submit(turn({ messageId: 'msg_late', model: 'late', costNano: 1000, eventId: 'evt_2' }));
    assert.equal(total(bench.ledger, TOLL.cost, { model: 'late' }), 10);
    assert.equal(total(bench.ledger, TOLL.costCorrections, { model: 'late' }), 0);
    assert.equal(total(bench.ledger, TOLL.costCorrections, { model: 'other' }), 4000);
  });
});

describe('a ledger whose file was taken away', () => {
  test('refuses events and says so, until the file is back', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ messageId: 'msg_1', costNano: 1 }));
    renameSync(bench.file, `${bench.file}.gone`);
    await assert.rejects(bench.ledger.submit([turn({ messageId: 'msg_2', costNano: 2 })]), {
      name: 'RetryableFailure',
    });
    assert.match(bench.ledger.problem ?? '', /removed or replaced/);
    assert.equal(total(bench.ledger, TOLL.cost), 1);
    renameSync(`${bench.file}.gone`, bench.file);
    await bench.submit(turn({ messageId: 'msg_2', costNano: 2 }));
    assert.equal(bench.ledger.problem, undefined);
    assert.equal(total(bench.ledger, TOLL.cost), 3);
    assert.equal(windowRow(bench.ledger, 'all').turns, 2);
  });
});

describe('many sessions', () => {
  test('are counted by window and upstream provider, also where one tile shows two', async (t) => {
    const bench = new Bench(t);
    const served = (upstreamProvider: string, sessionId: string, hoursAgo: number) =>
      turn({
        messageId: `msg_${upstreamProvider}_${sessionId}`,
        sessionId,
        upstreamProvider,
        startedMs: NOON_MS - hoursAgo * HOUR_MS - SECOND_MS,
        completedMs: NOON_MS - hoursAgo * HOUR_MS,
      });
    await bench.submit(served('anthropic', 's1', 0), served('openai', 's1', 0), served('anthropic', 's2', 100));
    assert.equal(bench.ledger.windowSessions('today', ['anthropic']), 1);
    assert.equal(bench.ledger.windowSessions('7d', ['anthropic']), 2);
    assert.equal(bench.ledger.windowSessions('7d', ['anthropic', 'openai']), 2);
    assert.equal(bench.ledger.windowSessions('7d', []), 0);
    // The answer is remembered, but not beyond the next turn.
    await bench.submit(served('anthropic', 's3', 1));
    assert.equal(bench.ledger.windowSessions('today', ['anthropic']), 2);
  });
});
