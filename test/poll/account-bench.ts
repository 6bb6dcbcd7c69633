// An account polled for real: over HTTP into a ledger on disk, and out as the text that Prometheus would scrape.

import type { TestContext } from 'node:test';
import { Exposition } from '../../src/metrics/exposition.ts';
import { LedgerMetricProducer } from '../../src/metrics/producer.ts';
import type { Account } from '../../src/poll/detect.ts';
import { OpencodeAccount } from '../../src/poll/opencode-account.ts';
import type { ProbeReport } from '../../src/poll/probe.ts';
import { Tiles } from '../../src/turn/tiles.ts';
import { Bench } from '../ledger/bench.ts';
import { parseExposition, rendered } from '../metrics/fixture.ts';
import { NOW_MS } from './console-server.ts';
import type { OpencodeServer } from './opencode-server.ts';

export const ZEN_INTERVAL_MS = 30_000;
export const CONSOLE_INTERVAL_MS = 300_000;

export interface PolledOnce {
  readonly reports: readonly ProbeReport[];
  /** The account's state and line for people after the last probe. */
  readonly status: string;
  readonly message: string;
}

export class AccountBench {
  readonly ledger: Bench;
  readonly account: OpencodeAccount;

  constructor(t: TestContext, server: OpencodeServer, account: Partial<Account>, timeoutMs = 10_000) {
    this.ledger = new Bench(t);
    this.ledger.nowMs = NOW_MS;
    const whole = { provider: 'opencode', id: 'work', foundIn: 'tollbridge.yaml', baseUrl: server.url };
    this.account = new OpencodeAccount({
      account: { ...whole, consoleUrl: `${server.url}/console`, ...account },
      ...{ timeoutMs, intervalMs: ZEN_INTERVAL_MS, consoleIntervalMs: CONSOLE_INTERVAL_MS },
      dispatcher: server.dispatcher,
    });
  }

  get nowMs(): number {
    return this.ledger.nowMs;
  }

  set nowMs(nowMs: number) {
    this.ledger.nowMs = nowMs;
  }

  /** Asks every probe of the account once and records what they say. */
  async poll(): Promise<PolledOnce> {
    const reports: ProbeReport[] = [];
    let last = { status: '', message: '' };
    for (const probe of this.account.probes) {
      const { report, result } = await this.account.poll(probe, this.nowMs);
      await this.ledger.ledger.recordPoll(result, { isOwn: true });
      reports.push(report);
      last = result;
    }
    return { reports, status: last.status, message: last.message };
  }

  /** The whole text of the ledger's metrics. */
  async text(): Promise<string> {
    const { provider, id, foundIn } = this.account.account;
    const accounts = [{ provider, id, foundIn }];
    const producer = new LedgerMetricProducer({ reading: this.ledger.ledger, tiles: new Tiles({}, []), accounts });
    const { resourceMetrics } = await producer.collect();
    return rendered(
      new Exposition(),
      resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics),
    );
  }

  /** The account's samples but its state, as `name{label=value,…}` without provider and account → value. */
  async series(): Promise<Record<string, number>> {
    const { samples } = parseExposition(await this.text());
    const shown = [...samples].flatMap(([key, value]): [string, number][] => {
      const [name, ...labels] = JSON.parse(key) as [string, ...[string, string][]];
      const isAccounts = labels.some(([label, of]) => label === 'account' && of === this.account.account.id);
      if (!isAccounts || name === 'toll_account_status') return [];
      const rest = labels.filter(([label]) => label !== 'provider' && label !== 'account');
      return [[`${name}{${rest.map(([label, of]) => `${label}=${of}`).join(',')}}`, Number(value)]];
    });
    return Object.fromEntries(shown.sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** The state that the metrics show. */
  async state(): Promise<string | undefined> {
    const { samples } = parseExposition(await this.text());
    const keys = [...samples].filter(([key, value]) => key.startsWith('["toll_account_status"') && value === '1');
    return /\["status","(\w+)"\]/.exec(keys[0]?.[0] ?? '')?.[1];
  }
}
