// The part of a configuration that is about NATS.

import os from 'node:os';
import { z } from 'zod';
import { duration, envName, filePath, isLoopbackHost } from './config-fields.ts';
import type { ConfigMistake } from './config-mistake.ts';

const DEFAULT_PORT = 4222;
const SERVER_FORM = 'expected a server such as nats://127.0.0.1:4222 or tls://nats.example.com:4222';
const STREAM_NAME = /^[A-Za-z0-9_-]{1,40}$/;
const PARTITIONS_MAX = 64;

const server = z.string(SERVER_FORM).transform((text, context) => {
  const stated = text.trim();
  const url = URL.parse(/^[a-z]+:\/\//i.test(stated) ? stated : `nats://${stated}`);
  const isServer =
    url !== null && ['nats:', 'tls:'].includes(url.protocol) && url.hostname !== '' && /^\/?$/.test(url.pathname);
  if (!isServer || url.search !== '' || url.hash !== '') {
    context.issues.push({ code: 'custom', input: text, message: SERVER_FORM });
    return { url: '', host: '', isTls: false, hasCredentials: false };
  }
  const host = `${url.hostname}:${url.port || DEFAULT_PORT}`;
  const isTls = url.protocol === 'tls:';
  return {
    ...{ url: `${url.protocol}//${host}`, host, isTls },
    hasCredentials: url.username !== '' || url.password !== '',
  };
});

const PARTITION_FORM = 'expected k/N such as 1/1 or 2/4: which of how many partitions this bridge counts';
const partition = z.string(PARTITION_FORM).transform((text, context) => {
  const match = /^(\d{1,2})\/(\d{1,2})$/.exec(text.trim());
  const [k, of] = [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
  if (k < 1 || k > of) context.issues.push({ code: 'custom', input: text, message: PARTITION_FORM });
  else if (of > PARTITIONS_MAX) {
    context.issues.push({ code: 'custom', input: text, message: `expected at most ${PARTITIONS_MAX} partitions` });
  }
  return { k, of };
});

/** One that the servers of NATS and its clients take for a place of answers. */
const inbox = z.string().regex(/^_[A-Za-z0-9_=-]+(?:\.[A-Za-z0-9_=-]+)*$/, 'expected a subject such as _INBOX_bridge');
const streamName = z.string().regex(STREAM_NAME, 'expected 1 to 40 of A-Z a-z 0-9 _ -');

/** What this machine is called, as a label. */
function ownName(): string {
  const name = os
    .hostname()
    .replaceAll(/[^A-Za-z0-9_-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 32);
  return name || 'bridge';
}

export const nats = z.strictObject({
  servers: z.array(server).min(1, 'expected at least one server'),
  user: z.string().min(1).optional(),
  password_env: envName.optional(),
  password_file: filePath.optional(),
  token_env: envName.optional(),
  token_file: filePath.optional(),
  nkey_file: filePath.optional(),
  credentials_file: filePath.optional(),
  plaintext: z.boolean().default(false),
  inbox: inbox.optional(),
  tls: z
    .strictObject({ ca_file: filePath.optional(), cert_file: filePath.optional(), key_file: filePath.optional() })
    .optional(),
  jetstream: z
    .strictObject({
      enabled: z.boolean().default(true),
      stream: streamName.default('TOLL'),
      replicas: z.int().min(1).max(5).default(1),
      max_age: duration(['1d', '3650d']).optional(),
    })
    .prefault({}),
  core: z.strictObject({ enabled: z.boolean().default(false), queue: streamName.default('tollbridge') }).prefault({}),
  partition: partition.prefault('1/1'),
  replica: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/, 'expected 1 to 32 of A-Z a-z 0-9 _ -, starting with a letter or digit')
    .default(ownName),
});

export type NatsConfig = z.output<typeof nats>;

/** `2/4`. */
export function partitionText({ partition }: Pick<NatsConfig, 'partition'>): string {
  return `${partition.k}/${partition.of}`;
}

/** Mistakes that only the whole of it can show. */
export function natsMistakes(nats: NatsConfig): ConfigMistake[] {
  const mistakes: ConfigMistake[] = [];
  const mistake = (key: string, found: string, expected: string) =>
    mistakes.push({ path: `nats.${key}`, found, expected });
  const { servers, user, tls, jetstream, core, partition } = nats;
  const ways = {
    user: nats.password_env ?? nats.password_file ?? user,
    token: nats.token_env ?? nats.token_file,
    nkey_file: nats.nkey_file,
    credentials_file: nats.credentials_file,
  };
  const stated = Object.entries(ways).flatMap(([way, value]) => (value === undefined ? [] : way));
  if (stated.length > 1) {
    mistake(stated[1]!, `${stated.join(' and ')}`, 'expected one way to sign in');
  }
  if (user !== undefined && !nats.password_env && !nats.password_file) {
    mistake('password_file', 'nothing', 'expected password_file or password_env beside user');
  }
  if (user === undefined && (nats.password_env || nats.password_file)) {
    mistake('user', 'nothing', 'expected the user whose password it is');
  }
  for (const key of ['password', 'token'] as const) {
    if (nats[`${key}_env`] && nats[`${key}_file`]) {
      mistake(`${key}_file`, `a second ${key}`, `expected only one of ${key}_env and ${key}_file`);
    }
  }
  if ((tls?.cert_file === undefined) !== (tls?.key_file === undefined)) {
    const key = tls?.cert_file === undefined ? 'cert_file' : 'key_file';
    mistake(`tls.${key}`, 'nothing', 'expected both of cert_file and key_file, or neither');
  }
  servers.forEach(({ host, isTls, hasCredentials }, index) => {
    if (hasCredentials) {
      const expected = 'expected it without; use user and password_file, token_file, nkey_file or credentials_file';
      mistake(`servers[${index}]`, 'a URL with a password or token', expected);
    }
    const isSecret = stated.some((way) => way === 'user' || way === 'token');
    if (isSecret && !isTls && !tls && !nats.plaintext && host !== '' && !isLoopbackHost(host.replace(/:\d+$/, ''))) {
      const expected =
        'expected tls://, or nats.tls: a password would travel in clear; or nats.plaintext: true on a private network';
      mistake(`servers[${index}]`, 'nats:// to another machine', expected);
    }
  });
  if (!jetstream.enabled && !core.enabled) {
    mistake('jetstream.enabled', 'false', 'expected jetstream or core to be enabled, or no nats at all');
  }
  if (!jetstream.enabled && partition.of > 1) {
    mistake('partition', `${partition.k}/${partition.of}`, 'expected 1/1 without JetStream, which divides the turns');
  }
  return mistakes;
}
