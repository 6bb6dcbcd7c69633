import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { movementOf } from '../../src/ledger/balance-book.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import type { Balance, PollResult, Reload } from '../../src/poll/poll-result.ts';
import { Bench, growing, total } from './bench.ts';
import { HOUR_MS, MINUTE_MS, NANO, NOON_MS, turn } from './events.ts';

const USD = 1e9;

interface Said extends Partial<Balance> {
  readonly usd?: number;
  readonly atMs: number;
  readonly account?: string;
  readonly reload?: Reload;
}

/** A reading of the balance of an account at OpenCode. */
function reading({ usd = 0, atMs, account = 'work', reload, ...balance }: Said): PollResult {
  const facts = {
    balances: [{ kind: 'console', currency: 'USD', nano: Math.round(usd * USD), ...balance }],
    ...(reload ? { reload } : {}),
  };
  return {
    ...{ provider: 'opencode', account, takenMs: atMs, status: 'ok', statusHoldsMs: HOUR_MS, message: '' },
    readings: [{ route: 'billing/status', readMs: atMs, intervalMs: 5 * MINUTE_MS, facts }],
  };
}

class Accounts {
  readonly bench: Bench;
  #minutes = 0;

  constructor(bench: Bench) {
    this.bench = bench;
  }

  /** Reads a balance five minutes after the last. */
  async read(said: Omit<Said, 'atMs'>, { isOwn = true, afterMinutes = 5 } = {}) {
    this.#minutes += afterMinutes;
    const atMs = NOON_MS + this.#minutes * MINUTE_MS;
    this.bench.nowMs = atMs;
    return this.bench.ledger.recordPoll(reading({ ...said, atMs }), { isOwn });
  }

  sums(where: Record<string, string> = {}) {
    const { ledger } = this.bench;
    return [total(ledger, TOLL.balanceSpent, where) / USD, total(ledger, TOLL.balanceTopup, where) / USD];
  }
}

const RELOAD_20: Reload = { currency: 'USD', amountNano: 20 * USD, triggerNano: 5 * USD, isEnabled: true };

describe('what a change of balance says', () => {
  const cases: [string, number, number, Reload | undefined, [number, number, boolean]][] = [
    ['nothing', 10, 10, undefined, [0, 0, false]],
    ['a fall', 10, 8, undefined, [2, 0, false]],
    ['a fall below zero', 1, -0.5, undefined, [1.5, 0, false]],
    ['a rise of unknown make', 8, 20, undefined, [0, 12, true]],
    ['a rise by the reload', 5, 22, RELOAD_20, [3, 20, false]],
    ['the reload to the cent', 5, 25, RELOAD_20, [0, 20, false]],
    ['more than a reload can leave', 5, 30, RELOAD_20, [0, 25, true]],
    ['a rise while the reload is off', 5, 22, { ...RELOAD_20, isEnabled: false }, [0, 17, true]],
    ['the amount alone is known', 5, 45, { currency: 'USD', amountNano: 20 * USD }, [0, 40, false]],
    ['two reloads in one interval', 4, 24.5, { currency: 'USD', amountNano: 10 * USD }, [9.5, 30, false]],
    ['an amount of nothing', 5, 22, { currency: 'USD', amountNano: 0 }, [0, 17, true]],
  ];
  for (const [name, before, after, reload, [spent, topup, isMixed]] of cases) {
    test(name, () => {
      const movement = movementOf(before * USD, after * USD, reload);
      assert.deepEqual(movement, { spent: spent * USD, topup: topup * USD, isMixed });
    });
  }

  test('top-up less what was spent is always the change, and neither is ever negative', () => {
    const nano = fc.integer({ min: -1e15, max: 1e15 });
    const amount = fc.integer({ min: 1, max: 1e12 });
    fc.assert(
      fc.property(nano, nano, amount, fc.boolean(), (before, after, amountNano, isEnabled) => {
        const { spent, topup } = movementOf(before, after, { currency: 'USD', amountNano, isEnabled });
        assert.equal(topup - spent, after - before);
        assert.ok(spent >= 0 && topup >= 0 && Number.isSafeInteger(spent) && Number.isSafeInteger(topup));
      }),
    );
  });
});

describe('the balance book', () => {
  for (const restarts of [false, true]) {
    test(`10 → 8 → 20 → 19: 3 spent, 12 topped up${restarts ? ', over a restart at each step' : ''}`, async (t) => {
      const accounts = new Accounts(new Bench(t));
      const steps: [number, number, number][] = [
        [10, 0, 0],
        [8, 2, 0],
        [20, 2, 12],
        [19, 3, 12],
      ];
      for (const [usd, spent, topup] of steps) {
        await accounts.read({ usd });
        if (restarts) accounts.bench.reopen();
        assert.deepEqual(accounts.sums(), [spent, topup], `after ${usd}`);
      }
    });
  }

  test('with a known reload of 20: 5 → 22 is 20 topped up and 3 spent', async (t) => {
    const accounts = new Accounts(new Bench(t));
    await accounts.read({ usd: 5, reload: RELOAD_20 });
    await accounts.read({ usd: 22, reload: RELOAD_20 });
    assert.deepEqual(accounts.sums(), [3, 20]);
  });

  test('both counters are born at 0 with the first reading', async (t) => {
    const accounts = new Accounts(new Bench(t));
    await accounts.read({ usd: 7 });
    const labels = { provider: 'opencode', account: 'work', kind: 'console', currency: 'USD' };
    for (const { name } of [TOLL.balanceSpent, TOLL.balanceTopup]) {
      assert.deepEqual([...accounts.bench.ledger.counters(name)], [{ labels, value: 0 }]);
    }
  });

  test('accounts, kinds and currencies are kept apart', async (t) => {
    const accounts = new Accounts(new Bench(t));
    const each: Omit<Said, 'atMs'>[] = [{}, { account: 'home' }, { kind: 'credit' }, { currency: 'EUR' }];
    for (const said of each) await accounts.read({ usd: 10, ...said });
    for (const [index, said] of each.entries()) await accounts.read({ usd: 9 - index, ...said });
    assert.deepEqual(accounts.sums({ account: 'work', kind: 'console', currency: 'USD' }), [1, 0]);
    assert.deepEqual(accounts.sums({ account: 'home' }), [2, 0]);
    assert.deepEqual(accounts.sums({ kind: 'credit' }), [3, 0]);
    assert.deepEqual(accounts.sums({ currency: 'EUR' }), [4, 0]);
  });

  test('a reading that is not newer says nothing, however often it comes', async (t) => {
    const accounts = new Accounts(new Bench(t));
    await accounts.read({ usd: 10 });
    await accounts.read({ usd: 8 });
    await accounts.read({ usd: 8 }, { afterMinutes: 0 });
    await accounts.read({ usd: 3 }, { afterMinutes: -2 });
    assert.deepEqual(accounts.sums(), [2, 0]);
  });

  test('another owner’s balance starts anew: the difference was neither spent nor topped up', async (t) => {
    const accounts = new Accounts(new Bench(t));
    await accounts.read({ usd: 100, owner: 'a' });
    await accounts.read({ usd: 90, owner: 'a' });
    await accounts.read({ usd: 5, owner: 'b' });
    await accounts.read({ usd: 4, owner: 'b' });
    await accounts.read({ usd: 3 });
    assert.deepEqual(accounts.sums(), [12, 0], 'an unknown owner is taken for the same');
    await accounts.read({ usd: 500, owner: 'c' });
    assert.deepEqual(accounts.sums(), [12, 0], 'and the last known one is remembered');
  });

  test('a reported balance counts by when it was read, and not at all while our own polls tell it', async (t) => {
    const accounts = new Accounts(new Bench(t));
    const theirs = { isOwn: false };
    await accounts.read({ usd: 10 }, theirs);
    await accounts.read({ usd: 8 }, theirs);
    assert.deepEqual(accounts.sums(), [2, 0]);
    await accounts.read({ usd: 7 });
    await accounts.read({ usd: 1 }, theirs);
    assert.deepEqual(accounts.sums(), [3, 0], 'ours is 7, and believed');
    await accounts.read({ usd: 6 }, { ...theirs, afterMinutes: 30 });
    assert.deepEqual(accounts.sums(), [4, 0], 'ours has expired');
  });

  test('what would pass an exact integer is refused whole, and harms nothing', async (t) => {
    const accounts = new Accounts(new Bench(t));
    const types: string[] = [];
    for (let n = 0; n < 6; n += 1) {
      const { outcome } = await accounts.read({ usd: n % 2 === 0 ? -4_000_000 : 4_000_000 });
      types.push(outcome.type === 'rejected' ? outcome.reason : outcome.type);
    }
    assert.deepEqual(types, ['recorded', 'updated', 'updated', 'overflow', 'updated', 'overflow']);
    assert.equal((await accounts.read({ usd: 1, account: 'home' })).outcome.type, 'recorded');
  });

  test('a failed commit takes the movement back', async (t) => {
    const accounts = new Accounts(new Bench(t));
    await accounts.read({ usd: 10 });
    const { bench } = accounts;
    const before = growing(bench.ledger);
    const broken = { ...reading({ usd: 4, atMs: NOON_MS + HOUR_MS }), account: undefined as unknown as string };
    bench.nowMs = NOON_MS + HOUR_MS;
    await assert.rejects(bench.ledger.recordPoll(broken, { isOwn: true }));
    assert.deepEqual(growing(bench.ledger), before);
    await accounts.read({ usd: 9 });
    assert.deepEqual(accounts.sums(), [1, 0]);
  });
});

describe('a balance beside its turns', () => {
  const paid = (usd: number, atMs: number, more: object = {}) =>
    turn({
      ...{ provider: 'opencode', account: 'work', phase: 'completed', messageId: `m${atMs}`, costNano: usd * NANO },
      ...{ startedMs: atMs - 1000, completedMs: atMs },
      ...more,
    });
  const compared = ({ bench }: Accounts, account = 'work') => {
    const sums = bench.ledger.balanceComparison('opencode', account, 'today');
    return sums && [sums.fell / USD, sums.observed / USD, sums.unattributed / USD];
  };
  /** A moment within the interval that the next reading closes. */
  const soon = (bench: Bench) => bench.nowMs + MINUTE_MS;

  test('compares what fell with what turns cost, over the same intervals', async (t) => {
    const accounts = new Accounts(new Bench(t));
    const { bench } = accounts;
    assert.equal(compared(accounts), undefined);
    await accounts.read({ usd: 10 });
    assert.equal(compared(accounts), undefined, 'one reading shows no change');
    await bench.submit(paid(1.5, soon(bench)), paid(7, soon(bench), { messageId: 'other', account: 'home' }));
    await accounts.read({ usd: 8 });
    assert.deepEqual(compared(accounts), [2, 1.5, 0]);
    await bench.submit(paid(0.25, soon(bench), { account: undefined }));
    await accounts.read({ usd: 8 });
    assert.deepEqual(compared(accounts), [2, 1.5, 0.25]);
    bench.reopen();
    assert.deepEqual(compared(accounts), [2, 1.5, 0.25]);
    const other = bench.ledger.balanceComparison('openai', 'work', 'today');
    assert.equal(other, undefined);
  });

  test('the same money told as two kinds is compared once, as it was told last', async (t) => {
    const accounts = new Accounts(new Bench(t));
    const { bench } = accounts;
    for (const [usd, kind] of [
      [10, 'credit'],
      [10, 'console'],
      [8, 'credit'],
      [7, 'console'],
    ] as const) {
      await bench.submit(paid(1, soon(bench), { messageId: `${kind}${usd}` }));
      await accounts.read({ usd, kind });
    }
    assert.deepEqual(compared(accounts), [3, 2, 0]);
  });

  test('leaves a mixed interval out of both sides, and no more', async (t) => {
    const accounts = new Accounts(new Bench(t));
    const { bench } = accounts;
    await accounts.read({ usd: 10 });
    await bench.submit(paid(2, soon(bench)));
    await accounts.read({ usd: 8 });
    await bench.submit(paid(3, soon(bench)));
    await accounts.read({ usd: 20 });
    await bench.submit(paid(1, soon(bench)));
    await accounts.read({ usd: 19 });
    assert.deepEqual(compared(accounts), [3, 3, 0]);
    assert.deepEqual(accounts.sums(), [3, 12]);
  });

  test('a reload that is known is no mixed interval: what was spent in it counts', async (t) => {
    const accounts = new Accounts(new Bench(t));
    await accounts.read({ usd: 5, reload: RELOAD_20 });
    await accounts.bench.submit(paid(3, soon(accounts.bench)));
    await accounts.read({ usd: 22, reload: RELOAD_20 });
    assert.deepEqual(compared(accounts), [3, 3, 0]);
  });

  test('a turn that comes late, grows or is taken back moves the interval that it belongs to', async (t) => {
    const accounts = new Accounts(new Bench(t));
    const { bench } = accounts;
    await accounts.read({ usd: 10 });
    const atMs = soon(bench);
    await accounts.read({ usd: 8 });
    await accounts.read({ usd: 8 });
    await bench.submit(paid(2, atMs, { eventId: 'evt_1' }));
    assert.deepEqual(compared(accounts), [2, 2, 0]);
    await bench.submit(paid(1.75, atMs, { eventId: 'evt_2' }));
    assert.deepEqual(compared(accounts), [2, 1.75, 0]);
    await bench.submit(paid(9, bench.nowMs - 2 * HOUR_MS));
    assert.deepEqual(compared(accounts), [2, 1.75, 0], 'from before the first reading');
    bench.reopen();
    await bench.submit(paid(0.5, atMs + 1, { messageId: 'late' }));
    assert.deepEqual(compared(accounts), [2, 2.25, 0]);
  });

  test('windows hold the intervals that lie within them', async (t) => {
    const accounts = new Accounts(new Bench(t));
    const { bench } = accounts;
    const fell = (window: 'today' | '7d' | '30d') => {
      const sums = bench.ledger.balanceComparison('opencode', 'work', window);
      return sums && sums.fell / USD;
    };
    await accounts.read({ usd: 100 });
    await accounts.read({ usd: 99 });
    await accounts.read({ usd: 97 }, { afterMinutes: 24 * 60 });
    await accounts.read({ usd: 93 });
    assert.deepEqual([fell('today'), fell('7d'), fell('30d')], [4, 7, 7]);
    await accounts.read({ usd: 85 }, { afterMinutes: 8 * 24 * 60 });
    await accounts.read({ usd: 69 });
    assert.deepEqual([fell('today'), fell('7d'), fell('30d')], [16, 16, 31]);
    await bench.ledger.sweep();
    assert.equal(fell('30d'), 31);
    bench.nowMs += 40 * 24 * HOUR_MS;
    await bench.ledger.sweep();
    assert.equal(fell('30d'), undefined);
    assert.deepEqual(accounts.sums(), [31, 0], 'counters stay');
  });
});
