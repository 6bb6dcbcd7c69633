// Writes into the settings of Claude Code, Codex and Gemini CLI what they need to export to the bridge, takes it out again,
// and says whether it stands there. What the user has set otherwise is never overwritten.

import { existsSync, rmdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { commandText, shellWord } from '../command-text.ts';
import type { Config } from '../config.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import { isListedToken } from '../sources/sender-tokens.ts';
import { AGENT_SETTINGS, type AgentSettings, type ExportingAgent, endpointOf, type Target } from './agent-settings.ts';
import { copyAside, exactTextAt, linkTargetAt, type Place, refuseLink, writeWhole } from './installed-file.ts';
import { alone, InstalledRecord } from './installed-record.ts';
import type { Section, Stood } from './settings-format.ts';

/** The variable that holds the token which the agent is to bear. */
const TOKEN_VARIABLE = 'TOLLBRIDGE_TOKEN';
/** Settings may hold keys, so a new file is its user's alone. */
const NEW_FILE_MODE = 0o600;
const MODE_BITS = 0o777;
const OTHERS_MAY_READ = 0o077;
const OWNER_MAY_WRITE = 0o200;

export interface AgentInstallation extends Place {
  readonly config: Config;
}

export interface AgentState {
  /**
   * `no agent`: it is not on this machine. `untaken`: the bridge takes no telemetry. `unreadable`: its settings are not in
   * their language. `outdated`: ours, but not what this configuration would write. `tokenless`: it bears no token, and the
   * bridge wants one. `refused`: it bears one that the bridge does not know. `other`: the user has set it otherwise.
   * `outdone`: a variable of this shell says otherwise, and counts for an agent that is started with it.
   */
  readonly state:
    | 'no agent'
    | 'untaken'
    | 'unreadable'
    | 'absent'
    | 'current'
    | 'outdated'
    | 'tokenless'
    | 'refused'
    | 'other'
    | 'outdone';
  readonly title: string;
  readonly path: string;
  /** For `other` and `outdone` what is in the way, for `outdated` what is not as wanted, else what is ours. */
  readonly keys: readonly string[];
  /** It holds a token, and other users may read it. */
  readonly isExposed: boolean;
}

/** The settings of an agent on this machine. */
interface Settings extends AgentSettings {
  readonly path: string;
  readonly record: InstalledRecord;
  label(key: string): string;
}

/** How what stands in a section compares with what is wanted there. */
interface Comparison {
  /** Keys whose value was written by us. */
  readonly ours: readonly string[];
  /** What the user has set so that the agent would not export to the bridge, as people find it. */
  readonly conflicts: readonly string[];
  /** Keys that the user has set otherwise, and that may stay so. */
  readonly left: readonly string[];
  readonly toSet: ReadonlyMap<string, unknown>;
  readonly toRemove: readonly string[];
}

function settingsOf(agent: ExportingAgent, { config, ...place }: AgentInstallation): Settings {
  const settings = AGENT_SETTINGS[agent];
  const file = path.join(settings.folder(place), settings.file);
  const record = new InstalledRecord(config.state_dir, { agent, settings: file });
  return { ...settings, path: file, record, label: (key) => settings.format.label(settings.section, key) };
}

/**
 * Sets an agent up to export to the bridge, or renews it. A second run changes nothing.
 * @returns what was done, as lines for the user
 * @throws PermanentFailure when the settings cannot or must not be changed
 */
export function installAgent(agent: ExportingAgent, installation: AgentInstallation): string[] {
  const { config, env } = installation;
  const command = commandText(`install ${agent}`, { env });
  const target = targetOf(AGENT_SETTINGS[agent], config, { env, command });
  return alone(config.state_dir, command, () =>
    setUp(settingsOf(agent, installation), { installation, target, command }),
  );
}

function setUp(
  settings: Settings,
  { installation, target, command }: { installation: AgentInstallation; target: Target; command: string },
): string[] {
  const { config, env } = installation;
  const { title, path: file, format, section, record, label } = settings;
  const standing = exactTextAt(file);
  const text = standing === undefined || standing.trim() === '' ? format.empty : standing;
  const found = sectionIn(text, settings, command);
  const { ours, conflicts, left, toSet, toRemove } = compare(found, settings, target);
  if (conflicts.length > 0) {
    throw new PermanentFailure(
      `${file} sets ${conflicts.join(', ')} otherwise, so ${title} may export to somebody else, or is not to export. Nothing was changed. ` +
        `Remove ${conflicts.length === 1 ? 'it' : 'them'}, or let a Collector pass its logs on to ${target.endpoint}. Then run: ${command}`,
    );
  }
  const remarks = [
    ...(left.length > 0 ? [`Left as it stands there: ${left.map(label).join(', ')}.`] : []),
    ...outdone(settings, target, env).map(
      (name) => `${name} is set in this shell and outdoes that file: start ${title} without it.`,
    ),
    ...silenced(settings, target, env).map(
      (name) => `${name} is set otherwise in this shell: for ${title} it no longer counts.`,
    ),
    ...tlsRemarks(title, config),
  ];
  if (toSet.size === 0 && toRemove.length === 0) {
    return [`${title} is set up: ${file}. Nothing was changed.`, ...remarks];
  }
  refuseLink(file, command, 'Add the lines of docs/agents.md to that file by hand. Or: ');
  refuseProtected(file, command);

  if (ours.length === 0) record.forget();
  const stood = { ...blankOf(file, standing), ...format.stood(text, section) };
  const without = format.remove(text, section, toRemove, record.stood);
  const next = format.set(without, section, toSet);
  refuseUnlessSet(next, { settings, toSet, command });
  refuseIfChanged(file, standing, command);
  const backup = ours.length === 0 && standing !== undefined ? copyAside(file) : undefined;
  let isClosed: boolean;
  try {
    record.add({ values: toSet, stood, backup: backup && path.basename(backup) }, command);
    isClosed = replace(file, { standing, next, command, holdsToken: target.token !== undefined });
  } catch (error) {
    if (backup !== undefined) rmSync(backup, { force: true });
    throw error;
  }
  return [
    `Set up ${title} to export to ${target.endpoint}: ${file}`,
    ...(backup === undefined ? [] : [`What stood there was kept as ${backup}.`]),
    ...(target.token === undefined ? [] : [`The token from ${TOKEN_VARIABLE} stands in that file now.`]),
    ...(isClosed ? ['So other users of this machine may no longer read it: its mode is 0600.'] : []),
    ...remarks,
    `Restart ${title}. Then "${commandText('status', { env })}" tells when it was last heard.`,
  ];
}

/**
 * Takes out of an agent's settings what `installAgent` wrote, and nothing else.
 * @throws PermanentFailure when the settings cannot be changed
 */
export function uninstallAgent(agent: ExportingAgent, installation: AgentInstallation): string[] {
  const command = commandText(`uninstall ${agent}`, { env: installation.env });
  const act = () => takeOut(agent, installation, command);
  return settingsOf(agent, installation).record.isEmpty ? act() : alone(installation.config.state_dir, command, act);
}

function takeOut(agent: ExportingAgent, installation: AgentInstallation, command: string): string[] {
  const settings = settingsOf(agent, installation);
  const { title, path: file, format, section, record, label } = settings;
  const { stood, backup } = record;
  const standing = record.isEmpty ? undefined : exactTextAt(file);
  const ours = standing?.trim() ? oursIn(sectionIn(standing, settings, command), record) : [];
  if (standing === undefined || ours.length === 0) {
    const lines = [`${title} was not set up by Tollbridge. Nothing was changed.`];
    if (stateOf(agent, installation) === 'current') {
      lines.push(`It exports to the bridge all the same, by ${file}: take that out by hand.`);
    }
    record.remove();
    return lines;
  }
  refuseLink(file, command, `Take ${ours.map(label).join(', ')} out of that file by hand. Or: `);
  refuseProtected(file, command);
  const rest = format.remove(standing, section, ours, stood);
  const next = stood.file !== undefined && format.holdsNothing(rest) ? stood.file : rest;
  if (next === null) removeMade(file, stood);
  else replace(file, { standing, next, command, holdsToken: false });
  if (backup !== undefined && next !== null) removeCopy(path.join(path.dirname(file), backup), next);
  record.remove();
  return [`${title} no longer exports to the bridge: ${file}`, `Restart ${title}.`];
}

/** Whether an agent is on this machine and set up. @throws PermanentFailure when its settings cannot be read */
export function agentState(agent: ExportingAgent, installation: AgentInstallation): AgentState {
  const { config, env } = installation;
  const settings = settingsOf(agent, installation);
  const { title, path: file, format, section, record, label } = settings;
  const told = (state: AgentState['state'], keys: readonly string[] = [], isExposed = false): AgentState => ({
    ...{ state, title, path: file, keys: keys.map(label), isExposed },
  });
  if (!existsSync(path.dirname(file))) return told('no agent');
  const endpoint = endpointOf(config);
  if (endpoint === undefined && record.isEmpty) return told('untaken');
  const standing = exactTextAt(file) ?? '';
  const found = format.read(standing.trim() === '' ? format.empty : standing, section);
  if (endpoint === undefined) return told('untaken', found && oursIn(found, record));
  if (!found) return told('unreadable');
  const token = settings.tokenIn(found.values, endpoint);
  // The token is the one that stands there: doctor need not know the right one.
  const target = { endpoint, ...(token !== undefined && { token }) };
  const { ours, conflicts, toSet, toRemove } = compare(found, settings, target);
  if (conflicts.length > 0) return { ...told('other'), keys: conflicts };
  const differing = [...toSet.keys(), ...toRemove];
  if (differing.length > 0) return ours.length > 0 ? told('outdated', differing) : told('absent');
  const variables = outdone(settings, target, env);
  if (variables.length > 0) return { ...told('outdone'), keys: variables };
  const isExposed = token !== undefined && (statSync(file).mode & OTHERS_MAY_READ) !== 0;
  if (config.tokens.length === 0) return told('current', ours, isExposed);
  if (token === undefined) return told('tokenless', ours);
  return told(isListedToken(token, config.tokens, env) === false ? 'refused' : 'current', ours, isExposed);
}

function stateOf(agent: ExportingAgent, installation: AgentInstallation): AgentState['state'] | undefined {
  try {
    return agentState(agent, installation).state;
  } catch {
    return undefined;
  }
}

function targetOf(
  { title, tokenPattern }: AgentSettings,
  config: Config,
  { env, command }: { env: Place['env']; command: string },
): Target {
  const endpoint = endpointOf(config);
  if (endpoint === undefined) {
    throw new PermanentFailure(
      'The bridge takes no telemetry, so an agent could not reach it. Add otlp_in: { listen: "127.0.0.1:4318" } to ' +
        `tollbridge.yaml, restart the bridge, then run: ${command}`,
    );
  }
  if (config.tokens.length === 0) return { endpoint };
  const token = env[TOKEN_VARIABLE]?.trim();
  const makes = `"${commandText('token new', { env })}" makes one`;
  if (!token) {
    throw new PermanentFailure(
      `The bridge takes telemetry only with a token. Put the agent's token into ${TOKEN_VARIABLE} (${makes}), then run: ${command}`,
    );
  }
  if (!tokenPattern.test(token)) {
    throw new PermanentFailure(
      `The token in ${TOKEN_VARIABLE} holds a character that ${title} would not pass on as it is. Use another one (${makes}), then run: ${command}`,
    );
  }
  if (isListedToken(token, config.tokens, env) === false) {
    throw new PermanentFailure(
      `The token in ${TOKEN_VARIABLE} is none of those that the configuration lists, so the bridge would turn ${title} away. ` +
        `Put the right one there, or list it under tokens in tollbridge.yaml and restart the bridge. Then run: ${command}`,
    );
  }
  return { endpoint, token };
}

function tlsRemarks(title: string, { otlp_in }: Config): string[] {
  if (!otlp_in?.tls) return [];
  const shows = otlp_in.tls.client_ca_file === undefined ? '' : ', and show a certificate of its own';
  return [`The bridge speaks TLS there: ${title} must trust who signed its certificate${shows}. That is not set up.`];
}

const oursIn = ({ values }: Section, record: InstalledRecord) =>
  [...values].filter(([key, value]) => record.isOurs(key, value)).map(([key]) => key);

function compare(found: Section, { record, accepts, values, label }: Settings, target: Target): Comparison {
  const ours = oursIn(found, record);
  const wanted = new Map(Object.entries(values(target)));
  const comparison = { ours, conflicts: [] as string[], left: [] as string[], toSet: new Map<string, unknown>() };
  for (const key of new Set([...wanted.keys(), ...Object.keys(accepts)])) {
    const standing = found.values.get(key);
    const value = wanted.get(key);
    if (standing === value) continue;
    if (standing === undefined || ours.includes(key)) comparison.toSet.set(key, value);
    else if (accepts[key]?.test(String(standing))) comparison.left.push(key);
    else comparison.conflicts.push(label(key));
  }
  if (found.obstacle !== undefined) comparison.conflicts.push(found.obstacle);
  // What we wrote for another configuration and do not want now goes.
  return { ...comparison, toRemove: ours.filter((key) => !wanted.has(key)) };
}

/** The variables that say otherwise than what is wanted; where one says headers, they may bear the token. */
function outdone({ outdoneBy, accepts, values }: AgentSettings, target: Target, env: Place['env']): string[] {
  const wanted = values(target);
  const plain = target.token === undefined || env.OTEL_EXPORTER_OTLP_HEADERS?.trim() ? target.endpoint : undefined;
  return Object.entries(outdoneBy)
    .filter(([name, key]) => {
      const value = env[name]?.trim();
      return value && value !== wanted[key] && value !== plain && !accepts[key]?.test(value);
    })
    .map(([name]) => name);
}

/** The variables of this shell that count no more, so that what went where they led goes to the bridge. */
function silenced({ setsVariables, values }: AgentSettings, target: Target, env: Place['env']): string[] {
  if (!setsVariables) return [];
  return Object.entries(values(target)).flatMap(([name, value]) =>
    env[name]?.trim() && env[name] !== value ? name : [],
  );
}

/** @throws PermanentFailure when a file is not in its language: what it says would be lost */
function sectionIn(text: string, { title, format, section, path: file }: Settings, command: string): Section {
  const found = format.read(text, section);
  if (found) return found;
  throw new PermanentFailure(
    `${file} is no ${format.name}, so ${title} cannot read it. Nothing was changed. Mend it, then run: ${command}`,
  );
}

/** Looks at what is about to be written as its reader will. */
function refuseUnlessSet(
  next: string,
  { settings, toSet, command }: { settings: Settings; toSet: ReadonlyMap<string, unknown>; command: string },
): void {
  const { values } = sectionIn(next, settings, command);
  for (const [key, value] of toSet) {
    if (values.get(key) !== value) throw new Error(`${settings.label(key)} could not be set`);
  }
}

function blankOf(file: string, standing: string | undefined): Stood {
  if (standing === undefined) return { file: null, ...(!existsSync(path.dirname(file)) && { folder: null }) };
  return standing.trim() === '' ? { file: standing } : {};
}

interface Rewriting {
  readonly standing: string | undefined;
  readonly next: string;
  readonly command: string;
  readonly holdsToken: boolean;
}

/** Replaces a file, unless somebody has written it meanwhile. @returns whether others may no longer read it */
function replace(file: string, { standing, next, command, holdsToken }: Rewriting): boolean {
  const stats = statSync(file, { throwIfNoEntry: false });
  const mode = stats ? stats.mode & MODE_BITS : NEW_FILE_MODE;
  const closed = holdsToken ? mode & ~OTHERS_MAY_READ : mode;
  const check = () => {
    if (exactTextAt(file) === standing) return;
    throw new PermanentFailure(
      `${file} was changed by another program meanwhile. It was left so. Run again: ${command}`,
    );
  };
  writeWhole(file, next, { what: 'The setting', command, mode: closed, check, ...(stats && { owner: stats }) });
  return closed !== mode;
}

/** Replacing it would need no right to write it, but who protects it means something. */
function refuseProtected(file: string, command: string): void {
  const mode = statSync(file, { throwIfNoEntry: false })?.mode ?? OWNER_MAY_WRITE;
  if (mode & OWNER_MAY_WRITE) return;
  throw new PermanentFailure(
    `${file} is protected against writing. Nothing was changed. If you mean it to change: chmod u+w ${shellWord(file)}, then run: ${command}`,
  );
}

function refuseIfChanged(file: string, standing: string | undefined, command: string): void {
  if (exactTextAt(file) === standing) return;
  throw new PermanentFailure(`${file} was changed by another program meanwhile. It was left so. Run again: ${command}`);
}

/** Takes away a file that was made for us, and a folder that was, when nothing else is in it. */
function removeMade(file: string, { folder }: Stood): void {
  try {
    rmSync(file);
    if (folder === null) rmdirSync(path.dirname(file));
  } catch (error) {
    if (['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) return;
    throw new PermanentFailure(`${file} cannot be removed: ${messageOf(error)}. Remove it by hand.`);
  }
}

/** Takes away a backup that says nothing which its file does not say again. */
function removeCopy(backup: string, text: string): void {
  try {
    if (linkTargetAt(backup) === undefined && exactTextAt(backup) === text) rmSync(backup);
  } catch {
    // Whatever stands there is no copy.
  }
}
