// Serves the preview: the page, the dashboards' JSON, and Prometheus under /prometheus, so that a browser needs nothing else.

import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';

const PAGE = path.join(import.meta.dirname, 'dist');
const DASHBOARDS = path.join(path.dirname(import.meta.dirname), 'json');
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
};

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

/** Serves on this machine only. @throws Error when the page has not been built, or the port is taken */
export async function servePreview({ prometheus, port }: PreviewOptions): Promise<Preview> {
  if (!existsSync(PAGE)) throw new Error('the preview has not been built: run "npm run preview"');
  const server = createServer((asked, answer) => {
    const { pathname, search } = new URL(asked.url ?? '/', 'http://preview');
    if (pathname.startsWith('/prometheus/'))
      return passOn(asked, answer, `${prometheus}${pathname.slice(11)}${search}`);
    if (pathname === '/dashboards/') return list(answer);
    if (pathname.startsWith('/dashboards/')) return send(answer, DASHBOARDS, pathname.slice(11));
    const isFile = path.extname(pathname) !== '';
    return send(answer, PAGE, isFile ? pathname : 'index.html');
  });
  await new Promise<void>((resolve, reject) => {
    server.on('error', reject);
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

function send(answer: ServerResponse, folder: string, name: string): void {
  const file = path.join(folder, path.normalize(`/${decodeURIComponent(name)}`));
  if (!existsSync(file) || !statSync(file).isFile()) {
    answer.writeHead(404).end();
    return;
  }
  answer.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream' });
  createReadStream(file).pipe(answer);
}

function list(answer: ServerResponse): void {
  const dashboards = readdirSync(DASHBOARDS)
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(path.join(DASHBOARDS, name), 'utf8')))
    .map(({ uid, title }) => ({ uid, title }));
  answer.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(dashboards));
}

function passOn(asked: IncomingMessage, answer: ServerResponse, to: string): void {
  const passed = request(to, { method: asked.method }, (got) => {
    answer.writeHead(got.statusCode ?? 502, { 'content-type': got.headers['content-type'] ?? 'text/plain' });
    got.pipe(answer);
  });
  passed.on('error', (error) => {
    answer.writeHead(502, { 'content-type': 'application/json' });
    answer.end(JSON.stringify({ status: 'error', error: `Prometheus cannot be reached at ${to}: ${error.message}` }));
  });
  asked.pipe(passed);
}
