import assert from 'node:assert/strict';
import { it } from 'node:test';
import { tileReport } from '../../src/metrics/tile-report.ts';
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
  assert.deepEqual(gemini!.windows.today, { cost_usd: 1.5, tokens: 20, cache_read_tokens: 8, turns: 3, sessions: 2 });
  assert.deepEqual(gemini!.windows.all, { cost_usd: 2e-9, tokens: 10, cache_read_tokens: 4, turns: 3, sessions: 0 });
  assert.deepEqual(gemini!.windows['7d'], { cost_usd: 0, tokens: 0, cache_read_tokens: 0, turns: 0, sessions: 0 });
  assert.deepEqual(
    claude!.windows.today,
    { tokens: 10, cache_read_tokens: 4, turns: 1, sessions: 1 },
    'unknown is absent',
  );
});

it('no turns, no tiles', () => {
  assert.deepEqual(tileReport(readingOf({}), new Tiles({}, ['opencode'])), []);
});
