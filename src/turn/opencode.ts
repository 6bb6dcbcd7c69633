// OpenCode's bus events and plugin hooks, as its plugins post them: `{event: {id, type, properties}}` or `{hook, …}`.
// Prompts, answers, titles, tool arguments and outputs pass by here; only what is read by name goes further.

import { type Decoded, decodedEvent, type HookContext, ignored } from './decoded.ts';
import {
  accountOf,
  costNano,
  id,
  isObject,
  mcpServerOf,
  model,
  notBefore,
  present,
  provider,
  relatedId,
  tokenCount,
  toolName,
  unixMs,
} from './fields.ts';
import { Fields, orRejected, refuse } from './message-fields.ts';
import { errorReasonOf } from './opencode-error.ts';
import { bornMs, isForkCopy } from './opencode-id.ts';
import { projectName, sessionProjectName } from './project-name.ts';
import {
  type IgnoredKind,
  type Mutable,
  NO_TOKENS,
  type StatedTurn,
  type TokenCounts,
  type TurnStatus,
  totalTokens,
} from './turn-event.ts';

const AGENT = 'opencode';

/** Event families that say nothing about usage, by the first word of their type. */
const IGNORED_FAMILIES: Readonly<Record<string, IgnoredKind>> = {
  session: 'session',
  catalog: 'boot',
  plugin: 'boot',
  integration: 'boot',
  reference: 'boot',
  installation: 'boot',
  server: 'boot',
  lsp: 'boot',
  mcp: 'boot',
  vcs: 'boot',
  tui: 'boot',
  file: 'file',
  todo: 'file',
};

/** How OpenCode, or our plugin in its place, says that a tool was stopped and did not fail. */
const TOOL_STOPPED = /^(tool execution )?(was )?(aborted|interrupted)\.?$/;
/** A command that the user stopped is `completed` for OpenCode; a missing exit code and this end of its output tell. */
const COMMAND_STOPPED = /User aborted the command\s*<\/\w+_metadata>\s*$/;
const COMMAND_NOTE_MAX_CHARS = 200;

/** Decodes one body of an OpenCode plugin. Always at least one result; never throws. */
export function decodeOpencode(payload: unknown, context: HookContext): Decoded[] {
  return orRejected(() => [decodeBody(payload, context)]);
}

function decodeBody(payload: unknown, context: HookContext): Decoded {
  if (payload === null) return ignored('other');
  if (!isObject(payload)) refuse('wrong_type', 'the body: expected an object');
  if (Object.hasOwn(payload, 'event')) {
    if (payload.event === null) return ignored('other');
    if (!isObject(payload.event)) refuse('wrong_type', 'event: expected an object');
    return decodeEvent(new Fields(payload.event), context);
  }
  if (Object.hasOwn(payload, 'hook')) {
    if (typeof payload.hook !== 'string') refuse('wrong_type', 'hook: expected the name of a hook');
    return decodePluginHook(payload.hook, new Fields(payload));
  }
  return decodeEvent(new Fields(payload), context);
}

function decodePluginHook(hook: string, body: Fields): Decoded {
  // It fires for the user's prompt and carries no usage: counting it would make a phantom turn.
  if (hook === 'chat.message') return ignored('chat_message');
  if (hook !== 'tool.execute.after') return ignored('other');
  return finishedTool({
    sessionId: body.required(id, 'input.sessionID'),
    callId: body.required(id, 'input.callID'),
    tool: body.required(toolName, 'input.tool'),
    completedMs: body.optional(unixMs, 'timestamp'),
    status: 'ok',
    origin: 'hook',
  });
}

function decodeEvent(event: Fields, context: HookContext): Decoded {
  const type = event.word('type', 'event');
  switch (type) {
    case 'message.updated':
      return decodeMessage(event, context);
    case 'message.part.updated':
      return decodePart(event);
    case 'message.part.delta':
      return ignored('delta');
    case 'message.part.removed':
      return ignored('part');
    case 'session.created':
    case 'session.updated':
    case 'session.deleted':
      return decodeSession(event);
    case 'permission.asked':
    case 'permission.replied':
      return decodePermission(event, type);
    case 'tool.execute.after':
      return finishedTool({
        sessionId: event.required(id, 'payload.sessionID'),
        callId: event.required(id, 'payload.toolCallID'),
        messageId: event.optional(id, 'payload.messageID'),
        tool: event.required(toolName, 'payload.toolName', 'payload.name'),
        completedMs: event.optional(unixMs, 'payload.timestamp'),
        status: 'ok',
        origin: 'hook',
      });
    default: {
      const family = type.split('.', 1)[0]!;
      return ignored((Object.hasOwn(IGNORED_FAMILIES, family) && IGNORED_FAMILIES[family]) || 'other');
    }
  }
}

function decodeMessage(event: Fields, context: HookContext): Decoded {
  const info = event.within('properties.info');
  const role = info.word('role');
  if (role === 'user') return ignored('user_message');
  if (role === '') refuse('missing_field', 'info.role: missing; expected user or assistant');
  if (role !== 'assistant') return ignored('other');

  const messageId = info.required(id, 'id');
  const sessionId =
    info.at('sessionID') === undefined ? event.required(id, 'properties.sessionID') : info.required(id, 'sessionID');
  const startedMs = info.required(unixMs, 'time.created');
  if (isForkCopy({ messageId, sessionId, createdMs: startedMs })) {
    return { type: 'ignored', kind: 'fork_copy', copiedMessageId: messageId };
  }

  // 0 is how some versions write "not yet".
  const completed = info.at('time.completed');
  const isCompleted = completed !== undefined && completed !== 0;
  const completedMs = isCompleted ? notBefore(startedMs, info.required(unixMs, 'time.completed')) : undefined;
  const isFinished = info.word('finish') !== '';
  const tokens = tokensOf(info);
  const status = statusOf({ info, tokens, endedSilently: isCompleted && !isFinished });
  const project = projectName(info.at('path.root'), info.at('path.cwd'));
  const accountId = accountOf(context);
  const stated = info.optional(costNano, 'cost');
  // The user's message that it answers.
  const promptId = info.optional(relatedId, 'parentID');
  const eventId = event.optional(id, 'id');
  const turn: Mutable<StatedTurn> = {
    kind: 'turn',
    agent: AGENT,
    sessionId,
    messageId,
    phase: isCompleted ? 'completed' : isFinished ? 'finished' : 'in_progress',
    status,
    startedMs,
    provider: info.required(provider, 'providerID'),
    model: info.required(model, 'modelID'),
    tokens,
  };
  if (promptId !== undefined) turn.promptId = promptId;
  if (eventId !== undefined) turn.eventId = eventId;
  if (status === 'error') turn.reason = errorReasonOf(info.at('error'));
  if (completedMs !== undefined) turn.completedMs = completedMs;
  if (context.upstreamHint !== undefined) turn.upstreamHint = context.upstreamHint;
  if (project !== undefined) turn.project = project;
  if (accountId !== undefined) turn.accountId = accountId;
  if (stated !== undefined) turn.costNano = stated;
  return decodedEvent(turn);
}

function tokensOf(info: Fields): TokenCounts {
  if (info.at('tokens') === undefined) return NO_TOKENS;
  // Anything but an object would read as no tokens at all.
  info.within('tokens');
  return {
    input: info.optional(tokenCount, 'tokens.input') ?? 0,
    output: info.optional(tokenCount, 'tokens.output') ?? 0,
    reasoning: info.optional(tokenCount, 'tokens.reasoning') ?? 0,
    cache_read: info.optional(tokenCount, 'tokens.cache.read') ?? 0,
    cache_write: info.optional(tokenCount, 'tokens.cache.write') ?? 0,
  };
}

function statusOf(message: { info: Fields; tokens: TokenCounts; endedSilently: boolean }): TurnStatus {
  if (message.info.at('error') !== undefined) {
    return message.info.word('error.name') === 'messageabortederror' ? 'aborted' : 'error';
  }
  // A step stopped while it waited for a retry ends without a word: no finish, no error, nothing used.
  const usedNothing = totalTokens(message.tokens) === 0;
  return message.endedSilently && usedNothing ? 'aborted' : 'ok';
}

function decodePart(event: Fields): Decoded {
  const part = new Fields(event.at('properties.part'));
  if (part.word('type') !== 'tool') return ignored('part');
  const stated = part.word('state.status');
  if (stated !== 'completed' && stated !== 'error') return ignored('tool_progress');

  const sessionId = part.required(id, 'sessionID');
  const messageId = part.optional(id, 'messageID');
  const startedMs = part.optional(unixMs, 'state.time.start');
  if (messageId && startedMs && isForkCopy({ messageId, sessionId, createdMs: startedMs })) return ignored('fork_copy');

  const output = part.at('state.output');
  const isStopped =
    TOOL_STOPPED.test(part.word('state.error')) ||
    part.at('state.metadata.interrupted') === true ||
    (part.at('state.metadata.exit') === undefined &&
      typeof output === 'string' &&
      COMMAND_STOPPED.test(output.slice(-COMMAND_NOTE_MAX_CHARS)));
  return finishedTool({
    sessionId,
    callId: part.required(id, 'callID'),
    messageId,
    tool: part.required(toolName, 'tool'),
    startedMs,
    completedMs: notBefore(startedMs, part.optional(unixMs, 'state.time.end')),
    status: isStopped ? 'aborted' : stated === 'completed' ? 'ok' : 'error',
    origin: 'part',
  });
}

interface FinishedTool {
  sessionId: string;
  callId: string;
  messageId?: string | undefined;
  tool: string;
  startedMs?: number | undefined;
  completedMs: number | undefined;
  status: TurnStatus;
  origin: 'part' | 'hook';
}

function finishedTool(tool: FinishedTool): Decoded {
  return decodedEvent(present({ kind: 'tool', agent: AGENT, ...tool, mcpServer: mcpServerOf(tool.tool) }));
}

function decodeSession(event: Fields): Decoded {
  const info = new Fields(event.at('properties.info'));
  if (info.at('id') === undefined) return ignored('session');
  return decodedEvent(
    present({
      kind: 'session',
      agent: AGENT,
      sessionId: info.required(id, 'id'),
      parentSessionId: info.optional(relatedId, 'parentID'),
      project: sessionProjectName(info.at('directory'), info.at('path')),
    }),
  );
}

function decodePermission(event: Fields, type: 'permission.asked' | 'permission.replied'): Decoded {
  // The event states no time; its id carries it. Ids wrap every 2.2 years, so the present tells which turn is meant.
  const eventId = event.word('id') && event.required(id, 'id');
  const atMs = eventId ? bornMs(eventId, Date.now()) : undefined;
  if (atMs === undefined) return ignored('other');
  const asked = type === 'permission.asked';
  return decodedEvent(
    present({
      kind: 'permission',
      agent: AGENT,
      sessionId: event.required(id, 'properties.sessionID'),
      requestId: event.required(id, asked ? 'properties.id' : 'properties.requestID'),
      messageId: asked ? event.optional(id, 'properties.tool.messageID') : undefined,
      askedMs: asked ? atMs : undefined,
      repliedMs: asked ? undefined : atMs,
    }),
  );
}
