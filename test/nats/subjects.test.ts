import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  accountIn,
  askerIn,
  identityIn,
  inboxOf,
  isInbox,
  pollSubject,
  turnFilter,
  turnSubject,
} from '../../src/nats/subjects.ts';

const LABEL = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

test('any team and user come back from their subject, and it is one subject of four tokens', () => {
  const label = fc.stringMatching(LABEL);
  fc.assert(
    fc.property(fc.record({ team: label, user: label }, { requiredKeys: [], noNullPrototype: true }), (identity) => {
      const subject = turnSubject(identity);
      assert.match(subject, /^toll\.turns\.[A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+$/);
      assert.deepEqual(identityIn(subject), identity);
    }),
  );
});

test('any account comes back from its subject', () => {
  const provider = fc.stringMatching(/^[a-z0-9][a-z0-9._/-]{0,63}$/);
  fc.assert(
    fc.property(fc.record({ provider, account: fc.stringMatching(LABEL) }, { noNullPrototype: true }), (account) => {
      const subject = pollSubject(account);
      // Also a key of a bucket.
      assert.match(subject, /^toll\.polls\.[-/=.\w]+$/);
      assert.equal(subject.split('.').length, 4);
      assert.deepEqual(accountIn(subject), account);
    }),
  );
});

const IDENTITIES: readonly [string, object | undefined][] = [
  ['toll.turns.core.ada', { team: 'core', user: 'ada' }],
  ['toll.turns.3.core.ada', { team: 'core', user: 'ada' }],
  ['toll.turns._._', {}],
  ['toll.turns.core._', { team: 'core' }],
  ['toll.turns.core.a=2Eb', { team: 'core', user: 'a.b' }],
  // What can be no label says nothing, and no e-mail becomes one.
  ['toll.turns.core.ada=40example=2Ecom', { team: 'core' }],
  ['toll.turns.core.=2Fhome=2Fada', { team: 'core' }],
  ['toll.turns.core.=FF=FE', { team: 'core' }],
  // One spelling each, which a server's permissions can name.
  ['toll.turns.core.=61da', { team: 'core' }],
  ['toll.turns.c=6Fre.ada', { user: 'ada' }],
  ['toll.turns.core', undefined],
  ['toll.turns.1.2.3.4', undefined],
  ['toll.turnsx.core.ada', undefined],
  ['toll.polls.core.ada', undefined],
];
for (const [subject, identity] of IDENTITIES) {
  test(`${subject} is ${identity ? JSON.stringify(identity) : 'nobody'}`, () =>
    assert.deepEqual(identityIn(subject), identity));
}

test('a partition reads its own subjects, counted from 0 on the server', () => {
  assert.equal(turnFilter({ k: 1, of: 1 }), 'toll.turns.>');
  assert.equal(turnFilter({ k: 1, of: 2 }), 'toll.turns.0.*.*');
  assert.equal(turnFilter({ k: 2, of: 2 }), 'toll.turns.1.*.*');
});

test('who asks is known by the one spelling too', () => {
  assert.deepEqual(askerIn('toll.verdict.core.a=2Eb'), { team: 'core', user: 'a.b' });
  assert.deepEqual(askerIn('toll.verdict.core.=61.b'), undefined);
  assert.deepEqual(askerIn('toll.verdict.c=6Fre.=61da'), {});
});

test('answers come to a place that is one user’s, and go to no subject of ours', () => {
  assert.equal(inboxOf({}), '_INBOX');
  assert.equal(inboxOf({ user: 'a.b>' }), '_INBOX_a=2Eb=3E');
  assert.equal(inboxOf({ user: 'ada', inbox: '_MINE' }), '_MINE');
  for (const subject of ['_INBOX.x', inboxOf({ user: 'ada' }), '_R_.x', '_GR_.x']) assert.equal(isInbox(subject), true);
  for (const subject of [turnSubject({}), '$KV.toll_budgets.policy', '$JS.ACK.TOLL.x', '']) {
    assert.equal(isInbox(subject), false, subject);
  }
});
