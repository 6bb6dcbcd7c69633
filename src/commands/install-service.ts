// Runs the bridge as a systemd user service, so that it is there after the next login, and takes that back.

import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { commandText } from '../command-text.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import type { Place } from './install.ts';
import { moveAside, textAt, writeWhole } from './own-file.ts';
import { originOf, serviceUnit } from './service-unit.ts';
import type { Report } from './show.ts';

const UNIT = 'tollbridge.service';
/** A bridge that is set up wrongly ends within this time. */
const SETTLES_AFTER_MS = 1_500;
const WHERE_TO_LOOK = [
  '  systemctl --user status tollbridge      how it is',
  '  journalctl --user -u tollbridge -f      what it says',
];

export interface ServicePlace extends Place {
  readonly platform: NodeJS.Platform;
  /** The configuration that the service is to read, where it is not the usual one. */
  readonly configFile?: string | undefined;
  /** How long to wait before the service is looked at; for tests. */
  readonly settlesAfterMs?: number;
}

interface Answer {
  readonly isOk: boolean;
  /** What it said, on one line. */
  readonly text: string;
}

function systemctl(env: Place['env'], ...args: string[]): Answer {
  const { status, stdout, stderr, error } = spawnSync('systemctl', ['--user', ...args], {
    encoding: 'utf8',
    env: { ...env } as NodeJS.ProcessEnv,
  });
  const text = error ? messageOf(error) : `${stdout}${stderr}`.trim().replaceAll('\n', '; ');
  return { isOk: status === 0, text };
}

const configFolder = ({ home, env }: Place) => env.XDG_CONFIG_HOME?.trim() || path.join(home, '.config');
const unitFile = (place: Place) => path.join(configFolder(place), 'systemd', 'user', UNIT);

function needsSystemd(platform: NodeJS.Platform, command: string): void {
  if (platform === 'linux') return;
  throw new PermanentFailure(
    `"${command}" works with systemd, which this system does not have. Nothing was changed. To keep a bridge running here, ` +
      `let your own supervisor (launchd, for example) run: ${commandText('start')}`,
  );
}

/** This very program, as the service will call it. */
function ownCommand(configFile: string | undefined): string[] {
  const cli = fileURLToPath(new URL(`../cli${path.extname(fileURLToPath(import.meta.url))}`, import.meta.url));
  return [process.execPath, cli, 'start', ...(configFile === undefined ? [] : ['--config', path.resolve(configFile)])];
}

/**
 * Writes the unit, starts the service and sees to it that it is started at every login. A second run changes nothing.
 * @throws PermanentFailure where there is no systemd for it, or the unit cannot be written
 */
export async function installService(place: ServicePlace): Promise<Report> {
  const { env, platform, configFile, settlesAfterMs = SETTLES_AFTER_MS } = place;
  const again = commandText('install service', { env });
  needsSystemd(platform, 'install service');
  const file = unitFile(place);
  const environmentFile = path.join(configFolder(place), 'tollbridge', 'environment');
  const text = serviceUnit({ command: ownCommand(configFile), environmentFile });
  const standing = textAt(file);
  const lines: string[] = [];
  if (standing !== text) {
    if (standing !== undefined && originOf(standing) !== 'ours') {
      lines.push(`What stood there was kept as ${moveAside(file)}.`);
    }
    writeWhole(file, text, { without: 'The service is not installed.', command: again });
    lines.unshift(`Wrote the service: ${file}`);
  }

  const isRunning = () => systemctl(env, 'is-active', UNIT).text === 'active';
  if (standing === text && isRunning()) {
    return {
      lines: [`The service is installed and runs: ${file}. Nothing was changed.`, ...WHERE_TO_LOOK],
      exitCode: 0,
    };
  }
  for (const args of [['daemon-reload'], ['enable', UNIT], ['restart', UNIT]]) {
    const { isOk, text: said } = systemctl(env, ...args);
    if (isOk) continue;
    lines.push(
      `The service was not started: "systemctl --user ${args.join(' ')}" says: ${said}`,
      'It needs systemd and a login of yours that it manages. Log in as yourself (not with su or sudo), then run:',
      `  ${again}`,
    );
    return { lines, exitCode: 1 };
  }
  await delay(settlesAfterMs);
  if (!isRunning()) {
    lines.push(
      'The service was started and has ended again. A bridge that runs in a terminal holds the ledger: stop it first.',
      'What the service said:',
      '  journalctl --user -u tollbridge -n 20',
      `Then run: ${again}`,
    );
    return { lines, exitCode: 1 };
  }
  lines.push(
    'The bridge runs, and starts again with every login of yours.',
    ...WHERE_TO_LOOK,
    '  loginctl enable-linger                  keeps it when you log out, and starts it with the machine',
    `API keys for it: one NAME=value on a line in ${environmentFile} (chmod 600), then: systemctl --user restart tollbridge`,
  );
  return { lines, exitCode: 0 };
}

/**
 * Stops the service and removes its unit, if it is ours.
 * @throws PermanentFailure when it cannot be removed
 */
export function uninstallService(place: ServicePlace): Report {
  const { env, platform } = place;
  needsSystemd(platform, 'uninstall service');
  const file = unitFile(place);
  const standing = textAt(file);
  if (standing === undefined) return { lines: ['The service is not installed. Nothing was changed.'], exitCode: 0 };
  if (originOf(standing) === 'foreign') {
    return { lines: [`${file} was not written by Tollbridge. It was left as it is.`], exitCode: 1 };
  }
  const stopped = systemctl(env, 'disable', '--now', UNIT);
  try {
    rmSync(file);
  } catch (error) {
    throw new PermanentFailure(`${file} cannot be removed: ${messageOf(error)}. Remove it by hand.`);
  }
  systemctl(env, 'daemon-reload');
  const lines = [`Removed the service: ${file}`];
  if (!stopped.isOk) {
    lines.push(`systemd could not be told: ${stopped.text}. If the bridge still runs, stop it by hand.`);
  }
  return { lines, exitCode: stopped.isOk ? 0 : 1 };
}
