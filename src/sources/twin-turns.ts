// Whether a turn looks like one that another source brought: an agent that delivers by two roads names its turns
// differently on each, and both would be counted.

import { type StatedTurn, totalTokens } from '../turn/turn-event.ts';

const TURNS_REMEMBERED = 10_000;
/** Two roads date a turn by different clocks and moments. */
const APART_MAX_MS = 60_000;

export class TwinTurns {
  readonly #recent = new Map<string, { source: string; messageId: string; datedMs: number }>();

  /** Remembers a turn; true when another source brought one of the same session and tokens under another id. */
  isTwin(source: string, turn: StatedTurn): boolean {
    const { agent, sessionId, messageId, tokens, completedMs, startedMs } = turn;
    if (totalTokens(tokens) === 0) return false;
    const { input, output, reasoning, cache_read, cache_write } = tokens;
    const key = `${agent}\0${sessionId}\0${input}\0${output}\0${reasoning}\0${cache_read}\0${cache_write}`;
    const datedMs = completedMs ?? startedMs;
    const known = this.#recent.get(key);
    if (known && known.messageId !== messageId && known.source !== source) {
      return Math.abs(known.datedMs - datedMs) <= APART_MAX_MS;
    }
    this.#recent.delete(key);
    this.#recent.set(key, { source, messageId, datedMs });
    if (this.#recent.size > TURNS_REMEMBERED) this.#recent.delete(this.#recent.keys().next().value!);
    return false;
  }
}
