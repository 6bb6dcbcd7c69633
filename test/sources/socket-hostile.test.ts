import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ask, fireAndForget, post, raw, startServer, turnPayload, turnRecord, until } from './intake-fixture.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const HOOK = '/v1/hook/opencode';
const MIB = 1024 * 1024;

/** Sends `bytes` zeros as fast as the server takes them, until it answers or hangs up. */
function flood(socketPath: string, { bytes, declared }: { bytes: number; declared: boolean }) {
  const chunk = Buffer.alloc(MIB, 0x30);
  let written = 0;
  return new Promise<{ status: number | undefined; written: number; peakBytes: number }>((resolve) => {
    let [status, peakBytes]: [number | undefined, number] = [undefined, 0];
    const request = http.request({
      ...{ socketPath, path: HOOK, method: 'POST', agent: false },
      headers: declared ? { 'Content-Length': bytes } : { 'Transfer-Encoding': 'chunked' },
    });
    const finish = () => {
      request.destroy();
      resolve({ status, written, peakBytes });
    };
    request.on('response', (response) => {
      status = response.statusCode;
      response.resume().on('end', finish);
    });
    request.on('error', finish);
    const pump = () => {
      while (written < bytes && !request.destroyed) {
        written += chunk.length;
        const { arrayBuffers, external } = process.memoryUsage();
        peakBytes = Math.max(peakBytes, arrayBuffers + external);
        if (!request.write(chunk)) return void request.once('drain', pump);
      }
      request.end();
    };
    pump();
  });
}

describe('bodies that are too large', () => {
  for (const declared of [true, false]) {
    test(`100 MB, ${declared ? 'declared' : 'in chunks'}: 413 at once, counted, and memory stays flat`, async (t) => {
      const { socket, meter } = await startServer(t);
      const before = process.memoryUsage();
      const { status, written, peakBytes } = await flood(socket, { bytes: 100 * MIB, declared });
      const grownBytes = peakBytes - before.arrayBuffers - before.external;
      assert.equal(status, 413);
      assert.ok(written < 100 * MIB, 'the answer came before the body was sent');
      assert.ok(grownBytes < 48 * MIB, `memory grew by ${grownBytes} bytes`);
      assert.deepEqual([meter.of('socket').received, meter.of('socket')['rejected:too_large']], [1, 1]);
      meter.assertConserved('socket');
      assert.equal((await post(socket, HOOK, turnPayload(1))).status, 200);
      t.diagnostic(`413 after ${written / MIB} of 100 MiB, memory +${Math.round(grownBytes / MIB)} MiB`);
    });
  }

  test('the largest body that is allowed is taken', async (t) => {
    const { socket } = await startServer(t, { limits: { maxBodyBytes: 20_000 } });
    const body = (bytes: number) => JSON.stringify(turnPayload(1)).padEnd(bytes, ' ');
    assert.equal((await post(socket, HOOK, body(20_000))).status, 200);
    assert.equal((await post(socket, HOOK, body(20_001))).status, 413);
    const chunked = { method: 'POST', headers: { 'Transfer-Encoding': 'chunked' } };
    assert.equal((await ask(socket, HOOK, { ...chunked, body: body(20_000) })).status, 200);
    assert.equal((await ask(socket, HOOK, { ...chunked, body: body(20_001) })).status, 413);
  });

  test('a connection that was refused is closed', async (t) => {
    const { socket } = await startServer(t, { limits: { maxBodyBytes: 100 } });
    const text = await raw(
      socket,
      `POST ${HOOK} HTTP/1.1\r\nContent-Length: 200\r\n\r\n${'x'.repeat(200)}GET /healthz HTTP/1.1\r\n\r\n`,
    );
    assert.match(text, /^HTTP\/1\.1 413 /);
    assert.match(text, /connection: close/i);
    assert.doesNotMatch(text, / 200 OK/);
  });
});

describe('slow senders', () => {
  const limits = { headersTimeoutMs: 300, requestTimeoutMs: 600 };
  for (const [name, start, truncated] of [
    ['header', `POST ${HOOK} HTTP/1.1\r\nX-Slow`, 0],
    ['body', `POST ${HOOK} HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{`, 1],
  ] as const) {
    test(`a slow ${name} is ended with 408, and others are served meanwhile`, async (t) => {
      const { socket, meter } = await startServer(t, { limits });
      const slow = Array.from({ length: 100 }, () => raw(socket, start));
      for (let n = 0; n < 20; n++) assert.equal((await post(socket, HOOK, turnPayload(n))).status, 200);
      for (const text of await Promise.all(slow)) assert.match(text, /^HTTP\/1\.1 408 /);
      await until(() => meter.of('socket').truncated === 100 * truncated);
      assert.equal(meter.of('socket').received, 20);
    });
  }

  test('an idle connection is closed', async (t) => {
    const { socket } = await startServer(t, { limits: { ...limits, keepAliveTimeoutMs: 100 } });
    assert.match(await raw(socket, 'GET /healthz HTTP/1.1\r\n\r\n'), / 200 OK/); // Resolves when the server hangs up.
  });

  test('bodies that are declared and not sent take no room from others', async (t) => {
    const { socket } = await startServer(t, { limits: { maxInFlightBytes: 10_000 } });
    const idle = Array.from({ length: 20 }, () => net.createConnection({ path: socket }));
    t.after(() => idle.forEach((each) => void each.destroy()));
    for (const each of idle) each.on('error', () => {}).write(`POST ${HOOK} HTTP/1.1\r\nContent-Length: 9000\r\n\r\n{`);
    assert.equal((await post(socket, HOOK, turnPayload(1))).status, 200);
  });
});

test('a sender that leaves in the middle of its body is counted as truncated', async (t) => {
  const { socket, meter, log } = await startServer(t);
  await new Promise<void>((resolve) => {
    const half = net.createConnection({ path: socket }, () => {
      half.write(`POST ${HOOK} HTTP/1.0\r\nContent-Length: 100\r\n\r\n{"event"`, () => {
        half.destroy();
        resolve();
      });
    });
  });
  await until(() => meter.of('socket').truncated === 1);
  assert.equal(meter.of('socket').received, 0);
  assert.deepEqual(log, []);
});

test('connections beyond the cap are counted, and those within it are served', async (t) => {
  const { socket, meter } = await startServer(t, { limits: { maxConnections: 5 } });
  const held = Array.from({ length: 8 }, () => net.createConnection({ path: socket }).on('error', () => {}));
  t.after(() => held.forEach((each) => void each.destroy()));
  await until(() => meter.of('socket')['refused:connections'] === 3);
  held.forEach((each) => void each.destroy());
  await until(() => held.every((each) => each.closed));
  const served = async () => (await fireAndForget(socket, HOOK, turnPayload(1))) && meter.of('socket').received! > 0;
  while (!(await served()));
});

test('garbage gets a 400 and hurts nobody', async (t) => {
  const { socket, meter } = await startServer(t);
  const garbage = [
    '\r\n\r\nwhat?',
    '\u0000\u0001\u0002',
    'GET',
    'POST /v1/events HTTP/9.9\r\n\r\n',
    `X${'y'.repeat(100_000)}`,
  ];
  garbage.push(`POST ${HOOK} HTTP/1.1\r\nContent-Length: nine\r\n\r\n`);
  garbage.push(`POST ${HOOK} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`);
  for (const bytes of garbage.filter((text) => text !== 'GET')) {
    assert.match(await raw(socket, bytes), /^HTTP\/1\.1 4\d\d /, JSON.stringify(bytes.slice(0, 40)));
  }
  const header = await raw(socket, `GET /healthz HTTP/1.1\r\nX: ${'y'.repeat(100_000)}\r\n\r\n`);
  assert.match(header, /^HTTP\/1\.1 431 /);
  assert.equal((await post(socket, HOOK, turnPayload(1))).status, 200);
  meter.assertConserved('socket');
});

test('whatever is sent gets an answer, and every event is counted', async (t) => {
  const { socket, meter, sink } = await startServer(t);
  const agent = new http.Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  // Half wild, half like the real thing with one part replaced, so that all depths of the decoders are reached.
  const leaf = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom(-1, 1e300, '1', '__proto__', null, [], {}));
  const mutated = fc
    .tuple(
      fc.constantFrom(
        'id',
        'sessionID',
        'role',
        'modelID',
        'providerID',
        'time',
        'cost',
        'tokens',
        'path',
        'error',
        'finish',
      ),
      leaf,
      fc.nat(1000),
    )
    .map(([field, value, n]) => ({ ...turnRecord(n), payload: turnPayload(n, { [field]: value }) }));
  const text = fc.oneof(
    mutated.map((record) => JSON.stringify(record)),
    mutated.map((record) => JSON.stringify(record.payload)),
    fc.json({ maxDepth: 4 }),
    fc
      .array(fc.oneof(mutated, leaf), { maxLength: 5 })
      .map((list) => list.map((each) => JSON.stringify(each)).join('\n')),
    mutated.chain((record) => fc.nat(400).map((cut) => JSON.stringify(record).slice(0, cut))),
  );
  const body = fc.oneof(
    { weight: 9, arbitrary: text.map((each) => Buffer.from(each)) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((each) => Buffer.from(each)) },
  );
  const to = fc.constantFrom(
    '/v1/events',
    HOOK,
    '/v1/hook/claude_code',
    '/v1/hook/CODEX',
    '/v1/hook/cursor',
    '/v1/hook/%ff',
  );
  const statuses: Record<number, number> = {};
  const property = fc.asyncProperty(to, body, async (target, bytes) => {
    const { status } = await ask(socket, target, { method: 'POST', body: bytes, agent });
    statuses[status] = (statuses[status] ?? 0) + 1;
    assert.ok([200, 202, 400].includes(status), `${status}`);
  });
  await fc.assert(property, { numRuns: FULL ? 10_000 : 1000, seed: 7 });
  meter.assertConserved('socket');
  assert.equal((await ask(socket, '/healthz')).status, 200);
  t.diagnostic(
    `fuzzed bodies by status: ${JSON.stringify(statuses)}; ${meter.of('socket').received} events, ${sink.events.length} recorded`,
  );
});
