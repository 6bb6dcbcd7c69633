// Writes into the settings of Claude Code, Codex and Gemini CLI what they need to export to the bridge, takes it out again,
// and says whether it stands there. What the user has set otherwise is never overwritten.

import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, lstatSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { commandText } from '../command-text.ts';
import type { Config } from '../config.ts';
import { PermanentFailure } from '../failure.ts';
import { isObject } from '../turn/fields.ts';
import { AGENT_SETTINGS, type ExportingAgent, endpointOf, type Target } from './agent-settings.ts';
import { backupName, type Place, refuseLink, textAt, writeWhole } from './installed-file.ts';

/** The variable that holds the token which the agent is to bear. */
const TOKEN_VARIABLE = 'TOLLBRIDGE_TOKEN';
const [BEGIN, END] = ['# Tollbridge telemetry, begin', '# Tollbridge telemetry, end'];
/** An editor may have turned its line ends, or taken the last one away. */
const BLOCK = new RegExp(`(?:\\r?\\n)?${BEGIN}\\r?\\n[\\s\\S]*?${END}(?:\\r?\\n|$)`);
/** Settings may hold keys, so a new file is its user's alone. */
const NEW_FILE_MODE = 0o600;

export interface AgentInstallation extends Place {
  readonly config: Config;
}

export interface AgentState {
  /**
   * `no agent`: it is not on this machine. `untaken`: the bridge takes no telemetry. `outdated`: ours, but not what this
   * configuration would write. `other`: the user has set it otherwise.
   */
  readonly state: 'no agent' | 'untaken' | 'absent' | 'current' | 'outdated' | 'other';
  readonly title: string;
  readonly path: string;
}

/** What is to stand in a file, and what in its way is not ours. */
interface Plan {
  readonly text: string;
  readonly conflicts: readonly string[];
  /** Digests of the values that are ours then, by key. */
  readonly ours: Readonly<Record<string, string>>;
}

type Values = Readonly<Record<string, unknown>>;
type Settings = Record<string, unknown>;

const digest = (value: unknown) => createHash('sha256').update(JSON.stringify(value)).digest('hex');

/** The settings file of an agent. */
function fileOf(agent: ExportingAgent, place: Place): string {
  const { folder, file } = AGENT_SETTINGS[agent];
  return path.join(folder(place), file);
}

/** Which values of a JSON file are ours: digests, because one may hold a token. */
function recordFile(agent: ExportingAgent, { state_dir }: Config): string {
  return path.join(state_dir, 'installed', `${agent}.json`);
}

function recordedAt(file: string): Readonly<Record<string, string>> {
  try {
    const record: unknown = JSON.parse(textAt(file) ?? '{}');
    return isObject(record) ? (record as Record<string, string>) : {};
  } catch {
    return {};
  }
}

/**
 * Sets an agent up to export to the bridge, or renews it. A second run changes nothing.
 * @returns what was done, as lines for the user
 * @throws PermanentFailure when the settings cannot or must not be changed
 */
export function installAgent(agent: ExportingAgent, installation: AgentInstallation): string[] {
  const { config, env } = installation;
  const { title } = AGENT_SETTINGS[agent];
  const command = commandText(`install ${agent}`, { env });
  const target = targetOf(config, env, command);
  const file = fileOf(agent, installation);
  refuseLink(file, command);
  const standing = textAt(file);
  const record = recordFile(agent, config);
  const { text, conflicts, ours } = plan(agent, { standing, target, recorded: recordedAt(record), file, command });
  if (conflicts.length > 0) {
    throw new PermanentFailure(
      `${file} sets ${conflicts.join(', ')} otherwise, so ${title} may export to somebody else. Nothing was changed. ` +
        `Remove ${conflicts.length === 1 ? 'it' : 'them'}, or let a Collector pass its logs on to ${target.endpoint}. Then run: ${command}`,
    );
  }
  if (standing === text) return [`${title} is set up: ${file}. Nothing was changed.`];
  const lines = [`Set up ${title} to export to ${target.endpoint}: ${file}`];
  writeWhole(record, `${JSON.stringify(ours)}\n`, { what: 'The record of what is ours', command, mode: NEW_FILE_MODE });
  lines.push(...replace(file, text, command));
  if (target.token !== undefined) lines.push(`The token from ${TOKEN_VARIABLE} stands in that file now.`);
  lines.push(`Restart ${title}. Then "${commandText('status', { env })}" tells when it was last heard.`);
  return lines;
}

/**
 * Takes out of an agent's settings what `installAgent` wrote, and nothing else.
 * @throws PermanentFailure when the settings cannot be changed
 */
export function uninstallAgent(agent: ExportingAgent, installation: AgentInstallation): string[] {
  const { config, env } = installation;
  const { title } = AGENT_SETTINGS[agent];
  const command = commandText(`uninstall ${agent}`, { env });
  const file = fileOf(agent, installation);
  const record = recordFile(agent, config);
  const standing = textAt(file);
  const text =
    standing === undefined ? undefined : without(agent, { standing, recorded: recordedAt(record), file, command });
  if (text === standing) {
    rmSync(record, { force: true });
    return [`${title} was not set up by Tollbridge. Nothing was changed.`];
  }
  refuseLink(file, command);
  const kept = replace(file, text!, command);
  rmSync(record, { force: true });
  return [`${title} no longer exports to the bridge: ${file}`, ...kept, `Restart ${title}.`];
}

/** Whether an agent is on this machine and set up. @throws PermanentFailure when its settings cannot be read */
export function agentState(agent: ExportingAgent, installation: AgentInstallation): AgentState {
  const { config } = installation;
  const { title, folder } = AGENT_SETTINGS[agent];
  const file = fileOf(agent, installation);
  const told = (state: AgentState['state']): AgentState => ({ state, title, path: file });
  if (!existsSync(folder(installation))) return told('no agent');
  const endpoint = endpointOf(config);
  if (endpoint === undefined) return told('untaken');
  const standing = textAt(file) ?? '';
  const { wanted } = AGENT_SETTINGS[agent];
  const recorded = recordedAt(recordFile(agent, config));
  if (wanted.format === 'toml') {
    if (!BLOCK.test(standing)) return told(hasTable(standing, wanted.table) ? 'other' : 'absent');
    return told(standing.includes(JSON.stringify(`${endpoint}/v1/logs`)) ? 'current' : 'outdated');
  }
  const section = sectionOf(parsed(standing || '{}'), wanted.section);
  // A token is compared by nobody: doctor need not know it.
  const values = Object.entries(wanted.values({ endpoint }));
  const isSo = ([key, value]: [string, unknown]) =>
    section[key] === value || (typeof value === 'string' && String(section[key]).startsWith(`${value}/`));
  if (values.every(isSo)) return told('current');
  if (values.some(([key]) => section[key] !== undefined && recorded[key] === digest(section[key])))
    return told('outdated');
  const differs = values.some(([key, value]) => section[key] !== undefined && section[key] !== value);
  return told(differs ? 'other' : 'absent');
}

function targetOf(config: Config, env: Place['env'], command: string): Target {
  const endpoint = endpointOf(config);
  if (endpoint === undefined) {
    throw new PermanentFailure(
      'The bridge takes no telemetry, so an agent could not reach it. Add otlp_in: { listen: "127.0.0.1:4318" } to ' +
        `tollbridge.yaml, restart the bridge, then run: ${command}`,
    );
  }
  if (config.tokens.length === 0) return { endpoint };
  const token = env[TOKEN_VARIABLE]?.trim();
  if (token) return { endpoint, token };
  throw new PermanentFailure(
    `The bridge takes telemetry only with a token. Put the agent's token into ${TOKEN_VARIABLE} ` +
      `("${commandText('token new', { env })}" makes one), then run: ${command}`,
  );
}

interface Standing {
  readonly recorded: Readonly<Record<string, string>>;
  readonly file: string;
  readonly command: string;
}

function plan(
  agent: ExportingAgent,
  { standing = '', target, recorded, file, command }: Standing & { standing?: string | undefined; target: Target },
): Plan {
  const { wanted } = AGENT_SETTINGS[agent];
  if (wanted.format === 'toml') {
    const block = [BEGIN, ...wanted.lines(target), END, ''].join('\n');
    const rest = standing.replace(BLOCK, '');
    const conflicts = hasTable(rest, wanted.table) ? [`[${wanted.table}]`] : [];
    const text = BLOCK.test(standing)
      ? standing.replace(BLOCK, (found) => `${/^\r?\n/.exec(found)?.[0] ?? ''}${block}`)
      : `${rest}${rest === '' || rest.endsWith('\n') ? '' : '\n'}${rest === '' ? '' : '\n'}${block}`;
    return { text, conflicts, ours: {} };
  }
  const settings = settingsIn(standing, file, command);
  const section = sectionOf(settings, wanted.section);
  const values: Values = wanted.values(target);
  const isOurs = (key: string) => recorded[key] === digest(section[key]);
  const conflicts = Object.entries(values)
    .filter(([key, value]) => section[key] !== undefined && section[key] !== value && !isOurs(key))
    .map(([key]) => key);
  // What we wrote for another configuration and do not want now goes.
  const kept = Object.entries(section).filter(([key]) => key in values || !(key in recorded && isOurs(key)));
  const next = { ...settings, [wanted.section]: { ...Object.fromEntries(kept), ...values } };
  const isSame = JSON.stringify(next) === JSON.stringify(settings);
  const fresh = Object.entries(values).filter(([key]) => section[key] === undefined || isOurs(key));
  return {
    text: isSame && standing !== '' ? standing : `${JSON.stringify(next, null, 2)}\n`,
    conflicts,
    ours: Object.fromEntries(fresh.map(([key, value]) => [key, digest(value)])),
  };
}

/** The text without what is ours; the same text where nothing is. */
function without(
  agent: ExportingAgent,
  { standing, recorded, file, command }: Standing & { standing: string },
): string {
  const { wanted } = AGENT_SETTINGS[agent];
  if (wanted.format === 'toml') return standing.replace(BLOCK, '');
  const settings = settingsIn(standing, file, command);
  const section = sectionOf(settings, wanted.section);
  const left = Object.entries(section).filter(([key, value]) => recorded[key] !== digest(value));
  if (left.length === Object.keys(section).length) return standing;
  const { [wanted.section]: _, ...others } = settings;
  const next = left.length > 0 ? { ...settings, [wanted.section]: Object.fromEntries(left) } : others;
  return `${JSON.stringify(next, null, 2)}\n`;
}

/** @throws PermanentFailure when a file is no JSON object: rewriting it would lose what it says */
function settingsIn(text: string, file: string, command: string): Settings {
  const settings = parsed(text.trim() === '' ? '{}' : text);
  if (settings) return settings;
  throw new PermanentFailure(
    `${file} is no JSON object that can be rewritten without losing something, such as comments. Nothing was changed. ` +
      `Mend it, or add the lines of docs/agents.md by hand; or run again: ${command}`,
  );
}

function parsed(text: string): Settings | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function sectionOf(settings: Settings | undefined, key: string): Settings {
  const section = settings?.[key];
  return isObject(section) ? section : {};
}

/** Whether TOML sets a table, in any of its spellings. */
const hasTable = (text: string, table: string) =>
  new RegExp(`^\\s*(?:\\[\\s*"?${table}"?\\s*[.\\]]|"?${table}"?\\s*[.=])`, 'm').test(text);

/** Replaces a file and keeps a copy of what stood there. @returns what to tell of it */
function replace(file: string, text: string, command: string): string[] {
  const stood = lstatSync(file, { throwIfNoEntry: false });
  const lines: string[] = [];
  if (stood) {
    const backup = backupName(file);
    copyFileSync(file, backup);
    lines.push(`What stood there was kept as ${backup}.`);
  }
  const mode = stood ? statSync(file).mode & 0o777 : NEW_FILE_MODE;
  writeWhole(file, text, { what: 'The setting', command, mode });
  return lines;
}
