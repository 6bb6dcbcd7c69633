// How fast one sender may ask.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pace } from '../../src/sources/pace.ts';

test('ten seconds’ worth may come at once, then as much as the rate lets in, however the clock is looked at', () => {
  let nowMs = 5_000;
  const pace = new Pace(4, () => nowMs);
  const admitted = (asked: number) => Array.from({ length: asked }, () => pace.admits()).filter(Boolean).length;
  assert.equal(admitted(100), 40);
  assert.equal(admitted(100), 0);
  nowMs += 249;
  assert.equal(admitted(100), 0, 'a quarter of a second is not over');
  nowMs += 1;
  assert.equal(admitted(100), 1);
  for (let step = 0; step < 10; step++) {
    nowMs += 100;
    assert.ok(admitted(1) <= 1);
  }
  nowMs += 60 * 60_000;
  assert.equal(admitted(100), 40, 'nothing is saved up beyond that');
});
