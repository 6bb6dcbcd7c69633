// How anything is handed to an OTLP receiver: over connections of its own, within a time that no receiver can
// stretch, and with what went wrong told by number or name, because a receiver's own words may quote what it was sent.
// That it fails is told when it begins and when it ends, and not each time.

import { validateHeaderName, validateHeaderValue } from 'node:http';
import { Agent, request } from 'undici';
import { PermanentFailure } from './failure.ts';
import type { Log } from './log.ts';

/** Why a span or log record was not sent. A closed set: it is a label. */
export const DROP_REASONS = ['queue_full', 'refused', 'too_old', 'no_turn', 'stopped'] as const;
export type DropReason = (typeof DROP_REASONS)[number];

/** What a receiver of one signal may say of a request that it took. */
interface Taken {
  readonly partialSuccess?: {
    readonly rejectedSpans?: number;
    readonly rejectedLogRecords?: number;
    readonly rejectedDataPoints?: number;
  };
}

/** As OpenTelemetry's serializers of metrics, spans and log records are. */
export interface OtlpSerializer<T> {
  serializeRequest(batch: T): Uint8Array | undefined;
  deserializeResponse(answer: Uint8Array): Taken;
}

const STOP_MAX_MS = 5_000;
/** A receiver that was away before is hardly back now, and nobody likes to wait for a program that stops. */
const STOP_MAX_WHILE_FAILING_MS = 1_000;
/** An answer has two short fields. Of one that is longer, as of one that cannot be read, counts that it is no refusal. */
const ANSWER_MAX_BYTES = 64 * 1024;

export interface OtlpSenderOptions<T> {
  /** As configured, for messages. */
  readonly endpoint: string;
  /** Of the signal, with its path. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** What one try may take. */
  readonly timeoutMs: number;
  readonly serializer: OtlpSerializer<T>;
  /** How it is said that sending fails, and what that means; and that it goes well again. */
  readonly words: { readonly failing: string; readonly again: string };
  readonly onEnd: (result: 'ok' | 'error') => void;
  readonly log: Log;
}

/** Why something could not be handed over, or not all of it. */
export interface SendProblem {
  /** One line for people, after "cannot be sent:". */
  readonly text: string;
  /** How much of it the receiver read and does not want: the same again would be refused again. Absent where none. */
  readonly refused?: 'all' | number;
  /** How long the receiver wants to be left alone. */
  readonly retryAfterMs?: number;
}

/** What a receiver answers that cannot read, or does not want, what it was sent. */
const REFUSALS: ReadonlySet<number> = new Set([400, 413, 422]);

/** Sends batches of one kind to one receiver. */
export class OtlpSender<T> {
  readonly #options: OtlpSenderOptions<T>;
  readonly #dispatcher = new Agent();
  #isGivenUp = false;
  #cutShort: () => void = () => {};
  #problem: string | undefined;
  #lastOkMs: number | undefined;

  constructor(options: OtlpSenderOptions<T>) {
    this.#options = options;
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

  /** Never rejects; undefined when all of the batch was taken. One batch at a time. */
  async send(batch: T): Promise<SendProblem | undefined> {
    const { timeoutMs } = this.#options;
    const ending = new AbortController();
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      ending.abort();
    }, timeoutMs);
    this.#cutShort = () => ending.abort();
    if (this.#isGivenUp) ending.abort();
    const problem = await this.#try(batch, ending.signal).catch((error): SendProblem => {
      if (this.#isGivenUp) return { text: 'it did not answer before the bridge stopped' };
      return isLate ? { text: `it did not answer within ${timeoutMs / 1e3} s` } : { text: unreachable(error) };
    });
    clearTimeout(timer);
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
      await this.#dispatcher.destroy();
    }
  }

  /** Ends what is under way, and sends nothing more. */
  #giveUp(): void {
    this.#isGivenUp = true;
    this.#cutShort();
  }

  async #try(batch: T, signal: AbortSignal): Promise<SendProblem | undefined> {
    const { url, headers, serializer } = this.#options;
    const bytes = serialized(serializer, batch);
    if (!bytes) return { text: 'a fault of Tollbridge: it could not be put into OTLP', refused: 'all' };
    const { statusCode, body, ...answer } = await request(url, {
      method: 'POST',
      dispatcher: this.#dispatcher,
      headers: { 'user-agent': 'tollbridge', ...headers, 'content-type': 'application/x-protobuf' },
      body: bytes,
      signal,
    });
    if (statusCode < 200 || statusCode > 299) {
      await body.dump({ limit: ANSWER_MAX_BYTES });
      const retryAfterS = Number(answer.headers['retry-after']);
      return {
        text: `it answers with HTTP ${statusCode}`,
        ...(REFUSALS.has(statusCode) && { refused: 'all' }),
        ...(retryAfterS > 0 && { retryAfterMs: retryAfterS * 1e3 }),
      };
    }
    const chunks: Buffer[] = [];
    let answered = 0;
    for await (const chunk of body) {
      chunks.push(chunk);
      answered += (chunk as Buffer).length;
      if (answered > ANSWER_MAX_BYTES) return undefined;
    }
    const refused = refusedOf(serializer, Buffer.concat(chunks));
    return refused === 0 ? undefined : { text: `it took all but ${refused}`, refused };
  }
}

/** Undefined where it cannot be done: tried again it would hold up all that follows. */
function serialized<T>(serializer: OtlpSerializer<T>, batch: T): Uint8Array | undefined {
  try {
    return serializer.serializeRequest(batch);
  } catch {
    return undefined;
  }
}

/** An error by its name: its text may quote what was sent, or what a receiver thought fit to say. */
function unreachable(error: unknown): string {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown };
  return `it cannot be reached (${[code, name].find((one) => typeof one === 'string') ?? 'unknown error'})`;
}

/** How many a receiver took not; none where what it answers cannot be read: it said that it took them. */
function refusedOf(serializer: Pick<OtlpSerializer<never>, 'deserializeResponse'>, answer: Buffer): number {
  let taken: Taken;
  try {
    taken = serializer.deserializeResponse(answer);
  } catch {
    return 0;
  }
  const { rejectedSpans, rejectedLogRecords, rejectedDataPoints } = taken.partialSuccess ?? {};
  const refused = Number(rejectedSpans ?? rejectedLogRecords ?? rejectedDataPoints ?? 0);
  return Math.max(0, refused);
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
      return [name.toLowerCase(), value];
    } catch {
      throw new PermanentFailure(
        `${key} names ${variable}, but number ${index + 1} of what it holds is no header. ` +
          'Expected key=value,key2=value2, with a comma or % in a value written as %2C and %25.',
      );
    }
  });
  return Object.fromEntries(entries);
}
