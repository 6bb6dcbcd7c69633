// Every metric, as data. Instruments, the exposition, docs/metrics.md, dashboards and rules are derived from this file,
// and a test compares it with a live scrape in both directions.

import { ACCOUNT_FAMILIES } from './account-families.ts';
import { counted, family, type MetricFamily } from './metric-family.ts';
import { POLICY_FAMILIES } from './policy-families.ts';
import { WINDOW_FAMILIES } from './window-families.ts';

export { type MetricFamily, PARTITION } from './metric-family.ts';

const NANO = 1e9;
const MS = 1e3;
const TURN = ['agent', 'provider', 'account', 'upstream_provider', 'model', 'project', 'team'] as const;
const TURN_OPTIONAL = ['account', 'project', 'team'] as const;
const TURN_USER = [...TURN, 'user'] as const;
const TURN_USER_OPTIONAL = [...TURN_OPTIONAL, 'user'] as const;
const SERVED = ['agent', 'provider', 'upstream_provider', 'model'] as const;

const TURN_SECONDS = [0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280];
const TOOL_SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];
const POLL_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const COMMIT_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
/** The buckets that the semantic conventions advise for the two `gen_ai_client_*` histograms. */
const GEN_AI_TOKENS = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864];
const GEN_AI_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

const NET = 'Net = this − its corrections.';

/** What is paid and polled. Read from the ledger; counters never fall and are restored before the first scrape. */
export const TOLL = {
  cost: counted('toll_cost_usd_total', {
    type: 'counter',
    unit: '{USD}',
    scale: NANO,
    labels: TURN_USER,
    optional: TURN_USER_OPTIONAL,
    help: `Cost of turns as the agent stated it, in USD. ${NET}`,
  }),
  tokens: counted('toll_tokens_total', {
    type: 'counter',
    unit: '{token}',
    labels: [...TURN, 'token_type'],
    optional: TURN_OPTIONAL,
    help: `Tokens of turns; the token types are disjoint and add up to the total. ${NET}`,
  }),
  turns: counted('toll_turns_total', {
    type: 'counter',
    unit: '{turn}',
    labels: [...TURN_USER, 'status'],
    optional: TURN_USER_OPTIONAL,
    help: 'Turns (model steps: completed assistant messages). Each counts once, when it completes.',
  }),
  costCorrections: counted('toll_cost_corrections_usd_total', {
    type: 'counter',
    unit: '{USD}',
    scale: NANO,
    labels: TURN_USER,
    optional: TURN_USER_OPTIONAL,
    help: 'Stated cost that later descriptions of the same turns took back, in USD.',
  }),
  tokensCorrections: counted('toll_tokens_corrections_total', {
    type: 'counter',
    unit: '{token}',
    labels: [...TURN, 'token_type'],
    optional: TURN_OPTIONAL,
    help: 'Tokens that later descriptions of the same turns took back.',
  }),
  costEstimated: counted('toll_cost_estimated_usd_total', {
    type: 'counter',
    unit: '{USD}',
    scale: NANO,
    labels: TURN_USER,
    optional: TURN_USER_OPTIONAL,
    help: `Cost that no agent stated, priced by the pricing rules, in USD. Never part of toll_cost_usd_total. ${NET}`,
  }),
  costEstimatedCorrections: counted('toll_cost_estimated_corrections_usd_total', {
    type: 'counter',
    unit: '{USD}',
    scale: NANO,
    labels: TURN_USER,
    optional: TURN_USER_OPTIONAL,
    help: 'Estimated cost that later descriptions of the same turns took back, in USD.',
  }),
  unpricedTokens: counted('toll_unpriced_tokens_total', {
    type: 'counter',
    unit: '{token}',
    labels: ['provider', 'upstream_provider', 'model'],
    help: 'Tokens of turns that state no cost and match no pricing rule: their cost is unknown, not zero.',
  }),
  turnDuration: counted('toll_turn_duration_seconds', {
    type: 'histogram',
    unit: 's',
    scale: MS,
    labels: SERVED,
    buckets: TURN_SECONDS,
    help: 'Wall time of a turn, from its start to its completion.',
  }),
  modelDuration: counted('toll_model_duration_seconds', {
    type: 'histogram',
    unit: 's',
    scale: MS,
    labels: SERVED,
    buckets: TURN_SECONDS,
    help: 'Wall time of a turn less the time in which tools ran or the user was asked: what the model took. Observed 60 s after completion.',
  }),
  titleTurns: counted('toll_title_turns_total', {
    type: 'counter',
    unit: '{turn}',
    labels: SERVED,
    help: 'Turns that only gave a session its title, of agents that tell of them. Part of toll_turns_total.',
  }),
  turnErrors: counted('toll_turn_errors_total', {
    type: 'counter',
    unit: '{error}',
    labels: [...SERVED, 'reason'],
    help: 'Turns that failed, by reason. Of agents that report every failed call of a model by OTLP, those calls: they are no turns.',
  }),
  turnsUnfinished: counted('toll_turns_unfinished', {
    type: 'gauge',
    unit: '{turn}',
    labels: ['agent', 'provider'],
    help: 'Turns that began more than 15 minutes ago and were never seen to finish: their usage is unknown.',
  }),
  toolCalls: counted('toll_tool_calls_total', {
    type: 'counter',
    unit: '{call}',
    labels: ['agent', 'upstream_provider', 'tool', 'status', 'mcp_server', 'project'],
    optional: ['mcp_server', 'project'],
    help: 'Finished tool calls, under the upstream provider of the turn that made them.',
  }),
  toolDuration: counted('toll_tool_duration_seconds', {
    type: 'histogram',
    unit: 's',
    scale: MS,
    labels: ['agent', 'tool'],
    buckets: TOOL_SECONDS,
    help: 'Wall time of a tool call, waiting for permission included.',
  }),
  sessions: counted('toll_sessions_total', {
    type: 'counter',
    unit: '{session}',
    labels: ['agent', 'project'],
    optional: ['project'],
    help: 'Sessions seen; forks and sub-agent sessions are sessions of their own.',
  }),
  pricingInfo: family('toll_pricing_info', {
    type: 'gauge',
    unit: '{info}',
    labels: ['provider', 'model', 'state'],
    help: 'How the newest turn of a model was priced: stated, estimated, free, included or unknown.',
  }),
  upstreamUnmapped: family('toll_upstream_unmapped', {
    type: 'gauge',
    unit: '{info}',
    labels: ['upstream_provider', 'reason'],
    help: 'Upstream providers without an OpenUsage tile of their own. `tollbridge doctor` prints the line of configuration that mends it.',
  }),
  tileInfo: family('toll_tile_info', {
    type: 'gauge',
    unit: '{info}',
    labels: ['upstream_provider', 'tile'],
    help: 'The tile that an upstream provider is shown under, after provider links; one of its own name where OpenUsage has none for it.',
  }),
  tile: family('toll_tile', {
    type: 'gauge',
    unit: '{info}',
    labels: ['tile', 'title'],
    help: 'Every tile there is: those that show an upstream provider, and those of polled accounts. The title is for people.',
  }),
  ...WINDOW_FAMILIES,
  ...ACCOUNT_FAMILIES,
  ...POLICY_FAMILIES,
  genAiTokenUsage: counted('gen_ai_client_token_usage', {
    otelName: 'gen_ai.client.token.usage',
    type: 'histogram',
    unit: '{token}',
    labels: ['gen_ai_operation_name', 'gen_ai_provider_name', 'gen_ai_request_model', 'gen_ai_token_type'],
    buckets: GEN_AI_TOKENS,
    help: 'Tokens per turn by semantic convention: input includes cached tokens, output includes reasoning.',
  }),
  genAiOperationDuration: counted('gen_ai_client_operation_duration_seconds', {
    otelName: 'gen_ai.client.operation.duration',
    type: 'histogram',
    unit: 's',
    scale: MS,
    labels: ['gen_ai_operation_name', 'gen_ai_provider_name', 'gen_ai_request_model', 'error_type'],
    optional: ['error_type'],
    buckets: GEN_AI_SECONDS,
    help: 'Wall time of a turn by semantic convention.',
  }),
  series: counted('tollbridge_series', {
    type: 'gauge',
    unit: '{series}',
    labels: ['metric'],
    help: 'Label sets that a restored metric holds.',
  }),
  seriesOverflow: counted('tollbridge_series_overflow_total', {
    type: 'counter',
    unit: '{value}',
    labels: ['metric'],
    help: 'Increments whose label values were folded into `other` because a cap was reached.',
  }),
  ledgerSize: counted('tollbridge_ledger_size_bytes', {
    type: 'gauge',
    unit: 'By',
    help: 'Size of the ledger on disk.',
  }),
  ledgerCreated: counted('tollbridge_ledger_created_timestamp_seconds', {
    type: 'gauge',
    unit: 's',
    scale: MS,
    help: 'When this ledger began to count, Unix time.',
  }),
} as const satisfies Record<string, MetricFamily>;

/** The bridge's own health: SDK instruments, per process, from 0 at each start. */
export const BRIDGE = {
  buildInfo: family('tollbridge_build_info', {
    type: 'gauge',
    unit: '{info}',
    labels: ['version', 'node'],
    help: 'The version that runs.',
  }),
  received: family('tollbridge_events_received_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source'],
    help: 'Events received. At rest: received = recorded + updated + duplicate + forwarded + ignored + rejected.',
  }),
  recorded: family('tollbridge_events_recorded_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source'],
    help: 'Events that brought something new into the ledger.',
  }),
  updated: family('tollbridge_events_updated_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source'],
    help: 'Events that said more about something the ledger knew.',
  }),
  duplicate: family('tollbridge_events_duplicate_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source'],
    help: 'Events that said nothing new.',
  }),
  forwarded: family('tollbridge_events_forwarded_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source'],
    help: 'Events handed to a stream, or kept on disk for it, instead of being booked here.',
  }),
  ignored: family('tollbridge_events_ignored_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source', 'kind'],
    help: 'Events passed over although nothing is wrong with them, by kind.',
  }),
  rejected: family('tollbridge_events_rejected_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source', 'reason'],
    help: 'Events that could not be booked, by reason.',
  }),
  conflicting: family('tollbridge_events_conflicting_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source', 'field'],
    help: 'Later descriptions of a turn that name another model, project or identity. Counted, never moved.',
  }),
  redated: family('tollbridge_events_redated_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source'],
    help: 'Events dated more than 5 minutes ahead: booked under the time of receipt.',
  }),
  inconsistent: family('tollbridge_events_inconsistent_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source'],
    help: 'Turns of which a part of the tokens was stated to be more than the whole. What is left is booked as 0, not as less.',
  }),
  twins: family('tollbridge_duplicates_suspected_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source'],
    help: 'Turns that look like one that another source brought: same agent, session and tokens within 60 s, another id. Both are booked; choose one road with the sources setting.',
  }),
  identityMismatch: family('tollbridge_identity_mismatch_total', {
    type: 'counter',
    unit: '{event}',
    labels: ['source'],
    help: 'Events that name another team, user, project or account than the credential or subject they came with, which was believed.',
  }),
  truncated: family('tollbridge_requests_truncated_total', {
    type: 'counter',
    unit: '{request}',
    labels: ['source'],
    help: 'Requests whose sender left before the whole body had arrived.',
  }),
  refused: family('tollbridge_requests_refused_total', {
    type: 'counter',
    unit: '{request}',
    labels: ['source', 'reason'],
    help: 'Requests turned away, by reason: backlog, ledger, connections or rate_limit (told to come again later; senders that wait lose nothing), unauthorized (without a token or certificate that is known), malformed or too_large (questions that cannot be read; events are counted as rejected).',
  }),
  lost: family('tollbridge_requests_lost_total', {
    type: 'counter',
    unit: '{request}',
    labels: ['source'],
    help: 'Requests and messages gone for good: nobody else had them and the ledger could not commit for a minute, or a stream let go of them unread.',
  }),
  sourceUp: family('tollbridge_source_up', {
    type: 'gauge',
    unit: '{state}',
    labels: ['source'],
    help: 'Whether a source works: 1, or 0.',
  }),
  sourceLastSuccess: family('tollbridge_source_last_success_timestamp_seconds', {
    type: 'gauge',
    unit: 's',
    labels: ['source'],
    help: 'When a source last delivered, Unix time.',
  }),
  unitCorrections: family('tollbridge_unit_corrections_total', {
    type: 'counter',
    unit: '{value}',
    labels: ['provider'],
    help: 'Values that came in a wrong unit, known from older senders, and were corrected.',
  }),
  polls: family('tollbridge_polls_total', {
    type: 'counter',
    unit: '{poll}',
    labels: ['provider', 'account', 'result'],
    help: 'Polls of an account, by result: ok, auth, limited, error or timeout.',
  }),
  pollRouteUp: family('tollbridge_poll_route_up', {
    type: 'gauge',
    unit: '{state}',
    labels: ['provider', 'account', 'route'],
    help: 'Whether a route of a polled account answered well when it was last asked: 1, or 0.',
  }),
  pollDuration: family('tollbridge_poll_duration_seconds', {
    type: 'histogram',
    unit: 's',
    labels: ['provider'],
    buckets: POLL_SECONDS,
    help: 'How long a poll took.',
  }),
  pollInterval: family('tollbridge_poll_interval_seconds', {
    type: 'gauge',
    unit: 's',
    labels: ['provider', 'account'],
    help: 'The interval at which an account is polled now, back-off included; of several remotes, the one asked most often.',
  }),
  partitionOwned: family('tollbridge_partition_owned', {
    type: 'gauge',
    unit: '{state}',
    labels: ['partition'],
    help: 'Which part of the turns this bridge counts, as k/N.',
  }),
  certificateEnd: family('tollbridge_certificate_end_timestamp_seconds', {
    type: 'gauge',
    unit: 's',
    labels: ['listener'],
    help: 'When the certificate ends that is shown on metrics.tls, tcp.tls or otlp_in.tls, Unix time.',
  }),
  relayQueueEvents: family('tollbridge_relay_queue_events', {
    type: 'gauge',
    unit: '{event}',
    help: 'Events that wait on disk until NATS takes them.',
  }),
  relayQueueBytes: family('tollbridge_relay_queue_bytes', {
    type: 'gauge',
    unit: 'By',
    help: 'Bytes that wait on disk until NATS takes them.',
  }),
  commitDuration: family('tollbridge_ledger_commit_duration_seconds', {
    type: 'histogram',
    unit: 's',
    buckets: COMMIT_SECONDS,
    help: 'How long a commit of the ledger took.',
  }),
  batchSize: family('tollbridge_ledger_batch_size', {
    type: 'histogram',
    unit: '{event}',
    buckets: [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000],
    help: 'Events per commit.',
  }),
  scrapeDuration: family('tollbridge_scrape_duration_seconds', {
    type: 'histogram',
    unit: 's',
    buckets: COMMIT_SECONDS,
    help: 'How long the answer to a scrape took to build.',
  }),
  otlpExports: family('tollbridge_otlp_exports_total', {
    type: 'counter',
    unit: '{export}',
    labels: ['signal', 'result'],
    help: 'Requests by OTLP, by signal (metrics, traces, logs) and result: ok or error. What a push of metrics misses, the next one brings; spans and log records wait and are tried again.',
  }),
  otlpDropped: family('tollbridge_otlp_dropped_total', {
    type: 'counter',
    unit: '{record}',
    labels: ['signal', 'reason'],
    help: 'Spans and log records that were not sent, by reason: queue_full, refused by the receiver, too_old (ended more than a day ago), no_turn (a tool call of an unknown turn), stopped. Nothing that is counted elsewhere is touched by it.',
  }),
} as const satisfies Record<string, MetricFamily>;
