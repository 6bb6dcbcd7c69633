// How anything is handed to an OTLP receiver: over one connection pool of its own, within a time that no receiver can
// stretch, and with what went wrong told by number or name, because a receiver's own words may quote what it was sent.
// That it fails is told when it begins and when it ends, and not each time.

import http, { validateHeaderName, validateHeaderValue } from 'node:http';
import https from 'node:https';
import { type ExportResult, ExportResultCode } from '@opentelemetry/core';
import { PermanentFailure } from './failure.ts';
import type { Log } from './log.ts';

/** Why a span or log record was not sent. A closed set: it is a label. */
export const DROP_REASONS = ['queue_full', 'refused', 'too_old', 'no_turn', 'stopped'] as const;
export type DropReason = (typeof DROP_REASONS)[number];

/** What the exporters of metrics, spans and log records have in common. */
interface Exporter<T> {
  export(batch: T, done: (result: ExportResult) => void): void;
}

interface ExporterOptions {
  readonly url: string;
  readonly timeoutMillis: number;
  readonly httpAgentOptions: () => http.Agent;
  readonly headers: () => Promise<Record<string, string>>;
}

const STOP_MAX_MS = 5_000;
/** A receiver that was away before is hardly back now, and nobody likes to wait for a program that stops. */
const STOP_MAX_WHILE_FAILING_MS = 1_000;

export interface OtlpSenderOptions<T> {
  /** As configured, for messages. */
  readonly endpoint: string;
  /** Of the signal, with its path. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** What one try may take, retries within it included. */
  readonly timeoutMs: number;
  readonly exporter: (options: ExporterOptions) => Exporter<T>;
  /** How it is said that sending fails, and what that means; and that it goes well again. */
  readonly words: { readonly failing: string; readonly again: string };
  readonly onEnd: (result: 'ok' | 'error') => void;
  readonly log: Log;
}

/** Why something could not be handed over. */
export interface SendProblem {
  /** One line for people, after "cannot be sent:". */
  readonly text: string;
  /** The receiver read it and does not want it: the same again would be refused again. */
  readonly isRefusal: boolean;
}

/** What a receiver answers that cannot read, or does not want, what it was sent. */
const REFUSALS: ReadonlySet<unknown> = new Set([400, 413, 422]);

/** Sends batches of one kind to one receiver. */
export class OtlpSender<T> {
  readonly #options: OtlpSenderOptions<T>;
  readonly #agent: http.Agent;
  readonly #exporter: Exporter<T>;
  #problem: string | undefined;
  #lastOkMs: number | undefined;
  #isGivenUp = false;
  #cutShort: () => void = () => {};

  constructor(options: OtlpSenderOptions<T>) {
    this.#options = options;
    const { url, headers, timeoutMs, exporter } = options;
    const Agent = url.startsWith('https:') ? https.Agent : http.Agent;
    this.#agent = new Agent({ keepAlive: true });
    this.#exporter = withoutOtelVariables(() =>
      exporter({
        url,
        timeoutMillis: timeoutMs,
        httpAgentOptions: () => this.#agent,
        // Asked for at every try, and the exporter tries again by itself: the one way to stop it.
        headers: async () => {
          if (this.#isGivenUp) throw new Error('given up');
          return { ...headers };
        },
      }),
    );
  }

  /** As configured. */
  get endpoint(): string {
    return this.#options.endpoint;
  }

  /** Why the last batch was not taken, one line for people; undefined when it was. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Unix ms; undefined before the first batch that was taken. */
  get lastOkMs(): number | undefined {
    return this.#lastOkMs;
  }

  get isGivenUp(): boolean {
    return this.#isGivenUp;
  }

  /** Never rejects; undefined when the batch was taken. One batch at a time. */
  async send(batch: T): Promise<SendProblem | undefined> {
    const problem = await this.#try(batch).catch(sendProblem);
    this.ended(problem?.text);
    return problem;
  }

  /** Notes how it went to send something, also where it could not even be put together. */
  ended(problem: string | undefined): void {
    const { endpoint, words, onEnd, log } = this.#options;
    if (problem === undefined) this.#lastOkMs = Date.now();
    if (problem !== undefined && this.#problem === undefined) log.warn({ endpoint, problem }, words.failing);
    else if (problem === undefined && this.#problem !== undefined) log.info({ endpoint }, words.again);
    this.#problem = problem;
    onEnd(problem === undefined ? 'ok' : 'error');
  }

  /** Lets `flush` send what is left, for five seconds at most, whatever the receiver does; then nothing more is sent. */
  async close(flush: () => Promise<void>): Promise<void> {
    const patienceMs = this.#problem === undefined ? STOP_MAX_MS : STOP_MAX_WHILE_FAILING_MS;
    const bound = setTimeout(() => this.#giveUp(), patienceMs);
    try {
      await flush();
    } finally {
      clearTimeout(bound);
      this.#giveUp();
    }
  }

  #try(batch: T): Promise<SendProblem | undefined> {
    const { timeoutMs } = this.#options;
    return new Promise((resolve) => {
      // The exporter's own timeout only notices a connection on which nothing moves.
      const cut = (text: string) => {
        resolve({ text, isRefusal: false });
        this.#agent.destroy();
      };
      this.#cutShort = () => cut('it did not answer before the bridge stopped');
      if (this.#isGivenUp) return this.#cutShort();
      const timer = setTimeout(() => cut(`it did not answer within ${timeoutMs / 1e3} s`), timeoutMs);
      this.#exporter.export(batch, ({ code, error }) => {
        clearTimeout(timer);
        resolve(code === ExportResultCode.SUCCESS ? undefined : sendProblem(error));
      });
    });
  }

  /** Ends what is under way, and sends nothing more. */
  #giveUp(): void {
    this.#isGivenUp = true;
    this.#cutShort();
    this.#agent.destroy();
  }
}

/**
 * Headers as OTEL_EXPORTER_OTLP_HEADERS holds them: `key=value,key2=value2`, percent-encoded where need be.
 * @param variable the one that holds them
 * @param key the key of the configuration that names it
 * @throws PermanentFailure when it is empty or not of that form; never says what it holds
 */
export function otlpHeaders(
  variable: string | undefined,
  env: NodeJS.ProcessEnv,
  key = 'otlp.headers_env',
): Record<string, string> {
  if (variable === undefined) return {};
  const text = env[variable]?.trim();
  if (!text) {
    throw new PermanentFailure(`${key} names ${variable}, but that variable is empty. Set it, or remove the key.`);
  }
  const pairs = text.split(',').filter((pair) => pair.trim() !== '');
  const entries = pairs.map((pair, index) => {
    try {
      const at = pair.indexOf('=');
      const name = decodeURIComponent(pair.slice(0, at).trim());
      const value = decodeURIComponent(pair.slice(at + 1).trim());
      if (at < 1) throw new Error('no name');
      validateHeaderName(name);
      validateHeaderValue(name, value);
      return [name, value];
    } catch {
      throw new PermanentFailure(
        `${key} names ${variable}, but number ${index + 1} of what it holds is no header. ` +
          'Expected key=value,key2=value2, with a comma or % in a value written as %2C and %25.',
      );
    }
  });
  return Object.fromEntries(entries);
}

/**
 * The exporter adds what OTEL_EXPORTER_OTLP_* say to what it is told, the headers with their keys among it; those are
 * meant for the receiver of another program. It reads them once, while it is built.
 */
function withoutOtelVariables<T>(build: () => T): T {
  const hidden = Object.entries(process.env).filter(([name]) => name.startsWith('OTEL_EXPORTER_OTLP_'));
  for (const [name] of hidden) delete process.env[name];
  try {
    return build();
  } finally {
    Object.assign(process.env, Object.fromEntries(hidden));
  }
}

/** An error by its number and name: its text may quote what was sent, or what a receiver thought fit to say. */
function sendProblem(error: unknown): SendProblem {
  const { code, name, message } = (error ?? {}) as { code?: unknown; name?: unknown; message?: unknown };
  const problem = (text: string) => ({ text, isRefusal: REFUSALS.has(code) });
  if (typeof code === 'number') return problem(`it answers with HTTP ${code}`);
  if (typeof code === 'string') return problem(`it cannot be reached (${code})`);
  // The exporter keeps no number of an answer after which it may try again.
  if (message === 'Export failed with retryable status') return problem('it answers that it cannot take them now');
  if (message === 'Request timed out') return problem('it did not answer in time');
  return problem(`it cannot be reached (${typeof name === 'string' ? name : 'unknown error'})`);
}
