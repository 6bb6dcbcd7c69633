// kill -9 at random moments of a stream whose sender retries what was not acknowledged, with duplicates and with the
// vectors of each turn in random order. Afterwards every series must equal the truth, Prometheus must have seen no
// reset, and a plain difference over the kills must be exact to the nano-dollar.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { Pool } from 'undici';
import { TOLL } from '../src/metrics/catalogue.ts';
import { both, compose, randomFrom } from './composed-stream.ts';
import { KillableBridge } from './killable-bridge.ts';
import { freePort, Prometheus, until } from './prometheus-server.ts';
import { samplesOf, shownBy } from './scrape.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const EVENTS = FULL ? 20_000 : 5_000;
const KILLS = FULL ? 20 : 6;
const BATCH = 20;
const SCRAPE_MS = 200;

/** Sends batches, each until it is acknowledged. Returns how often a batch had to be sent again. */
async function deliver(socketPath: string, records: readonly object[]): Promise<number> {
  let next = 0;
  let retries = 0;
  const sender = async () => {
    const pool = new Pool('http://tollbridge', { socketPath, connections: 1 });
    while (next < records.length) {
      const batch = records.slice(next, next + BATCH);
      next += BATCH;
      const body = batch.map((record) => JSON.stringify(record)).join('\n');
      for (;;) {
        const status = await pool
          .request({ path: '/v1/events', method: 'POST', body, headersTimeout: 10_000 })
          .then(async (answer) => {
            const text = await answer.body.text();
            if (answer.statusCode === 202) assert.deepEqual(JSON.parse(text).rejected, []);
            return answer.statusCode;
          })
          .catch((error) => {
            if (error instanceof assert.AssertionError) throw error;
            return 0;
          });
        if (status === 202) break;
        retries += 1;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      // Slow enough that the stream outlasts the kills.
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
    await pool.destroy();
  };
  await Promise.all(Array.from({ length: 4 }, sender));
  return retries;
}

/** Every series that may only rise, by the name it has in a scrape. */
const RISING = Object.values(TOLL).flatMap(({ name, type }) => {
  if (type === 'gauge') return [];
  return type === 'counter' ? [name] : [`${name}_bucket`, `${name}_sum`, `${name}_count`];
});

test(`${EVENTS} events and ${KILLS} kills: exact to the nano-dollar`, async (t) => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const port = await freePort();
  const bridge = new KillableBridge({ dir, port });
  await bridge.start();
  const prometheus = await Prometheus.start({ dir, targets: [`127.0.0.1:${port}`], scrapeMs: SCRAPE_MS });
  try {
    const before = compose(EVENTS / 20, { seed: 1, name: 'before' });
    const during = compose(EVENTS, { seed: 2, name: 'during' });
    await deliver(bridge.socket, before.records);
    /** Waits for a scrape that began after now, so that it shows all that was acknowledged; Unix seconds of that scrape. */
    const scrapedAfterNow = async () => {
      const sinceS = Date.now() / 1000;
      let scrapedS = 0;
      await until('a scrape after what was delivered', async () => {
        scrapedS = (await prometheus.query('timestamp(tollbridge_ledger_created_timestamp_seconds)'))[0]?.value ?? 0;
        return scrapedS > sinceS;
      });
      return scrapedS;
    };
    const sum = (sums: Record<string, number>) => Object.values(sums).reduce((a, b) => a + b, 0);
    const fromS = await scrapedAfterNow();

    const random = randomFrom(Date.now());
    let isDelivered = false;
    const delivery = deliver(bridge.socket, during.records).then((retries) => {
      isDelivered = true;
      return retries;
    });
    let killedUnderway = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      await new Promise((resolve) => setTimeout(resolve, 50 + random() * 400));
      if (!isDelivered) killedUnderway += 1;
      await bridge.kill();
      await bridge.start();
    }
    const retries = await delivery;
    const toS = await scrapedAfterNow();

    const text = await bridge.scrape();
    const { records: _, ...truth } = both(before, during);
    assert.deepEqual(shownBy(text), truth);

    for (const name of RISING) {
      assert.deepEqual(await prometheus.query(`resets(${name}[1h]) > 0`), [], `${name} was never seen to fall`);
    }
    const rangeMs = Math.round((toS - fromS) * 1000);
    const spent = (name: string) => {
      const now = `sum by (provider, model) (${name})`;
      // The ledger was there at both ends, so a series that was not is one that had not begun: it counts from 0.
      return `(${now} - (sum by (provider, model) (${name} offset ${rangeMs}ms) or 0 * ${now}))`;
    };
    const cost = spent('toll_cost_usd_total');
    const takenBack = spent('toll_cost_corrections_usd_total');
    const difference = await prometheus.query(`${cost} - (${takenBack} or 0 * ${cost})`, toS);
    assert.deepEqual(
      Object.fromEntries(
        difference.map(({ metric, value }) => [`${metric.provider}/${metric.model}`, Math.round(value * 1e9)]),
      ),
      during.costNano,
      'the difference over the kills is what was spent meanwhile',
    );
    const series = samplesOf(text).filter(({ name }) => name.startsWith('toll_')).length;
    t.diagnostic(
      `${during.records.length} events, ${KILLS} kills (${killedUnderway} while the stream ran), ${retries} batches sent again, ` +
        `${series} series, 0 resets, ${sum(during.costNano)} nano-USD over the kills, difference 0`,
    );
    assert.ok(killedUnderway >= KILLS / 2, `only ${killedUnderway} of ${KILLS} kills hit the stream`);
    assert.ok(retries > 0, 'some batches met a kill');
  } finally {
    await prometheus.stop();
    await bridge.kill();
    rmSync(dir, { recursive: true, force: true });
  }
});
