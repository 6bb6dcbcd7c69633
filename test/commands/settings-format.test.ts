// Settings as text: what is set can be read, nothing else changes, and taking it out again undoes it to the byte.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { jsonSettings } from '../../src/commands/json-settings.ts';
import type { SettingsFormat } from '../../src/commands/settings-format.ts';
import { TOML_SETTINGS } from '../../src/commands/toml-settings.ts';
import { randomFrom } from '../composed-stream.ts';

const DOCUMENTS = 3000;
const JSON_SETTINGS = jsonSettings('JSON', { hasComments: true, hasMark: true });
const PLAIN_JSON = jsonSettings('JSON', { hasComments: false, hasMark: false });

const JSON_VALUES = new Map<string, unknown>([
  ['ON', '1'],
  ['ENDPOINT', 'http://127.0.0.1:4318'],
  ['own', true],
]);
const TOML_VALUES = new Map<string, unknown>([
  ['exporter', '{ otlp-http = { endpoint = "http://127.0.0.1:4318/v1/logs" } }'],
  ['own', 'false'],
]);

/** @returns the text with the values, after all of what must hold was looked at */
function roundTrip(
  { read, stood, set, remove }: SettingsFormat,
  { text, section, values }: { text: string; section: string; values: ReadonlyMap<string, unknown> },
): string {
  const before = read(text, section);
  assert.ok(before && before.obstacle === undefined, text);
  const fresh = new Map([...values].filter(([key]) => !before.values.has(key)));
  const installed = set(text, section, fresh);
  assert.deepEqual(read(installed, section)?.values, new Map([...before.values, ...fresh]), installed);
  assert.equal(remove(installed, section, fresh.keys(), stood(text, section)), text);
  const renewed = set(installed, section, new Map([...fresh.keys()].map((key) => [key, values.get('own')])));
  assert.equal(renewed.split('\n').length, installed.split('\n').length, 'a value is renewed in its place');
  assert.equal(remove(renewed, section, fresh.keys(), stood(text, section)), text);
  return installed;
}

const JSON_TEXTS = [
  '{}',
  '{}\n',
  '{ }',
  '\uFEFF{}',
  '{\n}\n',
  '{\n\n  }\r\n',
  '\uFEFF{\r\n\t"a": 1\r\n}',
  '{"a":1}',
  '{"a":1,"env":{}}',
  '{ "a": 1, "env": { "b": 2 } }\n',
  '{\n    "env": { },\n    "n": 12345678901234567890, "x": 1.0e0\n}\n',
  '{\n  "env": {\n    "a": "http://x" // why\n    /* and */\n  }\n  // end\n}\n',
  '{\n  "env": {\n    "a": [1, {"b": 2}] // why\n  }\n}\n',
  '{ // only a comment\n}',
  '{ /* only a comment */ }',
  '{ // blanks of other kinds \u2029\u00a0 \r\n}',
  '// head\n{\n  "a": "\\"}{", "__proto__": {"x": 1}\n}\n// tail',
  '{"env":{"a":1// c\n}}',
];
const TOML_TEXTS = [
  '',
  'a = 1',
  'a = 1\n',
  'a = 1\r\n\r\n[x]\r\nb = 2\r\n',
  '\uFEFFa = 1\n',
  '[otel]',
  '[otel]\n# only a comment\n\n[x]\ny = 1\n',
  '["otel"] # mine\nenvironment = "dev" # mine, too\n\n[x]\ny = 1\n',
  "[ 'otel' ]\nenvironment = 'dev'",
  '[otel.trace_exporter.otlp-http]\nendpoint = "x"\n',
  'text = """\n[otel]\nexporter = 1 \\""" \n"""\nlist = [ # ]\n  "]",\n  [1, 2],\n]\n[[x]]\na = { b = "}", c = \'\'\'\n=\'\'\' }\n',
  '# a comment\n\n\n',
];
for (const text of JSON_TEXTS) {
  test(`JSON stays as it is: ${JSON.stringify(text)}`, () => {
    roundTrip(JSON_SETTINGS, { text, section: 'env', values: JSON_VALUES });
  });
}
for (const text of TOML_TEXTS) {
  test(`TOML stays as it is: ${JSON.stringify(text)}`, () => {
    roundTrip(TOML_SETTINGS, { text, section: 'otel', values: TOML_VALUES });
  });
}

describe('of many made-up files', () => {
  const random = randomFrom(1);
  const one = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)]!;
  const some = (most: number, make: () => string) => Array.from({ length: Math.floor(random() * (most + 1)) }, make);

  const blank = () => one(['', '', ' ', '\n', '\n  ', '\r\n\t', ' // c\n', ' /* "c": { // */ ', ' /* c\n */\n ']);
  const name = () => JSON.stringify(one(['env', 'ON', 'a', 'b c', '', 'é"', '//', '}']) + (random() < 0.5 ? '' : '2'));
  const jsonValue = (depth: number): string => {
    const kind = depth > 3 ? 0 : random();
    if (kind < 0.5) return one(['1', '-0.50', '12345678901234567890', '"http://x"', '"\\\\"', 'null', 'true']);
    return kind < 0.65 ? list('[', ']', () => jsonValue(depth + 1)) : object(depth + 1);
  };
  const list = (open: string, close: string, item: () => string) => {
    const items = some(3, () => `${blank()}${item()}${blank()}`);
    return `${open}${items.join(',')}${blank()}${close}`;
  };
  const object = (depth: number): string => list('{', '}', () => `${name()}${blank()}:${blank()}${jsonValue(depth)}`);

  test('JSON', () => {
    let tried = 0;
    for (let n = 0; n < DOCUMENTS; n++) {
      const text = `${blank()}${object(0)}${blank()}`;
      const section = JSON_SETTINGS.read(text, 'env');
      assert.ok(section, text);
      if (section.obstacle !== undefined) continue;
      tried++;
      roundTrip(JSON_SETTINGS, { text, section: 'env', values: JSON_VALUES });
    }
    assert.ok(tried > DOCUMENTS / 3);
  });

  const tomlValue = () =>
    one(['1', '"a # b"', "'[otel]'", '"""\n[otel]\n"""', '[\n 1, # ]\n 2\n]', '{ a = "}" }', '1979-05-27T07:32:00Z']);
  const eol = () => one(['\n', '\n', '\r\n', '\n\n']);
  const line = () =>
    one([
      () => `# [otel]${eol()}`,
      () => eol(),
      () => ` ${one(['a', '"b c"', "'d.e'", 'f.g', 'exporter2'])} = ${tomlValue()}${one(['', ' # c'])}${eol()}`,
    ])();
  const table = () =>
    `${one(['[x]', '[x.otel]', '[[y]]', '[ "z" . \'otel\' ] # c', '[otel.deep]'])}${eol()}${some(3, line).join('')}`;

  test('TOML', () => {
    for (let n = 0; n < DOCUMENTS; n++) {
      const own = one(['', '[otel]\n', `["otel"]\n${some(3, line).join('')}`]);
      const tables = [...some(2, table), own, ...some(2, table)];
      const whole = some(3, line).join('') + tables.join('');
      const text = one([whole, whole.trimEnd()]);
      roundTrip(TOML_SETTINGS, { text, section: 'otel', values: TOML_VALUES });
    }
  });
});

for (const text of [
  '',
  '[]',
  '1',
  '{"a":',
  '{a: 1}',
  "{'a': 1}",
  '{"a":1 "b":2}',
  '{,}',
  '{"a":1}x',
  '{"a":01e}',
  '{"a":1,}',
  '{"a":[1,]}',
  '{"a":[1 2]}',
]) {
  test(`no JSON object: ${JSON.stringify(text)}`, () => assert.equal(JSON_SETTINGS.read(text, 'env'), undefined));
}
for (const text of ['{} // c', '{/* c */}', '\uFEFF{}']) {
  test(`no JSON for an agent that takes nothing beside it: ${JSON.stringify(text)}`, () => {
    assert.equal(PLAIN_JSON.read(text, 'env'), undefined);
    assert.ok(JSON_SETTINGS.read(text, 'env'));
  });
}
for (const text of ['a\r', '#\r', 'a', 'a =', '[a', 'a = """', '= 1', '[a]]', 'a = [1', 'a = 1 b = "', '{}']) {
  test(`no TOML: ${JSON.stringify(text)}`, () => assert.equal(TOML_SETTINGS.read(text, 'otel'), undefined));
}
for (const text of ['{"env":null}', '{"env":"x"}', '{"env":[]}']) {
  test(`nothing can be set in ${text}`, () => assert.equal(JSON_SETTINGS.read(text, 'env')?.obstacle, 'env'));
}
for (const text of ['otel = {}', 'otel.a = 1', '[[otel]]']) {
  test(`nothing can be set in ${text}`, () => assert.ok(TOML_SETTINGS.read(text, 'otel')?.obstacle));
}

test('JSON that is nested as deep as nobody nests is refused, not a crash', () => {
  assert.equal(JSON_SETTINGS.read(`${'{"a":'.repeat(100_000)}1`, 'env'), undefined);
});

test('what came behind what was set stays when that is taken out', () => {
  const json = roundTrip(JSON_SETTINGS, { text: '{\n  "a": 1\n}\n', section: 'env', values: JSON_VALUES });
  const later = JSON_SETTINGS.set(json, 'other', new Map([['b', 2]]));
  assert.equal(
    JSON_SETTINGS.remove(later, 'env', JSON_VALUES.keys(), { section: null }),
    '{\n  "a": 1,\n  "other": {\n    "b": 2\n  }\n}\n',
  );
  const toml = roundTrip(TOML_SETTINGS, { text: 'a = 1', section: 'otel', values: TOML_VALUES });
  assert.equal(
    TOML_SETTINGS.remove(`${toml}environment = "dev"\n[x]\n`, 'otel', TOML_VALUES.keys(), { section: null }),
    'a = 1\n[otel]\nenvironment = "dev"\n[x]\n',
  );
  assert.equal(TOML_SETTINGS.remove(`${toml}[x]\n`, 'otel', TOML_VALUES.keys(), { section: null }), 'a = 1\n[x]\n');
});
