// What OpenCode wrote down of its own turns: the sessions, messages and tool parts in its database, told as its plugin
// would have told them. The queries are the allow-list: each names single fields, so that no prompt, answer, title, tool
// argument or output leaves SQLite, and of a folder only the base name goes further. They are picked as JSON, so that a
// number is read as OpenCode wrote it and `true` is no 1.

import { existsSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { messageOf, PermanentFailure, RetryableFailure } from '../failure.ts';
import { readOpencodeDatabase } from '../poll/opencode-files.ts';
import { projectName, sessionProjectName } from '../turn/project-name.ts';

/** What is taken in one go: far below the socket's body limit, and so quick that whoever else waits does not notice. */
const PAGE_PAYLOADS = 150;
const PAGE_MS = 25;
/** Messages passed over in one go where none of them is wanted. */
const PAGE_MESSAGES = 5000;
/** As for the plugin: ids and names longer than this are no ids and names. */
const TEXT_MAX_CHARS = 256;
/** OpenCode's note that a shell call was stopped stands at the end of its output. */
const NOTE_MAX_CHARS = 200;
const SQLITE_BUSY = 5;
const SQLITE_LOCKED = 6;
const SQLITE_CANTOPEN = 14;
/** Sorts after every id of OpenCode. */
const AFTER_ALL = '\u{10ffff}';

/** What is read of each table; a database without one of these columns is of another form. */
const COLUMNS: Readonly<Record<string, readonly string[]>> = {
  session: ['id', 'parent_id', 'directory', 'path'],
  message: ['id', 'session_id', 'time_updated', 'data'],
  part: ['id', 'message_id', 'data'],
};

const MESSAGE_FIELDS = {
  ...{ role: 'role', promptId: 'parentID', provider: 'providerID', model: 'modelID' },
  ...{ root: 'path.root', cwd: 'path.cwd', created: 'time.created', completed: 'time.completed' },
  ...{ finish: 'finish', cost: 'cost', input: 'tokens.input', output: 'tokens.output' },
  ...{ reasoning: 'tokens.reasoning', cacheRead: 'tokens.cache.read', cacheWrite: 'tokens.cache.write' },
  ...{ errorName: 'error.name', errorStatus: 'error.data.statusCode', isRetryable: 'error.data.isRetryable' },
} as const;
const TOOL_FIELDS = {
  ...{ tool: 'tool', callId: 'callID', status: 'state.status' },
  ...{ started: 'state.time.start', ended: 'state.time.end' },
} as const;
/** The more telling one first. */
const ERROR_WORDS = ['error.code', 'error.type', 'code', 'type'];

/** An array of what stands at these paths; null where the text is no JSON. */
const picked = (text: string, paths: readonly string[]) =>
  `CASE WHEN json_valid(${text}) THEN json_extract(${text}, ${paths.map((path) => `'$.${path}'`).join(', ')}) END`;
const typeAt = (path: string) => `CASE WHEN json_valid(data) THEN json_type(data, '$.${path}') END`;

/** In the order of their birth, so that what starts a session comes before it. */
const MESSAGES = `
  SELECT id, CAST(session_id AS TEXT) AS session_id, ${picked('data', Object.values(MESSAGE_FIELDS))} AS fields,
    ${typeAt('tokens')} AS tokens, ${typeAt('error')} AS error,
    CASE WHEN json_valid(data) THEN ${picked("json_extract(data, '$.error.data.responseBody')", ERROR_WORDS)} END AS words
  FROM message WHERE id > ? AND id <= ? AND time_updated >= ? ORDER BY id`;

const IS_STOPPED = `CASE json_extract(data, '$.state.status')
  WHEN 'error' THEN coalesce(json_type(data, '$.state.metadata.interrupted'), '') = 'true'
    OR coalesce(json_extract(data, '$.state.error'), '') = 'Tool execution aborted'
  ELSE coalesce(json_type(data, '$.state.metadata.exit'), '') = 'null'
    AND rtrim(substr(json_extract(data, '$.state.output'), -${NOTE_MAX_CHARS}), char(32, 9, 10, 13))
      LIKE '%User aborted the command%</%metadata>' END`;

const TOOLS = `
  SELECT id, ${picked('data', Object.values(TOOL_FIELDS))} AS fields, ${IS_STOPPED} AS is_stopped
  FROM part
  WHERE message_id = ?
    AND CASE WHEN json_valid(data) THEN json_extract(data, '$.type') = 'tool'
      AND json_extract(data, '$.state.status') IN ('completed', 'error') ELSE 0 END
  ORDER BY id`;

const SESSION = 'SELECT parent_id, directory, path FROM session WHERE id = ?';

type Row = Readonly<Record<string, unknown>>;
type Picked<T> = { readonly [name in keyof T]: unknown };

/** Some messages with their sessions and tool calls; none where nothing was wanted of what was passed over. */
export interface HistoryPage {
  /** What the plugin would have posted, a session before its messages and a message before its tool calls. */
  readonly payloads: readonly object[];
  /** How many turns are among them. */
  readonly turns: number;
  /** How many messages of whatever kind were passed so far, these included. */
  readonly passed: number;
  /** Where to go on when all of this is booked. */
  readonly after: string;
}

export interface HistoryRange {
  /** What was written since then, Unix ms. */
  readonly sinceMs: number;
  /** Where a reading of the same range broke off. */
  readonly after?: string;
  /** How long to wait for somebody who writes to the database. */
  readonly busyMs: number;
}

/**
 * Reads the turns that ended: what is still at work tells its end to the plugin, and is read the next time. Nothing is
 * held between two pages, so OpenCode may write on.
 * @throws PermanentFailure when it is no database of OpenCode as we know it; RetryableFailure while it cannot be read
 */
export function* readHistory(file: string, { sinceMs, busyMs, after = '' }: HistoryRange): Generator<HistoryPage> {
  withDatabase(file, busyMs, (db) => assertKnownForm(db, file));
  const toldSessions = new Set<string>();
  let passed = 0;
  for (let from: string | undefined = after; from !== undefined; ) {
    const place: Place = { after: from, sinceMs, toldSessions };
    const page = withDatabase(file, busyMs, (db) => readPage(db, place));
    passed += page.passed;
    // Of one message there may be any number of tool calls.
    for (let at = 0; at === 0 || at < page.payloads.length; at += PAGE_PAYLOADS) {
      const payloads = page.payloads.slice(at, at + PAGE_PAYLOADS);
      const isWhole = at + PAGE_PAYLOADS >= page.payloads.length;
      yield {
        payloads,
        turns: at === 0 ? page.turns : 0,
        passed,
        after: isWhole ? (page.nextAfter ?? AFTER_ALL) : place.after,
      };
    }
    from = page.nextAfter;
  }
}

/**
 * How many messages of whatever kind there are. It may take a while.
 * @throws as `readHistory`
 */
export function countMessages(file: string, { busyMs }: Pick<HistoryRange, 'busyMs'>): number {
  return withDatabase(file, busyMs, (db) => {
    assertKnownForm(db, file);
    return numberOf(db.prepare('SELECT count(*) AS n FROM message').get());
  });
}

interface Place {
  /** The id of the last message that was read. */
  readonly after: string;
  readonly sinceMs: number;
  readonly toldSessions: Set<string>;
}

function readPage(db: DatabaseSync, { after, sinceMs, toldSessions }: Place) {
  const bound = db
    .prepare('SELECT id FROM message WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?')
    .get(after, PAGE_MESSAGES);
  const lastId = bound ? String(bound.id) : AFTER_ALL;
  const [tools, session] = [db.prepare(TOOLS), db.prepare(SESSION)];
  const untilMs = performance.now() + PAGE_MS;
  const payloads: object[] = [];
  let turns = 0;
  let nextAfter: string | undefined = bound && lastId;
  for (const row of db.prepare(MESSAGES).iterate(after, lastId, sinceMs)) {
    const [id, sessionID] = [String(row.id), String(row.session_id)];
    const message = fieldsOf(row, MESSAGE_FIELDS);
    if (!message || isEndedTurn(message)) {
      const known = toldSessions.has(sessionID) ? undefined : session.get(sessionID);
      if (known) payloads.push(sessionEvent(sessionID, known));
      toldSessions.add(sessionID);
      payloads.push(messageEvent({ id, sessionID }, row, message));
      for (const tool of tools.iterate(id)) payloads.push(toolEvent({ messageID: id, sessionID }, tool));
      turns++;
    }
    if (payloads.length < PAGE_PAYLOADS && performance.now() < untilMs) continue;
    nextAfter = id;
    break;
  }
  const count = db.prepare('SELECT count(*) AS n FROM message WHERE id > ? AND id <= ?');
  return { payloads, turns, nextAfter, passed: numberOf(count.get(after, nextAfter ?? AFTER_ALL)) };
}

const numberOf = (row: unknown) => (row as { n: number }).n;

/** What a row picked, by name; undefined where its data is no JSON. */
function fieldsOf<T extends object>({ fields }: Row, named: T): Picked<T> | undefined {
  if (typeof fields !== 'string') return undefined;
  const values = JSON.parse(fields) as unknown[];
  return Object.fromEntries(Object.keys(named).map((name, at) => [name, values[at]])) as Picked<T>;
}

function isEndedTurn({ role, completed, finish }: Picked<typeof MESSAGE_FIELDS>): boolean {
  return role === 'assistant' && (Boolean(completed) || Boolean(finish));
}

/** What has parts, or is longer than a name, could be content: in its place stands what the decoder refuses. */
function plain(value: unknown): unknown {
  if (typeof value === 'string' ? value.length > TEXT_MAX_CHARS : typeof value === 'object' && value !== null)
    return [];
  // JSON has no word for what is not finite: it would be read as nothing.
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}

const allPlain = (values: Row) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, plain(value)]));

const event = (type: string, properties: object) => ({ event: { type, properties } });

function sessionEvent(id: string, { parent_id, directory, path }: Row): object {
  const parentID = parent_id === null ? undefined : plain(parent_id);
  return event('session.updated', {
    info: { id: plain(id), parentID, directory: sessionProjectName(directory, path) },
  });
}

/** One whose data is no JSON is told by its ids alone, so that it is counted as refused. */
function messageEvent(
  ids: { id: string; sessionID: string },
  row: Row,
  message?: Picked<typeof MESSAGE_FIELDS>,
): object {
  if (!message) return event('message.updated', { info: allPlain(ids) });
  const { promptId: parentID, provider: providerID, model: modelID, finish, cost, created, completed } = message;
  const { input, output, reasoning, cacheRead: read, cacheWrite: write } = message;
  const tokens =
    row.tokens === 'object' ? { ...allPlain({ input, output, reasoning }), cache: allPlain({ read, write }) } : [];
  return event('message.updated', {
    info: {
      ...allPlain({ ...ids, parentID, role: 'assistant', providerID, modelID, finish, cost }),
      path: { root: projectName(message.root, message.cwd) },
      time: allPlain({ created, completed }),
      ...(row.tokens !== null && row.tokens !== 'null' && { tokens }),
      ...(row.error === 'object' && { error: errorOf(row, message) }),
    },
  });
}

function errorOf({ words }: Row, { errorName, errorStatus, isRetryable }: Picked<typeof MESSAGE_FIELDS>): object {
  const said: unknown[] = typeof words === 'string' ? JSON.parse(words) : [];
  return {
    name: word(errorName) ?? 'UnknownError',
    data: {
      ...(typeof errorStatus === 'number' && { statusCode: plain(errorStatus) }),
      ...(isRetryable != null && { isRetryable: isRetryable === true }),
      errorType: said.map(word).find((token) => token && token !== 'error'),
    },
  };
}

/** A word of a program's own vocabulary; anything else could be a sentence or a path. */
function word(value: unknown): string | undefined {
  return typeof value === 'string' && /^[A-Za-z_.-]{1,64}$/.test(value) ? value : undefined;
}

function toolEvent(ids: { messageID: string; sessionID: string }, row: Row): object {
  const { tool, callId: callID, status, started: start, ended: end } = fieldsOf(row, TOOL_FIELDS)!;
  const isStopped = row.is_stopped === 1;
  return event('message.part.updated', {
    part: {
      ...allPlain({ type: 'tool', id: String(row.id), ...ids, callID, tool }),
      state: {
        status: isStopped ? 'error' : status,
        time: allPlain({ start, end }),
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
function withDatabase<T>(file: string, timeoutMs: number, read: (db: DatabaseSync) => T): T {
  try {
    return readOpencodeDatabase(file, { timeoutMs, read });
  } catch (error) {
    if (error instanceof PermanentFailure) throw error;
    if (!existsSync(file)) throw new PermanentFailure(`There is no database of OpenCode at ${file}.`);
    // The lowest byte says what happened, the others in which situation.
    const code = ((error as { errcode?: number }).errcode ?? 0) & 0xff;
    if (code === SQLITE_BUSY || code === SQLITE_LOCKED) {
      throw new RetryableFailure(`${file} is in use and cannot be read now. What was imported stays; try again.`);
    }
    const advice =
      code === SQLITE_CANTOPEN && existsSync(`${file}-wal`)
        ? ' A log lies beside it, and to read that, this user must be able to write there: name a copy of both with --db.'
        : '';
    throw new PermanentFailure(`${file} cannot be read as a database of OpenCode: ${messageOf(error)}.${advice}`);
  }
}
