// What a real OpenCode sent, decoded: the last complete description of each message adds up to the stated truth.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { type Decoded, decodeBody, decodeHook } from '../../src/turn/normalize.ts';
import type { StatedEvent, StatedTurn, TokenCounts, ToolEvent } from '../../src/turn/turn-event.ts';
import { opencodeId } from './opencode-sample.ts';

const FOLDER = path.join(import.meta.dirname, '../fixtures/opencode');

interface Expected {
  turns: Record<string, number>;
  cost_nano_usd: Record<string, number>;
  tokens: Record<string, Partial<TokenCounts>>;
  tool_calls: Record<string, number>;
  sessions: number;
  never_finished: number;
}

const read = (file: string) => readFileSync(path.join(FOLDER, file), 'utf8');
const bodiesOf = (file: string): string[] =>
  read(file)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { body: string }).body);

/** What the events show when each message counts once, by its latest description. */
function summary(events: StatedEvent[]): Expected {
  const turns = new Map<string, StatedTurn>();
  const tools = new Map<string, ToolEvent>();
  const sessions = new Set<string>();
  for (const event of events) {
    if (event.kind === 'session') sessions.add(event.sessionId);
    if (event.kind === 'tool' && event.origin === 'part') tools.set(`${event.sessionId} ${event.callId}`, event);
    if (event.kind === 'turn') {
      const known = turns.get(event.messageId);
      if (!known || (event.eventId ?? '') > (known.eventId ?? '')) turns.set(event.messageId, event);
    }
  }
  const shown: Expected = {
    turns: {},
    cost_nano_usd: {},
    tokens: {},
    tool_calls: {},
    sessions: sessions.size,
    never_finished: 0,
  };
  const add = (sums: Record<string, number>, key: string, n: number) => {
    sums[key] = (sums[key] ?? 0) + n;
  };
  for (const turn of turns.values()) {
    if (turn.phase === 'in_progress') {
      shown.never_finished++;
      continue;
    }
    const served = `${turn.provider}/${turn.model}`;
    add(shown.turns, `${served} ${turn.status}`, 1);
    add(shown.cost_nano_usd, served, turn.costNano ?? 0);
    shown.tokens[served] ??= {};
    for (const [type, count] of Object.entries(turn.tokens))
      add(shown.tokens[served] as Record<string, number>, type, count);
  }
  for (const tool of tools.values()) add(shown.tool_calls, `${tool.tool} ${tool.status}`, 1);
  return shown;
}

function check(decoded: Decoded[], expectedFile: string): StatedEvent[] {
  assert.deepEqual(
    decoded.filter((one) => one.type === 'rejected'),
    [],
  );
  assert.deepEqual(
    decoded.filter((one) => one.type === 'ignored' && (one.kind === 'fork_copy' || one.kind === 'no_usage')),
    [],
  );
  const events = decoded.filter((one) => one.type === 'event').map((one) => one.event);
  const { events: _, forked_copies_to_ignore: copies, ...expected } = JSON.parse(read(expectedFile));
  assert.equal(copies, 0);
  assert.deepEqual(summary(events), expected);
  return events;
}

const captures = readdirSync(FOLDER).filter((file) => file.endsWith('.jsonl'));
test('all captures are here', () => assert.equal(captures.length, 14));

for (const file of captures) {
  test(`capture ${file}`, () => {
    const bodies = bodiesOf(file);
    const expected = file.replace('.jsonl', '.expected.json');
    const events = check(
      bodies.flatMap((body) => decodeHook('opencode', JSON.parse(body), {})),
      expected,
    );
    for (const event of events) {
      if (event.kind === 'turn' || event.kind === 'session') assert.equal(event.project, 'shop');
    }
    const records = bodies.map((body) => `{"source":"opencode","account_id":"","payload":${body}}`);
    check(
      decodeBody(Buffer.from(records.join('\n'))).map((one) => one.decoded),
      expected,
    );
  });
}

test('the spool of one turn', () => {
  const files = readdirSync(path.join(FOLDER, 'spool'));
  assert.equal(files.length, 82);
  const decoded = files
    .flatMap((file) => decodeBody(readFileSync(path.join(FOLDER, 'spool', file))))
    .map((one) => one.decoded);
  check(decoded, 'spool.expected.json');
});

test('the reasons of captured errors', () => {
  const reasons = bodiesOf('e-errors-4xx.jsonl')
    .flatMap((body) => decodeHook('opencode', JSON.parse(body), {}))
    .flatMap((one) =>
      one.type === 'event' && one.event.kind === 'turn' && one.event.status === 'error'
        ? [`${one.event.model} ${one.event.reason}`]
        : [],
    );
  assert.deepEqual([...new Set(reasons)].sort(), ['err-400 other', 'err-401 auth', 'err-402 credits']);
});

test('a fork of a captured session gives copies only', () => {
  const forkedAtMs = 1795294000000;
  const id = (prefix: string, ms: number) => opencodeId(prefix, ms, 1, 'AbCdEfGh012345');
  const kinds = bodiesOf('b-tools.jsonl')
    .map((body) => body.replace(/ses_\w+/g, id('ses', forkedAtMs)).replace(/msg_\w+/g, id('msg', forkedAtMs + 2)))
    .flatMap((body) => decodeHook('opencode', JSON.parse(body), {}))
    .filter(
      (one) =>
        one.type === 'event' &&
        (one.event.kind === 'turn' || (one.event.kind === 'tool' && one.event.origin === 'part')),
    );
  assert.deepEqual(kinds, []);
});
