// What one log record says that another one needs: Codex names its provider when a conversation starts, and no tool call
// of Codex or Gemini CLI names the turn that made it. Bounded, and forgotten at a restart.

const CONVERSATIONS_MAX = 10_000;
/** Of one conversation; records of one post come in order, and posts come about every second. */
const TURNS_MAX = 16;

export interface Conversation {
  provider?: string;
  /** The newest prompt of the user. */
  promptId?: string;
  /** When the newest call of its model began, Unix ms. */
  callStartedMs?: number;
  readonly turns: { readonly messageId: string; readonly completedMs: number }[];
}

export class Conversations {
  readonly #conversations = new Map<string, Conversation>();

  /** What is remembered of a session, and may be added to. */
  of(agent: string, sessionId: string): Conversation {
    const key = `${agent}\0${sessionId}`;
    const known = this.#conversations.get(key) ?? { turns: [] };
    this.#conversations.delete(key);
    this.#conversations.set(key, known);
    if (this.#conversations.size > CONVERSATIONS_MAX) {
      this.#conversations.delete(this.#conversations.keys().next().value!);
    }
    return known;
  }
}

/** Remembers a turn, so that the tools it asks for find it. */
export function noteTurn({ turns }: Conversation, messageId: string, completedMs: number): void {
  if (turns.some((turn) => turn.messageId === messageId)) return;
  turns.push({ messageId, completedMs });
  if (turns.length > TURNS_MAX) turns.shift();
}

/** The turn that asked for a tool which ended at `endedMs`: the last one before. */
export function turnBefore({ turns }: Conversation, endedMs: number): string | undefined {
  let latest: Conversation['turns'][number] | undefined;
  for (const turn of turns) {
    if (turn.completedMs <= endedMs && (!latest || turn.completedMs >= latest.completedMs)) latest = turn;
  }
  return latest?.messageId;
}
