// What the metrics of OpenUsage's snapshots are, as data: which typed family a key belongs to. Keys are free text that
// providers made up, so everything here is an allow-list: a key that no rule names is dropped. Keys that carry names
// (projects, clients, tools, models, organisations) have no rule on purpose.

/** What a rule makes of a metric. */
export type Target =
  /** A window of a plan or a rate limit. `$1` stands for what the pattern caught. */
  | { readonly as: 'quota'; readonly quota: string; readonly window?: string; readonly isRateLimit?: true }
  /** A limit on spending, or only the side that is used of one. */
  | { readonly as: 'limit'; readonly limit: string; readonly isLifetime?: true }
  | { readonly as: 'reload'; readonly side: 'trigger' | 'amount' }
  /** What the provider says was spent in a window. */
  | { readonly as: 'cost'; readonly window: string }
  /** The window is what the key says; a metric's own word for it goes before. */
  | { readonly as: 'tokens'; readonly window: string; readonly type: string }
  | { readonly as: 'models' }
  | { readonly as: 'value' };

export interface Rule {
  readonly key: RegExp;
  /** Only for metrics whose unit is a currency, or only for others. */
  readonly money?: boolean;
  /** Only for these providers. */
  readonly of?: readonly string[];
  readonly to: Target;
}

/**
 * Which metric is the account's balance: the first of these that has something remaining in a currency. One only, so that
 * the balances of an account can be added up; what it is made of (cash, vouchers, grants) is told as a value.
 */
export const BALANCES: readonly { readonly key: string; readonly kind: string }[] = [
  { key: 'console_balance', kind: 'console' },
  { key: 'credit_balance', kind: 'credit' },
  { key: 'available_balance', kind: 'available' },
  { key: 'total_balance', kind: 'total' },
  { key: 'credits', kind: 'credit' },
];

/** Their limit is the highest balance ever seen: nothing was agreed. */
export const PEAK_LIMITS: readonly string[] = ['moonshot'];

/** The window of what stands for no period: a balance, a session, or something that nobody named. */
export const NO_WINDOW = 'current';

const exact = (...keys: string[]) => new RegExp(`^(?:${keys.join('|')})$`);
const quota = (key: RegExp, name: string, more: { window?: string; isRateLimit?: true } = {}): Rule => ({
  key,
  money: false,
  to: { as: 'quota', quota: name, ...more },
});
const limit = (key: RegExp, name: string): Rule => ({ key, money: true, to: { as: 'limit', limit: name } });
/** The keys of one window mean the same money; the first that a snapshot has counts. */
const cost = (window: string, ...keys: string[]): Rule[] =>
  keys.map((key) => ({ key: exact(key), money: true, to: { as: 'cost', window } }));
const tokens = (key: RegExp, window: string): Rule => ({ key, money: false, to: { as: 'tokens', window, type: '$1' } });
const values = (...keys: string[]): Rule => ({ key: exact(...keys), to: { as: 'value' } });

const KIND = '(input|output|reasoning|cached|cache_read|cache_write|cache_create|cache_creation|citation)';

/** The first rule that fits a metric decides. */
export const RULES: readonly Rule[] = [
  {
    key: exact('credit_balance', 'credits'),
    of: ['openrouter'],
    money: true,
    to: { as: 'limit', limit: 'credit', isLifetime: true },
  },
  limit(exact('monthly_limit', 'monthly_budget'), 'monthly'),
  // Alibaba's months are 30 days.
  { key: exact('monthly_spend'), of: ['alibaba_cloud'], money: true, to: { as: 'cost', window: '30d' } },
  limit(exact('monthly_usage', 'monthly_spend'), 'monthly'),
  limit(exact('spend_limit'), 'spend'),
  limit(exact('plan_spend'), 'plan'),
  limit(exact('plan_total_spend_usd'), 'plan_total'),
  limit(exact('individual_spend'), 'individual'),
  limit(exact('team_budget'), 'team'),
  { key: exact('reload_trigger', 'auto_top_up_threshold'), money: true, to: { as: 'reload', side: 'trigger' } },
  { key: exact('reload_amount', 'auto_top_up_amount'), money: true, to: { as: 'reload', side: 'amount' } },

  quota(exact('rpm', 'tpm', 'rpd', 'tpd', 'rpm_alt', 'tpm_alt'), '$0', { isRateLimit: true }),
  quota(exact('concurrency_max'), 'concurrency', { isRateLimit: true }),
  quota(/^(gh_(?:core|search|graphql))_rpm$/, '$1', { window: '1h', isRateLimit: true }),
  quota(exact('usage_five_hour'), 'usage', { window: '5h' }),
  quota(exact('usage_seven_day', 'usage_weekly'), 'usage', { window: '7d' }),
  quota(/^usage_seven_day_(sonnet|opus|cowork)$/, 'usage_$1', { window: '7d' }),
  quota(exact('usage_one_day'), 'usage', { window: '1d' }),
  quota(/^usage_(?:rolling|monthly)$/, 'usage'),
  quota(exact('tokens_five_hour'), 'tokens', { window: '5h' }),
  quota(/^rate_limit_(primary|secondary|code_review_primary|code_review_secondary)$/, '$1'),
  quota(/^(chat|completions|premium_interactions)_quota$/, '$1'),
  quota(exact('quota'), 'worst_model'),
  quota(/^quota_(pro|flash)$/, '$1'),
  values('quota_models_tracked', 'quota_models_low', 'quota_models_exhausted'),
  quota(/^quota_(model_[a-z0-9_]{1,64})$/, '$1'),
  quota(exact('plan_percent_used'), 'plan'),
  quota(/^plan_(auto|api)_percent_used$/, 'plan_$1'),
  quota(exact('codex_credit_percent_used'), 'credits_percent'),
  quota(exact('codex_credit_limit'), 'credits'),
  quota(exact('mcp_monthly_usage'), 'mcp', { window: 'month' }),
  { ...quota(/^(model_[a-z0-9_]{1,64})_usage_pct$/, '$1_percent'), of: ['alibaba_cloud'] },
  { ...quota(/^(model_[a-z0-9_]{1,64})_used$/, '$1'), of: ['alibaba_cloud'] },

  ...cost(
    '1d',
    'today_api_cost',
    'today_cost',
    'today_cost_usd',
    'daily_cost_usd',
    'cost_today',
    'usage_daily',
    'daily_spend',
  ),
  ...cost('7d', '7d_api_cost', '7d_cost', 'usage_weekly'),
  ...cost('30d', '30d_api_cost', 'usage_monthly', 'monthly_cost'),
  ...cost('5h', '5h_block_cost'),
  ...cost('cycle', 'billing_total_cost'),
  ...cost('all', 'all_time_api_cost', 'total_cost_usd', 'total_cost', 'total_spend', 'composer_cost', 'cli_cost'),

  tokens(new RegExp(`^total_${KIND}(?:_tokens)?$`), 'all'),
  tokens(new RegExp(`^all_time_${KIND}_tokens$`), 'all'),
  tokens(new RegExp(`^today_${KIND}(?:_tokens)?$`), '1d'),
  tokens(new RegExp(`^7d_${KIND}(?:_tokens)?$`), '7d'),
  tokens(new RegExp(`^monthly_${KIND}_tokens$`), 'month'),
  tokens(new RegExp(`^billing_${KIND}_tokens$`), 'cycle'),
  tokens(new RegExp(`^session_${KIND}_tokens$`), NO_WINDOW),
  tokens(new RegExp(`^5h_block_${KIND}(?:_tokens)?$`), '5h'),
  tokens(new RegExp(`^${KIND}_tokens_window$`), '30d'),

  { key: exact('available_models'), money: false, to: { as: 'models' } },

  // What an account also tells of itself. API platforms:
  values('cash_balance', 'voucher_balance', 'granted_balance', 'topped_up_balance', 'pending_balance', 'total_balance'),
  values(
    'available_balance',
    'credit_balance',
    'credits',
    'limit_remaining',
    'input_token_limit',
    'output_token_limit',
  ),
  values('total_token_quota', 'usage_tier', 'tokens_used', 'requests_used'),
  values('(?:requests|search_queries|pro_search)_window', 'keys_(?:total|active|disabled)', 'recent_requests'),
  values('byok_(?:usage|daily|weekly|monthly)', '(?:today|7d|30d)_byok_cost'),
  values('analytics_(?:7d|30d)_(?:cost|byok_cost|requests|tokens|input|output|reasoning|cached)(?:_tokens)?'),
  values('today_(?:requests|image_tokens|avg_latency|avg_generation_time|avg_moderation_latency|streamed_percent)'),
  values('burn_rate', 'daily_projected', 'credit_grants_count', 'credit_active_grants', 'credit_expiring_30d'),
  values('active_models', 'active_languages'),
  // Coding agents with quotas:
  values('cache_hit_ratio', 'context_window', 'billing_cycle_progress', '5h_block_msgs', 'scored_commits'),
  values(
    'ai_code_percentage',
    'total_prompts',
    'composer_(?:lines_added|lines_removed|files_changed|requests|sessions)',
  ),
  values('codex_credit_burn_rate', 'codex_credit_runout_hours', 'plan_included', 'plan_bonus'),
  values('team_budget_(?:self|others)', 'team_size', 'team_owners', 'total_ai_requests'),
  values('tab_(?:suggested_lines|accepted_lines|suggestions|acceptances)', 'suggestions', 'acceptances', 'chats'),
  values('cli_(?:premium_requests|messages|sessions)', 'cache_efficiency', 'reasoning_share', 'tool_token_share'),
  values('avg_tokens_per_turn', 'avg_tools_per_session', 'mcp_servers_active'),
  values('models_(?:total|local|cloud)', 'loaded_models', 'loaded_vram_bytes', 'model_storage_bytes'),
  values('models_with_(?:tools|vision|thinking)', 'max_context_length', 'thinking_requests'),
  values('(?:chat|generate)_requests_today', 'avg_latency_ms_today', 'http_[45]xx_today'),
  // Agents that are read from local logs:
  values('total_(?:tokens|sessions|messages|tasks|requests|projects|conversations|threads|chats|credits)'),
  values('(?:tokens|sessions|messages|requests|tool_calls|tasks|threads|chats)_(?:today|1d|5h|7d)'),
  values('7d_(?:tokens|tool_calls|messages|sessions)', 'conversations_with_tokens'),
];

/** How token kinds are called elsewhere, and here. */
export const TOKEN_TYPES: Readonly<Record<string, string>> = {
  cache_create: 'cache_write',
  cache_creation: 'cache_write',
};

const WINDOWS: readonly (readonly [RegExp, string])[] = [
  [/^(?:1m|1 ?min(?:ute)?|per[ -]minute)$/, '1m'],
  [/^(?:1h|60m)$/, '1h'],
  [/^(?:5h|rolling[ -]5h|current 5h block|5h block)$/, '5h'],
  [/^(?:1d|24h|today|since midnight|daily)$/, '1d'],
  [/^3d$/, '3d'],
  [/^(?:7d|1w|rolling 7 days|weekly)(?:-[a-z]+)?$/, '7d'],
  [/^30d$/, '30d'],
  [/^(?:month|1mo|monthly)$/, 'month'],
  [/^(?:billing-cycle|billing_cycle|cycle|current-period|current_period)$/, 'cycle'],
  [/^(?:lifetime|all|all-time|all_time|all-time estimate|alltime)$/, 'all'],
];

/** The windows that labels name: a closed set. */
export function windowOf(stated: string): string {
  const text = stated.toLowerCase();
  return WINDOWS.find(([pattern]) => pattern.test(text))?.[1] ?? NO_WINDOW;
}

/** Counted things whose name is their unit. */
const COUNTED: ReadonlySet<string> = new Set([
  ...[
    'requests',
    'tokens',
    'messages',
    'calls',
    'sessions',
    'credits',
    'models',
    'keys',
    'grants',
    'members',
    'owners',
  ],
  ...[
    'users',
    'seats',
    'lines',
    'files',
    'queries',
    'units',
    'chats',
    'tasks',
    'threads',
    'bytes',
    'servers',
    'commits',
  ],
  ...['prompts', 'projects', 'conversations', 'percent'],
]);
/** Units of another spelling or size: what they are here, and what a value is multiplied by. */
const UNITS: Readonly<Record<string, { readonly unit: string; readonly times: number }>> = {
  '%': { unit: 'percent', times: 1 },
  pct: { unit: 'percent', times: 1 },
  h: { unit: 'seconds', times: 3600 },
  hours: { unit: 'seconds', times: 3600 },
  ms: { unit: 'seconds', times: 0.001 },
  s: { unit: 'seconds', times: 1 },
  seconds: { unit: 'seconds', times: 1 },
  'usd/h': { unit: 'usd_per_hour', times: 1 },
  'usd/hour': { unit: 'usd_per_hour', times: 1 },
  'credits/h': { unit: 'credits_per_hour', times: 1 },
  'credits/hour': { unit: 'credits_per_hour', times: 1 },
};
/** By ISO 4217. Any three letters would be a way to make series without end. */
const CURRENCIES: ReadonlySet<string> = new Set(Intl.supportedValuesOf('currency'));

export interface Unit {
  /** One of a closed set, or the lower-case code of a currency. */
  readonly unit: string;
  readonly times: number;
  /** ISO 4217, where it is money. */
  readonly currency?: string;
}

/** What a metric counts. Currencies are never converted. A unit that is not known counts as plain units. */
export function unitOf(stated: string): Unit {
  const text = stated.toLowerCase();
  if (COUNTED.has(text)) return { unit: text, times: 1 };
  const known = Object.hasOwn(UNITS, text) ? UNITS[text] : undefined;
  if (known) return known;
  if (CURRENCIES.has(stated)) return { unit: text, times: 1, currency: stated };
  return { unit: 'units', times: 1 };
}
