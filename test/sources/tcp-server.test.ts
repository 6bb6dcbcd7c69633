// Senders on TCP: who is let in, whose events they bring, and what they are told.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { Bridge } from '../../src/bridge.ts';
import { parseConfig, type TokenConfig } from '../../src/config.ts';
import { PermanentFailure } from '../../src/failure.ts';
import { tokenDigest } from '../../src/listen.ts';
import type { ServerTlsFiles } from '../../src/server-tls.ts';
import { SenderTokens } from '../../src/sources/sender-tokens.ts';
import { TcpServer, type TcpServerOptions } from '../../src/sources/tcp-server.ts';
import { VERSION } from '../../src/version.ts';
import { scratchConfig } from '../commands/bridge-fixture.ts';
import { samplesOf } from '../scrape.ts';
import { type Answered, newIntake, readableLog, temporaryFolder, turnPayload, turnRecord } from './intake-fixture.ts';

const HOOK = '/v1/hook/opencode';
/** Tokens that must be seen nowhere but in requests. */
const CORE = 'tb_CANARYcore';
const WEB = 'tb_CANARYweb';
const sha256 = (token: string) => tokenDigest(token).toString('hex');
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

interface Question {
  readonly method?: string;
  readonly body?: unknown;
  readonly headers?: http.OutgoingHttpHeaders;
  readonly ca?: string;
}

function request(url: string, { method, body, headers = {}, ca }: Question = {}): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const verb = method ?? (body === undefined ? 'GET' : 'POST');
    const options = { method: verb, headers, agent: false as const };
    const answered = (response: http.IncomingMessage) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        resolve({ status: response.statusCode!, headers: response.headers, text, json: JSON.parse(text) });
      });
    };
    const sent = ca ? https.request(url, { ...options, ca }, answered) : http.request(url, options, answered);
    sent.on('error', reject);
    sent.end(typeof body === 'string' ? body : body && JSON.stringify(body));
  });
}

async function startTcp(
  t: TestContext,
  {
    tokens = [],
    env = {},
    tls,
    ...rest
  }: Partial<Omit<TcpServerOptions, 'tokens'>> & {
    tokens?: TokenConfig[];
    env?: NodeJS.ProcessEnv;
    tls?: ServerTlsFiles;
  } = {},
) {
  const parts = newIntake();
  const { log, lines } = readableLog();
  const server = new TcpServer({
    ...parts,
    tcp: { listen: { host: '127.0.0.1', port: 0 }, plaintext: false, rate_limit: 200, ...(tls && { tls }) },
    tokens: new SenderTokens(tokens, { env, perSecond: 200 }),
    status: () => ({ version: '0' }),
    health: () => ({ status: 'ok', daemon_version: '0' }),
    log,
    ...rest,
  });
  await server.start();
  t.after(() => server.stop());
  return { ...parts, server, url: server.url, log: lines };
}

const ownersOf = (events: readonly object[]) =>
  events.map((event) => {
    const { team, user, project } = event as { team?: string; user?: string; project?: string };
    return [team, user, project];
  });

describe('who is let in', () => {
  const tokens = [
    { sha256: sha256(CORE), team: 'core', user: 'ada' },
    { sha256: sha256(WEB), team: 'web' },
  ];

  test('a token says whose events come; without a good one nothing is told or booked', async (t) => {
    const { url, sink, meter, log } = await startTcp(t, { tokens });
    const refused: [string, string, http.OutgoingHttpHeaders, RegExp][] = [
      ['none', HOOK, {}, /^a token is needed: send "Authorization: Bearer …"/],
      ['another scheme', HOOK, { authorization: `Basic ${CORE}` }, /^a token is needed/],
      ['an empty one', HOOK, { authorization: 'Bearer ' }, /^a token is needed/],
      ['an unknown one', HOOK, bearer('tb_CANARYguess'), /^this token is not known here/],
      ['the beginning of one', HOOK, bearer(CORE.slice(0, -1)), /^this token is not known here/],
      ['the hash of one', HOOK, bearer(sha256(CORE)), /^this token is not known here/],
      ['none, for records', '/v1/events', {}, /^a token is needed/],
      ['none, for the status', '/v1/status', {}, /^a token is needed/],
      ['none, for what there is not', '/v1/secrets', {}, /^a token is needed/],
    ];
    for (const [name, to, headers, error] of refused) {
      const body = to === '/v1/status' ? undefined : turnPayload(1);
      const answer = await request(url + to, { headers, body });
      assert.equal(answer.status, 401, name);
      assert.match(String(answer.json.error), error, name);
      assert.equal(answer.headers['www-authenticate'], 'Bearer realm="tollbridge"', name);
      assert.doesNotMatch(answer.text, /CANARY/, name);
    }
    assert.deepEqual(sink.events, []);
    assert.equal(meter.of('tcp')['refused:unauthorized'], refused.length);
    assert.equal(meter.of('tcp').received, 0);

    assert.equal((await request(url + HOOK, { headers: bearer(CORE), body: turnPayload(1) })).status, 200);
    const lowerCase = { authorization: `bearer  ${WEB}` };
    assert.equal((await request(`${url}/v1/events`, { headers: lowerCase, body: turnRecord(2) })).status, 202);
    assert.deepEqual(ownersOf(sink.events), [
      ['core', 'ada', 'work'],
      ['web', undefined, 'work'],
    ]);
    assert.deepEqual((await request(`${url}/v1/status`, { headers: bearer(WEB) })).json, { version: '0' });
    const named = { ...bearer(WEB), host: 'bridge.example.com' };
    assert.equal((await request(`${url}/v1/status`, { headers: named })).status, 200, 'by whatever name it is reached');
    const probe = await request(`${url}/healthz`);
    assert.deepEqual([probe.status, probe.json], [200, { status: 'ok' }], 'the probe is open, and tells nothing else');
    assert.equal(meter.of('tcp')['refused:unauthorized'], refused.length, 'and who is let in is not counted');
    meter.assertConserved('tcp');
    assert.doesNotMatch(log.join('\n'), /CANARY/);
  });

  test('a large body with a wrong token is refused before it is read', async (t) => {
    const { url, meter } = await startTcp(t, { tokens });
    const headers = { ...bearer('wrong'), 'content-length': 1024 ** 3, expect: '100-continue' };
    const answer = await request(url + HOOK, { method: 'POST', headers });
    assert.equal(answer.status, 401);
    assert.equal(meter.of('tcp').received, 0);
  });

  test('without tokens programs of this machine are answered, and web pages are not', async (t) => {
    const { url, sink, meter } = await startTcp(t);
    assert.equal((await request(`${url}/healthz`)).json.daemon_version, '0', 'who is let in may know');
    const pages = [{ origin: 'http://evil.example' }, { origin: 'null' }, { host: 'evil.example:9465' }];
    for (const headers of pages) {
      const answer = await request(url + HOOK, { headers, body: turnPayload(1) });
      assert.equal(answer.status, 403);
      assert.match(String(answer.json.error), /web page .* ask as 127\.0\.0\.1/);
    }
    assert.equal(meter.of('tcp')['refused:unauthorized'], pages.length);
    assert.equal((await request(url + HOOK, { headers: { host: 'localhost' }, body: turnPayload(1) })).status, 200);
    assert.deepEqual(ownersOf(sink.events), [[undefined, undefined, 'work']]);
    assert.equal((await request(`${url}/v1/status`)).status, 200);
  });

  test('tokens are read from variables and files; one that is not there, or twice, stops the start', async (t) => {
    const file = path.join(temporaryFolder(t), 'token');
    writeFileSync(file, `${WEB}\n`, { mode: 0o600 });
    const env = { CORE_TOKEN: CORE };
    const { url } = await startTcp(t, { env, tokens: [{ token_env: 'CORE_TOKEN' }, { token_file: file }] });
    for (const token of [CORE, WEB]) {
      assert.equal((await request(`${url}/v1/status`, { headers: bearer(token) })).status, 200);
    }
    const exposed = path.join(temporaryFolder(t), 'exposed');
    writeFileSync(exposed, CORE, { mode: 0o644 });
    const mistakes: [TokenConfig[], RegExp][] = [
      [[{ token_env: 'NO_TOKEN' }], /^tokens\[0\] leads to NO_TOKEN, but .* set NO_TOKEN in the environment/],
      [
        [{ token_file: `${file}.not` }],
        /^tokens\[0\] leads to token_file, but .* put it into the token_file of tokens/,
      ],
      [[{ token_file: exposed }], /^tokens\[0\] leads to token_file, .* close it with chmod 600/],
      [[{ token_env: 'CORE_TOKEN' }, { sha256: sha256(CORE) }], /^tokens\[1\] is the same token as tokens\[0\]/],
    ];
    for (const [tokens, message] of mistakes) {
      assert.throws(
        () => new SenderTokens(tokens, { env, perSecond: 200 }),
        (error) => error instanceof PermanentFailure && message.test(error.message) && !/CANARY/.test(error.message),
        String(message),
      );
    }
  });
});

describe('a rate limit', () => {
  const [slow, other] = [
    { sha256: sha256(CORE), team: 'core', rate_limit: 1 },
    { sha256: sha256(WEB), team: 'web' },
  ];

  test('beyond it nothing is read or booked, what was turned away can be sent again, and other tokens go on', async (t) => {
    const { url, sink, meter } = await startTcp(t, { tokens: [slow, other] });
    const send = (n: number) => request(url + HOOK, { headers: bearer(CORE), body: turnPayload(n) });
    let [taken, next] = [0, await send(0)];
    while (next.status === 200 && taken < 100) next = await send(++taken);
    assert.ok(taken >= 10 && taken < 100, `ten seconds' worth: ${taken}`);
    assert.deepEqual([next.status, next.headers['retry-after']], [429, '1']);
    assert.match(String(next.json.error), /rate_limit.*nothing was booked, send it again/);
    assert.equal(sink.events.length, taken);
    assert.equal((await request(`${url}/v1/status`, { headers: bearer(WEB) })).status, 200);
    assert.equal((await request(`${url}/healthz`)).status, 200, 'probes are not counted');

    let refused = 1;
    while ((await send(taken)).status === 429) {
      refused += 1;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    assert.equal(sink.events.length, taken + 1, 'sent again, it is booked once');
    assert.equal((await request(url + HOOK, { headers: bearer(WEB), body: turnPayload(taken) })).status, 200);
    assert.equal(meter.of('tcp')['refused:rate_limit'], refused);
    assert.equal(meter.of('tcp')['refused:unauthorized'], undefined);
    meter.assertConserved('tcp');
  });

  test('where no token is needed, all who send share one', async (t) => {
    const tcp = { listen: { host: '127.0.0.1', port: 0 }, plaintext: false, rate_limit: 1 };
    const { url } = await startTcp(t, { tcp });
    const answers = await Promise.all(Array.from({ length: 20 }, () => request(`${url}/v1/status`)));
    const admitted = answers.filter(({ status }) => status === 200).length;
    assert.ok(admitted >= 10 && admitted < 20, String(admitted));
    for (const { status } of answers) assert.ok(status === 200 || status === 429, String(status));
  });
});

describe('TLS', () => {
  function certificate(t: TestContext) {
    const dir = temporaryFolder(t);
    const [cert_file, key_file] = [path.join(dir, 'cert.pem'), path.join(dir, 'key.pem')];
    const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
    const named = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
    execFileSync('openssl', [...made, ...named, '-keyout', key_file, '-out', cert_file], { stdio: 'pipe' });
    return { dir, tls: { cert_file, key_file }, ca: readFileSync(cert_file, 'utf8') };
  }

  test('senders that trust the certificate are served; clear text is not', async (t) => {
    const { tls, ca } = certificate(t);
    const { url, sink, server } = await startTcp(t, { tls, tokens: [{ sha256: sha256(CORE), team: 'core' }] });
    assert.match(url, /^https:/);
    assert.equal((await request(url + HOOK, { ca, headers: bearer(CORE), body: turnPayload(1) })).status, 200);
    assert.equal((await request(url + HOOK, { ca, body: turnPayload(2) })).status, 401);
    await assert.rejects(request(url.replace('https', 'http') + HOOK, { headers: bearer(CORE), body: turnPayload(3) }));
    assert.equal(sink.events.length, 1);
    await Promise.all([server.stop(), server.stop()]);
    await assert.rejects(request(`${url}/healthz`, { ca }), /ECONNREFUSED/);
  });

  test('a certificate that cannot be used stops the start and says which file', async (t) => {
    const { dir, tls } = certificate(t);
    const other = certificate(t).tls;
    const noPem = path.join(dir, 'notes.txt');
    writeFileSync(noPem, 'CANARY');
    const mistakes: [typeof tls, RegExp][] = [
      [{ ...tls, cert_file: `${dir}/none` }, /^tcp\.tls\.cert_file cannot be read \(ENOENT\)/],
      [{ ...tls, key_file: dir }, /^tcp\.tls\.key_file cannot be read \(EISDIR\)/],
      [{ ...tls, cert_file: noPem }, /^tcp\.tls cannot be used/],
      [{ ...tls, key_file: other.key_file }, /^tcp\.tls cannot be used/],
    ];
    for (const [pair, message] of mistakes) {
      await assert.rejects(
        startTcp(t, { tls: pair }),
        (error) => error instanceof PermanentFailure && message.test(error.message) && !/CANARY/.test(error.message),
        String(message),
      );
    }
  });
});

describe('POST /v1/verdict', () => {
  test('a question is asked with the name of its token, and nothing is booked', async (t) => {
    const asked: unknown[] = [];
    const { url, meter, sink } = await startTcp(t, {
      tokens: [{ sha256: sha256(CORE), team: 'core', project: 'shop' }],
      limits: { maxBodyBytes: 1000, backlogMarkEvents: 10 },
      verdict: (question, identity) => {
        asked.push([question, identity]);
        return { status: 200, body: { decision: 'allow', ttl_s: 10 } };
      },
    });
    const ask = (body: unknown) => request(`${url}/v1/verdict`, { headers: bearer(CORE), body });
    sink.backlogEvents = 11;
    const question = { agent: 'opencode', provider: 'anthropic', model: 'claude-sonnet-4-5' };
    assert.deepEqual((await ask(question)).json, { decision: 'allow', ttl_s: 10 }, 'also while much is to be booked');
    assert.deepEqual(asked, [[question, { team: 'core', project: 'shop' }]]);
    for (const body of ['', '[]', 'null', '"a"', '{"agent"']) {
      const { status, json } = await ask(body);
      assert.deepEqual([status, /no JSON object/.test(String(json.error))], [400, true], body);
    }
    assert.equal((await ask({ agent: 'x'.repeat(1000) })).status, 413);
    assert.equal((await request(`${url}/v1/verdict`, { body: question })).status, 401);
    assert.equal((await request(`${url}/v1/verdict`, { headers: bearer(CORE) })).status, 405);
    assert.equal(asked.length, 1);
    assert.equal(meter.of('tcp').received, 0);
    const { json } = await request(`${url}/v1/none`, { headers: bearer(CORE) });
    assert.match(String(json.error), /POST \/v1\/verdict, POST \/v1\/events/);
  });

  test('there is no such route where nobody answers it', async (t) => {
    const { url } = await startTcp(t);
    const { status, json } = await request(`${url}/v1/verdict`, { body: {} });
    assert.equal(status, 404);
    assert.doesNotMatch(String(json.error), /verdict/);
  });
});

test('a bridge believes the token and not the payload: whose turn it is, and which project', async (t) => {
  const tokens = [
    { sha256: sha256(CORE), team: 'core', user: 'ada' },
    { token_env: 'WEB_TOKEN', team: 'web', project: 'shop' },
  ];
  const settings = { metrics: { listen: '127.0.0.1:0' }, tcp: { listen: '127.0.0.1:0' }, tokens };
  const { log, lines } = readableLog();
  const bridge = await Bridge.start({ config: scratchConfig(t, settings), log, env: { WEB_TOKEN: WEB } });
  t.after(() => bridge.stop());
  const url = /^ {2}tcp {7}(http:\S+)$/m.exec(bridge.banner().join('\n'))?.[1];
  assert.ok(url, 'the banner says where it listens');
  const turn = (id: string, claims: object) => ({
    ...{ v: 1, kind: 'turn', agent: 'opencode', provider: 'anthropic', model: 'claude-sonnet-4-5', status: 'ok' },
    ...{ id: { session: `s-${id}`, message: `m-${id}` }, time: { started: Date.now() - 9, completed: Date.now() } },
    ...{ tokens: { input: 1, output: 1 }, cost_usd: 0.5, ...claims },
  });
  const post = async (token: string, body: unknown) => {
    const answer = await request(`${url}/v1/events`, { headers: bearer(token), body });
    assert.equal(answer.status, 202, answer.text);
  };
  await post(CORE, turn('1', { team: 'CANARYrich', user: 'CANARYeve', project: 'own' }));
  await post(CORE, turn('2', { team: 'core', project: 'own' }));
  await post(WEB, turn('3', { project: 'elsewhere' }));
  await post(WEB, turn('4', { user: 'zoe' }));
  // A turn of the other team, whose id is known.
  await post(WEB, turn('1', { cost_usd: 100, tokens: { input: 1e6, output: 1 } }));

  const text = await (await fetch(`${bridge.metricsUrl}/metrics`)).text();
  const booked = samplesOf(text).filter(({ name }) => name === 'toll_cost_usd_total');
  const byOwner = Object.groupBy(booked, ({ labels }) => `${labels.team}/${labels.user}/${labels.project}`);
  const sums = Object.entries(byOwner).map(([owner, rows]) => [
    owner,
    rows!.reduce((sum, { value }) => sum + value, 0),
  ]);
  assert.deepEqual(sums.sort(), [
    ['core/ada/own', 1],
    ['web/undefined/shop', 1],
  ]);
  assert.match(text, /^tollbridge_identity_mismatch_total\{source="tcp"\} 2$/m);
  assert.match(text, /^tollbridge_source_up\{source="tcp"\} 1$/m);
  assert.match(text, /^tollbridge_requests_refused_total\{source="tcp",reason="unauthorized"\} 0$/m);
  await request(`${url}/v1/events`, { headers: bearer('tb_CANARYguess'), body: turn('5', {}) });
  const after = await (await fetch(`${bridge.metricsUrl}/metrics`)).text();
  assert.match(after, /^tollbridge_requests_refused_total\{source="tcp",reason="unauthorized"\} 1$/m);
  const status = await request(`${url}/v1/status`, { headers: bearer(CORE) });
  assert.deepEqual(
    status.json,
    { version: VERSION, ready: true, team: 'core', user: 'ada' },
    'whose token it is, and not what others spent or what accounts hold',
  );
  for (const route of ['/v1/report?by=team', '/v1/explain']) {
    const body =
      route === '/v1/explain' ? { agent: 'opencode', provider: 'openai', model: 'gpt-5', team: 'web' } : undefined;
    assert.equal(
      (await request(url + route, { headers: bearer(CORE), body })).status,
      404,
      'these the socket alone tells',
    );
  }
  assert.doesNotMatch(after + status.text + lines.join('\n'), /CANARY|elsewhere/);
});

test('the configuration leads to tokens: what it takes is what the server knows', () => {
  const { tokens } = parseConfig({ tokens: [{ sha256: sha256(CORE).toUpperCase(), user: 'ada' }] });
  assert.deepEqual(new SenderTokens(tokens, { env: {}, perSecond: 200 }).identify(`Bearer ${CORE}`), { user: 'ada' });
});
