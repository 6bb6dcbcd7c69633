// The strict reading of single fields. Every value that enters the normal form passes through one of these types,
// whichever road it came by; a value that does not fit is refused with the field's name and what was expected,
// and never quoted.

import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { HookContext } from './decoded.ts';
import { ERROR_REASONS, type ErrorReason, PROVIDER_BASES, type ProviderBasis } from './turn-event.ts';

/** Ids become keys of the ledger; the longest seen is 64 characters. */
const ID_MAX_CHARS = 200;
/** Names that become label values. */
const NAME_MAX_CHARS = 128;
const PROVIDER_MAX_CHARS = 64;
/** More than any model can read or write in one step, and a million such turns still add up exactly. */
const TOKENS_MAX = 1e9;
/** More than any one step costs; what is beyond it is a wrong unit. */
const COST_MAX_USD = 10_000;
const NANO_PER_USD = 1e9;
/** No agent metered here is older than 2020; what is beyond 2100 is a wrong unit. */
const EARLIEST_MS = Date.UTC(2020, 0, 1);
const LATEST_MS = Date.UTC(2100, 0, 1);
/** Bare numbers above these are µs and ms; below they are seconds. */
const MICROSECONDS_ABOVE = 1e15;
const MILLISECONDS_ABOVE = 1e12;

/** As `accounts[].id` of the configuration, and nothing that begins as an API key does. */
const ACCOUNT_ID = /^(?![Ss][Kk]-)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const accountIdText = 'expected the id of an account: 1 to 64 of A-Z a-z 0-9 . _ -, and neither an e-mail nor a key';
/** As teams and users are named in a configuration, and nothing that begins as a key does: it travels with its turn. */
const LABEL = /^(?![Ss][Kk]-[A-Za-z0-9_-]{8})[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** Where a server names a model by its file: absolute, relative, with a drive, as a URL, or behind a gateway's name. */
const FILE_PATH = /^\s*(?:[/~]|\.\.?\/)|\\|:\/|\/\/|\.(?:gguf|bin|safetensors)$/i;
/** How API keys begin. Nothing that a user would want to read does. */
export const KEY_LIKE = /^\s*sk-[A-Za-z0-9_-]{8}/i;
/** A path, a URL, an e-mail address or a key in the place of an id. */
const TELLING_ID =
  /^(?:[/~]|\.\.?\/|[A-Za-z]:[\\/]|file:|[a-z][a-z0-9+.-]*:\/\/|sk-[A-Za-z0-9_-]{8})|^[^@/]+@[^@/]+\.[a-z]{2,}$/i;
const PLAIN_ID = /^(?!sk-)[A-Za-z0-9_-]{1,200}$/i;
const PLAIN_PROVIDER = /^(?!sk-)[a-z0-9][a-z0-9-]{0,63}$/;
const PLAIN_NAME = /^(?!sk-)[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/i;
const DIGEST_CHARS = 32;
const AGENT = /^[a-z][a-z0-9_-]{0,31}$/;
const SERVER_NAME = /^(?![Ss][Kk]-)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

const ID = /^[\x21-\x7e]+$/;
const NUMERIC = /^[+-]?\d{1,25}(?:\.\d{1,25})?(?:e[+-]?\d{1,3})?$/i;
const ISO_TIME = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(Z|[+-]\d\d:?\d\d)?)?$/i;
/** Characters that turn the reading direction round for what follows, in a table or a log line as well. */
const TURNING = /\p{Bidi_Control}/gu;
const IS_TURNING = /\p{Bidi_Control}/u;
/** No control characters, no line breaks of any kind, no half characters; something to see. */
const VISIBLE_TEXT = /^(?=.*\S)[^\p{Cc}\p{Cs}\p{Zl}\p{Zp}]+$/u;
/** The same, and neither an e-mail address nor what begins as a key does. */
const MODEL =
  /^(?=.*\S)(?!\s*[Ss][Kk]-[A-Za-z0-9_-]{8})(?![^@/]+@[^@/]+\.[A-Za-z]{2,}\s*$)[^\p{Cc}\p{Cs}\p{Zl}\p{Zp}]+$/u;

const straight = (stated: string) => (IS_TURNING.test(stated) ? stated.replaceAll(TURNING, '') : stated);
const trimmed = (stated: string) => straight(stated).trim();

interface TextForm {
  readonly error: string;
  readonly maxChars: number;
  readonly pattern: RegExp;
  /** What is read of what was stated. */
  readonly tidy?: (stated: string) => string;
  /** What is taken as it stands, as nearly all is: a simple pattern is quicker than all that guards against the rest. */
  readonly plain?: RegExp;
}

/** Reads a value that fits; undefined for one that does not, of which the schema of the same form says what is wrong. */
export type Reading<T> = (stated: unknown) => T | undefined;

function textReading({ maxChars, pattern, tidy, plain }: TextForm): Reading<string> {
  return (stated) => {
    if (typeof stated !== 'string') return undefined;
    if (plain?.test(stated)) return stated;
    const read = tidy ? tidy(stated) : stated;
    return read.length <= maxChars && pattern.test(read) ? read : undefined;
  };
}

/** Reads a value by the quicker way that its schema may have; undefined where there is none, or it does not fit. */
export const readQuickly = <T>(field: z.ZodType<T>, stated: unknown): T | undefined =>
  readings.get(field)?.(stated) as T | undefined;
const readings = new WeakMap<z.ZodType, Reading<unknown>>();

/** A schema, and the quick way to read what fits it. */
function quick<S extends z.ZodType>(schema: S, reading: Reading<z.output<S>>): S {
  readings.set(schema, reading);
  return schema;
}

/** A text, looked at once: a chain of checks costs several times as much, and every record has a dozen of them. */
function text({ error, maxChars, pattern, tidy = (stated) => stated }: TextForm) {
  return z
    .string({ error })
    .check((payload) => {
      const read = tidy(payload.value);
      payload.value = read;
      if (read.length > maxChars) {
        payload.issues.push({ code: 'too_big', origin: 'string', maximum: maxChars, input: read, message: error });
      } else if (!pattern.test(read)) {
        payload.issues.push({ code: 'invalid_format', format: 'regex', input: read, message: error });
      }
    })
    .meta({ minLength: 1, maxLength: maxChars, pattern: pattern.source });
}

/** What is no id stays none: it is refused by what it is. */
function digestOf(stated: string): string {
  if (!ID.test(stated) || stated.length > ID_MAX_CHARS) return stated;
  return createHash('sha256').update(stated).digest('hex').slice(0, DIGEST_CHARS);
}

/** A number; one written as a string is as good. */
export const asNumber = (stated: unknown) => {
  if (typeof stated !== 'string') return stated;
  const trimmed = stated.trim();
  return NUMERIC.test(trimmed) ? Number(trimmed) : stated;
};

/** Unix time in ms of a number in s, ms or µs (told apart by size) or of an ISO 8601 text; anything else as it is. */
function asUnixMs(stated: unknown): unknown {
  const time = asNumber(stated);
  if (typeof time === 'number') {
    if (time > MICROSECONDS_ABOVE) return Math.round(time / 1000);
    return Math.round(time > MILLISECONDS_ABOVE ? time : time * 1000);
  }
  const iso = typeof time === 'string' ? ISO_TIME.exec(time.trim()) : null;
  if (!iso) return stated;
  const [, date, clock = '00:00', zone = 'Z'] = iso;
  const ms = Date.parse(`${date}T${clock}${zone.replace(/^([+-]\d\d):?(\d\d)$/, '$1:$2').toUpperCase()}`);
  return Number.isNaN(ms) ? stated : ms;
}

interface NumberForm {
  readonly error: string;
  /** What is looked at of what was stated. */
  readonly tidy: (stated: unknown) => unknown;
  readonly min: number;
  readonly max: number;
  readonly isWhole?: boolean;
}

function numberReading({ tidy, min, max, isWhole = false }: NumberForm): Reading<number> {
  return (stated) => {
    const read = tidy(stated);
    if (typeof read !== 'number' || !(read >= min && read <= max) || (isWhole && !Number.isInteger(read))) {
      return undefined;
    }
    // -0 would be told apart from 0 by an equality that compares bits.
    return read + 0;
  };
}

/** A number, looked at once as well. */
function number(form: NumberForm) {
  const reading = numberReading(form);
  return z.unknown().transform((stated, context): number => {
    const read = reading(stated);
    if (read !== undefined) return read;
    const wrong =
      typeof form.tidy(stated) === 'number'
        ? ({ code: 'custom' } as const)
        : ({ code: 'invalid_type', expected: 'number' } as const);
    context.issues.push({ ...wrong, input: stated, message: form.error });
    return z.NEVER;
  });
}

const idText = 'expected 1 to 200 printable ASCII characters without spaces';

/**
 * An id is taken as it stands: a space around it is a mistake of the sender, not decoration. Of one that tells more than
 * which it is, a digest is kept, which tells two apart as well.
 */
const ID_FORM: TextForm = {
  ...{ error: idText, maxChars: ID_MAX_CHARS, pattern: ID, plain: PLAIN_ID },
  tidy: (stated) => (TELLING_ID.test(stated) ? digestOf(stated) : stated),
};
export const readId = textReading(ID_FORM);
export const id = quick(text(ID_FORM), readId);
/** What else something belongs to, beside what it is: it is not lost for an id that does not fit. */
export const relatedId = quick(z.unknown().transform(readId).optional(), readId);
/** Whose turn it is, in the sender's word; a turn is not lost for one that does not fit. */
export const readLabel: Reading<string> = (stated) =>
  typeof stated === 'string' && LABEL.test(stated) ? stated : undefined;
export const statedLabel = z.unknown().transform(readLabel).optional().meta({
  type: 'string',
  pattern: LABEL.source,
  description: 'Compared with the credential or subject that the record comes with, which is believed. Never a label.',
});
/** A turn is not lost for a word that is not known. */
export const readProviderBasis: Reading<ProviderBasis> = (stated) => PROVIDER_BASES.find((known) => known === stated);
export const providerBasis = z
  .unknown()
  .transform(readProviderBasis)
  .optional()
  .meta({
    enum: [...PROVIDER_BASES],
    description:
      'Where an agent names its provider once for a session: named, or assumed by an intake that did not hear it, and then taken from other turns of the session. Leave out where every turn names it.',
  });
export const readAgentName: Reading<string> = (stated) =>
  typeof stated === 'string' && AGENT.test(stated) ? stated : undefined;
export const agentName = z
  .string({ error: 'expected the name of an agent, such as opencode' })
  .regex(AGENT, { error: 'expected 1 to 32 of a-z 0-9 _ -, starting with a letter' });
/** Lower-cased: the same provider is spelled in more than one way. */
const PROVIDER_FORM: TextForm = {
  error: 'expected a provider id: 1 to 64 of A-Z a-z 0-9 . _ / -, beginning with a letter or digit, and no key',
  maxChars: PROVIDER_MAX_CHARS,
  pattern: /^(?![Ss][Kk]-)[A-Za-z0-9][A-Za-z0-9._/-]*$/,
  tidy: (stated) => straight(stated).trim().toLowerCase(),
  plain: PLAIN_PROVIDER,
};
export const readProvider = textReading(PROVIDER_FORM);
export const provider = quick(text(PROVIDER_FORM), readProvider);
/** Kept as stated, spaces included; of a path only the base name, because the rest tells whose machine it is. */
const MODEL_FORM: TextForm = {
  error: `expected the id of a model: 1 to ${NAME_MAX_CHARS} characters, none of them a control character, and neither a key nor an address`,
  maxChars: NAME_MAX_CHARS,
  pattern: MODEL,
  tidy: (stated) => straight(FILE_PATH.test(stated) ? (pathSegments(stated).at(-1) ?? '') : stated),
  plain: PLAIN_NAME,
};
export const readModel = textReading(MODEL_FORM);
export const model = quick(text(MODEL_FORM), readModel);
/** What begins with a slash is the path of a program, not the name of a tool. */
export const toolName = text({
  error: `expected a tool's name: 1 to ${NAME_MAX_CHARS} of A-Z a-z 0-9 _ . - / :, and no path`,
  maxChars: NAME_MAX_CHARS,
  pattern: /^(?!\/|[A-Za-z]:\/|[Ss][Kk]-[A-Za-z0-9_-]{8})[A-Za-z0-9_.\-/:]+$/,
  tidy: trimmed,
});
/** The id of an account, strict because it becomes a label: senders put e-mails, paths and keys there. */
export const accountId = z.string({ error: accountIdText }).trim().regex(ACCOUNT_ID, { error: accountIdText });
export const readAccountId: Reading<string> = (stated) => {
  const read = typeof stated === 'string' ? stated.trim() : '';
  return ACCOUNT_ID.test(read) ? read : undefined;
};
/** The same beside a turn, which is not lost for it: what does not fit counts as not stated. */
export const optionalAccountId = z.unknown().transform(readAccountId).optional().meta({
  type: 'string',
  pattern: ACCOUNT_ID.source,
  description: 'What does not fit is left out, and the turn booked without it.',
});
/** The name of an MCP server; a call is not lost for one that does not fit. */
export const optionalServerName = z
  .unknown()
  .transform(serverName)
  .optional()
  .meta({ type: 'string', pattern: SERVER_NAME.source, description: 'What does not fit is left out.' });
/** A project or an upstream provider, as people name them. */
const NAME_FORM: TextForm = {
  error: `expected 1 to ${NAME_MAX_CHARS} characters, none of them a control character`,
  maxChars: NAME_MAX_CHARS,
  pattern: VISIBLE_TEXT,
  tidy: trimmed,
  plain: PLAIN_NAME,
};
export const readName = textReading(NAME_FORM);
export const name = quick(text(NAME_FORM), readName);

const TOKENS_FORM: NumberForm = {
  error: `expected a whole number from 0 to ${TOKENS_MAX}`,
  tidy: asNumber,
  min: 0,
  max: TOKENS_MAX,
  isWhole: true,
};
export const readTokenCount = numberReading(TOKENS_FORM);
export const tokenCount = quick(
  number(TOKENS_FORM).meta({
    type: ['integer', 'string'],
    minimum: 0,
    maximum: TOKENS_MAX,
    description: 'Whole number, or the same as a string.',
  }),
  readTokenCount,
);

/** A cost in USD, read into nano-USD. */
const COST_FORM: NumberForm = {
  error: `expected a number of USD from 0 to ${COST_MAX_USD}`,
  tidy: asNumber,
  min: 0,
  max: COST_MAX_USD,
};
const toNano = (usd: number) => Math.round(usd * NANO_PER_USD);
const readCostUsd = numberReading(COST_FORM);
export const readCostNano: Reading<number> = (stated) => {
  const usd = readCostUsd(stated);
  return usd === undefined ? undefined : toNano(usd);
};
export const costNano = quick(
  number(COST_FORM)
    .transform(toNano)
    .meta({
      type: ['number', 'string'],
      minimum: 0,
      maximum: COST_MAX_USD,
      description: 'USD. Leave out when unknown; 0 means that 0 was stated.',
    }),
  readCostNano,
);

const TIME_FORM: NumberForm = {
  error: 'expected a time between 2020 and 2100, in Unix ms or ISO 8601',
  tidy: asUnixMs,
  min: EARLIEST_MS,
  max: LATEST_MS,
};
export const readUnixMs = numberReading(TIME_FORM);
export const unixMs = quick(
  number(TIME_FORM).meta({ type: ['number', 'string'], description: 'Unix time in ms, or ISO 8601.' }),
  readUnixMs,
);

export const knownReason = (reason: string): ErrorReason => ERROR_REASONS.find((known) => known === reason) ?? 'other';
/** Any text; whatever is not one of the known reasons is `other`, so that a new reason never costs a turn. */
export const errorReason = z
  .string({ error: `expected one of ${ERROR_REASONS.join(', ')}` })
  .transform(knownReason)
  .meta({ description: `One of ${ERROR_REASONS.join(', ')}; anything else is booked as other.` });

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The account that a hook's context names; undefined when it names none, or what cannot be one. */
export function accountOf(context: HookContext): string | undefined {
  return readAccountId(context.accountId);
}

type Present<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

/** The same object without the keys whose value is undefined: unknown is absent. */
export function present<const T extends object>(fields: T): Present<T> {
  const copy: Record<string, unknown> = {};
  for (const name in fields) if (fields[name] !== undefined) copy[name] = fields[name];
  return copy as Present<T>;
}

const SEPARATOR = /[\\/]/;

/** A path's segments, with either separator. */
export function pathSegments(path: string): string[] {
  if (!SEPARATOR.test(path)) return path.trim() === '' || path === '.' ? [] : [path];
  return path.split(/[\\/]+/).filter((part) => part.trim() !== '' && part !== '.');
}

/** The server in an MCP tool's name (`mcp__server__tool`); undefined for other tools. */
export function mcpServerOf(tool: string): string | undefined {
  return serverName(/^mcp__(.+?)__./.exec(tool)?.[1]);
}

function serverName(stated: unknown): string | undefined {
  return typeof stated === 'string' && SERVER_NAME.test(stated) ? stated : undefined;
}

/** An end is never before its start: a clock that was set back in between makes a duration of 0, not a negative one. */
export function notBefore(startedMs: number | undefined, completedMs: number | undefined): number | undefined {
  return startedMs === undefined || completedMs === undefined ? completedMs : Math.max(startedMs, completedMs);
}
