import assert from 'node:assert/strict';
import { chmodSync, existsSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { SpoolDrain } from '../../src/sources/spool-drain.ts';
import { diskFull, silentLog, turnRecord } from './intake-fixture.ts';
import { NOW_MS, newSpool } from './spool-fixture.ts';

test('a failed commit keeps every file, counts nothing, and the next pass books them', async (t) => {
  const { drain, write, list, meter, sink } = newSpool(t);
  for (let n = 0; n < 10; n++) write(`${n}.json`, turnRecord(n));
  write('bad.json', '{"source":"vim","payload":{}}');
  sink.failure = diskFull;
  await drain.drain();
  assert.deepEqual(
    [list().length, meter.of('spool').received, drain.waiting(), meter.upStates.spool],
    [11, 0, 11, true],
  );
  sink.failure = () => undefined;
  await drain.drain();
  assert.deepEqual([list().length, meter.of('spool').recorded, meter.of('spool').rejected], [0, 10, 1]);
  meter.assertConserved('spool');
});

test('an unexpected failure over one file holds up no other', async (t) => {
  const { drain, write, list, meter, sink, log } = newSpool(t);
  for (let n = 0; n < 5; n++) write(`${n}.json`, turnRecord(n));
  const submit = sink.submit.bind(sink);
  sink.submit = async (events) => {
    if (events.some((event) => event.kind === 'turn' && event.messageId === 'msg-3')) throw new TypeError('a mistake');
    return submit(events);
  };
  await drain.drain();
  assert.deepEqual([list(), meter.of('spool').recorded, meter.upStates.spool], [['3.json'], 4, true]);
  assert.match(drain.problem()!, /^1 file of the spool folder cannot be .* \(TypeError\)/);
  assert.equal(log.length, 1);
  assert.match(log[0]!, /spool-trouble\.test\.ts/, 'the log says where');
  assert.doesNotMatch(drain.problem() + log.join(), /a mistake/, 'the message might quote anything');
  meter.assertConserved('spool');
});

test('a folder that cannot be read is a source that is down, until it can', async (t) => {
  const { drain, dir, write, meter, log } = newSpool(t);
  rmSync(dir, { recursive: true });
  writeFileSync(dir, 'in the way');
  await drain.drain();
  await drain.drain();
  assert.equal(meter.upStates.spool, false);
  assert.match(drain.problem()!, /EEXIST|ENOTDIR/);
  assert.equal(log.length, 1, 'said once, not at every pass');
  rmSync(dir);
  await drain.drain();
  write('1.json', turnRecord(1));
  await drain.drain();
  assert.deepEqual([meter.upStates.spool, drain.problem(), meter.of('spool').recorded], [true, undefined, 1]);
  assert.equal(statSync(dir).mode & 0o777, 0o700);
});

test('one unreadable file is reported by number, holds up no other, and the source stays up', {
  skip: process.getuid!() === 0 && 'root reads everything',
}, async (t) => {
  const { drain, dir, write, list, meter, log } = newSpool(t);
  write('PRIVATE.json', turnRecord(1));
  write('2.json', turnRecord(2));
  chmodSync(path.join(dir, 'PRIVATE.json'), 0);
  for (let pass = 0; pass < 3; pass++) await drain.drain();
  assert.deepEqual([list(), meter.of('spool').recorded, meter.upStates.spool], [['PRIVATE.json'], 1, true]);
  assert.match(drain.problem()!, /^1 file of the spool folder cannot be read.*EACCES/);
  assert.equal(log.length, 1, 'said once');
  assert.doesNotMatch(drain.problem() + log.join(), /PRIVATE/);
});

test('a file in place of the folder is said at the start', async (t) => {
  const { dir, drain } = newSpool(t);
  rmSync(dir, { recursive: true });
  writeFileSync(dir, 'in the way');
  await assert.rejects(drain.start(), {
    name: 'PermanentFailure',
    message: /cannot be a folder: a file.*set spool\.dir/,
  });
  rmSync(dir);
  await drain.start();
});

test('links are left alone, which is said once', async (t) => {
  const { dir, drain, meter, log } = newSpool(t);
  for (const name of ['a.json', 'b.json', 'notes.txt']) symlinkSync('/dev/null', path.join(dir, name));
  for (let pass = 0; pass < 3; pass++) await drain.drain();
  assert.equal(log.length, 1);
  assert.match(log[0]!, /"links":2/);
  assert.deepEqual([meter.of('spool').received, drain.problem()], [0, undefined]);
});

test('a writer that finishes a file while the folder is tidied harms nothing', async (t) => {
  const { dir, write, list, intake, meter, sink } = newSpool(t);
  write('1.json', turnRecord(1));
  write('2.json.tmp', turnRecord(2));
  // The clock is asked between listing and looking.
  const now = () => {
    if (existsSync(path.join(dir, '2.json.tmp'))) renameSync(path.join(dir, '2.json.tmp'), path.join(dir, '2.json'));
    return NOW_MS;
  };
  const drain = new SpoolDrain({ dir, intake, identity: {}, meter, log: silentLog, now });
  await drain.drain();
  assert.deepEqual([list(), drain.problem(), sink.events.length], [['2.json'], undefined, 1]);
});

describe('a quarantine that cannot be written', () => {
  const BAD = '{"source":"vim","payload":{}}';
  test('bad files stay, uncounted, until it can; good ones are booked', async (t) => {
    const { drain, dir, write, list, quarantine, meter, log } = newSpool(t);
    writeFileSync(path.join(dir, 'quarantine'), 'in the way');
    write('bad.json', BAD);
    write('good.json', turnRecord(1));
    for (let pass = 0; pass < 3; pass++) await drain.drain();
    assert.deepEqual([list(), meter.of('spool').rejected, meter.of('spool').recorded], [['bad.json'], 0, 1]);
    assert.match(drain.problem()!, /^1 file .*quarantine.*cannot be written: EEXIST/);
    assert.deepEqual([meter.upStates.spool, log.length], [true, 1]);
    rmSync(path.join(dir, 'quarantine'));
    await drain.drain();
    assert.deepEqual([list(), quarantine(), drain.problem()], [[], ['bad.json', 'bad.json.reason'], undefined]);
    assert.equal(meter.of('spool').rejected, 1);
    meter.assertConserved('spool');
  });

  test('what the ledger refused is counted once, and moved when it can be', async (t) => {
    const { drain, dir, write, list, quarantine, sink, meter } = newSpool(t);
    writeFileSync(path.join(dir, 'quarantine'), 'in the way');
    write('late.json', turnRecord(1));
    let submissions = 0;
    sink.submit = async (events) => {
      submissions++;
      return events.map(() => ({ outcome: { type: 'rejected', reason: 'too_late', detail: 'x' } }));
    };
    for (let pass = 0; pass < 3; pass++) await drain.drain();
    assert.deepEqual([list(), submissions, meter.of('spool').rejected], [['late.json'], 1, 1]);
    assert.equal(drain.waiting(), 1);
    rmSync(path.join(dir, 'quarantine'));
    await drain.drain();
    assert.deepEqual([list(), quarantine().length, submissions, drain.waiting()], [[], 2, 1, 0]);
  });

  test('a file that changed after it was booked is read anew', async (t) => {
    const { drain, dir, write, list, sink, meter } = newSpool(t);
    writeFileSync(path.join(dir, 'quarantine'), 'in the way');
    write('1.json', turnRecord(1));
    const submit = sink.submit.bind(sink);
    sink.submit = async (events) =>
      events.map(() => ({ outcome: { type: 'rejected', reason: 'too_late', detail: 'x' } }));
    await drain.drain();
    sink.submit = submit;
    write('1.json', [turnRecord(1), turnRecord(2)]);
    await drain.drain();
    await drain.drain();
    assert.deepEqual([list(), meter.of('spool').recorded, meter.of('spool').rejected], [[], 2, 1]);
    meter.assertConserved('spool');
  });
});

test('a ledger that goes on refusing is told after five passes, once, and forgotten when it takes', async (t) => {
  const { drain, write, meter, sink, log } = newSpool(t);
  write('1.json', turnRecord(1));
  sink.failure = diskFull;
  for (let pass = 0; pass < 4; pass++) await drain.drain();
  assert.deepEqual([drain.problem(), meter.upStates.spool, log], [undefined, true, []]);
  for (let pass = 0; pass < 4; pass++) await drain.drain();
  assert.match(drain.problem()!, /refused the spool's files 5 times in a row: the disk is full/);
  assert.deepEqual([meter.upStates.spool, log.length], [false, 1]);
  sink.failure = () => undefined;
  await drain.drain();
  assert.deepEqual([drain.problem(), meter.upStates.spool, meter.of('spool').recorded], [undefined, true, 1]);
});
