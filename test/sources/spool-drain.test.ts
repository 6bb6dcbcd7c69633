import assert from 'node:assert/strict';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { parseConfig } from '../../src/config.ts';
import { Ledger } from '../../src/ledger/ledger.ts';
import { LedgerSink } from '../../src/sources/ledger-sink.ts';
import { Intake, type SourceMeter } from '../../src/sources/source.ts';
import { SpoolDrain } from '../../src/sources/spool-drain.ts';
import { Attribution } from '../../src/turn/attribution.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import { CountingMeter, silentLog, turnRecord, until } from './intake-fixture.ts';
import { DAY, HOUR, newSpool, SECOND } from './spool-fixture.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';

test('every form of a record is booked, in the order of the names, and its file removed', async (t) => {
  const { drain, write, list, meter, sink } = newSpool(t);
  write('3.json', [turnRecord(4), turnRecord(5)]);
  write('1.json', turnRecord(1));
  write('2.json', `${JSON.stringify(turnRecord(2))}\n${JSON.stringify(turnRecord(3))}\n`);
  write('4.json', { source: 'opencode', payload: { event: { type: 'message.part.delta', properties: {} } } });
  await drain.drain();
  assert.deepEqual(
    sink.events.map((event) => event.kind === 'turn' && event.messageId),
    ['msg-1', 'msg-2', 'msg-3', 'msg-4', 'msg-5'],
  );
  assert.equal(sink.attempts, 1, 'one commit for all');
  assert.deepEqual(list(), []);
  assert.deepEqual([meter.of('spool').received, meter.of('spool').ignored], [6, 1]);
  assert.deepEqual([drain.waiting(), drain.quarantined(), drain.problem()], [0, 0, undefined]);
  meter.assertConserved('spool');
});

test('what is not a spool file is left alone', async (t) => {
  const { drain, write, list, dir, meter } = newSpool(t);
  write('elsewhere', turnRecord(1));
  renameSync(path.join(dir, 'elsewhere'), path.join(dir, '..', 'elsewhere'));
  symlinkSync(path.join(dir, '..', 'elsewhere'), path.join(dir, 'link.json'));
  mkdirSync(path.join(dir, 'folder.json'));
  write('notes.txt', 'x');
  write('1.json.tmp', '{"half');
  write('NEGATIVE-CONTROL.json', turnRecord(2));
  await drain.drain();
  assert.deepEqual(list().sort(), ['1.json.tmp', 'folder.json', 'link.json', 'notes.txt']);
  assert.equal(meter.of('spool').received, 1);
  assert.ok(existsSync(path.join(dir, '..', 'elsewhere')));
});

test('a half-written file is waited for, and booked once when it is whole', async (t) => {
  const { drain, write, list, dir, clock, meter } = newSpool(t);
  const text = JSON.stringify(turnRecord(1));
  write('1.json', text.slice(0, 60));
  for (const part of [text.slice(60, 90), text.slice(90, 120)]) {
    await drain.drain();
    clock.nowMs += 4 * SECOND;
    appendFileSync(path.join(dir, '1.json'), part);
  }
  await drain.drain();
  assert.deepEqual([list(), drain.waiting(), meter.of('spool').received], [['1.json'], 1, 0]);
  appendFileSync(path.join(dir, '1.json'), text.slice(120));
  await drain.drain();
  assert.deepEqual([list(), meter.of('spool').recorded], [[], 1]);
});

test('a file that stays malformed goes to quarantine with its reason, and nothing is quoted', async (t) => {
  const { drain, write, list, quarantine, dir, clock, meter, log } = newSpool(t);
  write('bad.json', '{"source":"opencode","payload":{"prompt":"PRIVATE"');
  await drain.drain();
  clock.nowMs += 4.9 * SECOND;
  await drain.drain();
  assert.deepEqual([list(), meter.of('spool').received], [['bad.json'], 0]);
  clock.nowMs += 0.2 * SECOND;
  await drain.drain();
  assert.deepEqual([list(), quarantine()], [[], ['bad.json', 'bad.json.reason']]);
  assert.equal(meter.of('spool')['rejected:invalid_json'], 1);
  assert.deepEqual([drain.waiting(), drain.quarantined()], [0, 1]);
  const note = readFileSync(path.join(dir, 'quarantine', 'bad.json.reason'), 'utf8');
  assert.match(note, /invalid_json/);
  assert.match(note, /What to do/);
  assert.doesNotMatch(note + log.join(), /PRIVATE/);
  const modes = ['quarantine', 'quarantine/bad.json', 'quarantine/bad.json.reason'].map(
    (name) => statSync(path.join(dir, name)).mode & 0o777,
  );
  assert.deepEqual(modes, [0o700, 0o600, 0o600]);
  meter.assertConserved('spool');
});

test('a malformed file that is dated ahead does not wait for ever', async (t) => {
  const { drain, dir, write, quarantine, clock } = newSpool(t);
  write('bad.json', '{');
  utimesSync(path.join(dir, 'bad.json'), (clock.nowMs + DAY) / SECOND, (clock.nowMs + DAY) / SECOND);
  await drain.drain();
  clock.nowMs += 6 * SECOND;
  await drain.drain();
  assert.equal(quarantine().length, 2);
});

test('of a file with good and bad records the good ones are booked', async (t) => {
  const { drain, write, quarantine, dir, meter } = newSpool(t);
  write('mixed.json', [turnRecord(1), { v: 1, kind: 'turn', agent: 'opencode' }, turnRecord(2)]);
  await drain.drain();
  assert.deepEqual([meter.of('spool').recorded, meter.of('spool').rejected], [2, 1]);
  assert.deepEqual(quarantine(), ['mixed.json', 'mixed.json.reason']);
  assert.match(readFileSync(path.join(dir, 'quarantine', 'mixed.json.reason'), 'utf8'), /record 1: missing_field/);
  meter.assertConserved('spool');

  // A user puts it back, mended: only what was missing is new.
  rmSync(path.join(dir, 'quarantine', 'mixed.json'));
  write('mixed.json', [turnRecord(1), turnRecord(3), turnRecord(2)]);
  await drain.drain();
  assert.deepEqual([meter.of('spool').recorded, meter.of('spool').duplicate], [3, 2]);
});

for (const [name, content, reason] of [
  ['too large', `[${' '.repeat(4 * 1024 * 1024)}]`, 'too_large'],
  ['not understood', '{"source":"vim","payload":{}}', 'unknown_agent'],
  ['a number', '12', 'wrong_type'],
] as const) {
  test(`a file that is ${name} goes to quarantine at once`, async (t) => {
    const { drain, write, quarantine, meter } = newSpool(t);
    write('1.json', content);
    write('2.json', turnRecord(1));
    await drain.drain();
    assert.deepEqual(quarantine(), ['1.json', '1.json.reason']);
    assert.deepEqual([meter.of('spool')[`rejected:${reason}`], meter.of('spool').recorded], [1, 1]);
  });
}

/** A real ledger, and what it holds. */
function openLedger(file: string) {
  const { labels } = parseConfig({});
  const ledger = Ledger.open({ file, timeZone: 'UTC', retentionMs: 10_000 * DAY, caps: labels.caps, log: silentLog });
  const sum = (family: string) => [...ledger.counters(family)].reduce((total, point) => total + point.value, 0);
  return { ledger, sum };
}
const attribution = new Attribution({ gateways: {}, pricing: new Pricing([]), accounts: [], project: 'name' });

test('what a real OpenCode left in its spool is booked to the nano-dollar', async (t) => {
  const { dir, list, clock } = newSpool(t);
  const fixtures = path.join(import.meta.dirname, '../fixtures/opencode');
  const expected = JSON.parse(readFileSync(path.join(fixtures, 'spool.expected.json'), 'utf8'));
  cpSync(path.join(fixtures, 'spool'), dir, { recursive: true });
  const { ledger, sum } = openLedger(path.join(dir, '..', 'ledger.db'));
  t.after(() => ledger.close());
  const meter = new CountingMeter();
  const intake = new Intake({ sink: new LedgerSink({ ledger, attribution }), meter });
  const files = list().length;
  await new SpoolDrain({ dir, intake, identity: {}, meter, log: silentLog, now: () => clock.nowMs }).drain();
  assert.equal(sum('toll_cost_usd_total'), expected.cost_nano_usd['mockchat/mock-a']);
  assert.equal(sum('toll_turns_total'), 1);
  assert.equal(sum('toll_sessions_total'), expected.sessions);
  assert.deepEqual(list(), []);
  meter.assertConserved('spool');
  t.diagnostic(`${files} files: ${JSON.stringify(meter.of('spool'))}`);
});

test('a crash between commit and removal leads to duplicates only', async (t) => {
  const { dir, write, list, clock } = newSpool(t);
  const file = path.join(dir, '..', 'ledger.db');
  for (let n = 0; n < 20; n++) write(`${n}.json`, turnRecord(n));
  write('20.json', [turnRecord(20), { v: 1, kind: 'tool' }]);

  const drainOnce = async (diesBeforeRemoval: boolean) => {
    const { ledger, sum } = openLedger(file);
    const meter = new CountingMeter();
    // The last thing that accept does is counting; a process that dies there has committed and removed nothing.
    const dying: SourceMeter = Object.assign(Object.create(meter), {
      success: () => {
        throw new Error('killed');
      },
    });
    const intake = new Intake({
      sink: new LedgerSink({ ledger, attribution }),
      meter: diesBeforeRemoval ? dying : meter,
    });
    const drain = new SpoolDrain({ dir, intake, identity: {}, meter, log: silentLog, now: () => clock.nowMs });
    await drain.drain();
    const booked = { turns: sum('toll_turns_total'), costNano: sum('toll_cost_usd_total') };
    ledger.close();
    return { counts: meter.of('spool'), ...booked };
  };
  const first = await drainOnce(true);
  assert.equal(list().length, 21);
  assert.deepEqual([first.turns, first.costNano], [21, 21_000_000]);
  const second = await drainOnce(false);
  assert.deepEqual([second.counts.duplicate, second.counts.recorded, second.counts.rejected], [21, 0, 1]);
  assert.deepEqual([second.turns, second.costNano], [21, 21_000_000]);
  assert.deepEqual(list(), []);
});

test('a file that grows while it is booked is not removed', async (t) => {
  const { drain, write, list, dir, sink, meter } = newSpool(t);
  write('1.json', `${JSON.stringify(turnRecord(1))}\n`);
  sink.beforeCommit = () => appendFileSync(path.join(dir, '1.json'), JSON.stringify(turnRecord(2)));
  await drain.drain();
  assert.deepEqual(list(), ['1.json']);
  sink.beforeCommit = () => {};
  await drain.drain();
  assert.deepEqual([list(), meter.of('spool').recorded, meter.of('spool').duplicate], [[], 2, 1]);
});

test('a commit holds a thousand records, or one file', async (t) => {
  const { drain, write, list, sink, meter } = newSpool(t);
  const sizes = [400, 400, 400, 1000, 1, 3000, 999, 1, 1];
  let n = 0;
  sizes.forEach((records, at) => {
    write(
      `${at}.json`,
      Array.from({ length: records }, () => turnRecord(n++)),
    );
  });
  const submissions: number[] = [];
  const submit = sink.submit.bind(sink);
  sink.submit = (events) => {
    submissions.push(events.length);
    return submit(events);
  };
  await drain.drain();
  assert.deepEqual(submissions, [800, 400, 1000, 1, 3000, 1000, 1]);
  assert.deepEqual([list(), meter.of('spool').recorded], [[], n]);
});

test('a file of more records than a body may hold goes to quarantine, counted once', async (t) => {
  const { drain, write, quarantine, meter } = newSpool(t);
  write('1.json', '{"v":1,"kind":"session","agent":"a","id":{"session":"s"}}\n'.repeat(10_001));
  await drain.drain();
  assert.deepEqual(quarantine(), ['1.json', '1.json.reason']);
  assert.deepEqual([meter.of('spool').received, meter.of('spool')['rejected:too_large']], [1, 1]);
});

test('temporary files are removed when their writers must be dead', async (t) => {
  const { drain, write, list, clock } = newSpool(t);
  write('1.json.tmp', 'x');
  clock.nowMs += 23 * HOUR;
  await drain.drain();
  assert.deepEqual(list(), ['1.json.tmp']);
  clock.nowMs += 2 * HOUR;
  await drain.drain();
  assert.deepEqual(list(), []);
});

test('quarantine is kept for a week, and is bounded', async (t) => {
  const { drain, write, quarantine, dir, clock } = newSpool(t);
  write('old.json', '12');
  await drain.drain();
  const old = (clock.nowMs - 8 * DAY) / SECOND;
  utimesSync(path.join(dir, 'quarantine', 'old.json.reason'), old, old);
  clock.nowMs += HOUR;
  await drain.drain();
  assert.deepEqual([quarantine(), drain.quarantined()], [[], 0]);

  for (let n = 0; n < 1005; n++) write(`${String(n).padStart(4, '0')}.json`, '12');
  await drain.drain();
  assert.deepEqual([quarantine().length, drain.quarantined()], [2000, 1000]);
});

test('a backlog is drained in batches, without waiting in between', async (t) => {
  const { drain, write, list, meter, sink } = newSpool(t);
  const files = FULL ? 20_000 : 1200;
  for (let n = 0; n < files; n++) write(`${String(n).padStart(6, '0')}.json`, turnRecord(n));
  await drain.drain();
  assert.deepEqual([list().length, meter.of('spool').recorded, sink.attempts], [0, files, Math.ceil(files / 500)]);
  t.diagnostic(`${files} spool files booked in ${sink.attempts} commits`);
});

test('start drains at once and goes on; stop ends it, and both may be called twice', async (t) => {
  const { drain, write, list, dir, meter } = newSpool(t);
  write('1.json', turnRecord(1));
  await drain.start();
  await drain.start();
  await until(() => list().length === 0);
  write('2.json.tmp', turnRecord(2));
  renameSync(path.join(dir, '2.json.tmp'), path.join(dir, '2.json'));
  await until(() => meter.of('spool').recorded === 2);
  await drain.stop();
  await drain.stop();
  assert.equal(meter.upStates.spool, false);
  write('3.json', turnRecord(3));
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.deepEqual(list(), ['3.json']);
});
