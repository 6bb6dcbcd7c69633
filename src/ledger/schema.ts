// The ledger's tables and how they came to be. One entry per version, never edited once released: a new version appends.

import { statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { PermanentFailure } from '../failure.ts';
import type { Log } from '../log.ts';

/** The first makes a new ledger, each of the others the next version. */
export const MIGRATIONS: readonly string[] = [
  `
  -- Single facts about the ledger itself: created_ms, ledger_id, uptime_ms, horizon_ms.
  CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  -- A combination of label values. '' stands for a label that is left out (NULLs would not be unique).
  CREATE TABLE dimension (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL, provider TEXT NOT NULL, account TEXT NOT NULL, upstream_provider TEXT NOT NULL,
    model TEXT NOT NULL, project TEXT NOT NULL, team TEXT NOT NULL, user TEXT NOT NULL,
    UNIQUE (agent, provider, account, upstream_provider, model, project, team, user)
  ) STRICT;

  -- The rows of the window gauges: one per (upstream provider, provider, model).
  CREATE TABLE cell (
    id INTEGER PRIMARY KEY,
    upstream_provider TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
    UNIQUE (upstream_provider, provider, model)
  ) STRICT;

  -- One row per turn, holding the highest vector seen. phase: 0 in progress, 1 finished, 2 completed.
  -- dimension_id is what the first complete vector stated; series_id is the same under the label caps of that moment.
  CREATE TABLE turn (
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
    -- The most tokens of this turn that were ever counted as unpriced.
    unpriced INTEGER NOT NULL DEFAULT 0,
    counted INTEGER NOT NULL DEFAULT 0, timed INTEGER NOT NULL DEFAULT 0, settled INTEGER NOT NULL DEFAULT 0,
    UNIQUE (agent, session_id, message_id)
  ) STRICT;
  CREATE INDEX turn_unsettled ON turn (received_ms) WHERE settled = 0 AND phase > 0;
  CREATE INDEX turn_in_progress ON turn (dated_ms) WHERE phase = 0;
  CREATE INDEX turn_dated ON turn (dated_ms);

  -- origin: 0 a bare notice (hook), 1 the agent's own record. booked: 0 held until its message is known.
  CREATE TABLE tool_call (
    agent TEXT NOT NULL, session_id TEXT NOT NULL, call_id TEXT NOT NULL,
    message_id TEXT, tool TEXT NOT NULL, mcp_server TEXT, status TEXT NOT NULL,
    started_ms INTEGER, completed_ms INTEGER, project TEXT,
    origin INTEGER NOT NULL, booked INTEGER NOT NULL, received_ms INTEGER NOT NULL,
    PRIMARY KEY (agent, session_id, call_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX tool_call_of_message ON tool_call (agent, session_id, message_id);
  CREATE INDEX tool_call_held ON tool_call (received_ms) WHERE booked = 0;
  CREATE INDEX tool_call_received ON tool_call (received_ms);

  CREATE TABLE session (
    agent TEXT NOT NULL, session_id TEXT NOT NULL, project TEXT NOT NULL, received_ms INTEGER NOT NULL,
    PRIMARY KEY (agent, session_id)
  ) STRICT, WITHOUT ROWID;

  -- When a session last had a turn that an upstream provider served: enough to count a window's distinct sessions.
  CREATE TABLE session_upstream (
    agent TEXT NOT NULL, session_id TEXT NOT NULL, upstream_provider TEXT NOT NULL, last_ms INTEGER NOT NULL,
    PRIMARY KEY (agent, session_id, upstream_provider)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX session_upstream_last ON session_upstream (last_ms, upstream_provider);

  CREATE TABLE permission (
    agent TEXT NOT NULL, session_id TEXT NOT NULL, request_id TEXT NOT NULL,
    message_id TEXT, asked_ms INTEGER, replied_ms INTEGER, received_ms INTEGER NOT NULL,
    PRIMARY KEY (agent, session_id, request_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX permission_of_message ON permission (agent, session_id, message_id);
  CREATE INDEX permission_received ON permission (received_ms);

  -- The totals behind the counters and histograms, in the integer units of their family.
  CREATE TABLE counter (
    family TEXT NOT NULL, labels TEXT NOT NULL, value INTEGER NOT NULL,
    PRIMARY KEY (family, labels)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE histogram (
    family TEXT NOT NULL, labels TEXT NOT NULL, counts TEXT NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (family, labels)
  ) STRICT, WITHOUT ROWID;

  -- Label values that have, or may earn, a series of their own.
  CREATE TABLE label_value (
    label TEXT NOT NULL, value TEXT NOT NULL, weight INTEGER NOT NULL, admitted INTEGER NOT NULL,
    PRIMARY KEY (label, value)
  ) STRICT, WITHOUT ROWID;

  -- Net sums by event time; bucket = Unix ms / 15 minutes. Kept for good: windows and audits read them.
  CREATE TABLE rollup (
    bucket INTEGER NOT NULL, cell_id INTEGER NOT NULL REFERENCES cell (id),
    cost_nano INTEGER NOT NULL, tokens INTEGER NOT NULL, cache_read INTEGER NOT NULL,
    turns INTEGER NOT NULL, priced_turns INTEGER NOT NULL,
    PRIMARY KEY (bucket, cell_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE pricing_state (
    provider TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL, dated_ms INTEGER NOT NULL,
    PRIMARY KEY (provider, model)
  ) STRICT, WITHOUT ROWID;

  -- The newest reading of every account, as the allow-listed JSON of a poll result.
  CREATE TABLE poll_result (
    provider TEXT NOT NULL, account TEXT NOT NULL, taken_ms INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (provider, account)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Readings are renewed within minutes, so those of the former shape need not be kept.
  DROP TABLE poll_result;
  -- The newest reading of every account from our own polls ('own') and from others ('reported'), as the allow-listed
  -- JSON of a poll result.
  CREATE TABLE poll_result (
    provider TEXT NOT NULL, account TEXT NOT NULL, origin TEXT NOT NULL, taken_ms INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (provider, account, origin)
  ) STRICT, WITHOUT ROWID;

  -- The newest balance of every account, from which the next one's fall or rise is told. owner: '' when not known.
  CREATE TABLE balance (
    provider TEXT NOT NULL, account TEXT NOT NULL, kind TEXT NOT NULL, currency TEXT NOT NULL,
    read_ms INTEGER NOT NULL, nano INTEGER NOT NULL, owner TEXT NOT NULL,
    PRIMARY KEY (provider, account, kind, currency)
  ) STRICT, WITHOUT ROWID;

  -- What two readings of a balance show, beside what turns say of the same time (from, to]. mixed: 1 where a rise of
  -- unknown make hides how much was spent. observed: stated cost of the account's turns; unattributed: of turns at its
  -- provider that name no account.
  CREATE TABLE balance_interval (
    provider TEXT NOT NULL, account TEXT NOT NULL, kind TEXT NOT NULL, currency TEXT NOT NULL,
    from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL,
    spent_nano INTEGER NOT NULL, topup_nano INTEGER NOT NULL, mixed INTEGER NOT NULL,
    observed_nano INTEGER NOT NULL, unattributed_nano INTEGER NOT NULL,
    PRIMARY KEY (provider, account, kind, currency, from_ms)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX balance_interval_ended ON balance_interval (to_ms);
  `,
  `
  -- How far each stream has been booked, without a gap.
  CREATE TABLE stream_position (
    stream TEXT PRIMARY KEY, partition TEXT NOT NULL, seq INTEGER NOT NULL, stored_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Net sums by event time and label combination, for budgets and reports; bucket = Unix ms / 15 minutes.
  CREATE TABLE spend (
    bucket INTEGER NOT NULL, dimension_id INTEGER NOT NULL REFERENCES dimension (id),
    cost_nano INTEGER NOT NULL, estimated_nano INTEGER NOT NULL, tokens INTEGER NOT NULL, turns INTEGER NOT NULL,
    PRIMARY KEY (bucket, dimension_id)
  ) STRICT, WITHOUT ROWID;
  -- What is known of former times: the turns that are still kept.
  INSERT INTO spend
    SELECT dated_ms / 900000, dimension_id, sum(ifnull(cost_nano, 0)), sum(ifnull(estimated_nano, 0)),
      sum(input + output + reasoning + cache_read + cache_write), sum(counted)
    FROM turn WHERE phase > 0 GROUP BY 1, 2;
  `,
  `
  -- Failed calls of a model that are no turns: only that each is counted once.
  CREATE TABLE failed_attempt (
    agent TEXT NOT NULL, session_id TEXT NOT NULL, attempt_id TEXT NOT NULL, received_ms INTEGER NOT NULL,
    PRIMARY KEY (agent, session_id, attempt_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX failed_attempt_received ON failed_attempt (received_ms);

  -- Turns that are booked once their session is known: the event as JSON, numbers, names and ids only.
  CREATE TABLE held_turn (
    agent TEXT NOT NULL, session_id TEXT NOT NULL, message_id TEXT NOT NULL, body TEXT NOT NULL, received_ms INTEGER NOT NULL,
    PRIMARY KEY (agent, session_id, message_id)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- The sessions that turns name, each under a small id: spelled out in every turn, twice, they took half of its room.
  CREATE TABLE turn_session (
    id INTEGER PRIMARY KEY, agent TEXT NOT NULL, session_id TEXT NOT NULL, UNIQUE (agent, session_id)
  ) STRICT;
  INSERT INTO turn_session (agent, session_id) SELECT DISTINCT agent, session_id FROM turn;

  CREATE TABLE turn_of_session (
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES turn_session (id), message_id TEXT NOT NULL,
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
    UNIQUE (session, message_id)
  ) STRICT;
  INSERT INTO turn_of_session
    SELECT turn.id, turn_session.id, message_id, dimension_id, series_id, cell_id, upstream_evidence, event_id, phase, status,
      reason, started_ms, completed_ms, dated_ms, received_ms, input, output, reasoning, cache_read, cache_write, cost_nano,
      estimated_nano, pricing, unpriced, counted, timed, settled
    FROM turn JOIN turn_session USING (agent, session_id) ORDER BY turn.id;
  DROP TABLE turn;
  ALTER TABLE turn_of_session RENAME TO turn;
  CREATE INDEX turn_unsettled ON turn (received_ms) WHERE settled = 0 AND phase > 0;
  CREATE INDEX turn_in_progress ON turn (dated_ms) WHERE phase = 0;
  CREATE INDEX turn_dated ON turn (dated_ms);
  `,
];

/** The schema version that this program writes. */
export const SCHEMA_VERSION = MIGRATIONS.length;

function versionOf(db: DatabaseSync): number {
  return (db.prepare('PRAGMA user_version').get() as { user_version: number }).user_version;
}

/** @throws PermanentFailure when a newer program wrote the ledger */
export function refuseNewer(db: DatabaseSync, file: string): void {
  const version = versionOf(db);
  if (version <= SCHEMA_VERSION) return;
  throw new PermanentFailure(
    `The ledger ${file} was written by a newer Tollbridge (its schema is ${version}, this one knows ${SCHEMA_VERSION}). ` +
      'Nothing was changed. Update Tollbridge, or set state_dir to another folder.',
  );
}

/**
 * Brings the tables up to `SCHEMA_VERSION`, each step in a transaction of its own.
 * @param log is told before, because a large ledger takes a while, and after
 * @throws PermanentFailure when a newer program wrote the ledger
 */
export function migrate(db: DatabaseSync, file: string, log?: Pick<Log, 'info'>): void {
  refuseNewer(db, file);
  const from = versionOf(db);
  const isOld = from > 0 && from < SCHEMA_VERSION;
  if (isOld) {
    log?.info(
      { bytes: statSync(file).size, schema: from, to: SCHEMA_VERSION },
      'bringing the ledger up to date, which takes some seconds for each 100 MB; nothing is lost when it is stopped meanwhile',
    );
  }
  for (let version = from; version < SCHEMA_VERSION; version++) {
    db.exec('BEGIN IMMEDIATE');
    db.exec(MIGRATIONS[version] as string);
    db.exec(`PRAGMA user_version = ${version + 1}`);
    db.exec('COMMIT');
  }
  if (isOld) log?.info('the ledger is up to date');
}
