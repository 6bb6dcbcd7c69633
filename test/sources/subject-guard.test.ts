import assert from 'node:assert/strict';
import { test } from 'node:test';
import { guarded } from '../../src/sources/subject-guard.ts';
import type { Decoded } from '../../src/turn/decoded.ts';

const poll = (provider: string, account: string): Decoded => ({
  type: 'poll',
  poll: {
    snapshot: {
      ...{ provider, account, takenMs: 1, status: 'ok' },
      ...{ metrics: {}, resets: {}, attributes: {}, models: [] },
    },
  },
});
const session: Decoded = { type: 'event', event: { kind: 'session', agent: 'opencode', sessionId: 's' } };
const ignored: Decoded = { type: 'ignored', kind: 'delta' };
const told = (items: readonly Decoded[]) =>
  items.map((item) =>
    item.type === 'poll' ? `${item.poll.snapshot.provider}/${item.poll.snapshot.account}` : item.type,
  );

test("under somebody's turns no account is told of", () => {
  const { identity, decoded, mismatches } = guarded('toll.turns.core.ada', [session, poll('zai', 'w'), ignored]);
  assert.deepEqual(identity, { team: 'core', user: 'ada' });
  assert.deepEqual(told(decoded), ['event', 'rejected', 'ignored']);
  assert.equal(mismatches, 0);
});

test('under an account only its own readings count, whatever they call themselves', () => {
  const { identity, decoded, mismatches } = guarded('toll.polls.zai.w', [
    poll('zai', 'w'),
    poll('xai', 'v'),
    session,
    ignored,
  ]);
  assert.deepEqual(identity, {});
  assert.deepEqual(told(decoded), ['zai/w', 'zai/w', 'rejected', 'ignored']);
  assert.equal(mismatches, 1);
});

test('under a subject that names no account there is none', () => {
  assert.deepEqual(told(guarded('toll.polls.zai.a=40b', [poll('zai', 'w')]).decoded), ['rejected']);
});
