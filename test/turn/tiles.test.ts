import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { parseConfig } from '../../src/config.ts';
import { TILE_IDS, Tiles } from '../../src/turn/tiles.ts';
import { UPSTREAM_PROVIDERS } from '../../src/turn/upstream-provider.ts';

describe('tiles', () => {
  it('knows the 35 tiles once each', () => {
    assert.equal(TILE_IDS.length, 35);
    assert.equal(new Set(TILE_IDS).size, 35);
  });

  const links = { Cerebras: 'Groq', google: 'gemini_cli', chain: 'anthropic', lost: 'gemini', blank: ' ' };
  const tiles = new Tiles(links, ['opencode', 'Inhouse']);
  for (const [upstream, tile] of [
    ['anthropic', 'claude_code'],
    ['Anthropic', 'claude_code'],
    ['github-copilot', 'copilot'],
    ['azure', 'azure_openai'],
    ['alibaba', 'alibaba_cloud'],
    ['ollama-cloud', 'ollama'],
    ['moonshot', 'moonshot'],
    ['cerebras', 'groq'],
    ['google', 'gemini_cli'],
    // One level: the target's own link is not followed.
    ['chain', 'anthropic'],
    ['lost', 'gemini'],
    ['blank', 'blank'],
    ['inhouse', 'inhouse'],
    ['nobody', 'nobody'],
    ['unknown', 'unknown'],
    ['constructor', 'constructor'],
  ] as const) {
    it(`${upstream} is shown by ${tile}`, () => assert.equal(tiles.tileOf(upstream), tile));
  }

  it('gives every tile a title, also one that is named as what objects inherit', () => {
    const titles = tiles.all(['anthropic', 'constructor', '__proto__', 'tostring'], []).map(({ title }) => title);
    assert.deepEqual(titles.sort(), ['  Proto  ', 'Anthropic · claude_code', 'Constructor', 'Tostring']);
  });

  it('shows google on gemini_api when nothing else is configured', () => {
    assert.equal(new Tiles({}, []).tileOf('google'), 'gemini_api');
  });
});

describe('unmapped upstream providers', () => {
  const link = (from: string, to: string) => `telemetry: { provider_links: { ${from}: ${to} } }`;

  it('are none where every tile exists', () => {
    const upstreams = ['anthropic', 'google', 'alibaba', 'openai', 'zai', 'inhouse', 'Inhouse', 'cerebras'];
    assert.deepEqual(new Tiles({ cerebras: 'Inhouse' }, ['Inhouse']).unmapped(upstreams), []);
  });

  it('are unconfigured without a link and a tile, each once', () => {
    assert.deepEqual(new Tiles({}, []).unmapped(['cerebras', 'openai', 'Cerebras']), [
      { upstreamProvider: 'cerebras', reason: 'unconfigured', fix: link('cerebras', '<tile>') },
    ]);
  });

  it('are told apart when the link leads nowhere', () => {
    const tiles = new Tiles({ google: 'nowhere', cerebras: 'gemini' }, []);
    assert.deepEqual(tiles.unmapped(['google', 'cerebras']), [
      { upstreamProvider: 'google', reason: 'mapped_target_missing', target: 'nowhere', fix: link('google', '<tile>') },
      {
        upstreamProvider: 'cerebras',
        reason: 'mapped_target_missing',
        target: 'gemini',
        fix: link('cerebras', 'gemini_api'),
      },
    ]);
  });

  for (const [upstream, suggestion] of [
    ['deepseek-cn', 'deepseek'],
    ['kilo', 'kilo_code'],
    // The longest of those that fit.
    ['open', 'azure_openai'],
    ['qwen-cli', 'qwen_cli'],
    ['inhouse-eu', 'inhouse'],
    // `pi` and `x` are too short to mean anything.
    ['pipedream', '<tile>'],
    ['x', '<tile>'],
  ] as const) {
    it(`suggests ${suggestion} for ${upstream}`, () => {
      assert.equal(new Tiles({}, ['inhouse']).unmapped([upstream])[0]?.fix, link(upstream, suggestion));
    });
  }

  it('cannot be linked while nobody knows who served: the fix is a gateway rule', () => {
    assert.deepEqual(new Tiles({}, []).unmapped(['unknown']), [
      {
        upstreamProvider: 'unknown',
        reason: 'unconfigured',
        fix: 'gateways: { <provider id>: <who serves> }',
      },
    ]);
  });

  it('are mended by the line that is given, for every upstream provider of the table', () => {
    const before = new Tiles({}, []).unmapped(Object.keys(UPSTREAM_PROVIDERS));
    assert.ok(before.length > 0);
    for (const { upstreamProvider, fix } of before) {
      const config = parseConfig(parse(fix.replace('<tile>', 'openrouter')));
      assert.deepEqual(new Tiles(config.telemetry.provider_links, []).unmapped([upstreamProvider]), []);
    }
  });

  it('get a gateway line that the configuration takes', () => {
    const [unknown] = new Tiles({}, []).unmapped(['unknown'], ['my-litellm', 'acme/eu', 'true', 'my-litellm']);
    assert.equal(
      unknown!.fix,
      'gateways: { acme/eu: <who serves>, my-litellm: <who serves>, true: <who serves> }',
      'each provider once, on one line',
    );
    const line = unknown!.fix.replaceAll('<who serves>', 'anthropic');
    const gateways = { 'my-litellm': 'anthropic', 'acme/eu': 'anthropic', true: 'anthropic' };
    assert.deepEqual({ ...parseConfig(parse(line)).gateways }, gateways);
  });

  it('get a gateway line that stays YAML, and stays a line, whatever a provider calls itself', () => {
    const odd = ['a: b', '{x}', '#c', '"q"', ''];
    const [unknown] = new Tiles({}, []).unmapped(['unknown'], odd);
    const { gateways } = parse(unknown!.fix.replaceAll('<who serves>', 'anthropic')) as { gateways: object };
    assert.deepEqual(Object.keys(gateways).sort(), [...odd].sort());
    const many = Array.from({ length: 500 }, (_, n) => `provider-${n}`);
    assert.ok(new Tiles({}, []).unmapped(['unknown'], many)[0]!.fix.length < 500);
  });
});
