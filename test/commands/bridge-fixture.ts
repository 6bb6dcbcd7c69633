// A bridge as commands see it: a status over a real unix socket, and a metrics page over a real port.

import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { type Config, parseConfig } from '../../src/config.ts';
import type { BridgeStatus } from '../../src/status.ts';

/** What is told of an account that cannot be asked anything. */
export const NO_ACCESS = { credentials: [], sees: [], cannot_see: [], drift: [] };

export const NOW_MS = Date.UTC(2026, 0, 15, 12);

/** A folder that lives as long as the test. */
export function scratchFolder(t: TestContext): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-cmd-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A configuration whose state stays in a scratch folder; reads no credential of this machine. */
export function scratchConfig(t: TestContext, settings: Record<string, unknown> = {}): Config {
  return parseConfig({ state_dir: scratchFolder(t), detect: false, ...settings });
}

/** A bridge where all is well; `changes` replace whole keys. */
export function statusOf(config: Config, changes: Partial<BridgeStatus> = {}): BridgeStatus {
  const row = { cost_usd: 1.25, tokens: 12_345, cache_read_tokens: 1, turns: 7, unpriced_turns: 0, sessions: 2 };
  return {
    version: '1.2.3',
    node: 'v24.0.0',
    pid: 4711,
    started_ms: NOW_MS - 3_600_000,
    state_dir: config.state_dir,
    time_zone: 'UTC',
    socket: config.socket.path,
    metrics_url: 'http://127.0.0.1:9/metrics',
    ready: true,
    not_ready: [],
    sources: [{ source: 'socket', up: true, events: { received: 7, recorded: 7, rejected: 0 } }],
    spool: { dir: config.spool.dir, waiting: 0, quarantined: 0 },
    ledger: {
      file: path.join(config.state_dir, 'ledger.db'),
      size_bytes: 40_960,
      created_ms: NOW_MS - 3_600_000,
      turns: 7,
      tool_calls: 0,
      sessions: 2,
      last_turn_ms: NOW_MS - 5 * 60_000,
      books_balance: true,
    },
    accounts: [
      {
        provider: 'opencode',
        account: 'main',
        found_in: 'OPENCODE_API_KEY',
        status: 'ok',
        message: 'Auth OK · 30 Zen models',
        taken_ms: NOW_MS,
        ...NO_ACCESS,
      },
    ],
    tiles: [
      {
        tile: 'claude_code',
        upstream_providers: ['anthropic'],
        windows: { today: row, '7d': row, '30d': row, month: row, all: row },
      },
    ],
    unmapped: [],
    unfinished: [],
    last_heard_ms: { opencode: NOW_MS - 60_000 },
    ...changes,
  };
}

type Answer = (request: http.IncomingMessage) => { status?: number; body: string };

async function serve(t: TestContext, answer: Answer, listen: (server: http.Server) => void): Promise<http.Server> {
  const server = http.createServer((request, response) => {
    const { status = 200, body } = answer(request);
    response.writeHead(status).end(body);
  });
  listen(server);
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return server;
}

/** Answers every request at the configuration's socket. */
export async function serveSocket(t: TestContext, config: Config, answer: Answer): Promise<void> {
  await serve(t, answer, (server) => server.listen(config.socket.path));
}

/** Serves a metrics page; resolves to its URL. */
export async function serveMetrics(t: TestContext, answer: Answer): Promise<string> {
  const server = await serve(t, answer, (starting) => starting.listen(0, '127.0.0.1'));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
}

export const plain = (lines: readonly string[]): string[] => lines.map((line) => stripVTControlCharacters(line));
