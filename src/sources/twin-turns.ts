// Whether a turn looks like one that another source brought: an agent that delivers by two roads names its turns
// differently on each, and both would be counted.

import { type StatedTurn, TOKEN_TYPES, type TokenCounts, totalTokens } from '../turn/turn-event.ts';

const TURNS_REMEMBERED = 10_000;
/** Two roads date a turn by different clocks and moments. */
const APART_MAX_MS = 60_000;

interface Known {
  readonly source: string;
  readonly messageId: string;
  readonly tokens: TokenCounts;
  readonly datedMs: number;
}

export class TwinTurns {
  readonly #recent = new Map<string, Known>();

  /** Remembers a turn; true when another source brought one of the same session and tokens under another id. */
  isTwin(source: string, turn: StatedTurn): boolean {
    const { agent, sessionId, messageId, tokens, completedMs, startedMs } = turn;
    const total = totalTokens(tokens);
    if (total === 0) return false;
    // To write every count out takes longer than to compare them all.
    const key = `${agent}\0${sessionId}\0${total * tokens.output + tokens.input}`;
    const datedMs = completedMs ?? startedMs;
    const known = this.#recent.get(key);
    if (known && known.messageId !== messageId && known.source !== source && isSame(known.tokens, tokens)) {
      return Math.abs(known.datedMs - datedMs) <= APART_MAX_MS;
    }
    this.#recent.delete(key);
    this.#recent.set(key, { source, messageId, tokens, datedMs });
    if (this.#recent.size > TURNS_REMEMBERED) this.#recent.delete(this.#recent.keys().next().value!);
    return false;
  }
}

function isSame(a: TokenCounts, b: TokenCounts): boolean {
  for (const type of TOKEN_TYPES) if (a[type] !== b[type]) return false;
  return true;
}
