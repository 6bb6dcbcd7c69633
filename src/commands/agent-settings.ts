// What each agent needs in its own settings to export to the bridge, as values and as text.

import path from 'node:path';
import type { Config } from '../config.ts';
import { addressText } from '../listen.ts';
import type { Place } from './installed-file.ts';

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
  /** What must stand there: values below one key of a JSON object, or a block of TOML. */
  readonly wanted:
    | { readonly format: 'json'; readonly section: string; values(target: Target): Readonly<Record<string, unknown>> }
    | { readonly format: 'toml'; readonly table: string; lines(target: Target): readonly string[] };
}

const folderOf =
  (variable: string, name: string) =>
  ({ home, env }: Place) =>
    env[variable]?.trim() || path.join(home, name);

export const AGENT_SETTINGS: Readonly<Record<ExportingAgent, AgentSettings>> = {
  'claude-code': {
    title: 'Claude Code',
    folder: folderOf('CLAUDE_CONFIG_DIR', '.claude'),
    file: 'settings.json',
    wanted: {
      format: 'json',
      section: 'env',
      values: ({ endpoint, token }) => ({
        CLAUDE_CODE_ENABLE_TELEMETRY: '1',
        OTEL_LOGS_EXPORTER: 'otlp',
        OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf',
        OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
        ...(token !== undefined && { OTEL_EXPORTER_OTLP_HEADERS: `Authorization=Bearer ${token}` }),
        // What is not yet exported when it is killed is lost; its own default is 5 s.
        OTEL_LOGS_EXPORT_INTERVAL: '1000',
      }),
    },
  },
  codex: {
    title: 'Codex',
    folder: folderOf('CODEX_HOME', '.codex'),
    file: 'config.toml',
    wanted: {
      format: 'toml',
      table: 'otel',
      lines: ({ endpoint, token }) => {
        const headers = token === undefined ? '' : `, headers = { "authorization" = ${quoted(`Bearer ${token}`)} }`;
        const exporter = `{ endpoint = ${quoted(`${endpoint}/v1/logs`)}, protocol = "binary"${headers} }`;
        return [
          '[otel]',
          'log_user_prompt = false',
          'log_sse_deltas = false',
          'tool_result = { max_bytes = 0 }',
          // Its own default is an endpoint of its vendor's.
          'metrics_exporter = "none"',
          'trace_exporter = "none"',
          `exporter = { otlp-http = ${exporter} }`,
        ];
      },
    },
  },
  'gemini-cli': {
    title: 'Gemini CLI',
    folder: ({ home }) => path.join(home, '.gemini'),
    file: 'settings.json',
    wanted: {
      format: 'json',
      section: 'telemetry',
      values: ({ endpoint, token }) => ({
        enabled: true,
        target: 'local',
        // It takes headers from the environment only.
        otlpEndpoint: token === undefined ? endpoint : `${endpoint}/${token}`,
        otlpProtocol: 'http',
        logPrompts: false,
      }),
    },
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
