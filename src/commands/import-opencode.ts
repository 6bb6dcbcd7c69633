// `tollbridge import opencode`: what OpenCode itself recorded, for the running bridge. Its keys are those of the plugin's
// events, so what is known already changes nothing.

import path from 'node:path';
import type { Config } from '../config.ts';
import { PermanentFailure } from '../failure.ts';
import { findDatabase, OpencodeHistory } from '../poll/opencode-history.ts';
import { postEvents, runningBridge } from './ask-bridge.ts';
import { countOf, type Report, showCount } from './show.ts';

interface ImportOptions {
  readonly flags: { readonly db?: string | undefined; readonly since?: string | undefined };
  readonly config: Config;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  readonly platform: NodeJS.Platform;
  /** Is told the share that is done, 0 to 1. */
  readonly onProgress?: ((share: number) => void) | undefined;
}

/** What is wrong with the flags, one line; undefined when nothing is. */
export function mistakeInImport({ since }: ImportOptions['flags']): string | undefined {
  if (since === undefined || sinceMs(since) !== undefined) return undefined;
  return '--since must be a day such as 2026-01-15';
}

function sinceMs(day: string): number | undefined {
  const ms = /^20\d\d-\d\d-\d\d$/.test(day) ? new Date(`${day}T00:00:00`).getTime() : Number.NaN;
  return Number.isNaN(ms) ? undefined : ms;
}

/**
 * Reads the whole database, or what was created since a day, and has it booked.
 * @throws RetryableFailure when no bridge answers or it cannot book now: what was sent until then stays, and is known
 * at the next try; PermanentFailure when there is no database that can be read
 */
export async function importOpencode(options: ImportOptions): Promise<Report> {
  const { flags, config, env, home, platform, onProgress } = options;
  await runningBridge(options);
  const file = flags.db === undefined ? findDatabase({ env, home, platform }) : path.resolve(flags.db);
  if (file === undefined) {
    throw new PermanentFailure(
      'OpenCode has no database where it keeps one (opencode.db in its data folder), so there is nothing to import. ' +
        'If it lies elsewhere, name it: --db FILE.',
    );
  }
  const history = new OpencodeHistory(file, flags.since === undefined ? 0 : sinceMs(flags.since));
  const sums = { accepted: 0, duplicate: 0, ignored: 0, rejected: 0 };
  const reasons = new Map<string, number>();
  try {
    const expected = history.count();
    let sent = 0;
    for (const page of history.pages()) {
      const answer = await postEvents(config, page);
      sums.accepted += answer.accepted;
      sums.duplicate += answer.duplicate;
      sums.ignored += answer.ignored;
      for (const { reason } of answer.rejected) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
      sums.rejected += answer.rejected.length + (answer.rejected_not_listed ?? 0);
      sent += page.length;
      onProgress?.(Math.min(1, sent / Math.max(1, expected)));
    }
  } finally {
    history.close();
  }
  return { lines: linesOf(sums, reasons), exitCode: 0 };
}

function linesOf(
  {
    accepted,
    duplicate,
    ignored,
    rejected,
  }: Readonly<Record<'accepted' | 'duplicate' | 'ignored' | 'rejected', number>>,
  reasons: ReadonlyMap<string, number>,
): string[] {
  const why = [...reasons].map(([reason, count]) => `${reason}: ${showCount(count)}`).join(', ');
  return [
    `Imported: ${countOf(accepted, 'record')} of turns, tool calls and sessions that the bridge did not know so.`,
    `  known already  ${showCount(duplicate)}`,
    ...(ignored > 0 ? [`  of no account  ${showCount(ignored)}`] : []),
    ...(rejected > 0 ? [`  refused        ${showCount(rejected)} (${why})`] : []),
    ...(reasons.has('too_late')
      ? ['Turns that are too late are older than the ledger keeps (retention): they may have been counted before.']
      : []),
  ];
}
