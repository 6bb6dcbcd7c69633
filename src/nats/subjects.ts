// The subjects of turns and polls. Who sends is in the subject, because that is what a NATS server guards: the
// permissions of a team's credential end at its own subjects.
//
//   toll.turns.<team>.<user>               as published
//   toll.turns.<partition>.<team>.<user>   as stored, where a server's mapping divides them (partitions count from 0)
//   toll.polls.<provider>.<account>
//   toll.verdict.<team>.<user>             a question, answered by one of the bridges

import { labelValue, providerId } from '../config-fields.ts';
import type { Identity } from '../turn/turn-event.ts';

/** Stands for a team or user that is not known; no label begins with it. */
const NOBODY = '_';
/** What a token may hold as it is; a dot would divide it, and wildcards are no names. */
const PLAIN = /[^A-Za-z0-9_-]/g;
/** A label that is its own token, as most are. */
const PLAIN_LABEL = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

export const TURNS = 'toll.turns';
export const POLLS = 'toll.polls';
export const VERDICTS = 'toll.verdict';
export const DEAD_LETTERS = 'toll.dlq';

/** A label value as one token of a subject: what a token may not hold is written `=2E`, as in quoted-printable. */
function tokenOf(value: string): string {
  return value.replaceAll(PLAIN, (char) => [...Buffer.from(char)].map((byte) => `=${hex(byte)}`).join(''));
}

function textOf(token: string): string {
  if (!token.includes('=')) return token;
  const bytes = Buffer.from(
    token.replaceAll(/=([0-9A-F]{2})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16))),
    'latin1',
  );
  return bytes.toString('utf8');
}

const hex = (byte: number) => byte.toString(16).toUpperCase().padStart(2, '0');

const tokensOf = ({ team, user }: Identity) =>
  [team, user].map((name) => (name === undefined ? NOBODY : tokenOf(name)));

/** Where the turns of an identity are published. */
export function turnSubject(identity: Identity): string {
  return [TURNS, ...tokensOf(identity)].join('.');
}

/** Where the readings of an account are published. */
export function pollSubject({ provider, account }: { provider: string; account: string }): string {
  return `${POLLS}.${tokenOf(provider)}.${tokenOf(account)}`;
}

/**
 * Whose turns a subject is for; undefined when it is no subject of turns. A token that can be no label (an e-mail, a
 * path) says nothing: the turns count all the same, without it.
 */
export function identityIn(subject: string): Identity | undefined {
  if (!subject.startsWith(`${TURNS}.`)) return undefined;
  // Messages of one sender follow each other.
  if (subject === lastRead?.subject) return lastRead.identity;
  const tokens = subject.slice(TURNS.length + 1).split('.');
  if (tokens.length !== 2 && tokens.length !== 3) return undefined;
  const identity = identityOf(tokens.slice(-2));
  lastRead = { subject, identity };
  return identity;
}

let lastRead: { readonly subject: string; readonly identity: Identity } | undefined;

/** Who asks under a subject; undefined when it is no subject of questions. */
export function askerIn(subject: string): Identity | undefined {
  const tokens = subject.startsWith(`${VERDICTS}.`) ? subject.slice(VERDICTS.length + 1).split('.') : [];
  return tokens.length === 2 ? identityOf(tokens) : undefined;
}

function identityOf(tokens: readonly string[]): Identity {
  const [team, user] = tokens.map((token) => {
    if (PLAIN_LABEL.test(token)) return token;
    const label = labelValue.safeParse(textOf(token)).data;
    // Of one spelling only: others would pass what a server denies, and lie in another partition.
    return label !== undefined && tokenOf(label) === token ? label : undefined;
  });
  return { ...(team !== undefined && { team }), ...(user !== undefined && { user }) };
}

/** Which account a subject is for; undefined when it is no subject of polls, or names none. */
export function accountIn(subject: string): { provider: string; account: string } | undefined {
  const tokens = subject.startsWith(`${POLLS}.`) ? subject.slice(POLLS.length + 1).split('.') : [];
  if (tokens.length !== 2) return undefined;
  const [provider, account] = [
    providerId.safeParse(textOf(tokens[0]!)).data,
    labelValue.safeParse(textOf(tokens[1]!)).data,
  ];
  return provider !== undefined && account !== undefined ? { provider, account } : undefined;
}

/**
 * Where answers come to a user of NATS: what a bridge reads from a stream comes there too, so nobody else may listen.
 * Without a user it is the place of everybody, unless the configuration names one.
 */
export function inboxOf({ user, inbox }: { readonly user?: string | undefined; readonly inbox?: string | undefined }) {
  return inbox ?? (user === undefined ? '_INBOX' : `_INBOX_${tokenOf(user)}`);
}

/**
 * Whether a subject is one that answers may go to. A sender names it, and the bridge may publish where that sender may not:
 * the rules that relays follow, the turns of other teams. Those of servers and clients begin with `_`, and none of ours does.
 */
export function isInbox(subject: string): boolean {
  return subject.startsWith('_');
}

/** The subjects that a bridge of partition k of N reads. */
export function turnFilter({ k, of }: { k: number; of: number }): string {
  return of === 1 ? `${TURNS}.>` : `${TURNS}.${k - 1}.*.*`;
}
