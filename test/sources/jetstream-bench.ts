// A real nats-server with its streams, and the reading end of a bridge over a real ledger.

import assert from 'node:assert/strict';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from 'nats';
import { parseConfig } from '../../src/config.ts';
import { Ledger } from '../../src/ledger/ledger.ts';
import { NatsLink } from '../../src/nats/connection.ts';
import { setUpStreams } from '../../src/nats/streams.ts';
import { JetStreamSource } from '../../src/sources/jetstream.ts';
import { LedgerSink } from '../../src/sources/ledger-sink.ts';
import { type EventSink, Intake } from '../../src/sources/source.ts';
import { Attribution } from '../../src/turn/attribution.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import { cleanUpOf } from '../clean-up.ts';
import { connected, NatsServer, natsConfig } from '../nats/nats-server.ts';
import { CountingMeter, readableLog, temporaryFolder, turnRecord, until } from './intake-fixture.ts';

interface Options {
  readonly nats?: object;
  readonly conf?: string;
  /** Stands between the intake and the ledger. */
  readonly between?: (sink: EventSink) => EventSink;
}

/** A server with its streams, and a bridge's reading end over a ledger of its own. */
export class Bench {
  readonly meter = new CountingMeter();
  readonly dir: string;
  readonly server: NatsServer;
  readonly connection: NatsConnection;
  readonly lines: string[];
  readonly config: ReturnType<typeof natsConfig>;
  readonly #between: (sink: EventSink) => EventSink;
  readonly #log: ReturnType<typeof readableLog>['log'];
  readonly #twins: (() => Promise<void>)[] = [];
  ledger!: Ledger;
  link!: NatsLink;
  source!: JetStreamSource;

  private constructor(dir: string, server: NatsServer, connection: NatsConnection, options: Options) {
    this.dir = dir;
    this.server = server;
    this.connection = connection;
    this.#between = options.between ?? ((sink) => sink);
    this.config = natsConfig({ servers: [server.url], replica: 'a', ...options.nats });
    const { log, lines } = readableLog();
    this.#log = log;
    this.lines = lines;
  }

  static async start(t: TestContext, options: Options = {}): Promise<Bench> {
    const dir = temporaryFolder(t);
    const server = await NatsServer.start({ dir, conf: options.conf ?? '' });
    const cleanUp = cleanUpOf(t);
    cleanUp(() => server.kill());
    const connection = await connected(server);
    cleanUp(() => connection.close());
    const bench = new Bench(dir, server, connection, options);
    cleanUp(() => bench.close());
    await setUpStreams(connection, bench.config);
    await bench.open();
    return bench;
  }

  async open(): Promise<void> {
    const { labels } = parseConfig({});
    this.ledger = Ledger.open({
      ...{ file: path.join(this.dir, 'ledger.db'), timeZone: 'UTC', retentionMs: 90 * 86_400_000 },
      ...{ caps: labels.caps, log: this.#log },
    });
    const attribution = new Attribution({ gateways: {}, pricing: new Pricing([]), accounts: [], project: 'name' });
    const sink = this.#between(new LedgerSink({ ledger: this.ledger, attribution }));
    const intake = new Intake({ sink, meter: this.meter });
    this.link = new NatsLink({ config: this.config, env: {}, log: this.#log, name: 'test' });
    await this.link.start();
    const { ledger, link, config, meter } = this;
    this.source = new JetStreamSource({ ledger, link, config, intake, meter, log: this.#log });
    await this.source.start();
  }

  /** A second bridge with a ledger of its own, under the same name. */
  async twin(): Promise<JetStreamSource> {
    const { labels } = parseConfig({});
    const ledger = Ledger.open({
      ...{ file: path.join(this.dir, 'twin.db'), timeZone: 'UTC', retentionMs: 90 * 86_400_000 },
      ...{ caps: labels.caps, log: this.#log },
    });
    const { link, config, meter } = this;
    const attribution = new Attribution({ gateways: {}, pricing: new Pricing([]), accounts: [], project: 'name' });
    const intake = new Intake({ sink: new LedgerSink({ ledger, attribution }), meter });
    const source = new JetStreamSource({ ledger, link, config, intake, meter: new CountingMeter(), log: this.#log });
    await source.start();
    this.#twins.push(async () => {
      await source.stop();
      ledger.close();
    });
    return source;
  }

  async close(): Promise<void> {
    for (const stop of this.#twins.splice(0)) await stop();
    await this.source?.stop();
    await this.link?.stop();
    this.ledger?.close();
  }

  async publish(records: readonly unknown[], subject = 'toll.turns.core.ada'): Promise<void> {
    const client = jetstream(this.connection);
    await Promise.all(records.map((record) => client.publish(subject, JSON.stringify(record))));
  }

  async drained(messages: number): Promise<void> {
    await until(() => this.ledger.openStream('TOLL', '1/1').seq >= messages, `the position ${messages}`);
  }

  async consumer(name = 'tollbridge_a_1_of_1') {
    return (await jetstreamManager(this.connection)).consumers.info('TOLL', name);
  }
}

/** Asks again until it is so. */
export async function eventually(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!(await isSo())) {
    assert.ok(performance.now() < deadlineMs, `waited too long for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export const turns = (count: number, from = 0) => Array.from({ length: count }, (_, n) => turnRecord(from + n));
