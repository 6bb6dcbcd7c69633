// Puts what was booked together to runs: a prompt, the calls of models that were made about it, the tools they asked for,
// the sub-agents they started. A call and a tool are told when they end, under the ids that the run will have; the run
// itself when it is over. What is remembered here is bounded and goes with the process: only the ledger counts money.

import { isAhead, plausibleDurationMs } from '../ledger/plausible-time.ts';
import { SETTLE_MS } from '../ledger/turn-book.ts';
import type {
  Booking,
  ErrorEvent,
  Identity,
  MeterEvent,
  SessionEvent,
  ToolEvent,
  TurnEvent,
} from '../turn/turn-event.ts';
import { spanIdOf, traceIdOf } from './span-ids.ts';
import {
  chatSpan,
  errorLog,
  errorTypeOf,
  type LogRecord,
  type RunSummary,
  runSpan,
  type Span,
  type SpanPlace,
  toolSpan,
  turnLog,
} from './telling.ts';

/** A run is over when nothing was heard of it for so long and no call of it is under way; or when its session's next one begins. */
const QUIET_MS = 60_000;
/** A call that never ends, because its agent was killed, must not hold its run for ever. */
const GIVEN_UP_MS = 3_600_000;
/** Older than this it is history that was brought in later; stores of logs refuse what is much older. */
export const OLD_MS = 24 * 3_600_000;
const REMEMBERED_MAX = 10_000;
/** Sessions that start each other. */
const DEPTH_MAX = 32;
/** Tool calls of one call of a model that came before it. */
const EARLY_OF_ONE_MAX = 100;

interface Run extends RunSummary {
  readonly key: string;
  readonly owner: string;
  readonly place: SpanPlace;
  /** The run of the same prompt, where this one is a sub-agent's. */
  readonly above?: Run | undefined;
  startMs: number;
  endMs: number;
  calls: number;
  toolCalls: number;
  costNano?: number;
  errorType?: string | undefined;
  /** When its last call began that was told. */
  lastStartedMs: number;
  /** Calls that are under way. */
  open: number;
  heardMs: number;
}

interface Call {
  readonly place: SpanPlace;
  /** Absent where its agent names no prompt. */
  readonly run: Run | undefined;
  readonly owner: string;
  isOpen: boolean;
  /** It counts, so that whose it is moves no more. */
  isBooked: boolean;
  /** What was told of it last. */
  told?: { readonly costNano: number | undefined };
  /** It finished, and waits to be said to be completed. */
  finished?: { readonly turn: TurnEvent; readonly sinceMs: number } | undefined;
}

interface Starter {
  readonly place: SpanPlace;
  readonly startedMs: number;
  readonly owner: string;
}

interface Session {
  /** The newest call, which is the one that starts other sessions. */
  newest?: Starter;
  /** The session that started this one, by its key. */
  above?: string;
  /** The call that started this session. */
  startedBy?: Starter;
  /** Its runs that are not over: of one prompt, by their keys. */
  readonly runs: Set<string>;
}

export interface RunsOptions {
  readonly span: (span: Span) => void;
  readonly record: (record: LogRecord) => void;
  /** What is not told. */
  readonly onDropped: (what: 'span' | 'record', reason: 'too_old' | 'no_turn') => void;
  /** Unix ms. */
  readonly now?: () => number;
}

/** Remembers the newest `REMEMBERED_MAX` of its keys. */
class Recent<T> {
  readonly #entries = new Map<string, T>();

  get(key: string): T | undefined {
    return this.#entries.get(key);
  }

  /** @returns what had to be forgotten for it */
  set(key: string, value: T): T | undefined {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size <= REMEMBERED_MAX) return undefined;
    const [oldest, forgotten] = this.#entries.entries().next().value!;
    this.#entries.delete(oldest);
    return forgotten;
  }

  take(key: string): T | undefined {
    const value = this.#entries.get(key);
    this.#entries.delete(key);
    return value;
  }

  entries(): [string, T][] {
    return [...this.#entries];
  }
}

export class Runs {
  readonly #options: RunsOptions;
  readonly #now: () => number;
  readonly #runs = new Recent<Run>();
  /** Of runs of the agent itself, by session and prompt. */
  readonly #runKeys = new Recent<string>();
  readonly #ended = new Recent<true>();
  readonly #sessions = new Recent<Session>();
  readonly #calls = new Recent<Call>();
  /** Tool calls that came before the call which asked for them, by that call. */
  readonly #early = new Recent<ToolEvent[]>();

  constructor(options: RunsOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /** Tells what is new of what was just committed. What was known before still says where later things belong. */
  booked(events: readonly MeterEvent[], bookings: readonly Booking[]): void {
    const nowMs = this.#now();
    for (const [index, stated] of events.entries()) {
      const { outcome, turns } = bookings[index]!;
      const isNews = outcome.type === 'recorded' || outcome.type === 'updated';
      if (!isNews && outcome.type !== 'duplicate') continue;
      const own = stated.kind === 'turn' && turns ? [] : [stated];
      for (const each of [...own, ...(turns ?? [])]) this.#note(plausiblyDated(each, nowMs), isNews);
    }
  }

  #note(event: MeterEvent, isNews: boolean): void {
    if (event.kind === 'session') this.#noteSession(event);
    else if (event.kind === 'turn') this.#turn(event, isNews);
    else if (isNews && event.kind === 'tool') this.#tool(event);
    else if (isNews && event.kind === 'error') this.#error(event);
  }

  /** Tells the calls that finished and were never completed, which count by now, and ends the runs that are over. To be called every few seconds. */
  sweep(): void {
    const nowMs = this.#now();
    this.#tellFinished(nowMs - SETTLE_MS);
    for (const [key, run] of this.#runs.entries()) {
      const quietMs = nowMs - run.heardMs;
      if (quietMs >= GIVEN_UP_MS || (quietMs >= QUIET_MS && run.open === 0)) this.#end(key);
    }
  }

  /** Ends every run, and gives up on what waits for its own. */
  endAll(): void {
    this.#tellFinished(Number.POSITIVE_INFINITY);
    for (const [key] of this.#runs.entries()) this.#end(key);
    for (const [asker] of this.#early.entries()) this.#forget(this.#early.take(asker));
  }

  #noteSession({ agent, sessionId, parentSessionId }: SessionEvent): void {
    if (parentSessionId === undefined) return;
    const above = keyOf(agent, parentSessionId);
    if (this.#isBelow(above, keyOf(agent, sessionId))) return;
    const session = this.#session(agent, sessionId);
    session.above ??= above;
    if (session.above !== above) return;
    const startedBy = this.#session(agent, parentSessionId).newest;
    // It is told again whenever something of it changes; what matters is who was at work when it began.
    if (startedBy) session.startedBy ??= startedBy;
  }

  /** Whether a session is another one, or somewhere below it; of one that is too deep it is not known, and counts as if. */
  #isBelow(key: string, other: string): boolean {
    let at: string | undefined = key;
    for (let depth = 0; at !== undefined && at !== other && depth < DEPTH_MAX; depth += 1)
      at = this.#sessions.get(at)?.above;
    return at !== undefined;
  }

  #turn(turn: TurnEvent, isNews: boolean): void {
    const call = this.#noteCall(turn, isNews);
    if (!isNews) return;
    if (turn.phase !== 'in_progress') call.isBooked = true;
    // What was told counts already, whatever is still said of it.
    const isOpen = turn.phase !== 'completed' && !call.told;
    if (call.run && isOpen !== call.isOpen) call.run.open += isOpen ? 1 : -1;
    call.isOpen = isOpen;
    call.finished = isOpen && turn.phase === 'finished' ? { turn, sinceMs: this.#now() } : undefined;
    if (!isOpen) this.#tellTurn(turn, call);
  }

  /** A turn that finished counts after a while, also when nobody says that it is completed. */
  #tellFinished(untilMs: number): void {
    for (const [, call] of this.#calls.entries()) {
      if (!call.finished || call.finished.sinceMs > untilMs) continue;
      const { turn } = call.finished;
      call.finished = undefined;
      call.isOpen = false;
      if (call.run) call.run.open -= 1;
      this.#tellTurn(turn, call);
    }
  }

  #tellTurn(turn: TurnEvent, call: Call): void {
    const { place, run } = call;
    const endMs = turn.completedMs ?? turn.startedMs;
    if (this.#isOld(endMs, ['span', 'record'])) return;
    if (run) addCall(run, turn, call.told);
    call.told = { costNano: turn.costNano };
    if (run) this.#heard(run, endMs);
    this.#options.span(chatSpan(turn, place));
    this.#options.record(turnLog(turn, place));
  }

  /** Remembers where a turn stands in its trace, for the tools and sessions that it starts, and tells the tools that were early. */
  #noteCall(turn: TurnEvent, isNews: boolean): Call {
    const { agent, sessionId, messageId, promptId } = turn;
    const key = keyOf(agent, sessionId, messageId);
    const owner = ownerOf(turn);
    const known = this.#calls.get(key);
    // Until it counts for somebody it may turn out to be another one's.
    if (known && (known.isBooked || !isNews || known.owner === owner)) return known;
    if (known?.run && known.isOpen) known.run.open -= 1;
    const session = this.#session(agent, sessionId);
    const startedBy = placeFor(turn, session);
    const run = promptId === undefined ? undefined : this.#runOf(turn, promptId, turn.subagentId);
    const place = {
      traceId: run?.place.traceId ?? startedBy?.traceId ?? traceIdOf(agent, sessionId, messageId),
      spanId: spanIdOf('call', agent, sessionId, messageId),
      parentSpanId: run?.place.spanId ?? startedBy?.spanId,
    };
    const call: Call = { place, run, owner, isOpen: false, isBooked: false };
    const forgotten = this.#calls.set(key, call);
    if (forgotten?.finished) this.#tellTurn(forgotten.finished.turn, forgotten);
    if (!session.newest || turn.startedMs >= session.newest.startedMs) {
      session.newest = { place, startedMs: turn.startedMs, owner };
    }
    for (const tool of this.#early.take(key) ?? []) this.#tellTool(tool, call);
    return call;
  }

  /** The run of a prompt, or of a sub-agent within it. One that is over says where a late call belongs, and is not told again. */
  #runOf(turn: TurnEvent, promptId: string, subagentId: string | undefined): Run {
    const { agent, sessionId, team, user, project } = turn;
    const owner = ownerOf(turn);
    // Whose ids it is that another one uses too, by mistake or on purpose: their sums must not be one.
    const ownSession = owner === '' ? sessionId : `${sessionId}\n${owner}`;
    const ids = subagentId === undefined ? [promptId] : [promptId, subagentId];
    const key = keyOf(agent, ownSession, ...ids);
    const known = this.#runs.get(key);
    if (known) return known;
    const above = subagentId === undefined ? undefined : this.#runOf(turn, promptId, undefined);
    const session = this.#session(agent, sessionId);
    const startedBy = placeFor(turn, session);
    const run: Run = {
      ...{
        key,
        owner,
        agent,
        sessionId,
        promptId,
        above,
        ...(team && { team }),
        ...(user && { user }),
        ...(project && { project }),
      },
      place: {
        traceId: startedBy?.traceId ?? traceIdOf(agent, ownSession, promptId),
        spanId: spanIdOf('run', agent, ownSession, ...ids),
        parentSpanId: above?.place.spanId ?? startedBy?.spanId,
      },
      ...{ startMs: turn.startedMs, endMs: turn.startedMs, lastStartedMs: turn.startedMs, heardMs: this.#now() },
      ...{ calls: 0, toolCalls: 0, open: 0 },
    };
    if (this.#ended.get(key)) return run;
    // A session works on one prompt at a time; one that is heard of late ends none that came after it.
    if (!above) {
      for (const other of session.runs) {
        const { startMs, owner: others } = this.#runs.get(other)!;
        if (others === owner && startMs <= run.startMs) this.#end(other);
      }
    }
    session.runs.add(key);
    // Of a tool call it is not known whose it is: it is told below the run that has the prompt's name first.
    const promptKey = keyOf(agent, sessionId, promptId);
    if (!above && !this.#runs.get(this.#runKeys.get(promptKey) ?? '')) this.#runKeys.set(promptKey, key);
    const forgotten = this.#runs.set(key, run);
    if (forgotten) this.#over(forgotten);
    return run;
  }

  #heard(run: Run, endMs: number): void {
    for (let each: Run | undefined = run; each; each = each.above) {
      each.endMs = Math.max(each.endMs, endMs);
      each.heardMs = this.#now();
    }
  }

  #end(key: string): void {
    const run = this.#runs.take(key);
    if (run) this.#over(run);
  }

  #over(run: Run): void {
    this.#ended.set(run.key, true);
    this.#sessions.get(keyOf(run.agent, run.sessionId))?.runs.delete(run.key);
    this.#tellRun(run);
  }

  #tellRun(run: Run): void {
    // Below a sub-agent's run there is something, even where nothing was heard of the run itself.
    if (run.calls > 0 || run.endMs > run.startMs) this.#options.span(runSpan(run, run.place));
  }

  #tool(tool: ToolEvent): void {
    // A bare notice knows neither when the call began nor how it ended.
    if (tool.origin === 'hook' || this.#isOld(tool.completedMs ?? tool.startedMs ?? this.#now(), ['span'])) return;
    const { agent, sessionId, messageId, promptId } = tool;
    const asker = messageId === undefined ? undefined : keyOf(agent, sessionId, messageId);
    // Of some calls no more is known than the prompt that they were made for.
    const runKey = promptId && this.#runKeys.get(keyOf(agent, sessionId, promptId));
    const run = runKey ? this.#runs.get(runKey) : undefined;
    const above = asker === undefined ? run && { place: run.place, run } : this.#calls.get(asker);
    if (above) this.#tellTool(tool, above);
    else if (asker === undefined) this.#options.onDropped('span', 'no_turn');
    else this.#awaitAsker(asker, tool);
  }

  #awaitAsker(asker: string, tool: ToolEvent): void {
    const waiting = this.#early.get(asker) ?? [];
    waiting.push(tool);
    if (waiting.length > EARLY_OF_ONE_MAX) this.#forget(waiting.splice(0, 1));
    this.#forget(this.#early.set(asker, waiting));
  }

  #forget(tools: readonly ToolEvent[] = []): void {
    for (const _ of tools) this.#options.onDropped('span', 'no_turn');
  }

  #tellTool(tool: ToolEvent, { place, run }: Pick<Call, 'place' | 'run'>): void {
    const endMs = tool.completedMs ?? tool.startedMs ?? this.#now();
    if (run) {
      run.toolCalls += 1;
      this.#heard(run, endMs);
    }
    const spanId = spanIdOf('tool', tool.agent, tool.sessionId, tool.callId);
    this.#options.span(toolSpan(tool, endMs, { traceId: place.traceId, spanId, parentSpanId: place.spanId }));
  }

  #error(error: ErrorEvent): void {
    if (!this.#isOld(error.failedMs, ['record'])) this.#options.record(errorLog(error));
  }

  #isOld(ms: number, whats: readonly ('span' | 'record')[]): boolean {
    const isOld = this.#now() - ms > OLD_MS;
    if (isOld) for (const what of whats) this.#options.onDropped(what, 'too_old');
    return isOld;
  }

  #session(agent: string, sessionId: string): Session {
    const key = keyOf(agent, sessionId);
    const session = this.#sessions.get(key) ?? { runs: new Set() };
    this.#sessions.set(key, session);
    return session;
  }
}

const keyOf = (...parts: string[]) => parts.join('\0');
/** Whose credential a turn came with; empty where it names nobody. */
const ownerOf = ({ team = '', user = '' }: Identity) => (team || user ? `${team}\n${user}` : '');

/** The call that started a session, for a turn of the same owner: whoever guesses a session's id is not shown in its trace. */
const placeFor = (turn: TurnEvent, { startedBy }: Session): SpanPlace | undefined =>
  startedBy?.owner === ownerOf(turn) ? startedBy.place : undefined;

/** As the ledger dates it: what lies ahead by receipt, and without a duration that no clock can have measured. A store refuses both. */
function plausiblyDated(event: MeterEvent, nowMs: number): MeterEvent {
  if (event.kind === 'error') return isAhead(event.failedMs, nowMs) ? { ...event, failedMs: nowMs } : event;
  if (event.kind !== 'turn' && event.kind !== 'tool') return event;
  const { startedMs, completedMs } = event;
  const statedMs = completedMs ?? startedMs;
  if (statedMs === undefined) return event;
  const endMs = isAhead(statedMs, nowMs) ? nowMs : statedMs;
  const durationMs = plausibleDurationMs(startedMs ?? null, completedMs ?? null);
  if (durationMs !== undefined) return { ...event, startedMs: endMs - durationMs, completedMs: endMs };
  const { completedMs: _, ...unmeasured } = event;
  return { ...unmeasured, startedMs: endMs };
}

/** Adds a call to its run, or what is new of it where it was told before. */
function addCall(run: Run, turn: TurnEvent, told: Call['told']): void {
  if (!told) run.calls += 1;
  run.startMs = Math.min(run.startMs, turn.startedMs);
  const { costNano = told && 0 } = turn;
  if (costNano !== undefined) run.costNano = (run.costNano ?? 0) + costNano - (told?.costNano ?? 0);
  if (turn.startedMs < run.lastStartedMs) return;
  run.lastStartedMs = turn.startedMs;
  // The last one's: an agent that got on after a failure has not failed.
  run.errorType = errorTypeOf(turn);
}
