// The unit, read by a second reader and, where it is there, by systemd itself.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { environmentFile, exampleUnit, serviceUnit, unitFile, unitWord } from '../../src/commands/service-unit.ts';
import { scratchFolder } from './bridge-fixture.ts';
import { commandWords } from './unit-words.ts';

const HOME = { home: '/home/ana', env: {} };
const NAMES = [
  ['plain', 'plain'],
  ['blanks', 'two  blanks'],
  ['specifiers', '100%h%%'],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: systemd's, not ours.
  ['variables', '$HOME ${HOME} $$'],
  ['quotes', `it's "so"`],
  ['backslashes', 'a\\x41\\'],
  ['control characters', 'a\nb\tc'],
  ['letters of all kinds', 'é ü 漢'],
] as const;

for (const [what, name] of NAMES) {
  test(`a path with ${what} arrives as it is`, () => {
    const cli = `/opt/${name}/cli.js`;
    const configFile = `/etc/${name}.yaml`;
    const words = commandWords(serviceUnit({ node: '/usr/bin/node', cli, configFile }, HOME));
    assert.deepEqual(words, ['/usr/bin/node', cli, 'start', '--config', configFile]);
    const node = `/opt/${name}/node`;
    const own = commandWords(serviceUnit({ node, cli }, HOME));
    assert.deepEqual(own.slice(-3), [node, cli, 'start']);
    // systemd takes no program with these in its name, so a shell becomes it.
    assert.deepEqual(own.slice(0, -3), /["'\\\n]/.test(name) ? ['/bin/sh', '-c', 'exec "$0" "$@"'] : []);
  });
}

test('control: the second reader finds what is not escaped', () => {
  assert.throws(() => commandWords('ExecStart=/bin/node /a%h'), /specifier %h/);
  assert.throws(() => commandWords('ExecStart=/bin/node "$HOME/x"'), /variable \$H/);
  assert.equal(unitWord('a b'), '"a b"');
});

test('variables that decide which files are meant are carried over; relative ones and others are not', () => {
  const env = { XDG_STATE_HOME: '/s t', XDG_DATA_HOME: 'relative', TZ: 'Asia/Tokyo', OPENCODE_API_KEY: 'sk-x' };
  const program = { node: '/n', cli: '/c' };
  const unit = serviceUnit(program, { home: '/home/ana', env });
  assert.deepEqual(unit.match(/^Environment=.*$/gm), [
    'Environment="XDG_STATE_HOME=/s t"',
    'Environment=TZ=Asia/Tokyo',
  ]);
  const inClone = serviceUnit(program, { home: '/home/ana', env: { npm_lifecycle_event: 'tollbridge' } });
  assert.match(inClone, /^Environment=npm_lifecycle_event=start$/m);
});

test('unit and keys are in XDG_CONFIG_HOME where that is set and absolute', () => {
  const moved = { home: '/home/ana', env: { XDG_CONFIG_HOME: '/c/50%[a]' } };
  assert.equal(unitFile(moved), '/c/50%[a]/systemd/user/tollbridge.service');
  assert.equal(environmentFile(moved), '/c/50%[a]/tollbridge/environment');
  const unit = serviceUnit({ node: '/n', cli: '/c' }, moved);
  assert.match(unit, /^EnvironmentFile=-\/c\/50%%\\\[a\]\/tollbridge\/environment$/m);
  assert.equal(unitFile({ home: '/h', env: { XDG_CONFIG_HOME: 'x' } }), '/h/.config/systemd/user/tollbridge.service');
});

test('what would break the bridge is not in it', () => {
  const settings = exampleUnit().replaceAll(/^#.*$/gm, '');
  assert.doesNotMatch(settings, /PrivateTmp|MemoryDenyWriteExecute/);
  for (const line of ['Restart=on-failure', 'RestartPreventExitStatus=2', 'UMask=0077', 'NoNewPrivileges=yes']) {
    assert.ok(settings.includes(`\n${line}\n`), line);
  }
  const root = path.join(import.meta.dirname, '..', '..');
  assert.ok(readFileSync(path.join(root, 'deploy/systemd/tollbridge.service'), 'utf8').endsWith(exampleUnit()));
});

const hasAnalyze = spawnSync('systemd-analyze', ['--version']).status === 0;
const skip = hasAnalyze ? false : "there is no systemd-analyze (Debian's package systemd)";

test('systemd itself finds nothing wrong, and reads the words that are meant', { skip }, (t) => {
  /** What systemd complains of, and how it read the command; a unit is known by its file's name. */
  const verify = (unit: string) => {
    const file = path.join(scratchFolder(t), 'tollbridge.service');
    writeFileSync(file, unit);
    const run = (level: string) =>
      spawnSync('systemd-analyze', ['verify', '--man=no', '--user', file], {
        env: { ...process.env, XDG_RUNTIME_DIR: path.dirname(file), SYSTEMD_LOG_LEVEL: level, LC_ALL: 'C.UTF-8' },
        encoding: 'utf8',
      });
    const { status, stderr } = run('info');
    // The unit says itself that a systemd before 254 does not know these.
    const complaints = stderr.split('\n').filter((line) => line && !/'Restart(Steps|MaxDelaySec)'/.test(line));
    const [, read = ''] = /^\s*Command Line: (.*)$/m.exec(run('debug').stdout) ?? [];
    return { status, complaints, read };
  };
  for (const [what, name] of NAMES) {
    const folder = path.join(scratchFolder(t), name);
    mkdirSync(folder);
    const node = path.join(folder, 'node');
    symlinkSync(process.execPath, node);
    const place = {
      home: '/h',
      env: { XDG_CONFIG_HOME: `/c/${name.replaceAll(/\s/g, ' ')}`, XDG_STATE_HOME: `/s/${name}` },
    };
    const unit = serviceUnit(
      { node, cli: path.join(folder, 'cli.ts'), configFile: path.join(folder, 'c.yaml') },
      place,
    );
    const { status, complaints, read } = verify(unit);
    assert.deepEqual([status, complaints], [0, []], what);
    // Debian 12's systemd and later show how they read it; `$$` becomes `$` when it is started.
    if (what === 'specifiers' && read) assert.ok(read.includes(path.join(folder, 'cli.ts')), read);
  }
  const broken = exampleUnit().replace('/usr/local/bin/node', process.execPath).replace('=on-failure', '=sometimes');
  assert.match(verify(broken).complaints.join(), /restart.*sometimes/, 'control');
});
