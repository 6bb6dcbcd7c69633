// What was sent, added up without the ledger: the sums that dashboards must show.

import { QUARTER_MS, tellQuarter } from '../../src/demo/story.ts';
import type { StatedError, StatedTurn, ToolEvent } from '../../src/turn/turn-event.ts';
import { SEED } from './demo-stage.ts';

/** Who served which model in the story, and which tile shows it. */
const UPSTREAM: readonly (readonly [model: RegExp, upstream: string, tile: string])[] = [
  [/^claude/, 'anthropic', 'claude_code'],
  [/^gpt/, 'openai', 'codex'],
  [/^gemini/, 'google', 'gemini_api'],
  [/^glm/, 'zai', 'zai'],
  [/^kimi/, 'moonshot', 'moonshot'],
  [/^deepseek/, 'deepseek', 'deepseek'],
  [/^devstral/, 'mistral', 'mistral'],
  [/^x-ai/, 'xai', 'xai'],
  [/^stepfun/, 'stepfun', 'stepfun'],
  [/^big-pickle/, 'unknown', 'unknown'],
];

export interface SentTurn extends StatedTurn {
  readonly upstream: string;
  readonly tile: string;
  readonly team: string;
  readonly user: string;
}
export interface SentTool extends ToolEvent {
  readonly tile: string;
}

export interface Sent {
  /** One for each turn: its last description. */
  readonly turns: readonly SentTurn[];
  readonly tools: readonly SentTool[];
  /** Failed calls that are no turns. */
  readonly errors: readonly StatedError[];
}

/** Everything that the story sent in a range of time. */
export function sentBetween(fromMs: number, toMs: number): Sent {
  const turns = new Map<string, SentTurn>();
  const tools: { event: ToolEvent; messageId: string }[] = [];
  const errors: StatedError[] = [];
  for (let startMs = fromMs; startMs < toMs; startMs += QUARTER_MS) {
    for (const { event, atMs, identity } of tellQuarter({ seed: SEED, startMs })) {
      if (atMs > toMs) continue;
      if (event.kind === 'tool') tools.push({ event, messageId: event.messageId! });
      if (event.kind === 'error') errors.push(event);
      if (event.kind !== 'turn') continue;
      const [, upstream, tile] = UPSTREAM.find(([model]) => model.test(event.model))!;
      const known = turns.get(event.messageId);
      if (known?.phase === 'completed') continue;
      turns.set(event.messageId, { ...event, upstream, tile, team: identity.team!, user: identity.user! });
    }
  }
  return {
    turns: [...turns.values()],
    errors,
    tools: tools.map(({ event, messageId }) => ({ ...event, tile: turns.get(messageId)!.tile })),
  };
}

/** Sums by a key; keys whose sum is nothing are left out. */
export function sumBy<T>(
  items: readonly T[],
  key: (item: T) => string,
  amount: (item: T) => number,
): Map<string, number> {
  const sums = new Map<string, number>();
  for (const item of items) sums.set(key(item), (sums.get(key(item)) ?? 0) + amount(item));
  return new Map([...sums].filter(([, sum]) => sum !== 0).sort(([a], [b]) => (a < b ? -1 : 1)));
}
