// A bridge of our own in a child process, and a tap in front of its socket that keeps every byte of the wire.

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { freePort } from '../prometheus-server.ts';
import { end, until } from './drive.ts';

const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));

export interface BridgeSetup {
  readonly configFile: string;
  readonly socket: string;
  readonly spool: string;
  readonly metricsUrl: string;
}

/** Writes a configuration, with these settings in it, for a bridge that keeps everything below `root`. */
export async function setUpBridge(root: string, settings: object = {}): Promise<BridgeSetup> {
  const state = path.join(root, 'bridge');
  mkdirSync(state, { recursive: true, mode: 0o700 });
  const listen = `127.0.0.1:${await freePort()}`;
  const setup = {
    configFile: path.join(root, 'tollbridge.yaml'),
    socket: path.join(state, 'b.sock'),
    spool: path.join(state, 'hook-spool'),
    metricsUrl: `http://${listen}`,
  };
  writeFileSync(
    setup.configFile,
    stringify({ state_dir: state, detect: false, metrics: { listen }, socket: { path: setup.socket }, ...settings }),
  );
  return setup;
}

/** `tollbridge start` in a process of its own. */
export class BridgeProcess {
  readonly #child: ChildProcess;
  readonly #url: string;
  #said = '';

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.#url = url;
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (this.#said += chunk));
  }

  /** All that it has logged. */
  get said(): string {
    return this.#said;
  }

  static async start({ configFile, metricsUrl }: BridgeSetup): Promise<BridgeProcess> {
    const child = spawn(process.execPath, [CLI, 'start', '--config', configFile], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const bridge = new BridgeProcess(child, metricsUrl);
    try {
      await until('The start of the bridge', async () => {
        if (child.exitCode !== null) throw new Error(`the bridge ended with ${child.exitCode}: ${bridge.said}`);
        return fetch(`${metricsUrl}/-/ready`).then(
          (answer) => answer.ok,
          () => false,
        );
      });
      return bridge;
    } catch (error) {
      await end(child, 'SIGKILL');
      throw error;
    }
  }

  async metrics(): Promise<string> {
    const answer = await fetch(`${this.#url}/metrics`);
    const text = await answer.text();
    if (!answer.ok) throw new Error(`/metrics answers ${answer.status}: ${text}`);
    return text;
  }

  stop(): Promise<void> {
    return end(this.#child);
  }
}

/** A socket's path, or a port of 127.0.0.1. */
type Door = string | number;

const doorOf = (door: Door) => (typeof door === 'string' ? { path: door } : { host: '127.0.0.1', port: door });

/** Listens at a door of its own, passes everything on to the bridge's, and keeps what came by. */
export class Tap {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #heard = '';

  constructor(bridgeDoor: Door) {
    this.#server = createServer((from) => {
      const to = connect(doorOf(bridgeDoor));
      from.on('data', (chunk) => (this.#heard += chunk.toString('utf8')));
      from.pipe(to).pipe(from);
      for (const socket of [from, to]) {
        this.#sockets.add(socket);
        socket.on('close', () => this.#sockets.delete(socket));
        socket.on('error', () => {
          from.destroy();
          to.destroy();
        });
      }
    });
  }

  start(door: Door): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject).listen(doorOf(door), resolve);
    });
  }

  /** Everything that was sent to the bridge, headers included. */
  get heard(): string {
    return this.#heard;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
