// The part of a configuration that is about who reads metrics: where they are served, and what readers must show.

import { z } from 'zod';
import { envName, filePath, isLoopbackHost, listen, serverTls } from './config-fields.ts';
import type { ConfigMistake } from './config-mistake.ts';

export const metrics = z.strictObject({
  listen: listen.prefault('127.0.0.1:9464'),
  token_env: envName.optional(),
  token_file: filePath.optional(),
  tls: serverTls.optional(),
  plaintext: z.boolean().default(false),
  open: z.boolean().default(false),
});

export type MetricsConfig = z.output<typeof metrics>;

/** Mistakes that only show when the keys are seen together. */
export function metricsMistakes({ listen: { host }, tls, plaintext, open, ...token }: MetricsConfig): ConfigMistake[] {
  const mistakes: ConfigMistake[] = [];
  const mistake = (key: string, found: string, expected: string) =>
    mistakes.push({ path: `metrics.${key}`, found, expected });
  if (token.token_env && token.token_file) {
    mistake('token_file', 'a second token', 'expected only one of token_env and token_file');
  }
  const hasToken = (token.token_env ?? token.token_file) !== undefined;
  const isGuarded = hasToken || tls?.client_ca_file !== undefined;
  if (open && isGuarded) {
    mistake('open', 'true', 'expected false: readers are asked for a token or a certificate; or neither of these keys');
  }
  if (isLoopbackHost(host)) return mistakes;
  if (!isGuarded && !open) {
    mistake(
      'token_env',
      'nothing',
      'expected the variable of a token (or token_file, or tls.client_ca_file), because other machines reach metrics.listen; or listen on 127.0.0.1; or metrics.open: true where everybody may read',
    );
  }
  if (hasToken && !tls && !plaintext) {
    const expected =
      'expected cert_file and key_file: the token would travel in clear to metrics.listen; or metrics.plaintext: true on a private network';
    mistake('tls', 'nothing', expected);
  }
  return mistakes;
}
