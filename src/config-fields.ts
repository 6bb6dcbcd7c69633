// The kinds of value that a configuration has. Each says what was expected, and none repeats what was found.

import os from 'node:os';
import path from 'node:path';
import { z } from 'zod';

const DURATION_UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1e3, m: 60e3, h: 3600e3, d: 86_400e3 };
const LOOPBACK_HOSTS = ['127.0.0.1', '[::1]', 'localhost'];

export function isLoopbackHost(host: string): boolean {
  return LOOPBACK_HOSTS.includes(host) || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function durationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim());
  return match ? Number(match[1]) * DURATION_UNITS_MS[match[2] as string]! : Number.NaN;
}

/** `30s`, `5m`, `90d` … → milliseconds. */
export function duration([min, max]: readonly [string, string]) {
  const form = 'expected a duration such as 30s, 5m, 12h or 90d';
  return z.string(form).transform((text, context) => {
    const ms = durationMs(text);
    const refuse = (message: string) => context.issues.push({ code: 'custom', input: text, message });
    if (Number.isNaN(ms)) refuse(form);
    else if (ms < durationMs(min)) refuse(`expected at least ${min}`);
    else if (ms > durationMs(max)) refuse(`expected at most ${max}`);
    return ms;
  });
}

/** A file or folder: `~/` is the home folder, everything else is relative to the working folder. */
export const filePath = z
  .string()
  .min(1)
  .transform((text) => path.resolve(text.replace(/^~(?=\/|$)/, os.homedir())));

const LISTEN_FORM = 'expected host:port, for example 127.0.0.1:9464';
export const listen = z.string(LISTEN_FORM).transform((text, context) => {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:\s]+)):(\d{1,5})$/.exec(text.trim());
  const port = match ? Number(match[3]) : -1;
  if (!match || port > 65_535) {
    context.issues.push({ code: 'custom', input: text, message: LISTEN_FORM });
  }
  return { host: match?.[1] ?? match?.[2] ?? '', port };
});

const TIME_ZONE_FORM = 'expected an IANA time zone such as Europe/Berlin or UTC';
export const timeZone = z.string(TIME_ZONE_FORM).refine(
  (zone) => {
    // Intl takes offsets too, but an offset knows no summer time: days would begin an hour off for half a year.
    if (/^[+-]/.test(zone)) return false;
    try {
      new Intl.DateTimeFormat('en', { timeZone: zone });
      return true;
    } catch {
      return false;
    }
  },
  { message: TIME_ZONE_FORM },
);

export const envName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'expected the name of an environment variable');
export const labelValue = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
    'expected 1 to 64 letters, digits or . _ -, starting with a letter or digit',
  );
export const providerId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$/, 'expected a provider id such as anthropic or my-litellm')
  .transform((id) => id.toLowerCase());
/** What a TLS listener shows, and who signs the certificates that its clients must show. */
export const serverTls = z.strictObject({
  cert_file: filePath,
  key_file: filePath,
  client_ca_file: filePath.optional(),
});
export const httpUrl = z.url({ protocol: /^https?$/, error: 'expected an http(s) URL' });
