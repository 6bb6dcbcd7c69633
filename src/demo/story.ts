// What happens in the demonstration: turns, tool calls, sessions and questions to the rules, by quarters of an hour that
// know nothing of each other, so that any quarter can be told at any time and is always the same.

import type { PlannedTurn } from '../turn/attribution.ts';
import type {
  ErrorReason,
  Identity,
  StatedError,
  StatedEvent,
  StatedTurn,
  TokenCounts,
  TurnStatus,
} from '../turn/turn-event.ts';
import { ASKING_AGENT, type DemoModel, FORBIDDEN, MODELS, NIGHTLY, PEOPLE, type Person, TOOLS } from './cast.ts';
import { Chance } from './chance.ts';

export const QUARTER_MS = 15 * 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Cost is stated in nano-USD and prices are per million tokens: one USD per million is 1000 nano-USD per token. */
const NANO_PER_TOKEN = 1000;
const NANO_PER_USD = 1e9;
const FAILURES: readonly ErrorReason[] = ['rate_limit', 'rate_limit', 'overloaded', 'network', 'context_length'];

/** Something that was sent, at a time, in somebody's name. */
export interface Told {
  readonly atMs: number;
  readonly identity: Identity;
  readonly event: StatedEvent;
}

/** A question that an agent put to the rules before it called a model. */
export interface Asked {
  readonly atMs: number;
  readonly identity: Identity;
  readonly question: PlannedTurn;
}

export interface Quarter {
  readonly seed: number;
  /** Unix ms, a multiple of QUARTER_MS. */
  readonly startMs: number;
  /** Everybody works, whatever the hour: who watches wants to see something happen. */
  readonly isLively?: boolean;
}

/** What was sent in a quarter of an hour, in order. Every turn ends within it. */
export function tellQuarter(quarter: Quarter): Told[] {
  const told = [...PEOPLE.flatMap((person) => tellPerson(quarter, person)), ...tellNightly(quarter)];
  return told.sort((a, b) => a.atMs - b.atMs);
}

/** What was asked in a quarter of an hour, in order: before turns that were taken, and before some that were not. */
export function askQuarter(quarter: Quarter): Asked[] {
  const { seed, startMs } = quarter;
  const taken = tellQuarter(quarter).flatMap(({ identity, event }): Asked[] => {
    if (event.kind !== 'turn' || event.phase !== 'completed' || event.agent !== ASKING_AGENT) return [];
    const { agent, provider, model, project } = event;
    return [{ atMs: event.startedMs, identity, question: { agent, provider, model, project } }];
  });
  const byUser = Map.groupBy(taken, ({ identity }) => identity.user!);
  const tried = [...byUser].flatMap(([user, [first]]): Asked[] => {
    const chance = new Chance(seed, startMs, user, 'question');
    const { project } = first!.question;
    return chance.happens(0.2) ? [{ ...first!, question: { ...FORBIDDEN, project } }] : [];
  });
  return [...taken, ...tried, askAgain(quarter)].sort((a, b) => a.atMs - b.atMs);
}

/** Takes what is due off the front of a queue. */
export function takeDue<T extends { readonly atMs: number }>(queue: T[], untilMs: number): T[] {
  const later = queue.findIndex(({ atMs }) => atMs > untilMs);
  return queue.splice(0, later === -1 ? queue.length : later);
}

function tellPerson({ seed, startMs, isLively = false }: Quarter, person: Person): Told[] {
  const chance = new Chance(seed, startMs, person.user);
  if (!chance.happens(isLively ? 1 : person.busy * restlessness(startMs))) return [];
  // A session lasts two hours at most, and keeps its agent and its project.
  const evening = Math.floor(startMs / (2 * HOUR_MS));
  const habit = new Chance(seed, evening, person.user, 'session');
  const agent = habit.pick(person.agents);
  const project = habit.pick(person.projects);
  const sessionId = `demo-${person.user}-${evening}`;
  const identity = { team: person.team, user: person.user };
  const told: Told[] = [{ atMs: startMs, identity, event: { kind: 'session', agent, sessionId, project } }];
  const model = habit.weighed(MODELS.filter((each) => each.agent === agent));
  let atMs = startMs + chance.whole(1_000, 60_000);
  let context = chance.about(18_000);
  for (let n = chance.whole(4, 12); n > 0; n--) {
    const turn = takeTurn(chance, {
      ...{ agent, sessionId, project, messageId: `msg-${startMs}-${person.user}-${n}`, startedMs: atMs, context },
      model: chance.happens(0.8) ? model : chance.weighed(MODELS.filter((each) => each.agent === agent)),
    });
    const endMs = turn.completedMs! + chance.whole(2_000, 45_000);
    if (endMs >= startMs + QUARTER_MS) break;
    const event = reported(turn);
    if (event) told.push({ atMs: turn.completedMs!, identity, event });
    // The agent had counted the cached input as input at first, and corrects itself once the turn is complete.
    if (chance.happens(0.01) && event?.kind === 'turn' && turn.costNano) {
      const early = { ...turn, phase: 'finished' as const, costNano: turn.costNano * 2 };
      told.push({ atMs: turn.completedMs! - 1, identity, event: early });
    }
    told.push(...callTools(chance, turn).map((event) => ({ atMs: event.completedMs!, identity, event })));
    context += turn.tokens.input + turn.tokens.output;
    atMs = endMs;
  }
  return told;
}

/** Tokens that the nightly agent keeps at most, so that no single turn is dear. */
const COMPACTED_AT = 40_000;
const NIGHTLY_IDENTITY: Identity = { team: NIGHTLY.team, user: NIGHTLY.user };

/** One session at midnight in UTC, which ends when a day's money is spent. */
function tellNightly({ seed, startMs }: Quarter): Told[] {
  if (startMs % DAY_MS !== 0) return [];
  const { agent, project, model, user, usdPerDay } = NIGHTLY;
  const chance = new Chance(seed, startMs, user);
  const identity = NIGHTLY_IDENTITY;
  const sessionId = `demo-${user}-${startMs}`;
  const told: Told[] = [{ atMs: startMs, identity, event: { kind: 'session', agent, sessionId, project } }];
  let atMs = startMs;
  let context = Math.min(chance.about(30_000), COMPACTED_AT);
  for (let n = 1, spentNano = 0; spentNano < usdPerDay * NANO_PER_USD; n++) {
    const messageId = `msg-${startMs}-${user}-${n}`;
    const turn = takeTurn(chance, { agent, sessionId, project, messageId, startedMs: atMs, context, model });
    told.push({ atMs: turn.completedMs!, identity, event: turn });
    told.push(...callTools(chance, turn).map((event) => ({ atMs: event.completedMs!, identity, event })));
    spentNano += turn.costNano ?? 0;
    context = Math.min(context + turn.tokens.input + turn.tokens.output, COMPACTED_AT);
    atMs = turn.completedMs! + chance.whole(500, 2_000);
  }
  return told;
}

/** In every quarter of an hour it asks whether it may go on. */
function askAgain({ startMs }: Quarter): Asked {
  const { agent, project, model } = NIGHTLY;
  const question = { agent, project, provider: model.provider, model: model.model };
  return { atMs: startMs + QUARTER_MS - 1, identity: NIGHTLY_IDENTITY, question };
}

/** How likely work is at a time of the week, 0..1. */
function restlessness(atMs: number): number {
  const at = new Date(atMs);
  const hour = at.getUTCHours();
  const isWeekend = at.getUTCDay() % 6 === 0;
  const ofDay = hour >= 8 && hour < 12 ? 1 : hour >= 13 && hour < 18 ? 0.9 : hour >= 18 && hour < 23 ? 0.35 : 0.08;
  return ofDay * (isWeekend ? 0.2 : 1);
}

interface Setting {
  readonly agent: string;
  readonly sessionId: string;
  readonly messageId: string;
  readonly project: string;
  readonly startedMs: number;
  readonly model: DemoModel;
  /** Tokens that the session has gathered so far. */
  readonly context: number;
}

function takeTurn(chance: Chance, { model, context, ...setting }: Setting): StatedTurn {
  const status: TurnStatus = chance.happens(0.02) ? 'error' : chance.happens(0.015) ? 'aborted' : 'ok';
  const tokens = spendTokens(chance, { model, context, share: status === 'ok' ? 1 : 0.2 });
  const durationMs = 1_500 + tokens.output * 12 + tokens.reasoning * 9 + chance.about(900);
  return {
    kind: 'turn',
    ...setting,
    phase: 'completed',
    status,
    ...(status === 'error' && { reason: chance.pick(FAILURES) }),
    completedMs: setting.startedMs + durationMs,
    provider: model.provider,
    model: model.model,
    tokens,
    ...(model.price && { costNano: costNano(tokens, model.price) }),
    ...(model.titles && chance.happens(0.2) && { isTitle: true }),
  };
}

/** What an agent tells of a turn: one that exports tells of a call that failed, which is no turn, and not of an aborted one. */
function reported(turn: StatedTurn): StatedTurn | StatedError | undefined {
  const { agent, status, reason, sessionId, provider, model, messageId: attemptId, completedMs: failedMs } = turn;
  if (agent === ASKING_AGENT || status === 'ok') return turn;
  if (status === 'aborted') return undefined;
  return { kind: 'error', agent, sessionId, attemptId, failedMs: failedMs!, provider, model, reason: reason! };
}

function spendTokens(chance: Chance, of: { model: DemoModel; context: number; share: number }): TokenCounts {
  const { model, context, share } = of;
  const isCached = chance.happens(0.9);
  const fresh = chance.about(1_400);
  return {
    input: isCached ? fresh : fresh + context,
    output: Math.round(chance.about(420) * share),
    reasoning: model.reasons ? Math.round(chance.about(350) * share) : 0,
    cache_read: isCached ? context : 0,
    cache_write: model.price?.cacheWrite ? chance.about(1_800) : 0,
  };
}

/** Whole nano-USD: prices have at most three digits behind the point, so nothing is rounded. */
function costNano(
  tokens: TokenCounts,
  { input, output, cacheRead, cacheWrite }: NonNullable<DemoModel['price']>,
): number {
  const perToken = (usdPerMillion: number) => Math.round(usdPerMillion * NANO_PER_TOKEN);
  return (
    tokens.input * perToken(input) +
    (tokens.output + tokens.reasoning) * perToken(output) +
    tokens.cache_read * perToken(cacheRead) +
    tokens.cache_write * perToken(cacheWrite)
  );
}

function callTools(chance: Chance, turn: StatedTurn): (StatedEvent & { kind: 'tool' })[] {
  if (turn.status !== 'ok' || turn.isTitle) return [];
  const { agent, sessionId, messageId, startedMs, completedMs, project } = turn;
  return Array.from({ length: chance.whole(0, 3) }, (_, at) => {
    const { tool, mcpServer, ms, fails } = chance.weighed(TOOLS);
    return {
      kind: 'tool' as const,
      ...{ agent, sessionId, messageId, callId: `${messageId}-${at}`, tool, origin: 'part' as const },
      ...(mcpServer !== undefined && { mcpServer }),
      ...(project !== undefined && { project }),
      status: chance.happens(fails) ? ('error' as const) : ('ok' as const),
      startedMs: Math.max(startedMs, completedMs! - chance.about(ms)),
      completedMs: completedMs!,
    };
  });
}
