import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Comparison } from '../../src/ledger/balance-book.ts';
import type { Window } from '../../src/ledger/reading.ts';
import { accountReport } from '../../src/metrics/account-report.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { driftOf } from '../../src/metrics/drift.ts';
import type { Facts, PollResult } from '../../src/poll/poll-result.ts';
import { CREATED_MS, producerOf, readingOfRoute } from './fixture.ts';

const USD = 1e9;
const balance = (currency = 'USD'): Facts => ({ balances: [{ kind: 'console', currency, nano: 10 * USD }] });
const account = (facts: readonly Facts[], provider = 'opencode'): PollResult => ({
  ...{ provider, account: 'work', takenMs: CREATED_MS, status: 'ok', statusHoldsMs: 1, message: 'fine' },
  readings: facts.map((each, index) => readingOfRoute(`r${index}`, 0, each)),
});
const comparing = (sums: Partial<Record<Window, Comparison>>) => ({
  balanceComparison: (_provider: string, _account: string, window: Window) => sums[window],
});
const sums = (fell: number, observed: number, unattributed = 0): Comparison => ({
  ...{ fell: fell * USD, observed: observed * USD, unattributed: unattributed * USD },
});

test('what the balance lost beyond its turns, by window, as an amount and as a share', () => {
  const reading = comparing({ today: sums(3, 2), '7d': sums(0, 0), '30d': sums(4, 5) });
  assert.deepEqual(driftOf(reading, account([balance()])), {
    windows: [
      { window: 'today', nano: 1 * USD, ratio: 1 / 3 },
      { window: '7d', nano: 0 },
      { window: '30d', nano: -1 * USD, ratio: -0.25 },
    ],
  });
});

test('where both sides are not about the same money it is absent, with the reason', () => {
  const all = comparing({ today: sums(3, 2), '7d': sums(3, 2), '30d': sums(3, 2) });
  const go = { plan: { name: 'go', isSubscribed: true } };
  const cases: [string, PollResult | undefined, string | undefined][] = [
    ['nothing known', undefined, 'no_balance'],
    ['no balance', account([]), 'no_balance'],
    ['euros', account([balance('EUR')]), 'currency'],
    ['a subscription', account([balance(), { plan: { name: 'black-20', isSubscribed: true } }]), 'subscription'],
    ['a subscription without a name', account([balance(), { plan: { isSubscribed: true } }]), 'subscription'],
    ['Go, whose turns have a provider of their own', account([balance(), go]), undefined],
    ['Go as the account itself', account([balance(), go], 'opencode-go'), 'subscription'],
    [
      'Go that draws on the balance',
      account([balance(), { plan: { ...go.plan, drawsOnBalance: true } }]),
      'subscription',
    ],
    ['pay as you go', account([balance(), { plan: { name: 'pay-as-you-go', isSubscribed: false } }]), undefined],
  ];
  for (const [name, result, gap] of cases) {
    const drift = driftOf(all, result);
    assert.deepEqual([drift.gap, drift.windows.length], [gap, gap ? 0 : 3], name);
  }
});

test('a window with turns that name no account, or without two readings, is left out alone', () => {
  const reading = comparing({ today: sums(3, 2), '7d': sums(3, 2, 0.01) });
  const { windows, gap } = driftOf(reading, account([balance()]));
  assert.deepEqual([windows.map(({ window }) => window), gap], [['today'], 'unattributed']);
  const young = driftOf(comparing({ today: sums(1, 1) }), account([balance()]));
  assert.deepEqual([young.windows.length, young.gap], [1, 'too_new']);
});

test('only accounts that turns are labelled with have a drift; people are told why there is none', async () => {
  const polls = [account([balance()]), { ...account([balance()]), account: 'reported' }];
  const hand = { polls, comparison: () => sums(3, 2) };
  const producer = producerOf(hand, [{ provider: 'opencode', id: 'work', foundIn: 'tollbridge.yaml' }]);
  const { resourceMetrics } = await producer.collect();
  const metrics = resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics);
  const points = metrics.find(({ descriptor }) => descriptor.name === TOLL.driftUsd.otelName)!.dataPoints;
  assert.deepEqual(
    points.map(({ attributes, value }) => [attributes.account, attributes.window, value]),
    [
      ['work', 'today', 1],
      ['work', '7d', 1],
      ['work', '30d', 1],
    ],
  );
  const reading = { pollResults: () => [polls[0]!], balanceComparison: () => sums(3, 2, 1) };
  const found = { provider: 'opencode', id: 'work', foundIn: 'tollbridge.yaml' };
  const [line] = accountReport(reading, [found]);
  assert.deepEqual(line?.drift, []);
  assert.match(line?.drift_gap ?? '', /do not say which account paid: set TOLLBRIDGE_ACCOUNT_ID/);
  assert.deepEqual(line?.balances, [{ kind: 'console', currency: 'USD', amount: 10 }]);
});

test('accounts that only others report are listed after our own', () => {
  const reading = { pollResults: () => [account([balance()], 'xai')], balanceComparison: () => undefined };
  const own = { provider: 'opencode', id: 'mine', foundIn: 'OPENCODE_API_KEY' };
  const lines = accountReport(reading, [own]);
  assert.deepEqual(
    lines.map(({ provider, account: id, found_in, status }) => [provider, id, found_in, status]),
    [
      ['opencode', 'mine', 'OPENCODE_API_KEY', 'unknown'],
      ['xai', 'work', 'another poller', 'ok'],
    ],
  );
});
