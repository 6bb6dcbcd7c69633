import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { BudgetRule } from '../../src/config-policy.ts';
import type { Standing } from '../../src/ledger/reading.ts';
import { type Figure, figuresIn, figuresOf, figuresText, SharedStandings } from '../../src/policy/shared-standings.ts';

const DAY_MS = 86_400_000;
const START_MS = Date.UTC(2026, 10, 27);

const OWN = { partition: 1, replica: 'own', ledger: 'new' };
const ruled = (scope: BudgetRule['scope']) => ({ rule: { scope, period: 'day', hard: true, warn_at: [] } });

const budget = (spent: number, more: Partial<Standing> = {}): Standing => ({
  ...{ kind: 'budget', name: 'day', unit: 'usd', limit: 100, spent, startMs: START_MS, endMs: START_MS + DAY_MS },
  ...more,
});
const told = (spent: number, more: Partial<Standing> = {}) => figuresOf([budget(spent, more)]);

/** What a bridge of partition 1 knows: of its own ledger, and what was told, by partition and replica. */
function known(own: Standing, tellers: Record<string, readonly Figure[] | undefined>): Standing {
  const shared = new SharedStandings({ teller: OWN, own: () => [own] });
  for (const [who, figures] of Object.entries(tellers)) {
    const [partition, replica] = who.split('.');
    shared.hear({ partition: Number(partition), replica: replica! }, figures);
  }
  return shared.standings()[0]!;
}

describe('standings over partitions', () => {
  const cases: readonly [
    what: string,
    own: number,
    tellers: Record<string, readonly Figure[] | undefined>,
    spent: number,
  ][] = [
    ['nothing was told', 5, {}, 5],
    ['partitions are added', 5, { '2.a': told(7), '3.a': told(11) }, 23],
    [
      'of the replicas of another partition the highest counts',
      5,
      { '2.a': told(7), '2.b': told(9), '2.c': told(8) },
      14,
    ],
    ['what a replica of our own partition knows beyond us counts, and is not added', 5, { '1.b': told(6) }, 6],
    ['a replica of our own partition that is behind says nothing', 5, { '1.b': told(4) }, 5],
    ['what was withdrawn is gone', 5, { '2.a': undefined }, 5],
    ['yesterday is over', 5, { '2.a': told(7, { startMs: START_MS - DAY_MS, endMs: START_MS }) }, 5],
    [
      'who is already in tomorrow says nothing of today',
      5,
      { '2.a': told(7, { startMs: START_MS + DAY_MS, endMs: START_MS + 2 * DAY_MS }) },
      5,
    ],
    ['a period of another length is another period', 5, { '2.a': told(7, { endMs: START_MS + 7 * DAY_MS }) }, 5],
    ['another unit is another budget', 5, { '2.a': told(7, { unit: 'tokens' }) }, 5],
    ['another name is another budget', 5, { '2.a': told(7, { name: 'week' }) }, 5],
    ['what was taken back may be below zero', 5, { '2.a': told(-2) }, 3],
  ];
  for (const [what, own, tellers, spent] of cases) {
    test(what, () => assert.equal(known(budget(own), tellers).spent, spent));
  }

  test('what a bridge tells takes the place of what it told', () => {
    const shared = new SharedStandings({ teller: OWN, own: () => [budget(5)] });
    const spent = () => shared.standings()[0]!.spent;
    const seen: number[] = [];
    for (const figures of [told(7), told(9), told(8), undefined]) {
      shared.hear({ partition: 2, replica: 'a' }, figures);
      seen.push(spent());
    }
    assert.deepEqual(seen, [12, 14, 13, 5]);
  });

  test('who is the first in the next period takes nothing out of this one', () => {
    const tomorrow = { startMs: START_MS + DAY_MS, endMs: START_MS + 2 * DAY_MS };
    let now = budget(5);
    const shared = new SharedStandings({ teller: OWN, own: () => [now] });
    const spent = () => shared.standings()[0]!.spent;
    const hear = (figures: readonly Figure[]) => shared.hear({ partition: 2, replica: 'a' }, figures);
    hear(told(7));
    hear(told(0, tomorrow));
    hear(told(1, tomorrow));
    assert.equal(spent(), 12);
    now = budget(2, tomorrow);
    assert.equal(spent(), 3, 'and counts once we are there, too');
    hear(told(1, { startMs: START_MS + 2 * DAY_MS, endMs: START_MS + 3 * DAY_MS }));
    now = budget(5);
    assert.equal(spent(), 5, 'control: one former period is kept, and no more');
  });

  test('under another scope the same name is another budget', () => {
    const red = budget(5, ruled({ team: ['Red'], model: ['a', 'b'] }));
    const spent = (figures: readonly Figure[]) => known(red, { '1.b': figures, '2.a': figures }).spent;
    assert.equal(spent(told(7, ruled({}))), 5);
    assert.equal(spent(told(7, ruled({ team: ['red'] }))), 5);
    assert.equal(spent(told(7, ruled({ model: ['b', 'A'], team: ['red'] }))), 14, 'control: the same, in other words');
    assert.equal(spent(told(7)), 14, 'control: an earlier version told no scope');
  });

  test('what an earlier ledger of our replica told beyond ours counts, and is known to be lost', () => {
    const shared = new SharedStandings({ teller: OWN, own: () => [budget(5)] });
    const lost = () => [shared.lost(), shared.standings()[0]!.spent];
    shared.hear(OWN, told(9));
    assert.deepEqual(lost(), [[], 9], 'control: our own');
    shared.hear(OWN, told(5));
    shared.hear({ ...OWN, replica: 'own2', ledger: 'old' }, told(8));
    shared.hear({ ...OWN, partition: 2, ledger: 'old' }, told(8));
    shared.hear({ ...OWN, ledger: 'old' }, told(4));
    assert.deepEqual(lost(), [[], 16], 'control: others, and one that knew less');
    shared.hear({ ...OWN, ledger: 'older' }, told(9));
    assert.deepEqual(lost(), [['day'], 17]);
  });

  test('no sum is beyond what can be told', () => {
    const most = Number.MAX_SAFE_INTEGER;
    const sum = known(budget(5), { '2.a': told(most), '3.a': told(most) });
    assert.ok(figuresIn(figuresText([sum])));
  });

  test('the dearest turn is that of all partitions, and unknown where nobody knows one', () => {
    assert.equal(known(budget(5), { '2.a': told(7) }).dearest, undefined);
    assert.equal(known(budget(5), { '2.a': told(7, { dearest: 3 }) }).dearest, 3);
    assert.equal(known(budget(5, { dearest: 4 }), { '2.a': told(7, { dearest: 3 }) }).dearest, 4);
  });

  test('caps are of one bridge alone', () => {
    const cap = budget(5, { kind: 'cap' });
    assert.deepEqual(figuresOf([cap]), []);
    assert.deepEqual(known(cap, { '2.a': told(7) }), cap);
  });
});

describe('the text that carries figures', () => {
  test('it says what went into it', () => {
    const standings = [budget(5, { dearest: 2 }), budget(-1, { name: 'week', unit: 'turns' })];
    assert.deepEqual(figuresIn(figuresText(standings)), { v: 1, budgets: figuresOf(standings) });
    assert.equal(figuresIn(figuresText(standings, 'abc'))?.policy, 'abc');
  });

  const [good] = told(5);
  const bad: readonly [what: string, text: string][] = [
    ['no JSON', '{'],
    ['nothing', ''],
    ['another version', JSON.stringify({ v: 2, budgets: [good] })],
    ['a part of a cent', JSON.stringify({ v: 1, budgets: [{ ...good, spent: 1.5 }] })],
    ['more than a total holds', JSON.stringify({ v: 1, budgets: [{ ...good, spent: 2 ** 60 }] })],
    ['an unknown unit', JSON.stringify({ v: 1, budgets: [{ ...good, unit: 'eur' }] })],
    ['a time that no date holds', JSON.stringify({ v: 1, budgets: [{ ...good, end_ms: 9e15 }] })],
    ['no period', JSON.stringify({ v: 1, budgets: [{ ...good, end_ms: undefined }] })],
    ['a name that is none', JSON.stringify({ v: 1, budgets: [{ ...good, name: '/home/ada' }] })],
  ];
  for (const [what, text] of bad) test(`${what} is no such text`, () => assert.equal(figuresIn(text), undefined));
  test('control: the same without a mistake is one', () => {
    assert.deepEqual(figuresIn(JSON.stringify({ v: 1, budgets: [good], more: 'of a later version' }))?.budgets, [good]);
  });
});
