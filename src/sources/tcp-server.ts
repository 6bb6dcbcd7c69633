// The socket's routes over TCP, for senders in containers and on other machines. There a credential says whose events
// they are; without tokens only this machine is listened to, and nobody's name is known.

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

const SOURCE = 'tcp';
/** Anybody on the network may connect, and must not take the descriptors that the socket and the ledger need. */
const CONNECTIONS_MAX = 1024;
/** How a failure to listen is told. */
const LISTENING = { key: 'tcp.listen', serves: 'senders on TCP', example: { host: '127.0.0.1', port: 9465 } };

export interface TcpServerOptions extends Omit<EventReceiverOptions, 'source' | 'identify'> {
  /** Port 0 takes a free one. */
  readonly tcp: TcpConfig;
  readonly tokens: SenderTokens;
}

export class TcpServer implements Source {
  readonly name = SOURCE;
  readonly #options: TcpServerOptions;
  readonly #receiver: EventReceiver;
  #server: http.Server | undefined;
  #url = '';

  constructor(options: TcpServerOptions) {
    this.#options = options;
    this.#receiver = new EventReceiver({
      ...options,
      source: SOURCE,
      limits: { maxConnections: CONNECTIONS_MAX, ...options.limits },
      identify: (request) => this.#identify(request),
    });
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
    const server = this.#newServer(tcp);
    this.#receiver.serve(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenFailure(error, listen, LISTENING)));
      server.listen({ ...listen }, resolve);
    });
    server.removeAllListeners('error');
    server.on('error', (error) => log.error({ source: SOURCE }, `the TCP server had an error: ${messageOf(error)}`));
    this.#server = server;
    const { port } = server.address() as AddressInfo;
    this.#url = `${tcp.tls ? 'https' : 'http'}://${addressText({ host: listen.host, port })}`;
    meter.up(SOURCE, true);
  }

  #newServer({ tls }: TcpConfig): http.Server {
    const options = this.#receiver.serverOptions();
    if (!tls) return http.createServer(options);
    const pair = { cert: readPem('cert_file', tls.cert_file), key: readPem('key_file', tls.key_file) };
    try {
      return https.createServer({ ...options, ...pair, handshakeTimeout: this.#receiver.limits.headersTimeoutMs });
    } catch (error) {
      throw new PermanentFailure(
        `tcp.tls cannot be used, so senders on TCP cannot be served: ${messageOf(error)}. ` +
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
    this.#options.meter.up(SOURCE, false);
  }

  #identify(request: IncomingMessage): Identity | Unidentified {
    const { tokens, tcp } = this.#options;
    // A page that makes a browser ask here knows no token, so then it does not matter by which name it was asked.
    if (!tokens.isEmpty) return tokens.identify(request.headers.authorization);
    const isPage = request.headers.origin !== undefined || !isAskedByItsName(request, tcp.listen);
    return isPage ? 'web_page' : {};
  }
}

function readPem(key: keyof NonNullable<TcpConfig['tls']>, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    throw new PermanentFailure(
      `tcp.tls.${key} cannot be read (${code}), so senders on TCP cannot be served. Mend the path or the file's mode.`,
    );
  }
}
