// Makes a fresh clone runnable: installs the locked packages once, and again only when the lockfile changed.
// Plain JavaScript that Node 20 can read, because the Node 24 that runs everything else is one of those packages.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const stampFile = path.join(root, 'node_modules', '.tollbridge-set-up.json');
const lockFile = path.join(root, '.setup.lock');
const SUPPORTED_PLATFORMS = ['linux', 'darwin'];
const LOCK_POLL_MS = 250;

const lockfileHash = () =>
  createHash('sha256')
    .update(readFileSync(path.join(root, 'package-lock.json')))
    .update(readFileSync(path.join(root, 'package.json')))
    .digest('hex');

/** Whether node_modules already holds what the lockfile asks for (and, with `dev`, what the tests need). */
function isSetUp(dev) {
  try {
    const stamp = JSON.parse(readFileSync(stampFile, 'utf8'));
    return stamp.hash === lockfileHash() && (stamp.dev || !dev) && existsSync(nodeBinary());
  } catch {
    return false;
  }
}

/** The Node 24 to run with: the one among the packages, else the one that runs this script if it is new enough. */
export function nodeBinary() {
  const packaged = path.join(root, 'node_modules', '.bin', 'node');
  return existsSync(packaged) ? packaged : process.execPath;
}

function holderIsAlive() {
  try {
    const pid = Number(readFileSync(lockFile, 'utf8'));
    if (!pid) return Date.now() - statSync(lockFile).mtimeMs < 2000;
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Takes the set-up lock; waits while another set-up of this clone runs; takes over the lock of one that died. */
async function lock() {
  let announced = false;
  for (;;) {
    try {
      const handle = openSync(lockFile, 'wx');
      writeSync(handle, String(process.pid));
      closeSync(handle);
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (!holderIsAlive()) {
      rmSync(lockFile, { force: true });
      continue;
    }
    if (!announced) console.error('tollbridge: another set-up of this folder is running; waiting for it');
    announced = true;
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
}

function install(dev) {
  const args = ['ci', dev ? '--include=dev' : '--omit=dev', '--no-audit', '--no-fund', '--ignore-scripts'];
  if (!process.stderr.isTTY) args.push('--loglevel=error');
  else args.push('--loglevel=error', '--progress=true');
  const npmCli = process.env.npm_execpath;
  const result = npmCli?.endsWith('.js')
    ? spawnSync(process.env.npm_node_execpath ?? process.execPath, [npmCli, ...args], { cwd: root, stdio: ['ignore', 2, 2] })
    : spawnSync('npm', args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.status !== 0) {
    throw new Error('npm could not install the packages (see above). Check the network and the npm registry, then run the command again.');
  }
}

/**
 * Installs what is missing and returns.
 * @param {{ dev: boolean }} needs dev: also what only tests and checks need.
 */
export async function setUp({ dev }) {
  if (!SUPPORTED_PLATFORMS.includes(process.platform)) {
    throw new Error(`${process.platform} is not supported yet: Tollbridge runs on Linux and macOS.`);
  }
  if (isSetUp(dev)) return;
  await lock();
  try {
    if (isSetUp(dev)) return;
    console.error(`tollbridge: first run here, installing packages${dev ? ' (with those for the tests)' : ''} …`);
    install(dev);
    const major = Number(spawnSync(nodeBinary(), ['-p', 'process.versions.node.split(".")[0]'], { encoding: 'utf8' }).stdout);
    if (!(major >= 24)) {
      throw new Error(`Node 24 or later is needed, and no packaged one exists for ${process.platform}-${process.arch}. Install Node 24, then run the command again.`);
    }
    writeFileSync(stampFile, JSON.stringify({ hash: lockfileHash(), dev }));
  } finally {
    rmSync(lockFile, { force: true });
  }
}
