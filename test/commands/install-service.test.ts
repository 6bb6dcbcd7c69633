// The service, with a systemctl that writes down what it is asked, and systemd's own judgement of the unit.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { installService, type ServicePlace, uninstallService } from '../../src/commands/install-service.ts';
import { serviceUnit } from '../../src/commands/service-unit.ts';
import { PermanentFailure } from '../../src/failure.ts';
import { temporaryFolder } from '../sources/intake-fixture.ts';

/** A home, and a systemctl of which one command may fail. */
function stage(t: TestContext, { fails = '', isActive = true }: { fails?: string; isActive?: boolean } = {}) {
  const home = temporaryFolder(t);
  const bin = path.join(home, 'bin');
  mkdirSync(bin);
  const asked = path.join(home, 'asked');
  writeFileSync(
    path.join(bin, 'systemctl'),
    `#!/bin/sh
echo "$*" >> '${asked}'
case "$*" in
  *is-active*) ${isActive ? 'echo active' : 'echo failed; exit 3'} ;;
  ${fails ? `*${fails}*) echo "Failed to connect to bus: No medium found" >&2; exit 1 ;;` : ''}
esac
`,
  );
  chmodSync(path.join(bin, 'systemctl'), 0o755);
  const place: ServicePlace = { home, env: { PATH: `${bin}:/usr/bin:/bin` }, platform: 'linux', settlesAfterMs: 0 };
  return {
    place,
    unit: path.join(home, '.config/systemd/user/tollbridge.service'),
    asked: () => (existsSync(asked) ? readFileSync(asked, 'utf8').trim().split('\n') : []),
  };
}

test('it is written, enabled and started, and a second run changes nothing', async (t) => {
  const { place, unit, asked } = stage(t);
  const first = await installService(place);
  assert.equal(first.exitCode, 0);
  assert.match(first.lines.join('\n'), /Wrote the service.*\nThe bridge runs, and starts again with every login/);
  assert.deepEqual(asked().slice(0, 3), [
    '--user daemon-reload',
    '--user enable tollbridge.service',
    '--user restart tollbridge.service',
  ]);
  const text = readFileSync(unit, 'utf8');
  assert.ok(text.includes(`ExecStart=${process.execPath} `), text);
  assert.match(text, /cli\.ts start$/m);

  const before = asked().length;
  const second = await installService(place);
  assert.match(second.lines[0]!, /installed and runs.*Nothing was changed/);
  assert.deepEqual(asked().slice(before), ['--user is-active tollbridge.service']);
  assert.equal(readFileSync(unit, 'utf8'), text);
});

for (const [what, standing] of [
  ['somebody else’s', '[Service]\nExecStart=/bin/true\n'],
  ['one that was changed by hand', `${serviceUnit({ command: ['/bin/true'], environmentFile: '/x' })}Nice=5\n`],
] as const) {
  test(`a unit of that name is kept: ${what}`, async (t) => {
    const { place, unit } = stage(t);
    mkdirSync(path.dirname(unit), { recursive: true });
    writeFileSync(unit, standing);
    const { lines } = await installService(place);
    assert.match(lines.join('\n'), /What stood there was kept as .*tollbridge\.service\.bak-1/);
    assert.equal(readFileSync(`${unit}.bak-1`, 'utf8'), standing);
  });
}

test('one that an older version wrote is renewed without a backup', async (t) => {
  const { place, unit } = stage(t);
  mkdirSync(path.dirname(unit), { recursive: true });
  writeFileSync(unit, serviceUnit({ command: ['/old/node'], environmentFile: '/x' }));
  await installService(place);
  assert.deepEqual(readdirSync(path.dirname(unit)), ['tollbridge.service']);
});

test('where no login is managed, it says what happened, what it means and what to do', async (t) => {
  const { place, unit } = stage(t, { fails: 'daemon-reload' });
  const { lines, exitCode } = await installService(place);
  assert.equal(exitCode, 1);
  assert.match(lines.join('\n'), /not started: "systemctl --user daemon-reload" says: Failed to connect to bus/);
  assert.match(lines.join('\n'), /Log in as yourself/);
  assert.ok(existsSync(unit), 'the unit is there for later');
});

test('without systemctl it says so too', async (t) => {
  const { place } = stage(t);
  const { lines, exitCode } = await installService({ ...place, env: { PATH: '/nowhere' } });
  assert.equal(exitCode, 1);
  assert.match(lines.join('\n'), /systemctl.*ENOENT/);
});

test('a service that ends at once is told', async (t) => {
  const { place } = stage(t, { isActive: false });
  const { lines, exitCode } = await installService(place);
  assert.equal(exitCode, 1);
  assert.match(lines.join('\n'), /has ended again.*stop it first/);
});

test('elsewhere than on Linux nothing is changed, and the way out is named', async (t) => {
  const { place, unit } = stage(t);
  await assert.rejects(installService({ ...place, platform: 'darwin' }), (error: Error) => {
    assert.ok(error instanceof PermanentFailure);
    assert.match(error.message, /launchd/);
    return true;
  });
  assert.equal(existsSync(unit), false);
});

test('it is taken away again, and only it', async (t) => {
  const { place, unit, asked } = stage(t);
  assert.match(uninstallService(place).lines[0]!, /not installed/);
  await installService(place);
  const { lines, exitCode } = uninstallService(place);
  assert.equal(exitCode, 0, lines.join('\n'));
  assert.equal(existsSync(unit), false);
  assert.deepEqual(asked().slice(-2), ['--user disable --now tollbridge.service', '--user daemon-reload']);
  writeFileSync(unit, '[Service]\n');
  assert.equal(uninstallService(place).exitCode, 1);
  assert.ok(existsSync(unit), 'a foreign unit stays');
});

const verifies = spawnSync('systemd-analyze', ['--version']).status === 0;

test('systemd finds nothing wrong with it, whatever the paths', {
  skip: verifies ? false : 'no systemd-analyze here',
}, (t) => {
  const dir = temporaryFolder(t);
  const odd = path.join(dir, 'my 50 % bin');
  mkdirSync(odd, { recursive: true });
  const program = path.join(odd, 'node');
  writeFileSync(program, '#!/bin/sh\n');
  chmodSync(program, 0o755);
  const verify = (text: string) => {
    const file = path.join(dir, 'tollbridge.service');
    writeFileSync(file, text);
    return spawnSync('systemd-analyze', ['--user', 'verify', file], {
      encoding: 'utf8',
      env: { ...process.env, XDG_RUNTIME_DIR: dir },
    });
  };
  const unit = serviceUnit({ command: [program, '/a $b "c" 5%/cli.ts'], environmentFile: '/x' });
  assert.match(unit, /ExecStart="\/.*\/my 50 %% bin\/node" "\/a \$\$b \\"c\\" 5%%\/cli\.ts"/);
  const good = verify(
    serviceUnit({
      command: [program, '/x "y" $HOME/50 %/cli.ts', 'start'],
      environmentFile: path.join(odd, 'environment'),
    }),
  );
  assert.deepEqual([good.status, good.stderr], [0, '']);
  // Controls: a program that is not there, and a setting that does not exist.
  assert.match(
    verify(serviceUnit({ command: ['/nowhere/node'], environmentFile: '/x' })).stderr,
    /not executable|No such file/,
  );
  const misspelt = serviceUnit({ command: [program], environmentFile: '/x' }).replace('Restart=', 'Restarts=');
  assert.match(verify(misspelt).stderr, /Unknown key/);
});
