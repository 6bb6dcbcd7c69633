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
/** How long a busy bridge may be tried with one batch before that goes to the spool, and the waits between the tries. */
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

/** What may be copied out of an object, by field: a rule for its value, or the same for an object inside. */
interface AllowList {
  readonly [field: string]: AllowList | ((value: unknown) => unknown);
}

function allowed(value: unknown, list: AllowList): Fields {
  const given = fields(value);
  const copy: Record<string, unknown> = {};
  for (const [field, rule] of Object.entries(list)) {
    copy[field] = typeof rule === 'function' ? rule(given[field]) : allowed(given[field], rule);
  }
  return copy;
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

function messageError(value: unknown): object | undefined {
  if (value === null || typeof value !== 'object') return undefined;
  const { name, data } = fields(value);
  const { statusCode, isRetryable, responseBody } = fields(data);
  const errorType = errorToken(responseBody);
  return {
    name: word(name) ?? 'UnknownError',
    data: {
      statusCode: finite(statusCode),
      isRetryable: isRetryable === undefined ? undefined : !!isRetryable,
      errorType,
    },
  };
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

function toolState(value: unknown): object {
  const state = fields(value);
  const interrupted = wasInterrupted(state);
  return {
    status: interrupted ? 'error' : word(state.status),
    time: allowed(state.time, { start: finite, end: finite }),
    metadata: interrupted ? { interrupted } : undefined,
  };
}

/** The base name of a session's worktree: its `directory` without the relative `path` at its end. */
function worktreeName(info: Fields): string | undefined {
  const directory = typeof info.directory === 'string' ? info.directory : '';
  const inside = typeof info.path === 'string' ? info.path : '';
  const root = inside && directory.endsWith(inside) ? directory.slice(0, -inside.length) : directory;
  return baseName(root) ?? baseName(directory);
}

const MESSAGE: AllowList = {
  id: text,
  sessionID: text,
  role: word,
  providerID: text,
  modelID: text,
  path: (where) => ({ root: baseName(fields(where).root) ?? baseName(fields(where).cwd) }),
  time: { created: finite, completed: finite },
  finish: word,
  error: messageError,
  cost: finite,
  tokens: { input: finite, output: finite, reasoning: finite, cache: { read: finite, write: finite } },
};
const TOOL_PART: AllowList = {
  id: text,
  sessionID: text,
  messageID: text,
  type: word,
  callID: text,
  tool: text,
  state: toolState,
};
const ERROR: AllowList = { sessionID: text, error: { name: word, data: { statusCode: finite } } };
const ASKED: AllowList = { id: text, sessionID: text, tool: { messageID: text, callID: text } };
const REPLIED: AllowList = { requestID: text, sessionID: text };

/** What may leave an event, and what it is `about`: an event that says the same about the same is not sent again. */
interface ContentFree {
  readonly about: unknown;
  readonly properties: Fields;
}

function sessionEvent({ info }: Fields): ContentFree {
  const id = text(fields(info).id);
  return { about: id, properties: { info: { id, directory: worktreeName(fields(info)) } } };
}

/** The events that are sent. Whatever is not in this table stays in OpenCode. */
const SENT_EVENTS: Readonly<Record<string, (properties: Fields, eventId: unknown) => ContentFree | undefined>> = {
  'message.updated': ({ info }) => {
    const message = allowed(info, MESSAGE);
    return message.role === 'assistant' ? { about: message.id, properties: { info: message } } : undefined;
  },
  'message.part.updated': ({ part }) => {
    const { type, state } = fields(part);
    if (type !== 'tool' || !['completed', 'error'].includes(String(fields(state).status))) return undefined;
    const tool = allowed(part, TOOL_PART);
    return { about: tool.callID && `${tool.id} ${tool.callID}`, properties: { part: tool } };
  },
  'session.created': sessionEvent,
  'session.updated': sessionEvent,
  'session.error': (properties, eventId) => ({ about: eventId, properties: allowed(properties, ERROR) }),
  'permission.asked': (properties) => ({ about: text(properties.id), properties: allowed(properties, ASKED) }),
  'permission.replied': (properties) => {
    const id = text(properties.requestID);
    return { about: id && `reply ${id}`, properties: allowed(properties, REPLIED) };
  },
};

/** Picks the events that say something new and strips them of all content. */
class Selection {
  readonly #lastSaid = new Map<unknown, string>();

  /** The content-free event, or undefined when there is nothing to send. */
  select(event: unknown): object | undefined {
    const { id, type, properties } = fields(event);
    const strip = typeof type === 'string' && Object.hasOwn(SENT_EVENTS, type) ? SENT_EVENTS[type] : undefined;
    const stripped = strip?.(fields(properties), text(id));
    if (!stripped?.about || this.#isKnown(stripped)) return undefined;
    return { id: text(id), type, properties: stripped.properties };
  }

  #isKnown({ about, properties }: ContentFree): boolean {
    const says = JSON.stringify(properties);
    const isKnown = this.#lastSaid.get(about) === says;
    // Taken out and put in again, so that the map's first key is the one that was silent for longest.
    this.#lastSaid.delete(about);
    this.#lastSaid.set(about, says);
    if (this.#lastSaid.size > REMEMBERED_MAX) this.#lastSaid.delete(this.#lastSaid.keys().next().value);
    return isKnown;
  }
}

interface Settings {
  readonly socket: string;
  readonly spool: string;
  /** Says something to the user once it matters; content-free. */
  readonly tell: (message: string) => void;
}

/** `busy`: it may take the same later. `absent`: nobody listens, or it went away in the middle. */
type Answer = 'accepted' | 'refused' | 'busy' | 'absent';

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
    this.#pumping ??= this.#pump();
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
    if (this.#lost > 0) this.#settings.tell(`Tollbridge lost ${counted(this.#lost)} in all while OpenCode ran.`);
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
      if (answer === 'refused') this.#lose(batch.length, 'the bridge refused them');
      else if (answer !== 'accepted') this.#keep(batch);
    }
    // In the same tick in which the queue was found empty, or a record added in between would wait for the next one.
    this.#pumping = undefined;
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
    if (!this.#settings.socket || Date.now() < this.#awayUntilMs) return 'absent';
    // One try tells whether a bridge that was away is back; only one that was there is worth waiting for.
    const waitsMs = this.#awayUntilMs > 0 ? [] : RETRY_WAITS_MS;
    const deadlineMs = Date.now() + DELIVERY_MAX_MS;
    for (let tries = 0; ; tries++) {
      const answer = await post(this.#settings.socket, batch.join('\n'), Math.max(1, deadlineMs - Date.now()));
      if (answer === 'accepted' || answer === 'refused') {
        this.#awayUntilMs = 0;
        return answer;
      }
      const waitMs = waitsMs[tries];
      // A signal ends OpenCode without a last word, so what nobody listens for is safer on disk than in here.
      const isSaferSpooled = answer === 'absent' && this.#settings.spool !== '';
      if (isSaferSpooled || waitMs === undefined || Date.now() + waitMs >= deadlineMs) {
        this.#awayUntilMs = Date.now() + AWAY_MS;
        return answer;
      }
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
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
    if (this.#lost === 0 && records > 0) {
      this.#settings.tell(
        `Tollbridge lost ${counted(records)} of what this session costs: ${why}. ` +
          'Its totals may be too low. Run: tollbridge doctor',
      );
    }
    this.#lost += records;
  }
}

const counted = (records: number) => (records === 1 ? '1 record' : `${records} records`);

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
        resolve('busy');
        asked.destroy();
      }, timeoutMs);
      asked.on('response', (response) => {
        clearTimeout(timer);
        response.resume();
        const status = response.statusCode ?? 0;
        if (status >= 200 && status < 300) resolve('accepted');
        // The bridge could not book a single record of it: sending the same again cannot help.
        else if (status === 400 || status === 413) resolve('refused');
        else resolve('busy');
      });
      asked.on('error', () => {
        clearTimeout(timer);
        resolve('absent');
      });
      asked.end(body);
    } catch {
      resolve('absent');
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
