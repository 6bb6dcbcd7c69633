// Asks the bridge that runs on this machine what it knows. Commands never open the ledger beside a running bridge.

import http from 'node:http';
import { commandText } from '../command-text.ts';
import type { Config } from '../config.ts';
import { messageOf, PermanentFailure, RetryableFailure } from '../failure.ts';
import type { BridgeStatus, RelayStatus } from '../status.ts';

/** A bridge in the middle of a large commit answers late; one that hangs should not hang its doctor. */
const ANSWER_TIMEOUT_MS = 5000;
/** What is reckoned on demand may take longer than what is at hand. */
const RECKONING_TIMEOUT_MS = 30_000;

export type BridgeAnswer =
  | { readonly answers: true; readonly status: BridgeStatus }
  /** `why` completes "no bridge answers: …". */
  | {
      readonly answers: false;
      readonly why: string;
      /** A relay has the socket of this machine: what it takes in is counted elsewhere. */
      readonly relay?: RelayStatus;
    };

/** Asks over the configured socket. Never throws: that nobody answers is an answer. */
export async function askBridge(config: Pick<Config, 'socket'>): Promise<BridgeAnswer> {
  const { enabled, path: socketPath } = config.socket;
  if (!enabled) return { answers: false, why: 'its socket is switched off (socket.enabled: false)' };
  try {
    const { statusCode, body } = await send(socketPath, { path: '/v1/status' });
    if (statusCode !== 200) return { answers: false, why: `${socketPath} answered with HTTP ${statusCode}` };
    const status: unknown = JSON.parse(body);
    if (isRelayStatus(status)) {
      return {
        answers: false,
        why: `${socketPath} is a relay's: turns are counted by a bridge elsewhere`,
        relay: status,
      };
    }
    if (!isBridgeStatus(status)) return { answers: false, why: `what answers at ${socketPath} is not this Tollbridge` };
    return { answers: true, status };
  } catch (error) {
    return { answers: false, why: reasonOf(error, socketPath) };
  }
}

/** Whom a command asks, and how its user would call another one. */
export interface Asker {
  readonly config: Pick<Config, 'socket'>;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * The status of the bridge that runs here.
 * @throws RetryableFailure when no bridge answers; PermanentFailure where a relay runs instead
 */
export async function runningBridge({ config, env }: Asker): Promise<BridgeStatus> {
  const answer = await askBridge(config);
  if (answer.answers) return answer.status;
  if (answer.relay) {
    throw new PermanentFailure(
      'A relay runs here, and turns are counted by a bridge elsewhere: ask on its machine. ' +
        `How the relay does is told by "${commandText('doctor', { env })}".`,
    );
  }
  throw new RetryableFailure(
    `No bridge answers: ${answer.why}. The numbers live in the running bridge: start it with ` +
      `"${commandText('start', { env })}", or ask "${commandText('doctor', { env })}" what is wrong.`,
  );
}

/** A question of a command; with a body it is posted. */
interface Question {
  readonly path: string;
  readonly body?: object;
}

/**
 * What the running bridge answers to a question of this version.
 * @throws PermanentFailure when the bridge refuses it or does not know it, RetryableFailure when it cannot answer now
 */
export async function askRunning(config: Pick<Config, 'socket'>, question: Question): Promise<unknown> {
  const { path: socketPath } = config.socket;
  let answer: { statusCode: number | undefined; body: string };
  let said: { error?: unknown } | null;
  try {
    answer = await send(socketPath, { ...question, timeoutMs: RECKONING_TIMEOUT_MS });
    said = JSON.parse(answer.body);
  } catch (error) {
    throw new RetryableFailure(`The bridge gave no answer: ${reasonOf(error, socketPath, RECKONING_TIMEOUT_MS)}.`);
  }
  const { statusCode } = answer;
  if (statusCode === 200) return said;
  if (statusCode === 404) {
    throw new PermanentFailure(
      `The bridge at ${socketPath} does not know this question: it is of an older version. Restart it, then ask again.`,
    );
  }
  const why = typeof said?.error === 'string' ? said.error : `HTTP ${statusCode}`;
  if (statusCode === 400) throw new PermanentFailure(`The bridge cannot answer this: ${why}.`);
  throw new RetryableFailure(`The bridge cannot answer now: ${why}. Ask again in a moment.`);
}

function send(
  socketPath: string,
  { path, body, timeoutMs = ANSWER_TIMEOUT_MS }: Question & { readonly timeoutMs?: number },
): Promise<{ statusCode: number | undefined; body: string }> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMs);
    const method = body ? 'POST' : 'GET';
    const request = http.request({ socketPath, path, method, agent: false, signal }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => resolve({ statusCode: response.statusCode, body: Buffer.concat(chunks).toString() }));
    });
    request.on('error', reject);
    request.end(body && JSON.stringify(body));
  });
}

function isBridgeStatus(value: unknown): value is BridgeStatus {
  const status = value as Partial<BridgeStatus> | null;
  return typeof status?.version === 'string' && Array.isArray(status.tiles) && typeof status.ledger === 'object';
}

function isRelayStatus(value: unknown): value is RelayStatus {
  const status = value as Partial<RelayStatus> | null;
  return typeof status?.version === 'string' && typeof status.relay === 'object';
}

function reasonOf(error: unknown, socketPath: string, timeoutMs = ANSWER_TIMEOUT_MS): string {
  if (error instanceof SyntaxError) return `what answers at ${socketPath} does not speak JSON`;
  const { code, name } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return `there is no socket at ${socketPath}`;
  if (code === 'ECONNREFUSED') return `nobody listens at ${socketPath}; the bridge that made it is gone`;
  if (code === 'EACCES') return `this user may not open ${socketPath}`;
  if (code === 'ABORT_ERR' || name === 'TimeoutError') {
    return `the bridge at ${socketPath} did not answer within ${timeoutMs / 1000} seconds`;
  }
  return `${socketPath}: ${messageOf(error)}`;
}
