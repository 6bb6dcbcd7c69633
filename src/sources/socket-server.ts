// The unix socket: where the agents' plugins and hooks deliver. Plain node:http, HTTP/1.0 and 1.1.
//
// Its stock senders write one request and close the connection without reading an answer. So a body is taken when it is
// whole and never because of, or until, an answer: that the sender has left is the normal case and no error.

import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, RetryableFailure } from '../failure.ts';
import type { Span } from '../ledger/budget-period.ts';
import type { ReportBy } from '../ledger/spend-report.ts';
import type { Log } from '../log.ts';
import type { Identity } from '../turn/turn-event.ts';
import { type Body, BodyReader, type BodyRefusal } from './request-body.ts';
import { type ClaimedSocket, claimSocket } from './socket-file.ts';
import { type Accept, type Answer, readReport, refuse, takeEvents, takeHook, takeVerdict } from './socket-routes.ts';
import { type Intake, placeOf, type Source, type SourceMeter } from './source.ts';

const SOURCE = 'socket';
const MIB = 1024 * 1024;
/** The kernel's own limit on Linux (somaxconn). A full queue is the one refusal that a stock sender does see. */
const LISTEN_BACKLOG = 4096;
/** How long a refused sender's remaining bytes are read and dropped, so that it can read why instead of a reset. */
const REFUSAL_LINGER_MS = 1000;
/** How long the events of a sender that has left are offered to a ledger that cannot commit. Nobody else has them. */
const ABANDONED_PATIENCE_MS = 60_000;
/** How long open requests may take after `stop`; it is what an operator waits for at a shutdown. */
const STOP_GRACE_MS = 2000;
/** Turns of the event loop without a new connection after which nobody can be waiting to be accepted or read. */
const QUIET_TURNS = 5;
/** How long it may take until we see that a sender has left. */
const LEAVING_SEEN_MS = 20;
const REFUSALS_LOGGED_EVERY_MS = 10_000;
/** How long a deleted socket file goes unnoticed. Senders use their spool meanwhile. */
const WATCH_EVERY_MS = 5000;
const ROUTES =
  'POST /v1/events, POST /v1/hook/{opencode,claude_code,codex}, GET /v1/status, GET /v1/report, GET /healthz';

export interface SocketLimits {
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

const LIMITS: SocketLimits = {
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

export interface SocketServerOptions {
  readonly path: string;
  /** A group, by name or number, that may use the socket too. */
  readonly group?: string | undefined;
  readonly intake: Intake;
  /** Who sends through this socket. */
  readonly identity: Identity;
  /** The body of `GET /v1/status`. */
  readonly status: () => unknown;
  /** The body of `/healthz`. */
  readonly health: () => object;
  /** The body of `GET /v1/report`. */
  readonly report?: (by: ReportBy, span: Span) => object;
  /** Answers `POST /v1/verdict`. */
  readonly verdict?: (question: unknown, identity: Identity) => Answer;
  /** Answers `POST /v1/explain`. */
  readonly explain?: (question: unknown, identity: Identity) => Answer;
  readonly meter: SourceMeter;
  readonly log: Log;
  readonly limits?: Partial<SocketLimits>;
  readonly watchEveryMs?: number;
}

interface Listening {
  readonly server: http.Server;
  readonly file: ClaimedSocket;
}

type Take = (body: Buffer) => Promise<Answer>;

export class SocketServer implements Source {
  readonly name = SOURCE;
  readonly #options: SocketServerOptions;
  readonly #limits: SocketLimits;
  readonly #bodies: BodyReader;
  readonly #accept: Accept;
  readonly #inHand = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  readonly #refusals = { count: 0, loggedMs: Number.NEGATIVE_INFINITY };
  #listening: Listening | undefined;
  /** Listeners that lost their place and still have connections. */
  readonly #retired = new Set<http.Server>();
  #problem: string | undefined;
  #watch: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;

  constructor(options: SocketServerOptions) {
    this.#options = options;
    this.#limits = { ...LIMITS, ...options.limits };
    this.#bodies = new BodyReader(this.#limits);
    this.#accept = (decoded) => options.intake.accept(SOURCE, decoded, options.identity);
  }

  /** What keeps senders from reaching the socket, one line for people. */
  problem(): string | undefined {
    return this.#problem;
  }

  /** @throws PermanentFailure when the socket's place is taken or cannot be used */
  async start(): Promise<void> {
    if (this.#watch) return;
    this.#watch = setInterval(() => {
      this.#checking ??= this.#keepPlace().finally(() => {
        this.#checking = undefined;
      });
    }, this.#options.watchEveryMs ?? WATCH_EVERY_MS);
    try {
      this.#listening = await this.#listen();
    } catch (error) {
      this.#unwatch();
      throw error;
    }
    this.#options.meter.up(SOURCE, true);
  }

  #unwatch(): void {
    clearInterval(this.#watch);
    this.#watch = undefined;
  }

  async #listen(): Promise<Listening> {
    const limits = this.#limits;
    const server = http.createServer({
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
      requireHostHeader: false, // A socket file has no host name.
    });
    server.maxConnections = limits.maxConnections;
    server.on('request', (request, response) => this.#receive(request, response));
    server.on('checkContinue', (request, response) => this.#receive(request, response));
    // A connection beyond the cap may have come with a whole request that nobody will read.
    server.on('drop', () => this.#options.meter.refused(SOURCE, 'connections'));
    server.on('error', (error) => {
      // While it is not yet listening, whoever makes it listen is told.
      if (server.listening) this.#report(`the socket could not accept a sender: ${messageOf(error)}`);
    });
    const file = await claimSocket(server, { ...this.#options, backlog: LISTEN_BACKLOG });
    return { server, file };
  }

  /** Listens anew where the socket's file was deleted or replaced: senders look for the file, not for us. */
  async #keepPlace(): Promise<void> {
    const lost = this.#listening;
    if (!lost) return;
    if (!lost.file.isOurs()) {
      this.#options.meter.up(SOURCE, false);
      const what = 'the file of the socket was deleted or replaced, so senders did not reach it';
      try {
        this.#listening = await this.#listen();
      } catch (error) {
        this.#report(`${what}; it is tried again until it can be made anew. ${messageOf(error)}`);
        return;
      }
      this.#options.log.warn({ socket: this.#options.path }, `${what}; it was made anew`);
      await this.#retire(lost.server);
    }
    this.#report(undefined);
  }

  /** Takes what waits at a listener that nobody can find any more. Who is connected is still served. */
  async #retire(server: http.Server): Promise<void> {
    this.#retired.add(server);
    server.once('close', () => this.#retired.delete(server));
    await this.#acceptWaiting(server);
    server.close();
    // A closed server no longer ends slow requests by itself.
    const forced = setTimeout(() => server.closeAllConnections(), this.#limits.requestTimeoutMs);
    server.once('close', () => clearTimeout(forced));
  }

  #report(problem: string | undefined): void {
    this.#options.meter.up(SOURCE, problem === undefined);
    if (problem === this.#problem) return;
    if (problem) this.#options.log.warn({ socket: this.#options.path }, problem);
    else this.#options.log.info('senders reach the socket again');
    this.#problem = problem;
  }

  /** Takes what has been sent, books it, answers, and closes. New senders find no socket and use their spool. */
  async stop(): Promise<void> {
    this.#unwatch();
    await this.#checking;
    if (!this.#listening) return;
    const { server, file } = this.#listening;
    const servers = [server, ...this.#retired];
    this.#listening = undefined;
    file.release();
    await this.#acceptWaiting(server);
    const closed = Promise.all(servers.map((each) => new Promise((resolve) => each.close(resolve))));
    this.#stopping.abort();
    const forced = setTimeout(() => {
      for (const each of servers) each.closeAllConnections();
    }, STOP_GRACE_MS);
    await this.#settled();
    for (const each of servers) each.closeIdleConnections();
    await closed;
    clearTimeout(forced);
    this.#options.meter.up(SOURCE, false);
  }

  /** Stock senders are gone as soon as they are connected; what they wrote still waits in the kernel's queue. */
  async #acceptWaiting(server: http.Server): Promise<void> {
    // Each turn of the loop accepts one connection, and what it brings is read in the next.
    let quietTurns = 0;
    const note = () => {
      quietTurns = 0;
    };
    server.on('connection', note);
    for (; quietTurns < QUIET_TURNS; quietTurns++) await new Promise((resolve) => setImmediate(resolve));
    server.off('connection', note);
  }

  async #settled(): Promise<void> {
    while (this.#inHand.size > 0) await Promise.all(this.#inHand);
  }

  #receive(request: IncomingMessage, response: ServerResponse): void {
    response.on('error', () => {}); // The sender has left before its answer: normal.
    const done = this.#handle(request, response)
      .catch((error) => {
        this.#options.log.error(placeOf(error), 'a request to the socket failed unexpectedly; please report this');
        respond(response, { status: 500, body: { error: 'the bridge made a mistake; its log says where' } });
      })
      .finally(() => this.#inHand.delete(done));
    this.#inHand.add(done);
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = '', query = ''] = (request.url ?? '').split(/\?(.*)/s);
    if (path === '/healthz') return respond(response, { status: 200, body: this.#options.health() });
    if (path === '/v1/status') {
      if (request.method !== 'GET') return respond(response, wrongMethod('GET'));
      return respond(response, { status: 200, body: this.#options.status() as object });
    }
    const { report } = this.#options;
    if (path === '/v1/report' && report) {
      if (request.method !== 'GET') return respond(response, wrongMethod('GET'));
      return respond(response, readReport(query, report));
    }
    const take = this.#taker(path, query);
    if (!take) return respond(response, { status: 404, body: { error: `no such route; there are ${ROUTES}` } });
    if (request.method !== 'POST') return respond(response, wrongMethod('POST'));

    const refusal = this.#bodies.refusal(request) ?? this.#backlogRefusal(request);
    if (refusal) return this.#turnAway(request, response, refusal);
    if (request.httpVersion === '1.1' && request.headers.expect) response.writeContinue();
    const body = await this.#bodies.read(request);
    if (body === 'truncated') return this.#options.meter.truncated(SOURCE);
    if (typeof body === 'string') return this.#turnAway(request, response, body);
    const answer = await this.#book(request, take, body);
    if (this.#stopping.signal.aborted && !response.headersSent) response.setHeader('Connection', 'close');
    respond(response, answer);
  }

  #taker(path: string, query: string): Take | undefined {
    if (path === '/v1/events') return (body) => takeEvents(body, this.#accept);
    const { verdict, explain, identity } = this.#options;
    if (path === '/v1/explain' && explain)
      return async (body) => takeVerdict(body, (asked) => explain(asked, identity));
    if (path === '/v1/verdict' && verdict)
      return async (body) => takeVerdict(body, (asked) => verdict(asked, identity));
    if (path !== '/v1/hook' && !path.startsWith('/v1/hook/')) return undefined;
    const source = percentDecoded(path.slice('/v1/hook/'.length)).replace(/^[\s/]+|[\s/]+$/g, '');
    const accountId = new URLSearchParams(query).get('account_id')?.trim() ?? '';
    return async (body) => {
      const answer = await takeHook({ source, accountId }, body, this.#accept);
      if (answer.status === 200) this.#options.intake.heard(source.toLowerCase());
      return answer;
    };
  }

  /** Senders of HTTP/1.0 do not wait for answers: while there is room for bytes they are never turned away. */
  #backlogRefusal(request: IncomingMessage): BodyRefusal | undefined {
    const canWait = request.httpVersion !== '1.0';
    return canWait && this.#options.intake.backlogEvents > this.#limits.backlogMarkEvents ? 'overloaded' : undefined;
  }

  /** Answers at once, then drops what still comes until the sender has read it. */
  async #turnAway(request: IncomingMessage, response: ServerResponse, refusal: BodyRefusal): Promise<void> {
    const answer = refusal === 'too_large' ? await this.#tooLarge() : this.#overloaded();
    respond(response, answer, { keepOpen: true });
    request.resume();
    const isSending = !request.complete && !request.destroyed && !request.headers.expect;
    if (isSending) {
      const over = new AbortController();
      request.once('end', () => over.abort()).once('close', () => over.abort());
      await delay(REFUSAL_LINGER_MS, undefined, { signal: over.signal }).catch(() => {});
    }
    response.end();
  }

  #tooLarge(): Promise<Answer> {
    const detail = `a body may hold ${this.#limits.maxBodyBytes} bytes; send the events in smaller parts`;
    return refuse(this.#accept, { status: 413, error: detail }, { reason: 'too_large', detail });
  }

  #overloaded(): Answer {
    this.#options.meter.refused(SOURCE, 'backlog');
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
          return await take(body.bytes);
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
            this.#options.meter.lost(SOURCE);
            this.#options.log.error(
              { bytes: body.bytes.length },
              'a request was lost: its sender has left and the ledger cannot commit; see the log of the ledger',
            );
          }
          if (!hasLeft) this.#options.meter.refused(SOURCE, 'ledger');
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
}

const wrongMethod = (method: string): Answer => ({
  status: 405,
  body: { error: `method not allowed; this route takes ${method}. There are ${ROUTES}` },
});

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Writes an answer if its reader is still there. Refusals end the connection, because a body may follow them unread. */
function respond(response: ServerResponse, answer: Answer, { keepOpen = false } = {}): void {
  if (response.destroyed || response.headersSent) return;
  const text = `${JSON.stringify(answer.body)}\n`;
  response.writeHead(answer.status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(text),
    ...(answer.retryAfterS !== undefined && { 'Retry-After': Math.max(1, Math.ceil(answer.retryAfterS)) }),
    ...((keepOpen || answer.status === 404 || answer.status === 405) && { Connection: 'close' }),
  });
  if (keepOpen) response.write(text);
  else response.end(text);
}
