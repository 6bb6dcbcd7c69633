// A real OpenCode in a scratch home, driven over its HTTP API and its command line, and what it is made to do.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PlannedStep } from './mock-llm.ts';

const START_MAX_MS = 60_000;
const STOP_MAX_MS = 15_000;
const TURN_MAX_MS = 60_000;
const RUN_MAX_MS = 120_000;
const LOOK_EVERY_MS = 50;

/** Stands wherever content goes; it must never be found outside OpenCode. */
export const CONTENT_MARKER = 'CONTENT-MARKER-7f3a';
export const PROJECT = 'shop';

/** USD per million tokens, as OpenCode is told. In nano-USD per token each is the same number times 1000. */
export const PRICES = { input: 3, output: 15, cache_read: 0.3, cache_write: 3.75 };

/** Where the real program lies: npm's package of this platform, the baseline build where the usual one does not start. */
export function findOpenCode(): string {
  const { resolve } = createRequire(import.meta.url);
  const base = `opencode-${process.platform}-${process.arch}`;
  const tried: string[] = [];
  for (const name of [base, `${base}-baseline`, `${base}-musl`, `${base}-baseline-musl`]) {
    let binary: string;
    try {
      binary = path.join(path.dirname(resolve(`${name}/package.json`)), 'bin', 'opencode');
    } catch {
      tried.push(`${name}: not installed`);
      continue;
    }
    const { status, error, signal } = spawnSync(binary, ['--version'], { timeout: START_MAX_MS, stdio: 'ignore' });
    if (status === 0) return binary;
    tried.push(`${binary}: ${error?.message ?? signal ?? `exit ${status}`}`);
  }
  throw new Error(`OpenCode does not start (${tried.join('; ')}). Run npm install; it brings opencode-ai and ${base}.`);
}

/** Awaits a condition, asking again and again; its value is the first that is not undefined or false. */
export async function until<T>(what: string, look: () => T | Promise<T>, maxMs = TURN_MAX_MS) {
  for (const endMs = Date.now() + maxMs; ; ) {
    const found = await look();
    if (found !== undefined && found !== false) return found as Exclude<T, undefined | false>;
    if (Date.now() > endMs) throw new Error(`${what} did not happen within ${maxMs / 1000} s`);
    await sleep(LOOK_EVERY_MS);
  }
}

/** Ends a child process and waits until it is gone. */
export async function end(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill(signal);
  const forced = setTimeout(() => child.kill('SIGKILL'), STOP_MAX_MS);
  await gone;
  clearTimeout(forced);
}

/** The folders of one scratch user. */
export interface Scratch {
  readonly home: string;
  readonly configHome: string;
  readonly project: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Lays out a home, a project and an OpenCode configuration whose providers are all played by `llmUrl`. */
export function layOut(root: string, llmUrl: string): Scratch {
  const home = path.join(root, 'home');
  const configHome = path.join(root, 'config');
  const project = path.join(root, CONTENT_MARKER, PROJECT);
  const folder = path.join(configHome, 'opencode');
  for (const dir of [home, project, path.join(folder, 'node_modules')]) mkdirSync(dir, { recursive: true });
  writeFileSync(path.join(project, 'notes.txt'), `${CONTENT_MARKER} in a file\n`);

  const model = { tool_call: true, reasoning: true, cost: PRICES, limit: { context: 200_000, output: 8192 } };
  const models = (...ids: string[]) => Object.fromEntries(ids.map((id) => [id, { name: id, ...model }]));
  const provider = (id: string, npm: string, ids: string[]) => ({
    npm,
    name: id,
    options: { baseURL: `${llmUrl}/${id}/v1`, apiKey: 'sk-EXAMPLE' },
    models: models(...ids),
  });
  const config = {
    autoupdate: false,
    share: 'disabled',
    model: 'my-gateway/gpt-5.1',
    small_model: 'my-gateway/small',
    permission: { bash: 'allow', read: 'allow', edit: 'allow', external_directory: 'allow' },
    provider: {
      'my-gateway': provider('my-gateway', '@ai-sdk/openai-compatible', ['gpt-5.1', 'small', 'slow', 'bad-request']),
      anthropic: provider('anthropic', '@ai-sdk/anthropic', ['claude-sonnet-4-5']),
    },
  };
  writeFileSync(path.join(folder, 'opencode.json'), JSON.stringify(config));
  // OpenCode fetches its plugin package into the folder unless a lock file names it and node_modules is there. Our plugin
  // needs nothing of it, so saying so is enough to start without a network.
  const dependencies = { '@opencode-ai/plugin': '*' };
  writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ dependencies }));
  writeFileSync(
    path.join(folder, 'package-lock.json'),
    JSON.stringify({ lockfileVersion: 3, packages: { '': { dependencies } } }),
  );

  // OpenCode unpacks libraries into the temporary folder and leaves them there.
  const temporary = path.join(root, 'tmp');
  mkdirSync(temporary);
  const env = {
    PATH: process.env.PATH ?? '',
    HOME: home,
    TMPDIR: temporary,
    XDG_CONFIG_HOME: configHome,
    XDG_DATA_HOME: path.join(root, 'data'),
    XDG_STATE_HOME: path.join(root, 'state'),
    XDG_CACHE_HOME: path.join(root, 'cache'),
    OPENCODE_DISABLE_AUTOUPDATE: '1',
    OPENCODE_DISABLE_MODELS_FETCH: '1',
    OPENCODE_DISABLE_LSP_DOWNLOAD: '1',
    OPENCODE_DISABLE_SHARE: '1',
  };
  return { home, configHome, project, env };
}

interface Message {
  readonly info: {
    readonly id: string;
    readonly role: string;
    readonly time: { readonly completed?: number };
    readonly error?: { readonly name: string; readonly data: { readonly message?: string } };
  };
  readonly parts: readonly {
    readonly type: string;
    readonly state?: {
      readonly status: string;
      readonly error?: string;
      readonly output?: string;
      readonly metadata?: unknown;
    };
  }[];
}

/** `provider/model` as OpenCode's API wants it. */
function modelOf(name: string) {
  const slash = name.indexOf('/');
  return { providerID: name.slice(0, slash), modelID: name.slice(slash + 1) };
}

function promptOf(steps: readonly PlannedStep[], model: string) {
  const text = `${CONTENT_MARKER} in a prompt\nPLAN=${JSON.stringify(steps)}`;
  return { model: modelOf(model), parts: [{ type: 'text', text }] };
}

/** `opencode serve` in the scratch project. */
export class OpenCode {
  readonly #child: ChildProcess;
  readonly #baseUrl: string;

  private constructor(child: ChildProcess, baseUrl: string) {
    this.#child = child;
    this.#baseUrl = baseUrl;
  }

  static async start(binary: string, scratch: Scratch): Promise<OpenCode> {
    const child = spawn(binary, ['serve', '--port', '0', '--hostname', '127.0.0.1'], {
      cwd: scratch.project,
      env: scratch.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (said += chunk));
    try {
      const baseUrl = await until(
        'The start of opencode serve',
        () => {
          if (child.exitCode !== null) throw new Error(`opencode serve ended with ${child.exitCode}: ${said}`);
          return /listening on (http:\S+)/.exec(said)?.[1];
        },
        START_MAX_MS,
      );
      return new OpenCode(child, baseUrl);
    } catch (error) {
      await end(child, 'SIGKILL');
      throw error;
    }
  }

  /** Ends it as a user's Ctrl-C or service manager does. */
  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    return end(this.#child, signal);
  }

  async #ask<T>(method: string, route: string, body?: unknown): Promise<T> {
    const response = await fetch(this.#baseUrl + route, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(TURN_MAX_MS),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${route}: ${response.status} ${text.slice(0, 300)}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }

  async newSession(): Promise<string> {
    return (await this.#ask<{ id: string }>('POST', '/session', {})).id;
  }

  /** One prompt, answered to its end. */
  prompt(session: string, steps: readonly PlannedStep[], model = 'my-gateway/gpt-5.1'): Promise<Message> {
    return this.#ask('POST', `/session/${session}/message`, promptOf(steps, model));
  }

  /** One prompt, not waited for. */
  begin(session: string, steps: readonly PlannedStep[], model = 'my-gateway/gpt-5.1'): Promise<void> {
    return this.#ask('POST', `/session/${session}/prompt_async`, promptOf(steps, model));
  }

  messages(session: string): Promise<Message[]> {
    return this.#ask('GET', `/session/${session}/message`);
  }

  /** Stops what the session does, and waits until its last message is completed. */
  async abort(session: string): Promise<Message> {
    await this.#ask('POST', `/session/${session}/abort`);
    return until('The end of an aborted turn', async () => {
      const last = (await this.messages(session)).at(-1);
      return last?.info.role === 'assistant' && last.info.time.completed ? last : undefined;
    });
  }

  async fork(session: string): Promise<string> {
    return (await this.#ask<{ id: string }>('POST', `/session/${session}/fork`, {})).id;
  }

  compact(session: string, model = 'my-gateway/gpt-5.1'): Promise<void> {
    return this.#ask('POST', `/session/${session}/summarize`, modelOf(model));
  }
}

/** What one `opencode run` came to. */
export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `opencode run` once, to its end, whatever that is. The prompt goes in on stdin: as an argument it would be quoted. */
export async function run(binary: string, scratch: Scratch, steps: readonly PlannedStep[]): Promise<Ran> {
  const child = spawn(binary, ['run'], { cwd: scratch.project, env: scratch.env, stdio: ['pipe', 'pipe', 'pipe'] });
  const said = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (said.stdout += chunk));
  child.stderr.on('data', (chunk) => (said.stderr += chunk));
  child.stdin.end(promptOf(steps, 'my-gateway/gpt-5.1').parts[0]?.text);
  const forced = setTimeout(() => {
    said.stderr += `killed: it did not end within ${RUN_MAX_MS / 1000} s`;
    child.kill('SIGKILL');
  }, RUN_MAX_MS);
  const [code] = await once(child, 'close');
  clearTimeout(forced);
  return { code, ...said };
}

/** `opencode run` once; throws when that ends badly. */
export async function runOnce(binary: string, scratch: Scratch, steps: readonly PlannedStep[]): Promise<void> {
  const { code, stdout, stderr } = await run(binary, scratch, steps);
  if (code !== 0) throw new Error(`opencode run ended with ${code}: ${stdout}${stderr}`);
}
