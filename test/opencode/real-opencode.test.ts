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
import { MockLlm } from './mock-llm.ts';
import { answer, SCENARIOS, shell } from './scenarios.ts';

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
          await scenario(openCode, scratch.project);
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
