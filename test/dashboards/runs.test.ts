// The dashboard of runs, as far as it can be judged without Tempo and Loki: its queries are read by their own grammars, and
// ask for what is really sent.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { parser as logql } from '@grafana/lezer-logql';
import { parser as traceql } from '@grafana/lezer-traceql';
import type { LRParser } from '@lezer/lr';
import { parse } from 'yaml';
import { PLACED, runsDashboardFile } from '../../dashboards/grafana/pack.ts';
import { chatSpan, runSpan, turnLog, verdictLog } from '../../src/traces/telling.ts';
import type { TurnEvent } from '../../src/turn/turn-event.ts';

interface Target {
  readonly query?: string;
  readonly expr?: string;
  readonly spss?: number;
}
const dashboard = JSON.parse(runsDashboardFile().text) as {
  uid: string;
  links: { tags: string[] }[];
  panels: { title: string; description: string; datasource: { type: string }; targets: Target[] }[];
};
const targets = (type: string) =>
  dashboard.panels.filter(({ datasource }) => datasource.type === type).flatMap((panel) => panel.targets);
/** As Grafana fills them in. */
const filled = (text = '') =>
  text.replaceAll('$agent', '.+').replaceAll('$session', 'ses_1').replaceAll('$__range', '6h').replaceAll('$$', '$');

/** Whether a text is a query of that language. */
function isQuery(parser: LRParser, text: string): boolean {
  let isSound = true;
  parser.parse(text).iterate({
    enter: ({ type }) => {
      if (type.isError) isSound = false;
    },
  });
  return isSound;
}

const TURN: TurnEvent = {
  ...{ kind: 'turn', agent: 'opencode', sessionId: 'ses_1', messageId: 'm', phase: 'completed', status: 'error' },
  ...{ reason: 'overloaded', startedMs: 1, completedMs: 2, provider: 'p', model: 'm', upstreamProvider: 'u' },
  ...{ upstreamEvidence: 'direct', pricing: 'stated', costNano: 1, project: 'shop', user: 'ana', team: 'platform' },
  tokens: { input: 1, output: 1, reasoning: 1, cache_read: 1, cache_write: 1 },
};
const PLACE = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) };
const RUN = runSpan(
  {
    ...{ agent: 'opencode', sessionId: 's', startMs: 1, endMs: 2, calls: 1, toolCalls: 1, costNano: 1 },
    ...{ errorType: 'overloaded', project: 'shop', user: 'ana' },
  },
  PLACE,
);

test('every query is one, by the grammar of its store', () => {
  assert.equal(targets('tempo').length, 1);
  assert.equal(targets('loki').length, 3);
  for (const { query } of targets('tempo')) assert.ok(isQuery(traceql, filled(query)), query);
  for (const { expr } of targets('loki')) assert.ok(isQuery(logql, filled(expr)), expr);
  assert.ok(!isQuery(traceql, '{ name = }'), 'control');
  assert.ok(!isQuery(logql, '{a="b"} | = "c"'), 'control');
  const { datasources } = parse(
    readFileSync(path.join(import.meta.dirname, '../../deploy/grafana/runs-datasources.yaml'), 'utf8'),
  ) as { datasources: { jsonData: { tracesToLogsV2?: { query: string } } }[] };
  const between = datasources.flatMap(({ jsonData }) => jsonData.tracesToLogsV2?.query ?? []);
  assert.equal(between.length, 1);
  for (const query of between) assert.ok(isQuery(logql, filled(query)), query);
});

test('what queries ask for is what is sent', () => {
  const [{ query = '' } = {}] = targets('tempo');
  const asked = [...query.matchAll(/span\.([a-z_.]+[a-z_])/g)].map(([, name]) => name!);
  assert.ok(asked.length > 6);
  for (const name of asked) assert.ok(name in RUN.attributes, name);
  assert.ok(query.includes(`"${RUN.attributes['gen_ai.operation.name']}"`));
  assert.ok(!('toll.run.cost.usd' in chatSpan(TURN, PLACE).attributes), 'control: a call is no run');

  const underscored = (attributes: object) => Object.keys(attributes).map((name) => name.replaceAll('.', '_'));
  const known = new Set([
    ...underscored(turnLog({ ...TURN, estimatedNano: 1 }, PLACE).attributes),
    ...underscored(turnLog(TURN, PLACE).resource.attributes),
    ...underscored(verdictLog({ decision: 'stop', rule: 'r', agent: 'a', provider: 'p', model: 'm' }, 1).attributes),
  ]);
  for (const { expr = '' } of targets('loki')) {
    const names = [...expr.matchAll(/\b((?:toll|gen_ai|service)_[a-z_]+)/g)].map(([, name]) => name!);
    assert.ok(names.length > 2);
    for (const name of names) assert.ok(known.has(name), `${name} in ${expr}`);
  }
});

test('sub-agents are listed too, one agent is no other whose name contains its own, and no cost is left out', () => {
  const [{ query = '', spss } = {}] = targets('tempo');
  // Without a number Tempo answers with three spans of each trace; above 100 it refuses.
  assert.equal(spss, 100);
  // Not every Tempo anchors expressions.
  const [, pattern] = /resource\.service\.name =~ "([^"]+)"/.exec(query.replaceAll('$agent', 'codex'))!;
  assert.ok(new RegExp(pattern!).test('codex'));
  assert.ok(!new RegExp(pattern!).test('my_codex_2'));
  const summed = targets('loki').flatMap(({ expr = '' }) => /unwrap (\w+)/.exec(expr)?.[1] ?? []);
  // Most agents state no cost: theirs is estimated where a rule prices it.
  const ofCost = Object.keys(turnLog({ ...TURN, estimatedNano: 1 }, PLACE).attributes).filter((name) =>
    name.startsWith('toll.cost.'),
  );
  assert.deepEqual(
    summed,
    ofCost.map((name) => name.replaceAll('.', '_')),
  );
});

test('it is found from the other dashboards, and stands apart from them', () => {
  assert.ok(!PLACED.some((placed) => placed.dashboard.uid === dashboard.uid));
  assert.equal(path.dirname(runsDashboardFile().file), 'dashboards/runs');
  assert.deepEqual(
    dashboard.links.map(({ tags }) => tags),
    PLACED[0]!.dashboard.links!.map(({ tags }) => tags),
  );
  for (const { description } of dashboard.panels) assert.ok(description.length > 40);
});
