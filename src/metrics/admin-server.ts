// The HTTP server that Prometheus scrapes and people open: /metrics, two probes and the landing page.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import { constants, gzip } from 'node:zlib';
import { commandText } from '../command-text.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import {
  addressText,
  BearerToken,
  isAskedByItsName,
  isLoopback,
  type ListenAddress,
  listenFailure,
} from '../listen.ts';
import type { Log } from '../log.ts';
import { ServerTls, type ServerTlsFiles } from '../server-tls.ts';
import { PAGE_CSP } from './page-frame.ts';

/** A scraper or two and a browser; more is somebody probing, and must not take the bridge's file descriptors. */
const CONNECTIONS_MAX = 64;
/** Requests have no bodies: whoever is slower than this holds a connection for nothing. */
const REQUEST_TIMEOUT_MS = 5_000;
/** A reader that takes nothing for so long is gone. Longer than any scrape takes to build. */
const IDLE_SOCKET_TIMEOUT_MS = 30_000;
/** Above the usual scrape interval of 15 s, so that Prometheus keeps its connection. */
const KEEP_ALIVE_TIMEOUT_MS = 20_000;
/** How long answers under way may take when the bridge stops. */
const STOP_GRACE_MS = 2_000;

/** How a failure to listen is told. */
const LISTENING = { key: 'metrics.listen', serves: 'metrics', example: { host: '127.0.0.1', port: 9464 } };

const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
const TEXT_TYPE = 'text/plain; charset=utf-8';

/** On every answer: nothing may be loaded, framed, guessed at or told on. The page allows itself its own style. */
const SECURITY_HEADERS = {
  'content-security-policy': "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
};

const compress = promisify(gzip);

interface Answer {
  readonly status: number;
  readonly body: string | readonly Buffer[];
  readonly headers?: Readonly<Record<string, string>>;
}

export interface AdminServerOptions {
  /** Port 0 takes a free one. */
  readonly listen: ListenAddress;
  /**
   * Asked of who reads /metrics and the landing page; the probes stay open and tell no reasons then. Where neither a
   * token nor a certificate is asked for, a loopback address answers only requests that name it by an IP address,
   * `localhost` or the configured host.
   */
  readonly token?: string | undefined;
  /** With a `client_ca_file`, readers must show a certificate that it signed, beside a token if there is one. */
  readonly tls?: ServerTlsFiles | undefined;
  /** How often the files of `tls` are looked at. */
  readonly lookEveryMs?: number;
  /** Other machines may read without showing anything. */
  readonly open?: boolean;
  /** The whole text of a scrape, in pieces. Rejects when any part of it is missing. */
  readonly collect: () => Promise<readonly Buffer[]>;
  /** Whether counters can be shown: before, they would read as counters that fell. Once true it stays so. */
  readonly isRestored: () => boolean;
  /** Why the bridge is not ready, one line each; none when it is. */
  readonly ready: () => readonly string[];
  /** The landing page, as HTML. */
  readonly page: () => string;
  readonly log: Log;
}

export class AdminServer {
  readonly #options: AdminServerOptions;
  readonly #server: Server;
  readonly #token: BearerToken | undefined;
  readonly #tls: ServerTls | undefined;
  readonly #routes = new Map<
    string,
    { showsTotals: boolean; answer: (request: IncomingMessage) => Answer | Promise<Answer> }
  >([
    ['/', { showsTotals: true, answer: () => this.#page() }],
    ['/metrics', { showsTotals: true, answer: () => this.#metrics() }],
    ['/-/healthy', { showsTotals: false, answer: () => ({ status: 200, body: 'OK\n' }) }],
    ['/-/ready', { showsTotals: false, answer: (request) => this.#readiness(request) }],
  ]);
  #isForThisMachineOnly = false;
  #scrape: Promise<readonly Buffer[]> | undefined;

  constructor(options: AdminServerOptions) {
    this.#options = options;
    const { token, tls: files, lookEveryMs, log } = options;
    this.#token = token === undefined ? undefined : new BearerToken(token);
    this.#tls = files && new ServerTls({ files, key: 'metrics.tls', serves: 'metrics', log, lookEveryMs });
    const limits = {
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: 1_000,
    };
    this.#server = this.#tls
      ? createTlsServer({ ...limits, ...this.#tls.serverOptions, handshakeTimeout: REQUEST_TIMEOUT_MS })
      : createServer(limits);
    this.#server.on('request', (request, response) => {
      this.#serve(request, response).catch((error) => {
        log.error(`a request to the metrics server failed: ${messageOf(error)}`);
        response.destroy();
      });
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
    this.#server.setTimeout(IDLE_SOCKET_TIMEOUT_MS);
  }

  /**
   * Begins to listen.
   * @returns where, as a URL without a path
   * @throws PermanentFailure when the address cannot be had, or other machines reach it and are asked for nothing
   */
  async start(): Promise<{ url: string }> {
    const { listen, open } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(listenFailure(error, listen, LISTENING)));
      this.#server.listen({ ...listen }, resolve);
    });
    this.#server.removeAllListeners('error');
    this.#server.on('error', (error) =>
      this.#options.log.error(`the metrics server had an error: ${messageOf(error)}`),
    );
    const bound = this.#server.address() as AddressInfo;
    this.#isForThisMachineOnly = isLoopback(bound.address) && !this.#isGuarded;
    if (!isLoopback(bound.address) && !this.#isGuarded && !open) {
      await this.stop();
      throw new PermanentFailure(
        `metrics would be served on ${addressText({ host: listen.host, port: bound.port })} to whoever reaches it, and tell what is spent, so they are not. ` +
          'Set metrics.token_env, token_file or tls.client_ca_file, or metrics.listen to 127.0.0.1; or metrics.open: true where everybody may read.',
      );
    }
    if (this.#tls) this.#tls.follow(this.#server as TlsServer);
    return { url: `${this.#tls ? 'https' : 'http'}://${addressText({ host: listen.host, port: bound.port })}` };
  }

  /** When its certificate ends, Unix ms. */
  certificateEndsMs(): number | undefined {
    return this.#tls?.endsMs;
  }

  /** Stops listening and lets answers under way finish, within bounds. May be called twice, and without a start. */
  async stop(): Promise<void> {
    this.#tls?.stop();
    if (!this.#server.listening) return;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const forced = setTimeout(() => this.#server.closeAllConnections(), STOP_GRACE_MS);
    await closed;
    clearTimeout(forced);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A sender that leaves early is its own business.
    response.on('error', () => {});
    const answer = await this.#answer(request);
    let body = typeof answer.body === 'string' ? [Buffer.from(answer.body)] : answer.body;
    const headers: Record<string, string> = {
      'content-type': TEXT_TYPE,
      'cache-control': 'no-store',
      ...SECURITY_HEADERS,
      ...answer.headers,
    };
    if (headers['content-type'] === METRICS_TYPE) {
      headers.vary = 'accept-encoding';
      if (acceptsGzip(request)) {
        headers['content-encoding'] = 'gzip';
        body = [await compress(Buffer.concat(body), { level: constants.Z_BEST_SPEED })];
      }
    }
    // After `close` a kept-alive connection would hold up the stop.
    if (!this.#server.listening) headers.connection = 'close';
    const bytes = body.reduce((sum, { length }) => sum + length, 0);
    response.writeHead(answer.status, { ...headers, 'content-length': String(bytes) });
    // Handed over as they are: readers of one scrape share its pieces, and a slow one holds no copy.
    response.cork();
    for (const piece of body) response.write(piece);
    response.end();
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    if (this.#isForThisMachineOnly && !isAskedByItsName(request, this.#options.listen)) {
      return {
        status: 403,
        body:
          'Without a token this address serves only this machine, and the request names another host, as a web page would ' +
          'that reaches for it under a name of its own. Ask for it as 127.0.0.1, [::1] or localhost. To use another name, ' +
          'put that name into metrics.listen, or set metrics.token_env.\n',
      };
    }
    const path = (request.url ?? '/').split('?', 1)[0]!;
    const route = this.#routes.get(path);
    if (!route)
      return { status: 404, body: `There is nothing here, only at: ${[...this.#routes.keys()].join(', ')}\n` };
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return { status: 405, headers: { allow: 'GET, HEAD' }, body: 'This can only be read: use GET or HEAD.\n' };
    }
    if (route.showsTotals && !this.#isAllowed(request)) return this.#unauthorized(request);
    if (route.showsTotals && !this.#options.isRestored()) {
      return {
        status: 503,
        headers: { 'retry-after': '1' },
        body: 'The totals are being restored from the ledger, so there is nothing to show yet. Ask again in a moment.\n',
      };
    }
    return await route.answer(request);
  }

  #readiness(request: IncomingMessage): Answer {
    const reasons = this.#options.ready();
    if (reasons.length === 0) return { status: 200, body: 'OK\n' };
    // Whoever may not read the page may not read either what is said there.
    return { status: 503, body: this.#isAllowed(request) ? `${reasons.join('\n')}\n` : 'Not ready.\n' };
  }

  async #metrics(): Promise<Answer> {
    try {
      return { status: 200, headers: { 'content-type': METRICS_TYPE }, body: await this.#collectOnce() };
    } catch (error) {
      // 500 and not half a text: Prometheus then says that the scrape failed, instead of ending every series.
      this.#options.log.error(`a scrape failed: ${messageOf(error)}`);
      return {
        status: 500,
        body: `The metrics could not be collected, so none are shown. The reason is in the log of the bridge; try: ${commandText('doctor')}\n`,
      };
    }
  }

  /** Scrapes that overlap share one collect, so that slow ones never pile up. */
  #collectOnce(): Promise<readonly Buffer[]> {
    this.#scrape ??= this.#options.collect().finally(() => {
      this.#scrape = undefined;
    });
    return this.#scrape;
  }

  #page(): Answer {
    const headers = {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': PAGE_CSP,
    };
    try {
      return { status: 200, headers, body: this.#options.page() };
    } catch (error) {
      this.#options.log.error(`the landing page failed: ${messageOf(error)}`);
      return {
        status: 500,
        body: 'The page could not be built; the reason is in the log of the bridge. /metrics is not affected.\n',
      };
    }
  }

  /** Whether readers must show something. */
  get #isGuarded(): boolean {
    return this.#token !== undefined || this.#tls?.asksForCertificate === true;
  }

  #isAllowed(request: IncomingMessage): boolean {
    return this.#isCertified(request) && this.#bearsToken(request);
  }

  #isCertified(request: IncomingMessage): boolean {
    return !this.#tls?.asksForCertificate || this.#tls.isCertified(request);
  }

  #bearsToken(request: IncomingMessage): boolean {
    return this.#token === undefined || this.#token.isBorneBy(request.headers.authorization) === true;
  }

  #unauthorized(request: IncomingMessage): Answer {
    if (!this.#isCertified(request)) {
      return {
        status: 401,
        body: 'A certificate is needed: connect with one that is signed by the authority in metrics.tls.client_ca_file.\n',
      };
    }
    return {
      status: 401,
      headers: { 'www-authenticate': 'Bearer realm="tollbridge"' },
      body: 'A token is needed: send "Authorization: Bearer …" with the token that metrics.token_env or token_file leads to.\n',
    };
  }
}

function acceptsGzip(request: IncomingMessage): boolean {
  const accepted = String(request.headers['accept-encoding'] ?? '');
  return accepted.split(',').some((coding) => {
    const [name, ...parameters] = coding.split(';').map((part) => part.trim().toLowerCase());
    const quality = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
    return name === 'gzip' && Number(quality ?? 1) > 0;
  });
}
