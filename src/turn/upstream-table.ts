// Who serves models, as data. One row per upstream provider, keyed by its canonical name: the provider id that
// models.dev knows, without its suffixes. A row that is missing costs no turn: its model goes to `unknown` or its
// maker's row, and the `gateways:` configuration can name what this table does not.

/** What is known of one upstream provider. Everything is lower case; spaces and underscores are written as `-`. */
export interface UpstreamRow {
  /** Provider ids at which it serves models itself. None for those who only make models. */
  readonly direct?: readonly string[];
  /** Other spellings, as hints and as vendor prefixes of model ids write them. */
  readonly aliases?: readonly string[];
  /** Beginnings of a word in the model ids of its own models: sources of regular expressions. */
  readonly families?: readonly string[];
  /** Its `gen_ai.provider.name`, where the semantic conventions have one that differs from the canonical name. */
  readonly semconv?: string;
}

/** Those who make the models that they serve, and those who only make them. */
const MAKERS: Readonly<Record<string, UpstreamRow>> = {
  anthropic: { direct: ['anthropic'], families: ['claude', 'opus', 'sonnet', 'haiku', 'fable', 'mythos'] },
  openai: {
    direct: ['openai'],
    aliases: ['open-ai'],
    families: ['gpt', 'chatgpt', 'codex', 'o[134](?!\\d)', 'davinci', 'text-embedding-(?:ada|[23])'],
  },
  google: {
    direct: ['google'],
    // Google's own machines behind a router: there Vertex names who served, not whom one pays.
    aliases: ['google-ai-studio', 'google-vertex', 'vertex-ai', 'google-ai', 'gemini'],
    families: ['gemini', 'gemma', 'codegemma', 'medgemma', 'learnlm'],
    semconv: 'gcp.gemini',
  },
  xai: { direct: ['xai'], aliases: ['x-ai', 'x.ai', 'spacexai', 'grok'], families: ['grok'], semconv: 'x_ai' },
  zai: {
    direct: ['zai', 'zai-coding-plan', 'zhipuai', 'zhipuai-coding-plan'],
    aliases: ['z-ai', 'z.ai', 'zai-org', 'zhipu', 'zhipu-ai', 'thudm'],
    families: ['glm', 'chatglm', 'codegeex'],
  },
  moonshot: {
    direct: [
      'moonshot',
      'moonshotai',
      'moonshotai-cn',
      'kimi-for-coding',
      'kimi-code-plan-cn',
      'kimi-code-plan-global',
    ],
    aliases: ['moonshot-ai', 'kimi'],
    families: ['kimi', 'moonshot'],
    semconv: 'moonshot_ai',
  },
  deepseek: { direct: ['deepseek'], aliases: ['deepseek-ai'], families: ['deepseek'] },
  mistral: {
    direct: ['mistral'],
    aliases: ['mistralai', 'mistral-ai'],
    families: ['mi[sx]tral', 'codestral', 'devstral', 'ministral', 'magistral', 'pixtral', 'voxtral', 'mathstral'],
    semconv: 'mistral_ai',
  },
  alibaba: {
    direct: [
      'alibaba',
      'alibaba-cn',
      'alibaba-coding-plan',
      'alibaba-coding-plan-cn',
      'alibaba-token-plan',
      'alibaba-token-plan-cn',
      'qwen',
    ],
    aliases: ['alibaba-cloud', 'aliyun', 'dashscope', 'bailian', 'tongyi'],
    families: ['qwen', 'codeqwen', 'qwq', 'qvq'],
  },
  minimax: {
    direct: ['minimax', 'minimax-cn', 'minimax-coding-plan', 'minimax-cn-coding-plan'],
    aliases: ['minimaxai', 'minimax-ai'],
    families: ['minimax', 'abab'],
  },
  meta: {
    direct: ['meta', 'llama'],
    aliases: ['meta-llama', 'meta-models', 'meta-ai'],
    families: ['llama', 'codellama', 'muse-(?:spark|glimmer)'],
  },
  cohere: {
    direct: ['cohere'],
    aliases: ['coherelabs', 'cohereforai'],
    families: ['command', 'cohere', 'aya', 'north-mini'],
  },
  perplexity: { direct: ['perplexity'], aliases: ['perplexity-ai'], families: ['sonar'] },
  amazon: {
    direct: ['amazon', 'nova'],
    aliases: ['amazon-nova'],
    families: ['nova', 'titan'],
    semconv: 'aws.bedrock',
  },
  nvidia: {
    direct: ['nvidia'],
    aliases: ['nvidia-nim'],
    // Nemotrons are named after the model that they were trained from; the longer match wins.
    families: ['nemotron', 'llama-[\\d.]+-nemotron'],
  },
  ibm: { direct: ['ibm', 'watsonx'], aliases: ['ibm-granite'], families: ['granite'], semconv: 'ibm.watsonx.ai' },
  ai21: { direct: ['ai21'], aliases: ['ai21labs', 'ai21-labs'], families: ['jamba'] },
  arcee: { direct: ['arcee'], aliases: ['arcee-ai'], families: ['trinity'] },
  bytedance: {
    direct: ['volcengine', 'volcengine-coding-plan'],
    aliases: ['bytedance-seed'],
    families: ['doubao', 'seed-(?:oss|\\d)'],
  },
  inception: { direct: ['inception'], aliases: ['inceptionlabs'], families: ['mercury'] },
  inclusionai: { direct: ['bailing'], families: ['(?:ling|ring)-(?:\\d|flash|mini|max)'] },
  meituan: { direct: ['longcat'], families: ['longcat'] },
  morph: { direct: ['morph'], families: ['morph-v\\d'] },
  poolside: { direct: ['poolside'], families: ['laguna'] },
  sakana: { direct: ['sakana'], families: ['fugu'] },
  stepfun: {
    direct: ['stepfun', 'stepfun-ai', 'stepfun-step-plan', 'stepfun-ai-step-plan'],
    families: ['step-\\d'],
  },
  tencent: {
    direct: ['tencent-coding-plan', 'tencent-token-plan', 'tencent-tokenhub'],
    families: ['hunyuan', 'hy\\d'],
  },
  thinkingmachines: { direct: ['thinkingmachines'], families: ['inkling'] },
  upstage: { direct: ['upstage'], families: ['solar-(?:pro|mini)'] },
  xiaomi: {
    direct: ['xiaomi', 'xiaomi-token-plan-ams', 'xiaomi-token-plan-cn', 'xiaomi-token-plan-sgp'],
    aliases: ['xiaomimimo'],
    families: ['mimo'],
  },
  allenai: { families: ['olmo'] },
  baidu: { families: ['ernie'] },
  kwaipilot: { aliases: ['kuaishou'], families: ['kat-(?:coder|dev)'] },
  liquid: { aliases: ['liquidai'], families: ['lfm'] },
  microsoft: { families: ['phi', 'mai-(?:\\d|code|ds)'] },
  nousresearch: { families: ['hermes'] },
  writer: { families: ['palmyra'] },
};

/** Those who run other people's open models on their own machines under their own name: they serve what they sell. */
const HOSTS: Readonly<Record<string, UpstreamRow>> = {
  baseten: { direct: ['baseten'] },
  cerebras: { direct: ['cerebras'] },
  chutes: { direct: ['chutes'] },
  cloudflare: { direct: ['cloudflare-workers-ai'], aliases: ['workers-ai'] },
  crusoe: { direct: ['crusoe'] },
  deepinfra: { direct: ['deepinfra'] },
  fireworks: { direct: ['fireworks-ai', 'fireworks'] },
  friendli: { direct: ['friendli'] },
  groq: { direct: ['groq'] },
  hyperbolic: { direct: ['hyperbolic'] },
  inference: { direct: ['inference'], aliases: ['inference-net', 'inference.net'] },
  nebius: { direct: ['nebius'], aliases: ['nebius-ai-studio'] },
  novita: { direct: ['novita-ai', 'novita'] },
  'ollama-cloud': { direct: ['ollama-cloud'] },
  ovhcloud: { direct: ['ovhcloud'] },
  parasail: { direct: ['parasail'] },
  sambanova: { direct: ['sambanova'] },
  scaleway: { direct: ['scaleway'] },
  siliconflow: { direct: ['siliconflow', 'siliconflow-cn'] },
  together: { direct: ['togetherai', 'together'], aliases: ['together-ai'] },
  wandb: { direct: ['wandb'], aliases: ['coreweave'] },
};

/** Every known upstream provider by its canonical name. */
export const UPSTREAM_PROVIDERS: Readonly<Record<string, UpstreamRow>> = { ...MAKERS, ...HOSTS };

/**
 * Names that cannot say who served: gateways and resellers, programs on the user's own host, and words for nothing.
 * Needed only to refuse them as a hint or as a vendor; as a provider, any id that the table above lacks is treated alike.
 */
export const GATEWAYS: readonly string[] = [
  ...['unknown', 'none', 'null', 'undefined', 'auto', 'custom', 'proxy', 'gateway', 'router', 'openai-compatible'],
  ...['opencode', 'opencode-go', 'opencode-zen', 'zen', 'openusage', 'openrouter', 'vercel', 'ai-gateway'],
  ...['vercel-ai-gateway', 'cloudflare-ai-gateway', 'portkey', 'litellm', 'requesty', 'helicone', 'kilo', 'kilocode'],
  ...['zenmux', 'llmgateway', 'merge-gateway', 'fastrouter', 'orcarouter', 'aihubmix', '302ai', 'edenai', 'poe'],
  ...['nano-gpt', 'synthetic', 'huggingface', 'perplexity-agent', 'cortecs', 'gitlab', 'copilot', 'github-copilot'],
  ...['github-copilot-enterprise', 'github-models', 'amazon-bedrock', 'aws-bedrock', 'bedrock', 'google-vertex'],
  ...['google-vertex-anthropic', 'vertex-ai', 'azure', 'azure-openai', 'azure-ai', 'azure-cognitive-services'],
  ...['databricks', 'snowflake-cortex', 'sap-ai-core', 'oci', 'ollama', 'lmstudio', 'lm-studio', 'llama.cpp'],
  ...['llama-cpp', 'llamacpp', 'vllm', 'sglang', 'localai', 'tgi', 'local', 'localhost'],
];
