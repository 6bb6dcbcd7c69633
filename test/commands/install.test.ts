import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { type Installation, installOpencode, pluginState, uninstallOpencode } from '../../src/commands/install.ts';
import { nextStep } from '../../src/commands/next-step.ts';
import { parseConfig } from '../../src/config.ts';
import { PermanentFailure } from '../../src/failure.ts';

let home: string;
let folder: string;
let target: string;
let installation: Installation;

beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), 'tb-install-'));
  folder = path.join(home, '.config', 'opencode', 'plugins');
  target = path.join(folder, 'tollbridge.ts');
  installation = { config: parseConfig({ state_dir: path.join(home, 'state') }), home, env: {} };
});

afterEach(() => rmSync(home, { recursive: true, force: true }));

const state = () => pluginState(installation).state;
const other = (name: string) => path.join(home, '.config', 'opencode', name);

test('it is installed where OpenCode looks, and a second run changes nothing', () => {
  assert.deepEqual(pluginState(installation), { state: 'absent', path: target });
  const first = installOpencode(installation);
  assert.equal(first[0], `Installed the OpenCode plugin: ${target}`);
  assert.ok(first.includes('Restart OpenCode: it loads plugins when it starts.'));
  assert.match(first.join('\n'), /first start then takes longer/);
  const text = readFileSync(target, 'utf8');
  assert.deepEqual(pluginState(installation), { state: 'current', path: target });
  assert.deepEqual(installOpencode(installation), [
    `The OpenCode plugin is installed and current: ${target}. Nothing was changed.`,
  ]);
  assert.equal(readFileSync(target, 'utf8'), text);
  assert.deepEqual(readdirSync(folder), ['tollbridge.ts']);
});

test('it goes into XDG_CONFIG_HOME where that is set', () => {
  const configHome = path.join(home, 'elsewhere');
  const elsewhere = { ...installation, env: { XDG_CONFIG_HOME: configHome } };
  installOpencode(elsewhere);
  assert.equal(pluginState(elsewhere).path, path.join(configHome, 'opencode', 'plugins', 'tollbridge.ts'));
  assert.equal(pluginState(elsewhere).state, 'current');
  assert.equal(existsSync(target), false);
});

test('the installed file carries the configured socket and spool, whatever characters they have', () => {
  const odd = path.join(home, `it's a "path" $& \\ here`);
  const config = parseConfig({ socket: { path: path.join(odd, 's') }, spool: { dir: path.join(odd, 'spool') } });
  installOpencode({ ...installation, config });
  const text = readFileSync(target, 'utf8');
  assert.ok(text.includes(`socket: ${JSON.stringify(config.socket.path)},`));
  assert.ok(text.includes(`spool: ${JSON.stringify(config.spool.dir)},`));
  assert.doesNotMatch(text, /'__TOLLBRIDGE_(SOCKET|SPOOL|FAIL|VERSION)__'/);
});

test('the installed file knows what to do when no bridge answers: open unless it was closed', () => {
  for (const fail of [undefined, 'open', 'closed'] as const) {
    const config = { ...installation.config, ...(fail && { verdict: { fail } }) };
    installOpencode({ ...installation, config });
    const asked = {
      model: { id: 'm', providerID: 'p' },
      message: { id: 'msg_1', sessionID: 'ses_1', model: { providerID: 'p', modelID: 'm' } },
    };
    const script = `
      const { Tollbridge } = await import(${JSON.stringify(pathToFileURL(target).href)});
      const hooks = await Tollbridge({});
      await hooks['chat.params'](${JSON.stringify(asked)}).then(() => console.log('open'), () => console.log('closed'));
      await hooks.dispose();`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    assert.equal(stdout.trim(), fail ?? 'open', stderr);
  }
});

test('the installed file meters: without a bridge its records reach the configured spool', () => {
  installOpencode(installation);
  const info = { id: 'msg_1', sessionID: 'ses_1', role: 'assistant', time: { created: 1 } };
  const script = `
    const { Tollbridge } = await import(${JSON.stringify(pathToFileURL(target).href)});
    const hooks = await Tollbridge({});
    await hooks.event({ event: { id: 'evt_1', type: 'message.updated', properties: { info: ${JSON.stringify(info)} } } });
    await hooks.dispose();`;
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
  assert.equal(status, 0, String(stderr));
  assert.equal(readdirSync(installation.config.spool.dir).length, 1);
});

test('what stood there is kept as a backup, one more each time', () => {
  mkdirSync(folder, { recursive: true });
  for (const [n, text] of ['mine', 'mine again'].entries()) {
    writeFileSync(target, text);
    assert.equal(state(), 'edited');
    const backup = `${target}.bak-${n + 1}`;
    assert.ok(installOpencode(installation).includes(`What stood there was kept as ${backup}.`));
    assert.equal(readFileSync(backup, 'utf8'), text);
    assert.equal(state(), 'current');
  }
});

test('an untouched file of another version or configuration is outdated, a changed one edited', () => {
  installOpencode(installation);
  const renewed = { ...installation, config: parseConfig({ state_dir: path.join(home, 'moved') }) };
  assert.equal(pluginState(renewed).state, 'outdated');
  installOpencode(renewed);
  assert.equal(pluginState(renewed).state, 'current');
  writeFileSync(target, `${readFileSync(target, 'utf8')}// a change\n`);
  assert.equal(pluginState(renewed).state, 'edited');
});

test('a copy that OpenCode would load beside it is moved aside; a stranger of that name stays', () => {
  installOpencode(installation);
  const copy = other('plugin/tollbridge.js');
  const stranger = other('plugin/tollbridge.ts');
  mkdirSync(path.dirname(copy));
  writeFileSync(copy, readFileSync(target, 'utf8'));
  writeFileSync(stranger, 'export const x = 1;');
  rmSync(target);
  assert.deepEqual(pluginState(installation).path, stranger);
  const lines = installOpencode(installation);
  assert.ok(lines.includes(`OpenCode would load ${copy} as well. It was moved to ${copy}.bak-1.`), lines.join('\n'));
  assert.deepEqual(readdirSync(path.dirname(copy)).sort(), ['tollbridge.js.bak-1', 'tollbridge.ts']);
  assert.deepEqual(pluginState(installation), { state: 'current', path: target });
});

test('a symbolic link is not written through, nor removed', () => {
  const real = path.join(home, 'dotfiles.ts');
  writeFileSync(real, 'precious');
  mkdirSync(folder, { recursive: true });
  symlinkSync(real, target);
  assert.throws(
    () => installOpencode(installation),
    (error: Error) =>
      error instanceof PermanentFailure && /is a symbolic link to .*Remove the link/.test(error.message),
  );
  assert.deepEqual(uninstallOpencode(installation), [`${target} was not written by Tollbridge. It was left as it is.`]);
  assert.equal(readFileSync(real, 'utf8'), 'precious');
  rmSync(real);
  assert.throws(() => installOpencode(installation), PermanentFailure, 'also one that leads nowhere');
});

test('a folder that cannot be made is told with what to do', () => {
  writeFileSync(path.join(home, '.config'), 'a file');
  assert.equal(state(), 'absent');
  assert.throws(
    () => installOpencode(installation),
    (error: Error) =>
      error instanceof PermanentFailure && /The plugin is not installed\. Make its folder/.test(error.message),
  );
});

test('socket and spool switched off are told; both together cannot be installed', () => {
  const off = { enabled: false };
  const withConfig = (input: object) => ({ ...installation, config: parseConfig(input) });
  assert.match(installOpencode(withConfig({ socket: off })).join('\n'), /The socket is switched off/);
  assert.match(readFileSync(target, 'utf8'), /socket: "",/);
  assert.match(installOpencode(withConfig({ spool: off })).join('\n'), /The spool is switched off/);
  assert.throws(() => installOpencode(withConfig({ socket: off, spool: off })), PermanentFailure);
});

test('uninstalling removes our files and nothing else', () => {
  assert.deepEqual(uninstallOpencode(installation), ['The OpenCode plugin is not installed. Nothing was changed.']);
  mkdirSync(folder, { recursive: true });
  writeFileSync(target, 'mine');
  writeFileSync(path.join(folder, 'another.ts'), 'another');
  assert.deepEqual(uninstallOpencode(installation), [`${target} was not written by Tollbridge. It was left as it is.`]);
  installOpencode(installation);
  assert.equal(uninstallOpencode(installation)[0], `Removed the OpenCode plugin: ${target}`);
  assert.deepEqual(readdirSync(folder).sort(), ['another.ts', 'tollbridge.ts.bak-1']);
  assert.equal(state(), 'absent');
});

for (const [how, edited] of [
  ['changed', (text: string) => `${text}// a change\n`],
  ['saved with other line ends', (text: string) => text.replaceAll('\n', '\r\n')],
] as const) {
  test(`what was ${how} by hand is kept when it is uninstalled`, () => {
    installOpencode(installation);
    const text = edited(readFileSync(target, 'utf8'));
    writeFileSync(target, text);
    assert.match(uninstallOpencode(installation)[0]!, /^Removed the OpenCode plugin: .*kept as .*\.bak-1\.$/);
    assert.equal(readFileSync(`${target}.bak-1`, 'utf8'), text);
    assert.equal(state(), 'absent');
  });
}

const lacks = spawnSync('prlimit', ['--version']).error ? 'no prlimit' : false;
test('what stands there stays in its place until the new one is whole', { skip: lacks }, () => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(target, 'mine');
  const cli = path.join(import.meta.dirname, '..', '..', 'src', 'cli.ts');
  // No file of this process may grow beyond some bytes, as on a disk that is full.
  const { stderr } = spawnSync('prlimit', ['--fsize=2000', process.execPath, cli, 'install', 'opencode'], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH ?? '', HOME: home },
  });
  assert.match(stderr, /cannot be written: EFBIG.*The plugin is not installed/);
  assert.equal(readFileSync(target, 'utf8'), 'mine');
  assert.deepEqual(readdirSync(folder).sort(), ['tollbridge.ts', 'tollbridge.ts.bak-1']);
});

test('a renewal keeps no copy of what we wrote ourselves', () => {
  installOpencode(installation);
  installOpencode({ ...installation, config: parseConfig({ state_dir: path.join(home, 'moved') }) });
  assert.deepEqual(readdirSync(folder), ['tollbridge.ts']);
});

test('what cannot be read is a state, with why: a bridge starts all the same', () => {
  mkdirSync(target, { recursive: true });
  const { problem, ...found } = pluginState(installation);
  assert.deepEqual(found, { state: 'unreadable', path: target });
  assert.match(problem ?? '', /EISDIR/);
  const step = nextStep({ ...installation, metricsUrl: 'http://127.0.0.1:9464' });
  assert.match(step.join('\n'), /mend the plugin.*EISDIR/);
});
