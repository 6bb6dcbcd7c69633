// The files that hold agents' settings: whose they are, who may read them, and what an unlucky moment leaves of them.

import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { EXPORTING_AGENTS } from '../../src/commands/agent-settings.ts';
import { agentState, installAgent, uninstallAgent } from '../../src/commands/install-agent.ts';
import { writeWhole } from '../../src/commands/installed-file.ts';
import { PermanentFailure } from '../../src/failure.ts';
import { newPlace, OWN, refusal, TOKEN, textsBelow } from './agent-place.ts';

const CLI = path.join(import.meta.dirname, '..', '..', 'src', 'cli.ts');
const lacks = spawnSync('prlimit', ['--version']).error ? 'no prlimit' : false;
/** The id of a process that has ended. */
const deadProcess = () => spawnSync('true').pid;

for (const agent of EXPORTING_AGENTS) {
  describe(agent, () => {
    test('keeps the mode of its file, whatever the umask', (t) => {
      const { installation, write, file } = newPlace(t);
      write(agent, OWN[agent]);
      chmodSync(file(agent), 0o646);
      const umask = process.umask(0o077);
      t.after(() => process.umask(umask));
      installAgent(agent, installation);
      assert.equal(statSync(file(agent)).mode & 0o777, 0o646);
    });

    test('keeps its record where its user alone looks, also where no bridge has run yet', (t) => {
      const { installation, home } = newPlace(t);
      installAgent(agent, installation);
      assert.equal(statSync(path.join(home, 'state')).mode & 0o777, 0o700);
    });

    test('keeps the owner of its file where root installs', { skip: process.getuid?.() !== 0 }, (t) => {
      const { installation, write, file } = newPlace(t);
      write(agent, OWN[agent]);
      chownSync(file(agent), 1234, 2345);
      installAgent(agent, installation);
      uninstallAgent(agent, installation);
      const { uid, gid } = statSync(file(agent));
      assert.deepEqual([uid, gid], [1234, 2345]);
    });

    test('with a token is its user’s alone, and no backup holds one', (t) => {
      const { configured, write, file, home } = newPlace(t);
      write(agent, OWN[agent]);
      chmodSync(file(agent), 0o644);
      const guarded = configured({ tokens: [{ token_env: 'T' }] });
      const lines = installAgent(agent, { ...guarded, env: { TOLLBRIDGE_TOKEN: TOKEN } });
      assert.equal(statSync(file(agent)).mode & 0o777, 0o600);
      assert.match(lines.join('\n'), /mode is 0600/);
      assert.equal(agentState(agent, guarded).isExposed, false);
      installAgent(agent, { ...guarded, env: { TOLLBRIDGE_TOKEN: `${TOKEN}2` } });
      assert.equal(textsBelow(home).filter((text) => text.includes(TOKEN)).length, 1);
      chmodSync(file(agent), 0o640);
      assert.equal(agentState(agent, guarded).isExposed, true);
      uninstallAgent(agent, guarded);
      assert.deepEqual(
        textsBelow(home).filter((text) => text.includes(TOKEN)),
        [],
      );
    });

    test('is known as ours after a run that was killed at either end of the writing', (t) => {
      const { installation, configured, write, read, file } = newPlace(t);
      write(agent, OWN[agent]);
      installAgent(agent, installation);
      const first = read(agent);
      const moved = configured({ otlp_in: { listen: '127.0.0.1:5000' } });
      installAgent(agent, moved);
      write(agent, first);
      assert.equal(agentState(agent, moved).state, 'outdated');
      const abandoned = `${file(agent)}.${deadProcess()}-00c0ffee.tmp`;
      writeFileSync(abandoned, TOKEN);
      installAgent(agent, moved);
      assert.equal(existsSync(abandoned), false);
      uninstallAgent(agent, moved);
      assert.equal(read(agent), OWN[agent]);
    });

    test('keeps bytes that are no UTF-8 by refusing them', (t) => {
      const { installation, write, file } = newPlace(t);
      write(agent, OWN[agent]);
      const bytes = Buffer.concat([readFileSync(file(agent)), Buffer.from([0xe9])]);
      writeFileSync(file(agent), bytes);
      assert.match(
        refusal(() => installAgent(agent, installation)),
        /UTF-8/,
      );
      assert.deepEqual(readFileSync(file(agent)), bytes);
    });

    test('does not wait for a pipe, and says what stands in the place of its file', (t) => {
      const { installation, file } = newPlace(t);
      mkdirSync(path.dirname(file(agent)), { recursive: true });
      execFileSync('mkfifo', [file(agent)]);
      assert.match(
        refusal(() => installAgent(agent, installation)),
        /no regular file/,
      );
      rmSync(file(agent));
      mkdirSync(file(agent));
      assert.match(
        refusal(() => installAgent(agent, installation)),
        /EISDIR/,
      );
      assert.match(uninstallAgent(agent, installation).join(), /Nothing was changed/);
    });

    test('that leads elsewhere by a link is told apart, and how to go on', (t) => {
      const { installation, configured, write, read, file, home } = newPlace(t);
      write(agent, OWN[agent]);
      installAgent(agent, installation);
      const moved = path.join(home, 'dotfile');
      renameSync(file(agent), moved);
      symlinkSync(moved, file(agent));
      assert.match(installAgent(agent, installation).join(), /is set up.*Nothing was changed/);
      const another = configured({ otlp_in: { listen: '127.0.0.1:5000' } });
      assert.match(
        refusal(() => installAgent(agent, another)),
        /symbolic link.*docs\/agents\.md/,
      );
      assert.match(
        refusal(() => uninstallAgent(agent, installation)),
        /symbolic link.*Take .*exporter|symbolic link.*Take .*otlpEndpoint|symbolic link.*Take .*OTEL/,
      );
      assert.match(read(agent), /4318/);
    });

    test('that is protected against writing is left so', (t) => {
      const { installation, write, read, file } = newPlace(t);
      write(agent, OWN[agent]);
      chmodSync(file(agent), 0o444);
      assert.match(
        refusal(() => installAgent(agent, installation)),
        /protected.*chmod u\+w/,
      );
      chmodSync(file(agent), 0o644);
      installAgent(agent, installation);
      chmodSync(file(agent), 0o444);
      assert.match(
        refusal(() => uninstallAgent(agent, installation)),
        /protected/,
      );
      assert.match(read(agent), /4318/);
    });

    test('keeps no backup of what could not be changed', { skip: lacks }, (t) => {
      const { write, file, home } = newPlace(t);
      // With what is set it grows beyond what a file may hold for a process whose disk is full.
      write(agent, OWN[agent].replace(/gpt-5|opus|dark/, 'x'.repeat(16_250)));
      const yaml = path.join(home, 'tollbridge.yaml');
      writeFileSync(yaml, `state_dir: ${home}/state\notlp_in: { listen: "127.0.0.1:4318" }\n`);
      const args = ['--fsize=16384', process.execPath, CLI, 'install', agent, '--config', yaml];
      const env = { PATH: process.env.PATH ?? '', HOME: home };
      const { stderr } = spawnSync('prlimit', args, { encoding: 'utf8', env });
      assert.match(stderr, /cannot be written: EFBIG/);
      assert.deepEqual(readdirSync(path.dirname(file(agent))), [path.basename(file(agent))]);
    });

    test('is not written through a link', (t) => {
      const { installation, file, home } = newPlace(t);
      mkdirSync(path.dirname(file(agent)), { recursive: true });
      writeFileSync(path.join(home, 'dotfile'), OWN[agent]);
      symlinkSync(path.join(home, 'dotfile'), file(agent));
      assert.match(
        refusal(() => installAgent(agent, installation)),
        /symbolic link/,
      );
      assert.equal(readFileSync(path.join(home, 'dotfile'), 'utf8'), OWN[agent]);
    });
  });
}

test('several settings of one agent are known apart', (t) => {
  const { installation, home } = newPlace(t);
  const profile = (name: string) => ({ ...installation, env: { CLAUDE_CONFIG_DIR: path.join(home, name) } });
  const file = (name: string) => path.join(home, name, 'settings.json');
  const own = '{"env":{"OTEL_LOGS_EXPORTER":"otlp","OTEL_EXPORTER_OTLP_PROTOCOL":"http/protobuf"}}';
  for (const name of ['work é', 'home', 'never']) {
    mkdirSync(path.join(home, name));
    writeFileSync(file(name), own);
  }
  installAgent('claude-code', profile('work é'));
  installAgent('claude-code', profile('home'));
  for (const name of ['never', 'home', 'work é']) {
    uninstallAgent('claude-code', profile(name));
    assert.equal(readFileSync(file(name), 'utf8'), own, name);
  }
});

test('a file that somebody else wrote meanwhile is left as they wrote it', (t) => {
  const { home } = newPlace(t);
  const file = path.join(home, 'settings.json');
  writeFileSync(file, 'theirs');
  const check = () => {
    throw new PermanentFailure('changed');
  };
  const message = refusal(() => writeWhole(file, 'ours', { what: 'It', command: 'again', check }));
  assert.deepEqual([message, readFileSync(file, 'utf8'), readdirSync(home)], ['changed', 'theirs', ['settings.json']]);
});

test('of many installs at once each is whole, and nothing of the user is lost', async (t) => {
  const { installation, write, read, home } = newPlace(t);
  mkdirSync(path.join(home, '.config', 'tollbridge'), { recursive: true });
  write('claude-code', OWN['claude-code']);
  const yaml = path.join(home, 'tollbridge.yaml');
  writeFileSync(yaml, `state_dir: ${home}/state\notlp_in: { listen: "127.0.0.1:4318" }\n`);
  const run = (command: string) =>
    new Promise<string>((resolve) => {
      const env = { PATH: process.env.PATH ?? '', HOME: home };
      execFile(process.execPath, [CLI, command, 'claude-code', '--config', yaml], { env }, (_, stdout, stderr) =>
        resolve(stdout + stderr),
      );
    });
  for (const said of await Promise.all(Array.from({ length: 6 }, () => run('install')))) {
    assert.match(said, /^(Set up|Claude Code is set up)|changed by another program/);
  }
  assert.equal(agentState('claude-code', installation).state, 'current');
  await run('uninstall');
  assert.equal(read('claude-code'), OWN['claude-code']);
});

test('of installs for different bridges at once one counts in the end, and is known as ours', async (t) => {
  const { write, read, home } = newPlace(t);
  write('codex', OWN.codex);
  const run = (command: string, port: number) => {
    const yaml = path.join(home, `${port}.yaml`);
    writeFileSync(yaml, `state_dir: ${home}/state\notlp_in: { listen: "127.0.0.1:${port}" }\n`);
    const env = { PATH: process.env.PATH ?? '', HOME: home };
    return new Promise<string>((resolve) => {
      execFile(process.execPath, [CLI, command, 'codex', '--config', yaml], { env }, (_, stdout) => resolve(stdout));
    });
  };
  for (let round = 0; round < 3; round++) {
    for (const said of await Promise.all([1, 2, 3, 4].map((n) => run('install', 5000 + n))))
      assert.match(said, /^Set up/);
    assert.equal(read('codex').match(/127\.0\.0\.1:500/g)?.length, 1);
    await run('uninstall', 5001);
    assert.equal(read('codex'), OWN.codex);
  }
});
