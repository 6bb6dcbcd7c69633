// A list of prices in the form of models.dev becomes a file that the configuration loads, and that prices turns.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { importPricing } from '../../src/commands/pricing-import.ts';
import { loadConfig } from '../../src/config.ts';
import { loadPriceList } from '../../src/config-pricing.ts';
import { decodeHook } from '../../src/turn/normalize.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import { NO_TOKENS } from '../../src/turn/turn-event.ts';

const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));
const NOW_MS = Date.UTC(2026, 0, 15, 12);
const LIST = {
  maker: {
    id: 'maker',
    models: {
      plain: { id: 'plain', cost: { input: 0.0375, output: 2, cache_read: 0.01, cache_write: 0.05, reasoning: 3 } },
      tiered: {
        id: 'tiered',
        cost: {
          ...{ input: 1, output: 10 },
          tiers: [
            { input: 4, output: 40, tier: { type: 'context', size: 300_000 } },
            { input: 2, output: 20, tier: { type: 'context', size: 100_000 } },
          ],
          context_over_200k: { input: 99, output: 99 },
        },
      },
      large: { id: 'large', cost: { input: 1, output: 10, context_over_200k: { input: 2, output: 20 } } },
      gratis: { id: 'gratis', cost: { input: 0, output: 0 } },
      untold: { id: 'untold' },
      negative: { id: 'negative', cost: { input: -1, output: -1 } },
      'by-hour': {
        id: 'by-hour',
        cost: { input: 1, output: 1, tiers: [{ input: 2, output: 2, tier: { type: 'hour' } }] },
      },
    },
  },
  'zai-coding-plan': { models: { 'glm-4.6': { cost: { input: 1, output: 1 } } } },
};

function place(t: TestContext, text: string) {
  const folder = mkdtempSync(path.join(tmpdir(), 'tb-prices-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = path.join(folder, 'api.json');
  writeFileSync(file, text);
  return { folder, file, nowMs: NOW_MS };
}

test('prices are written with the day, loaded by the configuration, and looked at last', (t) => {
  const at = place(t, JSON.stringify(LIST));
  const { lines, exitCode } = importPricing(at);
  assert.equal(exitCode, 0);
  const written = path.join(at.folder, 'prices-2026-01-15.yaml');
  assert.deepEqual(lines, [
    `Wrote the prices of 4 models of 2 providers to ${written}`,
    '  left out: 2 models without a price; 0 is not taken for free',
    '  left out: 2 models with prices of an unknown form',
    `Next: write "pricing_file: ${written}" into tollbridge.yaml, and restart the bridge.`,
  ]);

  const configFile = path.join(at.folder, 'tollbridge.yaml');
  writeFileSync(configFile, `pricing_file: ${written}\npricing: [{ provider: maker, model: large, state: free }]\n`);
  const config = loadConfig(configFile);
  const pricing = new Pricing(config.pricing, config.price_list);
  const price = (model: string, tokens: object, provider = 'maker') =>
    pricing.price({ provider, model, tokens: { ...NO_TOKENS, ...tokens }, costNano: 0 });
  for (const [name, found, expected] of [
    [
      'every kind',
      price('plain', { input: 1e6, output: 1e6, cache_read: 1e6, cache_write: 1e6, reasoning: 1e6 }),
      5_097_500_000,
    ],
    ['upper case', price('PLAIN', { output: 1e6 }, 'Maker'), 2_000_000_000],
    ['no context', price('tiered', { output: 1e6 }), 10_000_000_000],
    ['exactly at a tier', price('tiered', { input: 100_000 }), 100_000_000],
    ['above it, by what came from the cache', price('tiered', { input: 1, cache_read: 100_000 }), 200_002_000],
    ['above the highest', price('tiered', { cache_write: 300_001 }), 1_200_004_000],
    ['output is no context', price('tiered', { input: 1, output: 400_000 }), 4_000_001_000],
  ] as const) {
    assert.deepEqual(found, { state: 'estimated', estimatedNano: expected }, name);
  }
  assert.equal(price('large', { input: 1 }).state, 'free', 'your own rule comes first');
  assert.equal(price('glm-4.6', { input: 1 }, 'zai-coding-plan').state, 'included', 'a list knows no plans');
  assert.equal(price('gratis', { input: 1 }).state, 'unknown');
  assert.equal(
    new Pricing([]).price({ provider: 'maker', model: 'plain', tokens: NO_TOKENS }).state,
    'unknown',
    'control',
  );
});

test('one tier above 200,000 is read where no others are stated', (t) => {
  const at = place(t, JSON.stringify(LIST));
  const out = path.join(at.folder, 'mine.yaml');
  importPricing({ ...at, out });
  assert.match(readFileSync(out, 'utf8'), /model: large[\s\S]*context_tokens: 200000\n\s+input: 2\n/);
  assert.throws(() => importPricing({ ...at, out }), /exists already, and is left as it is.*--out/);
});

test('what is no list of prices is told', (t) => {
  for (const [text, said] of [
    ['no json', /is not JSON/],
    ['[]', /holds no prices/],
    ['null', /holds no prices/],
    ['{"maker":{"models":{"x":{"cost":"much"}}}}', /holds no prices/],
  ] as const) {
    assert.throws(() => importPricing(place(t, text)), said);
  }
  assert.throws(() => importPricing({ ...place(t, ''), file: 'https://models.dev/api.json' }), /is an address.*Save/);
  const { folder } = place(t, '');
  const configFile = path.join(folder, 'tollbridge.yaml');
  const list = path.join(folder, 'prices.yaml');
  writeFileSync(configFile, `pricing_file: ${list}\n`);
  assert.throws(() => loadConfig(configFile), /the pricing_file, cannot be read/);
  writeFileSync(list, 'pricing: [{ model: x, state: estimated }]\nmore: 1\n');
  assert.throws(() => loadConfig(configFile), /prices\.yaml has 2 mistakes/);
});

test('what would have to be guessed at is left out, and counted', async (t) => {
  const usd = { input: 1, output: 10 };
  const tier = (size: number, prices: object = usd) => ({ ...prices, tier: { type: 'context', size } });
  const said = (models: object, others: object = {}) => {
    const at = place(t, JSON.stringify({ maker: { models: { sound: { cost: usd }, ...models } }, ...others }));
    const { lines } = importPricing(at);
    const rules = loadPriceList(path.join(at.folder, 'prices-2026-01-15.yaml'), (text) => parse(text));
    return { lines: lines.slice(1, -1), prices: Object.fromEntries(rules.map((rule) => [rule.model, rule])) };
  };
  const models = (count: number) => (count === 1 ? '1 model' : `${count} models`);
  const unknown = (count: number) => [`  left out: ${models(count)} with prices of an unknown form`];
  const unpriced = (count: number) => [`  left out: ${models(count)} without a price; 0 is not taken for free`];
  const x = (cost: unknown) => ({ x: { cost } });
  for (const [name, models, lines] of [
    ['two tiers of one size', x({ ...usd, tiers: [tier(9), tier(9, { input: 2, output: 20 })] }), unknown(1)],
    ['a tier that is silent of the cache', x({ ...usd, cache_read: 0.1, tiers: [tier(9)] }), unknown(1)],
    [
      'a tier whose cache costs 0',
      x({ ...usd, cache_read: 0.1, tiers: [tier(9, { ...usd, cache_read: 0 })] }),
      unknown(1),
    ],
    ['a tier above 200,000 that is no prices', x({ ...usd, context_over_200k: 5 }), unknown(1)],
    ['tiers that are no list', x({ ...usd, tiers: { input: 1 } }), unknown(1)],
    ['another currency', x({ ...usd, currency: 'CNY' }), unknown(1)],
    ['another unit', x({ ...usd, unit: '1K tokens' }), unknown(1)],
    ['a price in words', x({ input: '1', output: 10 }), unknown(1)],
    ['more than any price', x({ input: 1e7, output: 10 }), unknown(1)],
    ['one price of two is 0', x({ input: 0, output: 10 }), unpriced(1)],
    ['one price of two is missing', x({ input: 1 }), unpriced(1)],
    [
      'names that differ by case, and so do their prices',
      { x: { cost: usd }, X: { cost: { input: 2, output: 10 } } },
      unknown(2),
    ],
    ['three of them', { xy: { cost: usd }, Xy: { cost: { input: 2, output: 1 } }, XY: { cost: usd } }, unknown(3)],
  ] as const) {
    await t.test(name, () => {
      const { lines: told, prices } = said(models);
      assert.deepEqual(told, lines);
      assert.deepEqual(prices.sound!.usd_per_million_tokens, usd, 'control: the others are there');
      assert.equal(prices.x, undefined);
    });
  }
  await t.test('and what need not be guessed at is not', () => {
    const { lines, prices } = said({
      same: { cost: usd },
      SAME: { cost: usd },
      empty: { cost: { ...usd, tiers: [], context_over_200k: { input: 2, output: 20 } } },
      none: { cost: { ...usd, tiers: null, context_over_200k: null } },
      zeros: { cost: { ...usd, reasoning: 0, cache_read: 0, cache_write: 0, input_audio: 7 } },
      noisy: { cost: { input: 0.04999999999999999, output: 0.18749999999999994, cache_read: 1e-13 } },
      '~maker/model-latest': { cost: usd },
      thinks: { cost: { ...usd, reasoning: 9, tiers: [tier(9)] } },
    });
    assert.deepEqual(lines, []);
    const of = (model: string) => prices[model]!.usd_per_million_tokens;
    assert.deepEqual(of('empty'), { ...usd, above: [{ context_tokens: 200_000, input: 2, output: 20 }] });
    assert.deepEqual(of('none'), usd);
    assert.deepEqual(of('zeros'), usd, '0 states nothing: reasoning as output, cache as input');
    assert.deepEqual(of('noisy'), { input: 0.05, output: 0.1875 });
    const payload = { type: 'message.updated', properties: { info: turnOf('maker', '~maker/model-latest') } };
    const [decoded] = decodeHook('opencode', { event: payload }, {});
    assert.ok(decoded?.type === 'event' && decoded.event.kind === 'turn');
    assert.deepEqual(of(decoded.event.model), usd, 'by the name that its turns have');
    assert.deepEqual(of('thinks')!.above, [{ context_tokens: 9, ...usd }]);
  });
});

const turnOf = (providerID: string, modelID: string) => ({
  ...{ id: 'msg_1', sessionID: 'ses_1', role: 'assistant', time: { created: NOW_MS }, finish: 'stop' },
  ...{ providerID, modelID },
});

test('prices of single tokens are no prices of a million', (t) => {
  const list = { maker: { models: { x: { cost: { input: 0.000003, output: 0.000015 } } } } };
  const at = place(t, JSON.stringify(list));
  assert.throws(() => importPricing(at), /USD per million tokens.*prices of single tokens/s);
  assert.deepEqual(readdirSync(at.folder), ['api.json'], 'nothing is written');
});

test('the folder of the configuration is made, where there is none yet', (t) => {
  const at = place(t, JSON.stringify(LIST));
  const folder = path.join(at.folder, 'config', 'tollbridge');
  assert.throws(
    () => importPricing({ ...at, folder, out: path.join(folder, 'mine.yaml') }),
    /was not written/,
    'no other',
  );
  importPricing({ ...at, folder });
  assert.deepEqual(readdirSync(folder), ['prices-2026-01-15.yaml']);
});

test('of a list that does not fit on the disk nothing is left', (t) => {
  const models = Object.fromEntries(
    Array.from({ length: 2000 }, (_, n) => [`model-${n}`, { cost: { input: 1, output: 2 } }]),
  );
  const at = place(t, JSON.stringify({ maker: { models } }));
  const out = path.join(at.folder, 'prices.yaml');
  // In blocks of 512 bytes: less than the list takes.
  const command = 'ulimit -f 64; exec "$0" "$@"';
  const args = [process.execPath, CLI, 'pricing', 'import', at.file, '--out', out];
  const { status, stderr } = spawnSync('sh', ['-c', command, ...args], { encoding: 'utf8' });
  assert.equal(status, 1);
  assert.match(stderr, /prices\.yaml was not written/);
  assert.deepEqual(readdirSync(at.folder), ['api.json']);
});

test('whatever a model is called, and wherever the file lies, it is found again', (t) => {
  const names = [
    'yes',
    '~',
    '0x1F',
    '1e3',
    '1.0',
    '<<',
    '- a',
    'a: b',
    '#x',
    ' x ',
    "it's",
    '"q"',
    'a\nb',
    '\u2028',
    '🙂',
    '__proto__',
    'constructor',
    '!tag',
    '&a',
    'x'.repeat(500),
    'a b '.repeat(60),
  ];
  const models = Object.fromEntries(names.map((name) => [name, { cost: { input: 1, output: 2 } }]));
  const text = JSON.stringify({
    maker: { models },
    ['__proto__']: { models: { x: { cost: { input: 3, output: 4 } } } },
  });
  const at = place(t, `\ufeff${text}`);
  const out = path.join(at.folder, 'a: b #c.yaml');
  const { lines } = importPricing({ ...at, out });
  const found = loadPriceList(out, (text) => parse(text));
  assert.deepEqual(found.map(({ model }) => model).sort(), [...names, 'x'].sort());
  assert.equal(found.at(-1)!.provider, '__proto__');
  const advice = /Next: write "(.*)" into tollbridge\.yaml/.exec(lines.at(-1)!)![1]!;
  assert.deepEqual(parse(advice), { pricing_file: out });
});
