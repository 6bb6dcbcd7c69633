// Bodies that were made to hurt: each is refused or passed over, counted, quickly, and the next sender is served.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  CANARY,
  countedBy,
  inJson,
  inProtobuf,
  type Posted,
  recordings,
  send,
  startOtlp,
  zipped,
} from './otlp-fixture.ts';

const SIMPLE = recordings('cc-simple')[0]!.posts.find((post) => post.path === '/v1/logs')!.body;
const good = inJson('/v1/logs', SIMPLE);
const MIB = 1024 * 1024;
const BODY_MAX_BYTES = 16 * MIB;
/** On the slowest machine; a body that is parsed naively takes longer by far. */
const QUICK_MS = 4000;

const raw = (bytes: Buffer | string, type = 'application/json'): Posted => ({
  path: '/v1/logs',
  bytes,
  headers: { 'content-type': type },
});
const PROTOBUF = 'application/x-protobuf';

/** A protobuf message in a field of another. */
function field(number: number, content: Buffer): Buffer {
  const head = [(number << 3) | 2];
  let length = content.length;
  for (; length > 127; length >>>= 7) head.push((length & 127) | 128);
  return Buffer.concat([Buffer.from([...head, length]), content]);
}
const filled = (bytes: number, pattern: number[]) => Buffer.alloc(bytes, Buffer.from(pattern));

type Attribute = { key: string; value: unknown };
const scope = { name: 'com.anthropic.claude_code.events' };
const record = (attributes: unknown, fields: object = {}) => ({
  resourceLogs: [
    { scopeLogs: [{ scope, logRecords: [{ timeUnixNano: '1795296289224000000', attributes, ...fields }] }] },
  ],
});
const call = (changes: Readonly<Record<string, unknown>> = {}): Attribute[] =>
  Object.entries({
    'event.name': { stringValue: 'api_request' },
    'session.id': { stringValue: 's1' },
    request_id: { stringValue: 'req_1' },
    model: { stringValue: 'claude-opus-5-5' },
    input_tokens: { intValue: 1 },
    output_tokens: { intValue: '2' },
    ...changes,
  }).map(([key, value]) => ({ key, value }));

const nested = (depth: number) => '{"arrayValue":{"values":['.repeat(depth) + ']}}'.repeat(depth);
const many = Array.from({ length: 1e5 }, (_, n) => ({ key: `key${n}`, value: { stringValue: CANARY } }));

describe('refused whole', () => {
  const BOMBS: Readonly<Record<string, { post: Posted; status: number }>> = {
    'lists in lists in JSON': { post: raw('['.repeat(8 * MIB - 10)), status: 413 },
    'values in values in JSON': {
      post: raw(`{"resourceLogs":[{"resource":{"attributes":[{"key":"a","value":${nested(20_000)}}]}}]}`),
      status: 413,
    },
    'millions of empty objects': { post: raw(`{"resourceLogs":[${'{},'.repeat(5e6)}{}]}`), status: 413 },
    'a packed body that grows to a gigabyte': {
      post: { ...zipped(raw(Buffer.alloc(BODY_MAX_BYTES + 1, ' '))), bytes: gzipSync(Buffer.alloc(256 * MIB, ' ')) },
      status: 413,
    },
    'a body beyond the limit': { post: raw(Buffer.alloc(BODY_MAX_BYTES + 1, ' ')), status: 413 },
    'more records than anybody exports': {
      post: raw(field(1, field(2, filled(400_000, [0x12, 0]))), PROTOBUF),
      status: 413,
    },
    'a length beyond the end': { post: raw(Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x07]), PROTOBUF), status: 400 },
    'a field that reaches beyond its message': {
      post: raw(field(1, Buffer.from([0x12, 0x05, 0x00])), PROTOBUF),
      status: 400,
    },
    'groups in groups': { post: raw(filled(1e6, [0x0b]), PROTOBUF), status: 400 },
    'a number without end': { post: raw(filled(1e6, [0xff]), PROTOBUF), status: 400 },
  };
  for (const [what, { post, status }] of Object.entries(BOMBS)) {
    it(what, async (t) => {
      const { url, meter, ledger } = await startOtlp(t);
      const sinceMs = performance.now();
      const answer = await send(url, post);
      const tookMs = performance.now() - sinceMs;
      assert.equal(answer.status, status, answer.bytes.toString().slice(0, 200));
      assert.ok(tookMs < QUICK_MS, `${Math.round(tookMs)} ms`);
      assert.equal(meter.of('otlp').rejected, 1);
      meter.assertConserved('otlp');
      assert.equal((await send(url, good)).status, 200);
      assert.equal(countedBy(ledger).turns, 1, 'the next sender is served');
    });
  }
});

describe('passed over where it stands', () => {
  const BALLAST: Readonly<Record<string, Posted>> = {
    'a hundred thousand attributes in JSON': inJson('/v1/logs', record([...many, ...call()])),
    'a hundred thousand attributes in protobuf': inProtobuf('/v1/logs', record([...many, ...call()])),
    'millions of empty attributes': raw(
      Buffer.concat([
        field(1, field(2, field(2, filled(15 * MIB, [0x32, 0])))),
        inProtobuf('/v1/logs', record(call())).bytes as Buffer,
      ]),
      PROTOBUF,
    ),
    'a body of megabytes': inJson('/v1/logs', record(call(), { body: { stringValue: CANARY.repeat(2e6) } })),
    'values deep in each other in protobuf': raw(
      Buffer.concat([inProtobuf('/v1/logs', record(call())).bytes as Buffer, field(1, field(1, field(1, deep(5000))))]),
      PROTOBUF,
    ),
    'attributes that are none': inJson('/v1/logs', record([null, 5, [], 'x', { key: 5 }, { key: 'model' }, ...call()])),
    'a name of the prototype': inJson(
      '/v1/logs',
      record([{ key: '__proto__', value: { stringValue: 'x' } }, { key: 'constructor', value: {} }, ...call()]),
    ),
  };
  for (const [what, post] of Object.entries(BALLAST)) {
    it(what, async (t) => {
      const { url, meter, ledger, lines } = await startOtlp(t);
      const sinceMs = performance.now();
      const { status, bytes } = await send(url, post);
      const tookMs = performance.now() - sinceMs;
      assert.equal(status, 200, bytes.toString());
      assert.ok(tookMs < QUICK_MS, `${Math.round(tookMs)} ms`);
      assert.equal(countedBy(ledger).turns, 1);
      meter.assertConserved('otlp');
      assert.ok(!lines.join('').includes(CANARY));
    });
  }

  function deep(levels: number): Buffer {
    let value: Buffer = Buffer.alloc(0);
    for (let level = 0; level < levels; level++) value = field(5, field(1, value));
    return field(2, value);
  }
});

describe('one record is refused and its neighbour is booked', () => {
  const long = 'x'.repeat(1e6);
  const BAD: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
    'tokens below nothing': { input_tokens: { intValue: -1 } },
    'tokens beyond counting': { input_tokens: { intValue: '9223372036854775807' } },
    'half a token': { output_tokens: { doubleValue: 0.5 } },
    'no number': { output_tokens: { stringValue: 'many' } },
    'not a number': { output_tokens: { doubleValue: 'NaN' } },
    'a truth for a count': { output_tokens: { boolValue: true } },
    'no count at all': { output_tokens: {} },
    'a list for a model': { model: { arrayValue: { values: [{ stringValue: 'm' }] } } },
    'a number for a model': { model: { intValue: 5 } },
    'a model of a megabyte': { model: { stringValue: long } },
    'an id of a megabyte': { request_id: { stringValue: long } },
    'an id with a line break': { 'session.id': { stringValue: 'a\nb' } },
    'a key for a model': { model: { stringValue: 'sk-ant-CANARY-0123456789' } },
    'a cost beyond belief': { cost_usd: { doubleValue: 1e12 } },
  };
  for (const [what, changes] of Object.entries(BAD)) {
    for (const encode of [inJson, inProtobuf]) {
      it(`${what}, ${encode === inJson ? 'in JSON' : 'in protobuf'}`, async (t) => {
        const { url, meter, ledger, lines } = await startOtlp(t);
        const bad = record(call(changes));
        const body = {
          resourceLogs: [...bad.resourceLogs, ...record(call({ request_id: { stringValue: 'req_2' } })).resourceLogs],
        };
        // A library would refuse to encode what no agent can send in protobuf.
        const { status, bytes } = await send(url, encode('/v1/logs', body));
        assert.equal(status, 200);
        assert.equal(countedBy(ledger).turns, 1);
        assert.equal(meter.of('otlp').rejected, 1, JSON.stringify(meter.of('otlp')));
        meter.assertConserved('otlp');
        assert.ok(!(lines.join('') + bytes.toString('latin1')).includes(CANARY));
      });
    }
  }

  it('a time before there were agents', async (t) => {
    const { url, meter, ledger } = await startOtlp(t);
    for (const timeUnixNano of ['1', '0', 'soon', '99999999999999999999', null]) {
      await send(url, inJson('/v1/logs', record(call(), { timeUnixNano })));
    }
    assert.equal(meter.of('otlp').rejected, 5);
    assert.equal(countedBy(ledger).turns, 0);
  });
});
