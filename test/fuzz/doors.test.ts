// Whatever is written to a door of a bridge, byte by byte: an answer of HTTP or a closed connection, and the next sender is
// served as if nothing had been.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Bridge } from '../../src/bridge.ts';
import { parseConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import { cleanUpOf } from '../clean-up.ts';
import { freePort } from '../prometheus-server.ts';
import { CANARY, likeBodies, likeText, pushes } from './inputs.ts';

const REQUESTS = 1200;
/** Longer than any answer takes; the servers themselves end slow requests only after seconds. */
const PATIENCE_MS = 400;

const request = (head: string, body = '') =>
  `${head}\r\nHost: 127.0.0.1\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
const SAMPLES = [
  request('POST /v1/events HTTP/1.1', '{"v":1,"kind":"session","agent":"opencode","id":{"session":"s"}}'),
  request('POST /v1/hook/opencode?account_id=work HTTP/1.0', '{"event":{"type":"session.created"}}'),
  request('POST /v1/push HTTP/1.1', JSON.stringify(pushes()).slice(0, 3000)),
  request('POST /v1/verdict HTTP/1.1\r\nExpect: 100-continue', '{"agent":"opencode","provider":"a","model":"m"}'),
  'POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"v\r\n0\r\n\r\n',
  request('GET /v1/report?by=model&from_ms=1 HTTP/1.1\r\nAuthorization: Bearer x'),
  request('GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip;q=0.5, br'),
  request('GET /v1/status HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket'),
  request('GET / HTTP/1.1\r\nOrigin: http://evil.example'),
  request('GET /v1/snapshots HTTP/1.1'),
];

const TARGETS = [
  '/v1/events',
  '/v1/hook/opencode?account_id=a',
  '/v1/push',
  '/v1/verdict',
  '/v1/explain',
  '/v1/status',
];
const MORE_TARGETS = [
  '/v1/report?by=model&from_ms=1&to_ms=9',
  '/metrics',
  '/',
  '/-/ready',
  '/healthz',
  '/v1/snapshots',
];
const HEADERS = [
  'Host: 127.0.0.1',
  'Authorization: Bearer abc',
  'Accept-Encoding: gzip;q=0',
  'Origin: http://x',
  'Expect: 100-continue',
];
/** What the parser of HTTP lets through of a text. */
const letThrough = (bytes: Buffer, not: RegExp) => bytes.toString('latin1').replaceAll(not, '');
const target = fc.oneof(
  fc.constantFrom(...TARGETS, ...MORE_TARGETS),
  likeText([...TARGETS, ...MORE_TARGETS]).map((bytes) => `/${letThrough(bytes, /[^\x21-\x7e]/g)}`),
);
const header = likeText(HEADERS)
  .map((bytes) => letThrough(bytes, /[^\x20-\x7e\x80-\xff]/g))
  .filter((line) => /^[\w-]+: /.test(line));
/** Requests that are well-formed, so that what they ask for is looked at. */
const wellFormed = fc
  .record({
    method: fc.constantFrom('POST', 'POST', 'GET', 'PUT', 'DELETE', 'OPTIONS', 'HEAD'),
    target,
    version: fc.constantFrom('1.1', '1.1', '1.0'),
    headers: fc.array(header, { maxLength: 3 }),
    body: likeBodies([pushes(), { agent: 'opencode', provider: 'a', model: 'm' }, { v: 1, kind: 'session' }]),
  })
  .map(({ method, target: path_, version, headers, body }) => {
    const lines = [`${method} ${path_} HTTP/${version}`, ...headers, `Content-Length: ${body.length}`];
    return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), body]);
  });
const written = fc.oneof({ weight: 3, arbitrary: wellFormed }, { weight: 1, arbitrary: likeText(SAMPLES) });

/** What comes back for some bytes; '' where the connection is only closed, or kept waiting for more. */
function write(to: net.NetConnectOpts, bytes: Buffer): Promise<string> {
  return new Promise((resolve) => {
    let said = '';
    const socket = net.connect(to);
    const end = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(said);
    };
    const timer = setTimeout(end, PATIENCE_MS);
    socket.on('data', (chunk) => {
      said += chunk.toString('latin1');
      end();
    });
    socket.on('error', end).on('close', end);
    socket.end(bytes);
  });
}

test('whatever is written to a door gets an answer or nothing, and harms nobody', async (t) => {
  const atEnd = cleanUpOf(t);
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  atEnd(() => rmSync(dir, { recursive: true, force: true }));
  const [metrics, tcp, hub] = [await freePort(), await freePort(), await freePort()];
  const lines: string[] = [];
  const bridge = await Bridge.start({
    config: parseConfig({
      ...{ state_dir: dir, detect: false, metrics: { listen: `127.0.0.1:${metrics}` } },
      ...{
        tcp: { listen: `127.0.0.1:${tcp}` },
        hub: { listen: `127.0.0.1:${hub}` },
        socket: { path: path.join(dir, 's') },
      },
    }),
    log: createLog('trace', { write: (line: string) => void lines.push(line) }),
  });
  atEnd(() => bridge.stop());
  const doors: net.NetConnectOpts[] = [
    { path: path.join(dir, 's') },
    ...[metrics, tcp, hub].map((port) => ({ host: '127.0.0.1', port })),
  ];
  const statuses: Record<string, number> = {};
  const seed = Date.now() % 2 ** 31;
  const AT_ONCE = 40;
  const property = fc.asyncProperty(
    fc.array(fc.tuple(fc.constantFrom(...doors), written), { minLength: AT_ONCE, maxLength: AT_ONCE }),
    async (writes) => {
      for (const said of await Promise.all(writes.map(([door, bytes]) => write(door, bytes)))) {
        const status = /^HTTP\/1\.1 (\d\d\d) /.exec(said)?.[1] ?? (said === '' ? 'nothing' : said.slice(0, 40));
        assert.match(status, /^(?:[1234]\d\d|503|nothing)$/);
        assert.doesNotMatch(said, new RegExp(CANARY.split('\n')[0]!));
        statuses[status] = (statuses[status] ?? 0) + 1;
      }
    },
  );
  await fc.assert(property, { numRuns: REQUESTS / AT_ONCE, seed, endOnFailure: true });
  assert.doesNotMatch(lines.join(''), /unexpectedly|please report|CANARY prompt/);
  for (const door of doors) {
    const path_ = 'port' in door && door.port === metrics ? '/metrics' : '/healthz';
    // A client that waits for its answer, unlike those above: Node drops what is not yet written when a sender hangs up.
    const at = 'port' in door ? { host: '127.0.0.1', port: door.port } : { socketPath: door.path };
    const asking = http.request({ ...at, path: path_, agent: false }).end();
    const [answer] = (await once(asking, 'response')) as [http.IncomingMessage];
    assert.equal(answer.statusCode, 200);
    answer.resume();
  }
  t.diagnostic(`${JSON.stringify(statuses)}, seed ${seed}`);
});
