import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import fc from 'fast-check';
import { type Decoded, decodeBody, decodeHook, decodeRecord, HOOK_AGENTS } from '../../src/turn/normalize.ts';
import { IGNORED_KINDS, REJECT_REASONS, type StatedEvent } from '../../src/turn/turn-event.ts';

const FOLDER = path.join(import.meta.dirname, '../fixtures/opencode');
/** One captured body of every shape, by the types and states within; the longest of each. */
const BODIES: string[] = [
  ...new Map(
    readdirSync(FOLDER)
      .filter((file) => file.endsWith('.jsonl'))
      .flatMap((file) => readFileSync(path.join(FOLDER, file), 'utf8').trim().split('\n'))
      .map((line) => (JSON.parse(line) as { body: string }).body)
      .sort((a, b) => a.length - b.length)
      .map((body) => [(body.match(/"(type|hook|role|status|finish|name)":"[^"]*"/g) ?? []).join(), body]),
  ).values(),
];

const session = (id: string) => ({ v: 1, kind: 'session', agent: 'a', id: { session: id } });
const line = (id: string) => JSON.stringify(session(id));
const decodedSession = (sessionId: string): Decoded => ({
  type: 'event',
  event: { kind: 'session', agent: 'a', sessionId },
});
/** What a body becomes, in short: session ids, or reasons of rejection. */
const short = (body: string | Buffer) =>
  decodeBody(Buffer.from(body)).map(({ index, decoded }) => {
    const what =
      decoded.type === 'rejected' ? decoded.reason : decoded.type === 'event' ? decoded.event.sessionId : decoded.type;
    return `${index} ${what}`;
  });

test('hooks of all agents and of no other', () => {
  for (const agent of HOOK_AGENTS) assert.notEqual(decodeHook(agent, {}, {})[0]?.type, 'rejected');
  assert.notEqual(decodeHook(' OpenCode ', {}, {})[0]?.type, 'rejected');
  for (const agent of ['', 'cursor', '__proto__', 'constructor']) {
    const [decoded] = decodeHook(agent, {}, {});
    assert.equal(decoded?.type === 'rejected' && decoded.reason, 'unknown_agent', agent);
  }
});

const PLACES: [string, string | Buffer, string[]][] = [
  ['one value', line('s0'), ['0 s0']],
  ['one value over several lines', JSON.stringify(session('s0'), null, 2), ['0 s0']],
  ['an array', `[${line('s0')},${line('s1')}]`, ['0 s0', '1 s1']],
  ['an array with a bad record', `[${line('s0')},7,${line('s2')}]`, ['0 s0', '1 wrong_type', '2 s2']],
  ['an empty array', '[]', []],
  ['lines', `${line('s0')}\n${line('s1')}`, ['0 s0', '1 s1']],
  [
    'lines with CRLF, blank ones between and a last line feed',
    `\n${line('s0')}\r\n \n\n${line('s1')}\r\n`,
    ['0 s0', '1 s1'],
  ],
  ['a bad line is rejected alone', `${line('s0')}\n{"v":1,"kind\n${line('s2')}`, ['0 s0', '1 invalid_json', '2 s2']],
  ['a bad first line', `nonsense\n${line('s1')}`, ['0 invalid_json', '1 s1']],
  ['a cut last line', `${line('s0')}\n${line('s1').slice(0, -4)}`, ['0 s0', '1 invalid_json']],
  ['a line that is a list', `${line('s0')}\n[]`, ['0 s0', '1 wrong_type']],
  ['a byte order mark', `\ufeff${line('s0')}`, ['0 s0']],
  [
    'a line in a broken encoding is rejected alone',
    Buffer.concat([Buffer.from(`${line('s0')}\n{"x":"`), Buffer.from([0xff, 0xfe]), Buffer.from(`"}\n${line('s2')}`)]),
    ['0 s0', '1 invalid_json', '2 s2'],
  ],
  ['nothing', '', []],
  ['blanks', ' \n\t\r\n', []],
  ['a text', '"hello"', ['0 wrong_type']],
  ['null', 'null', ['0 wrong_type']],
  ['nonsense', 'nonsense', ['0 invalid_json']],
  ['a bomb of brackets', '['.repeat(200_000), ['0 invalid_json']],
  ['deep nesting', `${'['.repeat(100_000)}${']'.repeat(100_000)}`, ['0 wrong_type']],
  [
    'one record that gives two results',
    JSON.stringify({
      source: 'codex',
      payload: {
        session_id: 's0',
        message_id: 'm',
        model: 'x',
        timestamp: 1795293926721,
        usage: { input_tokens: 1 },
        tool_name: 'shell',
        call_id: 'c',
      },
    }),
    ['0 s0', '0 s0'],
  ],
];
for (const [what, body, expected] of PLACES) {
  test(`body: ${what}`, () => assert.deepEqual(short(body), expected));
}

const TOO_MANY = [
  {
    index: 0,
    decoded: { type: 'rejected', reason: 'too_large', detail: 'a body may hold 10,000 records; send fewer' },
  },
];
for (const [what, bodyOf] of [
  ['bad lines', (records: number) => 'x\n'.repeat(records)],
  ['bad lines with blanks between', (records: number) => 'x\n\n'.repeat(records)],
  ['good lines', (records: number) => `${line('s')}\n`.repeat(records)],
  ['an array', (records: number) => `[${Array(records).fill(line('s'))}]`],
] as const) {
  test(`10,000 records are a body, one more is too many: ${what}`, () => {
    assert.equal(decodeBody(Buffer.from(bodyOf(10_000))).length, 10_000);
    assert.deepEqual(decodeBody(Buffer.from(bodyOf(10_001))), TOO_MANY);
  });
}

test('of millions of lines none is decoded', (t) => {
  const parse = t.mock.method(JSON, 'parse');
  assert.deepEqual(decodeBody(Buffer.from('x\n'.repeat(2 * 1024 * 1024))), TOO_MANY);
  assert.equal(parse.mock.callCount(), 2, 'its first line and the body as a whole were tried, and nothing else');
  assert.deepEqual(decodeBody(Buffer.from('\n'.repeat(4 * 1024 * 1024))), []);
});

test('whole lines keep their own meaning beside bad ones', () => {
  assert.deepEqual(decodeBody(Buffer.from(`x\n${line('s1')}`))[1], { index: 1, decoded: decodedSession('s1') });
});

test('a message about bad JSON never quotes it', () => {
  for (const body of ['{"password": "hunter2"', 'hunter2', '{"a":1} hunter2\n{"hunter2"']) {
    assert.doesNotMatch(JSON.stringify(decodeBody(Buffer.from(body))), /hunter2/);
  }
});

const ID = /^[\x21-\x7e]{1,200}$/;
const isTime = (ms: unknown) =>
  ms === undefined || (Number.isInteger(ms) && (ms as number) >= Date.UTC(2020) && (ms as number) <= Date.UTC(2100));

/** Everything that the ledger may rely on, whatever came in. */
function assertNormal(event: StatedEvent): void {
  assert.match(event.sessionId, ID);
  assert.match(event.agent, /^[a-z][a-z0-9_-]{0,31}$/);
  for (const [key, value] of Object.entries(event))
    assert.notEqual(value, undefined, `${key} is absent or has a value`);
  if (event.kind === 'turn') {
    assert.match(event.messageId, ID);
    assert.match(event.provider, /^[a-z0-9._/-]{1,64}$/);
    assert.ok(event.model.length >= 1 && event.model.length <= 128);
    assert.equal('reason' in event, event.status === 'error');
    for (const count of [...Object.values(event.tokens), event.costNano ?? 0])
      assert.ok(Number.isSafeInteger(count) && count >= 0 && !Object.is(count, -0));
    assert.ok(
      isTime(event.startedMs) && isTime(event.completedMs) && (event.completedMs ?? event.startedMs) >= event.startedMs,
    );
  }
  if (event.kind === 'tool') assert.ok(ID.test(event.callId) && isTime(event.startedMs) && isTime(event.completedMs));
  if (event.kind !== 'permission' && event.kind !== 'error')
    assert.ok(!event.project || (event.project.length <= 128 && !/[\\/]/.test(event.project)));
}

function assertDecoded(decoded: Decoded[]): void {
  assert.ok(decoded.length > 0);
  for (const one of decoded) {
    if (one.type === 'ignored') assert.ok(IGNORED_KINDS.includes(one.kind));
    if (one.type === 'rejected') assert.ok(REJECT_REASONS.includes(one.reason));
    if (one.type === 'event') assertNormal(one.event);
  }
}
const assertBody = (body: Buffer) => {
  for (const { index, decoded } of decodeBody(body)) {
    assert.ok(index >= 0);
    assertDecoded([decoded]);
  }
};

test('nothing makes decoding throw: any JSON, any value, any bytes', () => {
  fc.assert(fc.property(fc.json(), (json) => assertBody(Buffer.from(json))));
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => assertBody(Buffer.from(bytes))));
  fc.assert(
    fc.property(fc.anything({ withBigInt: true, withNullPrototype: true, withDate: true, withMap: true }), (value) =>
      assertDecoded(decodeRecord(value)),
    ),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...HOOK_AGENTS, 'other'),
      fc.anything({ withNullPrototype: true }),
      (agent, payload) => {
        assertDecoded(decodeHook(agent, payload, {}));
        assertDecoded(
          decodeHook(agent, { event: payload, usage: payload, session_id: payload, message_id: payload }, {}),
        );
      },
    ),
  );
});

test('nothing makes decoding throw: captured bodies with bytes changed, cut out and put in', () => {
  const edit = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    cut: fc.nat(20),
    put: fc.uint8Array({ maxLength: 5 }),
  });
  fc.assert(
    fc.property(fc.constantFrom(...BODIES), fc.array(edit, { minLength: 1, maxLength: 4 }), (body, edits) => {
      let bytes = Buffer.from(body);
      for (const { at, cut, put } of edits) {
        const place = Math.floor(at * bytes.length);
        bytes = Buffer.concat([bytes.subarray(0, place), put, bytes.subarray(place + cut)]);
      }
      assertBody(Buffer.concat([Buffer.from('{"source":"opencode","payload":'), bytes, Buffer.from('}')]));
      assertBody(bytes);
    }),
    { numRuns: 1000 },
  );
});

/** A copy in which `change` replaces the leaves, told their path. */
function mapLeaves(value: unknown, change: (leaf: unknown, path: string[]) => unknown, at: string[] = []): unknown {
  if (Array.isArray(value)) return value.map((one, index) => mapLeaves(one, change, [...at, String(index)]));
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, mapLeaves(one, change, [...at, key])]));
  return change(value, at);
}

test('nothing makes decoding throw: captured bodies with fields replaced by hostile values', () => {
  const hostile = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom(-1, 1.5, 1e300, -0, '', ' ', '1e9', '__proto__', 'x'.repeat(5000), '\ud800', null, [], {}),
    fc.date({ noInvalidDate: false }).map(String),
  );
  fc.assert(
    fc.property(fc.constantFrom(...BODIES), hostile, fc.nat(), (body, value, seed) => {
      let leaf = 0;
      const payload = mapLeaves(JSON.parse(body), (old) => ((leaf++ * 7 + seed) % 11 === 0 ? value : old));
      assertDecoded(decodeHook('opencode', payload, {}));
    }),
    { numRuns: 1000 },
  );
});

// Not a valid value of any field (blanks, a line break), so that it must not come through anywhere.
const MARKER = 'SECRET prompt\ntext';
/** Fields whose value is an id or a name that the normal form keeps, or decides what the message is. */
const KEPT =
  /^(id|sessionID|messageID|callID|parentID|requestID|providerID|modelID|tool|type|hook|role|status|finish)$/;
const PATHS = /^(root|cwd|directory)$/;

test('no text of a payload comes through, and the numbers do', () => {
  let turns = 0;
  for (const body of BODIES) {
    const payload = JSON.parse(body);
    const planted = mapLeaves(payload, (leaf, at) => {
      if (typeof leaf !== 'string' || KEPT.test(at.at(-1)!)) return leaf;
      return PATHS.test(at.at(-1)!) ? `/home/${MARKER}/shop` : MARKER;
    });
    const decoded = decodeHook('opencode', planted, {});
    assert.doesNotMatch(JSON.stringify(decoded), /SECRET/);
    const strip = (one: Decoded) =>
      one.type === 'event' && one.event.kind === 'turn'
        ? { ...one.event, reason: undefined, status: undefined }
        : one.type;
    assert.deepEqual(decoded.map(strip), decodeHook('opencode', payload, {}).map(strip));
    turns += decoded.filter((one) => one.type === 'event' && one.event.kind === 'turn').length;
  }
  assert.ok(turns > 0);
});

test('no text comes through whichever field it stands in, rejections included', () => {
  fc.assert(
    fc.property(fc.constantFrom(...BODIES), fc.nat(), fc.nat(6), (body, seed, every) => {
      let leaf = 0;
      const planted = mapLeaves(JSON.parse(body), (old) => ((leaf++ + seed) % (every + 1) === 0 ? MARKER : old));
      assert.doesNotMatch(JSON.stringify(decodeHook('opencode', planted, { accountId: 'a' })), /SECRET/);
      assert.doesNotMatch(JSON.stringify(decodeHook('claude_code', planted, {})), /SECRET/);
    }),
    { numRuns: 1000 },
  );
  const texts = {
    tool_input: { name: MARKER, text: MARKER },
    tool_response: MARKER,
    prompt: MARKER,
    'last-assistant-message': MARKER,
    transcript_path: MARKER,
    cwd: `/${MARKER}/shop`,
  };
  const usage = { input_tokens: 5, output_tokens: 5, note: MARKER };
  const hook = {
    hook_event_name: 'PostToolUse',
    session_id: 's',
    message_id: 'm',
    model: 'x',
    timestamp: 1795293926721,
    tool_name: 'Bash',
    tool_use_id: 't',
    ...texts,
  };
  for (const agent of ['claude_code', 'codex']) {
    for (const payload of [
      hook,
      { ...hook, usage },
      { ...hook, tool_name: MARKER },
      { ...hook, model: MARKER, usage },
      { ...hook, session_id: MARKER },
      { ...hook, timestamp: MARKER, usage: { ...usage, input_tokens: MARKER } },
    ]) {
      assert.doesNotMatch(JSON.stringify(decodeHook(agent, payload, {})), /SECRET/);
    }
  }
  const record = {
    v: 1,
    kind: 'turn',
    agent: 'a',
    id: { session: 's', message: 'm' },
    time: { started: 1795293926721 },
    provider: 'p',
    model: 'm',
    status: 'error',
    project: 'x',
    tokens: { input: 1 },
    cost_usd: 1,
    prompt: MARKER,
  };
  let leaves = 0;
  mapLeaves(record, () => leaves++);
  for (let planted = 0; planted < leaves; planted++) {
    let leaf = 0;
    const changed = mapLeaves({ ...record, reason: MARKER }, (old) => (leaf++ === planted ? MARKER : old));
    assert.doesNotMatch(JSON.stringify(decodeRecord(changed)), /SECRET/);
  }
});

test('the marker would be seen: a name that is kept does come through', () => {
  const [decoded] = decodeRecord({ v: 1, kind: 'session', agent: 'a', id: { session: 'SECRET' } });
  assert.match(JSON.stringify(decoded), /SECRET/);
});
