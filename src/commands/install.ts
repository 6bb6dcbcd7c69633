// Puts the OpenCode plugin where OpenCode loads it from, takes it away again, and says what stands there.

import { lstatSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { commandText } from '../command-text.ts';
import type { Config } from '../config.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import { VERSION } from '../version.ts';
import {
  copyAside,
  linkTargetAt,
  moveAside,
  originOf,
  type Place,
  refuseLink,
  type Seal,
  sealed,
  textAt,
  writeWhole,
} from './installed-file.ts';

/** OpenCode loads `*.ts` and `*.js` of both folders; its documentation names the first. */
const FOLDERS = ['plugins', 'plugin'] as const;
const EXTENSIONS = ['.ts', '.js'] as const;
const SEAL: Seal = { comment: '//', what: 'plugin for OpenCode' };

export interface Installation extends Place {
  readonly config: Config;
}

export interface PluginState {
  /** `outdated`: ours, untouched, but not what this version and configuration would install. `edited`: changed by hand. */
  readonly state: 'absent' | 'current' | 'outdated' | 'edited' | 'unreadable';
  readonly path: string;
  /** Why it is unreadable, and what to do about it. */
  readonly problem?: string;
}

function openCodeFolder({ home, env }: Place): string {
  return path.join(env.XDG_CONFIG_HOME?.trim() || path.join(home, '.config'), 'opencode');
}

/** The plugin as it stands beside this file: `.ts` from source, `.js` when built. */
function pluginSource(): { text: string; extension: string } {
  const extension = path.extname(fileURLToPath(import.meta.url));
  const text = readFileSync(new URL(`../plugin/opencode${extension}`, import.meta.url), 'utf8');
  return { text, extension };
}

/** Every place in which OpenCode would load a plugin of ours, the one we install to first. */
function places(place: Place, extension: string): [string, ...string[]] {
  const all = FOLDERS.flatMap((folder) =>
    EXTENSIONS.map((ending) => path.join(openCodeFolder(place), folder, `tollbridge${ending}`)),
  );
  const target = path.join(openCodeFolder(place), FOLDERS[0], `tollbridge${extension}`);
  return [target, ...all.filter((file) => file !== target)];
}

/** The plugin's text with what it needs of this configuration written into it. */
function render({ config }: Installation): { text: string; extension: string } {
  const { text, extension } = pluginSource();
  const values = {
    __TOLLBRIDGE_SOCKET__: config.socket.enabled ? config.socket.path : '',
    __TOLLBRIDGE_SPOOL__: config.spool.enabled ? config.spool.dir : '',
    __TOLLBRIDGE_FAIL__: config.verdict.fail,
    __TOLLBRIDGE_VERSION__: VERSION,
  };
  let body = text;
  for (const [placeholder, value] of Object.entries(values)) {
    const quoted = `'${placeholder}'`;
    if (!body.includes(quoted)) throw new Error(`the plugin's source has no ${quoted}`);
    body = body.replace(quoted, () => JSON.stringify(value));
  }
  return { text: sealed(SEAL, body), extension };
}

/**
 * Installs the plugin for OpenCode, or renews it. A second run changes nothing.
 * @returns what was done, as lines for the user
 * @throws PermanentFailure when the file cannot or must not be written
 */
export function installOpencode(installation: Installation): string[] {
  const { config, env } = installation;
  const command = commandText('install opencode', { env });
  if (!config.socket.enabled && !config.spool.enabled) {
    throw new PermanentFailure(
      `Socket and spool are both switched off, so the plugin could not reach the bridge. Set socket.enabled or spool.enabled to true, then run: ${command}`,
    );
  }
  const { text, extension } = render(installation);
  const [target, ...elsewhere] = places(installation, extension);
  refuseLink(target, command);

  const lines: string[] = [];
  const standing = textAt(target);
  if (standing === text) {
    lines.push(`The OpenCode plugin is installed and current: ${target}. Nothing was changed.`);
  } else {
    if (standing !== undefined && originOf(SEAL, standing) !== 'untouched') {
      lines.push(`What stood there was kept as ${copyAside(target)}.`);
    }
    writeWhole(target, text, { what: 'The plugin', command });
    lines.unshift(`Installed the OpenCode plugin: ${target}`);
    lines.push('Restart OpenCode: it loads plugins when it starts.');
    if (!lstatSync(path.join(openCodeFolder(installation), 'node_modules'), { throwIfNoEntry: false })) {
      lines.push(
        'Its first start then takes longer, without a network by a minute or more: OpenCode fetches its own plugin package once.',
      );
    }
  }
  for (const other of elsewhere) {
    if (linkTargetAt(other) === undefined && originOf(SEAL, textAt(other) ?? '') !== 'foreign') {
      lines.push(`OpenCode would load ${other} as well. It was moved to ${moveAside(other)}.`);
    }
  }
  if (!config.socket.enabled) lines.push('The socket is switched off: turns reach the bridge through the spool only.');
  if (!config.spool.enabled) lines.push('The spool is switched off: turns taken while no bridge runs are lost.');
  return lines;
}

/**
 * Removes the plugin, and nothing but it: other files and backups stay, and what was changed by hand becomes one.
 * @returns what was done, as lines for the user
 * @throws PermanentFailure when our file cannot be removed
 */
export function uninstallOpencode(place: Place): string[] {
  const lines: string[] = [];
  for (const file of places(place, EXTENSIONS[0])) {
    const text = textAt(file);
    if (text === undefined) continue;
    if (originOf(SEAL, text) === 'foreign' || linkTargetAt(file) !== undefined) {
      lines.push(`${file} was not written by Tollbridge. It was left as it is.`);
      continue;
    }
    const isEdited = originOf(SEAL, text) === 'edited';
    let kept = '';
    try {
      if (isEdited) kept = ` It had been changed by hand, so it was kept as ${moveAside(file)}.`;
      else rmSync(file);
    } catch (error) {
      throw new PermanentFailure(
        `${file} cannot be removed: ${messageOf(error)}. OpenCode still loads it. Remove it by hand.`,
      );
    }
    lines.push(
      `Removed the OpenCode plugin: ${file}${kept && `.${kept}`}`,
      'An OpenCode that runs now still has it loaded. Restart it.',
    );
  }
  return lines.length > 0 ? lines : ['The OpenCode plugin is not installed. Nothing was changed.'];
}

/** What stands where OpenCode would load the plugin from. */
export function pluginState(installation: Installation): PluginState {
  const { text, extension } = render(installation);
  const candidates = places(installation, extension);
  for (const file of candidates) {
    let standing: string | undefined;
    try {
      standing = textAt(file);
    } catch (error) {
      if (!(error instanceof PermanentFailure)) throw error;
      return { state: 'unreadable', path: file, problem: error.message };
    }
    if (standing === undefined) continue;
    if (standing === text && file === candidates[0]) return { state: 'current', path: file };
    return { state: originOf(SEAL, standing) === 'untouched' ? 'outdated' : 'edited', path: file };
  }
  return { state: 'absent', path: candidates[0] };
}
