// Ends test files that hang. Node's own time limit is for tests: a file whose tests are over, but which left a server or
// a timer behind, it waits for without end, and with it for the whole run.

import { spawnSync } from 'node:child_process';
import type { TestEvent } from 'node:test/reporters';

const LOOK_EVERY_MS = 1000;

export class TestWatchdog {
  readonly #silenceMs: number;
  /** file under way → when it was heard of last */
  readonly #heard = new Map<string, number>();
  readonly #looking: NodeJS.Timeout;

  /** @param silenceMs how long a file may run without beginning or ending a test */
  constructor(silenceMs: number, lookEveryMs = LOOK_EVERY_MS) {
    this.#silenceMs = silenceMs;
    this.#looking = setInterval(() => this.#look(), lookEveryMs);
  }

  /** Is told every event of a run as it comes. */
  hear({ type, data }: TestEvent): void {
    if (!data || !('file' in data) || data.file === undefined) return;
    const isWholeFile = 'name' in data && data.name === data.file;
    if (isWholeFile && type === 'test:complete') this.#heard.delete(data.file);
    else if ((isWholeFile && type === 'test:dequeue') || this.#heard.has(data.file))
      this.#heard.set(data.file, performance.now());
  }

  stop(): void {
    clearInterval(this.#looking);
  }

  #look(): void {
    const now = performance.now();
    for (const [file, heard] of this.#heard) {
      if (now - heard < this.#silenceMs) continue;
      const minutes = Number((this.#silenceMs / 60_000).toPrecision(2));
      process.stderr.write(
        `${file}: no test began or ended for ${minutes} min, it is killed with all that it started\n`,
      );
      this.#heard.delete(file);
      const family = familyOf(file);
      for (const pid of family) killIfThere(pid);
      if (family.length > 0) continue;
      // What it started holds its output open, and nobody knows any more what that is.
      process.stderr.write(`${file}: its process is gone but not its output; the run ends here\n`);
      process.exit(1);
    }
  }
}

/** The process that runs a test file, and those that it started, parents first. */
function familyOf(file: string): number[] {
  const listed = spawnSync('ps', ['-A', '-ww', '-o', 'pid=,ppid=,command='], { encoding: 'utf8' }).stdout ?? '';
  const processes = listed.split('\n').flatMap((line) => {
    const [, pid, parent, command] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? [];
    return command === undefined ? [] : [{ pid: Number(pid), parent: Number(parent), command }];
  });
  const family = processes
    .filter(({ parent, command }) => parent === process.pid && command.split(' ').includes(file))
    .map(({ pid }) => pid);
  for (const ancestor of family) {
    family.push(...processes.filter(({ parent }) => parent === ancestor).map(({ pid }) => pid));
  }
  return family;
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}
