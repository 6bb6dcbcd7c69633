// A process of its own that holds a ledger, for tests of what happens between processes. Takes one command a line on
// stdin, answers one line of JSON for each; the first line tells how opening went. Ends when stdin does.

import { createInterface } from 'node:readline';
import { Ledger } from '../../src/ledger/ledger.ts';
import { createLog } from '../../src/log.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { total, WIDE_CAPS } from './bench.ts';
import { DAY_MS, tokens, turn } from './events.ts';

export interface Command {
  /** Submits this many turns of 1 nano-USD, 3 tokens and 2 models each, numbered from `from` on, as one submission. */
  readonly from: number;
  readonly turns: number;
}

export interface Answer {
  /** What became of the command: how many were new, or the name of the failure. */
  readonly recorded?: number;
  readonly failed?: string;
  readonly problem?: string;
  /** What the ledger shows now. */
  readonly costNano: number;
  readonly turns: number;
  readonly booksBalance: boolean;
}

function answerOf(ledger: Ledger, outcome: { recorded?: number; failed?: string }): Answer {
  const { problem } = ledger;
  return {
    ...outcome,
    ...(problem === undefined ? {} : { problem }),
    costNano: total(ledger, TOLL.cost),
    turns: total(ledger, TOLL.turns),
    booksBalance: ledger.health().booksBalance,
  };
}

export function manyTurns({ from, turns }: Command) {
  return Array.from({ length: turns }, (_, index) =>
    turn({ messageId: `msg_${from + index}`, model: `m-${index % 2}`, costNano: 1, tokens: tokens({ input: 3 }) }),
  );
}

async function serve(file: string): Promise<void> {
  const say = (answer: object) => process.stdout.write(`${JSON.stringify(answer)}\n`);
  const log = createLog('silent');
  const ledger = Ledger.open({ file, timeZone: 'UTC', retentionMs: 90 * DAY_MS, caps: WIDE_CAPS, log });
  say(answerOf(ledger, {}));
  for await (const line of createInterface(process.stdin)) {
    try {
      const command = JSON.parse(line) as Command | 'settle' | 'sweep';
      const bookings = typeof command === 'string' ? [] : await ledger.submit(manyTurns(command));
      if (typeof command === 'string') await ledger[command]();
      say(answerOf(ledger, { recorded: bookings.filter(({ outcome }) => outcome.type === 'recorded').length }));
    } catch (error) {
      say(answerOf(ledger, { failed: (error as Error).name }));
    }
  }
  ledger.close();
}

if (import.meta.main) await serve(process.argv[2] as string);
