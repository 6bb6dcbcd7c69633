// What senders ask over HTTP, whichever way they come in: routes, bodies, refusals, and the booking of what they bring.
//
// The stock senders write one request and close the connection without reading an answer. So a body is taken when it is
// whole and never because of, or until, an answer: that the sender has left is the normal case and no error.

import type http from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { RetryableFailure } from '../failure.ts';
import type { Span } from '../ledger/budget-period.ts';
import type { ReportBy } from '../ledger/spend-report.ts';
import type { Log } from '../log.ts';
import type { Identity } from '../turn/turn-event.ts';
import { type Body, BodyReader, type BodyRefusal } from './request-body.ts';
import {
  type Accept,
  type Answer,
  readReport,
  refuse,
  takeEvents,
  takeHook,
  takeImport,
  takeQuestion,
} from './socket-routes.ts';
import { IMPORT_SOURCE, type Intake, placeOf, type SourceMeter } from './source.ts';

const MIB = 1024 * 1024;
/** How long a refused sender's remaining bytes are read and dropped, so that it can read why instead of a reset. */
const REFUSAL_LINGER_MS = 1000;
/** How long the events of a sender that has left are offered to a ledger that cannot commit. Nobody else has them. */
const ABANDONED_PATIENCE_MS = 60_000;
/** How long open requests may take after a stop; it is what an operator waits for at a shutdown. */
const STOP_GRACE_MS = 2000;
/** How long it may take until we see that a sender has left. */
const LEAVING_SEEN_MS = 20;
const REFUSALS_LOGGED_EVERY_MS = 10_000;
const ROUTES =
  'POST /v1/events, POST /v1/import, POST /v1/hook/{opencode,claude_code,codex}, GET /v1/status, GET /healthz';
const REPORT_ROUTE = 'GET /v1/report';
const VERDICT_ROUTE = 'POST /v1/verdict';

export interface ReceiverLimits {
  /** The largest hook payload ever seen had 24 kB. */
  readonly maxBodyBytes: number;
  /** All bodies that are read or wait for their commit. */
  readonly maxInFlightBytes: number;
  /** Beyond it, senders that can wait are asked to. */
  readonly backlogMarkEvents: number;
  readonly maxConnections: number;
  readonly headersTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
}

const LIMITS: ReceiverLimits = {
  maxBodyBytes: 4 * MIB,
  maxInFlightBytes: 64 * MIB,
  backlogMarkEvents: 20_000,
  maxConnections: 4096,
  headersTimeoutMs: 5000,
  requestTimeoutMs: 15_000,
  keepAliveTimeoutMs: 20_000,
};
/** Node looks for overdue connections this often; its own default of 30 s would make the timeouts above meaningless. */
const TIMEOUT_CHECK_MS = 500;

/** Why a request is answered to nobody. */
export type Unanswered = 'missing' | 'wrong' | 'no_certificate' | 'web_page' | 'too_fast';

const TOKEN_ADVICE = 'send "Authorization: Bearer …" with a token whose hash is listed under tokens in tollbridge.yaml';
const UNANSWERED: Readonly<Record<Unanswered, Answer>> = {
  missing: { status: 401, body: { error: `a token is needed: ${TOKEN_ADVICE}` } },
  wrong: { status: 401, body: { error: `this token is not known here: ${TOKEN_ADVICE}; nothing was booked` } },
  no_certificate: {
    status: 401,
    body: {
      error: 'a certificate is needed: connect with one that is signed by the authority in tcp.tls.client_ca_file',
    },
  },
  too_fast: {
    status: 429,
    body: {
      error: 'more requests come than rate_limit lets in; nothing was booked, send it again later',
    },
    retryAfterS: 1,
  },
  web_page: {
    status: 403,
    body: {
      error:
        'without tokens only programs of this machine are answered, and this request came from a web page or names another ' +
        'host; ask as 127.0.0.1, [::1] or localhost, or list tokens in tollbridge.yaml',
    },
  },
};

/** What a POST to one path is for. */
export interface Route {
  /** @throws RetryableFailure when what it brings could not be committed */
  readonly take: (body: Buffer, request: IncomingMessage) => Promise<Answer>;
  /** What it brings is booked; what is only asked is answered at once, whatever waits for the ledger. */
  readonly isBooked: boolean;
}

/** Other routes than those of the socket, and answers of another form. */
export interface Desk {
  /** The routes, for whoever asked for another. */
  readonly routes: string;
  route(path: string, accept: Accept): Route | undefined;
  /** How an answer is written. */
  encode(answer: Answer, request: IncomingMessage): { readonly contentType: string; readonly bytes: Buffer };
  /** What is answered where the bridge made a mistake. */
  readonly mistake: Pick<Answer, 'status' | 'retryAfterS'>;
}

export interface EventReceiverOptions {
  /** Which source of the intake this is. */
  readonly source: string;
  readonly intake: Intake;
  /** Whose request it is; asked before anything but /healthz is answered, and before a body is read. */
  readonly identify: (request: IncomingMessage) => Identity | Unanswered;
  /** The body of `GET /v1/status`, for whoever asks. */
  readonly status: (identity: Identity) => unknown;
  /** The body of `/healthz`. */
  readonly health: () => object;
  /** The body of `GET /v1/report`, which names sessions. There is no such route without it. */
  readonly report?: ((by: ReportBy, span: Span) => object) | undefined;
  /** Answers `POST /v1/verdict`; the question is a JSON object. There is no such route without it. */
  readonly verdict?: ((question: unknown, identity: Identity) => Answer) | undefined;
  /** Answers `POST /v1/explain` in the same way. */
  readonly explain?: ((question: unknown, identity: Identity) => Answer) | undefined;
  readonly meter: SourceMeter;
  readonly log: Log;
  /** Served instead of the socket's routes. */
  readonly desk?: Desk | undefined;
  readonly limits?: Partial<ReceiverLimits> | undefined;
}

type Take = () => Promise<Answer>;

export class EventReceiver {
  readonly limits: ReceiverLimits;
  readonly #options: EventReceiverOptions;
  readonly #bodies: BodyReader;
  readonly #inHand = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  readonly #refusals = { count: 0, loggedMs: Number.NEGATIVE_INFINITY };

  constructor(options: EventReceiverOptions) {
    this.#options = options;
    this.limits = { ...LIMITS, ...options.limits };
    this.#bodies = new BodyReader(this.limits);
  }

  /** What a server of this receiver is created with. */
  serverOptions(): http.ServerOptions {
    return {
      headersTimeout: this.limits.headersTimeoutMs,
      requestTimeout: this.limits.requestTimeoutMs,
      keepAliveTimeout: this.limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    };
  }

  /** Answers what comes in at a server, from now on. */
  serve(server: http.Server): void {
    server.maxConnections = this.limits.maxConnections;
    server.on('request', (request, response) => this.#receive(request, response));
    server.on('checkContinue', (request, response) => this.#receive(request, response));
    // A connection beyond the cap may have come with a whole request that nobody will read.
    server.on('drop', () => this.#options.meter.refused(this.#options.source, 'connections'));
  }

  /** Closes servers: what was sent is booked and answered, within bounds. */
  async close(servers: readonly http.Server[]): Promise<void> {
    const closed = Promise.all(servers.map((each) => new Promise((resolve) => each.close(resolve))));
    this.#stopping.abort();
    const forced = setTimeout(() => {
      for (const each of servers) each.closeAllConnections();
    }, STOP_GRACE_MS);
    await this.#settled();
    for (const each of servers) each.closeIdleConnections();
    await closed;
    clearTimeout(forced);
  }

  async #settled(): Promise<void> {
    while (this.#inHand.size > 0) await Promise.all(this.#inHand);
  }

  #receive(request: IncomingMessage, response: ServerResponse): void {
    response.on('error', () => {}); // The sender has left before its answer: normal.
    const done = this.#handle(request, response)
      .catch((error) => {
        this.#options.log.error(
          { source: this.#options.source, ...placeOf(error) },
          'a request failed unexpectedly; please report this',
        );
        this.#respond(response, {
          ...(this.#options.desk?.mistake ?? { status: 500 }),
          body: { error: 'the bridge made a mistake; its log says where' },
        });
      })
      .finally(() => this.#inHand.delete(done));
    this.#inHand.add(done);
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = '', query = ''] = (request.url ?? '').split(/\?(.*)/s);
    if (path === '/healthz') return this.#respond(response, { status: 200, body: this.#options.health() });
    const identity = this.#options.identify(request);
    if (typeof identity === 'string') {
      const reason = identity === 'too_fast' ? 'rate_limit' : 'unauthorized';
      this.#options.meter.refused(this.#options.source, reason);
      return this.#turnAway(request, response, UNANSWERED[identity]);
    }
    const read = this.#reading(path, query, identity);
    if (read) return this.#respond(response, request.method === 'GET' ? read() : this.#wrongMethod('GET'));
    const route = this.#route(path, query, identity);
    if (!route) {
      return this.#respond(response, { status: 404, body: { error: `no such route; there are ${this.#routes()}` } });
    }
    if (request.method !== 'POST') return this.#respond(response, this.#wrongMethod('POST'));

    const refusal = this.#bodies.refusal(request) ?? (route.isBooked ? this.#backlogRefusal(request) : undefined);
    if (refusal) return this.#turnAway(request, response, await this.#refused(refusal, route));
    if (request.httpVersion === '1.1' && request.headers.expect) response.writeContinue();
    const body = await this.#bodies.read(request);
    if (body === 'truncated') return this.#options.meter.truncated(this.#options.source);
    if (typeof body === 'string') return this.#turnAway(request, response, await this.#refused(body, route));
    const answer = await this.#book(request, () => route.take(body.bytes, request), body);
    if (this.#stopping.signal.aborted && !response.headersSent) response.setHeader('Connection', 'close');
    this.#respond(response, answer);
  }

  #routes(): string {
    const { verdict, report, desk } = this.#options;
    if (desk) return desk.routes;
    return [...(verdict ? [VERDICT_ROUTE] : []), ...(report ? [REPORT_ROUTE] : []), ROUTES].join(', ');
  }

  #wrongMethod(method: string): Answer {
    const error = `method not allowed; this route takes ${method}. There are ${this.#routes()}`;
    return { status: 405, body: { error } };
  }

  /** What a GET of a path is answered; undefined where nothing can be read. */
  #reading(path: string, query: string, identity: Identity): (() => Answer) | undefined {
    const { status, report, desk } = this.#options;
    if (desk) return undefined;
    if (path === '/v1/status') return () => ({ status: 200, body: status(identity) as object });
    return path === '/v1/report' && report ? () => readReport(query, report) : undefined;
  }

  #route(path: string, query: string, identity: Identity): Route | undefined {
    const { verdict, explain, intake, desk } = this.#options;
    const accept = this.#accept(identity);
    if (desk) return desk.route(path, accept);
    if (path === '/v1/events') return { isBooked: true, take: (body) => takeEvents(body, accept) };
    if (path === '/v1/import') {
      const imported: Accept = (decoded) => intake.accept(IMPORT_SOURCE, decoded, identity);
      return { isBooked: true, take: (body) => takeImport(body, imported) };
    }
    const ask = path === '/v1/verdict' ? verdict : path === '/v1/explain' ? explain : undefined;
    if (ask) return { isBooked: false, take: async (body) => this.#asked(body, (question) => ask(question, identity)) };
    if (path !== '/v1/hook' && !path.startsWith('/v1/hook/')) return undefined;
    const source = percentDecoded(path.slice('/v1/hook/'.length)).replace(/^[\s/]+|[\s/]+$/g, '');
    const accountId = new URLSearchParams(query).get('account_id')?.trim() ?? '';
    const take: Route['take'] = async (body) => {
      const answer = await takeHook({ source, accountId }, body, accept);
      if (answer.status === 200) intake.heard(source.toLowerCase());
      return answer;
    };
    return { isBooked: true, take };
  }

  #asked(body: Buffer, ask: (question: object) => Answer): Answer {
    const answer = takeQuestion(body, ask);
    if (answer.status === 400) this.#options.meter.refused(this.#options.source, 'malformed');
    return answer;
  }

  #accept(identity: Identity): Accept {
    return (decoded) => this.#options.intake.accept(this.#options.source, decoded, identity);
  }

  /** Senders of HTTP/1.0 do not wait for answers: while there is room for bytes they are never turned away. */
  #backlogRefusal(request: IncomingMessage): BodyRefusal | undefined {
    const canWait = request.httpVersion !== '1.0';
    return canWait && this.#options.intake.backlogEvents > this.limits.backlogMarkEvents ? 'overloaded' : undefined;
  }

  /** Answers at once, then drops what still comes until the sender has read it. */
  async #turnAway(request: IncomingMessage, response: ServerResponse, answer: Answer): Promise<void> {
    this.#respond(response, answer, { keepOpen: true });
    request.resume();
    const isSending = !request.complete && !request.destroyed && !request.headers.expect;
    if (isSending) {
      const over = new AbortController();
      request.once('end', () => over.abort()).once('close', () => over.abort());
      await delay(REFUSAL_LINGER_MS, undefined, { signal: over.signal }).catch(() => {});
    }
    response.end();
  }

  async #refused(refusal: BodyRefusal, { isBooked }: Route): Promise<Answer> {
    if (refusal === 'overloaded') return this.#overloaded();
    const limit = `a body may hold ${this.limits.maxBodyBytes} bytes`;
    // A question brings no event that could be counted as rejected.
    if (!isBooked) {
      this.#options.meter.refused(this.#options.source, 'too_large');
      return { status: 413, body: { error: limit } };
    }
    const detail = `${limit}; send the events in smaller parts`;
    return refuse(this.#accept({}), { status: 413, error: detail }, { reason: 'too_large', detail });
  }

  #overloaded(): Answer {
    this.#options.meter.refused(this.#options.source, 'backlog');
    const refusals = this.#refusals;
    refusals.count++;
    const nowMs = performance.now();
    if (nowMs - refusals.loggedMs >= REFUSALS_LOGGED_EVERY_MS) {
      this.#options.log.warn(
        { requests: refusals.count },
        'more is sent than the ledger can book; senders are asked to wait',
      );
      refusals.count = 0;
      refusals.loggedMs = nowMs;
    }
    return { status: 429, body: { error: 'too much is waiting to be booked; send it again later' }, retryAfterS: 1 };
  }

  /**
   * Books a body. A sender that waits is told to try again when the ledger cannot commit; for one that has left,
   * trying again is up to us.
   */
  async #book(request: IncomingMessage, take: Take, body: Body): Promise<Answer> {
    const sinceMs = performance.now();
    try {
      for (let tries = 1; ; tries++) {
        try {
          return await take();
        } catch (error) {
          if (!(error instanceof RetryableFailure)) throw error;
          await delay(LEAVING_SEEN_MS);
          const hasLeft = request.socket.destroyed;
          const isPatient = performance.now() - sinceMs < ABANDONED_PATIENCE_MS && !this.#stopping.signal.aborted;
          if (hasLeft && isPatient) {
            const pauseMs = error.retryAfterS * tries * 1000; // Longer each time: there may be thousands.
            await delay(pauseMs, undefined, { signal: this.#stopping.signal }).catch(() => {});
            continue;
          }
          if (hasLeft) {
            this.#options.meter.lost(this.#options.source);
            this.#options.log.error(
              { bytes: body.bytes.length },
              'a request was lost: its sender has left and the ledger cannot commit; see the log of the ledger',
            );
          }
          if (!hasLeft) this.#options.meter.refused(this.#options.source, 'ledger');
          return {
            status: 503,
            body: { error: `not booked: ${error.message}; send it again later` },
            retryAfterS: error.retryAfterS,
          };
        }
      }
    } finally {
      body.release();
    }
  }

  /** Writes an answer if its reader is still there. Refusals end the connection, because a body may follow them unread. */
  #respond(response: ServerResponse, answer: Answer, { keepOpen = false } = {}): void {
    if (response.destroyed || response.headersSent) return;
    const { contentType, bytes } = this.#options.desk?.encode(answer, response.req) ?? inJson(answer);
    response.writeHead(answer.status, {
      'Content-Type': contentType,
      'X-Content-Type-Options': 'nosniff',
      'Content-Length': bytes.length,
      ...(answer.status === 401 && { 'WWW-Authenticate': 'Bearer realm="tollbridge"' }),
      ...(answer.retryAfterS !== undefined && { 'Retry-After': Math.max(1, Math.ceil(answer.retryAfterS)) }),
      ...((keepOpen || answer.status === 404 || answer.status === 405) && { Connection: 'close' }),
    });
    if (keepOpen) response.write(bytes);
    else response.end(bytes);
  }
}

const inJson = ({ body }: Answer) => ({
  contentType: 'application/json',
  bytes: Buffer.from(`${JSON.stringify(body)}\n`),
});

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
