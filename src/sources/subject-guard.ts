// What may come under a subject. NATS guards who publishes where; so a record counts for whom its subject names, and a
// credential for somebody's turns brings no readings of accounts.

import { accountIn, identityIn } from '../nats/subjects.ts';
import { type Decoded, rejected } from '../turn/decoded.ts';
import type { Identity } from '../turn/turn-event.ts';

const MISPLACED_POLL = rejected({
  reason: 'unknown_kind',
  detail: 'kind: a reading of an account is published to toll.polls.<provider>.<account>',
});
const MISPLACED_EVENT = rejected({
  reason: 'unknown_kind',
  detail:
    'kind: expected poll, because the subject is that of an account; turns are published to toll.turns.<team>.<user>',
});

export interface Guarded {
  readonly identity: Identity;
  /** In the order of what came. */
  readonly decoded: readonly Decoded[];
  /** How many readings named another account than their subject does, which was believed. */
  readonly mismatches: number;
}

/** What of a message counts, and for whom. */
export function guarded(subject: string, items: readonly Decoded[]): Guarded {
  const identity = identityIn(subject);
  const account = identity ? undefined : accountIn(subject);
  if (!account) {
    const hasPolls = items.some(({ type }) => type === 'poll');
    const decoded = hasPolls ? items.map((item) => (item.type === 'poll' ? MISPLACED_POLL : item)) : items;
    return { identity: identity ?? {}, decoded, mismatches: 0 };
  }
  let mismatches = 0;
  const decoded = items.map((item): Decoded => {
    if (item.type === 'event') return MISPLACED_EVENT;
    if (item.type !== 'poll') return item;
    const { snapshot } = item.poll;
    if (snapshot.provider !== account.provider || snapshot.account !== account.account) mismatches += 1;
    return { type: 'poll', poll: { ...item.poll, snapshot: { ...snapshot, ...account } } };
  });
  return { identity: {}, decoded, mismatches };
}
