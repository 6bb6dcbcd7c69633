// Lets systemd keep a bridge running for this user: writes the unit, starts it, looks whether it lives, and undoes it all.

import { rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { commandText } from '../command-text.ts';
import type { Config } from '../config.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import { DETECTED_VARIABLES } from '../poll/detect.ts';
import { askBridge, type BridgeAnswer } from './ask-bridge.ts';
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
import { environmentFile, ownProgram, serviceUnit, UNIT, unitFile } from './service-unit.ts';
import type { Report } from './show.ts';
import { type Systemctl, type SystemctlAnswer, systemctlOf, type UnitState, unitState } from './systemctl.ts';

const SEAL: Seal = { comment: '#', what: 'service' };
/** A bridge that cannot run says so within a second; one with a large ledger takes longer to answer. */
const PATIENCE_MS = 10_000;
/** What cannot be asked and has run for so long is taken to live. */
const STEADY_MS = 2000;
const LOOK_EVERY_MS = 200;
const OTHERS_MAY_READ = 0o077;

const WHERE_TO_LOOK = [
  '  how it stands   systemctl --user status tollbridge',
  '  what it says    journalctl --user -u tollbridge -f',
];
const LINGER = 'It starts when you log in and ends when you log out. To keep it running: loginctl enable-linger';

/** What both ways need. */
export interface ServicePlace extends Place {
  readonly platform: NodeJS.Platform;
  /** Default: the program on the PATH of `env`. */
  readonly systemctl?: Systemctl;
}

export interface ServiceOptions extends ServicePlace {
  readonly config: Config;
  /** The file that `--config` named. */
  readonly configFile?: string | undefined;
  /** How long a bridge that runs is given to answer. */
  readonly patienceMs?: number;
}

/**
 * Installs the bridge as a service of this user and starts it, or renews it. A second run changes nothing.
 * @returns what was done; the exit code is 1 when the service was not started
 * @throws PermanentFailure when the unit cannot or must not be written
 */
export async function installService(options: ServiceOptions): Promise<Report> {
  refuseOtherPlatforms(options.platform);
  const { env, systemctl = systemctlOf(env) } = options;
  const before = unitState(systemctl, UNIT);
  const unit = writeUnit(options);
  if ('outcome' in before) return notStarted(unit.lines, 'show', before, options);
  if (!unit.isChanged && isRunning(before) && before.isEnabled && !before.isStale) {
    const what = `The service is installed, current and running: ${unit.file}. Nothing was changed.`;
    return { lines: [what, ...WHERE_TO_LOOK, ...keyHints(options)], exitCode: 0 };
  }
  const steps = [['daemon-reload'], ['enable', '--now', UNIT]];
  if (before.active === 'active' && (unit.isChanged || before.isStale)) steps.push(['restart', UNIT]);
  for (const step of steps) {
    const answer = systemctl(step);
    if (answer.outcome !== 'done') return notStarted(unit.lines, step.join(' '), answer, options);
  }
  const result = await watchStart(systemctl, options);
  const told = result.lives ? livingLines(result, options) : failedLines(systemctl, result.answer, options);
  return { lines: [...unit.lines, ...told, ...keyHints(options)], exitCode: result.lives ? 0 : 1 };
}

/**
 * Stops the service and removes its unit; a unit that is not ours, keys, configuration and ledger stay.
 * @returns what was done; the exit code is 1 when the service could not be stopped
 * @throws PermanentFailure when our unit cannot be removed
 */
export function uninstallService(place: ServicePlace): Report {
  refuseOtherPlatforms(place.platform);
  const { env, systemctl = systemctlOf(env) } = place;
  const file = unitFile(place);
  const text = textAt(file);
  const isLink = linkTargetAt(file) !== undefined;
  if (text === undefined && !isLink) {
    return { lines: ['The service is not installed. Nothing was changed.'], exitCode: 0 };
  }
  const origin = originOf(SEAL, text ?? '');
  if (isLink || origin === 'foreign') {
    return { lines: [`${file} was not written by Tollbridge. It was left as it is.`], exitCode: 0 };
  }

  const stopped = systemctl(['disable', '--now', UNIT]);
  if (stopped.outcome === 'refused') {
    return {
      lines: [
        `The service could not be stopped, so nothing was removed: "systemctl --user disable --now ${UNIT}" failed: ${stopped.problem}`,
        `Mend that, then run: ${commandText('uninstall service', { env })}`,
      ],
      exitCode: 1,
    };
  }
  const lines = removeUnit(file, origin === 'edited');
  if (stopped.outcome === 'done') {
    systemctl(['daemon-reload']);
    // What failed before is remembered under its name; where nothing is, this is refused, and that is as well.
    systemctl(['reset-failed', UNIT]);
    lines.unshift('Stopped the service.');
  } else {
    lines.push(`No systemd could be told to stop it: ${stopped.problem}. If a bridge still runs, stop it by hand.`);
  }
  lines.push(`Left as they are: the configuration, the ledger and what is in ${environmentFile(place)}.`);
  return { lines, exitCode: 0 };
}

function refuseOtherPlatforms(platform: NodeJS.Platform): void {
  if (platform === 'linux') return;
  const start = commandText('start');
  throw new PermanentFailure(
    platform === 'darwin'
      ? 'On macOS launchd keeps services running, and Tollbridge writes no job for it. Nothing was changed. ' +
          `Run the bridge in a terminal: ${start}\n` +
          `Or in the background, until you log out: nohup ${start} >> ~/Library/Logs/tollbridge.log 2>&1 &\n` +
          'Or make a job of your own for launchd that runs this command: see "man launchd.plist", KeepAlive and RunAtLoad.'
      : `A service is one of systemd, which ${platform} does not have. Nothing was changed. Run instead: ${start}`,
  );
}

interface WrittenUnit {
  readonly file: string;
  readonly isChanged: boolean;
  readonly lines: readonly string[];
}

function writeUnit(options: ServiceOptions): WrittenUnit {
  const command = commandText('install service', { env: options.env });
  const file = unitFile(options);
  const text = sealed(SEAL, serviceUnit(ownProgram(options.configFile), options));
  refuseLink(file, command);
  const standing = textAt(file);
  if (standing === text) return { file, isChanged: false, lines: [`The service's file is current: ${file}`] };
  const origin = standing === undefined ? 'untouched' : originOf(SEAL, standing);
  const kept = origin === 'untouched' ? [] : [`What stood there was kept as ${copyAside(file)}.`];
  writeWhole(file, text, { what: 'The service', command });
  const did = standing === undefined || origin === 'foreign' ? 'Installed' : 'Renewed';
  return { file, isChanged: true, lines: [`${did} the service: ${file}`, ...kept] };
}

function removeUnit(file: string, isEdited: boolean): string[] {
  const wanted = path.join(path.dirname(file), 'default.target.wants', UNIT);
  try {
    // Where no systemd could be told, what `enable` made would be left to lead nowhere.
    if (linkTargetAt(wanted) === file) rmSync(wanted);
    if (isEdited)
      return [`Removed the service: ${file}. It had been changed by hand, so it was kept as ${moveAside(file)}.`];
    rmSync(file);
  } catch (error) {
    throw new PermanentFailure(
      `${file} cannot be removed: ${messageOf(error)}. systemd starts it when you log in. Remove it by hand.`,
    );
  }
  return [`Removed the service: ${file}`];
}

const isRunning = ({ active, sub }: UnitState) => active === 'active' && sub === 'running';

type Start =
  | { readonly lives: true; readonly pid: number; readonly answer: BridgeAnswer }
  | { readonly lives: false; readonly answer: BridgeAnswer };

/** Looks at a service until its bridge answers, it fails, or patience ends. */
async function watchStart(systemctl: Systemctl, options: ServiceOptions): Promise<Start> {
  const { config, patienceMs = PATIENCE_MS } = options;
  const startedMs = performance.now();
  let restartsBefore: number | undefined;
  for (;;) {
    const state = unitState(systemctl, UNIT);
    const answer = await askBridge(config);
    if ('outcome' in state) return { lives: false, answer };
    restartsBefore ??= state.restarts;
    const hasFailed = state.active === 'failed' || state.sub.startsWith('auto-restart');
    if (hasFailed || state.restarts > restartsBefore) return { lives: false, answer };
    const pid = state.mainPid;
    if (isRunning(state) && answer.answers && answer.status.pid === pid) return { lives: true, pid, answer };
    const waitedMs = performance.now() - startedMs;
    if (waitedMs >= (config.socket.enabled ? patienceMs : Math.min(patienceMs, STEADY_MS))) {
      return isRunning(state) ? { lives: true, pid, answer } : { lives: false, answer };
    }
    await delay(LOOK_EVERY_MS);
  }
}

function livingLines({ pid, answer }: Start & { lives: true }, { env }: ServiceOptions): string[] {
  const runs =
    answer.answers && answer.status.pid === pid
      ? [`It runs (process ${pid}), and its page is ${answer.status.metrics_url}/`]
      : [
          `It runs (process ${pid}), but cannot be asked yet${answer.answers ? '' : `: ${answer.why}`}.`,
          `With a large ledger that takes a while. Look again with: ${commandText('doctor', { env })}`,
        ];
  return [...runs, ...WHERE_TO_LOOK, LINGER];
}

function failedLines(systemctl: Systemctl, answer: BridgeAnswer, { config }: ServiceOptions): string[] {
  const status = systemctl(['status', UNIT, '--no-pager', '--full', '--lines=10']).stdout.trimEnd();
  const holder = answer.answers ? answer.status.pid : answer.relay?.pid;
  return [
    'The service was started, but does not stay up. What systemd knows of it:',
    ...status.split('\n').map((line) => `  ${line}`.trimEnd()),
    ...(holder === undefined
      ? []
      : [`Another bridge or relay answers at ${config.socket.path} (process ${holder}). Stop that one.`]),
    'systemd tries again by itself, at a growing distance. When it is mended: systemctl --user restart tollbridge',
    ...WHERE_TO_LOOK,
  ];
}

function notStarted(
  written: readonly string[],
  step: string,
  { outcome, problem }: SystemctlAnswer,
  { env }: ServiceOptions,
): Report {
  const again = `then run: ${commandText('install service', { env })}`;
  const meanwhile = `Until then, run the bridge yourself: ${commandText('start', { env })}`;
  const why = {
    missing: [
      'The service was not started: there is no program systemctl, so this system does not seem to be run by systemd.',
      `If it is, put systemctl on the PATH, ${again}`,
      `If not, let whatever starts programs here run: ${commandText('start', { env })}`,
    ],
    unreachable: [
      `The service was not started. systemctl says: ${problem}`,
      'So no systemd looks after the services of this user here, as in a container, or after su or sudo.',
      `Log in as this user itself (console or ssh), ${again}`,
      'After su or sudo this may do: loginctl enable-linger, and export XDG_RUNTIME_DIR=/run/user/$(id -u)',
      meanwhile,
    ],
    refused: [
      `The service was not started: "systemctl --user ${step}" failed: ${problem}`,
      ...(env.XDG_CONFIG_HOME
        ? ['If it finds no such unit: XDG_CONFIG_HOME is set here, and systemd may look in ~/.config instead.']
        : []),
      `Mend that, ${again}`,
      meanwhile,
    ],
    done: [],
  };
  return { lines: [...written, ...why[outcome]], exitCode: 1 };
}

/** What a user must know about keys: a service inherits no variable of a shell. */
function keyHints(options: ServiceOptions): string[] {
  const { config, env } = options;
  const file = environmentFile(options);
  const given = new Set([...textOrNothing(file).matchAll(/^\s*([A-Za-z_]\w*)=/gm)].map(([, name]) => name));
  const unseen = [...namedVariables(config), ...(config.detect ? DETECTED_VARIABLES : [])].filter(
    (name) => env[name]?.trim() && !given.has(name),
  );
  const mode = modeOf(file);
  return [
    ...(unseen.length === 0
      ? []
      : [
          `Set here, but not seen by the service, which inherits nothing from a shell: ${[...new Set(unseen)].join(', ')}`,
          `Write NAME=value lines into ${file}, chmod 600 it, then: systemctl --user restart tollbridge`,
        ]),
    ...(mode & OTHERS_MAY_READ
      ? [`Other users of this machine may read your keys. Close them: chmod 600 ${file}`]
      : []),
  ];
}

function modeOf(file: string): number {
  try {
    return statSync(file).mode;
  } catch {
    return 0;
  }
}

/** What cannot be read holds nothing for the service either, and is no reason to hide what was done. */
function textOrNothing(file: string): string {
  try {
    return textAt(file) ?? '';
  } catch {
    return '';
  }
}

/** The variables that a configuration names, wherever it does: every key that ends with `_env`. */
function namedVariables(part: unknown): string[] {
  if (part === null || typeof part !== 'object') return [];
  return Object.entries(part).flatMap(([key, value]) =>
    key.endsWith('_env') && typeof value === 'string' ? [value] : namedVariables(value),
  );
}
