// What decoding makes of one message: the types that every decoder returns.

import type { AccountStatus } from '../poll/poll-result.ts';
import type { IgnoredKind, Rejection, StatedEvent } from './turn-event.ts';

/** The agents whose hooks are understood. */
export const HOOK_AGENTS = ['opencode', 'claude_code', 'codex'] as const;

/** The attributes of a snapshot that are read. */
export const SNAPSHOT_ATTRIBUTES = [
  'plan',
  'plan_name',
  'plan_type',
  'subscription_plan',
  'tier',
  'subscription',
  'subscription_status',
  'auth_scope',
  'available_models_count',
] as const;
export const SNAPSHOT_MODEL_FIELDS = [
  'input_tokens',
  'output_tokens',
  'reasoning_tokens',
  'cached_tokens',
  'cost_usd',
] as const;

export interface SnapshotMetric {
  readonly limit?: number;
  readonly remaining?: number;
  readonly used?: number;
  /** As stated; '' where none was, or none that could be one. */
  readonly unit: string;
  readonly window: string;
}

export interface SnapshotModel extends Partial<Readonly<Record<(typeof SNAPSHOT_MODEL_FIELDS)[number], number>>> {
  readonly model: string;
  readonly window: string;
}

/** One account as OpenUsage read it, once. */
export interface UsageSnapshot {
  readonly provider: string;
  readonly account: string;
  readonly takenMs: number;
  readonly status: AccountStatus;
  readonly metrics: Readonly<Record<string, SnapshotMetric>>;
  /** When what a metric counts starts anew, Unix ms, by the metric's key. */
  readonly resets: Readonly<Record<string, number>>;
  readonly attributes: Readonly<Partial<Record<(typeof SNAPSHOT_ATTRIBUTES)[number], string>>>;
  readonly models: readonly SnapshotModel[];
}

/** What somebody else's poller read of an account and passed on. */
export interface StatedPoll {
  readonly snapshot: UsageSnapshot;
  /** How often it is read; absent when its sender did not say. */
  readonly intervalMs?: number;
  /** When it was sent, by the sender's clock, Unix ms. */
  readonly sentMs?: number;
  /** When a stream took it in, by the stream's clock, Unix ms; absent where it comes straight from its sender. */
  readonly receivedMs?: number;
  /** Which machine read it, where that is known. */
  readonly machine?: string;
}

/** What became of one message on its way into the normal form. */
export type Decoded =
  /** `isInconsistent`: its counts contradict each other, and what a part exceeds its whole by was left out. */
  | { readonly type: 'event'; readonly event: StatedEvent; readonly isInconsistent?: true }
  | { readonly type: 'poll'; readonly poll: StatedPoll }
  /** `copiedMessageId` names the message that is a copy, so that what belongs to it can go with it. */
  | { readonly type: 'ignored'; readonly kind: IgnoredKind; readonly copiedMessageId?: string }
  | ({ readonly type: 'rejected' } & Rejection);

/** What can be booked. */
export type Bookable = Extract<Decoded, { type: 'event' } | { type: 'poll' }>;

/** What is known about a hook body from beside it: the address it was posted to, or the record around it. */
export interface HookContext {
  readonly accountId?: string;
  /** Who served, as the sender knows from beside the body. */
  readonly upstreamHint?: string;
}

export const decodedEvent = (event: StatedEvent): Decoded => ({ type: 'event', event });
export const ignored = (kind: IgnoredKind): Decoded => ({ type: 'ignored', kind });
export const rejected = (rejection: Rejection): Decoded => ({ type: 'rejected', ...rejection });
