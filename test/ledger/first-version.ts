// A ledger of today as the first version would have kept it.

import type { DatabaseSync } from 'node:sqlite';

export function asOfFirstVersion(db: DatabaseSync): void {
  db.exec(`
    DROP TABLE balance; DROP TABLE balance_interval; DROP TABLE poll_result; DROP TABLE stream_position; DROP TABLE spend;
    DROP TABLE failed_attempt; DROP TABLE held_turn;
    CREATE TABLE poll_result (provider TEXT NOT NULL, account TEXT NOT NULL, taken_ms INTEGER NOT NULL, body TEXT NOT NULL,
      PRIMARY KEY (provider, account)) STRICT, WITHOUT ROWID;

    CREATE TABLE first_turn (
      id INTEGER PRIMARY KEY,
      agent TEXT NOT NULL, session_id TEXT NOT NULL, message_id TEXT NOT NULL,
      dimension_id INTEGER NOT NULL REFERENCES dimension (id),
      series_id INTEGER NOT NULL REFERENCES dimension (id),
      cell_id INTEGER NOT NULL REFERENCES cell (id),
      upstream_evidence TEXT NOT NULL,
      event_id TEXT NOT NULL, phase INTEGER NOT NULL,
      status TEXT NOT NULL, reason TEXT,
      started_ms INTEGER NOT NULL, completed_ms INTEGER, dated_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL,
      input INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,
      cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL,
      cost_nano INTEGER, estimated_nano INTEGER, pricing TEXT NOT NULL,
      unpriced INTEGER NOT NULL DEFAULT 0,
      counted INTEGER NOT NULL DEFAULT 0, timed INTEGER NOT NULL DEFAULT 0, settled INTEGER NOT NULL DEFAULT 0,
      UNIQUE (agent, session_id, message_id)
    ) STRICT;
    INSERT INTO first_turn
      SELECT turn.id, agent, session_id, message_id, dimension_id, series_id, cell_id, upstream_evidence, event_id, phase, status,
        reason, started_ms, completed_ms, dated_ms, received_ms, input, output, reasoning, cache_read, cache_write, cost_nano,
        estimated_nano, pricing, unpriced, counted, timed, settled
      FROM turn JOIN turn_session ON turn_session.id = session;
    DROP TABLE turn;
    DROP TABLE turn_session;
    ALTER TABLE first_turn RENAME TO turn;
    CREATE INDEX turn_unsettled ON turn (received_ms) WHERE settled = 0 AND phase > 0;
    CREATE INDEX turn_in_progress ON turn (dated_ms) WHERE phase = 0;
    CREATE INDEX turn_dated ON turn (dated_ms);
    PRAGMA user_version = 1;
  `);
}
