// The record of `/v1/events`, the spool and a bus. One schema decodes it and is published as docs/event.schema.json.

import { z } from 'zod';
import { type Decoded, decodedEvent, HOOK_AGENTS, rejected } from './decoded.ts';
import {
  agentName,
  costNano,
  errorReason,
  id,
  isObject,
  mcpServerOf,
  model,
  name,
  notBefore,
  optionalAccountId,
  optionalServerName,
  present,
  provider,
  providerBasis,
  relatedId,
  statedLabel,
  tokenCount,
  toolName,
  unixMs,
} from './fields.ts';
import { rejectionOf, valueAt } from './message-fields.ts';
import { projectName } from './project-name.ts';
import { type Mutable, NO_TOKENS, type StatedTurn, TURN_STATUSES } from './turn-event.ts';
import { readTurn, type TurnRecord } from './turn-record.ts';
import { decodedSnapshot, usageSnapshot } from './usage-snapshot.ts';

const RECORD_VERSION = 1;
const MACHINE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

const expectedObject = { error: 'expected an object' };
const version = z.literal(RECORD_VERSION);
const status = z.enum(TURN_STATUSES, { error: `expected one of ${TURN_STATUSES.join(', ')}` });
const project = name.meta({ description: 'The base name of the worktree root; of a path only the base name is kept.' });
const finished = z.boolean({ error: 'expected true or false' });

/** `readTurn` reads the same fields of a record that is in order. */
const turn = z.object({
  v: version,
  kind: z.literal('turn'),
  agent: agentName,
  id: z.object(
    {
      session: id,
      message: id,
      prompt: relatedId.meta({
        type: 'string',
        description: 'What the user asked for: the turns of one prompt make one trace.',
      }),
      subagent: relatedId.meta({ type: 'string', description: 'The helper that the agent started for a part of it.' }),
    },
    expectedObject,
  ),
  event_id: id.optional().meta({ description: "The sender's id of this description; ids of one agent sort by time." }),
  time: z.object({ started: unixMs, completed: unixMs.optional() }, expectedObject),
  finished: finished
    .optional()
    .meta({ description: 'The numbers are final, though the turn is not yet completed. A status says so too.' }),
  completed: finished
    .optional()
    .meta({ description: 'The turn is completed, at a time that nobody stated. time.completed says so too.' }),
  provider,
  provider_basis: providerBasis,
  model,
  upstream_provider: name.optional(),
  project: project.optional(),
  account_id: optionalAccountId,
  status: status
    .optional()
    .meta({ description: 'Leave out while the turn is in progress; ok when it completed and nothing else is known.' }),
  reason: errorReason.optional(),
  tokens: z
    .object(
      {
        input: tokenCount.optional(),
        output: tokenCount.optional(),
        reasoning: tokenCount.optional(),
        cache_read: tokenCount.optional(),
        cache_write: tokenCount.optional(),
      },
      expectedObject,
    )
    .optional()
    .meta({ description: 'Disjoint: they add up to the total.' }),
  cost_usd: costNano.optional(),
  is_title: z
    .literal(true, { error: 'expected true, or nothing' })
    .optional()
    .meta({ description: 'It did nothing but give its session a title.' }),
  awaits_session: z
    .literal(true, { error: 'expected true, or nothing' })
    .optional()
    .meta({ description: 'Book it once another record tells of its session, and not without one.' }),
  team: statedLabel,
  user: statedLabel,
});

const tool = z.object({
  v: version,
  kind: z.literal('tool'),
  agent: agentName,
  id: z.object(
    { session: id, call: id, message: id.optional(), prompt: relatedId.meta({ type: 'string' }) },
    expectedObject,
  ),
  time: z.object({ started: unixMs.optional(), completed: unixMs.optional() }, expectedObject).optional(),
  tool: toolName,
  mcp_server: optionalServerName,
  status: status.optional().meta({ description: 'Leave out while the tool runs.' }),
  project: project.optional(),
  origin: z
    .enum(['part', 'hook'], { error: 'expected part or hook' })
    .optional()
    .meta({ description: "hook: a bare notice, which fills gaps of the agent's own record only. Default part." }),
});

const permission = z.object({
  v: version,
  kind: z.literal('permission'),
  agent: agentName,
  id: z.object({ session: id, request: id, message: id.optional() }, expectedObject),
  time: z.object({ asked: unixMs.optional(), replied: unixMs.optional() }, expectedObject).optional(),
});

const error = z.object({
  v: version,
  kind: z.literal('error'),
  agent: agentName,
  id: z.object({ session: id, attempt: id }, expectedObject),
  time: z.object({ failed: unixMs }, expectedObject),
  provider,
  provider_basis: providerBasis,
  model,
  reason: errorReason.optional(),
});

const session = z.object({
  v: version,
  kind: z.literal('session'),
  agent: agentName,
  id: z.object(
    {
      session: id,
      parent: relatedId.meta({
        type: 'string',
        description: 'The session that started this one for a part of its own work.',
      }),
    },
    expectedObject,
  ),
  project: project.optional(),
});

const poll = z.object({
  v: version,
  kind: z.literal('poll'),
  interval_s: z
    .number({ error: 'expected a number of seconds' })
    .min(1, { error: 'expected at least 1' })
    .max(86_400, { error: 'expected at most 86400' })
    .optional()
    .meta({ description: 'How often the account is read; the reading is shown for three times this. Default 100.' }),
  sent: unixMs.optional().meta({ description: "When it was sent, by its sender's clock." }),
  machine: z
    .string({ error: 'expected the name of a machine' })
    .regex(MACHINE, { error: 'expected the name of a machine: 1 to 63 of A-Z a-z 0-9 . _ -' })
    .optional(),
  payload: usageSnapshot,
});

const hook = z.object({
  v: version.optional(),
  kind: z.literal('hook').optional(),
  source: z.enum(HOOK_AGENTS),
  account_id: optionalAccountId,
  payload: z.record(z.string(), z.unknown()).meta({ description: "The body of the agent's hook, as it came." }),
});

/** The JSON Schema (draft 2020-12) of one record, as plain data. */
export function eventSchema(): object {
  const { $schema, ...schema } = z.toJSONSchema(z.union([turn, tool, permission, error, session, poll, hook]), {
    io: 'input',
    unrepresentable: 'any',
  });
  return {
    $schema,
    title: 'Tollbridge event record',
    description:
      'One record of POST /v1/events, of a spool file or of a bus message. Unknown fields are tolerated; null and "" mean absent.',
    ...schema,
  };
}

/** Decodes one record of any kind but hook. Never throws. */
export function decodeEventRecord(record: Record<string, unknown>): Decoded {
  const v = valueAt(record, 'v');
  if (v === undefined) return rejected({ reason: 'missing_field', detail: `v: missing; expected ${RECORD_VERSION}` });
  if (v !== RECORD_VERSION) {
    return rejected({
      reason: 'unsupported_version',
      detail: `v: expected ${RECORD_VERSION}, the only version that this bridge knows`,
    });
  }
  const kind = valueAt(record, 'kind');
  switch (kind) {
    case 'turn':
      return decodeTurn(record);
    case 'tool':
      return read(tool, record, toTool);
    case 'permission':
      return read(permission, record, toPermission);
    case 'error':
      return read(error, record, toError);
    case 'session':
      return read(session, record, toSession);
    case 'poll':
      // The snapshot's fields may also stand beside the kind.
      return read(poll, isObject(valueAt(record, 'payload')) ? record : { ...record, payload: record }, toPoll);
    case undefined:
    case null:
      return rejected({
        reason: 'missing_field',
        detail: 'kind: missing; expected turn, tool, permission, error, session, poll or hook',
      });
    default:
      return rejected({
        reason: 'unknown_kind',
        detail: 'kind: expected turn, tool, permission, error, session, poll or hook',
      });
  }
}

function read<T>(schema: z.ZodType<T>, record: Record<string, unknown>, decode: (stated: T) => Decoded): Decoded {
  const stated = withoutBlanks(record);
  const result = schema.safeParse(stated);
  if (result.success) return decode(result.data);
  const issue = result.error.issues[0]!;
  const path = issue.path.join('.');
  return rejected(rejectionOf(issue, path, valueAt(stated, path)));
}

const isBlank = (value: unknown) => value === null || value === '';

function hasBlanks(stated: Record<string, unknown>, depth: number): boolean {
  for (const key in stated) {
    const value = stated[key];
    if (isBlank(value) || (depth > 0 && isObject(value) && hasBlanks(value, depth - 1))) return true;
  }
  return false;
}

/** The record without what is null or '', one object deep: the same as absent. Most have nothing of the kind. */
function withoutBlanks(stated: Record<string, unknown>, depth = 1): Record<string, unknown> {
  if (!hasBlanks(stated, depth)) return stated;
  const entries = Object.entries(stated).filter(([, value]) => !isBlank(value));
  return Object.fromEntries(
    entries.map(([key, value]) => [key, depth > 0 && isObject(value) ? withoutBlanks(value, depth - 1) : value]),
  );
}

function decodeTurn(record: Record<string, unknown>): Decoded {
  const inOrder = readTurn(record);
  return inOrder ? toTurn(inOrder) : turnBySchema(record);
}

/** The long way to read a turn's record, which says what is wrong with one that is not in order. */
export const turnBySchema = (record: Record<string, unknown>): Decoded => read(turn, record, toTurn);

/** Written out, because nearly every record is one: what is unknown is absent. */
function toTurn(stated: TurnRecord): Decoded {
  const { started, completed } = stated.time;
  const isFinished = stated.finished ?? stated.status !== undefined;
  const { input = 0, output = 0, reasoning = 0, cache_read = 0, cache_write = 0 } = stated.tokens ?? NO_TOKENS;
  const event: Mutable<StatedTurn> = {
    kind: 'turn',
    agent: stated.agent,
    sessionId: stated.id.session,
    messageId: stated.id.message,
    phase: completed !== undefined || stated.completed ? 'completed' : isFinished ? 'finished' : 'in_progress',
    status: stated.status ?? 'ok',
    startedMs: started,
    provider: stated.provider,
    model: stated.model,
    tokens: { input, output, reasoning, cache_read, cache_write },
  };
  const completedMs = notBefore(started, completed);
  const project = projectName(stated.project);
  const { team, user } = stated;
  if (stated.id.prompt !== undefined) event.promptId = stated.id.prompt;
  if (stated.id.subagent !== undefined) event.subagentId = stated.id.subagent;
  if (stated.event_id !== undefined) event.eventId = stated.event_id;
  if (event.status === 'error') event.reason = stated.reason ?? 'other';
  if (completedMs !== undefined) event.completedMs = completedMs;
  if (stated.provider_basis !== undefined) event.providerBasis = stated.provider_basis;
  if (stated.upstream_provider !== undefined) event.upstreamHint = stated.upstream_provider;
  if (project !== undefined) event.project = project;
  if (stated.account_id !== undefined) event.accountId = stated.account_id;
  if (stated.cost_usd !== undefined) event.costNano = stated.cost_usd;
  if (stated.is_title) event.isTitle = true;
  if (stated.awaits_session) event.awaitsSession = true;
  if (team !== undefined || user !== undefined) event.statedIdentity = present({ team, user });
  return decodedEvent(event);
}

function toTool(stated: z.output<typeof tool>): Decoded {
  const startedMs = stated.time?.started;
  const completedMs = notBefore(startedMs, stated.time?.completed);
  if (stated.status === undefined && completedMs === undefined) return { type: 'ignored', kind: 'tool_progress' };
  return decodedEvent(
    present({
      kind: 'tool',
      agent: stated.agent,
      sessionId: stated.id.session,
      callId: stated.id.call,
      messageId: stated.id.message,
      promptId: stated.id.prompt,
      tool: stated.tool,
      mcpServer: stated.mcp_server ?? mcpServerOf(stated.tool),
      status: stated.status ?? 'ok',
      startedMs,
      completedMs,
      project: projectName(stated.project),
      origin: stated.origin ?? 'part',
    }),
  );
}

function toPermission(stated: z.output<typeof permission>): Decoded {
  return decodedEvent(
    present({
      kind: 'permission',
      agent: stated.agent,
      sessionId: stated.id.session,
      requestId: stated.id.request,
      messageId: stated.id.message,
      askedMs: stated.time?.asked,
      repliedMs: stated.time?.replied,
    }),
  );
}

function toError(stated: z.output<typeof error>): Decoded {
  return decodedEvent(
    present({
      kind: 'error',
      agent: stated.agent,
      sessionId: stated.id.session,
      attemptId: stated.id.attempt,
      failedMs: stated.time.failed,
      provider: stated.provider,
      providerBasis: stated.provider_basis,
      model: stated.model,
      reason: stated.reason ?? 'other',
    }),
  );
}

function toSession(stated: z.output<typeof session>): Decoded {
  return decodedEvent(
    present({
      kind: 'session',
      agent: stated.agent,
      sessionId: stated.id.session,
      parentSessionId: stated.id.parent,
      project: projectName(stated.project),
    }),
  );
}

function toPoll({ payload, interval_s, sent, machine }: z.output<typeof poll>): Decoded {
  const intervalMs = interval_s === undefined ? undefined : interval_s * 1000;
  return decodedSnapshot(payload, present({ intervalMs, sentMs: sent, machine }));
}
