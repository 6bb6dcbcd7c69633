// Telemetry like what agents really export, in both encodings.

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Conversations } from '../../src/turn/otlp/conversations.ts';
import { decodeLogs } from '../../src/turn/otlp/decode.ts';
import { OpencodeTitles } from '../../src/turn/otlp/opencode-titles.ts';
import { type Encoding, readBody } from '../../src/turn/otlp/payload.ts';
import { UnreadableBody } from '../../src/turn/otlp/records.ts';
import { asProtobuf, recordings } from '../sources/otlp-fixture.ts';
import { likeJson, likeText } from './inputs.ts';
import { assertClean, assertDecoded, type FuzzTarget } from './targets.ts';

const BODY_MAX_CHARS = 30_000;

/** @param share of both together; even */
export function otlpTargets(share: number): FuzzTarget[] {
  const posts = recordings().flatMap(({ posts: each }) => each);
  const bodies = posts.filter(
    ({ path, body }) => path !== '/v1/metrics' && JSON.stringify(body).length < BODY_MAX_CHARS,
  );
  assert.ok(bodies.some(({ path }) => path === '/v1/traces') && bodies.length > 20);
  const inJson = fc.oneof(
    likeJson(bodies.map(({ body }) => body)).map((value) => Buffer.from(JSON.stringify(value) ?? '')),
    likeText(bodies.map(({ body }) => JSON.stringify(body))),
  );
  const inProtobuf = likeText(bodies.map(({ path, body }) => asProtobuf(path, body)));
  const conversations = new Conversations();
  const titles = new OpencodeTitles();
  const read = (encoding: Encoding) => (bytes: Buffer) => {
    for (const signal of ['logs', 'traces'] as const) {
      try {
        if (signal === 'logs') assertDecoded(decodeLogs(readBody(signal, bytes, encoding), conversations));
        else assertDecoded(titles.decode(readBody(signal, bytes, encoding)));
      } catch (error) {
        if (!(error instanceof UnreadableBody)) throw error;
        assertClean(error.message);
      }
    }
  };
  return [
    { name: 'telemetry in JSON', share: share / 2, inputs: inJson, read: read('json') },
    { name: 'telemetry in protobuf', share: share / 2, inputs: inProtobuf, read: read('protobuf') },
  ];
}
