// What budgets and caps have seen, against sums made by hand from the turns themselves.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseConfig } from '../../src/config.ts';
import type { BudgetRule, PolicyConfig } from '../../src/config-policy.ts';
import { Policy } from '../../src/policy/policy.ts';
import type { TurnEvent } from '../../src/turn/turn-event.ts';
import { Bench } from './bench.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, NANO, NOON_MS, tokens, turn } from './events.ts';

const ZONES = ['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kathmandu', 'America/Santiago', 'Pacific/Apia'];
/** Around the starts of summer and winter time, a month's, a year's and a leap day. */
const NOWS = [
  ...['2026-03-29T12:00Z', '2026-10-25T12:00Z', '2026-12-31T22:00Z', '2028-02-29T23:00Z', '2026-11-02T03:00Z'],
  '2026-09-06T03:30Z',
].map((iso) => Date.parse(iso));
const TEAMS = ['red', 'blue', undefined];
const MODELS = ['gpt-5', 'gpt-5-mini', 'claude-sonnet-4-5'];

const policyOf = (said: object): PolicyConfig => parseConfig(said);

/** The calendar period that holds a moment, named by Intl alone: two moments with one name share a period. */
function periodName(ms: number, { period, week_start, anchor }: BudgetRule, timeZone: string): string {
  const date = new Intl.DateTimeFormat('sv-SE', { timeZone }).format(ms);
  if (period === 'day') return date;
  if (period === 'month') return date.slice(0, 7);
  const day = Date.parse(`${date}T00:00Z`) / DAY_MS;
  // 2024 began on a Monday, and its last Sunday before that was the day before.
  const first = Date.parse(anchor ?? (week_start === 'monday' ? '2024-01-01' : '2023-12-31')) / DAY_MS;
  return String(Math.floor((day - first) / (period === 'week' ? 7 : Number.parseInt(period, 10))));
}

const amount = fc.integer({ min: 0, max: 3 * NANO });
const arbitraryBudget = fc
  .record({
    scope: fc.constantFrom<object>(
      ...[{}, { team: 'red' }, { team: '*' }, { model: 'gpt-5*' }, { team: ['red', 'blue'], model: '*mini' }],
      { upstream_provider: 'openai', user: 'ana' },
    ),
    limit: fc.constantFrom<object>({ limit_usd: 2.5 }, { limit_usd: 40 }, { limit_tokens: 5000 }, { limit_turns: 4 }),
    period: fc.constantFrom<object>(
      ...[{ period: 'day' }, { period: 'week' }, { period: 'week', week_start: 'sunday' }, { period: 'month' }],
      { period: '10d', anchor: '2026-01-15' },
    ),
    hard: fc.boolean(),
  })
  .map(({ scope, limit, period, hard }) => ({ scope, hard, ...limit, ...period }));
const arbitraryStep = fc.record({
  turn: fc.nat(12),
  agoMs: fc.integer({ min: 0, max: 40 * DAY_MS }),
  passMs: fc.constantFrom(0, 1000, HOUR_MS, 9 * HOUR_MS, 3 * DAY_MS, -HOUR_MS, -2 * DAY_MS, -33 * DAY_MS),
  version: fc.integer({ min: 1, max: 4 }),
  costNano: fc.option(amount, { nil: undefined }),
  estimatedNano: fc.option(amount, { nil: undefined }),
  output: fc.nat(2000),
  phase: fc.constantFrom('in_progress' as const, 'finished' as const, 'completed' as const, 'completed' as const),
  /** Under which rules and in which zone it starts again, where it does. */
  restarts: fc.option(
    fc.record({
      zone: fc.constantFrom(...ZONES),
      rules: fc.array(arbitraryBudget, { minLength: 1, maxLength: 4 }),
    }),
    { nil: undefined },
  ),
});
type Step = typeof arbitraryStep extends fc.Arbitrary<infer T> ? T : never;

/** A turn as its best description has it. */
interface Known {
  rank: number;
  datedMs: number;
  costNano: number;
  tokens: number;
  turns: number;
  labels: Record<string, string | undefined>;
}

const PHASES = ['in_progress', 'finished', 'completed'];

describe('what was spent', () => {
  test('equals a naive sum over the turns at every step, whatever clock and rules do, and no verdict contradicts it', async (t) => {
    const property = fc.asyncProperty(
      fc.constantFrom(...ZONES),
      fc.constantFrom(...NOWS),
      fc.array(arbitraryBudget, { minLength: 1, maxLength: 4 }),
      fc.array(arbitraryStep, { minLength: 1, maxLength: 25 }),
      async (firstZone, nowMs, firstRules, steps) => {
        const named = (rules: readonly object[]) =>
          policyOf({ budgets: rules.map((rule, at) => ({ name: `b${at}`, ...rule })) });
        let timeZone = firstZone;
        let policy = named(firstRules);
        const bench = new Bench(t, { timeZone, policy });
        bench.nowMs = nowMs;
        const known = new Map<number, Known>();
        try {
          for (const step of steps) {
            bench.nowMs += step.passMs;
            const event = eventOf(step, bench.nowMs);
            await bench.submit(event);
            if (step.restarts) {
              timeZone = step.restarts.zone;
              policy = named(step.restarts.rules);
              bench.reopen({ timeZone, policy });
            }
            note(known, event, step);
            assertStands(bench, { known, policy, timeZone });
          }
        } finally {
          bench.ledger.close();
        }
      },
    );
    await fc.assert(property, { numRuns: 60 });
  });

  function eventOf(step: Step, nowMs: number): TurnEvent {
    const at = step.turn;
    const startedMs = nowMs - step.agoMs;
    return turn({
      messageId: `msg_${at}`,
      eventId: `evt_${step.version}`,
      phase: step.phase,
      startedMs,
      ...(step.phase === 'completed' ? { completedMs: startedMs } : {}),
      model: MODELS[at % MODELS.length]!,
      upstreamProvider: at % 3 === 2 ? 'anthropic' : 'openai',
      ...(TEAMS[at % 4] === undefined ? {} : { team: TEAMS[at % 4]! }),
      ...(at % 2 ? { user: 'ana' } : {}),
      tokens: tokens({ output: step.output }),
      ...(step.costNano === undefined ? {} : { costNano: step.costNano }),
      ...(step.estimatedNano === undefined ? {} : { pricing: 'estimated', estimatedNano: step.estimatedNano }),
    });
  }

  /** The rule of the house, once more and plainly: of two descriptions the further one wins, then the later, then the larger. */
  function note(known: Map<number, Known>, event: TurnEvent, step: Step): void {
    const best = known.get(step.turn);
    const rank =
      PHASES.indexOf(step.phase) * 1e16 + step.version * 1e15 + step.output * 1e10 + (step.costNano ?? -1) + 1;
    const isTie = best !== undefined && rank === best.rank;
    // Equal in all that is ranked here: the times decide, and the later completion wins.
    if (best && (rank < best.rank || (isTie && event.startedMs <= best.datedMs))) return;
    const isBooked = step.phase !== 'in_progress';
    known.set(step.turn, {
      rank,
      datedMs: event.completedMs ?? event.startedMs,
      costNano: isBooked ? (event.costNano ?? 0) + (event.estimatedNano ?? 0) : 0,
      tokens: isBooked ? event.tokens.output : 0,
      turns: step.phase === 'completed' ? 1 : 0,
      labels: {
        model: event.model,
        team: event.team,
        user: event.user,
        upstream_provider: event.upstreamProvider,
      },
    });
  }

  function assertStands(
    bench: Bench,
    { known, policy, timeZone }: { known: Map<number, Known>; policy: PolicyConfig; timeZone: string },
  ): void {
    const standings = bench.ledger.standings();
    const judge = new Policy({ rules: policy, timeZone, standings: () => standings, now: () => bench.nowMs });
    for (const [at, rule] of policy.budgets.entries()) {
      const { spent, limit, unit, startMs, endMs } = standings[at]!;
      const current = periodName(bench.nowMs, rule, timeZone);
      const inPeriod = [...known.values()].filter(
        ({ datedMs, labels }) =>
          periodName(datedMs, rule, timeZone) === current &&
          Object.entries(rule.scope).every(([label, patterns]) =>
            patterns?.some((pattern) => new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(labels[label] ?? '\n')),
          ),
      );
      const key = unit === 'usd' ? 'costNano' : unit;
      assert.equal(
        spent,
        inPeriod.reduce((sum, each) => sum + each[key], 0),
        `${rule.name} at ${new Date(bench.nowMs).toISOString()} in ${timeZone}`,
      );
      assert.notEqual(periodName(startMs - 1, rule, timeZone), current);
      assert.equal(periodName(startMs, rule, timeZone), current);
      assert.equal(periodName(endMs - 1, rule, timeZone), current);
      assert.notEqual(periodName(endMs, rule, timeZone), current);
      const alone = new Policy({
        rules: { ...policy, budgets: [rule] },
        timeZone,
        standings: () => standings,
        now: () => bench.nowMs,
      });
      const labels = { model: 'gpt-5-mini', team: 'red', user: 'ana', upstream_provider: 'openai' };
      const { decision } = alone.decide({ labels, isPriced: () => true });
      const expected = spent >= limit ? (rule.hard ? 'stop' : 'warn') : spent >= limit / 2 ? 'warn' : 'allow';
      assert.equal(decision, expected, rule.name);
      // Among all rules none is overruled by a milder one.
      const together = judge.decide({ labels, isPriced: () => true }).decision;
      const order = ['allow', 'warn', 'stop'];
      assert.ok(order.indexOf(together) >= order.indexOf(decision));
    }
  }

  test('is known again after a restart under new rules, of turns that came before them', async (t) => {
    const bench = new Bench(t);
    await bench.submit(turn({ costNano: 7, team: 'red' }));
    assert.deepEqual(bench.ledger.standings(), []);
    bench.reopen({ policy: policyOf({ budgets: [{ name: 'b', limit_usd: 1, period: 'month' }] }) });
    assert.equal(bench.ledger.standings()[0]?.spent, 7);
  });

  test('begins anew when its period does, without a turn', async (t) => {
    const bench = new Bench(t, { policy: policyOf({ budgets: [{ name: 'b', limit_usd: 1, period: 'day' }] }) });
    await bench.submit(turn({ costNano: 7 }));
    assert.equal(bench.ledger.standings()[0]?.spent, 7);
    bench.nowMs += 12 * HOUR_MS;
    assert.equal(bench.ledger.standings()[0]?.spent, 0);
    // A turn of yesterday that comes today belongs to yesterday.
    await bench.submit(turn({ messageId: 'msg_late', costNano: 5 }));
    assert.equal(bench.ledger.standings()[0]?.spent, 0);
  });

  test('is read once for all budgets of a period, because nobody is answered meanwhile', async (t) => {
    const bench = new Bench(t);
    const every = Array.from({ length: 2000 }, (_, at) =>
      turn({ messageId: `msg_${at}`, costNano: 1, startedMs: NOON_MS - at * 5 * MINUTE_MS, phase: 'finished' }),
    );
    await bench.submit(...every);
    const taken = (count: number) => {
      const budgets = Array.from({ length: count }, (_, at) => ({ name: `b${at}`, limit_usd: 1, period: 'month' }));
      bench.reopen({ policy: policyOf({ budgets }) });
      const startedMs = performance.now();
      const standings = bench.ledger.standings();
      const ms = performance.now() - startedMs;
      assert.equal(standings.length, count);
      assert.ok(standings.every(({ spent }) => spent === 2000));
      return ms;
    };
    taken(1);
    const [one, many] = [taken(1), taken(500)];
    t.diagnostic(`one budget ${one.toFixed(1)} ms, 500 of them ${many.toFixed(1)} ms`);
    assert.ok(many < 100 * one, `${many} ms for 500 budgets, ${one} ms for one`);
  });

  test('tells the dearest turn of the last hour', async (t) => {
    const bench = new Bench(t, { policy: policyOf({ budgets: [{ name: 'b', limit_usd: 1, period: 'day' }] }) });
    const dearest = () => bench.ledger.standings()[0]?.dearest;
    assert.equal(dearest(), undefined);
    await bench.submit(turn({ costNano: 7 }), turn({ messageId: 'msg_2', costNano: 3 }));
    assert.equal(dearest(), 7);
    bench.reopen();
    assert.equal(dearest(), 7);
    bench.nowMs += HOUR_MS + 1;
    assert.equal(dearest(), undefined);
  });
});

describe('a cap', () => {
  const policy = policyOf({ caps: [{ name: 'c', limit_turns: 6, per: 'minute', scope: { team: 'red' } }] });
  const spent = (bench: Bench) => bench.ledger.standings()[0]!.spent;
  const now = (bench: Bench, id: string, team = 'red') =>
    turn({ messageId: id, team, startedMs: bench.nowMs, completedMs: bench.nowMs });

  test('fills with turns in scope and drains at its rate', async (t) => {
    const bench = new Bench(t, { policy });
    assert.equal(spent(bench), 0);
    await bench.submit(...[1, 2, 3, 4, 5, 6].map((at) => now(bench, `msg_${at}`)), now(bench, 'msg_b', 'blue'));
    assert.equal(spent(bench), 6);
    bench.nowMs += MINUTE_MS / 2;
    assert.equal(spent(bench), 3);
    bench.nowMs += MINUTE_MS;
    assert.equal(spent(bench), 0);
  });

  test('is the same after a restart', async (t) => {
    const bench = new Bench(t, { policy });
    spent(bench);
    for (let at = 0; at < 9; at++) {
      bench.nowMs += 5000;
      await bench.submit(now(bench, `msg_${at}`));
    }
    const before = spent(bench);
    assert.ok(before > 0);
    bench.reopen();
    assert.equal(spent(bench), before);
  });

  test('is used up until the moment that it names, and no longer', async (t) => {
    for (const [limit, turns, per, waitMs] of [
      [6, 7, 'minute', 20_000],
      [6, 6, 'minute', 10_000],
      [1, 1, 'hour', HOUR_MS],
      [60, 61, 'minute', 2000],
    ] as const) {
      const bench = new Bench(t, { policy: policyOf({ caps: [{ name: 'c', limit_turns: limit, per }] }) });
      spent(bench);
      await bench.submit(...Array.from({ length: turns }, (_, at) => now(bench, `msg_${at}`)));
      const { endMs } = bench.ledger.standings()[0]!;
      assert.ok(Math.abs(endMs - NOON_MS - waitMs) <= 1, `${turns} of ${limit}: ${endMs - NOON_MS} ms`);
      bench.nowMs = endMs - 5;
      assert.ok(spent(bench) >= limit, 'control: not a moment before');
      bench.nowMs = endMs;
      assert.ok(spent(bench) < limit, `${turns} of ${limit}, when the wait is over`);
    }
  });

  test('holds a turn that was described twice once, however long it took', async (t) => {
    const limit = { limit_usd: 1, per: 'minute' };
    const bench = new Bench(t, { policy: policyOf({ caps: [{ name: 'c', ...limit }] }) });
    spent(bench);
    const described = async (id: string) => {
      const about = { messageId: id, costNano: 0.2 * NANO, startedMs: bench.nowMs - 30_000 };
      await bench.submit(turn({ ...about, phase: 'finished' }));
      await bench.submit(turn({ ...about, completedMs: bench.nowMs }));
    };
    for (const id of ['msg_1', 'msg_2', 'msg_3']) await described(id);
    assert.equal(spent(bench), 0.6 * NANO);
    bench.reopen();
    assert.equal(spent(bench), 0.6 * NANO, 'control: told from the turns alone');
  });

  test('holds a turn that comes late as if it had come in time, while it was not empty since', async (t) => {
    const bench = new Bench(t, { policy: policyOf({ caps: [{ name: 'c', limit_usd: 6, per: 'minute' }] }) });
    spent(bench);
    const at = (id: string, datedMs: number, costUsd: number) =>
      turn({ messageId: id, startedMs: datedMs, completedMs: datedMs, costNano: costUsd * NANO });
    await bench.submit(at('msg_1', bench.nowMs, 4));
    bench.nowMs += 10_000;
    assert.equal(spent(bench), 3 * NANO);
    await bench.submit(at('msg_2', NOON_MS, 1));
    assert.equal(spent(bench), 4 * NANO);
    bench.reopen();
    assert.equal(spent(bench), 4 * NANO, 'control: told from the turns alone');
    // Empty after 40 s, it would have drained for 20 s of what came at noon.
    bench.nowMs += MINUTE_MS;
    assert.equal(spent(bench), 0);
    await bench.submit(at('msg_3', bench.nowMs - 20_000, 5));
    assert.equal(spent(bench), 3 * NANO);
  });

  test('forgets what is taken back', async (t) => {
    const bench = new Bench(t, { policy: policyOf({ caps: [{ name: 'c', limit_usd: 1, per: 'minute' }] }) });
    spent(bench);
    const about = { startedMs: bench.nowMs, completedMs: bench.nowMs };
    await bench.submit(turn({ ...about, eventId: 'evt_1', costNano: 0.9 * NANO }));
    await bench.submit(turn({ ...about, eventId: 'evt_2', costNano: 0.1 * NANO }));
    assert.equal(spent(bench), 0.1 * NANO);
  });

  test('a sender whose clock is ahead neither empties it nor keeps it full', async (t) => {
    const bench = new Bench(t, { policy });
    spent(bench);
    const ahead = (id: string) => {
      const atMs = bench.nowMs + 4 * MINUTE_MS;
      return turn({ messageId: id, team: 'red', startedMs: atMs, completedMs: atMs });
    };
    await bench.submit(now(bench, 'msg_1'), now(bench, 'msg_2'), now(bench, 'msg_3'));
    await bench.submit(ahead('msg_4'), now(bench, 'msg_5'), ahead('msg_6'));
    assert.equal(spent(bench), 6);
    bench.reopen();
    assert.equal(spent(bench), 6, 'the same after a restart');
    bench.nowMs += MINUTE_MS;
    assert.equal(spent(bench), 0);
  });

  test('a clock that was ahead and is set right neither empties it nor keeps it full', async (t) => {
    const bench = new Bench(t, { policy });
    bench.nowMs += 3 * HOUR_MS;
    await bench.submit(...[1, 2, 3, 4, 5, 6].map((at) => now(bench, `msg_${at}`)));
    assert.equal(spent(bench), 6);
    bench.nowMs = NOON_MS;
    assert.equal(spent(bench), 0, 'what was used at a time that never was');
    await bench.submit(now(bench, 'msg_7'), now(bench, 'msg_8'));
    assert.equal(spent(bench), 2);
    bench.nowMs += MINUTE_MS / 3;
    assert.equal(spent(bench), 0);
  });
});
