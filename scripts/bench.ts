// npm run bench: what the bridge costs beside the least that could do the job, measured alternately in one run, because
// machines are shared and noisy. Only the ratios mean anything.

import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { type DataPoint, DataPointType, type SumMetricData } from '@opentelemetry/sdk-metrics';
import { Pool } from 'undici';
import { Bridge } from '../src/bridge.ts';
import { parseConfig } from '../src/config.ts';
import { Ledger } from '../src/ledger/ledger.ts';
import { createLog } from '../src/log.ts';
import { TOLL } from '../src/metrics/catalogue.ts';
import { Exposition } from '../src/metrics/exposition.ts';
import { Health } from '../src/metrics/health.ts';
import { NatsLink } from '../src/nats/connection.ts';
import { setUpStreams } from '../src/nats/streams.ts';
import { JetStreamSource } from '../src/sources/jetstream.ts';
import { LedgerSink } from '../src/sources/ledger-sink.ts';
import { Intake } from '../src/sources/source.ts';
import { Attribution } from '../src/turn/attribution.ts';
import { decodeBody } from '../src/turn/normalize.ts';
import { Pricing } from '../src/turn/pricing.ts';
import { connected, NatsServer, natsConfig } from '../test/nats/nats-server.ts';
import { provideTools } from './test-tools.ts';

const ROUNDS = 7;
const EVENTS_PER_ROUND = 4000;
const CONNECTIONS = 16;
const SERIES = 10_000;

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number;

let serial = 0;
function turnRecord(): object {
  const id = serial++;
  const now = Date.now();
  return {
    v: 1,
    kind: 'turn',
    agent: 'opencode',
    id: { session: `ses_${Math.floor(id / 50)}`, message: `msg_${id}` },
    time: { started: now - 5000, completed: now },
    provider: 'opencode',
    model: 'claude-sonnet-4-5',
    project: 'shop',
    status: 'ok',
    tokens: { input: 1000, output: 100, reasoning: 0, cache_read: 5000, cache_write: 0 },
    cost_usd: 0.0042,
  };
}

/** Seconds to post all bodies, each acknowledged, over some connections at once. */
async function post(socketPath: string, bodies: readonly string[]): Promise<number> {
  const pool = new Pool('http://bench', { socketPath, connections: CONNECTIONS });
  let next = 0;
  const startedMs = performance.now();
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      for (let body = bodies[next++]; body !== undefined; body = bodies[next++]) {
        const answer = await pool.request({ path: '/v1/events', method: 'POST', body });
        await answer.body.dump();
        if (answer.statusCode !== 202) throw new Error(`answered ${answer.statusCode}`);
      }
    }),
  );
  const seconds = (performance.now() - startedMs) / 1000;
  await pool.destroy();
  return seconds;
}

/** A server that parses and answers, and keeps nothing: the floor under every intake. */
async function startFloor(socketPath: string): Promise<http.Server> {
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      for (const line of Buffer.concat(chunks).toString().split('\n')) JSON.parse(line);
      response.writeHead(202).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return server;
}

async function benchIntake(batch: number): Promise<string> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const socketPath = path.join(dir, 's');
  const config = parseConfig({
    state_dir: dir,
    detect: false,
    metrics: { listen: '127.0.0.1:0' },
    socket: { path: socketPath },
  });
  const bridge = await Bridge.start({ config, log: createLog('error') });
  const floor = await startFloor(path.join(dir, 'floor'));
  const ours: number[] = [];
  const floors: number[] = [];
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const bodies = Array.from({ length: EVENTS_PER_ROUND / batch }, () =>
        Array.from({ length: batch }, () => JSON.stringify(turnRecord())).join('\n'),
      );
      ours.push(EVENTS_PER_ROUND / (await post(socketPath, bodies)));
      floors.push(EVENTS_PER_ROUND / (await post(path.join(dir, 'floor'), bodies)));
    }
  } finally {
    floor.close();
    await bridge.stop();
    rmSync(dir, { recursive: true, force: true });
  }
  return row(
    `intake, ${batch} event(s) a request, durable`,
    median(ours),
    'parse and forget',
    median(floors),
    'events/s',
  );
}

/** What asking before a turn costs: a verdict over two budgets and a guardrail, beside an answer that says nothing. */
async function benchVerdict(): Promise<string> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const socketPath = path.join(dir, 's');
  const config = parseConfig({
    ...{ state_dir: dir, detect: false, metrics: { listen: '127.0.0.1:0' }, socket: { path: socketPath } },
    budgets: [
      { name: 'all', limit_usd: 500, period: 'month', hard: true },
      { name: 'shop', scope: { project: 'shop' }, limit_usd: 50, period: 'week' },
    ],
    guardrails: [{ name: 'models', models: { allow: ['claude-*', 'gpt-*'] } }],
  });
  const bridge = await Bridge.start({ config, log: createLog('error') });
  const floor = http.createServer((request, response) => {
    request.resume().on('end', () => response.end('{}'));
  });
  await new Promise<void>((resolve) => floor.listen(path.join(dir, 'floor'), resolve));
  const question = { agent: 'opencode', provider: 'anthropic', model: 'claude-sonnet-4-5', project: 'shop' };
  const body = JSON.stringify(question);
  const ask = async (socket: string): Promise<number> => {
    const pool = new Pool('http://bench', { socketPath: socket, connections: 1 });
    const startedMs = performance.now();
    for (let asked = 0; asked < EVENTS_PER_ROUND; asked++) {
      await (await pool.request({ path: '/v1/verdict', method: 'POST', body })).body.dump();
    }
    const seconds = (performance.now() - startedMs) / 1000;
    await pool.destroy();
    return EVENTS_PER_ROUND / seconds;
  };
  const ours: number[] = [];
  const floors: number[] = [];
  try {
    for (let round = 0; round < ROUNDS; round++) {
      ours.push(await ask(socketPath));
      floors.push(await ask(path.join(dir, 'floor')));
    }
  } finally {
    floor.close();
    await bridge.stop();
    rmSync(dir, { recursive: true, force: true });
  }
  return row('verdicts, one after the other', median(ours), 'an empty answer', median(floors), 'answers/s');
}

async function benchExposition(): Promise<string> {
  const now: [number, number] = [Math.floor(Date.now() / 1000), 0];
  const points = Array.from(
    { length: SERIES },
    (_, index): DataPoint<number> => ({
      attributes: {
        agent: 'opencode',
        provider: 'opencode',
        upstream_provider: 'anthropic',
        model: `model-${index}`,
        project: 'shop',
      },
      startTime: now,
      endTime: now,
      value: index / 7,
    }),
  );
  const metric: SumMetricData = {
    descriptor: { name: TOLL.cost.otelName, description: TOLL.cost.help, unit: TOLL.cost.unit, valueType: 1 },
    aggregationTemporality: 1,
    dataPointType: DataPointType.SUM,
    isMonotonic: true,
    dataPoints: points,
  };
  const exposition = new Exposition();
  const serializer = new PrometheusSerializer(undefined, false, undefined, true, true);
  const resourceMetrics = {
    resource: resourceFromAttributes({}),
    scopeMetrics: [{ scope: { name: 'bench' }, metrics: [metric] }],
  };
  const ours: number[] = [];
  const stock: number[] = [];
  for (let round = 0; round < ROUNDS * 3; round++) {
    let startedMs = performance.now();
    await exposition.render([metric]);
    ours.push(1000 / (performance.now() - startedMs));
    startedMs = performance.now();
    serializer.serialize(resourceMetrics);
    stock.push(1000 / (performance.now() - startedMs));
  }
  return row(`exposition of ${SERIES} series`, median(ours), 'PrometheusSerializer', median(stock), 'renders/s');
}

/** Filling a ledger from a stream, beside the same events handed to a ledger in batches by this process itself. */
async function benchStream(): Promise<string> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const server = await NatsServer.start({ dir });
  const connection = await connected(server);
  const log = createLog('error');
  const { labels, retention } = parseConfig({});
  const attribution = new Attribution({ gateways: {}, pricing: new Pricing([]), accounts: [], project: 'name' });
  const meter = new Health({ version: '0', sources: [], producers: [] });
  const streamed: number[] = [];
  const direct: number[] = [];
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const config = natsConfig({ servers: [server.url], replica: `r${round}` });
      await setUpStreams(connection, config);
      const records = Array.from({ length: EVENTS_PER_ROUND }, turnRecord);
      const client = jetstream(connection);
      for (let from = 0; from < records.length; from += 500) {
        const batch = records.slice(from, from + 500);
        await Promise.all(batch.map((record) => client.publish('toll.turns.core.ada', JSON.stringify(record))));
      }
      const open = (name: string) =>
        Ledger.open({
          ...{ file: path.join(dir, `${name}${round}.db`), timeZone: 'UTC', retentionMs: retention },
          ...{ caps: labels.caps, log },
        });
      const ledger = open('streamed');
      const link = new NatsLink({ config, env: {}, log, name: 'bench' });
      await link.start();
      const intake = new Intake({ sink: new LedgerSink({ ledger, attribution }), meter });
      const source = new JetStreamSource({ link, config, ledger, intake, meter, log });
      let startedMs = performance.now();
      await source.start();
      while (ledger.openStream(config.jetstream.stream, '1/1').seq < EVENTS_PER_ROUND) await delay(1);
      streamed.push(EVENTS_PER_ROUND / ((performance.now() - startedMs) / 1000));
      await source.stop();
      await link.stop();
      ledger.close();
      await (await jetstreamManager(connection)).streams.delete(config.jetstream.stream);

      const other = open('direct');
      const sink = new Intake({ sink: new LedgerSink({ ledger: other, attribution }), meter });
      startedMs = performance.now();
      for (let from = 0; from < records.length; from += 100) {
        const body = records.slice(from, from + 100).map((record) => JSON.stringify(record));
        const items = decodeBody(Buffer.from(body.join('\n')));
        await sink.accept(
          'bench',
          items.map(({ decoded }) => decoded),
          {},
        );
      }
      direct.push(EVENTS_PER_ROUND / ((performance.now() - startedMs) / 1000));
      other.close();
    }
  } finally {
    await meter.shutdown();
    await connection.close();
    await server.kill();
    rmSync(dir, { recursive: true, force: true });
  }
  return row(
    'from JetStream, a message an event',
    median(streamed),
    'handed over in the process',
    median(direct),
    'events/s',
  );
}

function row(what: string, ours: number, beside: string, theirs: number, unit: string): string {
  const ratio = (ours / theirs).toFixed(2);
  return `| ${what} | ${Math.round(ours)} ${unit} | ${beside}: ${Math.round(theirs)} ${unit} | ${ratio} |`;
}

const toolProblem = provideTools();
if (toolProblem) throw new Error(toolProblem);
process.stdout.write('| what | ours | beside it | ratio |\n|---|---|---|---|\n');
for (const measure of [() => benchIntake(1), () => benchIntake(100), benchVerdict, benchStream, benchExposition]) {
  process.stdout.write(`${await measure()}\n`);
}
