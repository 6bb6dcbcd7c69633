// The programs that the tests run and npm does not have: prometheus with promtool, alertmanager with amtool, nats-server,
// openssl, which makes its certificates, and Chromium, which draws the dashboards.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';

interface DebianPackage {
  readonly name: string;
  readonly programs: readonly string[];
  /** The service that it starts where systemd runs. */
  readonly service?: string;
}

const PACKAGES: readonly DebianPackage[] = [
  { name: 'prometheus', programs: ['prometheus', 'promtool'], service: 'prometheus.service' },
  { name: 'nats-server', programs: ['nats-server'], service: 'nats-server.service' },
  {
    name: 'prometheus-alertmanager',
    programs: ['prometheus-alertmanager', 'amtool'],
    service: 'prometheus-alertmanager.service',
  },
  { name: 'openssl', programs: ['openssl'] },
  { name: 'chromium', programs: ['chromium'] },
];
const MEANT_FOR = 'The tests run the real Prometheus, Alertmanager and NATS, and look at the dashboards in Chromium.';

function isOnPath(program: string): boolean {
  // Debian puts nats-server where only root looks.
  return [...(process.env.PATH ?? '').split(path.delimiter), '/usr/sbin'].some((folder) => {
    try {
      accessSync(path.join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const isMissing = ({ programs }: DebianPackage) => !programs.every(isOnPath);

function aptGet(args: readonly string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  return spawnSync('apt-get', ['-q', ...args], { stdio: ['ignore', 'ignore', 2], env }).status === 0;
}

/** Debian starts what it installs where systemd runs; the tests need the programs, not a service. */
function stopInstalledServices(packages: readonly DebianPackage[]): void {
  if (!existsSync('/run/systemd/system')) return;
  spawnSync('systemctl', ['disable', '--now', ...packages.flatMap(({ service }) => service ?? [])], {
    stdio: 'ignore',
  });
}

/** Sees to it that every program is there. Returns what to tell the user when one is not. */
export function provideTools(): string | undefined {
  process.env.PATH = `${process.env.PATH ?? ''}${path.delimiter}/usr/sbin`;
  const missing = PACKAGES.filter(isMissing);
  if (missing.length === 0) return undefined;
  const names = missing.map(({ name }) => name);
  const install = ['install', '-y', '--no-install-recommends', ...names];
  const what = `${names.join(' and ')} ${names.length === 1 ? 'is' : 'are'} missing. ${MEANT_FOR}`;
  if (process.platform === 'darwin') return `${what} Install with: brew install ${names.join(' ')}`;
  if (!isOnPath('apt-get')) return `${what} Install your system's packages of that name, then run npm test again.`;
  if (process.getuid?.() !== 0) return `${what} Install with: sudo apt-get ${install.join(' ')}`;
  process.stderr.write(`installing Debian's ${names.join(' and ')} for the tests …\n`);
  const isInstalled = aptGet(install) || (aptGet(['update']) && aptGet(install));
  if (isInstalled) stopInstalledServices(missing);
  if (!PACKAGES.some(isMissing)) return undefined;
  return `${what} apt-get could not install it (see above). Try: apt-get update && apt-get ${install.join(' ')}`;
}
