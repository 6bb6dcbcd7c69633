import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import type { CollectionResult, MetricData } from '@opentelemetry/sdk-metrics';
import fc from 'fast-check';
import type { CounterPoint, HistogramPoint } from '../../src/ledger/reading.ts';
import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { Exposition } from '../../src/metrics/exposition.ts';
import { fullHand, type HandMade, parseExposition, producerOf, rendered, sample } from './fixture.ts';

const NAMES = new Map((Object.values(TOLL) as MetricFamily[]).map(({ otelName, name }) => [otelName, name]));

const metricsOf = ({ resourceMetrics }: CollectionResult): MetricData[] => resourceMetrics.scopeMetrics[0]!.metrics;

/** The serializer of the exporter, told the catalogue's names: it knows nothing of unit suffixes. */
function oracleText(result: CollectionResult): string {
  const metrics = metricsOf(result).map((metric) => {
    const name = NAMES.get(metric.descriptor.name)!.replace(/_total$/, '');
    return { ...metric, descriptor: { ...metric.descriptor, name } };
  });
  const { resource, scopeMetrics } = result.resourceMetrics;
  const renamed = { resource, scopeMetrics: [{ scope: scopeMetrics[0]!.scope, metrics }] };
  return new PrometheusSerializer(undefined, false, undefined, true, true).serialize(renamed);
}

async function assertEqualsOracle(hand: HandMade): Promise<void> {
  const result = await producerOf(hand).collect();
  const ours = parseExposition(await rendered(new Exposition(), metricsOf(result)));
  const oracle = parseExposition(oracleText(result));
  assert.deepEqual(ours.types, oracle.types);
  assert.deepEqual(ours.help, oracle.help);
  assert.deepEqual([...ours.samples].sort(), [...oracle.samples].sort());
}

const costOf = (values: readonly (readonly [Record<string, string>, number])[]): HandMade => ({
  counters: { [TOLL.cost.name]: values.map(([labels, value]) => ({ labels, value })) },
});

describe('the exposition of the ledger', () => {
  it('says the same as PrometheusSerializer for every family', () => assertEqualsOracle(fullHand()));

  it('says the same for odd label values', async () => {
    const odd = [
      '"',
      '\\',
      '\n',
      '\\n',
      'a"b\\c\nd',
      '',
      ' ',
      '{},=',
      'naïve 東京 🚋',
      '\r\t',
      'a\\',
      '{"a":"b"}',
      '#',
    ];
    await assertEqualsOracle(costOf(odd.map((model, value) => [{ model }, value])));
  });

  it('says the same for any labels and values', async () => {
    const name = fc.stringMatching(/^[a-z](_?[a-z0-9])*$/);
    const labels = fc.dictionary(name, fc.string({ unit: 'binary' }), { maxKeys: 4 });
    const series = fc.uniqueArray(fc.tuple(labels, fc.nat()), { selector: ([set]) => sample('', set), maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(series, (values) => assertEqualsOracle(costOf(values))),
      { numRuns: 60 },
    );
  });

  it('says the same from scrape to scrape, whatever came, went or changed in between', async () => {
    const change = fc.record({
      series: fc.nat(40),
      what: fc.constantFrom('raise', 'raise', 'raise', 'observe', 'observe', 'go'),
      by: fc.nat(1000),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(change, { maxLength: 30 }), { minLength: 2, maxLength: 6 }),
        fc.constantFrom(1, 500, 16_384),
        async (rounds, pieceBytes) => {
          const counters: CounterPoint[] = [];
          const histograms: HistogramPoint[] = [];
          const buckets = (TOLL.turnDuration.buckets ?? []).length + 1;
          const hand: HandMade = {
            counters: { [TOLL.cost.name]: counters },
            histograms: { [TOLL.turnDuration.name]: histograms },
          };
          const of = <T extends { readonly labels: object }>(
            points: T[],
            series: number,
            make: (labels: Record<string, string>) => T,
          ) => {
            const model = `model-${series}-${'x'.repeat(series * 7)}`;
            const at = points.findIndex(({ labels }) => (labels as { model?: string }).model === model);
            return at >= 0 ? at : points.push(make({ model })) - 1;
          };
          const exposition = new Exposition({ pieceBytes });
          const earlier: { pieces: readonly Buffer[]; text: string }[] = [];
          for (const round of rounds) {
            for (const { series, what, by } of round) {
              if (what === 'observe') {
                const at = of(histograms, series, (labels) => ({
                  labels,
                  counts: new Array<number>(buckets).fill(0),
                  sum: 0,
                  count: 0,
                }));
                const { labels, counts, sum, count } = histograms[at]!;
                histograms[at] = {
                  labels,
                  counts: counts.map((each, n) => each + (n === by % buckets ? 1 : 0)),
                  sum: sum + by,
                  count: count + 1,
                };
              } else {
                const at = of(counters, series, (labels) => ({ labels, value: 0 }));
                if (what === 'go') counters.splice(at, 1);
                else counters[at] = { ...counters[at]!, value: counters[at]!.value + by };
              }
            }
            const result = await producerOf(hand, []).collect();
            const pieces = await exposition.render(metricsOf(result));
            const text = Buffer.concat(pieces).toString();
            const ours = parseExposition(text);
            assert.deepEqual([...ours.samples].sort(), [...parseExposition(oracleText(result)).samples].sort());
            const models = [...text.matchAll(/toll_cost_usd_total\{model="(.+)"\}/g)].map(([, model]) => model);
            assert.deepEqual(models, models.toSorted(), 'sorted, whatever came when');
            earlier.push({ pieces, text });
          }
          for (const { pieces, text } of earlier) {
            assert.equal(Buffer.concat(pieces).toString(), text, 'what was handed out stays as it was');
          }
        },
      ),
      { numRuns: 120 },
    );
  });

  it('spells numbers as Prometheus wants them', async () => {
    const nano = [0, 1, 1e9, 1.5e9, 2 ** 53 - 1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    const hand = costOf(nano.map((value, index) => [{ model: `m${index}` }, value]));
    const { samples } = parseExposition(await rendered(new Exposition(), metricsOf(await producerOf(hand).collect())));
    assert.deepEqual(
      nano.map((_, index) => samples.get(sample(TOLL.cost.name, { model: `m${index}` }))),
      ['0', '1e-9', '1', '1.5', '9007199.25474099', 'NaN', '+Inf', '-Inf'],
    );
  });

  it('writes cumulative buckets up to +Inf, also without labels', async () => {
    const [metric] = metricsOf(
      await producerOf({
        histograms: {
          [TOLL.toolDuration.name]: [{ labels: {}, counts: [1, 0, 2, ...Array(10).fill(0), 1], sum: 2500, count: 4 }],
        },
      }).collect(),
    );
    const text = await rendered(new Exposition(), [metric!]);
    const lines = text.split('\n').filter((line) => line.startsWith(TOLL.toolDuration.name));
    assert.equal(lines[0], 'toll_tool_duration_seconds_bucket{le="0.01"} 1');
    assert.equal(lines[2], 'toll_tool_duration_seconds_bucket{le="0.1"} 3');
    assert.deepEqual(lines.slice(-3), [
      'toll_tool_duration_seconds_bucket{le="+Inf"} 4',
      'toll_tool_duration_seconds_sum 2.5',
      'toll_tool_duration_seconds_count 4',
    ]);
  });

  it('sorts series by their labels, whatever order they came in, also when some come and go', async () => {
    const exposition = new Exposition();
    const hand = costOf(['c', 'a', 'b'].map((model) => [{ model }, 1]));
    const producer = producerOf(hand, []);
    const models = async () => {
      const text = await rendered(exposition, metricsOf(await producer.collect()));
      return [...text.matchAll(/toll_cost_usd_total\{model="(\w+)"\}/g)].map((match) => match[1]).join('');
    };
    assert.equal(await models(), 'abc');
    const points = hand.counters![TOLL.cost.name]!;
    points.push({ labels: { model: 'aa' }, value: 1 }, { labels: { model: 'Z' }, value: 1 });
    assert.equal(await models(), 'Zaaabc');
    points.splice(0, 2);
    assert.equal(await models(), 'Zaab');
    points.reverse();
    assert.equal(await models(), 'Zaab');
  });

  it('shows the new value of a series that it knows', async () => {
    const exposition = new Exposition();
    const hand = costOf([[{ model: 'a' }, 1e9]]);
    const producer = producerOf(hand, []);
    const text = async () => await rendered(exposition, metricsOf(await producer.collect()));
    assert.match(await text(), /toll_cost_usd_total\{model="a"\} 1\n/);
    hand.counters![TOLL.cost.name]![0] = { ...hand.counters![TOLL.cost.name]![0]!, value: 2e9 };
    assert.match(await text(), /toll_cost_usd_total\{model="a"\} 2\n/);
  });

  it('gives way to others meanwhile, and two renders at once do not disturb each other', async () => {
    const hand = costOf(Array.from({ length: 50_000 }, (_, n) => [{ model: `m${n}` }, n]));
    const exposition = new Exposition();
    const metrics = metricsOf(await producerOf(hand, []).collect());
    let turnsOfOthers = 0;
    let isRendering = true;
    const other = () => {
      if (!isRendering) return;
      turnsOfOthers += 1;
      setImmediate(other);
    };
    setImmediate(other);
    const [one, two] = await Promise.all([rendered(exposition, metrics), rendered(exposition, metrics)]);
    isRendering = false;
    assert.ok(turnsOfOthers >= 2, `others had ${turnsOfOthers} turns`);
    assert.equal(one, two);
    assert.equal([...parseExposition(one).samples.keys()].filter((key) => key.includes(TOLL.cost.name)).length, 50_001);
  });

  it('refuses a metric that the catalogue does not know', async () => {
    const [metric] = metricsOf(await producerOf(fullHand()).collect());
    const stranger = { ...metric!, descriptor: { ...metric!.descriptor, name: 'stranger' } };
    await assert.rejects(new Exposition().render([stranger]), /stranger is not in the catalogue/);
  });
});
