// A process of its own that posts and scrapes, so that a server's time is not its client's. Started by `Client`.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { Pool } from 'undici';

export interface Task {
  /** A socket's path, or a URL. */
  readonly at: string;
  readonly path: string;
  /** What is posted; absent where it is a GET. */
  readonly bodies?: readonly string[];
  /** How often a GET is made. */
  readonly times?: number;
  readonly connections: number;
  /** Requests per second; absent where they follow each other at once. */
  readonly rate?: number;
}

export interface Done {
  /** Of each request, until the last byte of its answer. */
  readonly ms: readonly number[];
  readonly totalMs: number;
  readonly bytes: number;
}

export class Client {
  readonly #child: ChildProcess;

  constructor() {
    this.#child = fork(import.meta.filename, [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  }

  async run(task: Task): Promise<Done> {
    await this.prepare(task);
    return this.go();
  }

  /** Hands over what `go` begins. */
  async prepare(task: Task): Promise<void> {
    this.#child.send(task);
    await once(this.#child, 'message');
  }

  async go(): Promise<Done> {
    this.#child.send('go');
    const [answer] = (await once(this.#child, 'message')) as [Done | { readonly error: string }];
    if ('error' in answer) throw new Error(answer.error);
    return answer;
  }

  stop(): void {
    this.#child.kill();
  }
}

async function done({ at, path, bodies, times = 0, connections, rate }: Task): Promise<Done> {
  const isSocket = at.startsWith('/');
  const pool = new Pool(isSocket ? 'http://bench' : at, { connections, ...(isSocket && { socketPath: at }) });
  const count = bodies?.length ?? times;
  const ms = new Array<number>(count);
  let next = 0;
  let bytes = 0;
  const startedMs = performance.now();
  const lane = async () => {
    for (let index = next++; index < count; index = next++) {
      if (rate !== undefined) {
        const dueMs = startedMs + (index * 1e3) / rate;
        const waitMs = dueMs - performance.now();
        if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
      const sentMs = performance.now();
      const body = bodies?.[index];
      const answer = await pool.request({
        path,
        ...(body === undefined ? { method: 'GET' } : { method: 'POST', body }),
      });
      const content = await answer.body.arrayBuffer();
      if (answer.statusCode >= 300) throw new Error(`answered ${answer.statusCode}`);
      bytes += content.byteLength;
      ms[index] = performance.now() - sentMs;
    }
  };
  await Promise.all(Array.from({ length: Math.min(connections, count) }, lane));
  const totalMs = performance.now() - startedMs;
  await pool.destroy();
  return { ms, totalMs, bytes };
}

if (process.send && process.argv[1] === import.meta.filename) {
  let prepared: Task;
  process.on('message', (message: Task | 'go') => {
    if (message !== 'go') {
      prepared = message;
      process.send?.('ready');
      return;
    }
    done(prepared).then(
      (result) => process.send?.(result),
      (error: Error) => process.send?.({ error: error.message }),
    );
  });
}
