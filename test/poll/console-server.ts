// A fake OpenCode: the console's API and the API key's routes on one real server, with answers composed for the tests.

import type { TestContext } from 'node:test';
import { type Answer, goWindows, MODELS, modelList, type OpencodeServer, startOpencode } from './opencode-server.ts';

export const NOW_MS = Date.UTC(2026, 10, 21, 20, 0, 0);
export const SERVICE_KEY = ['oc', 'sk', 'EXAMPLE'].join('_');
export const SESSION_TOKEN = ['st', 'EXAMPLE'].join('_');
export const ORG_ID = 'wrk_01EXAMPLE0000000000000000';
const API = '/console/api';
const SINCE = 'since=2026-11-01T00%3A00%3A00.000Z';

/** The console's routes by name, each with its path. */
export const CONSOLE_PATHS = {
  'billing/status': `${API}/billing/status`,
  'billing/account': `${API}/billing/account`,
  'billing/auto-recharge': `${API}/billing/auto-recharge`,
  'budgets/org': `${API}/budgets/org`,
  'usage/cost-by-day': `${API}/usage/cost-by-day`,
  'usage/models': `${API}/usage/models?${SINCE}&page=1&pageSize=100`,
  'usage/summary': `${API}/usage/summary?${SINCE}`,
  'go/status': `${API}/go/status`,
} as const;
export type ConsoleRoute = keyof typeof CONSOLE_PATHS;
export const CONSOLE_ROUTES = Object.keys(CONSOLE_PATHS) as readonly ConsoleRoute[];
export const ZEN_PATHS = { models: MODELS, 'go/usage': '/zen/go/v1/usage' } as const;

export const modelRow = (model: string, costMicroCents: unknown, more: object = {}) => ({
  ...{ model, provider: 'opencode', totalRequests: '3', totalInputTokens: '1000', totalOutputTokens: '200' },
  ...{ totalCacheReadTokens: '300', totalCacheWrite5mTokens: '40', totalCacheWrite1hTokens: '2' },
  ...{ totalCostMicroCents: costMicroCents, ...more },
});
export const modelPage = (items: readonly object[], page = 1, pageCount = 1) => ({
  items,
  pageInfo: { page, pageSize: 100, total: items.length, pageCount },
});

/** What a console says when all is well. Amounts are micro-cents: 1e8 of them are a dollar. */
export const GOOD_CONSOLE: Readonly<Record<ConsoleRoute, unknown>> = {
  'billing/status': {
    ...{ billingMode: 'prepaid', mode: 'pay-as-you-go', balanceMicroCents: '4250000000', creditLimitMicroCents: null },
    ...{ availableMicroCents: '4250000000', canPurchaseCredits: true },
  },
  'billing/account': { orgId: ORG_ID, creditLimitMicroCents: '10000000000', createdAt: '2026-01-01T00:00:00.000Z' },
  'billing/auto-recharge': {
    ...{ enabled: false, thresholdDollars: 5, rechargeAmountDollars: 20, pending: false, failureReason: null },
  },
  'budgets/org': {
    ...{ limitMicroCents: '6000000000', spentMicroCents: '617355570', exceeded: false },
    resetsAt: '2026-12-01T00:00:00.000Z',
  },
  'usage/cost-by-day': [
    { date: '2026-10-20', totalCostMicroCents: '900000000' },
    { date: '2026-11-03', totalCostMicroCents: '50000000' },
    { date: '2026-11-20', totalCostMicroCents: '75000000' },
    { date: '2026-11-21', totalCostMicroCents: '25000000' },
  ],
  'usage/models': modelPage([
    modelRow('deepseek-v4.1-flash', '546483151', { provider: 'opencode-go' }),
    modelRow('glm-5', '100000000'),
  ]),
  'usage/summary': { ...modelRow('', '646483151'), model: undefined, totalInputTokens: '2000' },
  'go/status': {
    ...{ product: 'go', useBalance: false },
    access: {
      ...{ startsAt: '2026-11-10T00:00:00.000Z', endsAt: '2026-12-10T00:00:00.000Z' },
      meters: {
        fiveHour: { resetsAt: '2026-11-21T23:00:00.000Z', limitMicroCents: '1200000000', usedMicroCents: '84289897' },
        week: { resetsAt: '2026-11-23T00:00:00.000Z', limitMicroCents: 3000000000, usedMicroCents: 1500000000 },
        month: { limitMicroCents: '6000000000', usedMicroCents: '1500000000' },
      },
    },
  },
};

/** A server on which everything is well; its `plays` may be changed. */
export function startConsole(t: TestContext, plays: Readonly<Record<string, Answer>> = {}): Promise<OpencodeServer> {
  const console = Object.fromEntries(
    CONSOLE_ROUTES.map((route) => [CONSOLE_PATHS[route], { body: GOOD_CONSOLE[route] }]),
  );
  return startOpencode(t, {
    [ZEN_PATHS.models]: modelList('glm-5', 'kimi-k3'),
    [ZEN_PATHS['go/usage']]: goWindows({ rolling: 1, weekly: 42, monthly: 79 }, '2026-11-23T00:00:00.000Z'),
    ...console,
    ...plays,
  });
}
