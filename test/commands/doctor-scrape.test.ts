// What doctor says of a metrics page that asks who reads it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { doctor } from '../../src/commands/doctor.ts';
import type { Config } from '../../src/config.ts';
import { certificates } from '../certificates.ts';
import { NOW_MS, scratchConfig, scratchFolder, serveMetrics, serveSocket, statusOf } from './bridge-fixture.ts';

const METRICS = 'toll_cost_usd_total{agent="opencode"} 1\n';

interface Finding {
  readonly name: string;
  readonly level: string;
  readonly what: string;
  readonly next?: string;
}

async function scrapeFinding(config: Config, env: NodeJS.ProcessEnv = {}): Promise<Finding> {
  const { lines } = await doctor({ json: true, env, home: config.state_dir, nowMs: NOW_MS, loadConfig: () => config });
  const { findings } = JSON.parse(lines.join('\n')) as { findings: Finding[] };
  return findings.find(({ name }) => name === 'metrics')!;
}

test('a guarded scrape sends the token, and says when it has none', async (t) => {
  const config = scratchConfig(t, { metrics: { token_env: 'TOLL_TOKEN' } });
  const metrics_url = await serveMetrics(t, ({ headers }) =>
    headers.authorization === 'Bearer s3cret' ? { body: METRICS } : { status: 401, body: '' },
  );
  await serveSocket(t, config, () => ({ body: JSON.stringify({ ...statusOf(config), metrics_url }) }));
  assert.equal((await scrapeFinding(config, { TOLL_TOKEN: 's3cret' })).level, 'ok');
  assert.match((await scrapeFinding(config)).what, /TOLL_TOKEN, which is not set here/);
  const wrong = await scrapeFinding(config, { TOLL_TOKEN: 'wr0ng' });
  assert.match(wrong.next ?? '', /another value of TOLL_TOKEN/);
  assert.doesNotMatch(JSON.stringify(wrong), /wr0ng/);
});

test('a guarded scrape reads the token from its file, and leaves alone what asks for a certificate', async (t) => {
  const token_file = path.join(scratchFolder(t), 'token');
  writeFileSync(token_file, 's3cret\n', { mode: 0o600 });
  const metrics_url = await serveMetrics(t, ({ headers }) =>
    headers.authorization === 'Bearer s3cret' ? { body: METRICS } : { status: 401, body: '' },
  );
  const findingFor = async (metrics: object) => {
    const config = scratchConfig(t, { metrics });
    await serveSocket(t, config, () => ({ body: JSON.stringify({ ...statusOf(config), metrics_url }) }));
    const finding = await scrapeFinding(config);
    assert.doesNotMatch(JSON.stringify(finding), /s3cret/);
    return finding;
  };
  assert.equal((await findingFor({ token_file })).level, 'ok');
  const gone = await findingFor({ token_file: `${token_file}.none` });
  assert.equal(gone.level, 'problem');
  assert.match(gone.what, /metrics\.token_file names a file that is missing or empty/);
  const files = { cert_file: '/c', key_file: '/k', client_ca_file: '/ca' };
  const certified = await findingFor({ tls: files });
  assert.deepEqual([certified.level, /asks for a client certificate/.test(certified.what)], ['ok', true]);
});

test('a certificate whose signer doctor does not know is told with the way to make it known', async (t) => {
  const at = certificates(scratchFolder(t), ['server']);
  const pair = { cert: readFileSync(at('server.pem')), key: readFileSync(at('server.key')) };
  const server = https.createServer(pair, (_, response) => response.end(METRICS));
  t.after(() => server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const metrics_url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const config = scratchConfig(t);
  await serveSocket(t, config, () => ({ body: JSON.stringify({ ...statusOf(config), metrics_url }) }));
  const finding = await scrapeFinding(config);
  assert.equal(finding.level, 'problem');
  assert.match(finding.next ?? '', /NODE_EXTRA_CA_CERTS/);
});
