// The real Claude Code, Codex and Gemini CLI, of the versions in `package.json`. They are too large to come with ours, so
// they are installed when they are first run, in the user's cache and not in this repository.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import type { ExportingAgent } from '../../src/commands/agent-settings.ts';

const MANIFEST = ['package.json', 'package-lock.json'] as const;
const INSTALL_MAX_MS = 15 * 60_000;
const CACHE = path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'tollbridge');
const FOLDER = /^agents-[0-9a-f]{12}$/;

interface Packaged {
  /** What is named in `package.json`. */
  readonly name: string;
  /** The package that holds the program on this platform. */
  readonly holder: string;
  /** Where the program is in it. */
  readonly program: string;
}

const { platform, arch } = process;
const CODEX_TARGETS: Readonly<Record<string, string>> = {
  'linux-x64': 'x86_64-unknown-linux-musl',
  'linux-arm64': 'aarch64-unknown-linux-musl',
  'darwin-x64': 'x86_64-apple-darwin',
  'darwin-arm64': 'aarch64-apple-darwin',
};
const PACKAGES: Readonly<Record<ExportingAgent, Packaged>> = {
  'claude-code': {
    name: '@anthropic-ai/claude-code',
    holder: `@anthropic-ai/claude-code-${platform}-${arch}`,
    program: 'claude',
  },
  codex: {
    name: '@openai/codex',
    holder: `@openai/codex-${platform}-${arch}`,
    program: `vendor/${CODEX_TARGETS[`${platform}-${arch}`]}/bin/codex`,
  },
  'gemini-cli': { name: '@google/gemini-cli', holder: '@google/gemini-cli', program: 'bundle/gemini.js' },
};

/** A program that can be started, or why npm could not give it. */
export type InstalledAgent =
  | { readonly version: string; readonly program: string }
  | { readonly version: string; readonly missing: string };

/** Tried once, also where it failed. */
let provided: ReturnType<typeof provideFolder> | undefined;

/** Finds an agent, after installing all of them where this has not been done. */
export function installedAgent(agent: ExportingAgent): InstalledAgent {
  const { name, holder, program } = PACKAGES[agent];
  const { dependencies } = JSON.parse(readFileSync(ownFile('package.json'), 'utf8'));
  const version: string = dependencies[name];
  provided ??= provideFolder();
  if (typeof provided !== 'string') return { version, missing: provided.problem };
  const held = path.join(provided, 'node_modules', holder);
  if (!existsSync(held)) return { version, missing: `there is no ${holder}` };
  const file = path.join(held, program);
  if (!existsSync(file))
    throw new Error(`${holder} ${version} has no ${program}: say in ${import.meta.filename} where it is`);
  return { version, program: file };
}

const ownFile = (name: string) => path.join(import.meta.dirname, name);

/** The folder that holds these versions; whole, because it gets its name when everything is in it. */
function provideFolder(): string | { readonly problem: string } {
  const hash = createHash('sha256');
  for (const name of MANIFEST) hash.update(readFileSync(ownFile(name)));
  const folder = path.join(CACHE, `agents-${hash.digest('hex').slice(0, 12)}`);
  if (existsSync(folder)) return folder;
  mkdirSync(CACHE, { recursive: true });
  for (const old of readdirSync(CACHE)) if (FOLDER.test(old)) rmSync(path.join(CACHE, old), { recursive: true });
  const draft = mkdtempSync(path.join(CACHE, 'installing-'));
  try {
    process.stderr.write(`tollbridge: installing Claude Code, Codex and Gemini CLI in ${CACHE}, some 900 MB …\n`);
    for (const name of MANIFEST) cpSync(ownFile(name), path.join(draft, name));
    const { status, stderr, error } = spawnSync(
      'npm',
      ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
      {
        ...{ cwd: draft, encoding: 'utf8', timeout: INSTALL_MAX_MS, stdio: ['ignore', 'ignore', 'pipe'] },
      },
    );
    if (status !== 0) return { problem: error?.message ?? (stderr.split('\n')[0] || `npm ci ended with ${status}`) };
    renameSync(draft, folder);
    return folder;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}
