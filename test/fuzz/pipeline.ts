// Hostile bodies all the way: decoded, booked in a real ledger, and rendered as a scrape, which is then read line by line.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { parseConfig } from '../../src/config.ts';
import { LATEST_MS } from '../../src/ledger/budget-period.ts';
import { Ledger } from '../../src/ledger/ledger.ts';
import { createLog } from '../../src/log.ts';
import { Health } from '../../src/metrics/health.ts';
import { LedgerMetricProducer } from '../../src/metrics/producer.ts';
import { tileReport, unmappedReport } from '../../src/metrics/tile-report.ts';
import { LedgerSink } from '../../src/sources/ledger-sink.ts';
import { Intake } from '../../src/sources/source.ts';
import { Attribution } from '../../src/turn/attribution.ts';
import { decodeBody } from '../../src/turn/normalize.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import { Tiles } from '../../src/turn/tiles.ts';
import { eventsBy } from '../scrape.ts';
import { bookedBodies } from './targets.ts';

const SOURCE = 'socket';
const BODIES_PER_SCRAPE = 250;
const MIB = 1024 * 1024;
const SERIES_MAX = 3000;
const ALL_TIME = { startMs: 0, endMs: LATEST_MS };
/** A line of the text format, with nothing in a label's value that could end it. */
const LINE =
  /^(?:# (?:HELP|TYPE|UNIT) [a-z][a-z0-9_]* [^\p{Cc}\p{Cs}\p{Zl}\p{Zp}]+|([a-z][a-z0-9_]*)(?:\{(.*)\})? (?:-?[0-9.e+-]+|NaN|[+-]Inf))$/u;
const LABELS = /^(?:[a-z_][a-z0-9_]*="(?:[^"\\\p{Cc}\p{Cs}\p{Zl}\p{Zp}]|\\[\\"])*"(?:,|$))*$/u;

function assertScrape(text: string): number {
  let series = 0;
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [found, name, labels = ''] = LINE.exec(line) ?? [];
    assert.ok(found && LABELS.test(labels), `no line of a scrape: ${JSON.stringify(line)}`);
    assert.doesNotMatch(line, /CANARY prompt|sk-canary| 66600000000$/i);
    if (name?.startsWith('toll_')) series += 1;
  }
  return series;
}

export interface PipelineResult {
  readonly bodies: number;
  readonly events: number;
  readonly recorded: number;
  readonly series: number;
}

/**
 * @param options.onInput called after every scrape, so that somebody else can see when it does not go on
 * @throws Error with the seed when a promise is broken
 */
export async function fuzzPipeline({
  inputs,
  seed,
  onInput,
}: {
  inputs: number;
  seed: number;
  onInput?: () => void;
}): Promise<PipelineResult> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-fuzz-'));
  const file = path.join(dir, 'ledger.db');
  const said: string[] = [];
  const log = createLog('trace', { write: (line: string) => void said.push(line) });
  const { labels, retention: retentionMs } = parseConfig({ labels: { caps: { series: SERIES_MAX } } });
  const ledger = Ledger.open({ file, timeZone: 'UTC', retentionMs, caps: labels.caps, log });
  const tiles = new Tiles({}, []);
  const producer = new LedgerMetricProducer({ reading: ledger, tiles, accounts: [] });
  const health = new Health({ version: '0', sources: [SOURCE], producers: [producer] });
  const attribution = new Attribution({
    gateways: {},
    pricing: new Pricing([]),
    accounts: [],
    project: labels.project,
  });
  const intake = new Intake({ sink: new LedgerSink({ ledger, attribution }), meter: health });
  let series = 0;
  try {
    const all = fc.sample(bookedBodies, { numRuns: inputs, seed });
    for (let from = 0; from < all.length; from += BODIES_PER_SCRAPE) {
      const group = all.slice(from, from + BODIES_PER_SCRAPE);
      const accepted = group.map((body) => {
        const decoded = decodeBody(body).map((each) => each.decoded);
        return intake.accept(SOURCE, decoded, {}).catch((error) => {
          throw new Error(`a body was not booked: ${JSON.stringify(body.toString('latin1')).slice(0, 2000)}`, {
            cause: error,
          });
        });
      });
      await Promise.all(accepted);
      series = assertScrape(await health.scrape());
      const told = [tileReport(ledger, tiles), unmappedReport(ledger, tiles), ledger.report('model', ALL_TIME)];
      assert.doesNotMatch(JSON.stringify(told), /CANARY prompt/);
      onInput?.();
      assert.ok(ledger.health().booksBalance, 'the books do not balance');
    }
    const { received = 0, recorded = 0, ...others } = eventsBy(await health.scrape())[SOURCE] ?? {};
    const known = Object.values(others).reduce((sum, count) => sum + count, recorded);
    assert.equal(known, received, 'events were received that nothing became of');
    ledger.close();
    const kept = [readFileSync(file, 'latin1'), said.join('')];
    for (const text of kept) assert.doesNotMatch(text, /CANARY prompt/);
    assert.ok((kept[0]?.length ?? 0) < 64 * MIB);
    return { bodies: all.length, events: received, recorded, series };
  } catch (error) {
    throw new Error(`pipeline, seed ${seed}`, { cause: error });
  } finally {
    ledger.close();
    await health.shutdown();
    rmSync(dir, { recursive: true, force: true });
  }
}
