// How the mistakes of a configuration are told: all at once, each with its place, what was found there and what was
// expected. Values under keys that hold or lead to a secret are never shown.

import type { YAMLParseError } from 'yaml';
import type { z } from 'zod';
import { commandText } from './command-text.ts';
import { PermanentFailure } from './failure.ts';

/** More of a value says nothing more, and a whole pasted file would bury the other mistakes. */
const SHOWN_MAX_CHARACTERS = 60;
/** A key pasted where its variable, file or URL belongs must not be repeated on a screen or in a log. */
const SECRET_KEYS = /(_env|_key|_file|sha256|_url|_workspace_id|_function_id|token|cookie|secret|password)$/i;

const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const ONE_LINE = /^[^\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]*$/u;

const TYPE_NAMES: Readonly<Record<string, string>> = {
  object: 'a mapping',
  record: 'a mapping',
  array: 'a list',
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
};

/** The numbers that only YAML can write, by JavaScript's names for them. */
const YAML_NUMBERS: Readonly<Record<string, string>> = { Infinity: '.inf', '-Infinity': '-.inf', NaN: '.nan' };

/** What the parser's own codes mean to somebody who writes the file: what was found, what was expected. */
const YAML_CODES: Readonly<Record<string, readonly [string, string]>> = {
  DUPLICATE_KEY: ['a key that was there before', 'expected each key once'],
  TAB_AS_INDENT: ['a tab as indentation', 'expected spaces'],
  BAD_INDENT: ['a line indented differently from those it belongs to', 'expected keys of one level under each other'],
  MULTIPLE_DOCS: ['a second document (---)', 'expected one document'],
  TAG_RESOLVE_FAILED: ['a tag (!…)', 'expected the plain value'],
};

/** One mistake in a configuration. */
export interface ConfigMistake {
  readonly path: string;
  readonly found: string;
  readonly expected: string;
}

/** Thrown when a configuration cannot be used. `mistakes` holds all of them; the message lists them. */
export class ConfigFailure extends PermanentFailure {
  readonly mistakes: readonly ConfigMistake[];

  constructor(source: string, mistakes: readonly ConfigMistake[]) {
    const lines = mistakes.map((m) => `  ${m.path}: found ${m.found}; ${m.expected}`);
    const count = mistakes.length === 1 ? '1 mistake' : `${mistakes.length} mistakes`;
    super(
      `${source} has ${count}:\n${lines.join('\n')}\nCorrect the file, then try it with: ${commandText('check-config')}`,
    );
    this.mistakes = mistakes;
  }
}

/** `accounts[0].id` for `['accounts', 0, 'id']`. A key that a terminal could take for a command is quoted. */
export function pathText(at: readonly PropertyKey[]): string {
  const text = at.reduce<string>(
    (before, key) =>
      typeof key === 'number' ? `${before}[${key}]` : `${before && `${before}.`}${keyText(String(key))}`,
    '',
  );
  return text || '(whole file)';
}

function keyText(key: string): string {
  return ONE_LINE.test(key) && key.length <= SHOWN_MAX_CHARACTERS ? key : shortened(JSON.stringify(key));
}

/** JSON leaves some characters as they are that end a line or change the direction of writing. */
function shortened(json: string): string {
  const text = json.length > SHOWN_MAX_CHARACTERS ? `${json.slice(0, SHOWN_MAX_CHARACTERS - 2)}…"` : json;
  return text.replaceAll(INVISIBLE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function describe(value: unknown, at: readonly PropertyKey[]): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'an empty value';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object') return 'a mapping';
  if (at.some((key) => SECRET_KEYS.test(String(key)))) return 'a value that is not shown here';
  // JSON knows no such numbers; YAML does.
  if (typeof value === 'number' && !Number.isFinite(value)) return YAML_NUMBERS[String(value)]!;
  return shortened(JSON.stringify(value));
}

function valueAt(root: unknown, at: readonly PropertyKey[]): unknown {
  let value = root;
  for (const key of at) {
    if (value === null || typeof value !== 'object') return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

function expectation(issue: z.core.$ZodIssue): string {
  if (issue.message.startsWith('expected')) return issue.message;
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${TYPE_NAMES[issue.expected] ?? issue.expected}`;
    case 'invalid_value':
      return `expected one of ${issue.values.map((value) => JSON.stringify(value)).join(', ')}`;
    case 'too_small':
      return issue.origin === 'string' ? 'expected text that is not empty' : `expected at least ${issue.minimum}`;
    case 'too_big':
      return `expected at most ${issue.maximum}`;
    default:
      return `expected something else (${issue.code})`;
  }
}

/** The mistakes behind one finding of the schema. `input` is what the file holds. */
export function toMistakes(issue: z.core.$ZodIssue, input: unknown): ConfigMistake[] {
  const value = valueAt(input, issue.path);
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      path: pathText([...issue.path, key]),
      found: 'an unknown key',
      expected: 'expected one that docs/configuration.md names; check the spelling and the indentation',
    }));
  }
  if (issue.code === 'invalid_key') {
    const expected = issue.issues.map(expectation).join(', ');
    return [{ path: pathText(issue.path), found: 'a key of another form', expected }];
  }
  if (issue.code === 'invalid_union') {
    // Every union is of something plain and a mapping, whose own mistakes say more.
    const ofMapping = issue.errors.at(-1) ?? [];
    if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
      return ofMapping.flatMap((inner) => toMistakes({ ...inner, path: [...issue.path, ...inner.path] }, input));
    }
    return [{ path: pathText(issue.path), found: describe(value, issue.path), expected: issue.message }];
  }
  const isStructureMissing = issue.code === 'invalid_type' && ['object', 'record', 'array'].includes(issue.expected);
  const found = isStructureMissing && typeof value === 'string' ? 'text' : describe(value, issue.path);
  return [{ path: pathText(issue.path), found, expected: expectation(issue) }];
}

/**
 * A mistake for every key `__proto__`, however deep. The schema's maps skip that key, as it could reach the prototype of
 * every object, so what stands under it would have no effect and nobody would be told.
 */
export function prototypeKeyMistakes(value: unknown, at: readonly PropertyKey[] = []): ConfigMistake[] {
  if (value === null || typeof value !== 'object') return [];
  const entries: [PropertyKey, unknown][] = Array.isArray(value) ? [...value.entries()] : Object.entries(value);
  return entries.flatMap(([key, inner]) => {
    const place = [...at, key];
    if (key !== '__proto__') return prototypeKeyMistakes(inner, place);
    return [{ path: pathText(place), found: 'a key that cannot be used', expected: 'expected another name' }];
  });
}

/** The mistake behind an error or a warning of the YAML parser. Never quotes the text. */
export function toYamlMistake(error: Pick<YAMLParseError, 'code' | 'linePos'>): ConfigMistake {
  const [found, expected] = YAML_CODES[error.code] ?? ['text that is not YAML', `expected valid YAML (${error.code})`];
  return { path: `line ${error.linePos?.[0].line ?? '?'}`, found, expected };
}

/** The first mistake of each place: what follows from it says nothing new. */
export function firstOfEachPlace(mistakes: readonly ConfigMistake[]): ConfigMistake[] {
  const places = new Set<string>();
  return mistakes.filter(({ path }) => !places.has(path) && places.add(path));
}

/** Every entry with a key that an earlier one has, and where that one is. Entries without a key are passed over. */
export function repeats<T>(
  entries: readonly (T | undefined)[],
  keyOf: (entry: T) => string | undefined,
): { readonly entry: T; readonly index: number; readonly first: number }[] {
  const firstPlaces = new Map<string, number>();
  return entries.flatMap((entry, index) => {
    const key = entry === undefined ? undefined : keyOf(entry);
    if (entry === undefined || key === undefined) return [];
    const first = firstPlaces.get(key);
    if (first !== undefined) return [{ entry, index, first }];
    firstPlaces.set(key, index);
    return [];
  });
}
