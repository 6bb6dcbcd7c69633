// What the ledger holds, and whether it adds up.

import type { DatabaseSync } from 'node:sqlite';
import { type MetricFamily, TOLL } from '../metrics/catalogue.ts';
import type { Totals } from './totals.ts';

export interface LedgerHealth {
  readonly turns: number;
  readonly toolCalls: number;
  readonly sessions: number;
  readonly lastTurnMs?: number;
  readonly booksBalance: boolean;
  readonly problem?: string;
}

/** Counts, and an audit: counters less corrections must equal the rollups, which were summed independently. */
export function audit(db: DatabaseSync, totals: Totals): LedgerHealth {
  const count = (table: string) => (db.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }).n;
  const last = db.prepare('SELECT max(dated_ms) AS ms FROM turn').get() as { ms: number | null };
  const rollup = db
    .prepare(
      'SELECT ifnull(sum(cost_nano), 0) AS cost, ifnull(sum(tokens + cache_read), 0) AS tokens, ifnull(sum(turns), 0) AS turns FROM rollup',
    )
    .get() as { cost: number; tokens: number; turns: number };
  const net = (counter: MetricFamily, corrections: MetricFamily) => totals.grand(counter) - totals.grand(corrections);
  return {
    turns: count('turn'),
    toolCalls: count('tool_call'),
    sessions: count('session'),
    ...(last.ms === null ? {} : { lastTurnMs: last.ms }),
    booksBalance:
      rollup.cost === net(TOLL.cost, TOLL.costCorrections) &&
      rollup.tokens === net(TOLL.tokens, TOLL.tokensCorrections) &&
      rollup.turns === totals.grand(TOLL.turns),
  };
}
