// One log record of an agent, read field by field as strictly as any other message.

import { type Decoded, decodedEvent } from '../decoded.ts';
import { name, present, statedLabel, tokenCount } from '../fields.ts';
import { Fields, refuse } from '../message-fields.ts';
import { reasonOfStatus } from '../opencode-error.ts';
import { projectName } from '../project-name.ts';
import type { ErrorReason, StatedTurn } from '../turn-event.ts';
import type { Attributes } from './allow-list.ts';
import { type OtlpLog, unixMsOf } from './records.ts';

/** No call takes longer than a week. */
const DURATION_MAX_MS = 7 * 86_400_000;

/** Attributes as fields: their names have dots and lead nowhere. */
export const flatFields = (attributes: Attributes): Fields =>
  new Fields(attributes, (root, key) => (root as Attributes)[key as keyof Attributes]);

export class AgentLog extends Fields {
  readonly #log: OtlpLog;

  constructor(log: OtlpLog) {
    super(log.attributes, (attributes, key) => (attributes as Attributes)[key as keyof Attributes]);
    this.#log = log;
  }

  /** What it tells of. */
  get event(): string {
    return this.word('event.name');
  }

  /** When it was written, Unix ns as text: some agents have no better key than this. */
  get writtenNs(): string {
    const { timeNs, observedNs } = this.#log;
    return String(timeNs ?? observedNs ?? refuse('missing_field', 'timeUnixNano: missing; expected a time'));
  }

  /** The same in Unix ms. */
  get writtenMs(): number {
    return (
      unixMsOf(BigInt(this.writtenNs)) ?? refuse('out_of_range', 'timeUnixNano: expected a time between 2020 and 2100')
    );
  }

  /** When what ended at `endedMs` began, as far as its duration is stated. */
  span(endedMs: number): { readonly startedMs: number; readonly completedMs?: number } {
    const durationMs = durationOf(this.at('duration_ms'));
    // Without a duration the one time that is stated is when it ended: how long it took stays unknown.
    return durationMs === undefined
      ? { startedMs: endedMs }
      : { startedMs: endedMs - durationMs, completedMs: endedMs };
  }

  /** What the user wrote into the resource: whose it is said to be, and of which project. */
  stated() {
    const team = statedLabel.parse(this.at('team'));
    const user = statedLabel.parse(this.at('user.name'));
    return {
      project: projectName(name.safeParse(this.at('project')).data),
      statedIdentity: team === undefined && user === undefined ? undefined : present({ team, user }),
    };
  }

  /** Whether it says that what it tells of did not succeed. */
  get hasFailed(): boolean {
    return this.word('success') === 'false' || this.at('success') === false;
  }

  /** Why a call failed, by the status of its answer. */
  get failure(): ErrorReason {
    return reasonOfStatus(Number(this.at('status_code') ?? Number.NaN));
  }

  /** A count that need not be stated. */
  count(key: string): number {
    return this.optional(tokenCount, key) ?? 0;
  }
}

/** Whole ms; undefined where none is stated, or none that can be: no turn is lost for it. */
function durationOf(stated: unknown): number | undefined {
  const ms = typeof stated === 'string' || typeof stated === 'number' ? Math.round(Number(stated)) : Number.NaN;
  return ms >= 0 && ms <= DURATION_MAX_MS ? ms : undefined;
}

/** Counts that hold each other, made disjoint: what is left of a whole without its parts. */
export class Remainder {
  /** A part was larger than its whole. */
  isInconsistent = false;

  of(whole: number, ...parts: number[]): number {
    const rest = whole - parts.reduce((sum, part) => sum + part, 0);
    if (rest < 0) this.isInconsistent = true;
    return Math.max(0, rest);
  }
}

/** A turn whose tokens were made disjoint by `rest`. */
export function decodedTurn(rest: Remainder, turn: StatedTurn): Decoded {
  return { ...decodedEvent(turn), ...(rest.isInconsistent && { isInconsistent: true }) } as Decoded;
}
