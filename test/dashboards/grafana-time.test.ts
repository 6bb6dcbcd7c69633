// The times that a chart asks for, as Grafana rounds them.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { aligned, atLeast, timeVariables } from '../../dashboards/preview/src/grafana-time.ts';

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;
const at = (text: string) => Date.parse(text) / 1000;

describe('the ends of a chart', () => {
  const cases: readonly { why: string; stepS: number; offsetS: number; end: string; rounded: string }[] = [
    { why: 'a minute', stepS: 60, offsetS: 0, end: '2026-03-01T12:34:56Z', rounded: '2026-03-01T12:34:00Z' },
    { why: 'a day', stepS: DAY_S, offsetS: 0, end: '2026-03-01T12:34:56Z', rounded: '2026-03-01T00:00:00Z' },
    { why: 'midnight itself', stepS: DAY_S, offsetS: 0, end: '2026-03-01T00:00:00Z', rounded: '2026-03-01T00:00:00Z' },
    { why: 'east', stepS: DAY_S, offsetS: HOUR_S, end: '2026-03-01T12:34:56Z', rounded: '2026-02-28T23:00:00Z' },
    {
      why: 'after its midnight',
      stepS: DAY_S,
      offsetS: HOUR_S,
      end: '2026-03-01T23:30:00Z',
      rounded: '2026-03-01T23:00:00Z',
    },
    { why: 'west', stepS: DAY_S, offsetS: -8 * HOUR_S, end: '2026-03-01T07:00:00Z', rounded: '2026-02-28T08:00:00Z' },
  ];
  for (const { why, stepS, offsetS, end, rounded } of cases) {
    it(`are rounded down to the step: ${why}`, () => {
      const stated = { startS: at(end) - 7 * DAY_S, endS: at(end), stepS };
      assert.deepEqual(aligned(stated, offsetS), { startS: at(rounded) - 7 * DAY_S, endS: at(rounded), stepS });
    });
  }

  it('are known to queries as they were before', () => {
    const variables = timeVariables({ startS: 1000.5, endS: 4600.9, stepS: 60 });
    assert.equal(variables['__to:date:seconds'], '4600');
    assert.equal(variables.__range, '3600s');
  });
});

it('a step is never shorter than what the panel says, or a scrape', () => {
  assert.equal(atLeast(2), 15);
  assert.equal(atLeast(60), 60);
  assert.equal(atLeast(3600, DAY_S), DAY_S);
});
