import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseConfig } from '../../src/config.ts';
import { policyNotes } from '../../src/policy/policy-notes.ts';

const notesOf = (rules: object, seen?: object[], project: 'name' | 'hash' | 'off' = 'name') =>
  policyNotes(parseConfig(rules), { seen, project });
const budget = (name: string, said: object = {}) => ({ name, limit_usd: 10, period: 'month', ...said });
const SEEN = [
  { team: 'red', model: 'gpt-5', project: '' },
  { team: 'blue', model: 'gpt-5-mini' },
  { team: 'other', model: 'o3' },
];
const NEVER = ['budget b can never be reached: budget a stops the same turns first.'];
const models = (one: object, two: object) => ({
  guardrails: [
    { name: 'g', models: one },
    { name: 'h', models: two },
  ],
});
const NOTHING_IN_COMMON = [
  'guardrails g and h leave no models in the scope of h, where both hold. Put them into one list.',
];
const DENIES_ALL = ['guardrail g denies everything in its scope: its models leave nothing to call.'];

describe('a rule that has matched nothing', () => {
  const CASES: [scope: object, seen: object[] | undefined, notes: string[]][] = [
    [{ team: 'rde' }, SEEN, ['budget b has matched no turn: nothing has the team rde. Did you mean blue, red?']],
    [{ team: 'RED' }, SEEN, []],
    [{ team: ['rde', 'bl*'] }, SEEN, []],
    [{ team: 'rde' }, undefined, []],
    [{ team: 'rde' }, [], []],
    [{ team: 'red', model: 'gpt-5-mini' }, SEEN, []],
    [
      { project: 'shop' },
      SEEN,
      ['budget b has matched no turn: nothing has the project shop. No turn has a project yet.'],
    ],
  ];
  for (const [scope, seen, notes] of CASES) {
    test(`${JSON.stringify(scope)} among ${seen?.length ?? 'unknown'} labels`, () => {
      assert.deepEqual(notesOf({ budgets: [budget('b', { scope })] }, seen), notes);
    });
  }

  test('names at most five, and looks at caps and guardrails, too', () => {
    const seen = Array.from({ length: 9 }, (_, at) => ({ model: `m${at}` }));
    const scope = { model: 'x' };
    const rules = {
      caps: [{ name: 'c', scope, limit_turns: 1, per: 'hour' }],
      guardrails: [{ name: 'g', scope, tools: { deny: 'bash' } }],
    };
    const end = 'has matched no turn: nothing has the model x. Did you mean m0, m1, m2, m3, m4?';
    assert.deepEqual(notesOf(rules, seen), [`cap c ${end}`, `guardrail g ${end}`]);
  });
});

describe('a scope of projects', () => {
  const begin = 'guardrail g holds for no turn: its scope names a project, and';
  const OFF = [`${begin} labels.project is off.`];
  const HASH = [`${begin} labels.project is hash. Name the 12 hex digits that the label shows.`];
  const CASES: [project: 'name' | 'hash' | 'off', patterns: string | string[], notes: string[]][] = [
    ['off', 'shop', OFF],
    ['off', '*', OFF],
    ['hash', 'shop', HASH],
    ['hash', ['shop', 'secret-*'], HASH],
    ['hash', 'abc', HASH],
    ['hash', '0123456789aB', []],
    ['hash', ['shop', '0123456789ab'], []],
    ['hash', '0*', []],
    ['hash', '*', []],
    ['name', 'shop', []],
  ];
  for (const [project, patterns, notes] of CASES) {
    test(`${JSON.stringify(patterns)} where labels.project is ${project}`, () => {
      const rules = { guardrails: [{ name: 'g', scope: { project: patterns }, tools: { deny: 'bash' } }] };
      assert.deepEqual(notesOf(rules, undefined, project), notes);
      const seen = [{ project: project === 'name' ? 'shop' : '0123456789ab' }];
      assert.deepEqual(notesOf(rules, seen, project), notes, 'and says it once');
    });
  }
});

describe('a budget that another one is in the way of', () => {
  const CASES: [name: string, a: object, b: object, notes: string[]][] = [
    ['a smaller and broader one', { hard: true, limit_usd: 5 }, { scope: { team: 'red' } }, NEVER],
    ['one of the same limit', { hard: true }, { scope: { team: 'red' } }, NEVER],
    ['its twin', { hard: true }, { hard: true }, NEVER],
    [
      'the same patterns in another order',
      { hard: true, scope: { team: ['x', 'Y'] } },
      { scope: { team: ['y', 'x'] } },
      NEVER,
    ],
    ['control: a larger one', { hard: true, limit_usd: 11 }, { scope: { team: 'red' } }, []],
    ['control: one that only warns', { limit_usd: 5 }, { scope: { team: 'red' } }, []],
    ['control: one of another period', { hard: true, period: 'week' }, { scope: { team: 'red' } }, []],
    ['control: one of another unit', { hard: true, limit_usd: undefined, limit_turns: 5 }, {}, []],
    ['control: one of another scope', { hard: true, scope: { team: 'blue' } }, { scope: { team: 'red' } }, []],
    ['control: a narrower one', { hard: true, scope: { team: 'red' } }, {}, []],
  ];
  for (const [name, a, b, notes] of CASES) {
    test(name, () => assert.deepEqual(notesOf({ budgets: [budget('a', a), budget('b', b)] }), notes));
  }
});

describe('guardrails', () => {
  const CASES: [name: string, rules: object, notes: string[]][] = [
    ['everything is denied', { guardrails: [{ name: 'g', models: { deny: '*' } }] }, DENIES_ALL],
    [
      'all that is allowed is denied',
      { guardrails: [{ name: 'g', models: { allow: 'gpt-5*', deny: 'GPT-*' } }] },
      DENIES_ALL,
    ],
    [
      'control: some of what is allowed is denied',
      { guardrails: [{ name: 'g', models: { allow: 'gpt-*', deny: 'gpt-5*' } }] },
      [],
    ],
    [
      'control: every tool is denied, which is a way to work',
      { guardrails: [{ name: 'g', tools: { deny: '*' } }] },
      [],
    ],
    ['two lists with nothing in common', models({ allow: ['gpt-*', 'o3'] }, { allow: 'claude-*' }), NOTHING_IN_COMMON],
    ['two patterns that no text fits', models({ allow: 'a*b' }, { allow: 'a*c' }), NOTHING_IN_COMMON],
    ['control: two patterns that one text fits', models({ allow: 'a*c' }, { allow: 'a*b*C' }), []],
    ['control: a name that a pattern fits', models({ allow: 'gpt-*' }, { allow: 'gpt-5' }), []],
    ['control: a list that only denies', models({ allow: 'gpt-*' }, { deny: 'claude-*' }), []],
    [
      'one of them has a narrower scope',
      {
        guardrails: [
          { name: 'g', models: { allow: 'a' } },
          { name: 'h', scope: { team: 'red' }, models: { allow: 'b' } },
        ],
      },
      ['guardrails g and h leave no models in the scope of h, where both hold. Put them into one list.'],
    ],
    [
      'the broader one comes later',
      {
        guardrails: [
          { name: 'h', scope: { team: 'red' }, models: { allow: 'b' } },
          { name: 'g', models: { allow: 'a' } },
        ],
      },
      ['guardrails g and h leave no models in the scope of h, where both hold. Put them into one list.'],
    ],
    [
      'one denies all that the other allows',
      {
        guardrails: [
          { name: 'g', providers: { deny: 'open*' } },
          { name: 'h', scope: { team: 'red' }, providers: { allow: ['openai', 'OpenRouter'] } },
        ],
      },
      ['guardrails g and h leave no providers in the scope of h, where both hold. Put them into one list.'],
    ],
    [
      'control: one denies some of what the other allows',
      models({ deny: 'gpt-4*' }, { allow: ['gpt-4o', 'gpt-5'] }),
      [],
    ],
    [
      'control: two scopes, of which neither holds the other',
      {
        guardrails: [
          { name: 'g', scope: { user: 'ana' }, models: { allow: 'a' } },
          { name: 'h', scope: { team: 'red' }, models: { allow: 'b' } },
        ],
      },
      [],
    ],
  ];
  for (const [name, rules, notes] of CASES) test(name, () => assert.deepEqual(notesOf(rules), notes));
});
