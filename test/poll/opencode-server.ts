// A real HTTP server that answers as OpenCode does, or as a test wants.

import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { Agent } from 'undici';
import type { Credential } from '../../src/poll/credential.ts';
import type { Account } from '../../src/poll/detect.ts';
import { OpencodeAccount } from '../../src/poll/opencode-account.ts';
import type { ModelInfo, PollOutcome, PollResult, Quota } from '../../src/poll/poll-result.ts';

export const MODELS = '/zen/v1/models';
export const GO_USAGE = '/zen/go/v1/usage';

export interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** A string is sent as it is, anything else as JSON. */
  readonly body?: unknown;
}
export type Play = Answer | ((request: IncomingMessage, response: ServerResponse) => Answer | undefined);

export interface OpencodeServer {
  readonly url: string;
  readonly dispatcher: Agent;
  /** What is answered, by path, with or without its query; may be changed between polls. Other paths get 404. */
  readonly plays: Record<string, Play>;
  /** Every request so far, as `path key`. */
  readonly seen: string[];
}

export function modelList(...ids: string[]): Answer {
  return {
    body: {
      object: 'list',
      data: ids.map((id) => ({ id, object: 'model', created: 1790000000, owned_by: 'opencode' })),
    },
  };
}

export function goWindows(percents: Record<string, number>, resetsAt = '2026-11-23T00:00:00.000Z'): Answer {
  const windows = Object.entries(percents).map(([name, percent]) => [name, { status: 'ok', percent, resetsAt }]);
  return { body: { usage: Object.fromEntries(windows) } };
}

export const NO_GO_PLAN: Answer = {
  status: 403,
  body: { type: 'error', error: { type: 'EntitlementError', message: 'OpenCode Go subscription required.' } },
};
export const UNKNOWN_KEY: Answer = {
  status: 401,
  body: { type: 'error', error: { type: 'AuthError', message: 'Invalid API key.' } },
};

/** Listens on a free port of the loopback; closed with its connections when the test ends. */
export async function startOpencode(t: TestContext, plays: Record<string, Play> = {}): Promise<OpencodeServer> {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    seen.push(`${request.url} ${request.headers.authorization?.replace(/^Bearer /, '') ?? 'no key'}`);
    const url = request.url ?? '';
    const play = plays[url] ?? plays[url.replace(/\?.*/, '')] ?? { status: 404 };
    const answer = typeof play === 'function' ? play(request, response) : play;
    if (!answer) return;
    const { status = 200, headers = {}, body = '' } = answer;
    response.writeHead(status, headers);
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const dispatcher = new Agent();
  t.after(async () => {
    await dispatcher.destroy();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, dispatcher, plays, seen };
}

export const KEY = ['sk', 'EXAMPLE', 'zen'].join('-');
export const GO_KEY = ['sk', 'EXAMPLE', 'go'].join('-');
export const NOW_MS = Date.UTC(2026, 10, 21, 20, 0, 0);
export const INTERVAL_MS = 30_000;
/** When `goWindows` end. */
export const WEEK_END_MS = Date.UTC(2026, 10, 23);

/** A credential that a test holds. */
export function credentialOf(secret: string | undefined, place = 'ZEN_API_KEY'): Credential {
  const remedy = `set ${place} in the environment of the bridge and restart it`;
  return { place, remedy, read: () => (secret ? { type: 'found', secret } : { type: 'absent' }) };
}

/** What a poll came to, with all facts of one kind together. */
export interface SeenPoll {
  readonly outcome: PollOutcome;
  readonly retryAfterS: number | undefined;
  readonly result: Omit<PollResult, 'readings'> & {
    readonly models: readonly ModelInfo[] | undefined;
    readonly quotas: readonly Quota[] | undefined;
    readonly routes: Readonly<Record<string, number>>;
  };
}

/** A poller of that server, with an account whose key is `KEY`. */
export function zenAt(server: OpencodeServer, account: Partial<Account> = {}, timeoutMs = 10_000) {
  const polled = new OpencodeAccount({
    account: {
      ...{ provider: 'opencode', id: 'opencode', foundIn: 'ZEN_API_KEY', baseUrl: server.url },
      key: credentialOf(KEY),
      ...account,
    },
    ...{ timeoutMs, intervalMs: INTERVAL_MS, consoleIntervalMs: INTERVAL_MS, dispatcher: server.dispatcher },
  });
  const [zen] = polled.probes;
  return {
    hasNewCredential: () => zen!.hasNewCredential(),
    async poll(nowMs: number, signal?: AbortSignal): Promise<SeenPoll> {
      const { report, result } = await polled.poll(zen!, nowMs, signal);
      const { readings, ...rest } = result;
      const facts = readings.map((reading) => reading.facts);
      const routes = Object.fromEntries(readings.map(({ route, readMs }) => [route, readMs]));
      const models = facts.find((each) => each.models)?.models;
      const quotas = facts.find((each) => each.quotas?.length)?.quotas;
      return { outcome: report.outcome, retryAfterS: report.retryAfterS, result: { ...rest, models, quotas, routes } };
    },
  };
}

/** A window of the Go plan as a reading holds it. */
export function goQuota(window: string, percent: number, resetMs?: number): Quota {
  return {
    ...{ quota: 'go', window, unit: 'percent', limit: 100, used: percent, remaining: 100 - percent },
    usedRatio: percent / 100,
    ...(resetMs === undefined ? {} : { resetMs }),
  };
}
