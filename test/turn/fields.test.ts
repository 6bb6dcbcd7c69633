import assert from 'node:assert/strict';
import test from 'node:test';
import {
  id,
  mcpServerOf,
  model,
  name,
  optionalServerName,
  provider,
  readLabel,
  toolName,
  unixMs,
} from '../../src/turn/fields.ts';
import { projectName } from '../../src/turn/project-name.ts';

const TIMES: [unknown, string][] = [
  [1795293928, '2026-11-21T20:45:28Z'],
  [1795293928466, '2026-11-21T20:45:28.466Z'],
  [1795293928466.4, '2026-11-21T20:45:28.466Z'],
  [1795293928466123, '2026-11-21T20:45:28.466Z'],
  ['1795293928466', '2026-11-21T20:45:28.466Z'],
  ['2026-11-21', '2026-11-21T00:00:00Z'],
  ['2026-11-21 20:45:28', '2026-11-21T20:45:28Z'],
  ['2026-11-21T20:45', '2026-11-21T20:45:00Z'],
  ['2026-11-21T20:45:28.466123456Z', '2026-11-21T20:45:28.466Z'],
  ['2026-11-21t20:45:28z', '2026-11-21T20:45:28Z'],
  ['2026-11-21T20:45:28-0130', '2026-11-21T22:15:28Z'],
  ['2026-11-21T20:45:28+01:00', '2026-11-21T19:45:28Z'],
];
for (const [stated, means] of TIMES) {
  test(`time ${stated} → ${means}`, () => assert.equal(unixMs.parse(stated), Date.parse(means)));
}

for (const stated of [
  0,
  -1,
  17,
  1e20,
  '',
  'now',
  '2019-12-31',
  '2100-01-02',
  '2026-13-01',
  '21.11.2026',
  '2026-11-21T25:00',
  true,
  {},
  null,
  undefined,
]) {
  test(`no time: ${JSON.stringify(stated)}`, () => assert.equal(unixMs.safeParse(stated).success, false));
}

test('no name turns the reading direction of what stands after it', () => {
  const turning = [0x61c, 0x200e, 0x200f, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069];
  for (const point of turning) {
    const char = String.fromCodePoint(point);
    for (const field of [name, model]) {
      assert.equal(field.parse(`${char}shop${char}.2`), 'shop.2');
      assert.equal(field.safeParse(char).success, false, 'nothing else is no name');
    }
    assert.equal(projectName(`/home/ana/${char}shop`), 'shop');
  }
  assert.equal(name.parse('👩‍💻 مشروع'), '👩‍💻 مشروع', 'what is read from right to left by itself stays');
});

test('the server in the name of an MCP tool', () => {
  const servers = ['mcp__github__list', 'mcp__a_b__c__d', 'mcp__x__', 'mcp____x', 'bash', 'my_mcp__a__b'].map(
    mcpServerOf,
  );
  assert.deepEqual(servers, ['github', 'a_b', undefined, undefined, undefined, undefined]);
});

test('of an id that is a path, an address or a key only a digest is kept, and the same one each time', () => {
  const telling = [
    '/home/alice/s.jsonl',
    '~/s',
    'C:\\Users\\alice',
    'file:///a',
    'https://alice:secret@example.com/x',
    'alice@example.com',
    'sk-ant-api03-ab',
  ];
  const kept = telling.map((stated) => id.parse(stated));
  for (const digest of kept) assert.match(digest, /^[0-9a-f]{32}$/);
  assert.equal(new Set(kept).size, telling.length);
  assert.deepEqual(
    kept.map((digest) => id.parse(digest)),
    telling.map((stated) => id.parse(stated)),
  );
  for (const plain of ['ses_1', 'msg@2', '2026/11/27', 'a/b', 'task-sk-1']) assert.equal(id.parse(plain), plain);
  for (const none of ['', '/home/alice/a b', '/x\n', `/${'x'.repeat(200)}`, 7]) assert.ok(!id.safeParse(none).success);
});

test('paths, addresses and keys become no labels', () => {
  for (const tool of ['/usr/bin/x', 'C:/Users/alice/x', 'sk-ant-api03-abcdefgh'])
    assert.ok(!toolName.safeParse(tool).success, tool);
  for (const stated of ['/home/alice/x', 'sk-ant-abcdef', '~x']) assert.ok(!provider.safeParse(stated).success, stated);
  for (const stated of ['sk-ant-api03-abcdefgh', 'alice@example.com', ' alice.b@mail.example.com '])
    assert.ok(!model.safeParse(stated).success, stated);
  for (const stated of ['claude-sonnet-4-5@20250929', '@cf/meta/llama-3.1', 'host@example.com/llama', 'gpt-4@latest'])
    assert.equal(model.parse(stated), stated);
  assert.deepEqual(['sk-ant-api03-abcdefgh', 'alice@example.com', 'sk-1', 'core'].map(readLabel), [
    undefined,
    undefined,
    'sk-1',
    'core',
  ]);
  assert.deepEqual(
    ['/a/sk-ant-api03-abcdefgh', 'SK-0123456789', '/a/sk-1'].map((path) => projectName(path)),
    [undefined, undefined, 'sk-1'],
  );
  const models = ['home/alice/llama.gguf', '/srv/m.safetensors', 'anthropic/claude-sonnet-4', 'sk-1'];
  assert.deepEqual(
    models.map((stated) => model.parse(stated)),
    ['llama.gguf', 'm.safetensors', 'anthropic/claude-sonnet-4', 'sk-1'],
  );
  for (const server of ['/home/alice/mcp', 'a@b.com', 'sk-ant-abcdef', 7, undefined]) {
    assert.equal(optionalServerName.parse(server), undefined);
  }
  assert.equal(optionalServerName.parse('github'), 'github');
  assert.equal(mcpServerOf('mcp__sk-ant-abcdef__list'), undefined);
});
