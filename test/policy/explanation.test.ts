// What is explained against what is answered: any rules, any question, whoever asks.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseConfig } from '../../src/config.ts';
import type { Scope } from '../../src/config-policy.ts';
import type { Standing } from '../../src/ledger/reading.ts';
import { createLog } from '../../src/log.ts';
import type { Explanation } from '../../src/policy/explanation.ts';
import type { VerdictAnswer } from '../../src/policy/verdict-desk.ts';
import { PolicySide } from '../../src/policy-side.ts';
import { Attribution } from '../../src/turn/attribution.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import { isInScope } from '../../src/turn/scope.ts';

const DECISIONS = ['allow', 'warn', 'stop'];
const name = fc.constantFrom('red', 'blue', 'gpt-5', 'gpt-5-mini', 'openai', 'house');
const glob = fc.oneof(name, fc.constantFrom('*', 'g*', 'r*d'));
const globs = fc.oneof(glob, fc.array(glob, { minLength: 1, maxLength: 3 }));
const label = fc.constantFrom('team', 'user', 'project', 'agent', 'provider', 'upstream_provider', 'model', 'account');
const scope = fc.dictionary(label, globs, { maxKeys: 1 });
const denied = fc.array(fc.constantFrom('gpt-5', 'h*', 'bash', 'web*'), { minLength: 1, maxLength: 2 });
const allowed = fc.array(glob, { minLength: 1, maxLength: 2 });
// No pattern in both lists, which would be a mistake.
const list = fc.oneof(fc.record({ allow: allowed }), fc.record({ deny: denied }));
const guardrail = fc.oneof(
  fc.record({ scope, models: list }),
  fc.record({ scope, tools: list, unpriced: fc.constantFrom('allow', 'deny') }),
  fc.record({ scope, providers: list, tools: list }),
);
const limited = { scope, limit_turns: fc.integer({ min: 1, max: 24 }) };
const budget = fc.record({
  ...{ ...limited, hard: fc.boolean(), in_flight: fc.constantFrom('stop', 'finish') },
  period: fc.constantFrom('day', 'month'),
});
const cap = fc.record({ ...limited, per: fc.constantFrom('minute', 'hour') });
const named = <T extends object>(rule: fc.Arbitrary<T>, letter: string) =>
  fc.array(rule, { maxLength: 3 }).map((rules) => rules.map((each, at) => ({ ...each, name: `${letter}${at}` })));
const config = fc
  .record({
    ...{ guardrails: named(guardrail, 'g'), budgets: named(budget, 'b'), caps: named(cap, 'c') },
  })
  .map(parseConfig);
/** Of the machine that judges, which may be told rules by one that shows projects otherwise. */
const shownProject = fc.constantFrom('name' as const, 'hash' as const, 'off' as const);
const question = fc.record(
  {
    ...{ agent: fc.constantFrom('opencode', 'red'), provider: fc.constantFrom('openai', 'House', 'portkey') },
    ...{ model: fc.constantFrom('gpt-5', 'gpt-5-mini', 'claude'), called_model: fc.constantFrom('gpt-5', 'x') },
    ...{ upstream_provider: name, project: name, account_id: fc.constantFrom('red', ' Blue ') },
    ...{ tool: fc.constantFrom('bash', 'webfetch', undefined, undefined), priced: fc.boolean() },
  },
  { requiredKeys: ['agent', 'provider', 'model'] },
);
const identity = fc.record({ team: name, user: name, project: name }, { requiredKeys: [] });
const spending = fc.infiniteStream(fc.nat(12));

test('an explanation says what is answered, and of every rule why', (t) => {
  const seen = new Map<string, number>();
  const property = fc.property(
    config,
    shownProject,
    question,
    identity,
    spending,
    (rules, project, asked, whose, spent) => {
      const pricing = new Pricing(rules.pricing);
      const accounts = [{ provider: 'openai', id: 'red' }];
      const nowMs = Date.now();
      const standings: Standing[] = [
        ...rules.budgets.map((rule) => ({ kind: 'budget' as const, rule })),
        ...rules.caps.map((rule) => ({ kind: 'cap' as const, rule })),
      ].map(({ kind, rule }, at) => ({
        ...{ kind, name: rule.name, unit: 'turns', limit: rule.limit_turns!, spent: spent.next().value },
        ...{ startMs: nowMs - 60_000, endMs: nowMs + 100_000 * (at + 1) },
      }));
      const side = new PolicySide({
        ...{ rules, project, pricing, timeZone: 'UTC', standings: () => standings, identity: {} },
        attribution: new Attribution({ ...rules, pricing, accounts, project }),
        ...{
          pricingStates: () => [],
          seenLabels: () => undefined,
          countPolicy: async () => {},
          log: createLog('silent'),
        },
      });
      const answer = side.answer(asked, whose).body as VerdictAnswer;
      const explanation = side.explain(asked, whose).body as Explanation;
      const said = ({ decision, rule, ttl_s }: VerdictAnswer | Explanation) => [decision, rule, ttl_s];
      assert.deepEqual(said(explanation), said(answer));

      const { took_part, had_no_part, labels } = explanation;
      const scopes = new Map<string, Scope>(
        (['guardrail', 'budget', 'cap'] as const).flatMap((kind) =>
          rules[`${kind}s`].map((rule) => [`${kind}/${rule.name}`, rule.scope] as const),
        ),
      );
      assert.deepEqual([...took_part, ...had_no_part].map(({ rule }) => rule).sort(), [...scopes.keys()].sort());
      for (const { rule } of took_part) assert.ok(isInScope(scopes.get(rule)!, labels), rule);
      for (const { rule, why } of had_no_part)
        assert.equal(why.startsWith('its scope is'), !isInScope(scopes.get(rule)!, labels), `${rule}: ${why}`);
      const strictest = Math.max(0, ...took_part.map(({ decision }) => DECISIONS.indexOf(decision)));
      assert.equal(answer.decision, DECISIONS[strictest]);
      const stops = took_part.filter(({ decision }) => decision === 'stop');
      const mayFinish = stops.length > 0 && stops.every(({ in_flight }) => in_flight === 'finish');
      assert.equal(answer.in_flight === 'finish', mayFinish);
      seen.set(answer.decision, (seen.get(answer.decision) ?? 0) + 1);
    },
  );
  fc.assert(property, { numRuns: 1000 });
  t.diagnostic(JSON.stringify([...seen]));
  assert.ok(
    DECISIONS.every((decision) => seen.get(decision)! > 20),
    'control: all three were answered',
  );
});
