// What the routes of OpenCode's console say, read strictly enough to be believed and leniently enough to outlive small
// changes. Each reader returns undefined for an answer of another form; null and missing fields are absent facts. Only
// what is named here is read: ids, names, e-mails and texts stay behind.

import { z } from 'zod';
import { model as modelId, present, unixMs } from '../turn/fields.ts';
import { nanoOf, nanoOfMicroCents } from './money.ts';
import type { Nano, Quota, Reload, ReportedCost, ReportedTokens } from './poll-result.ts';
import { startOfUtcMonthMs } from './utc.ts';

const CURRENCY = 'USD';
const DAY_MS = 86_400_000;
/** Each becomes a handful of series. */
const MODELS_MAX = 200;
/** Ten years. */
const DAYS_MAX = 3660;
const OTHER = 'other';
const NANO_PER_USD = 1e9;
/** Names of billing modes that may become a label. */
const PLAN_NAMES: ReadonlySet<string> = new Set(['pay-as-you-go', 'prepaid', 'postpaid', 'enterprise']);
const PRODUCTS: ReadonlySet<string> = new Set(['opencode', 'opencode-go']);
const GO_METERS = [
  ['fiveHour', '5h'],
  ['week', '7d'],
  ['month', 'month'],
] as const;

/** A field that may be missing, and whose form nobody promised. */
const anything = z.unknown().optional();
const microCents = z.unknown().transform((stated, context) => {
  const nano = nanoOfMicroCents(stated);
  if (nano === undefined) context.issues.push({ code: 'custom', input: stated, message: 'expected micro-cents' });
  return nano as Nano;
});
const wholeDollars = z.number().transform((stated, context) => {
  const nano = nanoOf(stated);
  if (nano === undefined) context.issues.push({ code: 'custom', input: stated, message: 'expected dollars' });
  return nano as Nano;
});
const count = z
  .union([z.number(), z.string().regex(/^\d{1,15}$/)])
  .transform(Number)
  .pipe(z.int().min(0));

/** Absent and null are the same: not stated. */
const maybe = <T extends z.ZodType>(schema: T) => z.preprocess((stated) => stated ?? undefined, schema.optional());

/** An object with its telling field, be it null: without it the answer is another route's, and must not read as "none". */
function read<T>(schema: z.ZodType<T>, json: unknown, field: string): T | undefined {
  const has = typeof json === 'object' && json !== null && Object.hasOwn(json, field);
  return has ? schema.safeParse(json).data : undefined;
}

const status = z.object({ balanceMicroCents: maybe(microCents), mode: anything, billingMode: anything });

/** `billing/status`: may be below zero. */
export function readStatus(json: unknown): { readonly balanceNano?: Nano; readonly plan?: string } | undefined {
  const stated = read(status, json, 'balanceMicroCents');
  if (!stated) return undefined;
  const plan = [stated.mode, stated.billingMode].find((name): name is string => PLAN_NAMES.has(name as string));
  return present({ balanceNano: stated.balanceMicroCents, plan });
}

const account = z.object({ orgId: anything, creditLimitMicroCents: maybe(microCents) });

/** `billing/account`. The organisation's id is for its digest only. */
export function readAccount(json: unknown): { readonly orgId?: string; readonly creditLimitNano?: Nano } | undefined {
  const stated = read(account, json, 'creditLimitMicroCents');
  const orgId = typeof stated?.orgId === 'string' && stated.orgId ? stated.orgId : undefined;
  return stated && present({ orgId, creditLimitNano: stated.creditLimitMicroCents });
}

const autoRecharge = z.object({
  enabled: maybe(z.boolean()),
  thresholdDollars: maybe(wholeDollars),
  rechargeAmountDollars: maybe(wholeDollars),
  failureReason: anything,
});

/** `billing/auto-recharge`. Why a recharge failed is free text: only that it did is read. */
export function readAutoRecharge(json: unknown): Reload | undefined {
  const stated = read(autoRecharge, json, 'enabled');
  if (!stated) return undefined;
  const { enabled, thresholdDollars, rechargeAmountDollars, failureReason } = stated;
  return present({
    currency: CURRENCY,
    triggerNano: thresholdDollars,
    amountNano: rechargeAmountDollars,
    isEnabled: enabled,
    isFailing: failureReason === undefined ? undefined : failureReason !== null,
  });
}

export interface Budget {
  /** Absent: no budget is set. */
  readonly limitNano?: Nano;
  readonly usedNano?: Nano;
  readonly resetMs?: number;
}

const budget = z.object({
  limitMicroCents: maybe(microCents),
  spentMicroCents: maybe(microCents),
  resetsAt: maybe(unixMs),
});

/** `budgets/org`. */
export function readBudget(json: unknown): Budget | undefined {
  const stated = read(budget, json, 'limitMicroCents');
  if (!stated) return undefined;
  return present({ limitNano: stated.limitMicroCents, usedNano: stated.spentMicroCents, resetMs: stated.resetsAt });
}

/** What a UTC day cost. */
export interface DayCost {
  /** When the day began, Unix ms. */
  readonly dayMs: number;
  readonly nano: Nano;
}

const days = z.array(z.object({ date: z.iso.date(), totalCostMicroCents: microCents })).max(DAYS_MAX);

/** `usage/cost-by-day`. */
export function readDays(json: unknown): readonly DayCost[] | undefined {
  const stated = days.safeParse(json).data;
  return stated?.map(({ date, totalCostMicroCents }) => ({ dayMs: Date.parse(date), nano: totalCostMicroCents }));
}

/**
 * What the days of the windows that end at `nowMs` cost: UTC days, today included. Days ahead are left out. The list is
 * taken to go back to the first of the month at least; a window that begins before all that is listed is not told.
 */
export function dayWindows(costs: readonly DayCost[], nowMs: number): ReportedCost[] {
  const todayMs = Math.floor(nowMs / DAY_MS) * DAY_MS;
  const monthMs = startOfUtcMonthMs(nowMs);
  const listedFromMs = Math.min(monthMs, ...costs.map(({ dayMs }) => dayMs));
  const starts = [
    ['1d', todayMs],
    ['7d', todayMs - 6 * DAY_MS],
    ['30d', todayMs - 29 * DAY_MS],
    ['month', monthMs],
  ] as const;
  const told = starts.filter(([, startMs]) => startMs >= listedFromMs);
  return told.map(([window, startMs]) => {
    const within = costs.filter(({ dayMs }) => dayMs >= startMs && dayMs <= todayMs);
    return { window, currency: CURRENCY, nano: within.reduce((sum, { nano }) => sum + nano, 0) };
  });
}

/** What one model, or all of them, cost and used. */
interface Usage {
  readonly nano: Nano;
  readonly tokens: Readonly<Record<string, number>>;
}
const NOTHING: Usage = { nano: 0, tokens: {} };

export interface ModelUsage extends Usage {
  readonly model: string;
  readonly product?: string;
}

const usage = z.object({
  model: anything,
  provider: anything,
  totalInputTokens: maybe(count),
  totalOutputTokens: maybe(count),
  totalCacheReadTokens: maybe(count),
  totalCacheWrite5mTokens: maybe(count),
  totalCacheWrite1hTokens: maybe(count),
  totalCostMicroCents: microCents,
});
const usagePage = z.object({
  items: z.array(usage).max(10_000),
  pageInfo: z.object({ pageCount: count }).optional(),
});

function usageOf(stated: z.output<typeof usage>): Usage {
  const { totalCacheWrite5mTokens: shortWrite, totalCacheWrite1hTokens: longWrite } = stated;
  const isWriteKnown = shortWrite !== undefined || longWrite !== undefined;
  const tokens = present({
    input: stated.totalInputTokens,
    output: stated.totalOutputTokens,
    cache_read: stated.totalCacheReadTokens,
    cache_write: isWriteKnown ? (shortWrite ?? 0) + (longWrite ?? 0) : undefined,
  });
  return { nano: stated.totalCostMicroCents, tokens: tokens as Record<string, number> };
}

/** One page of `usage/models`. @returns its rows, and how many pages there are */
export function readModelsPage(
  json: unknown,
): { readonly rows: readonly ModelUsage[]; readonly pages: number } | undefined {
  const stated = usagePage.safeParse(json).data;
  if (!stated) return undefined;
  const rows = stated.items.map((item) => {
    const product = PRODUCTS.has(item.provider as string) ? (item.provider as string) : undefined;
    return { model: modelId.safeParse(item.model).data ?? OTHER, ...present({ product }), ...usageOf(item) };
  });
  return { rows, pages: stated.pageInfo?.pageCount ?? 1 };
}

/** `usage/summary`: one object of totals, or rows to be added up; not the first of several pages, which is no sum. */
export function readSummary(json: unknown): Usage | undefined {
  const page = usagePage.safeParse(json).data;
  if ((page?.pageInfo?.pageCount ?? 1) > 1) return undefined;
  const rows = page?.items ?? usage.array().safeParse([json]).data;
  return rows?.map(usageOf).reduce(added, NOTHING);
}

function added(one: Usage, other: Usage): Usage {
  const tokens: Record<string, number> = { ...one.tokens };
  for (const [type, tokensOfType] of Object.entries(other.tokens)) tokens[type] = (tokens[type] ?? 0) + tokensOfType;
  return { nano: one.nano + other.nano, tokens };
}

/** Costs and tokens by model, the dearest models by name and the rest under `other`. */
export function byModel(
  rows: readonly ModelUsage[],
  window: string,
): { costs: ReportedCost[]; tokens: ReportedTokens[] } {
  const sums = addUp(rows).sort((a, b) => b.nano - a.nano || (a.model < b.model ? -1 : 1));
  const shown = addUp(sums.map((row, index) => (index < MODELS_MAX ? row : { ...row, model: OTHER })));
  return {
    costs: shown.map(({ model, product, nano }) => ({
      window,
      currency: CURRENCY,
      nano,
      model,
      ...present({ product }),
    })),
    tokens: shown.flatMap(({ model, product, tokens }) => tokensIn(tokens, { window, model, ...present({ product }) })),
  };
}

/** One row for each (model, product). */
function addUp(rows: readonly ModelUsage[]): ModelUsage[] {
  const groups = Map.groupBy(rows, ({ model, product }) => JSON.stringify([model, product]));
  return [...groups.values()].map((group) => ({
    ...group[0]!,
    ...group.map((row): Usage => row).reduce(added, NOTHING),
  }));
}

export function tokensIn(
  tokens: Usage['tokens'],
  labels: Omit<ReportedTokens, 'tokenType' | 'tokens'>,
): ReportedTokens[] {
  return Object.entries(tokens).map(([tokenType, amount]) => ({ ...labels, tokenType, tokens: amount }));
}

export interface GoPlan {
  readonly hasPlan: boolean;
  readonly drawsOnBalance: boolean;
  readonly quotas: readonly Quota[];
}

const meter = z.object({
  limitMicroCents: microCents,
  usedMicroCents: microCents,
  resetsAt: maybe(unixMs),
});
const meters = z.object({ fiveHour: maybe(meter), week: maybe(meter), month: maybe(meter) });
const goStatus = z.object({
  useBalance: anything,
  access: maybe(z.object({ endsAt: maybe(unixMs), meters: maybe(meters) })),
});

/** `go/status`: the plan's windows in dollars. They need not agree with the percent that the API key's route tells. */
export function readGoStatus(json: unknown): GoPlan | undefined {
  const stated = read(goStatus, json, 'product');
  if (!stated) return undefined;
  const { access, useBalance } = stated;
  const quotas = GO_METERS.flatMap(([name, window]): Quota[] => {
    const read = access?.meters?.[name];
    if (!read) return [];
    const { limitMicroCents: limit, usedMicroCents: used } = read;
    const resetMs = read.resetsAt ?? (name === 'month' ? access?.endsAt : undefined);
    const usd = (nano: Nano) => nano / NANO_PER_USD;
    return [
      {
        ...{ quota: 'go_usd', window, unit: 'usd', limit: usd(limit), used: usd(used), remaining: usd(limit - used) },
        ...(limit > 0 ? { usedRatio: Math.min(1, Math.max(0, used / limit)) } : {}),
        ...present({ resetMs }),
      },
    ];
  });
  return { hasPlan: access !== undefined, drawsOnBalance: useBalance === true, quotas };
}
