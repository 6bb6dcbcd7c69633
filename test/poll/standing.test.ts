import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Facts, Quota, Reload, SpendLimit } from '../../src/poll/poll-result.ts';
import { standingOf } from '../../src/poll/standing.ts';

const USD = 1e9;
const quota = (usedRatio: number | undefined, more: Partial<Quota> = {}): Facts => ({
  quotas: [{ quota: 'go', window: '5h', unit: 'percent', ...(usedRatio === undefined ? {} : { usedRatio }), ...more }],
});
const limit = (limitUsd: number | undefined, usedUsd: number | undefined, more: Partial<SpendLimit> = {}): Facts => ({
  spendLimits: [
    {
      ...{ limit: 'monthly', currency: 'USD' },
      ...(limitUsd === undefined ? {} : { limitNano: limitUsd * USD }),
      ...(usedUsd === undefined ? {} : { usedNano: usedUsd * USD }),
      ...more,
    },
  ],
});
const balance = (usd: number, reload: Partial<Reload>, currency = 'USD'): Facts => ({
  balances: [{ kind: 'console', currency, nano: usd * USD }],
  reload: { currency: 'USD', triggerNano: 5 * USD, ...reload },
});

test('the worst that anything shows', () => {
  const cases: [string, Facts[], string][] = [
    ['nothing known', [], 'ok'],
    ['a share below', [quota(0.799)], 'ok'],
    ['a share at 0.8', [quota(0.8)], 'near_limit'],
    ['a share at 1', [quota(1)], 'limited'],
    ['no share', [quota(undefined)], 'ok'],
    ['said to be used up', [quota(0.97, { isExhausted: true })], 'limited'],
    ['a rate limit', [quota(1, { isRateLimit: true })], 'ok'],
    ['a rate limit that is used up', [quota(1, { isRateLimit: true, isExhausted: true })], 'ok'],
    ['a limit below', [limit(50, 39.99)], 'ok'],
    ['a limit at 80 %', [limit(50, 40)], 'near_limit'],
    ['a limit reached', [limit(50, 50)], 'limited'],
    ['a limit of nothing', [limit(0, 0)], 'limited'],
    ['a limit whose use is unknown', [limit(50, undefined)], 'ok'],
    ['use without a limit', [limit(undefined, 50)], 'ok'],
    ['credits bought for ever', [limit(110, 110, { isLifetime: true })], 'ok'],
    ['a balance below the trigger, reload off', [balance(4.99, { isEnabled: false })], 'near_limit'],
    ['a balance at the trigger', [balance(5, { isEnabled: false })], 'ok'],
    ['a balance below, reload on', [balance(1, { isEnabled: true })], 'ok'],
    ['a balance below, reload failing', [balance(1, { isEnabled: true, isFailing: true })], 'near_limit'],
    ['a balance below, reload unknown', [balance(1, {})], 'ok'],
    ['another currency', [balance(1, { isEnabled: false }, 'EUR')], 'ok'],
    ['two routes, one worse', [quota(0.1), limit(50, 60)], 'limited'],
    [
      'balance and reload of two routes',
      [{ balances: balance(1, {}).balances! }, { reload: balance(0, { isEnabled: false }).reload! }],
      'near_limit',
    ],
  ];
  for (const [name, facts, expected] of cases) assert.equal(standingOf(facts), expected, name);
});
