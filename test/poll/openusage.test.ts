// One composed snapshot for each provider that OpenUsage knows, and what becomes of it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { readSnapshot, type SnapshotReceipt } from '../../src/poll/openusage.ts';
import type { Facts, Quota } from '../../src/poll/poll-result.ts';
import type { UsageSnapshot } from '../../src/turn/decoded.ts';
import { TILE_IDS } from '../../src/turn/tiles.ts';
import { decodeSnapshot } from '../../src/turn/usage-snapshot.ts';

const FIXTURES = new URL('../fixtures/openusage/', import.meta.url);
const USD = 1e9;
const TAKEN_MS = Date.UTC(2026, 10, 21, 11, 0, 0, 250);
const RECEIPT = { receivedMs: TAKEN_MS + 30_000, intervalMs: 100_000 };
const WINDOWS = ['1m', '1h', '5h', '1d', '3d', '7d', '30d', 'month', 'cycle', 'current', 'all'];
const UNITS = [
  ...[
    'requests',
    'tokens',
    'messages',
    'calls',
    'sessions',
    'credits',
    'models',
    'keys',
    'grants',
    'members',
    'owners',
  ],
  ...[
    'users',
    'seats',
    'lines',
    'files',
    'queries',
    'units',
    'chats',
    'tasks',
    'threads',
    'bytes',
    'servers',
    'percent',
  ],
  ...['projects', 'conversations', 'seconds', 'usd', 'eur', 'cny', 'usd_per_hour', 'credits_per_hour'],
];

type Stated = Record<string, unknown> & { provider_id: string };
const tiles = JSON.parse(readFileSync(new URL('tiles.json', FIXTURES), 'utf8')) as Stated[];

function decoded(stated: unknown): UsageSnapshot {
  const item = decodeSnapshot(stated, {});
  assert.equal(item.type, 'poll', JSON.stringify(item));
  return item.type === 'poll' ? item.poll.snapshot : assert.fail();
}

function read(stated: unknown, receipt: SnapshotReceipt = RECEIPT) {
  const { result, unitCorrections } = readSnapshot(decoded(stated), receipt);
  return { result, unitCorrections, facts: result.readings[0]!.facts };
}
const tile = (provider: string) => tiles.find(({ provider_id }) => provider_id === provider)!;
const withMetrics = (provider: string, metrics: object, more: object = {}) => ({
  ...{ provider_id: provider, account_id: 'a', timestamp: TAKEN_MS, status: 'OK', metrics, ...more },
});

const percent = (quota: string, window: string, used: number, more: Partial<Quota> = {}) => ({
  ...{ quota, window, unit: 'percent', limit: 100, used, remaining: 100 - used, usedRatio: used / 100, ...more },
});
const rate = (quota: string, window: string, unit: string, limit: number, remaining: number) => ({
  ...{ quota, window, unit, limit, remaining, usedRatio: Number(((limit - remaining) / limit).toPrecision(12)) },
  isRateLimit: true as const,
});
const RATES = [rate('rpm', '1m', 'requests', 500, 480), rate('tpm', '1m', 'tokens', 30_000, 29_000)];
const at = (text: string) => Date.parse(text);
const lived = (input: number, output: number, more: Record<string, number> = {}) =>
  Object.entries({ input, output, ...more }).map(([tokenType, tokens]) => ({ window: 'all', tokenType, tokens }));
const cost = (window: string, usd: number) => ({ window, currency: 'USD', nano: usd * USD });
const CACHE = { cache_read: 500_000, cache_write: 4000 };

/** What is to be found among the facts of each tile. A list holds at least these, in any order. */
const EXPECTED: Readonly<Record<string, Partial<Facts> & { status?: string; corrections?: number }>> = {
  openai: { quotas: [{ ...RATES[0]!, resetMs: at('2026-11-21T12:01:00Z') }, RATES[1]!] },
  anthropic: { quotas: RATES },
  azure_openai: { quotas: RATES },
  groq: { quotas: [rate('rpd', '1d', 'requests', 14_400, 14_000), rate('tpd', '1d', 'tokens', 500_000, 400_000)] },
  mistral: {
    balances: [{ kind: 'credit', currency: 'EUR', nano: 42.75 * USD }],
    spendLimits: [{ limit: 'monthly', currency: 'EUR', limitNano: 100 * USD, usedNano: 12.5 * USD }],
    reportedTokens: [{ window: 'month', tokenType: 'input', tokens: 1000 }],
  },
  deepseek: {
    balances: [{ kind: 'total', currency: 'CNY', nano: 110.5 * USD }],
    reportedValues: [{ metric: 'granted_balance', field: 'remaining', unit: 'cny', window: 'current', value: 10.5 }],
  },
  xai: { balances: [{ kind: 'credit', currency: 'USD', nano: 19.75 * USD }] },
  gemini_api: { modelsAvailable: 41 },
  openrouter: {
    balances: [{ kind: 'credit', currency: 'USD', nano: 22.5 * USD }],
    spendLimits: [{ limit: 'credit', currency: 'USD', limitNano: 110 * USD, usedNano: 87.5 * USD, isLifetime: true }],
    reportedCosts: [cost('1d', 1.25), cost('7d', 6), cost('30d', 20), { ...cost('30d', 4.5), model: 'openai/gpt-5.1' }],
    reportedValues: [
      { metric: 'burn_rate', field: 'used', unit: 'usd_per_hour', window: '1h', value: 0.4 },
      { metric: 'today_avg_latency', field: 'used', unit: 'seconds', window: '1d', value: 0.85 },
    ],
  },
  perplexity: {
    balances: [{ kind: 'available', currency: 'USD', nano: 18.4 * USD }],
    reload: { currency: 'USD', triggerNano: 5 * USD, amountNano: 20 * USD },
    reportedCosts: [cost('all', 81.6)],
  },
  moonshot: {
    balances: [{ kind: 'available', currency: 'CNY', nano: 149.5 * USD }],
    quotas: [{ quota: 'concurrency', window: 'current', unit: 'requests', limit: 100, isRateLimit: true }],
  },
  zai: {
    balances: [{ kind: 'credit', currency: 'USD', nano: 12 * USD }],
    spendLimits: [{ limit: 'spend', currency: 'USD', limitNano: 50 * USD, usedNano: 10 * USD }],
    quotas: [percent('usage', '5h', 35, { resetMs: at('2026-11-21T15:42:00Z') })],
    plan: { name: 'glm_coding_plan_pro' },
  },
  alibaba_cloud: {
    spendLimits: [{ limit: 'spend', currency: 'USD', limitNano: 300 * USD }],
    reportedCosts: [cost('1d', 1), cost('30d', 20)],
    quotas: [{ quota: 'model_qwen_max', window: 'cycle', unit: 'units', limit: 1000, used: 120, usedRatio: 0.12 }],
  },
  opencode: {
    ...{ status: 'near_limit', corrections: 3, modelsAvailable: 41, plan: { isSubscribed: true } },
    balances: [{ kind: 'console', currency: 'USD', nano: 12.34 * USD }],
    spendLimits: [{ limit: 'monthly', currency: 'USD', limitNano: 50 * USD, usedNano: 42.5 * USD }],
    reload: { currency: 'USD', triggerNano: 5 * USD, amountNano: 20 * USD },
  },
  claude_code: {
    quotas: [
      percent('usage', '5h', 22, { resetMs: at('2026-11-21T15:42:00Z') }),
      percent('usage', '7d', 61, { resetMs: at('2026-11-24T09:00:00Z') }),
      ...[percent('usage_sonnet', '7d', 44), percent('usage_opus', '7d', 5)],
    ],
    reportedCosts: [cost('1d', 3.5), cost('5h', 1.5), cost('7d', 30), cost('all', 900)],
    plan: { name: 'Max 20x', isSubscribed: true },
  },
  codex: {
    status: 'near_limit',
    quotas: [
      percent('primary', '5h', 91, { resetMs: at('2026-11-21T14:00:00Z') }),
      percent('code_review_primary', '5h', 0),
      { quota: 'credits', window: 'cycle', unit: 'credits', limit: 1000, used: 250, remaining: 750, usedRatio: 0.25 },
    ],
    reportedValues: [
      { metric: 'codex_credit_runout_hours', field: 'used', unit: 'seconds', window: 'cycle', value: 900_000 },
    ],
  },
  cursor: {
    status: 'near_limit',
    spendLimits: [
      { limit: 'plan', currency: 'USD', limitNano: 20 * USD, usedNano: 17 * USD },
      { limit: 'team', currency: 'USD', limitNano: 500 * USD, usedNano: 200 * USD },
      { limit: 'individual', currency: 'USD', usedNano: 12 * USD },
    ],
    reportedCosts: [cost('1d', 2), cost('cycle', 30)],
  },
  copilot: {
    status: 'near_limit',
    quotas: [
      { quota: 'chat', window: 'month', unit: 'messages', limit: 300, remaining: 60, usedRatio: 0.8 },
      rate('gh_search', '1h', 'requests', 30, 30),
    ],
    plan: { name: 'business' },
  },
  gemini_cli: {
    status: 'near_limit',
    quotas: [percent('pro', '1d', 80, { resetMs: at('2026-11-22T08:00:00Z') }), percent('flash', '1d', 3)],
  },
  ollama: {
    quotas: [percent('usage', '7d', 12, { resetMs: at('2026-11-24T00:00:00Z'), remaining: undefined as never })],
    reportedValues: [{ metric: 'loaded_vram_bytes', field: 'used', unit: 'bytes', window: 'current', value: 8e9 }],
  },
  amp: {
    reportedCosts: [cost('1d', 0.5), cost('all', 12.5)],
    reportedTokens: lived(60_000, 30_000, { cache_read: 7 }),
  },
  goose: { reportedCosts: [cost('all', 12.5)], reportedTokens: lived(60_000, 30_000, { reasoning: 8000 }) },
  hermes: { reportedCosts: [cost('all', 12.5)], reportedTokens: lived(60_000, 30_000, CACHE) },
  mux: { reportedCosts: [cost('all', 12.5)], reportedTokens: lived(60_000, 30_000, CACHE) },
  droid: { reportedTokens: lived(60_000, 30_000, { ...CACHE, reasoning: 8000 }) },
  crush: { reportedCosts: [cost('all', 12.5)] },
  roocode: { reportedCosts: [cost('1d', 0.25), cost('all', 12.5)] },
  kilo_code: { reportedCosts: [cost('all', 12.5)] },
  kiro_cli: { reportedTokens: lived(60_000, 30_000) },
  zed: { reportedTokens: lived(60_000, 30_000, CACHE) },
  codebuff: { reportedTokens: lived(60_000, 30_000, CACHE) },
  kimi_cli: { reportedTokens: lived(60_000, 30_000, CACHE) },
  openclaw: { reportedCosts: [cost('all', 12.5)], reportedTokens: lived(60_000, 30_000, CACHE) },
  pi: { reportedCosts: [cost('all', 12.5)], reportedTokens: lived(60_000, 30_000, CACHE) },
  qwen_cli: {
    reportedCosts: [cost('all', 12.5)],
    reportedTokens: lived(60_000, 30_000, { reasoning: 7, cache_read: 7 }),
  },
};

const sorted = (value: object) =>
  JSON.stringify(Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))));

describe('one tile for each provider', () => {
  test('there is a snapshot and an expectation for every tile', () => {
    assert.deepEqual(tiles.map(({ provider_id }) => provider_id).sort(), TILE_IDS.toSorted());
    assert.deepEqual(Object.keys(EXPECTED).sort(), TILE_IDS.toSorted());
  });

  for (const [provider, { status = 'ok', corrections = 0, ...expected }] of Object.entries(EXPECTED)) {
    test(provider, () => {
      const { result, facts, unitCorrections } = read(tile(provider));
      assert.deepEqual([result.provider, result.status, unitCorrections], [provider, status, corrections]);
      for (const [fact, wanted] of Object.entries(expected)) {
        const found = facts[fact as keyof Facts];
        if (!Array.isArray(wanted)) assert.deepEqual(found, wanted, fact);
        else {
          const texts = new Set((found as object[]).map(sorted));
          for (const each of wanted)
            assert.ok(texts.has(sorted(each)), `${fact} lacks ${sorted(each)}: ${[...texts].join('\n')}`);
        }
      }
    });
  }

  test('every window and unit is one of a closed set, and no label set comes twice', () => {
    for (const stated of tiles) {
      const { facts } = read(stated);
      const { quotas = [], reportedCosts = [], reportedTokens = [], reportedValues = [], balances = [] } = facts;
      for (const { window } of [...quotas, ...reportedCosts, ...reportedTokens, ...reportedValues]) {
        assert.ok(WINDOWS.includes(window), `${stated.provider_id}: ${window}`);
      }
      for (const { unit } of [...quotas, ...reportedValues])
        assert.ok(UNITS.includes(unit), `${stated.provider_id}: ${unit}`);
      const labels = [
        ...balances.map(({ kind, currency }) => ['balance', kind, currency]),
        ...quotas.map(({ quota, window, unit }) => ['quota', quota, window, unit]),
        ...quotas.flatMap(({ quota, window, usedRatio }) =>
          usedRatio === undefined ? [] : [['ratio', quota, window]],
        ),
        ...reportedCosts.map(({ window, currency, model }) => ['cost', window, currency, model]),
        ...reportedTokens.map(({ window, tokenType, model }) => ['tokens', window, tokenType, model]),
        ...reportedValues.map(({ metric, field, unit, window }) => ['value', metric, field, unit, window]),
      ].map((each) => JSON.stringify(each));
      assert.equal(new Set(labels).size, labels.length, stated.provider_id);
      assert.ok(balances.length <= 1, 'balances of an account can be added up');
    }
  });
});

describe('readings', () => {
  test('the sample of a push: balance 12.5, limit 20 corrected, 7.5 used; a key that is missing', () => {
    const { snapshots } = JSON.parse(readFileSync(new URL('hub-push.json', FIXTURES), 'utf8')) as {
      snapshots: Stated[];
    };
    const receipt = { receivedMs: Date.UTC(2026, 1, 22, 10), intervalMs: 100_000, machine: 'dev-1' };
    const { result, facts, unitCorrections } = read(snapshots[0], receipt);
    assert.deepEqual(facts, {
      balances: [{ kind: 'console', currency: 'USD', nano: 12.5 * USD }],
      spendLimits: [{ limit: 'monthly', currency: 'USD', limitNano: 20 * USD, usedNano: 7.5 * USD }],
    });
    assert.equal(7.5 / 20, 0.375);
    assert.deepEqual(
      [unitCorrections, result.machine, result.authScope, result.status],
      [1, 'dev-1', 'zen+console', 'ok'],
    );
    const missing = read(snapshots[1], receipt);
    assert.deepEqual([missing.result.status, missing.facts, missing.unitCorrections], ['auth_required', {}, 0]);
  });

  test('a limit in the right unit, and those of other providers, are left alone', () => {
    const limit = (provider: string, value: number) => {
      const metrics = { monthly_limit: { limit: value, unit: 'USD', window: 'month' } };
      const { facts, unitCorrections } = read(withMetrics(provider, metrics));
      return [facts.spendLimits?.[0]?.limitNano, unitCorrections];
    };
    assert.deepEqual(limit('opencode', 20), [20 * USD, 0]);
    assert.deepEqual(limit('opencode', 0), [0, 0]);
    assert.deepEqual(limit('opencode', 1e-4), [1e5, 0]);
    assert.deepEqual(limit('opencode', 5e-7), [50 * USD, 1]);
    assert.deepEqual(limit('mistral', 2e-7), [200, 0]);
  });

  test('what remains of a limit in the wrong unit is not believed', () => {
    const metrics = { monthly_limit: { limit: 2e-7, remaining: -7.4999998, unit: 'USD', window: 'month' } };
    const limit = { limit: 'monthly', currency: 'USD', limitNano: 20 * USD };
    const alone = read(withMetrics('opencode', metrics));
    assert.deepEqual([alone.facts.spendLimits, alone.result.status], [[limit], 'ok']);
    const monthly_usage = { used: 7.5, unit: 'USD', window: 'month' };
    const { facts } = read(withMetrics('opencode', { ...metrics, monthly_usage }));
    assert.deepEqual(facts.spendLimits, [{ ...limit, usedNano: 7.5 * USD }]);
  });

  test('a highest balance ever seen is no limit, and no share is told of it', () => {
    const { facts } = read(tile('moonshot'));
    assert.equal(facts.spendLimits, undefined);
    // Nor is what is missing from it anything that was spent: it begins anew with every top-up.
    const told = facts.reportedValues?.filter(({ unit }) => unit === 'cny').map(({ metric, field }) => [metric, field]);
    assert.deepEqual(told, [
      ['cash_balance', 'remaining'],
      ['voucher_balance', 'remaining'],
    ]);
  });

  test('one percent is one percent, and what was not stated is absent', () => {
    const { facts } = read(withMetrics('claude_code', { usage_five_hour: { used: 1, unit: '%', window: '5h' } }));
    assert.deepEqual(facts, { quotas: [{ quota: 'usage', window: '5h', unit: 'percent', used: 1, usedRatio: 0.01 }] });
    const nothing = { usage_five_hour: { unit: '%', window: '5h' }, credits: { unit: 'USD', window: 'current' } };
    assert.deepEqual(read(withMetrics('xai', nothing)).facts, {});
    const odd = { usage_five_hour: { used: '7', limit: null, remaining: Number.NaN, unit: '%', window: '5h' } };
    assert.deepEqual(read(withMetrics('xai', odd)).facts, {});
    const huge = { credit_balance: { used: 1e305, unit: 'h' } };
    assert.deepEqual(read(withMetrics('opencode', huge)).facts, {}, 'too large for a number');
  });

  test('two keys that mean the same money are told once, the one named first', () => {
    const usd = (used: number) => ({ used, unit: 'USD', window: '1d' });
    const { facts } = read(withMetrics('zai', { today_cost: usd(2), usage_daily: usd(3), today_api_cost: usd(1) }));
    assert.deepEqual(facts.reportedCosts, [cost('1d', 1)]);
  });

  test('a limit is no cost, and less than none no count of tokens', () => {
    const metrics = {
      today_cost: { limit: 5, unit: 'USD', window: '1d' },
      total_spend: { limit: 7, unit: 'USD', window: 'lifetime' },
      total_input_tokens: { used: -5, unit: 'tokens', window: 'all-time' },
    };
    assert.deepEqual(read(withMetrics('perplexity', metrics)).facts, {});
  });

  test('tokens are of the window that is stated, whatever the key says, and of the key’s where none is', () => {
    const cases: [string, string, string][] = [
      ['today_input_tokens', '30d', '30d'],
      ['today_input_tokens', 'all', 'all'],
      ['today_input_tokens', 'since midnight', '1d'],
      ['today_input_tokens', '', '1d'],
      ['7d_input_tokens', '3d', '3d'],
      ['total_input_tokens', 'account', 'all'],
      ['session_input_tokens', 'session', 'current'],
    ];
    for (const [key, stated, window] of cases) {
      const { facts } = read(withMetrics('claude_code', { [key]: { used: 5, unit: 'tokens', window: stated } }));
      assert.deepEqual(facts.reportedTokens, [{ window, tokenType: 'input', tokens: 5 }], `${key} ${stated}`);
    }
  });

  test('names of projects, clients, tools, servers and models become no labels', () => {
    const keys = ['project_x_requests', 'client_x_requests', 'tool_x', 'mcp_x_total', 'lang_x', 'source_x_requests'];
    const more = ['interface_x', 'model_x_requests', 'provider_x_cost_usd', 'upstream_x_requests', 'org_x_seats'];
    const metrics = Object.fromEntries(
      [...keys, ...more].map((key) => [key, { used: 1, unit: 'requests', window: '7d' }]),
    );
    assert.deepEqual(read(withMetrics('claude_code', metrics)).facts, {});
  });

  test('models beyond fifty are told together', () => {
    const model_usage = Array.from({ length: 60 }, (_, n) => ({
      ...{ raw_model_id: `m-${n}`, window: '7d', input_tokens: 1, cost_usd: n + 1 },
    }));
    const { facts } = read(withMetrics('openrouter', {}, { model_usage }));
    const costs = facts.reportedCosts ?? [];
    assert.equal(costs.length, 51);
    assert.equal(
      costs.reduce((sum, { nano }) => sum + nano, 0),
      1830 * USD,
    );
    assert.equal(costs.find(({ model }) => model === 'other')?.nano, 55 * USD);
  });

  test('the state is raised by the numbers, and never lowered', () => {
    const usage = (used: number) => ({ usage_five_hour: { used, limit: 100, unit: '%', window: '5h' } });
    const cases: [string, number, string][] = [
      ['OK', 79, 'ok'],
      ['OK', 80, 'near_limit'],
      ['NEAR_LIMIT', 10, 'near_limit'],
      ['NEAR_LIMIT', 100, 'limited'],
      ['LIMITED', 1, 'limited'],
      ['ERROR', 100, 'error'],
      ['AUTH_REQUIRED', 100, 'auth_required'],
      ['UNKNOWN', 100, 'unknown'],
    ];
    for (const [status, used, expected] of cases) {
      assert.equal(read({ ...withMetrics('zai', usage(used)), status }).result.status, expected, `${status} ${used}`);
    }
  });

  test('lives by when it came, as long as it is not old itself', () => {
    const life = (ageMs: number) => {
      const { result } = read(tile('openai'), { receivedMs: TAKEN_MS + ageMs, intervalMs: 100_000 });
      return [result.readings[0]!.readMs - TAKEN_MS, result.statusHoldsMs];
    };
    assert.deepEqual(life(0), [0, 300_000]);
    assert.deepEqual(life(480_000), [480_000, 780_000]);
    assert.deepEqual(life(86_400_000), [86_400_000, 86_700_000]);
    assert.deepEqual(life(86_400_001), [0, 300_000]);
    assert.deepEqual(life(-60_000), [-60_000, 300_000]);
    const aYearLater = { receivedMs: TAKEN_MS + 3.2e10, sentMs: TAKEN_MS + 9000, intervalMs: 100_000 };
    const { result } = read(tile('openai'), aYearLater);
    assert.equal(result.readings[0]!.readMs, aYearLater.receivedMs, 'the sender’s own clock tells how old it was');
  });
});
