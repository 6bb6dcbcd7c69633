// OTLP push through a whole bridge: what is booked until the last moment arrives, and no receiver can hold it.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Bridge } from '../src/bridge.ts';
import { doctor } from '../src/commands/doctor.ts';
import { showStatus } from '../src/commands/status.ts';
import { scratchConfig, scratchFolder } from './commands/bridge-fixture.ts';
import { CUMULATIVE, OtlpReceiver, pointsOf, samplesOfPush, seriesKey } from './metrics/otlp-receiver.ts';
import { samplesOf } from './scrape.ts';
import { post, readableLog, turnRecord, until } from './sources/intake-fixture.ts';

/** A bridge that pushes. @param intervalMs shorter than a configuration may ask for */
async function startBridge(t: TestContext, otlp: { endpoint: string; headers_env?: string }, intervalMs?: number) {
  const parsed = scratchConfig(t, { metrics: { listen: '127.0.0.1:0' }, otlp });
  const config = intervalMs === undefined ? parsed : { ...parsed, otlp: { ...parsed.otlp!, interval: intervalMs } };
  const { log, lines } = readableLog();
  const env = { OTLP_HEADERS: 'authorization=Bearer%20s3cret' };
  const bridge = await Bridge.start({ config, log, env });
  t.after(() => bridge.stop());
  /** What doctor finds of what is sent. */
  const examined = async () => {
    const home = scratchFolder(t);
    const report = await doctor({ json: true, env: {}, home, nowMs: Date.now(), loadConfig: () => config });
    const { findings } = JSON.parse(report.lines.join('\n')) as {
      findings: { name: string; level: string; what: string }[];
    };
    return findings.filter(({ name }) => name === 'otlp').map(({ level, what }) => `${level}: ${what}`);
  };
  const scrape = async () => (await fetch(`${bridge.metricsUrl}/metrics`)).text();
  const send = async (n: number) =>
    assert.equal((await post(config.socket.path, '/v1/events', turnRecord(n))).status, 202);
  return { bridge, config, examined, lines, scrape, send };
}

/** What a ledger knows, which is the same for whoever reads it at rest. */
const ledgerSeries = (samples: Iterable<[string, number]>) =>
  [...samples]
    .filter(([key]) => /^\["(toll_|gen_ai_|tollbridge_(series|ledger_(size|created)|events))/.test(key))
    .sort(([a], [b]) => (a < b ? -1 : 1));
const scraped = (text: string) =>
  samplesOf(text).map(({ name, labels, value }): [string, number] => [seriesKey(name, labels), value]);
const turnsOf = (samples: Iterable<[string, number]>) =>
  [...samples].filter(([key]) => key.startsWith('["toll_turns_total"')).reduce((sum, [, value]) => sum + value, 0);

test('at rest a bridge pushes what it shows, since its ledger began, with the headers of the variable', async (t) => {
  const receiver = await OtlpReceiver.start(t);
  const { bridge, config, examined, lines, scrape, send } = await startBridge(
    t,
    { endpoint: receiver.url, headers_env: 'OTLP_HEADERS' },
    100,
  );
  for (let n = 0; n < 7; n += 1) await send(n);
  await until(() => receiver.last !== undefined && turnsOf(samplesOfPush(receiver.last)) === 7, 'seven turns');
  const { length } = receiver.pushes;
  await until(() => receiver.pushes.length > length + 1, 'a push at rest');
  const push = receiver.last!;
  const shown = ledgerSeries(scraped(await scrape()));
  assert.deepEqual(ledgerSeries(samplesOfPush(push)), shown);
  assert.equal(turnsOf(shown), 7);
  const cost = push.metrics.find(({ name }) => name === 'toll_cost_usd')!;
  assert.equal(pointsOf(cost).aggregationTemporality, CUMULATIVE);
  const createdMs = bridge.status().ledger.created_ms;
  assert.deepEqual([...new Set(pointsOf(cost).dataPoints.map((p) => p.startTimeUnixNano))], [`${createdMs}000000`]);
  assert.equal(push.resource['service.name'], 'tollbridge');
  assert.match(String(push.resource['service.instance.id']), new RegExp(`:${new URL(bridge.metricsUrl).port}$`));
  assert.equal(push.headers.authorization, 'Bearer s3cret');
  const banner = bridge.banner().join('\n');
  assert.ok(banner.includes(`\n  otlp      ${receiver.url} (metrics every 0.1 s)\n`), banner);
  const options = { json: false, config, env: {}, home: scratchFolder(t), nowMs: Date.now() };
  const report = (await showStatus(options)).lines.join('\n');
  assert.ok(report.includes(`\notlp  ${receiver.url} (metrics every 0.1 s)\n`), report);
  const [found] = await examined();
  assert.match(found!, /^ok: metrics are sent to http:\S+ every 0\.1 s \(last /);
  assert.doesNotMatch(
    `${banner}${report}${JSON.stringify(bridge.status())}${lines.join('')}${await scrape()}`,
    /s3cret/,
  );
});

test('a stop pushes once more what was booked since, before the ledger closes', async (t) => {
  const receiver = await OtlpReceiver.start(t);
  const { bridge, send } = await startBridge(t, { endpoint: receiver.url });
  for (let n = 0; n < 3; n += 1) await send(n);
  assert.equal(receiver.requests, 0, 'a minute has not passed');
  await bridge.stop();
  assert.equal(receiver.requests, 1);
  assert.equal(turnsOf(samplesOfPush(receiver.last!)), 3);
  const received = seriesKey('tollbridge_events_received_total', { source: 'socket' });
  assert.equal(samplesOfPush(receiver.last!).get(received), 3);
});

test('a receiver that hangs disturbs neither turns nor scrapes, and a stop ends all the same', async (t) => {
  const receiver = await OtlpReceiver.start(t);
  receiver.answer = 'hang';
  const { bridge, examined, lines, scrape, send } = await startBridge(t, { endpoint: receiver.url }, 300);
  await until(() => receiver.requests > 0, 'a request that hangs');
  await send(1);
  const startedMs = performance.now();
  assert.equal(turnsOf(scraped(await scrape())), 1);
  assert.ok(performance.now() - startedMs < 1000);
  await until(() => bridge.status().otlp?.[0]?.problem !== undefined, 'the trouble to be told');
  assert.match(bridge.status().otlp![0]!.problem!, /did not answer/);
  const [found] = await examined();
  assert.match(
    found!,
    /^warning: metrics cannot be sent to http:\S+: it did not answer within 0\.24 s\. Nothing is lost/,
  );
  const stoppingMs = performance.now();
  await bridge.stop();
  assert.ok(performance.now() - stoppingMs < 3000);
  assert.equal(lines.filter((line) => line.includes('cannot be pushed')).length, 1);
});

test('without the key nothing is pushed and nothing is said of it', async (t) => {
  const config = scratchConfig(t, { metrics: { listen: '127.0.0.1:0' } });
  const bridge = await Bridge.start({ config, log: readableLog().log, env: {} });
  t.after(() => bridge.stop());
  assert.equal(bridge.status().otlp, undefined);
  assert.doesNotMatch(bridge.banner().join('\n'), /otlp/);
  assert.doesNotMatch(await (await fetch(`${bridge.metricsUrl}/metrics`)).text(), /otlp/);
});

test('a variable that is named and not there stops the start', async (t) => {
  await assert.rejects(
    startBridge(t, { endpoint: 'http://127.0.0.1:9', headers_env: 'NO_SUCH_HEADERS' }),
    /otlp\.headers_env names NO_SUCH_HEADERS, but that variable is empty/,
  );
});
