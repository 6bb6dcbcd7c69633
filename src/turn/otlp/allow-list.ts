// The attributes that are read. What is not listed here is passed over where it stands and never enters a value: agents
// put prompts, system instructions, tool arguments, command lines and e-mails beside the numbers, whatever their settings.

const ATTRIBUTE_KEYS = [
  // Any agent.
  ...['event.name', 'event.kind', 'event.timestamp', 'session.id', 'model', 'duration_ms', 'status_code', 'success'],
  // What a user writes into OTEL_RESOURCE_ATTRIBUTES.
  ...['team', 'user.name', 'project'],
  // Claude Code.
  ...['request_id', 'prompt.id', 'agent_id', 'event.sequence', 'anthropic.provider', 'anthropic.custom_base_url'],
  ...['anthropic.plan', 'anthropic.seat_type'],
  ...['input_tokens', 'output_tokens', 'cache_read_tokens', 'cache_creation_tokens', 'cost_usd'],
  ...['tool_name', 'tool_use_id', 'query_source'],
  // Codex.
  ...['conversation.id', 'provider_name', 'call_id', 'mcp_server', 'http.response.status_code'],
  ...['input_token_count', 'output_token_count', 'cached_token_count', 'cache_write_token_count'],
  ...['reasoning_token_count'],
  // Gemini CLI.
  ...['auth_type', 'prompt_id', 'function_name', 'mcp_server_name', 'decision'],
  ...['cached_content_token_count', 'thoughts_token_count', 'tool_token_count', 'total_token_count'],
  // OpenCode's spans.
  ...['gen_ai.system', 'gen_ai.request.model', 'ai.usage.inputTokens', 'ai.usage.outputTokens'],
  ...['ai.usage.inputTokenDetails.cacheReadTokens', 'ai.usage.inputTokenDetails.cacheWriteTokens'],
  'ai.usage.outputTokenDetails.reasoningTokens',
] as const;

export type AttributeKey = (typeof ATTRIBUTE_KEYS)[number];
export type Scalar = string | number | boolean;
export type Attributes = Readonly<Partial<Record<AttributeKey, Scalar>>>;

const KEYS: ReadonlySet<string> = new Set(ATTRIBUTE_KEYS);

/** Whether an attribute of this name is read. */
export const isRead = (key: unknown): key is AttributeKey => typeof key === 'string' && KEYS.has(key);
