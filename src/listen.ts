// What every TCP listener of the bridge has in common: how its address reads, who may ask it, and what to say when the
// address cannot be had.

import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP, isIPv6 } from 'node:net';
import { messageOf, PermanentFailure } from './failure.ts';

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export function isLoopback(address: string): boolean {
  return address === '::1' || address.replace(/^::ffff:/, '').startsWith('127.');
}

export function addressText({ host, port }: ListenAddress): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** A name that somebody else's DNS leads here (rebinding) makes a foreign page's requests look like its own. */
export function isAskedByItsName({ headers }: Pick<IncomingMessage, 'headers'>, listen: ListenAddress): boolean {
  // No browser leaves it out.
  if (headers.host === undefined) return true;
  const name = headers.host.replace(/:\d*$/, '').toLowerCase();
  const bare = name.replace(/^\[(.*)\]$/, '$1');
  return isIP(bare) !== 0 || name === 'localhost' || name === listen.host.toLowerCase();
}

/** A token that requests must bear. Only its digest is held; comparing tells nothing by its time. */
export class BearerToken {
  readonly #digest: Buffer;

  constructor(token: string) {
    this.#digest = tokenDigest(token);
  }

  /** Whether an Authorization header bears it; undefined when the header bears none at all. */
  isBorneBy(authorization: string | undefined): boolean | undefined {
    const given = bearerOf(authorization);
    return given === undefined ? undefined : timingSafeEqual(tokenDigest(given), this.#digest);
  }
}

/** The token in an Authorization header; undefined when it bears none. */
export function bearerOf(authorization: string | undefined): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
}

/** The SHA-256 of a token: of equal length whatever was given. */
export function tokenDigest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/**
 * The token in the variable that a key of the configuration names.
 * @throws PermanentFailure when the key names a variable that is empty: what it guards would be open
 */
export function bearerToken(
  { key, variable, guards }: { key: string; variable: string | undefined; guards: string },
  env: NodeJS.ProcessEnv,
): BearerToken | undefined {
  if (variable === undefined) return undefined;
  const token = env[variable]?.trim();
  if (!token) {
    throw new PermanentFailure(
      `${key} names ${variable}, but that variable is empty: ${guards} would be open. Set it, or remove the key.`,
    );
  }
  return new BearerToken(token);
}

/** Why an address cannot be listened on. @param what.serves completes "so … cannot be served" */
export function listenFailure(
  error: unknown,
  listen: ListenAddress,
  { key, serves, example }: { key: string; serves: string; example: ListenAddress },
): PermanentFailure {
  const address = addressText(listen);
  const next = `set ${key} in tollbridge.yaml to another address`;
  switch ((error as NodeJS.ErrnoException).code) {
    case 'EADDRINUSE':
      return new PermanentFailure(
        `${address} is in use: another program, perhaps another bridge, listens there, so ${serves} cannot be served. ` +
          `Stop it, or ${next}.`,
      );
    case 'EACCES':
      return new PermanentFailure(
        `${address} may not be listened on by this user (ports below 1024 are reserved), so ${serves} cannot be served. ` +
          `To mend it, ${next}, for example ${addressText(example)}.`,
      );
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new PermanentFailure(
        `${address} is no address of this machine, so ${serves} cannot be served there. ` +
          `To mend it, ${next}: 127.0.0.1:${listen.port} for this machine only, 0.0.0.0:${listen.port} for all its networks.`,
      );
    default:
      return new PermanentFailure(`${address} cannot be listened on: ${messageOf(error)}. To mend it, ${next}.`);
  }
}
