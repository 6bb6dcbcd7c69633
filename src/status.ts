// What the bridge tells about itself: the answer of `GET /v1/status`, which doctor, status and the landing page show.

import type { AccountStatus, Quota } from './poll/poll-result.ts';

export interface TileWindow {
  /** Stated cost. Absent where no turn in the window states one. */
  readonly cost_usd?: number;
  /** Those of `turns` whose cost is unknown or only estimated, so that `cost_usd` is without it. */
  readonly unpriced_turns: number;
  /** Without those read from the cache, as tiles count them. */
  readonly tokens: number;
  readonly cache_read_tokens: number;
  readonly turns: number;
  readonly sessions: number;
}

export interface TileStatus {
  readonly tile: string;
  readonly upstream_providers: readonly string[];
  readonly windows: Readonly<Record<string, TileWindow>>;
}

export interface AccountStatusLine {
  readonly provider: string;
  readonly account: string;
  /** Where the account was found, for people: `OPENCODE_API_KEY`, `auth.json`, `tollbridge.yaml`, `another poller`. */
  readonly found_in: string;
  readonly status: AccountStatus;
  readonly message: string;
  readonly taken_ms?: number;
  readonly quotas?: readonly Quota[];
  /** In whole units of the currency. */
  readonly balances?: readonly { readonly kind: string; readonly currency: string; readonly amount: number }[];
  readonly spend_limits?: readonly {
    readonly limit: string;
    readonly currency: string;
    readonly amount?: number;
    readonly used?: number;
    readonly resets_ms?: number;
  }[];
  /** Where its credentials are and what they open; never what they are. */
  readonly credentials: readonly { readonly opens: string; readonly place: string; readonly problem?: string }[];
  readonly sees: readonly string[];
  readonly cannot_see: readonly { readonly what: string; readonly why: string }[];
  /** How to see more. */
  readonly more?: string;
  /** What the balance lost beyond what turns cost, by window, in USD. */
  readonly drift: readonly { readonly window: string; readonly usd: number; readonly ratio?: number }[];
  /** Why there is no more of it, for people. */
  readonly drift_gap?: string;
}

export interface SourceStatus {
  readonly source: string;
  readonly up: boolean;
  readonly last_success_ms?: number;
  /** One line for people: what is wrong, when something is. */
  readonly problem?: string;
  /** Events received, recorded, updated, duplicate, ignored, rejected since the start. */
  readonly events: Readonly<Record<string, number>>;
}

/** What a relay tells about itself: the answer of the same route where a relay has the socket. */
export interface RelayStatus {
  readonly version: string;
  readonly node: string;
  readonly pid: number;
  readonly started_ms: number;
  readonly config_file?: string;
  readonly metrics_url: string;
  readonly ready: boolean;
  readonly not_ready: readonly string[];
  readonly sources: readonly SourceStatus[];
  readonly relay: {
    readonly servers: string;
    /** What keeps turns from going out, one line for people. */
    readonly problem?: string;
    readonly queue_events: number;
    readonly queue_bytes: number;
    readonly queue_max_bytes: number;
  };
  /** The rules that it gives verdicts by. */
  readonly policy: {
    /** When bridges told where budgets stand; absent when no rules are known, and no verdicts given. */
    readonly told_ms?: number;
    /** What keeps them from being known anew, one line for people. */
    readonly problem?: string;
  };
  readonly last_heard_ms: Readonly<Record<string, number>>;
}

/** What is sent by OTLP to one receiver. */
export interface OtlpStatus {
  readonly signal: 'metrics' | 'traces' | 'logs';
  readonly endpoint: string;
  /** How often, where it is not when something happens. */
  readonly interval_s?: number;
  readonly last_ok_ms?: number;
  /** Why it was not taken last, one line for people. */
  readonly problem?: string;
}

export interface BridgeStatus {
  readonly version: string;
  readonly node: string;
  readonly pid: number;
  readonly started_ms: number;
  readonly config_file?: string;
  readonly state_dir: string;
  readonly time_zone: string;
  readonly socket?: string;
  readonly metrics_url: string;
  /** What is sent by OTLP; absent when nothing is. */
  readonly otlp?: readonly OtlpStatus[];
  readonly ready: boolean;
  /** Why it is not ready, one line each. */
  readonly not_ready: readonly string[];
  readonly sources: readonly SourceStatus[];
  readonly spool?: { readonly dir: string; readonly waiting: number; readonly quarantined: number };
  readonly ledger: {
    readonly file: string;
    readonly size_bytes: number;
    readonly created_ms: number;
    readonly turns: number;
    readonly tool_calls: number;
    readonly sessions: number;
    readonly last_turn_ms?: number;
    /** Whether counters, corrections and rollups agree to the last nano-dollar and token. */
    readonly books_balance: boolean;
    readonly problem?: string;
  };
  readonly accounts: readonly AccountStatusLine[];
  readonly tiles: readonly TileStatus[];
  readonly unmapped: readonly { readonly upstream_provider: string; readonly reason: string; readonly fix: string }[];
  readonly unfinished: readonly { readonly agent: string; readonly provider: string; readonly turns: number }[];
  /** When an agent's plugin was last heard, Unix ms, by agent. */
  readonly last_heard_ms: Readonly<Record<string, number>>;
}
