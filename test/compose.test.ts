// docker-compose.yml without Docker: what it mounts exists, and its parts work together as the same programs with the
// same files, passwords and health check.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { nats } from '../src/config-nats.ts';
import { serverConf } from '../src/nats/server-conf.ts';
import { KillableBridge } from './killable-bridge.ts';
import { NatsServer } from './nats/nats-server.ts';
import { freePort, until } from './prometheus-server.ts';
import { post, temporaryFolder } from './sources/intake-fixture.ts';

const ROOT = path.dirname(import.meta.dirname);
const CLI = path.join(ROOT, 'src/cli.ts');
const read = (file: string) => readFileSync(path.join(ROOT, file), 'utf8');

interface Service {
  readonly command: readonly string[];
  readonly environment?: Record<string, string>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
}
const { services } = parse(read('docker-compose.yml'), { merge: true }) as { services: Record<string, Service> };

test('every file and folder that is mounted is in the repository, and every password is in the example', () => {
  const example = read('.env.example');
  let mounts = 0;
  for (const [name, { volumes = [], environment = {} }] of Object.entries(services)) {
    for (const volume of volumes.filter((one) => one.startsWith('./'))) {
      mounts += 1;
      assert.ok(existsSync(path.join(ROOT, volume.split(':')[0]!)), `${name} mounts ${volume}`);
    }
    for (const variable of Object.keys(environment)) assert.match(example, new RegExp(`^${variable}=`, 'm'));
  }
  assert.ok(mounts >= 10);
});

test('Prometheus scrapes the bridge and tells Alertmanager, by the names and ports of the services', () => {
  const check = spawnSync('promtool', ['check', 'config', path.join(ROOT, 'deploy/prometheus/prometheus.yml')], {
    encoding: 'utf8',
  });
  assert.equal(check.status, 0, check.stdout + check.stderr);
  const text = read('deploy/prometheus/prometheus.yml');
  const targets = [...text.matchAll(/"([a-z]+):(\d+)"/g)].map(([, name, port]) => [name, port]);
  assert.deepEqual(targets, [
    ['alertmanager', '9093'],
    ['bridge', '9464'],
  ]);
  for (const [name, port] of targets) {
    const { ports = [] } = services[name!]!;
    assert.ok(
      ports.some((one) => one.startsWith('127.0.0.1:') && one.endsWith(`:${port}`)),
      `${name} has port ${port}`,
    );
  }
  // What is published on all interfaces is published to everybody.
  for (const { ports = [] } of Object.values(services)) for (const one of ports) assert.match(one, /^127\.0\.0\.1:/);
});

test('the server is told exactly what `nats setup --print` prints', () => {
  const printed = serverConf(nats.parse({ servers: ['nats://nats:4222'] }));
  assert.ok(read('deploy/nats/nats-server.conf').endsWith(printed), 'mend it with: nats setup --print');
});

test('server, set-up, bridge and relay work together, and are found healthy', async (t) => {
  const dir = temporaryFolder(t);
  const [port, monitor, metrics] = [await freePort(), await freePort(), await freePort()];
  const passwords = { BRIDGE_PASSWORD: 'b', PLATFORM_PASSWORD: 'p', OPERATOR_PASSWORD: 'o' };
  Object.assign(process.env, passwords);
  t.after(() => {
    for (const name of Object.keys(passwords)) delete process.env[name];
  });
  const conf = read('deploy/nats/nats-server.conf')
    .replace(/^server_name: .*$/m, '')
    .replace(/^listen: .*$/m, '')
    .replace('0.0.0.0:8222', `127.0.0.1:${monitor}`)
    .replace(/^jetstream .*$/m, '');
  const server = await NatsServer.start({ dir, port, conf });
  t.after(() => server.kill());
  const health = services.nats!.healthcheck!.test.at(-1)!.replace('8222', String(monitor));
  assert.equal((await fetch(health)).status, 200);

  const settings = (file: string): Record<string, object> =>
    parse(read(`deploy/${file}.yaml`).replaceAll('nats://nats:4222', server.url)) as Record<string, object>;
  const setUpFile = path.join(dir, 'setup.yaml');
  writeFileSync(setUpFile, JSON.stringify({ ...settings('setup'), state_dir: dir }));
  const arguments_ = services.setup!.command.slice(0, 2);
  const setUp = spawnSync(process.execPath, [CLI, ...arguments_, '--config', setUpFile], { encoding: 'utf8' });
  assert.equal(setUp.status, 0, setUp.stderr);
  assert.match(setUp.stdout, /consumer tollbridge_compose_1_of_1 +made/);

  const start = async (name: 'bridge' | 'relay', at: number) => {
    const { socket, nats: connection } = settings(name) as { socket: { identity: object }; nats: object };
    const folder = path.join(dir, name[0]!);
    const running = new KillableBridge({
      ...{ dir: folder, port: at, command: name === 'bridge' ? 'start' : 'relay' },
      config: { nats: connection, socket: { path: path.join(folder, 's'), identity: socket.identity } },
    });
    t.after(() => running.kill());
    await running.start();
    return running;
  };
  const bridge = await start('bridge', metrics);
  const relay = await start('relay', await freePort());
  const [program, flag, script] = services.bridge!.healthcheck!.test.slice(1);
  assert.equal(program, 'node');
  const ask = (url: string) =>
    spawnSync(process.execPath, [flag!, script!.replace('http://127.0.0.1:9464', url)], { encoding: 'utf8' }).status;
  assert.equal(ask(bridge.url), 0);
  assert.equal(ask('http://127.0.0.1:1'), 1, 'control: nobody there is not healthy');

  const turn = (message: string) => ({
    ...{ v: 1, kind: 'turn', agent: 'opencode', id: { session: 's', message }, provider: 'openai', model: 'gpt-5' },
    ...{ time: { started: Date.now() - 10, completed: Date.now() }, cost_usd: 1 },
  });
  assert.equal((await post(relay.socket, '/v1/events', turn('by-relay'))).status, 202);
  assert.equal((await post(bridge.socket, '/v1/events', turn('by-bridge'))).status, 202);
  await until('both turns', async () => {
    const text = await bridge.scrape();
    return (
      /^toll_turns_total\{.*team="platform",user="ana".*\} 1$/m.test(text) &&
      /^toll_turns_total\{.*team="platform",status="ok"\} 1$/m.test(text)
    );
  });
  assert.equal(bridge.said + relay.said, '', 'nothing to complain about');
});
