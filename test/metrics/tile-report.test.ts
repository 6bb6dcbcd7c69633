import assert from 'node:assert/strict';
import { it } from 'node:test';
import { tileReport, unmappedReport } from '../../src/metrics/tile-report.ts';
import { Tiles } from '../../src/turn/tiles.ts';
import { readingOf, rowsOf } from './fixture.ts';

const tokens = { withoutCacheRead: 10, cacheRead: 4 };

it('a tile adds up all upstream providers that it shows, in each window on its own', () => {
  const rows = [
    ...rowsOf(
      { upstreamProvider: 'google', provider: 'opencode', model: 'gemini-3-pro' },
      {
        today: { costNano: 1_500_000_000, turns: 2, pricedTurns: 2, tokens },
        all: { costNano: 2, turns: 3, pricedTurns: 3, tokens },
      },
    ),
    ...rowsOf(
      { upstreamProvider: 'gemini_api', provider: 'gateway', model: 'gemini-3-pro' },
      { today: { turns: 1, pricedTurns: 0, tokens } },
    ),
    ...rowsOf({ upstreamProvider: 'anthropic', provider: 'opencode', model: 'x' }, { today: { turns: 1, tokens } }),
  ];
  const reading = readingOf({ rows, sessions: (window, upstreams) => (window === 'today' ? upstreams.length : 0) });
  const report = tileReport(reading, new Tiles({}, []));
  assert.deepEqual(
    report.map(({ tile, upstream_providers }) => [tile, upstream_providers]),
    [
      ['claude_code', ['anthropic']],
      ['gemini_api', ['gemini_api', 'google']],
    ],
  );
  const [claude, gemini] = report;
  assert.deepEqual(
    gemini!.windows.today,
    { cost_usd: 1.5, tokens: 20, cache_read_tokens: 8, turns: 3, unpriced_turns: 1, sessions: 2 },
    'a tile with priced and unpriced turns says how many its cost leaves out',
  );
  const all = { cost_usd: 2e-9, tokens: 10, cache_read_tokens: 4, turns: 3, unpriced_turns: 0, sessions: 0 };
  assert.deepEqual(gemini!.windows.all, all);
  const none = { cost_usd: 0, tokens: 0, cache_read_tokens: 0, turns: 0, unpriced_turns: 0, sessions: 0 };
  assert.deepEqual(gemini!.windows['7d'], none);
  assert.deepEqual(
    claude!.windows.today,
    { tokens: 10, cache_read_tokens: 4, turns: 1, unpriced_turns: 1, sessions: 1 },
    'unknown is absent',
  );
});

it('no turns, no tiles', () => {
  assert.deepEqual(tileReport(readingOf({}), new Tiles({}, ['opencode'])), []);
});

it('an upstream provider without a tile comes with its line; for `unknown` that names the providers', () => {
  const rows = ['other-gateway', 'acme-direct', 'acme-direct'].flatMap((provider, n) =>
    rowsOf({ upstreamProvider: 'unknown', provider, model: `model-${n}` }, {}),
  );
  const known = rowsOf({ upstreamProvider: 'anthropic', provider: 'anthropic', model: 'x' }, {});
  assert.deepEqual(unmappedReport(readingOf({ rows: [...rows, ...known] }), new Tiles({}, [])), [
    {
      upstream_provider: 'unknown',
      reason: 'unconfigured',
      fix: 'gateways: { acme-direct: <who serves>, other-gateway: <who serves> }',
    },
  ]);
});

it('cost that is known is shown beside turns whose cost is not', () => {
  const tokens = { withoutCacheRead: 10, cacheRead: 0 };
  const rows = rowsOf(
    { upstreamProvider: 'openai', provider: 'openai', model: 'x' },
    // One unpriced turn counts; the $2 are of a turn that has finished and counts a minute later.
    { today: { turns: 1, pricedTurns: 0, costNano: 2_000_000_000, tokens } },
  );
  const [tile] = tileReport(readingOf({ rows }), new Tiles({}, []));
  assert.equal(tile?.windows.today?.cost_usd, 2);
  assert.equal(tile?.windows.today?.unpriced_turns, 1);
});

it('usage of unknown cost is not $0, also before its turn counts', () => {
  const rows = rowsOf(
    { upstreamProvider: 'openai', provider: 'openai', model: 'x' },
    { today: { turns: 0, pricedTurns: 0, tokens: { withoutCacheRead: 500, cacheRead: 0 } } },
  );
  const [tile] = tileReport(readingOf({ rows }), new Tiles({}, []));
  assert.equal(tile?.windows.today?.cost_usd, undefined);
  assert.equal(tile?.windows.month?.cost_usd, 0);
});
