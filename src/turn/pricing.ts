// Whether a turn's cost is known. Agents state 0 for subscriptions, free models and unpriced models alike, so 0 proves
// nothing: only a rule says free or included, and what no rule knows stays unknown.

import type { PricingRule } from '../config.ts';
import { matchesGlob } from './glob.ts';
import { type PricingState, TOKEN_TYPES, type TokenCounts, type TokenType } from './turn-event.ts';

/** Prices are kept as integers of 1e-12 USD per million tokens, so that decimals such as 0.0375 lose nothing. */
export const PRICE_DECIMALS = 12;
/** What such an integer times tokens must be divided by to give nano-USD: 1e12 · 1e6 / 1e9. */
const PER_NANO = 10n ** BigInt(PRICE_DECIMALS + 6 - 9);

/** Programs on the user's own host: nobody sends a bill. */
const OWN_HOSTS = 'ollama lmstudio lm-studio llama.cpp llama-cpp llamacpp vllm local localhost* 127.0.0.1*'.split(' ');
/** Plans with a flat price, by the ids that models.dev gives them. */
const SUBSCRIPTIONS = [
  ...['opencode-go', 'github-copilot', 'kimi-for-coding', 'kimi-code-plan-*', '*-step-plan'],
  ...['*-coding-plan', '*-coding-plan-*', '*-token-plan', '*-token-plan-*'],
];

type Rule = {
  readonly provider: string;
  readonly model: string;
  readonly state: PricingState;
  /** By the size of the context above which they hold, the largest first; the last one always holds. */
  readonly prices?: readonly PriceTier[];
};

/** What is true without being configured. The first match counts, and every configured rule comes before these. */
const BUILT_IN_RULES: readonly Rule[] = [
  { provider: 'opencode', model: '*-free', state: 'free' },
  { provider: '*', model: '*:free', state: 'free' },
  // A local Ollama passes its cloud models on to a plan.
  { provider: 'ollama', model: '*cloud', state: 'included' },
  ...OWN_HOSTS.map((provider): Rule => ({ provider, model: '*', state: 'free' })),
  ...SUBSCRIPTIONS.map((provider): Rule => ({ provider, model: '*', state: 'included' })),
];

export interface PricedTurn {
  readonly provider: string;
  readonly model: string;
  readonly tokens: TokenCounts;
  /** As the agent stated it, in nano-USD. */
  readonly costNano?: number | undefined;
}

export interface Price {
  readonly state: PricingState;
  /** In nano-USD, an integer; present exactly when the state is `estimated`. */
  readonly estimatedNano?: number;
}

const STATED: Price = Object.freeze({ state: 'stated' });

/** A price in USD as an exact integer of `PRICE_DECIMALS` decimals; what lies beyond them is cut off. */
function exact(usd: number): bigint {
  // The shortest text that reads back as the same number is the decimal that a person wrote.
  const [mantissa = '0', exponent = '0'] = String(usd).split('e');
  const [whole = '0', fraction = ''] = mantissa.split('.');
  const shift = PRICE_DECIMALS - fraction.length + Number(exponent);
  const digits = BigInt(whole + fraction);
  return shift >= 0 ? digits * 10n ** BigInt(shift) : digits / 10n ** BigInt(-shift);
}

type TokenPrices = Readonly<Record<TokenType, bigint>>;

interface PriceTier {
  readonly aboveTokens: number;
  readonly prices: TokenPrices;
}

type StatedPrices = NonNullable<PricingRule['usd_per_million_tokens']>;

function priceTiers({ above = [], ...base }: StatedPrices): PriceTier[] {
  const tiers = above.map(({ context_tokens: aboveTokens, ...usd }) => ({ aboveTokens, prices: tokenPrices(usd) }));
  // Below 0, so that a turn without any context has a price, too.
  return [...tiers.sort((a, b) => b.aboveTokens - a.aboveTokens), { aboveTokens: -1, prices: tokenPrices(base) }];
}

/** The prices of a turn of this context, which is all that the model was given: one tier is for the whole turn. */
function pricesFor({ input, cache_read, cache_write }: TokenCounts, tiers: readonly PriceTier[]): TokenPrices {
  const contextTokens = input + cache_read + cache_write;
  return tiers.find(({ aboveTokens }) => contextTokens > aboveTokens)!.prices;
}

function tokenPrices(usd: Omit<StatedPrices, 'above'>): TokenPrices {
  return {
    input: exact(usd.input),
    output: exact(usd.output),
    reasoning: exact(usd.reasoning ?? usd.output),
    cache_read: exact(usd.cache_read ?? usd.input),
    cache_write: exact(usd.cache_write ?? usd.input),
  };
}

/** Rounded once, at the end, half up. */
function estimateNano(tokens: TokenCounts, prices: TokenPrices): number {
  const sum = TOKEN_TYPES.reduce((total, type) => total + BigInt(tokens[type]) * prices[type], 0n);
  return Number((sum + PER_NANO / 2n) / PER_NANO);
}

const toRule = ({ provider, model, state, usd_per_million_tokens: usd }: PricingRule): Rule => ({
  ...{ provider, model, state },
  ...(usd && { prices: priceTiers(usd) }),
});

/** Rules of which the first match counts. A list of prices has thousands, nearly all for one model: those are looked up. */
class RuleBook {
  readonly #rules: readonly Rule[];
  readonly #whole = new Map<string, number>();
  readonly #globs: number[] = [];

  constructor(rules: readonly Rule[]) {
    this.#rules = rules;
    rules.forEach((rule, at) => {
      const key = wholeKey(rule);
      if (rule.provider.includes('*') || rule.model.includes('*')) this.#globs.push(at);
      else if (!this.#whole.has(key)) this.#whole.set(key, at);
    });
  }

  find(turn: PricedTurn): Rule | undefined {
    const whole = this.#whole.get(wholeKey(turn)) ?? this.#rules.length;
    const glob = this.#globs.find((at) => {
      const rule = this.#rules[at]!;
      return at > whole || (matchesGlob(rule.provider, turn.provider) && matchesGlob(rule.model, turn.model));
    });
    return this.#rules[Math.min(whole, glob ?? whole)];
  }
}

const wholeKey = ({ provider, model }: { provider: string; model: string }) => `${provider}\n${model}`.toLowerCase();

/** Decides how turns are paid, by what the agent stated, by the `pricing:` configuration and by a short built-in list. */
export class Pricing {
  readonly #rules: RuleBook;

  /**
   * @param rules as configured, the first match counts
   * @param priceList prices by model, looked at last: they do not know of the user's plans
   */
  constructor(rules: readonly PricingRule[], priceList: readonly PricingRule[] = []) {
    this.#rules = new RuleBook([...rules.map(toRule), ...BUILT_IN_RULES, ...priceList.map(toRule)]);
  }

  /**
   * How a turn was paid. A stated cost above 0 stands; anything else is decided by the rules, and without a match it
   * is `unknown`. Token counts must be integers ≥ 0.
   */
  price(turn: PricedTurn): Price {
    if (turn.costNano !== undefined && turn.costNano > 0) return STATED;
    const rule = this.#rules.find(turn);
    if (!rule) return { state: 'unknown' };
    if (!rule.prices) return { state: rule.state };
    return { state: 'estimated', estimatedNano: estimateNano(turn.tokens, pricesFor(turn.tokens, rule.prices)) };
  }
}
