// More than a bridge can serve: scrapes, readers that do not read, connections that do nothing, no file descriptors left,
// and signals in the middle of it. What was acknowledged is counted once, and who comes afterwards is served.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { Pool } from 'undici';
import { both, compose, type Stream } from './composed-stream.ts';
import { killableBridge } from './killable-bridge.ts';
import { until } from './prometheus-server.ts';
import { samplesOf, shownBy } from './scrape.ts';

const FULL = process.env.TOLLBRIDGE_TEST_FULL === '1';
const BATCH = 50;
const MIB = 1024 * 1024;

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const truthOf = ({ records: _, ...truth }: Stream) => truth;

async function startBridge(t: TestContext) {
  const { bridge, post } = await killableBridge(t, { connections: 4 });
  await bridge.start();
  return { bridge, post: ({ records }: Pick<Stream, 'records'>) => post(records) };
}

let serial = 0;
const nextBatch = () => compose(BATCH, { seed: serial, name: `n${serial++}` });

/** Connections that are opened and left alone; one that was refused counts, too. */
async function openIdle(count: number, to: net.NetConnectOpts, first = ''): Promise<net.Socket[]> {
  const opened: net.Socket[] = [];
  const AT_ONCE = 500;
  while (opened.length < count) {
    const group = Array.from({ length: Math.min(AT_ONCE, count - opened.length) }, () => {
      const socket = net.connect(to);
      socket.on('error', () => {});
      if (first) socket.write(first);
      return socket;
    });
    await Promise.all(group.map((each) => Promise.race([once(each, 'connect'), once(each, 'close')])));
    opened.push(...group);
  }
  return opened;
}

for (const kind of ['SIGTERM once', 'SIGTERM, and again'] as const) {
  test(`${kind}, under load: what was acknowledged is counted, the rest is sent again, exact`, async (t) => {
    const { bridge, post } = await startBridge(t);
    let acknowledged = nextBatch();
    const open: Stream[] = [];
    assert.equal(await post(acknowledged), 202);
    let isOver = false;
    let answered = 0;
    const sender = async () => {
      while (!isOver) {
        const batch = nextBatch();
        const status = await post(batch);
        if (status === 202) {
          acknowledged = both(acknowledged, batch);
          answered += 1;
        } else {
          open.push(batch);
          await wait(20);
        }
      }
    };
    const senders = Promise.all(Array.from({ length: 4 }, sender));
    // Fire and forget, as stock senders do: no answer is read.
    const forgotten = nextBatch();
    await until('some load', async () => answered > 20);
    const left = net.connect({ path: bridge.socket });
    left.on('error', () => {});
    const body = forgotten.records.map((record) => JSON.stringify(record)).join('\n');
    await new Promise((resolve) => {
      left.write(`POST /v1/events HTTP/1.0\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`, resolve);
    });
    left.destroy();
    let stuck: net.Socket | undefined;
    if (kind === 'SIGTERM, and again') {
      // A body that never ends keeps a graceful stop waiting, so that the second signal has something to cut short.
      stuck = net.connect({ path: bridge.socket });
      stuck.on('error', () => {});
      stuck.write('POST /v1/events HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{');
      await wait(50);
    }
    const stoppedMs = performance.now();
    bridge.signal('SIGTERM');
    if (stuck) {
      await wait(600);
      bridge.signal('SIGTERM');
    }
    assert.equal(await bridge.ended(), stuck ? 143 : 0);
    const stopMs = Math.round(performance.now() - stoppedMs);
    isOver = true;
    await senders;
    stuck?.destroy();
    assert.ok(open.length > 0, 'some senders met the stop');

    await bridge.start();
    acknowledged = both(acknowledged, forgotten);
    const found = shownBy(await bridge.scrape());
    // Some of what was not acknowledged may have been booked: it was under way. Nothing that was may lack.
    const turns = (sums: Record<string, number>) => Object.values(sums).reduce((a, b) => a + b, 0);
    assert.ok(turns(found.turns) >= turns(acknowledged.turns), 'something that was acknowledged is missing');
    let all = acknowledged;
    for (const batch of open) {
      assert.equal(await post(batch), 202);
      all = both(all, batch);
    }
    assert.deepEqual(shownBy(await bridge.scrape()), truthOf(all));
    t.diagnostic(`${answered} batches acknowledged before, ${open.length} sent again; ended after ${stopMs} ms`);
  });
}

test('a storm of scrapes, and readers that do not read: senders are served, memory stays, and the next scrape is whole', async (t) => {
  const { bridge, post } = await startBridge(t);
  let booked = nextBatch();
  // Many series, so that a scrape is more than the system's buffers hold.
  const wide = Array.from({ length: 3000 }, (_, at) => ({
    ...{ v: 1, kind: 'turn', agent: 'opencode', id: { session: `w_${at}`, message: `m_${at}` }, provider: 'opencode' },
    ...{ model: `model-${at % 150}`, project: `project-${at % 40}`, status: 'ok', tokens: { input: 1 } },
    time: { started: Date.now() - 1000, completed: Date.now() },
  }));
  assert.equal(await post({ records: wide }), 202);
  assert.equal(await post(booked), 202);
  const whole = await bridge.scrape();
  assert.ok(whole.length > MIB, `${whole.length} bytes are not many`);
  const { port } = new URL(bridge.url);
  const before = bridge.residentBytes();
  const get = 'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n';
  const deaf = await openIdle(30, { host: '127.0.0.1', port: Number(port) }, get);
  for (const socket of deaf) socket.pause();
  t.after(() => deaf.forEach((socket) => void socket.destroy()));
  const STORM = FULL ? 2000 : 60;
  const statuses: Record<string, number> = {};
  const scraper = async () => {
    for (let n = 0; n < STORM / 30; n++) {
      const status = await fetch(`${bridge.url}/metrics`).then(
        async (answer) => `${answer.status} ${(await answer.text()).endsWith('\n')}`,
        () => 'refused',
      );
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
  };
  const latencies: number[] = [];
  let isOver = false;
  const sending = (async () => {
    while (!isOver) {
      const batch = nextBatch();
      const sinceMs = performance.now();
      assert.equal(await post(batch), 202);
      latencies.push(performance.now() - sinceMs);
      booked = both(booked, batch);
    }
  })();
  await Promise.all(Array.from({ length: 30 }, scraper));
  isOver = true;
  await sending;
  const grown = bridge.residentBytes() - before;
  assert.ok((statuses['200 true'] ?? 0) > 0);
  assert.deepEqual(
    Object.keys(statuses).filter((each) => each !== '200 true' && each !== 'refused'),
    [],
  );
  for (const socket of deaf) socket.destroy();
  const sum = (text: string) => {
    const { turns } = shownBy(text);
    return Object.values(turns).reduce((a, b) => a + b, 0);
  };
  const turns = Object.values(booked.turns).reduce((a, b) => a + b, 0) + wide.length;
  assert.equal(sum(await bridge.scrape()), turns);
  latencies.sort((a, b) => a - b);
  const at = (share: number) => Math.round(latencies[Math.floor(latencies.length * share)] ?? 0);
  assert.ok(grown < 300 * MIB, `memory grew by ${grown / MIB} MiB`);
  t.diagnostic(
    `${JSON.stringify(statuses)} of ${whole.length} bytes beside 30 that do not read; ${latencies.length} batches of ${BATCH} ` +
      `meanwhile, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms; memory +${Math.round(grown / MIB)} MiB`,
  );
});

test('idle connections, as many as there are descriptors for: they are ended, and a sender is served', async (t) => {
  const limit = Number(execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }));
  const count = Math.min(10_000, (Number.isFinite(limit) ? limit : 20_000) - 500);
  const { bridge, post } = await startBridge(t);
  const first = nextBatch();
  assert.equal(await post(first), 202);
  const before = bridge.residentBytes();
  const idle = await openIdle(count, { path: bridge.socket });
  t.after(() => idle.forEach((socket) => void socket.destroy()));
  const grown = bridge.residentBytes() - before;
  const sinceMs = performance.now();
  const batch = nextBatch();
  // What is left over of the connections that were there before is served at once; a new one when an idle one has ended.
  while ((await post(batch)) !== 202) await wait(100);
  const servedMs = performance.now() - sinceMs;
  assert.ok(servedMs < 15_000, `${servedMs} ms`);
  const fresh = new Pool('http://tollbridge', { socketPath: bridge.socket, connections: 1 });
  t.after(() => fresh.destroy());
  const isServed = async () => {
    const answer = await fresh.request({ path: '/healthz', method: 'GET' }).catch(() => undefined);
    await answer?.body.dump();
    return answer?.statusCode === 200;
  };
  await until('a new connection', isServed, 300);
  const freshMs = performance.now() - sinceMs;
  const text = await bridge.scrape();
  assert.deepEqual(shownBy(text), truthOf(both(first, batch)));
  const refused = samplesOf(text).filter(({ labels }) => labels.reason === 'connections');
  t.diagnostic(
    `${count} idle connections, ${refused.map(({ value }) => value).join()} refused and counted; a sender was served after ` +
      `${Math.round(servedMs)} ms, a new one after ${Math.round(freshMs)} ms; memory +${Math.round(grown / MIB)} MiB`,
  );
});

const lacks = spawnSync('prlimit', ['--version']).error ? 'prlimit' : undefined;

test('no file descriptor left: nothing is lost, and it goes on by itself when there are some', {
  skip: lacks ? `${lacks} is not installed` : false,
}, async (t) => {
  const { bridge, post } = await startBridge(t);
  let booked = nextBatch();
  assert.equal(await post(booked), 202);
  const inUse = Number(execFileSync('sh', ['-c', `ls /proc/${bridge.pid}/fd | wc -l`], { encoding: 'utf8' }));
  execFileSync('prlimit', ['--pid', String(bridge.pid), `--nofile=${inUse + 20}:`]);
  const idle = await openIdle(200, { path: bridge.socket });
  t.after(() => idle.forEach((socket) => void socket.destroy()));
  const spooled = nextBatch();
  mkdirSync(bridge.spool, { recursive: true });
  const file = path.join(bridge.spool, 'a.json');
  writeFileSync(`${file}.tmp`, spooled.records.map((record) => JSON.stringify(record)).join('\n'));
  renameSync(`${file}.tmp`, file);
  const open: Stream[] = [];
  for (let n = 0; n < 10; n++) {
    const batch = nextBatch();
    if ((await post(batch)) === 202) booked = both(booked, batch);
    else open.push(batch);
  }
  for (const socket of idle) socket.destroy();
  execFileSync('prlimit', ['--pid', String(bridge.pid), '--nofile=4096:']);
  for (const batch of open) {
    await until('an acknowledgement', async () => (await post(batch)) === 202, 300);
    booked = both(booked, batch);
  }
  const truth = truthOf(both(booked, spooled));
  const isExact = async () =>
    JSON.stringify(shownBy(await bridge.scrape().catch(() => '')).sessions) === JSON.stringify(truth.sessions);
  await until('the spool', isExact, 400);
  assert.deepEqual(shownBy(await bridge.scrape()), truth);
  t.diagnostic(`${open.length} of 10 batches met the limit`);
});
