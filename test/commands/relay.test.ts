// What commands and the page say where a relay has the bridge's place.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { doctor } from '../../src/commands/doctor.ts';
import { showStatus } from '../../src/commands/status.ts';
import { createLog } from '../../src/log.ts';
import { relayPage } from '../../src/metrics/relay-page.ts';
import { setUpStreams } from '../../src/nats/streams.ts';
import { Relay } from '../../src/relay.ts';
import { connected, NatsServer } from '../nats/nats-server.ts';
import { until } from '../prometheus-server.ts';
import { post } from '../sources/intake-fixture.ts';
import { plain, scratchConfig, scratchFolder } from './bridge-fixture.ts';

const CLI = path.join(import.meta.dirname, '../../src/cli.ts');

async function start(t: TestContext) {
  const server = await NatsServer.start({ dir: scratchFolder(t) });
  t.after(() => server.kill());
  const nats = { servers: [server.url], replica: 'a' };
  const config = scratchConfig(t, { metrics: { listen: '127.0.0.1:0' }, nats });
  const connection = await connected(server);
  await setUpStreams(connection, config.nats!);
  await connection.close();
  const relay = await Relay.start({ config: { ...config, nats: config.nats! }, log: createLog('silent'), env: {} });
  t.after(() => relay.stop());
  return { server, config, relay };
}

test('doctor: the relay is no missing bridge; it says where turns go, and what waits when they cannot', async (t) => {
  const { server, config, relay } = await start(t);
  const examine = async () => {
    const home = scratchFolder(t);
    const { lines, exitCode } = await doctor({
      json: false,
      env: {},
      home,
      nowMs: Date.now(),
      loadConfig: () => config,
    });
    return { text: plain(lines).join('\n'), exitCode };
  };
  await until('both sources', () => relay.status().sources.every(({ up }) => up));
  const well = await examine();
  assert.equal(well.exitCode, 0, well.text);
  assert.match(well.text, /✔ bridge +none on this machine: a relay has its place/);
  assert.match(well.text, /✔ NATS +turns go to nats:\/\/127\.0\.0\.1:\d+, and none waits/);
  assert.doesNotMatch(well.text, /ledger|Start it with/);
  assert.match(
    well.text,
    /rules +none are known, so calls are not checked.*no bridge of this stream has told its rules yet/,
  );

  await server.kill();
  await until('the loss', () => relay.status().relay.problem !== undefined);
  const record = { v: 1, kind: 'session', agent: 'opencode', id: { session: 's' } };
  assert.equal((await post(config.socket.path, '/v1/events', record)).status, 202);
  const ill = await examine();
  assert.equal(ill.exitCode, 1);
  assert.match(
    ill.text,
    /✖ NATS +the connection to NATS .* is lost.*1 event waits on this disk .* nothing is lost while there is room/,
  );
  const page = relayPage(relay.status());
  assert.match(page, /Turns wait on this disk/);
  assert.match(page, /1 event,/);
  assert.equal((await fetch(`${relay.status().metrics_url}/-/ready`)).status, 200, 'it takes turns all the same');
});

test('status: the numbers are elsewhere', async (t) => {
  const { config } = await start(t);
  const options = { config, json: false, env: {}, home: scratchFolder(t), nowMs: Date.now() };
  await assert.rejects(showStatus(options), /A relay runs here, and turns are counted by a bridge elsewhere/);
});

test('the page of a relay that is well, and its banner', async (t) => {
  const { relay } = await start(t);
  const page = await (await fetch(relay.status().metrics_url)).text();
  assert.match(page, /A relay: a bridge elsewhere counts these turns/);
  assert.match(page, /none are known, so no verdicts are given/);
  assert.match(page, /0 events, 0 KiB of 256 MiB \(0 %\)/);
  assert.match(relay.banner().join('\n'), /Tollbridge .* relays[\s\S]* {2}queue {5}.*relay-queue\.db/);
});

test('a relay without a server to send to says what to set, and what to run instead', () => {
  const { status, stderr } = spawnSync(process.execPath, [CLI, 'relay'], {
    ...{ encoding: 'utf8', env: { ...process.env, XDG_CONFIG_HOME: '/nonexistent' } },
  });
  assert.equal(status, 1);
  assert.match(stderr, /A relay needs a NATS server.*nats\.servers.*start/s);
});
