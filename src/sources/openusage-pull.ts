// Asks a running OpenUsage daemon, over its own socket, for what it knows of all its providers.

import { setTimeout as delay } from 'node:timers/promises';
import { Agent, request } from 'undici';
import { RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import { decodeSnapshot } from '../turn/usage-snapshot.ts';
import { type Intake, placeOf, type Source, type SourceMeter } from './source.ts';

const SOURCE = 'openusage';
const BODY_MAX_BYTES = 16 * 1024 * 1024;
const SNAPSHOTS_MAX = 500;
/** A daemon that computes its answer anew gives itself five seconds. */
const TIMEOUT_MS = 10_000;
/** An empty request is answered for the accounts of the daemon's own settings. */
const READ_MODEL = JSON.stringify({});

export interface OpenusagePullOptions {
  /** The daemon's socket. */
  readonly socketPath: string;
  readonly intervalMs: number;
  readonly intake: Intake;
  readonly meter: SourceMeter;
  readonly log: Log;
}

/** The source `openusage`. It is up while the daemon answers. */
export class OpenusagePull implements Source {
  readonly name = SOURCE;
  readonly #options: OpenusagePullOptions;
  readonly #agent: Agent;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #problem: string | undefined;

  constructor(options: OpenusagePullOptions) {
    this.#options = options;
    this.#agent = new Agent({ connect: { socketPath: options.socketPath } });
  }

  /** What keeps the daemon from being read, one line for people. */
  problem(): string | undefined {
    return this.#problem;
  }

  async start(): Promise<void> {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.#agent.destroy();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#pull();
      await delay(this.#options.intervalMs, undefined, { signal }).catch(() => {});
    }
  }

  async #pull(): Promise<void> {
    const { intake, log, meter, intervalMs } = this.#options;
    const { signal } = this.#stopping;
    let problem: string | undefined;
    try {
      const answer = await this.#ask();
      problem = typeof answer === 'string' ? answer : undefined;
      if (typeof answer !== 'string') {
        const decoded = answer.map((snapshot) => decodeSnapshot(snapshot, { intervalMs }));
        await intake.accept(SOURCE, decoded, {});
      }
    } catch (error) {
      if (error instanceof RetryableFailure) {
        problem = 'what the daemon said could not be recorded; see the log of the ledger';
      } else {
        log.error(placeOf(error), 'reading the OpenUsage daemon broke off inside the bridge; it is asked again later');
        problem = 'the bridge made a mistake; its log says where';
      }
    }
    if (signal.aborted) return;
    meter.up(SOURCE, problem === undefined);
    if (problem !== this.#problem && problem !== undefined) log.warn({ source: SOURCE }, problem);
    this.#problem = problem;
  }

  /** The snapshots of its answer, or what is wrong, in our own words. */
  async #ask(): Promise<readonly unknown[] | string> {
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(TIMEOUT_MS)]);
    try {
      const { statusCode, body } = await request('http://localhost/v1/read-model', {
        ...{ method: 'POST', body: READ_MODEL, dispatcher: this.#agent, signal },
        headers: { 'content-type': 'application/json' },
      });
      if (statusCode !== 200) {
        await body.dump({ limit: 16 * 1024, signal }).catch(() => {});
        return `the OpenUsage daemon answers with HTTP ${statusCode}; is openusage.socket another program's socket?`;
      }
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of body as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > BODY_MAX_BYTES) return 'the answer of the OpenUsage daemon is larger than 16 MiB';
        chunks.push(chunk);
      }
      return readAnswer(Buffer.concat(chunks).toString('utf8'));
    } catch (error) {
      const { code, name } = error as NodeJS.ErrnoException;
      if (name === 'TimeoutError') return `the OpenUsage daemon did not answer within ${TIMEOUT_MS / 1000} s`;
      const why = code === 'ENOENT' || code === 'ECONNREFUSED' ? 'it does not run' : 'it cannot be reached';
      return `no OpenUsage daemon answers at openusage.socket: ${why}. Start it, or remove the key`;
    }
  }
}

function readAnswer(text: string): readonly unknown[] | string {
  const unknown = 'the OpenUsage daemon answers in a form that this version does not know';
  try {
    const { snapshots } = JSON.parse(text) as { snapshots?: unknown };
    if (typeof snapshots !== 'object' || snapshots === null) return unknown;
    const list = Object.values(snapshots);
    return list.length > SNAPSHOTS_MAX ? `the OpenUsage daemon tells more than ${SNAPSHOTS_MAX} accounts` : list;
  } catch {
    return unknown;
  }
}
