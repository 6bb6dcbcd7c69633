// Runs in the words of OpenTelemetry's semantic conventions for generative AI: spans of runs, calls of a model and tool
// calls, and a log record of each turn, error and verdict. Made from the normal form alone, so there is no content to leave
// out. Those conventions may still change; what is used of them is written out here.

import {
  type Attributes,
  type HrTime,
  SeverityNumber,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
} from '@opentelemetry/api';
import type { ProtobufLogsSerializer, ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import { type Resource, resourceFromAttributes } from '@opentelemetry/resources';
import {
  type ErrorEvent,
  type Identity,
  type ToolEvent,
  type TurnEvent,
  type TurnStatus,
  totalTokens,
} from '../turn/turn-event.ts';
import { semconvNameOfCalled } from '../turn/upstream-provider.ts';

export type Span = Parameters<typeof ProtobufTraceSerializer.serializeRequest>[0][number];
export type LogRecord = Parameters<typeof ProtobufLogsSerializer.serializeRequest>[0][number];

/** Where a span stands. */
export interface SpanPlace {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string | undefined;
}

/** One prompt from its first call to its last. */
export interface RunSummary extends Identity {
  readonly agent: string;
  readonly sessionId: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly calls: number;
  readonly toolCalls: number;
  /** Of its calls so far, in nano-USD; undefined where none was stated. */
  readonly costNano?: number | undefined;
  /** How its last call ended. */
  readonly errorType?: string | undefined;
}

/** What a policy answered. */
export interface ToldVerdict extends Identity {
  readonly decision: 'warn' | 'stop';
  readonly rule: string;
  readonly agent: string;
  readonly provider: string;
  readonly model: string;
  readonly tool?: string | undefined;
}

const NANO_PER_USD = 1e9;
const SCOPE = { name: 'tollbridge' };
const ABORTED = 'aborted';

const hrTime = (ms: number): HrTime => [Math.floor(ms / 1000), Math.round((ms % 1000) * 1e6)];
/** How a turn or a tool call ended, as the conventions' `error.type`; undefined when it ended well. */
export const errorTypeOf = ({ status, reason }: { status: TurnStatus; reason?: string }) =>
  status === 'ok' ? undefined : status === 'aborted' ? ABORTED : (reason ?? 'other');

const RESOURCES_MAX = 100;
const resources = new Map<string, Resource>();

/** A store lists runs by service, and their service is the agent. */
function resourceOf(agent: string): Resource {
  const known = resources.get(agent);
  if (known) return known;
  const resource = resourceFromAttributes({ 'service.name': agent, 'service.namespace': 'tollbridge' });
  // Agents are named by whoever sends.
  if (resources.size < RESOURCES_MAX) resources.set(agent, resource);
  return resource;
}

const contextOf = (traceId: string, spanId: string): SpanContext => ({
  ...{ traceId, spanId, traceFlags: TraceFlags.SAMPLED },
});

interface SpanParts {
  readonly name: string;
  readonly kind: SpanKind;
  readonly place: SpanPlace;
  readonly agent: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Attributes;
  readonly errorType: string | undefined;
}

function spanOf({ place, startMs, endMs, attributes, errorType, agent, ...named }: SpanParts): Span {
  const { traceId, spanId, parentSpanId } = place;
  const context = contextOf(traceId, spanId);
  return {
    ...named,
    spanContext: () => context,
    ...(parentSpanId && { parentSpanContext: contextOf(traceId, parentSpanId) }),
    startTime: hrTime(startMs),
    endTime: hrTime(Math.max(startMs, endMs)),
    duration: hrTime(Math.max(0, endMs - startMs)),
    ended: true,
    // A call that its user stopped has not failed.
    status: { code: errorType && errorType !== ABORTED ? SpanStatusCode.ERROR : SpanStatusCode.UNSET },
    attributes: withoutBlanks({ ...attributes, 'error.type': errorType }),
    links: [],
    events: [],
    resource: resourceOf(agent),
    instrumentationScope: SCOPE,
    ...{ droppedAttributesCount: 0, droppedEventsCount: 0, droppedLinksCount: 0 },
  };
}

const withoutBlanks = (attributes: Attributes): Attributes =>
  Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined && value !== ''));

const identityOf = ({ team, user, project }: Identity): Attributes => ({
  ...{ 'toll.team': team, 'toll.user': user, 'toll.project': project },
});

/** What is the same in a turn's span and in its log record. */
function turnAttributes(turn: TurnEvent): Attributes {
  const { tokens } = turn;
  return {
    'gen_ai.operation.name': 'chat',
    'gen_ai.provider.name': semconvNameOfCalled(turn.provider),
    'gen_ai.request.model': turn.model,
    'gen_ai.conversation.id': turn.sessionId,
    // By the conventions the whole: with what was read from and written to the cache, and with reasoning.
    'gen_ai.usage.input_tokens': tokens.input + tokens.cache_read + tokens.cache_write,
    'gen_ai.usage.output_tokens': tokens.output + tokens.reasoning,
    'gen_ai.usage.cache_read.input_tokens': tokens.cache_read,
    'gen_ai.usage.cache_creation.input_tokens': tokens.cache_write,
    'gen_ai.usage.reasoning.output_tokens': tokens.reasoning,
    'toll.agent': turn.agent,
    'toll.provider': turn.provider,
    'toll.upstream_provider': turn.upstreamProvider,
    'toll.account': turn.account,
    'toll.pricing': turn.pricing,
    'toll.cost.usd': turn.costNano === undefined ? undefined : turn.costNano / NANO_PER_USD,
    'toll.cost.estimated_usd': turn.estimatedNano === undefined ? undefined : turn.estimatedNano / NANO_PER_USD,
    ...identityOf(turn),
  };
}

/** `chat <model>`: one call of a model. */
export function chatSpan(turn: TurnEvent, place: SpanPlace): Span {
  return spanOf({
    ...{ place, name: `chat ${turn.model}`, kind: SpanKind.CLIENT, agent: turn.agent },
    ...{ startMs: turn.startedMs, endMs: turn.completedMs ?? turn.startedMs },
    attributes: turnAttributes(turn),
    errorType: errorTypeOf(turn),
  });
}

/** `execute_tool <name>`: one tool call, below the call of the model that asked for it. */
export function toolSpan(call: ToolEvent, endMs: number, place: SpanPlace): Span {
  return spanOf({
    ...{ place, name: `execute_tool ${call.tool}`, kind: SpanKind.INTERNAL, agent: call.agent },
    ...{ startMs: call.startedMs ?? endMs, endMs },
    attributes: {
      'gen_ai.operation.name': 'execute_tool',
      'gen_ai.tool.name': call.tool,
      'gen_ai.tool.call.id': call.callId,
      'gen_ai.tool.type': 'function',
      'gen_ai.conversation.id': call.sessionId,
      'toll.mcp_server': call.mcpServer,
    },
    errorType: errorTypeOf({ status: call.status, reason: 'tool_error' }),
  });
}

/** `invoke_agent <agent>`: a prompt with all its calls. What it sums up has names of its own, so that no sum over spans counts twice. */
export function runSpan(run: RunSummary, place: SpanPlace): Span {
  return spanOf({
    ...{ place, name: `invoke_agent ${run.agent}`, kind: SpanKind.INTERNAL, agent: run.agent },
    ...{ startMs: run.startMs, endMs: run.endMs },
    attributes: {
      'gen_ai.operation.name': 'invoke_agent',
      'gen_ai.agent.name': run.agent,
      'gen_ai.conversation.id': run.sessionId,
      'toll.run.calls': run.calls,
      'toll.run.tool_calls': run.toolCalls,
      'toll.run.cost.usd': run.costNano === undefined ? undefined : run.costNano / NANO_PER_USD,
      ...identityOf(run),
    },
    errorType: run.errorType,
  });
}

interface LogParts {
  readonly eventName: string;
  readonly agent: string;
  readonly atMs: number;
  readonly severity: 'INFO' | 'WARN' | 'ERROR';
  readonly body: string;
  readonly attributes: Attributes;
  readonly place?: SpanPlace;
}

function logOf({ eventName, agent, atMs, severity, body, attributes, place }: LogParts): LogRecord {
  return {
    ...{ eventName, body, severityText: severity, severityNumber: SeverityNumber[severity] },
    hrTime: hrTime(atMs),
    // Said again it must be the same record: a store tells by it that it has it.
    hrTimeObserved: hrTime(atMs),
    ...(place && { spanContext: contextOf(place.traceId, place.spanId) }),
    attributes: withoutBlanks(attributes),
    resource: resourceOf(agent),
    instrumentationScope: SCOPE,
    droppedAttributesCount: 0,
  };
}

/** `toll.turn`: one turn. */
export function turnLog(turn: TurnEvent, place: SpanPlace): LogRecord {
  const { agent, model, upstreamProvider, costNano, estimatedNano } = turn;
  const errorType = errorTypeOf(turn);
  const cost = costNano ?? estimatedNano;
  const parts = [
    `turn ${turn.status}${errorType && errorType !== ABORTED ? ` (${errorType})` : ''}:`,
    `${agent} called ${model} of ${upstreamProvider},`,
    `${totalTokens(turn.tokens)} tokens`,
    ...(cost === undefined ? [] : [`for ${cost / NANO_PER_USD} USD${costNano === undefined ? ' (estimated)' : ''}`]),
  ];
  return logOf({
    ...{ eventName: 'toll.turn', agent, place, atMs: turn.completedMs ?? turn.startedMs, body: parts.join(' ') },
    severity: turn.status === 'error' ? 'ERROR' : 'INFO',
    attributes: {
      ...turnAttributes(turn),
      'toll.status': turn.status,
      'error.type': errorType,
      'toll.duration_ms': turn.completedMs === undefined ? undefined : turn.completedMs - turn.startedMs,
    },
  });
}

/** `toll.error`: a call of a model that failed and that its agent makes again. */
export function errorLog(error: ErrorEvent): LogRecord {
  const { agent, provider, model, reason, upstreamProvider, sessionId, failedMs } = error;
  return logOf({
    ...{ eventName: 'toll.error', agent, atMs: failedMs, severity: 'ERROR' },
    body: `a call failed (${reason}): ${agent} called ${model} of ${upstreamProvider}`,
    attributes: {
      'gen_ai.provider.name': semconvNameOfCalled(provider),
      'gen_ai.request.model': model,
      'gen_ai.conversation.id': sessionId,
      'error.type': reason,
      'toll.agent': agent,
      'toll.provider': provider,
      'toll.upstream_provider': upstreamProvider,
    },
  });
}

/** `toll.verdict`: a policy warned, or refused a call. */
export function verdictLog(verdict: ToldVerdict, atMs: number): LogRecord {
  const { decision, rule, agent, provider, model, tool } = verdict;
  const what = tool ? `tool ${tool}` : model;
  return logOf({
    ...{ eventName: 'toll.verdict', agent, atMs, severity: 'WARN' },
    body: `${decision === 'stop' ? 'stopped' : 'warned'} by ${rule}: ${agent}, ${what}`,
    attributes: {
      'toll.verdict.decision': decision,
      'toll.verdict.rule': rule,
      'gen_ai.provider.name': semconvNameOfCalled(provider),
      'gen_ai.request.model': model,
      'gen_ai.tool.name': tool,
      'toll.agent': agent,
      'toll.provider': provider,
      ...identityOf(verdict),
    },
  });
}
