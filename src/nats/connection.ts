// The connection to NATS: opened in the background, kept for ever, and always able to say what keeps it from working.

import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type Authenticator,
  type ConnectionOptions,
  connect,
  credsAuthenticator,
  errors,
  type NatsConnection,
  nkeyAuthenticator,
  type Status,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from 'nats';
import type { NatsConfig } from '../config.ts';
import { PermanentFailure } from '../failure.ts';
import type { Log } from '../log.ts';
import { type Credential, inFile, inVariable } from '../poll/credential.ts';
import { inboxOf } from './subjects.ts';
import { connectTrouble } from './trouble.ts';

const CONNECT_TIMEOUT_MS = 5000;
/** How long a start waits for the first attempt, so that what it prints is so. */
const FIRST_ATTEMPT_MS = 3000;
/** How long a stop waits for what was sent last, and for an attempt under way. */
const STOP_GRACE_MS = 1000;
const LOOK_EVERY_MS = 1000;
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 15_000;
/** A server that is gone without a word (a cable, a frozen machine) is noticed after two of these. */
const PING_EVERY_MS = 10_000;

export interface NatsLinkOptions {
  readonly config: NatsConfig;
  readonly env: NodeJS.ProcessEnv;
  readonly log: Log;
  /** How the server's own tools show this client. */
  readonly name: string;
}

export class NatsLink {
  readonly #options: NatsLinkOptions;
  readonly #stopping = new AbortController();
  #connection: NatsConnection | undefined;
  #isUp = false;
  #problem: string | undefined = 'it was not tried yet';
  /** Resolves when it begins or ceases to work, or fails again. */
  #change = Promise.withResolvers<void>();
  readonly #listeners: (() => void)[] = [];
  #running: Promise<void> | undefined;

  constructor(options: NatsLinkOptions) {
    this.#options = options;
  }

  /** What keeps it from working, and what to do, one line for people; undefined while it works. */
  problem(): string | undefined {
    return this.#isUp ? undefined : this.#problem;
  }

  /** The servers, for people. */
  get servers(): string {
    return this.#options.config.servers.map(({ url }) => url).join(', ');
  }

  /** The connection while it works. */
  get current(): NatsConnection | undefined {
    return this.#isUp ? this.#connection : undefined;
  }

  /** Calls back whenever it begins or ceases to work. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Begins to connect, and waits a moment for the first attempt. It never fails: it goes on trying. */
  async start(): Promise<void> {
    if (this.#running) return;
    this.#running = this.#run();
    await Promise.race([this.#change.promise, delay(FIRST_ATTEMPT_MS, undefined, { ref: false })]);
  }

  /** Resolves as soon as there is a connection that works. @throws AbortError when `signal` aborts first */
  async connected(signal: AbortSignal): Promise<NatsConnection> {
    while (!this.current) {
      signal.throwIfAborted();
      await Promise.race([this.#change.promise, delay(LOOK_EVERY_MS, undefined, { signal, ref: false })]);
    }
    return this.current;
  }

  /** Sends what waits and closes. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const connection = this.#connection;
    if (connection && !connection.isClosed()) {
      const isFlushed = connection.flush().catch(() => {});
      await Promise.race([isFlushed, delay(STOP_GRACE_MS, undefined, { ref: false })]);
      await connection.close();
    }
    // An attempt under way ends by itself, and closes what it opened.
    await Promise.race([this.#running, delay(STOP_GRACE_MS, undefined, { ref: false })]);
  }

  #tell(isUp: boolean, problem?: string): void {
    const { log } = this.#options;
    if (!isUp && problem !== undefined && problem !== this.#problem && !this.#stopping.signal.aborted) {
      log.warn({ nats: this.servers }, problem);
    }
    if (isUp && !this.#isUp) log.info({ nats: this.#connection?.getServer() }, 'connected to NATS');
    this.#isUp = isUp;
    this.#problem = problem;
    const { resolve } = this.#change;
    this.#change = Promise.withResolvers();
    resolve();
    for (const listener of this.#listeners) listener();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        this.#connection = await connect(this.#connectionOptions());
      } catch (error) {
        this.#tell(false, connectTrouble(error, this.#options.config));
        await delay(jittered(Math.min(RETRY_MIN_MS * 2 ** failures, RETRY_MAX_MS)), undefined, { signal }).catch(
          () => {},
        );
        continue;
      }
      failures = 0;
      if (signal.aborted) await this.#connection.close();
      else this.#tell(true);
      const watching = this.#watch(this.#connection);
      const error = await this.#connection.closed();
      await watching;
      this.#tell(false, error ? connectTrouble(error, this.#options.config) : 'the connection to NATS was closed');
    }
  }

  async #watch(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) this.#note(connection, status);
  }

  #note(connection: NatsConnection, status: Status): void {
    const { config, log } = this.#options;
    switch (status.type) {
      case 'disconnect':
        this.#tell(
          false,
          `the connection to NATS (${status.server}) is lost; it is tried again until a server answers`,
        );
        return;
      case 'reconnect':
        this.#tell(true);
        return;
      case 'ldm':
        log.info({ nats: status.server }, 'this NATS server is about to be shut down; going to another one');
        if (connection.getServers().length > 1) connection.reconnect().catch(() => {});
        return;
      case 'error':
        // Refused while reconnecting: the credentials were changed on the server, or taken away.
        if (status.error instanceof errors.AuthorizationError && !this.#isUp) {
          this.#tell(false, connectTrouble(status.error, config));
        }
        return;
      default:
        return;
    }
  }

  #connectionOptions(): ConnectionOptions {
    const { config, name } = this.#options;
    const authenticator = this.#authenticator();
    return {
      servers: config.servers.map(({ host }) => host),
      name,
      timeout: CONNECT_TIMEOUT_MS,
      maxReconnectAttempts: -1,
      reconnectTimeWait: RETRY_MIN_MS,
      reconnectJitter: 1000,
      reconnectJitterTLS: 2000,
      ignoreAuthErrorAbort: true,
      inboxPrefix: inboxOf(config),
      pingInterval: PING_EVERY_MS,
      maxPingOut: 2,
      ...(authenticator && { authenticator }),
      ...this.#tls(),
    };
  }

  #tls(): Pick<ConnectionOptions, 'tls'> {
    const { tls, servers } = this.#options.config;
    if (!tls && !servers.some(({ isTls }) => isTls)) return {};
    const read = (key: 'ca_file' | 'cert_file' | 'key_file') => {
      const file = tls?.[key];
      if (file === undefined) return undefined;
      try {
        return readFileSync(file, 'utf8');
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
        throw new PermanentFailure(`nats.tls.${key} cannot be read (${code}): mend the path or the file's mode`);
      }
    };
    const given = { ca: read('ca_file'), cert: read('cert_file'), key: read('key_file') };
    return { tls: Object.fromEntries(Object.entries(given).filter(([, text]) => text !== undefined)) };
  }

  /** Reads the credential anew for each attempt, so that an exchanged one works without a restart. */
  #authenticator(): Authenticator | undefined {
    const { config, env } = this.#options;
    const place = (key: string, variable: string | undefined, file: string | undefined): Credential | undefined => {
      if (variable !== undefined) return inVariable(variable, env);
      return file === undefined ? undefined : inFile(file, { key, account: 'nats' });
    };
    const password = place('password_file', config.password_env, config.password_file);
    const token = place('token_file', config.token_env, config.token_file);
    const nkey = place('nkey_file', undefined, config.nkey_file);
    const credentials = place('credentials_file', undefined, config.credentials_file);
    const bytes =
      (credential: Credential, end = '') =>
      () =>
        new TextEncoder().encode(secretOf(credential) + end);
    if (password) {
      secretOf(password);
      return usernamePasswordAuthenticator(config.user!, () => secretOf(password));
    }
    if (token) {
      secretOf(token);
      return tokenAuthenticator(() => secretOf(token));
    }
    if (nkey) {
      secretOf(nkey);
      return nkeyAuthenticator(bytes(nkey));
    }
    if (credentials) {
      secretOf(credentials);
      // Its last line must end, or the library does not see it.
      return credsAuthenticator(bytes(credentials, '\n'));
    }
    return undefined;
  }
}

/** @throws PermanentFailure that says where it was looked for and what to do */
function secretOf(credential: Credential): string {
  const found = credential.read();
  if (found.type === 'found') return found.secret;
  if (found.type === 'unusable') throw new PermanentFailure(`no NATS credential: ${found.problem}`);
  throw new PermanentFailure(`no NATS credential: ${credential.remedy}`);
}

const jittered = (ms: number) => ms * (0.5 + Math.random());
