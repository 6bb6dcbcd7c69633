// Who works in the demonstration, on what, with which models at which prices, under which rules. All of it is made up.

/** USD per million tokens. Reasoning is paid as output. */
export interface Price {
  readonly input: number;
  readonly output: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
}

export interface DemoModel {
  readonly agent: 'opencode' | 'claude_code' | 'codex' | 'gemini_cli';
  readonly provider: string;
  readonly model: string;
  /** How often it is chosen by those who use its agent. */
  readonly weight: number;
  /** Absent where a subscription includes it and no turn states a cost. */
  readonly price?: Price;
  readonly reasons?: true;
  /** It gives sessions their titles too. */
  readonly titles?: true;
}

const price = (input: number, output: number, cacheRead: number, cacheWrite = 0): Price => ({
  input,
  output,
  cacheRead,
  cacheWrite,
});

const SONNET = price(3, 15, 0.3, 3.75);
const GEMINI = price(2, 12, 0.2);

export const MODELS: readonly DemoModel[] = [
  { agent: 'claude_code', provider: 'anthropic', model: 'claude-sonnet-4-5', weight: 6, price: SONNET },
  { agent: 'claude_code', provider: 'anthropic', model: 'claude-opus-4-5', weight: 2, price: price(5, 25, 0.5, 6.25) },
  {
    ...{ agent: 'claude_code', provider: 'anthropic', model: 'claude-haiku-4-5' },
    ...{ weight: 3, price: price(1, 5, 0.1, 1.25), titles: true },
  },
  { agent: 'codex', provider: 'openai', model: 'gpt-5.1-codex', weight: 5, reasons: true },
  { agent: 'codex', provider: 'openai', model: 'gpt-5.1-codex-mini', weight: 2, reasons: true },
  { agent: 'gemini_cli', provider: 'google', model: 'gemini-3-pro', weight: 3, reasons: true },
  { agent: 'gemini_cli', provider: 'google', model: 'gemini-3-flash', weight: 2, reasons: true },
  { agent: 'opencode', provider: 'opencode', model: 'claude-sonnet-4-5', weight: 4, price: SONNET },
  { agent: 'opencode', provider: 'opencode', model: 'glm-4.7', weight: 3, price: price(0.6, 2.2, 0.1) },
  { agent: 'opencode', provider: 'opencode', model: 'kimi-k2.5', weight: 3, price: price(0.6, 3, 0.1), reasons: true },
  { agent: 'opencode', provider: 'opencode', model: 'big-pickle', weight: 2, price: price(0, 0, 0), titles: true },
  { agent: 'opencode', provider: 'google', model: 'gemini-3-pro', weight: 3, price: GEMINI, reasons: true },
  { agent: 'opencode', provider: 'deepseek', model: 'deepseek-chat', weight: 3, price: price(0.28, 0.42, 0.028) },
  { agent: 'opencode', provider: 'mistral', model: 'devstral-medium', weight: 2, price: price(0.4, 2, 0.04) },
  { agent: 'opencode', provider: 'moonshot', model: 'kimi-k2.5', weight: 2, price: price(0.6, 3, 0.1), reasons: true },
  {
    agent: 'opencode',
    provider: 'openrouter',
    model: 'x-ai/grok-code-fast-1',
    weight: 3,
    price: price(0.2, 1.5, 0.02),
  },
  { agent: 'opencode', provider: 'openrouter', model: 'stepfun/step-3', weight: 1, price: price(0.6, 1.4, 0.06) },
];

export interface Person {
  readonly user: string;
  readonly team: string;
  readonly projects: readonly [string, ...string[]];
  readonly agents: readonly [DemoModel['agent'], ...DemoModel['agent'][]];
  /** Share of working hours in which an agent runs. */
  readonly busy: number;
}

export const PEOPLE: readonly Person[] = [
  {
    user: 'ana',
    team: 'platform',
    projects: ['ledger-api', 'checkout'],
    agents: ['claude_code', 'opencode'],
    busy: 0.6,
  },
  { user: 'ben', team: 'platform', projects: ['checkout', 'ledger-api'], agents: ['opencode'], busy: 0.5 },
  { user: 'chen', team: 'search', projects: ['search-index'], agents: ['opencode', 'codex'], busy: 0.55 },
  {
    user: 'dia',
    team: 'search',
    projects: ['search-index', 'docs-site'],
    agents: ['claude_code', 'gemini_cli'],
    busy: 0.35,
  },
  { user: 'emil', team: 'mobile', projects: ['ios-app'], agents: ['codex', 'opencode'], busy: 0.4 },
  { user: 'fatou', team: 'data', projects: ['warehouse', 'docs-site'], agents: ['opencode'], busy: 0.45 },
];

/** An agent that nobody watches: from midnight in UTC on it works, until it has spent what it may spend in a day. */
export const NIGHTLY = {
  ...{ user: 'nightly', team: 'data', agent: 'opencode', project: 'warehouse' },
  model: MODELS.find(({ agent, model }) => agent === 'opencode' && model === 'claude-sonnet-4-5')!,
  usdPerDay: 2,
} as const;

/** What some would like to call, and a rule forbids. */
export const FORBIDDEN = { agent: 'opencode', provider: 'opencode', model: 'claude-opus-4-5' } as const;

/** The agent with a plugin, which asks before every turn and tells of every one; the others export what became of theirs. */
export const ASKING_AGENT = 'opencode';

export interface DemoTool {
  readonly tool: string;
  readonly weight: number;
  /** How long it takes, in ms, about. */
  readonly ms: number;
  readonly mcpServer?: string;
  /** Share of calls that fail. */
  readonly fails: number;
}

export const TOOLS: readonly DemoTool[] = [
  { tool: 'read', weight: 10, ms: 40, fails: 0.02 },
  { tool: 'edit', weight: 7, ms: 60, fails: 0.08 },
  { tool: 'bash', weight: 7, ms: 4_000, fails: 0.14 },
  { tool: 'grep', weight: 5, ms: 120, fails: 0.01 },
  { tool: 'webfetch', weight: 1, ms: 1_800, fails: 0.12 },
  { tool: 'create_pull_request', weight: 0.4, ms: 1_500, mcpServer: 'github', fails: 0.05 },
  { tool: 'list_issues', weight: 0.8, ms: 700, mcpServer: 'github', fails: 0.03 },
  { tool: 'query', weight: 0.8, ms: 900, mcpServer: 'postgres', fails: 0.1 },
];
