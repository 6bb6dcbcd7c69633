// The unix socket: where the agents' plugins and hooks deliver. Plain node:http, HTTP/1.0 and 1.1. Senders look for a
// file, so most of this is about keeping that file in its place.

import http from 'node:http';
import { messageOf } from '../failure.ts';
import type { Identity } from '../turn/turn-event.ts';
import { EventReceiver, type EventReceiverOptions } from './event-receiver.ts';
import { type ClaimedSocket, claimSocket } from './socket-file.ts';
import type { Source } from './source.ts';

const SOURCE = 'socket';
/** The kernel's own limit on Linux (somaxconn). A full queue is the one refusal that a stock sender does see. */
const LISTEN_BACKLOG = 4096;
/** Turns of the event loop without a new connection after which nobody can be waiting to be accepted or read. */
const QUIET_TURNS = 5;
/** How long a deleted socket file goes unnoticed. Senders use their spool meanwhile. */
const WATCH_EVERY_MS = 5000;

export interface SocketServerOptions extends Omit<EventReceiverOptions, 'source' | 'identify'> {
  readonly path: string;
  /** A group, by name or number, that may use the socket too. */
  readonly group?: string | undefined;
  /** Who sends through this socket. */
  readonly identity: Identity;
  readonly watchEveryMs?: number;
}

interface Listening {
  readonly server: http.Server;
  readonly file: ClaimedSocket;
}

export class SocketServer implements Source {
  readonly name = SOURCE;
  readonly #options: SocketServerOptions;
  readonly #receiver: EventReceiver;
  #listening: Listening | undefined;
  /** Listeners that lost their place and still have connections. */
  readonly #retired = new Set<http.Server>();
  #problem: string | undefined;
  #watch: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;

  constructor(options: SocketServerOptions) {
    this.#options = options;
    this.#receiver = new EventReceiver({ ...options, source: SOURCE, identify: () => options.identity });
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
    const server = http.createServer({
      ...this.#receiver.serverOptions(),
      requireHostHeader: false, // A socket file has no host name.
    });
    this.#receiver.serve(server);
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
    const forced = setTimeout(() => server.closeAllConnections(), this.#receiver.limits.requestTimeoutMs);
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
    await this.#receiver.close(servers);
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
}
