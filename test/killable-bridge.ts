// The program as a process of its own, which can be killed and started again over the same state.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { Pool } from 'undici';
import { cleanUpOf } from './clean-up.ts';
import { freePort, until } from './prometheus-server.ts';

const CLI = new URL('../src/cli.ts', import.meta.url).pathname;
/** Of 50 ms each. */
const READY_TRIES = 2400;
const ANSWER_TIMEOUT_MS = 10_000;

export interface KillableOptions {
  /** A folder of its own; short, because the socket lies in it. */
  readonly dir: string;
  readonly port: number;
  readonly command?: 'start' | 'relay';
  /** More of its configuration. */
  readonly config?: object;
  /** How its process is begun, where that is not the usual way. */
  readonly node?: { readonly nodeArgs: readonly string[]; readonly env: NodeJS.ProcessEnv };
}

export class KillableBridge {
  readonly socket: string;
  readonly url: string;
  readonly stateDir: string;
  readonly spool: string;
  readonly #command: string;
  readonly #configFile: string;
  readonly #node: NonNullable<KillableOptions['node']>;
  #child: ChildProcess | undefined;
  #said = '';

  constructor({ dir, port, command = 'start', config = {}, node }: KillableOptions) {
    mkdirSync(dir, { recursive: true });
    this.socket = path.join(dir, 's');
    this.url = `http://127.0.0.1:${port}`;
    this.stateDir = path.join(dir, 'state');
    this.spool = path.join(this.stateDir, 'hook-spool');
    this.#command = command;
    this.#node = node ?? { nodeArgs: [], env: process.env };
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
    const { nodeArgs, env } = this.#node;
    const child = spawn(process.execPath, [...nodeArgs, CLI, this.#command, '--config', this.#configFile], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env,
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

  get pid(): number {
    assert.ok(this.#child?.pid, 'it was never started');
    return this.#child.pid;
  }

  /** What it holds in memory; 0 where the system does not say. */
  residentBytes(): number {
    const status = `/proc/${this.pid}/status`;
    const kib = existsSync(status) ? /VmRSS:\s+(\d+) kB/.exec(readFileSync(status, 'utf8'))?.[1] : undefined;
    return Number(kib ?? 0) * 1024;
  }

  /** Resolves when it has ended, to how: its exit code, or the signal. */
  async ended(): Promise<number | NodeJS.Signals | null> {
    const child = this.#child;
    if (!child) return null;
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    return child.signalCode ?? child.exitCode;
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.ended();
  }

  async scrape(): Promise<string> {
    const answer = await fetch(`${this.url}/metrics`);
    assert.equal(answer.status, 200);
    return answer.text();
  }
}

/** A bridge that is not started yet, and a way to post to it; all of it ends with the test. */
export async function killableBridge(
  t: TestContext,
  { connections = 1, ...options }: Partial<KillableOptions> & { readonly connections?: number } = {},
) {
  const atEnd = cleanUpOf(t);
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  atEnd(() => rmSync(dir, { recursive: true, force: true }));
  const bridge = new KillableBridge({ dir, port: await freePort(), ...options });
  const pool = new Pool('http://tollbridge', { socketPath: bridge.socket, connections });
  atEnd(() => pool.destroy());
  atEnd(() => bridge.kill());
  return { dir, bridge, pool, atEnd, post: (records: readonly object[]) => postRecords(pool, records) };
}

/** @returns the status of the answer; 0 when there was none */
export async function postRecords(pool: Pool, records: readonly object[]): Promise<number> {
  const body = records.map((record) => JSON.stringify(record)).join('\n');
  const request = pool.request({ path: '/v1/events', method: 'POST', body, headersTimeout: ANSWER_TIMEOUT_MS });
  const answer = await request.catch(() => undefined);
  await answer?.body.dump().catch(() => {});
  return answer?.statusCode ?? 0;
}
