import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { exportPolicy, managedConfig } from '../../src/commands/policy-export.ts';
import { parseConfig } from '../../src/config.ts';
import { scratchFolder } from './bridge-fixture.ts';

function exported(guardrails: object[], who: object = {}, rest: object = {}) {
  const { managed, lost } = managedConfig(parseConfig({ guardrails, ...rest }), who);
  const { $schema: _, agent, ...said } = managed;
  // What is denied to all is denied to each agent that OpenCode brings.
  for (const { permission } of Object.values(agent ?? {})) assert.deepEqual(permission, managed.permission);
  assert.equal(agent !== undefined, managed.permission !== undefined);
  return { said, lost: lost.map((line) => line.replace(/\. .*/, '')) };
}
const deny = (...names: string[]) => Object.fromEntries(names.map((name) => [name, 'deny']));

describe('what OpenCode can hold to', () => {
  const CASES: [name: string, guardrails: object[], said: object, lost: string[]][] = [
    ['nothing', [], {}, []],
    ['a tool', [{ name: 'g', tools: { deny: 'bash' } }], { permission: deny('bash') }, []],
    [
      'tools by pattern',
      [{ name: 'g', tools: { deny: 'web*' } }],
      { permission: deny('web*', 'webfetch', 'websearch') },
      [],
    ],
    ['a tool of an MCP server', [{ name: 'g', tools: { deny: 'github_*' } }], { permission: deny('github_*') }, []],
    [
      'one of the tools that share a permission',
      [{ name: 'g', tools: { deny: 'write' } }],
      { permission: deny('edit') },
      ['guardrail g: the difference between edit, write, apply_patch'],
    ],
    [
      'an allow-list of tools',
      [
        {
          name: 'g',
          tools: { allow: ['edit', 'write', 'apply_patch', 'read', 'g*', 'list', 't*', 'skill', 'lsp', 'question'] },
        },
      ],
      { permission: deny('bash', 'webfetch', 'websearch') },
      ['guardrail g: tools that MCP servers and plugins bring'],
    ],
    [
      'providers that are denied',
      [{ name: 'g', providers: { deny: ['a', 'b*'] } }],
      { disabled_providers: ['a'] },
      ['guardrail g: providers deny b*'],
    ],
    [
      'providers of two lists',
      [
        { name: 'g', providers: { allow: ['a', 'ab', 'b'] } },
        { name: 'h', providers: { allow: 'a*', deny: 'a' } },
      ],
      { enabled_providers: ['ab'] },
      [],
    ],
    ['providers by pattern only', [{ name: 'g', providers: { allow: 'a*' } }], {}, ['guardrail g: providers allow a*']],
    [
      'models at the providers that may be used',
      [{ name: 'g', providers: { allow: ['a', 'b'] }, models: { deny: ['m', 'n*'] } }],
      { enabled_providers: ['a', 'b'], provider: { a: { blacklist: ['m'] }, b: { blacklist: ['m'] } } },
      ['guardrail g: models deny n*'],
    ],
    [
      'models at one provider',
      [{ name: 'g', scope: { provider: 'a' }, models: { allow: ['m', 'n'], deny: 'n*' } }],
      { provider: { a: { whitelist: ['m'] } } },
      [],
    ],
    ['models anywhere', [{ name: 'g', models: { deny: 'm' } }], {}, ['guardrail g: models at any provider']],
    ['what has no word', [{ name: 'g', unpriced: 'deny' }], {}, ['guardrail g: unpriced']],
    [
      'a rule about an account',
      [{ name: 'g', scope: { account: 'x' }, tools: { deny: 'bash' } }],
      {},
      ['guardrail g: all of it'],
    ],
    [
      'tools at one provider',
      [{ name: 'g', scope: { provider: 'x' }, tools: { deny: 'bash' } }],
      {},
      ['guardrail g: providers and tools'],
    ],
  ];
  for (const [name, guardrails, said, lost] of CASES) {
    test(name, () => assert.deepEqual(exported(guardrails), { said, lost }));
  }

  test('models at the providers that the configuration names, and a word on the others', () => {
    const rest = { accounts: [{ id: 'work', provider: 'anthropic' }] };
    const { said, lost } = exported([{ name: 'g', models: { deny: 'm' } }], {}, rest);
    assert.deepEqual(said, { provider: { anthropic: { blacklist: ['m'] } } });
    assert.deepEqual(lost, ['guardrail g: models beyond anthropic']);
  });
});

describe('whose rules', () => {
  const CASES: [scope: object, who: object, isIn: boolean][] = [
    [{}, {}, true],
    [{ team: 'red' }, {}, false],
    [{ team: 'red' }, { team: 'red' }, true],
    [{ team: 'red', user: 'ana' }, { team: 'red', user: 'bo' }, false],
    [{ project: 'shop*' }, { project: 'shop-api' }, true],
    [{ agent: 'claude-code' }, {}, false],
    [{ agent: 'opencode' }, {}, true],
  ];
  for (const [scope, who, isIn] of CASES) {
    test(`${JSON.stringify(scope)} for ${JSON.stringify(who)}`, () => {
      const { said } = exported([{ name: 'g', scope, tools: { deny: 'bash' } }], who);
      assert.deepEqual(said, isIn ? { permission: deny('bash') } : {});
    });
  }

  test('those of this machine, when nobody is named', () => {
    const rest = { socket: { identity: { team: 'red' } } };
    const rules = [{ name: 'g', scope: { team: 'red' }, tools: { deny: 'bash' } }];
    assert.deepEqual(exported(rules, {}, rest).said, { permission: deny('bash') });
    assert.deepEqual(exported(rules, { team: 'blue' }, rest).said, {});
  });
});

test('writes a new file and never over another', (t) => {
  const out = path.join(scratchFolder(t), 'opencode.json');
  const config = parseConfig({ guardrails: [{ name: 'g', tools: { deny: 'bash' } }] });
  const { lines, remarks } = exportPolicy(config, { out });
  assert.deepEqual(lines, [`Wrote ${out}.`]);
  assert.ok(remarks.some((line) => line.includes('/etc/opencode/opencode.json')));
  const printed = exportPolicy(config, {}).lines.join('\n');
  assert.deepEqual(JSON.parse(readFileSync(out, 'utf8')), JSON.parse(printed));
  writeFileSync(out, 'mine');
  assert.throws(() => exportPolicy(config, { out }), /is there already/);
  assert.equal(readFileSync(out, 'utf8'), 'mine');
});
