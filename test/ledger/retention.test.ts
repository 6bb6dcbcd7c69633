import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { Bench, growing, total, typesOf, windowRow } from './bench.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, NOON_MS, SECOND_MS, toolPart, turn } from './events.ts';

const RETENTION_MS = 90 * DAY_MS;

/** A bench whose process has run for as long as its clock went on, unless a test says otherwise. */
class LongRun extends Bench {
  readonly uptime: { ms: number };

  constructor(t: TestContext) {
    const uptime = { ms: 0 };
    t.mock.method(performance, 'now', () => uptime.ms);
    super(t);
    this.uptime = uptime;
  }

  /** Time passes for the clock and the process alike; the ledger sweeps every day. */
  async live(days: number): Promise<void> {
    for (let day = 0; day < days; day++) {
      this.nowMs += DAY_MS;
      this.uptime.ms += DAY_MS;
      await this.ledger.sweep();
    }
  }

  /** How the ledger takes a turn that completed then. */
  async taken(completedMs: number): Promise<string | undefined> {
    const messageId = `probe_${completedMs}_${this.nowMs}`;
    const [booking] = await this.submit(turn({ messageId, startedMs: completedMs - SECOND_MS, completedMs }));
    return booking?.outcome.type === 'rejected' ? booking.outcome.reason : booking?.outcome.type;
  }
}

const old = (ageMs: number) =>
  turn({
    messageId: `old_${ageMs}`,
    startedMs: NOON_MS - ageMs - SECOND_MS,
    completedMs: NOON_MS - ageMs,
    costNano: 5,
  });

describe('retention', () => {
  test('a fresh ledger has no horizon: history of any age is welcome', async (t) => {
    const run = new LongRun(t);
    for (const days of [0, 89, 91, 10_000]) {
      await run.live(3);
      assert.equal(await run.taken(NOON_MS - days * DAY_MS), 'recorded', `${days} days`);
    }
    assert.equal(run.ledger.health().turns, 4);
  });

  test('turns go when the ledger is older than the retention; totals and windows stay', async (t) => {
    const run = new LongRun(t);
    const ancient = old(10_000 * DAY_MS);
    const atBirth = old(0);
    const call = toolPart({ messageId: atBirth.messageId, completedMs: NOON_MS, startedMs: NOON_MS - SECOND_MS });
    await run.submit(ancient, atBirth, call);
    await run.live(90);
    assert.equal(run.ledger.health().turns, 2, 'not before');
    await run.live(1);
    assert.equal(run.ledger.health().turns, 0);
    assert.equal(run.ledger.health().toolCalls, 0);
    const stays = () => {
      assert.equal(total(run.ledger, TOLL.cost), 10);
      assert.equal(total(run.ledger, TOLL.turns), 2);
      assert.equal(total(run.ledger, TOLL.toolCalls), 1);
      assert.equal(windowRow(run.ledger, 'all').costNano, 10);
      assert.ok(run.ledger.health().booksBalance);
    };
    stays();
    const before = growing(run.ledger);
    for (let round = 0; round < 2; round++) {
      const again = await run.submit(ancient, atBirth, call);
      assert.deepEqual(
        again.map(({ outcome }) => outcome.type === 'rejected' && outcome.reason),
        ['too_late', 'too_late', 'too_late'],
      );
      run.reopen();
      stays();
      assert.deepEqual(growing(run.ledger), before);
    }
    // What is younger than the horizon is taken as ever.
    assert.equal(await run.taken(NOON_MS + DAY_MS + HOUR_MS), 'recorded');
    assert.equal(await run.taken(NOON_MS), 'too_late');
  });

  test('a held turn is known as long as its row is there', async (t) => {
    const run = new LongRun(t);
    await run.live(10);
    const held = turn({ startedMs: run.nowMs - MINUTE_MS, completedMs: run.nowMs, costNano: 5, eventId: 'evt_1' });
    await run.submit(held);
    await run.live(90);
    assert.deepEqual(typesOf(await run.submit({ ...held, costNano: 7, eventId: 'evt_2' })), ['updated']);
    await run.live(1);
    const [late] = await run.submit({ ...held, costNano: 9, eventId: 'evt_3' });
    assert.equal(late?.outcome.type, 'rejected');
    assert.equal(total(run.ledger, TOLL.cost), 7);
  });

  test('a large backlog goes in portions; the horizon holds for all of it at once', async (t) => {
    const run = new LongRun(t);
    const many = Array.from({ length: 20_010 }, (_, at) => ({ ...old(at), costNano: 1 }));
    await run.submit(...many);
    await run.live(91);
    assert.equal(run.ledger.health().turns, 10);
    await run.live(1);
    assert.equal(run.ledger.health().turns, 0);
    assert.equal(total(run.ledger, TOLL.turns), 20_010);
  });
});

describe('the clock may lie', () => {
  test('a jump of ten years ahead deletes nothing and refuses nothing of now', async (t) => {
    const run = new LongRun(t);
    await run.submit(old(0), old(30 * DAY_MS), old(400 * DAY_MS));
    await run.live(20);
    run.nowMs += 3650 * DAY_MS;
    await run.ledger.sweep();
    await run.live(3);
    assert.equal(run.ledger.health().turns, 3);
    assert.equal(await run.taken(NOON_MS + DAY_MS), 'recorded');
    // Back in the present it goes on as if nothing had been.
    run.nowMs -= 3650 * DAY_MS;
    await run.live(66);
    assert.equal(run.ledger.health().turns, 4);
    assert.equal(await run.taken(NOON_MS), 'recorded');
  });

  test('a jump when the ledger is old moves the horizon no further than the ledger ran', async (t) => {
    const run = new LongRun(t);
    await run.live(100);
    const horizonMs = NOON_MS + 10 * DAY_MS;
    assert.equal(await run.taken(horizonMs - 1), 'too_late');
    assert.equal(await run.taken(horizonMs), 'recorded');
    run.nowMs += 3650 * DAY_MS;
    run.uptime.ms += HOUR_MS;
    await run.ledger.sweep();
    assert.equal(await run.taken(horizonMs + HOUR_MS - 1), 'too_late');
    assert.equal(await run.taken(horizonMs + HOUR_MS), 'recorded');
  });

  test('a clock that goes back moves the horizon nowhere, also over a restart', async (t) => {
    const run = new LongRun(t);
    await run.live(100);
    for (const backMs of [50 * DAY_MS, 3650 * DAY_MS]) {
      run.nowMs -= backMs;
      run.uptime.ms += HOUR_MS;
      await run.ledger.sweep();
      run.reopen();
      assert.equal(await run.taken(NOON_MS + 10 * DAY_MS - 1), 'too_late');
      run.nowMs += backMs;
    }
    assert.equal(await run.taken(NOON_MS + 10 * DAY_MS), 'recorded');
  });

  test('time in which nothing ran does not count, so that a long pause deletes nothing at once', async (t) => {
    const run = new LongRun(t);
    await run.submit(old(0));
    await run.live(60);
    run.ledger.close();
    run.nowMs += RETENTION_MS;
    run.reopen();
    await run.ledger.sweep();
    assert.equal(run.ledger.health().turns, 1);
    await run.live(31);
    assert.equal(run.ledger.health().turns, 0);
  });
});
