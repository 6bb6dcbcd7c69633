// Ledgers of the benchmarks: made-up turns, and the parts of a bridge around them.

import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseConfig } from '../../src/config.ts';
import { Ledger } from '../../src/ledger/ledger.ts';
import { createLog } from '../../src/log.ts';
import { Health } from '../../src/metrics/health.ts';
import { LedgerMetricProducer } from '../../src/metrics/producer.ts';
import { LedgerSink } from '../../src/sources/ledger-sink.ts';
import { Intake } from '../../src/sources/source.ts';
import { Attribution } from '../../src/turn/attribution.ts';
import { encodeRecord } from '../../src/turn/encode-record.ts';
import { decodeRecord } from '../../src/turn/normalize.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import { Tiles } from '../../src/turn/tiles.ts';
import { opencodeId } from '../../test/turn/opencode-sample.ts';

/** Series that one model adds: counters, and histograms with their buckets. */
const LINES_PER_MODEL = 75;
const BATCH = 1000;

let serial = 0;

/** A completed turn in the normal form, unlike every other. */
export function turnRecord(model = 'claude-sonnet-4-5', project = 'shop'): object {
  const id = serial++;
  const now = Date.now();
  return {
    ...{ v: 1, kind: 'turn', agent: 'opencode', provider: 'opencode', model, project, status: 'ok', cost_usd: 0.0042 },
    id: { session: `ses_${Math.floor(id / 50)}`, message: `msg_${process.pid}_${id}` },
    time: { started: now - 5000, completed: now },
    tokens: { input: 1000, output: 100, reasoning: 0, cache_read: 5000, cache_write: 0 },
  };
}

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const randomTail = () => Array.from({ length: 14 }, () => BASE62[Math.floor(Math.random() * 62)]).join('');

const idOf = (kind: string, bornMs: number, n: number) => opencodeId(kind, bornMs, n, randomTail());

let session = '';

/** A completed step as the plugin of OpenCode posts it, unlike every other; fifty to a session. */
export function pluginRecord(): object {
  const count = serial++;
  const now = Date.now();
  const startedMs = now - 5000;
  if (count % 50 === 0 || session === '') session = idOf('ses', startedMs - 60_000, count % 4096);
  const info = {
    ...{
      id: idOf('msg', startedMs, count % 4096),
      sessionID: session,
      parentID: idOf('msg', startedMs - 10, 1),
    },
    ...{ role: 'assistant', providerID: 'opencode', modelID: 'claude-sonnet-4-5', path: { root: 'shop' } },
    ...{ time: { created: startedMs, completed: now }, finish: 'tool-calls', cost: 0.0042 },
    tokens: { input: 1000, output: 100, reasoning: 0, cache: { read: 5000, write: 0 } },
  };
  const event = { id: idOf('evt', now, count % 4096), type: 'message.updated', properties: { info } };
  return { source: 'opencode', account_id: 'main', payload: { event } };
}

/** The same as a relay publishes it. */
export function relayedRecord(): object {
  const [decoded] = decodeRecord(pluginRecord());
  if (decoded?.type !== 'event') throw new Error('the record of the plugin is no event');
  return encodeRecord(decoded);
}

export function scratchFolder(): { dir: string; clear(): void } {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  return { dir, clear: () => rmSync(dir, { recursive: true, force: true }) };
}

export function openLedger(file: string, onCommit = (_: { events: number }) => {}): Ledger {
  const caps = { model: 1e6, project: 1e6, user: 1e6, tool: 1e6, mcp_server: 1e6, series: 1e7 };
  const { retention } = parseConfig({});
  return Ledger.open({ file, timeZone: 'UTC', retentionMs: retention, caps, log: createLog('error'), onCommit });
}

/** A ledger with what stands before it and behind it in a bridge, without its servers. */
export class BenchLedger {
  readonly ledger: Ledger;
  readonly health: Health;
  readonly intake: Intake;
  /** Events that were committed. */
  committed = 0;

  constructor(file: string) {
    this.ledger = openLedger(file, ({ events }) => {
      this.committed += events;
    });
    const tiles = new Tiles(parseConfig({}).telemetry.provider_links, []);
    const producer = new LedgerMetricProducer({ reading: this.ledger, tiles, accounts: [] });
    this.health = new Health({ version: '0', sources: ['socket'], producers: [producer] });
    const attribution = new Attribution({ gateways: {}, pricing: new Pricing([]), accounts: [], project: 'name' });
    this.intake = new Intake({ sink: new LedgerSink({ ledger: this.ledger, attribution }), meter: this.health });
  }

  async book(records: readonly object[]): Promise<void> {
    for (let from = 0; from < records.length; from += BATCH) {
      const decoded = records.slice(from, from + BATCH).flatMap(decodeRecord);
      await this.intake.accept('socket', decoded, {});
    }
  }

  /** One turn for each of some models, or for every so-manieth of them. */
  async bookModels(models: number, every = 1): Promise<void> {
    await this.book(Array.from({ length: Math.ceil(models / every) }, (_, n) => turnRecord(`model-${n * every}`)));
  }

  async close(): Promise<void> {
    await this.health.shutdown();
    this.ledger.close();
  }
}

/** How many models make so many series. */
export const modelsFor = (series: number) => Math.round(series / LINES_PER_MODEL);
