import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { PricingRule } from '../../src/config.ts';
import { matchesGlob } from '../../src/turn/glob.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import { NO_TOKENS, TOKEN_TYPES, type TokenCounts } from '../../src/turn/turn-event.ts';

const TOKENS: TokenCounts = { input: 1000, output: 200, reasoning: 50, cache_read: 4000, cache_write: 30 };
type Usd = NonNullable<PricingRule['usd_per_million_tokens']>;
const estimated = (usd: Usd, where: { provider?: string; model?: string } = {}): PricingRule => ({
  provider: '*',
  model: '*',
  ...where,
  state: 'estimated',
  usd_per_million_tokens: usd,
});
const told = (state: 'free' | 'included', where: { provider?: string; model?: string }): PricingRule => ({
  provider: '*',
  model: '*',
  ...where,
  state,
});

describe('pricing states', () => {
  const rules = [
    told('free', { provider: 'corp', model: 'Lab/*' }),
    told('included', { provider: 'corp' }),
    estimated({ input: 1, output: 2 }, { provider: 'PRICED*' }),
    told('free', { provider: 'priced' }),
  ];
  const pricing = new Pricing(rules);
  for (const [provider, model, costNano, state] of [
    ['openai', 'gpt-5', 1, 'stated'],
    ['ollama', 'qwen3', 1, 'stated'],
    ['corp', 'lab/x/y', 5, 'stated'],
    ['corp', 'lab/x/y', 0, 'free'],
    ['CORP', 'LAB/x', undefined, 'free'],
    ['corp', 'other', undefined, 'included'],
    ['priced', 'x', 0, 'estimated'],
    ['priced-too', 'x', undefined, 'estimated'],
    ['opencode', 'glm-4.7-free', 0, 'free'],
    ['opencode', 'freeform', 0, 'unknown'],
    ['opencode', 'big-pickle', 0, 'unknown'],
    ['corp-proxy', 'glm-4.7-free', 0, 'unknown'],
    ['openrouter', 'z-ai/glm-4.5-air:free', 0, 'free'],
    ['openrouter', 'z-ai/glm-4.5-air', 0, 'unknown'],
    ['ollama', 'qwen3:30b', 0, 'free'],
    ['ollama', 'gpt-oss:120b-cloud', 0, 'included'],
    ['ollama-cloud', 'gpt-oss:120b', 0, 'unknown'],
    ['lmstudio', 'x', 0, 'free'],
    ['llama.cpp', 'x', undefined, 'free'],
    ['vllm', 'x', 0, 'free'],
    ['localhost:8080', 'x', 0, 'free'],
    ['opencode-go', 'kimi-k2.5', 0, 'included'],
    ['opencode-go', 'omen-alpha-free', 0, 'included'],
    ['github-copilot', 'gpt-5', 0, 'included'],
    ['zai-coding-plan', 'glm-4.6', 0, 'included'],
    ['alibaba-coding-plan-cn', 'qwen3', 0, 'included'],
    ['zai', 'glm-4.6', 0, 'unknown'],
    ['openai', 'gpt-5', undefined, 'unknown'],
  ] as const) {
    it(`${provider} · ${model} · ${costNano ?? 'no'} nano-USD stated → ${state}`, () => {
      const price = pricing.price({ provider, model, tokens: TOKENS, costNano });
      assert.equal(price.state, state);
      assert.equal('estimatedNano' in price, state === 'estimated');
    });
  }

  it('lets a configured rule go before a built-in one', () => {
    const own = new Pricing([estimated({ input: 3, output: 15 }, { provider: 'github-copilot' })]);
    assert.equal(own.price({ provider: 'github-copilot', model: 'm', tokens: TOKENS }).state, 'estimated');
  });

  it('knows nothing about a turn without tokens and without a rule', () => {
    assert.deepEqual(new Pricing([]).price({ provider: 'openai', model: 'gpt-5', tokens: NO_TOKENS, costNano: 0 }), {
      state: 'unknown',
    });
  });
});

describe('estimated cost', () => {
  const nano = (usd: Usd, tokens: Partial<TokenCounts>) =>
    new Pricing([estimated(usd)]).price({ provider: 'p', model: 'm', tokens: { ...NO_TOKENS, ...tokens } })
      .estimatedNano;

  for (const [title, usd, tokens, expected] of [
    ['one USD a million is 1000 nano-USD a token', { input: 1, output: 0 }, { input: 1 }, 1000],
    [
      'all prices given',
      { input: 3, output: 15, reasoning: 10, cache_read: 0.3, cache_write: 3.75 },
      TOKENS,
      7_812_500,
    ],
    ['reasoning costs what output costs, the cache what input costs', { input: 3, output: 15 }, TOKENS, 18_840_000],
    [
      'a price of 0 is a price',
      { input: 3, output: 15, reasoning: 0, cache_read: 0, cache_write: 0 },
      TOKENS,
      6_000_000,
    ],
    ['no tokens cost nothing', { input: 3, output: 15 }, {}, 0],
    ['0.0375', { input: 0.0375, output: 0 }, { input: 2 }, 75],
    ['just above a half rounds up', { input: 0.000_000_51, output: 0 }, { input: 1000 }, 1],
    ['a half rounds up', { input: 0.0005, output: 0 }, { input: 1 }, 1],
    ['below a half rounds down', { input: 0.0004, output: 0 }, { input: 1 }, 0],
    // Each part alone rounds to nothing; their sum is one whole nano-USD.
    ['rounds the sum, not the parts', { input: 0.0004, output: 0.0006 }, { input: 1, output: 1 }, 1],
    ['a price in exponent notation', { input: 1e-7, output: 0 }, { input: 1e10 }, 1_000_000],
    [
      'more digits than a float keeps',
      { input: 123_456.789_01, output: 0 },
      { input: 10_000_001 },
      1_234_568_013_556_789,
    ],
    ['a price beyond 12 decimals is nothing', { input: 1e-13, output: 0 }, { input: 9e15 }, 0],
  ] as const) {
    it(title, () => assert.equal(nano(usd, tokens), expected));
  }

  it('is exact for every price with up to six decimals', () => {
    const micros = fc.integer({ min: 0, max: 1_000_000_000 });
    const count = fc.integer({ min: 0, max: 2_000_000_000 });
    fc.assert(
      fc.property(
        fc.tuple(micros, micros, micros, micros, micros),
        fc.tuple(count, count, count, count, count),
        (m, n) => {
          const usd = Object.fromEntries(TOKEN_TYPES.map((type, i) => [type, m[i]! / 1e6])) as unknown as Usd;
          const tokens = Object.fromEntries(TOKEN_TYPES.map((type, i) => [type, n[i]!])) as unknown as TokenCounts;
          const thousandths = m.reduce((sum, price, i) => sum + BigInt(price) * BigInt(n[i]!), 0n);
          assert.equal(nano(usd, tokens), Number((thousandths + 500n) / 1000n));
        },
      ),
    );
  });
});

describe('globs', () => {
  for (const [glob, text, expected] of [
    ['*', '', true],
    ['', '', true],
    ['', 'x', false],
    ['gpt', 'GPT', true],
    ['gpt', 'gpt-5', false],
    ['gpt*', 'gpt', true],
    ['*/gpt*', 'a/b/gpt-5', true],
    ['a*b*c', 'abc', true],
    ['a*b*c', 'a-c-b-c', true],
    ['a*b*c', 'a-c-b', false],
    ['ab*ba', 'aba', false],
    ['a*a', 'a', false],
    ['*a*a*', 'a', false],
    ['a.c', 'abc', false],
    ['[a-z]+', 'abc', false],
    ['a**b', 'ab', true],
  ] as const) {
    it(`${JSON.stringify(glob)} ${expected ? 'matches' : 'does not match'} ${JSON.stringify(text)}`, () => {
      assert.equal(matchesGlob(glob, text), expected);
    });
  }

  it('agrees with the regular expression of the same meaning', () => {
    const letters = (unit: string) => fc.string({ unit: fc.constantFrom(...unit), maxLength: 8 });
    fc.assert(
      fc.property(letters('ab*'), letters('abAB'), (glob, text) => {
        assert.equal(matchesGlob(glob, text), new RegExp(`^${glob.replaceAll('*', '.*')}$`, 'i').test(text));
      }),
      { numRuns: 2000 },
    );
  });
});
