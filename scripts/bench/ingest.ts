// What it costs to take turns in for good: known from every other, committed to disk before the answer. Per second of
// processor time where the work of one side is compared, per second of the clock where waiting is part of it.

import { createServer, type Server } from 'node:http';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Bridge } from '../../src/bridge.ts';
import { parseConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import { NatsLink } from '../../src/nats/connection.ts';
import { setUpStreams } from '../../src/nats/streams.ts';
import { JetStreamSource } from '../../src/sources/jetstream.ts';
import { SocketServer } from '../../src/sources/socket-server.ts';
import { connected, NatsServer, natsConfig } from '../../test/nats/nats-server.ts';
import { BenchLedger, pluginRecord, relayedRecord, scratchFolder, turnRecord } from './bench-ledger.ts';
import { Client } from './client.ts';
import { type Benchmark, perCpuSecond, perSecond, quantile, type Round } from './measure.ts';
import { startOurs } from './scrape.ts';

const ROUNDS = 7;
const WARM_UP_ROUNDS = 2;
/** So many that what begins with a round (connections, code that runs for the first time) weighs little: a bridge runs for weeks. */
const EVENTS = 100_000;
const SINGLE_EVENTS = 24_000;
const LOUD = createLog('error');

const bodiesOf = (events: number, perBody: number, record: () => object) =>
  Array.from({ length: events / perBody }, () =>
    Array.from({ length: perBody }, () => JSON.stringify(record())).join('\n'),
  );

/** The least that a receiver could do: each event parsed once, from its bytes. @returns events per second of one core */
function parseAlone(bodies: readonly string[]): Promise<number> {
  const lines = bodies.flatMap((body) => body.split('\n')).map((line) => Buffer.from(line));
  return perCpuSecond(lines.length, async () => {
    let kept = 0;
    for (const line of lines) kept += Object.keys(JSON.parse(line.toString()) as object).length;
    if (kept === 0) throw new Error('nothing was parsed');
  });
}

/** From a real nats-server, in messages of so many events, into a ledger. The server's time is not counted. */
function fromJetStream(perMessage: number) {
  return async function* (): AsyncGenerator<Round> {
    const { dir, clear } = scratchFolder();
    const server = await NatsServer.start({ dir });
    const connection = await connected(server);
    try {
      for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
        const config = natsConfig({ servers: [server.url], replica: `r${round + WARM_UP_ROUNDS}` });
        await setUpStreams(connection, config);
        const bodies = bodiesOf(EVENTS, perMessage, relayedRecord);
        const client = jetstream(connection);
        for (let from = 0; from < bodies.length; from += 500) {
          await Promise.all(bodies.slice(from, from + 500).map((body) => client.publish('toll.turns.core.ada', body)));
        }
        const bench = new BenchLedger(path.join(dir, `${round}.db`));
        const link = new NatsLink({ config, env: {}, log: LOUD, name: 'bench' });
        await link.start();
        const { ledger, intake, health: meter } = bench;
        const source = new JetStreamSource({ link, config, ledger, intake, meter, log: LOUD });
        const ours = await perCpuSecond(EVENTS, async () => {
          await source.start();
          while (bench.committed < EVENTS) await delay(5);
        });
        await source.stop();
        await link.stop();
        await bench.close();
        await (await jetstreamManager(connection)).streams.delete(config.jetstream.stream);
        const theirs = await parseAlone(bodies);
        if (round >= 0) yield { ours, theirs };
      }
    } finally {
      await connection.close();
      await server.kill();
      clear();
    }
  };
}

/** A bridge with a socket, and the client that posts to it. */
async function withBridge<T>(use: (socket: string, dir: string, client: Client) => AsyncGenerator<T>) {
  const { dir, clear } = scratchFolder();
  const socketPath = path.join(dir, 's');
  const config = parseConfig({
    ...{ state_dir: dir, detect: false, metrics: { listen: '127.0.0.1:0' }, socket: { path: socketPath } },
    budgets: [
      { name: 'all', limit_usd: 500, period: 'month', hard: true },
      { name: 'shop', scope: { project: 'shop' }, limit_usd: 50, period: 'week' },
    ],
    guardrails: [{ name: 'models', models: { allow: ['claude-*', 'gpt-*'] } }],
  });
  const bridge = await Bridge.start({ config, log: LOUD });
  const client = new Client();
  return (async function* () {
    try {
      yield* use(socketPath, dir, client);
    } finally {
      client.stop();
      await bridge.stop();
      clear();
    }
  })();
}

async function* overSocket(): AsyncGenerator<Round> {
  yield* await withBridge(async function* (at, _, client) {
    for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
      const bodies = bodiesOf(EVENTS, 100, pluginRecord);
      // Handing the bodies over is no work of a bridge.
      await client.prepare({ at, path: '/v1/events', bodies, connections: 4 });
      const ours = await perCpuSecond(EVENTS, () => client.go());
      const theirs = await parseAlone(bodies);
      if (round >= 0) yield { ours, theirs };
    }
  });
}

/** A server that parses and answers, and keeps nothing. */
async function bareServer(socketPath: string, answer: string): Promise<Server> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      JSON.parse(Buffer.concat(chunks).toString());
      response.writeHead(200, { 'content-type': 'application/json' }).end(answer);
    });
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return server;
}

/** Requests of one body each, to a bridge and to the bare server, in turns. */
function besideBareServer(route: string, connections: number, bodies: () => string[]) {
  return async function* (): AsyncGenerator<Round> {
    yield* await withBridge(async function* (at, dir, client) {
      const bare = path.join(dir, 'bare');
      const server = await bareServer(bare, '{"status":"accepted","decision":"allow","ttl_s":10}');
      try {
        for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
          const task = { path: route, bodies: bodies(), connections };
          const ours = await perSecond(task.bodies.length, () => client.run({ ...task, at }));
          const theirs = await perSecond(task.bodies.length, () => client.run({ ...task, at: bare }));
          if (round >= 0) yield { ours, theirs };
        }
      } finally {
        server.closeAllConnections();
        server.close();
      }
    });
  };
}

const QUESTION = { agent: 'opencode', provider: 'anthropic', model: 'claude-sonnet-4-5', project: 'shop' };

/** The slowest of a hundred answers to events at a steady rate, while a large scrape runs again and again, and without. */
async function* duringScrapes(): AsyncGenerator<Round> {
  const { dir, clear } = scratchFolder();
  const at = path.join(dir, 's');
  const ours = await startOurs(100_000);
  const client = new Client();
  const { intake, health: meter } = ours.bench;
  const server = new SocketServer({
    ...{ path: at, intake, meter, log: LOUD, identity: {} },
    ...{ status: () => ({}), health: () => ({}) },
  });
  await server.start();
  const latency = async () => {
    const { ms } = await client.run({
      at,
      path: '/v1/events',
      bodies: bodiesOf(600, 1, pluginRecord),
      connections: 32,
      rate: 200,
    });
    return quantile(ms, 0.99);
  };
  try {
    await latency();
    for (let round = 0; round < 5; round++) {
      const alone = await latency();
      let isOver = false;
      const scraping = (async () => {
        while (!isOver) {
          await ours.scrape();
          await delay(500);
        }
      })();
      const during = await latency();
      isOver = true;
      await scraping;
      yield { ours: during, theirs: alone };
    }
  } finally {
    client.stop();
    await server.stop();
    await ours.stop();
    clear();
  }
}

/** From the answer to an event until a scrape that shows it is there, beside what its commit took, at 1,000 events/s. */
async function* untilVisible(): AsyncGenerator<Round> {
  const { dir, clear } = scratchFolder();
  const bench = new BenchLedger(path.join(dir, 'ledger.db'));
  try {
    await bench.bookModels(30);
    for (let round = 0; round < 5; round++) {
      const commits: number[] = [];
      const visible: number[] = [];
      const background: Promise<void>[] = [];
      for (let probe = 0; probe < 100; probe++) {
        // Ten events every 10 ms, of which one is looked for.
        for (let n = 0; n < 9; n++) background.push(bench.book([turnRecord()]));
        const model = `probe-${round}-${probe}`;
        const sentMs = performance.now();
        await bench.book([turnRecord(model)]);
        const acceptedMs = performance.now();
        commits.push(acceptedMs - sentMs);
        const text = Buffer.concat(await bench.health.collect()).toString();
        if (!text.includes(`model="${model}"`)) throw new Error('an accepted turn is not in the scrape that follows');
        visible.push(performance.now() - acceptedMs);
        await delay(Math.max(0, 10 - (performance.now() - sentMs)));
      }
      await Promise.all(background);
      yield { ours: quantile(visible, 0.99), theirs: quantile(commits, 0.99) };
    }
  } finally {
    await bench.close();
    clear();
  }
}

const PARSE_ALONE = '`JSON.parse` of the same events, and nothing else';
const perCpu = 'events/s of one core';

export const ingestBenchmarks: readonly Benchmark[] = [
  {
    ...{ name: 'jetstream-1', what: 'turns from JetStream, one a message, durable and deduplicated', unit: perCpu },
    ...{ yardstick: PARSE_ALONE, reach: { atLeast: 0.1 }, rounds: fromJetStream(1) },
  },
  {
    ...{ name: 'jetstream-50', what: 'the same, 50 a message', unit: perCpu },
    ...{ yardstick: PARSE_ALONE, reach: { atLeast: 0.14 }, rounds: fromJetStream(50) },
  },
  {
    ...{ name: 'socket-100', what: 'turns over the socket, 100 a request, durable', unit: perCpu },
    ...{ yardstick: PARSE_ALONE, reach: { atLeast: 0.14 }, rounds: overSocket },
  },
  {
    ...{ name: 'socket-1', what: 'turns over the socket, one a request, 256 connections, durable', unit: 'events/s' },
    ...{ yardstick: 'a bare `node:http` that parses and answers', reach: { atLeast: 0.35 } },
    rounds: besideBareServer('/v1/events', 256, () => bodiesOf(SINGLE_EVENTS, 1, pluginRecord)),
  },
  {
    ...{ name: 'verdict', what: 'verdicts over two budgets and a guardrail, one after the other', unit: 'answers/s' },
    yardstick: 'a bare `node:http` that parses and answers',
    rounds: besideBareServer('/v1/verdict', 1, () => Array.from({ length: 3000 }, () => JSON.stringify(QUESTION))),
  },
  {
    ...{
      name: 'ingest-during-scrape',
      what: 'p99 of an answer to an event while 100,000 series are scraped',
      unit: 'ms',
    },
    ...{ yardstick: 'without scrapes', reach: { atMost: 3 }, rounds: duringScrapes },
  },
  {
    ...{ name: 'visible', what: 'p99 from an accepted event to a scrape that shows it, at 1,000 events/s', unit: 'ms' },
    ...{ yardstick: 'p99 of its commit', reach: { atMost: 5 }, rounds: untilVisible },
  },
];
