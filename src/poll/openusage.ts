// A snapshot of OpenUsage, or of any poller that speaks its form, as a reading: its metrics under typed families.

import type { SnapshotMetric, SnapshotModel, UsageSnapshot } from '../turn/decoded.ts';
import { present } from '../turn/fields.ts';
import { nanoOf } from './money.ts';
import {
  BALANCES,
  NO_WINDOW,
  PEAK_LIMITS,
  RULES,
  type Target,
  TOKEN_TYPES,
  type Unit,
  unitOf,
  windowOf,
} from './openusage-families.ts';
import type {
  Balance,
  Facts,
  Nano,
  Plan,
  PollResult,
  Quota,
  Reload,
  ReportedCost,
  ReportedTokens,
  ReportedValue,
  SpendLimit,
} from './poll-result.ts';
import { EXPIRES_AFTER_INTERVALS } from './poll-result.ts';
import { standingOf } from './standing.ts';

/** A daemon repeats an unchanged snapshot; one that was older than this when it was sent is not what it knows now. */
const REPEATED_MAX_MS = 86_400_000;
/** More than any provider tells; each becomes a few series. */
const QUOTAS_MAX = 100;
const VALUES_MAX = 150;
const MODELS_MAX = 50;
const OTHER = 'other';
const AUTH_SCOPE = /^[a-z][a-z+_]{0,31}$/;
/**
 * OpenUsage before it was mended divided OpenCode's limits by 1e8, though they are whole dollars: 20 USD came as 2e-7.
 * No limit is that small.
 */
const MISDIVIDED = {
  provider: 'opencode',
  keys: ['monthly_limit', 'reload_amount', 'reload_trigger'],
  by: 1e8,
  below: 1e-4,
};

export interface SnapshotReceipt {
  readonly receivedMs: number;
  /** When it was sent, by the sender's clock: how old the snapshot was then does not depend on whose clock is right. */
  readonly sentMs?: number;
  /** How often it is sent; it is shown for three times this. */
  readonly intervalMs: number;
  readonly machine?: string;
}

/** One metric with what is known of it. */
interface Metric extends SnapshotMetric {
  readonly key: string;
  readonly measured: Unit;
  readonly period: string;
  readonly resetMs?: number;
}

/**
 * Reads a snapshot. Its state is the stated one, or a worse one where its own numbers show it.
 * @returns the reading, and how many of its values came in a wrong unit and were corrected
 */
export function readSnapshot(
  snapshot: UsageSnapshot,
  receipt: SnapshotReceipt,
): { readonly result: PollResult; readonly unitCorrections: number } {
  const { provider, account, takenMs, attributes } = snapshot;
  const { receivedMs, sentMs = receivedMs, intervalMs, machine } = receipt;
  const corrected = correctUnits(snapshot);
  const facts = factsOf(corrected.snapshot);
  const isCurrent = Math.abs(sentMs - takenMs) <= REPEATED_MAX_MS;
  const authScope = attributes.auth_scope && AUTH_SCOPE.test(attributes.auth_scope) ? attributes.auth_scope : undefined;
  const result: PollResult = {
    ...{ provider, account, takenMs, status: statusOf(snapshot, facts) },
    statusHoldsMs: EXPIRES_AFTER_INTERVALS * intervalMs + (isCurrent ? Math.max(0, receivedMs - takenMs) : 0),
    message: `Reported by ${machine ?? 'another poller'}`,
    ...present({ authScope, machine }),
    readings: [{ route: 'reported', readMs: isCurrent ? receivedMs : takenMs, intervalMs, facts }],
  };
  return { result, unitCorrections: corrected.count };
}

function statusOf({ status }: UsageSnapshot, facts: Facts): PollResult['status'] {
  if (status !== 'ok' && status !== 'near_limit') return status;
  const shown = standingOf([facts]);
  return shown === 'ok' ? status : shown === 'limited' ? shown : 'near_limit';
}

function correctUnits(snapshot: UsageSnapshot): { snapshot: UsageSnapshot; count: number } {
  if (snapshot.provider !== MISDIVIDED.provider) return { snapshot, count: 0 };
  let count = 0;
  const entries = Object.entries(snapshot.metrics).map(([key, metric]): [string, SnapshotMetric] => {
    const { limit = 0, remaining: _misdivided, ...others } = metric;
    if (!MISDIVIDED.keys.includes(key) || limit <= 0 || limit >= MISDIVIDED.below) return [key, metric];
    count += 1;
    const whole = Math.round(limit * MISDIVIDED.by);
    return [key, { ...others, limit: whole, ...(others.used === undefined ? {} : { remaining: whole - others.used }) }];
  });
  return { snapshot: { ...snapshot, metrics: Object.fromEntries(entries) }, count };
}

function factsOf({ provider, metrics, resets, attributes, models }: UsageSnapshot): Facts {
  const collected = new Collected(PEAK_LIMITS.includes(provider));
  const all = Object.entries(metrics).map(([key, metric]): Metric => {
    const resetMs = resets[key] ?? resets[`${key}_reset`];
    const measured = unitOf(metric.unit);
    return { ...metric, key, measured, period: windowOf(metric.window), ...present({ resetMs }) };
  });
  const balance = collected.addBalance(all);
  // In the order of the rules, so that of two keys that mean the same the one named first counts.
  for (const { key: pattern, money, of, to } of RULES) {
    if (of && !of.includes(provider)) continue;
    for (const metric of all) {
      if (money !== undefined && money !== (metric.measured.currency !== undefined)) continue;
      const caught = pattern.exec(metric.key);
      if (caught) collected.add(to, metric === balance ? withoutRemaining(metric) : metric, caught);
    }
  }
  collected.addModels(models);
  return collected.facts(planOf(attributes), Number(attributes.available_models_count));
}

/** What of a balance is not the balance itself. */
function withoutRemaining({ remaining: _, ...metric }: Metric): Metric {
  return metric;
}

function planOf(attributes: UsageSnapshot['attributes']): Plan | undefined {
  const { plan, plan_name, plan_type, subscription_plan, tier, subscription, subscription_status } = attributes;
  const name = [plan, plan_name, plan_type, subscription_plan, tier].find((each) => each);
  const state = subscription ?? subscription_status;
  const isSubscribed = state === undefined ? undefined : state.toLowerCase() === 'active';
  return name || isSubscribed !== undefined ? present({ name, isSubscribed }) : undefined;
}

/** The facts of one snapshot. A metric goes to one family, and each label set of a family is filled once. */
class Collected {
  readonly #isPeak: boolean;
  readonly #done = new Set<string>();
  readonly #labelSets = new Set<string>();
  readonly #balances: Balance[] = [];
  readonly #limits = new Map<string, SpendLimit>();
  #reload: Reload | undefined;
  readonly #quotas: Quota[] = [];
  readonly #costs: ReportedCost[] = [];
  readonly #tokens: ReportedTokens[] = [];
  readonly #values: ReportedValue[] = [];
  #modelsAvailable: number | undefined;

  /** @param isPeak limits are the highest balances ever seen, and so none */
  constructor(isPeak: boolean) {
    this.#isPeak = isPeak;
  }

  /** @returns the metric that is the account's balance */
  addBalance(metrics: readonly Metric[]): Metric | undefined {
    for (const { key, kind } of BALANCES) {
      const metric = metrics.find((each) => each.key === key);
      const currency = metric?.measured.currency;
      const nano = nanoOf(metric?.remaining);
      if (!metric || currency === undefined || nano === undefined) continue;
      this.#balances.push({ kind, currency, nano });
      return metric;
    }
    return undefined;
  }

  add(to: Target, stated: Metric, caught: readonly string[]): void {
    if (this.#done.has(stated.key)) return;
    const { limit: _peak, used: _belowPeak, ...unlimited } = stated;
    const metric: Metric = this.#isPeak && stated.measured.currency ? unlimited : stated;
    if (this.#addAs(to, metric, caught)) this.#done.add(stated.key);
  }

  /** @returns whether the metric has found its family */
  #addAs(to: Target, metric: Metric, caught: readonly string[]): boolean {
    const named = (name: string) => name.replace(/\$(\d)/, (_, index: string) => caught[Number(index)] ?? '');
    switch (to.as) {
      case 'limit':
        return this.#addLimit(to, metric);
      case 'reload':
        return this.#addReload(to.side, metric);
      case 'quota':
        return this.#addQuota({ ...to, quota: named(to.quota) }, metric);
      case 'cost':
        return this.#addCost({ window: to.window, ...money(metric) });
      case 'tokens': {
        const type = named(to.type);
        // Some keys say "today" and hold what was used in another window, which the metric itself names.
        const window = metric.period === NO_WINDOW ? to.window : metric.period;
        return this.#addTokens({ window, tokenType: TOKEN_TYPES[type] ?? type }, metric.used);
      }
      case 'models':
        this.#modelsAvailable = metric.used;
        return true;
      case 'value':
        this.#addValues(metric);
        return true;
    }
  }

  /** The first to state a side of a limit is believed: a limit's own row before the row of its use. */
  #addLimit({ limit, isLifetime }: Extract<Target, { as: 'limit' }>, metric: Metric): boolean {
    const { currency } = metric.measured;
    const limitNano = nanoOf(metric.limit);
    const remaining = nanoOf(metric.remaining);
    const derived = limitNano !== undefined && remaining !== undefined ? limitNano - remaining : undefined;
    const usedNano = nanoOf(metric.used) ?? derived;
    if (currency === undefined || (limitNano === undefined && usedNano === undefined)) return false;
    const known = this.#limits.get(limit);
    if (known && known.currency !== currency) return false;
    const { resetMs } = metric;
    const lifetime = isLifetime ? ({ isLifetime } as const) : {};
    this.#limits.set(limit, { limit, currency, ...present({ limitNano, usedNano, resetMs }), ...lifetime, ...known });
    return true;
  }

  #addReload(side: 'trigger' | 'amount', metric: Metric): boolean {
    const { currency } = metric.measured;
    const nano = nanoOf(metric.limit ?? metric.used ?? metric.remaining);
    if (currency === undefined || nano === undefined || (this.#reload && this.#reload.currency !== currency))
      return false;
    this.#reload = {
      currency,
      ...this.#reload,
      ...(side === 'trigger' ? { triggerNano: nano } : { amountNano: nano }),
    };
    return true;
  }

  #addQuota(to: Extract<Target, { as: 'quota' }>, metric: Metric): boolean {
    const { quota, window = metric.period, isRateLimit } = to;
    const { unit, times } = metric.measured;
    const amounts = present({
      limit: scaled(metric.limit, times),
      used: scaled(metric.used, times),
      remaining: scaled(metric.remaining, times),
    });
    if (Object.keys(amounts).length === 0 || this.#quotas.length >= QUOTAS_MAX) return true;
    if (!this.#isFirst('quota', quota, window, unit)) return false;
    // A share and an end there is one of for a window, whatever it is counted in.
    const isShareFree = this.#isFirst('share', quota, window);
    const shares = isShareFree ? present({ usedRatio: usedRatioOf(metric), resetMs: metric.resetMs }) : {};
    this.#quotas.push({ quota, window, unit, ...amounts, ...shares, ...(isRateLimit ? { isRateLimit } : {}) });
    return true;
  }

  #addCost({ nano, ...labels }: Omit<ReportedCost, 'nano' | 'currency'> & { nano?: Nano; currency?: string }): boolean {
    const { window, currency, model = '' } = labels;
    if (currency === undefined || nano === undefined || !this.#isFirst('cost', window, currency, model)) return false;
    this.#costs.push({ ...labels, currency, nano });
    return true;
  }

  #addTokens(labels: Omit<ReportedTokens, 'tokens'>, tokens: number | undefined): boolean {
    const { window, tokenType, model = '' } = labels;
    if (tokens === undefined || tokens < 0 || !this.#isFirst('tokens', window, tokenType, model)) return false;
    this.#tokens.push({ ...labels, tokens });
    return true;
  }

  #addValues({ key: metric, measured: { unit, times }, period: window, ...stated }: Metric): void {
    for (const field of ['used', 'limit', 'remaining'] as const) {
      const value = scaled(stated[field], times);
      if (value === undefined || this.#values.length >= VALUES_MAX) continue;
      this.#values.push({ metric, field, unit, window, value });
    }
  }

  /** What each model cost and used: the dearest by name, the rest under `other`. */
  addModels(rows: readonly SnapshotModel[]): void {
    const sums = Map.groupBy(rows, ({ model }) => model);
    const weight = (of: readonly SnapshotModel[]) => sumOf(of, 'cost_usd') ?? 0;
    const size = (of: readonly SnapshotModel[]) => (sumOf(of, 'input_tokens') ?? 0) + (sumOf(of, 'output_tokens') ?? 0);
    const ranked = [...sums].sort(([, a], [, b]) => weight(b) - weight(a) || size(b) - size(a));
    const shown = new Set(ranked.slice(0, MODELS_MAX).map(([model]) => model));
    const groups = Map.groupBy(rows, ({ model, window }) =>
      JSON.stringify([shown.has(model) ? model : OTHER, windowOf(window)]),
    );
    for (const [key, group] of groups) {
      const [model, window] = JSON.parse(key) as [string, string];
      const nano = nanoOf(sumOf(group, 'cost_usd'));
      if (nano !== undefined) this.#addCost({ window, model, nano, currency: 'USD' });
      for (const tokenType of ['input', 'output', 'reasoning', 'cached'] as const) {
        this.#addTokens({ window, model, tokenType }, sumOf(group, `${tokenType}_tokens`));
      }
    }
  }

  facts(plan: Plan | undefined, modelsStated: number): Facts {
    const isCount = Number.isSafeInteger(modelsStated) && modelsStated >= 0;
    const some = <T>(list: readonly T[]) => (list.length > 0 ? list : undefined);
    return present({
      balances: some(this.#balances),
      spendLimits: some([...this.#limits.values()]),
      reload: this.#reload,
      quotas: some(this.#quotas),
      modelsAvailable: this.#modelsAvailable ?? (isCount ? modelsStated : undefined),
      reportedCosts: some(this.#costs),
      reportedTokens: some(this.#tokens),
      reportedValues: some(this.#values),
      plan,
    });
  }

  #isFirst(...labels: readonly string[]): boolean {
    const key = JSON.stringify(labels);
    if (this.#labelSets.has(key)) return false;
    this.#labelSets.add(key);
    return true;
  }
}

function sumOf(
  rows: readonly SnapshotModel[],
  field: Exclude<keyof SnapshotModel, 'model' | 'window'>,
): number | undefined {
  const stated = rows.flatMap((row) => row[field] ?? []);
  return stated.length > 0 ? finite(stated.reduce((sum, value) => sum + value, 0)) : undefined;
}

function money({ measured: { currency }, used }: Metric): { nano?: Nano; currency?: string } {
  return present({ currency, nano: nanoOf(used) });
}

/** In the unit's own size, without the noise of a multiplication. */
function scaled(value: number | undefined, times: number): number | undefined {
  return value === undefined ? undefined : times === 1 ? value : finite(Number((value * times).toPrecision(12)));
}

/** What is too large for a number is not known. */
function finite(value: number): number | undefined {
  return Number.isFinite(value) ? value : undefined;
}

/** Used share, 0..1; undefined where the numbers do not tell. */
function usedRatioOf({ measured: { unit }, limit, used, remaining }: Metric): number | undefined {
  const share =
    unit === 'percent' && used !== undefined
      ? used / 100
      : limit === undefined || limit <= 0
        ? undefined
        : remaining !== undefined
          ? (limit - remaining) / limit
          : used === undefined
            ? undefined
            : used / limit;
  return share === undefined ? undefined : Math.min(1, Math.max(0, Number(share.toPrecision(12))));
}
