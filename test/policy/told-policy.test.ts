import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseConfig } from '../../src/config.ts';
import { figuresIn, figuresText } from '../../src/policy/shared-standings.ts';
import { holdSameRules, policyIn, policyText, standingsOf } from '../../src/policy/told-policy.ts';

const SETTINGS = {
  ...{ state_dir: '/CANARY/state', time_zone: 'Europe/Berlin', metrics: { token_env: 'CANARY_TOKEN' } },
  verdict: { fail: 'closed', contact: 'Ana' },
  budgets: [
    { name: 'month', scope: { team: ['core', 'web-*'] }, limit_usd: 0.1, period: 'month', hard: true },
    { name: 'sprint', limit_tokens: 5, period: '14d', anchor: '2026-01-05', in_flight: 'finish', message: 'Wait.' },
    { name: 'week', limit_turns: 9, period: 'week', week_start: 'sunday', warn_at: [0.9] },
  ],
  caps: [{ name: 'slow', limit_turns: 3, per: 'hour' }],
  guardrails: [{ name: 'tools', tools: { allow: ['read', 'g*'] }, unpriced: 'deny' }],
  gateways: { portkey: { 'claude-*': 'anthropic', '*': 'openai' }, house: 'mistral' },
  pricing: [{ model: 'x-*', state: 'estimated', usd_per_million_tokens: { input: 0.1, output: 2 } }],
  labels: { project: 'off' },
};
const accounts = [{ provider: 'portkey', id: 'paid', apiKeyFile: '/CANARY/key', foundIn: 'CANARY' }];
const config = parseConfig(SETTINGS);
const text = policyText({ ...config, accounts });

describe('the rules as they are told', () => {
  test('all that a verdict is made of arrives, and nothing else leaves', () => {
    const { budgets, caps, guardrails, verdict, gateways, pricing, time_zone } = config;
    assert.deepEqual(policyIn(text), {
      ...{ v: 1, time_zone, budgets, caps, guardrails, verdict, gateways, pricing, project: 'off' },
      accounts: [{ provider: 'portkey', id: 'paid' }],
    });
    assert.doesNotMatch(text, /CANARY/);
  });

  const stated = JSON.parse(text);
  const changed = (more: object) => JSON.stringify({ ...stated, ...more });
  const bad: readonly [what: string, text: string][] = [
    ['no JSON', '{'],
    ['another version', changed({ v: 2 })],
    ['no rules', changed({ budgets: 'none' })],
    ['a key of a rule that is not known here', changed({ budgets: [{ ...stated.budgets[0], except: 'ada' }] })],
    ['a scope that is not known here', changed({ guardrails: [{ ...stated.guardrails[0], scope: { city: 'Rome' } }] })],
    ['a time zone that is none', changed({ time_zone: 'Mars/Olympus' })],
    ['a price that is not known here', changed({ pricing: [{ ...stated.pricing[0], per_image: 1 }] })],
  ];
  for (const [what, each] of bad) test(`${what} is not judged by`, () => assert.equal(policyIn(each), undefined));
  test('control: what a later version says beside the rules does no harm', () => {
    assert.deepEqual(policyIn(changed({ more: 1 })), policyIn(text));
  });

  test('rules are told from other rules, and accounts are no rules', () => {
    assert.ok(holdSameRules(text, policyText({ ...config, accounts: [] })));
    const others = [
      { ...SETTINGS, time_zone: 'UTC' },
      { ...SETTINGS, guardrails: [] },
      { ...SETTINGS, verdict: {} },
    ];
    for (const other of others) assert.ok(!holdSameRules(text, policyText({ ...parseConfig(other), accounts })));
  });
});

describe('where budgets stand by what was told', () => {
  const NOW_MS = Date.UTC(2026, 10, 27, 12);
  const standing = {
    kind: 'budget',
    name: 'month',
    unit: 'usd',
    limit: 1e8,
    spent: 5,
    startMs: NOW_MS,
    endMs: NOW_MS + 9,
  } as const;
  const policy = policyIn(text)!;
  const at = (nowMs: number, more: object = {}) =>
    standingsOf(policy, { figures: figuresIn(figuresText([{ ...standing, ...more }]))!.budgets, nowMs });

  const cases: readonly [what: string, nowMs: number, more: object, count: number][] = [
    ['in its period', NOW_MS, {}, 1],
    ['at the end of it', NOW_MS + 8, {}, 1],
    ['after it', NOW_MS + 9, {}, 0],
    ['before it', NOW_MS - 1, {}, 0],
    ['for a budget of another name', NOW_MS, { name: 'year' }, 0],
    ['for a budget that counts something else now', NOW_MS, { unit: 'turns' }, 0],
    ['for a budget of other people now', NOW_MS, { rule: { ...policy.budgets[0], scope: { team: ['web-*'] } } }, 0],
    ['control: for the same people', NOW_MS, { rule: policy.budgets[0] }, 1],
  ];
  for (const [what, nowMs, more, count] of cases) {
    test(`${what}: ${count}`, () => assert.equal(at(nowMs, more).length, count));
  }
  test('the limit is that of the rule', () => assert.deepEqual(at(NOW_MS, { limit: 7 }), [standing]));
});
