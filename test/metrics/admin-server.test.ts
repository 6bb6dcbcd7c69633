import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { PermanentFailure } from '../../src/failure.ts';
import { createLog } from '../../src/log.ts';
import { AdminServer, type AdminServerOptions } from '../../src/metrics/admin-server.ts';
import { freePort } from '../prometheus-server.ts';

const TEXT = '# HELP up Naïve.\n# TYPE up gauge\nup 1\n';
const TOKEN = 'EXAMPLE-token-0123456789';

/** A server on a free port, what it logged, and a way to ask it. */
async function serve(t: TestContext, options: Partial<AdminServerOptions> = {}) {
  const logged: string[] = [];
  const server = new AdminServer({
    listen: { host: '127.0.0.1', port: 0 },
    collect: async () => [Buffer.from(TEXT)],
    isRestored: () => true,
    ready: () => [],
    page: () => '<!doctype html><title>page</title>',
    log: createLog('info', { write: (line) => void logged.push(line) }),
    ...options,
  });
  t.after(() => server.stop());
  const { url } = await server.start();
  return { server, url, logged, get: (path: string, init: Ask = {}) => ask(url + path, init) };
}

interface Ask {
  method?: string;
  headers?: Record<string, string>;
}

/** Node's own client: unlike fetch it neither asks for gzip nor undoes it, and it closes its connection. */
async function ask(url: string, { method = 'GET', headers = {} }: Ask) {
  const request = httpRequest(url, { method, headers, agent: false });
  request.end();
  const [response] = await once(request, 'response');
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  return { status: response.statusCode as number, headers: response.headers, body, text: body.toString() };
}

describe('/metrics', () => {
  it('answers in the text format 0.0.4, in UTF-8', async (t) => {
    const { get } = await serve(t);
    const { status, headers, text } = await get('/metrics?x=1');
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
    assert.equal(headers['content-length'], String(Buffer.byteLength(TEXT)));
    assert.equal(text, TEXT);
  });

  it('answers HEAD with the headers alone', async (t) => {
    const { get } = await serve(t);
    const { status, headers, body } = await get('/metrics', { method: 'HEAD' });
    assert.equal(status, 200);
    assert.equal(headers['content-length'], String(Buffer.byteLength(TEXT)));
    assert.equal(body.length, 0);
  });

  for (const [accepted, isZipped] of [
    ['gzip', true],
    ['deflate, GZIP;q=0.5', true],
    ['gzip;q=0', false],
    ['identity', false],
    ['xgzip', false],
  ] as const) {
    it(`is ${isZipped ? '' : 'not '}compressed for "${accepted}"`, async (t) => {
      const { get } = await serve(t);
      const { headers, body } = await get('/metrics', { headers: { 'accept-encoding': accepted } });
      assert.equal(headers['content-encoding'], isZipped ? 'gzip' : undefined);
      assert.equal((isZipped ? gunzipSync(body) : body).toString(), TEXT);
      assert.equal(headers.vary, 'accept-encoding');
    });
  }

  it('is 503, as the page is, until the totals are restored; a trouble of then or later ends no series', async (t) => {
    let isRestored = false;
    let built = 0;
    const build = () => {
      built += 1;
      return TEXT;
    };
    const { get } = await serve(t, {
      isRestored: () => isRestored,
      ready: () => ['the disk is full'],
      collect: async () => [Buffer.from(build())],
      page: build,
    });
    for (const path of ['/metrics', '/']) {
      const early = await get(path);
      assert.equal(early.status, 503);
      assert.equal(early.headers['retry-after'], '1');
      assert.match(early.text, /^The totals are being restored .* Ask again/);
    }
    assert.equal(built, 0);
    assert.equal((await get('/-/healthy')).status, 200);
    isRestored = true;
    assert.equal((await get('/metrics')).status, 200);
    assert.equal((await get('/')).status, 200);
    assert.equal((await get('/-/ready')).status, 503);
  });

  it('is 500, never half a text, when collecting fails; the reason goes to the log', async (t) => {
    let fails = true;
    const collect = async () => {
      if (fails) throw new Error('the ledger is closed');
      return [Buffer.from(TEXT)];
    };
    const { get, logged } = await serve(t, { collect });
    const { status, text } = await get('/metrics');
    assert.equal(status, 500);
    assert.match(text, /could not be collected/);
    assert.doesNotMatch(text, /ledger is closed/);
    assert.match(logged.join(''), /a scrape failed: the ledger is closed/);
    fails = false;
    assert.equal((await get('/metrics')).status, 200);
  });

  it('collects once for scrapes that overlap, and anew for the next', async (t) => {
    let collects = 0;
    const began = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const collect = async () => {
      collects += 1;
      const text = `up ${collects}\n`;
      began.resolve();
      await gate.promise;
      return [Buffer.from(text)];
    };
    const { get, url } = await serve(t, { collect });
    const { hostname, port } = new URL(url);
    // Pipelined in one write, so that all five are being served before the gate opens.
    const socket = connect(Number(port), hostname).setEncoding('utf8');
    const scrape = 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n';
    socket.write(`${`${scrape}\r\n`.repeat(4)}${scrape}Connection: close\r\n\r\n`);
    await began.promise;
    gate.resolve();
    let answers = '';
    for await (const chunk of socket) answers += chunk;
    assert.deepEqual(answers.match(/^up \d+$/gm), Array(5).fill('up 1'));
    assert.equal((await get('/metrics')).text, 'up 2\n');
  });
});

describe('the other routes', () => {
  it('say whether it lives, whether it is ready and why not', async (t) => {
    let reasons = ['the ledger is read', 'the socket is taken'];
    const { get } = await serve(t, { ready: () => reasons });
    assert.equal((await get('/-/healthy')).status, 200);
    const unready = await get('/-/ready');
    assert.deepEqual([unready.status, unready.text], [503, 'the ledger is read\nthe socket is taken\n']);
    reasons = [];
    assert.equal((await get('/-/ready')).status, 200);
  });

  it('show the page under a strict policy, and survive one that fails', async (t) => {
    let fails = false;
    const page = () => {
      if (fails) throw new Error('no status');
      return '<!doctype html>';
    };
    const { get } = await serve(t, { page });
    const { headers, status } = await get('/');
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'text/html; charset=utf-8');
    assert.match(String(headers['content-security-policy']), /^default-src 'none'; style-src 'sha256-/);
    assert.equal(headers['x-content-type-options'], 'nosniff');
    fails = true;
    assert.equal((await get('/')).status, 500);
    assert.equal((await get('/metrics')).status, 200);
  });

  for (const [method, path, expected] of [
    ['POST', '/metrics', 405],
    ['PUT', '/', 405],
    ['DELETE', '/-/ready', 405],
    ['GET', '/nothing', 404],
    ['POST', '/nothing', 404],
    ['GET', '/metrics/', 404],
    ['GET', '/__proto__', 404],
    ['GET', '/favicon.ico', 404],
  ] as const) {
    it(`answer ${method} ${path} with ${expected}`, async (t) => {
      const { get } = await serve(t);
      const { status, headers } = await get(path, { method });
      assert.equal(status, expected);
      assert.equal(headers.allow, expected === 405 ? 'GET, HEAD' : undefined);
    });
  }
});

describe('a token', () => {
  it('guards /metrics and the page, not the probes', async (t) => {
    const { get, logged } = await serve(t, { token: TOKEN });
    for (const path of ['/metrics', '/']) {
      for (const authorization of [
        undefined,
        '',
        'Bearer',
        'Bearer wrong',
        `Basic ${TOKEN}`,
        `Bearer ${TOKEN}x`,
        TOKEN,
      ]) {
        const refused = await get(path, authorization === undefined ? {} : { headers: { authorization } });
        assert.equal(refused.status, 401, `${path} ${authorization}`);
        assert.match(String(refused.headers['www-authenticate']), /^Bearer/);
        assert.doesNotMatch(refused.text, /up 1|<title>/);
      }
      assert.equal((await get(path, { headers: { authorization: `Bearer ${TOKEN}` } })).status, 200);
      assert.equal((await get(path, { headers: { authorization: `bearer ${TOKEN}` } })).status, 200);
    }
    assert.equal((await get('/-/healthy')).status, 200);
    assert.equal((await get('/-/ready')).status, 200);
    assert.doesNotMatch(logged.join(''), new RegExp(TOKEN));
  });

  it('is needed where other machines can read: without one, and without a word that it be open, nothing starts', async (t) => {
    const everywhere = { host: '0.0.0.0', port: await freePort() };
    await assert.rejects(serve(t, { listen: everywhere }), (error) => {
      assert.ok(error instanceof PermanentFailure);
      assert.match(error.message, /metrics\.token_env, token_file or tls\.client_ca_file.* or metrics\.open: true/);
      return true;
    });
    await assert.rejects(ask(`http://127.0.0.1:${everywhere.port}/-/healthy`, {}), /ECONNREFUSED/);
    await serve(t, { listen: everywhere, token: TOKEN });
    await serve(t, { listen: { host: '0.0.0.0', port: 0 }, open: true });
    await serve(t, { listen: { host: 'localhost', port: 0 } });
  });

  it('keeps from others why the bridge is not ready', async (t) => {
    const { get } = await serve(t, { token: TOKEN, ready: () => ['the disk below /CANARY is full'] });
    const headers = { authorization: `Bearer ${TOKEN}` };
    assert.deepEqual([(await get('/-/ready')).status, (await get('/-/ready')).text], [503, 'Not ready.\n']);
    assert.match((await get('/-/ready', { headers })).text, /CANARY/);
  });
});

describe('what a browser is told', () => {
  const REQUIRED = {
    'x-content-type-options': /^nosniff$/,
    'x-frame-options': /^DENY$/,
    'referrer-policy': /^no-referrer$/,
    'cross-origin-resource-policy': /^same-origin$/,
    'cache-control': /^no-store$/,
    'content-security-policy':
      /^default-src 'none'; (style-src 'sha256-[^']+'; img-src data:; )?base-uri 'none'; form-action 'none'; frame-ancestors 'none'$/,
  };
  const asked: [string, Partial<AdminServerOptions>, string, Ask, number][] = [
    ['the page', {}, '/', {}, 200],
    ['the metrics', {}, '/metrics', {}, 200],
    ['a probe', {}, '/-/healthy', {}, 200],
    ['no route', {}, '/x', {}, 404],
    ['another method', {}, '/metrics', { method: 'POST' }, 405],
    ['no token', { token: TOKEN }, '/metrics', {}, 401],
    ['another host', {}, '/metrics', { headers: { host: 'evil.example' } }, 403],
    ['not restored yet', { isRestored: () => false }, '/metrics', {}, 503],
    ['not ready', { ready: () => ['no'] }, '/-/ready', {}, 503],
    ['a scrape that fails', { collect: () => Promise.reject(new Error('x')) }, '/metrics', {}, 500],
  ];
  for (const [name, options, path, init, expected] of asked) {
    it(`is all of it, whatever is answered: ${name}`, async (t) => {
      const { get } = await serve(t, options);
      const { status, headers } = await get(path, init);
      assert.equal(status, expected);
      for (const [header, value] of Object.entries(REQUIRED)) assert.match(String(headers[header]), value, header);
    });
  }
});

describe('the host that a request names', () => {
  const ROUTES = ['/', '/metrics', '/-/healthy', '/-/ready', '/nothing'];

  for (const host of ['127.0.0.1', '127.0.0.1:9464', '[::1]:9464', '192.0.2.7:80', 'localhost', 'LocalHost:9464']) {
    it(`may be ${host}`, async (t) => {
      const { get } = await serve(t);
      assert.equal((await get('/metrics', { headers: { host } })).status, 200);
    });
  }

  for (const host of [
    'rebound.example',
    'rebound.example:9464',
    'localhost.example',
    '127.0.0.1.example',
    '127.1',
    ':9464',
    '[x]',
  ]) {
    it(`may not be "${host}" on a loopback address: any page could lead its own name here`, async (t) => {
      const { get } = await serve(t);
      for (const route of ROUTES) {
        const { status, text } = await get(route, { headers: { host } });
        assert.equal(status, 403, route);
        assert.match(text, /Ask for it as 127\.0\.0\.1.*metrics\.listen.*metrics\.token_env/);
        assert.doesNotMatch(text, /example/);
      }
    });
  }

  it('may be any where a token is asked for, where other machines read, and where it is the configured one', async (t) => {
    const headers = { host: 'bridge.example:9464' };
    const guarded = await serve(t, { token: TOKEN });
    const withToken = { headers: { ...headers, authorization: `Bearer ${TOKEN}` } };
    assert.equal((await guarded.get('/metrics', withToken)).status, 200);
    const open = await serve(t, { listen: { host: '0.0.0.0', port: 0 }, open: true });
    const { port } = new URL(open.url);
    assert.equal((await ask(`http://127.0.0.1:${port}/metrics`, { headers })).status, 200);
    // A loopback address by a name that every resolver knows and that is neither an IP address nor localhost.
    const named = await serve(t, { listen: { host: '127.1', port: 0 } });
    const bound = `http://127.0.0.1:${named.url.split(':').at(-1)}/metrics`;
    assert.equal((await ask(bound, { headers: { host: '127.1:9464' } })).status, 200);
    assert.equal((await ask(bound, { headers })).status, 403);
  });

  it('may be missing: no browser leaves it out', async (t) => {
    const { hostname, port } = new URL((await serve(t)).url);
    const socket = connect(Number(port), hostname).setEncoding('utf8');
    socket.end('GET /-/healthy HTTP/1.0\r\n\r\n');
    let answer = '';
    for await (const chunk of socket) answer += chunk;
    assert.match(answer, /^HTTP\/1\.1 200 /);
  });
});

describe('starting and stopping', () => {
  it('says which address is taken, what that means and what to do', async (t) => {
    const { url } = await serve(t);
    const port = Number(new URL(url).port);
    await assert.rejects(serve(t, { listen: { host: '127.0.0.1', port } }), (error: unknown) => {
      assert.ok(error instanceof PermanentFailure);
      assert.match(
        error.message,
        new RegExp(`^127\\.0\\.0\\.1:${port} is in use: .*cannot be served.*metrics\\.listen`),
      );
      return true;
    });
  });

  it('says so when the address is none of this machine', async (t) => {
    const listen = { host: '192.0.2.1', port: 9464 };
    await assert.rejects(serve(t, { listen }), /^PermanentFailure: 192\.0\.2\.1:9464 is no address of this machine/);
  });

  it('stops twice, without a start, and with a connection kept alive or silent', async (t) => {
    await new AdminServer({
      listen: { host: '127.0.0.1', port: 0 },
      collect: async () => [Buffer.from(TEXT)],
      isRestored: () => true,
      ready: () => [],
      page: () => '',
      log: createLog('silent'),
    }).stop();
    const { server, url } = await serve(t);
    const { hostname, port } = new URL(url);
    const kept = connect(Number(port), hostname).setEncoding('utf8');
    kept.write('GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(kept, 'data');
    const closed = once(kept, 'close');
    kept.resume();
    await Promise.all([server.stop(), closed]);
    await server.stop();
    await assert.rejects(ask(`${url}/-/healthy`, {}), /ECONNREFUSED/);
  });

  it('lets a scrape under way finish', async (t) => {
    const gate = Promise.withResolvers<void>();
    const began = Promise.withResolvers<void>();
    const collect = async () => {
      began.resolve();
      await gate.promise;
      return [Buffer.from(TEXT)];
    };
    const { server, get } = await serve(t, { collect });
    const scrape = get('/metrics');
    await began.promise;
    const stopped = server.stop();
    gate.resolve();
    assert.equal((await scrape).text, TEXT);
    await stopped;
  });

  it('answers garbage with 400 and goes on', async (t) => {
    const { url, get } = await serve(t);
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname).setEncoding('utf8');
    socket.write('\u0000\u0001 garbage\r\n\r\n');
    const [answer] = await once(socket, 'data');
    assert.match(answer, /^HTTP\/1\.1 400 /);
    socket.destroy();
    assert.equal((await get('/metrics')).status, 200);
  });
});
