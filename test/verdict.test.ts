// Agents ask before a turn and tell of it afterwards, over a real socket of a real bridge.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { Pool } from 'undici';
import { Bridge } from '../src/bridge.ts';
import type { Config } from '../src/config.ts';
import type { VerdictAnswer } from '../src/policy/verdict-desk.ts';
import { scratchConfig } from './commands/bridge-fixture.ts';
import { until } from './prometheus-server.ts';
import { samplesOf } from './scrape.ts';

const AGENTS = 50;
const LIMIT_USD = 1;
const QUESTION = { agent: 'opencode', provider: 'anthropic', model: 'claude-sonnet-4-5', project: 'shop' };

/** What talks to the bridge's socket, and what it logged. */
class Side {
  readonly bridge: Bridge;
  readonly lines: Record<string, unknown>[];
  readonly #pool: Pool;

  static async start(t: TestContext, config: Config): Promise<Side> {
    const lines: Record<string, unknown>[] = [];
    const log = pino({ level: 'info', base: null }, { write: (line: string) => void lines.push(JSON.parse(line)) });
    const side = new Side(await Bridge.start({ config, log, env: {} }), lines, config.socket.path);
    t.after(() => side.stop());
    return side;
  }

  private constructor(bridge: Bridge, lines: Record<string, unknown>[], socketPath: string) {
    this.bridge = bridge;
    this.lines = lines;
    this.#pool = new Pool('http://bridge', { socketPath, connections: AGENTS });
  }

  async post(path: string, body: unknown): Promise<{ status: number; body: Record<string, unknown> }> {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const answer = await this.#pool.request({ path, method: 'POST', body: text });
    return { status: answer.statusCode, body: (await answer.body.json()) as Record<string, unknown> };
  }

  async ask(question: object = {}): Promise<VerdictAnswer> {
    const { status, body } = await this.post('/v1/verdict', { ...QUESTION, ...question });
    assert.equal(status, 200, JSON.stringify(body));
    return body as unknown as VerdictAnswer;
  }

  async book(id: string, costUsd: number, said: object = {}): Promise<void> {
    const now = Date.now();
    const { status } = await this.post('/v1/events', {
      ...{ v: 1, kind: 'turn', agent: 'opencode', id: { session: 'ses_1', message: id }, status: 'ok' },
      ...{ provider: 'anthropic', model: 'claude-sonnet-4-5', project: 'shop' },
      ...{ time: { started: now - 1000, completed: now }, tokens: { input: 10, output: 1 }, cost_usd: costUsd },
      ...said,
    });
    assert.equal(status, 202);
  }

  async sample(name: string, labels: Record<string, string> = {}): Promise<number | undefined> {
    const text = await (await fetch(`${this.bridge.metricsUrl}/metrics`)).text();
    const fits = (given: Record<string, string>) =>
      Object.entries(labels).every(([key, value]) => given[key] === value);
    return samplesOf(text).find((sample) => sample.name === name && fits(sample.labels))?.value;
  }

  async stop(): Promise<void> {
    await this.#pool.close().catch(() => {});
    await this.bridge.stop();
  }
}

const policy = (t: TestContext, rules: object) =>
  scratchConfig(t, { metrics: { listen: '127.0.0.1:0' }, time_zone: 'UTC', ...rules });

test('50 agents at once pass a hard budget by no more than what they had begun', async (t) => {
  const budgets = [{ name: 'day', limit_usd: LIMIT_USD, period: 'day', hard: true, scope: { project: 'shop' } }];
  const side = await Side.start(t, policy(t, { budgets }));
  let serial = 0;
  let spentUsd = 0;
  /** Agents that are waiting for an answer, or whose turn runs: what each may still cost when the limit is reached. */
  let underWay = 0;
  let underWayAtLimit: number | undefined;
  const costUsd = 0.011;
  async function agent(): Promise<void> {
    for (;;) {
      underWay++;
      if ((await side.ask()).decision === 'stop') {
        underWay--;
        return;
      }
      await side.book(`msg_${serial++}`, costUsd);
      underWay--;
      spentUsd += costUsd;
      if (spentUsd >= LIMIT_USD) underWayAtLimit ??= underWay;
    }
  }
  await Promise.all(Array.from({ length: AGENTS }, agent));
  const spent = (await side.sample('toll_policy_spent', { budget: 'day' })) ?? 0;
  assert.ok(spent >= LIMIT_USD, 'the budget was used');
  assert.ok(Math.abs(spent - spentUsd) < 1e-9, 'all that was spent is known');
  assert.ok(underWayAtLimit !== undefined);
  // One more: the turn that reaches the limit need not fit it exactly.
  const bound = (underWayAtLimit + 1) * costUsd;
  const overshoot = spent - LIMIT_USD;
  assert.ok(overshoot <= bound, `${overshoot} USD beyond the limit, more than ${bound}`);
  t.diagnostic(
    `limit ${LIMIT_USD} USD, spent ${spent.toFixed(3)} USD by ${AGENTS} agents in ${serial} turns of ${costUsd} USD: ` +
      `${overshoot.toFixed(3)} USD beyond it; the turns under way when it was committed could cost ${bound.toFixed(3)}`,
  );
  const stop = await side.ask();
  assert.deepEqual([stop.decision, stop.rule, stop.budget, stop.limit_usd], ['stop', 'budget/day', 'day', LIMIT_USD]);
  assert.match(stop.message ?? '', /^Budget day is used up: 1\.\d\d of 1\.00 USD\. It resets on .* at 00:00 \(UTC\)\./);
  // Others are not meant.
  assert.equal((await side.ask({ project: 'other' })).decision, 'allow');
});

test('answers are counted for good and logged once, without a word of content', async (t) => {
  const config = policy(t, {
    budgets: [{ name: 'soft', limit_usd: 1, period: 'month' }],
    guardrails: [{ name: 'shell', tools: { deny: 'bash' }, message: 'Ask Ana.' }],
  });
  const side = await Side.start(t, config);
  assert.equal((await side.ask()).decision, 'allow');
  await side.book('msg_1', 0.6);
  const warned = await side.ask();
  assert.deepEqual([warned.decision, warned.step, warned.spent_usd], ['warn', 0.5, 0.6]);
  await side.ask();
  const stopped = await side.ask({ tool: 'bash' });
  assert.deepEqual([stopped.decision, stopped.rule], ['stop', 'guardrail/shell']);
  assert.equal(stopped.message, 'The tool bash may not be used here (rule shell). Ask Ana.');
  assert.equal((await side.ask({ tool: 'read', unchecked: 3 })).decision, 'allow');

  const audit = side.lines.filter((line) => 'decision' in line).map(({ time: _, level: __, ...line }) => line);
  const who = { agent: 'opencode', provider: 'anthropic', model: 'claude-sonnet-4-5', project: 'shop' };
  assert.deepEqual(audit, [
    { decision: 'warn', rule: 'budget/soft', step: 0.5, ...who, msg: 'a budget reached a step of warn_at' },
    { decision: 'stop', rule: 'guardrail/shell', ...who, tool: 'bash', msg: 'a tool call was stopped' },
  ]);
  await side.stop();

  const again = await Side.start(t, config);
  const counted = (decision: string, rule: string) => again.sample('toll_policy_verdicts_total', { decision, rule });
  assert.deepEqual(
    await Promise.all([
      ...[counted('allow', 'budget/soft'), counted('warn', 'budget/soft')],
      ...[counted('stop', 'guardrail/shell'), counted('allow', 'guardrail/shell')],
    ]),
    [1, 2, 1, 1],
  );
  assert.equal(await again.sample('toll_policy_unchecked_total', { agent: 'opencode' }), 3);
  assert.equal((await again.ask()).spent_usd, 0.6, 'what was spent is known after a restart');
});

test('a question that is none is told why, and is no event', async (t) => {
  const side = await Side.start(t, policy(t, {}));
  for (const [body, error] of [
    ['{', /no JSON object/],
    ['[]', /no JSON object/],
    [{}, /agent: expected the name/],
    [{ ...QUESTION, model: 7 }, /model: expected a name/],
    [{ ...QUESTION, unchecked: -1 }, /unchecked: /],
    [{ ...QUESTION, tool: null }, /tool: expected a name/],
  ] as const) {
    const answer = await side.post('/v1/verdict', body);
    assert.equal(answer.status, 400, JSON.stringify(body));
    assert.match(String(answer.body.error), error);
  }
  assert.equal(await side.sample('tollbridge_events_received_total', { source: 'socket' }), 0);
  const { decision, ttl_s, fail, ...rest } = await side.ask();
  assert.deepEqual([decision, ttl_s, fail, rest], ['allow', 10, 'open', {}]);
});

test('names that no turn could be booked under pass no rule, and are repeated nowhere', async (t) => {
  const budgets = [{ name: 'all', limit_usd: 1, period: 'day', hard: true }];
  const guardrails = [
    { name: 'house', providers: { allow: 'anthropic' }, models: { deny: 'claude-opus-*' } },
    { name: 'shell', tools: { deny: 'bash' } },
  ];
  const side = await Side.start(t, policy(t, { budgets, guardrails }));
  const CANARY = 'sk-CANARY12345678';
  const unread = 'whose name cannot be read';
  for (const [question, message] of [
    [{ provider: `my ${CANARY}` }, `A provider ${unread} may not be used here (rule house).`],
    [{ model: CANARY }, `A model ${unread} may not be used here (rule house).`],
    [{ model: `claude\n${CANARY}` }, `A model ${unread} may not be used here (rule house).`],
    [
      { called_model: `claude-opus-${'x'.repeat(128)}` },
      `The model claude-sonnet-4-5, which calls one ${unread}, may not be used here (rule house).`,
    ],
    [{ tool: `/home/${CANARY}` }, `A tool ${unread} may not be used here (rule shell).`],
  ] as const) {
    const { decision, message: said } = await side.ask(question);
    assert.deepEqual([decision, said?.startsWith(message)], ['stop', true], said);
  }
  // A turn is booked without these, so it is asked about without them.
  const labels = [
    { project: 'p'.repeat(129) },
    { project: 'a\tb' },
    { project: `x@${CANARY}` },
    { upstream_provider: 7 },
  ];
  for (const label of labels) assert.equal((await side.ask(label)).decision, 'allow');
  await side.book('msg_1', 1);
  for (const label of labels) assert.equal((await side.ask(label)).rule, 'budget/all', JSON.stringify(label));
  assert.doesNotMatch(JSON.stringify(side.lines), /CANARY/);
});

test('who asks under endless names makes no endless series', async (t) => {
  const side = await Side.start(t, policy(t, {}));
  for (let n = 0; n < 120; n++) await side.ask({ agent: `agent-${n}`, unchecked: 1 });
  await side.ask({ agent: 'agent-0', unchecked: 5 });
  const unchecked = async () => {
    const text = await (await fetch(`${side.bridge.metricsUrl}/metrics`)).text();
    return samplesOf(text).filter(({ name }) => name === 'toll_policy_unchecked_total');
  };
  await until('the counts', async () => (await unchecked()).reduce((sum, { value }) => sum + value, 0) === 125);
  const series = await unchecked();
  assert.equal(series.length, 51);
  const of = (agent: string) => series.find(({ labels }) => labels.agent === agent)?.value;
  assert.deepEqual([of('agent-0'), of('agent-49'), of('agent-50'), of('other')], [6, 1, undefined, 70]);
});

test('a model without a price is stopped where a rule says so, until somebody knows one', async (t) => {
  const side = await Side.start(t, policy(t, { guardrails: [{ name: 'priced', unpriced: 'deny' }] }));
  assert.equal((await side.ask()).decision, 'stop');
  assert.equal((await side.ask({ priced: true })).decision, 'allow');
  assert.equal((await side.ask({ provider: 'ollama' })).decision, 'allow', 'a rule says that it is free');
  await side.book('msg_1', 0.25);
  assert.equal((await side.ask()).decision, 'allow', 'a turn of it stated its cost');
});
