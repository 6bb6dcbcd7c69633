// One GET with an API key. The key goes to the host it is meant for and nowhere else, and neither it nor anything of a
// response's text comes out in a message.

import { type Dispatcher, request } from 'undici';
import type { PollOutcome } from './poll-result.ts';

/** No list of models comes near this; more is not for us. */
const BODY_MAX_BYTES = 1024 * 1024;
/** How much of a body that nobody reads is taken in, to keep the connection for the next poll. */
const DISCARD_MAX_BYTES = 16 * 1024;
const TIMEOUT_CODES = ['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'ETIMEDOUT'];

export interface BearerGet {
  readonly url: string;
  readonly key: string;
  /** For the whole exchange, connecting included. */
  readonly timeoutMs: number;
  /** Against which a Retry-After that is a date is measured. */
  readonly nowMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly dispatcher?: Dispatcher | undefined;
}

export type Answer =
  | {
      readonly type: 'answered';
      readonly status: number;
      /** What a 200 said; undefined when its body was empty, and for every other status. */
      readonly json?: unknown;
      readonly retryAfterS?: number;
    }
  /** No usable answer. `problem` is in our own words; where there was no answer at all, it names the host. */
  | {
      readonly type: 'failed';
      readonly outcome: Extract<PollOutcome, 'error' | 'timeout'>;
      readonly problem: string;
      readonly isUnanswered?: true;
    };

/** Asks once; redirects are answers, not followed. Never rejects. */
export async function bearerGet({ url, key, timeoutMs, nowMs, signal, dispatcher }: BearerGet): Promise<Answer> {
  const ending = new AbortController();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    ending.abort();
  }, timeoutMs);
  const abort = () => ending.abort();
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted) abort();
  try {
    const response = await request(url, {
      headers: { authorization: `Bearer ${key}`, accept: 'application/json', 'user-agent': 'tollbridge' },
      signal: ending.signal,
      ...(dispatcher ? { dispatcher } : {}),
    });
    const status = response.statusCode;
    const retryAfterS = parseRetryAfter(response.headers['retry-after'], nowMs);
    const answer = { type: 'answered', status, ...(retryAfterS === undefined ? {} : { retryAfterS }) } as const;
    if (status !== 200) {
      // The status is the answer; a body that does not end must not take it away.
      await response.body.dump({ limit: DISCARD_MAX_BYTES, signal: ending.signal }).catch(() => {});
      return answer;
    }
    const text = await readText(response.body);
    if (text === undefined) return failed('error', 'the response is larger than 1 MiB');
    if (text.trim() === '') return answer;
    try {
      return { ...answer, json: JSON.parse(text) };
    } catch {
      return failed('error', 'parsing response: it is not JSON');
    }
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    const { host } = new URL(url);
    if (timedOut || TIMEOUT_CODES.includes(String(code))) {
      return { ...failed('timeout', `${host} did not answer within ${timeoutMs / 1000} s`), isUnanswered: true };
    }
    return { ...failed('error', `${host} cannot be reached (${describeCode(code)})`), isUnanswered: true };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

function failed(outcome: 'error' | 'timeout', problem: string): Extract<Answer, { type: 'failed' }> {
  return { type: 'failed', outcome, problem };
}

/** The whole body, or undefined when it is too large. */
async function readText(body: Dispatcher.ResponseData['body']): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    // Leaving the loop destroys the stream and its connection.
    if (bytes > BODY_MAX_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** An error's code is a token of the system; its message may hold a header or an address. */
function describeCode(code: unknown): string {
  return typeof code === 'string' && /^[A-Z][A-Z0-9_]{1,40}$/.test(code) ? code : 'unknown error';
}

/** Seconds from a Retry-After header, which is a number of seconds or a date. */
function parseRetryAfter(header: string | string[] | undefined, nowMs: number): number | undefined {
  const text = (Array.isArray(header) ? header[0] : header)?.trim();
  if (!text) return undefined;
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  const atMs = /[A-Za-z]{3}/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(atMs) ? undefined : Math.max(0, (atMs - nowMs) / 1000);
}
