// What a machine passes on must be booked as if it had come from the agent itself: decode(encode(x)) is x.

import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Bookable, Decoded } from '../../src/turn/decoded.ts';
import { encodeRecord } from '../../src/turn/encode-record.ts';
import { decodeBody, decodeHook } from '../../src/turn/normalize.ts';
import { ERROR_REASONS, PROVIDER_BASES, type StatedTurn } from '../../src/turn/turn-event.ts';
import { decodeSnapshot } from '../../src/turn/usage-snapshot.ts';

const FIXTURES = path.join(import.meta.dirname, '../fixtures');
const isBookable = (item: Decoded): item is Bookable => item.type === 'event' || item.type === 'poll';
const travelled = (item: Bookable): Decoded[] =>
  decodeBody(Buffer.from(JSON.stringify(encodeRecord(item)))).map(({ decoded }) => decoded);

describe('what is passed on decodes to the same', () => {
  for (const file of globSync(path.join(FIXTURES, 'opencode/*.jsonl'))) {
    test(`every event of ${path.basename(file)}`, () => {
      const bodies = readFileSync(file, 'utf8').split('\n').filter(Boolean);
      const items = bodies
        .flatMap((line) => decodeHook('opencode', JSON.parse((JSON.parse(line) as { body: string }).body), {}))
        .filter(isBookable);
      assert.ok(items.length > 0);
      for (const item of items) assert.deepEqual(travelled(item), [item]);
    });
  }

  test('any turn', () => {
    const text = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,20}$/).filter((made) => !/^sk-/i.test(made));
    const ms = fc.integer({ min: Date.UTC(2020, 0, 2), max: Date.UTC(2099, 0, 1) });
    const count = fc.integer({ min: 0, max: 1e9 });
    const turn = fc
      .record(
        {
          ...{ kind: fc.constant('turn' as const), agent: fc.stringMatching(/^[a-z][a-z0-9_-]{0,31}$/) },
          ...{ sessionId: text, messageId: text, promptId: text, subagentId: text, eventId: text },
          ...{ startedMs: ms, completedMs: ms },
          phase: fc.constantFrom('in_progress' as const, 'finished' as const, 'completed' as const),
          status: fc.constantFrom('ok' as const, 'error' as const, 'aborted' as const),
          reason: fc.constantFrom(...ERROR_REASONS),
          ...{
            provider: text.map((made) => made.toLowerCase()),
            model: text.filter((made) => !/\.(gguf|bin|safetensors)$/i.test(made)),
          },
          ...{ upstreamHint: text, project: text, accountId: text },
          providerBasis: fc.constantFrom(...PROVIDER_BASES),
          tokens: fc.record(
            { input: count, output: count, reasoning: count, cache_read: count, cache_write: count },
            { noNullPrototype: true },
          ),
          costNano: fc.integer({ min: 0, max: 10_000 * 1e9 }),
          statedIdentity: fc.record({ team: text, user: text }, { noNullPrototype: true }),
        },
        {
          noNullPrototype: true,
          requiredKeys: [
            ...(['kind', 'agent', 'sessionId', 'messageId', 'startedMs', 'phase', 'status'] as const),
            ...(['provider', 'model', 'tokens'] as const),
          ],
        },
      )
      .map(({ completedMs, reason, ...rest }): StatedTurn => {
        const status = rest.phase === 'in_progress' ? 'ok' : rest.status;
        return {
          ...rest,
          status,
          ...(status === 'error' ? { reason: reason ?? 'other' } : {}),
          // That it is completed may be all that is known.
          ...(rest.phase === 'completed' && completedMs !== undefined
            ? { completedMs: Math.max(completedMs, rest.startedMs) }
            : {}),
        } as StatedTurn;
      });
    fc.assert(
      fc.property(turn, (event) => {
        assert.deepEqual(travelled({ type: 'event', event }), [{ type: 'event', event }]);
      }),
      { numRuns: 500 },
    );
  });

  test('tool calls, permissions and sessions that state as little as they may', () => {
    const base = { agent: 'opencode', sessionId: 's' };
    const events = [
      { kind: 'tool', ...base, callId: 'c', tool: 'bash', status: 'ok', origin: 'hook' },
      { kind: 'tool', ...base, callId: 'c', tool: 'mcp__git__log', mcpServer: 'git', status: 'error', origin: 'part' },
      { kind: 'permission', ...base, requestId: 'p' },
      { kind: 'permission', ...base, requestId: 'p', messageId: 'm', askedMs: 1.7e12, repliedMs: 1.7e12 + 5 },
      { kind: 'session', ...base },
    ] as const;
    for (const event of events) assert.deepEqual(travelled({ type: 'event', event }), [{ type: 'event', event }]);
  });

  test('a snapshot, with whom it came from', () => {
    for (const file of globSync(path.join(FIXTURES, 'openusage/*.json'))) {
      const stated = JSON.parse(readFileSync(file, 'utf8')) as { snapshots?: unknown[] };
      for (const snapshot of stated.snapshots ?? [stated]) {
        const decoded = decodeSnapshot(snapshot, { sentMs: 1.7e12, machine: 'laptop', intervalMs: 60_000 });
        if (isBookable(decoded)) assert.deepEqual(travelled(decoded), [decoded]);
      }
    }
  });
});

test('the text of a message goes no further', () => {
  const body = {
    event: {
      type: 'message.updated',
      properties: {
        info: {
          ...{ id: 'm', sessionID: 's', role: 'assistant', modelID: 'gpt', providerID: 'openai', finish: 'stop' },
          ...{ time: { created: 1.7e12, completed: 1.7e12 }, cost: 1, path: { root: '/home/canary/shop' } },
          ...{ tokens: { input: 1, output: 1 }, text: 'canary', parts: [{ text: 'canary' }] },
        },
      },
    },
  };
  const [item] = decodeHook('opencode', body, {}).filter(isBookable);
  const record = JSON.stringify(encodeRecord(item!));
  assert.match(record, /"cost_usd":1/);
  assert.doesNotMatch(record, /canary/);
});

describe('what telemetry brings decodes to the same', () => {
  const turn: StatedTurn = {
    ...{ kind: 'turn', agent: 'opencode', sessionId: 's1', messageId: 'span:1:2', phase: 'completed', status: 'ok' },
    ...{ startedMs: Date.UTC(2026, 1, 1), completedMs: Date.UTC(2026, 1, 1) + 5, provider: 'acme', model: 'small' },
    tokens: { input: 1, output: 2, reasoning: 0, cache_read: 0, cache_write: 0 },
    isTitle: true,
    awaitsSession: true,
  };
  const items: Readonly<Record<string, Bookable>> = {
    'a turn that waits for its session': { type: 'event', event: turn },
    'a failed attempt': {
      type: 'event',
      event: {
        ...{ kind: 'error', agent: 'codex', sessionId: 's1', attemptId: '179', failedMs: Date.UTC(2026, 1, 1) },
        ...{ provider: 'openai', providerBasis: 'assumed', model: 'gpt-5', reason: 'rate_limit' },
      },
    },
  };
  for (const [what, item] of Object.entries(items)) {
    test(what, () => assert.deepEqual(travelled(item), [item]));
  }
});
