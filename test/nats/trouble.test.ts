import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errors } from 'nats';
import { streamTrouble } from '../../src/nats/trouble.ts';

test('what a user may not do is told as what to allow, and the same each time', () => {
  const told = (said: string) =>
    streamTrouble(errors.PermissionViolationError.parse(`Permissions Violation for ${said}`), { stream: 'TOLL' });
  for (const inbox of ['dCxHs8mPsC9pPxj2bGj1S0.*', 'dCxHs8mPsC9pPxj2bGj1bQ']) {
    assert.match(told(`Subscription to "_INBOX_relay.${inbox}"`), /may not subscribe to _INBOX_relay\.>\. What/);
  }
  const subject = `toll.turns.core.${'a'.repeat(22)}`;
  assert.ok(told(`Publish to "${subject}"`).includes(`may not publish to ${subject}. What`));
});
