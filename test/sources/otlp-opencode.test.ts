// OpenCode's spans beside its plugin: only the calls that give a session its title are booked, once, and only for
// sessions that the plugin tells of, whichever comes first.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Ledger } from '../../src/ledger/ledger.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { OpencodeTitles } from '../../src/turn/otlp/opencode-titles.ts';
import type { OtlpSpan } from '../../src/turn/otlp/records.ts';
import type { SessionEvent, TurnEvent } from '../../src/turn/turn-event.ts';
import { CANARY, countedBy, inJson, inProtobuf, recordings, send, startOtlp, sum } from './otlp-fixture.ts';

const [RUN] = recordings('oc-run');
const POSTS = RUN!.posts;
const SESSION_ID = 'ses_e00130cedffe421HVY02BB3jZM';
const TITLE = { turns: 1, tools: 0, errors: 0, metered: [286, 14, 0, 0, 0], costNano: 0 };
const session: SessionEvent = { kind: 'session', agent: 'opencode', sessionId: SESSION_ID, project: 'shop' };

interface Spans {
  readonly resourceSpans: { scopeSpans: { spans: { name: string; parentSpanId?: string }[] }[] }[];
}
const spansOf = (body: unknown) =>
  (body as Spans).resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
/** The same post with other spans. */
const withSpans = (body: unknown, spans: object[]) => {
  const copy = structuredClone(body) as Spans;
  copy.resourceSpans[0]!.scopeSpans[0]!.spans = spans as Spans['resourceSpans'][0]['scopeSpans'][0]['spans'];
  return copy;
};

describe('the title calls of OpenCode', () => {
  for (const encode of [inJson, inProtobuf]) {
    const how = encode === inJson ? 'in JSON' : 'in protobuf';
    it(`are booked when the plugin has told of the session, ${how}`, async (t) => {
      const { url, ledger, meter } = await startOtlp(t);
      await ledger.submit([session]);
      for (const { path, body } of [...POSTS, ...POSTS]) {
        assert.equal((await send(url, encode(path, body))).status, 200);
      }
      const { sessions, ...counted } = countedBy(ledger);
      assert.equal(sessions, 1);
      assert.deepEqual(counted, TITLE, 'the main calls are the plugin’s');
      assert.equal(sum(ledger, TOLL.turns, { provider: 'mockchat', model: 'mock-small', project: 'shop' }), 1);
      meter.assertConserved('otlp');
      assert.equal(meter.of('otlp').rejected, 0);
    });
  }

  it('wait for the plugin, over a restart too, and are booked once', async (t) => {
    const { url, ledger, server, folder, lines } = await startOtlp(t);
    for (const { path, body } of [...POSTS, ...POSTS]) await send(url, inJson(path, body));
    assert.equal(countedBy(ledger).turns, 0);
    await server.stop();
    ledger.close();
    assert.ok(!lines.join('').includes(CANARY));
    const again = Ledger.open({
      ...{ file: `${folder}/ledger.db`, timeZone: 'UTC', retentionMs: 90 * 86_400_000 },
      caps: { model: 200, project: 50, user: 200, tool: 100, mcp_server: 50, series: 20_000 },
      log: { info() {}, warn() {}, error() {}, debug() {} } as never,
    });
    t.after(() => again.close());
    const bookings = await again.submit([session, session]);
    assert.deepEqual(
      bookings.map(({ outcome }) => outcome.type),
      ['recorded', 'duplicate'],
    );
    const { sessions, ...counted } = countedBy(again);
    assert.deepEqual(counted, TITLE);
    assert.equal(sessions, 1);
    assert.ok(again.health().booksBalance);
  });

  it('wait for any turn of the session, where its beginning was not seen', async (t) => {
    const { url, ledger } = await startOtlp(t);
    for (const { path, body } of POSTS) await send(url, inJson(path, body));
    const message: TurnEvent = {
      ...{
        kind: 'turn',
        agent: 'opencode',
        sessionId: SESSION_ID,
        messageId: 'msg_1',
        phase: 'completed',
        status: 'ok',
      },
      ...{ startedMs: 1795295082000, completedMs: 1795295083000, provider: 'mockchat', model: 'mock-a' },
      ...{ tokens: { input: 1087, output: 57, reasoning: 20, cache_read: 300, cache_write: 0 }, costNano: 4_506_000 },
      ...{ upstreamProvider: 'unknown', upstreamEvidence: 'none', pricing: 'stated' },
    };
    await ledger.submit([message]);
    assert.equal(countedBy(ledger).turns, 2);
    assert.deepEqual(countedBy(ledger).metered, [1087 + 286, 57 + 14, 20, 300, 0]);
  });

  it('are known by their ancestors, which may come later', async (t) => {
    const { url, ledger } = await startOtlp(t);
    await ledger.submit([session]);
    const { path, body } = POSTS[0]!;
    const all = spansOf(body);
    const calls = all.filter(({ name }) => name === 'ai.streamText.doStream');
    assert.equal(calls.length, 1);
    for (const span of [...calls, ...all.filter((each) => !calls.includes(each))]) {
      assert.equal(countedBy(ledger).turns, 0, span.name);
      await send(url, inJson(path, withSpans(body, [span])));
    }
    assert.equal(countedBy(ledger).turns, 1);
  });

  it('without their ancestors, or among their own, they are nothing', async (t) => {
    const { url, ledger, meter } = await startOtlp(t);
    await ledger.submit([session]);
    const { path, body } = POSTS[0]!;
    const calls = spansOf(body).filter(({ name }) => name === 'ai.streamText.doStream');
    await send(url, inJson(path, withSpans(body, calls)));
    const circle = calls.map((call) => ({ ...call, parentSpanId: (call as unknown as { spanId: string }).spanId }));
    await send(url, inJson(path, withSpans(body, circle)));
    assert.equal(countedBy(ledger).turns, 0);
    assert.equal(meter.of('otlp')['ignored:span'], 2);
  });

  it('a long chain of calls is walked once, however many of them wait', () => {
    const CALLS = 20_000;
    const hex = (n: number) => n.toString(16).padStart(16, '0');
    const span = (n: number, name: string): OtlpSpan => ({
      ...{ scope: 'opencode', traceId: 'a'.repeat(32), spanId: hex(n), parentId: hex(n + 1), name },
      attributes: { 'ai.usage.outputTokens': 1 },
    });
    const titles = new OpencodeTitles();
    const before = process.threadCpuUsage();
    const calls = Array.from({ length: CALLS - 1 }, (_, at) => span(at + 1, 'ai.streamText.doStream'));
    titles.decode(calls);
    assert.equal(titles.decode([span(CALLS, 'SessionPrompt.ensureTitle')]).length, CALLS);
    const { user, system } = process.threadCpuUsage(before);
    assert.ok(user + system < 3_000_000, `${(user + system) / 1e6} s`);
  });

  it('no other agent’s spans are booked: they repeat its logs', async (t) => {
    const { url, ledger, meter } = await startOtlp(t);
    const traces = recordings().filter(({ name }) => !name.startsWith('oc-'));
    const posts = traces.flatMap(({ posts: each }) => each.filter((post) => post.path === '/v1/traces'));
    assert.ok(posts.length > 5);
    for (const { path, body } of posts) assert.equal((await send(url, inJson(path, body))).status, 200);
    assert.equal(countedBy(ledger).turns, 0);
    assert.ok(meter.of('otlp')['ignored:span']! > posts.length);
  });
});
