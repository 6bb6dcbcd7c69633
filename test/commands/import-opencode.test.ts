// What OpenCode wrote down and what its plugin told are one: to the nano-dollar, in any order, from any hands, and
// whoever is killed in the middle.

import assert from 'node:assert/strict';
import { symlinkSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Bridge } from '../../src/bridge.ts';
import { importOpencode } from '../../src/commands/import-opencode.ts';
import { type Config, parseConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import { killableBridge } from '../killable-bridge.ts';
import { until } from '../prometheus-server.ts';
import { shownBy } from '../scrape.ts';
import { CONTENT, OpencodeDatabase, toolData, turnData, WRITTEN_MS } from '../sources/opencode-database.ts';
import { opencodeId as idOf } from '../turn/opencode-sample.ts';
import { runBridge } from './running-bridge.ts';

const MODEL = 'anthropic/claude-sonnet-4-5';

const run = (config: Config, file: string, flags: object = {}) =>
  importOpencode({
    ...{ flags: { db: file, ...flags }, config, env: {}, home: '/nowhere', platform: 'linux' },
  });

/** The counts of a report, by their names in it. */
const countsOf = ({ lines }: { readonly lines: readonly string[] }) =>
  Object.fromEntries(
    [...lines.join('\n').matchAll(/(\d+) (new|updated|known|too old|copies|refused)/g)].map(([, n, of]) => [
      of,
      Number(n),
    ]),
  );

/** Turns that cost 37.5 nano-dollars and more, each with one tool call; and what they cost in all. */
function filled(t: TestContext, turns: number, ofEach = 10) {
  const database = new OpencodeDatabase(t);
  let costNano = 0;
  database.db.exec('BEGIN');
  for (let n = 0; n < turns; n++) {
    const session = idOf('ses', WRITTEN_MS, Math.floor(n / ofEach));
    if (n % ofEach === 0) database.session(session);
    const message = idOf('msg', WRITTEN_MS + 1000, n);
    database.message(message, session, dataOf(n));
    database.part(`prt_${n}`, message, session, toolData(`call_${n}`));
    costNano += Math.round(dataOf(n).cost * 1e9);
  }
  database.db.exec('COMMIT');
  return { database, costNano };
}

const dataOf = (n: number) => ({ ...turnData({ finish: 'tool-calls' }), cost: (n + 1) * 0.0000000375 });

/** As the plugin tells the same turn. */
function pluginRecord(n: number, fields: object = {}, ofEach = 10) {
  const id = idOf('msg', WRITTEN_MS + 1000, n);
  const sessionID = idOf('ses', WRITTEN_MS, Math.floor(n / ofEach));
  const { parentID, role, modelID, providerID, finish, tokens, time, cost } = dataOf(n);
  const info = { ...{ id, sessionID, parentID, role, modelID, providerID, finish, tokens, time, cost }, ...fields };
  const path = { root: 'shop' };
  return {
    source: 'opencode',
    payload: { event: { id: `evt_${n}`, type: 'message.updated', properties: { info: { ...info, path } } } },
  };
}

function assertShown(text: string, turns: number, costNano: number): void {
  const shown = shownBy(text);
  assert.deepEqual(shown.costNano, { [MODEL]: costNano });
  assert.deepEqual(shown.turns, { [`${MODEL} ok`]: turns });
  assert.deepEqual(shown.tokens, { [`${MODEL} input`]: 10 * turns, [`${MODEL} output`]: 20 * turns });
  assert.deepEqual(shown.toolCalls, { 'bash ok': turns });
  assert.ok(!text.includes(CONTENT));
}

test('the plugin and an import bring the same turns, whoever is first', async (t) => {
  const TURNS = 90;
  const numbers = Array.from({ length: TURNS }, (_, n) => n);
  const begun = (n: number) =>
    pluginRecord(n, { finish: undefined, cost: 0, time: { created: WRITTEN_MS }, tokens: undefined });
  const orders: Record<string, readonly (readonly ('plugin' | 'begun' | 'import')[])[]> = {
    'the plugin first': [['plugin'], ['import']],
    'the import first': [['import'], ['plugin']],
    'an import between two events of a turn': [['begun'], ['import'], ['plugin']],
    'the beginning of a turn after its end': [['import'], ['begun']],
    'all at once': [['import', 'begun', 'plugin', 'import', 'plugin']],
  };
  for (const [name, order] of Object.entries(orders)) {
    await t.test(name, async (t) => {
      const { database, costNano } = filled(t, TURNS);
      const { config, send, scrape } = await runBridge(t);
      const bring = {
        plugin: () => send(...numbers.map((n) => pluginRecord(n))),
        begun: () => send(...numbers.map(begun)),
        import: () => run(config, database.file),
      };
      for (const together of order) await Promise.all(together.map((one) => bring[one]()));
      const { new: added, updated, refused } = countsOf(await run(config, database.file));
      assert.deepEqual([added, updated, refused], [0, 0, undefined], 'nothing is left to book');
      const text = await scrape();
      assertShown(text, TURNS, costNano);
      assert.doesNotMatch(text, /^toll_cost_corrections_usd_total.* [^0]/m);
      assert.doesNotMatch(text, /^tollbridge_events_conflicting_total.* [1-9]/m);
    });
  }
});

test('two users whose databases hold the same turn: it is booked for the first, once', async (t) => {
  const { database, costNano } = filled(t, 20);
  const ana = await runBridge(t, { socket: { identity: { team: 'core', user: 'ana' } } });
  const first = countsOf(await run(ana.config, database.file));
  assert.equal(first.new, 42);
  await ana.bridge.stop();
  const settings = { state_dir: ana.config.state_dir, detect: false, metrics: { listen: '127.0.0.1:0' } };
  const config = parseConfig({ ...settings, socket: { identity: { team: 'core', user: 'ben' } } });
  const ben = await Bridge.start({ config, log: createLog('silent'), env: {} });
  t.after(() => ben.stop());
  const other = new OpencodeDatabase(t);
  other.db.exec(`ATTACH '${database.file}' AS ana`);
  for (const table of ['session', 'message', 'part']) other.db.exec(`INSERT INTO ${table} SELECT * FROM ana.${table}`);
  other.session('ses_ben');
  other.message('msg_ben', 'ses_ben', turnData({ cost: 1 }));
  const second = countsOf(await run(config, other.file));
  assert.deepEqual([second.new, second.known, second.updated], [2, 42, 0]);
  const text = await (await fetch(`${ben.metricsUrl}/metrics`)).text();
  assert.deepEqual(shownBy(text).costNano, { [MODEL]: costNano + 1e9 });
  assert.match(text, /toll_cost_usd_total\{.*user="ben".*\} 1(\.0)?$/m);
});

test('one hostile turn is refused and told, the others are booked', async (t) => {
  const { database, costNano } = filled(t, 10);
  database.message('msg_0', idOf('ses', WRITTEN_MS), JSON.stringify(turnData()).replace('"input":10', '"input":1e300'));
  database.message('msg_1', idOf('ses', WRITTEN_MS), turnData({ modelID: CONTENT.repeat(1e6) }));
  const { config, scrape } = await runBridge(t);
  const report = await run(config, database.file);
  assert.equal(report.exitCode, 1);
  assert.match(report.lines.join('\n'), /1 refused \(out_of_range\)[\s\S]*1 refused \(wrong_type\)/);
  assert.ok(!report.lines.join('\n').includes(CONTENT));
  assertShown(await scrape(), 10, costNano);
});

test('turns that say the most they can fit into what a bridge takes', async (t) => {
  const { database, costNano } = filled(t, 10);
  const most = '\u0001'.repeat(256);
  const tokens = { input: most, output: most, reasoning: most, cache: { read: most, write: most } };
  const time = { created: most, completed: most };
  const data = turnData({ parentID: most, providerID: most, modelID: most, finish: most, cost: most, tokens, time });
  for (let n = 0; n < 500; n++) database.message(`msg_${n}${most.slice(8)}`, idOf('ses', WRITTEN_MS), data);
  const { config, scrape } = await runBridge(t);
  assert.match((await run(config, database.file)).lines.join('\n'), /500 refused/);
  assertShown(await scrape(), 10, costNano);
});

test('since a day counts what was written from its first moment on, by the clock of the configuration', async (t) => {
  const database = new OpencodeDatabase(t);
  database.session('ses_1');
  // 2026-02-22 begins at 23:00 UTC of the day before in Berlin.
  const midnightMs = Date.UTC(2026, 1, 21, 23);
  database.message('msg_1', 'ses_1', turnData(), midnightMs - 1);
  database.message('msg_2', 'ses_1', turnData(), midnightMs);
  const { config } = await runBridge(t);
  assert.equal(countsOf(await run(config, database.file, { since: '2026-02-22' })).new, 2, 'a session and a turn');
  assert.deepEqual((await run(config, database.file, { since: '2026-02-23' })).lines, [
    'OpenCode has recorded no ended turn in this time: nothing to import.',
  ]);
});

test('a bridge that is killed in the middle, and an import that is, leave nothing out and count nothing twice', async (t) => {
  const TURNS = 12_000;
  const { database, costNano } = filled(t, TURNS, 50);
  const { bridge } = await killableBridge(t);
  await bridge.start();
  const config = parseConfig({ detect: false, socket: { path: bridge.socket } });
  let turnsRead = 0;
  const onProgress = ({ turns }: { readonly turns: number }) => {
    turnsRead = turns;
  };
  const options = { flags: { db: database.file }, config, env: {}, home: '/nowhere', platform: 'linux' as const };
  const importing = importOpencode({ ...options, onProgress });
  while (turnsRead < 2000) await delay(1);
  await bridge.kill();
  await bridge.start();
  const first = countsOf(await importing);
  assert.ok(turnsRead === TURNS && first.known! < TURNS, 'it waited, and went on where it was');
  const again = countsOf(await importOpencode(options));
  assert.deepEqual([again.new, again.updated], [0, 0]);
  assertShown(await bridge.scrape(), TURNS, costNano);
});

test('a bridge that does not come back is told, with what was booked until then', async (t) => {
  const { database } = filled(t, 3000);
  const { bridge } = await killableBridge(t);
  await bridge.start();
  const config = parseConfig({ detect: false, socket: { path: bridge.socket } });
  let isKilled = false;
  const onProgress = ({ turns }: { readonly turns: number }) => {
    if (turns < 1000 || isKilled) return;
    isKilled = true;
    bridge.signal('SIGKILL');
  };
  const options = { flags: { db: database.file }, config, env: {}, home: '/nowhere', platform: 'linux' as const };
  await assert.rejects(
    importOpencode({ ...options, onProgress }),
    /gave no answer.* The \d{4} turns that were read before are imported; import again for the rest/s,
  );
});

test('a bridge that reads the database by itself passes over what its ledger has let go', async (t) => {
  const database = new OpencodeDatabase(t);
  const dayMs = 86_400_000;
  const horizonMs = Date.now() - 90 * dayMs;
  database.session('ses_1');
  for (const [n, age] of [100, 95, 91, 89, 5].entries()) {
    const created = Date.now() - age * dayMs;
    const time = { created, completed: created + 1000 };
    database.message(`msg_${n}`, 'ses_1', turnData({ time, cost: 1 }), created + 1000);
  }
  const later = path.join(path.dirname(database.file), 'later.db');
  const { bridge } = await killableBridge(t, {
    config: { import: { opencode: { interval: '10s', db: later } } },
  });
  await bridge.start();
  await bridge.kill();
  // As if it had run for longer than it keeps single turns.
  const ledger = new DatabaseSync(path.join(bridge.stateDir, 'ledger.db'));
  ledger.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES ('horizon_ms', ?)").run(horizonMs);
  ledger.close();
  symlinkSync(database.file, later);
  await bridge.start();
  await until('the turns', async () => shownBy(await bridge.scrape()).costNano[MODEL] !== undefined);
  const text = await bridge.scrape();
  assert.equal(shownBy(text).turns[`${MODEL} ok`], 2);
  assert.doesNotMatch(text, /^tollbridge_events_rejected_total\{source="import"/m);
});
