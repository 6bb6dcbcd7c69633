import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { doctor } from '../../src/commands/doctor.ts';
import { installOpencode } from '../../src/commands/install.ts';
import { type Config, parseConfig } from '../../src/config.ts';
import { openDatabase } from '../../src/ledger/database.ts';
import type { BridgeStatus } from '../../src/status.ts';
import {
  NO_ACCESS,
  NOW_MS,
  plain,
  scratchConfig,
  scratchFolder,
  serveMetrics,
  serveSocket,
  statusOf,
} from './bridge-fixture.ts';

interface Finding {
  readonly name: string;
  readonly level: string;
  readonly what: string;
  readonly next?: string;
}
interface Examination {
  readonly problems: number;
  readonly warnings: number;
  readonly findings: readonly Finding[];
  readonly skipped: readonly { readonly why: string; readonly names: readonly string[] }[];
  readonly exitCode: number;
}

const METRICS =
  '# TYPE toll_cost_usd_total counter\ntoll_cost_usd_total{agent="opencode"} 1\ntollbridge_build_info 1\n';
const EVERYTHING = [
  ...['Node', 'configuration', 'bridge', 'plugin', 'spool', 'ledger'],
  ...['OpenCode', 'sources', 'accounts', 'tiles', 'turns', 'metrics'],
];

async function examine(config: Config | (() => Config), home: string, env = {}): Promise<Examination> {
  const loadConfig = typeof config === 'function' ? config : () => config;
  const { lines, exitCode } = await doctor({ json: true, env, home, nowMs: NOW_MS, loadConfig });
  return { ...JSON.parse(lines.join('\n')), exitCode };
}

/** A home with the plugin installed, a bridge that answers and a page to scrape; `changes` are what is wrong. */
async function examineBridge(
  t: TestContext,
  changes: Partial<BridgeStatus> = {},
  { metrics = { body: METRICS } as { status?: number; body: string }, isInstalled = true } = {},
): Promise<Examination> {
  const config = scratchConfig(t);
  const home = scratchFolder(t);
  if (isInstalled) installOpencode({ config, home, env: {} });
  const metrics_url = await serveMetrics(t, () => metrics);
  await serveSocket(t, config, () => ({ body: JSON.stringify({ ...statusOf(config), metrics_url, ...changes }) }));
  return examine(config, home);
}

const about = ({ findings }: Examination, name: string) => findings.filter((finding) => finding.name === name);

test('all is well: every check is made, every one is ok, exit 0', async (t) => {
  const examination = await examineBridge(t);
  assert.deepEqual(
    examination.findings.map(({ name, level }) => `${name} ${level}`),
    EVERYTHING.map((name) => `${name} ok`),
  );
  const { problems, warnings, skipped, exitCode } = examination;
  assert.deepEqual({ problems, warnings, skipped, exitCode }, { problems: 0, warnings: 0, skipped: [], exitCode: 0 });
  assert.match(about(examination, 'metrics')[0]!.what, /shows 2 series$/);
});

const FIRST_ACCOUNT = {
  provider: 'opencode',
  account: 'main',
  found_in: 'auth.json',
  message: 'HTTP 401 – check OPENCODE_API_KEY',
  ...NO_ACCESS,
} as const;
const LEDGER = { file: '/s/ledger.db', size_bytes: 1, created_ms: 1, turns: 1, tool_calls: 0, sessions: 1 };
const SOCKET_EVENTS = { source: 'socket', up: true, events: { received: 9, rejected: 3 } };

interface Case {
  readonly name: string;
  readonly changes: Partial<BridgeStatus>;
  readonly check: string;
  readonly level: 'ok' | 'warning' | 'problem';
  readonly what: RegExp;
  readonly next?: RegExp;
}
const cases: readonly Case[] = [
  {
    name: 'a bridge that is not ready',
    changes: { ready: false, not_ready: ['totals are being restored', 'no disk'] },
    check: 'bridge',
    level: 'warning',
    what: /not ready: totals are being restored; no disk/,
  },
  {
    name: 'OpenCode was never heard',
    changes: { last_heard_ms: { claude_code: NOW_MS } },
    check: 'OpenCode',
    level: 'warning',
    what: /never heard/,
    next: /restart it first/,
  },
  {
    name: 'a long spool',
    changes: { spool: { dir: '/s', waiting: 1200, quarantined: 0 } },
    check: 'spool',
    level: 'warning',
    what: /^1,200 files wait in /,
    next: /see the log/,
  },
  {
    name: 'quarantined files',
    changes: { spool: { dir: '/s', waiting: 0, quarantined: 1 } },
    check: 'spool',
    level: 'warning',
    what: /^1 file could not be read and is not counted/,
    next: /\.reason files in .*quarantine/,
  },
  {
    name: 'a source that is down',
    changes: { sources: [{ source: 'spool', up: false, problem: 'the folder cannot be read', events: {} }] },
    check: 'sources',
    level: 'problem',
    what: /spool is down: the folder cannot be read/,
  },
  {
    name: 'refused events',
    changes: { sources: [SOCKET_EVENTS] },
    check: 'sources',
    level: 'warning',
    what: /socket: 3 events refused/,
    next: /tollbridge_events_rejected_total\{source="socket"\}/,
  },
  {
    name: 'books that do not balance',
    changes: { ledger: { ...LEDGER, books_balance: false } },
    check: 'ledger',
    level: 'problem',
    what: /sums do not agree/,
    next: /begin a new one with: tollbridge ledger new$/,
  },
  {
    name: 'a ledger with a problem',
    changes: { ledger: { ...LEDGER, books_balance: true, problem: 'the disk is full' } },
    check: 'ledger',
    level: 'problem',
    what: /the disk is full/,
  },
  {
    name: 'a refused key',
    changes: { accounts: [{ ...FIRST_ACCOUNT, status: 'auth_required' }] },
    check: 'accounts',
    level: 'problem',
    what: /^opencode\/main: HTTP 401 – check OPENCODE_API_KEY$/,
    next: /^$/,
  },
  {
    name: 'a missing key, whose message says where to put one',
    changes: { accounts: [{ ...FIRST_ACCOUNT, status: 'auth_required', message: 'no API key: set ZEN_API_KEY' }] },
    check: 'accounts',
    level: 'problem',
    what: /^opencode\/main: no API key: set ZEN_API_KEY$/,
    next: /^$/,
  },
  {
    name: 'a poller that is down while its accounts are fine',
    changes: { sources: [{ source: 'poller', up: false, events: {} }] },
    check: 'sources',
    level: 'problem',
    what: /^poller is down: see the log of the bridge$/,
  },
  {
    name: 'an account near its limit',
    changes: { accounts: [{ ...FIRST_ACCOUNT, status: 'near_limit', message: '85 %' }] },
    check: 'accounts',
    level: 'warning',
    what: /85 %/,
  },
  {
    name: 'no account',
    changes: { accounts: [] },
    check: 'accounts',
    level: 'ok',
    what: /^none found/,
    next: /OPENCODE_API_KEY/,
  },
  {
    name: 'an upstream provider without a tile',
    changes: { unmapped: [{ upstream_provider: 'cerebras', reason: 'unconfigured', fix: 'the: fix' }] },
    check: 'tiles',
    level: 'warning',
    what: /^cerebras belongs to no tile$/,
    next: /^In tollbridge\.yaml: the: fix$/,
  },
  {
    name: 'a link to nowhere',
    changes: { unmapped: [{ upstream_provider: 'groq', reason: 'mapped_target_missing', fix: 'the: fix' }] },
    check: 'tiles',
    level: 'warning',
    what: /^groq is linked to a tile that does not exist$/,
  },
  {
    name: 'turns that hang',
    changes: { unfinished: [{ agent: 'opencode', provider: 'anthropic', turns: 2 }] },
    check: 'turns',
    level: 'warning',
    what: /^2 turns of opencode at anthropic began over 15 minutes ago/,
  },
  {
    name: 'a metrics page that is away',
    changes: { metrics_url: 'http://127.0.0.1:1/metrics' },
    check: 'metrics',
    level: 'problem',
    what: /cannot be scraped: /,
    next: /metrics\.listen/,
  },
];
for (const { name, changes, check, level, what, next } of cases) {
  test(`finds ${name}`, async (t) => {
    const examination = await examineBridge(t, changes);
    const [finding, ...others] = about(examination, check);
    assert.ok(finding);
    assert.deepEqual(others, []);
    assert.equal(finding.level, level);
    assert.match(finding.what, what);
    if (next) assert.match(finding.next ?? '', next);
    assert.equal(examination.exitCode, level === 'problem' ? 1 : 0);
    const elsewhere = examination.findings.filter((found) => found.name !== check && found.level !== 'ok');
    assert.deepEqual(elsewhere, [], 'nothing else is touched');
  });
}

const badPages: readonly [string, { status?: number; body: string }, RegExp][] = [
  ['an error', { status: 503, body: 'not yet' }, /answers with HTTP 503/],
  ['a refusal', { status: 401, body: 'token?' }, /answers with HTTP 401/],
  ['the metrics of another program', { body: 'go_goroutines 7\n# toll_ is only mentioned\n' }, /none of our metrics/],
];
for (const [name, metrics, what] of badPages) {
  test(`a scrape that gets ${name} is a problem`, async (t) => {
    const examination = await examineBridge(t, {}, { metrics });
    assert.equal(about(examination, 'metrics')[0]?.level, 'problem');
    assert.match(about(examination, 'metrics')[0]!.what, what);
    assert.equal(examination.exitCode, 1);
  });
}

test('a remote that cannot be reached is told once: the poller points at its accounts', async (t) => {
  const message = 'opencode.ai cannot be reached (ENOTFOUND); this account has no new values until it answers';
  const examination = await examineBridge(t, {
    sources: [{ source: 'poller', up: false, events: {} }],
    accounts: [{ ...FIRST_ACCOUNT, status: 'error', message }],
  });
  assert.deepEqual(about(examination, 'sources'), [
    { name: 'sources', level: 'warning', what: 'poller is down: no account can be read; "accounts" below says why' },
  ]);
  assert.deepEqual(about(examination, 'accounts'), [
    { name: 'accounts', level: 'warning', what: `opencode/main: ${message}` },
  ]);
  assert.deepEqual([examination.problems, examination.exitCode], [0, 0]);
  assert.doesNotMatch(JSON.stringify(examination), /see the log/);
});

test('an account: where its credentials are, what it sees and does not, what is unexplained, and how to see more', async (t) => {
  const examination = await examineBridge(t, {
    accounts: [
      {
        ...{ provider: 'opencode', account: 'main', found_in: 'auth.json', status: 'ok', message: '$42.50 balance' },
        credentials: [
          { opens: 'Zen and Go', place: 'auth.json' },
          { opens: 'the console', place: "OpenCode's database", problem: 'it can be read by others: chmod 600' },
        ],
        sees: ['models', 'balance'],
        cannot_see: [{ what: 'cost by model', why: 'HTTP 403' }],
        balances: [{ kind: 'console', currency: 'USD', amount: 42.5 }],
        drift: [{ window: 'today', usd: 0.25, ratio: 0.125 }, ...[{ window: '7d', usd: -1 }]],
        drift_gap: 'it takes two readings',
        more: 'Sign in to see more.',
      },
      { ...FIRST_ACCOUNT, account: 'theirs', found_in: 'another poller', status: 'near_limit', message: 'Reported' },
      ...['a', 'b'].map((account) => ({
        ...FIRST_ACCOUNT,
        account,
        found_in: 'another poller',
        status: 'ok' as const,
      })),
    ],
  });
  const [main, theirs, others] = about(examination, 'accounts');
  assert.deepEqual(main?.what.split('\n'), [
    'opencode/main: $42.50 balance',
    'Zen and Go by what is in auth.json',
    'not used for the console: it can be read by others: chmod 600',
    'sees models, balance',
    'cannot see cost by model: HTTP 403',
    'unexplained by turns: today $0.2500 (13 % of what it lost), 7d -$1.0000',
    'known causes: calls that make titles, aborted calls, turns on other machines, other users of the same balance',
    'unexplained by turns: not told for every window, because it takes two readings',
  ]);
  assert.deepEqual([main?.level, main?.next], ['warning', 'Sign in to see more.']);
  assert.deepEqual([theirs?.level, theirs?.what], ['warning', 'opencode/theirs: Reported']);
  assert.equal(others?.what, 'reported by other pollers, and fine: opencode/a, opencode/b');
});

describe('without a bridge, the ledger is looked at where it lies', () => {
  const fileOf = (config: Config) => path.join(config.state_dir, 'ledger.db');
  const ledgerOf = async (t: TestContext, config: Config) => about(await examine(config, scratchFolder(t)), 'ledger');

  test('there is none yet', async (t) => {
    const [finding, ...others] = await ledgerOf(t, scratchConfig(t));
    assert.deepEqual([finding!.level, others], ['ok', []]);
    assert.match(finding!.what, /^none at .*ledger\.db yet/);
  });

  test('it is sound', async (t) => {
    const config = scratchConfig(t);
    openDatabase(fileOf(config)).close();
    const before = readFileSync(fileOf(config));
    const [finding] = await ledgerOf(t, config);
    assert.equal(finding!.level, 'ok');
    assert.match(finding!.what, /ledger\.db is sound/);
    assert.deepEqual(readFileSync(fileOf(config)), before);
  });

  test('it is damaged: what SQLite found, the way out, and not a byte changed', async (t) => {
    const config = scratchConfig(t);
    const file = fileOf(config);
    openDatabase(file).close();
    const pages = readFileSync(file);
    pages.fill(0xa5, 3 * 4096, 6 * 4096);
    writeFileSync(file, pages);
    const [finding, ...others] = await ledgerOf(t, config);
    assert.deepEqual([finding!.level, others], ['problem', []]);
    assert.match(finding!.what, /ledger\.db is damaged \((?!\*).+\)\. .*ledger new/s);
    assert.deepEqual(readFileSync(file), pages);
  });

  test('it is in use by a bridge without a socket', async (t) => {
    const config = scratchConfig(t, { socket: { enabled: false } });
    const db = openDatabase(fileOf(config));
    try {
      const [finding] = await ledgerOf(t, config);
      assert.equal(finding!.level, 'warning');
      assert.match(finding!.what, /another process has .* open/);
    } finally {
      db.close();
    }
  });
});

test('a ledger that is both damaged and full is told both, and only the damage advises a new one', async (t) => {
  const examination = await examineBridge(t, { ledger: { ...LEDGER, books_balance: false, problem: 'no room' } });
  const [full, damaged, ...others] = about(examination, 'ledger');
  assert.deepEqual([full?.what, others], ['no room', []]);
  assert.equal(full?.next, undefined, 'the problem says what to do itself');
  assert.match(damaged?.next ?? '', /ledger new$/);
});

test('without the plugin it says so once', async (t) => {
  const examination = await examineBridge(t, { last_heard_ms: {} }, { isInstalled: false });
  assert.equal(about(examination, 'plugin')[0]?.level, 'warning');
  assert.equal(about(examination, 'plugin')[0]?.next, 'tollbridge install opencode');
  assert.deepEqual(about(examination, 'OpenCode'), []);
});

test('where its database is read, OpenCode is seen without the plugin, later', async (t) => {
  const config = scratchConfig(t, { import: { opencode: { interval: '10m' } } });
  const [finding] = about(await examine(config, scratchFolder(t)), 'plugin');
  assert.match(`${finding!.level}: ${finding!.what}`, /^warning: .*from its database only/);
});

test('without a bridge: what can be checked is, what follows is said, exit 1', async (t) => {
  const config = scratchConfig(t);
  mkdirSync(config.spool.dir);
  for (const name of ['1_a.json', '2_b.json', '3_c.json.tmp']) writeFileSync(path.join(config.spool.dir, name), '{}');
  const examination = await examine(config, scratchFolder(t));
  assert.equal(examination.exitCode, 1);
  assert.match(about(examination, 'bridge')[0]!.what, /^no bridge answers: there is no socket at .*nothing is counted/);
  assert.match(about(examination, 'spool')[0]!.what, /^2 files wait in .*as soon as it starts$/);
  assert.deepEqual(examination.skipped, [{ why: 'no bridge answers', names: [...EVERYTHING.slice(6), 'otlp'] }]);
});

test('with a wrong configuration: every mistake is shown, the rest is skipped, exit 1', async (t) => {
  const examination = await examine(
    () => parseConfig({ retention: 'soon', metrics: { listen: 'x' } }),
    scratchFolder(t),
  );
  assert.equal(examination.exitCode, 1);
  assert.match(about(examination, 'configuration')[0]!.what, /2 mistakes:\n.*metrics\.listen.*\n.*retention/);
  assert.deepEqual(examination.skipped, [
    { why: 'the configuration cannot be used', names: [...EVERYTHING.slice(2).toSpliced(2, 0, 'agents'), 'otlp'] },
  ]);
});

test('a check that breaks is a finding and stops no other', async (t) => {
  const examination = await examineBridge(t, { sources: null as never });
  assert.match(about(examination, 'sources')[0]!.what, /^could not be checked: /);
  assert.equal(about(examination, 'metrics')[0]?.level, 'ok');
});

test('for people: a mark, the name, what is so, and what to do', async (t) => {
  const config = scratchConfig(t);
  const { lines } = await doctor({
    json: false,
    env: {},
    home: scratchFolder(t),
    nowMs: NOW_MS,
    loadConfig: () => config,
  });
  const text = plain(lines);
  assert.match(text[0]!, /^✔ Node {11}\d+\./);
  assert.ok(text.some((line) => line.startsWith('✖ bridge         no bridge answers: ')));
  assert.ok(text.some((line) => line.startsWith('                 → Start it with: tollbridge start')));
  assert.ok(
    text.includes('- not checked, because no bridge answers: OpenCode, sources, accounts, tiles, turns, metrics, otlp'),
  );
  assert.equal(text.at(-1), '1 problem, 1 warning.');
});
