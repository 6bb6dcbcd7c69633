// A real intake for OTLP over a real ledger, and the recordings of real agents to post to it.

import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { TokenConfig } from '../../src/config.ts';
import { Ledger } from '../../src/ledger/ledger.ts';
import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { LedgerSink, type LedgerSinkOptions } from '../../src/sources/ledger-sink.ts';
import { type OtlpServerOptions, otlpServer } from '../../src/sources/otlp-server.ts';
import { SenderTokens } from '../../src/sources/sender-tokens.ts';
import { Intake } from '../../src/sources/source.ts';
import { Attribution } from '../../src/turn/attribution.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import { messageType } from '../otlp-messages.ts';
import { CountingMeter, readableLog, temporaryFolder } from './intake-fixture.ts';

const FIXTURES = path.join(import.meta.dirname, '..', 'fixtures', 'otlp');
const CAPS = { model: 200, project: 50, user: 200, tool: 100, mcp_server: 50, series: 20_000 };
/** A word that stands in the recordings wherever the agent sent content. */
export const CANARY = 'CANARY';

/** The same as protobuf: ids are hex in OTLP/JSON, where the library expects base64. */
export function asProtobuf(route: string, body: unknown): Buffer {
  const type = messageType(route === '/v1/traces' ? 'Traces' : 'Logs');
  const text = JSON.stringify(body, (key, value) => {
    const isId = ['traceId', 'spanId', 'parentSpanId'].includes(key);
    return isId && typeof value === 'string' ? Buffer.from(value, 'hex').toString('base64') : value;
  });
  return Buffer.from(type.encode(type.fromObject(JSON.parse(text))).finish());
}

export interface RecordedPost {
  readonly path: string;
  readonly body: unknown;
  readonly content_type: string;
  readonly content_encoding?: string;
  readonly body_pb_b64?: string;
}

export interface Recording {
  readonly name: string;
  readonly posts: readonly RecordedPost[];
  readonly expected: {
    readonly turns: number;
    readonly errors: number;
    readonly tools: number;
    readonly sessions: number;
    readonly metered: readonly number[];
    readonly cost_usd: number;
    readonly providers: readonly string[];
  };
}

export function recordings(prefix = ''): Recording[] {
  return readdirSync(FIXTURES)
    .filter((file) => file.startsWith(prefix) && file.endsWith('.jsonl'))
    .map((file) => {
      const name = file.slice(0, -'.jsonl'.length);
      const read = (ending: string) => readFileSync(path.join(FIXTURES, `${name}${ending}`), 'utf8');
      const posts = read('.jsonl')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      return { name, posts, expected: JSON.parse(read('.expected.json')) };
    });
}

export interface Posted {
  readonly path: string;
  readonly bytes: Buffer | string;
  readonly headers: http.OutgoingHttpHeaders;
}

export const inJson = (route: string, body: unknown): Posted => ({
  path: route,
  bytes: JSON.stringify(body),
  headers: { 'content-type': 'application/json' },
});
export const inProtobuf = (route: string, body: unknown): Posted => ({
  path: route,
  bytes: asProtobuf(route, body),
  headers: { 'content-type': 'application/x-protobuf' },
});
export const zipped = ({ bytes, headers, ...rest }: Posted): Posted => ({
  ...rest,
  bytes: gzipSync(bytes),
  headers: { ...headers, 'content-encoding': 'gzip' },
});

export interface OtlpAnswered {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly bytes: Buffer;
}

export async function send(url: string, { path: route, bytes, headers }: Posted): Promise<OtlpAnswered> {
  const request = http.request(`${url}${route}`, { method: 'POST', headers, agent: false });
  request.end(bytes);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode!, headers: response.headers, bytes: Buffer.concat(chunks) };
}

export interface StartOptions {
  readonly tokens?: readonly TokenConfig[];
  readonly limits?: OtlpServerOptions['limits'];
  /** One that is there already. */
  readonly ledger?: Ledger;
  /** Is shown what was committed. */
  readonly onBooked?: LedgerSinkOptions['onBooked'];
  /** Stands before the ledger. */
  readonly submit?: (submit: Ledger['submitAll']) => Ledger['submitAll'];
}

/** The intake of a bridge, with a ledger of its own in a folder of its own. */
export async function startOtlp(
  t: TestContext,
  { tokens = [], limits, submit = (own) => own, ...given }: StartOptions = {},
) {
  const folder = temporaryFolder(t);
  const { log, lines } = readableLog();
  const open = () =>
    Ledger.open({
      ...{ file: path.join(folder, 'ledger.db'), timeZone: 'UTC', retentionMs: 90 * 86_400_000, caps: CAPS, log },
    });
  const ledger = given.ledger ?? open();
  t.after(() => ledger.close());
  const attribution = new Attribution({ gateways: {}, pricing: new Pricing([]), accounts: [], project: 'name' });
  const meter = new CountingMeter();
  const sink = new LedgerSink({
    ledger: {
      submitAll: submit((parts) => ledger.submitAll(parts)),
      recordPoll: (poll) => ledger.recordPoll(poll),
      providerOf: (agent, sessionId) => ledger.providerOf(agent, sessionId),
      get backlogEvents() {
        return ledger.backlogEvents;
      },
    },
    attribution,
    ...(given.onBooked && { onBooked: given.onBooked }),
  });
  const server = otlpServer({
    tcp: { listen: { host: '127.0.0.1', port: 0 }, plaintext: false, rate_limit: 100_000 },
    tokens: new SenderTokens(tokens, { env: {}, perSecond: 100_000 }),
    intake: new Intake({ sink, meter }),
    ...{ meter, log, status: () => ({}), health: () => ({ status: 'ok' }), limits },
  });
  t.after(() => server.stop());
  await server.start();
  return { ledger, server, url: server.url, meter, lines, folder };
}

export const sum = (ledger: Ledger, family: MetricFamily, labels: Readonly<Record<string, string>> = {}) => {
  let total = 0;
  for (const { labels: own, value } of ledger.counters(family.name)) {
    if (Object.entries(labels).every(([name, wanted]) => own[name] === wanted)) total += value;
  }
  return total;
};

/** What a ledger counted, in the terms of `expected.json`. */
export function countedBy(ledger: Ledger) {
  const tokens = (type: string) => sum(ledger, TOLL.tokens, { token_type: type });
  return {
    turns: sum(ledger, TOLL.turns),
    errors: sum(ledger, TOLL.turnErrors),
    tools: ledger.health().toolCalls,
    sessions: sum(ledger, TOLL.sessions),
    metered: ['input', 'output', 'reasoning', 'cache_read', 'cache_write'].map(tokens),
    costNano: sum(ledger, TOLL.cost),
  };
}
