// The quick way to read a turn's record that is in order, as nearly all are: the fields of its schema (event-record.ts) by
// the same readings. Of one that is not, the schema says what is wrong.

import {
  isObject,
  knownReason,
  type Reading,
  readAccountId,
  readAgentName,
  readCostNano,
  readId,
  readLabel,
  readModel,
  readName,
  readProvider,
  readProviderBasis,
  readTokenCount,
  readUnixMs,
} from './fields.ts';
import type { ErrorReason, ProviderBasis, TurnStatus } from './turn-event.ts';
import { TURN_STATUSES } from './turn-event.ts';

/** The fields of a turn's record, read; those that were not stated are undefined. */
export interface TurnRecord {
  readonly agent: string;
  readonly id: {
    readonly session: string;
    readonly message: string;
    readonly prompt?: string | undefined;
    readonly subagent?: string | undefined;
  };
  readonly event_id?: string | undefined;
  readonly time: { readonly started: number; readonly completed?: number | undefined };
  readonly finished?: boolean | undefined;
  readonly completed?: boolean | undefined;
  readonly provider: string;
  readonly provider_basis?: ProviderBasis | undefined;
  readonly model: string;
  readonly upstream_provider?: string | undefined;
  readonly project?: string | undefined;
  readonly account_id?: string | undefined;
  readonly status?: TurnStatus | undefined;
  readonly reason?: ErrorReason | undefined;
  readonly tokens?: TokensRecord | undefined;
  /** In nano-USD. */
  readonly cost_usd?: number | undefined;
  readonly is_title?: true | undefined;
  readonly awaits_session?: true | undefined;
  readonly team?: string | undefined;
  readonly user?: string | undefined;
}

interface TokensRecord {
  readonly input?: number | undefined;
  readonly output?: number | undefined;
  readonly reasoning?: number | undefined;
  readonly cache_read?: number | undefined;
  readonly cache_write?: number | undefined;
}

/** Stands for a value that does not fit. */
const MISFIT = Symbol('misfit');

const isBlank = (value: unknown) => value === undefined || value === null || value === '';

/** What an optional field states. */
function optional<T>(stated: unknown, read: Reading<T>): T | undefined | typeof MISFIT {
  if (isBlank(stated)) return undefined;
  return read(stated) ?? MISFIT;
}

const readFlag: Reading<boolean> = (stated) => (typeof stated === 'boolean' ? stated : undefined);
const readTrue: Reading<true> = (stated) => (stated === true ? stated : undefined);
const readStatus: Reading<TurnStatus> = (stated) => TURN_STATUSES.find((known) => known === stated);
const readReason: Reading<ErrorReason> = (stated) => (typeof stated === 'string' ? knownReason(stated) : undefined);

const NOT_STATED: TokensRecord = Object.freeze({});

function readTokens(stated: unknown): TokensRecord | undefined {
  if (isBlank(stated)) return NOT_STATED;
  if (!isObject(stated)) return undefined;
  const input = optional(stated.input, readTokenCount);
  const output = optional(stated.output, readTokenCount);
  const reasoning = optional(stated.reasoning, readTokenCount);
  const cache_read = optional(stated.cache_read, readTokenCount);
  const cache_write = optional(stated.cache_write, readTokenCount);
  if (input === MISFIT || output === MISFIT || reasoning === MISFIT) return undefined;
  if (cache_read === MISFIT || cache_write === MISFIT) return undefined;
  return { input, output, reasoning, cache_read, cache_write };
}

/** The fields of a record of kind `turn`; undefined when any of them does not fit. Never throws. */
export function readTurn(record: Record<string, unknown>): TurnRecord | undefined {
  const { id, time } = record;
  if (!isObject(id) || !isObject(time)) return undefined;
  const agent = readAgentName(record.agent);
  const session = readId(id.session);
  const message = readId(id.message);
  const started = readUnixMs(time.started);
  const provider = readProvider(record.provider);
  const model = readModel(record.model);
  if (agent === undefined || session === undefined || message === undefined) return undefined;
  if (started === undefined || provider === undefined || model === undefined) return undefined;
  const tokens = readTokens(record.tokens);
  const completed = optional(time.completed, readUnixMs);
  const status = optional(record.status, readStatus);
  const cost_usd = optional(record.cost_usd, readCostNano);
  if (tokens === undefined || completed === MISFIT || status === MISFIT || cost_usd === MISFIT) return undefined;
  const event_id = optional(record.event_id, readId);
  const upstream_provider = optional(record.upstream_provider, readName);
  const project = optional(record.project, readName);
  const reason = optional(record.reason, readReason);
  if (event_id === MISFIT || upstream_provider === MISFIT || project === MISFIT || reason === MISFIT) return undefined;
  const finished = optional(record.finished, readFlag);
  const isCompleted = optional(record.completed, readFlag);
  const is_title = optional(record.is_title, readTrue);
  const awaits_session = optional(record.awaits_session, readTrue);
  if (finished === MISFIT || isCompleted === MISFIT || is_title === MISFIT || awaits_session === MISFIT) {
    return undefined;
  }
  return {
    agent,
    id: { session, message, prompt: readId(id.prompt), subagent: readId(id.subagent) },
    event_id,
    time: { started, completed },
    finished,
    completed: isCompleted,
    provider,
    provider_basis: readProviderBasis(record.provider_basis),
    model,
    upstream_provider,
    project,
    account_id: readAccountId(record.account_id),
    status,
    reason,
    tokens,
    cost_usd,
    is_title,
    awaits_session,
    team: readLabel(record.team),
    user: readLabel(record.user),
  };
}
