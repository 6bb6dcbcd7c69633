// What the words of OpenUsage's snapshots are taken for.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BALANCES, RULES, unitOf, windowOf } from '../../src/poll/openusage-families.ts';
import { decodeSnapshot } from '../../src/turn/usage-snapshot.ts';

test('every key that a rule names gets as far as the rules, and no other', () => {
  const isLetIn = (key: string): boolean => {
    const metrics = { [key]: { used: 1, unit: '', window: '' } };
    const stated = { provider_id: 'a', account_id: 'a', timestamp: '2026-11-21T11:00:00Z', status: 'OK', metrics };
    const decoded = decodeSnapshot(stated, {});
    return decoded.type === 'poll' ? Object.hasOwn(decoded.poll.snapshot.metrics, key) : assert.fail(decoded.type);
  };
  for (const { key } of BALANCES) assert.ok(isLetIn(key), key);
  for (const { key } of RULES) fc.assert(fc.property(fc.stringMatching(key), isLetIn), { numRuns: 300 });
  for (const key of ['client_ada_requests', 'ada', 'total_ada', 'model_ada_requests', 'toString', '__proto__', 'a.b']) {
    assert.ok(!isLetIn(key), key);
  }
});

test('windows and units of every spelling', () => {
  const windows: Readonly<Record<string, readonly string[]>> = {
    '1m': ['1m'],
    '1h': ['1h'],
    '5h': ['5h', 'current 5h block', 'rolling-5h'],
    '1d': ['1d', '24h', 'today', 'Today', 'since midnight'],
    '3d': ['3d'],
    '7d': ['7d', '1w', '7d-opus', 'rolling 7 days'],
    '30d': ['30d'],
    month: ['month', '1mo'],
    cycle: ['billing-cycle', 'current_period'],
    all: ['lifetime', 'all-time estimate'],
    current: ['account', 'per-request', '', 'anything else'],
  };
  for (const [window, spellings] of Object.entries(windows)) {
    for (const stated of spellings) assert.equal(windowOf(stated), window, stated);
  }
  const units: [string, object][] = [
    ['%', { unit: 'percent', times: 1 }],
    ['USD', { unit: 'usd', times: 1, currency: 'USD' }],
    ['EUR', { unit: 'eur', times: 1, currency: 'EUR' }],
    ['CNY', { unit: 'cny', times: 1, currency: 'CNY' }],
    ['usd', { unit: 'units', times: 1 }],
    ['USD/hour', { unit: 'usd_per_hour', times: 1 }],
    ['h', { unit: 'seconds', times: 3600 }],
    ['ms', { unit: 'seconds', times: 0.001 }],
    ['requests', { unit: 'requests', times: 1 }],
    ['', { unit: 'units', times: 1 }],
    ['__proto__', { unit: 'units', times: 1 }],
    ['furlongs', { unit: 'units', times: 1 }],
  ];
  for (const [stated, unit] of units) assert.deepEqual(unitOf(stated), unit, stated);
});
