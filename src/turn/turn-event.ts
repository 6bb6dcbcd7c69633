// The normal form: what every source turns its input into, and all that the ledger takes.
// It has room for numbers, names and ids only. There is no field in which a prompt, an answer, a tool argument,
// a file's content or a path could travel further.

/** A value that is still being put together. */
export type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** How much of each kind; the kinds are disjoint, so they add up to the total. Integers ≥ 0. */
export interface TokenCounts {
  readonly input: number;
  readonly output: number;
  readonly reasoning: number;
  readonly cache_read: number;
  readonly cache_write: number;
}
export const TOKEN_TYPES = ['input', 'output', 'reasoning', 'cache_read', 'cache_write'] as const;
export type TokenType = (typeof TOKEN_TYPES)[number];
export const totalTokens = ({ input, output, reasoning, cache_read, cache_write }: TokenCounts): number =>
  input + output + reasoning + cache_read + cache_write;
export const NO_TOKENS: TokenCounts = { input: 0, output: 0, reasoning: 0, cache_read: 0, cache_write: 0 };

export const TURN_STATUSES = ['ok', 'error', 'aborted'] as const;
export type TurnStatus = (typeof TURN_STATUSES)[number];

/** Why a turn failed: a closed set, so that no error text becomes a label. */
export const ERROR_REASONS = [
  'auth',
  'credits',
  'limit',
  'rate_limit',
  'overloaded',
  'context_length',
  'network',
  'other',
] as const;
export type ErrorReason = (typeof ERROR_REASONS)[number];

/** How far a turn had come when it was described. A later phase always wins over an earlier one. */
export const PHASES = ['in_progress', 'finished', 'completed'] as const;
export type Phase = (typeof PHASES)[number];

/** Where the upstream provider was read from. Kept in the ledger, so that every attribution can be explained. */
export type UpstreamEvidence = 'direct' | 'hint' | 'config' | 'model_id' | 'none';

/** Whether a turn's cost is known, and how. */
export const PRICING_STATES = ['stated', 'estimated', 'free', 'included', 'unknown'] as const;
export type PricingState = (typeof PRICING_STATES)[number];

/**
 * How it is known whom a turn was paid to, where its agent names that once for all turns of a session: it was named, or
 * nobody heard it and what is usual is assumed.
 */
export const PROVIDER_BASES = ['named', 'assumed'] as const;
export type ProviderBasis = (typeof PROVIDER_BASES)[number];

/** Whose event it is, as its credential says; absent where the credential says nothing. */
export interface Identity {
  readonly team?: string;
  readonly user?: string;
  /** The only project that the credential is for. */
  readonly project?: string;
}

/** One description ("vector") of one turn, as the agent stated it. */
export interface StatedTurn {
  readonly kind: 'turn';
  readonly agent: string;
  readonly sessionId: string;
  readonly messageId: string;
  /** What the user asked for, with everything that was done about it; absent where the agent does not say. */
  readonly promptId?: string;
  /** The helper that the agent started for a part of it; absent for the agent itself. */
  readonly subagentId?: string;
  /** The sender's id of this description; ids of one agent sort by time. */
  readonly eventId?: string;
  readonly phase: Phase;
  readonly status: TurnStatus;
  /** Present exactly when the status is `error`. */
  readonly reason?: ErrorReason;
  /** Unix time in ms. */
  readonly startedMs: number;
  readonly completedMs?: number;
  /** Whom the user pays: the id that the agent calls. */
  readonly provider: string;
  /** Absent where every turn names its provider. */
  readonly providerBasis?: ProviderBasis;
  readonly model: string;
  readonly upstreamHint?: string;
  readonly project?: string;
  readonly accountId?: string;
  readonly tokens: TokenCounts;
  /** Cost as the agent stated it, in nano-USD (integer ≥ 0). Absent when it stated none. */
  readonly costNano?: number;
  /** Whose turn its sender says it is. Compared with the credential's word, and never a label. */
  readonly statedIdentity?: Identity;
  /** It did nothing but give its session a title. */
  readonly isTitle?: true;
  /** It is booked once its session is known by another road, and held until then. */
  readonly awaitsSession?: true;
}

/** A stated turn with everything that our own rules add. This is what the ledger books. */
export interface TurnEvent
  extends Omit<StatedTurn, 'upstreamHint' | 'accountId' | 'statedIdentity' | 'providerBasis'>,
    Identity {
  readonly upstreamProvider: string;
  readonly upstreamEvidence: UpstreamEvidence;
  readonly account?: string;
  readonly pricing: PricingState;
  /** Cost by the `pricing` rules in nano-USD, present exactly when `pricing` is `estimated`. */
  readonly estimatedNano?: number;
}

/** One finished tool call. */
export interface ToolEvent {
  readonly kind: 'tool';
  readonly agent: string;
  readonly sessionId: string;
  readonly callId: string;
  /** The message (turn) that made the call; absent in records that do not name it. */
  readonly messageId?: string;
  /** As of a turn; told where the turn is not. */
  readonly promptId?: string;
  readonly tool: string;
  readonly mcpServer?: string;
  readonly status: TurnStatus;
  readonly startedMs?: number;
  readonly completedMs?: number;
  readonly project?: string;
  /** `part`: the agent's own record of the call. `hook`: a bare notice, which fills gaps only. */
  readonly origin: 'part' | 'hook';
}

/** A session that exists. */
export interface SessionEvent {
  readonly kind: 'session';
  readonly agent: string;
  readonly sessionId: string;
  /** The session that started this one for a part of its own work. */
  readonly parentSessionId?: string;
  readonly project?: string;
}

/** The user was asked for permission, or answered: the time between is not the model's. */
export interface PermissionEvent {
  readonly kind: 'permission';
  readonly agent: string;
  readonly sessionId: string;
  readonly requestId: string;
  readonly messageId?: string;
  readonly askedMs?: number;
  readonly repliedMs?: number;
}

/** One call of a model that failed, as an agent reports it which calls again: an error and no turn. */
export interface StatedError {
  readonly kind: 'error';
  readonly agent: string;
  readonly sessionId: string;
  /** Names the attempt within its session. */
  readonly attemptId: string;
  /** Unix time in ms. */
  readonly failedMs: number;
  readonly provider: string;
  /** As of a turn. */
  readonly providerBasis?: ProviderBasis;
  readonly model: string;
  readonly reason: ErrorReason;
}

export interface ErrorEvent extends Omit<StatedError, 'providerBasis'> {
  readonly upstreamProvider: string;
}

export type StatedEvent = StatedTurn | ToolEvent | SessionEvent | PermissionEvent | StatedError;
export type MeterEvent = TurnEvent | ToolEvent | SessionEvent | PermissionEvent | ErrorEvent;

/** Why an event was passed over although nothing is wrong with it. A closed set: it is a label. */
export const IGNORED_KINDS = [
  'delta',
  'part',
  'tool_progress',
  'user_message',
  'chat_message',
  'session',
  'boot',
  'file',
  'fork_copy',
  'no_usage',
  'not_ready',
  'metric',
  'other_source',
  'span',
  'other',
] as const;
export type IgnoredKind = (typeof IGNORED_KINDS)[number];

/** Why an event could not be booked. A closed set: it is a label. */
export const REJECT_REASONS = [
  'invalid_json',
  'unreadable',
  'too_large',
  'wrong_type',
  'missing_field',
  'out_of_range',
  'too_long',
  'unknown_kind',
  'unknown_agent',
  'unsupported_version',
  'too_late',
  'overflow',
  'unbookable',
] as const;
export type RejectReason = (typeof REJECT_REASONS)[number];

export interface Rejection {
  readonly reason: RejectReason;
  /** For the sender: which field, what was expected. Never quotes the value. */
  readonly detail: string;
}

/** What became of one event in the ledger. */
export type Outcome =
  /** Its key was new. */
  | { readonly type: 'recorded' }
  /** Its key was known and it said more; `conflicts` names fields that it stated differently and that were not moved. */
  | { readonly type: 'updated' }
  /** It said nothing new. */
  | { readonly type: 'duplicate' }
  /** It was handed to a stream, whose bridge books it. */
  | { readonly type: 'forwarded' }
  | { readonly type: 'ignored'; readonly kind: IgnoredKind }
  | ({ readonly type: 'rejected' } & Rejection);

/** An outcome with what else must be counted about the event. */
export interface Booking {
  readonly outcome: Outcome;
  /** The turns that it is about as they are booked, where that is not as it stands: under other labels, or when their session is known. */
  readonly turns?: readonly TurnEvent[];
  /** The event's own time was in the future, so it was dated by receipt. */
  readonly redated?: true;
  /** Fields that a later vector stated differently: counted, never moved. */
  readonly conflicts?: readonly ConflictField[];
  /** How many of its values came in a wrong unit and were corrected. */
  readonly unitCorrections?: { readonly provider: string; readonly values: number };
  /** The sender named somebody else than its credential does; the credential was believed. */
  readonly identityMismatch?: true;
  /** A part of its tokens was stated to be larger than the whole; the difference counts as nothing. */
  readonly inconsistent?: true;
  /** Another source brought a turn of the same session and tokens under another id. Both are booked. */
  readonly twin?: true;
}
export const CONFLICT_FIELDS = [
  'provider',
  'model',
  'upstream_provider',
  'account',
  'project',
  'team',
  'user',
] as const;
export type ConflictField = (typeof CONFLICT_FIELDS)[number];
