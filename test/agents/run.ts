// Real coding agents, run once each without a terminal: against a provider of our own, with the settings that `tollbridge
// install` writes and nothing else of ours.

import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { installOwnPackages } from '../../scripts/made.ts';
import type { ExportingAgent } from '../../src/commands/agent-settings.ts';

const PACKAGES = path.join(import.meta.dirname, 'node_modules');
const RUN_MAX_MS = 120_000;
const PLATFORM = `${process.platform}-${process.arch}`;

export interface Place {
  readonly home: string;
  readonly project: string;
  readonly providerUrl: string;
}

interface RealAgent {
  /** The package that it is. */
  readonly name: string;
  readonly model: string;
  /** Writes what it needs to call the provider. */
  settle(place: Place): void;
  command(prompt: string): [string, ...string[]];
  env(place: Place): Record<string, string>;
}

const writeJson = (file: string, value: unknown) => {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, JSON.stringify(value));
};

export const REAL_AGENTS: Readonly<Record<ExportingAgent, RealAgent>> = {
  'claude-code': {
    name: '@anthropic-ai/claude-code',
    model: 'claude-sonnet-5-5',
    settle: ({ home }) => mkdirSync(path.join(home, '.claude'), { recursive: true }),
    command: (prompt) => [
      path.join(PACKAGES, '@anthropic-ai', `claude-code-${PLATFORM}`, 'claude'),
      ...['-p', prompt, '--model', REAL_AGENTS['claude-code'].model, '--dangerously-skip-permissions'],
    ],
    env: ({ providerUrl }) => ({
      ...{ ANTHROPIC_BASE_URL: providerUrl, ANTHROPIC_API_KEY: 'sk-EXAMPLE' },
      // Else it neither runs as root without asking, nor alone.
      ...{ IS_SANDBOX: '1', CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1' },
    }),
  },
  codex: {
    name: '@openai/codex',
    model: 'gpt-5.1',
    settle({ home, providerUrl }) {
      const lines = [
        `model = "${REAL_AGENTS.codex.model}"`,
        'model_provider = "my-gateway"',
        '[model_providers.my-gateway]',
        ...[
          'name = "my-gateway"',
          `base_url = "${providerUrl}/v1"`,
          'wire_api = "responses"',
          'env_key = "GATEWAY_KEY"',
        ],
        // It tries a failed call again, and again.
        ...['request_max_retries = 0', 'stream_max_retries = 0'],
      ];
      mkdirSync(path.join(home, '.codex'), { recursive: true });
      writeFileSync(path.join(home, '.codex', 'config.toml'), `${lines.join('\n')}\n`);
    },
    command: (prompt) => [
      ...([process.execPath, path.join(PACKAGES, '@openai', 'codex', 'bin', 'codex.js')] as const),
      ...['exec', '--skip-git-repo-check', '--dangerously-bypass-approvals-and-sandbox', prompt],
    ],
    env: () => ({ GATEWAY_KEY: 'sk-EXAMPLE' }),
  },
  'gemini-cli': {
    name: '@google/gemini-cli',
    model: 'gemini-2.5-pro',
    settle({ home }) {
      const settings = { security: { auth: { selectedType: 'gemini-api-key' } } };
      writeJson(path.join(home, '.gemini', 'settings.json'), settings);
    },
    command: (prompt) => [
      ...([process.execPath, path.join(PACKAGES, '@google', 'gemini-cli', 'bundle', 'gemini.js')] as const),
      ...['-p', prompt, '--yolo', '-m', REAL_AGENTS['gemini-cli'].model],
    ],
    env: ({ providerUrl }) => ({
      ...{ GOOGLE_GEMINI_BASE_URL: providerUrl, GEMINI_API_KEY: 'EXAMPLE', GEMINI_CLI_TRUST_WORKSPACE: 'true' },
    }),
  },
};

/** Installs the agents where they are not. Takes a minute the first time. */
export function installAgents(): void {
  installOwnPackages(import.meta.dirname, 'installing Claude Code, Codex and Gemini CLI, some 900 MB');
}

/** The version of an agent that is run. */
export function versionOf(agent: ExportingAgent): string {
  const file = path.join(PACKAGES, REAL_AGENTS[agent].name, 'package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** Runs an agent with a prompt to its end. Gives its exit code and what it said. */
export async function runAgent(
  agent: ExportingAgent,
  prompt: string,
  place: Place,
): Promise<{ code: number | null; said: string }> {
  const { command, env } = REAL_AGENTS[agent];
  const [program, ...args] = command(prompt);
  const child = spawn(program, args, {
    cwd: place.project,
    env: { PATH: process.env.PATH, HOME: place.home, TMPDIR: place.home, TERM: 'dumb', ...env(place) },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: RUN_MAX_MS,
    killSignal: 'SIGKILL',
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  return { code, said };
}
