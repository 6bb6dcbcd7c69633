// A place that holds a credential. Nothing here ever shows one: where it is, whether it can be used, and what to do
// when it cannot, are all that is told. A credential is read when it is needed and kept nowhere.

import { createHash } from 'node:crypto';
import { readSecretFile } from './secret-file.ts';

/** What a place holds now. */
export type Secret =
  | {
      readonly type: 'found';
      readonly secret: string;
      /** The organisation that the credential is for, where the place names it. As secret as the credential. */
      readonly orgId?: string;
      /** The server that issued it, where the place names it: it must be sent to no other. */
      readonly issuer?: string;
    }
  | { readonly type: 'absent' }
  /** It is there and must not, or cannot, be used; `problem` says why and what to do, as one sentence. */
  | { readonly type: 'unusable'; readonly problem: string };

/** Turning it into text or JSON shows no secret. */
export interface Credential {
  /** Where it is, for people: `OPENCODE_API_KEY`, `auth.json`, `api_key_file`. */
  readonly place: string;
  /** What to do when there is none: completes "no key: …". */
  readonly remedy: string;
  /** Reads it as it is now. Never throws. */
  read(): Secret;
}

/** A credential in a variable of the environment; a blank one is none. */
export function inVariable(variable: string, env: NodeJS.ProcessEnv): Credential {
  return {
    place: variable,
    remedy: `set ${variable} in the environment of the bridge and restart it`,
    read: () => foundOrAbsent(env[variable]),
  };
}

/** A credential that is the only text of a file. @param key which key of which account names the file, for messages */
export function inFile(file: string, { key, account }: { key: string; account: string }): Credential {
  return {
    place: key,
    remedy: `put it into the ${key} of ${account}, as its only line`,
    read: () => {
      const found = readSecretFile(file);
      if (found.type === 'read') return foundOrAbsent(found.text);
      if (found.type === 'missing') return { type: 'absent' };
      return { type: 'unusable', problem: `the ${key} of ${account} ${found.problem}` };
    },
  };
}

/**
 * The credential of the first place that has one; a place that has an unusable one counts when no other has any.
 * It shows the place that it would be read from now.
 */
export function firstOf(places: readonly [Credential, ...Credential[]]): Credential {
  const current = () =>
    places.find((place) => place.read().type === 'found') ??
    places.find((place) => place.read().type === 'unusable') ??
    places[0];
  return {
    get place() {
      return current().place;
    },
    get remedy() {
      return current().remedy;
    },
    read: () => current().read(),
  };
}

/** Tells two secrets apart without keeping either: equal exactly for equal ones. For memory only. */
export function fingerprint(secret: Secret): string {
  if (secret.type !== 'found') return secret.type;
  const parts = [secret.secret, secret.orgId ?? '', secret.issuer ?? ''];
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64');
}

function foundOrAbsent(text: string | undefined): Secret {
  const secret = text?.trim();
  return secret ? { type: 'found', secret } : { type: 'absent' };
}
