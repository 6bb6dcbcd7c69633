// Messages as OpenCode posts them, and how the tests look at what they become.

import assert from 'node:assert/strict';
import { type Decoded, decodeHook } from '../../src/turn/normalize.ts';

export const STARTED = 1795293928466;
export const COMPLETED = 1795293929681;
export const SESSION = 'ses_e0024aabeffeTJvYh8LUq04Z7L';
export const MESSAGE = 'msg_1ffdb5c12001FVGJyLAr5W8Gm0';
export const EVENT = 'evt_1ffdb60d1001Av8Hr3q0CRYkFP';
export const TOKENS = { total: 1400, input: 1030, output: 50, reasoning: 20, cache: { write: 7, read: 300 } };

/** An id as OpenCode makes them: its birth and a number, or their complement in a session's, and a tail. Of one kind and moment they sort by number. */
export function opencodeId(kind: string, bornMs: number, n = 0, tail = '0'.repeat(14)): string {
  const born = BigInt(bornMs) * 4096n + BigInt(n);
  const digits = (kind === 'ses' ? ~born : born) & 0xffff_ffff_ffffn;
  return `${kind}_${digits.toString(16).padStart(12, '0')}${tail}`;
}

export type Json = Record<string, unknown>;
export const info = (changes: Json = {}): Json => ({
  id: MESSAGE,
  sessionID: SESSION,
  role: 'assistant',
  providerID: 'MockChat',
  modelID: 'Vendor/Mock-A',
  path: { cwd: '/home/dev/shop/api', root: '/home/dev/shop' },
  time: { created: STARTED, completed: COMPLETED },
  finish: 'stop',
  cost: 0.00423,
  tokens: TOKENS,
  ...changes,
});
export const message = (changes: Json = {}): Json => ({
  event: { id: EVENT, type: 'message.updated', properties: { sessionID: SESSION, info: info(changes) } },
});

export function only(payload: unknown, context = {}): Decoded {
  const decoded = decodeHook('opencode', payload, context);
  assert.equal(decoded.length, 1);
  return decoded[0]!;
}
export function event(payload: unknown, context = {}): Json {
  const decoded = only(payload, context);
  assert.equal(decoded.type, 'event', JSON.stringify(decoded));
  return { ...(decoded as { event: object }).event };
}
export const ignoredKind = (payload: unknown) => {
  const decoded = only(payload);
  return decoded.type === 'ignored' ? decoded.kind : decoded.type;
};

export const of = (type: string, properties: Json = {}, id: string | null = EVENT) => ({
  event: { id, type, properties },
});

export const failed = { name: 'APIError', data: { message: 'no', statusCode: 402 } };
