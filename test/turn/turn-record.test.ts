// The quick reading of a turn's record beside its schema, which says what a record means.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeEventRecord, turnBySchema } from '../../src/turn/event-record.ts';
import { isObject } from '../../src/turn/fields.ts';
import { readTurn } from '../../src/turn/turn-record.ts';
import { randomFrom } from '../composed-stream.ts';

const WHOLE = {
  ...{ v: 1, kind: 'turn', agent: 'opencode', provider: ' Anthropic', model: 'claude-sonnet-4-5' },
  id: { session: 'ses_1', message: 'msg_1', prompt: 'p1', subagent: 'agent_1' },
  event_id: 'evt_1',
  provider_basis: 'assumed',
  time: { started: 1_790_000_000_000, completed: '2026-09-21T12:00:00Z' },
  ...{
    finished: true,
    completed: true,
    upstream_provider: 'anthropic',
    project: '/home/ada/shop',
    account_id: ' main ',
  },
  ...{ status: 'error', reason: 'rate_limit', cost_usd: 0.0042, is_title: true, awaits_session: true },
  tokens: { input: 1000, output: '100', reasoning: 0, cache_read: 5000, cache_write: -0 },
  ...{ team: 'core', user: 'ada' },
};

const LEAST = {
  ...{ v: 1, kind: 'turn', agent: 'codex', provider: 'openai', model: 'gpt-5' },
  id: { session: 's', message: 'm' },
  time: { started: 1_790_000_000 },
};

const STRANGE: readonly unknown[] = [
  ...[undefined, null, '', ' ', 0, -0, 1, -1, 0.5, 1e9, 1e10, 1e300, '7', ' 7 ', '-7', '1e3', '0x7', 'ok', 'aborted'],
  ...[true, false, [], {}, [1], { session: 1 }, { input: 1 }, 'x'.repeat(129), 'x'.repeat(201), '/home/ada/shop'],
  ...['ada@example.com', 'sk-abcdefgh12', 'a b', 'a\u202eb', 'a\nb', '\ud800', 'é', 'C:\\shop', '~/.config', '../x'],
  ...['2026-01-01', '2026-13-01', '2026-01-01T00:00:00+0200', 1_790_000_000_000_000, Date.UTC(2101, 0, 1), '__proto__'],
];

/** A record with some of its fields replaced, left out, or added. */
function changed(record: object, random: () => number): Record<string, unknown> {
  const pick = <T>(from: readonly T[]) => from[Math.floor(random() * from.length)]!;
  const entries = Object.entries(record).map(([key, value]): [string, unknown] => {
    if (isObject(value) && random() < 0.7) return [key, changed(value, random)];
    return [key, random() < 0.06 ? pick(STRANGE) : value];
  });
  const left = entries.filter(() => random() > 0.02);
  return Object.fromEntries(random() < 0.1 ? [...left, ['more', pick(STRANGE)]] : left);
}

test('a record means the same by the quick reading as by its schema', (t) => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = randomFrom(seed);
  let quick = 0;
  const rounds = 20_000;
  for (let round = 0; round < rounds; round++) {
    const record = { ...changed(random() < 0.5 ? WHOLE : LEAST, random), v: 1, kind: 'turn' };
    if (readTurn(record)) quick += 1;
    assert.deepStrictEqual(decodeEventRecord(record), turnBySchema(record), `seed ${seed}: ${JSON.stringify(record)}`);
  }
  t.diagnostic(`${quick} of ${rounds} records were in order; seed ${seed}`);
  assert.ok(quick > rounds / 5 && quick < rounds, 'both ways are taken');
});

test('the quick reading takes every record that the schema takes, and no other', () => {
  for (const record of [WHOLE, LEAST]) {
    assert.ok(readTurn(record));
    for (const [key, value] of Object.entries(record)) {
      for (const strange of [...STRANGE, value]) {
        const one = { ...record, v: 1, kind: 'turn', [key]: ['v', 'kind'].includes(key) ? value : strange };
        assert.equal(readTurn(one) !== undefined, turnBySchema(one).type === 'event', JSON.stringify(one));
      }
    }
  }
});
