// What a tile's query over 30 days asks of Prometheus: the difference of two instants, beside `increase` over the range.
// Prometheus itself counts the samples that it loads.

import { TOLL } from '../../src/metrics/catalogue.ts';
import { prometheusWith, type Sample } from '../../test/dashboards/imported-samples.ts';
import type { Benchmark, Round } from './measure.ts';

const DAYS = 30;
const SCRAPE_S = 60;
const SERIES = 10;

async function* samplesAsked(): AsyncGenerator<Round> {
  const endS = Math.floor(Date.now() / 1e3 / SCRAPE_S) * SCRAPE_S;
  const startS = endS - DAYS * 86_400;
  const samples: Sample[] = [];
  for (let n = 0; n < SERIES; n++) {
    const labels = { provider: 'anthropic', upstream_provider: 'anthropic', model: `model-${n}` };
    for (let atS = startS; atS <= endS; atS += SCRAPE_S) {
      samples.push({ family: TOLL.cost, labels, value: (atS - startS) / 1e3, atS });
    }
  }
  const { prometheus, stop } = await prometheusWith(samples);
  const loaded = async (query: string) => {
    const parameters = new URLSearchParams({ query, time: String(endS), stats: 'all' });
    const answer = (await (await fetch(`${prometheus.url}/api/v1/query?${parameters}`)).json()) as {
      data: { stats: { samples: { totalQueryableSamples: number } } };
    };
    return answer.data.stats.samples.totalQueryableSamples;
  };
  const name = TOLL.cost.name;
  try {
    yield {
      ours: await loaded(`sum(${name}) - sum(${name} @ ${startS + SCRAPE_S})`),
      theirs: await loaded(`sum(increase(${name}[${DAYS}d]))`),
    };
  } finally {
    await stop();
  }
}

export const queryBenchmarks: readonly Benchmark[] = [
  {
    ...{ name: 'query', what: `a tile's cost over ${DAYS} days, by a scrape a minute`, unit: 'samples' },
    ...{ yardstick: '`increase` over the range', reach: { atMost: 1 / 40 }, rounds: samplesAsked },
  },
];
