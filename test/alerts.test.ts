// The alert pack: every rule proved by promtool to fire and to keep silent, and the whole road once, from a falling balance
// to Alertmanager's API.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { parse, stringify } from 'yaml';
import { RECORDING_RULES } from '../dashboards/alerts/expressions.ts';
import { ALERTS } from '../dashboards/alerts/pack.ts';
import { Bridge } from '../src/bridge.ts';
import { createLog } from '../src/log.ts';
import { BRIDGE, type MetricFamily, TOLL } from '../src/metrics/catalogue.ts';
import { scratchConfig } from './commands/bridge-fixture.ts';
import { freePort, until } from './prometheus-server.ts';
import { post } from './sources/intake-fixture.ts';

const FOLDER = path.join(import.meta.dirname, '../deploy');
const RULES = path.join(FOLDER, 'prometheus/tollbridge.rules.yml');
const FAMILIES: readonly MetricFamily[] = [...Object.values(TOLL), ...Object.values(BRIDGE)];

function promtool(...args: string[]) {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' });
  return { status, said: `${stdout}${stderr}` };
}

function folder(t: TestContext): string {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test('the rules are rules, and every alert fires when it should and is silent when it should', () => {
  const check = promtool('check', 'rules', RULES);
  assert.equal(check.status, 0, check.said);
  for (const cases of ['hours', 'days']) {
    const run = promtool('test', 'rules', path.join(FOLDER, `prometheus/tests/${cases}.test.yml`));
    assert.equal(run.status, 0, run.said);
  }
});

test('control: a rule that is a little wrong fails these tests', (t) => {
  const dir = folder(t);
  cpSync(path.join(FOLDER, 'prometheus'), dir, { recursive: true });
  const file = path.join(dir, 'tollbridge.rules.yml');
  const cases = path.join(dir, 'tests/hours.test.yml');
  const all = parse(readFileSync(cases, 'utf8')) as { tests: { name: string }[] };
  all.tests = all.tests.filter(({ name }) => name.startsWith('TollBalanceExhausted'));
  writeFileSync(cases, stringify(all));
  assert.equal(promtool('test', 'rules', cases).status, 0);
  writeFileSync(file, readFileSync(file, 'utf8').replace('toll:balance:sum <= 0', 'toll:balance:sum <= 0.01'));
  const run = promtool('test', 'rules', cases);
  assert.notEqual(run.status, 0);
  assert.match(run.said, /TollBalanceExhausted is silent: a cent left/);
});

test('each alert is tested both ways, has steps, and reads nothing that a bridge does not export', () => {
  const names = new Set(
    FAMILIES.flatMap(({ name, type }) => (type === 'histogram' ? [`${name}_bucket`, `${name}_count`] : [name])),
  );
  const recorded = new Set(RECORDING_RULES.map(({ record }) => record));
  assert.ok(ALERTS.length >= 20);
  assert.equal(new Set(ALERTS.map(({ name }) => name)).size, ALERTS.length);
  for (const { name, expr, fires, silent, steps } of ALERTS) {
    assert.ok(fires.length > 0 && silent.length > 0 && steps.length > 0, name);
    // A pattern of names, such as the conservation law's, is checked by its parts.
    const written = expr.match(/(?<!")\b(?:toll|tollbridge)_[a-z_]+\b(?![^{}]*_total"\})/g) ?? [];
    for (const metric of written) assert.ok(names.has(metric), `${name} reads ${metric}`);
    for (const rule of expr.match(/\btoll:[a-z_:0-9]+/g) ?? []) assert.ok(recorded.has(rule), `${name} reads ${rule}`);
  }
});

test('what Alertmanager is told it understands', () => {
  const file = path.join(FOLDER, 'alertmanager/alertmanager.yml');
  const { status, stdout, stderr } = spawnSync('amtool', ['check-config', file], { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /inhibit rules/);
  const { inhibit_rules } = parse(readFileSync(file, 'utf8')) as {
    inhibit_rules: { source_matchers: string[]; target_matchers: string[] }[];
  };
  const known = (name: string) => ALERTS.some((alert) => alert.name === name);
  for (const { source_matchers, target_matchers } of inhibit_rules) {
    const named = [...source_matchers, ...target_matchers].flatMap((matcher) => /"(.*)"/.exec(matcher)![1]!.split('|'));
    for (const name of named) assert.ok(name === 'Toll.+' || known(name), name);
  }
});

function run(t: TestContext, program: string, args: string[]): ChildProcess {
  const child = spawn(program, args, { stdio: 'ignore' });
  t.after(async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  });
  return child;
}

test('a balance that no longer covers the limit is seen in Alertmanager, and hides what it should', async (t) => {
  const dir = folder(t);
  const config = scratchConfig(t, { metrics: { listen: '127.0.0.1:0' } });
  const bridge = await Bridge.start({ config, log: createLog('silent'), env: {} });
  t.after(() => bridge.stop());
  const read = async (remaining: number) => {
    const payload = {
      ...{ provider_id: 'opencode', account_id: 'work', timestamp: new Date().toISOString(), status: 'OK' },
      metrics: {
        console_balance: { remaining, unit: 'USD', window: 'current' },
        monthly_limit: { limit: 100, unit: 'USD', window: 'month' },
        monthly_usage: { used: 60, unit: 'USD', window: 'month' },
      },
    };
    assert.equal((await post(config.socket.path, '/v1/events', { v: 1, kind: 'poll', payload })).status, 202);
  };
  await read(50);

  // The rules as they are, but for their patience.
  const rules = parse(readFileSync(RULES, 'utf8')) as {
    groups: { interval: string; rules: Record<string, unknown>[] }[];
  };
  for (const group of rules.groups) {
    group.interval = '1s';
    for (const rule of group.rules) {
      delete rule.for;
      delete rule.keep_firing_for;
    }
  }
  writeFileSync(path.join(dir, 'rules.yml'), stringify(rules));
  const [prometheusPort, alertPort] = [await freePort(), await freePort()];
  const prometheus = {
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
    rule_files: ['rules.yml'],
    alerting: { alertmanagers: [{ static_configs: [{ targets: [`127.0.0.1:${alertPort}`] }] }] },
    scrape_configs: [{ job_name: 'tollbridge', static_configs: [{ targets: [new URL(bridge.metricsUrl).host] }] }],
  };
  writeFileSync(path.join(dir, 'prometheus.yml'), stringify(prometheus));
  run(t, 'prometheus-alertmanager', [
    `--config.file=${path.join(FOLDER, 'alertmanager/alertmanager.yml')}`,
    ...[`--storage.path=${path.join(dir, 'alerts')}`, `--web.listen-address=127.0.0.1:${alertPort}`],
    '--cluster.listen-address=',
  ]);
  run(t, 'prometheus', [
    `--config.file=${path.join(dir, 'prometheus.yml')}`,
    ...[`--storage.tsdb.path=${path.join(dir, 'data')}`, `--web.listen-address=127.0.0.1:${prometheusPort}`],
  ]);
  interface Seen {
    readonly labels: Record<string, string>;
    readonly annotations: Record<string, string>;
    readonly status: { readonly inhibitedBy: readonly string[] };
  }
  const alerts = async (): Promise<Seen[]> =>
    fetch(`http://127.0.0.1:${alertPort}/api/v2/alerts`).then(
      async (answer) => (answer.ok ? ((await answer.json()) as Seen[]) : []),
      () => [],
    );
  const seen = async (name: string) => (await alerts()).find(({ labels }) => labels.alertname === name);
  const value = async (query: string) => {
    const url = `http://127.0.0.1:${prometheusPort}/api/v1/query?query=${encodeURIComponent(query)}`;
    const answer = await fetch(url)
      .then((got) => got.json())
      .catch(() => undefined);
    return (answer as { data?: { result: { value: [number, string] }[] } })?.data?.result[0]?.value[1];
  };
  await until('the first scrape', async () => (await value('toll:balance:sum')) === '50');
  assert.equal(await seen('TollBalanceCannotCoverLimit'), undefined, '50 cover the 40 that are still allowed');

  await read(15);
  await until('the alert', async () => (await seen('TollBalanceCannotCoverLimit')) !== undefined);
  const alert = await seen('TollBalanceCannotCoverLimit');
  assert.match(
    alert!.annotations.summary!,
    /^opencode\/work has 15\.00 USD left, less than its monthly limit still allows$/,
  );

  await read(0);
  await until('the worse one', async () => (await seen('TollBalanceExhausted')) !== undefined);
  await until('that it hides the other', async () => {
    const hidden = await seen('TollBalanceCannotCoverLimit');
    return hidden !== undefined && hidden.status.inhibitedBy.length > 0;
  });
});

test('the copy for Grafana has every alert, with the same rule, lasting as long, under a uid that Grafana takes', () => {
  interface Rule {
    readonly uid: string;
    readonly title: string;
    readonly for: string;
    readonly condition: string;
    readonly annotations: { readonly summary: string };
    readonly data: readonly {
      readonly refId: string;
      readonly datasourceUid: string;
      readonly model: { expr?: string };
    }[];
  }
  const yaml = readFileSync(path.join(FOLDER, 'grafana/alerting.yaml'), 'utf8');
  const { groups } = parse(yaml) as { groups: { rules: Rule[] }[] };
  const rules = groups[0]!.rules;
  assert.deepEqual(
    rules.map(({ title, for: lasting, data }) => [title, lasting, data[0]!.model.expr]),
    ALERTS.map(({ name, for: lasting = '0s', expr }) => [name, lasting, expr]),
  );
  for (const { uid, condition, annotations, data } of rules) {
    assert.match(uid, /^[a-z0-9-]{1,40}$/);
    assert.equal(data.at(-1)?.refId, condition);
    assert.doesNotMatch(annotations.summary, /\$value\b/, 'which is a text in Grafana');
  }
  assert.equal(new Set(rules.map(({ uid }) => uid)).size, rules.length);
  const datasource = readFileSync(path.join(FOLDER, 'grafana/datasource.yaml'), 'utf8');
  assert.ok(datasource.includes(`uid: ${rules[0]!.data[0]!.datasourceUid}`));
});
