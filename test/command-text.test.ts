// A message that names a command names it so that its reader can type it.

import assert from 'node:assert/strict';
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { commandText } from '../src/command-text.ts';
import { doctor } from '../src/commands/doctor.ts';
import { installOpencode } from '../src/commands/install.ts';
import { startNewLedger } from '../src/commands/new-ledger.ts';
import { nextStep } from '../src/commands/next-step.ts';
import { showStatus } from '../src/commands/status.ts';
import { parseConfig } from '../src/config.ts';
import { messageOf } from '../src/failure.ts';
import { openDatabase } from '../src/ledger/database.ts';
import { createLog } from '../src/log.ts';
import { landingPage } from '../src/metrics/landing-page.ts';
import { claimSocket } from '../src/sources/socket-file.ts';
import { NOW_MS, scratchConfig, scratchFolder, serveSocket, statusOf } from './commands/bridge-fixture.ts';

const ROOT = path.dirname(import.meta.dirname);
const NPM = { npm_lifecycle_event: 'start' };
const cases: readonly [string, Parameters<typeof commandText>, string][] = [
  ['by its name', ['doctor', { env: {}, argv: [] }], 'tollbridge doctor'],
  ['through npm from a clone', ['doctor', { env: NPM, argv: [] }], 'npm run tollbridge -- doctor'],
  [
    'with the file that was named',
    ['install opencode', { env: {}, argv: ['node', 'cli.js', 'start', '--config', '/etc/toll.yaml'] }],
    'tollbridge install opencode --config /etc/toll.yaml',
  ],
  [
    'with an absolute path, wherever the user stands later',
    ['doctor', { env: NPM, argv: ['start', '--config=my.yaml'] }],
    `npm run tollbridge -- doctor --config ${path.resolve('my.yaml')}`,
  ],
  [
    'with a path in quotes when it has blanks or quotes',
    ['status', { env: {}, argv: ['status', '--config', "/home/a b/it's.yaml"] }],
    `tollbridge status --config '/home/a b/it'\\''s.yaml'`,
  ],
  [
    'with the last of several files',
    ['status', { env: {}, argv: ['--config', '/a', '--config=/b'] }],
    'tollbridge status --config /b',
  ],
  ['without a file that was not named after all', ['status', { env: {}, argv: ['--config'] }], 'tollbridge status'],
];
for (const [name, args, expected] of cases) {
  test(`a command is told ${name}`, () => assert.equal(commandText(...args), expected));
}

test('nobody writes a command by hand', () => {
  // Help texts of metrics and of the command line are the same for everybody, and the plugin cannot know.
  const exceptions = ['src/command-text.ts', 'src/metrics/catalogue.ts', 'src/plugin/opencode.ts'];
  const byHand = globSync('src/**/*.ts', { cwd: ROOT })
    .map((file) => file.split(path.sep).join('/'))
    .filter((file) => !exceptions.includes(file))
    .flatMap((file) => {
      const code = readFileSync(path.join(ROOT, file), 'utf8').replace(/^\s*(\/\/|\*|\/\*).*$/gm, '');
      const found = code.match(/\btollbridge (start|status|doctor|install|uninstall|ledger|check-config|help)\b/g);
      return found ? [`${file}: ${found.join(', ')}`] : [];
    });
  assert.deepEqual(byHand, []);
});

describe('started through npm, with a file of its own', () => {
  const outside = { event: process.env.npm_lifecycle_event, argv: process.argv };
  before(() => {
    process.env.npm_lifecycle_event = 'start';
    process.argv = [...outside.argv, '--config', '/etc/my toll.yaml'];
  });
  after(() => {
    process.argv = outside.argv;
    if (outside.event === undefined) delete process.env.npm_lifecycle_event;
    else process.env.npm_lifecycle_event = outside.event;
  });
  const typed = (words: string) => `npm run tollbridge -- ${words} --config '/etc/my toll.yaml'`;

  test('a configuration with a mistake, and a socket that is taken', async (t) => {
    assert.throws(() => parseConfig({ retention: 'soon' }), new RegExp(`try it with: ${typed('check-config')}$`));
    const config = scratchConfig(t);
    await serveSocket(t, config, () => ({ body: '{}' }));
    const place = { path: config.socket.path, backlog: 1, log: createLog('silent') };
    const claimed = claimSocket(net.createServer(), place);
    await assert.rejects(claimed, (error: Error) => error.message.includes(`Ask it with: ${typed('status')}.`));
  });

  test('a damaged ledger, and one that is taken', (t) => {
    const file = path.join(scratchFolder(t), 'ledger.db');
    writeFileSync(file, 'not a database at all\n'.repeat(1000));
    assert.throws(() => openDatabase(file), new RegExp(`\`${typed('ledger new')}\``));
    const taken = path.join(scratchFolder(t), 'ledger.db');
    const db = openDatabase(taken);
    try {
      assert.throws(() => openDatabase(taken), new RegExp(`\`${typed('status')}\``));
    } finally {
      db.close();
    }
  });

  test('a new ledger', async (t) => {
    const config = scratchConfig(t);
    writeFileSync(path.join(config.state_dir, 'ledger.db'), 'damaged');
    const { lines } = await startNewLedger({ config, nowMs: NOW_MS, confirm: async () => true });
    assert.ok(lines.join('\n').includes(`"${typed('start')}"`), lines.join('\n'));
  });

  test('status, doctor, the install command and what comes after a start', async (t) => {
    const config = scratchConfig(t);
    const place = { config, env: process.env, home: scratchFolder(t) };
    const asked = showStatus({ ...place, env: { ...NPM }, json: false, nowMs: NOW_MS });
    const failure = await asked.then(() => assert.fail('no bridge'), messageOf);
    assert.ok(failure.includes(`"${typed('start')}"`) && failure.includes(`"${typed('doctor')}"`), failure);

    const examined = await doctor({ ...place, env: { ...NPM }, json: false, nowMs: NOW_MS, loadConfig: () => config });
    const found = examined.lines.join('\n');
    assert.ok(found.includes(typed('start')) && found.includes(typed('install opencode')), found);

    const step = nextStep({ ...place, env: { ...NPM }, metricsUrl: 'http://127.0.0.1:9464' });
    assert.ok(step.includes(`  ${typed('install opencode')}`), step.join('\n'));

    const off = scratchConfig(t, { socket: { enabled: false }, spool: { enabled: false } });
    assert.throws(
      () => installOpencode({ ...place, env: { ...NPM }, config: off }),
      (error: Error) => error.message.includes(typed('install opencode')),
    );
  });

  test('the first steps of the page, and of status', async (t) => {
    const config = scratchConfig(t);
    const status = statusOf(config, { tiles: [], ledger: { ...statusOf(config).ledger, turns: 0 } });
    const page = landingPage(status, NOW_MS).replaceAll('&#39;', "'");
    assert.ok(page.includes(`<code>${typed('install opencode')}</code>`));
    assert.ok(page.includes(`<code>${typed('doctor')}</code>`));
    await serveSocket(t, config, () => ({ body: JSON.stringify(status) }));
    const home = scratchFolder(t);
    const { lines } = await showStatus({ config, env: { ...NPM }, home, json: false, nowMs: NOW_MS });
    assert.ok(lines.includes(`  ${typed('install opencode')}`), lines.join('\n'));
  });
});
