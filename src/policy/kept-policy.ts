// What a relay was told last, on its disk: the rules and where budgets stood, so that it can judge before it hears again.

import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { LATEST_MS } from '../ledger/budget-period.ts';

const kept = z.object({
  v: z.literal(1),
  policy: z.string(),
  standings: z.string(),
  told_ms: z.int().min(0).max(LATEST_MS),
});

/** As it was told. */
export interface KeptPolicy {
  /** See policyIn. */
  readonly policy: string;
  /** See figuresIn. */
  readonly standings: string;
  /** When the standings were told, Unix ms. */
  readonly told_ms: number;
}

/** What a file holds; undefined when there is none. @throws when it cannot be read, or holds something else */
export function readKeptPolicy(file: string): KeptPolicy | undefined {
  const stats = statSync(file, { throwIfNoEntry: false });
  if (!stats) return undefined;
  // Of a pipe or a device the end may never come.
  if (!stats.isFile()) throw new Error('it is no file');
  return kept.parse(JSON.parse(readFileSync(file, 'utf8')));
}

/** Puts it in the place of what the file held, whole or not at all. @throws what the file system says */
export function keepPolicy(file: string, { policy, standings, told_ms }: KeptPolicy): void {
  const fresh = `${file}.new`;
  // One that was left behind keeps its mode.
  rmSync(fresh, { force: true });
  // Through to the disk, or a power cut could leave the new name without its content.
  writeFileSync(fresh, JSON.stringify({ v: 1, policy, standings, told_ms }), { mode: 0o600, flush: true });
  renameSync(fresh, file);
}
