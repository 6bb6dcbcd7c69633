// The part of a configuration that is about sending by OTLP: all metrics, and on request runs as traces and log records.

import { z } from 'zod';
import { duration, envName, httpUrl, isLoopbackHost } from './config-fields.ts';
import type { ConfigMistake } from './config-mistake.ts';

export const OTLP_SIGNALS = ['metrics', 'traces', 'logs'] as const;
export type OtlpSignal = (typeof OTLP_SIGNALS)[number];

/** Sent to a receiver of its own, to the common one (`true`), or not at all. */
const signal = z
  .union([z.boolean(), z.strictObject({ endpoint: httpUrl, headers_env: envName.optional() })], {
    error: 'expected true, false, or an endpoint of its own',
  })
  .default(false);

export const otlp = z.strictObject({
  endpoint: httpUrl.optional(),
  headers_env: envName.optional(),
  // Prometheus takes a series for ended when nothing came for five minutes; an hour suits stores that do not.
  interval: duration(['5s', '1h']).prefault('60s'),
  plaintext: z.boolean().default(false),
  metrics: z.boolean().default(true),
  traces: signal,
  logs: signal,
});

export type OtlpConfig = z.output<typeof otlp>;

/** Where one signal goes. */
export interface OtlpTarget {
  /** As configured. */
  readonly endpoint: string;
  /** Where requests go. */
  readonly url: string;
  readonly headers_env?: string | undefined;
  /** The key that `endpoint` is from, for messages. */
  readonly key: string;
}

/** Where each signal goes that is sent; metrics go wherever there is a common receiver, unless they are turned off. */
export function otlpTargets(config: OtlpConfig): Partial<Record<OtlpSignal, OtlpTarget>> {
  const targets: Partial<Record<OtlpSignal, OtlpTarget>> = {};
  for (const name of OTLP_SIGNALS) {
    const wish = config[name];
    const isOwn = typeof wish === 'object';
    const { endpoint, headers_env } = isOwn ? wish : config;
    if (wish === false || endpoint === undefined) continue;
    targets[name] = { endpoint, url: urlOf(endpoint, name), headers_env, key: isOwn ? `otlp.${name}` : 'otlp' };
  }
  return targets;
}

/** Below the endpoint, unless it is the signal's own path already; another signal's path is replaced. */
function urlOf(endpoint: string, name: OtlpSignal): string {
  const url = new URL(endpoint);
  url.pathname = `${url.pathname.replace(/\/+$/, '').replace(/\/v1\/(metrics|traces|logs)$/, '')}/v1/${name}`;
  return url.href;
}

/** Mistakes that only the whole of it can show. */
export function otlpMistakes(config: OtlpConfig): ConfigMistake[] {
  const targets = Object.values(otlpTargets(config));
  const homeless = (['traces', 'logs'] as const).filter((name) => config[name] === true && !config.endpoint);
  const mistakes: ConfigMistake[] = homeless.map((name) => ({
    path: `otlp.${name}`,
    found: 'true without otlp.endpoint',
    expected: `expected otlp.endpoint, or otlp.${name}.endpoint in its place`,
  }));
  if (targets.length === 0 && homeless.length === 0) {
    const expected = 'expected otlp.endpoint, or traces or logs with an endpoint of their own';
    mistakes.push({ path: 'otlp', found: 'nothing that is sent anywhere', expected });
  }
  const receivers = new Map(targets.map((target) => [target.key, target]));
  return [...mistakes, ...[...receivers.values()].flatMap((target) => receiverMistakes(target, config.plaintext))];
}

function receiverMistakes({ key, endpoint, headers_env }: OtlpTarget, isPlaintextFine: boolean): ConfigMistake[] {
  const url = new URL(endpoint);
  const mistakes: ConfigMistake[] = [];
  const mistake = (found: string, expected: string) => mistakes.push({ path: `${key}.endpoint`, found, expected });
  if (url.username || url.password) {
    mistake(
      'a user name or password',
      `expected a URL without them; name the variable of a header in ${key}.headers_env`,
    );
  }
  if (url.search || url.hash)
    mistake('a URL with ? or #', 'expected a URL to which /v1/metrics or the like can be added');
  if (headers_env && url.protocol === 'http:' && !isPlaintextFine && !isLoopbackHost(url.hostname)) {
    mistake(
      'http to another machine',
      `expected https: what ${key}.headers_env holds would travel in clear; or otlp.plaintext: true on a private network`,
    );
  }
  return mistakes;
}
