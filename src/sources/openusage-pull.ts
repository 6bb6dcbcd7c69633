// Asks a running OpenUsage daemon, over its own socket, for what it knows of all its providers.

import { Agent, request } from 'undici';
import { RetryableFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import { decodeSnapshot } from '../turn/usage-snapshot.ts';
import { RepeatedReading } from './repeated-reading.ts';
import type { Intake, Source, SourceMeter } from './source.ts';

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
  readonly #reading: RepeatedReading;

  constructor(options: OpenusagePullOptions) {
    this.#options = options;
    this.#agent = new Agent({ connect: { socketPath: options.socketPath } });
    const { intervalMs, meter, log } = options;
    this.#reading = new RepeatedReading({
      ...{ source: SOURCE, intervalMs, meter, log },
      read: (signal) => this.#pull(signal),
      brokeOff: 'reading the OpenUsage daemon broke off inside the bridge; it is asked again later',
    });
  }

  /** What keeps the daemon from being read, one line for people. */
  problem(): string | undefined {
    return this.#reading.problem();
  }

  async start(): Promise<void> {
    this.#reading.start();
  }

  async stop(): Promise<void> {
    await this.#reading.stop();
    await this.#agent.destroy();
  }

  async #pull(signal: AbortSignal): Promise<string | undefined> {
    const { intake, intervalMs } = this.#options;
    const answer = await this.#ask(signal);
    if (typeof answer === 'string') return answer;
    try {
      const decoded = answer.map((snapshot) => decodeSnapshot(snapshot, { intervalMs }));
      await intake.accept(SOURCE, decoded, {});
      return undefined;
    } catch (error) {
      if (!(error instanceof RetryableFailure)) throw error;
      return 'what the daemon said could not be recorded; see the log of the ledger';
    }
  }

  /** The snapshots of its answer, or what is wrong, in our own words. */
  async #ask(stopping: AbortSignal): Promise<readonly unknown[] | string> {
    const signal = AbortSignal.any([stopping, AbortSignal.timeout(TIMEOUT_MS)]);
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
