// kill -9 at random moments of a stream whose sender retries what was not acknowledged, with duplicates and with the
// vectors of each turn in random order. Afterwards every series must equal the truth, Prometheus must have seen no
// reset, and a plain difference over the kills must be exact to the nano-dollar.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { Pool } from 'undici';
import { TOLL } from '../src/metrics/catalogue.ts';
import { freePort, Prometheus, until } from './prometheus-server.ts';
import { samplesOf, shownBy } from './scrape.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const EVENTS = FULL ? 20_000 : 5_000;
const KILLS = FULL ? 20 : 6;
const BATCH = 20;
const DUPLICATES = 0.1;
const SCRAPE_MS = 200;
const CLI = new URL('../src/cli.ts', import.meta.url).pathname;

/** A small generator of repeatable randomness. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const MODELS = [
  ['opencode', 'claude-sonnet-4-5'],
  ['anthropic', 'claude-opus-4-5'],
  ['openrouter', 'openai/gpt-5.1'],
  ['opencode-go', 'glm-5'],
] as const;
const TOKENS = ['input', 'output', 'reasoning', 'cache_read', 'cache_write'] as const;

interface Stream {
  readonly records: object[];
  readonly costNano: Record<string, number>;
  readonly tokens: Record<string, number>;
  readonly turns: Record<string, number>;
  readonly toolCalls: Record<string, number>;
  readonly sessions: number;
}

/** Turns of four vectors each (the last one corrects the one before, up or down), their tool calls and sessions. */
function compose(events: number, { seed, name }: { seed: number; name: string }): Stream {
  const random = randomFrom(seed);
  const records: object[] = [];
  const stream: Stream = { records, costNano: {}, tokens: {}, turns: {}, toolCalls: {}, sessions: 0 };
  const sessions = new Set<string>();
  const add = (sums: Record<string, number>, key: string, value: number) => {
    sums[key] = (sums[key] ?? 0) + value;
  };
  const base = Date.now() - 3600_000;
  for (let turn = 0; records.length < events / (1 + DUPLICATES); turn++) {
    const [provider, model] = MODELS[Math.floor(random() * MODELS.length)] as (typeof MODELS)[number];
    const session = `ses_${name}_${Math.floor(turn / 40)}`;
    const started = base + turn * 50;
    const shape = () => Object.fromEntries(TOKENS.map((type) => [type, Math.floor(random() * 5000)]));
    const final = { tokens: shape(), nano: Math.floor(random() * 50_000_000) };
    const vectors = [
      { tokens: undefined, nano: undefined, finished: false, completed: false },
      { tokens: shape(), nano: Math.floor(random() * 50_000_000), finished: true, completed: false },
      { tokens: shape(), nano: Math.floor(random() * 50_000_000), finished: true, completed: true },
      { ...final, finished: true, completed: true },
    ];
    for (const [index, vector] of vectors.entries()) {
      records.push({
        v: 1,
        kind: 'turn',
        agent: 'opencode',
        id: { session, message: `msg_${name}_${turn}` },
        event_id: `evt_${String(index)}`,
        time: { started, ...(vector.completed ? { completed: started + 1234 } : {}) },
        provider,
        model,
        project: 'shop',
        ...(vector.finished ? { status: 'ok' } : {}),
        ...(vector.tokens ? { tokens: vector.tokens, cost_usd: (vector.nano as number) / 1e9 } : {}),
      });
    }
    records.push({
      v: 1,
      kind: 'tool',
      agent: 'opencode',
      id: { session, call: `call_${turn}`, message: `msg_${name}_${turn}` },
      tool: 'bash',
      status: 'ok',
      time: { started: started + 10, completed: started + 200 },
    });
    if (!sessions.has(session))
      records.push({ v: 1, kind: 'session', agent: 'opencode', id: { session }, project: 'shop' });
    sessions.add(session);
    const key = `${provider}/${model}`;
    add(stream.costNano, key, final.nano);
    for (const type of TOKENS) add(stream.tokens, `${key} ${type}`, final.tokens[type] as number);
    add(stream.turns, `${key} ok`, 1);
    add(stream.toolCalls, 'bash ok', 1);
  }
  for (let i = records.length * DUPLICATES; i > 0; i--)
    records.push(records[Math.floor(random() * records.length)] as object);
  for (let i = records.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [records[i], records[j]] = [records[j] as object, records[i] as object];
  }
  return { ...stream, sessions: sessions.size };
}

class KillableBridge {
  readonly socket: string;
  readonly url: string;
  readonly #configFile: string;
  #child: ChildProcess | undefined;
  #said = '';

  constructor(dir: string, port: number) {
    this.socket = path.join(dir, 's');
    this.url = `http://127.0.0.1:${port}`;
    this.#configFile = path.join(dir, 'tollbridge.yaml');
    writeFileSync(
      this.#configFile,
      JSON.stringify({
        state_dir: path.join(dir, 'state'),
        detect: false,
        metrics: { listen: `127.0.0.1:${port}` },
        socket: { path: this.socket },
        log: { level: 'error' },
      }),
    );
  }

  async start(): Promise<void> {
    const child = spawn(process.execPath, [CLI, 'start', '--config', this.#configFile], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child.stderr?.on('data', (chunk) => {
      this.#said += chunk;
    });
    this.#child = child;
    await until('the start of the bridge', async () => {
      if (child.exitCode !== null) throw new Error(`the bridge ended: ${this.#said}`);
      return fetch(`${this.url}/-/ready`).then(
        (answer) => answer.ok,
        () => false,
      );
    });
  }

  async kill(): Promise<void> {
    const child = this.#child as ChildProcess;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  async scrape(): Promise<string> {
    const answer = await fetch(`${this.url}/metrics`);
    assert.equal(answer.status, 200);
    return answer.text();
  }
}

/** Sends batches, each until it is acknowledged. Returns how often a batch had to be sent again. */
async function deliver(socketPath: string, records: readonly object[]): Promise<number> {
  let next = 0;
  let retries = 0;
  const sender = async () => {
    const pool = new Pool('http://tollbridge', { socketPath, connections: 1 });
    while (next < records.length) {
      const batch = records.slice(next, next + BATCH);
      next += BATCH;
      const body = batch.map((record) => JSON.stringify(record)).join('\n');
      for (;;) {
        const status = await pool
          .request({ path: '/v1/events', method: 'POST', body, headersTimeout: 10_000 })
          .then(async (answer) => {
            const text = await answer.body.text();
            if (answer.statusCode === 202) assert.deepEqual(JSON.parse(text).rejected, []);
            return answer.statusCode;
          })
          .catch((error) => {
            if (error instanceof assert.AssertionError) throw error;
            return 0;
          });
        if (status === 202) break;
        retries += 1;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      // Slow enough that the stream outlasts the kills.
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
    await pool.destroy();
  };
  await Promise.all(Array.from({ length: 4 }, sender));
  return retries;
}

/** Every series that may only rise, by the name it has in a scrape. */
const RISING = Object.values(TOLL).flatMap(({ name, type }) => {
  if (type === 'gauge') return [];
  return type === 'counter' ? [name] : [`${name}_bucket`, `${name}_sum`, `${name}_count`];
});

test(`${EVENTS} events and ${KILLS} kills: exact to the nano-dollar`, async (t) => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const port = await freePort();
  const bridge = new KillableBridge(dir, port);
  await bridge.start();
  const prometheus = await Prometheus.start({ dir, targets: [`127.0.0.1:${port}`], scrapeMs: SCRAPE_MS });
  try {
    const before = compose(EVENTS / 20, { seed: 1, name: 'before' });
    const during = compose(EVENTS, { seed: 2, name: 'during' });
    await deliver(bridge.socket, before.records);
    /** Waits for a scrape that began after now, so that it shows all that was acknowledged; Unix seconds of that scrape. */
    const scrapedAfterNow = async () => {
      const sinceS = Date.now() / 1000;
      let scrapedS = 0;
      await until('a scrape after what was delivered', async () => {
        scrapedS = (await prometheus.query('timestamp(tollbridge_ledger_created_timestamp_seconds)'))[0]?.value ?? 0;
        return scrapedS > sinceS;
      });
      return scrapedS;
    };
    const sum = (sums: Record<string, number>) => Object.values(sums).reduce((a, b) => a + b, 0);
    const fromS = await scrapedAfterNow();

    const random = randomFrom(Date.now());
    let isDelivered = false;
    const delivery = deliver(bridge.socket, during.records).then((retries) => {
      isDelivered = true;
      return retries;
    });
    let killedUnderway = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      await new Promise((resolve) => setTimeout(resolve, 50 + random() * 400));
      if (!isDelivered) killedUnderway += 1;
      await bridge.kill();
      await bridge.start();
    }
    const retries = await delivery;
    const toS = await scrapedAfterNow();

    const both = (a: Record<string, number>, b: Record<string, number>) =>
      Object.fromEntries(
        [...new Set([...Object.keys(a), ...Object.keys(b)])].map((key) => [key, (a[key] ?? 0) + (b[key] ?? 0)]),
      );
    const text = await bridge.scrape();
    assert.deepEqual(shownBy(text), {
      costNano: both(before.costNano, during.costNano),
      tokens: both(before.tokens, during.tokens),
      turns: both(before.turns, during.turns),
      toolCalls: both(before.toolCalls, during.toolCalls),
      sessions: before.sessions + during.sessions,
    });

    for (const name of RISING) {
      assert.deepEqual(await prometheus.query(`resets(${name}[1h]) > 0`), [], `${name} was never seen to fall`);
    }
    const rangeMs = Math.round((toS - fromS) * 1000);
    const spent = (name: string) => {
      const now = `sum by (provider, model) (${name})`;
      // The ledger was there at both ends, so a series that was not is one that had not begun: it counts from 0.
      return `(${now} - (sum by (provider, model) (${name} offset ${rangeMs}ms) or 0 * ${now}))`;
    };
    const cost = spent('toll_cost_usd_total');
    const takenBack = spent('toll_cost_corrections_usd_total');
    const difference = await prometheus.query(`${cost} - (${takenBack} or 0 * ${cost})`, toS);
    assert.deepEqual(
      Object.fromEntries(
        difference.map(({ metric, value }) => [`${metric.provider}/${metric.model}`, Math.round(value * 1e9)]),
      ),
      during.costNano,
      'the difference over the kills is what was spent meanwhile',
    );
    const series = samplesOf(text).filter(({ name }) => name.startsWith('toll_')).length;
    t.diagnostic(
      `${during.records.length} events, ${KILLS} kills (${killedUnderway} while the stream ran), ${retries} batches sent again, ` +
        `${series} series, 0 resets, ${sum(during.costNano)} nano-USD over the kills, difference 0`,
    );
    assert.ok(killedUnderway >= KILLS / 2, `only ${killedUnderway} of ${KILLS} kills hit the stream`);
    assert.ok(retries > 0, 'some batches met a kill');
  } finally {
    await prometheus.stop();
    await bridge.kill();
    rmSync(dir, { recursive: true, force: true });
  }
});
