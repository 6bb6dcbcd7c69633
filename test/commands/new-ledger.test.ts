import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { startNewLedger } from '../../src/commands/new-ledger.ts';
import { PermanentFailure } from '../../src/failure.ts';
import { openDatabase } from '../../src/ledger/database.ts';
import { NOW_MS, scratchConfig, serveSocket, statusOf } from './bridge-fixture.ts';

const yes = async () => true;
const unasked = async () => assert.fail('nobody was to be asked');
const ASIDE = 'ledger.db.damaged-2026-01-15T12-00-00.000Z';

test('a damaged ledger and its companions move aside; the file and its log stay as they were, byte for byte', async (t) => {
  const config = scratchConfig(t);
  for (const suffix of ['', '-wal', '-shm']) {
    writeFileSync(path.join(config.state_dir, `ledger.db${suffix}`), `damaged${suffix}`);
  }
  writeFileSync(path.join(config.state_dir, 'other.txt'), '');
  const { lines, exitCode } = await startNewLedger({ config, nowMs: NOW_MS, confirm: yes });
  assert.equal(exitCode, 0);
  assert.match(lines.join('\n'), /Nothing was deleted\.\nCounting starts anew/);
  assert.deepEqual(readdirSync(config.state_dir).sort(), [ASIDE, `${ASIDE}-shm`, `${ASIDE}-wal`, 'other.txt']);
  // The -shm is an index that SQLite makes anew whenever it looks at the file.
  for (const suffix of ['', '-wal']) {
    assert.equal(readFileSync(path.join(config.state_dir, ASIDE + suffix), 'utf8'), `damaged${suffix}`);
  }
});

test('a sound ledger can be moved too, and the next start makes a new one', async (t) => {
  const config = scratchConfig(t);
  const file = path.join(config.state_dir, 'ledger.db');
  openDatabase(file).close();
  await startNewLedger({ config, nowMs: NOW_MS, confirm: yes });
  assert.ok(readdirSync(config.state_dir).includes(ASIDE));
  openDatabase(file).close();
});

test('a no changes nothing', async (t) => {
  const config = scratchConfig(t);
  writeFileSync(path.join(config.state_dir, 'ledger.db'), 'damaged');
  const { lines, exitCode } = await startNewLedger({ config, nowMs: NOW_MS, confirm: async () => false });
  assert.deepEqual([lines, exitCode], [['Nothing was changed.'], 1]);
  assert.deepEqual(readdirSync(config.state_dir), ['ledger.db']);
});

test('where there is no ledger there is nothing to ask', async (t) => {
  const config = scratchConfig(t);
  const { lines, exitCode } = await startNewLedger({ config, nowMs: NOW_MS, confirm: unasked });
  assert.equal(exitCode, 0);
  assert.match(lines[0]!, /There is no ledger at .*ledger\.db: the next start begins one\./);
});

test('refused while a bridge answers', async (t) => {
  const config = scratchConfig(t);
  writeFileSync(path.join(config.state_dir, 'ledger.db'), 'damaged');
  await serveSocket(t, config, () => ({ body: JSON.stringify(statusOf(config)) }));
  await assert.rejects(startNewLedger({ config, nowMs: NOW_MS, confirm: unasked }), (error) => {
    assert.ok(error instanceof PermanentFailure);
    assert.match(error.message, /A bridge is running \(process 4711\).*Stop it first/);
    return true;
  });
});

test('refused while a bridge without a socket holds the lock', async (t) => {
  const config = scratchConfig(t, { socket: { enabled: false } });
  const db = openDatabase(path.join(config.state_dir, 'ledger.db'));
  try {
    await assert.rejects(startNewLedger({ config, nowMs: NOW_MS, confirm: unasked }), /has .*ledger\.db open/);
  } finally {
    db.close();
  }
});
