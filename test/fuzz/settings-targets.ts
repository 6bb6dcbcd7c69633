// Settings files of agents, as editors and accidents may leave them: what can be set in them can be taken out to the byte.

import assert from 'node:assert/strict';
import { jsonSettings } from '../../src/commands/json-settings.ts';
import type { SettingsFormat } from '../../src/commands/settings-format.ts';
import { TOML_SETTINGS } from '../../src/commands/toml-settings.ts';
import { likeText } from './inputs.ts';
import type { FuzzTarget } from './targets.ts';

const JSON_FILES = [
  '{\n  "env": {\n    "a": "http://x", // c\n    "b": [1, { "c": 2 }]\n  } /* d */\n}\n',
  '\uFEFF{\r\n\t"x": { "y": "\\"}" },\r\n\t"env": {}\r\n}',
  '{"a":1,"env":{"b":null}}',
];
const TOML_FILES = [
  'a = 1\n[otel]\nx = """\n[y]\n""" # c\nl = [ # ]\n 1, "]"\n]\n[[z]]\nb = { c = \'}\' }\n',
  "[\"otel\"]\r\nq = '''\r\n'''\r\n[otel.trace_exporter.x]\r\ny=1",
  "# c\n\n[ a . 'b' ]\nx.y = 1979-05-27\n",
];

/** @param share of both together */
export function settingsTargets(share: number): FuzzTarget[] {
  const read = (format: SettingsFormat, section: string, value: unknown) => (bytes: Buffer) => {
    const text = bytes.toString('utf8');
    const before = format.read(text, section);
    if (!before || before.obstacle !== undefined || text.trim() === '' || before.values.has('toll')) return;
    const stood = format.stood(text, section);
    const next = format.set(text, section, new Map([['toll', value]]));
    assert.deepEqual(format.read(next, section)?.values, new Map([...before.values, ['toll', value]]));
    assert.equal(format.remove(next, section, ['toll'], stood), text);
  };
  const json = jsonSettings('JSON', { hasComments: true, hasMark: true });
  return [
    { name: 'settings in JSON', share: share / 2, inputs: likeText(JSON_FILES), read: read(json, 'env', 'http://x') },
    {
      name: 'settings in TOML',
      share: share / 2,
      inputs: likeText(TOML_FILES),
      read: read(TOML_SETTINGS, 'otel', '1'),
    },
  ];
}
