// How each agent is run once without a terminal, with a model provider of our own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { ExportingAgent } from '../../src/commands/agent-settings.ts';
import type { PlannedCall } from '../opencode/mock-llm.ts';

const RUN_MAX_MS = 120_000;

/** The scratch user of an agent. */
export interface Scratch {
  readonly home: string;
  readonly project: string;
  readonly llmUrl: string;
}

interface Start {
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Where the prompt goes in on stdin; else it is among the arguments. */
  readonly stdin?: string;
}

export interface DrivenAgent {
  /** Its label at /metrics. */
  readonly label: string;
  /** The provider that its turns are booked for, and the first segment of the URL that it calls. */
  readonly provider: string;
  readonly model: string;
  /** A model whose call fails in a way that this agent reports. */
  readonly failing: 'bad-request' | 'busy-once';
  /** A call of its tool for commands. */
  shell(command: string): PlannedCall;
  /** Writes what a user has set before Tollbridge is installed. */
  layOut(scratch: Scratch): void;
  start(scratch: Scratch, prompt: string, model: string): Start;
  /** How its own program is told to write a server called `mine` into its settings, where it does such a thing. */
  readonly ownWriting?: readonly string[];
  /** How its program is started. */
  readonly isScript?: true;
}

const write = (folder: string, file: string, text: string) => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, file), text);
};

export const AGENTS: Readonly<Record<ExportingAgent, DrivenAgent>> = {
  'claude-code': {
    label: 'claude_code',
    provider: 'custom',
    model: 'claude-sonnet-4-5',
    // It tells of the last attempt only, so not of those before one that succeeded.
    failing: 'bad-request',
    shell: (command) => ({ tool: 'Bash', args: { command, description: command } }),
    layOut: ({ home }) => write(path.join(home, '.claude'), 'settings.json', '{ "cleanupPeriodDays": 9 }\n'),
    start: ({ llmUrl }, prompt, model) => ({
      args: ['-p', '--model', model, '--dangerously-skip-permissions'],
      stdin: prompt,
      env: {
        ANTHROPIC_BASE_URL: `${llmUrl}/custom`,
        ANTHROPIC_API_KEY: 'sk-EXAMPLE',
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
        DISABLE_AUTOUPDATER: '1',
        // It lets root skip permissions only where it is told that nothing can be harmed.
        IS_SANDBOX: '1',
        // What a user may have set: it puts content beside the numbers.
        OTEL_LOG_USER_PROMPTS: '1',
        OTEL_LOG_ASSISTANT_RESPONSES: '1',
        OTEL_LOG_TOOL_DETAILS: '1',
      },
    }),
  },
  codex: {
    label: 'codex',
    provider: 'my-gateway',
    model: 'gpt-5.1',
    // It sends nothing of its last second when it ends with an error.
    failing: 'busy-once',
    shell: (cmd) => ({ tool: 'exec_command', args: { cmd } }),
    layOut: ({ home, llmUrl }) =>
      write(
        path.join(home, '.codex'),
        'config.toml',
        [
          'model_provider = "my-gateway"',
          '[model_providers.my-gateway]',
          'name = "my-gateway"',
          `base_url = "${llmUrl}/my-gateway/v1"`,
          'wire_api = "responses"',
          'env_key = "GATEWAY_KEY"',
          '',
        ].join('\n'),
      ),
    start: (_scratch, prompt, model) => ({
      args: ['exec', '--skip-git-repo-check', '--dangerously-bypass-approvals-and-sandbox', '--model', model, '-'],
      stdin: prompt,
      env: { GATEWAY_KEY: 'sk-EXAMPLE' },
    }),
    ownWriting: ['mcp', 'add', 'mine', '--', 'true'],
  },
  'gemini-cli': {
    label: 'gemini_cli',
    provider: 'google',
    model: 'gemini-2.5-pro',
    failing: 'busy-once',
    shell: (command) => ({ tool: 'run_shell_command', args: { command, description: command } }),
    layOut: ({ home }) =>
      write(
        path.join(home, '.gemini'),
        'settings.json',
        JSON.stringify({ security: { auth: { selectedType: 'gemini-api-key' } } }),
      ),
    start: ({ llmUrl }, prompt, model) => ({
      args: ['--yolo', '--skip-trust', '--model', model, '--prompt', prompt],
      env: { GEMINI_API_KEY: 'EXAMPLE', GOOGLE_GEMINI_BASE_URL: `${llmUrl}/google` },
    }),
    ownWriting: ['mcp', 'add', '--scope', 'user', 'mine', 'true'],
    isScript: true,
  },
};

/** What one run came to. */
export interface Ran {
  readonly code: number | null;
  readonly said: string;
}

/** Runs an agent once, to its end, whatever that is. */
export async function runAgent(
  { agent, program, scratch }: { agent: DrivenAgent; program: string; scratch: Scratch },
  { prompt, model = agent.model }: { prompt: string; model?: string },
): Promise<Ran> {
  return runProgram({ agent, program, scratch }, agent.start(scratch, prompt, model));
}

/** Runs an agent's program with any arguments. */
export async function runProgram(
  { agent, program, scratch }: { agent: DrivenAgent; program: string; scratch: Scratch },
  { args, env, stdin }: Start,
): Promise<Ran> {
  const [command, ...first] = agent.isScript ? [process.execPath, program] : [program];
  const child = spawn(command!, [...first, ...args], {
    cwd: scratch.project,
    env: { PATH: process.env.PATH ?? '', HOME: scratch.home, TMPDIR: scratch.home, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk));
  child.stdin.on('error', () => undefined);
  child.stdin.end(stdin ?? '');
  const forced = setTimeout(() => {
    said += `killed: it did not end within ${RUN_MAX_MS / 1000} s`;
    child.kill('SIGKILL');
  }, RUN_MAX_MS);
  const [code] = await once(child, 'close');
  clearTimeout(forced);
  return { code, said };
}
