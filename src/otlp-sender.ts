// How anything is handed to an OTLP receiver: over one connection pool of its own, within a time that no receiver can
// stretch, and with what went wrong told by number or name, because a receiver's own words may quote what it was sent.

import http, { validateHeaderName, validateHeaderValue } from 'node:http';
import https from 'node:https';
import { type ExportResult, ExportResultCode } from '@opentelemetry/core';
import { PermanentFailure } from './failure.ts';

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

export interface OtlpSenderOptions<T> {
  /** Of the signal, with its path. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** What one try may take, retries within it included. */
  readonly timeoutMs: number;
  readonly exporter: (options: ExporterOptions) => Exporter<T>;
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
  readonly #timeoutMs: number;
  readonly #agent: http.Agent;
  readonly #exporter: Exporter<T>;
  #isGivenUp = false;
  #cutShort: () => void = () => {};

  constructor({ url, headers, timeoutMs, exporter }: OtlpSenderOptions<T>) {
    this.#timeoutMs = timeoutMs;
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

  get isGivenUp(): boolean {
    return this.#isGivenUp;
  }

  /** Never rejects; undefined when the batch was taken. One batch at a time. */
  send(batch: T): Promise<SendProblem | undefined> {
    return new Promise((resolve) => {
      // The exporter's own timeout only notices a connection on which nothing moves.
      const cut = (text: string) => {
        resolve({ text, isRefusal: false });
        this.#agent.destroy();
      };
      this.#cutShort = () => cut('it did not answer before the bridge stopped');
      if (this.#isGivenUp) return this.#cutShort();
      const timer = setTimeout(() => cut(`it did not answer within ${this.#timeoutMs / 1e3} s`), this.#timeoutMs);
      this.#exporter.export(batch, ({ code, error }) => {
        clearTimeout(timer);
        resolve(code === ExportResultCode.SUCCESS ? undefined : sendProblem(error));
      });
    });
  }

  /** Ends what is under way, and sends nothing more. */
  giveUp(): void {
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
export function sendProblem(error: unknown): SendProblem {
  const { code, name, message } = (error ?? {}) as { code?: unknown; name?: unknown; message?: unknown };
  const problem = (text: string) => ({ text, isRefusal: REFUSALS.has(code) });
  if (typeof code === 'number') return problem(`it answers with HTTP ${code}`);
  if (typeof code === 'string') return problem(`it cannot be reached (${code})`);
  // The exporter keeps no number of an answer after which it may try again.
  if (message === 'Export failed with retryable status') return problem('it answers that it cannot take them now');
  if (message === 'Request timed out') return problem('it did not answer in time');
  return problem(`it cannot be reached (${typeof name === 'string' ? name : 'unknown error'})`);
}
