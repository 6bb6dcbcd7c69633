// A real nats-server on free ports, with what is stored in the test's own folder.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type ConnectionOptions, connect, type NatsConnection } from 'nats';
import { nats as natsSchema } from '../../src/config-nats.ts';
import { setUpStreams } from '../../src/nats/streams.ts';
import { cleanUpOf } from '../clean-up.ts';
import { freePort, until } from '../prometheus-server.ts';

export interface NatsServerOptions {
  readonly dir: string;
  readonly port?: number;
  readonly name?: string;
  readonly jetstream?: boolean;
  /** More of its configuration. */
  readonly conf?: string;
  /** What a client needs that only asks whether the server is there. */
  readonly probe?: ConnectionOptions;
}

export class NatsServer {
  readonly port: number;
  readonly #options: NatsServerOptions;
  readonly #file: string;
  #child: ChildProcess | undefined;
  #said = '';

  private constructor(options: NatsServerOptions, port: number) {
    this.#options = options;
    this.port = port;
    const { dir, name = 'one', jetstream = true, conf = '' } = options;
    const store = path.join(dir, `nats-${name}`);
    mkdirSync(store, { recursive: true });
    this.#file = path.join(dir, `nats-${name}.conf`);
    const lines = [`listen: 127.0.0.1:${port}`, `server_name: ${name}`];
    if (jetstream)
      lines.push(`jetstream { store_dir: ${JSON.stringify(store)}, max_file_store: 4GB, max_memory_store: 256MB }`);
    writeFileSync(this.#file, `${lines.join('\n')}\n${conf}\n`);
  }

  static async start(options: NatsServerOptions): Promise<NatsServer> {
    const server = new NatsServer(options, options.port ?? (await freePort()));
    await server.restart();
    return server;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  /** Starts it, or starts it again over what it stored. */
  async restart({ isReady = true } = {}): Promise<void> {
    const child = spawn('nats-server', ['-c', this.#file], { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr.on('data', (chunk) => {
      this.#said = `${this.#said}${chunk}`.slice(-20_000);
    });
    this.#child = child;
    if (!isReady) return;
    await until('the start of nats-server', async () => {
      if (child.exitCode !== null) throw new Error(`nats-server ended: ${this.#said}`);
      return /Server is ready/.test(this.#said) && (this.#options.probe === undefined || (await this.#answers()));
    });
    this.#said = '';
  }

  async #answers(): Promise<boolean> {
    const connection = await connect({ servers: this.url, reconnect: false, ...this.#options.probe }).catch(
      () => undefined,
    );
    await connection?.close();
    return connection !== undefined;
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Makes it stand still; returns when it does, where that can be seen. */
  async pause(): Promise<void> {
    this.signal('SIGSTOP');
    const stat = `/proc/${this.#child?.pid}/stat`;
    while (existsSync(stat) && !/\) T /.test(readFileSync(stat, 'utf8'))) await delay(5);
  }
}

/** The configuration of `nats` with its defaults, as a file would give it. */
export function natsConfig(stated: object) {
  return natsSchema.parse(stated);
}

/** @param as who signs in, where the server asks */
export async function connected(server: { readonly url: string }, as: ConnectionOptions = {}): Promise<NatsConnection> {
  return connect({ servers: server.url, maxReconnectAttempts: -1, reconnectTimeWait: 100, ...as });
}

/**
 * A server with the streams of a bridge in it, in a folder of the test's own that goes when the test ends.
 * @param given.conf more of its configuration; then `as` says who may make streams
 */
export async function startStreams(t: TestContext, given: { conf?: string; as?: ConnectionOptions } = {}) {
  const atEnd = cleanUpOf(t);
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  atEnd(() => rmSync(dir, { recursive: true, force: true }));
  const { conf = '', as } = given;
  const server = await NatsServer.start({ dir, conf, ...(as && { probe: as }) });
  atEnd(() => server.kill());
  const connection = await connected(server, as);
  atEnd(() => connection.close());
  /** The key `nats` of a configuration that uses it. */
  const nats = { servers: [server.url], replica: 'a' };
  await setUpStreams(connection, natsConfig(nats));
  return { dir, server, connection, nats, atEnd };
}
