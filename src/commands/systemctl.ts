// The one way to systemd: its program systemctl, asked about this user's services, and what its refusals mean.

import { spawnSync } from 'node:child_process';

/** Stopping may take as long as the unit allows, and a little. */
const TIMEOUT_MS = 45_000;

/** What systemctl said. */
export interface SystemctlAnswer {
  /** `missing`: there is no such program. `unreachable`: it finds no systemd that looks after this user's services. */
  readonly outcome: 'done' | 'refused' | 'missing' | 'unreachable';
  readonly stdout: string;
  /** Its words when something went wrong, on one line. */
  readonly problem: string;
}

/** Runs `systemctl --user` with these arguments. */
export type Systemctl = (args: readonly string[]) => SystemctlAnswer;

/** As systemctl of various ages says that no user manager can be spoken to. */
const NO_MANAGER = /failed to connect to .*(bus|manager)|failed to get d-bus connection|not been booted with systemd/i;

/** The systemctl that is on the PATH of `env`. */
export function systemctlOf(env: Readonly<Record<string, string | undefined>>): Systemctl {
  return (args) => {
    const { error, status, stdout, stderr } = spawnSync('systemctl', ['--user', ...args], {
      env: { ...env, LC_ALL: 'C', SYSTEMD_COLORS: '0' },
      stdio: ['ignore', 'pipe', 'pipe'],
      encoding: 'utf8',
      timeout: TIMEOUT_MS,
    });
    const code = (error as NodeJS.ErrnoException | undefined)?.code;
    if (code === 'ENOENT') return { outcome: 'missing', stdout: '', problem: 'there is no program systemctl' };
    if (code === 'ETIMEDOUT') {
      return { outcome: 'refused', stdout, problem: `it did not end within ${TIMEOUT_MS / 1000} seconds` };
    }
    if (error) return { outcome: 'refused', stdout: '', problem: error.message };
    const words = stderr.trim().replaceAll(/\s*\n\s*/g, ' ');
    if (status === 0) return { outcome: 'done', stdout, problem: words };
    const problem = words || `it ended with ${status ?? 'a signal'} and without a word`;
    return { outcome: NO_MANAGER.test(words) ? 'unreachable' : 'refused', stdout, problem };
  };
}

/** How a unit stands, as `systemctl show` tells it. */
export interface UnitState {
  /** `active`, `activating`, `inactive`, `failed`, … */
  readonly active: string;
  /** `running`, `auto-restart`, `dead`, … */
  readonly sub: string;
  /** Starts with the session. */
  readonly isEnabled: boolean;
  /** Its file changed since systemd read it. */
  readonly isStale: boolean;
  readonly mainPid: number;
  readonly restarts: number;
}

const SHOWN = ['ActiveState', 'SubState', 'UnitFileState', 'NeedDaemonReload', 'MainPID', 'NRestarts'] as const;

/** How a unit stands; the refusal where systemctl cannot tell. */
export function unitState(systemctl: Systemctl, unit: string): UnitState | SystemctlAnswer {
  const answer = systemctl(['show', unit, `--property=${SHOWN.join(',')}`]);
  if (answer.outcome !== 'done') return answer;
  const values = new Map(
    answer.stdout.split('\n').map((line) => {
      const at = line.indexOf('=');
      return [line.slice(0, at), line.slice(at + 1).trim()];
    }),
  );
  return {
    active: values.get('ActiveState') ?? '',
    sub: values.get('SubState') ?? '',
    isEnabled: values.get('UnitFileState') === 'enabled',
    isStale: values.get('NeedDaemonReload') === 'yes',
    mainPid: Number(values.get('MainPID') ?? 0),
    restarts: Number(values.get('NRestarts') ?? 0),
  };
}
