// What real agents exported, posted to the intake as they did and in every other way: the ledger says what was billed.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import type { Ledger } from '../../src/ledger/ledger.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import {
  asProtobuf,
  CANARY,
  countedBy,
  inJson,
  inProtobuf,
  type Posted,
  type RecordedPost,
  recordings,
  send,
  startOtlp,
  sum,
  zipped,
} from './otlp-fixture.ts';

/** OpenCode's spans are measured beside its plugin. */
const RECORDINGS = recordings().filter(({ name }) => !name.startsWith('oc-'));
/** Recorded behind a base URL of one's own: what such a call cost is anybody's guess. */
const NOT_STATED = 0;

/** Gemini CLI says it in the terms of the semantic conventions. */
const PROVIDERS: Readonly<Record<string, string>> = { 'gcp.gen_ai': 'google' };
const providersIn = (ledger: Ledger) => [
  ...new Set([...ledger.counters(TOLL.turns.name)].map(({ labels }) => labels.provider)),
];

const isLogs = (post: RecordedPost) => post.path === '/v1/logs';
/** As it was sent. */
function asRecorded(post: RecordedPost): Posted {
  const { path: route, body, content_type, content_encoding, body_pb_b64 } = post;
  const bytes = body_pb_b64 ? Buffer.from(body_pb_b64, 'base64') : JSON.stringify(body);
  const posted = { path: route, bytes, headers: { 'content-type': content_type } };
  return content_encoding === 'gzip' ? zipped(posted) : posted;
}

const WAYS: Readonly<Record<string, (posts: readonly RecordedPost[]) => Posted[]>> = {
  'as recorded': (posts) => posts.map(asRecorded),
  'in JSON': (posts) => posts.filter(isLogs).map(({ path: to, body }) => inJson(to, body)),
  'in protobuf': (posts) => posts.filter(isLogs).map(({ path: to, body }) => inProtobuf(to, body)),
  'packed, in JSON': (posts) => posts.filter(isLogs).map(({ path: to, body }) => zipped(inJson(to, body))),
  'packed, in protobuf': (posts) => posts.filter(isLogs).map(({ path: to, body }) => zipped(inProtobuf(to, body))),
  'twice, in both encodings': (posts) =>
    posts.filter(isLogs).flatMap(({ path: to, body }) => [inJson(to, body), inProtobuf(to, body)]),
  'backwards, and again': (posts) => [...posts, ...posts].reverse().map(asRecorded),
};

it('has recordings of each agent, with content in them that must not be kept', () => {
  for (const agent of ['cc-', 'cx-', 'gm-', 'oc-']) assert.ok(recordings(agent).length > 0, agent);
  assert.ok(JSON.stringify(RECORDINGS).includes(CANARY));
});

for (const [way, toPosts] of Object.entries(WAYS)) {
  describe(way, () => {
    for (const { name, posts, expected } of RECORDINGS) {
      it(name, async (t) => {
        const { ledger, url, meter, lines, folder } = await startOtlp(t);
        const answers = [];
        for (const post of toPosts(posts)) answers.push(await send(url, post));
        assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
        const { turns, errors, tools, sessions, metered, providers } = expected;
        assert.deepEqual(countedBy(ledger), { turns, errors, tools, sessions, metered, costNano: NOT_STATED });
        assert.deepEqual(
          providersIn(ledger),
          providers.map((name) => PROVIDERS[name] ?? name),
        );
        meter.assertConserved('otlp');
        assert.equal(meter.of('otlp').rejected, 0, JSON.stringify(meter.of('otlp')));
        assert.ok(ledger.health().booksBalance);
        const kept = readdirSync(folder).map((file) => readFileSync(path.join(folder, file), 'latin1'));
        const seen = [...kept, ...lines, ...answers.map(({ bytes }) => bytes.toString('latin1'))].join('\n');
        assert.ok(seen.includes('ledger') || kept.length > 0);
        assert.ok(!seen.includes(CANARY), 'content was kept');
      });
    }
  });
}

it('reads the protobuf that agents sent as it reads the same in JSON', async (t) => {
  for (const { name, posts } of RECORDINGS) {
    for (const post of posts.filter((each) => isLogs(each) && each.body_pb_b64)) {
      const [sent, ours] = [await startOtlp(t), await startOtlp(t)];
      await send(sent.url, asRecorded(post));
      await send(ours.url, { ...inProtobuf(post.path, post.body), bytes: asProtobuf(post.path, post.body) });
      assert.deepEqual(countedBy(sent.ledger), countedBy(ours.ledger), name);
      assert.notEqual(countedBy(sent.ledger).turns, 0, name);
    }
  }
});

it('counts the calls of Claude Code that only make a title, and no others', async (t) => {
  const [{ posts, expected }] = recordings('cc-simple') as [ReturnType<typeof recordings>[number]];
  const asTitle = (body: unknown) => JSON.parse(JSON.stringify(body).replaceAll('"sdk"', '"generate_session_title"'));
  for (const [change, titles] of [
    [(body: unknown) => body, 0],
    [asTitle, expected.turns],
  ] as const) {
    const { ledger, url } = await startOtlp(t);
    for (const { path: to, body } of posts.filter(isLogs)) {
      for (const post of [inJson(to, change(body)), inProtobuf(to, change(body))]) await send(url, post);
    }
    assert.equal(countedBy(ledger).turns, expected.turns);
    assert.equal(sum(ledger, TOLL.titleTurns), titles);
  }
});
