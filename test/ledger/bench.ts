// A real ledger in a temporary folder with a clock of the test's own, and short ways to read it.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import type { LabelCaps } from '../../src/config.ts';
import { Ledger, type LedgerOptions } from '../../src/ledger/ledger.ts';
import type { Window, WindowRow } from '../../src/ledger/reading.ts';
import { createLog } from '../../src/log.ts';
import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import type { Booking, MeterEvent } from '../../src/turn/turn-event.ts';
import { DAY_MS, NOON_MS } from './events.ts';

export const WIDE_CAPS: LabelCaps = {
  model: 10_000,
  project: 10_000,
  user: 10_000,
  tool: 10_000,
  mcp_server: 10_000,
  series: 1_000_000,
};
const FAMILIES: readonly MetricFamily[] = Object.values(TOLL);
const COUNTERS = FAMILIES.filter(({ type }) => type === 'counter');
const HISTOGRAMS = FAMILIES.filter(({ type }) => type === 'histogram');

/** Everything that only ever grows: counters, and the counts and sums of histograms; in ledger units, by series. */
export function growing(ledger: Ledger): Record<string, number> {
  const values: Record<string, number> = {};
  for (const { name } of COUNTERS) {
    for (const { labels, value } of ledger.counters(name)) values[`${name} ${JSON.stringify(labels)}`] = value;
  }
  for (const { name } of HISTOGRAMS) {
    for (const { labels, counts, sum } of ledger.histograms(name)) {
      const series = `${name} ${JSON.stringify(labels)}`;
      values[`${series} sum`] = sum;
      for (const [index, count] of counts.entries()) values[`${series} ${index}`] = count;
    }
  }
  return Object.fromEntries(Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** All that a ledger shows. Two ledgers that booked the same show the same. */
export function shown(ledger: Ledger) {
  const byText = (rows: readonly object[]) => rows.map((row) => JSON.stringify(row)).sort();
  return {
    growing: growing(ledger),
    windows: byText(ledger.windowRows()),
    pricing: byText(ledger.pricingStates()),
    upstreams: ledger.upstreamProviders(),
    unfinished: byText(ledger.unfinishedTurns()),
    health: ledger.health(),
  };
}

type Where = Readonly<Record<string, string>>;
const matches = (labels: Where, where: Where) => Object.entries(where).every(([name, value]) => labels[name] === value);

/** The sum over the series of a counter that carry these labels, in the family's ledger unit. */
export function total(ledger: Ledger, { name }: MetricFamily, where: Where = {}): number {
  return [...ledger.counters(name)].reduce((sum, { labels, value }) => sum + (matches(labels, where) ? value : 0), 0);
}

/** How many observations the matching series of a histogram hold, and their sum. */
export function observed(ledger: Ledger, { name }: MetricFamily, where: Where = {}): { count: number; sum: number } {
  const points = [...ledger.histograms(name)].filter(({ labels }) => matches(labels, where));
  return {
    count: points.reduce((sum, { counts }) => sum + counts.reduce((a, b) => a + b, 0), 0),
    sum: points.reduce((sum, point) => sum + point.sum, 0),
  };
}

/** The label sets of a counter's series. */
export function labelSets(ledger: Ledger, { name }: MetricFamily): Where[] {
  return [...ledger.counters(name)].map(({ labels }) => labels);
}

/** The row of a window, or of one model in it. */
export function windowRow(ledger: Ledger, window: Window, model?: string): WindowRow {
  const rows = ledger.windowRows().filter((row) => row.window === window && (!model || row.model === model));
  assert.equal(rows.length, 1, `one row of ${window} was expected`);
  return rows[0]!;
}

export const typesOf = (bookings: readonly Booking[]) => bookings.map(({ outcome }) => outcome.type);

/** A folder that goes when the test ends. */
export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-ledger-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A ledger under test. What it submits must never make anything fall that only grows. */
export class Bench {
  /** What the ledger takes for now, Unix ms. */
  nowMs = NOON_MS;
  ledger: Ledger;
  readonly file: string;
  readonly #options: LedgerOptions;

  constructor(t: TestContext, options: Partial<LedgerOptions> = {}) {
    this.file = path.join(temporaryFolder(t), 'ledger.db');
    this.#options = {
      file: this.file,
      timeZone: 'UTC',
      retentionMs: 90 * DAY_MS,
      caps: WIDE_CAPS,
      log: createLog('silent'),
      now: () => this.nowMs,
      ...options,
    };
    this.ledger = Ledger.open(this.#options);
    t.after(() => this.ledger.close());
  }

  /** Submits events as one submission. Resolves to their bookings. */
  async submit(...events: MeterEvent[]): Promise<Booking[]> {
    const before = growing(this.ledger);
    const bookings = await this.ledger.submit(events);
    this.#assertGrown(before);
    return bookings;
  }

  async settleAt(nowMs: number): Promise<void> {
    const before = growing(this.ledger);
    this.nowMs = nowMs;
    await this.ledger.settle();
    this.#assertGrown(before);
  }

  /** Closes and opens, perhaps under other settings. */
  reopen(changed: Partial<LedgerOptions> = {}): void {
    this.ledger.close();
    this.ledger = Ledger.open({ ...this.#options, ...changed });
  }

  #assertGrown(before: Record<string, number>): void {
    const now = growing(this.ledger);
    for (const [series, value] of Object.entries(before)) {
      assert.ok((now[series] ?? Number.NEGATIVE_INFINITY) >= value, `${series} fell from ${value} to ${now[series]}`);
    }
    assert.ok(this.ledger.health().booksBalance, 'the books do not balance');
  }
}
