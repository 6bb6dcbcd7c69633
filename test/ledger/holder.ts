// Starts and drives a process that holds a ledger.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import type { Answer, Command } from './ledger-process.ts';

const SCRIPT = path.join(import.meta.dirname, 'ledger-process.ts');

export class Holder {
  readonly process: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  private constructor(child: ChildProcess) {
    this.process = child;
    this.#answers = createInterface(child.stdout!)[Symbol.asyncIterator]();
  }

  /**
   * Resolves when the process has the ledger open.
   * @param fileKiB the largest file that it may write until the limit is lifted; needs bash
   */
  static async start(t: TestContext, file: string, fileKiB?: number): Promise<{ holder: Holder; opened: Answer }> {
    const node = [process.execPath, SCRIPT, file] as const;
    // The soft limit only, so that it can be lifted from outside; SIGXFSZ ignored, as Node does not expect it.
    const limited = `trap '' XFSZ; ulimit -S -f ${fileKiB}; exec "$@"`;
    const [command, ...args] = fileKiB === undefined ? node : ['bash', '-c', limited, 'bash', ...node];
    const child = spawn(command as string, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const holder = new Holder(child);
    t.after(() => holder.kill());
    return { holder, opened: await holder.#next() };
  }

  /** Submits turns, or lets the ledger do what it does by the clock. */
  async submit(command: Command | 'settle'): Promise<Answer> {
    this.process.stdin!.write(`${JSON.stringify(command)}\n`);
    return this.#next();
  }

  /** As a power cut or the kernel's out-of-memory killer ends it: nothing is tidied up. */
  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exited = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await exited;
  }

  async #next(): Promise<Answer> {
    const { value, done } = await this.#answers.next();
    if (done) throw new Error('the process that holds the ledger ended');
    return JSON.parse(value) as Answer;
  }
}
