import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RunExport } from '../../src/traces/run-export.ts';
import type { TurnEvent } from '../../src/turn/turn-event.ts';
import { readableLog } from '../sources/intake-fixture.ts';

test('a fault of its own is said, and reaches nobody whose turn was booked', async () => {
  const { log, lines } = readableLog();
  const meter = { exported() {}, dropped() {} };
  const runs = new RunExport({ meter, log });
  // As many bookings as events is what is promised.
  runs.booked([{ kind: 'turn', model: 'CANARY', startedMs: 1 } as TurnEvent], []);
  await runs.stop();
  assert.match(lines.join('\n'), /runs were not told of; what is counted is not touched/);
  assert.doesNotMatch(lines.join('\n'), /CANARY/);
});
