import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { landingPage } from '../../src/metrics/landing-page.ts';
import { PAGE_CSP } from '../../src/metrics/page-frame.ts';
import { ACCOUNT_STATUSES } from '../../src/poll/poll-result.ts';
import type { BridgeStatus, TileWindow } from '../../src/status.ts';

const NOW_MS = Date.UTC(2026, 2, 14, 15, 0, 0);
const NO_ACCESS = { credentials: [], sees: [], cannot_see: [], drift: [] };

const used = (cost: number | undefined, turns: number, unpricedTurns = cost === undefined ? turns : 0): TileWindow => ({
  ...(cost !== undefined && { cost_usd: cost }),
  tokens: turns * 12_000,
  cache_read_tokens: turns * 90_000,
  turns,
  unpriced_turns: unpricedTurns,
  sessions: turns > 0 ? 1 : 0,
});
const windows = (today: TileWindow, week: TileWindow, month: TileWindow) => ({
  ...{ today, '3d': week, '7d': week, '30d': month },
  ...{ month, all: month },
});

function statusOf(changes: Partial<BridgeStatus> = {}): BridgeStatus {
  return {
    version: '0.1.0',
    node: 'v24.21.0',
    pid: 4711,
    started_ms: NOW_MS - 3 * 3_600_000,
    config_file: '/etc/tollbridge.yaml',
    state_dir: '/var/lib/tollbridge',
    time_zone: 'Europe/Berlin',
    socket: '/var/lib/tollbridge/tollbridge.sock',
    metrics_url: 'http://127.0.0.1:9464',
    ready: true,
    not_ready: [],
    sources: [
      {
        source: 'socket',
        up: true,
        last_success_ms: NOW_MS - 40_000,
        events: { received: 1204, recorded: 310, updated: 200, duplicate: 4, ignored: 690, rejected: 0 },
      },
      { source: 'spool', up: false, problem: 'the folder cannot be read', events: {} },
    ],
    spool: { dir: '/var/lib/tollbridge/hook-spool', waiting: 2, quarantined: 1 },
    ledger: {
      file: '/var/lib/tollbridge/ledger.db',
      size_bytes: 5_400_000,
      created_ms: NOW_MS - 40 * 86_400_000,
      turns: 3120,
      tool_calls: 8421,
      sessions: 96,
      last_turn_ms: NOW_MS - 40_000,
      books_balance: true,
    },
    accounts: [
      {
        provider: 'opencode',
        account: 'opencode',
        found_in: 'OPENCODE_API_KEY',
        status: 'near_limit',
        message: 'Auth OK · 41 Zen models',
        taken_ms: NOW_MS - 12_000,
        quotas: [
          { quota: 'go', window: '5h', unit: 'percent', usedRatio: 0.873, resetMs: NOW_MS + 5_000_000 },
          { quota: 'go', window: '7d', unit: 'percent', usedRatio: 0.31 },
        ],
        ...NO_ACCESS,
      },
      {
        ...{
          provider: 'openai',
          account: 'work',
          found_in: 'tollbridge.yaml',
          status: 'unknown',
          message: 'Not polled',
        },
        ...NO_ACCESS,
      },
    ],
    tiles: [
      {
        tile: 'gemini_api',
        upstream_providers: ['google'],
        windows: windows(used(0, 0), used(0.0042, 3), used(1.5, 40)),
      },
      {
        tile: 'claude_code',
        upstream_providers: ['anthropic'],
        windows: windows(used(3.456, 42), used(41.2, 410), used(1234.5, 2400)),
      },
      {
        tile: 'openai',
        upstream_providers: ['openai'],
        windows: windows(used(0.37, 8), used(2.18, 55, 1), used(9.9, 130, 30)),
      },
      {
        tile: 'unknown',
        upstream_providers: ['unknown'],
        windows: windows(used(undefined, 2), used(undefined, 5), used(undefined, 5)),
      },
    ],
    unmapped: [
      {
        upstream_provider: 'cerebras',
        reason: 'unconfigured',
        fix: 'telemetry: { provider_links: { cerebras: <tile> } }',
      },
    ],
    unfinished: [{ agent: 'opencode', provider: 'opencode', turns: 1 }],
    last_heard_ms: { opencode: NOW_MS - 40_000 },
    ...changes,
  };
}

/** What a person reads: the page without tags, entities put back, white space as one blank. */
function readable(page: string): string {
  const body = page.slice(page.indexOf('<body>'));
  const text = body.replace(/<[^>]+>/g, ' ').replace(/\s+/g, ' ');
  return text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&quot;', '"').replaceAll('&amp;', '&');
}

describe('the landing page', () => {
  it('shows tiles by their cost this month, with cost, tokens and turns', () => {
    const page = landingPage(statusOf(), NOW_MS);
    const order = [...page.matchAll(/<h3>(.*?)<\/h3>/g)].map(([, tile]) => tile);
    assert.deepEqual(order, ['claude_code', 'openai', 'gemini_api', 'unknown']);
    const text = readable(page);
    assert.match(
      text,
      /claude_code anthropic \$3\.46 today .*Today \$3\.46 504K 42 7 days \$41\.20 4\.9M 410 This month \$1,234\.50/,
    );
    assert.match(text, /gemini_api google \$0\.00 today .*7 days \$0\.0042 36K 3/);
    assert.match(text, /unknown unknown today .*7 days unknown 60K 5/, 'an unknown cost is not shown as 0');
    assert.match(text, /Today \$3\.83 \+ 2 turns without a stated cost 52 turns · 624K tokens/);
  });

  it('says how many turns a cost leaves out: in the sums and on a tile with priced and unpriced turns', () => {
    const text = readable(landingPage(statusOf(), NOW_MS));
    assert.match(text, /7 days \$43\.38 \+ 6 turns without a stated cost 473 turns/);
    assert.match(
      text,
      /openai \$0\.37 today .*Today \$0\.37 96K 8 7 days \$2\.18 660K 55 \+ 1 turn without a stated cost This/,
    );
    assert.match(text, /This month \$9\.90 1\.6M 130 \+ 30 turns without a stated cost/);
    assert.equal(
      text.match(/without a stated cost/g)?.length,
      5,
      'three sums and two windows; `unknown` says it itself',
    );
  });

  it('gives a tile its colour by its name, whatever stands beside it', () => {
    const colours = (page: string) =>
      new Map([...page.matchAll(/hue-(\d+)"><div class="top"><h3>(.*?)</g)].map(([, hue, tile]) => [tile, hue]));
    const { tiles } = statusOf();
    const all = colours(landingPage(statusOf(), NOW_MS));
    assert.equal(all.size, tiles.length);
    assert.ok(new Set(all.values()).size > 1);
    for (let first = 1; first < tiles.length; first++) {
      for (const [tile, hue] of colours(landingPage(statusOf({ tiles: tiles.slice(first) }), NOW_MS))) {
        assert.equal(hue, all.get(tile), tile);
      }
    }
  });

  it('shows accounts, sources and what needs attention', () => {
    const text = readable(landingPage(statusOf(), NOW_MS));
    assert.match(
      text,
      /opencode opencode · from OPENCODE_API_KEY near limit Auth OK · 41 Zen models 87\.3% of go 5h anew in 1 h 23 min/,
    );
    assert.match(text, /work openai · from tollbridge\.yaml unknown Not polled never/);
    assert.match(text, /socket up 1,204 310 200 4 690 0 40 s ago/);
    assert.match(text, /spool the folder cannot be read down 0 0 0 0 0 0 never/);
    assert.match(
      text,
      /Upstream providers without an OpenUsage tile of their own .*cerebras \(unconfigured\) telemetry: \{ provider_links: \{ cerebras: <tile> \} \}/,
    );
    assert.match(text, /1 spool file in quarantine/);
    assert.match(text, /Turns that never finished .* opencode at opencode: 1 turn/);
    assert.match(text, /Listens on \/var\/lib\/tollbridge\/tollbridge\.sock/);
    assert.match(text, /the books balance/);
    assert.doesNotMatch(text, /Not ready|No turn received|needs attention|undefined|NaN|\[object/);
  });

  it('says why it is not ready, and what is wrong with the ledger', () => {
    const ledger = { ...statusOf().ledger, books_balance: false };
    const page = landingPage(statusOf({ ready: false, not_ready: ['the socket is taken'], ledger }), NOW_MS);
    assert.match(
      readable(page),
      /not ready .*Not ready yet the socket is taken .*The ledger needs attention .*Next: \S.* doctor/,
    );
    const problem = { ...statusOf().ledger, problem: 'the disk is full' };
    assert.match(
      readable(landingPage(statusOf({ ledger: problem }), NOW_MS)),
      /The ledger needs attention the disk is full/,
    );
  });

  it('says what to do next when nothing was received yet', () => {
    const { socket, config_file, spool, ...rest } = statusOf();
    const { last_turn_ms, ...ledger } = rest.ledger;
    const empty = {
      ...rest,
      ledger: { ...ledger, turns: 0 },
      tiles: [],
      accounts: [],
      sources: [],
      unmapped: [],
      unfinished: [],
      last_heard_ms: {},
    };
    const text = readable(landingPage(empty, NOW_MS));
    assert.match(
      text,
      /No turn received yet .*Install the plugin, unless you have: \S.* install opencode .* doctor says/,
    );
    assert.match(text, /Last turn none yet Agents heard none since the start Configuration all defaults/);
    assert.doesNotMatch(text, /Tiles|Accounts|Sources|undefined/);
    const heard = readable(landingPage({ ...empty, last_heard_ms: { opencode: NOW_MS } }, NOW_MS));
    assert.match(heard, /opencode is connected; its first finished turn will show here/);
  });

  it('has a look for every state of an account', () => {
    for (const status of ACCOUNT_STATUSES) {
      const [account] = statusOf().accounts;
      const page = landingPage(statusOf({ accounts: [{ ...account!, status }] }), NOW_MS);
      assert.match(page, new RegExp(`badge (good|fair|bad|plain)">${status.replaceAll('_', ' ')}<`));
    }
  });

  it('escapes whatever it shows, in text and in attributes', () => {
    const evil = `"><script>alert('1')</script>&`;
    const planted = JSON.parse(JSON.stringify(statusOf(), (_, value) => (typeof value === 'string' ? evil : value)));
    const page = landingPage(
      { ...planted, time_zone: 'UTC', not_ready: [evil], ready: false, last_heard_ms: { [evil]: 1 } },
      NOW_MS,
    );
    assert.doesNotMatch(page, /<script|alert\('/);
    assert.ok(page.split('&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;').length > 20);
  });

  it('needs nothing from elsewhere, and its style is the one that its policy allows', () => {
    const page = landingPage(statusOf(), NOW_MS);
    assert.doesNotMatch(page, /<script|\son\w+=|style=|@import|url\(/);
    assert.deepEqual(
      [...page.matchAll(/(?:src|href)="([^"#]*)"/g)].map(([, url]) => url!.replace(/,.*/s, '')),
      ['data:image/svg+xml', '/metrics'],
    );
    const style = /<style>(.*)<\/style>/s.exec(page)![1]!;
    assert.ok(PAGE_CSP.includes(createHash('sha256').update(style).digest('base64')));
  });

  it('breaks no word in a narrow window: tables scroll, or their rows stack', () => {
    const page = landingPage(statusOf(), NOW_MS);
    assert.doesNotMatch(page, /overflow-wrap: anywhere|word-break/);
    assert.match(page, /\.sheet \{[^}]*overflow-x: auto/);
    const wide = page.split('class="card').at(-1)!.split('</article>')[1]!;
    assert.equal(wide.match(/<table/g)?.length, wide.match(/<div class="sheet( stacked)?"><table/g)?.length);
  });
});
