// The part of a configuration that is about pushing metrics by OTLP.

import { z } from 'zod';
import { duration, envName, httpUrl, isLoopbackHost } from './config-fields.ts';
import type { ConfigMistake } from './config-mistake.ts';

const METRICS_PATH = '/v1/metrics';

export const otlp = z.strictObject({
  endpoint: httpUrl,
  headers_env: envName.optional(),
  // Prometheus takes a series for ended when nothing came for five minutes; an hour suits stores that do not.
  interval: duration(['5s', '1h']).prefault('60s'),
  plaintext: z.boolean().default(false),
});

export type OtlpConfig = z.output<typeof otlp>;

/** Where metrics go: below the endpoint, unless it is their own path already. */
export function otlpMetricsUrl({ endpoint }: Pick<OtlpConfig, 'endpoint'>): string {
  const url = new URL(endpoint);
  const base = url.pathname.replace(/\/+$/, '');
  url.pathname = base.endsWith(METRICS_PATH) ? base : base + METRICS_PATH;
  return url.href;
}

/** Mistakes that only the whole of it can show. */
export function otlpMistakes({ endpoint, headers_env, plaintext }: OtlpConfig): ConfigMistake[] {
  const url = new URL(endpoint);
  const mistakes: ConfigMistake[] = [];
  const mistake = (found: string, expected: string) => mistakes.push({ path: 'otlp.endpoint', found, expected });
  if (url.username || url.password) {
    mistake(
      'a user name or password',
      'expected a URL without them; name the variable of a header in otlp.headers_env',
    );
  }
  if (url.search || url.hash) mistake('a URL with ? or #', `expected a URL to which ${METRICS_PATH} can be added`);
  if (headers_env && url.protocol === 'http:' && !plaintext && !isLoopbackHost(url.hostname)) {
    mistake(
      'http to another machine',
      'expected https: what otlp.headers_env holds would travel in clear; or otlp.plaintext: true on a private network',
    );
  }
  return mistakes;
}
