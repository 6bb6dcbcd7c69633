import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readSnapshot } from '../../src/poll/openusage.ts';
import { decodeSnapshot, snapshotRecord } from '../../src/turn/usage-snapshot.ts';

const TAKEN = '2026-02-22T09:59:58.123+01:00';
const stated = (more: object = {}) => ({
  ...{ provider_id: 'OpenCode', account_id: 'work', timestamp: TAKEN, status: 'OK', metrics: {}, ...more },
});
const snapshotOf = (more: object) => {
  const decoded = decodeSnapshot(stated(more), {});
  assert.equal(decoded.type, 'poll', JSON.stringify(decoded));
  return decoded.type === 'poll' ? decoded.poll.snapshot : assert.fail();
};

test('identity, time and state are read strictly', () => {
  const snapshot = snapshotOf({});
  assert.deepEqual(snapshot, {
    ...{ provider: 'opencode', account: 'work', takenMs: Date.parse(TAKEN), status: 'ok' },
    ...{ metrics: {}, resets: {}, attributes: {}, models: [] },
  });
  const accounts: [string, string][] = [
    ['work', 'work'],
    [' work ', 'work'],
    ['laptop:opencode:work', 'work'],
    ['laptop:claude_code:default', 'default'],
  ];
  for (const [account_id, expected] of accounts) assert.equal(snapshotOf({ account_id }).account, expected, account_id);
  const times: unknown[] = [
    Date.parse(TAKEN),
    '2026-02-22T08:59:58.123Z',
    Math.floor(Date.parse(TAKEN) / 1000) + 0.123,
  ];
  for (const timestamp of times) assert.equal(snapshotOf({ timestamp }).takenMs, Date.parse(TAKEN));
  for (const status of ['ok', 'Near_Limit', 'AUTH_REQUIRED']) {
    assert.equal(snapshotOf({ status }).status, status.toLowerCase());
  }
});

test('what cannot be a reading is rejected with its field and what was expected, and never quoted', () => {
  const cases: [string, object, string, RegExp][] = [
    ['no provider', { provider_id: '' }, 'missing_field', /^provider_id: missing/],
    ['no account', { account_id: undefined }, 'missing_field', /^account_id: missing/],
    ['an e-mail', { account_id: 'CANARY@example.com' }, 'out_of_range', /^account_id: expected the id/],
    ['a path', { account_id: '/home/CANARY' }, 'out_of_range', /^account_id/],
    ['a key', { account_id: 'sk-CANARY' }, 'out_of_range', /^account_id/],
    ['a prefix of no provider', { account_id: 'a: :CANARY' }, 'out_of_range', /^account_id/],
    ['a provider that is a key', { provider_id: 'sk-CANARY1' }, 'out_of_range', /^provider_id/],
    ['no time', { timestamp: null }, 'missing_field', /^timestamp: missing/],
    ['the zero time', { timestamp: '0001-01-01T00:00:00Z' }, 'out_of_range', /^timestamp: expected a time/],
    ['no such time', { timestamp: 'CANARY' }, 'wrong_type', /^timestamp/],
    ['a state that is none', { status: 'CANARY' }, 'out_of_range', /^status: expected one of OK, NEAR_LIMIT/],
    ['a number for a state', { status: 5, metrics: { a: { used: 1 } } }, 'wrong_type', /^status/],
  ];
  for (const [name, more, reason, detail] of cases) {
    const decoded = decodeSnapshot(stated(more), {});
    assert.equal(decoded.type, 'rejected', name);
    if (decoded.type !== 'rejected') continue;
    assert.equal(decoded.reason, reason, name);
    assert.match(decoded.detail, detail, name);
    assert.doesNotMatch(decoded.detail, /CANARY/, name);
  }
  for (const nothing of [null, [], 'x', 5]) assert.equal(decodeSnapshot(nothing, {}).type, 'rejected');
});

test('a template says "not ready", whatever else is odd about it; with a metric, or a state, it is a reading', () => {
  const templates = [
    { status: 'UNKNOWN' },
    { status: '' },
    { status: null, metrics: null },
    { status: 'unknown', timestamp: '0001-01-01T00:00:00Z' },
    { status: undefined, metrics: {} },
  ];
  for (const more of templates) {
    assert.deepEqual(decodeSnapshot(stated(more), {}), { type: 'ignored', kind: 'not_ready' }, JSON.stringify(more));
  }
  const metrics = { rpm: { limit: 1, unit: 'requests', window: '1m' } };
  assert.equal(decodeSnapshot(stated({ status: 'UNKNOWN', metrics }), {}).type, 'poll');
  assert.equal(decodeSnapshot(stated({ status: 'ERROR' }), {}).type, 'poll');
});

test('metrics, resets, attributes and models: what does not fit is left out, and harms nothing beside it', () => {
  const snapshot = snapshotOf({
    metrics: {
      Credit_Balance: { limit: 5, remaining: 0, used: -1.5, unit: 'USD', window: '7d' },
      credits: { limit: null, used: '7', remaining: true, unit: null, window: 5 },
      rpm: { used: 1, unit: 'a@b', window: '/home/ada' },
      tpm: { used: 1, unit: 'USD/h', window: 'home/ada' },
      quota_model_gemini_3_pro: { used: 1, unit: '%', window: '1d' },
      project_ada: { used: 1 },
      'not a key': { used: 1 },
      constructor: { used: 1 },
      rpd: [1],
      tpd: null,
    },
    resets: { credits: '2026-11-21T15:42:00Z', rpm_reset: 1790000000, rpd: 'never', tpd: '0001-01-01T00:00:00Z' },
    attributes: {
      plan: 'Max 20x',
      tier: 'a@b',
      plan_name: 'home/ada',
      email: 'ada@example.com',
      auth_scope: 'zen+console',
      subscription: 7,
    },
    model_usage: [
      { raw_model_id: 'openai/gpt-5.1', window: '30d', input_tokens: 5, cost_usd: 1.5, output_tokens: -1, requests: 9 },
      { raw_model_id: 'sk-EXAMPLE-key-1234' },
      ...[null, 5, {}],
    ],
  });
  assert.deepEqual(snapshot.metrics, {
    credit_balance: { limit: 5, remaining: 0, used: -1.5, unit: 'USD', window: '7d' },
    credits: { unit: '', window: '' },
    rpm: { used: 1, unit: '', window: '' },
    tpm: { used: 1, unit: 'USD/h', window: '' },
    quota_model_gemini_3_pro: { used: 1, unit: '%', window: '1d' },
  });
  assert.deepEqual(snapshot.resets, { credits: Date.parse('2026-11-21T15:42:00Z'), rpm_reset: 1790000000000 });
  assert.deepEqual(snapshot.attributes, { plan: 'Max 20x', auth_scope: 'zen+console' });
  assert.deepEqual(snapshot.models, [{ model: 'openai/gpt-5.1', window: '30d', input_tokens: 5, cost_usd: 1.5 }]);
});

test('of its texts, and of the names in its keys, nothing is kept', () => {
  const secret = 'CANARY7f3a9c';
  const key = ['sk', 'EXAMPLE', secret].join('-');
  const texts = { used: 1, unit: `${secret}@example.com`, window: `/home/${secret}` };
  const allowed = ['plan', 'plan_name', 'plan_type', 'subscription_plan', 'tier', 'subscription', 'auth_scope'];
  const prefixes = ['client', 'project', 'tool', 'mcp', 'lang', 'source', 'interface', 'provider', 'upstream', 'agent'];
  const names = [...prefixes, 'endpoint', 'org', 'model', 'total', 'usage'].flatMap((prefix) => [
    `${prefix}_${secret}`,
    `${prefix}_${secret}_requests_today`,
  ]);
  const decoded = decodeSnapshot(
    stated({
      ...{ message: secret, raw: { [secret]: secret }, diagnostics: { a_err: secret, [secret]: secret } },
      ...{ daily_series: { [secret]: [{ date: secret, value: 1 }] }, [secret]: secret },
      metrics: {
        ...Object.fromEntries([secret, ...names].map((name) => [name, texts])),
        console_balance: { remaining: 12.5, unit: 'USD', window: key, [secret]: secret },
        keys_total: texts,
      },
      resets: Object.fromEntries([secret, ...names].map((name) => [name, TAKEN])),
      attributes: {
        ...Object.fromEntries(allowed.map((name, n) => [name, [key, texts.unit, texts.window][n % 3]])),
        ...{ account_email: texts.unit, payment_method_last4: secret, [secret]: secret },
      },
      model_usage: [
        { raw_model_id: key, window: '7d', cost_usd: 1, raw_source: secret, dimensions: { client: secret } },
      ],
    }),
    {},
  );
  const snapshot = decoded.type === 'poll' ? decoded.poll.snapshot : assert.fail(decoded.type);
  assert.deepEqual(Object.keys(snapshot.metrics), ['console_balance', 'keys_total'], 'it was read at all');
  const { result } = readSnapshot(snapshot, { receivedMs: Date.parse(TAKEN), intervalMs: 1000 });
  for (const kept of [decoded, result, snapshotRecord(snapshot)]) {
    assert.doesNotMatch(JSON.stringify(kept), /canary|example/i);
  }
});

test('it can be written again as it is read', () => {
  const metrics = { console_balance: { remaining: 12.5, unit: 'USD', window: 'current' } };
  const snapshot = snapshotOf({ metrics, resets: { rpm: '2026-11-21T15:42:00Z' }, attributes: { tier: 'pro' } });
  const again = decodeSnapshot(JSON.parse(JSON.stringify(snapshotRecord(snapshot))), {});
  assert.deepEqual(again, { type: 'poll', poll: { snapshot } });
});

test('a status that cannot be made a text is refused like any other', () => {
  const status = JSON.parse('{"toString":0}');
  const decoded = decodeSnapshot(
    { provider_id: 'opencode', account_id: 'a', timestamp: TAKEN, status, metrics: {} },
    {},
  );
  assert.equal(decoded.type, 'rejected');
});

test('anything at all gives a reading with fitting labels, "not ready", or a rejection with a reason', () => {
  const mostly = <T>(usual: fc.Arbitrary<T>) =>
    fc.oneof({ weight: 9, arbitrary: usual as fc.Arbitrary<unknown> }, fc.anything());
  const metric = fc.record(
    { limit: fc.anything(), used: fc.double(), remaining: fc.anything(), unit: fc.string(), window: fc.string() },
    { requiredKeys: [] },
  );
  const keys = fc.constantFrom(
    'credit_balance',
    'usage_five_hour',
    'rpm',
    'total_cost_usd',
    'keys_total',
    'context_window',
    'x',
  );
  const anySnapshot = fc.record(
    {
      provider_id: mostly(fc.constantFrom('opencode', 'openrouter', 'moonshot')),
      account_id: mostly(fc.constant('a')),
      timestamp: mostly(fc.constant(TAKEN)),
      status: mostly(fc.constant('OK')),
      metrics: mostly(fc.dictionary(fc.oneof(keys, fc.string()), mostly(metric))),
      resets: fc.oneof(fc.dictionary(keys, fc.anything()), fc.anything()),
      attributes: fc.oneof(fc.dictionary(fc.constantFrom('plan', 'tier'), fc.anything()), fc.anything()),
      model_usage: fc.oneof(
        fc.array(fc.record({ raw_model_id: fc.string(), window: fc.string(), cost_usd: fc.double() })),
        fc.anything(),
      ),
    },
    { requiredKeys: ['provider_id', 'account_id', 'timestamp', 'status', 'metrics'] },
  );
  let readings = 0;
  fc.assert(
    fc.property(fc.oneof({ weight: 9, arbitrary: anySnapshot }, fc.anything()), (value) => {
      const decoded = decodeSnapshot(value, {});
      if (decoded.type === 'rejected') return assert.ok(decoded.reason && decoded.detail);
      if (decoded.type === 'ignored') return assert.equal(decoded.kind, 'not_ready');
      assert.equal(decoded.type, 'poll');
      if (decoded.type !== 'poll') return;
      readings += 1;
      const { result } = readSnapshot(decoded.poll.snapshot, { receivedMs: Date.now(), intervalMs: 1000 });
      const check = (of: unknown): void => {
        if (typeof of === 'string') assert.match(of, /^[^\p{Cc}\p{Cs}\p{Zl}\p{Zp}]{1,128}$/u);
        else if (typeof of === 'number') assert.ok(Number.isFinite(of));
        else if (typeof of === 'object' && of !== null) Object.values(of).forEach(check);
      };
      check(result.readings[0]!.facts);
    }),
    { numRuns: 500 },
  );
  assert.ok(readings > 20, 'the property was put to the test');
});
