// The program as a process of its own, which can be killed and started again over the same state.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { until } from './prometheus-server.ts';

const CLI = new URL('../src/cli.ts', import.meta.url).pathname;
/** Of 50 ms each. */
const READY_TRIES = 2400;

export interface KillableOptions {
  /** A folder of its own; short, because the socket lies in it. */
  readonly dir: string;
  readonly port: number;
  readonly command?: 'start' | 'relay';
  /** More of its configuration. */
  readonly config?: object;
}

export class KillableBridge {
  readonly socket: string;
  readonly url: string;
  readonly stateDir: string;
  readonly spool: string;
  readonly #command: string;
  readonly #configFile: string;
  #child: ChildProcess | undefined;
  #said = '';

  constructor({ dir, port, command = 'start', config = {} }: KillableOptions) {
    mkdirSync(dir, { recursive: true });
    this.socket = path.join(dir, 's');
    this.url = `http://127.0.0.1:${port}`;
    this.stateDir = path.join(dir, 'state');
    this.spool = path.join(this.stateDir, 'hook-spool');
    this.#command = command;
    this.#configFile = path.join(dir, 'tollbridge.yaml');
    writeFileSync(
      this.#configFile,
      JSON.stringify({
        state_dir: this.stateDir,
        detect: false,
        metrics: { listen: `127.0.0.1:${port}` },
        socket: { path: this.socket },
        log: { level: 'error' },
        ...config,
      }),
    );
  }

  /** What the process wrote to stderr, of all its lives. */
  get said(): string {
    return this.#said;
  }

  /** Resolves when it is ready; at once without that. */
  async start({ isReady = true } = {}): Promise<void> {
    const child = spawn(process.execPath, [CLI, this.#command, '--config', this.#configFile], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child.stderr?.on('data', (chunk) => {
      this.#said += chunk;
    });
    this.#child = child;
    if (!isReady) return;
    const answers = async () => {
      if (child.exitCode !== null) throw new Error(`the bridge ended: ${this.#said}`);
      return fetch(`${this.url}/-/ready`).then(
        (answer) => answer.ok,
        () => false,
      );
    };
    await until('the start of the bridge', answers, READY_TRIES);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
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
