// What NATS' errors mean to the people who run a bridge: what is so, what it means, what to do. Nothing of a server's
// own text is repeated but subjects, which are ours.

import { JetStreamApiCodes, JetStreamApiError } from '@nats-io/jetstream';
import { errors, type PermissionViolationError } from 'nats';
import { commandText } from '../command-text.ts';
import type { NatsConfig } from '../config.ts';
import { messageOf, PermanentFailure } from '../failure.ts';

/** What the library puts behind the name of an inbox, another one each time. */
const OWN_INBOX = /\.[A-Za-z0-9]{22}(?:\.\*)?$/;
const JETSTREAM_OFF = /jetstream (?:is )?not enabled/i;

/** Who asked to be let in, and what to do about it on this side. */
function signIn(config: NatsConfig): { readonly who: string; readonly mend: string } {
  if (config.user !== undefined) {
    const mend = 'Correct nats.user and nats.password_env or password_file';
    return { who: `the user "${config.user}" with this password`, mend };
  }
  if (config.token_env ?? config.token_file) {
    return { who: 'this token', mend: 'Correct nats.token_env or token_file' };
  }
  if (config.nkey_file) return { who: 'this nkey', mend: 'Correct nats.nkey_file' };
  if (config.credentials_file) return { who: 'these credentials', mend: 'Correct nats.credentials_file' };
  const mend = 'Set nats.user with a password, or one of token_file, nkey_file and credentials_file';
  return { who: 'a client without credentials', mend };
}

/** Why there is no connection, and what to do. */
export function connectTrouble(thrown: unknown, config: NatsConfig): string {
  if (thrown instanceof PermanentFailure) return thrown.message;
  const servers = config.servers.map(({ url }) => url).join(', ');
  const error = innermost(thrown);
  const text = `${messageOf(thrown)} ${messageOf(error)}`;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (thrown instanceof errors.AuthorizationError || /authorization violation|authentication/i.test(text)) {
    const { who, mend } = signIn(config);
    return (
      `NATS (${servers}) refuses ${who}; it is tried again. ${mend}, or let it in: ` +
      `what the server must allow is printed by ${commandText('nats setup --print')}`
    );
  }
  if (/parse credentials|invalid (?:seed|encoding|checksum|prefix)|nkeys?/i.test(text)) {
    const file = config.credentials_file ? 'credentials_file' : 'nkey_file';
    return `the file of nats.${file} holds no credential of that kind: expected what nsc or nk wrote`;
  }
  const isTls = config.tls !== undefined || config.servers.some((server) => server.isTls);
  if (thrown instanceof errors.TimeoutError && isTls) {
    return (
      `NATS (${servers}) does not go on after the TLS handshake. A server that asks for a certificate does so: ` +
      'set nats.tls.cert_file and key_file'
    );
  }
  if (/^(?:UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|CERT_|ERR_TLS)/.test(code) || /certificate|TLS|SSL/i.test(text)) {
    return (
      `NATS (${servers}) and this bridge cannot agree on TLS (${code || 'handshake failed'}). ` +
      'Set nats.tls.ca_file to the authority that signed its certificate; where it asks for one, cert_file and key_file.'
    );
  }
  if (code === 'ECONNREFUSED' || code === 'ENOTFOUND' || code === 'EAI_AGAIN' || /refused/i.test(text)) {
    return (
      `no NATS server answers at ${servers}${code ? ` (${code})` : ''}; it is tried again until one does. ` +
      'Start one (nats-server -js), or correct nats.servers'
    );
  }
  return `NATS (${servers}) cannot be reached (${code || (error instanceof Error ? error.name : 'unknown error')}); it is tried again`;
}

/**
 * Why something could not be done over a connection that works, and what to do.
 * @param what.stream the stream it was about
 * @param what.isPublishing nobody answered a message: then it cannot be told a missing stream from missing JetStream
 */
export function streamTrouble(thrown: unknown, what: { stream: string; isPublishing?: boolean }): string {
  const { stream, isPublishing = false } = what;
  const error = innermost(thrown);
  const setUp = commandText('nats setup');
  const isForbidden = (one: unknown): one is PermissionViolationError => one instanceof errors.PermissionViolationError;
  const forbidden = [thrown, error].find(isForbidden);
  if (forbidden) {
    const { operation, subject } = forbidden;
    const what = operation === 'publish' ? `publish to ${subject}` : `subscribe to ${subject.replace(OWN_INBOX, '.>')}`;
    return `this NATS user may not ${what}. What the server must allow is printed by: ${setUp} --print`;
  }
  if (isStreamMissing(thrown)) {
    return `there is no stream ${stream}. Make it with: ${setUp}`;
  }
  if (thrown instanceof JetStreamApiError && thrown.code === JetStreamApiCodes.JetStreamNotEnabledForAccount) {
    return 'JetStream is off for this NATS account: give the account "jetstream: enabled" in the server\'s configuration';
  }
  const isUnanswered = error instanceof errors.NoRespondersError || /no responders/i.test(messageOf(thrown));
  const isOff = (thrown as Error).name === 'JetStreamNotEnabled' || JETSTREAM_OFF.test(messageOf(thrown));
  if (isOff && !isPublishing) {
    return 'this NATS server runs without JetStream: start it with -js, or with a jetstream block in its configuration';
  }
  if (isUnanswered || isOff) {
    return `nobody keeps what is published: there is no stream ${stream}, or it has no leader just now. If it stays so: ${setUp}`;
  }
  if (error instanceof errors.TimeoutError || thrown instanceof errors.TimeoutError) {
    return 'NATS did not answer in time; it is tried again';
  }
  return `NATS says no (${nameOf(thrown)}); it is tried again`;
}

export function isStreamMissing(thrown: unknown): boolean {
  return thrown instanceof JetStreamApiError && thrown.code === JetStreamApiCodes.StreamNotFound;
}

export function isConsumerMissing(thrown: unknown): boolean {
  return thrown instanceof JetStreamApiError && thrown.code === JetStreamApiCodes.ConsumerNotFound;
}

/** A library's error by name and number: its text may quote what was sent. */
function nameOf(thrown: unknown): string {
  if (thrown instanceof JetStreamApiError) return `JetStream error ${thrown.code}`;
  return thrown instanceof Error ? thrown.name : 'unknown error';
}

function innermost(thrown: unknown): unknown {
  let error = thrown;
  while (error instanceof Error && error.cause !== undefined) error = error.cause;
  return error;
}
