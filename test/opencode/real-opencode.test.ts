// The proof with a real OpenCode: what its turns cost, as the provider billed it, is what the bridge shows.

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { installOpencode } from '../../src/commands/install.ts';
import { parseConfig } from '../../src/config.ts';
import { assertBilled, assertConserved, truthOf } from './billed.ts';
import { BridgeProcess, type BridgeSetup, setUpBridge, Tap } from './bridge-process.ts';
import { CONTENT_MARKER, findOpenCode, layOut, OpenCode, PROJECT, runOnce, type Scratch, until } from './drive.ts';
import { MockLlm, type PlannedStep } from './mock-llm.ts';

const CLAUDE = 'anthropic/claude-sonnet-4-5';
const SHOWN_MAX_MS = 20_000;

const root = mkdtempSync(path.join(tmpdir(), 'tb-oc-'));
const binary = findOpenCode();
const llm = new MockLlm();
let scratch: Scratch;
let bridge: BridgeSetup;
/** The socket that the plugin was installed with: the tap's, which passes on to the bridge's. */
const tapSocket = path.join(root, 'tap.sock');

before(async () => {
  scratch = layOut(root, await llm.start());
  bridge = await setUpBridge(root);
  const config = parseConfig({ socket: { path: tapSocket }, spool: { dir: bridge.spool } });
  installOpencode({ config, home: scratch.home, env: scratch.env });
});

after(async () => {
  await llm.stop();
  rmSync(root, { recursive: true, force: true });
});

const shell = (command: string, status?: 'aborted'): PlannedStep => ({
  tool: 'bash',
  args: { command: `${command} # ${CONTENT_MARKER}`, description: CONTENT_MARKER },
  ...(status && { status }),
});
const answer: PlannedStep = { text: `${CONTENT_MARKER} in an answer` };

/** What OpenCode is made to do. Each leaves turns behind whose bill is known. */
const SCENARIOS: Readonly<Record<string, (openCode: OpenCode) => Promise<void>>> = {
  async 'a plain turn'(openCode) {
    await openCode.prompt(await openCode.newSession(), [answer]);
  },

  async 'tool calls, one of which fails, and then a fork and a compaction of the session'(openCode) {
    const session = await openCode.newSession();
    const read = (name: string) => ({ tool: 'read', args: { filePath: path.join(scratch.project, name) } });
    const steps = [
      shell('echo hello'),
      read('notes.txt'),
      { ...read('missing.txt'), status: 'error' as const },
      answer,
    ];
    await openCode.prompt(session, steps, CLAUDE);
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

  async 'an abort while a command runs'(openCode) {
    const session = await openCode.newSession();
    await openCode.begin(session, [shell('touch started; sleep 60', 'aborted'), answer]);
    await until('A running command', () => readdirSync(scratch.project).includes('started'));
    await openCode.abort(session);
  },

  async 'a sub-agent'(openCode) {
    const prompt = `${CONTENT_MARKER}\nPLAN=${JSON.stringify([shell('echo sub'), answer])}`;
    const task = { tool: 'task', args: { description: CONTENT_MARKER, subagent_type: 'general', prompt } };
    await openCode.prompt(await openCode.newSession(), [task, answer]);
  },
};

function truth() {
  assert.deepEqual(llm.problems, []);
  return truthOf(llm.calls);
}

/** Waits until the bridge shows what was billed; fails with the difference when it never does. */
async function assertShown(running: BridgeProcess): Promise<string> {
  const isShown = async () => {
    try {
      assertBilled(await running.metrics(), truth());
      return true;
    } catch {
      return false;
    }
  };
  await until('The bill', isShown, SHOWN_MAX_MS).catch(() => undefined);
  const text = await running.metrics();
  assertBilled(text, truth());
  assertConserved(text);
  return text;
}

function assertContentFree(what: string, text: string): void {
  assert.ok(text.includes(PROJECT), `${what} names the project`);
  assert.ok(!text.includes(CONTENT_MARKER), `${what} holds no prompt, answer, tool argument, file content or folder`);
}

test('a real OpenCode is metered to the last nano-dollar, and nothing of its content is sent', async (t) => {
  const running = await BridgeProcess.start(bridge);
  const tap = new Tap(bridge.socket);
  await tap.start(tapSocket);
  try {
    const openCode = await OpenCode.start(binary, scratch);
    try {
      for (const [name, scenario] of Object.entries(SCENARIOS)) {
        await t.test(name, async () => {
          await scenario(openCode);
          await assertShown(running);
        });
      }
    } finally {
      await openCode.stop();
    }
    await t.test('opencode run, which ends right after its turn', async () => {
      await runOnce(binary, scratch, [shell('echo run'), answer]);
      await assertShown(running);
    });
    const text = await assertShown(running);
    assertContentFree('the wire', tap.heard);
    const events = sentEvents(tap.heard);
    assert.equal(new Set(events).size, events.length, 'the plugin is loaded once, so no event came twice');
    assertContentFree('the scrape', text);
    t.diagnostic(`${llm.calls.length} calls to the provider, ${tap.heard.length} bytes sent to the bridge`);
  } finally {
    await tap.stop();
    await running.stop();
  }
});

test('turns taken while no bridge runs wait in the spool and are counted once it starts', async () => {
  await runOnce(binary, scratch, [shell('echo alone'), answer]);
  const names = readdirSync(bridge.spool).filter((name) => name.endsWith('.json'));
  assert.ok(names.length > 0, 'the spool holds files');
  for (const name of names) {
    const file = path.join(bridge.spool, name);
    assert.match(name, /^\d{10}_[0-9a-f]+\.json$/);
    assert.equal(statSync(file).mode & 0o777, 0o600);
  }
  assertContentFree('the spool', names.map((name) => readFileSync(path.join(bridge.spool, name), 'utf8')).join(''));
  assert.equal(statSync(bridge.spool).mode & 0o777, 0o700);

  const running = await BridgeProcess.start(bridge);
  try {
    await assertShown(running);
    assert.deepEqual(
      readdirSync(bridge.spool).filter((name) => name.endsWith('.json')),
      [],
      'the spool is drained',
    );
  } finally {
    await running.stop();
  }
});

/** The ids of all events that the plugin sent, as often as it sent them. */
function sentEvents(text: string): string[] {
  return [...text.matchAll(/"event":\{"id":"(evt_\w+)"/g)].map((match) => match[1] as string);
}

test('OpenCode loads the plugin from both of its folders, and each copy once', async () => {
  // The copy is what a user may have left there; it is why installing moves such a copy aside.
  const folder = path.join(scratch.configHome, 'opencode');
  mkdirSync(path.join(folder, 'plugin'));
  cpSync(path.join(folder, 'plugins', 'tollbridge.ts'), path.join(folder, 'plugin', 'tollbridge.ts'));
  const spool = path.join(root, 'other-spool');
  await runOnce(binary, { ...scratch, env: { ...scratch.env, TOLLBRIDGE_SPOOL: spool } }, [answer]);
  const texts = readdirSync(spool).map((name) => readFileSync(path.join(spool, name), 'utf8'));
  const events = sentEvents(texts.join(''));
  assert.ok(events.length > 0);
  assert.equal(events.length, 2 * new Set(events).size, 'two copies, so every event came twice');
});
