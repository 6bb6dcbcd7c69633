// The OpenCode plugin of Tollbridge: tells the bridge what each turn cost, and nothing of what was said in it.
//
// OpenCode runs this one file inside its own process (Bun), so it imports only node: built-ins, never throws, never
// delays a turn, and exports one thing: OpenCode takes every export of a plugin file for a plugin of its own.
//
// Two rules hold everywhere below:
//  - What is sent is copied field by field from an allow-list. No prompt, answer, title, tool argument, tool output or
//    path leaves; of a path only the project's base name does.
//  - A record is dropped from memory only when the bridge has answered for it or when it lies in the spool. Sending one
//    twice is harmless (the ledger knows it again); losing one is counted and told.

import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import path from 'node:path';
import type { Plugin } from '@opencode-ai/plugin';

/** Filled in by `tollbridge install opencode`; the environment overrides them. */
const INSTALLED = {
  socket: '__TOLLBRIDGE_SOCKET__',
  spool: '__TOLLBRIDGE_SPOOL__',
  version: '__TOLLBRIDGE_VERSION__',
};

/** One post carries at most this much: far below the bridge's body limit, so that a post is never refused for its size. */
const BATCH_MAX_RECORDS = 200;
const BATCH_MAX_BYTES = 256 * 1024;
/** How long one batch may be tried before it goes to the spool, and the waits between the tries. */
const DELIVERY_MAX_MS = 3000;
const RETRY_WAITS_MS = [300, 900];
/** After a failed delivery everything goes straight to the spool, until this has passed. */
const AWAY_MS = 5000;
/** How long OpenCode may be kept waiting when it stops. */
const DISPOSE_MAX_MS = 3000;
/** While a post is being retried, what exceeds this goes to the spool: memory stays bounded. */
const QUEUE_MAX_RECORDS = 2000;
/** Files in the spool folder, whoever wrote them, beyond which records are dropped: the disk stays bounded. */
const SPOOL_MAX_FILES = 5000;
/** Messages and tool calls whose last sent state is remembered, so that a repeated event is not sent again. */
const REMEMBERED_MAX = 2000;
/** Ids and names longer than this are no ids and names. */
const TEXT_MAX_CHARS = 256;
/** Only so much of an error's response is looked at to find its `type` or `code`. */
const ERROR_BODY_MAX_CHARS = 64 * 1024;
/** Enough of a shell call's output, from its end, to hold the note that the user stopped it. */
const SHELL_NOTE_MAX_CHARS = 200;

type Fields = Readonly<Record<string, unknown>>;

function fields(value: unknown): Fields {
  return value !== null && typeof value === 'object' ? (value as Fields) : {};
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value.length > 0 && value.length <= TEXT_MAX_CHARS ? value : undefined;
}

/** A word of a program's own vocabulary; anything else could be a sentence or a path. */
function word(value: unknown): string | undefined {
  return typeof value === 'string' && /^[A-Za-z_.-]{1,64}$/.test(value) ? value : undefined;
}

function finite(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

/** The last segment of a path; undefined for a root or a blank. */
function baseName(value: unknown): string | undefined {
  if (typeof value !== 'string') return undefined;
  const name = value.split(/[\\/]/).filter(Boolean).at(-1);
  return name && !/^[A-Za-z]:$/.test(name) ? text(name) : undefined;
}

/** The base name of a session's worktree: its `directory` without the relative `path` at its end. */
function worktreeName(info: Fields): string | undefined {
  const directory = typeof info.directory === 'string' ? info.directory : '';
  const inside = typeof info.path === 'string' ? info.path : '';
  const root = inside && directory.endsWith(inside) ? directory.slice(0, -inside.length) : directory;
  return baseName(root) ?? baseName(directory);
}

/** The `code` or `type` token in a provider's error response, the more telling one first. */
function errorToken(responseBody: unknown): string | undefined {
  if (typeof responseBody !== 'string' || responseBody.length > ERROR_BODY_MAX_CHARS) return undefined;
  try {
    const body = fields(JSON.parse(responseBody));
    const error = fields(body.error);
    return [error.code, error.type, body.code, body.type].map(word).find((token) => token && token !== 'error');
  } catch {
    return undefined;
  }
}

function contentFreeError(value: unknown): object | undefined {
  if (value === null || typeof value !== 'object') return undefined;
  const error = fields(value);
  const data = fields(error.data);
  return {
    name: word(error.name) ?? 'UnknownError',
    data: {
      statusCode: finite(data.statusCode),
      isRetryable: typeof data.isRetryable === 'boolean' ? data.isRetryable : undefined,
      errorType: errorToken(data.responseBody),
    },
  };
}

function assistantMessage(properties: Fields) {
  const info = fields(properties.info);
  if (info.role !== 'assistant' || !text(info.id)) return undefined;
  const tokens = fields(info.tokens);
  const cache = fields(tokens.cache);
  const time = fields(info.time);
  const where = fields(info.path);
  const sent = {
    id: text(info.id),
    sessionID: text(info.sessionID) ?? text(properties.sessionID),
    role: 'assistant',
    providerID: text(info.providerID),
    modelID: text(info.modelID),
    path: { root: baseName(where.root) ?? baseName(where.cwd) },
    time: { created: finite(time.created), completed: finite(time.completed) },
    finish: word(info.finish),
    error: contentFreeError(info.error),
    cost: finite(info.cost),
    tokens: {
      input: finite(tokens.input),
      output: finite(tokens.output),
      reasoning: finite(tokens.reasoning),
      cache: { read: finite(cache.read), write: finite(cache.write) },
    },
  };
  return { key: `message ${sent.id}`, state: JSON.stringify(sent), properties: { info: sent } };
}

/**
 * Whether the user stopped the call. OpenCode says so in `metadata` for most tools, but its shell tool ends as
 * `completed`, without an exit code and with this note at the end of its output.
 */
function wasInterrupted(state: Fields): boolean {
  const { interrupted, exit } = fields(state.metadata);
  if (state.status === 'error') return interrupted === true || state.error === 'Tool execution aborted';
  if (exit !== null || typeof state.output !== 'string') return false;
  return /User aborted the command\s*<\/\w+_metadata>\s*$/.test(state.output.slice(-SHELL_NOTE_MAX_CHARS));
}

function finishedTool(properties: Fields) {
  const part = fields(properties.part);
  const state = fields(part.state);
  if (part.type !== 'tool' || !text(part.callID)) return undefined;
  if (state.status !== 'completed' && state.status !== 'error') return undefined;
  const time = fields(state.time);
  const interrupted = wasInterrupted(state);
  const sent = {
    id: text(part.id),
    sessionID: text(part.sessionID) ?? text(properties.sessionID),
    messageID: text(part.messageID),
    type: 'tool',
    callID: text(part.callID),
    tool: text(part.tool),
    state: {
      status: interrupted ? 'error' : state.status,
      time: { start: finite(time.start), end: finite(time.end) },
      metadata: interrupted ? { interrupted } : undefined,
    },
  };
  return { key: `part ${sent.id} ${sent.callID}`, state: JSON.stringify(sent), properties: { part: sent } };
}

function announcedSession(properties: Fields) {
  const info = fields(properties.info);
  const id = text(info.id);
  if (!id) return undefined;
  return { key: `session ${id}`, state: '', properties: { info: { id, directory: worktreeName(info) } } };
}

function askedPermission(properties: Fields) {
  if (!text(properties.id)) return undefined;
  const tool = fields(properties.tool);
  const sent = {
    id: text(properties.id),
    sessionID: text(properties.sessionID),
    tool: { messageID: text(tool.messageID), callID: text(tool.callID) },
  };
  return { key: `asked ${sent.id}`, state: '', properties: sent };
}

function repliedPermission(properties: Fields) {
  if (!text(properties.requestID)) return undefined;
  const sent = { requestID: text(properties.requestID), sessionID: text(properties.sessionID) };
  return { key: `replied ${sent.requestID}`, state: '', properties: sent };
}

function sessionError(properties: Fields) {
  const error = fields(properties.error);
  const sent = {
    sessionID: text(properties.sessionID),
    error: { name: word(error.name), data: { statusCode: finite(fields(error.data).statusCode) } },
  };
  return { key: undefined, state: '', properties: sent };
}

/** What may leave an event: its content-free properties, and under which `key` its last sent `state` is remembered. */
interface ContentFree {
  readonly key: string | undefined;
  readonly state: string;
  readonly properties: object;
}

/** The events that are sent. Whatever is not in this table stays in OpenCode. */
const SENT_EVENTS: Readonly<Record<string, (properties: Fields) => ContentFree | undefined>> = {
  'message.updated': assistantMessage,
  'message.part.updated': finishedTool,
  'session.created': announcedSession,
  'session.updated': announcedSession,
  'session.error': sessionError,
  'permission.asked': askedPermission,
  'permission.replied': repliedPermission,
};

/** Picks the events that say something new and strips them of all content. */
class Selection {
  readonly #remembered = new Map<string, string>();

  /** The content-free event, or undefined when there is nothing to send. */
  select(event: unknown): object | undefined {
    const { id, type, properties } = fields(event);
    const strip = typeof type === 'string' && Object.hasOwn(SENT_EVENTS, type) ? SENT_EVENTS[type] : undefined;
    const stripped = strip?.(fields(properties));
    if (!stripped || this.#isKnown(stripped)) return undefined;
    return { id: text(id), type, properties: stripped.properties };
  }

  #isKnown({ key, state }: ContentFree): boolean {
    if (key === undefined) return false;
    const known = this.#remembered.get(key) === state;
    this.#remembered.delete(key);
    this.#remembered.set(key, state);
    if (this.#remembered.size > REMEMBERED_MAX) {
      for (const oldest of this.#remembered.keys()) {
        this.#remembered.delete(oldest);
        break;
      }
    }
    return known;
  }
}

interface Settings {
  readonly socket: string;
  readonly spool: string;
  /** Says something to the user once it matters; content-free. */
  readonly tell: (message: string) => void;
}

type Answer = 'accepted' | 'refused' | 'away';

/** Carries records to the bridge, in batches and one post at a time, or to the spool while the bridge is away. */
class Delivery {
  readonly #settings: Settings;
  #queue: string[] = [];
  #inFlight: readonly string[] = [];
  #pumping: Promise<void> | undefined;
  #awayUntilMs = 0;
  #isClosed = false;
  #lost = 0;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** Takes one record; returns at once. After `close` it goes straight to the spool. */
  add(record: string): void {
    if (this.#isClosed) {
      this.#keep([record]);
      return;
    }
    this.#queue.push(record);
    if (this.#queue.length > QUEUE_MAX_RECORDS) this.#keepQueue();
    this.#pumping ??= this.#pump().finally(() => {
      this.#pumping = undefined;
    });
  }

  /** Delivers what is queued within `DISPOSE_MAX_MS`; what is left then goes to the spool. */
  async close(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const bound = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, DISPOSE_MAX_MS);
    });
    await Promise.race([this.#pumping, bound]);
    clearTimeout(timer);
    this.spoolAll();
    this.#isClosed = true;
    if (this.#lost > 0) this.#settings.tell(`Tollbridge lost ${this.#lost} records in all while OpenCode ran.`);
  }

  /** Writes everything that has no answer yet to the spool. Synchronous: it also runs while the process exits. */
  spoolAll(): void {
    this.#keep(this.#inFlight);
    this.#inFlight = [];
    this.#keepQueue();
  }

  async #pump(): Promise<void> {
    // Let the events of one tick gather, so that they travel together.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      this.#inFlight = this.#takeBatch();
      const answer = await this.#deliver(this.#inFlight);
      // Empty when `spoolAll` came in between: then these records already lie in the spool.
      const batch = this.#inFlight;
      this.#inFlight = [];
      if (answer === 'away') this.#keep(batch);
      else if (answer === 'refused') this.#lose(batch.length, 'the bridge refused them');
    }
  }

  #takeBatch(): string[] {
    let bytes = 0;
    let count = 0;
    for (const record of this.#queue) {
      bytes += Buffer.byteLength(record) + 1;
      if (count > 0 && (count === BATCH_MAX_RECORDS || bytes > BATCH_MAX_BYTES)) break;
      count++;
    }
    return this.#queue.splice(0, count);
  }

  async #deliver(batch: readonly string[]): Promise<Answer> {
    if (!this.#settings.socket || Date.now() < this.#awayUntilMs) return 'away';
    // One try tells whether a bridge that was away is back; only one that was there is worth waiting for.
    const waitsMs = this.#awayUntilMs > 0 ? [] : RETRY_WAITS_MS;
    const deadlineMs = Date.now() + DELIVERY_MAX_MS;
    for (let tries = 0; ; tries++) {
      const answer = await post(this.#settings.socket, batch.join('\n'), Math.max(1, deadlineMs - Date.now()));
      const waitMs = waitsMs[tries];
      if (answer !== 'away') {
        this.#awayUntilMs = 0;
        return answer;
      }
      if (waitMs === undefined || Date.now() + waitMs >= deadlineMs) break;
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
    this.#awayUntilMs = Date.now() + AWAY_MS;
    return 'away';
  }

  #keepQueue(): void {
    while (this.#queue.length > 0) this.#keep(this.#takeBatch());
  }

  #keep(batch: readonly string[]): void {
    if (batch.length === 0) return;
    const problem = this.#settings.spool ? writeSpoolFile(this.#settings.spool, batch.join('\n')) : 'there is no spool';
    if (problem) this.#lose(batch.length, problem);
  }

  #lose(records: number, why: string): void {
    if (this.#lost === 0) {
      this.#settings.tell(
        `Tollbridge lost ${records} records of what this session costs: ${why}. ` +
          'Its totals are too low by them. Run: tollbridge doctor',
      );
    }
    this.#lost += records;
  }
}

/** Posts NDJSON to the bridge and waits for its answer. Never rejects. */
function post(socket: string, body: string, timeoutMs: number): Promise<Answer> {
  return new Promise((resolve) => {
    try {
      const headers = {
        'content-type': 'application/x-ndjson',
        'content-length': Buffer.byteLength(body),
        'user-agent': `tollbridge-opencode/${INSTALLED.version}`,
      };
      const asked = request({ socketPath: socket, path: '/v1/events', method: 'POST', headers, agent: false });
      // A bridge that hangs must not hold the records: the timer ends the request, not only an idle socket.
      const timer = setTimeout(() => {
        resolve('away');
        asked.destroy();
      }, timeoutMs);
      asked.on('response', (response) => {
        clearTimeout(timer);
        response.resume();
        const status = response.statusCode ?? 0;
        if (status >= 200 && status < 300) resolve('accepted');
        // The bridge could not book a single record of it: sending the same again cannot help.
        else if (status === 400 || status === 413) resolve('refused');
        else resolve('away');
      });
      asked.on('error', () => {
        clearTimeout(timer);
        resolve('away');
      });
      asked.end(body);
    } catch {
      resolve('away');
    }
  });
}

/** Writes one spool file, readable by its owner only, that appears complete or not at all. Returns what went wrong. */
function writeSpoolFile(spool: string, body: string): string | undefined {
  try {
    mkdirSync(spool, { recursive: true, mode: 0o700 });
    const waiting = readdirSync(spool).filter((name) => name.endsWith('.json')).length;
    if (waiting >= SPOOL_MAX_FILES) return `no bridge is running and ${waiting} files wait in the spool`;
    const file = path.join(spool, `${Math.floor(Date.now() / 1000)}_${randomBytes(8).toString('hex')}.json`);
    const partial = `${file}.tmp`;
    try {
      writeFileSync(partial, `${body}\n`, { mode: 0o600, flag: 'wx' });
      renameSync(partial, file);
    } catch (error) {
      rmSync(partial, { force: true });
      throw error;
    }
    return undefined;
  } catch (error) {
    return `the spool cannot be written (${word(fields(error).code) ?? 'unknown error'})`;
  }
}

/** The environment first, then what was installed; an unfilled placeholder is nothing. */
function setting(name: string, installed: string): string {
  return process.env[name]?.trim() || (installed.startsWith('__TOLLBRIDGE_') ? '' : installed);
}

/**
 * Meters this OpenCode instance. Environment: TOLLBRIDGE_SOCKET and TOLLBRIDGE_SPOOL override where records go,
 * TOLLBRIDGE_ACCOUNT_ID names the account they belong to, TOLLBRIDGE_DISABLED=1 switches the plugin off.
 */
export const Tollbridge: Plugin = async ({ client }) => {
  const socket = setting('TOLLBRIDGE_SOCKET', INSTALLED.socket);
  const spool = setting('TOLLBRIDGE_SPOOL', INSTALLED.spool);
  const isDisabled = /^(1|true|yes|on)$/i.test(process.env.TOLLBRIDGE_DISABLED?.trim() ?? '');
  if (isDisabled || (!socket && !spool)) return {};

  const accountId = process.env.TOLLBRIDGE_ACCOUNT_ID?.trim() ?? '';
  const tell = (message: string) => {
    // The log of OpenCode, because its terminal belongs to its user interface.
    Promise.resolve()
      .then(() => client.app.log({ body: { service: 'tollbridge', level: 'warn', message } }))
      .catch(() => {});
  };
  const selection = new Selection();
  const delivery = new Delivery({ socket, spool, tell });
  const spoolAtExit = () => delivery.spoolAll();
  process.on('exit', spoolAtExit);

  return {
    event: async ({ event }) => {
      try {
        const selected = selection.select(event);
        if (!selected) return;
        delivery.add(JSON.stringify({ source: 'opencode', account_id: accountId, payload: { event: selected } }));
      } catch {
        // Metering must never break a turn.
      }
    },
    dispose: async () => {
      try {
        await delivery.close();
      } catch {
        // Stopping must never fail either.
      }
      process.off('exit', spoolAtExit);
    },
  };
};
