// How the intake for OTLP answers: whose records it takes, in which encoding it speaks, and what it says when it cannot.

import assert from 'node:assert/strict';
import http from 'node:http';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { RetryableFailure } from '../../src/failure.ts';
import { tokenDigest } from '../../src/listen.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { messageType } from '../otlp-messages.ts';
import {
  countedBy,
  inJson,
  inProtobuf,
  type Posted,
  recordings,
  type StartOptions,
  send,
  startOtlp,
  sum,
  zipped,
} from './otlp-fixture.ts';

const [SIMPLE] = recordings('cc-simple');
const LOGS = SIMPLE!.posts.find((post) => post.path === '/v1/logs')!.body;
const posted = inJson('/v1/logs', LOGS);
const TOKEN = 'tb_CANARYtoken';
const sha256 = tokenDigest(TOKEN).toString('hex');
const TOKENS: StartOptions = { tokens: [{ sha256, team: 'core', user: 'ada', project: 'shop' }] };
const withHeaders = (headers: http.OutgoingHttpHeaders, post = posted): Posted => ({
  ...post,
  headers: { ...post.headers, ...headers },
});

describe('whose records they are', () => {
  it('a token in the header says it', async (t) => {
    const { url, ledger, meter } = await startOtlp(t, TOKENS);
    const { status } = await send(url, withHeaders({ authorization: `Bearer ${TOKEN}` }));
    assert.equal(status, 200);
    assert.equal(sum(ledger, TOLL.turns, { team: 'core', user: 'ada', project: 'shop' }), 1);
    assert.deepEqual(meter.mismatches, { otlp: 1 }, 'the resource names another team and user');
  });

  it('or one in the path', async (t) => {
    const { url, ledger } = await startOtlp(t, TOKENS);
    assert.equal((await send(url, { ...posted, path: `/agents/${TOKEN}/v1/logs` })).status, 200);
    assert.equal(sum(ledger, TOLL.turns, { team: 'core', user: 'ada' }), 1);
  });

  const REFUSED: Readonly<Record<string, Posted>> = {
    'no token': posted,
    'a wrong token': withHeaders({ authorization: 'Bearer tb_other' }),
    'a wrong token in the path': { ...posted, path: '/tb_other/v1/logs' },
    'a wrong header beside a right path': withHeaders(
      { authorization: 'Bearer tb_other' },
      { ...posted, path: `/${TOKEN}/v1/logs` },
    ),
  };
  for (const [what, post] of Object.entries(REFUSED)) {
    it(`${what}: 401, and nothing is booked`, async (t) => {
      const { url, ledger, meter, lines } = await startOtlp(t, TOKENS);
      const { status, bytes } = await send(url, post);
      assert.equal(status, 401);
      assert.match(JSON.parse(bytes.toString()).message, /token/);
      assert.equal(countedBy(ledger).turns, 0);
      assert.equal(meter.of('otlp')['refused:unauthorized'], 1);
      assert.ok(!lines.join('').includes('CANARY'));
    });
  }

  it('without tokens a web page is not answered', async (t) => {
    const { url, ledger } = await startOtlp(t);
    assert.equal((await send(url, withHeaders({ origin: 'http://evil.example' }))).status, 403);
    assert.equal((await send(url, withHeaders({ host: 'evil.example' }))).status, 403);
    assert.equal(countedBy(ledger).turns, 0);
    assert.equal((await send(url, posted)).status, 200);
  });
});

describe('how it answers', () => {
  it('a success in the encoding of the request', async (t) => {
    const { url } = await startOtlp(t);
    const json = await send(url, posted);
    assert.deepEqual(
      [json.status, json.headers['content-type'], json.bytes.toString()],
      [200, 'application/json', '{}'],
    );
    const binary = await send(url, inProtobuf('/v1/logs', LOGS));
    assert.deepEqual(
      [binary.status, binary.headers['content-type'], binary.bytes.length],
      [200, 'application/x-protobuf', 0],
    );
  });

  it('metrics are read and dropped, whatever they hold', async (t) => {
    const { url, meter, ledger } = await startOtlp(t);
    for (const path of ['/v1/metrics', '/prefix/v1/metrics/']) {
      assert.equal((await send(url, { ...posted, path })).status, 200, path);
    }
    assert.equal(meter.of('otlp')['ignored:metric'], 2);
    assert.deepEqual(countedBy(ledger).turns, 0);
  });

  const broken = { ...(LOGS as object) };
  const withBadRecord = JSON.parse(JSON.stringify(broken), (key, value) =>
    key === 'attributes' && Array.isArray(value)
      ? value.map((each) => (each.key === 'output_tokens' ? { key: 'output_tokens', value: { intValue: -1 } } : each))
      : value,
  );
  it('records that cannot be booked are told by their number and first reason', async (t) => {
    const { url, meter, ledger } = await startOtlp(t);
    const json = JSON.parse((await send(url, inJson('/v1/logs', withBadRecord))).bytes.toString());
    assert.equal(json.partialSuccess.rejectedLogRecords, '1');
    assert.match(json.partialSuccess.errorMessage, /^out_of_range: output_tokens/);
    const { status, bytes } = await send(url, inProtobuf('/v1/logs', withBadRecord));
    const said = messageType('Response').decode(bytes).toJSON();
    assert.equal(status, 200);
    assert.equal(said.partialSuccess.rejected, '1');
    assert.match(said.partialSuccess.errorMessage, /^out_of_range: output_tokens/);
    assert.equal(meter.of('otlp')['rejected:out_of_range'], 2);
    assert.equal(countedBy(ledger).turns, 0);
  });

  it('a body that cannot be read: 400 with a status in the encoding of the request', async (t) => {
    const { url, meter } = await startOtlp(t);
    const json = await send(url, { ...posted, bytes: '{"resourceLogs":' });
    assert.deepEqual([json.status, JSON.parse(json.bytes.toString()).code], [400, 2]);
    const binary = await send(url, { ...inProtobuf('/v1/logs', LOGS), bytes: Buffer.from('not protobuf at all') });
    assert.equal(binary.status, 400);
    assert.match(messageType('Status').decode(binary.bytes).toJSON().message, /expected OTLP\/protobuf/);
    assert.equal(meter.of('otlp')['rejected:unreadable'], 2);
    meter.assertConserved('otlp');
  });

  const UNREADABLE: Readonly<Record<string, Posted>> = {
    'another media type': withHeaders({ 'content-type': 'text/plain' }),
    'no media type': { ...posted, headers: {} },
    'another packing': withHeaders({ 'content-encoding': 'br' }),
    'not packed at all': withHeaders({ 'content-encoding': 'gzip' }),
    'half of what was packed': {
      ...zipped(posted),
      bytes: (zipped(posted).bytes as Buffer).subarray(0, 200),
    },
    'JSON as protobuf': withHeaders({ 'content-type': 'application/x-protobuf' }),
    'another shape': inJson('/v1/logs', { resourceLogs: { scopeLogs: 1 } }),
    'a list': inJson('/v1/logs', []),
    'UTF-16': { ...posted, bytes: Buffer.from(posted.bytes as string, 'utf16le') },
  };
  for (const [what, post] of Object.entries(UNREADABLE)) {
    it(`${what}: 400, counted as rejected`, async (t) => {
      const { url, meter, ledger } = await startOtlp(t);
      assert.equal((await send(url, post)).status, 400);
      assert.equal(meter.of('otlp').rejected, 1);
      assert.equal(countedBy(ledger).turns, 0);
      assert.equal((await send(url, posted)).status, 200, 'and it goes on');
    });
  }

  it('parameters of a media type and capitals do not matter', async (t) => {
    const { url, ledger } = await startOtlp(t);
    const post = withHeaders({ 'content-type': 'Application/JSON; charset=utf-8', 'content-encoding': 'GZIP' });
    assert.equal((await send(url, { ...post, bytes: gzipSync(posted.bytes) })).status, 200);
    assert.equal(countedBy(ledger).turns, 1);
  });

  it('another route: 404; another method: 405; and the routes are named', async (t) => {
    const { url } = await startOtlp(t);
    const other = await send(url, { ...posted, path: '/v1/events' });
    assert.equal(other.status, 404);
    assert.match(other.bytes.toString(), /POST \/v1\/logs/);
    const { status } = await fetch(`${url}/v1/logs`);
    assert.equal(status, 405);
    assert.equal((await fetch(`${url}/healthz`)).status, 200);
  });

  it('chunked bodies are taken', async (t) => {
    const { url, ledger } = await startOtlp(t);
    const request = http.request(`${url}/v1/logs`, { method: 'POST', headers: posted.headers, agent: false });
    const answered = new Promise<number>((resolve) => request.on('response', (it) => resolve(it.resume().statusCode!)));
    const text = posted.bytes as string;
    for (let at = 0; at < text.length; at += 1000) request.write(text.slice(at, at + 1000));
    request.end();
    assert.equal(await answered, 200);
    assert.equal(countedBy(ledger).turns, 1);
  });
});

describe('when the ledger cannot take it', () => {
  it('503 and when to come again, nothing is counted; the same post later counts once', async (t) => {
    let failing = true;
    const { url, ledger, meter } = await startOtlp(t, {
      submit: (own) => (parts) =>
        failing ? Promise.reject(new RetryableFailure('the disk is full', { retryAfterS: 1 })) : own(parts),
    });
    for (const post of [posted, inProtobuf('/v1/logs', LOGS)]) {
      const { status, headers } = await send(url, post);
      assert.equal(status, 503);
      assert.equal(headers['retry-after'], '1');
    }
    assert.equal(meter.of('otlp').received, 0);
    failing = false;
    assert.equal((await send(url, posted)).status, 200);
    assert.equal(countedBy(ledger).turns, 1);
    assert.equal((await send(url, posted)).status, 200);
    assert.equal(countedBy(ledger).turns, 1);
    meter.assertConserved('otlp');
  });

  it('a mistake of ours is never a 500, which agents do not repeat', async (t) => {
    const { url } = await startOtlp(t, { submit: () => () => Promise.reject(new Error('a bug')) });
    const { status, headers } = await send(url, posted);
    assert.deepEqual([status, headers['retry-after']], [503, '1']);
  });

  it('is answered only after the commit', async (t) => {
    let commit = () => {};
    const held = new Promise<void>((resolve) => {
      commit = resolve;
    });
    const { url, ledger } = await startOtlp(t, {
      submit: (own) => async (parts) => {
        await held;
        return own(parts);
      },
    });
    let answered = false;
    const answer = send(url, posted).then((it) => {
      answered = true;
      return it;
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(answered, false);
    commit();
    assert.equal((await answer).status, 200);
    assert.equal(countedBy(ledger).turns, 1);
  });
});

it('a conversation that began before a restart keeps its provider', async (t) => {
  const [codex] = recordings('cx-simple');
  const { path, body } = codex!.posts.find((post) => post.path === '/v1/logs')!;
  const changed = (change: (log: { attributes: { key: string; value: { stringValue?: string } }[] }) => boolean) => {
    const copy = structuredClone(body) as { resourceLogs: { scopeLogs: { logRecords: never[] }[] }[] };
    const [scope] = copy.resourceLogs[0]!.scopeLogs;
    scope!.logRecords = scope!.logRecords.filter(change);
    return copy;
  };
  const later = changed(
    (log) => !log.attributes.some(({ value }) => value.stringValue === 'codex.conversation_starts'),
  );
  const text = JSON.stringify(later).replaceAll('"observedTimeUnixNano":"17952964', '"observedTimeUnixNano":"17952965');
  assert.notEqual(text, JSON.stringify(later));
  const first = await startOtlp(t);
  await send(first.url, inJson(path, body));
  const again = await startOtlp(t, { ledger: first.ledger });
  await send(again.url, inJson(path, JSON.parse(text)));
  assert.equal(sum(first.ledger, TOLL.turns, { provider: 'mock' }), 2);
  const fresh = await startOtlp(t);
  await send(fresh.url, inJson(path, JSON.parse(text)));
  assert.equal(
    sum(fresh.ledger, TOLL.turns, { provider: 'openai' }),
    1,
    'where nothing is known, it is whom Codex calls',
  );
});
