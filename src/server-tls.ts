// The certificate of a TLS listener and the authority that signs its clients', read from files. They are looked at again
// and again: what was renewed serves the next connection, and what cannot be used never replaces what can.

import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import { createSecureContext, type SecureContextOptions, type TLSSocket } from 'node:tls';
import { messageOf, PermanentFailure } from './failure.ts';
import type { Log } from './log.ts';

/** A renewal is days ahead of the end of the old certificate; nobody waits for it. */
const LOOK_EVERY_MS = 10_000;
/** A renewal in two steps shows a half for a moment, which is no trouble. */
const SEEN_TO_BE_TOLD = 2;

export interface ServerTlsFiles {
  readonly cert_file: string;
  readonly key_file: string;
  /** Who signs the certificates that clients must show. */
  readonly client_ca_file?: string | undefined;
}

export interface ServerTlsOptions {
  readonly files: ServerTlsFiles;
  /** The key of the configuration that names the files. */
  readonly key: string;
  /** Completes "so … cannot be served". */
  readonly serves: string;
  readonly log: Log;
  readonly lookEveryMs?: number | undefined;
}

type FileKey = keyof ServerTlsFiles;
type Contents = { readonly [key in FileKey]?: Buffer };

export class ServerTls {
  readonly #options: ServerTlsOptions;
  readonly #context: SecureContextOptions;
  #served: string;
  #endsMs: number;
  #problem: { readonly text: string; seen: number } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;

  /** @throws PermanentFailure when a file cannot be read or used */
  constructor(options: ServerTlsOptions) {
    this.#options = options;
    const contents: Contents = Object.fromEntries(
      this.#files().map(([key, file]) => {
        try {
          return [key, readFileSync(file)];
        } catch (error) {
          throw new PermanentFailure(
            `${options.key}.${key} cannot be read (${codeOf(error)}), so ${options.serves} cannot be served. Mend the path or the file's mode.`,
          );
        }
      }),
    );
    try {
      this.#context = contextOf(contents);
    } catch (error) {
      throw new PermanentFailure(
        `${options.key} cannot be used, so ${options.serves} cannot be served: ${messageOf(error)}`,
      );
    }
    this.#served = digestOf(contents);
    this.#endsMs = endOf(contents);
  }

  /** When the certificate ends that is served, Unix ms. */
  get endsMs(): number {
    return this.#endsMs;
  }

  /** Why what is on disk is not what is served; undefined when it is. */
  problem(): string | undefined {
    const { text, seen } = this.#problem ?? { seen: 0 };
    if (seen < SEEN_TO_BE_TOLD) return undefined;
    return `${this.#options.key}: the files on disk cannot be used, so what was read before is still served: ${text}`;
  }

  /** What an https server is created with. A client without a certificate is let in as far as the open routes. */
  get serverOptions() {
    return { ...this.#context, requestCert: this.asksForCertificate, rejectUnauthorized: false };
  }

  /** Whether a request came over a connection whose client showed a certificate that the authority signed. */
  isCertified({ socket }: Pick<IncomingMessage, 'socket'>): boolean {
    return (socket as TLSSocket).authorized === true;
  }

  /** Whether clients must show a certificate. */
  get asksForCertificate(): boolean {
    return this.#options.files.client_ca_file !== undefined;
  }

  /** Serves what is renewed on disk, until `stop`. */
  follow(server: TlsServer): void {
    const { lookEveryMs = LOOK_EVERY_MS } = this.#options;
    this.#timer = setInterval(() => void this.#look(server), lookEveryMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #files(): [FileKey, string][] {
    return Object.entries(this.#options.files).filter(([, file]) => file !== undefined) as [FileKey, string][];
  }

  async #look(server: TlsServer): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const { key, log } = this.#options;
    try {
      const contents: Contents = Object.fromEntries(
        await Promise.all(
          this.#files().map(async ([name, file]) => {
            const read = await readFile(file).catch((error) => {
              throw new Error(`${key}.${name} cannot be read (${codeOf(error)}). Mend the path or the file's mode.`);
            });
            return [name, read] as const;
          }),
        ),
      );
      const digest = digestOf(contents);
      if (digest !== this.#served) {
        server.setSecureContext(contextOf(contents));
        this.#served = digest;
        this.#endsMs = endOf(contents);
        log.info(`${key}: the renewed files are served to new connections`);
      }
      this.#problem = undefined;
    } catch (error) {
      this.#tell(messageOf(error));
    } finally {
      this.#isLooking = false;
    }
  }

  #tell(text: string): void {
    if (this.#problem?.text !== text) this.#problem = { text, seen: 0 };
    this.#problem.seen += 1;
    if (this.#problem.seen === SEEN_TO_BE_TOLD) this.#options.log.error(this.problem());
  }
}

/** @throws Error when the parts do not go together, with what they should be */
function contextOf({ cert_file: cert, key_file: key, client_ca_file: ca }: Contents): SecureContextOptions {
  try {
    // Without a certificate in it, OpenSSL takes any text for an authority.
    if (ca) readCertificate('client_ca_file', ca);
    readCertificate('cert_file', cert!);
    const context = { cert, key, ...(ca && { ca }) };
    createSecureContext(context);
    return context;
  } catch (error) {
    throw new Error(
      `${messageOf(error)}. Let cert_file hold a certificate (with its chain) in PEM, and key_file its private key without a passphrase` +
        '; client_ca_file, where there is one, the certificate of who signs the clients’.',
    );
  }
}

function readCertificate(key: FileKey, pem: Buffer): void {
  try {
    new X509Certificate(pem);
  } catch {
    throw new Error(`${key} holds no certificate`);
  }
}

function endOf({ cert_file: cert }: Contents): number {
  return new X509Certificate(cert!).validToDate.getTime();
}

function digestOf(contents: Contents): string {
  const hash = createHash('sha256');
  for (const [key, bytes] of Object.entries(contents)) hash.update(`${key} ${bytes.length} `).update(bytes);
  return hash.digest('base64');
}

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code ?? 'unknown error';
