// The hub: where OpenUsage daemons push what they know of all their providers, once a minute, over TCP. Routes, statuses
// and bodies are those of OpenUsage's own hub, so that an unmodified `export.target`, and its viewer, work here; only the
// answer to a push is given later, after the commit.

import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { messageOf, RetryableFailure } from '../failure.ts';
import { addressText, type BearerToken, isAskedByItsName, type ListenAddress, listenFailure } from '../listen.ts';
import type { Log } from '../log.ts';
import type { UsageSnapshot } from '../turn/decoded.ts';
import { type Decoded, rejected } from '../turn/decoded.ts';
import { present, unixMs } from '../turn/fields.ts';
import { decodeSnapshot, snapshotRecord } from '../turn/usage-snapshot.ts';
import { BodyReader } from './request-body.ts';
import { type Intake, placeOf, type Source, type SourceMeter } from './source.ts';

const SOURCE = 'hub';
const MIB = 1024 * 1024;
const BODY_MAX_BYTES = 4 * MIB;
const IN_FLIGHT_MAX_BYTES = 32 * MIB;
/** A machine that has not pushed for so long is shown no more; its readings expire by the same time. */
const MACHINE_KEPT_MS = 300_000;
/** Machines are named by senders. */
const MACHINES_MAX = 100;
const SNAPSHOTS_MAX = 500;
const MACHINE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const TIMEOUTS = { headersTimeout: 5000, requestTimeout: 15_000, keepAliveTimeout: 60_000 };
const CONNECTIONS_MAX = 256;
const STOP_GRACE_MS = 2000;
const ROUTES = 'POST /v1/push, GET /v1/snapshots, GET /healthz';
/** How a failure to listen is told. */
const LISTENING = { key: 'hub.listen', serves: 'the hub', example: { host: '127.0.0.1', port: 9190 } };

export interface HubServerOptions {
  /** Port 0 takes a free one. */
  readonly listen: ListenAddress;
  /** Asked of every request but /healthz. */
  readonly token?: BearerToken | undefined;
  readonly intake: Intake;
  readonly meter: SourceMeter;
  readonly log: Log;
  /** Unix time in ms. */
  readonly now?: () => number;
}

interface Answer {
  readonly status: number;
  readonly body: object;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a machine pushed last. */
interface Pushed {
  readonly receivedMs: number;
  readonly snapshots: readonly UsageSnapshot[];
}

interface Envelope {
  readonly machine: string;
  readonly sentMs?: number;
  readonly snapshots: readonly unknown[];
}

export class HubServer implements Source {
  readonly name = SOURCE;
  readonly #options: HubServerOptions;
  readonly #now: () => number;
  readonly #bodies = new BodyReader({ maxBodyBytes: BODY_MAX_BYTES, maxInFlightBytes: IN_FLIGHT_MAX_BYTES });
  /** What each machine pushed last, for the viewer. The ledger has its own. */
  readonly #machines = new Map<string, Pushed>();
  #server: http.Server | undefined;
  #url = '';

  constructor(options: HubServerOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /** Where it listens, without a path; '' before the start. */
  get url(): string {
    return this.#url;
  }

  /** @throws PermanentFailure when the address cannot be had */
  async start(): Promise<void> {
    if (this.#server) return;
    const { listen, log, meter } = this.#options;
    const server = http.createServer({ ...TIMEOUTS, connectionsCheckingInterval: 1000 }, (request, response) => {
      response.on('error', () => {}); // A sender that leaves early is its own business.
      this.#answer(request)
        .catch((error): Answer => {
          log.error(placeOf(error), 'a request to the hub failed unexpectedly; please report this');
          return { status: 500, body: { error: 'the bridge made a mistake; its log says where' } };
        })
        .then((answer) => this.#respond(request, response, answer));
    });
    server.maxConnections = CONNECTIONS_MAX;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenFailure(error, listen, LISTENING)));
      server.listen({ ...listen }, resolve);
    });
    server.removeAllListeners('error');
    server.on('error', (error) => log.error(`the hub had an error: ${messageOf(error)}`));
    this.#server = server;
    const { port } = server.address() as AddressInfo;
    this.#url = `http://${addressText({ host: listen.host, port })}`;
    meter.up(SOURCE, true);
  }

  /** Stops listening and lets answers under way finish, within bounds. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    const forced = setTimeout(() => server.closeAllConnections(), STOP_GRACE_MS);
    await closed;
    clearTimeout(forced);
    this.#options.meter.up(SOURCE, false);
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    const path = (request.url ?? '/').split('?', 1)[0];
    if (path === '/healthz')
      return { status: 200, body: { status: 'ok', machines: [...this.#current().keys()].sort() } };
    if (path !== '/v1/push' && path !== '/v1/snapshots') {
      return { status: 404, body: { error: `no such route; there are ${ROUTES}` } };
    }
    const method = path === '/v1/push' ? 'POST' : 'GET';
    if (request.method !== method) {
      return { status: 405, body: { error: 'method not allowed' }, headers: { allow: method } };
    }
    const refusal = this.#refusal(request);
    if (refusal) return refusal;
    return path === '/v1/push' ? this.#push(request) : { status: 200, body: this.#snapshots() };
  }

  #refusal(request: IncomingMessage): Answer | undefined {
    const { token, listen } = this.#options;
    if (!token) {
      // No daemon sends an Origin; a web page that posts here does, and one that reads names a host of its own.
      const isPage = request.headers.origin !== undefined || !isAskedByItsName(request, listen);
      return isPage ? { status: 403, body: { error: 'web pages may not use the hub; set hub.token_env' } } : undefined;
    }
    const isBorne = token.isBorneBy(request.headers.authorization);
    if (isBorne) return undefined;
    const realm = 'Bearer realm="openusage-hub"';
    return isBorne === undefined
      ? { status: 401, body: { error: 'missing bearer token' }, headers: { 'www-authenticate': realm } }
      : {
          status: 401,
          body: { error: 'invalid bearer token' },
          headers: { 'www-authenticate': `${realm}, error="invalid_token"` },
        };
  }

  async #push(request: IncomingMessage): Promise<Answer> {
    const body = this.#bodies.refusal(request) ?? (await this.#bodies.read(request));
    if (body === 'too_large') return this.#reject(413, 'request body too large', 'too_large');
    if (body === 'overloaded') {
      this.#options.meter.refused(SOURCE, 'backlog');
      return { status: 503, body: { error: 'too much is waiting to be booked' }, headers: { 'retry-after': '1' } };
    }
    if (body === 'truncated') {
      this.#options.meter.truncated(SOURCE);
      return { status: 400, body: { error: 'read body failed' } };
    }
    try {
      return await this.#book(body.bytes);
    } catch (error) {
      if (!(error instanceof RetryableFailure)) throw error;
      this.#options.meter.refused(SOURCE, 'ledger');
      const retryAfter = String(Math.max(1, Math.ceil(error.retryAfterS)));
      return { status: 503, body: { error: `not booked: ${error.message}` }, headers: { 'retry-after': retryAfter } };
    } finally {
      body.release();
    }
  }

  async #book(bytes: Buffer): Promise<Answer> {
    const text = bytes.toString('utf8');
    if (text.trim() === '') return this.#reject(400, 'empty body', 'invalid_json');
    const envelope = readEnvelope(text);
    if (typeof envelope === 'string') return this.#reject(400, envelope, 'invalid_json');
    const { snapshots, ...sender } = envelope;
    const { machine } = sender;
    if (!this.#current().has(machine) && this.#machines.size >= MACHINES_MAX) {
      return this.#reject(503, `more than ${MACHINES_MAX} machines push to this hub`, 'overflow');
    }
    const decoded = snapshots.map((snapshot) => decodeSnapshot(snapshot, sender));
    await this.#options.intake.accept(SOURCE, decoded, {});
    const kept = decoded.flatMap((each) => (each.type === 'poll' ? each.poll.snapshot : []));
    this.#machines.set(machine, { receivedMs: this.#now(), snapshots: kept });
    return { status: 200, body: { ok: true } };
  }

  /** Counts a body that cannot be used at all, and says why to its sender. */
  async #reject(status: number, error: string, reason: 'invalid_json' | 'too_large' | 'overflow'): Promise<Answer> {
    const decoded: Decoded = rejected({ reason, detail: error });
    await this.#options.intake.accept(SOURCE, [decoded], {});
    return { status, body: { error } };
  }

  /** The machines that pushed lately. */
  #current(): Map<string, Pushed> {
    const oldestMs = this.#now() - MACHINE_KEPT_MS;
    for (const [machine, { receivedMs }] of this.#machines) {
      if (receivedMs < oldestMs) this.#machines.delete(machine);
    }
    return this.#machines;
  }

  /** As the hub's viewer reads it; only what was allowed in comes out. */
  #snapshots(): object {
    const shown: Record<string, object> = {};
    for (const [machine, { snapshots }] of this.#current()) {
      for (const snapshot of snapshots) {
        const id = `${machine}:${snapshot.provider}:${snapshot.account}`;
        shown[id] ??= { ...snapshotRecord(snapshot), account_id: id };
      }
    }
    return shown;
  }

  #respond(request: IncomingMessage, response: ServerResponse, { status, body, headers = {} }: Answer): void {
    if (response.destroyed || response.headersSent) return;
    const text = `${JSON.stringify(body)}\n`;
    // What is left of a refused body is not read, so the connection cannot be used again.
    const isUnread = !request.complete && request.method === 'POST';
    response.writeHead(status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      ...(isUnread || !this.#server ? { connection: 'close' } : {}),
      ...headers,
    });
    response.end(text);
  }
}

/** The envelope in a body, or why it is none, in the hub's words. */
function readEnvelope(text: string): Envelope | string {
  let stated: unknown;
  try {
    stated = JSON.parse(text);
  } catch {
    return 'invalid JSON';
  }
  if (typeof stated !== 'object' || stated === null || Array.isArray(stated)) return 'invalid JSON';
  const { machine, snapshots, sent_at } = stated as Record<string, unknown>;
  const sentMs = unixMs.safeParse(sent_at).data;
  const name = typeof machine === 'string' ? machine.trim() : '';
  if (!MACHINE_NAME.test(name)) return 'machine name required: 1 to 63 of A-Z a-z 0-9 . _ -';
  if (snapshots !== undefined && snapshots !== null && !Array.isArray(snapshots)) return 'invalid JSON';
  const list: readonly unknown[] = snapshots ?? [];
  return list.length > SNAPSHOTS_MAX
    ? `more than ${SNAPSHOTS_MAX} snapshots`
    : { machine: name, ...present({ sentMs }), snapshots: list };
}
