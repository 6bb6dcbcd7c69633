// What one description ("vector") of a turn brings, and which of two wins. Pure: no totals, no statements.

import {
  type ErrorReason,
  NO_TOKENS,
  PHASES,
  type PricingState,
  TOKEN_TYPES,
  type TokenCounts,
  TURN_STATUSES,
  type TurnEvent,
  type TurnStatus,
  totalTokens,
  type UpstreamEvidence,
} from '../turn/turn-event.ts';
import type { Spend } from './spend-book.ts';
import type { Amounts } from './windows.ts';

/** A turn as its row holds it. */
export interface TurnRow {
  readonly id: number;
  readonly session: number;
  readonly message_id: string;
  readonly dimension_id: number;
  readonly series_id: number;
  readonly cell_id: number;
  readonly upstream_evidence: UpstreamEvidence;
  readonly event_id: string;
  readonly phase: number;
  readonly status: TurnStatus;
  readonly reason: ErrorReason | null;
  readonly started_ms: number;
  readonly completed_ms: number | null;
  readonly dated_ms: number;
  readonly received_ms: number;
  readonly input: number;
  readonly output: number;
  readonly reasoning: number;
  readonly cache_read: number;
  readonly cache_write: number;
  readonly cost_nano: number | null;
  readonly estimated_nano: number | null;
  readonly pricing: PricingState;
  /** The most tokens that were ever counted as unpriced. */
  readonly unpriced: number;
  readonly counted: number;
  readonly timed: number;
}

/** A turn's row with what names its session. */
export interface NamedTurnRow extends TurnRow {
  readonly agent: string;
  readonly session_id: string;
}

/** What a vector brings to the totals. */
export interface Usage {
  readonly tokens: TokenCounts;
  readonly costNano: number;
  readonly estimatedNano: number;
  readonly pricing: PricingState;
}

/** What a turn had brought before its first complete vector. */
export const NOTHING: Usage = { tokens: NO_TOKENS, costNano: 0, estimatedNano: 0, pricing: 'stated' };

/** What a vector, or the one that a row holds, brings. */
export function usageOf(source: TurnEvent | TurnRow): Usage {
  if ('kind' in source) {
    const { tokens, costNano = 0, estimatedNano = 0, pricing } = source;
    return { tokens, costNano, estimatedNano, pricing };
  }
  return {
    tokens: source,
    costNano: source.cost_nano ?? 0,
    estimatedNano: source.estimated_nano ?? 0,
    pricing: source.pricing,
  };
}

type Rank = readonly (number | string)[];

/**
 * A total order over the vectors of one turn: phase, event id, output, and then all else that is booked, so that the
 * winner does not depend on the order of arrival.
 */
function rankOf(source: TurnEvent | TurnRow): Rank {
  const isEvent = 'kind' in source;
  const { tokens, costNano } = isEvent ? source : { tokens: source, costNano: source.cost_nano };
  const [startedMs, completedMs] = isEvent
    ? [source.startedMs, source.completedMs]
    : [source.started_ms, source.completed_ms];
  return [
    isEvent ? PHASES.indexOf(source.phase) : source.phase,
    (isEvent ? source.eventId : source.event_id) ?? '',
    tokens.output,
    totalTokens(tokens),
    costNano ?? -1,
    ...TOKEN_TYPES.map((type) => tokens[type]),
    TURN_STATUSES.indexOf(source.status),
    source.reason ?? '',
    completedMs ?? -1,
    startedMs,
  ];
}

/** Whether a vector wins over the one that a turn's row holds. An equal one does not. */
export function beats(event: TurnEvent, row: TurnRow): boolean {
  const [a, b] = [rankOf(event), rankOf(row)];
  const at = a.findIndex((value, index) => value !== b[index]);
  return at !== -1 && a[at]! > b[at]!;
}

/**
 * Whether the stated cost is all of a turn's cost. An estimate stands beside it and never in it. A turn without any
 * usage cost nothing: an error or an abort does not make a window's cost unknown.
 */
export function isPriced(usage: Usage): boolean {
  return (usage.pricing !== 'unknown' && usage.pricing !== 'estimated') || totalTokens(usage.tokens) === 0;
}

/** A turn's contribution to the windows, or with `sign` −1 what taking it out means. `counted` is 1 once it counts as a turn. */
export function amounts(usage: Usage, counted: number, sign: 1 | -1): Amounts {
  const { tokens } = usage;
  return {
    costNano: sign * usage.costNano,
    tokens: sign * (tokens.input + tokens.output + tokens.reasoning + tokens.cache_write),
    cacheRead: sign * tokens.cache_read,
    turns: sign * counted,
    pricedTurns: sign * (counted && isPriced(usage) ? 1 : 0),
  };
}

/** A turn's contribution to what was spent, or with `sign` −1 what taking it out means. */
export function spendOf({ costNano, estimatedNano, tokens }: Usage, counted: number, sign: 1 | -1): Spend {
  return {
    costNano: sign * costNano,
    estimatedNano: sign * estimatedNano,
    tokens: sign * totalTokens(tokens),
    turns: sign * counted,
  };
}

/** Whether two descriptions bring the same. */
export function sameUsage(a: Usage, b: Usage): boolean {
  return (
    a.costNano === b.costNano &&
    a.estimatedNano === b.estimatedNano &&
    TOKEN_TYPES.every((type) => a.tokens[type] === b.tokens[type])
  );
}

/** An event under the price that its turn was booked with, where it states the same usage: our rules may say otherwise by now. */
export function keepingPrice(event: TurnEvent, row: TurnRow): TurnEvent {
  const { pricing, estimated_nano } = row;
  if (event.pricing === pricing && (event.estimatedNano ?? null) === estimated_nano) return event;
  const isSame =
    (event.costNano ?? null) === row.cost_nano && TOKEN_TYPES.every((type) => event.tokens[type] === row[type]);
  if (!isSame) return event;
  const { estimatedNano: _, ...stated } = event;
  return { ...stated, pricing, ...(estimated_nano !== null && { estimatedNano: estimated_nano }) };
}
