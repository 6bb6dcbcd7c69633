// What is written into the settings of agents that export by themselves, and what is left alone.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { EXPORTING_AGENTS, type ExportingAgent, endpointOf } from '../../src/commands/agent-settings.ts';
import { agentState, installAgent, uninstallAgent } from '../../src/commands/install-agent.ts';
import { parseConfig } from '../../src/config.ts';
import { newPlace, OWN, refusal, TOKEN, textsBelow } from './agent-place.ts';

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
      assert.deepEqual(readdirSync(path.dirname(file(agent))).length, 1, 'no backup that says the same');
      assert.match(uninstallAgent(agent, installation).join(), /Nothing was changed/);
    });

    test('is set up where there were no settings, for its user alone', (t) => {
      const { installation, file } = newPlace(t);
      installAgent(agent, installation);
      assert.equal(statSync(file(agent)).mode & 0o777, 0o600);
      assert.equal(agentState(agent, installation).state, 'current');
      uninstallAgent(agent, installation);
      assert.equal(existsSync(path.dirname(file(agent))), false, 'what was made is gone');
      assert.equal(agentState(agent, installation).state, 'no agent');
    });

    test('is left with the empty file and folder that stood there', (t) => {
      const { installation, write, read, file } = newPlace(t);
      write(agent, ' \n');
      installAgent(agent, installation);
      uninstallAgent(agent, installation);
      assert.equal(read(agent), ' \n');
      rmSync(file(agent));
      installAgent(agent, installation);
      uninstallAgent(agent, installation);
      assert.ok(existsSync(path.dirname(file(agent))));
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
      assert.deepEqual(
        textsBelow(home).filter((text) => text.includes(TOKEN)),
        [],
      );
    });

    test('is told apart by whether the bridge lets its token in', (t) => {
      const { configured, installation } = newPlace(t);
      installAgent(agent, installation);
      const guarded = configured({ tokens: [{ token_env: 'T' }] });
      assert.equal(agentState(agent, guarded).state, 'tokenless');
      const listed = { ...guarded, env: { T: TOKEN, TOLLBRIDGE_TOKEN: TOKEN } };
      assert.match(
        refusal(() => installAgent(agent, { ...listed, env: { T: 'another', TOLLBRIDGE_TOKEN: TOKEN } })),
        /none of those/,
      );
      installAgent(agent, listed);
      assert.equal(agentState(agent, listed).state, 'current');
      assert.equal(agentState(agent, { ...guarded, env: { T: 'another' } }).state, 'refused');
      assert.equal(agentState(agent, guarded).state, 'current', 'what cannot be read here may let it in');
    });

    test('is not given a token that would arrive as another', (t) => {
      const { configured, file } = newPlace(t);
      const guarded = configured({ tokens: [{ token_env: 'T' }] });
      for (const token of ['a,b', 'a%20b', 'a b', 'a"b', 'é', ...(agent === 'gemini-cli' ? ['a/b', 'a+b'] : [])]) {
        assert.match(
          refusal(() => installAgent(agent, { ...guarded, env: { T: token, TOLLBRIDGE_TOKEN: token } })),
          /character/,
        );
      }
      assert.equal(existsSync(file(agent)), false);
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
  });
}

const EDITS: readonly (readonly [string, ExportingAgent, (text: string) => string])[] = [
  ['turned its line ends', 'codex', (text) => text.replaceAll('\n', '\r\n')],
  ['took its last line end away', 'codex', (text) => text.trimEnd()],
  ['took our comment away', 'codex', (text) => text.replace(/^# Telemetry for Tollbridge\n/m, '')],
  ['wrote it on one line', 'claude-code', (text) => JSON.stringify(JSON.parse(text))],
  ['wrote it on one line', 'gemini-cli', (text) => JSON.stringify(JSON.parse(text))],
];
for (const [how, agent, edited] of EDITS) {
  test(`${agent}: what stands there is known as ours when an editor ${how}`, (t) => {
    const { installation, configured, write, read } = newPlace(t);
    write(agent, OWN[agent]);
    installAgent(agent, installation);
    write(agent, edited(read(agent)));
    assert.equal(agentState(agent, installation).state, 'current');
    const moved = configured({ otlp_in: { listen: '127.0.0.1:5000' } });
    installAgent(agent, moved);
    assert.equal(read(agent).match(/5000/g)?.length, 1);
    uninstallAgent(agent, moved);
    assert.equal(read(agent).replaceAll(/\s/g, ''), OWN[agent].replaceAll(/\s/g, ''));
  });
}

test('tables that Codex itself adds stay when ours is taken out', (t) => {
  const { installation, write, read } = newPlace(t);
  write('codex', OWN.codex);
  installAgent('codex', installation);
  // `codex mcp add` puts a table behind the last one, and before comments that stand behind that.
  const added = '\n[mcp_servers.mine]\ncommand = "echo"\n';
  const lines = read('codex').trimEnd().split('\n');
  const behind = lines.at(-1)?.startsWith('#') ? `${lines.pop()}\n` : '';
  write('codex', `${lines.join('\n')}\n${added}${behind}`);
  assert.equal(agentState('codex', installation).state, 'current');
  uninstallAgent('codex', installation);
  assert.equal(read('codex'), `${OWN.codex}${added}`);
});

const FOREIGN: readonly [ExportingAgent, string, RegExp][] = [
  ['claude-code', '{"env":{"OTEL_EXPORTER_OTLP_ENDPOINT":"https://otel.example"}}', /OTEL_EXPORTER_OTLP_ENDPOINT/],
  ['claude-code', '{"env":{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT":"https://a.example"}}', /OTLP_LOGS_ENDPOINT/],
  ['claude-code', '{"env":{"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL":"grpc"}}', /OTLP_LOGS_PROTOCOL/],
  ['claude-code', '{"env":{"OTEL_LOGS_EXPORTER":"console"}}', /OTEL_LOGS_EXPORTER/],
  ['claude-code', '{"env":"text"}', /sets env otherwise/],
  ['claude-code', '{"env":null}', /sets env otherwise/],
  ['codex', '[otel]\nexporter = "none"\n', /otel\.exporter/],
  ['codex', '[otel.exporter.otlp-http]\nendpoint = "https://otel.example"\n', /otel\.exporter/],
  ['codex', "['otel'.exporter.otlp-http]\nendpoint = 'https://otel.example'\n", /otel\.exporter/],
  ['codex', 'otel = { environment = "dev" }\n', /sets otel otherwise/],
  ['codex', 'otel.environment = "dev"\n', /sets otel otherwise/],
  ['gemini-cli', '{"telemetry":{"enabled":true,"otlpEndpoint":"https://otel.example"}}', /otlpEndpoint/],
  ['gemini-cli', '{"telemetry":{"outfile":"/tmp/telemetry.log"}}', /outfile/],
  ['gemini-cli', '{"telemetry":{"useCliAuth":true}}', /useCliAuth/],
];
for (const [agent, text, named] of FOREIGN) {
  test(`${agent} that exports to somebody else is left alone: ${JSON.stringify(text)}`, (t) => {
    const { installation, write, read } = newPlace(t);
    write(agent, text);
    const { state, keys } = agentState(agent, installation);
    assert.equal(state, 'other');
    assert.equal(keys.length, 1);
    assert.match(`sets ${keys} otherwise`, named);
    const message = refusal(() => installAgent(agent, installation));
    assert.match(message, named);
    assert.doesNotMatch(message, /example|telemetry\.log/, 'keys are named, not what they hold');
    assert.equal(read(agent), text);
    assert.match(uninstallAgent(agent, installation).join(), /Nothing was changed/);
    assert.equal(read(agent), text);
  });
}

const ACCEPTED: readonly [ExportingAgent, string, string][] = [
  ['claude-code', '{"env":{"OTEL_LOGS_EXPORT_INTERVAL":"250"}}', 'OTEL_LOGS_EXPORT_INTERVAL'],
  ['claude-code', '{"env":{"CLAUDE_CODE_ENABLE_TELEMETRY":1}}', 'CLAUDE_CODE_ENABLE_TELEMETRY'],
  ['claude-code', '{"env":{"OTEL_LOGS_EXPORTER":"console,otlp"}}', 'OTEL_LOGS_EXPORTER'],
  ['gemini-cli', '{"telemetry":{"logPrompts":true,"outfile":""}}', 'logPrompts'],
  ['codex', '[otel]\nenvironment = "dev"\nlog_user_prompt = true # mine\n', 'otel.log_user_prompt'],
  ['codex', '[otel.trace_exporter.otlp-http]\nendpoint = "https://otel.example"\n', 'otel.trace_exporter'],
];
for (const [agent, text, key] of ACCEPTED) {
  test(`${agent} is set up beside what is not in the way, which stays: ${JSON.stringify(text)}`, (t) => {
    const { installation, write, read } = newPlace(t);
    write(agent, text);
    assert.ok(installAgent(agent, installation).join('\n').includes(`Left as it stands there: ${key}`));
    assert.equal(agentState(agent, installation).state, 'current');
    uninstallAgent(agent, installation);
    assert.equal(read(agent), text);
  });
}

/** As the agents themselves cannot read them. */
const UNREADABLE: readonly [ExportingAgent, string][] = [
  ['gemini-cli', '[]'],
  ['gemini-cli', '{"env":'],
  ['gemini-cli', '{"a": 1,}'],
  ['gemini-cli', '\uFEFF{}'],
  ['claude-code', '{ // a comment\n}'],
  ['claude-code', '{"env": {},}'],
  ['codex', 'a = "'],
];
for (const [agent, text] of UNREADABLE) {
  test(`settings that ${agent} cannot read are left alone: ${JSON.stringify(text)}`, (t) => {
    const { installation, write, read } = newPlace(t);
    write(agent, text);
    assert.equal(agentState(agent, installation).state, 'unreadable');
    assert.match(
      refusal(() => installAgent(agent, installation)),
      /is no (?:JSON object|TOML).*Nothing was changed/,
    );
    assert.match(uninstallAgent(agent, installation).join(), /Nothing was changed/);
    assert.equal(read(agent), text);
  });
}

for (const [agent, text] of [
  ['gemini-cli', '{ // a comment\n  "theme": "dark"\n}'],
  ['claude-code', '\uFEFF{}'],
] as const) {
  test(`settings that ${agent} can read are set, and stay: ${JSON.stringify(text)}`, (t) => {
    const { installation, write, read } = newPlace(t);
    write(agent, text);
    installAgent(agent, installation);
    assert.equal(agentState(agent, installation).state, 'current');
    uninstallAgent(agent, installation);
    assert.equal(read(agent), text);
  });
}

const OUTDONE: readonly [ExportingAgent, string, string, boolean][] = [
  ['claude-code', 'OTEL_EXPORTER_OTLP_LOGS_ENDPOINT', 'https://otel.example', true],
  ['claude-code', 'OTEL_EXPORTER_OTLP_ENDPOINT', 'https://otel.example', false],
  ['gemini-cli', 'OTEL_EXPORTER_OTLP_ENDPOINT', 'https://otel.example', true],
  ['gemini-cli', 'OTEL_EXPORTER_OTLP_ENDPOINT', 'http://127.0.0.1:4318', false],
  ['gemini-cli', 'GEMINI_TELEMETRY_TARGET', 'gcp', true],
  ['gemini-cli', 'GEMINI_TELEMETRY_OUTFILE', '/tmp/telemetry.log', true],
  ['codex', 'OTEL_EXPORTER_OTLP_ENDPOINT', 'https://otel.example', false],
];
for (const [agent, name, value, isOutdone] of OUTDONE) {
  test(`${agent} ${isOutdone ? 'may be' : 'is not'} led elsewhere by ${name}=${value}`, (t) => {
    const { installation } = newPlace(t);
    const started = { ...installation, env: { [name]: value } };
    const lines = installAgent(agent, started).join('\n');
    assert.equal(lines.includes(`${name} is set in this shell`), isOutdone);
    assert.equal(lines.includes(`for Claude Code it no longer counts`), agent === 'claude-code' && !isOutdone);
    const { state, keys } = agentState(agent, started);
    assert.equal(state, isOutdone ? 'outdone' : 'current');
    if (isOutdone) assert.deepEqual(keys, [name]);
  });
}

test('what the user set to our values before stays after uninstalling', (t) => {
  const { installation, write, read } = newPlace(t);
  write('claude-code', '{"env":{"OTEL_LOGS_EXPORTER":"otlp"}}');
  installAgent('claude-code', installation);
  uninstallAgent('claude-code', installation);
  assert.deepEqual(JSON.parse(read('claude-code')), { env: { OTEL_LOGS_EXPORTER: 'otlp' } });
});

test('what the user changed since is theirs, and stands in the way only where it is', (t) => {
  const { installation, configured, write, read } = newPlace(t);
  write('claude-code', '{}');
  installAgent('claude-code', installation);
  const changed = (changes: object) => {
    const settings = JSON.parse(read('claude-code'));
    write('claude-code', JSON.stringify({ env: { ...settings.env, ...changes } }));
  };
  changed({ OTEL_LOGS_EXPORT_INTERVAL: '250' });
  assert.equal(agentState('claude-code', installation).state, 'current');
  const moved = configured({ otlp_in: { listen: '127.0.0.1:5000' } });
  installAgent('claude-code', moved);
  assert.equal(agentState('claude-code', moved).state, 'current');
  changed({ OTEL_EXPORTER_OTLP_ENDPOINT: 'https://otel.example' });
  assert.match(
    refusal(() => installAgent('claude-code', moved)),
    /OTEL_EXPORTER_OTLP_ENDPOINT/,
  );
  uninstallAgent('claude-code', moved);
  assert.deepEqual(JSON.parse(read('claude-code')), {
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'https://otel.example', OTEL_LOGS_EXPORT_INTERVAL: '250' },
  });
});

test('Gemini CLI is looked for where its own variable says', (t) => {
  const { installation, home } = newPlace(t);
  const elsewhere = { ...installation, env: { GEMINI_CLI_HOME: path.join(home, 'elsewhere') } };
  installAgent('gemini-cli', elsewhere);
  assert.ok(existsSync(path.join(home, 'elsewhere', '.gemini', 'settings.json')));
});

test('what exports to the bridge and was not written by us is left, and said', (t) => {
  const { installation, home } = newPlace(t);
  installAgent('claude-code', installation);
  rmSync(path.join(home, 'state', 'installed'), { recursive: true });
  assert.match(uninstallAgent('claude-code', installation).join('\n'), /exports to the bridge all the same.*by hand/);
});

test('the endpoint is one that this machine reaches', () => {
  const at = (otlp_in: object) => endpointOf(parseConfig({ otlp_in, tokens: [{ token_env: 'T' }] }));
  assert.equal(at({ listen: '0.0.0.0:4318', plaintext: true }), 'http://127.0.0.1:4318');
  assert.equal(at({ listen: '[::]:4318', plaintext: true }), 'http://[::1]:4318');
  assert.equal(at({ listen: '10.0.0.1:4318', tls: { cert_file: '/c', key_file: '/k' } }), 'https://10.0.0.1:4318');
});

test('an endpoint in a variable bears no token by itself', (t) => {
  const { configured } = newPlace(t);
  const env = { TOLLBRIDGE_TOKEN: TOKEN, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' };
  const started = { ...configured({ tokens: [{ token_env: 'T' }] }), env };
  installAgent('gemini-cli', started);
  assert.deepEqual(agentState('gemini-cli', started).keys, ['OTEL_EXPORTER_OTLP_ENDPOINT']);
  const headers = { OTEL_EXPORTER_OTLP_HEADERS: `Authorization=Bearer ${TOKEN}` };
  assert.equal(agentState('gemini-cli', { ...started, env: { ...env, ...headers } }).state, 'current');
});

test('the documentation shows what is written', (t) => {
  const document = readFileSync(path.join(import.meta.dirname, '..', '..', 'docs', 'agents.md'), 'utf8');
  const shown = [...document.matchAll(/^```(?:json|toml)\n([\s\S]*?)^```/gm)].map(([, block]) => block!);
  const { installation, read } = newPlace(t);
  const written = EXPORTING_AGENTS.map((agent) => {
    installAgent(agent, installation);
    return read(agent).replace(/^#.*\n/, '');
  });
  assert.deepEqual(shown, written);
});
