// Turns through a real nats-server into a real ledger.

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { headers } from 'nats';
import { PermanentFailure, RetryableFailure } from '../../src/failure.ts';
import { setUpStreams } from '../../src/nats/streams.ts';
import type { EventSink } from '../../src/sources/source.ts';
import { until } from './intake-fixture.ts';
import { Bench, eventually, turns } from './jetstream-bench.ts';

test('a turn is booked under the identity of its subject, acknowledged, and counted', async (t) => {
  const bench = await Bench.start(t);
  await until(() => bench.meter.upStates.jetstream === true, 'the source to be up');
  await bench.publish(turns(250));
  await bench.drained(250);
  assert.equal(bench.ledger.health().turns, 250);
  const counters = [...bench.ledger.counters('toll_turns_total')].map(({ labels }) => labels);
  assert.ok(
    counters.every(({ team, user }) => team === 'core' && user === 'ada'),
    JSON.stringify(counters),
  );
  bench.meter.assertConserved('jetstream');
  assert.equal(bench.meter.of('jetstream').recorded, 250);
  await eventually('every acknowledgement', async () => {
    const { num_ack_pending, num_pending } = await bench.consumer();
    return num_ack_pending + num_pending === 0;
  });
});

test('a restarted bridge goes on where its ledger ends, and reads nothing twice', async (t) => {
  const bench = await Bench.start(t);
  await bench.publish(turns(100));
  await bench.drained(100);
  await bench.close();
  await bench.publish(turns(50, 100));
  await bench.open();
  await bench.drained(150);
  assert.equal(bench.meter.of('jetstream').received, 150);
  assert.equal(bench.ledger.health().turns, 150);
});

test('a ledger that was deleted is filled from the stream, whatever the consumer remembers', async (t) => {
  const bench = await Bench.start(t);
  await bench.publish(turns(300));
  await bench.drained(300);
  await bench.close();
  for (const suffix of ['', '-wal']) rmSync(path.join(bench.dir, `ledger.db${suffix}`), { force: true });
  await bench.open();
  await bench.drained(300);
  assert.equal(bench.ledger.health().turns, 300);
});

test('a consumer deleted under a running bridge is made anew, and nothing is lost', async (t) => {
  const bench = await Bench.start(t);
  await bench.publish(turns(100));
  await bench.drained(100);
  await (await jetstreamManager(bench.connection)).consumers.delete('TOLL', 'tollbridge_a_1_of_1');
  await bench.publish(turns(100, 100));
  await bench.drained(200);
  assert.equal(bench.ledger.health().turns, 200);
  bench.meter.assertConserved('jetstream');
});

test('somebody who takes messages of the consumer takes none of the turns', async (t) => {
  const bench = await Bench.start(t);
  await bench.publish(turns(10));
  await bench.drained(10);
  const thief = await jetstream(bench.connection).consumers.get('TOLL', 'tollbridge_a_1_of_1');
  const stealing = (async () => {
    for await (const message of await thief.fetch({ max_messages: 20, expires: 2000 })) message.ack();
  })();
  await bench.publish(turns(200, 10));
  await stealing;
  await bench.publish(turns(1, 210));
  await bench.drained(211);
  assert.equal(bench.ledger.health().turns, 211);
});

test('a stream that was made anew is read from its beginning', async (t) => {
  const bench = await Bench.start(t);
  await bench.publish(turns(100));
  await bench.drained(100);
  const manager = await jetstreamManager(bench.connection);
  await bench.close();
  await manager.streams.delete('TOLL');
  await setUpStreams(bench.connection, bench.config);
  await bench.publish(turns(120, 50));
  await bench.open();
  await until(() => bench.ledger.health().turns === 170, 'all turns of both streams');
  assert.equal(bench.ledger.openStream('TOLL', '1/1').seq, 120);
  assert.match(bench.lines.join('\n'), /not the one that was read/);
});

test('messages that cannot be read are noted, counted and passed over, and the others are booked', async (t) => {
  const bench = await Bench.start(t, { conf: 'max_payload: 16MB' });
  const client = jetstream(bench.connection);
  for (let n = 0; n < 1000; n++)
    await client.publish('toll.turns.core.ada', `{"v":1,"kind":"turn","secret-canary":${n}`);
  await client.publish('toll.turns.core.ada', Buffer.alloc(8 * 1024 * 1024, 0x20));
  await client.publish('toll.turns.core.ada', '');
  await bench.publish(turns(5));
  await bench.drained(1007);
  assert.equal(bench.ledger.health().turns, 5);
  const counts = bench.meter.of('jetstream');
  assert.deepEqual(
    [counts.received, counts.recorded, counts['rejected:invalid_json'], counts['rejected:too_large']],
    [1007, 5, 1001, 1],
  );
  bench.meter.assertConserved('jetstream');
  const manager = await jetstreamManager(bench.connection);
  const { state } = await manager.streams.info('TOLL_DLQ');
  assert.equal(state.messages, 1002);
  const letter = await manager.streams.getMessage('TOLL_DLQ', { seq: 1001 });
  const { rejections, ...rest } = letter!.json<Record<string, unknown>>();
  assert.deepEqual(rest, { v: 1, stream: 'TOLL', seq: 1001, team: 'core', user: 'ada', bytes: 8 * 1024 * 1024 });
  assert.deepEqual((rejections as object[]).length, 1);
  const first = await manager.streams.getMessage('TOLL_DLQ', { seq: 1 });
  assert.doesNotMatch(first!.string(), /canary/);
});

test('a payload that names somebody else is counted, and its subject believed', async (t) => {
  const bench = await Bench.start(t);
  const record = (message: string, fields: object) => ({
    ...{ v: 1, kind: 'turn', agent: 'opencode', id: { session: 's', message } },
    ...{ time: { started: Date.now() - 1000, completed: Date.now() }, provider: 'openai', model: 'gpt', cost_usd: 1 },
    ...fields,
  });
  await bench.publish([record('a', { team: 'other' }), record('b', { team: 'core', user: 'ada' }), record('c', {})]);
  await bench.publish([record('d', {})], 'toll.turns._.a=2Eb');
  await bench.publish([record('e', {})], 'toll.turns.core.ada=40example=2Ecom');
  await bench.drained(5);
  assert.equal(bench.meter.mismatches.jetstream, 1);
  const seen = [...bench.ledger.counters('toll_turns_total')].map(({ labels: { team, user } }) => `${team} ${user}`);
  assert.deepEqual(seen.sort(), ['core ada', 'core undefined', 'undefined a.b']);
});

test('headers and duplicates: the same event published again is told by the ledger', async (t) => {
  const bench = await Bench.start(t);
  const h = headers();
  h.set('X-Any', '1');
  await jetstream(bench.connection).publish('toll.turns.core.ada', JSON.stringify(turns(3)), { headers: h });
  await bench.publish(turns(3));
  await bench.drained(4);
  assert.equal(bench.meter.of('jetstream').duplicate, 3);
});

test('while the ledger cannot commit nothing is acknowledged or pulled, and nothing is lost', async (t) => {
  let isBroken = false;
  let refused = 0;
  const between = (sink: EventSink): EventSink => ({
    backlogEvents: 0,
    async submit(deliveries) {
      if (!isBroken) return sink.submit(deliveries);
      refused += 1;
      throw new RetryableFailure('the disk is full', { retryAfterS: 0.1 });
    },
  });
  const bench = await Bench.start(t, { between });
  await bench.publish(turns(50));
  await bench.drained(50);
  isBroken = true;
  await bench.publish(turns(300, 50));
  await until(() => bench.meter.upStates.jetstream === false, 'the source to be down');
  await until(() => refused > 3, 'several tries');
  const told = bench.lines.filter((line) => /the disk is full|read from the stream again/.test(line));
  assert.equal(told.length, 1, 'told once, not at every try');
  assert.equal(bench.meter.upStates.jetstream, false);
  assert.match(bench.source.problem() ?? '', /turns wait in the stream: the disk is full/);
  assert.equal((await bench.consumer()).ack_floor.stream_seq <= 50, true);
  isBroken = false;
  await bench.drained(350);
  assert.equal(bench.ledger.health().turns, 350);
  bench.meter.assertConserved('jetstream');
  assert.equal(bench.meter.upStates.jetstream, true);
  assert.equal(bench.source.problem(), undefined);
});

test('messages that the ledger can never book are noted and passed over, and take no other with them', async (t) => {
  const unbookable = new Set([0, 7, 8, 500, 999].map((n) => `msg-${n}`));
  const between = (sink: EventSink): EventSink => ({
    backlogEvents: 0,
    async submit(deliveries) {
      const isCulprit = deliveries.some(({ items }) =>
        items.some(
          (item) => item.type === 'event' && item.event.kind === 'turn' && unbookable.has(item.event.messageId),
        ),
      );
      if (isCulprit) throw new PermanentFailure('it does not fit');
      return sink.submit(deliveries);
    },
  });
  const bench = await Bench.start(t, { between });
  await bench.close();
  await bench.publish(turns(1000));
  await bench.open();
  await bench.drained(1000);
  assert.equal(bench.ledger.health().turns, 995);
  const { received, recorded, duplicate, 'rejected:unbookable': given } = bench.meter.of('jetstream');
  assert.deepEqual([received, recorded, duplicate, given], [1000, 995, 0, 5], 'each of them is counted once');
  bench.meter.assertConserved('jetstream');
  const manager = await jetstreamManager(bench.connection);
  assert.equal((await manager.streams.info('TOLL_DLQ')).state.messages, 5);
  await eventually('every acknowledgement', async () => (await bench.consumer()).num_ack_pending === 0);
});

test('messages of more events together than may wait for the ledger are booked without a word', async (t) => {
  const bench = await Bench.start(t);
  await bench.close();
  const session = (n: number) => ({ v: 1, kind: 'session', agent: 'opencode', id: { session: `ses_${n}` } });
  await bench.publish(
    Array.from({ length: 12 }, (_, m) => Array.from({ length: 9000 }, (_, n) => session(m * 9000 + n))),
  );
  await bench.open();
  await bench.drained(12);
  assert.equal(bench.ledger.health().sessions, 108_000);
  assert.doesNotMatch(bench.lines.join('\n'), /wait/);
});

test('a consumer that waits for an acknowledgement of each message is replaced, and nothing is booked twice', async (t) => {
  const bench = await Bench.start(t);
  await bench.publish(turns(10));
  await bench.drained(10);
  await eventually('every acknowledgement', async () => (await bench.consumer()).num_ack_pending === 0);
  const { config } = await bench.consumer();
  await bench.close();
  // As an earlier version made it, standing where the ledger ends.
  const { consumers } = await jetstreamManager(bench.connection);
  await consumers.delete('TOLL', 'tollbridge_a_1_of_1');
  const former = { ...config, ack_policy: AckPolicy.Explicit, deliver_policy: DeliverPolicy.StartSequence };
  await consumers.add('TOLL', { ...former, opt_start_seq: 11 });
  await bench.open();
  await bench.publish(turns(90, 10));
  await bench.drained(100);
  await eventually('every acknowledgement', async () => (await bench.consumer()).num_ack_pending === 0);
  assert.equal((await bench.consumer()).config.ack_policy, AckPolicy.All);
  assert.equal(bench.ledger.health().turns, 100);
  assert.equal(bench.meter.of('jetstream').recorded, 100);
});

test('what is delivered again before it is booked is not acknowledged before either', async (t) => {
  const bench = await Bench.start(t);
  await bench.close();
  await bench.publish(turns(3000));
  const consumer = '$JS.ACK.TOLL.tollbridge_a_1_of_1';
  const early: string[] = [];
  const subscription = bench.connection.subscribe(`${consumer}.>`, {
    callback: (_error, { subject, data }) => {
      const seq = Number(subject.split('.')[5]);
      const { seq: booked } = bench.ledger.openStream('TOLL', '1/1');
      if (!data.toString().startsWith('-NAK') && seq > booked) early.push(`${seq} at ${booked}`);
    },
  });
  await bench.open();
  // Somebody gives back what they do not have; it is delivered once more, while what came with it is still gathered.
  for (let seq = 1; bench.ledger.openStream('TOLL', '1/1').seq < 3000; seq = (seq % 3000) + 1) {
    bench.connection.publish(`${consumer}.1.${seq}.${seq}.0.0`, '-NAK');
    if (seq % 20 === 0) await new Promise(setImmediate);
  }
  await bench.connection.flush();
  subscription.unsubscribe();
  assert.equal(bench.ledger.health().turns, 3000);
  assert.deepEqual(early, []);
});

test('another ledger under the same name is told so, and takes nothing from the first', async (t) => {
  const bench = await Bench.start(t);
  await bench.publish(turns(10));
  await bench.drained(10);
  const twin = await bench.twin();
  await until(() => twin.problem() !== undefined, 'the problem');
  assert.match(twin.problem()!, /reads as replica "a" of partition 1\/1.*nats\.replica/);
  await bench.publish(turns(90, 10));
  await bench.drained(100);
  assert.equal(bench.ledger.health().turns, 100);
});

test('a ledger holds one partition for good', async (t) => {
  const bench = await Bench.start(t);
  assert.throws(() => bench.ledger.openStream('TOLL', '1/2'), /holds partition 1\/1 .* nats\.partition now says 1\/2/);
});

test('turns that no partition reads, because the server does not divide them, are told', async (t) => {
  const bench = await Bench.start(t);
  await bench.publish(turns(3));
  await bench.drained(3);
  await bench.close();
  rmSync(path.join(bench.dir, 'ledger.db'));
  Object.assign(bench.config.partition, { k: 1, of: 2 });
  await bench.open();
  const undivided = /3 messages of the stream TOLL belong to no partition/;
  await until(() => undivided.test(bench.source.problem() ?? ''), 'the problem');
});

test('a message larger than what a pull brings is had all the same', async (t) => {
  const bench = await Bench.start(t, { conf: 'max_payload: 32MB' });
  const client = jetstream(bench.connection);
  const blank = Buffer.alloc(20 * 1024 * 1024, 0x20);
  for (let n = 0; n < 3; n++) await client.publish('toll.turns.core.ada', blank);
  await bench.publish(turns(5));
  await bench.drained(8);
  assert.equal(bench.ledger.health().turns, 5);
  assert.equal(bench.meter.of('jetstream')['rejected:too_large'], 3);
});

test('what a stream let go of unread is counted as lost, and told', async (t) => {
  const bench = await Bench.start(t);
  await bench.publish(turns(100));
  await bench.drained(100);
  await bench.close();
  await bench.publish(turns(50, 100));
  await (await jetstreamManager(bench.connection)).streams.purge('TOLL', { seq: 121 });
  await bench.open();
  await bench.drained(150);
  assert.equal(bench.ledger.health().turns, 130);
  assert.equal(bench.meter.of('jetstream').lost, 20);
  assert.match(bench.lines.join('\n'), /let go of messages before they were read/);
  await bench.close();
  await bench.open();
  await bench.publish(turns(1, 150));
  await bench.drained(151);
  assert.equal(bench.meter.of('jetstream').lost, 20, 'once');
});
