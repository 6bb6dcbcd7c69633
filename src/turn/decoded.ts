// What decoding makes of one message: the types that every decoder returns.

import type { IgnoredKind, Rejection, StatedEvent } from './turn-event.ts';
import type { UsageSnapshot } from './usage-snapshot.ts';

/** The agents whose hooks are understood. */
export const HOOK_AGENTS = ['opencode', 'claude_code', 'codex'] as const;

/** What somebody else's poller read of an account and passed on. */
export interface StatedPoll {
  readonly snapshot: UsageSnapshot;
  /** How often it is read; absent when its sender did not say. */
  readonly intervalMs?: number;
  /** When it was sent, by the sender's clock, Unix ms. */
  readonly sentMs?: number;
  /** Which machine read it, where that is known. */
  readonly machine?: string;
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
