// What a real OpenCode is made to do. Each leaves turns behind whose bill is known.

import { readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONTENT_MARKER, type OpenCode, until } from './drive.ts';
import type { PlannedStep } from './mock-llm.ts';

const FORK_AFTER_MS = 200;
const CLAUDE = 'anthropic/claude-sonnet-4-5';

/** A step that runs a command. */
export const shell = (command: string, status?: 'aborted'): PlannedStep => ({
  tool: 'bash',
  args: { command: `${command} # ${CONTENT_MARKER}`, description: CONTENT_MARKER },
  ...(status && { status }),
});
/** A step that ends the turn. */
export const answer: PlannedStep = { text: `${CONTENT_MARKER} in an answer` };

/** What OpenCode is made to do. Each leaves turns behind whose bill is known. */
export const SCENARIOS: Readonly<Record<string, (openCode: OpenCode, project: string) => Promise<void>>> = {
  async 'a plain turn'(openCode) {
    await openCode.prompt(await openCode.newSession(), [answer]);
  },

  async 'tool calls, one of which fails, and then a fork and a compaction of the session'(openCode, project) {
    const session = await openCode.newSession();
    const read = (name: string) => ({ tool: 'read', args: { filePath: path.join(project, name) } });
    const steps = [
      shell('echo hello'),
      read('notes.txt'),
      { ...read('missing.txt'), status: 'error' as const },
      answer,
    ];
    await openCode.prompt(session, steps, CLAUDE);
    // A copy is told from a message by its age, and nobody forks a session within 100 ms of its last model call's start.
    await sleep(FORK_AFTER_MS);
    await openCode.prompt(await openCode.fork(session), [answer]);
    await openCode.compact(session);
  },

  async 'two sessions at once'(openCode) {
    const [one, other] = await Promise.all([openCode.newSession(), openCode.newSession()]);
    await Promise.all([
      openCode.prompt(one, [[shell('true'), shell('echo two')], answer] as PlannedStep[]),
      openCode.prompt(other, [shell('true'), answer], CLAUDE),
    ]);
  },

  async 'a refused request'(openCode) {
    await openCode.prompt(await openCode.newSession(), [], 'my-gateway/bad-request');
  },

  async 'an abort while the answer streams'(openCode) {
    const session = await openCode.newSession();
    await openCode.begin(session, [], 'my-gateway/slow');
    await until('A streaming answer', async () =>
      (await openCode.messages(session)).at(-1)?.parts.some((part) => part.type === 'text'),
    );
    await openCode.abort(session);
  },

  async 'an abort while a command runs'(openCode, project) {
    const session = await openCode.newSession();
    rmSync(path.join(project, 'started'), { force: true });
    await openCode.begin(session, [shell('touch started; sleep 60', 'aborted'), answer]);
    await until('A running command', () => readdirSync(project).includes('started'));
    await openCode.abort(session);
  },

  async 'a sub-agent'(openCode) {
    const prompt = `${CONTENT_MARKER}\nPLAN=${JSON.stringify([shell('echo sub'), answer])}`;
    const task = { tool: 'task', args: { description: CONTENT_MARKER, subagent_type: 'general', prompt } };
    await openCode.prompt(await openCode.newSession(), [task, answer]);
  },
};
