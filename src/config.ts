// tollbridge.yaml: its schema, its defaults and how its mistakes are told. Every key has a default; unknown keys are
// errors; all mistakes are reported at once.

import { readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { isCollection, LineCounter, parseDocument, visit } from 'yaml';
import { z } from 'zod';
import {
  duration,
  envName,
  filePath,
  httpUrl,
  isLoopbackHost,
  labelValue,
  listen,
  providerId,
  timeZone,
} from './config-fields.ts';
import { type MetricsConfig, metrics, metricsMistakes } from './config-metrics.ts';
import {
  ConfigFailure,
  type ConfigMistake,
  firstOfEachPlace,
  prototypeKeyMistakes,
  repeats,
  toMistakes,
  toYamlMistake,
} from './config-mistake.ts';
import { type NatsConfig, nats, natsMistakes } from './config-nats.ts';
import { type OtlpConfig, otlp, otlpMistakes } from './config-otlp.ts';
import { type PolicyConfig, policyKeys, policyMistakes } from './config-policy.ts';
import { loadPriceList, type PricingRule, pricingRule } from './config-pricing.ts';
import { type TcpConfig, type TokenConfig, tcp, tcpMistakes, token, tokenMistakes } from './config-tokens.ts';
import { messageOf, PermanentFailure } from './failure.ts';
import { LOG_LEVELS } from './log.ts';

export { ConfigFailure, type ConfigMistake } from './config-mistake.ts';

/** A unix socket's path must fit the kernel's `sun_path`, its closing NUL included: 108 bytes on Linux, 104 on macOS. */
const SOCKET_PATH_MAX_BYTES = process.platform === 'darwin' ? 103 : 107;
/** `min` and `max` of a setting. Node's timers hold 24 days; what is longer fires at once. */
const POLL_LIMITS = ['1s', '24h'] as const;
/** Between two readings of an agent's own database. */
const IMPORT_LIMITS = ['10s', '24h'] as const;
/** The ledger keeps the hours and totals for ever; ten years of single turns are more than anybody reads. */
const RETENTION_LIMITS = ['1d', '3650d'] as const;
const cap = z.int().min(1).max(100_000);

const account = z.strictObject({
  id: labelValue,
  provider: providerId,
  api_key_env: envName.optional(),
  api_key_file: filePath.optional(),
  base_url: httpUrl.optional(),
  console_key_env: envName.optional(),
  console_key_file: filePath.optional(),
  console_url: httpUrl.optional(),
  console_cookie_env: envName.optional(),
  console_cookie_file: filePath.optional(),
  extra: z
    .strictObject({
      opencode_workspace_id: z
        .string()
        .regex(/^wrk_[0-9A-HJKMNP-TV-Z]{26}$/, 'expected wrk_ and 26 characters')
        .optional(),
      opencode_billing_function_id: z
        .string()
        .regex(/^[0-9a-f]{64}$/, 'expected 64 hex digits')
        .optional(),
    })
    .prefault({}),
});

/** By which road the turns of an agent are taken that may deliver by both. */
const road = z.enum(['otlp', 'hook']);

/** Who serves behind a provider. */
export const gatewayRules = z.record(
  providerId,
  z.union([providerId, z.record(z.string().min(1), providerId)], {
    error: 'expected a provider id, or a mapping of model globs to provider ids',
  }),
);
/** How a project is shown: by its name, by a hash of it, or not at all. */
export const projectLabel = z.enum(['name', 'hash', 'off']);

/** A folder of the XDG standard, which says that a relative path in its variable is to be ignored. */
function xdgFolder(variable: 'XDG_STATE_HOME' | 'XDG_CONFIG_HOME', ...fallback: string[]): string {
  const base = process.env[variable]?.trim() ?? '';
  return path.join(path.isAbsolute(base) ? base : path.join(os.homedir(), ...fallback), 'tollbridge');
}

const defaultStateDir = () => xdgFolder('XDG_STATE_HOME', '.local', 'state');

const schema = z.strictObject({
  state_dir: filePath.optional(),
  time_zone: timeZone.optional(),
  metrics: metrics.prefault({}),
  otlp: otlp.optional(),
  socket: z
    .strictObject({
      enabled: z.boolean().default(true),
      path: filePath.optional(),
      group: z.string().min(1).optional(),
      identity: z.strictObject({ team: labelValue.optional(), user: labelValue.optional() }).optional(),
    })
    .prefault({}),
  tcp: tcp.optional(),
  otlp_in: tcp.optional(),
  sources: z.strictObject({ claude_code: road.optional(), codex: road.optional() }).prefault({}),
  tokens: z.array(token).default([]),
  spool: z.strictObject({ enabled: z.boolean().default(true), dir: filePath.optional() }).prefault({}),
  hub: z.strictObject({ listen: listen.optional(), token_env: envName.optional() }).prefault({}),
  openusage: z
    .strictObject({ socket: filePath.optional(), interval: duration(POLL_LIMITS).prefault('60s') })
    .prefault({}),
  import: z
    .strictObject({
      opencode: z.strictObject({ interval: duration(IMPORT_LIMITS).optional(), db: filePath.optional() }).prefault({}),
    })
    .prefault({}),
  nats: nats.optional(),
  relay: z.strictObject({ queue_max_bytes: z.int().min(1_000_000).max(1e12).default(268_435_456) }).prefault({}),
  detect: z.boolean().default(true),
  accounts: z.array(account).default([]),
  poll: z
    .strictObject({
      interval: duration(POLL_LIMITS).prefault('30s'),
      console_interval: duration(POLL_LIMITS).prefault('5m'),
      publish: z.boolean().default(false),
    })
    .prefault({}),
  telemetry: z.strictObject({ provider_links: z.record(providerId, providerId).default({}) }).prefault({}),
  gateways: gatewayRules.default({}),
  pricing: z.array(pricingRule).default([]),
  pricing_file: filePath.optional(),
  labels: z
    .strictObject({
      project: projectLabel.default('name'),
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
  ...policyKeys,
  retention: duration(RETENTION_LIMITS).prefault('90d'),
  log: z.strictObject({ level: z.enum(LOG_LEVELS).default('info') }).prefault({}),
});

/** Every key that a configuration can have, as the documentation writes it: `accounts[].id`. */
export function configKeys(): string[] {
  interface Node {
    readonly properties?: Record<string, Node>;
    readonly items?: Node;
    readonly anyOf?: readonly Node[];
  }
  const leaves = (node: Node, at: string): string[] => {
    if (node.items?.properties) return leaves(node.items, `${at}[]`);
    // Something plain, or more keys in its place.
    const longForm = node.anyOf?.find(({ properties }) => properties);
    if (longForm) return [at, ...leaves(longForm, at)];
    if (!node.properties) return [at];
    return Object.entries(node.properties).flatMap(([key, child]) => leaves(child, at ? `${at}.${key}` : key));
  };
  return leaves(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Node, '');
}

type Parsed = z.output<typeof schema>;
export type AccountConfig = Parsed['accounts'][number];
export type GatewayRules = Parsed['gateways'];
export type { MetricsConfig, NatsConfig, OtlpConfig, PolicyConfig, PricingRule, TcpConfig, TokenConfig };
export type SourceRules = Parsed['sources'];
export type LabelCaps = Parsed['labels']['caps'];

/** The configuration with every default filled in; durations in ms, paths absolute. */
export interface Config extends Omit<Parsed, 'state_dir' | 'time_zone' | 'socket' | 'spool'> {
  readonly state_dir: string;
  readonly time_zone: string;
  readonly socket: Omit<Parsed['socket'], 'path'> & { readonly path: string };
  readonly spool: Omit<Parsed['spool'], 'dir'> & { readonly dir: string };
  /** What `pricing_file` holds. */
  readonly price_list?: readonly PricingRule[];
  /** Where it was read from; absent when it is all defaults. */
  readonly file?: string;
}

/** What is compared with each other. A part that has mistakes of its own comes as undefined. */
interface ComparedParts {
  readonly accounts: readonly (AccountConfig | undefined)[];
  readonly hub: Parsed['hub'] | undefined;
  readonly metrics: MetricsConfig | undefined;
  readonly nats?: NatsConfig | undefined;
  readonly otlp?: OtlpConfig | undefined;
  readonly poll: Parsed['poll'] | undefined;
  readonly budgets: readonly (Parsed['budgets'][number] | undefined)[];
  readonly caps: readonly (Parsed['caps'][number] | undefined)[];
  readonly guardrails: readonly (Parsed['guardrails'][number] | undefined)[];
  readonly labels: Parsed['labels'] | undefined;
  readonly tcp?: TcpConfig | undefined;
  readonly otlp_in?: TcpConfig | undefined;
  readonly tokens: readonly (TokenConfig | undefined)[];
}

/** Mistakes that only the whole configuration can show. An account that has mistakes of its own comes as undefined. */
function crossMistakes(parts: ComparedParts, socketPath: string | undefined): ConfigMistake[] {
  const { accounts, hub, metrics, nats, otlp, otlp_in, poll, tcp, tokens } = parts;
  const tokenCount = tokens.length;
  const mistakes: ConfigMistake[] = [
    ...(metrics ? metricsMistakes(metrics) : []),
    ...(nats ? natsMistakes(nats) : []),
    ...(otlp ? otlpMistakes(otlp) : []),
    ...(tcp ? tcpMistakes(tcp, { key: 'tcp', tokenCount }) : []),
    ...(otlp_in ? tcpMistakes(otlp_in, { key: 'otlp_in', tokenCount }) : []),
    ...tokenMistakes(tokens),
    ...policyMistakes(parts),
  ];
  if (poll?.publish && !nats?.jetstream.enabled) {
    const expected = 'expected nats.servers, with nats.jetstream.enabled, to publish to; or false';
    mistakes.push({ path: 'poll.publish', found: 'true', expected });
  }
  if (hub?.listen && !isLoopbackHost(hub.listen.host) && !hub.token_env) {
    mistakes.push({
      path: 'hub.token_env',
      found: 'nothing',
      expected: 'expected the variable of a token, because other machines reach hub.listen; or listen on 127.0.0.1',
    });
  }
  const bytes = Buffer.byteLength(socketPath ?? '');
  if (bytes > SOCKET_PATH_MAX_BYTES) {
    mistakes.push({
      path: 'socket.path',
      found: `a path of ${bytes} bytes`,
      expected: `expected at most ${SOCKET_PATH_MAX_BYTES}, the kernel's limit for a socket; set socket.path or state_dir to a shorter one`,
    });
  }
  for (const { entry, index, first } of repeats(accounts, ({ provider, id }) => `${provider}/${id}`)) {
    const expected = `expected another id: accounts[${first}] has this one at the same provider`;
    mistakes.push({ path: `accounts[${index}].id`, found: JSON.stringify(entry.id), expected });
  }
  accounts.forEach((entry, index) => {
    if (entry) mistakes.push(...accountMistakes(entry, `accounts[${index}]`));
  });
  return mistakes;
}

function accountMistakes(entry: AccountConfig, place: string): ConfigMistake[] {
  const mistakes: ConfigMistake[] = [];
  for (const key of ['api_key', 'console_key', 'console_cookie'] as const) {
    if (entry[`${key}_env`] && entry[`${key}_file`]) {
      const expected = `expected only one of ${key}_env and ${key}_file`;
      mistakes.push({ path: `${place}.${key}_file`, found: 'a second key', expected });
    }
  }
  for (const key of ['base_url', 'console_url'] as const) {
    const url = entry[key] && new URL(entry[key]);
    if (!url) continue;
    const mistake = (found: string, expected: string) => mistakes.push({ path: `${place}.${key}`, found, expected });
    if (url.protocol === 'http:' && !isLoopbackHost(url.hostname)) {
      mistake('http to another machine', 'expected https: an API key would travel in clear');
    }
    if (url.username || url.password) mistake('a user name or password', 'expected a URL without them');
    if (key === 'base_url' && /\/zen\/?$/.test(url.pathname)) {
      mistake('a URL that ends in /zen', 'expected it without /zen, which is added');
    }
  }
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
  // What the schema refuses must not hide the other mistakes, so the parts that are well-formed are still compared.
  const parts = result.success ? result.data : wellFormedParts(raw);
  const stateDir = parts.state_dir ?? defaultStateDir();
  const socketPath = parts.socket.path ?? path.join(stateDir, 'tollbridge.sock');
  const mistakes = [
    ...firstOfEachPlace([
      ...(result.error?.issues.flatMap((issue) => toMistakes(issue, raw)) ?? []),
      ...prototypeKeyMistakes(raw),
    ]),
    ...crossMistakes(parts, parts.socket.enabled ? socketPath : undefined),
  ];
  if (!result.success || mistakes.length > 0) throw new ConfigFailure(source, mistakes);
  const parsed = result.data;
  return {
    ...parsed,
    state_dir: stateDir,
    time_zone: parsed.time_zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
    socket: { ...parsed.socket, path: socketPath },
    spool: { ...parsed.spool, dir: parsed.spool.dir ?? path.join(stateDir, 'hook-spool') },
  };
}

function wellFormedParts(raw: unknown) {
  const { state_dir, socket, accounts, hub, labels, metrics, nats, otlp, otlp_in, poll, tcp, tokens } = schema.shape;
  const source = (raw !== null && typeof raw === 'object' ? raw : {}) as Record<string, unknown>;
  const each = <T>(list: z.ZodDefault<z.ZodArray<z.ZodType<T>>>, found: unknown) =>
    (Array.isArray(found) ? found : []).map((entry) => list.unwrap().element.safeParse(entry).data);
  return {
    state_dir: state_dir.safeParse(source.state_dir).data,
    socket: socket.safeParse(source.socket).data ?? { enabled: false, path: undefined },
    hub: hub.safeParse(source.hub).data,
    metrics: metrics.safeParse(source.metrics).data,
    nats: nats.safeParse(source.nats).data,
    otlp: otlp.safeParse(source.otlp).data,
    poll: poll.safeParse(source.poll).data,
    tcp: tcp.safeParse(source.tcp).data,
    otlp_in: otlp_in.safeParse(source.otlp_in).data,
    tokens: each(tokens, source.tokens),
    accounts: each(accounts, source.accounts),
    budgets: each(policyKeys.budgets, source.budgets),
    caps: each(policyKeys.caps, source.caps),
    guardrails: each(policyKeys.guardrails, source.guardrails),
    labels: labels.safeParse(source.labels).data,
  };
}

/** Whose turns come by this machine's socket and spool. */
export function ownIdentity({ socket: { identity } }: Pick<Config, 'socket'>): { team?: string; user?: string } {
  return {
    ...(identity?.team ? { team: identity.team } : {}),
    ...(identity?.user ? { user: identity.user } : {}),
  };
}

/** Where a configuration is looked for when no `--config` names one. */
export function defaultConfigFile(): string {
  return path.join(xdgFolder('XDG_CONFIG_HOME', '.config'), 'tollbridge.yaml');
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
    if (!file && (error as NodeJS.ErrnoException).code === 'ENOENT')
      return parseConfig({}, 'the default configuration');
    throw new PermanentFailure(
      `${name} cannot be read: ${messageOf(error)}. Name another file with --config, or create it.`,
    );
  }
  const config = parseConfig(parseYaml(text, name), name);
  const list = config.pricing_file;
  return { ...config, ...(list && { price_list: loadPriceList(list, parseYaml) }), file: name };
}

function parseYaml(text: string, source: string): unknown {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const mistakes = [...document.errors, ...document.warnings].map(toYamlMistake);
  const lineOf = (node: { range?: readonly number[] | null | undefined }) =>
    `line ${lines.linePos(node.range?.[0] ?? 0).line}`;
  visit(document, {
    // A few aliases of aliases grow to more than memory holds, and no setting is long enough to need one.
    Alias: (_key, node) => {
      mistakes.push({ path: lineOf(node), found: 'an alias (*…)', expected: 'expected the value itself' });
    },
    Pair: (_key, { key }) => {
      if (isCollection(key)) {
        mistakes.push({
          path: lineOf(key),
          found: 'a list or mapping as a key',
          expected: 'expected a plain key; put text with { or [ in quotes',
        });
      }
    },
  });
  if (mistakes.length > 0) throw new ConfigFailure(source, firstOfEachPlace(mistakes));
  return document.toJS({ maxAliasCount: 0 });
}
