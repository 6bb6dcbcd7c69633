import assert from 'node:assert/strict';
import { it } from 'node:test';
import { BRIDGE, type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { metricReference } from '../../src/metrics/reference.ts';

const FAMILIES: readonly MetricFamily[] = [...Object.values(TOLL), ...Object.values(BRIDGE)];
const text = metricReference();
const rows = text.split('\n').filter((line) => line.startsWith('| `'));

it('describes every metric of the catalogue once, with what it needs to be used', () => {
  assert.equal(rows.length, FAMILIES.length);
  for (const family of FAMILIES) {
    const [row, ...more] = rows.filter((line) => line.startsWith(`| \`${family.name}\` | ${family.type} |`));
    assert.ok(row, family.name);
    assert.deepEqual(more, []);
    assert.ok(
      row.includes(family.help) && row.includes(`\`${family.otelName}\``) && row.includes(`\`${family.unit}\``),
    );
    for (const label of family.labels) {
      const shown = family.optional?.includes(label) ? `[\`${label}\`]` : `\`${label}\``;
      assert.ok(row.includes(shown), `${family.name} ${label}`);
    }
  }
});

it('puts metrics under the heading where one looks for them', () => {
  const headingOf = (name: string) => {
    const before = text.slice(0, text.indexOf(`| \`${name}\` |`));
    return [...before.matchAll(/^## (.*)$/gm)].at(-1)?.[1];
  };
  assert.equal(headingOf('toll_cost_usd_total'), 'Turns');
  assert.equal(headingOf('toll_window_cost_usd'), 'Tiles and windows');
  assert.equal(headingOf('toll_account_status'), 'Accounts');
  assert.equal(headingOf('gen_ai_client_token_usage'), 'Semantic conventions');
  assert.equal(headingOf('tollbridge_series'), 'The bridge');
});

it('says that it is generated, and by what; every table row has six cells', () => {
  assert.match(text, /^<!-- Generated .*npm run generate/);
  for (const row of rows) assert.equal(row.replaceAll('\\|', '').split('|').length, 8, row);
  assert.ok(text.endsWith('|\n'));
});
