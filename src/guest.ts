// A source that a bridge is handed by who starts it, instead of finding it in its configuration.

import type { ConfiguredAccount } from './metrics/producer.ts';
import type { PollResult } from './poll/poll-result.ts';
import type { Intake } from './sources/source.ts';
import type { PlannedTurn } from './turn/attribution.ts';
import type { Identity } from './turn/turn-event.ts';

/** What a guest is given to act on the bridge. */
export interface GuestParts {
  readonly intake: Intake;
  /** Keeps what a poll of one of its accounts found. */
  readonly record: (result: PollResult) => Promise<unknown>;
  /** Asks the rules whether a turn may go on. */
  readonly ask: (question: PlannedTurn, identity: Identity) => unknown;
}

/** It brings accounts of its own. */
export interface Guest {
  readonly name: string;
  /** What its turns are labelled with; they stand in place of those that would be found, and none of them is polled. */
  readonly accounts: readonly ConfiguredAccount[];
  start(parts: GuestParts): void;
  stop(): Promise<void>;
}
