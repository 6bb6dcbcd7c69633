// Asks the bridge that runs on this machine what it knows. Commands never open the ledger beside a running bridge.

import http from 'node:http';
import type { Config } from '../config.ts';
import { messageOf } from '../failure.ts';
import type { BridgeStatus, RelayStatus } from '../status.ts';

/** A bridge in the middle of a large commit answers late; one that hangs should not hang its doctor. */
const ANSWER_TIMEOUT_MS = 5000;

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
    const { statusCode, body } = await get(socketPath, '/v1/status');
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

function get(socketPath: string, path: string): Promise<{ statusCode: number | undefined; body: string }> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const request = http.get({ socketPath, path, agent: false, signal }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => resolve({ statusCode: response.statusCode, body: Buffer.concat(chunks).toString() }));
    });
    request.on('error', reject);
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

function reasonOf(error: unknown, socketPath: string): string {
  if (error instanceof SyntaxError) return `what answers at ${socketPath} does not speak JSON`;
  const { code, name } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return `there is no socket at ${socketPath}`;
  if (code === 'ECONNREFUSED') return `nobody listens at ${socketPath}; the bridge that made it is gone`;
  if (code === 'EACCES') return `this user may not open ${socketPath}`;
  if (code === 'ABORT_ERR' || name === 'TimeoutError') {
    return `the bridge at ${socketPath} did not answer within ${ANSWER_TIMEOUT_MS / 1000} seconds`;
  }
  return `${socketPath}: ${messageOf(error)}`;
}
