// The accounts of the demonstration: what their providers would say of them, from what its turns cost.

import type { AccountStatus, Facts, PollResult, Quota } from '../poll/poll-result.ts';
import { standingOf } from '../poll/standing.ts';
import type { StatedTurn } from '../turn/turn-event.ts';

const NANO = 1e9;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const WINDOW_MS = { '5h': 5 * HOUR_MS, '7d': 7 * DAY_MS } as const;
const CNY_PER_USD = 7.2;
const EUR_PER_USD = 0.86;
/** How often these accounts are read. */
export const READ_EVERY_MS = 60_000;

/** The accounts that turns are labelled with. */
export const DEMO_ACCOUNTS: readonly { readonly provider: string; readonly id: string; readonly foundIn: string }[] = [
  ...['claude_code', 'codex', 'copilot', 'deepseek', 'mistral', 'moonshot', 'opencode', 'openrouter'],
].map((provider) => ({ provider, id: 'team', foundIn: 'the demonstration' }));

/** Money that drains, and is topped up by itself where that is switched on. */
class Purse {
  nano: number;
  readonly #reload: { readonly below: number; readonly by: number } | undefined;

  constructor(usd: number, reload?: { readonly below: number; readonly by: number }) {
    this.nano = usd * NANO;
    this.#reload = reload;
  }

  spend(nano: number): void {
    this.nano -= nano;
    if (this.#reload && this.nano < this.#reload.below * NANO) this.nano += this.#reload.by * NANO;
  }
}

const OPENCODE_RELOAD = { below: 10, by: 40 };

/** Follows the turns, and says at any time what each provider would answer. */
export class DemoAccounts {
  readonly #purses = {
    opencode: new Purse(60, OPENCODE_RELOAD),
    // Enough for a month, with little left at its end: the demonstration is to show what that looks like.
    deepseek: new Purse(5.6),
    moonshot: new Purse(40),
    openrouter: new Purse(25, { below: 2, by: 20 }),
  };
  /** Cost in nano-USD and tokens, by provider and UTC hour. */
  readonly #hours = new Map<string, { costNano: number; tokens: number }>();
  readonly #keptMs: number;

  constructor(keptMs = 62 * DAY_MS) {
    this.#keptMs = keptMs;
  }

  /** Takes what a turn cost. */
  spend({ provider, costNano = 0, completedMs = 0, tokens }: StatedTurn): void {
    const purses: Readonly<Record<string, Purse>> = this.#purses;
    purses[provider]?.spend(costNano);
    const hour = Math.floor(completedMs / HOUR_MS);
    const key = `${provider} ${hour}`;
    const sum = this.#hours.get(key) ?? { costNano: 0, tokens: 0 };
    sum.costNano += costNano;
    sum.tokens += tokens.input + tokens.output + tokens.reasoning;
    this.#hours.set(key, sum);
    this.#hours.delete(`${provider} ${hour - Math.ceil(this.#keptMs / HOUR_MS)}`);
  }

  /** What a poll of every account would find at `atMs`. */
  read(atMs: number): PollResult[] {
    return [
      this.#result('claude_code', atMs, this.#claude(atMs)),
      this.#result('codex', atMs, this.#codex(atMs)),
      this.#result('copilot', atMs, {}, 'auth_required'),
      this.#result('deepseek', atMs, this.#deepseek()),
      this.#result('mistral', atMs, this.#mistral(atMs)),
      this.#result('moonshot', atMs, this.#moonshot()),
      this.#result('opencode', atMs, this.#opencode(atMs)),
      this.#result('openrouter', atMs, this.#openrouter(atMs)),
    ];
  }

  #result(provider: string, atMs: number, facts: Facts, status: AccountStatus = standingOf([facts])): PollResult {
    return {
      ...{ provider, account: 'team', takenMs: atMs, status, statusHoldsMs: 3 * READ_EVERY_MS },
      message: 'Made up for the demonstration',
      readings: status === 'auth_required' ? [] : [{ route: 'demo', readMs: atMs, intervalMs: READ_EVERY_MS, facts }],
    };
  }

  #claude(atMs: number): Facts {
    const spent = (sinceMs: number) => this.#costSince('anthropic', sinceMs, atMs) / NANO;
    return {
      plan: { name: 'Max 20x', isSubscribed: true },
      quotas: [
        share('usage', '5h', atMs, (sinceMs) => spent(sinceMs) / 5),
        share('usage', '7d', atMs, (sinceMs) => spent(sinceMs) / 60),
      ],
    };
  }

  #codex(atMs: number): Facts {
    const used = (sinceMs: number) => this.#tokensSince('openai', sinceMs, atMs) / 1e6;
    return {
      plan: { name: 'Pro', isSubscribed: true },
      quotas: [
        share('primary', '5h', atMs, (sinceMs) => used(sinceMs) / 0.35),
        share('secondary', '7d', atMs, (sinceMs) => used(sinceMs) / 2),
      ],
    };
  }

  #deepseek(): Facts {
    const nano = Math.round(this.#purses.deepseek.nano * CNY_PER_USD);
    return {
      balances: [{ kind: 'total', currency: 'CNY', nano }],
      reload: { currency: 'CNY', triggerNano: 10 * NANO, amountNano: 50 * NANO, isEnabled: false },
    };
  }

  #mistral(atMs: number): Facts {
    const { startMs, endMs } = monthOf(atMs);
    const usedNano = Math.round(this.#costSince('mistral', startMs, atMs) * EUR_PER_USD);
    return { spendLimits: [{ limit: 'monthly', currency: 'EUR', limitNano: 5 * NANO, usedNano, resetMs: endMs }] };
  }

  #moonshot(): Facts {
    return { balances: [{ kind: 'available', currency: 'USD', nano: this.#purses.moonshot.nano }] };
  }

  #opencode(atMs: number): Facts {
    const { startMs, endMs } = monthOf(atMs);
    const spent = (sinceMs: number) => this.#costSince('opencode', sinceMs, atMs);
    const go = (window: keyof typeof WINDOW_MS, usd: number): Quota[] => {
      const percent = share('go', window, atMs, (sinceMs) => (spent(sinceMs) * 0.4) / NANO / usd);
      const used = Math.round((percent.usedRatio ?? 0) * usd * 100) / 100;
      const { usedRatio: _, ...rest } = percent;
      return [percent, { ...rest, quota: 'go_usd', unit: 'usd', limit: usd, used, remaining: usd - used }];
    };
    return {
      balances: [{ kind: 'console', currency: 'USD', nano: this.#purses.opencode.nano }],
      spendLimits: [
        { limit: 'monthly', currency: 'USD', limitNano: 250 * NANO, usedNano: spent(startMs), resetMs: endMs },
      ],
      reload: {
        currency: 'USD',
        triggerNano: OPENCODE_RELOAD.below * NANO,
        amountNano: OPENCODE_RELOAD.by * NANO,
        isEnabled: true,
        isFailing: false,
      },
      quotas: [...go('5h', 12), ...go('7d', 30)],
      modelsAvailable: 41,
    };
  }

  #openrouter(atMs: number): Facts {
    const day = this.#costSince('openrouter', atMs - DAY_MS, atMs);
    const week = this.#costSince('openrouter', atMs - 7 * DAY_MS, atMs);
    return {
      balances: [{ kind: 'credit', currency: 'USD', nano: this.#purses.openrouter.nano }],
      reportedCosts: [
        { window: '1d', currency: 'USD', nano: day },
        { window: '7d', currency: 'USD', nano: week },
      ],
      reportedValues: [
        { metric: 'keys_active', field: 'used', unit: 'keys', window: 'current', value: 3 },
        {
          metric: 'burn_rate',
          field: 'used',
          unit: 'usd_per_hour',
          window: '1h',
          value: Math.round(day / NANO / 0.24) / 100,
        },
      ],
    };
  }

  #costSince(provider: string, sinceMs: number, atMs: number): number {
    return this.#since(provider, sinceMs, atMs, 'costNano');
  }

  #tokensSince(provider: string, sinceMs: number, atMs: number): number {
    return this.#since(provider, sinceMs, atMs, 'tokens');
  }

  #since(provider: string, sinceMs: number, atMs: number, what: 'costNano' | 'tokens'): number {
    let sum = 0;
    for (let hour = Math.ceil(sinceMs / HOUR_MS); hour <= Math.floor(atMs / HOUR_MS); hour++) {
      sum += this.#hours.get(`${provider} ${hour}`)?.[what] ?? 0;
    }
    return sum;
  }
}

/** A window that starts anew every so many hours, in percent; full when more was used than it holds. */
function share(
  quota: string,
  window: keyof typeof WINDOW_MS,
  atMs: number,
  ratioSince: (sinceMs: number) => number,
): Quota {
  const lengthMs = WINDOW_MS[window];
  const startMs = Math.floor(atMs / lengthMs) * lengthMs;
  const usedRatio = Math.min(1, Math.round(ratioSince(startMs) * 100) / 100);
  const used = Math.round(usedRatio * 100);
  return {
    ...{ quota, window, unit: 'percent', limit: 100, used, remaining: 100 - used, usedRatio },
    resetMs: startMs + lengthMs,
  };
}

function monthOf(atMs: number): { startMs: number; endMs: number } {
  const at = new Date(atMs);
  return {
    startMs: Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), 1),
    endMs: Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + 1, 1),
  };
}
