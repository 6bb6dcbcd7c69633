// Messages as OpenCode posts them, and how the tests look at what they become.

import assert from 'node:assert/strict';
import { type Decoded, decodeHook } from '../../src/turn/normalize.ts';

export const STARTED = 1795293928466;
export const COMPLETED = 1795293929681;
export const SESSION = 'ses_e0024aabeffeTJvYh8LUq04Z7L';
export const MESSAGE = 'msg_1ffdb5c12001FVGJyLAr5W8Gm0';
export const EVENT = 'evt_1ffdb60d1001Av8Hr3q0CRYkFP';
export const TOKENS = { total: 1400, input: 1030, output: 50, reasoning: 20, cache: { write: 7, read: 300 } };

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
