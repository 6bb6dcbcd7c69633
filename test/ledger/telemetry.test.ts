// What telemetry brings beside turns: failed calls that are no turns, and turns that wait for their session.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { Bench, labelSets, shown, total, typesOf, WIDE_CAPS } from './bench.ts';
import { DAY_MS, failedAttempt, HOUR_MS, NOON_MS, session, turn } from './events.ts';

describe('a failed call of a model', () => {
  test('is counted once, by reason, and is no turn', async (t) => {
    const bench = new Bench(t);
    const second = failedAttempt({ attemptId: '2', reason: 'rate_limit' });
    assert.deepEqual(typesOf(await bench.submit(failedAttempt(), second, failedAttempt())), [
      ...['recorded', 'recorded', 'duplicate'],
    ]);
    assert.deepEqual(labelSets(bench.ledger, TOLL.turnErrors), [
      ...['overloaded', 'rate_limit'].map((reason) => ({
        ...{ agent: 'codex', provider: 'openai', upstream_provider: 'openai', model: 'gpt-5', reason },
      })),
    ]);
    assert.equal(total(bench.ledger, TOLL.turnErrors), 2);
    assert.equal(total(bench.ledger, TOLL.turns), 0);
    const before = shown(bench.ledger);
    bench.reopen();
    assert.deepEqual(shown(bench.ledger), before);
    assert.deepEqual(typesOf(await bench.submit(failedAttempt())), ['duplicate']);
    assert.deepEqual(typesOf(await bench.submit(failedAttempt({ sessionId: 'ses_2' }))), ['recorded']);
  });

  test('keeps to the label caps', async (t) => {
    const bench = new Bench(t, { caps: { ...WIDE_CAPS, model: 10 } });
    for (let n = 0; n < 20; n++) await bench.submit(failedAttempt({ attemptId: `${n}`, model: `model-${n}` }));
    assert.equal(total(bench.ledger, TOLL.turnErrors), 20);
    assert.ok(labelSets(bench.ledger, TOLL.turnErrors).length <= 11);
  });

  test('is let go with the turns of its time, and not counted anew then', async (t) => {
    const uptime = { ms: 0 };
    t.mock.method(performance, 'now', () => uptime.ms);
    const bench = new Bench(t);
    await bench.submit(failedAttempt());
    for (let day = 0; day < 92; day++) {
      bench.nowMs += DAY_MS;
      uptime.ms += DAY_MS;
      await bench.ledger.sweep();
    }
    const [booking] = await bench.submit(failedAttempt());
    assert.equal(booking?.outcome.type === 'rejected' && booking.outcome.reason, 'too_late');
    assert.equal(total(bench.ledger, TOLL.turnErrors), 1);
  });
});

describe('a turn that waits for its session', () => {
  const waiting = (said = {}) => turn({ messageId: 'span:1:2', awaitsSession: true, ...said });

  test('is booked when the session is told of, with its project, once', async (t) => {
    const bench = new Bench(t);
    const { project: _, ...unknown } = waiting();
    assert.deepEqual(typesOf(await bench.submit(unknown, unknown)), ['recorded', 'duplicate']);
    assert.equal(total(bench.ledger, TOLL.turns), 0);
    bench.reopen();
    await bench.submit(session({ sessionId: unknown.sessionId, project: 'shop' }));
    assert.equal(total(bench.ledger, TOLL.turns, { project: 'shop' }), 1);
    assert.deepEqual(typesOf(await bench.submit(unknown)), ['duplicate']);
    assert.equal(total(bench.ledger, TOLL.turns), 1);
  });

  test('counts as a title where it is one, once, and other turns do not', async (t) => {
    const bench = new Bench(t);
    await bench.submit(waiting({ isTitle: true }), waiting({ isTitle: true }), session(), turn());
    bench.reopen();
    await bench.submit(waiting({ isTitle: true }));
    assert.equal(total(bench.ledger, TOLL.turns), 2);
    assert.equal(total(bench.ledger, TOLL.titleTurns), 1);
    const later = turn({ messageId: 'span:1:4', isTitle: true });
    await bench.submit({ ...later, phase: 'finished' });
    assert.equal(total(bench.ledger, TOLL.titleTurns), 1, 'it is not over');
    await bench.submit(later, later);
    assert.equal(total(bench.ledger, TOLL.titleTurns), 2);
  });

  test('is given up after a day', async (t) => {
    const bench = new Bench(t);
    await bench.submit(waiting());
    bench.nowMs = NOON_MS + 25 * HOUR_MS;
    await bench.ledger.sweep();
    await bench.submit(session());
    assert.equal(total(bench.ledger, TOLL.turns), 0);
    const other = waiting({ messageId: 'span:1:3' });
    assert.deepEqual(typesOf(await bench.submit(other)), ['recorded']);
    assert.equal(total(bench.ledger, TOLL.turns), 1, 'what comes when the session is known is booked at once');
  });

  test('does not wait for another session', async (t) => {
    const bench = new Bench(t);
    await bench.submit(waiting(), session({ sessionId: 'ses_other' }), turn({ sessionId: 'ses_other' }));
    assert.equal(total(bench.ledger, TOLL.turns), 1);
  });
});
