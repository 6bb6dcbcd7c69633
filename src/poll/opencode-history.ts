// What OpenCode's own database holds of turns and tool calls: numbers, names and ids, picked out by the query itself, so
// that no content enters this process. They leave as the plugin's events, under the same keys.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { messageOf, PermanentFailure } from '../failure.ts';
import { projectName, sessionProjectName } from '../turn/project-name.ts';
import { databaseCandidates, type OpencodePlace } from './opencode-files.ts';

/** OpenCode writes while we read; a write of its takes moments. */
const BUSY_TIMEOUT_MS = 5000;
const PAGE_ROWS = 500;
/** A word of OpenCode's or a provider's own vocabulary; anything else could be a sentence. */
const WORD = /^[A-Za-z_.-]{1,64}$/;

/** An event of OpenCode's plugin, as `/v1/events` takes it. */
export interface HistoryRecord {
  readonly source: 'opencode';
  readonly payload: { readonly event: { readonly type: string; readonly properties: object } };
}

type Row = Readonly<Record<string, string | number | null>>;

const at = (name: string, place: string) => `json_extract(data, '$.${place}') AS ${name}`;
const is = (place: string, words: readonly string[]) =>
  `iif(json_valid(data), json_extract(data, '$.${place}'), NULL) IN (${words.map((each) => `'${each}'`).join(', ')})`;
/** What a provider called its error, where its answer is JSON. */
const errorToken = (name: string, place: string) =>
  `iif(json_valid(json_extract(data, '$.error.data.responseBody')),
     json_extract(json_extract(data, '$.error.data.responseBody'), '$.${place}'), NULL) AS ${name}`;

const PAGES = {
  sessions: `SELECT rowid AS place, id, directory, path FROM session
    WHERE rowid > ?1 AND time_updated >= ?2 ORDER BY rowid LIMIT ${PAGE_ROWS}`,
  messages: `SELECT rowid AS place, id, session_id,
      ${at('provider', 'providerID')}, ${at('model', 'modelID')}, ${at('root', 'path.root')}, ${at('cwd', 'path.cwd')},
      ${at('created', 'time.created')}, ${at('completed', 'time.completed')}, ${at('finish', 'finish')}, ${at('cost', 'cost')},
      ${at('input', 'tokens.input')}, ${at('output', 'tokens.output')}, ${at('reasoning', 'tokens.reasoning')},
      ${at('cache_read', 'tokens.cache.read')}, ${at('cache_write', 'tokens.cache.write')},
      ${at('error', 'error.name')}, ${at('status_code', 'error.data.statusCode')},
      ${errorToken('error_code', 'error.code')}, ${errorToken('error_type', 'error.type')},
      ${errorToken('code', 'code')}, ${errorToken('type', 'type')}
    FROM message WHERE rowid > ?1 AND time_created >= ?2 AND ${is('role', ['assistant'])} ORDER BY rowid LIMIT ${PAGE_ROWS}`,
  tools: `SELECT rowid AS place, id, session_id, message_id,
      ${at('tool', 'tool')}, ${at('call', 'callID')}, ${at('status', 'state.status')},
      ${at('started', 'state.time.start')}, ${at('ended', 'state.time.end')},
      iif(json_extract(data, '$.state.status') = 'error',
        json_extract(data, '$.state.metadata.interrupted') IS 1 OR json_extract(data, '$.state.error') = 'Tool execution aborted',
        json_type(data, '$.state.metadata.exit') = 'null' AND json_extract(data, '$.state.output') LIKE '%User aborted the command%metadata>%'
      ) AS interrupted
    FROM part WHERE rowid > ?1 AND time_created >= ?2 AND ${is('type', ['tool'])}
      AND ${is('state.status', ['completed', 'error'])} ORDER BY rowid LIMIT ${PAGE_ROWS}`,
} as const;
type Kind = keyof typeof PAGES;

const word = (...values: unknown[]) =>
  values.find((value): value is string => typeof value === 'string' && value !== 'error' && WORD.test(value));

const EVENTS: Readonly<Record<Kind, (row: Row) => { type: string; properties: object }>> = {
  sessions: ({ id, directory, path: relative }) => ({
    type: 'session.created',
    properties: { info: { id, directory: sessionProjectName(directory, relative) } },
  }),
  messages: (row) => ({
    type: 'message.updated',
    properties: {
      info: {
        ...{ id: row.id, sessionID: row.session_id, role: 'assistant' },
        ...{ providerID: row.provider, modelID: row.model, path: { root: projectName(row.root, row.cwd) } },
        time: { created: row.created, completed: row.completed ?? undefined },
        ...{ finish: word(row.finish), cost: row.cost ?? undefined },
        tokens: {
          ...{ input: row.input, output: row.output, reasoning: row.reasoning },
          cache: { read: row.cache_read, write: row.cache_write },
        },
        ...(row.error !== null && {
          error: {
            name: word(row.error) ?? 'UnknownError',
            data: {
              statusCode: row.status_code ?? undefined,
              errorType: word(row.error_code, row.error_type, row.code, row.type),
            },
          },
        }),
      },
    },
  }),
  tools: (row) => ({
    type: 'message.part.updated',
    properties: {
      part: {
        ...{ id: row.id, sessionID: row.session_id, messageID: row.message_id, type: 'tool' },
        ...{ callID: row.call, tool: row.tool },
        state: {
          status: row.interrupted === 1 ? 'error' : row.status,
          time: { start: row.started, end: row.ended },
          ...(row.interrupted === 1 && { metadata: { interrupted: true } }),
        },
      },
    },
  }),
};

/** OpenCode's database where OpenCode keeps it; undefined where there is none. */
export function findDatabase(where: OpencodePlace): string | undefined {
  return databaseCandidates(where).find(({ file }) => existsSync(file))?.file;
}

export class OpencodeHistory {
  readonly #db: DatabaseSync;
  readonly #pages: Readonly<Record<Kind, StatementSync>>;
  readonly #sinceMs: number;

  /**
   * @param sinceMs what was created before it, Unix ms, is left out
   * @throws PermanentFailure when the file is no database of a known form
   */
  constructor(file: string, sinceMs = 0) {
    this.#sinceMs = sinceMs;
    try {
      this.#db = new DatabaseSync(path.resolve(file), { readOnly: true, timeout: BUSY_TIMEOUT_MS });
      const prepare = (kind: Kind) => this.#db.prepare(PAGES[kind]);
      this.#pages = { sessions: prepare('sessions'), messages: prepare('messages'), tools: prepare('tools') };
    } catch (error) {
      throw new PermanentFailure(
        `${path.basename(file)} cannot be read as a database of OpenCode (${messageOf(error)}). ` +
          'OpenCode 1.18 is known to keep one that can; name another file with --db.',
      );
    }
  }

  /** How many turns and tool calls there may be, for a progress. */
  count(): number {
    const rows = (table: string) =>
      (
        this.#db.prepare(`SELECT count(*) AS n FROM ${table} WHERE time_created >= ?`).get(this.#sinceMs) as {
          n: number;
        }
      ).n;
    return rows('message') + rows('part');
  }

  /** Everything in pages: sessions, then turns, then tool calls, each in the order in which it was written first. What is written meanwhile is among them. */
  *pages(): Generator<HistoryRecord[]> {
    for (const kind of Object.keys(PAGES) as Kind[]) {
      for (let place = 0; ; ) {
        const rows = this.#pages[kind].all(place, this.#sinceMs) as Row[];
        if (rows.length === 0) break;
        yield rows.map((row) => ({ source: 'opencode', payload: { event: EVENTS[kind](row) } }));
        place = Number(rows.at(-1)!.place);
      }
    }
  }

  close(): void {
    this.#db.close();
  }
}
