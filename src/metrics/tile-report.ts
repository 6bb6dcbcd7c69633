// Sums of the ledger's window rows, as tiles show them. Integers inside; USD only in what is handed out.

import { type LedgerReading, WINDOWS, type WindowRow } from '../ledger/reading.ts';
import type { BridgeStatus, TileStatus, TileWindow } from '../status.ts';
import type { Tiles } from '../turn/tiles.ts';
import { UNKNOWN_UPSTREAM } from '../turn/upstream-provider.ts';
import { TOLL } from './catalogue.ts';

/** What the tiles must tell: which one shows an upstream provider, and which upstream providers none shows. */
export type TileMap = Pick<Tiles, 'tileOf' | 'unmapped' | 'all'>;

/** Net sums of some turns, in the ledger's units. */
export interface WindowSum {
  /** Nano-USD, as stated. Absent where there are turns and none states its cost; 0 where there are no turns. */
  readonly costNano?: number;
  /** Without those read from the cache. */
  readonly tokens: number;
  readonly cacheReadTokens: number;
  readonly turns: number;
  /** Those whose cost is not in `costNano`. */
  readonly unpricedTurns: number;
}

/** Adds up window rows. Only rows of one window may be added: windows overlap. */
export function sumRows(rows: readonly WindowRow[]): WindowSum {
  let costNano = 0;
  let tokens = 0;
  let cacheReadTokens = 0;
  let turns = 0;
  let pricedTurns = 0;
  for (const row of rows) {
    costNano += row.costNano;
    tokens += row.tokens.withoutCacheRead;
    cacheReadTokens += row.tokens.cacheRead;
    turns += row.turns;
    pricedTurns += row.pricedTurns;
  }
  // A turn that has finished but does not count yet has its cost here already: what is known is shown.
  const isUsed = turns > 0 || tokens + cacheReadTokens > 0;
  const isUnpriced = isUsed && pricedTurns === 0 && costNano === 0;
  return { ...(!isUnpriced && { costNano }), tokens, cacheReadTokens, turns, unpricedTurns: turns - pricedTurns };
}

/** Every upstream provider that was ever booked, under the tile that shows it. Both sorted by name. */
export function upstreamsByTile(reading: LedgerReading, tiles: TileMap): Map<string, string[]> {
  const byTile = Map.groupBy([...reading.upstreamProviders()].sort(), (upstream) => tiles.tileOf(upstream));
  return new Map([...byTile].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * The tiles with their numbers in every window, sorted by name: observed turns only, never what a poll reported.
 * @returns one entry per tile that shows an upstream provider with turns; cost in USD
 */
export function tileReport(reading: LedgerReading, tiles: TileMap): TileStatus[] {
  const rows = Map.groupBy(reading.windowRows(), (row) => `${row.window} ${tiles.tileOf(row.upstreamProvider)}`);
  return [...upstreamsByTile(reading, tiles)].map(([tile, upstreams]) => ({
    tile,
    upstream_providers: upstreams,
    windows: Object.fromEntries(
      WINDOWS.map((window): [string, TileWindow] => {
        const { costNano, tokens, cacheReadTokens, turns, unpricedTurns } = sumRows(
          rows.get(`${window} ${tile}`) ?? [],
        );
        return [
          window,
          {
            ...(costNano !== undefined && { cost_usd: costNano / TOLL.windowCost.scale }),
            tokens,
            cache_read_tokens: cacheReadTokens,
            turns,
            unpriced_turns: unpricedTurns,
            sessions: reading.windowSessions(window, upstreams),
          },
        ];
      }),
    ),
  }));
}

/** The upstream providers without a tile of OpenUsage, each with the line of configuration that mends it. */
export function unmappedReport(reading: LedgerReading, tiles: TileMap): BridgeStatus['unmapped'] {
  const unattributed = reading.windowRows().filter(({ upstreamProvider }) => upstreamProvider === UNKNOWN_UPSTREAM);
  const providers = unattributed.map(({ provider }) => provider);
  return tiles
    .unmapped(reading.upstreamProviders(), providers)
    .map(({ upstreamProvider, reason, fix }) => ({ upstream_provider: upstreamProvider, reason, fix }));
}
