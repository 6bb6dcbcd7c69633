// The gate to the normal form: from what agents, plugins and other bridges send to events that the ledger takes.
// Every road (socket, spool, bus) comes through here. Nothing here throws on bad input, and no bad record harms another.

import { isUtf8 } from 'node:buffer';
import { decodeClaudeCode } from './claude-code.ts';
import { decodeCodex } from './codex.ts';
import { type Decoded, HOOK_AGENTS, type HookContext, rejected } from './decoded.ts';
import { decodeEventRecord } from './event-record.ts';
import { isObject, readName } from './fields.ts';
import { valueAt } from './message-fields.ts';
import { decodeOpencode } from './opencode.ts';

export { type Decoded, HOOK_AGENTS, type HookContext } from './decoded.ts';

const HOOK_DECODERS: Record<(typeof HOOK_AGENTS)[number], (payload: unknown, context: HookContext) => Decoded[]> = {
  opencode: decodeOpencode,
  claude_code: decodeClaudeCode,
  codex: decodeCodex,
};

/** More than any sender has waiting; what it costs to say what is wrong with each of them stays far below a second. */
const RECORDS_MAX = 10_000;
const SPACE = 0x20;
const INVALID_JSON = rejected({ reason: 'invalid_json', detail: 'the record: expected one JSON value in UTF-8' });
const TOO_MANY = rejected({
  reason: 'too_large',
  detail: `a body may hold ${RECORDS_MAX.toLocaleString('en')} records; send fewer`,
});
const NOT_AN_OBJECT = rejected({ reason: 'wrong_type', detail: 'the record: expected a JSON object' });

/**
 * Decodes one hook body: what `/v1/hook/<agent>` takes and a spool record's `payload` holds.
 * Always at least one result; never throws.
 * @param agent one of HOOK_AGENTS, in any case
 */
export function decodeHook(agent: string, payload: unknown, context: HookContext): Decoded[] {
  const known = HOOK_AGENTS.find((name) => name === agent.trim().toLowerCase());
  if (!known)
    return [rejected({ reason: 'unknown_agent', detail: `source: expected one of ${HOOK_AGENTS.join(', ')}` })];
  return HOOK_DECODERS[known](payload, context);
}

/**
 * Decodes one record of `/v1/events`, the spool or a bus. `{source, account_id, payload}` is a hook record without
 * saying so; beside `account_id` it may name the `upstream_provider`, where an agent knows whom its gateway calls.
 * Always at least one result; never throws.
 */
export function decodeRecord(record: unknown): Decoded[] {
  if (!isObject(record)) return [NOT_AN_OBJECT];
  const kind = valueAt(record, 'kind');
  const isHook =
    kind === 'hook' || (kind === undefined && Object.hasOwn(record, 'source') && Object.hasOwn(record, 'payload'));
  return isHook ? decodeHookRecord(record) : [decodeEventRecord(record)];
}

function decodeHookRecord(record: Record<string, unknown>): Decoded[] {
  const v = valueAt(record, 'v');
  if (v !== undefined && v !== 1) return [rejected({ reason: 'unsupported_version', detail: 'v: expected 1' })];
  const source = valueAt(record, 'source') ?? valueAt(record, 'agent');
  if (source === undefined)
    return [rejected({ reason: 'missing_field', detail: 'source: missing; expected the name of an agent' })];
  if (typeof source !== 'string')
    return [rejected({ reason: 'wrong_type', detail: 'source: expected the name of an agent' })];
  if (!Object.hasOwn(record, 'payload'))
    return [rejected({ reason: 'missing_field', detail: "payload: missing; expected a hook's body" })];
  const accountId = valueAt(record, 'account_id');
  const upstreamHint = readName(valueAt(record, 'upstream_provider'));
  return decodeHook(source, record.payload, {
    ...(typeof accountId === 'string' && { accountId }),
    ...(upstreamHint !== undefined && { upstreamHint }),
  });
}

/**
 * Decodes a body: one JSON value, an array of records, or NDJSON. A bad line is rejected alone;
 * a body of more than 10,000 records is rejected whole, once, before any of them is decoded.
 * @returns in the order of the body; `index` is the record's place in it (blank lines are not counted). Empty for a
 *   body with nothing in it.
 */
export function decodeBody(body: Buffer): { readonly index: number; readonly decoded: Decoded }[] {
  const content = hasByteOrderMark(body) ? body.subarray(3) : body;
  const text = isUtf8(content) ? content.toString() : undefined;
  const whole = text === undefined ? undefined : parseWhole(text);
  const values = whole && (Array.isArray(whole.value) ? whole.value : [whole.value]);
  const lines = values ? [] : linesIn(content, text);
  if ((values ?? lines).length > RECORDS_MAX) return [{ index: 0, decoded: TOO_MANY }];
  const records = values?.map((value): Parsed => ({ value })) ?? lines.map(parse);
  const items: { readonly index: number; readonly decoded: Decoded }[] = [];
  for (const [index, parsed] of records.entries()) {
    if (!parsed) items.push({ index, decoded: INVALID_JSON });
    else for (const decoded of decodeRecord(parsed.value)) items.push({ index, decoded });
  }
  return items;
}

const hasByteOrderMark = (body: Buffer) => body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf;

interface Parsed {
  readonly value: unknown;
}

/** The lines of a body, up to the first that is too many. As bytes where the encoding is broken, so that one such line spoils no other. */
function linesIn(content: Buffer, text: string | undefined): readonly (string | Buffer)[] {
  if (text !== undefined) return linesOf(text, RECORDS_MAX + 1);
  return linesOf(content.toString('latin1'), RECORDS_MAX + 1).map((line) => Buffer.from(line, 'latin1'));
}

/** The one JSON value that a text is; undefined where it is none, or several. */
function parseWhole(text: string): Parsed | undefined {
  // Where the first of several lines is a whole value, each of them is one: what they all are need not be tried.
  const [first, second] = linesOf(text, 2);
  return second !== undefined && parse(first!) ? undefined : parse(text);
}

/** The JSON value in a text or some bytes; undefined when they hold none. */
function parse(source: string | Buffer): Parsed | undefined {
  if (typeof source !== 'string' && !isUtf8(source)) return undefined;
  try {
    return { value: JSON.parse(source.toString()) };
  } catch {
    // The error would quote the input.
    return undefined;
  }
}

/** The lines that have something in them, at most so many. Blanks are passed over one by one: a body of nothing else makes no millions of slices. */
function linesOf(text: string, max: number): string[] {
  const found: string[] = [];
  for (let start = 0; start < text.length && found.length < max; ) {
    if (text.charCodeAt(start) <= SPACE) {
      start++;
      continue;
    }
    const end = text.indexOf('\n', start);
    found.push(text.slice(start, end === -1 ? text.length : end));
    start = end === -1 ? text.length : end + 1;
  }
  return found;
}
