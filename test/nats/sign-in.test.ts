// Who is let in, and what those are told who are not: every way to sign in, against a real server.

import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { nkeys } from 'nats';
import { NatsLink } from '../../src/nats/connection.ts';
import { certificates } from '../certificates.ts';
import { freePort } from '../prometheus-server.ts';
import { readableLog, temporaryFolder, until } from '../sources/intake-fixture.ts';
import { NatsServer, natsConfig } from './nats-server.ts';

const SECRET = 'hunter2-canary';

function secretFile(dir: string, name: string, text: string, mode = 0o600): string {
  const file = path.join(dir, name);
  writeFileSync(file, `${text}\n`);
  chmodSync(file, mode);
  return file;
}

async function link(t: TestContext, settings: object, env: NodeJS.ProcessEnv = {}) {
  const { log, lines } = readableLog();
  const opened = new NatsLink({ config: natsConfig(settings), env, log, name: 'test' });
  t.after(() => opened.stop());
  await opened.start();
  return { opened, lines };
}

async function serve(t: TestContext, conf: string, more: { dir?: string; port?: number } = {}) {
  const dir = more.dir ?? temporaryFolder(t);
  const server = await NatsServer.start({ dir, conf, ...(more.port && { port: more.port }) });
  t.after(() => server.kill());
  return { dir, server };
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const USER = `authorization: { user: ana, password: "${SECRET}" }`;

test('a password from the environment or a file, a token from either, and an nkey', async (t) => {
  const user = nkeys.createUser();
  const seed = text(user.getSeed());
  const nkey = `authorization: { users: [ { nkey: ${user.getPublicKey()} } ] }`;
  const token = `authorization: { token: "${SECRET}" }`;
  const dir = temporaryFolder(t);
  const file = secretFile(dir, 'secret', SECRET);
  const ways: [string, object, NodeJS.ProcessEnv][] = [
    [USER, { user: 'ana', password_env: 'P' }, { P: SECRET }],
    [USER, { user: 'ana', password_file: file }, {}],
    [token, { token_env: 'T' }, { T: SECRET }],
    [token, { token_file: file }, {}],
    [nkey, { nkey_file: secretFile(dir, 'seed', seed) }, {}],
  ];
  for (const [conf, way, env] of ways) {
    const { server } = await serve(t, conf);
    const { opened, lines } = await link(t, { servers: [server.url], ...way }, env);
    assert.equal(opened.problem(), undefined, JSON.stringify(way));
    assert.ok(opened.current);
    assert.doesNotMatch(lines.join(), new RegExp(`${SECRET}|${seed}`));
  }
});

/** A JWT as nsc makes it, signed with an nkey. */
function jwt(issuer: ReturnType<typeof nkeys.createUser>, claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = { iat: Math.floor(Date.now() / 1000), iss: issuer.getPublicKey(), ...claims };
  const head = `${part({ typ: 'JWT', alg: 'ed25519-nkey' })}.${part({ jti: 'A'.repeat(52), ...body })}`;
  return `${head}.${Buffer.from(issuer.sign(new TextEncoder().encode(head))).toString('base64url')}`;
}

test('a .creds file, in a server that trusts an operator', async (t) => {
  const [operator, account, user] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createUser()];
  const operatorJwt = jwt(operator, {
    ...{ sub: operator.getPublicKey(), name: 'op', nats: { type: 'operator', version: 2 } },
  });
  const limits = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, conn: -1, leaf: -1, wildcards: true };
  const accountJwt = jwt(operator, {
    ...{ sub: account.getPublicKey(), name: 'acme', nats: { type: 'account', version: 2, limits } },
  });
  const userJwt = jwt(account, {
    ...{ sub: user.getPublicKey(), name: 'ana' },
    nats: { type: 'user', version: 2, pub: {}, sub: {}, subs: -1, data: -1, payload: -1 },
  });
  const conf = [
    `operator: ${operatorJwt}`,
    'resolver: MEMORY',
    `resolver_preload: { ${account.getPublicKey()}: ${accountJwt} }`,
  ].join('\n');
  const dir = temporaryFolder(t);
  const server = await NatsServer.start({ dir, conf, jetstream: false });
  t.after(() => server.kill());
  const creds = [
    ...['-----BEGIN NATS USER JWT-----', userJwt, '------END NATS USER JWT------', ''],
    ...['-----BEGIN USER NKEY SEED-----', text(user.getSeed()), '------END USER NKEY SEED------'],
  ].join('\n');
  const { opened } = await link(t, { servers: [server.url], credentials_file: secretFile(dir, 'ana.creds', creds) });
  assert.equal(opened.problem(), undefined);
  const { opened: blank } = await link(t, {
    ...{ servers: [server.url], credentials_file: secretFile(dir, 'blank.creds', 'CANARY') },
  });
  assert.match(blank.problem() ?? '', /nats\.credentials_file holds no credential of that kind/);
  const stranger = nkeys.createUser();
  const forged = creds.replace(text(user.getSeed()), text(stranger.getSeed()));
  const { opened: refused } = await link(t, {
    ...{ servers: [server.url], credentials_file: secretFile(dir, 'forged.creds', forged) },
  });
  assert.match(refused.problem() ?? '', /refuses these credentials;.*Correct nats\.credentials_file/);
});

test('a wrong password: who is refused, and never the password; an exchanged one works without a restart', async (t) => {
  const { dir, server } = await serve(t, USER);
  const file = secretFile(dir, 'secret', 'wrong-canary');
  const { opened, lines } = await link(t, { servers: [server.url], user: 'ana', password_file: file });
  assert.match(opened.problem() ?? '', /refuses the user "ana" with this password.*nats setup --print/);
  assert.equal(opened.current, undefined);
  assert.doesNotMatch(lines.join() + opened.problem(), /canary/);
  secretFile(dir, 'secret', SECRET);
  await until(() => opened.current !== undefined, 'the right password');
  assert.equal(opened.problem(), undefined);
});

test('nobody, where somebody is asked for; a credential that is missing, exposed or blank', async (t) => {
  const { dir, server } = await serve(t, USER);
  const cases: [object, RegExp][] = [
    [{}, /refuses a client without credentials;.*nats\.user with a password/],
    [
      { user: 'ana', password_file: path.join(dir, 'none') },
      /no NATS credential: put it into the password_file of nats/,
    ],
    [{ user: 'ana', password_file: secretFile(dir, 'open', SECRET, 0o644) }, /chmod 600/],
    [{ user: 'ana', password_env: 'NOT_SET' }, /no NATS credential: set NOT_SET/],
    [{ token_env: 'T' }, /refuses this token/],
    [{ nkey_file: secretFile(dir, 'no-seed', 'SUNOSEED') }, /refuses|nats\.nkey_file holds no credential of that kind/],
  ];
  for (const [way, problem] of cases) {
    const { opened, lines } = await link(t, { servers: [server.url], ...way }, { T: 'wrong' });
    assert.match(opened.problem() ?? '', problem);
    assert.doesNotMatch(lines.join(), new RegExp(SECRET));
    await opened.stop();
  }
});

test('TLS, and TLS both ways; a certificate that nobody trusts, and a client without one', async (t) => {
  const dir = temporaryFolder(t);
  const at = certificates(dir);
  const tls = (verify: string) =>
    `tls { cert_file: "${at('server.pem')}", key_file: "${at('server.key')}", ca_file: "${at('ca.pem')}"${verify} }`;
  const { server: plain } = await serve(t, tls(''));
  const { server: mutual } = await serve(t, tls(', verify: true'));
  const url = (server: NatsServer) => server.url.replace('nats:', 'tls:');
  const ca_file = at('ca.pem');
  const own = { ca_file, cert_file: at('client.pem'), key_file: at('client.key') };
  const well = await link(t, { servers: [url(plain)], tls: { ca_file } });
  assert.equal(well.opened.problem(), undefined);
  const both = await link(t, { servers: [url(mutual)], tls: own });
  assert.equal(both.opened.problem(), undefined);
  const untrusted = await link(t, { servers: [url(plain)] });
  assert.match(untrusted.opened.problem() ?? '', /cannot agree on TLS.*nats\.tls\.ca_file/);
  const bare = await link(t, { servers: [url(mutual)], tls: { ca_file } });
  await until(() => /asks for a certificate.*cert_file and key_file/.test(bare.opened.problem() ?? ''), 'the reason');
  const missing = await link(t, { servers: [url(plain)], tls: { ca_file: at('none.pem') } });
  assert.match(missing.opened.problem() ?? '', /nats\.tls\.ca_file cannot be read \(ENOENT\)/);
});

test('no server: a start does not wait for one, and finds it when it comes', async (t) => {
  const port = await freePort();
  const beforeMs = performance.now();
  const { opened } = await link(t, { servers: [`nats://127.0.0.1:${port}`] });
  assert.ok(performance.now() - beforeMs < 10_000);
  assert.match(
    opened.problem() ?? '',
    /no NATS server answers at nats:\/\/127\.0\.0\.1:\d+ \(ECONNREFUSED\).*nats-server -js/,
  );
  await serve(t, '', { port });
  await until(() => opened.current !== undefined, 'the connection');
});

test('of several servers one that answers is enough; a lost one is found again, and both are told', async (t) => {
  const dead = await freePort();
  const { server } = await serve(t, '');
  const { opened, lines } = await link(t, { servers: [`nats://127.0.0.1:${dead}`, server.url] });
  assert.equal(opened.problem(), undefined);
  const changes: boolean[] = [];
  opened.onChange(() => changes.push(opened.current !== undefined));
  await server.kill();
  await until(() => opened.current === undefined, 'the loss');
  assert.match(opened.problem() ?? '', /the connection to NATS \(.*\) is lost; it is tried again/);
  await server.restart();
  await until(() => opened.current !== undefined, 'the return');
  assert.deepEqual([changes.at(0), changes.at(-1)], [false, true]);
  assert.match(lines.join('\n'), /is lost[\s\S]*connected to NATS/);
  await opened.stop();
  await opened.stop();
});

test('a server that is about to be shut down is left for another of its cluster', async (t) => {
  const routes = [await freePort(), await freePort()];
  const conf = (index: number) =>
    `cluster { name: c, listen: 127.0.0.1:${routes[index]}, routes: [ ${routes.map((port) => `nats://127.0.0.1:${port}`).join(', ')} ] }\nlame_duck_duration: 30s\nlame_duck_grace_period: 1s`;
  const dir = temporaryFolder(t);
  const servers = await Promise.all(
    routes.map((_, index) => NatsServer.start({ dir, name: `s${index}`, jetstream: false, conf: conf(index) })),
  );
  t.after(async () => {
    for (const server of servers) await server.kill();
  });
  const { opened, lines } = await link(t, { servers: servers.map(({ url }) => url) });
  const at = () => Number(opened.current?.getServer().split(':').at(-1));
  const first = servers.findIndex(({ port }) => port === at());
  servers[first]!.signal('SIGUSR2');
  await until(() => at() === servers[1 - first]!.port, 'the other server');
  assert.match(lines.join('\n'), /about to be shut down/);
});
