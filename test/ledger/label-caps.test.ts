import assert from 'node:assert/strict';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { LabelCaps } from '../../src/ledger/label-caps.ts';
import { migrate } from '../../src/ledger/schema.ts';
import { TOLL } from '../../src/metrics/catalogue.ts';
import { Bench, labelSets, observed, temporaryFolder, total, WIDE_CAPS, windowRow } from './bench.ts';
import { HOUR_MS, NOON_MS, session, tokens, toolPart, turn } from './events.ts';

/** Spends on each value in turn; under which name each increment was exported. */
function spend(caps: LabelCaps, ...increments: [value: string, weight: number][]): string[] {
  return increments.map(([value, weight]) => caps.exported('model', value, weight));
}
const firstComers = (count: number, weight = 100): [string, number][] =>
  Array.from({ length: count }, (_, at) => [`first-${at}`, weight]);

describe('the slots of a label', () => {
  test('go to first comers, up to nine tenths, and what has one keeps it', () => {
    const caps = new LabelCaps({ model: 10 });
    const comers = firstComers(9);
    assert.deepEqual(
      spend(caps, ...comers),
      comers.map(([value]) => value),
    );
    assert.deepEqual(spend(caps, ['late', 1], ['first-0', 1], ['late', 1]), ['other', 'first-0', 'other']);
  });

  test('the last tenth goes to what spends more inside `other` than the median, from the next increment on', () => {
    const caps = new LabelCaps({ model: 10 });
    spend(caps, ...firstComers(9, 100));
    assert.deepEqual(spend(caps, ['late', 60], ['late', 40]), ['other', 'other'], 'as much is not more');
    assert.deepEqual(spend(caps, ['late', 1], ['late', 1]), ['other', 'late']);
    assert.deepEqual(spend(caps, ['later', 1e9], ['later', 1e9]), ['other', 'other'], 'no slot is left');
    assert.deepEqual(spend(caps, ['first-8', 1], ['late', 1]), ['first-8', 'late']);
  });

  test('births take none, and are shown as long as there is room', () => {
    const caps = new LabelCaps({ model: 10 });
    const born = Array.from({ length: 12 }, (_, at): [string, number] => [`born-${at}`, 0]);
    const shown = [...born.slice(0, 10).map(([value]) => value), 'other', 'other'];
    assert.deepEqual(spend(caps, ...born), shown);
    assert.deepEqual(spend(caps, ...born), shown, 'once born, always shown');
    assert.deepEqual(
      spend(caps, ...firstComers(9)),
      firstComers(9).map(([value]) => value),
      'the slots were free',
    );
    assert.deepEqual(spend(caps, ['born-0', 5]), ['other']);
  });

  test('a birth that then spends makes room for another birth', () => {
    const caps = new LabelCaps({ model: 10 });
    for (let at = 0; at < 8; at++) {
      assert.deepEqual(spend(caps, [`m-${at}`, 0], [`m-${at}`, 1]), [`m-${at}`, `m-${at}`]);
    }
    assert.deepEqual(spend(caps, ['m-8', 0]), ['m-8']);
  });

  const LIMITS: [limit: number, own: number][] = [
    [1, 1],
    [2, 1],
    [3, 2],
    [10, 9],
    [19, 17],
    [20, 18],
  ];
  for (const [limit, own] of LIMITS) {
    test(`a cap of ${limit} serves ${own} first comers`, () => {
      const exported = spend(new LabelCaps({ model: limit }), ...firstComers(30));
      assert.equal(new Set(exported).size - 1, own);
    });
  }

  test('labels without a cap, left-out labels and `other` itself pass', () => {
    const caps = new LabelCaps({ model: 1 });
    spend(caps, ['one', 1]);
    assert.deepEqual([caps.exported('status', 'ok', 1), caps.exported('status', 'error', 1)], ['ok', 'error']);
    assert.deepEqual(spend(caps, ['', 1], ['other', 1], ['two', 1]), ['', 'other', 'other']);
  });

  test('are remembered on disk; a lower cap takes none away, a higher one opens new ones', (t) => {
    const file = path.join(temporaryFolder(t), 'caps.db');
    const db = new DatabaseSync(file);
    t.after(() => db.close());
    migrate(db, file);
    const caps = new LabelCaps({ model: 10 });
    spend(caps, ...firstComers(9), ['late', 60]);
    caps.flush(db);
    const restarted = (model: number) => {
      const next = new LabelCaps({ model });
      next.load(db);
      return next;
    };
    assert.deepEqual(spend(restarted(10), ['late', 41], ['late', 1], ['first-3', 1]), ['other', 'late', 'first-3']);
    assert.deepEqual(spend(restarted(2), ['first-8', 1], ['new', 1e9], ['new', 1]), ['first-8', 'other', 'other']);
    assert.deepEqual(spend(restarted(20), ['late', 1], ['new', 1]), ['late', 'new']);
  });

  test('weights stay exact integers whatever is spent', (t) => {
    const file = path.join(temporaryFolder(t), 'caps.db');
    const db = new DatabaseSync(file);
    t.after(() => db.close());
    migrate(db, file);
    const caps = new LabelCaps({ model: 10 });
    spend(caps, ['rich', Number.MAX_SAFE_INTEGER], ['rich', Number.MAX_SAFE_INTEGER]);
    caps.flush(db);
    assert.equal(db.prepare('SELECT weight FROM label_value').get()?.weight, Number.MAX_SAFE_INTEGER);
  });
});

describe('a ledger whose labels are capped', () => {
  const MODELS = 12;
  const spends = Array.from({ length: MODELS }, (_, at) =>
    turn({ model: `m-${at}`, messageId: `msg_${at}`, costNano: 10 + at, tokens: tokens({ input: 1, output: 2 }) }),
  );
  const models = (bench: Bench) => new Set(labelSets(bench.ledger, TOLL.cost).map(({ model }) => model));

  test('folds what came too late; sums are exact, the windows know the true model, a restart keeps all', async (t) => {
    const caps = { ...WIDE_CAPS, model: 5 };
    const bench = new Bench(t, { caps });
    for (const event of spends) await bench.submit(event);
    assert.deepEqual(models(bench), new Set(['m-0', 'm-1', 'm-2', 'm-3', 'other']));
    const sum = spends.reduce((cost, { costNano = 0 }) => cost + costNano, 0);
    assert.equal(total(bench.ledger, TOLL.cost), sum);
    assert.equal(total(bench.ledger, TOLL.tokens), 3 * MODELS);
    assert.equal(total(bench.ledger, TOLL.turns), MODELS);
    assert.equal(total(bench.ledger, TOLL.seriesOverflow), MODELS - 4);
    assert.equal(windowRow(bench.ledger, 'all', 'm-11').costNano, 21);

    bench.reopen();
    await bench.submit(turn({ model: 'm-3', messageId: 'msg_again', costNano: 1000 }));
    assert.equal(total(bench.ledger, TOLL.cost, { model: 'm-3' }), 1013);
    // A correction goes where the turn was booked, also after the cap was raised.
    bench.reopen({ caps: { ...caps, model: 100 } });
    const other = total(bench.ledger, TOLL.cost, { model: 'other' });
    await bench.submit({ ...spends[11]!, costNano: 121, eventId: 'evt_2' });
    assert.equal(total(bench.ledger, TOLL.cost, { model: 'other' }), other + 100);
    await bench.submit(turn({ model: 'm-11', messageId: 'msg_new', costNano: 7 }));
    assert.equal(total(bench.ledger, TOLL.cost, { model: 'm-11' }), 7);
  });

  test('births take no slot from what spends', async (t) => {
    const bench = new Bench(t, { caps: { ...WIDE_CAPS, model: 5 } });
    await bench.submit(
      ...Array.from({ length: 5 }, (_, at) => turn({ phase: 'in_progress', model: `b-${at}`, messageId: `b_${at}` })),
    );
    await bench.submit(...spends.slice(0, 4));
    assert.equal(total(bench.ledger, TOLL.cost, { model: 'm-3' }), 13);
    assert.equal(total(bench.ledger, TOLL.cost, { model: 'other' }), 0);
  });

  test('caps projects, users, tools and MCP servers each on their own', async (t) => {
    const bench = new Bench(t, { caps: { ...WIDE_CAPS, project: 2, user: 2, tool: 2, mcp_server: 2 } });
    for (let at = 0; at < 4; at++) {
      const said = { sessionId: `ses_${at}`, messageId: `msg_${at}`, project: `p-${at}` };
      await bench.submit(turn({ ...said, user: `u-${at}`, costNano: 1 }), session(said));
      await bench.submit(toolPart({ ...said, tool: `t-${at}`, mcpServer: `s-${at}` }));
    }
    const values = (family: typeof TOLL.cost, name: string) =>
      [...new Set(labelSets(bench.ledger, family).map((labels) => labels[name]))].sort();
    assert.deepEqual(values(TOLL.cost, 'user'), ['other', 'u-0']);
    assert.deepEqual(values(TOLL.cost, 'project'), ['other', 'p-0']);
    assert.deepEqual(values(TOLL.sessions, 'project'), ['other', 'p-0']);
    assert.deepEqual(values(TOLL.toolCalls, 'tool'), ['other', 't-0']);
    assert.deepEqual(values(TOLL.toolCalls, 'mcp_server'), ['other', 's-0']);
    for (const family of [TOLL.cost, TOLL.turns, TOLL.sessions, TOLL.toolCalls]) {
      assert.equal(total(bench.ledger, family), 4, family.name);
    }
    assert.equal(observed(bench.ledger, TOLL.toolDuration).count, 4);
  });
});

describe('the cap on all series', () => {
  const SERIES = 200;

  test('folds everything new into `other`; sums are exact and every fold is counted', async (t) => {
    const caps = { ...WIDE_CAPS, series: SERIES };
    const bench = new Bench(t, { caps });
    const TURNS = 40;
    for (let at = 0; at < TURNS; at++) {
      const said = { model: `m-${at}`, messageId: `msg_${at}`, project: `p-${at}` };
      await bench.submit(turn({ ...said, costNano: 100 + at, tokens: tokens({ input: 3, output: 4 }) }));
    }
    const sum = TURNS * 100 + (TURNS * (TURNS - 1)) / 2;
    const exact = () => {
      assert.equal(total(bench.ledger, TOLL.cost), sum);
      assert.equal(total(bench.ledger, TOLL.tokens), 7 * TURNS);
      assert.equal(total(bench.ledger, TOLL.turns), TURNS);
      assert.equal(observed(bench.ledger, TOLL.turnDuration).count, TURNS);
    };
    exact();
    const [folded, ...more] = labelSets(bench.ledger, TOLL.cost).filter(({ model }) => model === 'other');
    assert.deepEqual(more, []);
    assert.deepEqual(Object.values(folded!), ['other', 'other', 'other', 'other', 'other']);
    const own = labelSets(bench.ledger, TOLL.cost).length - 1;
    assert.ok(own >= 1 && own < TURNS);
    assert.equal(total(bench.ledger, TOLL.seriesOverflow, { metric: TOLL.turns.name }), TURNS - own);
    assert.ok(total(bench.ledger, TOLL.seriesOverflow, { metric: TOLL.turnDuration.name }) > 0);

    // What is taken back is taken from the series that has it.
    for (let at = 0; at < TURNS; at++) {
      const said = { model: `m-${at}`, messageId: `msg_${at}`, project: `p-${at}`, eventId: 'evt_2' };
      await bench.submit(turn({ ...said, costNano: 1, tokens: tokens({ input: 1 }) }));
    }
    exact();
    for (const [up, down] of [
      [TOLL.cost, TOLL.costCorrections],
      [TOLL.tokens, TOLL.tokensCorrections],
    ] as const) {
      const stated = new Map(
        [...bench.ledger.counters(up.name)].map((point) => [JSON.stringify(point.labels), point.value]),
      );
      for (const { labels, value } of bench.ledger.counters(down.name)) {
        assert.ok(value <= (stated.get(JSON.stringify(labels)) ?? 0), `${down.name} ${JSON.stringify(labels)}`);
      }
      assert.equal(total(bench.ledger, up) - total(bench.ledger, down), TURNS);
    }
    const before = total(bench.ledger, TOLL.cost, { model: 'other' });
    bench.reopen();
    exact();
    assert.equal(total(bench.ledger, TOLL.cost, { model: 'other' }), before);
    await bench.settleAt(NOON_MS + HOUR_MS);
    assert.equal(observed(bench.ledger, TOLL.modelDuration).count, TURNS);
  });
});
