// Who may read metrics, as the configuration says it: a bridge, and a real Prometheus that shows what it has.

import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { Bridge } from '../src/bridge.ts';
import { ConfigFailure } from '../src/config.ts';
import { PermanentFailure } from '../src/failure.ts';
import { certificates } from './certificates.ts';
import { scratchConfig } from './commands/bridge-fixture.ts';
import { Prometheus, until } from './prometheus-server.ts';
import { readableLog, temporaryFolder } from './sources/intake-fixture.ts';

const TOKEN = 'tb_CANARYreader';
const EVERYWHERE = '0.0.0.0:0';

function secretFile(t: TestContext, text: string, mode = 0o600): string {
  const file = path.join(temporaryFolder(t), 'secret');
  writeFileSync(file, text);
  chmodSync(file, mode);
  return file;
}

async function bridgeFor(t: TestContext, metrics: object, env: NodeJS.ProcessEnv = {}) {
  const { log, lines } = readableLog();
  const config = scratchConfig(t, { metrics: { listen: EVERYWHERE, ...metrics } });
  const bridge = await Bridge.start({ config, log, env });
  t.after(() => bridge.stop());
  return { target: new URL(bridge.metricsUrl).host.replace('0.0.0.0', '127.0.0.1'), lines };
}

/** What Prometheus thinks of a target once it has asked it. @param ends takes when the certificates end, Unix seconds */
async function upOf(t: TestContext, target: string, job: object, ends: number[] = []): Promise<number> {
  const prometheus = await Prometheus.start({ dir: temporaryFolder(t), targets: [target], scrapeMs: 200, job });
  try {
    let up: number | undefined;
    await until('a scrape', async () => {
      up = (await prometheus.query('up'))[0]?.value;
      return up !== undefined;
    });
    if (up === 1) assert.equal((await prometheus.query('tollbridge_build_info')).length, 1);
    const found = await prometheus.query('tollbridge_certificate_end_timestamp_seconds');
    ends.push(...found.map(({ value }) => value));
    return up!;
  } finally {
    await prometheus.stop();
  }
}

describe('a Prometheus on another machine', () => {
  test('reads with the token, and with no other', async (t) => {
    const { target, lines } = await bridgeFor(t, { token_file: secretFile(t, `${TOKEN}\n`), plaintext: true });
    const showing = (credentials: string) => ({ authorization: { credentials } });
    const ends: number[] = [];
    assert.equal(await upOf(t, target, showing(TOKEN), ends), 1);
    assert.deepEqual(ends, [], 'there is no certificate');
    assert.equal(await upOf(t, target, showing(`${TOKEN}x`)), 0);
    assert.equal(await upOf(t, target, {}), 0);
    assert.doesNotMatch(lines.join(''), /CANARY/);
  });

  test('reads with a certificate of the authority, and with no other', async (t) => {
    const [own, strange] = [certificates(temporaryFolder(t)), certificates(temporaryFolder(t))];
    const tls = { cert_file: own('server.pem'), key_file: own('server.key'), client_ca_file: own('ca.pem') };
    const { target } = await bridgeFor(t, { tls });
    const showing = (of: typeof own) => ({
      ...{ scheme: 'https' },
      tls_config: { ca_file: own('ca.pem'), cert_file: of('client.pem'), key_file: of('client.key') },
    });
    const ends: number[] = [];
    assert.equal(await upOf(t, target, showing(own), ends), 1);
    const days = (ends[0]! - Date.now() / 1000) / 86_400;
    assert.ok(ends.length === 1 && days > 1.9 && days < 2.1, `the certificate ends in ${days} days`);
    assert.equal(await upOf(t, target, showing(strange)), 0);
    assert.equal(await upOf(t, target, { scheme: 'https', tls_config: { ca_file: own('ca.pem') } }), 0);
  });

  test('reads without anything where it is said that everybody may', async (t) => {
    const { target } = await bridgeFor(t, { open: true });
    assert.equal(await upOf(t, target, {}), 1);
  });
});

test('without a word on who may read, nothing starts that other machines reach', (t) => {
  for (const tcp of [undefined, { listen: EVERYWHERE, plaintext: true }]) {
    assert.throws(
      () => scratchConfig(t, { metrics: { listen: EVERYWHERE }, ...(tcp && { tcp }) }),
      (error) =>
        error instanceof ConfigFailure &&
        /metrics\.token_env/.test(error.message) &&
        /tokens/.test(error.message) === Boolean(tcp),
    );
  }
  // Control: the same on this machine's own address.
  scratchConfig(t, { metrics: { listen: '127.0.0.1:0' }, tcp: { listen: '127.0.0.1:0' } });
});

test('a token that is not there, or that others can read, stops the start and is not shown', async (t) => {
  const exposed = secretFile(t, TOKEN, 0o644);
  const empty = secretFile(t, ' \n');
  const mistakes: [object, RegExp][] = [
    [{ token_env: 'NO_TOKEN' }, /^metrics\.token_env names NO_TOKEN, but that variable is empty/],
    [{ token_file: empty }, /^metrics\.token_file names a file that is missing or empty/],
    [{ token_file: `${empty}.none` }, /^metrics\.token_file names a file that is missing or empty/],
    [{ token_file: exposed }, /^metrics\.token_file cannot be used: .*chmod 600/],
  ];
  for (const [metrics, message] of mistakes) {
    await assert.rejects(bridgeFor(t, { ...metrics, plaintext: true }), (error) => {
      assert.ok(error instanceof PermanentFailure);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /CANARY/);
      return true;
    });
  }
});
