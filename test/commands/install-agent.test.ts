// What is written into the settings of agents that export by themselves, and what is left alone.

import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { EXPORTING_AGENTS, type ExportingAgent, endpointOf } from '../../src/commands/agent-settings.ts';
import { type AgentInstallation, agentState, installAgent, uninstallAgent } from '../../src/commands/install-agent.ts';
import { parseConfig } from '../../src/config.ts';
import { PermanentFailure } from '../../src/failure.ts';

const TOKEN = 'tb_CANARYtoken';
const FILES: Readonly<Record<ExportingAgent, string>> = {
  'claude-code': '.claude/settings.json',
  codex: '.codex/config.toml',
  'gemini-cli': '.gemini/settings.json',
};
/** Settings of the user's own, which stay. */
const OWN: Readonly<Record<ExportingAgent, string>> = {
  'claude-code': '{\n  "model": "opus",\n  "env": {\n    "FOO": "bar"\n  }\n}\n',
  codex: 'model = "gpt-5"\n\n[profiles.work]\nmodel = "gpt-5.1"\n',
  'gemini-cli': '{\n  "theme": "dark"\n}\n',
};

function newPlace(t: TestContext, settings: object = {}) {
  const home = mkdtempSync(path.join(tmpdir(), 'tb-agent-'));
  t.after(() => rmSync(home, { recursive: true, force: true }));
  const state_dir = path.join(home, 'state');
  const configured = (changes: object = {}): AgentInstallation => ({
    config: parseConfig({ state_dir, otlp_in: { listen: '127.0.0.1:4318' }, ...settings, ...changes }),
    home,
    env: {},
  });
  const file = (agent: ExportingAgent) => path.join(home, FILES[agent]);
  const write = (agent: ExportingAgent, text: string) => {
    mkdirSync(path.dirname(file(agent)), { recursive: true });
    writeFileSync(file(agent), text);
  };
  return {
    home,
    configured,
    installation: configured(),
    file,
    write,
    read: (agent: ExportingAgent) => readFileSync(file(agent), 'utf8'),
  };
}
const refusal = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof PermanentFailure, String(error));
    return error.message;
  }
  throw new assert.AssertionError({ message: 'it was not refused' });
};

for (const agent of EXPORTING_AGENTS) {
  describe(agent, () => {
    test('is set up beside what stands there, changes nothing the second time, and is taken out whole', (t) => {
      const { installation, write, read, file } = newPlace(t);
      assert.equal(agentState(agent, installation).state, 'no agent');
      write(agent, OWN[agent]);
      assert.equal(agentState(agent, installation).state, 'absent');
      const lines = installAgent(agent, installation);
      assert.match(lines.join('\n'), /http:\/\/127\.0\.0\.1:4318.*kept as .*\.bak-1/s);
      const text = read(agent);
      assert.match(text, /http:\/\/127\.0\.0\.1:4318/);
      assert.equal(readFileSync(`${file(agent)}.bak-1`, 'utf8'), OWN[agent]);
      assert.equal(agentState(agent, installation).state, 'current');
      assert.match(installAgent(agent, installation).join(), /Nothing was changed/);
      assert.equal(read(agent), text);
      assert.deepEqual(readdirSync(path.dirname(file(agent))).length, 2, 'no second backup');
      uninstallAgent(agent, installation);
      assert.equal(read(agent), OWN[agent]);
      assert.match(uninstallAgent(agent, installation).join(), /Nothing was changed/);
    });

    test('is set up where there were no settings, for its user alone', (t) => {
      const { installation, file } = newPlace(t);
      installAgent(agent, installation);
      assert.equal(statSync(file(agent)).mode & 0o777, 0o600);
      assert.equal(agentState(agent, installation).state, 'current');
    });

    test('keeps the mode of its file', (t) => {
      const { installation, write, file } = newPlace(t);
      write(agent, OWN[agent]);
      chmodSync(file(agent), 0o640);
      installAgent(agent, installation);
      assert.equal(statSync(file(agent)).mode & 0o777, 0o640);
    });

    test('follows the bridge to another address', (t) => {
      const { installation, configured, write, read } = newPlace(t);
      write(agent, OWN[agent]);
      installAgent(agent, installation);
      const moved = configured({ otlp_in: { listen: '127.0.0.1:5000' } });
      assert.equal(agentState(agent, moved).state, 'outdated');
      installAgent(agent, moved);
      assert.match(read(agent), /127\.0\.0\.1:5000/);
      assert.doesNotMatch(read(agent), /4318/);
      uninstallAgent(agent, moved);
      assert.equal(read(agent), OWN[agent]);
    });

    test('bears a token where the bridge wants one, and says where it stands', (t) => {
      const { configured, read, home } = newPlace(t);
      const guarded = configured({ tokens: [{ token_env: 'T' }] });
      assert.match(
        refusal(() => installAgent(agent, guarded)),
        /TOLLBRIDGE_TOKEN/,
      );
      const lines = installAgent(agent, { ...guarded, env: { TOLLBRIDGE_TOKEN: TOKEN } });
      assert.ok(read(agent).includes(TOKEN));
      assert.ok(!lines.join('\n').includes(TOKEN));
      assert.equal(agentState(agent, guarded).state, 'current');
      const record = readdirSync(path.join(home, 'state', 'installed')).map((name) =>
        readFileSync(path.join(home, 'state', 'installed', name), 'utf8'),
      );
      assert.ok(!record.join('').includes(TOKEN), 'the record holds digests');
      uninstallAgent(agent, guarded);
      assert.ok(!read(agent).includes(TOKEN));
    });

    test('is refused while the bridge takes no telemetry', (t) => {
      const { configured, write } = newPlace(t);
      write(agent, OWN[agent]);
      const without = configured({ otlp_in: undefined });
      assert.match(
        refusal(() => installAgent(agent, without)),
        /otlp_in/,
      );
      assert.equal(agentState(agent, without).state, 'untaken');
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

for (const [how, edited] of [
  ['with other line ends', (text: string) => text.replaceAll('\n', '\r\n')],
  ['without its last line end', (text: string) => text.trimEnd()],
] as const) {
  test(`what an editor saved ${how} is known as ours`, (t) => {
    const { installation, configured, write, read } = newPlace(t);
    write('codex', OWN.codex);
    installAgent('codex', installation);
    write('codex', edited(read('codex')));
    assert.equal(agentState('codex', installation).state, 'current');
    const moved = configured({ otlp_in: { listen: '127.0.0.1:5000' } });
    installAgent('codex', moved);
    assert.equal(read('codex').match(/^\[otel\]/gm)?.length, 1);
    uninstallAgent('codex', moved);
    assert.equal(read('codex').replaceAll('\r\n', '\n'), OWN.codex);
  });
}

const FOREIGN: readonly [ExportingAgent, string, RegExp][] = [
  ['claude-code', '{"env":{"OTEL_EXPORTER_OTLP_ENDPOINT":"https://otel.example"}}', /OTEL_EXPORTER_OTLP_ENDPOINT/],
  ['codex', '[otel]\nenvironment = "dev"\n', /\[otel\]/],
  ['codex', '[otel.exporter.otlp-http]\nendpoint = "https://otel.example"\n', /\[otel\]/],
  ['codex', 'otel = { environment = "dev" }\n', /\[otel\]/],
  ['codex', 'otel.environment = "dev"\n', /\[otel\]/],
  ['gemini-cli', '{"telemetry":{"enabled":true,"otlpEndpoint":"https://otel.example"}}', /otlpEndpoint/],
];
for (const [agent, text, named] of FOREIGN) {
  test(`${agent} that exports to somebody else is left alone: ${JSON.stringify(text)}`, (t) => {
    const { installation, write, read } = newPlace(t);
    write(agent, text);
    assert.equal(agentState(agent, installation).state, 'other');
    assert.match(
      refusal(() => installAgent(agent, installation)),
      named,
    );
    assert.equal(read(agent), text);
    assert.match(uninstallAgent(agent, installation).join(), /Nothing was changed/);
    assert.equal(read(agent), text);
  });
}

for (const text of ['{ // a comment\n}', '[]', '{"env":']) {
  test(`settings that cannot be rewritten are left alone: ${JSON.stringify(text)}`, (t) => {
    const { installation, write, read } = newPlace(t);
    write('gemini-cli', text);
    assert.match(
      refusal(() => installAgent('gemini-cli', installation)),
      /no JSON object/,
    );
    assert.equal(read('gemini-cli'), text);
  });
}

test('what the user set to our values before stays after uninstalling', (t) => {
  const { installation, write, read } = newPlace(t);
  write('claude-code', '{"env":{"OTEL_LOGS_EXPORTER":"otlp"}}');
  installAgent('claude-code', installation);
  uninstallAgent('claude-code', installation);
  assert.deepEqual(JSON.parse(read('claude-code')), { env: { OTEL_LOGS_EXPORTER: 'otlp' } });
});

test('what the user changed since is theirs', (t) => {
  const { installation, write, read } = newPlace(t);
  write('claude-code', '{}');
  installAgent('claude-code', installation);
  const settings = JSON.parse(read('claude-code'));
  settings.env.OTEL_LOGS_EXPORT_INTERVAL = '250';
  write('claude-code', JSON.stringify(settings));
  assert.match(
    refusal(() => installAgent('claude-code', installation)),
    /OTEL_LOGS_EXPORT_INTERVAL/,
  );
  uninstallAgent('claude-code', installation);
  assert.deepEqual(JSON.parse(read('claude-code')), { env: { OTEL_LOGS_EXPORT_INTERVAL: '250' } });
});

test('the endpoint is one that this machine reaches', () => {
  const at = (otlp_in: object) => endpointOf(parseConfig({ otlp_in, tokens: [{ token_env: 'T' }] }));
  assert.equal(at({ listen: '0.0.0.0:4318', plaintext: true }), 'http://127.0.0.1:4318');
  assert.equal(at({ listen: '[::]:4318', plaintext: true }), 'http://[::1]:4318');
  assert.equal(at({ listen: '10.0.0.1:4318', tls: { cert_file: '/c', key_file: '/k' } }), 'https://10.0.0.1:4318');
});
