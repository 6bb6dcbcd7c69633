import assert from 'node:assert/strict';
import test from 'node:test';
import { bornMs, isForkCopy } from '../../src/turn/opencode-id.ts';
import { opencodeId } from './opencode-sample.ts';

const WRAP_MS = 2 ** 36;
const NOW = Date.UTC(2026, 10, 21, 20, 45, 26, 721);
const DAY = 86_400_000;

const idOf = (prefix: string, ms: number, n = 1) => opencodeId(prefix, ms, n, 'AbCdEfGh012345');

test('the birth of real ids is the time that OpenCode stated beside them', () => {
  assert.equal(bornMs('ses_e0024aabeffeTJvYh8LUq04Z7L', NOW), 1795293926721);
  assert.equal(bornMs('msg_1ffdb5c12001FVGJyLAr5W8Gm0', NOW), 1795293928466);
});

test('the birth is the congruent time nearest to the given one', () => {
  const cases: [string, number, number][] = [
    ['same time', NOW, NOW],
    ['a year later', NOW, NOW + 365 * DAY],
    ['a year earlier', NOW, NOW - 365 * DAY],
    ['just over a wrap', Math.ceil(NOW / WRAP_MS) * WRAP_MS + 5, Math.ceil(NOW / WRAP_MS) * WRAP_MS - 5],
    ['just before a wrap', Math.ceil(NOW / WRAP_MS) * WRAP_MS - 5, Math.ceil(NOW / WRAP_MS) * WRAP_MS + 5],
  ];
  for (const [what, born, near] of cases) {
    for (const prefix of ['msg', 'ses', 'evt', 'prt', 'per']) {
      assert.equal(bornMs(idOf(prefix, born), near), born, `${what}, ${prefix}`);
      assert.equal(bornMs(idOf(prefix, born + WRAP_MS), near), born, `${what}, ${prefix}, one wrap on`);
    }
  }
});

test('what is no OpenCode id has no birth', () => {
  const id = idOf('msg', NOW);
  for (const other of [
    '',
    'msg_',
    'm1',
    id.slice(0, -1),
    `${id}x`,
    id.toUpperCase(),
    id.replace('msg', 'usr'),
    id.replace('_', '-'),
    id.replace(/.{3}$/, '---'),
  ]) {
    assert.equal(bornMs(other, NOW), undefined, other);
  }
});

test('a copy is a message born well after its time, in a session that is younger than that time', () => {
  const session = NOW;
  const cases: [string, { born: number; created: number; session: number }, boolean][] = [
    ['a real message, same ms', { born: NOW + 1745, created: NOW + 1745, session }, false],
    ['a real message, id 100 ms late', { born: NOW + 600, created: NOW + 500, session }, false],
    ['a real message, id before its time', { born: NOW + 400, created: NOW + 500, session }, false],
    ['the copy of a message of yesterday', { born: NOW + 3, created: NOW - DAY, session }, true],
    ['the copy of a message 102 ms before the fork', { born: NOW + 1, created: NOW - 101, session }, true],
    ['a fork within 100 ms of its message', { born: NOW + 1, created: NOW - 99, session }, false],
    ['the copy of a message of a year ago', { born: NOW + 3, created: NOW - 365 * DAY, session }, true],
    ['a real message in a session of a year ago', { born: NOW, created: NOW, session: NOW - 365 * DAY }, false],
    [
      'the clock was set back an hour after the session began',
      { born: NOW - 3_600_000, created: NOW - 3_600_000, session },
      false,
    ],
    [
      'the clock was set back between id and time, in an old session',
      { born: NOW, created: NOW - 3_600_000, session: NOW - DAY },
      false,
    ],
    ['the clock was set forward after the session began', { born: NOW + DAY, created: NOW + DAY, session }, false],
    ['the clock was set forward between time and id', { born: NOW + DAY, created: NOW, session: NOW - 1 }, false],
    ['created in the very ms of the session', { born: NOW + 500, created: NOW, session: NOW }, false],
  ];
  const wrap = Math.ceil(NOW / WRAP_MS) * WRAP_MS;
  for (const shift of [0, WRAP_MS, -WRAP_MS, wrap - NOW - 2, wrap - NOW + 50]) {
    for (const [what, times, expected] of cases) {
      const message = {
        messageId: idOf('msg', times.born + shift),
        sessionId: idOf('ses', times.session + shift),
        createdMs: times.created + shift,
      };
      assert.equal(isForkCopy(message), expected, `${what}, shifted by ${shift} ms`);
    }
  }
});

test('ids that do not decode are counted as they are', () => {
  const copy = { messageId: idOf('msg', NOW), sessionId: idOf('ses', NOW), createdMs: NOW - DAY };
  assert.equal(isForkCopy(copy), true);
  assert.equal(isForkCopy({ ...copy, messageId: 'm1' }), false);
  assert.equal(isForkCopy({ ...copy, sessionId: 's1' }), false);
  assert.equal(isForkCopy({ ...copy, messageId: idOf('prt', NOW) }), false);
  assert.equal(isForkCopy({ ...copy, sessionId: idOf('msg', NOW) }), false);
});
