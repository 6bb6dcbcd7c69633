// The windows that tiles show, kept ready in memory. Every booking adds to the rollup of its quarter of an hour and to
// each window that holds it; when time moves a window's start, the quarters that fell out are subtracted.
//
// A quarter of an hour, because local midnight lies on one in every time zone of today.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { PendingQuarters } from './pending-quarters.ts';
import { WINDOWS, type Window, type WindowRow } from './reading.ts';
import { startOfDayMs, startOfMonthMs } from './time-zone.ts';

export const BUCKET_MS = 15 * 60_000;
const HOUR_MS = 3_600_000;
const ROLLING_HOURS: Partial<Record<Window, number>> = { '3d': 72, '7d': 168, '30d': 720 };

/** What one (upstream provider, provider, model) holds: net sums, in nano-USD, tokens and turns. */
export interface Amounts {
  costNano: number;
  /** Without those read from the cache. */
  tokens: number;
  cacheRead: number;
  turns: number;
  pricedTurns: number;
}

export interface Cell {
  readonly id: number;
  readonly upstreamProvider: string;
  readonly provider: string;
  readonly model: string;
}

interface WindowState {
  startBucket: number;
  readonly cells: Map<number, Amounts>;
}

const zero = (): Amounts => ({ costNano: 0, tokens: 0, cacheRead: 0, turns: 0, pricedTurns: 0 });

function addTo(target: Amounts, change: Amounts, sign: 1 | -1): void {
  target.costNano += sign * change.costNano;
  target.tokens += sign * change.tokens;
  target.cacheRead += sign * change.cacheRead;
  target.turns += sign * change.turns;
  target.pricedTurns += sign * change.pricedTurns;
}

const SUMS =
  'cell_id, SUM(cost_nano) AS cost_nano, SUM(tokens) AS tokens, SUM(cache_read) AS cache_read, SUM(turns) AS turns, SUM(priced_turns) AS priced_turns';

export class Windows {
  readonly #db: DatabaseSync;
  readonly #timeZone: string;
  readonly #upsert: StatementSync;
  readonly #windows = new Map<Window, WindowState>();
  readonly #cells = new Map<number, Cell>();
  /** What the transaction under way changed, by cell. */
  readonly #dirty = new PendingQuarters(zero);

  #starts = { bucket: Number.NaN, ms: new Map<Window, number>() };

  constructor(db: DatabaseSync, timeZone: string) {
    this.#db = db;
    this.#timeZone = timeZone;
    this.#upsert = db.prepare(
      `INSERT INTO rollup (bucket, cell_id, cost_nano, tokens, cache_read, turns, priced_turns) VALUES (?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET cost_nano = cost_nano + excluded.cost_nano, tokens = tokens + excluded.tokens,
         cache_read = cache_read + excluded.cache_read, turns = turns + excluded.turns, priced_turns = priced_turns + excluded.priced_turns`,
    );
  }

  /** The Unix ms at which a window that ends at `nowMs` begins. */
  startMs(window: Window, nowMs: number): number {
    // It moves only where a quarter begins; calendars are too slow to be asked at every reading.
    const bucket = Math.floor(nowMs / BUCKET_MS);
    if (bucket !== this.#starts.bucket) this.#starts = { bucket, ms: new Map() };
    let startMs = this.#starts.ms.get(window);
    if (startMs === undefined) {
      startMs = this.#computeStartMs(window, nowMs);
      this.#starts.ms.set(window, startMs);
    }
    return startMs;
  }

  #computeStartMs(window: Window, nowMs: number): number {
    if (window === 'today') return startOfDayMs(nowMs, this.#timeZone);
    if (window === 'month') return startOfMonthMs(nowMs, this.#timeZone);
    const hours = ROLLING_HOURS[window];
    return hours === undefined ? 0 : Math.floor((nowMs - hours * HOUR_MS) / BUCKET_MS) * BUCKET_MS;
  }

  addCell(cell: Cell): void {
    this.#cells.set(cell.id, cell);
  }

  get cellCount(): number {
    return this.#cells.size;
  }

  cells(): Iterable<Cell> {
    return this.#cells.values();
  }

  /** Books a net change (its fields may be negative) at an event time. */
  book(cell: number, datedMs: number, change: Amounts): void {
    const bucket = Math.floor(datedMs / BUCKET_MS);
    for (const state of this.#windows.values()) {
      if (bucket >= state.startBucket) this.#amounts(state, cell, change);
    }
    addTo(this.#dirty.of(cell, bucket), change, 1);
  }

  /** Writes what changed; call it inside the transaction that books the cause. */
  flush(): void {
    this.#dirty.each((cell, bucket, { costNano, tokens, cacheRead, turns, pricedTurns }) =>
      this.#upsert.run(bucket, cell, costNano, tokens, cacheRead, turns, pricedTurns),
    );
    this.#dirty.clear();
  }

  /** Replaces everything in memory by what the disk holds. */
  load(nowMs: number): void {
    this.#dirty.clear();
    this.#cells.clear();
    for (const row of this.#db.prepare('SELECT id, upstream_provider, provider, model FROM cell').iterate()) {
      this.addCell({
        id: row.id as number,
        upstreamProvider: row.upstream_provider as string,
        provider: row.provider as string,
        model: row.model as string,
      });
    }
    for (const window of WINDOWS) this.#rebuild(window, nowMs);
  }

  /** The rows of all windows as of `nowMs`; zeros for a cell that has nothing in a window. */
  rows(nowMs: number): WindowRow[] {
    const rows: WindowRow[] = [];
    for (const window of WINDOWS) {
      const { cells } = this.#advance(window, nowMs);
      for (const { id, upstreamProvider, provider, model } of this.#cells.values()) {
        const { costNano, tokens, cacheRead, turns, pricedTurns } = cells.get(id) ?? zero();
        rows.push({
          window,
          upstreamProvider,
          provider,
          model,
          costNano,
          tokens: { withoutCacheRead: tokens, cacheRead },
          turns,
          pricedTurns,
        });
      }
    }
    return rows;
  }

  #amounts(state: WindowState, cell: number, change: Amounts, sign: 1 | -1 = 1): void {
    let amounts = state.cells.get(cell);
    if (!amounts) {
      amounts = zero();
      state.cells.set(cell, amounts);
    }
    addTo(amounts, change, sign);
  }

  #rebuild(window: Window, nowMs: number): WindowState {
    const state: WindowState = { startBucket: Math.ceil(this.startMs(window, nowMs) / BUCKET_MS), cells: new Map() };
    this.#windows.set(window, state);
    this.#sum(state, 1, 'bucket >= ?', [state.startBucket]);
    return state;
  }

  /** Moves a window's start to where `nowMs` puts it. A clock that went back means counting anew. */
  #advance(window: Window, nowMs: number): WindowState {
    const state = this.#windows.get(window) as WindowState;
    const startBucket = Math.ceil(this.startMs(window, nowMs) / BUCKET_MS);
    if (startBucket < state.startBucket) return this.#rebuild(window, nowMs);
    if (startBucket > state.startBucket) {
      this.#sum(state, -1, 'bucket >= ? AND bucket < ?', [state.startBucket, startBucket]);
      state.startBucket = startBucket;
    }
    return state;
  }

  #sum(state: WindowState, sign: 1 | -1, where: string, bounds: number[]): void {
    for (const row of this.#db
      .prepare(`SELECT ${SUMS} FROM rollup WHERE ${where} GROUP BY cell_id`)
      .iterate(...bounds)) {
      this.#amounts(
        state,
        row.cell_id as number,
        {
          costNano: row.cost_nano as number,
          tokens: row.tokens as number,
          cacheRead: row.cache_read as number,
          turns: row.turns as number,
          pricedTurns: row.priced_turns as number,
        },
        sign,
      );
    }
  }
}
