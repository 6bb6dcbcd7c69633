// Makes a fresh clone runnable: installs the locked packages once, and again only when the lockfile changed.
// Plain JavaScript that Node 20 can read, because the Node 24 that runs everything else is one of those packages.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const stampFile = path.join(root, 'node_modules', '.tollbridge-set-up.json');
const lockFile = path.join(root, '.setup.lock');
const SUPPORTED_PLATFORMS = ['linux', 'darwin'];
const NODE_MIN_MAJOR = 24;
const LOCK_POLL_MS = 250;

const say = (text) => process.stderr.write(`tollbridge: ${text}\n`);

const lockfileHash = () =>
  createHash('sha256')
    .update(readFileSync(path.join(root, 'package-lock.json')))
    .update(readFileSync(path.join(root, 'package.json')))
    .digest('hex');

/** What the last set-up left: { hash, dev, node }; undefined when there was none, or its Node is gone. */
function readStamp() {
  try {
    const stamp = JSON.parse(readFileSync(stampFile, 'utf8'));
    return existsSync(path.resolve(root, stamp.node)) ? stamp : undefined;
  } catch {
    return undefined;
  }
}

const isSetUp = (stamp, dev) => stamp !== undefined && stamp.hash === lockfileHash() && (stamp.dev || !dev);

/** The Node 24 that the set-up chose. */
export function nodeBinary() {
  return path.resolve(root, readStamp()?.node ?? process.execPath);
}

/** The one among the packages, else the one that runs this script: whichever starts here and is new enough. */
function chooseNode() {
  const packaged = path.join('node_modules', '.bin', 'node');
  return [packaged, process.execPath].find((candidate) => {
    const { stdout } = spawnSync(path.resolve(root, candidate), ['-p', 'process.versions.node'], { encoding: 'utf8' });
    return Number.parseInt(stdout, 10) >= NODE_MIN_MAJOR;
  });
}

function isAlive(pid) {
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** What the lock says, which is its holder's process id; undefined when nobody holds it. */
function lockText() {
  try {
    return readFileSync(lockFile, 'utf8');
  } catch {
    return undefined;
  }
}

/** Takes the lock in one step with its content, so that nobody ever reads a lock without a holder. */
function tryLock() {
  const mine = `${lockFile}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    linkSync(mine, lockFile);
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    return false;
  } finally {
    rmSync(mine, { force: true });
  }
}

/** Moves the lock of a process that died out of the way; what turns out to be somebody's new lock is put back. */
function removeLock(staleText) {
  const aside = `${lockFile}.${process.pid}.stale`;
  try {
    renameSync(lockFile, aside);
    if (readFileSync(aside, 'utf8') !== staleText) linkSync(aside, lockFile);
  } catch (error) {
    if (error.code !== 'ENOENT' && error.code !== 'EEXIST') throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

/** Waits while another set-up of this clone runs. */
async function lock() {
  let isAnnounced = false;
  while (!tryLock()) {
    const text = lockText();
    if (text !== undefined && !isAlive(Number(text))) {
      removeLock(text);
      continue;
    }
    // A lock without text went this moment, or is none that we may read: then, too, others get their turn first.
    if (!isAnnounced && (text !== undefined || existsSync(lockFile))) {
      const holder = text === undefined ? 'somebody' : `process ${text}`;
      say(`${holder} sets this folder up; waiting (if nobody does, remove ${lockFile})`);
      isAnnounced = true;
    }
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
}

/**
 * Not `npm ci`: it refuses a lockfile without the packages of platforms that the registry did not have when the file
 * was written, and it empties node_modules first, which a bridge may be running from. The lockfile is obeyed, not written.
 */
function install(dev) {
  const args = [
    'install',
    '--no-save',
    dev ? '--include=dev' : '--omit=dev',
    '--include=optional',
    '--engine-strict=false',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ];
  const npmCli = process.env.npm_execpath ?? '';
  const options = { cwd: root, stdio: ['ignore', 2, 2] };
  const result =
    path.basename(npmCli) === 'npm-cli.js'
      ? spawnSync(process.env.npm_node_execpath ?? process.execPath, [npmCli, ...args], options)
      : spawnSync('npm', args, options);
  if (result.error)
    throw new Error(`npm could not be started: ${result.error.message}. Install npm, then run the command again.`);
  if (result.status !== 0) {
    throw new Error(
      'npm could not install the packages (see above). Check the network and the npm registry, then run the command again.',
    );
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
  if (isSetUp(readStamp(), dev)) return;
  await lock();
  try {
    if (isSetUp(readStamp(), dev)) return;
    say(`installing packages${dev ? ' (with those for the tests)' : ''} …`);
    install(dev);
    const node = chooseNode();
    if (!node) {
      throw new Error(
        `Node ${NODE_MIN_MAJOR} or later is needed, and no packaged one runs on this ${process.platform}-${process.arch}. Install Node ${NODE_MIN_MAJOR}, then run the command again.`,
      );
    }
    writeFileSync(stampFile, JSON.stringify({ hash: lockfileHash(), dev, node }));
  } finally {
    rmSync(lockFile, { force: true });
  }
}
