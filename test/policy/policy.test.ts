import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseConfig } from '../../src/config.ts';
import type { Standing } from '../../src/ledger/reading.ts';
import { Policy, type Question } from '../../src/policy/policy.ts';

const NOW_MS = Date.UTC(2026, 10, 27, 12);
const END_MS = Date.parse('2026-11-30T23:00:00Z');
const USD = 1e9;
const LABELS = { agent: 'opencode', provider: 'openai', upstream_provider: 'openai', model: 'gpt-5', team: 'red' };

function budgetAt(spentUsd: number, said: Partial<Standing> = {}): Standing {
  const limit = 100 * USD;
  return {
    ...{ kind: 'budget', name: 'b', unit: 'usd', limit, spent: spentUsd * USD },
    ...{ startMs: NOW_MS - 26 * 86_400_000, endMs: END_MS, dearest: USD / 10, ...said },
  };
}

function verdictOf(config: object, standings: Standing[], asked: Partial<Question> = {}) {
  const rules = parseConfig(config);
  const policy = new Policy({ rules, timeZone: 'Europe/Berlin', standings: () => standings, now: () => NOW_MS });
  return policy.decide({ labels: LABELS, isPriced: () => true, ...asked });
}

const budget = (said: object = {}) => ({ name: 'b', limit_usd: 100, period: 'month', ...said });

describe('budgets', () => {
  const CASES: [spent: number, said: object, decision: string, step: number | undefined, ttlS: number][] = [
    [0, {}, 'allow', undefined, 10],
    [49.99, {}, 'allow', undefined, 10],
    [50, {}, 'warn', 0.5, 10],
    [80, {}, 'warn', 0.8, 10],
    [99.999999999, {}, 'warn', 0.95, 10],
    [100, {}, 'warn', 1, 10],
    [100, { hard: true }, 'stop', undefined, 10],
    [130, { hard: true }, 'stop', undefined, 10],
    [99.999999999, { hard: true }, 'warn', 0.95, 0],
    [97.999, { hard: true }, 'warn', 0.95, 10],
    [98.001, { hard: true }, 'warn', 0.95, 0],
    [60, { warn_at: [] }, 'allow', undefined, 10],
    [100, { hard: true, scope: { team: 'blue' } }, 'allow', undefined, 10],
    [100, { hard: true, scope: { team: 'red', model: 'gpt-*' } }, 'stop', undefined, 10],
  ];
  for (const [spent, said, decision, step, ttlS] of CASES) {
    test(`${spent} of 100 USD spent, ${JSON.stringify(said)}: ${decision}, kept for ${ttlS} s`, () => {
      const verdict = verdictOf({ budgets: [budget(said)] }, [budgetAt(spent)]);
      assert.deepEqual([verdict.decision, verdict.deciding?.step, verdict.ttlS], [decision, step, ttlS]);
    });
  }

  test('a stop says which budget, how much, until when, and whom to ask', () => {
    const config = { budgets: [budget({ hard: true })], verdict: { contact: '#platform' } };
    assert.equal(
      verdictOf(config, [budgetAt(100.129)]).deciding?.message,
      'Budget b is used up: 100.12 of 100.00 USD. It resets on 1 December 2026 at 00:00 (Europe/Berlin). Questions: #platform',
    );
    const own = { budgets: [budget({ hard: true, message: 'Write to Ana.' })] };
    assert.match(verdictOf(own, [budgetAt(100)]).deciding?.message ?? '', /Write to Ana\.$/);
  });

  test('no answer outlives its period', () => {
    const config = { budgets: [budget({ hard: true })] };
    for (const [leftMs, ttlS] of [
      [3900, 3],
      [900, 0],
    ] as const) {
      assert.equal(verdictOf(config, [budgetAt(100, { endMs: NOW_MS + leftMs })]).ttlS, ttlS);
    }
  });

  test('without a turn in the last hour a fifth of the limit is near', () => {
    const ttlS = (spent: number) => {
      const { dearest: _, ...standing } = budgetAt(spent);
      return verdictOf({ budgets: [budget({ hard: true })] }, [standing]).ttlS;
    };
    assert.deepEqual([ttlS(79.9), ttlS(80.1)], [10, 0]);
  });

  test('of several the strictest counts, then the one that stops for longest, then the one nearest to its limit', () => {
    const standings = [
      budgetAt(100, { name: 'soon', endMs: NOW_MS + 5000 }),
      budgetAt(100, { name: 'late' }),
      budgetAt(99, { name: 'near' }),
      budgetAt(85, { name: 'far' }),
    ];
    const named = (...names: [string, boolean][]) => ({
      budgets: names.map(([name, hard]) => budget({ name, hard })),
    });
    const rule = (config: object) => verdictOf(config, standings).deciding?.rule;
    assert.equal(rule(named(['soon', true], ['late', true], ['near', true])), 'budget/late');
    assert.equal(rule(named(['soon', true], ['late', false], ['near', true])), 'budget/soon');
    assert.equal(rule(named(['far', true], ['near', true])), 'budget/near');
  });

  test('a stop that lets prompts finish hides none that does not', () => {
    const soonMs = NOW_MS + 5000;
    const finishing = { budgets: [budget({ hard: true, in_flight: 'finish' })] };
    const capped = { ...finishing, caps: [{ name: 'c', limit_turns: 10, per: 'minute' }] };
    const cap = budgetAt(0, { kind: 'cap', name: 'c', unit: 'turns', limit: 10, spent: 10, endMs: soonMs });
    const day = budgetAt(100, { name: 'day', endMs: soonMs });
    const said = (config: object, ...standings: Standing[]) => {
      const { deciding } = verdictOf(config, [budgetAt(100), ...standings]);
      return [deciding?.rule, deciding?.inFlight];
    };
    assert.deepEqual(said(finishing), ['budget/b', 'finish'], 'control');
    assert.deepEqual(said(capped, cap), ['cap/c', 'stop']);
    const both = { budgets: [...finishing.budgets, budget({ name: 'day', hard: true })] };
    assert.deepEqual(said(both, day), ['budget/day', 'stop']);
  });

  test('a step is reached by the very turn that makes up its share, and reads as that share', () => {
    for (let percent = 1; percent < 100; percent++) {
      const config = { budgets: [budget({ limit_usd: undefined, limit_turns: 100, warn_at: [percent / 100] })] };
      const at = (spent: number) => [budgetAt(0, { unit: 'turns', limit: 100, spent })];
      const { decision, deciding } = verdictOf(config, at(percent));
      assert.equal(decision, 'warn', `${percent} of 100`);
      assert.match(deciding?.message ?? '', new RegExp(`: ${percent} % is used, ${percent} of 100 turns`));
      assert.equal(verdictOf(config, at(percent - 1)).decision, 'allow');
    }
  });
});

describe('caps', () => {
  const config = { caps: [{ name: 'c', limit_turns: 10, per: 'minute' }] };
  const capAt = (spent: number): Standing =>
    budgetAt(0, { kind: 'cap', name: 'c', unit: 'turns', limit: 10, spent, dearest: 1, endMs: NOW_MS + 6500 });

  test('stop when they are reached, and say for how long', () => {
    const { decision, deciding, ttlS } = verdictOf(config, [capAt(10)]);
    assert.deepEqual([decision, ttlS], ['stop', 1]);
    assert.match(deciding?.message ?? '', /^Cap c is reached: 10 of 10 turns in the last minute\. Try again in 7 s\./);
    assert.equal(verdictOf(config, [capAt(9)]).decision, 'allow');
  });
});

describe('guardrails', () => {
  const CASES: [what: string, rule: object, asked: Partial<Question>, decision: string][] = [
    ['a denied model', { models: { deny: 'gpt-5' } }, {}, 'stop'],
    ['another model', { models: { deny: 'gpt-5-*' } }, {}, 'allow'],
    ['a model on the list', { models: { allow: ['claude-*', 'gpt-*'] } }, {}, 'allow'],
    ['a model not on the list', { models: { allow: 'claude-*' } }, {}, 'stop'],
    ['allowed and denied', { models: { allow: 'gpt-*', deny: 'gpt-5' } }, {}, 'stop'],
    ['an alias of a denied model', { models: { deny: 'opus-*' } }, { calledModel: 'opus-4' }, 'stop'],
    ['an alias of a model not on the list', { models: { allow: 'gpt-*' } }, { calledModel: 'opus-4' }, 'stop'],
    ['an alias of a model on the list', { models: { allow: 'opus-*' } }, { calledModel: 'opus-4' }, 'allow'],
    ['a denied alias', { models: { deny: 'gpt-5' } }, { calledModel: 'opus-4' }, 'stop'],
    ['a denied provider', { providers: { deny: 'openai' } }, {}, 'stop'],
    ['another team', { scope: { team: 'blue' }, providers: { deny: 'openai' } }, {}, 'allow'],
    ['no price', { unpriced: 'deny' }, { isPriced: () => false }, 'stop'],
    ['a price', { unpriced: 'deny' }, {}, 'allow'],
    ['a denied tool', { tools: { deny: 'bash' } }, { tool: 'bash' }, 'stop'],
    ['another tool', { tools: { deny: 'bash' } }, { tool: 'read' }, 'allow'],
    ['a turn, where tools are meant', { tools: { deny: '*' } }, {}, 'allow'],
    ['a tool, where models are meant', { models: { deny: '*' } }, { tool: 'bash' }, 'allow'],
  ];
  for (const [what, rule, asked, decision] of CASES) {
    test(`${what}: ${decision}`, () => {
      const verdict = verdictOf({ guardrails: [{ name: 'g', ...rule }] }, [], asked);
      assert.equal(verdict.decision, decision);
      assert.equal(verdict.deciding?.message !== undefined, decision === 'stop');
    });
  }

  test('a tool is not asked about money', () => {
    const config = { budgets: [budget({ hard: true })] };
    assert.equal(verdictOf(config, [budgetAt(100)], { tool: 'bash' }).decision, 'allow');
  });
});

test('without a rule everything is allowed, and says no rule', () => {
  assert.deepEqual(verdictOf({}, []), { decision: 'allow', opinions: [], ttlS: 10 });
});
