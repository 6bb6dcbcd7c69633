import assert from 'node:assert/strict';
import http from 'node:http';
import { describe, test } from 'node:test';
import { healthAnswer } from '../../src/sources/socket-routes.ts';
import {
  ask,
  diskFull,
  fireAndForget,
  post,
  raw,
  startServer,
  turnPayload,
  turnRecord,
  until,
} from './intake-fixture.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const HOOK = '/v1/hook/opencode';

describe('POST /v1/hook/{source}', () => {
  const ok = { enqueued: 1, processed: 1, ingested: 0, deduped: 0, failed: 0 };
  const delta = { event: { type: 'message.part.delta', properties: {} } };
  const cases: { name: string; to: string; body: unknown; status: number; answer: Record<string, unknown> }[] = [
    { name: 'a turn', to: HOOK, body: turnPayload(1), status: 200, answer: { source: 'opencode', ...ok, ingested: 1 } },
    {
      name: 'the same again',
      to: HOOK,
      body: turnPayload(1),
      status: 200,
      answer: { source: 'opencode', ...ok, deduped: 1 },
    },
    { name: 'noise', to: HOOK, body: delta, status: 200, answer: { source: 'opencode', ...ok } },
    {
      name: 'a name in capitals',
      to: '/v1/hook/%20OpenCode/',
      body: delta,
      status: 200,
      answer: { source: 'OpenCode', ...ok },
    },
    {
      name: 'no name',
      to: '/v1/hook/',
      body: delta,
      status: 400,
      answer: { error: 'missing hook source; post to /v1/hook/ and one of opencode, claude_code, codex' },
    },
    {
      name: 'a name that OpenUsage knows',
      to: '/v1/hook/cursor',
      body: delta,
      status: 400,
      answer: { error: 'parse hook payload: hook parsing not supported; supported are opencode, claude_code, codex' },
    },
    {
      name: 'an unknown name',
      to: '/v1/hook/vim',
      body: delta,
      status: 400,
      answer: { error: 'unknown hook source "vim"; known are opencode, claude_code, codex' },
    },
    {
      name: 'a name that could be anything',
      to: '/v1/hook/a%2Fb%40c',
      body: delta,
      status: 400,
      answer: { error: 'unknown hook source; known are opencode, claude_code, codex' },
    },
    { name: 'a blank body', to: HOOK, body: ' \n', status: 400, answer: { error: 'empty payload' } },
    {
      name: 'text that is not JSON',
      to: HOOK,
      body: '{"secret',
      status: 400,
      answer: { error: 'parse hook payload: the body is not JSON' },
    },
    {
      name: 'bytes that are not UTF-8',
      to: HOOK,
      body: Buffer.from([0x22, 0xff, 0x22]),
      status: 400,
      answer: { error: 'parse hook payload: the body is not JSON' },
    },
  ];
  test('answers as OpenUsage does, and everything is counted', async (t) => {
    const { socket, meter } = await startServer(t);
    for (const { name, to, body, status, answer } of cases) {
      const { status: got, json, text } = await post(socket, to, body);
      assert.deepEqual({ name, status: got, json }, { name, status, json: answer });
      assert.ok(text.endsWith('}\n'));
    }
    assert.equal(meter.of('socket').received, cases.length);
    assert.deepEqual(
      { invalid: meter.of('socket')['rejected:invalid_json'], agent: meter.of('socket')['rejected:unknown_agent'] },
      { invalid: 3, agent: 4 },
    );
    meter.assertConserved('socket');
  });

  test('a payload that cannot be booked is a 400 with its reason', async (t) => {
    const { socket, meter } = await startServer(t);
    const bad = turnPayload(1, { tokens: { input: -5, output: 1 } });
    const { status, json } = await post(socket, HOOK, bad);
    assert.equal(status, 400);
    assert.equal(json.reason, 'out_of_range');
    assert.match(String(json.error), /^parse hook payload: out_of_range: /);
    assert.equal(meter.of('socket').rejected, 1);
  });

  test('account_id reaches the turn', async (t) => {
    const { socket, sink } = await startServer(t);
    await post(socket, `${HOOK}?account_id=%20my-account%20`, turnPayload(1));
    await post(socket, `${HOOK}?account_id=`, turnPayload(2));
    await post(socket, `${HOOK}?account_id=alice%40example.com`, turnPayload(3));
    await post(socket, `${HOOK}?account_id=sk-abcdef`, turnPayload(4));
    assert.deepEqual(
      sink.events.map((event) => event.kind === 'turn' && event.account),
      ['my-account', undefined, undefined, undefined],
    );
  });
});

describe('POST /v1/events', () => {
  const good = turnRecord(1);
  const bad = { v: 1, kind: 'turn', agent: 'opencode' };
  const noise = { source: 'opencode', payload: { event: { type: 'session.idle', properties: {} } } };
  test('answers what became of each record, after the commit', async (t) => {
    const { socket, meter } = await startServer(t);
    const ndjson = [good, turnRecord(2), bad, noise].map((record) => JSON.stringify(record)).join('\n');
    const first = await post(socket, '/v1/events', ndjson);
    assert.equal(first.status, 202);
    const { rejected, ...counts } = first.json;
    assert.deepEqual(counts, { accepted: 2, duplicate: 0, ignored: 1 });
    assert.deepEqual(
      (rejected as { index: number; reason: string }[]).map(({ index, reason }) => [index, reason]),
      [[2, 'missing_field']],
    );

    const array = await post(socket, '/v1/events', [good, turnRecord(3)]);
    assert.deepEqual(array.json, { accepted: 1, duplicate: 1, ignored: 0, rejected: [] });
    meter.assertConserved('socket');
  });
  for (const [name, body, status] of [
    ['only mistakes', JSON.stringify([bad, bad]), 400],
    ['no record', '', 400],
    ['an empty array', '[]', 400],
    ['only known ones', JSON.stringify(good), 202],
    ['only noise', JSON.stringify(noise), 202],
    ['half a line', `${JSON.stringify(good)}\n{"v":1,`, 202],
  ] as const) {
    test(`${name}: ${status}`, async (t) => {
      const { socket, meter } = await startServer(t);
      await post(socket, '/v1/events', good);
      assert.equal((await post(socket, '/v1/events', body)).status, status);
      meter.assertConserved('socket');
    });
  }
  test('a body of nothing but mistakes is not answered with a book', async (t) => {
    const { socket, meter } = await startServer(t);
    const { json } = await post(socket, '/v1/events', 'x\n'.repeat(5000));
    assert.equal((json.rejected as unknown[]).length, 1000);
    assert.equal(json.rejected_not_listed, 4000);
    assert.equal(meter.of('socket').rejected, 5000);
  });
  test('a body of more records than a body may hold is one rejection', async (t) => {
    const { socket, meter } = await startServer(t);
    const { status, json } = await post(socket, '/v1/events', 'x\n'.repeat(1_000_000));
    assert.equal(status, 400);
    assert.deepEqual(
      (json.rejected as { reason: string }[]).map(({ reason }) => reason),
      ['too_large'],
    );
    assert.equal(meter.of('socket').received, 1);
    meter.assertConserved('socket');
  });
});

describe('the other routes', () => {
  test('healthz, status, and what does not exist', async (t) => {
    const { socket } = await startServer(t);
    assert.deepEqual((await ask(socket, '/healthz')).json, { status: 'ok' });
    assert.equal((await ask(socket, '/healthz', { method: 'DELETE' })).status, 200);
    assert.deepEqual((await ask(socket, '/v1/status')).json, { version: '0' });
    for (const [method, to, status] of [
      ['POST', '/v1/status', 405],
      ['GET', '/v1/events', 405],
      ['PUT', HOOK, 405],
      ['GET', '/', 404],
      ['POST', '/v1/read-model', 404],
    ] as const) {
      const answer = await ask(socket, to, { method });
      assert.deepEqual([to, answer.status], [to, status]);
      assert.match(String(answer.json.error), /POST \/v1\/events/);
    }
  });
  test('the health answer has the shape that OpenUsage reads', () => {
    // The digest of the text "anthropic,openai", made with sha256sum.
    assert.deepEqual(healthAnswer('v1.2.3', ['openai', 'anthropic', 'openai']), {
      ...{ status: 'ok', daemon_version: 'v1.2.3', api_version: 'v1', integration_version: 'v1.2.3' },
      provider_registry_hash: 'a64c10932b824cf7ea2c58fbe930225bbb22debf4660a850a34d68ec13d6b6c3',
    });
  });
});

describe('acknowledging', () => {
  test('no answer before the commit', async (t) => {
    const { socket, sink } = await startServer(t);
    const commit = Promise.withResolvers<void>();
    sink.beforeCommit = () => commit.promise;
    let answered = false;
    const answer = post(socket, HOOK, turnPayload(1)).then((got) => {
      answered = true;
      return got;
    });
    await until(() => sink.attempts === 1);
    await ask(socket, '/healthz'); // Others are served meanwhile.
    assert.equal(answered, false);
    commit.resolve();
    assert.equal((await answer).status, 200);
  });

  test('a failed commit is a 503, counts nothing, and works again later', async (t) => {
    const { socket, sink, meter } = await startServer(t);
    sink.failure = diskFull;
    const failed = await post(socket, '/v1/events', turnRecord(1));
    assert.equal(failed.status, 503);
    assert.equal(meter.of('socket')['refused:ledger'], 1);
    assert.equal(failed.headers['retry-after'], '1');
    assert.equal(meter.of('socket').received, 0);
    sink.failure = () => undefined;
    assert.equal((await post(socket, '/v1/events', turnRecord(1))).status, 202);
    meter.assertConserved('socket');
  });

  test('a mistake of our own is a 500, and its log quotes nothing', async (t) => {
    const { socket, sink, meter, log } = await startServer(t);
    sink.failure = () => new TypeError('cannot read PRIVATE-PROMPT');
    const { status, text } = await post(socket, HOOK, turnPayload(1));
    assert.equal(status, 500);
    assert.equal(meter.of('socket').received, 0);
    assert.doesNotMatch(text + log.join(), /PRIVATE-PROMPT/);
    assert.match(log.join(), /TypeError/);
  });

  test('a sender that left is booked once the ledger works again', async (t) => {
    const { socket, sink, meter } = await startServer(t);
    sink.failure = () => (sink.attempts <= 2 ? diskFull() : undefined);
    assert.ok(await fireAndForget(socket, HOOK, turnPayload(1)));
    await until(() => sink.events.length === 1);
    assert.equal(sink.attempts, 3);
    await until(() => meter.of('socket').recorded === 1);
    meter.assertConserved('socket');
  });

  test('what a stopping server has to lose, it says', async (t) => {
    const { socket, sink, server, meter, log } = await startServer(t);
    sink.failure = diskFull;
    await fireAndForget(socket, HOOK, turnPayload(1));
    await until(() => sink.attempts >= 1);
    await server.stop();
    assert.match(log.join(), /a request was lost/);
    assert.equal(meter.of('socket').lost, 1);
  });
});

describe('overload', () => {
  test('a sender that waits is asked to wait; one that does not is taken', async (t) => {
    const { socket, sink, meter, log } = await startServer(t, { limits: { backlogMarkEvents: 10 } });
    sink.backlogEvents = 11;
    const refused = await post(socket, HOOK, turnPayload(1));
    assert.equal(refused.status, 429);
    assert.equal(meter.of('socket')['refused:backlog'], 1);
    assert.equal(refused.headers['retry-after'], '1');
    assert.ok(await fireAndForget(socket, HOOK, turnPayload(2)));
    await until(() => sink.events.length === 1);
    sink.backlogEvents = 10;
    assert.equal((await post(socket, HOOK, turnPayload(1))).status, 200);
    assert.match(log.join(), /asked to wait/);
  });

  test('bodies that wait for their commit fill the room, and leave it', async (t) => {
    const { socket, sink, meter } = await startServer(t, { limits: { maxInFlightBytes: 2000 } });
    const commit = Promise.withResolvers<void>();
    sink.beforeCommit = () => commit.promise;
    const inHand = [
      post(socket, HOOK, turnPayload(1)),
      post(socket, HOOK, turnPayload(2)),
      post(socket, HOOK, turnPayload(3)),
    ];
    await until(() => sink.attempts === 3);
    const body = JSON.stringify(turnPayload(4, { filler: 'x'.repeat(1000) }));
    assert.equal((await post(socket, HOOK, body)).status, 429);
    const chunked = await ask(socket, HOOK, { method: 'POST', body, headers: { 'Transfer-Encoding': 'chunked' } });
    assert.equal(chunked.status, 429);
    commit.resolve();
    for (const answer of await Promise.all(inHand)) assert.equal(answer.status, 200);
    assert.equal((await post(socket, HOOK, body)).status, 200);
    assert.equal(meter.of('socket').received, 4);
  });
});

describe('connections', () => {
  test('keep-alive: many requests on one connection', async (t) => {
    const { socket, sink } = await startServer(t);
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    for (let n = 0; n < 50; n++) {
      const body = JSON.stringify(turnPayload(n));
      assert.equal((await ask(socket, HOOK, { method: 'POST', body, agent })).status, 200);
    }
    assert.equal(sink.events.length, 50);
    assert.equal(Object.values(agent.freeSockets).flat().length, 1);
  });

  test('pipelining: answers come in order', async (t) => {
    const { socket, sink } = await startServer(t);
    const request = (n: number, close = false) => {
      const body = JSON.stringify(turnPayload(n));
      return `POST ${HOOK} HTTP/1.1\r\nContent-Length: ${body.length}\r\n${close ? 'Connection: close\r\n' : ''}\r\n${body}`;
    };
    const text = await raw(socket, request(1) + request(1) + request(2, true));
    assert.deepEqual(text.match(/"(ingested|deduped)":1/g), ['"ingested":1', '"deduped":1', '"ingested":1']);
    assert.equal(sink.events.length, 2);
  });

  test('a sender that asks first is told to go on, or why not', async (t) => {
    const { socket } = await startServer(t, { limits: { maxBodyBytes: 1000 } });
    const body = JSON.stringify(turnPayload(1));
    const head = (length: number) =>
      `POST ${HOOK} HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: ${length}\r\n\r\n`;
    assert.match(await raw(socket, head(body.length) + body), /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/);
    assert.match(await raw(socket, head(5000)), /^HTTP\/1\.1 413 /);
  });

  test('stop answers what is in hand, books what waits at the door, and may be called twice', async (t) => {
    const { socket, sink, server, meter } = await startServer(t);
    const commit = Promise.withResolvers<void>();
    sink.beforeCommit = () => commit.promise;
    const answer = post(socket, HOOK, turnPayload(0));
    await until(() => sink.attempts === 1);
    const sent = await Promise.all(
      Array.from({ length: 200 }, (_, n) => fireAndForget(socket, HOOK, turnPayload(n + 1))),
    );
    const stopped = server.stop();
    commit.resolve();
    assert.equal((await answer).status, 200);
    await stopped;
    await server.stop();
    assert.equal(sink.events.length, 1 + sent.filter(Boolean).length);
    assert.equal(meter.upStates.socket, false);
    await assert.rejects(ask(socket, '/healthz'), /ENOENT/);
  });

  test('senders that write and leave lose nothing that they think was sent', async (t) => {
    const { socket, sink, meter, log } = await startServer(t);
    const connections = FULL ? 10_000 : 2000;
    const atOnce = 64;
    let [next, refused] = [0, 0];
    const sender = async () => {
      while (next < connections) {
        const payload = turnPayload(next++);
        // The one thing that such a sender can see is that the door is full; it would go to its spool then.
        while (!(await fireAndForget(socket, HOOK, payload))) {
          refused++;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    };
    await Promise.all(Array.from({ length: atOnce }, sender));
    await until(() => meter.of('socket').received! >= connections, `${connections} events`);
    meter.assertConserved('socket');
    assert.equal(sink.events.length, connections);
    assert.deepEqual(log, [], 'a sender that leaves is not worth a line');
    t.diagnostic(
      `${connections} write-and-leave connections: ${sink.events.length} booked, 0 lost (${refused} refused at the door)`,
    );
  });
});
