import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { newToken } from '../../src/commands/token.ts';
import { parseConfig } from '../../src/config.ts';
import { PermanentFailure } from '../../src/failure.ts';
import { SenderTokens } from '../../src/sources/sender-tokens.ts';
import { scratchFolder } from './bridge-fixture.ts';

const CLI = path.join(import.meta.dirname, '../../src/cli.ts');

/** What the lines hold for the sender and for the configuration. */
function partsOf(lines: readonly string[]) {
  const token = lines.flatMap((line) => /^ {2}(tb_[\w-]+)$/.exec(line)?.[1] ?? []);
  const start = lines.indexOf('tokens:');
  const { tokens } = parseConfig(parse(lines.slice(start, lines.indexOf('', start)).join('\n')));
  return { token: token[0]!, tokens };
}

test('the entry that is printed lets the token in that is printed, with its owner', () => {
  // Names that YAML would take for something else.
  const owner = { team: 'true', user: '1e3', project: 'shop' };
  const { lines, exitCode } = newToken(owner);
  const { token, tokens } = partsOf(lines);
  assert.equal(exitCode, 0);
  assert.match(token, /^tb_[\w-]{43}$/, '32 bytes');
  assert.deepEqual(new SenderTokens(tokens, { env: {}, perSecond: 200 }).identify(`Bearer ${token}`), owner);
  assert.equal(lines.join('\n').split(token).length, 2, 'the token is printed once, and not in the example');
  assert.notEqual(partsOf(newToken(owner).lines).token, token);
  assert.deepEqual(Object.keys(partsOf(newToken({}).lines).tokens[0]!), ['sha256']);
});

test('a name that cannot be a label makes no token', () => {
  for (const bad of ['my team', '', 'a"b', 'ada@example.com']) {
    assert.throws(
      () => newToken({ user: bad }),
      (error) => error instanceof PermanentFailure && /^--user: expected 1 to 64 letters/.test(error.message),
      bad,
    );
  }
});

test('tollbridge token new prints it and writes nothing', (t) => {
  const home = scratchFolder(t);
  const env = { ...process.env, HOME: home, XDG_CONFIG_HOME: '', XDG_STATE_HOME: '' };
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [CLI, 'token', 'new', ...args], { encoding: 'utf8', env, cwd: home });
  const made = run('--team', 'core', '--project', 'shop');
  assert.equal(made.status, 0, made.stderr);
  const { token, tokens } = partsOf(made.stdout.split('\n'));
  const expected = { team: 'core', project: 'shop' };
  assert.deepEqual(new SenderTokens(tokens, { env: {}, perSecond: 200 }).identify(`Bearer ${token}`), expected);
  assert.deepEqual(readdirSync(home), []);
  const refused = run('--team', 'my team');
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /--team: expected 1 to 64 letters.*No token was made\./);
  assert.equal(refused.stdout, '');
});
