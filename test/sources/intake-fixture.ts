// What the tests of the sources share: a sink that keeps what it was given, a meter that can be added up, and senders
// that behave like the real ones.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { RetryableFailure } from '../../src/failure.ts';
import type { LedgerPart } from '../../src/ledger/ledger.ts';
import { createLog } from '../../src/log.ts';
import type { PollResult } from '../../src/poll/poll-result.ts';
import type { ReceiverLimits } from '../../src/sources/event-receiver.ts';
import { type EventLedger, LedgerSink } from '../../src/sources/ledger-sink.ts';
import { SocketServer } from '../../src/sources/socket-server.ts';
import { Intake, type SourceMeter } from '../../src/sources/source.ts';
import { Attribution } from '../../src/turn/attribution.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import type { Booking, MeterEvent } from '../../src/turn/turn-event.ts';

/** A ledger that forgets at exit: it knows what it has seen by content, and can be told to fail. */
export class MemoryLedger implements EventLedger {
  readonly events: MeterEvent[] = [];
  readonly polls: PollResult[] = [];
  readonly #seen = new Set<string>();
  backlogEvents = 0;
  attempts = 0;
  /** Commits fail with what this gives, as long as it gives something. */
  failure: () => Error | undefined = () => undefined;
  /** Runs before each commit. */
  beforeCommit: () => Promise<void> | void = () => {};

  submitAll(parts: readonly LedgerPart[]): Promise<Booking[]> {
    return this.submit(parts.flatMap(({ events }) => events));
  }

  async submit(events: readonly MeterEvent[]): Promise<Booking[]> {
    this.attempts++;
    this.backlogEvents += events.length;
    try {
      await new Promise((resolve) => setImmediate(resolve));
      await this.beforeCommit();
      const failure = this.failure();
      if (failure) throw failure;
    } finally {
      this.backlogEvents -= events.length;
    }
    return events.map((event) => {
      const key = JSON.stringify(event);
      if (this.#seen.has(key)) return { outcome: { type: 'duplicate' } };
      this.#seen.add(key);
      this.events.push(event);
      return { outcome: { type: 'recorded' } };
    });
  }

  async recordPoll(poll: PollResult): Promise<Booking> {
    this.polls.push(poll);
    return { outcome: { type: 'recorded' } };
  }
}

export const diskFull = () => new RetryableFailure('the disk is full', { retryAfterS: 0.01 });

/** Adds everything up per source. */
export class CountingMeter implements SourceMeter {
  readonly counts: Record<string, Record<string, number>> = {};
  readonly upStates: Record<string, boolean> = {};
  readonly mismatches: Record<string, number> = {};

  of(source: string): Record<string, number> {
    this.counts[source] ??= {
      received: 0,
      recorded: 0,
      updated: 0,
      duplicate: 0,
      ignored: 0,
      rejected: 0,
      truncated: 0,
    };
    return this.counts[source];
  }

  #add(source: string, name: string, amount = 1): void {
    const counts = this.of(source);
    counts[name] = (counts[name] ?? 0) + amount;
  }

  received(source: string, events: number): void {
    this.#add(source, 'received', events);
  }
  identityMismatch(source: string): void {
    this.mismatches[source] = (this.mismatches[source] ?? 0) + 1;
  }
  booked(source: string, bookings: readonly Booking[]): void {
    for (const booking of bookings) this.#booked(source, booking);
  }
  #booked(source: string, { outcome, unitCorrections, identityMismatch, inconsistent, twin }: Booking): void {
    if (inconsistent) this.#add(source, 'inconsistent');
    if (twin) this.#add(source, 'twin');
    if (identityMismatch) this.identityMismatch(source);
    this.#add(source, outcome.type);
    if (outcome.type === 'rejected') this.#add(source, `rejected:${outcome.reason}`);
    if (outcome.type === 'ignored') this.#add(source, `ignored:${outcome.kind}`);
    if (unitCorrections) this.#add(source, `corrected:${unitCorrections.provider}`, unitCorrections.values);
  }
  truncated(source: string): void {
    this.#add(source, 'truncated');
  }
  refused(source: string, reason: string): void {
    this.#add(source, `refused:${reason}`);
  }
  lost(source: string, requests = 1): void {
    this.#add(source, 'lost', requests);
  }
  up(source: string, isUp: boolean): void {
    this.upStates[source] = isUp;
  }
  success(): void {}

  assertConserved(source: string): void {
    const { received, recorded, updated, duplicate, ignored, rejected } = this.of(source) as Record<string, number>;
    assert.equal(recorded! + updated! + duplicate! + ignored! + rejected!, received, JSON.stringify(this.of(source)));
  }
}

export const silentLog = createLog('silent');

/** A log whose lines can be read. */
export function readableLog() {
  const lines: string[] = [];
  return { log: createLog('trace', { write: (line: string) => void lines.push(line) }), lines };
}

export function temporaryFolder(t: TestContext): string {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'tollbridge-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export function newIntake(now?: () => number) {
  const ledger = new MemoryLedger();
  const meter = new CountingMeter();
  const attribution = new Attribution({ gateways: {}, pricing: new Pricing([]), accounts: [], project: 'name' });
  const clock = now ? { now } : {};
  const sink = new LedgerSink({ ledger, attribution, ...clock });
  return { sink: ledger, meter, intake: new Intake({ sink, meter, ...clock }) };
}

/** A socket server in a folder of its own, stopped when the test ends. */
export async function startServer(
  t: TestContext,
  options: { limits?: Partial<ReceiverLimits>; group?: string; watchEveryMs?: number } = {},
) {
  const parts = newIntake();
  const { log, lines } = readableLog();
  const socket = path.join(temporaryFolder(t), 'private', 't.sock');
  const server = new SocketServer({
    path: socket,
    intake: parts.intake,
    identity: { team: 'core' },
    meter: parts.meter,
    log,
    status: () => ({ version: '0' }),
    health: () => ({ status: 'ok' }),
    ...options,
  });
  await server.start();
  t.after(() => server.stop());
  return { ...parts, server, socket, log: lines };
}

/** Waits for a condition; the limit only bounds a test that has failed. */
export async function until(condition: () => boolean, what = 'the condition'): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, `waited too long for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const START_MS = Date.UTC(2026, 1, 22, 10);

/** A completed turn as OpenCode's bus tells it. */
export function turnPayload(n: number, fields: Record<string, unknown> = {}) {
  const info = {
    id: `msg-${n}`,
    sessionID: `ses-${n % 50}`,
    role: 'assistant',
    modelID: 'claude-sonnet-4',
    providerID: 'anthropic',
    path: { cwd: '/home/somebody/work', root: '/home/somebody/work' },
    time: { created: START_MS + n, completed: START_MS + n + 10 },
    finish: 'stop',
    cost: 0.001,
    tokens: { input: 10, output: 20, reasoning: 0, cache: { read: 0, write: 0 } },
    ...fields,
  };
  return { event: { type: 'message.updated', properties: { info } } };
}

/** The record of `/v1/events` and the spool that holds such a turn. */
export const turnRecord = (n: number) => ({ source: 'opencode', account_id: '', payload: turnPayload(n) });

export interface Answered {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  readonly json: Record<string, unknown>;
}

/** One request over a unix socket; resolves with its answer. */
export function ask(
  socketPath: string,
  path_: string,
  {
    method = 'GET',
    body,
    headers = {},
    agent,
  }: { method?: string; body?: string | Buffer; headers?: http.OutgoingHttpHeaders; agent?: http.Agent } = {},
): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, path: path_, method, headers, agent: agent ?? false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const json = text.startsWith('{') ? JSON.parse(text) : {};
        resolve({ status: response.statusCode!, headers: response.headers, text, json });
      });
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

export const post = (socketPath: string, to: string, body: unknown) =>
  ask(socketPath, to, {
    method: 'POST',
    body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
  });

/** As OpenUsage's plugin sends: HTTP/1.0, one write, and gone in its callback. Resolves with whether it was written. */
export function fireAndForget(socketPath: string, to: string, payload: unknown): Promise<boolean> {
  const body = JSON.stringify(payload);
  const head = [
    `POST ${to} HTTP/1.0`,
    'Host: localhost',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ];
  return new Promise((resolve) => {
    const socket = net.createConnection({ path: socketPath }, () => {
      socket.write(`${head.join('\r\n')}\r\n\r\n${body}`, (error) => {
        socket.destroy();
        resolve(!error);
      });
    });
    socket.on('error', () => resolve(false));
  });
}

/** Writes raw bytes and collects all that comes back until the server closes. */
export function raw(socketPath: string, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = net.createConnection({ path: socketPath }, () => socket.write(bytes));
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
  });
}
