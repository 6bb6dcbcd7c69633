// Serves the preview: the page, the dashboards' JSON, and what they ask of Prometheus, so that a browser needs nothing else.
// It hands out whatever that Prometheus knows, so it answers this machine only, and passes on nothing but questions.

import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

const PAGE = path.join(import.meta.dirname, 'dist');
const DASHBOARDS = path.join(path.dirname(import.meta.dirname), 'json');
const HIGHEST_PORT = 65_535;
/** Questions come in the address, and with many values chosen one does not fit into Node's 16 kB. */
const MAX_HEADER_BYTES = 65_536;
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
};
/** A foreign page can lead a name of its own here (DNS rebinding); a browser then names that one. */
const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?$/i;
/** All that panels and variables ask. */
const ASKED = /^\/prometheus(\/api\/v1\/(?:query|query_range|label\/[a-zA-Z_]\w*\/values))$/;

export interface PreviewOptions {
  /** Where Prometheus is, for example `http://127.0.0.1:9090`. */
  readonly prometheus: string;
  /** 0 takes a free one. */
  readonly port: number;
}

export interface Preview {
  readonly url: string;
  close(): void;
}

interface PrometheusAddress {
  /** Without a slash at its end, and without name and password. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** @throws Error that says what to give; it does not repeat the address, which may hold a password */
export function prometheusAddress(text: string): PrometheusAddress {
  const url = URL.parse(text);
  const credentials = url && decoded(`${url.username}:${url.password}`);
  if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash || credentials === undefined) {
    throw new Error(
      'The address of Prometheus is not understood: give one that begins with http:// or https:// and has neither ? ' +
        'nor #, for example --prometheus http://127.0.0.1:9090',
    );
  }
  return {
    url: `${url.origin}${url.pathname.replace(/\/+$/, '')}`,
    headers: url.username ? { authorization: `Basic ${Buffer.from(credentials!).toString('base64')}` } : {},
  };
}

/** Serves on this machine only. @throws Error when the address or the port cannot be used */
export async function servePreview({ prometheus, port }: PreviewOptions): Promise<Preview> {
  const upstream = prometheusAddress(prometheus);
  if (!Number.isInteger(port) || port < 0 || port > HIGHEST_PORT) {
    throw new Error(`The port is not understood: give a whole number up to ${HIGHEST_PORT}, for example --port 3100`);
  }
  const server = createServer({ maxHeaderSize: MAX_HEADER_BYTES }, (asked, answer) => {
    // A browser that goes away in the middle of an answer is nobody's trouble.
    respond({ asked, answer, upstream }).catch(() => answer.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.on('error', (error: NodeJS.ErrnoException) => {
      const isTaken = error.code === 'EADDRINUSE';
      reject(isTaken ? new Error(`Port ${port} is in use by another program: choose another with --port`) : error);
    });
    server.listen(port, '127.0.0.1', resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

interface Exchange {
  readonly asked: IncomingMessage;
  readonly answer: ServerResponse;
  readonly upstream: PrometheusAddress;
}

async function respond({ asked, answer, upstream }: Exchange): Promise<void> {
  if (!LOOPBACK.test(asked.headers.host ?? '')) {
    return refuse(answer, 403, 'The preview answers under 127.0.0.1 and localhost only.');
  }
  if (asked.method !== 'GET') {
    answer.setHeader('allow', 'GET');
    return refuse(answer, 405, 'The preview answers GET only.');
  }
  const url = URL.parse(asked.url ?? '/', 'http://preview');
  const pathname = url ? decoded(url.pathname) : undefined;
  if (!url || pathname === undefined) {
    return refuse(answer, 400, 'The address is not understood: look for a % that does not begin an encoded character.');
  }
  const [, question] = ASKED.exec(pathname) ?? [];
  if (question) return passOn(answer, upstream, `${question}${url.search}`);
  if (pathname.startsWith('/prometheus/')) {
    return refuse(answer, 404, 'The preview asks Prometheus for queries and the values of labels only.');
  }
  if (pathname === '/dashboards/') return list(answer);
  if (pathname.startsWith('/dashboards/')) return send(answer, DASHBOARDS, pathname.slice('/dashboards'.length));
  return send(answer, PAGE, path.extname(pathname) === '' ? '/index.html' : pathname);
}

/** Undefined where a % is followed by something else than a character. */
function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function refuse(answer: ServerResponse, status: number, text: string): void {
  answer.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
}

/** @param name a path that begins with `/` */
async function send(answer: ServerResponse, folder: string, name: string): Promise<void> {
  const file = path.join(folder, path.normalize(name));
  if (!existsSync(file) || !statSync(file).isFile()) {
    return refuse(answer, 404, 'There is no such file. If the page has not been built, run "npm run preview".');
  }
  answer.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream' });
  await pipeline(createReadStream(file), answer);
}

function list(answer: ServerResponse): void {
  const dashboards = readdirSync(DASHBOARDS)
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(path.join(DASHBOARDS, name), 'utf8')))
    .map(({ uid, title }) => ({ uid, title }));
  answer.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(dashboards));
}

async function passOn(answer: ServerResponse, { url, headers }: PrometheusAddress, question: string): Promise<void> {
  const gone = new AbortController();
  answer.on('close', () => gone.abort());
  let got: Response;
  try {
    // A redirection leads to a login or to another program.
    got = await fetch(`${url}${question}`, { headers, redirect: 'manual', signal: gone.signal });
  } catch (error) {
    return sayNoAnswer(answer, `Prometheus cannot be reached at ${url}: ${reasonOf(error)}`);
  }
  if (!got.body || !got.headers.get('content-type')?.startsWith('application/json')) {
    await got.body?.cancel();
    return sayNoAnswer(
      answer,
      `What is at ${url} does not answer as a Prometheus does (HTTP ${got.status}): is it the address of a Prometheus, ` +
        'and does it want a login?',
    );
  }
  answer.writeHead(got.status, { 'content-type': 'application/json' });
  await pipeline(Readable.fromWeb(got.body), answer);
}

/** In the form in which Prometheus says what is wrong. */
function sayNoAnswer(answer: ServerResponse, error: string): void {
  answer.writeHead(502, { 'content-type': 'application/json' }).end(JSON.stringify({ status: 'error', error }));
}

/** The message of `fetch` itself says only that it failed. */
function reasonOf(error: unknown): string {
  const { cause, message } = error as Error;
  return cause instanceof Error ? cause.message || String((cause as NodeJS.ErrnoException).code) : message;
}
