// A home folder with settings of agents, for what installs into them.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import type { ExportingAgent } from '../../src/commands/agent-settings.ts';
import type { AgentInstallation } from '../../src/commands/install-agent.ts';
import { parseConfig } from '../../src/config.ts';
import { PermanentFailure } from '../../src/failure.ts';

export const TOKEN = 'tb_CANARYtoken';
const FILES: Readonly<Record<ExportingAgent, string>> = {
  'claude-code': '.claude/settings.json',
  codex: '.codex/config.toml',
  'gemini-cli': '.gemini/settings.json',
};
/** Settings of the user's own, which stay. */
export const OWN: Readonly<Record<ExportingAgent, string>> = {
  'claude-code': '{\n  "model": "opus",\n  "env": {\n    "FOO": "bar"\n  }\n}\n',
  codex: 'model = "gpt-5"\n\n[profiles.work]\nmodel = "gpt-5.1"\n',
  'gemini-cli': '{\n  "theme": "dark"\n}\n',
};

export function newPlace(t: TestContext, settings: object = {}) {
  const home = mkdtempSync(path.join(tmpdir(), 'tb-agent-'));
  t.after(() => rmSync(home, { recursive: true, force: true }));
  const state_dir = path.join(home, 'state');
  const configured = (changes: object = {}): AgentInstallation => ({
    config: parseConfig({ state_dir, otlp_in: { listen: '127.0.0.1:4318' }, ...settings, ...changes }),
    home,
    env: {},
  });
  const file = (agent: ExportingAgent) => path.join(home, FILES[agent]);
  const write = (agent: ExportingAgent, text: string) => {
    mkdirSync(path.dirname(file(agent)), { recursive: true });
    writeFileSync(file(agent), text);
  };
  return {
    home,
    configured,
    installation: configured(),
    file,
    write,
    read: (agent: ExportingAgent) => readFileSync(file(agent), 'utf8'),
  };
}
/** Every text below a folder. */
export const textsBelow = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(path.join(entry.parentPath, entry.name), 'utf8'));
export const refusal = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof PermanentFailure, String(error));
    return error.message;
  }
  throw new assert.AssertionError({ message: 'it was not refused' });
};
