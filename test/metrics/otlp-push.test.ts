import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { MetricProducer } from '@opentelemetry/sdk-metrics';
import { ConfigFailure, parseConfig } from '../../src/config.ts';
import { otlpTargets } from '../../src/config-otlp.ts';
import { BRIDGE, type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { Health } from '../../src/metrics/health.ts';
import { OtlpPush } from '../../src/metrics/otlp-push.ts';
import { otlpHeaders } from '../../src/otlp-sender.ts';
import { samplesOf } from '../scrape.ts';
import { readableLog, until } from '../sources/intake-fixture.ts';
import { CREATED_MS, fullHand, producerOf } from './fixture.ts';
import { CUMULATIVE, OtlpReceiver, pointsOf, samplesOfPush, seriesKey, translatedName } from './otlp-receiver.ts';

const FAMILIES: readonly MetricFamily[] = [...Object.values(TOLL), ...Object.values(BRIDGE)];
const INTERVAL_MS = 100;
/** What changes between any two readings: the runtime's own, and what counts the readings. */
const UNSTEADY = /^(nodejs|v8js)_|^tollbridge_(scrape_duration_seconds|otlp_exports_total)/;
const steady = (samples: ReadonlyMap<string, number>) =>
  [...samples].filter(([key]) => !UNSTEADY.test(JSON.parse(key)[0])).sort(([a], [b]) => (a < b ? -1 : 1));
const scraped = (text: string) =>
  new Map(samplesOf(text).map(({ name, labels, value }) => [seriesKey(name, labels), value]));

interface Setting {
  readonly producer?: MetricProducer;
  readonly headers?: Record<string, string>;
  readonly interval?: number;
  readonly isDue?: () => boolean;
}

/** A push to a receiver, over a ledger made by hand and a bridge's own instruments. */
async function startPush(t: TestContext, setting: Setting = {}) {
  const { producer = producerOf(fullHand()), headers = {}, interval = INTERVAL_MS, isDue = () => true } = setting;
  const receiver = await OtlpReceiver.start(t);
  const { log, lines } = readableLog();
  const push: OtlpPush = new OtlpPush({
    target: { endpoint: receiver.url, url: `${receiver.url}/v1/metrics`, key: 'otlp' },
    ...{ intervalMs: interval, headers, producer, log, isDue },
    onEnd: (result) => health.exported('metrics', result),
  });
  const health: Health = new Health({
    ...{ version: '0.1.0', sources: ['socket'], producers: [producer], instance: 'here:9464', pushing: push.reader },
    signals: ['metrics'],
  });
  t.after(async () => {
    await receiver.down();
    await push.stop();
    await health.shutdown();
  });
  /** Waits for a push that began from now on. */
  const nextPush = async () => {
    const { length } = receiver.pushes;
    await until(() => receiver.pushes.length > length + 1, 'a push');
    return receiver.last!;
  };
  const counted = async (result: string) =>
    scraped(await health.scrape()).get(seriesKey('tollbridge_otlp_exports_total', { signal: 'metrics', result }));
  return { receiver, push, health, lines, nextPush, counted };
}

describe('what is pushed', () => {
  it('is what a scrape shows: the same series, names and values, both ways', async (t) => {
    const { health, nextPush } = await startPush(t);
    health.received('socket', 3);
    health.committed({ events: 3, seconds: 0.002 });
    health.watchQueue({ events: 3, bytes: 1500 });
    await health.scrape();
    const pushed = samplesOfPush(await nextPush());
    const text = scraped(await health.scrape());
    assert.deepEqual(steady(pushed), steady(text));
    assert.ok(steady(text).length > 250, `${steady(text).length} samples`);
    const tokens = [...pushed].find(([key]) => key.includes('"toll_tokens_total"'));
    assert.equal(tokens?.[1], Number.MAX_SAFE_INTEGER, 'to the last token');
    const names = (samples: ReadonlyMap<string, number>) =>
      new Set([...samples.keys()].map((key) => JSON.parse(key)[0]));
    const runtime = [...names(pushed)].filter((name) => /^(nodejs|v8js)_/.test(name));
    assert.ok(runtime.includes('nodejs_eventloop_utilization') && runtime.includes('v8js_memory_heap_used'));
    assert.deepEqual(
      runtime.filter((name) => !names(text).has(name)),
      [],
      'the runtime has no names of its own here',
    );
  });

  it('control: the comparison sees one token more', async (t) => {
    const hand = fullHand();
    const { health, nextPush } = await startPush(t, { producer: producerOf(hand) });
    const pushed = samplesOfPush(await nextPush());
    const [point] = hand.counters![TOLL.turns.name]!;
    hand.counters![TOLL.turns.name] = [{ ...point!, value: point!.value + 1 }];
    assert.notDeepEqual(steady(pushed), steady(scraped(await health.scrape())));
  });

  it('is cumulative since the ledger was created, and says whose it is', async (t) => {
    const before = process.env.OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE;
    process.env.OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE = 'delta';
    t.after(() => {
      if (before === undefined) delete process.env.OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE;
      else process.env.OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE = before;
    });
    const { health, nextPush } = await startPush(t);
    health.committed({ events: 3, seconds: 0.002 });
    const { path, resource, metrics } = await nextPush();
    assert.equal(path, '/v1/metrics');
    assert.equal(resource['service.name'], 'tollbridge');
    assert.equal(resource['service.version'], '0.1.0');
    assert.equal(resource['service.instance.id'], 'here:9464');
    const totals = metrics.filter(({ gauge }) => !gauge);
    assert.ok(
      totals.some(({ name }) => name === 'toll_cost_usd') &&
        totals.some(({ name }) => name === 'tollbridge_ledger_batch_size'),
    );
    for (const metric of totals) {
      assert.equal(pointsOf(metric).aggregationTemporality, CUMULATIVE, metric.name);
      if (metric.sum && !metric.name.startsWith('v8js.')) assert.equal(metric.sum.isMonotonic, true, metric.name);
    }
    const ledgers = new Set(Object.values(TOLL).map(({ otelName }) => otelName));
    const starts = metrics
      .filter(({ name }) => ledgers.has(name))
      .flatMap((metric) => pointsOf(metric).dataPoints.map((point) => point.startTimeUnixNano));
    assert.ok(starts.length > 100);
    assert.deepEqual([...new Set(starts)], [`${CREATED_MS}000000`]);
    assert.ok(
      metrics.every((metric) => pointsOf(metric).dataPoints.length > 0),
      'no empty metric',
    );
  });

  it('gets the same names as a scrape wherever units become suffixes', () => {
    for (const { name, otelName, unit, type } of FAMILIES) assert.equal(translatedName(otelName, unit, type), name);
    const controls = [
      translatedName('toll_account_info', '1', 'gauge'),
      translatedName('toll_cost_usd', 'USD', 'counter'),
      translatedName('toll_cost_usd_total', '{USD}', 'counter'),
    ];
    assert.deepEqual(controls, ['toll_account_info_ratio', 'toll_cost_usd_USD_total', 'toll_cost_usd_total']);
  });

  it('waits until the totals are there', async (t) => {
    let isDue = false;
    const { receiver, push, nextPush, counted } = await startPush(t, { isDue: () => isDue });
    await new Promise((resolve) => setTimeout(resolve, 5 * INTERVAL_MS));
    assert.equal(receiver.requests, 0);
    assert.equal(await counted('error'), 0);
    assert.equal(push.sender.lastOkMs, undefined);
    isDue = true;
    await nextPush();
    assert.ok((await counted('ok'))! >= 1);
    assert.ok(Date.now() - push.sender.lastOkMs! < 10_000);
  });
});

describe('a receiver that is not well', () => {
  it('away and back: told once each, counted each time, and the totals are whole', async (t) => {
    const hand = fullHand();
    const { receiver, push, lines, nextPush, counted } = await startPush(t, { producer: producerOf(hand) });
    await nextPush();
    await receiver.down();
    await until(() => push.sender.problem !== undefined, 'a failure');
    assert.match(push.sender.problem!, /^it cannot be reached \(ECONN/);
    const [point] = hand.counters![TOLL.turns.name]!;
    hand.counters![TOLL.turns.name] = [{ ...point!, value: point!.value + 5 }];
    const failedBefore = (await counted('error'))!;
    while ((await counted('error'))! < failedBefore + 3) await new Promise((resolve) => setTimeout(resolve, 20));
    await receiver.up();
    const pushed = samplesOfPush(await nextPush());
    assert.equal(push.sender.problem, undefined);
    const turns = [...pushed].find(([key]) => key.startsWith('["toll_turns_total"'));
    assert.equal(turns?.[1], point!.value + 5, 'what happened meanwhile is in');
    const told = lines.map((line) => JSON.parse(line)).map(({ level, msg, endpoint }) => [level, msg, endpoint]);
    assert.deepEqual(told, [
      [
        ...[
          40,
          'metrics cannot be pushed by OTLP; it is tried again, and nothing is lost, because totals are cumulative',
        ],
        receiver.url,
      ],
      [30, 'metrics are pushed by OTLP again', receiver.url],
    ]);
  });

  for (const answer of ['hang', 'drip'] as const) {
    it(`is cut off when it does ${answer}, while scrapes are answered`, async (t) => {
      const { receiver, push, health, lines, counted } = await startPush(t);
      receiver.answer = answer;
      await until(() => receiver.requests > 0, 'a request');
      const startedMs = performance.now();
      assert.match(await health.scrape(), /toll_cost_usd_total/);
      assert.ok(performance.now() - startedMs < 1000);
      await until(() => receiver.requests > 2, 'more requests, each after the last was cut');
      assert.match(push.sender.problem!, /did not answer/);
      assert.ok((await counted('error'))! >= 2);
      assert.equal(lines.length, 1);
      receiver.answer = 'take';
      await until(() => push.sender.problem === undefined, 'the receiver to be well again');
    });
  }

  it('cannot hold a stop for more than five seconds, nor one that was away for more than one', async (t) => {
    const timed = async (work: Promise<void>) => {
      const startedMs = performance.now();
      await work;
      return performance.now() - startedMs;
    };
    const hanging = await startPush(t, { interval: 60_000 });
    hanging.receiver.answer = 'hang';
    const tookMs = await timed(hanging.push.stop());
    assert.equal(hanging.receiver.requests, 1, 'it was tried');
    assert.ok(tookMs > 4000 && tookMs < 6000, `${tookMs} ms`);
    const away = await startPush(t, { interval: 3000 });
    await away.receiver.down();
    await until(() => away.push.sender.problem !== undefined, 'a failure');
    assert.ok((await timed(away.push.stop())) < 2000);
  });

  it('refuses: its status is told, its words are not', async (t) => {
    const { receiver, push, lines } = await startPush(t, { headers: { authorization: 'Bearer s3cret' } });
    receiver.answer = 401;
    await until(() => push.sender.problem !== undefined, 'a failure');
    assert.equal(push.sender.problem, 'it answers with HTTP 401');
    assert.doesNotMatch(lines.join(''), /s3cret/);
    receiver.answer = 503;
    await until(() => push.sender.problem === 'it answers with HTTP 503', 'another failure');
    assert.equal(lines.length, 1, 'still the same trouble');
  });

  it('a ledger that cannot be read is told and counted too, and nothing is pushed then', async (t) => {
    const hand = fullHand();
    const { sessions } = hand;
    const { receiver, push, nextPush, counted } = await startPush(t, { producer: producerOf(hand) });
    await nextPush();
    hand.sessions = () => {
      throw new Error('the ledger is busy');
    };
    await until(() => push.sender.problem !== undefined, 'a failure');
    assert.equal(push.sender.problem, 'the ledger cannot be read: the ledger is busy');
    const { requests } = receiver;
    await new Promise((resolve) => setTimeout(resolve, 3 * INTERVAL_MS));
    assert.equal(receiver.requests, requests);
    hand.sessions = sessions!;
    await nextPush();
    assert.ok((await counted('error'))! >= 2);
  });
});

describe('headers', () => {
  it('arrive as they are named, and those meant for another receiver do not', async (t) => {
    process.env.OTEL_EXPORTER_OTLP_HEADERS = 'x-other=elsewhere';
    t.after(() => delete process.env.OTEL_EXPORTER_OTLP_HEADERS);
    const env = { SOME_HEADERS: 'authorization=Basic%20czNjcmV0=, x-scope-orgid = a%2Cb' };
    const { nextPush, lines } = await startPush(t, { headers: otlpHeaders('SOME_HEADERS', env) });
    const { headers } = await nextPush();
    assert.equal(headers.authorization, 'Basic czNjcmV0=');
    assert.equal(headers['x-scope-orgid'], 'a,b');
    assert.equal(headers['content-type'], 'application/x-protobuf');
    assert.equal(headers['x-other'], undefined);
    assert.equal(process.env.OTEL_EXPORTER_OTLP_HEADERS, 'x-other=elsewhere', 'and is left as it was');
    assert.doesNotMatch(lines.join(''), /czNjcmV0/);
  });

  it('that cannot be sent stop the start, without being told', () => {
    assert.deepEqual(otlpHeaders(undefined, {}), {});
    assert.throws(() => otlpHeaders('KEY', {}), /otlp\.headers_env names KEY, but that variable is empty/);
    for (const text of ['s3cret', '=s3cret', 'a=b,x y=s3cret', 'a=s3cret%0D%0Ab', 'a=s3cret%']) {
      assert.throws(
        () => otlpHeaders('KEY', { KEY: text }),
        (error: Error) =>
          /names KEY, but number [12] of what it holds is no header/.test(error.message) &&
          !error.message.includes('s3cret'),
        text,
      );
    }
  });
});

describe('the configuration of it', () => {
  const mistakeOf = (otlp: unknown) => {
    try {
      parseConfig({ otlp });
    } catch (error) {
      assert.ok(error instanceof ConfigFailure);
      return error.message;
    }
    return 'none';
  };

  it('is off by default, pushes each minute, and completes the path', () => {
    assert.equal(parseConfig({}).otlp, undefined);
    const { otlp } = parseConfig({ otlp: { endpoint: 'http://127.0.0.1:4318' } });
    assert.deepEqual(otlp, {
      ...{ endpoint: 'http://127.0.0.1:4318', interval: 60_000, plaintext: false },
      ...{ metrics: true, traces: false, logs: false },
    });
    const urls = [
      'http://a:4318',
      'http://a:4318/',
      'https://a/otlp',
      'https://a/otlp/v1/metrics',
      'https://a/v1/metrics/',
    ];
    assert.deepEqual(
      urls.map((endpoint) => otlpTargets({ ...otlp!, endpoint }).metrics!.url),
      [
        ...['http://a:4318/v1/metrics', 'http://a:4318/v1/metrics', 'https://a/otlp/v1/metrics'],
        ...['https://a/otlp/v1/metrics', 'https://a/v1/metrics'],
      ],
    );
  });

  it('tells mistakes with their key, and never a password', () => {
    assert.match(mistakeOf({ endpoint: 'collector:4318' }), /otlp\.endpoint.*expected an http\(s\) URL/s);
    assert.match(mistakeOf({}), /otlp: found nothing that is sent anywhere; expected otlp\.endpoint/);
    assert.match(mistakeOf({ endpoint: 'grpc://collector:4317' }), /otlp\.endpoint.*expected an http\(s\) URL/s);
    assert.match(mistakeOf({ endpoint: 'http://a', interval: '1s' }), /otlp\.interval.*expected at least 5s/s);
    assert.match(mistakeOf({ endpoint: 'http://a/?key=1' }), /otlp\.endpoint.*v1\/metrics or the like can be added/s);
    const withPassword = mistakeOf({ endpoint: 'https://me:s3cret@a' });
    assert.match(withPassword, /otlp\.endpoint.*a user name or password/s);
    assert.doesNotMatch(withPassword, /s3cret/);
  });

  it('lets headers travel in clear only within this machine, or where it is told to', () => {
    const headers_env = 'OTLP_HEADERS';
    assert.match(mistakeOf({ endpoint: 'http://collector:4318', headers_env }), /otlp\.endpoint.*expected https/s);
    const fine = [
      { endpoint: 'http://collector:4318' },
      { endpoint: 'http://127.0.0.1:4318', headers_env },
      { endpoint: 'https://collector:4318', headers_env },
      { endpoint: 'http://collector:4318', headers_env, plaintext: true },
    ];
    for (const otlp of fine) assert.equal(mistakeOf(otlp), 'none');
  });
});
