// A ledger made by hand, and a reader of Prometheus text for the tests of this folder.

import type { MetricData } from '@opentelemetry/sdk-metrics';
import type { CounterPoint, HistogramPoint, LedgerReading, Standing, WindowRow } from '../../src/ledger/reading.ts';
import { WINDOWS } from '../../src/ledger/reading.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import type { Exposition } from '../../src/metrics/exposition.ts';
import { LedgerMetricProducer } from '../../src/metrics/producer.ts';
import type { Facts, RouteReading } from '../../src/poll/poll-result.ts';
import { Tiles } from '../../src/turn/tiles.ts';

export const CREATED_MS = Date.UTC(2026, 0, 5, 12, 0, 0, 250);

export interface HandMade {
  counters?: Record<string, CounterPoint[]>;
  histograms?: Record<string, HistogramPoint[]>;
  rows?: WindowRow[];
  sessions?: LedgerReading['windowSessions'];
  polls?: ReturnType<LedgerReading['pollResults']>;
  unfinished?: ReturnType<LedgerReading['unfinishedTurns']>;
  pricing?: ReturnType<LedgerReading['pricingStates']>;
  comparison?: LedgerReading['balanceComparison'];
  standings?: ReturnType<LedgerReading['standings']>;
  partition?: string;
}

/** A reading that shows what is in `hand`, as it is at each call. */
export function readingOf(hand: HandMade): LedgerReading {
  return {
    createdMs: CREATED_MS,
    partition: hand.partition,
    counters: (family) => hand.counters?.[family] ?? [],
    histograms: (family) => hand.histograms?.[family] ?? [],
    windowRows: () => hand.rows ?? [],
    windowStartMs: (window) => (window === 'all' ? 0 : CREATED_MS - 3_600_000),
    windowSessions: (window, upstreams) => hand.sessions?.(window, upstreams) ?? 0,
    unfinishedTurns: () => hand.unfinished ?? [],
    pricingStates: () => hand.pricing ?? [],
    upstreamProviders: () => [...new Set((hand.rows ?? []).map((row) => row.upstreamProvider))],
    pollResults: () => hand.polls ?? [],
    balanceComparison: (provider, account, window) => hand.comparison?.(provider, account, window),
    standings: () => hand.standings ?? [],
    sizeBytes: () => 40_960,
  };
}

/** One model's rows in all windows; `sums` tells what is in each, nothing where it is silent. */
export function rowsOf(
  name: { upstreamProvider: string; provider: string; model: string },
  sums: Partial<Record<string, Partial<Pick<WindowRow, 'costNano' | 'turns' | 'pricedTurns' | 'tokens'>>>>,
): WindowRow[] {
  const nothing = { costNano: 0, tokens: { withoutCacheRead: 0, cacheRead: 0 }, turns: 0, pricedTurns: 0 };
  return WINDOWS.map((window) => ({ window, ...name, ...nothing, ...sums[window] }));
}

/** One route's answer, so many ms after the ledger was created. */
export function readingOfRoute(route: string, afterMs: number, facts: Facts): RouteReading {
  return { route, readMs: CREATED_MS + afterMs, intervalMs: 30_000, facts };
}

const MONEY = { provider: 'opencode', account: 'opencode', kind: 'console', currency: 'USD' };
const PERCENT = { quota: 'go', window: '5h', unit: 'percent', limit: 100 };
const MONTHLY = { limit: 'monthly', currency: 'USD', limitNano: 60_000_000_000 };
const RELOAD = { currency: 'USD', triggerNano: 5_000_000_000, amountNano: 20_000_000_000 };

const BUDGET: Standing = {
  ...{ kind: 'budget', name: 'core-month', unit: 'usd', limit: 500_000_000_000, spent: 125_000_000_001 },
  ...{ startMs: CREATED_MS, endMs: CREATED_MS + 30 * 86_400_000 },
  rule: { scope: {}, period: '30d', hard: true, warn_at: [0.5, 0.95] },
};

/** Feeds every family of the ledger at least once. */
export function fullHand(): HandMade {
  const turn = { agent: 'opencode', provider: 'opencode', account: 'opencode', upstream_provider: 'anthropic' };
  const who = { ...turn, model: 'claude-sonnet-4-5', project: 'bridge', team: 'core' };
  const served = {
    agent: 'opencode',
    provider: 'opencode',
    upstream_provider: 'anthropic',
    model: 'claude-sonnet-4-5',
  };
  const point = (labels: Record<string, string>, value: number) => [{ labels, value }];
  const spread = (labels: Record<string, string>, bounds: readonly number[]) => {
    const counts = [...bounds.map((_, index) => index % 3), 2];
    return [{ labels, counts, sum: 1_234_567, count: counts.reduce((total, each) => total + each) }];
  };
  const genAi = {
    gen_ai_operation_name: 'chat',
    gen_ai_provider_name: 'anthropic',
    gen_ai_request_model: 'claude-sonnet-4-5',
  };
  return {
    counters: {
      [TOLL.cost.name]: [
        { labels: { ...who, user: 'ada' }, value: 1_234_567_891 },
        { labels: { agent: 'opencode', provider: 'openai', upstream_provider: 'openai', model: 'gpt-5.1' }, value: 0 },
      ],
      [TOLL.tokens.name]: point({ ...who, token_type: 'cache_read' }, 9_007_199_254_740_991),
      [TOLL.turns.name]: point({ ...who, user: 'ada', status: 'ok' }, 3),
      [TOLL.costCorrections.name]: point({ ...who, user: 'ada' }, 1),
      [TOLL.tokensCorrections.name]: point({ ...who, token_type: 'output' }, 12),
      [TOLL.costEstimated.name]: point(who, 5_000_000_000),
      [TOLL.costEstimatedCorrections.name]: point(who, 7),
      [TOLL.unpricedTokens.name]: point({ provider: 'x', upstream_provider: 'unknown', model: 'big-pickle' }, 5),
      [TOLL.titleTurns.name]: point(served, 2),
      [TOLL.turnErrors.name]: point({ ...served, reason: 'rate_limit' }, 1),
      [TOLL.toolCalls.name]: point(
        { agent: 'opencode', upstream_provider: 'anthropic', tool: 'bash', status: 'ok', project: 'bridge' },
        8,
      ),
      [TOLL.sessions.name]: point({ agent: 'opencode', project: 'bridge' }, 2),
      [TOLL.balanceSpent.name]: point(MONEY, 3_000_000_000),
      [TOLL.balanceTopup.name]: point(MONEY, 12_000_000_000),
      [TOLL.policyVerdicts.name]: point({ decision: 'stop', rule: 'budget/core-month' }, 2),
      [TOLL.policyUnchecked.name]: point({ agent: 'opencode' }, 3),
      [TOLL.seriesOverflow.name]: point({ metric: 'toll_cost_usd_total' }, 4),
    },
    histograms: {
      [TOLL.turnDuration.name]: spread(served, TOLL.turnDuration.buckets ?? []),
      [TOLL.modelDuration.name]: spread(served, TOLL.modelDuration.buckets ?? []),
      [TOLL.toolDuration.name]: spread({ agent: 'opencode', tool: 'bash' }, TOLL.toolDuration.buckets ?? []),
      [TOLL.genAiTokenUsage.name]: spread({ ...genAi, gen_ai_token_type: 'input' }, TOLL.genAiTokenUsage.buckets ?? []),
      [TOLL.genAiOperationDuration.name]: spread(genAi, TOLL.genAiOperationDuration.buckets ?? []),
    },
    rows: [
      ...rowsOf(
        { upstreamProvider: 'anthropic', provider: 'opencode', model: 'claude-sonnet-4-5' },
        {
          all: { costNano: 1_234_567_890, turns: 3, pricedTurns: 3, tokens: { withoutCacheRead: 100, cacheRead: 900 } },
        },
      ),
      ...rowsOf({ upstreamProvider: 'cerebras', provider: 'cerebras', model: 'gpt-oss-120b' }, {}),
    ],
    sessions: () => 2,
    unfinished: [{ agent: 'opencode', provider: 'opencode', turns: 1 }],
    pricing: [{ provider: 'opencode', model: 'claude-sonnet-4-5', state: 'stated' }],
    polls: [
      {
        provider: 'opencode',
        account: 'opencode',
        takenMs: CREATED_MS + 9000,
        status: 'near_limit',
        message: 'Auth OK',
        authScope: 'api_key',
        displayName: 'Work',
        machine: 'laptop',
        statusHoldsMs: 90_000,
        readings: [
          readingOfRoute('models', 9000, { models: [{ id: 'claude-sonnet-4-5', ownedBy: 'opencode' }] }),
          readingOfRoute('go/usage', 1000, {
            quotas: [{ ...PERCENT, used: 85, remaining: 15, usedRatio: 0.85, resetMs: CREATED_MS + 3_600_000 }],
          }),
          readingOfRoute('billing', 1000, {
            balances: [{ kind: 'console', currency: 'USD', nano: 42_500_000_000 }],
            spendLimits: [{ ...MONTHLY, usedNano: 6_173_555_700, resetMs: CREATED_MS + 7_200_000 }],
            reload: { ...RELOAD, isEnabled: true, isFailing: false },
            plan: { name: 'pay-as-you-go', isSubscribed: false },
            reportedCosts: [
              { window: 'month', currency: 'USD', nano: 1_000_000_000 },
              { window: 'month', currency: 'USD', nano: 500_000_000, model: 'glm-5', product: 'opencode' },
            ],
            reportedTokens: [
              { window: 'month', tokenType: 'input', tokens: 12 },
              { window: 'month', tokenType: 'input', tokens: 7, model: 'glm-5' },
            ],
            reportedValues: [{ metric: 'keys_total', field: 'used', unit: 'keys', window: 'current', value: 3 }],
          }),
        ],
      },
    ],
    standings: [BUDGET],
    comparison: () => ({ fell: 3_000_000_000, observed: 2_000_000_000, unattributed: 0 }),
  };
}

export const ACCOUNTS = [{ provider: 'opencode', id: 'opencode', foundIn: 'OPENCODE_API_KEY' }];

export function producerOf(hand: HandMade, accounts = ACCOUNTS): LedgerMetricProducer {
  return new LedgerMetricProducer({ reading: readingOf(hand), tiles: new Tiles({}, ['opencode']), accounts });
}

/** Prometheus text, taken apart: what it says of each family, and every sample under its name and sorted labels. */
export interface Exposed {
  /** Family → its TYPE. */
  readonly types: Map<string, string>;
  readonly help: Map<string, string>;
  /** `name{a="1",b="2"}` with unescaped values, as JSON → the value as written. */
  readonly samples: Map<string, string>;
}

/** The whole text of a render. */
export async function rendered(exposition: Exposition, metrics: readonly MetricData[]): Promise<string> {
  return Buffer.concat(await exposition.render(metrics)).toString();
}

/** Throws on anything that is not text format 0.0.4, and on what appears twice. */
export function parseExposition(text: string): Exposed {
  const exposed: Exposed = { types: new Map(), help: new Map(), samples: new Map() };
  const once = (map: Map<string, string>, key: string, value: string) => {
    if (map.has(key)) throw new Error(`twice: ${key}`);
    map.set(key, value);
  };
  for (const line of text.split('\n')) {
    const comment = /^# (HELP|TYPE|UNIT) (\S+) (.*)$/.exec(line);
    const [, keyword, name = '', rest = ''] = comment ?? [];
    if (keyword === 'HELP') once(exposed.help, name, rest);
    else if (keyword === 'TYPE') once(exposed.types, name, rest);
    else if (keyword === undefined && line !== '') once(exposed.samples, ...sampleOf(line));
  }
  return exposed;
}

function sampleOf(line: string): [string, string] {
  const parts = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/s.exec(line);
  if (!parts) throw new Error(`not a sample: ${line}`);
  const [, name = '', labels = '', value = ''] = parts;
  const pairs: [string, string][] = [];
  let rest = labels;
  while (rest !== '') {
    const pair = /^(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)/s.exec(rest);
    if (!pair) throw new Error(`not labels: ${rest}`);
    const unescaped = pair[2]!.replace(/\\(.)/g, (_, char) => (char === 'n' ? '\n' : char));
    pairs.push([pair[1]!, unescaped]);
    rest = rest.slice(pair[0].length);
  }
  return [JSON.stringify([name, ...pairs.sort(([a], [b]) => (a < b ? -1 : 1))]), value];
}

/** The key of a sample in `Exposed.samples`. */
export function sample(name: string, labels: Record<string, string> = {}): string {
  return JSON.stringify([name, ...Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}
