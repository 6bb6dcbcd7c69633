import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { GatewayRules } from '../../src/config.ts';
import type { UpstreamEvidence } from '../../src/turn/turn-event.ts';
import { resolveUpstream, semconvProviderName, UPSTREAM_PROVIDERS } from '../../src/turn/upstream-provider.ts';
import { GATEWAYS } from '../../src/turn/upstream-table.ts';

const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const NONE: GatewayRules = {};
const CONFIGURED: GatewayRules = {
  opencode: { 'big-*': 'zai', 'big-pickle': 'cerebras', '*': 'inhouse' },
  'my-proxy': 'Moonshot AI',
  'corp/llm': 'corp/models',
  azure: 'azure',
  openai: 'groq',
  openrouter: { 'Meta-Llama/*': 'togetherai' },
};
const BEDROCK_ARN = 'arn:aws:bedrock:eu-central-1:123456789012:';

type Case = readonly [
  provider: string,
  model: string,
  hint: string | undefined,
  gateways: GatewayRules,
  upstream: string,
  evidence: UpstreamEvidence,
];

const CASES: Readonly<Record<string, readonly Case[]>> = {
  direct: [
    ['anthropic', 'claude-sonnet-4-5', undefined, NONE, 'anthropic', 'direct'],
    ['Anthropic', 'claude-sonnet-4-5', undefined, NONE, 'anthropic', 'direct'],
    [' openai ', 'gpt-5', undefined, NONE, 'openai', 'direct'],
    ['google', 'gemini-2.5-pro', undefined, NONE, 'google', 'direct'],
    ['xai', 'grok-4', undefined, NONE, 'xai', 'direct'],
    ['zai', 'glm-4.6', undefined, NONE, 'zai', 'direct'],
    ['zai-coding-plan', 'glm-4.6', undefined, NONE, 'zai', 'direct'],
    ['zhipuai-coding-plan', 'glm-4.6', undefined, NONE, 'zai', 'direct'],
    ['moonshotai', 'kimi-k2', undefined, NONE, 'moonshot', 'direct'],
    ['moonshotai-cn', 'kimi-k2', undefined, NONE, 'moonshot', 'direct'],
    ['alibaba-cn', 'qwen3-max', undefined, NONE, 'alibaba', 'direct'],
    ['qwen', 'qwen3-coder', undefined, NONE, 'alibaba', 'direct'],
    ['minimax-cn', 'MiniMax-M2', undefined, NONE, 'minimax', 'direct'],
    ['deepseek', 'deepseek-chat', undefined, NONE, 'deepseek', 'direct'],
    ['mistral', 'devstral-small', undefined, NONE, 'mistral', 'direct'],
    ['llama', 'llama-4-maverick', undefined, NONE, 'meta', 'direct'],
    ['cohere', 'command-a', undefined, NONE, 'cohere', 'direct'],
    ['perplexity', 'sonar-pro', undefined, NONE, 'perplexity', 'direct'],
    ['groq', 'llama-3.3-70b-versatile', undefined, NONE, 'groq', 'direct'],
    ['cerebras', 'gpt-oss-120b', undefined, NONE, 'cerebras', 'direct'],
    ['togetherai', 'deepseek-ai/DeepSeek-V3.1', undefined, NONE, 'together', 'direct'],
    ['fireworks-ai', 'accounts/fireworks/models/kimi-k2', undefined, NONE, 'fireworks', 'direct'],
    ['nvidia', 'moonshotai/kimi-k2', undefined, NONE, 'nvidia', 'direct'],
    ['cloudflare-workers-ai', '@cf/meta/llama-3.1-8b', undefined, NONE, 'cloudflare', 'direct'],
    ['ollama-cloud', 'gpt-oss:120b', undefined, NONE, 'ollama-cloud', 'direct'],
    // Neither a hint nor the configuration moves a turn away from who is known to have served it.
    ['anthropic', 'claude-sonnet-4-5', 'openai', NONE, 'anthropic', 'direct'],
    ['openai', 'gpt-5', undefined, CONFIGURED, 'openai', 'direct'],
  ],
  Zen: [
    ['opencode', 'claude-sonnet-4-5', undefined, NONE, 'anthropic', 'model_id'],
    ['opencode', 'gpt-5.1-codex', undefined, NONE, 'openai', 'model_id'],
    ['opencode', 'gemini-3-pro', undefined, NONE, 'google', 'model_id'],
    ['opencode', 'glm-4.7-free', undefined, NONE, 'zai', 'model_id'],
    ['opencode', 'kimi-k2-thinking', undefined, NONE, 'moonshot', 'model_id'],
    ['opencode', 'qwen3-coder', undefined, NONE, 'alibaba', 'model_id'],
    ['opencode', 'grok-code', undefined, NONE, 'xai', 'model_id'],
    ['opencode', 'minimax-m2.1-free', undefined, NONE, 'minimax', 'model_id'],
    ['opencode', 'big-pickle', undefined, NONE, 'unknown', 'none'],
    ['opencode', 'x-preview-f-free', undefined, NONE, 'unknown', 'none'],
    ['opencode', 'big-pickle', 'Moonshot AI', NONE, 'moonshot', 'hint'],
    ['opencode', 'big-pickle', 'opencode', NONE, 'unknown', 'none'],
    ['opencode', 'big-pickle', undefined, CONFIGURED, 'cerebras', 'config'],
    ['opencode', 'big-onion', undefined, CONFIGURED, 'zai', 'config'],
    ['opencode', 'claude-opus-4-1', undefined, CONFIGURED, 'inhouse', 'config'],
    ['opencode', 'claude-opus-4-1', 'Anthropic', CONFIGURED, 'anthropic', 'hint'],
  ],
  Go: [
    ['opencode-go', 'kimi-k2.5', undefined, NONE, 'moonshot', 'model_id'],
    ['opencode-go', 'glm-5', undefined, NONE, 'zai', 'model_id'],
    ['opencode-go', 'mimo-v2-pro', undefined, NONE, 'xiaomi', 'model_id'],
    ['opencode-go', 'omen-alpha', undefined, NONE, 'unknown', 'none'],
  ],
  OpenRouter: [
    ['openrouter', 'anthropic/claude-sonnet-4.5', undefined, NONE, 'anthropic', 'model_id'],
    ['openrouter', '~anthropic/claude-sonnet-latest', undefined, NONE, 'anthropic', 'model_id'],
    ['openrouter', 'x-ai/grok-4', undefined, NONE, 'xai', 'model_id'],
    ['openrouter', 'z-ai/glm-4.5-air:free', undefined, NONE, 'zai', 'model_id'],
    ['openrouter', 'meta-llama/llama-3.3-70b-instruct', undefined, NONE, 'meta', 'model_id'],
    ['openrouter', 'mistralai/devstral-small', undefined, NONE, 'mistral', 'model_id'],
    ['openrouter', 'nvidia/llama-3.1-nemotron-70b-instruct', undefined, NONE, 'nvidia', 'model_id'],
    ['openrouter', 'openai/gpt-oss-120b:exacto', undefined, NONE, 'openai', 'model_id'],
    ['openrouter', 'tngtech/deepseek-r1t-chimera', undefined, NONE, 'deepseek', 'model_id'],
    ['openrouter', 'openrouter/auto', undefined, NONE, 'unknown', 'none'],
    ['openrouter', 'anthropic/claude-sonnet-4.5', 'Google', NONE, 'google', 'hint'],
    ['openrouter', 'google/gemini-2.5-pro', ' Google AI Studio ', NONE, 'google', 'hint'],
    ['openrouter', 'google/gemini-2.5-pro', 'google-vertex', NONE, 'google', 'hint'],
    ['openrouter', 'meta-llama/llama-3.3-70b-instruct', 'DeepInfra', NONE, 'deepinfra', 'hint'],
    ['openrouter', 'moonshotai/kimi-k2', 'Fireworks', NONE, 'fireworks', 'hint'],
    ['openrouter', 'moonshotai/kimi-k2', 'gmicloud', NONE, 'gmicloud', 'hint'],
    ['openrouter', 'moonshotai/kimi-k2', 'sk-or-0123456789', NONE, 'moonshot', 'model_id'],
    ['openrouter', 'openai/gpt-5', 'OpenRouter', NONE, 'openai', 'model_id'],
    ['openrouter', 'openai/gpt-5', 'openusage', NONE, 'openai', 'model_id'],
    ['openrouter', 'openai/gpt-5', 'Azure', NONE, 'openai', 'model_id'],
    ['openrouter', 'anthropic/claude-haiku-4.5', 'Amazon Bedrock', NONE, 'anthropic', 'model_id'],
    ['openrouter', 'openai/gpt-5', '  ', NONE, 'openai', 'model_id'],
    ['openrouter', 'openai/gpt-5', 'me@example.org', NONE, 'openai', 'model_id'],
    ['openrouter', 'openai/gpt-5', '/home/me/secret', NONE, 'openai', 'model_id'],
    ['openrouter', 'openai/gpt-5', 'x'.repeat(65), NONE, 'openai', 'model_id'],
    ['openrouter', 'meta-llama/llama-4-scout', undefined, CONFIGURED, 'together', 'config'],
  ],
  Copilot: [
    ['github-copilot', 'claude-sonnet-4.5', undefined, NONE, 'anthropic', 'model_id'],
    ['github-copilot', 'gpt-5-mini', undefined, NONE, 'openai', 'model_id'],
    ['github-copilot', 'o4-mini', undefined, NONE, 'openai', 'model_id'],
    ['github-copilot', 'gemini-2.5-pro', undefined, NONE, 'google', 'model_id'],
    ['github-copilot', 'mai-code-1-flash', undefined, NONE, 'microsoft', 'model_id'],
  ],
  Bedrock: [
    ['amazon-bedrock', 'anthropic.claude-sonnet-4-5-20250929-v1:0', undefined, NONE, 'anthropic', 'model_id'],
    ['amazon-bedrock', 'us.anthropic.claude-opus-4-1-20250805-v1:0', undefined, NONE, 'anthropic', 'model_id'],
    ['amazon-bedrock', 'us-gov.openai.gpt-oss-120b-1:0', undefined, NONE, 'openai', 'model_id'],
    ['amazon-bedrock', 'eu.amazon.nova-pro-v1:0', undefined, NONE, 'amazon', 'model_id'],
    ['amazon-bedrock', 'deepseek.r1-v1:0', undefined, NONE, 'deepseek', 'model_id'],
    ['amazon-bedrock', 'meta.llama3-3-70b-instruct-v1:0', undefined, NONE, 'meta', 'model_id'],
    [
      'amazon-bedrock',
      `${BEDROCK_ARN}inference-profile/eu.anthropic.claude-x`,
      undefined,
      NONE,
      'anthropic',
      'model_id',
    ],
    ['amazon-bedrock', `${BEDROCK_ARN}foundation-model/qwen.qwen3-32b-v1:0`, undefined, NONE, 'alibaba', 'model_id'],
    ['amazon-bedrock', `${BEDROCK_ARN}application-inference-profile/abc1`, undefined, NONE, 'unknown', 'none'],
  ],
  Vertex: [
    ['google-vertex', 'gemini-2.5-flash', undefined, NONE, 'google', 'model_id'],
    ['google-vertex', 'meta/llama-4-maverick-17b-128e-instruct-maas', undefined, NONE, 'meta', 'model_id'],
    ['google-vertex', 'publishers/mistralai/models/codestral-2501', undefined, NONE, 'mistral', 'model_id'],
    ['google-vertex-anthropic', 'claude-sonnet-4-5@20250929', undefined, NONE, 'anthropic', 'model_id'],
    ['google-vertex-anthropic', 'finetune@claude', undefined, NONE, 'unknown', 'none'],
  ],
  Azure: [
    ['azure', 'gpt-4.1', undefined, NONE, 'openai', 'model_id'],
    ['azure', 'phi-4-reasoning', undefined, NONE, 'microsoft', 'model_id'],
    ['azure', 'my-deployment', undefined, NONE, 'unknown', 'none'],
    ['azure', 'my-deployment', undefined, CONFIGURED, 'azure', 'config'],
    ['azure-cognitive-services', 'deepseek-r1', undefined, NONE, 'deepseek', 'model_id'],
  ],
  Vercel: [
    ['vercel', 'anthropic/claude-sonnet-4', undefined, NONE, 'anthropic', 'model_id'],
    ['vercel', 'spacexai/grok-4', undefined, NONE, 'xai', 'model_id'],
    ['vercel', 'alibaba/qwen3-max', undefined, NONE, 'alibaba', 'model_id'],
  ],
  'other gateways': [
    ['litellm', 'bedrock/us.anthropic.claude-sonnet-4-5', undefined, NONE, 'anthropic', 'model_id'],
    ['litellm', 'vertex_ai/claude-opus-4', undefined, NONE, 'anthropic', 'model_id'],
    ['litellm', 'fireworks_ai/accounts/fireworks/models/kimi-k2', undefined, NONE, 'fireworks', 'model_id'],
    ['litellm', 'openrouter/google/gemini-2.5-pro', undefined, NONE, 'google', 'model_id'],
    ['sap-ai-core', 'anthropic--claude-4-sonnet', undefined, NONE, 'anthropic', 'model_id'],
    ['gitlab', 'duo-chat-sonnet-4-5', undefined, NONE, 'anthropic', 'model_id'],
    ['huggingface', 'deepseek-ai/DeepSeek-R1', undefined, NONE, 'deepseek', 'model_id'],
    ['synthetic', 'hf:zai-org/GLM-4.6', undefined, NONE, 'zai', 'model_id'],
    ['requesty', 'deepseek-r1-distill-llama-70b', undefined, NONE, 'deepseek', 'model_id'],
    ['helicone', 'llama-3.1-nemotron-ultra-253b', undefined, NONE, 'nvidia', 'model_id'],
    ['cloudflare-ai-gateway', 'workers-ai/@cf/meta/llama-3.3-70b', undefined, NONE, 'cloudflare', 'model_id'],
    ['My-Proxy', 'anything', undefined, CONFIGURED, 'moonshot', 'config'],
    ['corp/llm', 'anything', undefined, CONFIGURED, 'corp-models', 'config'],
  ],
  'own hosts': [
    ['ollama', 'qwen3-coder:30b', undefined, NONE, 'alibaba', 'model_id'],
    ['ollama', 'hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M', undefined, NONE, 'meta', 'model_id'],
    ['ollama', 'my-own-model:latest', undefined, NONE, 'unknown', 'none'],
    ['lmstudio', 'openai/gpt-oss-20b', undefined, NONE, 'openai', 'model_id'],
    ['llama.cpp', 'gemma-3-27b-it-Q4', undefined, NONE, 'google', 'model_id'],
    ['vllm', 'Qwen/Qwen3-32B', undefined, NONE, 'alibaba', 'model_id'],
    ['vllm', 'mixtral8x7b', undefined, NONE, 'mistral', 'model_id'],
  ],
  unknown: [
    ['mockchat', 'mock-a', undefined, NONE, 'unknown', 'none'],
    ['mockchat', 'mock-a', 'mockchat', NONE, 'unknown', 'none'],
    ['mockchat', 'mock-a', 'unknown', NONE, 'unknown', 'none'],
    ['', '', '', NONE, 'unknown', 'none'],
    // Words that merely contain a family, and names that every object inherits.
    ['mockchat', 'tinyllama', undefined, NONE, 'unknown', 'none'],
    ['mockchat', 'innovation-7b', undefined, NONE, 'unknown', 'none'],
    ['mockchat', 'novation-7b', undefined, NONE, 'unknown', 'none'],
    ['mockchat', 'turbo3-o12', undefined, NONE, 'unknown', 'none'],
    ['constructor', 'toString', undefined, NONE, 'unknown', 'none'],
    ['__proto__', 'valueOf/x', undefined, CONFIGURED, 'unknown', 'none'],
  ],
};

describe('upstream provider', () => {
  for (const [group, cases] of Object.entries(CASES)) {
    for (const [provider, model, hint, gateways, upstream, evidence] of cases) {
      const parts = [provider, model, hint === undefined ? '' : `hint ${JSON.stringify(hint)}`];
      const title = `${group}: ${parts.filter(Boolean).join(' · ')} → ${upstream} (${evidence})`;
      it(title, () => {
        assert.deepEqual(resolveUpstream({ provider, model, hint }, gateways), {
          upstreamProvider: upstream,
          evidence,
        });
      });
    }
  }

  it('is always a short lower-case name, whatever the strings hold', () => {
    const text = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.constantFrom('openrouter', '__proto__', 'hasOwnProperty', 'openai/', '~', 'us.', 'arn:aws:bedrock:::/', '--'),
      fc.constantFrom(...GATEWAYS),
    );
    const rules = fc.dictionary(text, fc.oneof(text, fc.dictionary(text, text)));
    fc.assert(
      fc.property(text, text, fc.option(text, { nil: undefined }), rules, (provider, model, hint, gateways) => {
        for (const rules of [gateways, { ...gateways, [provider.trim().toLowerCase()]: hint ?? model }]) {
          const { upstreamProvider, evidence } = resolveUpstream({ provider, model, hint }, rules);
          assert.match(upstreamProvider, NAME);
          assert.equal(evidence === 'none', upstreamProvider === 'unknown' && evidence !== 'config');
        }
      }),
      { numRuns: 500 },
    );
  });

  it('reads a model id of any length in one pass', () => {
    const model = `${'gpt-o1.us.'.repeat(20_000)}@~:`;
    assert.equal(resolveUpstream({ provider: 'x', model }, { x: { '*a*b*c*d*e*f': 'y' } }).evidence, 'model_id');
  });
});

describe('the table of upstream providers', () => {
  const rows = Object.entries(UPSTREAM_PROVIDERS);

  it('claims no id, spelling or family twice', () => {
    const claims = rows.flatMap(([upstream, row]) => [
      ...new Set([upstream, ...(row.direct ?? []), ...(row.aliases ?? [])]),
      ...(row.families ?? []).map((family) => `family ${family}`),
    ]);
    assert.deepEqual(
      claims.filter((claim, index) => claims.indexOf(claim) !== index),
      [],
    );
  });

  it('is written as it is looked up', () => {
    for (const [upstream, row] of rows) {
      for (const name of [upstream, ...(row.direct ?? []), ...(row.aliases ?? [])]) assert.match(name, NAME);
    }
    for (const name of GATEWAYS) assert.match(name, NAME);
  });

  it('lets no gateway serve under its own name', () => {
    const direct = new Set(rows.flatMap(([, row]) => row.direct ?? []));
    assert.deepEqual(
      GATEWAYS.filter((id) => direct.has(id)),
      [],
    );
  });

  for (const [upstream, expected] of [
    ['anthropic', 'anthropic'],
    ['openai', 'openai'],
    ['google', 'gcp.gemini'],
    ['xai', 'x_ai'],
    ['mistral', 'mistral_ai'],
    ['moonshot', 'moonshot_ai'],
    ['amazon', 'aws.bedrock'],
    ['deepseek', 'deepseek'],
    ['groq', 'groq'],
    ['cohere', 'cohere'],
    ['perplexity', 'perplexity'],
    ['zai', 'zai'],
    ['inhouse', 'inhouse'],
    ['unknown', 'unknown'],
    ['constructor', 'constructor'],
  ] as const) {
    it(`${upstream} is ${expected} in the semantic conventions`, () => {
      assert.equal(semconvProviderName(upstream), expected);
    });
  }
});
