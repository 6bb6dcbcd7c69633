// tollbridge.yaml: its schema, its defaults and how its mistakes are told. Every key has a default; unknown keys are
// errors; all mistakes are reported at once.

import { readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { messageOf, PermanentFailure } from './failure.ts';
import { LOG_LEVELS } from './log.ts';

/** A unix socket's path must fit the kernel's `sun_path`, its closing NUL included: 108 bytes on Linux, 104 on macOS. */
const SOCKET_PATH_MAX_BYTES = process.platform === 'darwin' ? 103 : 107;
const DURATION_UNITS_MS: Record<string, number> = { ms: 1, s: 1e3, m: 60e3, h: 3600e3, d: 86_400e3 };
const POLL_MIN_MS = 1000;

/** `30s`, `5m`, `90d` … → milliseconds. */
function duration(options: { min?: number } = {}) {
  return z.string().transform((text, context) => {
    const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim());
    const ms = match ? Number(match[1]) * DURATION_UNITS_MS[match[2] as string]! : Number.NaN;
    if (!match) {
      context.issues.push({ code: 'custom', input: text, message: 'expected a duration such as 30s, 5m, 12h or 90d' });
    } else if (ms < (options.min ?? 0)) {
      context.issues.push({ code: 'custom', input: text, message: `expected at least ${(options.min ?? 0) / 1000}s` });
    }
    return ms;
  });
}

const listen = z.string().transform((text, context) => {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:\s]+)):(\d{1,5})$/.exec(text.trim());
  const port = match ? Number(match[3]) : -1;
  if (!match || port > 65_535) {
    context.issues.push({ code: 'custom', input: text, message: 'expected host:port, for example 127.0.0.1:9464' });
  }
  return { host: match?.[1] ?? match?.[2] ?? '', port };
});

const timeZone = z.string().refine(
  (zone) => {
    try {
      new Intl.DateTimeFormat('en', { timeZone: zone });
      return true;
    } catch {
      return false;
    }
  },
  { message: 'expected an IANA time zone such as Europe/Berlin or UTC' },
);

const envName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'expected the name of an environment variable');
const labelValue = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/, 'expected 1 to 64 letters, digits or . _ - @, starting with a letter or digit');
const providerId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$/, 'expected a provider id such as anthropic or my-litellm')
  .transform((id) => id.toLowerCase());
const httpUrl = z.url({ protocol: /^https?$/, error: 'expected an http(s) URL' });
const usdPerMillion = z.number().min(0).max(1e6);
const cap = z.int().min(1).max(100_000);

const account = z.strictObject({
  id: labelValue,
  provider: providerId,
  api_key_env: envName.optional(),
  api_key_file: z.string().optional(),
  base_url: httpUrl.optional(),
  console_key_env: envName.optional(),
  console_key_file: z.string().optional(),
  console_url: httpUrl.optional(),
  console_cookie_file: z.string().optional(),
  extra: z
    .strictObject({
      opencode_workspace_id: z
        .string()
        .regex(/^wrk_[0-9A-HJKMNP-TV-Z]{26}$/, 'expected wrk_ and 26 characters')
        .optional(),
    })
    .prefault({}),
});

/** Which turns a rule is for (globs with `*`), and how they are paid. */
const pricingRule = z
  .strictObject({
    provider: z.string().default('*'),
    model: z.string().default('*'),
    state: z.enum(['free', 'included', 'estimated']),
    usd_per_million_tokens: z
      .strictObject({
        input: usdPerMillion,
        output: usdPerMillion,
        reasoning: usdPerMillion.optional(),
        cache_read: usdPerMillion.optional(),
        cache_write: usdPerMillion.optional(),
      })
      .optional(),
  })
  .refine((rule) => (rule.state === 'estimated') === (rule.usd_per_million_tokens !== undefined), {
    path: ['usd_per_million_tokens'],
    message: 'expected prices exactly when state is "estimated"',
  });

function defaultStateDir(): string {
  const base = process.env.XDG_STATE_HOME?.trim();
  return path.join(base || path.join(os.homedir(), '.local', 'state'), 'tollbridge');
}

const schema = z.strictObject({
  state_dir: z.string().min(1).optional(),
  time_zone: timeZone.optional(),
  metrics: z.strictObject({ listen: listen.prefault('127.0.0.1:9464'), token_env: envName.optional() }).prefault({}),
  socket: z
    .strictObject({
      enabled: z.boolean().default(true),
      path: z.string().min(1).optional(),
      group: z.string().min(1).optional(),
      identity: z.strictObject({ team: labelValue.optional(), user: labelValue.optional() }).optional(),
    })
    .prefault({}),
  spool: z.strictObject({ enabled: z.boolean().default(true), dir: z.string().min(1).optional() }).prefault({}),
  detect: z.boolean().default(true),
  accounts: z.array(account).default([]),
  poll: z
    .strictObject({
      interval: duration({ min: POLL_MIN_MS }).prefault('30s'),
      console_interval: duration({ min: POLL_MIN_MS }).prefault('5m'),
      publish: z.literal(false, 'expected false: publishing polls needs a bus, which this version does not have').default(false),
    })
    .prefault({}),
  telemetry: z
    .strictObject({ provider_links: z.record(providerId, providerId).default({}) })
    .prefault({}),
  gateways: z.record(providerId, z.union([providerId, z.record(z.string().min(1), providerId)])).default({}),
  pricing: z.array(pricingRule).default([]),
  labels: z
    .strictObject({
      project: z.enum(['name', 'hash', 'off']).default('name'),
      caps: z
        .strictObject({
          model: cap.default(200),
          project: cap.default(50),
          user: cap.default(200),
          tool: cap.default(100),
          mcp_server: cap.default(50),
          series: z.int().min(100).max(1_000_000).default(20_000),
        })
        .prefault({}),
    })
    .prefault({}),
  retention: duration({ min: 86_400e3 }).prefault('90d'),
  log: z.strictObject({ level: z.enum(LOG_LEVELS).default('info') }).prefault({}),
});

type Parsed = z.output<typeof schema>;
export type AccountConfig = Parsed['accounts'][number];
export type PricingRule = Parsed['pricing'][number];
export type GatewayRules = Parsed['gateways'];
export type LabelCaps = Parsed['labels']['caps'];

/** The configuration with every default filled in; durations in ms, paths absolute. */
export interface Config extends Omit<Parsed, 'state_dir' | 'time_zone' | 'socket' | 'spool'> {
  readonly state_dir: string;
  readonly time_zone: string;
  readonly socket: Omit<Parsed['socket'], 'path'> & { readonly path: string };
  readonly spool: Omit<Parsed['spool'], 'dir'> & { readonly dir: string };
  /** Where it was read from; absent when it is all defaults. */
  readonly file?: string;
}

/** One mistake in a configuration. */
export interface ConfigMistake {
  readonly path: string;
  readonly found: string;
  readonly expected: string;
}

/** Thrown when a configuration cannot be used. `mistakes` holds all of them; the message lists them. */
export class ConfigFailure extends PermanentFailure {
  readonly mistakes: readonly ConfigMistake[];

  constructor(source: string, mistakes: readonly ConfigMistake[]) {
    const lines = mistakes.map((m) => `  ${m.path}: found ${m.found}; ${m.expected}`);
    const count = mistakes.length === 1 ? '1 mistake' : `${mistakes.length} mistakes`;
    super(`${source} has ${count}:\n${lines.join('\n')}\nCorrect the file, then try it with: tollbridge check-config`);
    this.mistakes = mistakes;
  }
}

/** How a value is shown in a message: shortened, and never if it could be a secret. */
function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object') return 'a mapping';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}…"` : text;
}

function valueAt(root: unknown, at: readonly PropertyKey[]): unknown {
  let value = root;
  for (const key of at) {
    if (value === null || typeof value !== 'object') return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

const pathText = (at: readonly PropertyKey[]) =>
  at.reduce<string>((text, key) => (typeof key === 'number' ? `${text}[${key}]` : text ? `${text}.${String(key)}` : String(key)), '') ||
  '(whole file)';

function toMistakes(issue: z.core.$ZodIssue, input: unknown): ConfigMistake[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      path: pathText([...issue.path, key]),
      found: 'an unknown key',
      expected: 'expected one that the documentation names; check the spelling and the indentation',
    }));
  }
  if (issue.code === 'invalid_union') {
    return [{ path: pathText(issue.path), found: describe(valueAt(input, issue.path)), expected: 'expected a provider id, or a mapping of model globs to provider ids' }];
  }
  let expected = issue.message;
  if (issue.code === 'invalid_type') expected = `expected ${issue.expected === 'record' ? 'a mapping' : issue.expected}`;
  else if (issue.code === 'invalid_value') expected = issue.message.startsWith('expected') ? issue.message : `expected ${issue.values.map((v) => JSON.stringify(v)).join(', ')}`;
  else if (!expected.startsWith('expected')) expected = `expected ${expected.replace(/^[A-Z]/, (c) => c.toLowerCase())}`;
  return [{ path: pathText(issue.path), found: describe(valueAt(input, issue.path)), expected }];
}

/** Mistakes that only the whole configuration can show. */
function crossMistakes(config: Config): ConfigMistake[] {
  const mistakes: ConfigMistake[] = [];
  const bytes = Buffer.byteLength(config.socket.path);
  if (config.socket.enabled && bytes > SOCKET_PATH_MAX_BYTES) {
    mistakes.push({
      path: 'socket.path',
      found: `a path of ${bytes} bytes`,
      expected: `expected at most ${SOCKET_PATH_MAX_BYTES}, the kernel's limit for a socket; set socket.path or state_dir to a shorter one`,
    });
  }
  const seen = new Map<string, number>();
  config.accounts.forEach((entry, index) => {
    const key = `${entry.provider}/${entry.id}`;
    const first = seen.get(key);
    if (first !== undefined) {
      mistakes.push({ path: `accounts[${index}].id`, found: JSON.stringify(entry.id), expected: `expected another id: accounts[${first}] has this one at the same provider` });
    }
    seen.set(key, first ?? index);
    if (entry.api_key_env && entry.api_key_file) {
      mistakes.push({ path: `accounts[${index}].api_key_file`, found: 'a second key', expected: 'expected only one of api_key_env and api_key_file' });
    }
    const url = entry.base_url && new URL(entry.base_url);
    if (url && url.protocol === 'http:' && !['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname)) {
      mistakes.push({ path: `accounts[${index}].base_url`, found: 'http to another machine', expected: 'expected https: an API key would travel in clear' });
    }
    if (url && /\/zen\/?$/.test(url.pathname)) {
      mistakes.push({ path: `accounts[${index}].base_url`, found: 'a URL that ends in /zen', expected: 'expected it without /zen, which is added' });
    }
  });
  return mistakes;
}

/**
 * Checks a configuration and fills in its defaults.
 * @param input what the YAML file holds (null for an empty one)
 * @param source how messages name it
 * @throws ConfigFailure with all mistakes at once
 */
export function parseConfig(input: unknown, source = 'the configuration'): Config {
  const raw = input ?? {};
  const result = schema.safeParse(raw, { reportInput: false });
  if (!result.success) throw new ConfigFailure(source, result.error.issues.flatMap((issue) => toMistakes(issue, raw)));
  const parsed = result.data;
  const stateDir = path.resolve(parsed.state_dir ?? defaultStateDir());
  const config: Config = {
    ...parsed,
    state_dir: stateDir,
    time_zone: parsed.time_zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
    socket: { ...parsed.socket, path: path.resolve(parsed.socket.path ?? path.join(stateDir, 'tollbridge.sock')) },
    spool: { ...parsed.spool, dir: path.resolve(parsed.spool.dir ?? path.join(stateDir, 'hook-spool')) },
  };
  const mistakes = crossMistakes(config);
  if (mistakes.length > 0) throw new ConfigFailure(source, mistakes);
  return config;
}

/** Where a configuration is looked for when no `--config` names one. */
export function defaultConfigFile(): string {
  const base = process.env.XDG_CONFIG_HOME?.trim();
  return path.join(base || path.join(os.homedir(), '.config'), 'tollbridge', 'tollbridge.yaml');
}

/**
 * Reads a configuration file. Without `file` the default place is tried, and nothing there means all defaults.
 * @throws ConfigFailure with all mistakes; PermanentFailure when the file cannot be read
 */
export function loadConfig(file?: string): Config {
  const name = path.resolve(file ?? defaultConfigFile());
  let text: string;
  try {
    text = readFileSync(name, 'utf8');
  } catch (error) {
    if (!file && (error as NodeJS.ErrnoException).code === 'ENOENT') return parseConfig({}, 'the default configuration');
    throw new PermanentFailure(`${name} cannot be read: ${messageOf(error)}. Name another file with --config, or create it.`);
  }
  const document = parseDocument(text, { prettyErrors: true });
  if (document.errors.length > 0) {
    const mistakes = document.errors.map((e) => ({
      path: `line ${e.linePos?.[0].line ?? '?'}`,
      found: 'text that is not YAML',
      expected: `expected valid YAML (${e.code})`,
    }));
    throw new ConfigFailure(name, mistakes);
  }
  return { ...parseConfig(document.toJS({ maxAliasCount: 0 }), name), file: name };
}
