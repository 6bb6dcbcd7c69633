// How far the ledger has booked each stream: moved in the transaction that books what a message held, so that after any
// crash it says exactly which messages are in the ledger.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { commandText } from '../command-text.ts';
import { PermanentFailure } from '../failure.ts';

export interface StreamPosition {
  /** All messages up to this sequence, and none beyond, were booked without a gap. 0 before the first. */
  readonly seq: number;
  /** When the stream took in the message at `seq`, Unix ms; 0 before the first. It tells one stream from another. */
  readonly storedMs: number;
}

/** From the message before to the one that was booked. */
export interface StreamStep {
  readonly stream: string;
  readonly after: number;
  readonly seq: number;
  readonly storedMs: number;
}

export class StreamPositions {
  readonly #db: DatabaseSync;
  readonly #advance: StatementSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#advance = db.prepare('UPDATE stream_position SET seq = ?, stored_ms = ? WHERE stream = ? AND seq = ?');
  }

  /**
   * Where to go on reading a stream; 0 the first time.
   * @throws PermanentFailure when the ledger holds another part of the stream: one ledger with two parts, or two ledgers
   * with the same turns, would make every sum over the bridges wrong
   */
  open(stream: string, partition: string): StreamPosition {
    this.#db
      .prepare('INSERT OR IGNORE INTO stream_position (stream, partition, seq, stored_ms) VALUES (?, ?, 0, 0)')
      .run(stream, partition);
    const row = this.#db
      .prepare('SELECT partition, seq, stored_ms FROM stream_position WHERE stream = ?')
      .get(stream) as { partition: string; seq: number; stored_ms: number };
    if (row.partition !== partition) {
      throw new PermanentFailure(
        `This ledger holds partition ${row.partition} of the stream ${stream}, and nats.partition now says ${partition}. ` +
          `Begin a new ledger with \`${commandText('ledger new')}\`: it is filled from the stream. Or set nats.partition back.`,
      );
    }
    return { seq: row.seq, storedMs: row.stored_ms };
  }

  /** Inside the caller's transaction. Where an earlier message is still to be booked the position stays: it never skips. */
  advance(steps: readonly StreamStep[]): void {
    for (const { stream, after, seq, storedMs } of joined(steps)) this.#advance.run(seq, storedMs, stream, after);
  }

  /** Reads the stream from its beginning, where what it holds is no longer what was read. Duplicates are told by key. */
  reset(stream: string): void {
    this.#db.prepare('UPDATE stream_position SET seq = 0, stored_ms = 0 WHERE stream = ?').run(stream);
  }
}

/** Steps that follow each other are one. */
function joined(steps: readonly StreamStep[]): StreamStep[] {
  const whole: StreamStep[] = [];
  let from = 0;
  for (const [at, step] of steps.entries()) {
    const next = steps[at + 1];
    if (next && next.after === step.seq && next.stream === step.stream) continue;
    whole.push({ ...step, after: steps[from]!.after });
    from = at + 1;
  }
  return whole;
}
