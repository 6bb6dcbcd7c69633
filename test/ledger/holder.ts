// Starts and drives a process that holds a ledger.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import type { KillSwitch } from '../kill-point.ts';
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
   * @param options.fileKiB the largest file that it may write until the limit is lifted; needs bash
   */
  static async start(
    t: TestContext,
    file: string,
    { fileKiB, killSwitch }: { fileKiB?: number; killSwitch?: KillSwitch } = {},
  ): Promise<{ holder: Holder; opened: Answer }> {
    const holder = Holder.#spawn(t, file, { fileKiB, killSwitch });
    return { holder, opened: await holder.#next() };
  }

  /** Resolves when a process that was to open the ledger has ended, to how. */
  static async startDoomed(t: TestContext, file: string, killSwitch: KillSwitch): Promise<NodeJS.Signals | null> {
    return Holder.#spawn(t, file, { killSwitch }).ended();
  }

  static #spawn(
    t: TestContext,
    file: string,
    { fileKiB, killSwitch }: { fileKiB?: number | undefined; killSwitch?: KillSwitch | undefined },
  ): Holder {
    const node = [process.execPath, ...(killSwitch?.nodeArgs ?? []), SCRIPT, file] as const;
    // The soft limit only, so that it can be lifted from outside; SIGXFSZ ignored, as Node does not expect it.
    const limited = `trap '' XFSZ; ulimit -S -f ${fileKiB}; exec "$@"`;
    const [command, ...args] = fileKiB === undefined ? node : ['bash', '-c', limited, 'bash', ...node];
    const child = spawn(command as string, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: killSwitch?.env ?? process.env,
    });
    const holder = new Holder(child);
    t.after(() => holder.kill());
    return holder;
  }

  /** Submits turns, or lets the ledger do what it does by the clock. */
  async submit(command: Command | 'settle' | 'sweep'): Promise<Answer> {
    this.process.stdin!.write(`${JSON.stringify(command)}\n`);
    return this.#next();
  }

  /** Resolves when it has ended: to the signal, or null when it ended by itself. */
  async ended(): Promise<NodeJS.Signals | null> {
    if (this.process.exitCode === null && this.process.signalCode === null) await once(this.process, 'exit');
    return this.process.signalCode;
  }

  /** As a power cut or the kernel's out-of-memory killer ends it: nothing is tidied up. */
  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.ended();
  }

  async #next(): Promise<Answer> {
    const { value, done } = await this.#answers.next();
    if (done) throw new Error('the process that holds the ledger ended');
    return JSON.parse(value) as Answer;
  }
}
