// The programs that the tests run and npm does not have: prometheus and promtool.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';

const TOOLS = ['prometheus', 'promtool'] as const;
const DEBIAN_PACKAGE = 'prometheus';
const INSTALL = ['install', '-y', '--no-install-recommends', DEBIAN_PACKAGE];
const MEANT_FOR = 'The tests prove the metrics with the real Prometheus.';

function isOnPath(program: string): boolean {
  return (process.env.PATH ?? '').split(path.delimiter).some((folder) => {
    try {
      accessSync(path.join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const missingTools = () => TOOLS.filter((tool) => !isOnPath(tool));

function aptGet(args: readonly string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  return spawnSync('apt-get', ['-q', ...args], { stdio: ['ignore', 'ignore', 2], env }).status === 0;
}

/** Debian starts what it installs where systemd runs; the tests need the programs, not a service. */
function stopInstalledService(): void {
  if (!existsSync('/run/systemd/system')) return;
  spawnSync('systemctl', ['disable', '--now', 'prometheus.service'], { stdio: 'ignore' });
}

/** Sees to it that every tool is there. Returns what to tell the user when one is not. */
export function provideTools(): string | undefined {
  const missing = missingTools();
  if (missing.length === 0) return undefined;
  const what = `${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} missing. ${MEANT_FOR}`;
  if (process.platform === 'darwin') return `${what} Install it with: brew install prometheus`;
  if (!isOnPath('apt-get'))
    return `${what} Install your system's package "${DEBIAN_PACKAGE}", then run npm test again.`;
  if (process.getuid?.() !== 0) return `${what} Install it with: sudo apt-get ${INSTALL.join(' ')}`;
  process.stderr.write(`installing Debian's package "${DEBIAN_PACKAGE}" for the tests …\n`);
  const isInstalled = aptGet(INSTALL) || (aptGet(['update']) && aptGet(INSTALL));
  if (isInstalled) stopInstalledService();
  if (missingTools().length === 0) return undefined;
  return `${what} apt-get could not install it (see above). Try: apt-get update && apt-get ${INSTALL.join(' ')}`;
}
