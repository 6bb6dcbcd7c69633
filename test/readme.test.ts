// What the documentation says exists: settings, files and metrics.

import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import { parseConfig } from '../src/config.ts';
import { BRIDGE, type MetricFamily, TOLL } from '../src/metrics/catalogue.ts';

const ROOT = path.dirname(import.meta.dirname);
const DOCUMENTS = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...globSync('docs/*.md', { cwd: ROOT })];
const read = (document: string) => readFileSync(path.join(ROOT, document), 'utf8');

/** Every name under which a metric is scraped. */
const SCRAPED = new Set(
  [...Object.values(TOLL), ...Object.values(BRIDGE)].flatMap(({ name, type }: MetricFamily) =>
    type === 'histogram' ? [name, `${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  ),
);

/** The names in a text that no metric has; `toll_quota_*` and `tollbridge_events_(a|b)_total` stand for several. */
function unknownNames(text: string): string[] {
  const written = text.match(/\btoll(?:bridge)?_[a-z\d_*]*(?:\([a-z\d_|]+\)[a-z\d_*]*)?/g) ?? [];
  const names = written.flatMap((name) => {
    const [, before, choices, after] = /^(.*)\((.*)\)(.*)$/.exec(name) ?? [];
    return choices === undefined ? [name] : choices.split('|').map((choice) => `${before}${choice}${after}`);
  });
  return names.filter((name) => {
    const pattern = new RegExp(`^${name.replaceAll('*', '.*')}$`);
    return ![...SCRAPED].some((scraped) => pattern.test(scraped));
  });
}

/** The targets of relative links and pictures in a text that lead nowhere, from the folder that it is in. */
function deadLinks(text: string, folder: string): string[] {
  const prose = text.replace(/^```[\s\S]*?^```/gm, '');
  const targets = [...prose.matchAll(/\]\(([^)\s]+)[^)]*\)|\b(?:src|href)="([^"]+)"/g)].map(([, a, b]) => (a ?? b)!);
  return targets.filter((target) => {
    const [file = ''] = target.split('#');
    return !/^[a-z]+:/.test(target) && file !== '' && !existsSync(path.join(ROOT, folder, decodeURI(file)));
  });
}

const yamlBlocks = (text: string) =>
  [...text.matchAll(/^```yaml\n([\s\S]*?)^```/gm)].map(([, block]) => block as string);

describe('what the documentation says', () => {
  test('its samples of a configuration are some', () => {
    // One sample is a list: the job that Prometheus is given.
    const samples = yamlBlocks(read('README.md')).filter((block) => !Array.isArray(parse(block)));
    const configs = samples.map((sample) => parseConfig(parse(sample), 'the sample'));
    assert.ok(samples.some((sample) => Object.keys(parse(sample)).length > 3));
    assert.ok(configs.some(({ accounts }) => accounts.length > 0));
    assert.ok(configs.some(({ hub }) => hub.listen));
  });

  for (const document of DOCUMENTS) {
    test(`${document}: every link leads to a file`, () => {
      assert.deepEqual(deadLinks(read(document), path.dirname(document)), []);
    });
  }

  // docs/metrics.md is the catalogue, and names its metrics in OpenTelemetry's way too.
  for (const document of DOCUMENTS.filter((name) => name !== path.join('docs', 'metrics.md'))) {
    test(`${document}: every metric is in the catalogue`, () => assert.deepEqual(unknownNames(read(document)), []));
  }

  test('control: what is not so is found', () => {
    assert.deepEqual(
      deadLinks('[a](nowhere.md) ![b](docs/no.png "t") [c](README.md#x) [d](https://x.y) [e](#f)', '.'),
      ['nowhere.md', 'docs/no.png'],
    );
    assert.deepEqual(deadLinks('```\n[a](nowhere.md)\n```\n<img src="gone.svg">', 'docs'), ['gone.svg']);
    const fine =
      '`toll_cost_usd_total` toll_turn_duration_seconds_bucket toll_quota_* tollbridge_events_(recorded|updated)_total';
    assert.deepEqual(unknownNames(fine), []);
    assert.deepEqual(
      unknownNames('toll_cost_usd toll_nothing_* toll_turns_total_sum tollbridge_events_(recorded|x)_total'),
      ['toll_cost_usd', 'toll_nothing_*', 'toll_turns_total_sum', 'tollbridge_events_x_total'],
    );
    assert.throws(() => parseConfig(parse('retention: soon')), /retention/);
    assert.ok(DOCUMENTS.length > 3 && SCRAPED.size > 50);
  });
});
