import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it, type TestContext } from 'node:test';
import type { MetricProducer } from '@opentelemetry/sdk-metrics';
import { BRIDGE, type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { Health } from '../../src/metrics/health.ts';
import { fullHand, type HandMade, parseExposition, producerOf, sample } from './fixture.ts';

const CATALOGUE: readonly MetricFamily[] = [...Object.values(TOLL), ...Object.values(BRIDGE)];

function healthOver(t: TestContext, producers: readonly MetricProducer[], sources = ['socket', 'spool']): Health {
  const health = new Health({ version: '0.1.0', sources, producers });
  t.after(() => health.shutdown());
  return health;
}

/** Makes every health family appear. */
async function useAll(health: Health): Promise<void> {
  health.received('socket', 7);
  health.booked('socket', [
    { outcome: { type: 'recorded' }, redated: true },
    { outcome: { type: 'updated' }, conflicts: ['model', 'project'] },
    { outcome: { type: 'duplicate' } },
    { outcome: { type: 'ignored', kind: 'delta' } },
    { outcome: { type: 'ignored', kind: 'fork_copy' } },
    { outcome: { type: 'rejected', reason: 'too_late', detail: 'older than the horizon' } },
    { outcome: { type: 'updated' }, unitCorrections: { provider: 'opencode', values: 2 } },
  ]);
  health.routeUp({ provider: 'opencode', account: 'default', route: 'models' }, true);
  health.truncated('socket');
  health.up('socket', true);
  health.success('socket', 1_767_614_400_250);
  health.polled({ provider: 'opencode', account: 'default', result: 'ok', seconds: 0.3, intervalSeconds: 30 });
  health.committed({ events: 6, seconds: 0.002 });
  health.ownsPartition('1/2');
  health.watchQueue({ events: 3, bytes: 1500 });
  health.watchCertificate('tcp', () => 1_767_614_400_000);
  health.watchCertificate('metrics', () => undefined);
  health.exported('metrics', 'ok');
  health.dropped('traces', 'too_old', 1);
  await health.scrape();
}

async function assertLints(text: string): Promise<void> {
  const { status, stderr, stdout, error } = spawnSync('promtool', ['check', 'metrics'], { input: text });
  assert.ifError(error);
  assert.equal(`${stdout}${stderr}`, '');
  assert.equal(status, 0);
}

describe('the whole scrape', () => {
  it('holds exactly the families of the catalogue, and the runtime’s own', async (t) => {
    const health = healthOver(t, [producerOf(fullHand())]);
    await useAll(health);
    const { types, help } = parseExposition(await health.scrape());
    const runtime = [...types.keys()].filter((name) => /^(nodejs|v8js)_/.test(name));
    assert.ok(runtime.includes('nodejs_eventloop_utilization') && runtime.includes('v8js_memory_heap_used'));
    const ours = [...types].filter(([name]) => !runtime.includes(name)).sort();
    assert.deepEqual(ours, CATALOGUE.map(({ name, type }) => [name, type]).sort());
    for (const family of CATALOGUE) assert.equal(help.get(family.name), family.help, family.name);
  });

  it('carries only labels of the catalogue, none of a scope or a resource', async (t) => {
    const health = healthOver(t, [producerOf(fullHand())]);
    await useAll(health);
    const { samples } = parseExposition(await health.scrape());
    const families = new Map(CATALOGUE.map((family) => [family.name, family]));
    for (const key of samples.keys()) {
      const [name, ...labels] = JSON.parse(key) as [string, ...[string, string][]];
      if (/^(nodejs|v8js)_/.test(name)) continue;
      const histogram = families.get(name.replace(/_(bucket|sum|count)$/, ''));
      const family = families.get(name) ?? histogram;
      assert.ok(family, name);
      const allowed = [...family.labels, ...(family.type === 'histogram' ? ['le'] : [])];
      assert.deepEqual(
        labels.map(([label]) => label).filter((label) => !allowed.includes(label)),
        [],
        name,
      );
    }
  });

  it('passes promtool with nothing to remark, and promtool would remark', async (t) => {
    const health = healthOver(t, [producerOf(fullHand())]);
    await useAll(health);
    const text = await health.scrape();
    await assertLints(text);
    await assert.rejects(assertLints(text.replace('# HELP toll_turns_total', '# HELP toll_turns_other')));
    await assert.rejects(assertLints(text.replaceAll('\\"', '"').replace('model="', 'model=""')));
  });

  it('shows a poll result until it expires, and not after', async (t) => {
    const hand: HandMade = fullHand();
    const health = healthOver(t, [producerOf(hand)]);
    const account = { provider: 'opencode', account: 'opencode' };
    const quota = sample('toll_quota_used_ratio', { ...account, quota: 'go', window: '5h' });
    const unknown = sample('toll_account_status', { ...account, status: 'unknown' });
    const before = parseExposition(await health.scrape());
    assert.equal(before.samples.get(quota), '0.85');
    assert.equal(before.samples.get(unknown), '0');
    hand.polls = [];
    const after = parseExposition(await health.scrape());
    assert.equal(after.samples.has(quota), false);
    assert.equal(after.types.has('toll_quota_used_ratio'), false);
    assert.equal(after.samples.get(unknown), '1');
    assert.equal(after.samples.get(sample('toll_account_info', account)), '1');
  });

  it('fails as a whole when a part throws or reports an error, and works again after', async (t) => {
    const hand = fullHand();
    const health = healthOver(t, [producerOf(hand)]);
    const { sessions } = hand;
    hand.sessions = () => {
      throw new Error('the ledger is busy');
    };
    await assert.rejects(health.scrape(), /the ledger is busy/);
    hand.sessions = sessions!;
    assert.match(await health.scrape(), /toll_cost_usd_total/);

    const producer = producerOf(fullHand());
    const complaining = { collect: async () => ({ ...(await producer.collect()), errors: [new Error('half of it')] }) };
    await assert.rejects(healthOver(t, [complaining]).scrape(), /half of it/);
  });

  it('measures itself', async (t) => {
    const health = healthOver(t, []);
    await health.scrape();
    const { samples } = parseExposition(await health.scrape());
    assert.equal(samples.get(sample('tollbridge_scrape_duration_seconds_count')), '1');
  });
});

describe('health', () => {
  it('starts the counters of every source at 0', async (t) => {
    const { samples } = parseExposition(await healthOver(t, []).scrape());
    for (const source of ['socket', 'spool']) {
      for (const name of ['received', 'recorded', 'updated', 'duplicate', 'redated']) {
        assert.equal(samples.get(sample(`tollbridge_events_${name}_total`, { source })), '0', name);
      }
      assert.equal(samples.get(sample('tollbridge_requests_truncated_total', { source })), '0');
    }
    assert.equal(samples.get(sample('tollbridge_build_info', { version: '0.1.0', node: process.version })), '1');
    assert.equal(
      [...samples.keys()].some((key) => key.includes('source_up')),
      false,
      'unknown is not down',
    );
  });

  it('counts every outcome under its name, so that received is their sum', async (t) => {
    const health = healthOver(t, []);
    await useAll(health);
    const { samples } = parseExposition(await health.scrape());
    const events = (name: string, labels = {}) =>
      Number(samples.get(sample(`tollbridge_events_${name}_total`, { source: 'socket', ...labels })));
    assert.equal(events('received'), 7);
    const outcomes = [
      ...['recorded', 'updated', 'duplicate'].map((name) => events(name)),
      events('ignored', { kind: 'delta' }),
      events('ignored', { kind: 'fork_copy' }),
      events('rejected', { reason: 'too_late' }),
    ];
    assert.deepEqual(outcomes, [1, 2, 1, 1, 1, 1]);
    assert.equal(events('conflicting', { field: 'model' }), 1);
    assert.equal(events('conflicting', { field: 'project' }), 1);
    assert.equal(events('redated'), 1);
    const counts = { received: 7, recorded: 1, updated: 2, duplicate: 1, forwarded: 0, ignored: 2, rejected: 1 };
    assert.deepEqual(health.events('socket'), counts);
    assert.equal(samples.get(sample('tollbridge_source_up', { source: 'socket' })), '1');
    const success = sample('tollbridge_source_last_success_timestamp_seconds', { source: 'socket' });
    assert.equal(samples.get(success), '1767614400.25');
    assert.equal(
      samples.get(sample('tollbridge_poll_duration_seconds_bucket', { provider: 'opencode', le: '0.5' })),
      '1',
    );
    assert.equal(
      samples.get(sample('tollbridge_poll_duration_seconds_bucket', { provider: 'opencode', le: '0.25' })),
      '0',
    );
    assert.equal(samples.get(sample('tollbridge_ledger_batch_size_sum')), '6');
  });

  it('tells the status page what it knows of a source, and nothing it does not know', (t) => {
    const health = healthOver(t, []);
    assert.equal(health.isUp('socket'), false);
    assert.equal(health.lastSuccessMs('socket'), undefined);
    assert.equal(health.events('socket').received, 0);
    health.up('socket', true);
    health.success('socket', 5);
    assert.equal(health.isUp('socket'), true);
    assert.equal(health.lastSuccessMs('socket'), 5);
    health.up('socket', false);
    assert.equal(health.isUp('socket'), false);
  });

  it('holds more label sets than the SDK would by default', async (t) => {
    const sources = Array.from({ length: 2_500 }, (_, n) => `source-${n}`);
    const text = await healthOver(t, [], sources).scrape();
    assert.doesNotMatch(text, /otel_metric_overflow/);
    assert.equal(text.match(/^tollbridge_events_received_total\{/gm)!.length, 2_500);
  });

  it('stops once, however often it is told, and scrapes fail from then on', async (t) => {
    const health = healthOver(t, []);
    await health.shutdown();
    await health.shutdown();
    await assert.rejects(health.scrape(), /shutdown/);
  });
});
