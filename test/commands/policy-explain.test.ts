// `tollbridge policy explain` beside a real bridge: it agrees with the verdict, shows every rule once, and leaves no trace.

import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { type ExplainFlags, explainPolicy } from '../../src/commands/policy-explain.ts';
import type { Explanation } from '../../src/policy/explanation.ts';
import { ask, post } from '../sources/intake-fixture.ts';
import { plain, scratchConfig } from './bridge-fixture.ts';
import { recordOf, runBridge } from './running-bridge.ts';

const RULES = {
  budgets: [
    { name: 'month', scope: { team: 'red' }, limit_usd: 5, period: 'month', hard: true },
    { name: 'tokens', limit_tokens: 1_000_000, period: 'day', warn_at: [0.01] },
    { name: 'blue', scope: { team: ['blue', 'green'], project: 'shop' }, limit_usd: 1, period: 'week' },
  ],
  caps: [{ name: 'rush', limit_turns: 100, per: 'hour' }],
  guardrails: [
    { name: 'models', models: { deny: ['*-preview'] } },
    { name: 'shell', tools: { deny: ['bash'] } },
    { name: 'priced', scope: { provider: 'acme' }, unpriced: 'deny' },
  ],
};
const ALL_RULES = [
  ...['budget/blue', 'budget/month', 'budget/tokens', 'cap/rush'],
  ...['guardrail/models', 'guardrail/priced', 'guardrail/shell'],
];
const SONNET = { provider: 'anthropic', model: 'claude-sonnet-4-5' };
const IDENTITY = { team: 'red', user: 'ana' };

const flags = (said: Partial<ExplainFlags> = {}): ExplainFlags => ({
  agent: 'opencode',
  json: true,
  ...SONNET,
  ...said,
});

type Running = Pick<Awaited<ReturnType<typeof runBridge>>, 'config'>;

async function linesOf({ config }: Running, said: Partial<ExplainFlags> = {}): Promise<string[]> {
  const { lines, exitCode } = await explainPolicy({ flags: flags(said), config, env: {} });
  assert.equal(exitCode, 0);
  return plain(lines);
}

const explained = async (running: Running, said: Partial<ExplainFlags> = {}): Promise<Explanation> =>
  JSON.parse((await linesOf(running, said)).join('\n'));

function rulesIn({ took_part, had_no_part }: Explanation) {
  return { took: took_part.map(({ rule }) => rule).sort(), had: had_no_part.map(({ rule }) => rule).sort() };
}

/** Has spent more than the team may, and a little of what all may. */
async function spentBridge(t: TestContext) {
  const running = await runBridge(t, { ...RULES, socket: { identity: IDENTITY } });
  const { send } = running;
  assert.equal(await send(recordOf('a', Date.now(), { cost_usd: 6, tokens: { input: 20_000 } })), 202);
  return running;
}

describe('an explanation', () => {
  const CASES: [said: Partial<ExplainFlags>, decision: string, rule: string | undefined, took: string[]][] = [
    [{}, 'stop', 'budget/month', ['budget/month', 'budget/tokens', 'cap/rush', 'guardrail/models']],
    [{ team: 'other' }, 'warn', 'budget/tokens', ['budget/tokens', 'cap/rush', 'guardrail/models']],
    [
      { team: 'blue', project: 'shop', model: 'x-preview' },
      ...(['stop', 'guardrail/models'] as const),
      ['budget/blue', 'budget/tokens', 'cap/rush', 'guardrail/models'],
    ],
    [{ tool: 'bash' }, 'stop', 'guardrail/shell', ['guardrail/shell']],
    [{ tool: 'read' }, 'allow', 'guardrail/shell', ['guardrail/shell']],
    [
      { team: 'other', provider: 'acme', model: 'm' },
      ...(['stop', 'guardrail/priced'] as const),
      ['budget/tokens', 'cap/rush', 'guardrail/models', 'guardrail/priced'],
    ],
    [
      { team: 'other', provider: 'acme', model: 'm', priced: true },
      ...(['warn', 'budget/tokens'] as const),
      ['budget/tokens', 'cap/rush', 'guardrail/models', 'guardrail/priced'],
    ],
  ];
  test('names every rule once, on one side or the other', async (t) => {
    const running = await spentBridge(t);
    for (const [said, decision, rule, took] of CASES) {
      const explanation = await explained(running, said);
      const name = JSON.stringify(said);
      assert.deepEqual([explanation.decision, explanation.rule], [decision, rule], name);
      const rules = rulesIn(explanation);
      assert.deepEqual(rules.took, took, name);
      assert.deepEqual([...rules.took, ...rules.had].sort(), ALL_RULES, name);
    }
  });

  test('agrees with the verdict, which is counted while it is not', { timeout: 60_000 }, async (t) => {
    const running = await spentBridge(t);
    for (const said of [{}, { tool: 'bash' }, { tool: 'read' }]) {
      const explanation = await explained(running, said);
      assert.doesNotMatch(await running.scrape(), /^toll_policy_verdicts_total\{/m, 'an explanation is not counted');
      assert.equal(explanation.labels.user, 'ana');
    }
    for (const said of [{}, { tool: 'bash' }, { tool: 'read' }]) {
      const { decision, rule } = await explained(running, said);
      const { json } = await post(running.config.socket.path, '/v1/verdict', { agent: 'opencode', ...SONNET, ...said });
      assert.deepEqual([json.decision, json.rule], [decision, rule]);
    }
    // Control: a verdict is counted, soon after it was given.
    while (!/^toll_policy_verdicts_total\{/m.test(await running.scrape())) await setImmediate();
  });

  test('says where each rule stands, and why the others have no part', async (t) => {
    const running = await spentBridge(t);
    const { took_part, had_no_part } = await explained(running);
    const month = took_part.find(({ rule }) => rule === 'budget/month');
    assert.equal(month?.used, '6.00 of 5.00 USD');
    assert.equal(month?.used_ratio, 1.2);
    assert.match(month?.message ?? '', /^Budget month is used up: /);
    assert.match(month?.resets_at ?? '', /^\d{4}-\d\d-\d\dT/);
    assert.equal(took_part.find(({ rule }) => rule === 'cap/rush')?.resets_at, undefined);
    assert.deepEqual(had_no_part, [
      { rule: 'guardrail/shell', why: 'it is about tools only' },
      { rule: 'guardrail/priced', why: 'its scope is provider acme (this is anthropic)' },
      {
        rule: 'budget/blue',
        why: 'its scope is team blue or green (this is red) and project shop (this has none)',
      },
    ]);
  });

  test('is a picture of one line for each rule, with a bar of 20', async (t) => {
    const running = await spentBridge(t);
    const lines = await linesOf(running, { json: false });
    assert.equal(lines[0], '✖ The turn would be stopped: by budget/month.');
    assert.match(lines[1] ?? '', /^ {4}team red, user ana, agent opencode, provider anthropic, /);
    const line = (start: RegExp) => lines.find((each) => start.test(each)) ?? '';
    assert.equal(line(/guardrail\/models/), '  ✔ guardrail/models');
    assert.match(line(/^ {2}✖ /), /^ {2}✖ budget\/month {6}█{20} +6\.00 of 5\.00 USD {2}resets \d{4}-\d\d-\d\d 00:00$/);
    assert.match(line(/^ {2}! /), /^ {2}! budget\/tokens {5}░{20} {2}20,000 of 1,000,000 tokens {2}resets /);
    assert.match(line(/cap\/rush/), /^ {2}✔ cap\/rush {10}░{20} +1 of 100 turns$/);
    assert.match(lines.join(' ').replace(/\s+/g, ' '), /project shop \(this has none\)$/);
  });

  test('fills half of a bar at half', async (t) => {
    const running = await runBridge(t, { budgets: [{ name: 'b', limit_usd: 12, period: 'day' }] });
    await running.send(recordOf('a', Date.now(), { cost_usd: 6 }));
    assert.match(
      (await linesOf(running, { json: false })).join('\n'),
      /! budget\/b {2}█{10}░{10} {2}6\.00 of 12\.00 USD/,
    );
  });

  test('of a bridge without rules says that there are none', async (t) => {
    const lines = await linesOf(await runBridge(t), { json: false });
    assert.match(lines[0] ?? '', /^✔ The turn would be allowed: no rule has a part in it\.$/);
    assert.match(lines.at(-1) ?? '', /^No rule is configured/);
  });
});

describe('what cannot be explained', () => {
  test('a name that is none is refused in the words of its field', async (t) => {
    const running = await runBridge(t);
    await assert.rejects(explained(running, { provider: '' }), /^PermanentFailure: .*provider: expected a provider id/);
    await assert.rejects(explained(running, { agent: 'Some One' }), /^PermanentFailure: .*agent: expected/);
  });

  test('what is no JSON, and what is not posted', async (t) => {
    const { config } = await runBridge(t);
    assert.equal((await post(config.socket.path, '/v1/explain', 'no')).status, 400);
    assert.equal((await ask(config.socket.path, '/v1/explain')).status, 405);
  });

  test('no bridge', async (t) => {
    await assert.rejects(explained({ config: scratchConfig(t) }), /^RetryableFailure: No bridge answers: /);
  });
});
