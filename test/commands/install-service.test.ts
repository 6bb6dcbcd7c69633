// The service against a real program called systemctl: a script that notes what it is asked and answers as the real one.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { installService, type ServiceOptions, uninstallService } from '../../src/commands/install-service.ts';
import { PermanentFailure } from '../../src/failure.ts';
import { scratchConfig, scratchFolder, serveSocket, statusOf } from './bridge-fixture.ts';
import { commandWords } from './unit-words.ts';

const PID = 4711;
const state = (active: string, sub: string, more: Record<string, string | number> = {}) =>
  Object.entries({ ActiveState: active, SubState: sub, MainPID: 0, NRestarts: 0, NeedDaemonReload: 'no', ...more })
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');
const NEVER_THERE = state('inactive', 'dead', { UnitFileState: '' });
const RUNNING = state('active', 'running', { MainPID: PID, UnitFileState: 'enabled' });
const FAILED = state('activating', 'auto-restart', { UnitFileState: 'enabled' });
const NO_BUS = 'Failed to connect to bus: No medium found';

/**
 * It shows `state`, which `enable` and `restart` replace by `next`. A file named as a verb holds its refusal, and `all`
 * that of every verb. Only what the shell itself can do: its PATH holds nothing else.
 */
const SCRIPT = `#!/bin/sh
cd "\${0%/*}" || exit 9
echo "$*" >> calls
say() { while IFS= read -r line; do echo "$line"; done < "$1"; }
for refusal in all "$2"; do [ -e "$refusal" ] && { say "$refusal" >&2; exit 1; }; done
case "$2" in
  show) say state ;;
  status) echo '× tollbridge.service'; echo 'tollbridge: port 9464 is taken'; exit 3 ;;
  enable | restart) say next > state ;;
  disable) say gone > state ;;
esac
`;

interface Fixture {
  readonly options: ServiceOptions;
  readonly unit: string;
  /** Puts a file beside the script. */
  tell(name: string, text: string): void;
  calls(): string[];
  unitText(): string;
}

function fixture(t: TestContext, { folder = 'home', settings = {} as Record<string, unknown> } = {}): Fixture {
  const home = path.join(scratchFolder(t), folder);
  const bin = path.join(home, 'bin');
  mkdirSync(bin, { recursive: true });
  const tell = (name: string, text: string) => writeFileSync(path.join(bin, name), text);
  tell('systemctl', SCRIPT);
  chmodSync(path.join(bin, 'systemctl'), 0o755);
  for (const [name, text] of [
    ['state', NEVER_THERE],
    ['next', RUNNING],
    ['gone', NEVER_THERE],
    ['calls', ''],
  ] as const) {
    tell(name, text);
  }
  const unit = path.join(home, '.config', 'systemd', 'user', 'tollbridge.service');
  return {
    options: { config: scratchConfig(t, settings), home, env: { PATH: bin }, platform: 'linux', patienceMs: 0 },
    unit,
    tell,
    calls: () => {
      const noted = readFileSync(path.join(bin, 'calls'), 'utf8').trim().split('\n');
      tell('calls', '');
      return noted.map((line) => line.replace(/^--user /, '').replace(/^show .*/, 'show'));
    },
    unitText: () => readFileSync(unit, 'utf8'),
  };
}

const START = ['show', 'daemon-reload', 'enable --now tollbridge.service', 'show'];
const text = ({ lines }: { readonly lines: readonly string[] }) => lines.join('\n');

test('fresh: it is written, loaded, enabled, started and asked', async (t) => {
  const { options, unit, calls, unitText } = fixture(t);
  await serveSocket(t, options.config, () => ({ body: JSON.stringify(statusOf(options.config, { pid: PID })) }));
  const report = await installService({ ...options, patienceMs: 60_000 });
  assert.deepEqual(report, {
    lines: [
      `Installed the service: ${unit}`,
      `It runs (process ${PID}), and its page is http://127.0.0.1:9/metrics/`,
      '  how it stands   systemctl --user status tollbridge',
      '  what it says    journalctl --user -u tollbridge -f',
      'It starts when you log in and ends when you log out. To keep it running: loginctl enable-linger',
    ],
    exitCode: 0,
  });
  assert.deepEqual(calls(), START);
  const cli = path.join(import.meta.dirname, '..', '..', 'src', 'cli.ts');
  assert.deepEqual(commandWords(unitText()), [process.execPath, cli, 'start']);
  assert.match(unitText(), /^# Tollbridge service, version \S+, sha256 [0-9a-f]{64}\n/);
  assert.match(unitText(), /^EnvironmentFile=-%h\/\.config\/tollbridge\/environment$/m);
});

test('again: nothing is changed, and nothing is started', async (t) => {
  const { options, unit, calls, unitText } = fixture(t);
  await installService(options);
  const written = unitText();
  calls();
  const again = await installService(options);
  assert.equal(again.lines[0], `The service is installed, current and running: ${unit}. Nothing was changed.`);
  assert.equal(again.exitCode, 0);
  assert.deepEqual(calls(), ['show']);
  assert.equal(unitText(), written);
  assert.deepEqual(readdirSync(path.dirname(unit)), ['tollbridge.service']);
});

test('again when it was stopped: it is started; when systemd has an old copy: it is restarted', async (t) => {
  const { options, unit, tell, calls } = fixture(t);
  await installService(options);
  tell('state', state('inactive', 'dead', { UnitFileState: 'enabled' }));
  calls();
  assert.equal((await installService(options)).lines[0], `The service's file is current: ${unit}`);
  assert.deepEqual(calls(), START);
  tell('state', RUNNING.replace('NeedDaemonReload=no', 'NeedDaemonReload=yes'));
  assert.equal((await installService(options)).exitCode, 0);
  assert.deepEqual(calls(), [...START.slice(0, 3), 'restart tollbridge.service', 'show']);
});

test('another configuration: ours is renewed without a backup, and what runs is restarted', async (t) => {
  const { options, unit, calls, unitText } = fixture(t);
  await installService(options);
  calls();
  const renewed = await installService({ ...options, configFile: 'my toll.yaml' });
  assert.equal(renewed.lines[0], `Renewed the service: ${unit}`);
  assert.deepEqual(calls(), [...START.slice(0, 3), 'restart tollbridge.service', 'show']);
  assert.deepEqual(commandWords(unitText()).slice(2), ['start', '--config', path.resolve('my toll.yaml')]);
  assert.deepEqual(readdirSync(path.dirname(unit)), ['tollbridge.service']);
});

test('a file that is not ours, and one of ours that was edited, are kept as backups', async (t) => {
  const { options, unit, unitText } = fixture(t);
  mkdirSync(path.dirname(unit), { recursive: true });
  writeFileSync(unit, '[Service]\nExecStart=/bin/mine\n');
  assert.deepEqual((await installService(options)).lines.slice(0, 2), [
    `Installed the service: ${unit}`,
    `What stood there was kept as ${unit}.bak-1.`,
  ]);
  assert.match(readFileSync(`${unit}.bak-1`, 'utf8'), /mine/);
  appendFileSync(unit, '# a change\n');
  assert.deepEqual((await installService(options)).lines.slice(0, 2), [
    `Renewed the service: ${unit}`,
    `What stood there was kept as ${unit}.bak-2.`,
  ]);
  assert.match(readFileSync(`${unit}.bak-2`, 'utf8'), /# a change\n$/);
  assert.doesNotMatch(unitText(), /a change|mine/);
});

test('a symbolic link is not written through, nor removed', async (t) => {
  const { options, unit } = fixture(t);
  mkdirSync(path.dirname(unit), { recursive: true });
  symlinkSync('/dev/null', unit);
  await assert.rejects(
    installService(options),
    (error: Error) => error instanceof PermanentFailure && /is a symbolic link to \/dev\/null/.test(error.message),
  );
  assert.deepEqual(uninstallService(options).lines, [`${unit} was not written by Tollbridge. It was left as it is.`]);
  assert.equal(readlinkSync(unit), '/dev/null');
});

test('without systemctl it is written all the same, and the user is told what that means', async (t) => {
  const { options, unit } = fixture(t);
  const report = await installService({ ...options, env: { PATH: path.dirname(unit) } });
  assert.equal(report.exitCode, 1);
  assert.equal(report.lines[0], `Installed the service: ${unit}`);
  assert.match(
    text(report),
    /not started: there is no program systemctl[\s\S]*then run: .*install service[\s\S]*run: .*start$/,
  );
  assert.ok(existsSync(unit));
});

for (const words of [
  NO_BUS,
  'Failed to connect to user scope bus via local transport: $DBUS_SESSION_BUS_ADDRESS and $XDG_RUNTIME_DIR not defined',
  "System has not been booted with systemd as init system (PID 1). Can't operate.\nFailed to connect to bus: Host is down",
]) {
  test(`without a user manager it is written all the same: ${words.slice(0, 40)}…`, async (t) => {
    const { options, unit, tell, calls } = fixture(t);
    tell('all', `${words}\n`);
    const report = await installService(options);
    assert.equal(report.exitCode, 1);
    assert.ok(report.lines.includes(`The service was not started. systemctl says: ${words.replaceAll('\n', ' ')}`));
    assert.match(text(report), /Log in as this user itself .*then run: .*install service\n/);
    assert.match(text(report), /Until then, run the bridge yourself: .*start$/);
    assert.deepEqual(calls(), ['show'], 'nothing else is tried');
    assert.ok(existsSync(unit));
    const removed = uninstallService(options);
    assert.equal(removed.exitCode, 0);
    assert.match(text(removed), /^Removed the service: .*\nNo systemd could be told to stop it: /);
    assert.ok(!existsSync(unit));
  });
}

test('a step that systemd refuses is named, with its words', async (t) => {
  const { options, tell, calls } = fixture(t);
  tell('enable', 'Failed to enable unit: Unit file tollbridge.service does not exist.\n');
  const configHome = path.join(options.home, 'elsewhere');
  const report = await installService({ ...options, env: { ...options.env, XDG_CONFIG_HOME: configHome } });
  assert.equal(report.exitCode, 1);
  assert.match(
    text(report),
    /not started: "systemctl --user enable --now tollbridge\.service" failed: Failed to enable unit: .*\n.*XDG_CONFIG_HOME is set here/,
  );
  assert.deepEqual(calls(), START.slice(0, 3));
  assert.ok(existsSync(path.join(configHome, 'systemd', 'user', 'tollbridge.service')));
});

test('a bridge that does not stay up is told with the words of systemd, and who stands in its way', async (t) => {
  const { options, tell, calls } = fixture(t);
  tell('next', FAILED);
  const alone = await installService({ ...options, patienceMs: 60_000 });
  assert.equal(alone.exitCode, 1);
  assert.match(
    text(alone),
    /does not stay up\. What systemd knows of it:\n {2}× tollbridge.*\n {2}tollbridge: port 9464 is taken\n/,
  );
  assert.doesNotMatch(text(alone), /Another bridge/);
  assert.deepEqual(calls(), [...START, 'status tollbridge.service --no-pager --full --lines=10']);
  await serveSocket(t, options.config, () => ({ body: JSON.stringify(statusOf(options.config, { pid: 99 })) }));
  assert.match(
    text(await installService(options)),
    /Another bridge or relay answers at .* \(process 99\)\. Stop that one\./,
  );
  for (const ended of [state('failed', 'failed'), state('inactive', 'dead')]) {
    tell('next', ended);
    assert.equal((await installService(options)).exitCode, 1, ended);
  }
});

test('a bridge that runs and does not answer yet is started; one without a socket is never asked', async (t) => {
  const { options } = fixture(t);
  const silent = await installService(options);
  assert.equal(silent.exitCode, 0);
  assert.match(text(silent), /It runs \(process 4711\), but cannot be asked yet: there is no socket at .*\n.*doctor/);
  const { options: mute } = fixture(t, { settings: { socket: { enabled: false } } });
  assert.match(text(await installService(mute)), /It runs \(process 4711\)/);
});

test('keys that only the shell has, and keys that others may read, are told; their values are not', async (t) => {
  const settings = {
    detect: true,
    metrics: { token_env: 'SCRAPE_TOKEN' },
    accounts: [{ id: 'a', provider: 'opencode', api_key_env: 'WORK_KEY' }],
  };
  const { options, unitText } = fixture(t, { settings });
  const env = {
    ...options.env,
    SCRAPE_TOKEN: 's3cret',
    WORK_KEY: 's3cret',
    OPENCODE_API_KEY: 's3cret',
    UNNAMED: 's3cret',
  };
  const report = text(await installService({ ...options, env }));
  assert.match(report, /inherits nothing from a shell: SCRAPE_TOKEN, WORK_KEY, OPENCODE_API_KEY\n/);
  assert.doesNotMatch(report + unitText(), /s3cret|UNNAMED/);
  const file = path.join(options.home, '.config', 'tollbridge', 'environment');
  mkdirSync(path.dirname(file));
  writeFileSync(file, 'SCRAPE_TOKEN=x\nWORK_KEY="y"\n# OPENCODE_API_KEY=z\n', { mode: 0o644 });
  const again = text(await installService({ ...options, env }));
  assert.match(again, /from a shell: OPENCODE_API_KEY\n/);
  assert.match(again, new RegExp(`Close them: chmod 600 ${file}$`));
  chmodSync(file, 0o600);
  appendFileSync(file, 'OPENCODE_API_KEY=z\n');
  assert.doesNotMatch(text(await installService({ ...options, env })), /shell|chmod/);
});

test('on macOS nothing is written, and what to do instead is told', async (t) => {
  const { options, unit, calls } = fixture(t);
  const mac = { ...options, platform: 'darwin' as const };
  for (const run of [() => installService(mac), async () => uninstallService(mac)]) {
    await assert.rejects(
      run(),
      (error: Error) =>
        error instanceof PermanentFailure && /launchd[\s\S]*Nothing was changed[\s\S]*nohup/.test(error.message),
    );
  }
  assert.ok(!existsSync(unit));
  assert.deepEqual(calls(), ['']);
});

test('uninstalling stops, disables and removes ours, and nothing else', async (t) => {
  const { options, unit, tell, calls } = fixture(t);
  assert.deepEqual(uninstallService(options).lines, ['The service is not installed. Nothing was changed.']);
  mkdirSync(path.dirname(unit), { recursive: true });
  writeFileSync(unit, '[Service]\nExecStart=/bin/mine\n');
  assert.deepEqual(uninstallService(options).lines, [`${unit} was not written by Tollbridge. It was left as it is.`]);
  assert.deepEqual(calls(), [''], 'a service that is not ours is not stopped');

  await installService(options);
  calls();
  tell('disable', 'Failed to disable unit: Access denied\n');
  const refused = uninstallService(options);
  assert.equal(refused.exitCode, 1);
  assert.match(text(refused), /nothing was removed: .* failed: Failed to disable unit: Access denied\n/);
  assert.ok(existsSync(unit));

  rmSync(path.join(options.home, 'bin', 'disable'));
  calls();
  const removed = uninstallService(options);
  assert.deepEqual(
    [removed.exitCode, ...removed.lines.slice(0, 2)],
    [0, 'Stopped the service.', `Removed the service: ${unit}`],
  );
  assert.deepEqual(calls(), ['disable --now tollbridge.service', 'daemon-reload', 'reset-failed tollbridge.service']);
  assert.deepEqual(readdirSync(path.dirname(unit)), ['tollbridge.service.bak-1']);
});

test('uninstalling keeps what was edited by hand, and leaves no link that leads nowhere', async (t) => {
  const { options, unit, tell } = fixture(t);
  await installService(options);
  appendFileSync(unit, '# a change\n');
  const wants = path.join(path.dirname(unit), 'default.target.wants');
  mkdirSync(wants);
  symlinkSync(unit, path.join(wants, 'tollbridge.service'));
  tell('all', `${NO_BUS}\n`);
  assert.match(text(uninstallService(options)), /changed by hand, so it was kept as .*\.bak-1\./);
  assert.deepEqual(readdirSync(wants), []);
  assert.deepEqual(readdirSync(path.dirname(unit)).sort(), ['default.target.wants', 'tollbridge.service.bak-1']);
});

test('what the unit starts is a bridge with that configuration, which ends well when systemd stops it', async (t) => {
  const { options, unitText } = fixture(t, { folder: `50% of $HOME's "odd" \\ home` });
  const configFile = path.join(options.home, 'my toll.yaml');
  const settings = { state_dir: scratchFolder(t), metrics: { listen: '127.0.0.1:0' }, detect: false };
  writeFileSync(configFile, JSON.stringify(settings));
  await installService({ ...options, configFile });
  const [program, ...args] = commandWords(unitText());
  const child = spawn(program!, args, { cwd: '/', env: { HOME: options.home }, stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', (chunk) => (said += chunk));
  for await (const chunk of child.stdout) {
    said += chunk;
    if (said.includes('scrape_configs')) child.kill('SIGTERM');
  }
  const [code] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
  assert.equal(code, 0, said);
  assert.ok(said.includes(`config    ${configFile}`), said);
});
