// Secrets that are planted wherever one could stand: in every credential, and in every text that a remote can say. None
// may come out of a running bridge: not on the terminal, in a log, a metric, a page, an answer, its files or a crash report.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { CONSOLE_PATHS, CONSOLE_ROUTES, GOOD_CONSOLE } from './poll/console-server.ts';

const CLI = new URL('../src/cli.ts', import.meta.url).pathname;
const LOOK_EVERY_MS = 20;
const CANARY = 'CANARY';
/** As a secret looks: long, and whole only in one piece. */
const secret = (name: string) => `${CANARY}${name}7f3a9c`;
const WORKSPACE = `wrk_${CANARY}${'7'.repeat(20)}`;
const SECRETS = {
  key: `sk-${secret('key')}`,
  service: `oc_sk_${secret('service')}`,
  cookie: `Fe26.2**${secret('cookie')}`,
  env: `sk-${secret('env')}`,
  token: secret('hubtoken'),
  sender: `tb_${secret('sender')}`,
};

/** Every text of an answer becomes a canary, but amounts, dates and the words that are read stay; more are added. */
function poisoned(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(poisoned);
  if (typeof value === 'string') {
    const isRead =
      /^-?\d+$|^\d{4}-\d\d-\d\d/.test(value) || ['pay-as-you-go', 'opencode', 'opencode-go', 'go'].includes(value);
    return isRead ? value : secret('text');
  }
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, of]) => [key, key === 'model' ? of : poisoned(of)]);
  const extra = {
    email: `${secret('mail')}@example.com`,
    paymentMethodLast4: secret('card'),
    [secret('field')]: secret('value'),
  };
  return { ...Object.fromEntries(entries), ...extra };
}

/** A remote whose every answer is full of canaries. @param failing whether it answers with errors that are */
async function remote(t: TestContext, { failing }: { failing: boolean }) {
  const answers = new Map<string, unknown>(
    CONSOLE_ROUTES.map((route) => [CONSOLE_PATHS[route].replace(/\?.*/, ''), poisoned(GOOD_CONSOLE[route])]),
  );
  answers.set('/zen/v1/models', { data: [{ id: 'glm-5', owned_by: 'opencode', [secret('field')]: secret('value') }] });
  answers.set('/zen/go/v1/usage', {
    usage: { rolling: { percent: 3, status: secret('status') } },
    userID: secret('user'),
  });
  const billing = `((self.$R=self.$R||{})["x"]=[],($R=>$R[0]={balance:1,customerID:"${secret('customer')}",reloadError:"${secret('error')}"})($R["x"]))`;
  const server = createServer((request, response) => {
    const route = (request.url ?? '').replace(/\?.*/, '');
    const headers = { 'x-error': secret('header'), 'set-cookie': secret('setcookie') };
    if (route === '/auth') return response.writeHead(302, { ...headers, location: `/workspace/${WORKSPACE}` }).end();
    if (failing) return response.writeHead(500, headers).end(secret('body'));
    if (route === '/_server') return response.writeHead(200, headers).end(billing);
    const body = answers.get(route) ?? answers.get(`/console${route}`);
    if (body === undefined) return response.writeHead(404, headers).end(secret('body'));
    return response.writeHead(200, { ...headers, 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function layOut(url: string) {
  const home = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-secrets-'));
  const file = (name: string, text: string, mode = 0o600) => {
    writeFileSync(path.join(home, name), `${text}\n`, { mode });
    return path.join(home, name);
  };
  const config = file(
    'tollbridge.yaml',
    `
state_dir: ${home}/state
metrics: { listen: 127.0.0.1:0 }
hub: { listen: 127.0.0.1:0, token_env: HUB_TOKEN }
tcp: { listen: 127.0.0.1:0 }
tokens: [{ token_file: ${file('sender', SECRETS.sender)}, team: core }]
poll: { interval: 1s, console_interval: 1s }
accounts:
  - { id: keys, provider: opencode, api_key_file: ${file('key', SECRETS.key)}, base_url: '${url}', console_url: '${url}/console',
      console_key_file: ${file('service', SECRETS.service)}, extra: { opencode_workspace_id: ${WORKSPACE} } }
  - { id: cookie, provider: opencode, console_cookie_file: ${file('cookie', `auth=${SECRETS.cookie}`)}, console_url: '${url}' }
  - { id: env, provider: opencode, api_key_env: ENV_KEY, base_url: '${url}', console_url: '${url}/console' }
  - { id: open, provider: opencode, api_key_file: ${file('open', SECRETS.key, 0o644)}, base_url: '${url}' }
  - { id: pasted, provider: opencode, api_key_file: ${file('pasted', `${SECRETS.key}\n${SECRETS.service}`)}, base_url: '${url}' }
`,
  );
  const env = { PATH: process.env.PATH, HOME: home, NO_COLOR: '1', ENV_KEY: SECRETS.env, HUB_TOKEN: SECRETS.token };
  return { home, config, env };
}

const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));

for (const failing of [false, true]) {
  test(`no secret comes out of a bridge whose remotes ${failing ? 'fail' : 'answer'}`, async (t) => {
    const url = await remote(t, { failing });
    const { home, config, env } = layOut(url);
    const reports = path.join(home, 'reports');
    mkdirSync(reports);
    const node = ['--report-on-signal', '--report-signal=SIGUSR2', `--report-directory=${reports}`, CLI];
    const child = spawn(process.execPath, [...node, 'start', '--config', config, '--log-level', 'trace'], {
      cwd: home,
      env,
    });
    const ended = once(child, 'close');
    t.after(async () => {
      child.kill('SIGKILL');
      await ended;
      rmSync(home, { recursive: true, force: true });
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (said += text));
    const until = async (what: string, condition: () => boolean | Promise<boolean>) => {
      while (!(await condition())) {
        if (child.exitCode !== null) assert.fail(`ended before ${what}: ${said}`);
        await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
      }
    };
    // What it says may come in pieces.
    await until('it listens', () => /metrics +http:\S+\/metrics[\s\S]*hub +http:\S+\/v1\/push/.test(said));
    const metricsUrl = /metrics +(http:\S+)\/metrics/.exec(said)![1]!;
    const hubUrl = /hub +(http:\S+)\/v1\/push/.exec(said)![1]!;
    const get = async (from: string) => (await fetch(from)).text();
    const polls = async (account: string) => {
      const counts = [...(await get(`${metricsUrl}/metrics`)).matchAll(/tollbridge_polls_total\{([^}]*)\} (\d+)/g)];
      return counts.reduce((sum, [, labels, n]) => sum + (labels!.includes(`account="${account}"`) ? Number(n) : 0), 0);
    };
    for (const account of ['keys', 'cookie', 'env', 'open', 'pasted'])
      await until(account, async () => (await polls(account)) > 0);
    await fetch(`${hubUrl}/v1/push`, {
      method: 'POST',
      headers: { authorization: `Bearer ${SECRETS.token}x` },
      body: secret('push'),
    });

    const tcpUrl = /tcp +(http:\S+)/.exec(said)![1]!;
    const asSender = (token: string) => fetch(`${tcpUrl}/v1/status`, { headers: { authorization: `Bearer ${token}` } });
    const [status, refusal] = await Promise.all([asSender(SECRETS.sender), asSender(`${SECRETS.sender}x`)]);
    assert.deepEqual([status.status, refusal.status], [200, 401]);

    const outputs: Record<string, string> = { 'what it said': said };
    outputs['the metrics'] = await get(`${metricsUrl}/metrics`);
    outputs['the status on TCP'] = await status.text();
    outputs['a refusal on TCP'] = await refusal.text();
    outputs['the page'] = await get(metricsUrl);
    for (const command of [['doctor'], ['doctor', '--json'], ['status'], ['status', '--json'], ['check-config']]) {
      const { stdout, stderr } = spawnSync(process.execPath, [CLI, ...command, '--config', config], {
        cwd: home,
        env,
        encoding: 'utf8',
      });
      outputs[command.join(' ')] = stdout + stderr;
    }
    child.kill('SIGUSR2');
    const report = () => filesBelow(home).find((file) => /report\..*\.json$/.test(file) && statSync(file).size > 0);
    await until('a report', () => report() !== undefined && /\}\s*$/.test(readFileSync(report()!, 'utf8')));
    outputs['a crash report'] = readFileSync(report()!, 'utf8');
    child.kill('SIGTERM');
    await ended;
    outputs['what it said'] = said;
    for (const file of filesBelow(path.join(home, 'state'))) outputs[file] = readFileSync(file, 'latin1');

    assert.ok(
      Object.keys(outputs).some((name) => name.endsWith('ledger.db')),
      'the ledger was looked at',
    );
    for (const [name, text] of Object.entries(outputs)) {
      assert.ok(text.length > 20, `${name} is empty`);
      const at = text.search(/CANARY/i);
      assert.equal(at, -1, `${name}: …${text.slice(Math.max(0, at - 80), at + 40)}…`);
    }
    // And what is to be told is told: the test looked at something.
    const metrics = outputs['the metrics']!;
    assert.match(metrics, /toll_account_status\{provider="opencode",account="open",status="auth_required"\} 1/);
    assert.match(
      metrics,
      new RegExp(`toll_account_status\\{provider="opencode",account="keys",status="${failing ? 'error' : 'ok'}"\\} 1`),
    );
    assert.equal(/toll_balance\{provider="opencode",account="keys"/.test(metrics), !failing);
    assert.match(outputs.doctor!, /opencode\/open: no API key: the api_key_file .* chmod 600/);
  });
}
