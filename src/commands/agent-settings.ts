// What each agent needs in its own settings to export to the bridge, as values and as text.

import path from 'node:path';
import type { Config } from '../config.ts';
import { addressText } from '../listen.ts';
import type { Place } from './installed-file.ts';
import { jsonSettings } from './json-settings.ts';
import type { SettingsFormat } from './settings-format.ts';
import { TOML_SETTINGS } from './toml-settings.ts';

export const EXPORTING_AGENTS = ['claude-code', 'codex', 'gemini-cli'] as const;
export type ExportingAgent = (typeof EXPORTING_AGENTS)[number];

/** Where an agent exports to, and the token that it bears, where the bridge wants one. */
export interface Target {
  readonly endpoint: string;
  readonly token?: string;
}

export interface AgentSettings {
  /** How people call it. */
  readonly title: string;
  /** Its folder; where there is none, the agent is not on this machine. */
  folder(place: Place): string;
  /** The file in it that holds its settings. */
  readonly file: string;
  readonly format: SettingsFormat;
  /** What holds its settings for telemetry. */
  readonly section: string;
  /** What must stand there. */
  values(target: Target): Readonly<Record<string, unknown>>;
  /**
   * Keys that users may have set otherwise, by what they may have set. Such a value stays. What is listed and is not among
   * the values would lead telemetry elsewhere.
   */
  readonly accepts: Readonly<Record<string, RegExp>>;
  /** Its section holds variables, which outdo those of the same name that it is started with. */
  readonly setsVariables?: true;
  /** Variables that outdo a key of the settings where the agent is started with them. */
  readonly outdoneBy: Readonly<Record<string, string>>;
  /** The token that such values bear. */
  tokenIn(values: ReadonlyMap<string, unknown>, endpoint: string): string | undefined;
  /** Of what tokens must be made to arrive as they are. */
  readonly tokenPattern: RegExp;
}

const ANYTHING = /^/;
const NOTHING = /^(?!)/;
/** What a header takes as it is, where commas, semicolons and percent signs may mean something. */
const IN_HEADER = /^[\w.~+/=-]+$/;
const IN_PATH = /^[\w.~-]+$/;

const folderOf =
  (variable: string, name: string) =>
  ({ home, env }: Place) =>
    env[variable]?.trim() || path.join(home, name);

export const AGENT_SETTINGS: Readonly<Record<ExportingAgent, AgentSettings>> = {
  'claude-code': {
    title: 'Claude Code',
    folder: folderOf('CLAUDE_CONFIG_DIR', '.claude'),
    file: 'settings.json',
    // It does without a file that has comments, and says nothing.
    format: jsonSettings('JSON object without comments and trailing commas', { hasComments: false, hasMark: true }),
    section: 'env',
    setsVariables: true,
    values: ({ endpoint, token }) => ({
      CLAUDE_CODE_ENABLE_TELEMETRY: '1',
      OTEL_LOGS_EXPORTER: 'otlp',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf',
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      ...(token !== undefined && { OTEL_EXPORTER_OTLP_HEADERS: `Authorization=Bearer ${token}` }),
      // What is not yet exported when it is killed is lost; its own default is 5 s.
      OTEL_LOGS_EXPORT_INTERVAL: '1000',
    }),
    accepts: {
      CLAUDE_CODE_ENABLE_TELEMETRY: /^(?:1|true|yes|on)$/i,
      OTEL_LOGS_EXPORTER: /^(?:.*,)?\s*otlp\s*(?:,.*)?$/,
      OTEL_LOGS_EXPORT_INTERVAL: ANYTHING,
      // These outdo those without LOGS in their names.
      OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: /^http\/(?:protobuf|json)$/,
      OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: NOTHING,
      OTEL_EXPORTER_OTLP_LOGS_HEADERS: NOTHING,
    },
    outdoneBy: {
      OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: 'OTEL_EXPORTER_OTLP_LOGS_PROTOCOL',
      OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: 'OTEL_EXPORTER_OTLP_LOGS_ENDPOINT',
      OTEL_EXPORTER_OTLP_LOGS_HEADERS: 'OTEL_EXPORTER_OTLP_LOGS_HEADERS',
    },
    tokenIn: (values) => /^Authorization=Bearer (.+)$/.exec(String(values.get('OTEL_EXPORTER_OTLP_HEADERS')))?.[1],
    tokenPattern: IN_HEADER,
  },
  codex: {
    title: 'Codex',
    folder: folderOf('CODEX_HOME', '.codex'),
    file: 'config.toml',
    format: TOML_SETTINGS,
    section: 'otel',
    values: ({ endpoint, token }) => {
      const headers = token === undefined ? '' : `, headers = { "authorization" = ${quoted(`Bearer ${token}`)} }`;
      const exporter = `{ endpoint = ${quoted(`${endpoint}/v1/logs`)}, protocol = "binary"${headers} }`;
      return {
        log_user_prompt: 'false',
        log_sse_deltas: 'false',
        tool_result: '{ max_bytes = 0 }',
        // Its own default is an endpoint of its vendor's.
        metrics_exporter: '"none"',
        trace_exporter: '"none"',
        exporter: `{ otlp-http = ${exporter} }`,
      };
    },
    accepts: {
      log_user_prompt: ANYTHING,
      log_sse_deltas: ANYTHING,
      tool_result: ANYTHING,
      metrics_exporter: ANYTHING,
      trace_exporter: ANYTHING,
    },
    outdoneBy: {},
    tokenIn: (values) => /"authorization" = "Bearer ([^"\\]+)"/.exec(String(values.get('exporter')))?.[1],
    tokenPattern: IN_HEADER,
  },
  'gemini-cli': {
    title: 'Gemini CLI',
    folder: ({ home, env }) => path.join(env.GEMINI_CLI_HOME || home, '.gemini'),
    file: 'settings.json',
    format: jsonSettings('JSON object without byte order mark and trailing commas', {
      hasComments: true,
      hasMark: false,
    }),
    section: 'telemetry',
    values: ({ endpoint, token }) => ({
      enabled: true,
      target: 'local',
      // It takes headers from the environment only.
      otlpEndpoint: token === undefined ? endpoint : `${endpoint}/${token}`,
      otlpProtocol: 'http',
      logPrompts: false,
    }),
    accepts: {
      logPrompts: ANYTHING,
      // With a file it exports into that alone, and with the sign-in of its command line not before that is done.
      outfile: /^$/,
      useCliAuth: /^false$/,
    },
    outdoneBy: {
      GEMINI_TELEMETRY_TARGET: 'target',
      GEMINI_TELEMETRY_OTLP_PROTOCOL: 'otlpProtocol',
      GEMINI_TELEMETRY_OTLP_ENDPOINT: 'otlpEndpoint',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'otlpEndpoint',
      GEMINI_TELEMETRY_OUTFILE: 'outfile',
    },
    tokenIn: (values, endpoint) => {
      const address = String(values.get('otlpEndpoint'));
      return address.startsWith(`${endpoint}/`) ? address.slice(endpoint.length + 1) : undefined;
    },
    tokenPattern: IN_PATH,
  },
};

/** A basic string of TOML; JSON escapes alike. */
const quoted = (text: string) => JSON.stringify(text);

/** Where an agent on this machine reaches the bridge; undefined where the bridge takes no telemetry. */
export function endpointOf({ otlp_in }: Pick<Config, 'otlp_in'>): string | undefined {
  if (!otlp_in) return undefined;
  const { host, port } = otlp_in.listen;
  const own = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `${otlp_in.tls ? 'https' : 'http'}://${addressText({ host: own, port })}`;
}
