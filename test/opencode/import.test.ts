// What the plugin lost, or never saw, comes back from the database that a real OpenCode wrote. Left out is only what
// OpenCode itself does not record: the calls that make a title, and the tokens of a turn that the user stopped.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { installOpencode } from '../../src/commands/install.ts';
import { parseConfig } from '../../src/config.ts';
import { readHistory } from '../../src/sources/opencode-history.ts';
import { type Decoded, decodeHook, decodeRecord } from '../../src/turn/normalize.ts';
import type { StatedEvent } from '../../src/turn/turn-event.ts';
import { assertBilled, assertConserved, truthOf } from './billed.ts';
import { BridgeProcess, type BridgeSetup, setUpBridge } from './bridge-process.ts';
import { CONTENT_MARKER, findOpenCode, layOut, OpenCode, PROJECT, type Scratch, until } from './drive.ts';
import { MockLlm } from './mock-llm.ts';
import { answer, SCENARIOS, shell } from './scenarios.ts';

const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));
const root = mkdtempSync(path.join(tmpdir(), 'tb-im-'));
const binary = findOpenCode();
const llm = new MockLlm();
const lossy = new http.Server();
/** Records that the plugin posted: half of them went no further. */
const posted = { passed: 0, dropped: 0, isLossy: true };
/** What the plugin posted, whatever became of it. */
const told: string[] = [];
let scratch: Scratch;
let bridge: BridgeSetup;
let database: string;

before(async () => {
  scratch = layOut(root, await llm.start());
  bridge = await setUpBridge(root);
  database = path.join(root, 'data', 'opencode', 'opencode.db');
  const socket = path.join(root, 'lossy.sock');
  const config = parseConfig({ socket: { path: socket }, spool: { dir: bridge.spool } });
  installOpencode({ config, home: scratch.home, env: scratch.env });
  lossy.on('request', loseHalf);
  await new Promise<void>((resolve) => lossy.listen(socket, resolve));
});

after(async () => {
  await llm.stop();
  lossy.closeAllConnections();
  lossy.close();
  rmSync(root, { recursive: true, force: true });
});

/** Says that all was taken, and passes every second record on. */
async function loseHalf(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  let body = '';
  for await (const chunk of request) body += chunk;
  // The plugin asks for verdicts, too; those are no records.
  const records = request.url === '/v1/events' ? body.split('\n') : [];
  told.push(...records);
  const first = posted.passed + posted.dropped;
  const kept = records.filter((_, at) => !posted.isLossy || (first + at) % 2 === 1);
  posted.passed += kept.length;
  posted.dropped += records.length - kept.length;
  if (kept.length > 0) {
    await new Promise((resolve) => {
      const onward = http.request({ socketPath: bridge.socket, path: '/v1/events', method: 'POST' }, (answered) => {
        answered.resume().on('end', resolve);
      });
      onward.on('error', resolve).end(kept.join('\n'));
    });
  }
  response.writeHead(202, { 'Content-Type': 'application/json' }).end('{}');
}

function importOpencode(...flags: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const args = [CLI, 'import', 'opencode', '--config', bridge.configFile, ...flags];
  return new Promise((resolve) => {
    execFile(process.execPath, args, { env: { ...process.env, ...scratch.env } }, (error, stdout, stderr) => {
      resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });
}

/** The counts of a report, by their names in it. */
function counts(report: string): Record<string, number> {
  return Object.fromEntries(
    [...report.matchAll(/(\d+) (new|updated|known|too old|copies)/g)].map(([, n, of]) => [of, Number(n)]),
  );
}

/** The last that was told of each turn, tool call and session, without the id of the telling. */
function finalOf(decoded: readonly Decoded[]): Record<string, StatedEvent> {
  const final: Record<string, StatedEvent> = {};
  for (const item of decoded) {
    if (item.type !== 'event') continue;
    const { eventId: _, ...event } = { eventId: undefined, ...item.event };
    const { messageId, callId } = { messageId: undefined, callId: undefined, ...event };
    final[`${event.kind} ${event.sessionId} ${callId ?? messageId}`] = event as StatedEvent;
  }
  return final;
}

const isBilled = (text: string) => {
  try {
    assertBilled(text, truthOf(llm.calls));
    return true;
  } catch {
    return false;
  }
};

test('what the plugin lost is found in the database, once', async (t) => {
  const running = await BridgeProcess.start(bridge);
  t.after(() => running.stop());
  const openCode = await OpenCode.start(binary, scratch);
  t.after(() => openCode.stop());
  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    await t.test(name, () => scenario(openCode, scratch.project));
  }
  assert.deepEqual(llm.problems, []);
  assert.ok(posted.dropped > 10, 'the plugin posted, and half of it was lost');
  assert.ok(!isBilled(await running.metrics()), 'control: something is missing before the import');

  // OpenCode still runs and has the database open.
  const first = await importOpencode();
  assert.equal(first.code, 0, first.stdout + first.stderr);
  assert.equal(first.stderr, '', 'quiet in a pipe');
  assert.ok(counts(first.stdout).new! > 0, first.stdout);
  const text = await running.metrics();
  assertBilled(text, truthOf(llm.calls));
  assertConserved(text);
  assert.ok(text.includes(`project="${PROJECT}"`));
  assert.ok(!text.includes(CONTENT_MARKER), 'no content in the scrape');

  await t.test('a second import changes nothing', async () => {
    const again = counts((await importOpencode()).stdout);
    assert.deepEqual([again.new, again.updated], [0, 0]);
    assertBilled(await running.metrics(), truthOf(llm.calls));
  });

  await t.test('a database that is written meanwhile', async () => {
    const session = await openCode.newSession();
    const writing = openCode.prompt(session, [shell('sleep 1'), shell('echo on'), answer]);
    while (
      await Promise.race([
        writing.then(() => false),
        importOpencode().then(({ code }) => assert.equal(code, 0) ?? true),
      ])
    );
    await writing;
    await importOpencode();
    assertBilled(await running.metrics(), truthOf(llm.calls));
    assertConserved(await running.metrics());
  });

  await t.test('beside a plugin that loses nothing there is nothing new', async () => {
    posted.isLossy = false;
    const { dropped } = posted;
    for (const scenario of Object.values(SCENARIOS)) await scenario(openCode, scratch.project);
    await until('The bill', async () => isBilled(await running.metrics()), 20_000);
    const { new: added, updated, known } = counts((await importOpencode()).stdout);
    assert.deepEqual([posted.dropped - dropped, added, updated], [0, 0, 0]);
    assert.ok(known! > 20);
    assert.doesNotMatch(await running.metrics(), /^tollbridge_events_conflicting_total.* [1-9]/m);
  });

  await t.test('a bridge that reads the database by itself', async (t) => {
    const other = path.join(root, 'other');
    const settings = { spool: { enabled: false }, import: { opencode: { interval: '10s', db: database } } };
    const setup = await setUpBridge(other, settings);
    const reading = await BridgeProcess.start(setup);
    t.after(() => reading.stop());
    await until('The bill', async () => isBilled(await reading.metrics()), 20_000);
    const text = await reading.metrics();
    assertConserved(text);
    assert.match(text, /tollbridge_source_up\{source="import"\} 1/);
  });

  await t.test('the reader tells what the plugin told', () => {
    const plugin = finalOf(told.flatMap((record) => decodeRecord(JSON.parse(record))));
    const pages = [...readHistory(database, { sinceMs: 0, busyMs: 200 })];
    const read = finalOf(
      pages.flatMap(({ payloads }) => payloads.flatMap((payload) => decodeHook('opencode', payload, {}))),
    );
    const kinds = Object.groupBy(Object.values(read), ({ kind }) => kind);
    assert.ok(kinds.turn!.length > 20 && kinds.tool!.length > 5 && kinds.session!.length > 5);
    assert.ok(kinds.session!.some((event) => event.kind === 'session' && event.parentSessionId));
    assert.ok(kinds.turn!.every((event) => event.kind === 'turn' && event.promptId));
    for (const [key, event] of Object.entries(read)) assert.deepEqual(event, plugin[key], key);
  });

  await t.test('nothing of content leaves the reader', () => {
    const read = JSON.stringify([...readHistory(database, { sinceMs: 0, busyMs: 200 })]);
    assert.ok(read.includes(PROJECT));
    assert.ok(!read.includes(CONTENT_MARKER), 'no prompt, answer, tool argument, output or folder');
  });
});

test('what cannot be imported is told, and nothing is booked', async (t) => {
  const plain = path.join(root, 'plain.db');
  writeFileSync(plain, 'this is no database, and it is long enough to be looked at as if it were one. '.repeat(20));
  const other = path.join(root, 'other.db');
  const db = new DatabaseSync(other);
  db.exec('CREATE TABLE message (id TEXT, content TEXT)');
  db.close();
  const cases: [name: string, flags: string[], said: RegExp][] = [
    ['no bridge', [], /No bridge answers: .*start it with/s],
    ['no database', ['--db', path.join(root, 'none.db')], /There is no database of OpenCode at .*--db/s],
    ['no database at all', ['--db', plain], /cannot be read as a database of OpenCode/],
    ['a database of another form', ['--db', other], /no session\.id.*Nothing of it was read/s],
    ['a day that is none', ['--since', '2026-02-31'], /--since must be a day/],
  ];
  let running: BridgeProcess | undefined;
  t.after(() => running?.stop());
  for (const [name, flags, said] of cases) {
    await t.test(name, async () => {
      const { code, stdout, stderr } = await importOpencode(...flags);
      assert.notEqual(code, 0);
      assert.match(stdout + stderr, said);
    });
    running ??= await BridgeProcess.start(bridge);
  }
});
