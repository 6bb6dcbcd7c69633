// Whom the turns of a session are paid to, where the agent names that once for all of them. Whoever took a turn in may not
// have heard it; the ledger, or what was taken in just before, may know.

import type { StatedEvent } from '../turn/turn-event.ts';

/** Whom a turn of a session was paid to; undefined when none is known. */
export type ProviderOf = (agent: string, sessionId: string) => string | undefined;

const SESSIONS_MAX = 10_000;

export class SessionProviders {
  /** What is not yet committed may have named it. */
  readonly #named = new Map<string, string>();
  readonly #providerOf: ProviderOf;

  constructor(providerOf: ProviderOf) {
    this.#providerOf = providerOf;
  }

  /** The event, with what is known in place of what its sender assumed. */
  settle(event: StatedEvent): StatedEvent {
    if ((event.kind !== 'turn' && event.kind !== 'error') || event.providerBasis === undefined) return event;
    const { agent, sessionId } = event;
    const key = `${agent}\0${sessionId}`;
    if (event.providerBasis === 'assumed') {
      const provider = this.#named.get(key) ?? this.#providerOf(agent, sessionId);
      return provider === undefined ? event : { ...event, provider };
    }
    this.#named.delete(key);
    this.#named.set(key, event.provider);
    if (this.#named.size > SESSIONS_MAX) this.#named.delete(this.#named.keys().next().value!);
    return event;
  }
}
