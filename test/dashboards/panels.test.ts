// Panels where it is not simple: bridges of two environments that read the same account, replicas that do not know the
// same, several accounts, windows and currencies on one tile, resellers, and turns that name nobody. All of it is one
// real Prometheus with three days of made-up scrapes; beside a panel's query stands one that would go wrong.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { RECORDING_RULES } from '../../dashboards/alerts/expressions.ts';
import { OK_CODE, STATUSES } from '../../dashboards/grafana/look.ts';
import { fold, series } from '../../dashboards/promql.ts';
import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import type { Prometheus } from '../prometheus-server.ts';
import { panelQuery, readDashboard } from './expand.ts';
import { prometheusWith, type Sample } from './imported-samples.ts';

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;
const HOURS = 72;
/** Scrapes are an hour apart, and the last one is when everything is asked. */
const END_S = Math.floor(Date.now() / 1000 / HOUR_S) * HOUR_S;
const START_S = END_S - HOURS * HOUR_S;

type Labels = Readonly<Record<string, string>>;
/** What a target said of something: always the same, or so much more every hour. */
interface Said {
  readonly family: MetricFamily;
  readonly labels: Labels;
  readonly value?: number;
  readonly perHour?: number;
}

const PROD = { instance: 'a:1', environment: 'prod' };
const REPLICA = { instance: 'b:1', environment: 'prod' };
const STAGING = { instance: 'c:1', environment: 'staging' };

const said = (target: Labels, facts: readonly Said[]) =>
  facts.map((fact) => ({ ...fact, labels: { ...target, ...fact.labels } }));

function statusOf(labels: Labels, current: (typeof STATUSES)[number]): Said[] {
  const states = STATUSES.map((status) => ({
    family: TOLL.accountStatus,
    labels: { ...labels, status },
    value: status === current ? 1 : 0,
  }));
  return [...states, { family: TOLL.accountInfo, labels, value: 1 }];
}

/** A plan window: how full it is, and in how many hours it starts anew. */
function quota(labels: Labels, used: number, resetHours: number): Said[] {
  return [
    { family: TOLL.quotaUsedRatio, labels, value: used },
    { family: TOLL.quotaReset, labels, value: END_S + resetHours * HOUR_S },
  ];
}

/** Money that was read of an account, and that falls by so much an hour. */
function balance(labels: Labels, left: number, perHour: number): Said[] {
  return [
    { family: TOLL.balance, labels, value: left },
    { family: TOLL.balanceSpent, labels, perHour },
  ];
}

/** One turn an hour: its cost in USD, and as many million tokens, of which half come from the cache. */
function turns(labels: Labels, usd: number): Said[] {
  const tokens = (token_type: string) => ({
    family: TOLL.tokens,
    labels: { ...labels, token_type },
    perHour: usd * 5e5,
  });
  return [
    { family: TOLL.turns, labels: { ...labels, status: 'ok' }, perHour: 1 },
    { family: TOLL.cost, labels, perHour: usd },
    tokens('output'),
    tokens('cache_read'),
  ];
}

const MAIN = { provider: 'opencode', account: 'main' };
const SIDE = { provider: 'opencode', account: 'side' };
const MONTHLY = { ...MAIN, limit: 'monthly' };
/** Polled by the bridges of both environments. */
const main: Said[] = [
  ...statusOf(MAIN, 'ok'),
  ...balance({ ...MAIN, kind: 'console', currency: 'USD' }, 20, 1),
  { family: TOLL.spendLimit, labels: { ...MONTHLY, currency: 'USD' }, value: 100 },
  { family: TOLL.spendLimitUsed, labels: { ...MONTHLY, currency: 'USD' }, value: 40 },
  { family: TOLL.spendLimitReset, labels: MONTHLY, value: END_S + 5 * DAY_S },
  { family: TOLL.reloadTrigger, labels: { ...MAIN, currency: 'USD' }, value: 10 },
  { family: TOLL.reloadEnabled, labels: MAIN, value: 0 },
];
const side: Said[] = [
  ...statusOf(SIDE, 'ok'),
  ...balance({ ...SIDE, kind: 'console', currency: 'USD' }, 7, 2),
  { family: TOLL.reloadTrigger, labels: { ...SIDE, currency: 'USD' }, value: 5 },
  { family: TOLL.reloadEnabled, labels: SIDE, value: 1 },
];

const CLAUDE = { provider: 'claude_code', account: 'first', quota: 'usage' };
const DEEPSEEK = { provider: 'deepseek', account: 'x', kind: 'total' };
const plans: Said[] = [
  ...statusOf({ provider: 'claude_code', account: 'first' }, 'near_limit'),
  ...quota({ ...CLAUDE, window: '5h' }, 0.3, 1),
  ...quota({ ...CLAUDE, window: '7d' }, 0.9, 6 * 24),
  ...statusOf({ provider: 'claude_code', account: 'second' }, 'ok'),
  ...quota({ ...CLAUDE, account: 'second', window: '5h' }, 0.5, 0.5),
  ...statusOf({ provider: 'codex', account: 'only' }, 'ok'),
  ...quota({ provider: 'codex', account: 'only', quota: 'primary', window: '5h' }, 0.2, 2),
  ...statusOf({ provider: 'deepseek', account: 'x' }, 'ok'),
  ...balance({ ...DEEPSEEK, currency: 'CNY' }, 30, 0),
  ...balance({ ...DEEPSEEK, currency: 'USD' }, 2, 0),
];

/** What two replicas say of the same account, and what is to be shown. */
const REPLICAS = [
  ['ok', 'unknown', 'ok'],
  ['unknown', 'limited', 'limited'],
  ['unknown', 'unknown', 'unknown'],
  ['unsupported', 'unknown', 'unsupported'],
  ['near_limit', 'unsupported', 'near_limit'],
  ['error', 'limited', 'limited'],
  ['auth_required', 'ok', 'auth_required'],
] as const;
const replicated = (which: 0 | 1) =>
  REPLICAS.flatMap((states) => statusOf({ provider: 'replicated', account: states.join('-') }, states[which]));

const ROUTED = { agent: 'opencode', provider: 'openrouter', upstream_provider: 'xai', model: 'grok' };
const ZEN = { agent: 'opencode', ...MAIN, upstream_provider: 'zai' };
const GO = { ...ZEN, ...SIDE, provider: 'opencode-go' };

const WORLD: readonly Said[] = [
  ...[PROD, REPLICA, STAGING].flatMap((target) =>
    said(target, [
      { family: TOLL.ledgerCreated, labels: {}, value: START_S - DAY_S },
      { family: TOLL.tileInfo, labels: { upstream_provider: 'xai', tile: 'xai' }, value: 1 },
      ...main,
    ]),
  ),
  ...said(PROD, [
    ...side,
    ...plans,
    ...replicated(0),
    ...turns({ ...ROUTED, team: 'platform', user: 'ana', project: 'api' }, 1),
    ...turns({ ...ZEN, model: 'glm', team: 'platform', user: 'ana' }, 2),
    ...turns({ ...GO, model: 'kimi', project: 'api' }, 4),
  ]),
  ...said(REPLICA, replicated(1)),
  ...said(STAGING, turns({ ...ROUTED }, 8)),
];

const samples = WORLD.flatMap(({ family, labels, value, perHour = 0 }) =>
  Array.from({ length: HOURS + 1 }, (_, hour): Sample => {
    const said = { family, labels: { ...labels, job: 'tollbridge' } };
    return { ...said, value: value ?? 100 + hour * perHour, atS: START_S + hour * HOUR_S };
  }),
);

let stage: Awaited<ReturnType<typeof prometheusWith>>;
let prometheus: Prometheus;

before(async () => {
  stage = await prometheusWith(samples);
  prometheus = stage.prometheus;
});
after(() => stage?.stop());

interface Variable {
  readonly name: string;
  readonly allValue?: string;
  readonly multi?: boolean;
  readonly query: { readonly query: string };
}
const variable = (uid: string, name: string): Variable => {
  const { list } = readDashboard(uid).templating as unknown as { list: Variable[] };
  return list.find((each) => each.name === name)!;
};

const VALUES = { window: 'all', start: String(START_S), __to: String(END_S) };
const EVERYBODY = { team: '.*', agent: '.*' };

const queryOf = (uid: string, key: string, number: number, values: Labels) =>
  panelQuery({ uid, key, number }, { ...VALUES, ...values });

/** Rates are sums of fractions: what differs further back is no difference. */
const nineDigits = (value: number) => Number(value.toPrecision(9));

/** What a query finds: the values of labels, sorted by name → value to the ninth digit. */
async function found(expr: string): Promise<Record<string, number>> {
  const points = await prometheus.query(expr, END_S);
  const named = points.map(({ metric, value }): [string, number] => [
    Object.keys(metric)
      .sort()
      .map((label) => metric[label])
      .join(' '),
    nineDigits(value),
  ]);
  return Object.fromEntries(named.sort(([a], [b]) => (a < b ? -1 : 1)));
}
const shown = (uid: string, key: string, number: number, values: Labels = {}) =>
  found(queryOf(uid, key, number, values));

const [TILES, TILE, OPENCODE, ATTRIBUTION] = ['tiles', 'tile', 'opencode', 'attribution'].map(
  (name) => `tollbridge-${name}`,
) as [string, string, string, string];

describe('an account that bridges of two environments read', () => {
  const values = { account: 'main' };

  it('is shown once: its balance, what it spent, and where its month leads', async () => {
    assert.deepEqual(await shown(OPENCODE, 'state', 1, values), { 'main USD': 20 });
    assert.deepEqual(await shown(OPENCODE, 'month', 4, values), { '': 40 + 24 * 5 });
    assert.deepEqual(await shown(OPENCODE, 'state', 7, values), { '': nineDigits(20 / 24) });
  });

  it('is told once by the recording rules that alerts look at', async () => {
    for (const [record, expected] of [
      ['toll:balance:sum', 20],
      ['toll:balance_spent:rate6h', nineDigits(1 / HOUR_S)],
    ] as const) {
      const { expr } = RECORDING_RULES.find((rule) => rule.record === record)!;
      assert.equal((await found(expr))['main USD opencode'], expected, record);
    }
  });

  it('would be doubled, or not be joined at all, by what folds replicas only', async () => {
    const folded = (family: MetricFamily) => fold(series(family, MAIN));
    assert.deepEqual(await found(`sum(${folded(TOLL.balance)})`), { '': 40 });
    const joined = `${folded(TOLL.spendLimitUsed)} + on (account, currency) ${folded(TOLL.balanceSpent)}`;
    await assert.rejects(prometheus.query(joined, END_S), /many-to-many|duplicate series/);
  });

  it('while turns of the environments are added up', async () => {
    assert.deepEqual(await shown(ATTRIBUTION, 'by-agent', 0, EVERYBODY), { opencode: (1 + 2 + 4 + 8) * HOURS });
  });
});

describe('the state of an account', () => {
  const accounts = async () =>
    (await prometheus.query(queryOf(TILES, 'accounts', 0, {}), END_S)).filter(
      ({ metric }) => metric.provider === 'replicated',
    );

  it('is what the replica says that knows it, and the worst of what is known', async () => {
    const states = (await accounts()).map(({ metric, value }) => [metric.account, STATUSES[value]]);
    const expected = REPLICAS.map((states) => [states.join('-'), states[2]]);
    assert.deepEqual(new Map(states as [string, string][]), new Map(expected as [string, string][]));
    const code = (status: string, of: number) =>
      `${series(TOLL.accountStatus, { account: 'unknown-limited-limited', status })} * ${of}`;
    const [{ value } = { value: -1 }] = await prometheus.query(
      `max(${code('unknown', 6)} or ${code('limited', 2)})`,
      END_S,
    );
    assert.equal(value, 6, 'control: where unknown has the greatest code, it hides the limit');
  });

  it('is counted where it wants somebody, and nowhere else', async () => {
    const calm = ['ok', 'unknown', 'unsupported'];
    const wanting = REPLICAS.filter(([, , state]) => !calm.includes(state)).length;
    // And the first plan of Claude Code, which is nearly full.
    assert.deepEqual(await shown(TILES, 'attention', 0), { '': wanting + 1 });
    assert.deepEqual(STATUSES.slice(0, OK_CODE + 1).sort(), [...calm].sort());
  });
});

describe('a card', () => {
  const tile = { tile: 'claude_code' };

  it('is about one plan window, the fullest, which may come to more than all of it', async () => {
    assert.deepEqual(await shown(TILES, 'card', 1, tile), { 'first usage 7d claude_code first ': 0.9 });
    assert.deepEqual(await shown(TILES, 'card', 2, tile), { '': 6.3 });
    assert.deepEqual(await shown(TILES, 'card', 3, tile), { '': 6 * DAY_S });
    const soonest = `min(${series(TOLL.quotaReset, { provider: 'claude_code' })}) - time()`;
    assert.deepEqual(await found(soonest), { '': HOUR_S / 2 }, 'control: another window starts anew first');
  });

  it('names accounts where there are several, and nowhere else', async () => {
    const named = async (of: string) => {
      const points = await prometheus.query(queryOf(TILES, 'band-gauges', 0, { tile: of }), END_S);
      return points.map(({ metric: { whose = '', gauge } }) => `${whose}${gauge}`).sort();
    };
    assert.deepEqual(await named('claude_code'), ['first usage 5h', 'first usage 7d', 'second usage 5h']);
    assert.deepEqual(await named('codex'), ['primary 5h']);
  });

  it('shows the money of each of its accounts, the first kind that is known of each', async () => {
    const of = { tile: 'opencode' };
    assert.deepEqual(await shown(TILES, 'card', 4, of), { 'USD Balance': 7, 'USD Spent of monthly limit': 40 });
    assert.deepEqual(await shown(TILES, 'card', 5, of), {
      'USD Left of monthly limit': 60,
      'USD Spent of balance': 2 * HOURS,
    });
  });
});

describe('the table of accounts', () => {
  const ids = async (number: number) =>
    (await prometheus.query(queryOf(TILES, 'accounts', number, {}), END_S)).map(({ metric }) => metric.id!);

  it('has the fullest window of each account, and its own reset', async () => {
    for (const [number, first, second] of [
      [1, 0.9, 0.5],
      [2, 6 * DAY_S, HOUR_S / 2],
      [3, 6.3, nineDigits(0.5 / 0.9)],
    ] as const) {
      const all = await shown(TILES, 'accounts', number);
      assert.equal(all['claude_code · first · '], first);
      assert.equal(all['claude_code · second · '], second);
    }
  });

  it('has a row for each currency, and never two by one id', async () => {
    for (const number of [0, 1, 2, 3, 4, 5]) {
      const all = await ids(number);
      assert.equal(new Set(all).size, all.length, `query ${number}`);
    }
    const ofDeepseek = async (number: number) => (await ids(number)).filter((id) => id.startsWith('deepseek')).sort();
    assert.deepEqual(await ofDeepseek(0), ['deepseek · x · CNY', 'deepseek · x · USD']);
    assert.deepEqual(await ofDeepseek(4), await ofDeepseek(0));
    assert.equal((await shown(TILES, 'accounts', 4))['deepseek · x · CNY'], 30);
  });
});

describe('the tile of a reseller', () => {
  const tile = { tile: 'openrouter' };

  it('has the trends and the pace of what was paid through it', async () => {
    const days = { startS: END_S - 3 * DAY_S, endS: END_S, stepS: DAY_S };
    for (const key of ['cost-by-model', 'tokens-by-model']) {
      const points = await prometheus.queryRange(queryOf(TILE, key, 0, tile), days);
      assert.deepEqual(
        points.map(({ metric }) => metric.model),
        ['grok'],
        key,
      );
    }
    assert.deepEqual(await shown(TILE, 'forecast', 1, tile), { '': 9 * 24 });
    const served = `${series(TOLL.cost)} and on (upstream_provider) ${series(TOLL.tileInfo, tile)}`;
    assert.deepEqual(await found(served), {}, 'control: it served nothing');
  });

  it('and the tile of who served has them too', async () => {
    assert.deepEqual(await shown(TILE, 'forecast', 1, { tile: 'xai' }), { '': 9 * 24 });
  });
});

describe('attribution', () => {
  it('shows what names nobody as such', async () => {
    const all = { team: variable(ATTRIBUTION, 'team').allValue!, agent: variable(ATTRIBUTION, 'agent').allValue! };
    const of = (key: string, values: Labels) => shown(ATTRIBUTION, key, 0, values);
    assert.deepEqual(await of('by-team', all), { 'no team': 12 * HOURS, platform: 3 * HOURS });
    assert.deepEqual(await of('by-user', all), { ana: 3 * HOURS, 'no user': 12 * HOURS });
    assert.deepEqual(await of('by-project', all), { api: 5 * HOURS, 'no project': 10 * HOURS });
    const rows = Object.keys(await of('everybody', all)).sort();
    assert.equal(rows.length, 4);
    assert.ok(rows.some((row) => row.includes('no team no project opencode')));
    // Control: all values by their names are not all turns.
    assert.deepEqual(await of('by-team', { ...all, team: '(?:platform)' }), { platform: 3 * HOURS });
  });
});

describe('the dashboard of an OpenCode account', () => {
  it('is of one account, which is chosen from those of OpenCode', () => {
    const { query, multi, allValue } = variable(OPENCODE, 'account');
    assert.equal(query.query, 'label_values(toll_account_status{provider="opencode"}, account)');
    assert.ok(!multi && allValue === undefined);
  });

  it('shows the models that this account paid for, on every plan, with their tokens', async () => {
    for (const [account, row, usd] of [
      ['main', 'glm zai', 2],
      ['side', 'kimi zai', 4],
    ] as const) {
      assert.deepEqual(await shown(OPENCODE, 'models', 1, { account }), { [row]: usd * HOURS });
      assert.deepEqual(await shown(OPENCODE, 'models', 2, { account }), { [row]: usd * HOURS * 5e5 });
    }
  });

  it('draws the line of the reload where that is on, only', async () => {
    assert.deepEqual(await shown(OPENCODE, 'balance', 1, { account: 'side' }), { USD: 5 });
    assert.deepEqual(await shown(OPENCODE, 'balance', 1, { account: 'main' }), {});
  });
});
