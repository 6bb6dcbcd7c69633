// A spool folder of its own for each test, and what drains it.

import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { SpoolDrain } from '../../src/sources/spool-drain.ts';
import { newIntake, readableLog, temporaryFolder } from './intake-fixture.ts';

export const SECOND = 1000;
export const HOUR = 3600 * SECOND;
export const DAY = 24 * HOUR;
/** Ahead of the file system's clock, so that a file just written is not "from the future" by a rounding. */
export const NOW_MS = Date.now() + SECOND;

export function newSpool(t: TestContext) {
  const dir = path.join(temporaryFolder(t), 'hook-spool');
  const clock = { nowMs: NOW_MS };
  const now = () => clock.nowMs;
  const parts = newIntake(now);
  const { log, lines } = readableLog();
  const drain = new SpoolDrain({ dir, intake: parts.intake, identity: {}, meter: parts.meter, log, now, everyMs: 5 });
  t.after(() => drain.stop());
  mkdirSync(dir);
  const write = (name: string, content: unknown) => {
    writeFileSync(path.join(dir, name), typeof content === 'string' ? content : JSON.stringify(content));
    utimesSync(path.join(dir, name), clock.nowMs / SECOND, clock.nowMs / SECOND);
  };
  const list = () => readdirSync(dir).filter((name) => name !== 'quarantine');
  const quarantine = () =>
    existsSync(path.join(dir, 'quarantine')) ? readdirSync(path.join(dir, 'quarantine')).sort() : [];
  return { ...parts, drain, dir, clock, write, list, quarantine, log: lines };
}
