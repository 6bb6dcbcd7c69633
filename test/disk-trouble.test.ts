// A bridge on a disk of its own that fills up, and on one that may only be read. Disks are mounted for it, which needs
// the right to do so.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { both, compose, type Stream } from './composed-stream.ts';
import { killableBridge } from './killable-bridge.ts';
import { billOf } from './otlp-bill.ts';
import { deliver, isCounted, postsOf, type Relay, startRoad, sumOf, waiting } from './otlp-road.ts';
import { until } from './prometheus-server.ts';
import { shownBy } from './scrape.ts';
import { type Posted, send } from './sources/otlp-fixture.ts';

const BATCH = 200;
const BATCHES_MAX = 200;

const mount = (...args: string[]) => spawnSync('mount', args, { encoding: 'utf8' });

function mountable(): string | false {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const { status } = mount('-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir);
  if (status === 0) execFileSync('umount', [dir]);
  rmSync(dir, { recursive: true });
  return status === 0 ? false : 'this user may not mount a disk';
}
const skip = mountable();

/** A folder with a disk of its own below it. */
async function bridgeOnDisk(t: TestContext, size: string) {
  const { dir, bridge, post, atEnd } = await killableBridge(t);
  const disk = path.join(dir, 'state');
  mkdirSync(disk);
  assert.equal(mount('-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', disk).status, 0);
  atEnd(() => execFileSync('umount', ['-l', disk]));
  return { bridge, disk, post: ({ records }: Stream) => post(records) };
}

const truthOf = ({ records: _, ...truth }: Stream) => truth;

test('a disk that fills up: refused with 503, shown on, exact once there is room, and after a crash', {
  skip,
}, async (t) => {
  const { bridge, disk, post } = await bridgeOnDisk(t, '3m');
  await bridge.start();
  let booked = compose(BATCH, { seed: 1, name: 'b0' });
  assert.equal(await post(booked), 202);
  let refused: Stream | undefined;
  for (let n = 1; n < BATCHES_MAX && !refused; n++) {
    const batch = compose(BATCH, { seed: n, name: `b${n}` });
    if ((await post(batch)) === 202) booked = both(booked, batch);
    else refused = batch;
  }
  assert.ok(refused, 'the disk never filled up');
  assert.ok(statfsSync(disk).bavail * statfsSync(disk).bsize < 1024 * 1024);
  for (let again = 0; again < 3; again++) assert.equal(await post(refused), 503);
  assert.equal((await fetch(`${bridge.url}/-/ready`)).status, 503);
  assert.equal((await fetch(`${bridge.url}/-/healthy`)).status, 200);
  assert.deepEqual(shownBy(await bridge.scrape()), truthOf(booked), 'what was acknowledged, and nothing else');

  await bridge.kill();
  assert.equal(mount('-o', 'remount,size=32m', disk).status, 0);
  await bridge.start();
  assert.deepEqual(shownBy(await bridge.scrape()), truthOf(booked), 'after a crash on the full disk');

  const filler = path.join(disk, 'filler');
  const { bavail, bsize } = statfsSync(disk);
  writeFileSync(filler, Buffer.alloc(Math.max(0, bavail * bsize)));
  let status = 202;
  for (let n = 1; n < 20 && status === 202; n++) {
    const batch = compose(BATCH, { seed: n, name: `c${n}` });
    status = await post(batch);
    if (status === 202) booked = both(booked, batch);
  }
  assert.equal(status, 503, 'the disk is full again');
  rmSync(filler);
  assert.equal(await post(refused), 202, 'and takes again without a restart');
  booked = both(booked, refused);
  assert.deepEqual(shownBy(await bridge.scrape()), truthOf(booked));
  assert.equal((await fetch(`${bridge.url}/-/ready`)).status, 200);
  assert.match(bridge.said, /cannot be written.*Make room/);
  t.diagnostic(`${booked.records.length} events booked, difference 0`);
});

test('a disk that may only be read stops the start, names the ledger, and changes nothing', { skip }, async (t) => {
  const { bridge, disk, post } = await bridgeOnDisk(t, '16m');
  await bridge.start();
  const batch = compose(BATCH, { seed: 1, name: 'ro' });
  assert.equal(await post(batch), 202);
  await bridge.kill();
  assert.equal(mount('-o', 'remount,ro', disk).status, 0);
  await bridge.start({ isReady: false });
  assert.equal(await bridge.ended(), 1);
  assert.match(bridge.said, /The ledger .*ledger\.db cannot be opened .*mend the permissions/);
  assert.equal(mount('-o', 'remount,rw', disk).status, 0);
  await bridge.start();
  assert.deepEqual(shownBy(await bridge.scrape()), truthOf(batch));
});

test('a relay whose disk is full: it starts, and publishes all of it once, as soon as NATS is there', {
  skip,
}, async (t) => {
  const disk = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  assert.equal(mount('-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk).status, 0);
  t.after(() => execFileSync('umount', ['-l', disk]));
  const road = await startRoad(t, { config: { state_dir: path.join(disk, 'state') } });
  const [{ process: relay, url }] = road.relays as [Relay];
  const bill = billOf(250, { seed: 1, name: 'full' });
  await road.server.kill();
  const refused: Posted[] = [];
  for (const post of postsOf(bill)) if ((await send(url, post)).status === 503) refused.push(post);
  assert.ok(refused.length > 10, 'the disk never filled up');
  await relay.kill();
  await relay.start({ isReady: false });
  await road.server.restart();
  await deliver(refused, road.relays);

  await isCounted(road, bill.truth);
  assert.ok((await waiting(road.relays[0]!)) > 0, 'the disk lets go of nothing');
  // Time for what was published to be published again.
  await delay(5000);
  assert.equal(mount('-o', 'remount,size=32m', disk).status, 0);
  await until('an empty queue', async () => (await waiting(road.relays[0]!)) === 0, 600);
  assert.equal((await fetch(`${relay.url}/-/ready`)).status, 200);
  const published = road.subjects.filter((subject) => subject.startsWith('toll.turns.')).length;
  const { turns, toolCalls } = bill.truth;
  const told = sumOf([...Object.values(turns), ...Object.values(toolCalls)]) + bill.batches.length;
  assert.ok(published <= told * 1.02, `${published} messages tell of ${told} turns, tool calls and sessions`);
});
