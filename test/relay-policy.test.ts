// A relay that judges: the rules of a real bridge over a real NATS server, with NATS away, from its disk, and without any.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { Bridge } from '../src/bridge.ts';
import { parseConfig } from '../src/config.ts';
import { setUpStreams } from '../src/nats/streams.ts';
import type { VerdictAnswer } from '../src/policy/verdict-desk.ts';
import { Relay } from '../src/relay.ts';
import { natsConfig, startStreams } from './nats/nats-server.ts';
import { until } from './prometheus-server.ts';
import { post, readableLog } from './sources/intake-fixture.ts';

const CALL = { agent: 'opencode', provider: 'portkey', model: 'claude-opus-4-5', project: 'shop' };
const UNREADABLE = 'the rules that were kept on disk cannot be read';
/** A configuration that uses all that a verdict depends on; CANARY stands where secrets are named. */
const RULES = {
  verdict: { fail: 'closed', contact: '#platform on chat' },
  gateways: { portkey: { 'claude-*': 'anthropic', '*': 'openai' } },
  pricing: [{ provider: 'house', state: 'free' }],
  labels: { project: 'hash' },
  accounts: [{ id: 'paid', provider: 'portkey', api_key_env: 'CANARY_VARIABLE' }],
  metrics: { token_env: 'CANARY_TOKEN' },
  budgets: [
    {
      name: 'claude',
      scope: { upstream_provider: 'anthropic', team: 'core' },
      limit_usd: 1,
      period: 'month',
      hard: true,
    },
    { name: 'tokens', limit_tokens: 1000, period: 'day' },
  ],
  caps: [{ name: 'slow', limit_turns: 1000, per: 'minute' }],
  guardrails: [
    { name: 'no-web', scope: { user: 'ada' }, tools: { deny: 'webfetch' } },
    { name: 'paid-only', scope: { account: 'paid' }, models: { deny: 'gpt-3*' } },
    { name: 'priced', scope: { provider: 'house*' }, unpriced: 'deny' },
  ],
};

async function start(t: TestContext) {
  const { dir, server, connection, nats } = await startStreams(t);
  const env = { CANARY_TOKEN: 'CANARY-secret', CANARY_VARIABLE: 'CANARY-key' };
  const configOf = (name: string, more: object) => {
    const config = parseConfig({
      ...{ state_dir: path.join(dir, name), time_zone: 'UTC', detect: false, nats },
      ...{ socket: { identity: { team: 'core', user: 'ada' } }, poll: { interval: '24h' }, ...more },
      metrics: { listen: '127.0.0.1:0', ...(more as { metrics?: object }).metrics },
    });
    return { ...config, nats: config.nats! };
  };
  const startBridge = async (rules: object = RULES, name = 'bridge') => {
    const config = configOf(name, rules);
    const bridge = await Bridge.start({ config, log: readableLog().log, env });
    t.after(() => bridge.stop());
    await until('the bridge', () => bridge.status().ready);
    return { bridge, socket: config.socket.path };
  };
  const relayConfig = configOf('relay', { time_zone: 'Asia/Tokyo' });
  const file = path.join(relayConfig.state_dir, 'policy.json');
  const startRelay = async () => {
    const { log, lines } = readableLog();
    const relay = await Relay.start({ config: relayConfig, log, env: {} });
    t.after(() => relay.stop());
    return { relay, lines, file, socket: relayConfig.socket.path };
  };
  return { dir, file, server, connection, startBridge, startRelay };
}

async function ask(socket: string, question: object = {}): Promise<VerdictAnswer> {
  const { status, json } = await post(socket, '/v1/verdict', { ...CALL, ...question });
  assert.equal(status, 200, JSON.stringify(json));
  return json as unknown as VerdictAnswer;
}

let serial = 0;
async function book(socket: string, costUsd: number): Promise<void> {
  const now = Date.now();
  const { status } = await post(socket, '/v1/events', {
    ...{ v: 1, kind: 'turn', id: { session: 's', message: `m${serial++}` }, status: 'ok', tokens: { input: 10 } },
    ...{ time: { started: now - 1000, completed: now }, ...CALL, cost_usd: costUsd },
  });
  assert.equal(status, 202);
}

test('a relay answers as the bridge does, and says of when that is', async (t) => {
  const { startBridge, startRelay } = await start(t);
  const bridge = await startBridge();
  const { relay, lines, socket } = await startRelay();
  await until('the rules', () => relay.status().policy.told_ms !== undefined);
  await book(socket, 0.6);
  await until('the figures', async () => (await ask(socket)).spent_usd === 0.6, 300);
  const questions = [
    ...[{}, { tool: 'webfetch' }, { tool: 'bash' }, { model: 'gpt-3.5' }, { provider: 'openai' }],
    ...[{ provider: 'house' }, { provider: 'house-2' }, { provider: 'house-2', priced: true }],
  ];
  const decisions: string[] = [];
  for (const question of questions) {
    // What may be kept for how long is shorter where caps are judged as well, which are of one bridge.
    const { as_of, ttl_s: _, ...answer } = await ask(socket, question);
    const { ttl_s: __, ...expected } = await ask(bridge.socket, question);
    assert.deepEqual(answer, expected, JSON.stringify(question));
    assert.ok(Math.abs(Date.now() - Date.parse(as_of!)) < 60_000);
    decisions.push(`${answer.decision} ${answer.rule ?? ''}`.trim());
  }
  assert.deepEqual(decisions, [
    ...['warn budget/claude', 'stop guardrail/no-web', 'allow guardrail/no-web', 'stop guardrail/paid-only'],
    ...['allow budget/tokens', 'warn budget/claude', 'stop guardrail/priced', 'warn budget/claude'],
  ]);

  await book(socket, 0.5);
  await until('the stop', async () => (await ask(socket)).decision === 'stop', 300);
  const stop = await ask(socket);
  assert.deepEqual([stop.rule, stop.spent_usd, stop.fail], ['budget/claude', 1.1, 'closed']);
  assert.match(stop.message!, /1\.10 of 1\.00 USD\. It resets .* 00:00 \(UTC\)\. Questions: #platform on chat$/);
  const audit = lines.map((line) => JSON.parse(line)).filter((line) => line.decision === 'stop');
  const { rule, team, user, known_for_s } = audit.find((line) => line.rule === 'budget/claude');
  assert.deepEqual([rule, team, user, typeof known_for_s], ['budget/claude', 'core', 'ada', 'number']);
});

test('with NATS away it judges on, also after a restart; with nothing known it gives no verdict', async (t) => {
  const { file, server, startBridge, startRelay } = await start(t);
  const bridge = await startBridge();
  const first = await startRelay();
  await until('the rules', () => first.relay.status().policy.told_ms !== undefined);
  await book(first.socket, 1.5);
  await until('the stop', async () => (await ask(first.socket)).decision === 'stop', 300);
  await bridge.bridge.stop();
  await server.kill();
  await until('the loss', () => first.relay.status().policy.problem !== undefined);
  assert.equal((await ask(first.socket)).decision, 'stop');
  await first.relay.stop();

  const { mode } = statSync(file);
  assert.equal(mode & 0o777, 0o600);
  const text = readFileSync(file, 'utf8');
  assert.doesNotMatch(text, /CANARY|api_key|token_env|_env|_file|state_dir/);
  assert.match(text, /paid/, 'control: the account is there');

  const second = await startRelay();
  assert.equal((await ask(second.socket)).decision, 'stop');
  assert.equal((await ask(second.socket, { tool: 'webfetch' })).decision, 'stop');
  assert.match(second.relay.status().policy.problem!, /no NATS server answers/);
  await second.relay.stop();

  // Hours later, and then in a month of which nothing was told.
  const kept = JSON.parse(text);
  writeFileSync(file, JSON.stringify({ ...kept, told_ms: kept.told_ms - 3 * 3_600_000 }));
  const later = await startRelay();
  assert.match((await ask(later.socket)).message!, /\(As this machine was told 3 hours ago\.\)$/);
  await later.relay.stop();
  const standings = JSON.parse(kept.standings);
  for (const budget of standings.budgets) {
    budget.end_ms = budget.start_ms;
    budget.start_ms -= 86_400_000;
  }
  writeFileSync(file, JSON.stringify({ ...kept, standings: JSON.stringify(standings) }));
  const afterwards = await startRelay();
  assert.equal((await ask(afterwards.socket)).decision, 'allow', 'nothing was told of this period');
  assert.equal((await ask(afterwards.socket, { tool: 'webfetch' })).decision, 'stop', 'guardrails hold');
  await afterwards.relay.stop();

  const damaged = [
    '',
    '{',
    JSON.stringify({ ...kept, v: 2 }),
    JSON.stringify({ ...kept, told_ms: 9e15 }),
    JSON.stringify({ ...kept, policy: '{}' }),
  ];
  for (const content of damaged) {
    writeFileSync(file, content);
    const unknowing = await startRelay();
    const { status, json } = await post(unknowing.socket, '/v1/verdict', CALL);
    assert.deepEqual([status, 'decision' in json], [503, false], content.slice(0, 20));
    assert.equal(unknowing.lines.filter((line) => line.includes(UNREADABLE)).length, 1, content.slice(0, 20));
    await book(unknowing.socket, 0.1);
    await unknowing.relay.stop();
  }
  for (const make of [
    () => mkdirSync(file),
    () => execFileSync('mkfifo', [file]),
    () => symlinkSync('/dev/zero', file),
  ]) {
    rmSync(file, { recursive: true, force: true });
    make();
    const unknowing = await startRelay();
    assert.equal((await post(unknowing.socket, '/v1/verdict', CALL)).status, 503);
    assert.equal(unknowing.lines.filter((line) => line.includes(UNREADABLE)).length, 1);
    await unknowing.relay.stop();
  }
  rmSync(file, { recursive: true, force: true });
  const fresh = await startRelay();
  assert.doesNotMatch(fresh.lines.join(''), new RegExp(UNREADABLE), 'control: nothing was kept');
});

test('that the rules cannot be kept is said once, and stands in the status', async (t) => {
  const { file, startBridge, startRelay } = await start(t);
  mkdirSync(`${file}.new`, { recursive: true });
  await startBridge();
  const { relay, lines } = await startRelay();
  await until('the rules', () => relay.status().policy.told_ms !== undefined);
  assert.match(relay.status().policy.problem ?? '', /cannot be kept on disk.*EISDIR/);
  await relay.stop();
  assert.equal(lines.filter((line) => line.includes('cannot be kept on disk')).length, 1);
  rmSync(`${file}.new`, { recursive: true });
  const later = await startRelay();
  await until('the rules', () => later.relay.status().policy.told_ms !== undefined);
  assert.equal(later.relay.status().policy.problem, undefined, 'control');
});

test('rules that were changed reach a relay that runs', async (t) => {
  const { startBridge, startRelay } = await start(t);
  const { bridge } = await startBridge();
  const { relay, socket } = await startRelay();
  await until('the rules', () => relay.status().policy.told_ms !== undefined);
  assert.equal((await ask(socket, { tool: 'bash' })).decision, 'allow');
  await bridge.stop();
  await startBridge({ ...RULES, guardrails: [{ name: 'no-shell', tools: { deny: 'bash' } }] });
  await until('the new rule', async () => (await ask(socket, { tool: 'bash' })).decision === 'stop', 400);
  assert.equal((await ask(socket, { tool: 'webfetch' })).decision, 'allow', 'and the old one is gone');
});

test('a bridge with other rules than those that relays follow says so', async (t) => {
  const { startBridge, connection, server } = await start(t);
  const problem = ({ bridge }: { bridge: Bridge }) =>
    bridge.status().sources.find(({ source }) => source === 'jetstream')?.problem;
  const first = await startBridge();
  const nats = { servers: [server.url], replica: 'b' };
  await setUpStreams(connection, natsConfig(nats));
  const same = await startBridge({ ...RULES, nats, accounts: [] }, 'same');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.deepEqual([problem(first), problem(same)], [undefined, undefined], 'control: accounts may differ');
  await same.bridge.stop();
  await startBridge({ ...RULES, nats, guardrails: [] }, 'same');
  await until('the problem', () => problem(first) !== undefined);
  assert.match(problem(first)!, /another bridge of this stream was started with other rules/);
});
