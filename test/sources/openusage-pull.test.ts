// A daemon on a real socket, read by the bridge.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { OpenusagePull } from '../../src/sources/openusage-pull.ts';
import { newIntake, readableLog, temporaryFolder, until } from './intake-fixture.ts';

const snapshot = (account: string, more: object = {}) => ({
  ...{ provider_id: 'openrouter', account_id: account, timestamp: Date.now(), status: 'OK', metrics: {}, ...more },
});
const TEMPLATE = snapshot('b', { timestamp: '0001-01-01T00:00:00Z', status: 'UNKNOWN' });

type Respond = (request: IncomingMessage, response: ServerResponse) => void;
const answer =
  (body: unknown, status = 200): Respond =>
  (_, response) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  };

async function daemon(t: TestContext, respond: Respond) {
  const socketPath = path.join(temporaryFolder(t), 'telemetry.sock');
  const seen: string[] = [];
  const plays = { respond };
  const server = http.createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      seen.push(`${request.method} ${request.url} ${body}`);
      plays.respond(request, response);
    });
  });
  server.listen(socketPath);
  await once(server, 'listening');
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  t.after(close);
  return { socketPath, seen, plays, close };
}

function pull(t: TestContext, socketPath: string, intervalMs = 5) {
  const { intake, sink, meter } = newIntake();
  const { log, lines } = readableLog();
  const source = new OpenusagePull({ socketPath, intervalMs, intake, meter, log });
  t.after(() => source.stop());
  return { source, sink, meter, lines, isUp: () => meter.upStates.openusage };
}

test('asks for what the daemon’s own settings name, and takes every account', async (t) => {
  const { socketPath, seen } = await daemon(
    t,
    answer({ snapshots: { a: snapshot('a'), b: TEMPLATE, c: snapshot('c') } }),
  );
  const { source, sink, meter, isUp } = pull(t, socketPath, 60_000);
  await source.start();
  await source.start();
  await until(() => sink.polls.length === 2);
  await until(() => isUp() === true);
  await source.stop();
  await source.stop();
  assert.deepEqual(seen, ['POST /v1/read-model {}']);
  assert.deepEqual(
    sink.polls.map(({ account }) => account),
    ['a', 'c'],
  );
  assert.equal(sink.polls[0]?.readings[0]?.intervalMs, 60_000, 'it lives by the interval at which it is asked');
  const counts = meter.of('openusage');
  assert.deepEqual(
    [counts.received, counts.recorded, counts['ignored:not_ready']],
    [3, 2, 1],
    'a template is not ready',
  );
  meter.assertConserved('openusage');
});

test('whatever goes wrong is told once, harms nothing, and mends itself', async (t) => {
  const unknown = 'the OpenUsage daemon answers in a form that this version does not know';
  const many = { snapshots: Object.fromEntries(Array.from({ length: 501 }, (_, n) => [n, snapshot(`a${n}`)])) };
  const cases: [string, Respond, RegExp][] = [
    ['HTTP 500', answer('CANARY', 500), /^the OpenUsage daemon answers with HTTP 500/],
    ['not JSON', answer('CANARY'), new RegExp(`^${unknown}$`)],
    ['another JSON', answer({ CANARY: 1 }), new RegExp(`^${unknown}$`)],
    ['null', answer('null'), new RegExp(`^${unknown}$`)],
    ['too many accounts', answer(many), /tells more than 500 accounts$/],
    ['too large', answer(' '.repeat(16 * 1024 * 1024 + 1)), /larger than 16 MiB$/],
    ['cut off', (_, response) => response.destroy(), /^no OpenUsage daemon answers at openusage\.socket/],
  ];
  const { socketPath, seen, plays } = await daemon(t, answer('', 500));
  const { source, sink, lines, isUp } = pull(t, socketPath);
  await source.start();
  for (const [name, respond, problem] of cases) {
    plays.respond = respond;
    await until(() => problem.test(source.problem() ?? ''), name);
    assert.equal(isUp(), false, name);
    const asked = seen.length;
    await until(() => seen.length > asked + 2, 'it goes on asking');
  }
  assert.deepEqual(sink.polls, []);
  plays.respond = answer({ snapshots: { a: snapshot('a') } });
  await until(() => isUp() === true && source.problem() === undefined);
  assert.ok(sink.polls.length > 0);
  assert.doesNotMatch(lines.join(''), /CANARY/);
  const told = lines.map((line) => JSON.parse(line).msg);
  assert.ok(told.length > 3 && told.every((each, index) => each !== told[index - 1]), 'the same is not told twice');
});

test('no daemon: says so, with what to do, and finds it when it comes', async (t) => {
  const folder = temporaryFolder(t);
  const { source, isUp } = pull(t, path.join(folder, 'none.sock'));
  await source.start();
  await until(() => isUp() === false);
  assert.match(source.problem() ?? '', /^no OpenUsage daemon answers at openusage\.socket: it does not run\. Start it/);
});

test('a stop ends a request under way', async (t) => {
  const { socketPath, seen } = await daemon(t, () => {});
  const { source, sink, isUp } = pull(t, socketPath);
  await source.start();
  await until(() => seen.length === 1);
  await source.stop();
  assert.deepEqual([sink.polls, isUp()], [[], undefined]);
});
