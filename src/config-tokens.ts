// The part of a configuration that is about senders on TCP: where they are listened to, and the tokens they bear.

import { z } from 'zod';
import { envName, filePath, isLoopbackHost, labelValue, listen, serverTls } from './config-fields.ts';
import { type ConfigMistake, repeats } from './config-mistake.ts';

/** Whole ones: a sender that has to wait never waits longer than the second that Retry-After can say. */
const requestsPerSecond = z.int().min(1).max(100_000);

export const tcp = z.strictObject({
  listen,
  tls: serverTls.optional(),
  plaintext: z.boolean().default(false),
  rate_limit: requestsPerSecond.default(200),
});

export const token = z.strictObject({
  sha256: z
    .string()
    .regex(/^[0-9a-fA-F]{64}$/, 'expected 64 hex digits, the SHA-256 of a token; "tollbridge token new" makes both')
    .transform((hex) => hex.toLowerCase())
    .optional(),
  token_env: envName.optional(),
  token_file: filePath.optional(),
  team: labelValue.optional(),
  user: labelValue.optional(),
  project: labelValue.optional(),
  rate_limit: requestsPerSecond.optional(),
});

export type TcpConfig = z.output<typeof tcp>;
export type TokenConfig = z.output<typeof token>;

const WAYS = ['sha256', 'token_env', 'token_file'] as const;

/** Mistakes that only all tokens together can show. One that has mistakes of its own comes as undefined. */
export function tokenMistakes(tokens: readonly (TokenConfig | undefined)[]): ConfigMistake[] {
  const mistakes: ConfigMistake[] = [];
  tokens.forEach((each, index) => {
    if (!each) return;
    const stated = WAYS.filter((way) => each[way] !== undefined);
    if (stated.length !== 1) {
      const found = stated.length === 0 ? 'no token' : stated.join(' and ');
      mistakes.push({ path: `tokens[${index}]`, found, expected: `expected exactly one of ${WAYS.join(', ')}` });
    }
  });
  for (const way of WAYS) {
    for (const { index, first } of repeats(tokens, (each) => each[way])) {
      const expected = `expected another token: tokens[${first}] has this one, and it can be one sender's only`;
      mistakes.push({ path: `tokens[${index}].${way}`, found: 'a token that was there before', expected });
    }
  }
  return mistakes;
}

/** Mistakes that only show beside the tokens, of which `tokenCount` are listed, with or without mistakes. */
export function tcpMistakes(
  { listen: { host }, tls, plaintext }: TcpConfig,
  { key, tokenCount }: { key: 'tcp' | 'otlp_in'; tokenCount: number },
): ConfigMistake[] {
  if (isLoopbackHost(host)) return [];
  const mistakes: ConfigMistake[] = [];
  if (tokenCount === 0 && tls?.client_ca_file === undefined) {
    const expected = `expected at least one, because other machines reach ${key}.listen; "tollbridge token new" makes one; or ${key}.tls.client_ca_file; or listen on 127.0.0.1`;
    mistakes.push({ path: 'tokens', found: 'nothing', expected });
  }
  if (!tls && !plaintext) {
    const expected = `expected cert_file and key_file: tokens would travel in clear to ${key}.listen; or ${key}.plaintext: true on a private network`;
    mistakes.push({ path: `${key}.tls`, found: 'nothing', expected });
  }
  return mistakes;
}
