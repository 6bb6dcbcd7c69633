// What a real OpenCode with the stock OpenUsage plugin sent, replayed on every road and in every order: the scrape must
// show exactly the turns, cost, tokens, tool calls and sessions that it was worth, and no other series.

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { Bridge } from '../src/bridge.ts';
import { parseConfig } from '../src/config.ts';
import { createLog } from '../src/log.ts';
import { eventsBy, type Sums, samplesOf, shownBy } from './scrape.ts';

const FIXTURES = new URL('./fixtures/opencode/', import.meta.url).pathname;
const NAMES = readdirSync(FIXTURES)
  .filter((name) => name.endsWith('.jsonl'))
  .map((name) => name.replace('.jsonl', ''));

interface Expected {
  readonly turns: Sums;
  readonly cost_nano_usd: Sums;
  readonly tokens: Record<string, Sums>;
  readonly tool_calls: Sums;
  readonly sessions: number;
}

const expectedOf = (name: string): Expected =>
  JSON.parse(readFileSync(path.join(FIXTURES, `${name}.expected.json`), 'utf8'));

/** The bodies that arrived whole, in the order in which they were sent. */
function bodiesOf(name: string): string[] {
  return readFileSync(path.join(FIXTURES, `${name}.jsonl`), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { complete: boolean; content_length: number; body: string })
    .filter(({ complete, content_length }) => complete && content_length > 0)
    .map(({ body }) => body);
}

/** A fixed shuffle, so that a failure can be seen again. */
function shuffled<T>(items: readonly T[], seed: number): T[] {
  const result = [...items];
  let state = seed;
  for (let i = result.length - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = state % (i + 1);
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}

class Stage {
  readonly dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  readonly socket = path.join(this.dir, 's');
  readonly spool = path.join(this.dir, 'spool');
  #bridge: Bridge | undefined;

  async open(): Promise<void> {
    const config = parseConfig({
      state_dir: this.dir,
      detect: false,
      metrics: { listen: '127.0.0.1:0' },
      socket: { path: this.socket },
      spool: { dir: this.spool },
    });
    this.#bridge = await Bridge.start({ config, log: createLog('error') });
  }

  /** Leaves bodies as the stock plugin does when nobody listens; they are read in this order. */
  fillSpool(bodies: readonly string[]): void {
    mkdirSync(this.spool, { recursive: true });
    for (const [index, body] of bodies.entries()) {
      const file = path.join(this.spool, `1795294918_${index.toString(16).padStart(6, '0')}.json`);
      writeFileSync(`${file}.tmp`, `{"source":"opencode","account_id":"","payload":${body}}`);
      renameSync(`${file}.tmp`, file);
    }
  }

  async scrape(): Promise<string> {
    const answer = await fetch(`${(this.#bridge as Bridge).status().metrics_url}/metrics`);
    assert.equal(answer.status, 200);
    return answer.text();
  }

  /** Scrapes until so many events of a source have been counted. */
  async scrapeAfter(source: string, events: number): Promise<string> {
    for (let tries = 0; tries < 600; tries++) {
      const text = await this.scrape();
      if ((eventsBy(text)[source]?.received ?? 0) >= events) return text;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`only ${JSON.stringify(eventsBy(await this.scrape())[source])} of ${events} events arrived`);
  }

  /** Files go only after the commit that the counts show, so a moment later. */
  async spoolEmptied(): Promise<void> {
    const left = () => readdirSync(this.spool).filter((file) => file.endsWith('.json'));
    for (let tries = 0; tries < 400 && left().length > 0; tries++)
      await new Promise((resolve) => setTimeout(resolve, 25));
    assert.deepEqual(left(), [], 'the spool is empty');
  }

  async close(): Promise<void> {
    await this.#bridge?.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** As the stock plugin does it: one connection a post, gone as soon as the bytes are written. */
function postAndLeave(socketPath: string, body: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const bytes = Buffer.from(body);
    const head = `POST /v1/hook/opencode HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${bytes.length}\r\nConnection: close\r\n\r\n`;
    socket.on('error', reject);
    socket.on('connect', () =>
      socket.write(Buffer.concat([Buffer.from(head), bytes]), () => {
        socket.destroy();
        resolve();
      }),
    );
  });
}

function assertShows(text: string, name: string, bodies: readonly string[]): void {
  const expected = expectedOf(name);
  const tokens: Sums = {};
  for (const [model, byType] of Object.entries(expected.tokens)) {
    for (const [type, count] of Object.entries(byType)) if (count > 0) tokens[`${model} ${type}`] = count;
  }
  const notZero = (sums: Sums) => Object.fromEntries(Object.entries(sums).filter(([, value]) => value !== 0));
  assert.deepEqual(shownBy(text), {
    costNano: notZero(expected.cost_nano_usd),
    tokens,
    turns: expected.turns,
    toolCalls: expected.tool_calls,
    sessions: expected.sessions,
  });
  // No other series: a model that shows up at all was named by some assistant message of the capture.
  const known = new Set(
    bodies
      .map((body) => JSON.parse(body).event?.properties?.info)
      .filter((info) => info?.role === 'assistant')
      .map((info) => `${info.providerID}/${info.modelID}`),
  );
  for (const sample of samplesOf(text)) {
    if (!sample.name.startsWith('toll_') || sample.labels.model === undefined) continue;
    if (sample.name.startsWith('toll_model_info')) continue;
    assert.ok(
      known.has(`${sample.labels.provider}/${sample.labels.model}`),
      `a surplus series: ${JSON.stringify(sample)}`,
    );
    if (sample.labels.project !== undefined) assert.equal(sample.labels.project, 'shop');
  }
  for (const [source, { received = 0, ...outcomes }] of Object.entries(eventsBy(text))) {
    assert.equal(
      Object.values(outcomes).reduce((a, b) => a + b, 0),
      received,
      `events of ${source} are all accounted for`,
    );
    assert.equal(outcomes.rejected, undefined, `none of ${source} was rejected`);
  }
}

const ORDERS: Record<string, (bodies: string[]) => string[]> = {
  'as sent': (bodies) => bodies,
  twice: (bodies) => [...bodies, ...bodies],
  shuffled: (bodies) => shuffled(bodies, 7),
  'the last first': (bodies) => [...bodies.slice(-1), ...bodies.slice(0, -1)],
  backwards: (bodies) => bodies.toReversed(),
};

test('there are captures to replay', () => assert.ok(NAMES.length >= 14, `${NAMES.length} captures`));

for (const name of NAMES) {
  for (const [order, arrange] of Object.entries(ORDERS)) {
    test(`${name} by socket, ${order}`, async () => {
      const stage = new Stage();
      try {
        await stage.open();
        const bodies = bodiesOf(name);
        const sent = arrange(bodies);
        for (const body of sent) await postAndLeave(stage.socket, body);
        assertShows(await stage.scrapeAfter('socket', sent.length), name, bodies);
      } finally {
        await stage.close();
      }
    });
  }

  for (const [order, arrange] of Object.entries(ORDERS)) {
    test(`${name} by spool, ${order}`, async () => {
      const stage = new Stage();
      try {
        const bodies = bodiesOf(name);
        const sent = arrange(bodies);
        stage.fillSpool(sent);
        await stage.open();
        assertShows(await stage.scrapeAfter('spool', sent.length), name, bodies);
        await stage.spoolEmptied();
      } finally {
        await stage.close();
      }
    });
  }

  test(`${name} by spool, then again by socket`, async () => {
    const stage = new Stage();
    try {
      const bodies = bodiesOf(name);
      stage.fillSpool(bodies);
      await stage.open();
      await stage.scrapeAfter('spool', bodies.length);
      for (const body of bodies) await postAndLeave(stage.socket, body);
      assertShows(await stage.scrapeAfter('socket', bodies.length), name, bodies);
    } finally {
      await stage.close();
    }
  });
}

test('the spool files of one turn, as the stock plugin left them', async () => {
  const stage = new Stage();
  try {
    cpSync(path.join(FIXTURES, 'spool'), stage.spool, { recursive: true });
    const files = readdirSync(stage.spool);
    const bodies = files.map((file) =>
      JSON.stringify(JSON.parse(readFileSync(path.join(stage.spool, file), 'utf8')).payload),
    );
    await stage.open();
    assertShows(await stage.scrapeAfter('spool', files.length), 'spool', bodies);
  } finally {
    await stage.close();
  }
});
