// What decoding makes of one message: the types that every decoder returns.

import type { AccountStatus } from '../poll/poll-result.ts';
import type { IgnoredKind, Rejection, StatedEvent } from './turn-event.ts';

/** The agents whose hooks are understood. */
export const HOOK_AGENTS = ['opencode', 'claude_code', 'codex'] as const;

/** A poll result that somebody else took and passed on. Nothing but the state is kept: its texts are foreign. */
export interface StatedPoll {
  readonly provider: string;
  readonly account: string;
  readonly takenMs: number;
  readonly status: AccountStatus;
}

/** What became of one message on its way into the normal form. */
export type Decoded =
  | { readonly type: 'event'; readonly event: StatedEvent }
  | { readonly type: 'poll'; readonly poll: StatedPoll }
  /** `copiedMessageId` names the message that is a copy, so that what belongs to it can go with it. */
  | { readonly type: 'ignored'; readonly kind: IgnoredKind; readonly copiedMessageId?: string }
  | ({ readonly type: 'rejected' } & Rejection);

/** What is known about a hook body from beside it: the address it was posted to, or the record around it. */
export interface HookContext {
  readonly accountId?: string;
}

export const decodedEvent = (event: StatedEvent): Decoded => ({ type: 'event', event });
export const ignored = (kind: IgnoredKind): Decoded => ({ type: 'ignored', kind });
export const rejected = (rejection: Rejection): Decoded => ({ type: 'rejected', ...rejection });
