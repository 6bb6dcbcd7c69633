// The demonstration before a real Prometheus: days of history, scraped as a bridge would have been, with a gap in it and
// a bridge that was restarted, and then standing still, so that what is shown can be compared with what was sent.

import { spawnSync } from 'node:child_process';
import { createReadStream, createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import { Bridge, ledgerFile } from '../../src/bridge.ts';
import { DEMO_ACCOUNTS, DemoAccounts } from '../../src/demo/accounts.ts';
import { DEMO_SOURCE, demoConfig, fillLedger } from '../../src/demo/fill.ts';
import { QUARTER_MS } from '../../src/demo/story.ts';
import type { Guest } from '../../src/guest.ts';
import { createLog } from '../../src/log.ts';
import { Prometheus, until } from '../prometheus-server.ts';

export const SEED = 1;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const READ_EVERY_MS = 20_000;
const GAP_MS = 10 * 60_000;

/** When the gap ends: some hours ago, but not at midnight, where a window begins and its first scrape is needed. */
function gapEndMs(toMs: number): number {
  const isAtMidnight = (ms: number) => new Date(ms).getUTCHours() === 0 && new Date(ms).getUTCMinutes() <= 20;
  return [5, 7].map((hours) => toMs - hours * HOUR_MS).find((ms) => !isAtMidnight(ms))!;
}

export interface DemoStage {
  readonly prometheus: Prometheus;
  /** Of the turns that were sent: from, and until, in Unix ms. */
  readonly fromMs: number;
  readonly toMs: number;
  stop(): Promise<void>;
}

/** Reads the accounts again and again, as a poller does, and sends no turns. */
function quietGuest(accounts: DemoAccounts, atMs: number): Guest {
  let timer: NodeJS.Timeout | undefined;
  return {
    name: DEMO_SOURCE,
    accounts: DEMO_ACCOUNTS,
    start({ record }) {
      // What it says is of the end of the story; when it is said is now, or it would expire.
      const read = () => {
        const nowMs = Date.now();
        for (const result of accounts.read(atMs)) {
          const readings = result.readings.map((reading) => ({ ...reading, readMs: nowMs }));
          void record({ ...result, takenMs: nowMs, readings });
        }
      };
      read();
      timer = setInterval(read, READ_EVERY_MS);
    },
    async stop() {
      clearInterval(timer);
    },
  };
}

/** @param days of past; a window that is longer begins with the ledger */
export async function startDemoStage({ days, hasGap = true }: { days: number; hasGap?: boolean }): Promise<DemoStage> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-stage-'));
  const log = createLog('silent');
  const toMs = Date.now();
  const config = demoConfig({ stateDir: dir, listen: '127.0.0.1:0', nowMs: toMs });
  const fromMs = Math.floor((toMs - days * DAY_MS) / QUARTER_MS) * QUARTER_MS;
  const accounts = new DemoAccounts();
  const history = { file: path.join(dir, 'history.om'), instance: 'bridge', days };
  await fillLedger({ config, file: ledgerFile(config), log, seed: SEED, fromMs, toMs, accounts, history });
  const scraped = hasGap ? await withGap(history.file, gapEndMs(toMs)) : history.file;
  importBlocks(scraped, path.join(dir, 'data'));

  const start = () => Bridge.start({ config, log, env: {}, guest: quietGuest(accounts, toMs) });
  const first = await start();
  await first.stop();
  const bridge = await start();
  const target = new URL(bridge.metricsUrl).host;
  const prometheus = await Prometheus.start({ dir, targets: [target], scrapeMs: 2_000, instance: history.instance });
  // A pace needs several scrapes. What the history has already says nothing about that.
  await until('scrapes of the bridge', async () => {
    const [scrapes] = await prometheus.query('count_over_time(tollbridge_build_info[1m])');
    return (scrapes?.value ?? 0) >= 4;
  });
  return {
    prometheus,
    fromMs,
    toMs,
    async stop() {
      await prometheus.stop();
      await bridge.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Leaves out what was scraped in ten minutes, as if Prometheus had been away. */
async function withGap(file: string, endMs: number): Promise<string> {
  const out = createWriteStream(`${file}.gap`);
  const [fromS, toS] = [(endMs - GAP_MS) / 1000, endMs / 1000];
  for await (const line of createInterface({ input: createReadStream(file) })) {
    const atS = Number(line.slice(line.lastIndexOf(' ') + 1));
    if (atS > fromS && atS < toS) continue;
    if (!out.write(`${line}\n`)) await new Promise<void>((resolve) => void out.once('drain', resolve));
  }
  out.end();
  await finished(out);
  return `${file}.gap`;
}

/** Makes Prometheus' own blocks of a file in OpenMetrics. */
export function importBlocks(file: string, to: string): void {
  // Blocks as long as they can be: promtool reads the whole file for each.
  const args = ['tsdb', 'create-blocks-from', 'openmetrics', '--max-block-duration=720h', '--quiet', file, to];
  const { status, stderr, stdout } = spawnSync('promtool', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`promtool could not take the history: ${stdout}${stderr}`);
}
