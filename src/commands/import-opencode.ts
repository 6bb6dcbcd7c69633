// `tollbridge import opencode`: delivers what OpenCode's own database tells to the running bridge, page by page.

import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { commandText } from '../command-text.ts';
import type { Config } from '../config.ts';
import { messageOf, PermanentFailure, RetryableFailure } from '../failure.ts';
import { dayStartMs } from '../ledger/time-zone.ts';
import { type OpencodePlace, opencodeDatabaseFile } from '../poll/opencode-files.ts';
import { countMessages, readHistory } from '../sources/opencode-history.ts';
import { addTallies, type ImportTally, importTally } from '../turn/import-tally.ts';
import { askBridge, askRunning } from './ask-bridge.ts';
import { dayOf } from './report.ts';
import type { Report } from './show.ts';

/** How long OpenCode may keep its database to itself. */
const BUSY_MS = 2000;
/** How often a page is offered to a bridge that is busy. */
const TRIES = 5;

/** As on the command line. */
export interface ImportFlags {
  /** A day in the configured time zone. */
  readonly since?: string | undefined;
  readonly db?: string | undefined;
}

interface ImportOptions extends OpencodePlace {
  readonly flags: ImportFlags;
  readonly config: Config;
  /** The turns that were read so far, and the share of the database that is read, from 0 to 1. */
  readonly onProgress?: (progress: { readonly turns: number; readonly share: number }) => void;
}

/** What is wrong with the flags, one line; undefined when nothing is. */
export function mistakeInImportFlags({ since }: ImportFlags): string | undefined {
  return since === undefined || dayOf(since) ? undefined : '--since must be a day such as 2026-01-15';
}

/**
 * Reads, delivers, and says what became of it. What a failure leaves undone, the next import does.
 * @throws RetryableFailure when no bridge answers or the database is in use; PermanentFailure when it is none
 */
export async function importOpencode(options: ImportOptions): Promise<Report> {
  const { flags, config, env, onProgress } = options;
  const answer = await askBridge(config);
  if (!answer.answers && !answer.relay) {
    throw new RetryableFailure(
      `No bridge answers: ${answer.why}. Turns are booked by the running bridge: start it with ` +
        `"${commandText('start', { env })}", then import again. Nothing was imported.`,
    );
  }
  const file = flags.db ?? config.import.opencode.db ?? opencodeDatabaseFile(options);
  if (file === undefined || !existsSync(file)) {
    throw new PermanentFailure(
      `There is no database of OpenCode${file === undefined ? ' in its data folder' : ` at ${file}`}, so there is nothing ` +
        'to import. OpenCode makes one with its first session; name another place with --db.',
    );
  }
  const day = dayOf(flags.since);
  const total = onProgress ? countMessages(file, { busyMs: BUSY_MS }) : 0;
  let tally = importTally([]);
  let turns = 0;
  try {
    for (const page of readHistory(file, { sinceMs: day ? dayStartMs(day, config.time_zone) : 0, busyMs: BUSY_MS })) {
      const records = page.payloads.map((payload) => ({ source: 'opencode', payload }));
      if (records.length > 0) tally = addTallies(tally, await deliver(config, records));
      turns += page.turns;
      onProgress?.({ turns, share: Math.min(page.passed / total, 1) });
    }
  } catch (error) {
    const Failure = [RetryableFailure, PermanentFailure].find((kind) => error instanceof kind);
    if (turns === 0 || !Failure) throw error;
    const rest = `The ${turns} turns that were read before are imported; import again for the rest.`;
    throw new Failure(`${messageOf(error)} ${rest}`);
  }
  return { lines: told(tally, turns), exitCode: Object.keys(tally.rejected).length > 0 ? 1 : 0 };
}

async function deliver(config: Config, records: readonly object[]): Promise<ImportTally> {
  for (let tries = 1; ; tries++) {
    try {
      return (await askRunning(config, { path: '/v1/import', body: records })) as ImportTally;
    } catch (error) {
      if (!(error instanceof RetryableFailure) || tries === TRIES) throw error;
      await delay(error.retryAfterS * tries * 1000);
    }
  }
}

function told(tally: ImportTally, turns: number): string[] {
  const { recorded, updated, known, forwarded, ignored, tooLate, rejected } = tally;
  if (turns === 0) return ['OpenCode has recorded no ended turn in this time: nothing to import.'];
  const lines = [
    `Read ${turns} turns of OpenCode, with their sessions and tool calls. Of all these events:`,
    `  ${recorded} new, ${updated} updated, ${known} known, ${tooLate} too old, ${ignored} copies of forks`,
  ];
  if (forwarded > 0) lines.push(`  ${forwarded} passed on; the bridge that counts them knows which are new`);
  if (tooLate > 0) {
    lines.push(
      "Too old is what lies before the ledger's horizon: it may have been counted, so it is not counted again.",
    );
  }
  for (const [reason, count] of Object.entries(rejected)) {
    lines.push(
      `  ${count} refused (${reason}): OpenCode wrote them in a form that is not understood; please report this`,
    );
  }
  return lines;
}
