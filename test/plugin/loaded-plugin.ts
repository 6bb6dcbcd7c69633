// What the tests of the plugin share: a scratch folder, a bridge of their own, OpenCode's events, and the plugin loaded.

import { randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Tollbridge } from '../../src/plugin/opencode.ts';
import { VerdictServer } from './verdict-server.ts';

/** Stands wherever content could stand; it must never be sent or stored. */
export const MARKER = 'CONTENT marker';
const VARIABLES = [
  'TOLLBRIDGE_SOCKET',
  'TOLLBRIDGE_SPOOL',
  'TOLLBRIDGE_ACCOUNT_ID',
  'TOLLBRIDGE_DISABLED',
  'TOLLBRIDGE_FAIL',
] as const;
const PATIENCE_MS = 20_000;

export interface Sent {
  readonly id?: string;
  readonly type: string;
  readonly properties: Record<string, unknown>;
}

/** Awaits a condition. */
export async function until(what: string, look: () => boolean): Promise<void> {
  for (const endMs = performance.now() + PATIENCE_MS; !look(); await sleep(10)) {
    if (performance.now() > endMs) throw new Error(`${what} did not happen`);
  }
}

/** A folder, and what listens in it, for one test after the other. */
export class Scratch {
  root = '';
  #cleanUps: (() => unknown)[] = [];

  /** Makes it anew before every test of the file, and leaves nothing behind after it. */
  constructor() {
    beforeEach(() => {
      const root = mkdtempSync(path.join(tmpdir(), 'tb-plugin-'));
      this.root = root;
      this.#cleanUps.push(() => rmSync(root, { recursive: true, force: true }));
      for (const name of VARIABLES) delete process.env[name];
    });
    afterEach(async () => {
      for (const cleanUp of this.#cleanUps.splice(0).reverse()) await cleanUp();
      for (const name of VARIABLES) delete process.env[name];
    });
  }

  get socket() {
    return path.join(this.root, 'bridge.sock');
  }

  get spool() {
    return path.join(this.root, 'state', 'spool');
  }

  /** A bridge that answers with the given statuses in turn, the last one for ever; `0` means never. */
  async listen(...statuses: number[]) {
    const posts: { url: string; records: { source: string; account_id: string; payload: { event: Sent } }[] }[] = [];
    const held: (() => void)[] = [];
    const answer: RequestListener = (request, response) => {
      let body = '';
      request.setEncoding('utf8');
      request.on('data', (chunk) => {
        body += chunk;
      });
      request.on('end', () => {
        const status = statuses[Math.min(posts.length, statuses.length - 1)] ?? 202;
        posts.push({
          url: `${request.method} ${request.url}`,
          records: body.split('\n').map((line) => JSON.parse(line)),
        });
        const reply = () => response.writeHead(status || 202, { 'content-type': 'application/json' }).end('{}');
        if (status === 0) held.push(reply);
        else reply();
      });
    };
    const server = createServer(answer);
    await new Promise<void>((resolve) => server.listen(this.socket, resolve));
    this.#cleanUps.push(() => {
      server.closeAllConnections();
      return new Promise<void>((resolve) => server.close(() => resolve()));
    });
    const release = () => {
      for (const reply of held.splice(0)) reply();
    };
    return { posts, release };
  }

  /** A bridge that answers questions as the test says. */
  async judge(): Promise<VerdictServer> {
    const server = new VerdictServer();
    await server.start(this.socket);
    this.#cleanUps.push(() => server.stop());
    return server;
  }

  /** The plugin as OpenCode starts it, with what it says to the user. */
  async load(environment: Partial<Record<(typeof VARIABLES)[number], string>> = {}) {
    Object.assign(process.env, { TOLLBRIDGE_SOCKET: this.socket, TOLLBRIDGE_SPOOL: this.spool, ...environment });
    const told: string[] = [];
    const toasts: string[] = [];
    const client = {
      app: { log: async ({ body }: { body: { message: string } }) => told.push(body.message) },
      tui: { showToast: async ({ body }: { body: { message: string } }) => toasts.push(body.message) },
    };
    const hooks = await Tollbridge({ client, worktree: `/home/${MARKER}/shop`, directory: `/${MARKER}` } as never);
    this.#cleanUps.push(() => hooks.dispose?.());
    const happen = (event: unknown) => hooks.event?.({ event } as never) ?? Promise.resolve();
    return { hooks, told, toasts, happen };
  }

  /** The names of the spool's files; none where there is no spool. */
  spoolFiles(): string[] {
    try {
      return readdirSync(this.spool).filter((name) => name.endsWith('.json'));
    } catch {
      return [];
    }
  }

  /** The events in the spool. */
  spooled(): Sent[] {
    return this.spoolFiles()
      .flatMap((name) => readFileSync(path.join(this.spool, name), 'utf8').trim().split('\n'))
      .map((line) => JSON.parse(line).payload.event as Sent);
  }
}

/** An event of OpenCode's bus. */
export function event(type: string, properties: unknown) {
  return { id: `evt_${randomUUID().slice(0, 8)}`, type, properties };
}

export const tokens = {
  total: 1473,
  input: 1000,
  output: 50,
  reasoning: 20,
  cache: { read: 300, write: 103 },
  [MARKER]: MARKER,
};

export function message(changes: object = {}) {
  const info = {
    id: 'msg_1',
    sessionID: 'ses_1',
    role: 'assistant',
    parentID: 'msg_0',
    mode: MARKER,
    agent: MARKER,
    summary: MARKER,
    system: [MARKER],
    path: { cwd: `/home/${MARKER}/shop/src`, root: `/home/${MARKER}/shop` },
    cost: 0.0045,
    tokens,
    modelID: 'claude-sonnet-4-5',
    providerID: 'anthropic',
    time: { created: 1_795_293_928_466, completed: 1_795_293_929_000, [MARKER]: MARKER },
    finish: 'stop',
    ...changes,
  };
  return event('message.updated', { sessionID: 'ses_1', info });
}

export const sentMessage = {
  id: 'msg_1',
  sessionID: 'ses_1',
  parentID: 'msg_0',
  role: 'assistant',
  providerID: 'anthropic',
  modelID: 'claude-sonnet-4-5',
  path: { root: 'shop' },
  time: { created: 1_795_293_928_466, completed: 1_795_293_929_000 },
  finish: 'stop',
  cost: 0.0045,
  tokens: { input: 1000, output: 50, reasoning: 20, cache: { read: 300, write: 103 } },
};

export function tool(state: object) {
  const part = {
    id: 'prt_1',
    sessionID: 'ses_1',
    messageID: 'msg_1',
    type: 'tool',
    callID: 'call_1',
    tool: 'bash',
    metadata: { [MARKER]: MARKER },
    state: {
      input: { command: MARKER },
      output: MARKER,
      title: MARKER,
      metadata: { output: MARKER, exit: 0 },
      attachments: [MARKER],
      time: { start: 10, end: 20, compacted: 30 },
      ...state,
    },
  };
  return event('message.part.updated', { sessionID: 'ses_1', part, time: 5 });
}

export const sentTool = (state: object) => ({
  part: {
    id: 'prt_1',
    sessionID: 'ses_1',
    messageID: 'msg_1',
    type: 'tool',
    callID: 'call_1',
    tool: 'bash',
    state: { time: { start: 10, end: 20 }, ...state },
  },
});
