// TLS of both listeners, with real certificates: who is let in, and what becomes of files that are renewed.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import { connect } from 'node:tls';
import { PermanentFailure } from '../src/failure.ts';
import { tokenDigest } from '../src/listen.ts';
import { AdminServer } from '../src/metrics/admin-server.ts';
import type { ServerTlsFiles } from '../src/server-tls.ts';
import { SenderTokens } from '../src/sources/sender-tokens.ts';
import { TcpServer } from '../src/sources/tcp-server.ts';
import { certificates } from './certificates.ts';
import { newIntake, readableLog, temporaryFolder, until } from './sources/intake-fixture.ts';

const TOKEN = 'tb_CANARYtoken';
const LOOK_EVERY_MS = 20;

interface Started {
  readonly url: string;
  readonly lines: string[];
  /** What its status tells. */
  readonly problem?: () => string | undefined;
}

interface Listener {
  readonly name: string;
  /** A route that needs a credential, and one that does not. */
  readonly guarded: string;
  readonly open: string;
  start(t: TestContext, tls: ServerTlsFiles, token?: string): Promise<Started>;
}

const LISTENERS: readonly Listener[] = [
  {
    name: 'metrics.tls',
    guarded: '/metrics',
    open: '/-/healthy',
    async start(t, tls, token) {
      const { log, lines } = readableLog();
      const server = new AdminServer({
        ...{ listen: { host: '127.0.0.1', port: 0 }, tls, token, lookEveryMs: LOOK_EVERY_MS, log },
        ...{
          collect: async () => [Buffer.from('up 1\n')],
          isRestored: () => true,
          ready: () => [],
          page: () => '<!doctype html>',
        },
      });
      t.after(() => server.stop());
      return { url: (await server.start()).url, lines };
    },
  },
  {
    name: 'tcp.tls',
    guarded: '/v1/status',
    open: '/healthz',
    async start(t, tls, token) {
      const { log, lines } = readableLog();
      const tokens = token ? [{ sha256: tokenDigest(token).toString('hex') }] : [];
      const server = new TcpServer({
        ...newIntake(),
        tcp: { listen: { host: '127.0.0.1', port: 0 }, plaintext: false, rate_limit: 200, tls },
        tokens: new SenderTokens(tokens, { env: {}, perSecond: 200 }),
        ...{ status: () => ({ version: '0' }), health: () => ({ status: 'ok' }), log, lookEveryMs: LOOK_EVERY_MS },
      });
      t.after(() => server.stop());
      await server.start();
      return { url: server.url, lines, problem: () => server.problem() };
    },
  },
];

interface Shown {
  readonly ca: string;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly token?: string;
  readonly session?: Buffer;
  readonly maxVersion?: 'TLSv1.2' | 'TLSv1.3';
}

/** A request over a connection of its own: what is answered, and by whom. */
async function get(url: string, { token, ...tls }: Shown) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const request = https.get(url, { ...tls, headers, agent: false });
  const [response] = await once(request, 'response');
  const socket = response.socket as TLSSocket;
  const [serial, isResumed] = [socket.getPeerCertificate().serialNumber, socket.isSessionReused()];
  response.resume();
  await once(response, 'end');
  return { status: response.statusCode as number, serial, isResumed };
}

/** The session of one request, to be resumed. */
async function sessionOf(t: TestContext, url: string, tls: Shown): Promise<Buffer> {
  const { port, pathname } = new URL(url);
  const socket = connect({ ...tls, host: '127.0.0.1', port: Number(port) });
  t.after(() => socket.destroy());
  const sessions: Buffer[] = [];
  socket.on('session', (session) => sessions.push(session));
  await once(socket, 'secureConnect');
  socket.write(`GET ${pathname} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n`);
  socket.resume();
  await once(socket, 'close');
  return sessions.at(-1)!;
}

for (const { name, guarded, open, start } of LISTENERS) {
  describe(name, () => {
    test('a client certificate of the named authority lets in; another, none or a borrowed session does not', async (t) => {
      const [own, strange] = [certificates(temporaryFolder(t)), certificates(temporaryFolder(t))];
      const files = { cert_file: own('server.pem'), key_file: own('server.key') };
      const ca = readFileSync(own('ca.pem'), 'utf8');
      const shown = (of: typeof own) => ({
        ca,
        cert: readFileSync(of('client.pem')),
        key: readFileSync(of('client.key')),
      });
      const { url } = await start(t, { ...files, client_ca_file: own('ca.pem') });
      assert.equal((await get(url + guarded, shown(own))).status, 200);
      assert.equal((await get(url + guarded, { ca })).status, 401);
      assert.equal((await get(url + guarded, shown(strange))).status, 401);
      assert.equal((await get(url + open, { ca })).status, 200, 'the probe is open');

      // A resumed session has no new handshake in which a certificate could be missed.
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        const session = await sessionOf(t, url + open, { ca, maxVersion });
        const { status, isResumed } = await get(url + guarded, { ca, maxVersion, session });
        assert.deepEqual([status, isResumed], [401, true], maxVersion);
        const certified = await sessionOf(t, url + open, { ...shown(own), maxVersion });
        assert.equal((await get(url + guarded, { ca, maxVersion, session: certified })).status, 200, 'control');
      }
      // Control: where no certificate is asked for, nobody needs one.
      const { url: public_ } = await start(t, files);
      assert.equal((await get(public_ + guarded, { ca })).status, 200);
    });

    test('where a token is asked for too, both are needed', async (t) => {
      const at = certificates(temporaryFolder(t));
      const ca = readFileSync(at('ca.pem'), 'utf8');
      const pair = { cert: readFileSync(at('client.pem')), key: readFileSync(at('client.key')) };
      const tls = { cert_file: at('server.pem'), key_file: at('server.key'), client_ca_file: at('ca.pem') };
      const { url, lines } = await start(t, tls, TOKEN);
      assert.equal((await get(url + guarded, { ca, ...pair })).status, 401);
      assert.equal((await get(url + guarded, { ca, token: TOKEN })).status, 401);
      assert.equal((await get(url + guarded, { ca, ...pair, token: `${TOKEN}x` })).status, 401);
      assert.equal((await get(url + guarded, { ca, ...pair, token: TOKEN })).status, 200);
      assert.doesNotMatch(lines.join(''), /CANARY/);
    });

    test('a renewed certificate serves new connections; a broken one keeps the old one and says so', async (t) => {
      const dir = temporaryFolder(t);
      const at = certificates(dir, ['server', 'renewed']);
      const ca = readFileSync(at('ca.pem'), 'utf8');
      const [cert_file, key_file] = [path.join(dir, 'served.pem'), path.join(dir, 'served.key')];
      const put = (which: string) => {
        copyFileSync(at(`${which}.key`), key_file);
        copyFileSync(at(`${which}.pem`), cert_file);
      };
      put('server');
      const { url, lines, problem } = await start(t, { cert_file, key_file });
      const { serial: first } = await get(url + open, { ca });

      writeFileSync(cert_file, '-----BEGIN CERTIFICATE-----\nCANARY\n');
      await until(() => /still served: cert_file holds no certificate/.test(lines.join('')), 'word of the broken file');
      assert.equal((await get(url + open, { ca })).serial, first);
      copyFileSync(at('renewed.pem'), cert_file);
      await until(() => /still served: .*key values mismatch/.test(lines.join('')), 'word of the pair that is none');
      assert.equal((await get(url + open, { ca })).serial, first);
      await delay(5 * LOOK_EVERY_MS);
      assert.equal(lines.length, 2, 'each trouble is told once');
      if (problem) assert.match(problem() ?? '', /key values mismatch/);

      put('renewed');
      await until(() => /renewed files are served/.test(lines.join('')), 'the renewed certificate');
      const { serial: second } = await get(url + open, { ca });
      assert.notEqual(second, first);
      assert.equal(problem?.(), undefined);
      assert.doesNotMatch(lines.join(''), /CANARY/);
    });

    test('an authority that is renewed lets in those whom it signed, and no longer the others', async (t) => {
      const dir = temporaryFolder(t);
      const [old, next] = [certificates(temporaryFolder(t)), certificates(temporaryFolder(t))];
      const client_ca_file = path.join(dir, 'clients.pem');
      copyFileSync(old('ca.pem'), client_ca_file);
      const { url } = await start(t, { cert_file: old('server.pem'), key_file: old('server.key'), client_ca_file });
      const ca = readFileSync(old('ca.pem'), 'utf8');
      const shown = (of: typeof old) => ({
        ca,
        cert: readFileSync(of('client.pem')),
        key: readFileSync(of('client.key')),
      });
      const statuses = async () => [
        (await get(url + guarded, shown(old))).status,
        (await get(url + guarded, shown(next))).status,
      ];
      assert.deepEqual(await statuses(), [200, 401]);
      const session = await sessionOf(t, url + open, shown(old));
      copyFileSync(next('ca.pem'), client_ca_file);
      for (let tries = 0; tries < 200 && (await statuses())[1] !== 200; tries++) await delay(LOOK_EVERY_MS);
      assert.deepEqual(await statuses(), [401, 200]);
      assert.equal((await get(url + guarded, { ca, session })).status, 401, 'nor by a session of before');
    });

    test('files that cannot be used stop the start, and the message names the key', async (t) => {
      const dir = temporaryFolder(t);
      const at = certificates(dir, ['server', 'other']);
      const notes = path.join(dir, 'notes');
      writeFileSync(notes, 'CANARY');
      const files = { cert_file: at('server.pem'), key_file: at('server.key') };
      const mistakes: [ServerTlsFiles, RegExp][] = [
        [{ ...files, client_ca_file: at('none') }, /client_ca_file cannot be read \(ENOENT\)/],
        [{ ...files, client_ca_file: notes }, /cannot be used, .*client_ca_file holds no certificate/],
        [{ ...files, cert_file: notes }, /cannot be used, .*cert_file holds no certificate/],
        [{ ...files, key_file: at('other.key') }, /cannot be used, .*key values mismatch/],
      ];
      for (const [tls, message] of mistakes) {
        await assert.rejects(start(t, tls), (error) => {
          assert.ok(error instanceof PermanentFailure);
          assert.match(error.message, message);
          assert.ok(error.message.startsWith(name), error.message);
          assert.doesNotMatch(error.message, /CANARY/);
          return true;
        });
      }
    });
  });
}
