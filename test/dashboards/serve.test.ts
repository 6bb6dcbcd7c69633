// The server of the preview, before a real Prometheus: what it passes on, what it refuses, and that nothing ends it.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Client } from 'undici';
import { type Preview, prometheusAddress, servePreview } from '../../dashboards/preview/serve.ts';
import { freePort, Prometheus } from '../prometheus-server.ts';

let dir: string;
let prometheus: Prometheus;
let preview: Preview;

before(async () => {
  dir = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-preview-'));
  prometheus = await Prometheus.start({ dir, targets: [], scrapeMs: 60_000 });
  preview = await servePreview({ prometheus: prometheus.url, port: 0 });
});
after(async () => {
  preview?.close();
  await prometheus?.stop();
  if (dir) rmSync(dir, { recursive: true, force: true });
});

interface Asked {
  readonly to?: string;
  readonly method?: 'GET' | 'POST' | 'PUT';
  readonly host?: string;
}

/** A request exactly as it is stated: fetch would mend it. */
async function ask(where: string, { to = preview.url, method = 'GET', host = new URL(to).host }: Asked = {}) {
  const client = new Client(to);
  try {
    const { statusCode, headers, body } = await client.request({ path: where, method, headers: { host } });
    return { status: statusCode, type: String(headers['content-type']), text: await body.text() };
  } finally {
    await client.destroy();
  }
}

/** Something on this machine that is no Prometheus, for the time of a test. */
async function serving(listener: RequestListener, use: (url: string) => Promise<void>): Promise<void> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

/** Asks a preview of another upstream, and whether that preview goes on afterwards. */
async function askOf(upstream: string, where: string) {
  const other = await servePreview({ prometheus: upstream, port: 0 });
  try {
    const answer = await ask(where, { to: other.url });
    assert.equal((await ask('/dashboards/', { to: other.url })).status, 200, 'it goes on');
    return answer;
  } finally {
    other.close();
  }
}

const QUERY = '/prometheus/api/v1/query?query=1%2B1';

describe('the preview passes on', () => {
  const questions: readonly [path: string, answer: RegExp][] = [
    [QUERY, /"result":\[[^,]+,"2"\]/],
    ['/prometheus/api/v1/query_range?query=vector(3)&start=60&end=60&step=60', /"values":\[\[60,"3"\]\]/],
    ['/prometheus/api/v1/label/job/values?match[]=up', /"status":"success"/],
  ];
  for (const [question, answer] of questions) {
    it(question, async () => {
      const { status, text } = await ask(question);
      assert.equal(status, 200);
      assert.match(text, answer);
    });
  }

  it('what Prometheus says is wrong with a query', async () => {
    const { status, text } = await ask('/prometheus/api/v1/query?query=sum(');
    assert.equal(status, 400);
    assert.match(text, /parse error/);
  });

  it('a query that is longer than the headers Node takes by default', async () => {
    const { status } = await ask(`/prometheus/api/v1/query?query=up{job!="${'a'.repeat(20_000)}"}`);
    assert.equal(status, 200);
  });

  it('name and password to a Prometheus that wants them, and says neither', async () => {
    const seen: (string | undefined)[] = [];
    const listener: RequestListener = ({ headers, url }, answer) => {
      seen.push(headers.authorization, url);
      answer.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    };
    await serving(listener, async (url) => {
      const address = `${url.replace('//', '//me:p%40ss@')}/prom/`;
      assert.equal((await askOf(address, QUERY)).status, 200);
      assert.deepEqual(seen, [`Basic ${btoa('me:p@ss')}`, '/prom/api/v1/query?query=1%2B1']);
      assert.equal(prometheusAddress(address).url, `${url}/prom`);
    });
  });
});

describe('the preview refuses', () => {
  const refused: readonly { what: string; path: string; status: number; says: RegExp; asked?: Asked }[] = [
    { what: 'bad encoding', path: '/dashboards/%E0%A4%A', status: 400, says: /look for a %/ },
    { what: 'bad encoding of a page', path: '/%', status: 400, says: /look for a %/ },
    { what: 'what is no address', path: '//[', status: 400, says: /not understood/ },
    { what: 'a foreign name', path: QUERY, status: 403, says: /127\.0\.0\.1/, asked: { host: 'evil.example' } },
    {
      what: 'a name that begins alike',
      path: '/',
      status: 403,
      says: /localhost/,
      asked: { host: '127.0.0.1.nip.io' },
    },
    { what: 'another one', path: '/', status: 403, says: /localhost/, asked: { host: 'localhost.evil.example:80' } },
    { what: 'no name', path: '/', status: 403, says: /localhost/, asked: { host: '' } },
    { what: 'POST', path: QUERY, status: 405, says: /GET only/, asked: { method: 'POST' } },
    { what: 'PUT', path: '/dashboards/', status: 405, says: /GET only/, asked: { method: 'PUT' } },
    ...[
      'api/v1/admin/tsdb/snapshot',
      'api/v1/status/config',
      'api/v1/label/a%2Fb/values',
      'api/v1/query/../status/flags',
      'api/v1/query%2F..%2Fstatus%2Fflags',
      '-/reload',
      '',
    ].map((of) => ({ what: `to ask ${of}`, path: `/prometheus/${of}`, status: 404, says: /queries and the values/ })),
    { what: 'a file elsewhere', path: '/dashboards/..%2F..%2Fpackage.json', status: 404, says: /no such file/ },
    { what: 'a file that is not there', path: '/dashboards/nothing%00.json', status: 404, says: /no such file/ },
  ];
  for (const { what, path: where, status, says, asked } of refused) {
    it(what, async () => {
      const answer = await ask(where, asked);
      assert.equal(answer.status, status);
      assert.match(answer.text, says);
      assert.match(answer.type, /^text\/plain/);
      assert.equal((await ask('/dashboards/')).status, 200, 'it goes on');
    });
  }

  for (const host of ['localhost:3100', 'LOCALHOST', '127.0.0.1', '127.1.2.3:1', '[::1]:3100']) {
    it(`control: but not ${host}`, async () => assert.equal((await ask('/dashboards/', { host })).status, 200));
  }
});

describe('the preview says what is wrong with', () => {
  const says = ({ status, text }: { status: number; text: string }, expected: RegExp) => {
    assert.equal(status, 502);
    const { status: inWords, error } = JSON.parse(text);
    assert.equal(inWords, 'error');
    assert.match(error, expected);
  };

  it('a Prometheus that is not there', async () => {
    says(await askOf(`http://127.0.0.1:${await freePort()}`, QUERY), /cannot be reached at http:.*ECONNREFUSED/);
  });
  it('one that does not speak TLS', async () => {
    says(await askOf(prometheus.url.replace('http:', 'https:'), QUERY), /cannot be reached at https:/);
  });
  it('one that leads elsewhere, such as to a login', async () => {
    const listener: RequestListener = (_, answer) => answer.writeHead(302, { location: prometheus.url }).end();
    await serving(listener, async (url) => says(await askOf(url, QUERY), /HTTP 302.*want a login/));
  });
  it('one that answers in HTML', async () => {
    const listener: RequestListener = (_, answer) => answer.writeHead(200, { 'content-type': 'text/html' }).end('<p>');
    await serving(listener, async (url) => says(await askOf(url, QUERY), /does not answer as a Prometheus does/));
  });
  it('one that goes away in the middle of an answer', async () => {
    const listener: RequestListener = (_, answer) => {
      answer.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' });
      answer.write('{', () => answer.destroy());
    };
    await serving(listener, async (url) => {
      const other = await servePreview({ prometheus: url, port: 0 });
      await assert.rejects(ask(QUERY, { to: other.url }));
      assert.equal((await ask('/dashboards/', { to: other.url })).status, 200, 'it goes on');
      other.close();
    });
  });

  const addresses = [
    '',
    '127.0.0.1:9090',
    'localhost:9090',
    'ftp://a',
    'http://',
    'http://a?b',
    'http://a#b',
    'http://%@a',
  ];
  for (const prometheusText of addresses) {
    it(`the address "${prometheusText}", before anything is served`, async () => {
      await assert.rejects(
        servePreview({ prometheus: prometheusText, port: 0 }),
        /begins with http:\/\/ or https:\/\//,
      );
    });
  }
  it('a password is not repeated', () => {
    assert.throws(
      () => prometheusAddress('http://me:secret@a?b'),
      ({ message }: Error) => !message.includes('secret'),
    );
  });
  for (const port of [Number.NaN, -1, 65_536, 1.5]) {
    it(`the port ${port}`, async () => {
      await assert.rejects(servePreview({ prometheus: prometheus.url, port }), /for example --port 3100/);
    });
  }
  it('a port that is taken', async () => {
    const port = Number(new URL(preview.url).port);
    await assert.rejects(servePreview({ prometheus: prometheus.url, port }), /in use by another program.*--port/);
  });
});
