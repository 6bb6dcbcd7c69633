// A disk that is really full, as a process sees it whose files must not grow: its writes fail, and everything else works.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { Ledger } from '../../src/ledger/ledger.ts';
import { createLog } from '../../src/log.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { temporaryFolder, total, WIDE_CAPS } from './bench.ts';
import { DAY_MS } from './events.ts';
import { Holder } from './holder.ts';

const FILE_KIB = 1024;
const TURNS_PER_SUBMISSION = 200;
/** Far more than fits into the limit. */
const SUBMISSIONS_MAX = 100;

const lacks = ['bash', 'prlimit'].find((tool) => spawnSync(tool, ['--version']).error);

test('a full disk', { skip: lacks ? `${lacks} is not installed` : false }, async (t) => {
  const file = path.join(temporaryFolder(t), 'ledger.db');
  const { holder, opened } = await Holder.start(t, file, { fileKiB: FILE_KIB });
  assert.equal(opened.turns, 0);

  let booked = 0;
  let answer = opened;
  await t.test('refuses what it cannot hold, to be sent again, and books none of it', async () => {
    for (let at = 0; at < SUBMISSIONS_MAX && !answer.failed; at++) {
      answer = await holder.submit({ from: booked, turns: TURNS_PER_SUBMISSION });
      booked += answer.recorded ?? 0;
    }
    assert.equal(answer.failed, 'RetryableFailure');
    assert.match(answer.problem ?? '', /cannot be written.*Make room/s);
    assert.ok(booked > 0);
    for (let again = 0; again < 3; again++) {
      answer = await holder.submit({ from: booked, turns: TURNS_PER_SUBMISSION });
      assert.equal(answer.failed, 'RetryableFailure');
      assert.deepEqual([answer.turns, answer.costNano, answer.booksBalance], [booked, booked, true]);
    }
  });

  await t.test('is not forgotten by a ledger that has nothing to write', async () => {
    answer = await holder.submit('settle');
    assert.match(answer.problem ?? '', /cannot be written/);
  });

  await t.test('is forgotten when there is room again, without a restart', async () => {
    execFileSync('prlimit', ['--pid', String(holder.process.pid), '--fsize=unlimited:']);
    answer = await holder.submit({ from: 0, turns: booked + TURNS_PER_SUBMISSION });
    assert.equal(answer.recorded, TURNS_PER_SUBMISSION, 'what was booked before is known, what was refused is new');
    assert.equal(answer.problem, undefined);
    booked += TURNS_PER_SUBMISSION;
    assert.deepEqual([answer.turns, answer.costNano, answer.booksBalance], [booked, booked, true]);
  });

  await t.test('leaves a sound ledger with exact totals', async () => {
    await holder.kill();
    const log = createLog('silent');
    const ledger = Ledger.open({ file, timeZone: 'UTC', retentionMs: 90 * DAY_MS, caps: WIDE_CAPS, log });
    try {
      assert.deepEqual([total(ledger, TOLL.turns), total(ledger, TOLL.tokens)], [booked, 3 * booked]);
      assert.ok(ledger.health().booksBalance);
    } finally {
      ledger.close();
    }
  });
});
