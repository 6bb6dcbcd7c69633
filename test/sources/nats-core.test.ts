// Plain NATS over a real server: at most once, answered when asked, one bridge of several for each message.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { NatsLink } from '../../src/nats/connection.ts';
import { NatsCoreSource } from '../../src/sources/nats-core.ts';
import { connected, NatsServer, natsConfig } from '../nats/nats-server.ts';
import { diskFull, newIntake, readableLog, temporaryFolder, turnRecord, until } from './intake-fixture.ts';

async function start(t: TestContext, { conf = '' } = {}) {
  const server = await NatsServer.start({ dir: temporaryFolder(t), jetstream: false, conf });
  const connection = await connected(server);
  t.after(async () => {
    await connection.close();
    await server.kill();
  });
  const listen = async () => {
    const parts = newIntake();
    const config = natsConfig({ servers: [server.url], jetstream: { enabled: false }, core: { enabled: true } });
    const { log, lines } = readableLog();
    const link = new NatsLink({ config, env: {}, log, name: 'test' });
    await link.start();
    const source = new NatsCoreSource({ ...parts, link, config, log });
    await source.start();
    t.after(async () => {
      await source.stop();
      await link.stop();
    });
    await until(() => parts.meter.upStates.nats === true, 'the subscription');
    // The server has it when it has answered what came after it.
    await link.current?.flush();
    return { ...parts, source, link, lines };
  };
  return { server, connection, listen };
}

test('a message is booked under the identity of its subject, and a request is answered as on the socket', async (t) => {
  const { connection, listen } = await start(t);
  const { sink, meter } = await listen();
  connection.publish('toll.turns.core.ada', JSON.stringify(turnRecord(1)));
  await until(() => sink.events.length === 1, 'the turn');
  const [event] = sink.events;
  assert.equal(event?.kind === 'turn' && `${event.team} ${event.user}`, 'core ada');
  const answer = await connection.request('toll.turns.core.ada', JSON.stringify([turnRecord(1), turnRecord(2), {}]));
  const { accepted, duplicate, rejected } = answer.json<{ accepted: number; duplicate: number; rejected: object[] }>();
  assert.deepEqual([accepted, duplicate, rejected.length], [1, 1, 1]);
  meter.assertConserved('nats');
});

test('of two bridges one hears each message', async (t) => {
  const { connection, listen } = await start(t);
  const [a, b] = [await listen(), await listen()];
  for (let n = 0; n < 200; n++) connection.publish('toll.turns.core.ada', JSON.stringify(turnRecord(n)));
  await until(() => a.sink.events.length + b.sink.events.length === 200, 'all turns');
  assert.ok(a.sink.events.length > 20 && b.sink.events.length > 20);
});

test('bad, empty and oversized messages are counted and harm no other', async (t) => {
  const { connection, listen } = await start(t, { conf: 'max_payload: 16MB' });
  const { sink, meter } = await listen();
  for (const body of ['{', '', Buffer.alloc(8 * 1024 * 1024, 0x20), JSON.stringify(turnRecord(1))]) {
    connection.publish('toll.turns.core.ada', body);
  }
  await until(() => sink.events.length === 1, 'the turn');
  const { received, 'rejected:invalid_json': invalid, 'rejected:too_large': large } = meter.of('nats');
  assert.deepEqual([received, invalid, large], [4, 2, 1]);
});

test('a ledger that cannot commit is tried again, and what was heard is booked', async (t) => {
  const { connection, listen } = await start(t);
  const { sink, meter } = await listen();
  sink.failure = () => (sink.attempts < 4 ? diskFull() : undefined);
  connection.publish('toll.turns.core.ada', JSON.stringify(turnRecord(1)));
  await until(() => sink.events.length === 1, 'the turn');
  assert.ok(sink.attempts >= 4);
  assert.equal(meter.of('nats').lost ?? 0, 0);
});

test('what is in hand at a stop is booked or counted as lost, and nothing hangs', async (t) => {
  const { connection, listen } = await start(t);
  const { sink, meter, source } = await listen();
  sink.failure = diskFull;
  connection.publish('toll.turns.core.ada', JSON.stringify(turnRecord(1)));
  await until(() => sink.attempts > 0, 'an attempt');
  await source.stop();
  assert.equal(meter.of('nats').lost, 1);
  assert.equal(meter.upStates.nats, false);
});

test('it listens again after the server was away', async (t) => {
  const { server, connection, listen } = await start(t);
  const { sink, meter, source } = await listen();
  await server.kill();
  await until(() => meter.upStates.nats === false, 'the loss');
  assert.match(source.problem() ?? '', /connection to NATS .* is lost/);
  await server.restart();
  await until(() => meter.upStates.nats === true, 'the return');
  await until(() => {
    connection.publish('toll.turns.core.ada', JSON.stringify(turnRecord(1)));
    return sink.events.length > 0;
  }, 'the turn');
});

test('a user who may not listen is told so', async (t) => {
  const conf =
    'authorization: { users: [ { user: u, password: p, permissions: { subscribe: { deny: ["toll.>"] } } } ] }';
  const server = await NatsServer.start({ dir: temporaryFolder(t), jetstream: false, conf });
  t.after(() => server.kill());
  const config = natsConfig({
    ...{ servers: [server.url], user: 'u', password_env: 'P' },
    ...{ jetstream: { enabled: false }, core: { enabled: true } },
  });
  const { log } = readableLog();
  const link = new NatsLink({ config, env: { P: 'p' }, log, name: 'test' });
  await link.start();
  const source = new NatsCoreSource({ ...newIntake(), link, config, log });
  await source.start();
  t.after(async () => {
    await source.stop();
    await link.stop();
  });
  await until(() => source.problem() !== undefined, 'the problem');
  assert.match(source.problem()!, /may not subscribe to toll\.turns\.>.*nats setup --print/);
});
