// A source that listens on TCP, for senders in containers and on other machines: the socket's routes, or those of a desk.
// There a credential says whose events they are; without tokens only this machine is listened to, and nobody's name is known.

import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TcpConfig } from '../config.ts';
import { messageOf } from '../failure.ts';
import { addressText, isAskedByItsName, listenFailure } from '../listen.ts';
import { ServerTls } from '../server-tls.ts';
import type { Identity } from '../turn/turn-event.ts';
import { EventReceiver, type EventReceiverOptions, type Unanswered } from './event-receiver.ts';
import { Pace } from './pace.ts';
import type { SenderTokens } from './sender-tokens.ts';
import type { Source } from './source.ts';

/** Anybody on the network may connect, and must not take the descriptors that the socket and the ledger need. */
const CONNECTIONS_MAX = 1024;

/** What is served on an address: the source's name, the key of its configuration, and how messages speak of it. */
export interface Service {
  readonly source: string;
  readonly key: string;
  readonly serves: string;
  /** Where it usually listens. */
  readonly port: number;
}

const EVENTS: Service = { source: 'tcp', key: 'tcp', serves: 'senders on TCP', port: 9465 };

export interface TcpServerOptions extends Omit<EventReceiverOptions, 'source' | 'identify'> {
  readonly service?: Service;
  /** A token in a request's path, where senders may put it there. */
  readonly tokenInPath?: ((path: string) => string | undefined) | undefined;
  /** Port 0 takes a free one. */
  readonly tcp: TcpConfig;
  readonly tokens: SenderTokens;
  /** Whose requests they are that come without a name; nobody's by default. */
  readonly unnamed?: Identity | undefined;
  /** How often the files of `tcp.tls` are looked at. */
  readonly lookEveryMs?: number;
}

export class TcpServer implements Source {
  readonly #service: Service;
  readonly #options: TcpServerOptions;
  readonly #receiver: EventReceiver;
  /** Of all who bear no token. */
  readonly #pace: Pace;
  #server: http.Server | undefined;
  #tls: ServerTls | undefined;
  #url = '';

  constructor(options: TcpServerOptions) {
    this.#options = options;
    this.#service = options.service ?? EVENTS;
    this.#pace = new Pace(options.tcp.rate_limit);
    const { tokens, tcp } = options;
    const isGuarded = !tokens.isEmpty || tcp.tls?.client_ca_file !== undefined;
    this.#receiver = new EventReceiver({
      ...options,
      // Strangers learn that it lives, and of no version whose holes they could look up.
      ...(isGuarded && { health: () => ({ status: 'ok' }) }),
      source: this.name,
      limits: { maxConnections: CONNECTIONS_MAX, ...options.limits },
      identify: (request) => this.#identify(request),
    });
  }

  get name(): string {
    return this.#service.source;
  }

  /** Where it listens, without a path; '' before the start. */
  get url(): string {
    return this.#url;
  }

  /** Why a renewed certificate is not served; undefined when all is well. */
  problem(): string | undefined {
    return this.#tls?.problem();
  }

  /** When its certificate ends, Unix ms. */
  certificateEndsMs(): number | undefined {
    return this.#tls?.endsMs;
  }

  /** @throws PermanentFailure when the address cannot be had, or the certificate or its key cannot be used */
  async start(): Promise<void> {
    if (this.#server) return;
    const { tcp, log, meter } = this.#options;
    const { listen } = tcp;
    const { key, serves, port: usualPort } = this.#service;
    const listening = { key: `${key}.listen`, serves, example: { host: '127.0.0.1', port: usualPort } };
    const server = this.#newServer(tcp);
    this.#receiver.serve(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenFailure(error, listen, listening)));
      server.listen({ ...listen }, resolve);
    });
    server.removeAllListeners('error');
    server.on('error', (error) => log.error({ source: this.name }, `the server had an error: ${messageOf(error)}`));
    this.#server = server;
    this.#tls?.follow(server as https.Server);
    const { port } = server.address() as AddressInfo;
    this.#url = `${tcp.tls ? 'https' : 'http'}://${addressText({ host: listen.host, port })}`;
    meter.up(this.name, true);
  }

  #newServer({ tls: files }: TcpConfig): http.Server {
    const options = this.#receiver.serverOptions();
    if (!files) return http.createServer(options);
    const { log, lookEveryMs } = this.#options;
    const { key, serves } = this.#service;
    this.#tls = new ServerTls({ files, key: `${key}.tls`, serves, log, lookEveryMs });
    const handshakeTimeout = this.#receiver.limits.headersTimeoutMs;
    return https.createServer({ ...options, ...this.#tls.serverOptions, handshakeTimeout });
  }

  /** Books and answers what was sent, within bounds. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    this.#tls?.stop();
    // Who waits to be accepted is reset and sees it, unlike those who write to the socket's file and leave.
    await this.#receiver.close([server]);
    this.#options.meter.up(this.name, false);
  }

  #identify(request: IncomingMessage): Identity | Unanswered {
    const { tokens, tcp } = this.#options;
    if (this.#tls?.asksForCertificate && !this.#tls.isCertified(request)) return 'no_certificate';
    // A page that makes a browser ask here knows no token, so then it does not matter by which name it was asked.
    if (!tokens.isEmpty) return this.#bearer(request);
    // Nor does it know a certificate, but the browser may: then it lends it to every page.
    const isPage =
      request.headers.origin !== undefined ||
      (!this.#tls?.asksForCertificate && !isAskedByItsName(request, tcp.listen));
    if (isPage) return 'web_page';
    return this.#pace.admits() ? (this.#options.unnamed ?? {}) : 'too_fast';
  }

  #bearer(request: IncomingMessage): Identity | Unanswered {
    const { tokens, tokenInPath } = this.#options;
    const { authorization } = request.headers;
    const inPath = authorization === undefined ? tokenInPath?.(request.url ?? '') : undefined;
    return inPath === undefined ? tokens.identify(authorization) : tokens.identifyToken(inPath);
  }
}
