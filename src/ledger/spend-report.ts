// What was spent in a span of event time, by one label, session or turn: the same net sums as the metrics, read from the
// quarter-hours (labels) or from the turns that are still kept (sessions, turns).

import type { DatabaseSync } from 'node:sqlite';
import { SCOPE_LABELS } from '../config-policy.ts';
import type { Span } from './budget-period.ts';
import { BUCKET_MS } from './windows.ts';

export const REPORT_BY = [...SCOPE_LABELS, 'session', 'turn'] as const;
export type ReportBy = (typeof REPORT_BY)[number];

/** More rows than anybody reads; what is beyond them is in `not_listed`. */
const ROWS_MAX = 10_000;

/** Net sums: nano-USD, tokens of all types, turns. */
export interface SpendSums {
  readonly cost_nano: number;
  readonly estimated_nano: number;
  readonly tokens: number;
  readonly turns: number;
}

/** What names a row, by column; '' where the label is left out. */
export type ReportRow = SpendSums & Readonly<Record<string, string | number>>;

/** Rows and what is not listed add up to the total, exactly. */
export interface SpendReport {
  readonly by: ReportBy;
  /** The columns that name a row. */
  readonly columns: readonly string[];
  /** The dearest first. */
  readonly rows: readonly ReportRow[];
  /** Absent where every row is listed. */
  readonly not_listed?: SpendSums & { readonly rows: number };
  readonly total: SpendSums;
  /** The span begins before this, Unix ms, and sessions and turns of before are no longer kept. */
  readonly kept_from_ms?: number;
  /** Which part of the turns the ledger holds, as `k/N`, where it is not all of them. */
  readonly partition?: string;
}

const SUMS = ['cost_nano', 'estimated_nano', 'tokens', 'turns'] as const;
const SESSION_COLUMNS = ['agent', 'session_id'] as const;
const TURN_COLUMNS = ['agent', 'session_id', 'message_id', 'dated_ms', 'provider', 'model', 'pricing'] as const;

const BY_LABEL = (label: string) => `
  SELECT dimension.${label} AS ${label}, sum(cost) AS cost_nano, sum(estimated) AS estimated_nano,
    sum(used) AS tokens, sum(ended) AS turns
  FROM (
    SELECT dimension_id, sum(cost_nano) AS cost, sum(estimated_nano) AS estimated, sum(tokens) AS used, sum(turns) AS ended
    FROM spend WHERE bucket >= ?1 / ${BUCKET_MS} AND bucket < ?2 / ${BUCKET_MS} GROUP BY dimension_id
  ) JOIN dimension ON dimension.id = dimension_id GROUP BY 1`;

const BY_TURN = `
  SELECT turn_session.agent AS agent, session_id, message_id, dated_ms, provider, model, pricing, ifnull(cost_nano, 0) AS cost_nano,
    ifnull(estimated_nano, 0) AS estimated_nano, input + output + reasoning + cache_read + cache_write AS tokens, counted AS turns
  FROM turn JOIN turn_session ON turn_session.id = session JOIN dimension ON dimension.id = dimension_id
  WHERE phase > 0 AND dated_ms >= ?1 AND dated_ms < ?2`;

const BY_SESSION = `
  SELECT agent, session_id, ${SUMS.map((name) => `sum(${name}) AS ${name}`).join(', ')} FROM (${BY_TURN}) GROUP BY 1, 2`;

function sourceOf(by: ReportBy): { columns: readonly string[]; select: string } {
  if (by === 'turn') return { columns: TURN_COLUMNS, select: BY_TURN };
  if (by === 'session') return { columns: SESSION_COLUMNS, select: BY_SESSION };
  return { columns: [by], select: BY_LABEL(by) };
}

/**
 * Never to be called inside a transaction: it reads what is on disk.
 * @param span begins and ends with the quarter of an hour at or after its bounds
 * @param horizonMs turns dated before it are not kept
 */
export function spendReport(
  db: DatabaseSync,
  { by, span, horizonMs }: { readonly by: ReportBy; readonly span: Span; readonly horizonMs: number },
): SpendReport {
  const { columns, select } = sourceOf(by);
  const [startMs, endMs] = [span.startMs, span.endMs].map((ms) => Math.ceil(ms / BUCKET_MS) * BUCKET_MS) as [
    number,
    number,
  ];
  const isPartlyKept = (by === 'session' || by === 'turn') && horizonMs > startMs;
  const bounds = [isPartlyKept ? horizonMs : startMs, endMs] as const;
  // What was all taken back again leaves zeros behind, which are no news.
  const isSomething = SUMS.map((name) => `${name} <> 0`).join(' OR ');
  const found = `WITH found AS (${select}) SELECT`;
  const rows = db
    .prepare(
      `${found} * FROM found WHERE ${isSomething}
       ORDER BY cost_nano DESC, estimated_nano DESC, tokens DESC, ${columns.join(', ')} LIMIT ${ROWS_MAX}`,
    )
    .all(...bounds) as unknown as ReportRow[];
  const { count, ...total } = db
    .prepare(
      `${found} count(*) AS count, ${SUMS.map((name) => `ifnull(sum(${name}), 0) AS ${name}`).join(', ')}
       FROM found WHERE ${isSomething}`,
    )
    .get(...bounds) as unknown as SpendSums & { count: number };
  return {
    ...{ by, columns, rows, total },
    ...(count > rows.length && { not_listed: { rows: count - rows.length, ...less(total, rows) } }),
    ...(isPartlyKept && { kept_from_ms: horizonMs }),
  };
}

/** What is left of a total without these rows. */
function less(total: SpendSums, rows: readonly SpendSums[]): SpendSums {
  const left = { ...total };
  for (const row of rows) for (const name of SUMS) left[name] -= row[name];
  return left;
}
