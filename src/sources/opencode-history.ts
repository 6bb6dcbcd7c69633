// What OpenCode wrote down of its own turns: the sessions, messages and tool parts in its database, told as its plugin
// would have told them. The queries are the allow-list: each names single fields, so that no prompt, answer, title, tool
// argument or output leaves SQLite, and of a folder only the base name goes further.

import type { DatabaseSync } from 'node:sqlite';
import { messageOf, PermanentFailure, RetryableFailure } from '../failure.ts';
import { readOpencodeDatabase } from '../poll/opencode-files.ts';
import { projectName, sessionProjectName } from '../turn/project-name.ts';

/** Messages of one page: with their tool parts far below the body limit of the socket. */
const PAGE_MESSAGES = 200;
/** Somebody may be writing to the database; nobody holds it for long. */
const BUSY_TIMEOUT_MS = 2000;
/** OpenCode's note that a shell call was stopped stands at the end of its output. */
const NOTE_MAX_CHARS = 200;
const SQLITE_BUSY = 5;
const SQLITE_LOCKED = 6;

/** What is read of each table; a database without one of these columns is of another form. */
const COLUMNS: Readonly<Record<string, readonly string[]>> = {
  session: ['id', 'directory', 'path'],
  message: ['id', 'session_id', 'time_updated', 'data'],
  part: ['id', 'message_id', 'session_id', 'data'],
};

/** Only what has ended: what is still at work tells its end to the plugin, and is read the next time. */
const ENDED = `json_extract(data, '$.role') = 'assistant'
  AND (json_extract(data, '$.time.completed') > 0 OR coalesce(json_extract(data, '$.finish'), '') <> '')`;
const IS_ENDED = `CASE WHEN json_valid(data) THEN ${ENDED} ELSE 0 END`;
const PICK = 'id IN (SELECT value FROM json_each(?))';
const errorBody = "json_extract(data, '$.error.data.responseBody')";
const inErrorBody = (field: string) =>
  `CASE WHEN json_valid(${errorBody}) THEN json_extract(${errorBody}, '$.${field}') END`;

const MESSAGES = `
  SELECT id, session_id,
    json_extract(data, '$.providerID') AS provider, json_extract(data, '$.modelID') AS model,
    json_extract(data, '$.path.root') AS root, json_extract(data, '$.path.cwd') AS cwd,
    json_extract(data, '$.time.created') AS created, json_extract(data, '$.time.completed') AS completed,
    json_extract(data, '$.finish') AS finish, json_extract(data, '$.cost') AS cost,
    json_type(data, '$.tokens') AS tokens,
    json_extract(data, '$.tokens.input') AS input, json_extract(data, '$.tokens.output') AS output,
    json_extract(data, '$.tokens.reasoning') AS reasoning,
    json_extract(data, '$.tokens.cache.read') AS cache_read, json_extract(data, '$.tokens.cache.write') AS cache_write,
    json_type(data, '$.error') AS error, json_extract(data, '$.error.name') AS error_name,
    json_extract(data, '$.error.data.statusCode') AS error_status,
    json_extract(data, '$.error.data.isRetryable') AS error_retryable,
    ${['error.code', 'error.type', 'code', 'type'].map((field, at) => `${inErrorBody(field)} AS word_${at}`).join(', ')}
  FROM message WHERE ${PICK} ORDER BY time_updated, id`;

const IS_STOPPED = `CASE json_extract(data, '$.state.status')
  WHEN 'error' THEN coalesce(json_extract(data, '$.state.metadata.interrupted'), 0) = 1
    OR coalesce(json_extract(data, '$.state.error'), '') = 'Tool execution aborted'
  ELSE coalesce(json_type(data, '$.state.metadata.exit'), '') = 'null'
    AND rtrim(substr(json_extract(data, '$.state.output'), -${NOTE_MAX_CHARS}), char(32, 9, 10, 13))
      LIKE '%User aborted the command%</%metadata>' END`;

const TOOLS = `
  SELECT id, message_id, session_id, json_extract(data, '$.tool') AS tool, json_extract(data, '$.callID') AS call_id,
    json_extract(data, '$.state.status') AS status, ${IS_STOPPED} AS is_stopped,
    json_extract(data, '$.state.time.start') AS started, json_extract(data, '$.state.time.end') AS ended
  FROM part
  WHERE message_id IN (SELECT value FROM json_each(?))
    AND CASE WHEN json_valid(data) THEN json_extract(data, '$.type') = 'tool'
      AND json_extract(data, '$.state.status') IN ('completed', 'error') ELSE 0 END
  ORDER BY id`;

const SESSIONS = `SELECT id, directory, path FROM session WHERE ${PICK} ORDER BY id`;

type Row = Readonly<Record<string, unknown>>;

/** Some messages with their sessions and tool calls. */
export interface HistoryPage {
  /** What the plugin would have posted, a session before its messages and a message before its tool calls. */
  readonly payloads: readonly object[];
  /** How many messages were read so far, this page included, and how many there are. */
  readonly read: number;
  readonly total: number;
  /** When the last of them was written, Unix ms: where to read on. */
  readonly writtenMs: number;
}

/**
 * Reads what was written since a time, the oldest first. Nothing is held between two pages, so OpenCode may write on.
 * @throws PermanentFailure when it is no database of OpenCode as we know it; RetryableFailure while it cannot be read
 */
export function* readHistory(file: string, sinceMs: number): Generator<HistoryPage> {
  const ended = withDatabase(file, (db) => {
    assertKnownForm(db, file);
    const sql = `SELECT id, time_updated FROM message WHERE time_updated >= ? AND ${IS_ENDED} ORDER BY time_updated, id`;
    return db.prepare(sql).all(sinceMs) as { id: string; time_updated: number }[];
  });
  const toldSessions = new Set<unknown>();
  for (let at = 0; at < ended.length; at += PAGE_MESSAGES) {
    const page = ended.slice(at, at + PAGE_MESSAGES);
    const payloads = withDatabase(file, (db) => readPage(db, { ids: page.map(({ id }) => id), toldSessions }));
    const read = at + page.length;
    yield { payloads, read, total: ended.length, writtenMs: page.at(-1)!.time_updated };
  }
}

function readPage(
  db: DatabaseSync,
  { ids, toldSessions }: { ids: readonly string[]; toldSessions: Set<unknown> },
): object[] {
  const rows = (sql: string, picked: readonly unknown[]): Row[] => db.prepare(sql).all(JSON.stringify(picked));
  const messages = rows(MESSAGES, ids);
  const newSessions = [...new Set(messages.map((row) => row.session_id))].filter((id) => !toldSessions.has(id));
  const sessions = rows(SESSIONS, newSessions);
  for (const id of newSessions) toldSessions.add(id);
  return [...sessions.map(sessionEvent), ...messages.map(messageEvent), ...rows(TOOLS, ids).map(toolEvent)];
}

const event = (type: string, properties: object) => ({ event: { type, properties } });

function sessionEvent({ id, directory, path }: Row): object {
  return event('session.updated', { info: { id, directory: sessionProjectName(directory, path) } });
}

function messageEvent(row: Row): object {
  const { id, session_id: sessionID, provider: providerID, model: modelID, finish, cost } = row;
  return event('message.updated', {
    info: {
      ...{ id, sessionID, role: 'assistant', providerID, modelID, finish, cost },
      path: { root: projectName(row.root, row.cwd) },
      time: { created: row.created, completed: row.completed },
      ...(row.tokens === 'object' && {
        tokens: {
          ...{ input: row.input, output: row.output, reasoning: row.reasoning },
          cache: { read: row.cache_read, write: row.cache_write },
        },
      }),
      ...(row.error === 'object' && { error: errorOf(row) }),
    },
  });
}

function errorOf(row: Row): object {
  const errorType = [row.word_0, row.word_1, row.word_2, row.word_3].map(word).find((said) => said && said !== 'error');
  return {
    name: word(row.error_name) ?? 'UnknownError',
    data: {
      ...(typeof row.error_status === 'number' && { statusCode: row.error_status }),
      ...(row.error_retryable !== null && { isRetryable: row.error_retryable === 1 }),
      errorType,
    },
  };
}

/** A word of a program's own vocabulary; anything else could be a sentence or a path. */
function word(value: unknown): string | undefined {
  return typeof value === 'string' && /^[A-Za-z_.-]{1,64}$/.test(value) ? value : undefined;
}

function toolEvent(row: Row): object {
  const isStopped = row.is_stopped === 1;
  return event('message.part.updated', {
    part: {
      ...{ type: 'tool', id: row.id, sessionID: row.session_id, messageID: row.message_id },
      ...{ callID: row.call_id, tool: row.tool },
      state: {
        status: isStopped ? 'error' : row.status,
        time: { start: row.started, end: row.ended },
        ...(isStopped && { metadata: { interrupted: true } }),
      },
    },
  });
}

function assertKnownForm(db: DatabaseSync, file: string): void {
  for (const [table, needed] of Object.entries(COLUMNS)) {
    const there = db.prepare('SELECT name FROM pragma_table_info(?)').all(table);
    const missing = needed.find((column) => !there.some(({ name }) => name === column));
    if (missing === undefined) continue;
    throw new PermanentFailure(
      `${file} is not a database of OpenCode as this version knows it: there is no ${table}.${missing}. ` +
        'Nothing of it was read. Name the right file with --db, or update Tollbridge.',
    );
  }
}

/** One reading, with the failures of one in our words. */
function withDatabase<T>(file: string, read: (db: DatabaseSync) => T): T {
  try {
    return readOpencodeDatabase(file, { timeoutMs: BUSY_TIMEOUT_MS, read });
  } catch (error) {
    if (error instanceof PermanentFailure) throw error;
    const { errcode } = error as { errcode?: number };
    if (errcode === SQLITE_BUSY || errcode === SQLITE_LOCKED) {
      throw new RetryableFailure(`${file} is in use and cannot be read now. What was imported stays; try again.`);
    }
    throw new PermanentFailure(`${file} cannot be read as a database of OpenCode: ${messageOf(error)}.`);
  }
}
