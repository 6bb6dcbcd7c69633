// A database as OpenCode 1.18 writes it, filled by hand: what a real OpenCode leaves behind is in test/opencode.

import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { TestContext } from 'node:test';
import { temporaryFolder } from './intake-fixture.ts';

/** The tables that are read, with all their columns and indexes. */
const SCHEMA = `
  CREATE TABLE session (
    id text PRIMARY KEY, project_id text NOT NULL, workspace_id text, parent_id text, slug text NOT NULL,
    directory text NOT NULL, path text, title text NOT NULL, version text NOT NULL, share_url text,
    time_created integer NOT NULL, time_updated integer NOT NULL, time_archived integer);
  CREATE TABLE message (
    id text PRIMARY KEY, session_id text NOT NULL, time_created integer NOT NULL, time_updated integer NOT NULL,
    data text NOT NULL,
    FOREIGN KEY (session_id) REFERENCES session (id) ON DELETE CASCADE);
  CREATE TABLE part (
    id text PRIMARY KEY, message_id text NOT NULL, session_id text NOT NULL, time_created integer NOT NULL,
    time_updated integer NOT NULL, data text NOT NULL,
    FOREIGN KEY (message_id) REFERENCES message (id) ON DELETE CASCADE);
  CREATE INDEX message_session_time_created_id_idx ON message (session_id, time_created, id);
  CREATE INDEX part_message_id_id_idx ON part (message_id, id);`;

export const CONTENT = 'CONTENT-MARKER-51c2';
export const WRITTEN_MS = Date.UTC(2026, 1, 22, 10);

/** What OpenCode writes of a turn that is completed. */
export function turnData(fields: Record<string, unknown> = {}) {
  return {
    ...{ role: 'assistant', parentID: 'msg_prompt', mode: 'build', agent: 'build' },
    path: { cwd: `/home/ana/${CONTENT}/shop`, root: `/home/ana/${CONTENT}/shop` },
    ...{ cost: 0.001, modelID: 'claude-sonnet-4-5', providerID: 'anthropic', finish: 'stop' },
    tokens: { total: 30, input: 10, output: 20, reasoning: 0, cache: { read: 0, write: 0 } },
    time: { created: WRITTEN_MS, completed: WRITTEN_MS + 1000 },
    ...fields,
  };
}

/** What OpenCode writes of a tool call that is completed. */
export function toolData(callID: string, fields: Record<string, unknown> = {}) {
  const time = { start: WRITTEN_MS, end: WRITTEN_MS + 10 };
  const state = { status: 'completed', input: { command: CONTENT }, output: CONTENT, metadata: { exit: 0 }, time };
  return { type: 'tool', tool: 'bash', callID, state: { ...state, ...fields } };
}

const asText = (data: object | string) => (typeof data === 'string' ? data : JSON.stringify(data));

export class OpencodeDatabase {
  readonly file: string;
  readonly db: DatabaseSync;

  constructor(t: TestContext, { journal = 'wal', schema = SCHEMA }: { journal?: string; schema?: string } = {}) {
    this.file = path.join(temporaryFolder(t), 'opencode.db');
    this.db = new DatabaseSync(this.file);
    this.db.exec(`PRAGMA journal_mode = ${journal}; PRAGMA foreign_keys = ON; ${schema}`);
    t.after(() => this.db.isOpen && this.db.close());
  }

  session(id: string, { parent = null, project = 'shop' }: { parent?: string | null; project?: string } = {}): void {
    const directory = `/home/ana/${CONTENT}/${project}`;
    this.db
      .prepare('INSERT INTO session VALUES (?, ?, NULL, ?, ?, ?, NULL, ?, ?, NULL, ?, ?, NULL)')
      .run(id, 'global', parent, 'swift-falcon', directory, CONTENT, '1.18.33', WRITTEN_MS, WRITTEN_MS);
  }

  /** A text is written as it stands. */
  message(id: string, session: string, data: object | string, updated: number | bigint | string = WRITTEN_MS): void {
    this.db.prepare('INSERT INTO message VALUES (?, ?, ?, ?, ?)').run(id, session, WRITTEN_MS, updated, asText(data));
  }

  part(id: string, message: string, session: string, data: object | string): void {
    this.db
      .prepare('INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)')
      .run(id, message, session, WRITTEN_MS, WRITTEN_MS, asText(data));
  }
}
