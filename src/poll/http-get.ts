// One GET with a credential. It goes to the address it is meant for and nowhere else: redirects are answers, not
// followed. Neither the credential nor anything of a response's text comes out in a message.

import { type Dispatcher, request } from 'undici';
import type { PollOutcome } from './poll-result.ts';

/** No answer that we read comes near this; more is not for us. */
const BODY_MAX_BYTES = 1024 * 1024;
/** How much of a body that nobody reads is taken in, to keep the connection for the next poll. */
const DISCARD_MAX_BYTES = 16 * 1024;
const TIMEOUT_CODES = ['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'ETIMEDOUT'];
/** What a header may hold; anything else in a credential is a pasting accident. */
const USABLE_IN_HEADER = /^[\x21-\x7e]{1,4096}$/;

export interface HttpGet {
  readonly url: string;
  /** The credential among them. */
  readonly headers: Readonly<Record<string, string>>;
  /** For the whole exchange, connecting included. */
  readonly timeoutMs: number;
  /** Against which a Retry-After that is a date is measured. */
  readonly nowMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly dispatcher?: Dispatcher | undefined;
}

/** No usable answer. `problem` is in our own words; where there was no answer at all, it names the host. */
export interface Failed {
  readonly type: 'failed';
  readonly outcome: Extract<PollOutcome, 'error' | 'timeout'>;
  readonly problem: string;
  readonly isUnanswered?: true;
}

export interface Answered {
  readonly type: 'answered';
  readonly status: number;
  /** Lower-case, without parameters; '' when none was stated. */
  readonly mediaType: string;
  /** What a 200 said; '' for every other status. Never to be logged or quoted. */
  readonly text: string;
  /** Where a redirect leads. Never to be logged or quoted. */
  readonly location?: string;
  readonly retryAfterS?: number;
}

/** Whether a credential can be sent at all. */
export function isSendable(credential: string): boolean {
  return USABLE_IN_HEADER.test(credential);
}

/** Asks once. Never rejects. */
export async function httpGet(get: HttpGet): Promise<Answered | Failed> {
  const { url, headers, timeoutMs, nowMs, signal, dispatcher } = get;
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
      headers: { accept: 'application/json', 'user-agent': 'tollbridge', ...headers },
      signal: ending.signal,
      ...(dispatcher ? { dispatcher } : {}),
    });
    const status = response.statusCode;
    const location = firstOf(response.headers.location);
    const retryAfterS = parseRetryAfter(firstOf(response.headers['retry-after']), nowMs);
    const answer = {
      type: 'answered',
      status,
      mediaType: (firstOf(response.headers['content-type']) ?? '').split(';')[0]!.trim().toLowerCase(),
      text: '',
      ...(location === undefined ? {} : { location }),
      ...(retryAfterS === undefined ? {} : { retryAfterS }),
    } as const;
    if (status !== 200) {
      // The status is the answer; a body that does not end must not take it away.
      await response.body.dump({ limit: DISCARD_MAX_BYTES, signal: ending.signal }).catch(() => {});
      return answer;
    }
    const text = await readText(response.body);
    return text === undefined ? failed('error', 'the response is larger than 1 MiB') : { ...answer, text };
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

/** The JSON that a 200 holds; undefined when its body is empty, a failure when it is something else. */
export function jsonOf({ text }: Answered): { readonly json: unknown } | Failed {
  if (text.trim() === '') return { json: undefined };
  try {
    return { json: JSON.parse(text) };
  } catch {
    // The parser's message quotes the text, so it goes no further.
    return failed('error', 'parsing response: it is not JSON');
  }
}

function failed(outcome: 'error' | 'timeout', problem: string): Failed {
  return { type: 'failed', outcome, problem };
}

function firstOf(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
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
function parseRetryAfter(header: string | undefined, nowMs: number): number | undefined {
  const text = header?.trim();
  if (!text) return undefined;
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  const atMs = /[A-Za-z]{3}/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(atMs) ? undefined : Math.max(0, (atMs - nowMs) / 1000);
}
