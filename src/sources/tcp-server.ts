// A source that listens on TCP, for senders in containers and on other machines: the socket's routes, or those of a desk.
// There a credential says whose events they are; without tokens only this machine is listened to, and nobody's name is known.

import { readFileSync } from 'node:fs';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TcpConfig } from '../config.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import { addressText, isAskedByItsName, listenFailure } from '../listen.ts';
import type { Identity } from '../turn/turn-event.ts';
import { EventReceiver, type EventReceiverOptions, type Unidentified } from './event-receiver.ts';
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
}

export class TcpServer implements Source {
  readonly #service: Service;
  readonly #options: TcpServerOptions;
  readonly #receiver: EventReceiver;
  #server: http.Server | undefined;
  #url = '';

  constructor(options: TcpServerOptions) {
    this.#options = options;
    this.#service = options.service ?? EVENTS;
    this.#receiver = new EventReceiver({
      ...options,
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
    const { port } = server.address() as AddressInfo;
    this.#url = `${tcp.tls ? 'https' : 'http'}://${addressText({ host: listen.host, port })}`;
    meter.up(this.name, true);
  }

  #newServer({ tls }: TcpConfig): http.Server {
    const options = this.#receiver.serverOptions();
    if (!tls) return http.createServer(options);
    const { key, serves } = this.#service;
    const pair = { cert: this.#readPem('cert_file', tls.cert_file), key: this.#readPem('key_file', tls.key_file) };
    try {
      return https.createServer({ ...options, ...pair, handshakeTimeout: this.#receiver.limits.headersTimeoutMs });
    } catch (error) {
      throw new PermanentFailure(
        `${key}.tls cannot be used, so ${serves} cannot be served: ${messageOf(error)}. ` +
          'Let cert_file hold a certificate (with its chain) in PEM, and key_file its private key without a passphrase.',
      );
    }
  }

  /** Books and answers what was sent, within bounds. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    // Who waits to be accepted is reset and sees it, unlike those who write to the socket's file and leave.
    await this.#receiver.close([server]);
    this.#options.meter.up(this.name, false);
  }

  #identify(request: IncomingMessage): Identity | Unidentified {
    const { tokens, tcp } = this.#options;
    // A page that makes a browser ask here knows no token, so then it does not matter by which name it was asked.
    if (!tokens.isEmpty) return this.#bearer(request);
    const isPage = request.headers.origin !== undefined || !isAskedByItsName(request, tcp.listen);
    return isPage ? 'web_page' : {};
  }
  #bearer(request: IncomingMessage): Identity | Unidentified {
    const { tokens, tokenInPath } = this.#options;
    const { authorization } = request.headers;
    const inPath = authorization === undefined ? tokenInPath?.(request.url ?? '') : undefined;
    return inPath === undefined ? tokens.identify(authorization) : tokens.identifyToken(inPath);
  }

  #readPem(key: keyof NonNullable<TcpConfig['tls']>, file: string): Buffer {
    try {
      return readFileSync(file);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
      const { key: section, serves } = this.#service;
      throw new PermanentFailure(
        `${section}.tls.${key} cannot be read (${code}), so ${serves} cannot be served. Mend the path or the file's mode.`,
      );
    }
  }
}
