// The OpenCode plugin of Tollbridge: tells the bridge what each turn cost, and nothing of what was said in it; and asks
// the bridge before each model call and tool call whether it may go ahead.
//
// OpenCode runs this one file inside its own process (Bun), so it imports only node: built-ins and exports one thing:
// OpenCode takes every export of a plugin file for a plugin of its own. Metering never throws and never delays a turn;
// asking waits `ASKING_MAX_MS` at most and throws nothing but a refusal.
//
// Two rules hold everywhere below:
//  - What is sent is copied field by field from an allow-list. No prompt, answer, title, tool argument, tool output or
//    path leaves; of a path only the project's base name does.
//  - A record is dropped from memory only when the bridge has answered for it or when it lies in the spool. Sending one
//    twice is harmless (the ledger knows it again); losing one is counted and told.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Plugin } from '@opencode-ai/plugin';

/** Filled in by `tollbridge install opencode`; the environment overrides them. */
const INSTALLED = {
  socket: '__TOLLBRIDGE_SOCKET__',
  spool: '__TOLLBRIDGE_SPOOL__',
  fail: '__TOLLBRIDGE_FAIL__',
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
/** Of everything that is remembered at most so many: sent messages and tool calls, verdicts, notices, prompts. */
const REMEMBERED_MAX = 2000;
/** Ids and names longer than this are no ids and names. */
const TEXT_MAX_CHARS = 256;
/** Only so much of an error's response is looked at to find its `type` or `code`. */
const ERROR_BODY_MAX_CHARS = 64 * 1024;
/** Enough of a shell call's output, from its end, to hold the note that the user stopped it. */
const SHELL_NOTE_MAX_CHARS = 200;
/** How long a model call or a tool call may be held up by asking the bridge, and the steps in which that is waited. */
const ASKING_MAX_MS = 50;
const ASKING_STEP_MS = 10;
/** A verdict is a few fields; a longer answer is none, and neither is one with a longer message. */
const VERDICT_MAX_CHARS = 16 * 1024;
const NOTICE_MAX_CHARS = 1000;
/** No verdict is kept for longer, whatever it says. */
const TTL_MAX_MS = 60_000;

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

/** Puts it last in the map, and takes out the first when there are too many: the one that was silent for longest. */
function remember<K, V>(map: Map<K, V>, key: K, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > REMEMBERED_MAX) map.delete(map.keys().next().value as K);
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
  parentID: text,
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
  const { id, parentID } = allowed(info, { id: text, parentID: text });
  return { about: id, properties: { info: { id, parentID, directory: worktreeName(fields(info)) } } };
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
  select(event: unknown): { readonly id: unknown; readonly type: unknown; readonly properties: Fields } | undefined {
    const { id, type, properties } = fields(event);
    const strip = typeof type === 'string' && Object.hasOwn(SENT_EVENTS, type) ? SENT_EVENTS[type] : undefined;
    const stripped = strip?.(fields(properties), text(id));
    if (!stripped?.about || this.#isKnown(stripped)) return undefined;
    return { id: text(id), type, properties: stripped.properties };
  }

  #isKnown({ about, properties }: ContentFree): boolean {
    const says = JSON.stringify(properties);
    const isKnown = this.#lastSaid.get(about) === says;
    remember(this.#lastSaid, about, says);
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

/** What the bridge is asked before a call. Nothing else leaves with it. */
interface Question {
  readonly agent: 'opencode';
  readonly provider: string;
  readonly model: string;
  /** What the provider is asked for, where a configuration gave the model another name. */
  readonly called_model: string | undefined;
  /** Who serves, where a gateway is told so. */
  readonly upstream_provider: string | undefined;
  readonly project: string | undefined;
  readonly tool?: string;
  readonly account_id: string | undefined;
  /** Whether OpenCode knows a price for the model; absent when it does not say. */
  readonly priced: boolean | undefined;
}

/** The question about a prompt's model calls, and what the prompt is known by. */
interface Asked {
  readonly question: Question;
  readonly prompt: string;
}

/** What to do with a call for which the bridge gives no verdict: let it through, or refuse it. */
type Fail = 'open' | 'closed';

interface Verdict {
  readonly decision: 'allow' | 'warn' | 'stop';
  /** One line, ready to show; never empty for `warn` and `stop`. */
  readonly message: string;
  /** What a warning is about: it is shown once. */
  readonly occasion: string;
  readonly hasRule: boolean;
  /** Whether a prompt that was allowed before this stop may go on. */
  readonly mayFinish: boolean;
  readonly ttlMs: number;
  readonly fail: Fail | undefined;
}

const failIn = (value: unknown): Fail | undefined => (value === 'open' || value === 'closed' ? value : undefined);

/** The verdict in a body; undefined when it holds none that can be acted on. Throws a SyntaxError when it is no JSON. */
function verdictIn(body: string): Verdict | undefined {
  const { decision, rule, message, step, resets_at, limit_usd, in_flight, ttl_s, fail } = fields(JSON.parse(body));
  if (decision !== 'allow' && decision !== 'warn' && decision !== 'stop') return undefined;
  const ttlMs = Math.min((finite(ttl_s) ?? -1) * 1000, TTL_MAX_MS);
  // One line and no control sequences: it is written to a terminal.
  const line = typeof message === 'string' ? message.replace(/[\p{Cc}\p{Bidi_C}\u2028\u2029]+/gu, ' ').trim() : '';
  if (ttlMs < 0 || line.length > NOTICE_MAX_CHARS || (line === '' && decision !== 'allow')) return undefined;
  return {
    decision,
    message: line,
    occasion: JSON.stringify([text(rule), finite(step), text(resets_at), finite(limit_usd)]),
    hasRule: rule !== undefined,
    mayFinish: in_flight === 'finish',
    ttlMs,
    fail: failIn(fail),
  };
}

/** Asks the bridge. Gives its verdict, or in a few words why there is none. */
async function ask(socket: string, body: string): Promise<Verdict | string> {
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const asked = request({ socketPath: socket, path: '/v1/verdict', method: 'POST', headers, agent: false });
  asked.on('error', () => {});
  const bound = async () => {
    // In steps, because OpenCode may be busy for longer than the whole: what was answered meanwhile is read in between.
    for (let ms = 0; ms < ASKING_MAX_MS; ms += ASKING_STEP_MS) await sleep(ASKING_STEP_MS);
    return 'it took too long';
  };
  const answer = async () => {
    const [response] = await once(asked.end(body), 'response');
    if (response.statusCode !== 200) return `it answered ${response.statusCode}`;
    let said = '';
    for await (const chunk of response.setEncoding('utf8')) {
      said += chunk;
      if (said.length > VERDICT_MAX_CHARS) break;
    }
    return verdictIn(said) ?? 'it gave no verdict';
  };
  const problem = (error: unknown) => (error instanceof SyntaxError ? 'it gave no verdict' : 'nobody listens');
  return Promise.race([bound(), answer().catch(problem)]).finally(() => asked.destroy());
}

interface EnforcementSettings extends Pick<Settings, 'socket' | 'tell'> {
  /** `forced` wins over what the bridge said last, and that over `installed`. */
  readonly fail: { readonly forced: Fail | undefined; readonly installed: Fail | undefined };
  /** Puts something before the user's eyes; content-free. */
  readonly show: (message: string) => void;
}

/** Asks for verdicts, remembers each for as long as it says, and turns them into refusals and notices. */
class Enforcement {
  readonly #settings: EnforcementSettings;
  readonly #answers = new Map<string, { verdict: Verdict; askedAtMs: number; asking?: Promise<Verdict | string> }>();
  readonly #shown = new Map<string, true>();
  readonly #allowedPrompts = new Map<string, true>();
  #saidFail: Fail | undefined;
  #hasSeenRule = false;
  /** Calls let through without a verdict of which the bridge does not know yet. */
  #unchecked = 0;
  /** Those of them that a question under way tells it of. */
  #carried = 0;

  constructor(settings: EnforcementSettings) {
    this.#settings = settings;
  }

  /** Lets a call go ahead, or throws an Error with a text for the user; never another, not even one of `whatIsAsked`. */
  async permit(whatIsAsked: () => Asked | undefined): Promise<void> {
    const refusal = await this.#refusal(whatIsAsked).catch(() => this.#unanswered('the plugin failed'));
    if (refusal) throw new Error(refusal);
  }

  async #refusal(whatIsAsked: () => Asked | undefined): Promise<string | undefined> {
    const asked = whatIsAsked();
    if (!asked) return this.#unanswered('it could not be asked: the model is not known');
    const { question, prompt } = asked;
    const verdict = await this.#answer(JSON.stringify(question));
    if (typeof verdict === 'string') return this.#unanswered(verdict);
    const { decision, message, occasion, mayFinish } = verdict;
    if (decision === 'stop') return mayFinish && this.#allowedPrompts.has(prompt) ? undefined : message;
    if (!question.tool) remember(this.#allowedPrompts, prompt, true);
    if (decision === 'warn' && !this.#shown.has(occasion)) {
      remember(this.#shown, occasion, true);
      this.#settings.show(message);
    }
    return undefined;
  }

  #answer(question: string): Promise<Verdict | string> | Verdict {
    const known = this.#answers.get(question);
    const ageMs = known ? Date.now() - known.askedAtMs : 0;
    // A clock that was set back makes nothing last longer.
    if (known && ageMs >= 0 && ageMs < known.verdict.ttlMs) return known.verdict;
    if (known?.asking) return known.asking;
    const asking = this.#askBridge(question);
    // Where every call is to be asked for, none may live on the answer that another one got.
    if (known && known.verdict.ttlMs > 0) known.asking = asking;
    return asking;
  }

  async #askBridge(question: string): Promise<Verdict | string> {
    const { socket, tell } = this.#settings;
    const askedAtMs = Date.now();
    const unchecked = this.#unchecked - this.#carried;
    this.#carried += unchecked;
    const body = unchecked > 0 ? JSON.stringify({ ...JSON.parse(question), unchecked }) : question;
    const verdict = socket ? await ask(socket, body) : 'its socket is switched off';
    this.#carried -= unchecked;
    this.#answers.delete(question);
    if (typeof verdict === 'string') return verdict;
    this.#unchecked -= unchecked;
    remember(this.#answers, question, { verdict, askedAtMs });
    this.#saidFail = verdict.fail ?? this.#saidFail;
    this.#hasSeenRule ||= verdict.hasRule;
    if (unchecked > 0) tell(`Tollbridge's bridge answers again. Calls let through before: ${unchecked}.`);
    return verdict;
  }

  #unanswered(why: string): string | undefined {
    const { socket, fail, tell, show } = this.#settings;
    if ((fail.forced ?? this.#saidFail ?? fail.installed) === 'closed') {
      return (
        `Tollbridge refused this call: its bridge did not answer (${why}), so no budget was checked, and what cannot ` +
        'be checked is refused here. Start the bridge: tollbridge start. To let such calls through instead, set ' +
        'verdict.fail to open and run: tollbridge install opencode'
      );
    }
    this.#unchecked++;
    // Said once per outage. Who switched the socket off was told by the installation; who is not known to have rules
    // misses none, so it only goes into the log.
    if (this.#unchecked > 1 || !socket) return undefined;
    (this.#hasSeenRule ? show : tell)(
      `Tollbridge's bridge did not answer (${why}), so no budget was checked. Calls go ahead unchecked until it ` +
        'answers. Start the bridge: tollbridge start',
    );
    return undefined;
  }
}

/** Whether any price of OpenCode's is above zero; undefined when it names none. */
function isPriced(cost: unknown): boolean | undefined {
  const { input, output, cache } = fields(cost);
  if (finite(input) === undefined) return undefined;
  return [input, output, fields(cache).read, fields(cache).write].some((usd) => (finite(usd) ?? 0) > 0);
}

/** Whom a gateway is told to call, by the header that Portkey reads; a name of the user's own (`@…`) says nothing. */
function gatewayTarget(...headers: unknown[]): string | undefined {
  const entries = headers.flatMap((each) => Object.entries(fields(each)));
  const target = entries.find(([name]) => name.toLowerCase() === 'x-portkey-provider')?.[1];
  return typeof target === 'string' && /^[A-Za-z0-9][\w.-]{0,63}$/.test(target) ? target : undefined;
}

/** The environment first, then what was installed; an unfilled placeholder is nothing. */
function setting(name: string, installed: string): string {
  return process.env[name]?.trim() || (installed.startsWith('__TOLLBRIDGE_') ? '' : installed);
}

/** Does what may fail without anybody's harm. */
async function quietly(act: () => unknown): Promise<void> {
  await (async () => act())().catch(() => {});
}

/**
 * Meters this OpenCode instance and holds it to the bridge's verdicts. Environment: TOLLBRIDGE_SOCKET, TOLLBRIDGE_SPOOL
 * and TOLLBRIDGE_FAIL (`open` or `closed`: what becomes of calls without a verdict) override what was installed,
 * TOLLBRIDGE_ACCOUNT_ID names the account that turns belong to, TOLLBRIDGE_DISABLED=1 switches the plugin off.
 */
export const Tollbridge: Plugin = async ({ client, worktree, directory }) => {
  const socket = setting('TOLLBRIDGE_SOCKET', INSTALLED.socket);
  const spool = setting('TOLLBRIDGE_SPOOL', INSTALLED.spool);
  const isDisabled = /^(1|true|yes|on)$/i.test(process.env.TOLLBRIDGE_DISABLED?.trim() ?? '');
  if (isDisabled || (!socket && !spool)) return {};

  const accountId = process.env.TOLLBRIDGE_ACCOUNT_ID?.trim() ?? '';
  const tell = (message: string) => {
    // The log of OpenCode, because its terminal belongs to its user interface.
    void quietly(() => client.app.log({ body: { service: 'tollbridge', level: 'warn', message } }));
  };
  const selection = new Selection();
  const delivery = new Delivery({ socket, spool, tell });
  const spoolAtExit = () => delivery.spoolAll();
  process.on('exit', spoolAtExit);

  const show = (message: string) => {
    tell(message);
    // `opencode run` has no user interface whose screen a line could spoil; everything else has, or serves one.
    const isRun = process.argv.slice(2).find((argument) => !argument.startsWith('-')) === 'run';
    if (isRun) process.stderr.write(`${message}\n`);
    else void quietly(() => client.tui.showToast({ body: { title: 'Tollbridge', message, variant: 'warning' } }));
  };
  const forced = process.env.TOLLBRIDGE_FAIL?.trim();
  if (forced && !failIn(forced)) {
    tell('TOLLBRIDGE_FAIL is neither open nor closed, so it was ignored. Set it to one of them, or unset it.');
  }
  const fail = { forced: failIn(forced), installed: failIn(INSTALLED.fail) };
  const enforcement = new Enforcement({ socket, fail, tell, show });
  const project = baseName(worktree) ?? baseName(directory);
  /** What each session's prompt asks: a tool call says only which session it belongs to. */
  const current = new Map<string, Asked>();
  /** Provider and model → whom the gateway in between is told to call. */
  const targets = new Map<string, string>();

  /** What is to be asked about a call that is made for a prompt of the user's. `options` are the provider's. */
  const askedOf = (
    message: unknown,
    called: { providerID: unknown; modelID: unknown; about?: Fields; options?: unknown },
  ) => {
    const { id, sessionID, model: chosen } = fields(message);
    const [provider, model, prompt, session] = [called.providerID, called.modelID, id, sessionID].map(text);
    if (!provider || !model || !prompt || !session) return undefined;
    const { api, headers, cost } = called.about ?? {};
    const target = gatewayTarget(headers, fields(called.options).headers);
    if (target) remember(targets, `${provider} ${model}`, target);
    const calledId = text(fields(api).id);
    const question: Question = {
      ...{ agent: 'opencode', provider, model, project, account_id: text(accountId), priced: isPriced(cost) },
      called_model: calledId === model ? undefined : calledId,
      upstream_provider: targets.get(`${provider} ${model}`),
    };
    // A prompt's title may be made on another model: that it was allowed says nothing about the prompt.
    const asked = { question, prompt: `${prompt} ${provider} ${model}` };
    if (provider === fields(chosen).providerID && model === fields(chosen).modelID) remember(current, session, asked);
    return asked;
  };

  return {
    // Metering must never break a turn.
    event: ({ event }) =>
      quietly(() => {
        const selected = selection.select(event);
        if (!selected) return;
        const { providerID, modelID } = fields(selected.properties.info);
        const served = { account_id: accountId, upstream_provider: targets.get(`${providerID} ${modelID}`) };
        delivery.add(JSON.stringify({ source: 'opencode', ...served, payload: { event: selected } }));
      }),
    // A prompt may call a tool before it calls a model.
    'chat.message': (_, output) =>
      quietly(() => {
        const { providerID, modelID } = fields(output.message.model);
        askedOf(output.message, { providerID, modelID });
      }),
    'chat.params': (input) =>
      enforcement.permit(() => {
        const about = fields(input.model);
        const { options } = fields(input.provider);
        return askedOf(input.message, { providerID: about.providerID, modelID: about.id, about, options });
      }),
    'tool.execute.before': (input) =>
      enforcement.permit(() => {
        const asked = current.get(input.sessionID);
        const tool = text(input.tool);
        return asked && tool ? { ...asked, question: { ...asked.question, tool } } : undefined;
      }),
    dispose: async () => {
      await quietly(() => delivery.close());
      process.off('exit', spoolAtExit);
    },
  };
};
