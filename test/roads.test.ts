// One table of payloads on every road into the ledger: the same rows at the end of each.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { jetstream } from '@nats-io/jetstream';
import type { NatsConnection } from 'nats';
import { Bridge, ledgerFile } from '../src/bridge.ts';
import { parseConfig } from '../src/config.ts';
import { createLog } from '../src/log.ts';
import { setUpStreams } from '../src/nats/streams.ts';
import { Relay } from '../src/relay.ts';
import { connected, NatsServer, natsConfig } from './nats/nats-server.ts';
import { until } from './prometheus-server.ts';
import { eventsBy } from './scrape.ts';
import { post, temporaryFolder } from './sources/intake-fixture.ts';

const START_MS = Date.now() - 3600_000;
const FIXTURES = new URL('./fixtures/opencode/', import.meta.url).pathname;
const log = createLog('silent');

/** What a real OpenCode posted, as the records that a hook leaves in the spool. */
const captured = (name: string): string[] =>
  readFileSync(path.join(FIXTURES, `${name}.jsonl`), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { complete: boolean; content_length: number; body: string })
    .filter(({ complete, content_length }) => complete && content_length > 0)
    .map(({ body }) => `{"source":"opencode","account_id":"work","payload":${body}}`);

const turn = (message: string, fields: object = {}) => ({
  ...{ v: 1, kind: 'turn', agent: 'opencode', id: { session: 'ses', message }, provider: 'openrouter' },
  ...{ model: 'anthropic/claude-sonnet-4.5', time: { started: START_MS } },
  ...fields,
});
const tokens = { input: 11, output: 22, reasoning: 3, cache_read: 44, cache_write: 5 };
const completed = { time: { started: START_MS, completed: START_MS + 5000 } };
const hook = (source: string, payload: object) => ({ source, account_id: 'work', payload });

const RECORDS: readonly object[] = [
  turn('in-progress'),
  turn('finished', { finished: true, tokens, cost_usd: 0.123456789 }),
  turn('completed', {
    ...completed,
    status: 'ok',
    tokens,
    cost_usd: 1.5,
    project: '/home/ana/shop',
    account_id: 'work',
  }),
  turn('failed', { ...completed, status: 'error', reason: 'rate_limit', event_id: 'evt_1' }),
  turn('aborted', { ...completed, status: 'aborted' }),
  turn('corrected', { ...completed, event_id: 'a', tokens, cost_usd: 2 }),
  turn('corrected', { ...completed, event_id: 'b', tokens: { input: 1 }, cost_usd: 1 }),
  turn('hinted', { ...completed, upstream_provider: 'groq', tokens, cost_usd: 0 }),
  turn('no-time', { completed: true, tokens, cost_usd: 0.25 }),
  turn('named', { ...completed, team: 'other', user: 'eve', cost_usd: 0.5 }),
  {
    v: 1,
    kind: 'tool',
    agent: 'opencode',
    id: { session: 'ses', call: 'c1', message: 'completed' },
    tool: 'bash',
    status: 'ok',
    time: { started: START_MS + 100, completed: START_MS + 900 },
  },
  {
    v: 1,
    kind: 'tool',
    agent: 'opencode',
    id: { session: 'ses', call: 'c2', message: 'completed' },
    tool: 'mcp__git__log',
    status: 'error',
  },
  { v: 1, kind: 'session', agent: 'opencode', id: { session: 'ses' }, project: 'shop' },
  {
    v: 1,
    kind: 'permission',
    agent: 'opencode',
    id: { session: 'ses', request: 'p1', message: 'completed' },
    time: { asked: START_MS + 200, replied: START_MS + 400 },
  },
  hook('claude_code', {
    hook_event_name: 'Stop',
    session_id: 'cc',
    turn_id: 't1',
    timestamp: new Date(START_MS).toISOString(),
    model: 'claude-opus-4-5',
    usage: { input_tokens: 5, output_tokens: 6 },
    cost_usd: 0.75,
  }),
  hook('claude_code', {
    hook_event_name: 'PostToolUse',
    session_id: 'cc',
    tool_use_id: 'u1',
    tool_name: 'Bash',
    timestamp: new Date(START_MS).toISOString(),
  }),
  hook('codex', {
    session_id: 'cx',
    turn_id: 't2',
    timestamp: new Date(START_MS).toISOString(),
    model: 'gpt-5-codex',
    usage: { input_tokens: 50, cached_input_tokens: 20, output_tokens: 6 },
  }),
  {
    v: 1,
    kind: 'poll',
    interval_s: 60,
    payload: {
      provider_id: 'zai',
      account_id: 'work',
      timestamp: new Date().toISOString(),
      status: 'OK',
      metrics: { credit_balance: { remaining: 7, unit: 'USD', window: 'current' } },
    },
  },
];

const json = (value: unknown) => JSON.stringify(value);
const BODIES: readonly string[] = [
  ...RECORDS.map(json),
  json([turn('in-array-1', completed), turn('in-array-2', completed)]),
  [turn('line-1', completed), turn('line-2', completed)].map(json).join('\n'),
  // Good lines beside bad ones.
  [json(turn('good-line', completed)), '{"v":1,"kind":', json({ v: 1, kind: 'mystery' })].join('\n'),
  ...['c-multiturn', 'b-tools', 'e-errors-4xx', 'f-abort-stream', 'g-task', 'n-permission'].flatMap(captured),
];

/** A reading is published where its account is, a turn where its people are. */
const subjectOf = (body: string) => (/"kind":"poll"/.test(body) ? 'toll.polls.zai.work' : 'toll.turns.core.ada');

interface Stage {
  readonly t: TestContext;
  readonly dir: string;
  readonly server: NatsServer;
  readonly connection: NatsConnection;
}

async function stage(t: TestContext): Promise<Stage> {
  const dir = temporaryFolder(t);
  const server = await NatsServer.start({ dir });
  const connection = await connected(server);
  t.after(async () => {
    await connection.close();
    await server.kill();
  });
  return { t, dir, server, connection };
}

/** Stopped with the test, should it fail. */
async function startBridge(t: TestContext, config: ReturnType<typeof configOf>): Promise<Bridge> {
  const bridge = await Bridge.start({ config, log, env: {} });
  t.after(() => bridge.stop());
  return bridge;
}

function configOf(dir: string, name: string, more: object = {}) {
  return parseConfig({
    ...{ state_dir: path.join(dir, name), detect: false, metrics: { listen: '127.0.0.1:0' } },
    socket: { path: path.join(dir, `${name}.s`), identity: { team: 'core', user: 'ada' } },
    ...more,
  });
}

/** Every row of the ledger, without what tells when and in which order it was received. */
function rowsOf(file: string): Record<string, string[]> {
  const db = new DatabaseSync(file, { readOnly: true });
  const select = (sql: string) =>
    db
      .prepare(sql)
      .all()
      .map((row) => JSON.stringify(row))
      .sort();
  const named = (id: string) =>
    ['agent', 'provider', 'account', 'upstream_provider', 'model', 'project', 'team', 'user']
      .map((column) => `(SELECT ${column} FROM dimension WHERE id = turn.${id}) AS ${column}`)
      .join(', ');
  try {
    return {
      turns: select(
        `SELECT session_id, message_id, ${named('dimension_id')}, upstream_evidence, event_id, phase, status, reason, started_ms,
           completed_ms, dated_ms, input, output, reasoning, cache_read, cache_write, cost_nano, estimated_nano, pricing, unpriced, counted
         FROM turn JOIN turn_session ON turn_session.id = session`,
      ),
      tools: select(
        'SELECT agent, session_id, call_id, message_id, tool, mcp_server, status, started_ms, completed_ms, project, origin, booked FROM tool_call',
      ),
      sessions: select('SELECT agent, session_id, project FROM session'),
      permissions: select('SELECT agent, session_id, request_id, message_id, asked_ms, replied_ms FROM permission'),
      counters: select('SELECT family, labels, value FROM counter'),
      polls: select('SELECT provider, account, origin FROM poll_result'),
      rollups: select(
        'SELECT bucket, upstream_provider, provider, model, cost_nano, tokens, turns FROM rollup JOIN cell ON cell.id = cell_id',
      ),
    };
  } finally {
    db.close();
  }
}

async function receivedBy(url: string, source: string): Promise<number> {
  return eventsBy(await (await fetch(`${url}/metrics`)).text())[source]?.received ?? 0;
}

/** Each road takes every body to a ledger of its own, and resolves to that ledger's file. */
const ROADS: Readonly<Record<string, (stage: Stage) => Promise<string>>> = {
  async socket({ t, dir }) {
    const config = configOf(dir, 'socket');
    const bridge = await startBridge(t, config);
    for (const body of BODIES) {
      const { status } = await post(config.socket.path, '/v1/events', body);
      assert.ok(status === 202 || status === 400, String(status));
    }
    await bridge.stop();
    return ledgerFile(config);
  },

  async spool({ t, dir }) {
    const config = configOf(dir, 'spool');
    const bridge = await startBridge(t, config);
    mkdirSync(config.spool.dir, { recursive: true });
    BODIES.forEach((body, index) => {
      const file = path.join(config.spool.dir, `${String(index).padStart(6, '0')}.json`);
      writeFileSync(`${file}.tmp`, body);
      renameSync(`${file}.tmp`, file);
    });
    // A file that does not parse is left for five seconds: it could be half-written.
    await until(
      'an empty spool',
      () => bridge.status().spool?.waiting === 0 && bridge.status().spool?.quarantined === 1,
    );
    await bridge.stop();
    return ledgerFile(config);
  },

  async 'plain NATS'({ t, dir, server, connection }) {
    const nats = { servers: [server.url], jetstream: { enabled: false }, core: { enabled: true } };
    const config = configOf(dir, 'core', { nats });
    const bridge = await startBridge(t, config);
    await until('the subscription', () => bridge.status().sources.some(({ source, up }) => source === 'nats' && up));
    await connection.flush();
    for (const body of BODIES) {
      const answer = await connection.request(subjectOf(body), body, { timeout: 5000 });
      assert.match(answer.string(), /"accepted":|"error":/);
    }
    await bridge.stop();
    return ledgerFile(config);
  },

  async JetStream({ t, dir, server, connection }) {
    const nats = { servers: [server.url], replica: 'js', jetstream: { stream: 'TOLL' } };
    await setUpStreams(connection, natsConfig(nats));
    const config = configOf(dir, 'js', { nats });
    const bridge = await startBridge(t, config);
    for (const body of BODIES) await jetstream(connection).publish(subjectOf(body), body);
    const sent = (await (await jetstream(connection).streams.get('TOLL')).info()).state.last_seq;
    assert.equal(sent, BODIES.length - 1, 'all but the reading');
    const manager = jetstream(connection);
    await until('the reading', () => bridge.status().accounts.length === 1);
    await until('the end of the stream', async () => {
      const info = await (await manager.consumers.get('TOLL', 'tollbridge_js_1_of_1')).info();
      return info.num_pending === 0 && info.num_ack_pending === 0 && info.ack_floor.stream_seq === sent;
    });
    await bridge.stop();
    return ledgerFile(config);
  },

  async relay({ t, dir, server, connection }) {
    const nats = { servers: [server.url], replica: 'rl', jetstream: { stream: 'TOLL' } };
    await setUpStreams(connection, natsConfig(nats));
    const config = configOf(dir, 'rl', { nats, socket: { enabled: false } });
    const relayConfig = configOf(dir, 'edge', { nats });
    const bridge = await startBridge(t, config);
    const relay = await Relay.start({ config: { ...relayConfig, nats: relayConfig.nats! }, log, env: {} });
    t.after(() => relay.stop());
    for (const body of BODIES) {
      const { status } = await post(relayConfig.socket.path, '/v1/events', body);
      assert.ok(status === 202 || status === 400, String(status));
    }
    assert.equal(relay.status().relay.queue_events, 0, 'all of it is in the streams');
    const stored = async (stream: string) =>
      (await (await jetstream(connection).streams.get(stream)).info()).state.messages;
    // Fewer than were forwarded: the stream itself knows the same event said twice.
    const sent = (await stored('TOLL')) + (await stored('TOLL_POLLS'));
    await until('what was forwarded', async () => (await receivedBy(bridge.metricsUrl, 'jetstream')) === sent);
    await relay.stop();
    await bridge.stop();
    return ledgerFile(config);
  },
};

test('every road brings the same rows', async (t) => {
  let expected: Record<string, string[]> | undefined;
  for (const [name, take] of Object.entries(ROADS)) {
    // A stream of its own for each: what one road left there is no news to the next.
    const rows = rowsOf(await take(await stage(t)));
    expected ??= rows;
    assert.ok(rows.turns!.length > 20 && rows.tools!.length > 2, 'the table is not empty');
    assert.equal(rows.permissions!.length > 0 && rows.polls!.length === 1, true);
    for (const [table, of] of Object.entries(rows)) assert.deepEqual(of, expected[table], `${table} by ${name}`);
    t.diagnostic(
      `${name}: ${Object.entries(rows)
        .map(([table, of]) => `${of.length} ${table}`)
        .join(', ')}`,
    );
  }
});
