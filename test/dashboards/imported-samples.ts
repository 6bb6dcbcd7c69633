// A real Prometheus that holds made-up samples, as if it had scraped them, and scrapes nothing itself.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { MetricFamily } from '../../src/metrics/catalogue.ts';
import { Prometheus } from '../prometheus-server.ts';
import { importBlocks } from './demo-stage.ts';

/** One sample. A series' samples stand together and in order, as OpenMetrics wants them. */
export interface Sample {
  readonly family: MetricFamily;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  /** Unix seconds. */
  readonly atS: number;
}

function lineOf({ family, labels, value, atS }: Sample): string {
  const text = Object.entries(labels).map(([label, of]) => `${label}="${of}"`);
  return `${family.name}{${text.join(',')}} ${value} ${atS}`;
}

/** Starts it with these samples. */
export async function prometheusWith(
  samples: readonly Sample[],
): Promise<{ prometheus: Prometheus; stop(): Promise<void> }> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-samples-'));
  const clear = () => rmSync(dir, { recursive: true, force: true });
  try {
    const file = path.join(dir, 'samples.om');
    mkdirSync(path.join(dir, 'data'));
    writeFileSync(file, [...samples.map(lineOf), '# EOF', ''].join('\n'));
    importBlocks(file, path.join(dir, 'data'));
    const prometheus = await Prometheus.start({ dir, targets: [], scrapeMs: 60_000, instance: 'nobody' });
    const stop = async () => {
      await prometheus.stop();
      clear();
    };
    return { prometheus, stop };
  } catch (error) {
    clear();
    throw error;
  }
}
