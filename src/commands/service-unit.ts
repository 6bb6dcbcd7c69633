// The text of the systemd user unit, and how systemd reads words and paths in one.

import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Place } from './installed-file.ts';

/** The unit's name, for systemctl and as a file. */
export const UNIT = 'tollbridge.service';
/**
 * Not secret, and they decide which files are read and written and what "today" means: a service that does not inherit
 * them would be another bridge than the one that the same command starts in a terminal.
 */
const CARRIED_FOLDERS = ['XDG_CONFIG_HOME', 'XDG_STATE_HOME', 'XDG_DATA_HOME', 'NODE_EXTRA_CA_CERTS'] as const;
const CARRIED_TEXTS = ['TZ'] as const;
/** What systemd takes as one word as it stands. */
const PLAIN_WORD = /^[\w@+=:,./-]+$/;
/** What systemd refuses in the path of a program, however it is written. In arguments it takes all of it. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: a file's name may have them.
const REFUSED_IN_PROGRAM = /["'\\\x01-\x1f\x7f]/;

/** What a unit is made of. */
export interface ServiceProgram {
  /** The absolute path of Node. */
  readonly node: string;
  /** The absolute path of our entry, `cli.ts` or `cli.js`. */
  readonly cli: string;
  /** The file that `--config` named, absolute. */
  readonly configFile?: string | undefined;
}

/** This very program, as a service would start it. */
export function ownProgram(configFile: string | undefined): ServiceProgram {
  const here = fileURLToPath(import.meta.url);
  const cli = path.join(path.dirname(path.dirname(here)), `cli${path.extname(here)}`);
  return { node: process.execPath, cli, configFile: configFile === undefined ? undefined : path.resolve(configFile) };
}

/** XDG_CONFIG_HOME if it is set; the standard says that a relative one is to be ignored. */
function configHome({ env }: Place): string | undefined {
  const base = env.XDG_CONFIG_HOME?.trim() ?? '';
  return path.isAbsolute(base) ? base : undefined;
}

/** Where systemd's user manager looks for units that a user made. */
export function unitFile(place: Place): string {
  return path.join(configHome(place) ?? path.join(place.home, '.config'), 'systemd', 'user', UNIT);
}

/** The file beside tollbridge.yaml from which the service takes keys and tokens. */
export function environmentFile(place: Place): string {
  return path.join(configHome(place) ?? path.join(place.home, '.config'), 'tollbridge', 'environment');
}

/**
 * A word as systemd reads it: in quotes where it must be, and with nothing in it that would be replaced.
 * @param isArgument of a command, after its program: only there does systemd replace variables
 */
export function unitWord(text: string, { isArgument = false } = {}): string {
  if (PLAIN_WORD.test(text)) return text;
  const escaped = text
    .replaceAll(/["\\]/g, '\\$&')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a file's name may have them, and a line must not.
    .replaceAll(/[\x01-\x1f\x7f]/g, (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, '0')}`)
    .replaceAll('%', '%%');
  return `"${isArgument ? escaped.replaceAll('$', '$$$$') : escaped}"`;
}

/** EnvironmentFile= takes the rest of its line as it stands, but for specifiers, and then as a pattern of files. */
function environmentFileSetting(place: Place): string {
  if (configHome(place) === undefined) return '-%h/.config/tollbridge/environment';
  return `-${environmentFile(place)
    .replaceAll(/[*?[{\\]/g, '\\$&')
    .replaceAll('%', '%%')}`;
}

function environmentSettings({ env }: Place): string[] {
  const carried = [
    ...CARRIED_FOLDERS.filter((name) => path.isAbsolute(env[name]?.trim() ?? '')),
    ...CARRIED_TEXTS.filter((name) => env[name]?.trim()),
  ].map((name) => [name, env[name]?.trim()]);
  // It makes messages and the page name commands as they are typed in a clone.
  if (env.npm_lifecycle_event) carried.push(['npm_lifecycle_event', 'start']);
  return carried.map(([name, value]) => `Environment=${unitWord(`${name}=${value}`)}`);
}

/** ExecStart=: a program, then its arguments. */
function commandLine({ node, cli, configFile }: ServiceProgram): string {
  const words = [node, cli, 'start', ...(configFile === undefined ? [] : ['--config', configFile])];
  // A shell that becomes Node: the process that systemd watches is still the bridge.
  if (REFUSED_IN_PROGRAM.test(node)) words.unshift('/bin/sh', '-c', 'exec "$0" "$@"');
  return words.map((word, index) => unitWord(word, { isArgument: index > 0 })).join(' ');
}

/** The unit that keeps a bridge running for one user. */
export function serviceUnit(program: ServiceProgram, place: Place): string {
  return `# Changes of your own belong into a drop-in, which outlives updates: systemctl --user edit tollbridge

[Unit]
Description=Tollbridge: meters what coding agents spend
# It is tried again for ever, at a growing distance: a port or a ledger that is taken may be free later.
StartLimitIntervalSec=0

[Service]
Type=simple
ExecStart=${commandLine(program)}
${environmentSettings(place)
  .map((line) => `${line}\n`)
  .join('')}# Keys and tokens, one NAME=value a line; mode 0600.
EnvironmentFile=${environmentFileSetting(place)}

# 0: it was told to stop. 1: something failed, perhaps not for long. 2: the command line is wrong, and stays so.
Restart=on-failure
RestartPreventExitStatus=2
RestartSec=5s
# From 5 s to 5 min in five steps. A systemd before 254 says that it ignores these two, and tries every 5 s.
RestartSteps=5
RestartMaxDelaySec=5min
# What was taken in is booked before it ends.
TimeoutStopSec=30s

# What is written is for this user alone; socket.group widens its socket itself.
UMask=0077
LimitNOFILE=16384
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
SystemCallArchitectures=native
# Not PrivateTmp: the socket may be in /tmp. Not MemoryDenyWriteExecute: V8 writes the code that it runs.

[Install]
WantedBy=default.target
`;
}

/** The unit as documentation: with the paths of nobody in particular. */
export function exampleUnit(): string {
  const program = { node: '/usr/local/bin/node', cli: '/opt/tollbridge/src/cli.ts' };
  return serviceUnit(program, { home: '/home/you', env: {} });
}
