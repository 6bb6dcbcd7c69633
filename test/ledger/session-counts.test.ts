import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { migrate } from '../../src/ledger/schema.ts';
import { SessionCounts } from '../../src/ledger/session-counts.ts';

const SETS = [['anthropic'], ['openai'], ['anthropic', 'openai'], ['anthropic', 'google', 'openai'], []];

function counting() {
  const db = new DatabaseSync(':memory:');
  migrate(db, 'a test');
  return { db, counts: new SessionCounts(db) };
}

const turn = fc.record({
  do: fc.constant('note' as const),
  session: fc.nat(6).map((n) => `ses_${n}`),
  agent: fc.constantFrom('opencode', 'codex'),
  upstream: fc.constantFrom('anthropic', 'openai', 'google'),
  atMs: fc.nat(100),
});
const move = fc.record({ do: fc.constant('move' as const), sinceMs: fc.nat(100) });
const undo = fc.record({ do: fc.constant('undo' as const) });

describe('sessions of a window', () => {
  test('are those that counting anew finds, whatever came and wherever the window began before', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.oneof(turn, turn, move, undo), { maxLength: 8 }), { maxLength: 8 }),
        (rounds) => {
          const { db, counts } = counting();
          const known = new Map<string, number>();
          let sinceMs = 50;
          for (const round of rounds) {
            for (const step of round) {
              if (step.do === 'move') sinceMs = step.sinceMs;
              else if (step.do === 'undo') counts.load();
              else {
                counts.note(step.agent, step.session, step.upstream, step.atMs);
                counts.flush();
                const key = `${step.agent}/${step.session}/${step.upstream}`;
                known.set(key, Math.max(step.atMs, known.get(key) ?? 0));
              }
            }
            for (const upstreams of SETS) {
              const sessions = new Set(
                [...known]
                  .map(([key, lastMs]) => ({ parts: key.split('/'), lastMs }))
                  .filter(({ parts, lastMs }) => lastMs >= sinceMs && upstreams.includes(parts[2]!))
                  .map(({ parts }) => `${parts[0]}/${parts[1]}`),
              );
              assert.equal(counts.count('today', sinceMs, upstreams), sessions.size, upstreams.join());
            }
          }
          db.close();
        },
      ),
      { numRuns: 500 },
    );
  });

  test('do not count what was noted and taken back', () => {
    const { db, counts } = counting();
    assert.equal(counts.count('all', 0, ['anthropic']), 0);
    db.exec('BEGIN');
    counts.note('opencode', 'ses_1', 'anthropic', 5);
    counts.flush();
    db.exec('ROLLBACK');
    counts.load();
    assert.equal(counts.count('all', 0, ['anthropic']), 0);
    db.close();
  });
});
