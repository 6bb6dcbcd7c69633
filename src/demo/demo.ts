// `tollbridge demo`: a bridge with a past that was made up and traffic that goes on, in a folder that is thrown away.
// Nothing of the user's own is read or written: no configuration, no ledger, no account.

import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Bridge, ledgerFile } from '../bridge.ts';
import { messageOf } from '../failure.ts';
import type { Guest, GuestParts } from '../guest.ts';
import type { Log } from '../log.ts';
import { DEMO_ACCOUNTS, DemoAccounts, READ_EVERY_MS } from './accounts.ts';
import { byIdentity, DEMO_SOURCE, demoConfig, fillLedger, type History } from './fill.ts';
import { type Asked, askQuarter, QUARTER_MS, type Told, takeDue, tellQuarter } from './story.ts';

const DAY_MS = 86_400_000;
const TELL_EVERY_MS = 1_000;

export interface DemoOptions {
  /** Where metrics are served, `host:port`. */
  readonly listen: string;
  /** How many days of past there are. */
  readonly days: number;
  /** Another seed is another past. */
  readonly seed: number;
  readonly log: Log;
  /** Where to write what a Prometheus would have scraped so far. */
  readonly history?: History;
  /** Unix ms at which the past ends; now when left out. */
  readonly nowMs?: number;
  readonly onProgress?: (share: number) => void;
}

export interface Demo {
  readonly bridge: Bridge;
  /** Stops the bridge and deletes all that there was. */
  stop(): Promise<void>;
}

/**
 * Fills a ledger of its own, then runs a bridge on it.
 * @throws PermanentFailure when the address is taken; nothing is left behind then
 */
export async function startDemo(options: DemoOptions): Promise<Demo> {
  const { listen, days, seed, log, history, onProgress } = options;
  const stateDir = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-demo-'));
  const clear = () => rmSync(stateDir, { recursive: true, force: true });
  try {
    const toMs = options.nowMs ?? Date.now();
    const config = demoConfig({ stateDir, listen, nowMs: toMs });
    const fromMs = Math.floor((toMs - days * DAY_MS) / QUARTER_MS) * QUARTER_MS;
    const accounts = new DemoAccounts();
    const file = ledgerFile(config);
    await fillLedger({ config, file, log, seed, fromMs, toMs, accounts, history, ...(onProgress && { onProgress }) });
    const bridge = await Bridge.start({ config, log, env: {}, guest: new DemoTraffic({ seed, toMs, accounts, log }) });
    const stop = async () => {
      await bridge.stop();
      clear();
    };
    return { bridge, stop };
  } catch (error) {
    clear();
    throw error;
  }
}

/** Goes on where the past ended. */
class DemoTraffic implements Guest {
  readonly name = DEMO_SOURCE;
  readonly accounts = DEMO_ACCOUNTS;
  readonly #options: { seed: number; toMs: number; accounts: DemoAccounts; log: Log };
  #queue: Told[] = [];
  #questions: Asked[] = [];
  #toldUntilMs: number;
  #quarterMs: number;
  #lastReadMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #telling: Promise<void> = Promise.resolve();

  constructor(options: { seed: number; toMs: number; accounts: DemoAccounts; log: Log }) {
    this.#options = options;
    this.#toldUntilMs = options.toMs;
    this.#quarterMs = Math.floor(options.toMs / QUARTER_MS) * QUARTER_MS - QUARTER_MS;
  }

  start(parts: GuestParts): void {
    const tell = () => {
      this.#telling = this.#telling
        .then(() => this.#tell(parts, Date.now()))
        .catch((error) => this.#options.log.warn(`the demonstration could not go on: ${messageOf(error)}`));
    };
    tell();
    this.#timer = setInterval(tell, TELL_EVERY_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#telling;
  }

  async #tell({ intake, record, ask }: GuestParts, nowMs: number): Promise<void> {
    const { seed, accounts } = this.#options;
    while (this.#quarterMs + QUARTER_MS <= nowMs) {
      this.#quarterMs += QUARTER_MS;
      const quarter = { seed, startMs: this.#quarterMs, isLively: true };
      const isNew = ({ atMs }: { atMs: number }) => atMs > this.#toldUntilMs;
      this.#queue.push(...tellQuarter(quarter).filter(isNew));
      this.#questions.push(...askQuarter(quarter).filter(isNew));
    }
    for (const { question, identity } of takeDue(this.#questions, nowMs)) ask(question, identity);
    const due = takeDue(this.#queue, nowMs);
    for (const { identity, told } of byIdentity(due)) {
      await intake.accept(
        this.name,
        told.map(({ event }) => ({ type: 'event', event })),
        identity,
      );
    }
    for (const { event } of due) if (event.kind === 'turn' && event.phase === 'completed') accounts.spend(event);
    this.#toldUntilMs = nowMs;
    if (nowMs - this.#lastReadMs < READ_EVERY_MS) return;
    this.#lastReadMs = nowMs;
    for (const result of accounts.read(nowMs)) await record(result);
  }
}
