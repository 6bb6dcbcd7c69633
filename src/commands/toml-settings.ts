// Settings in TOML, edited as text: lines of one table are set or taken out, and every other byte stays as its user wrote
// it. Programs that write TOML move comments about, so a key is known by its table and its value, never by marks around it.

import type { Section, SettingsFormat, Stood } from './settings-format.ts';

/** Before a table that is ours as a whole. */
const MARK = '# Telemetry for Tollbridge';
const BLANKS = /(?:[^\S\n]|\r)*/y;
const REST_OF_LINE = /[^\n]*/y;
const KEY = /[^\S\n]*(?:([\w-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')[^\S\n]*/y;
const PIECE = /"""(?:[^\\]|\\[\s\S])*?"{3,5}|'''[\s\S]*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|[^"'#]/y;

/** A header or a pair, and the lines that it takes. */
interface Statement {
  readonly start: number;
  /** Where its last line ends, without the line's end. */
  readonly end: number;
  readonly path: readonly string[];
  /** Of a pair: where its value is, without a comment behind it. */
  readonly value?: { readonly start: number; readonly end: number };
  /** Of a header: whether it is `[[…]]`. */
  readonly isArray?: boolean;
}

/** @returns undefined for what is no TOML */
function statementsOf(text: string): Statement[] | undefined {
  if (/\r(?!\n)/.test(text)) return undefined;
  const statements: Statement[] = [];
  let at = text.startsWith('\uFEFF') ? 1 : 0;
  const takes = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at += found[0].length;
    return found;
  };
  const keys = (): string[] | undefined => {
    const path: string[] = [];
    do {
      const found = takes(KEY);
      if (!found) return undefined;
      path.push(found[1] ?? found[2] ?? found[3]!);
    } while (text[at] === '.' && at++ >= 0);
    return path;
  };
  for (; at < text.length; at++) {
    const start = at;
    takes(BLANKS);
    if (text[at] === '\n' || at === text.length) continue;
    if (text[at] === '#') {
      takes(REST_OF_LINE);
      continue;
    }
    if (text[at] === '[') {
      const isArray = text[at + 1] === '[';
      at += isArray ? 2 : 1;
      const path = keys();
      if (!path || !text.startsWith(isArray ? ']]' : ']', at)) return undefined;
      at += isArray ? 2 : 1;
      if (!/^\s*(?:#|$)/.test(takes(REST_OF_LINE)![0])) return undefined;
      statements.push({ start, end: lineEnd(text, at), path, isArray });
      continue;
    }
    const path = keys();
    if (!path || text[at++] !== '=') return undefined;
    const value = valueAt(text, at);
    if (!value) return undefined;
    at = value.end;
    if (!/^\s*(?:#|$)/.test(takes(REST_OF_LINE)![0])) return undefined;
    statements.push({ start, end: lineEnd(text, at), path, value });
  }
  return statements;
}

/** A value as far as it must be known: where it ends, over lines that strings and brackets span. */
function valueAt(text: string, from: number): { start: number; end: number } | undefined {
  const start = from + /^[^\S\n]*/.exec(text.slice(from))![0].length;
  let depth = 0;
  let end = start;
  for (let at = start; at < text.length; ) {
    PIECE.lastIndex = at;
    const piece = PIECE.exec(text)?.[0];
    if (piece === undefined) return undefined;
    if (depth === 0 && (piece === '\n' || piece.startsWith('#'))) break;
    at += piece.length;
    if (piece === '[' || piece === '{') depth++;
    if (piece === ']' || piece === '}') depth--;
    if (piece.trim() !== '' && !piece.startsWith('#')) end = at;
  }
  return depth === 0 && end > start ? { start, end } : undefined;
}

/** Where a line ends that ends here, its carriage return aside. */
const lineEnd = (text: string, at: number) => (text[at - 1] === '\r' ? at - 1 : at);
const eolOf = (text: string) => (text.includes('\r\n') ? '\r\n' : '\n');

interface Table {
  /** Its header; undefined where there is none of its own. */
  readonly header: Statement | undefined;
  readonly pairs: readonly Statement[];
  readonly section: Section;
}

function tableOf(text: string, table: string): Table | undefined {
  const statements = statementsOf(text);
  if (!statements) return undefined;
  const values = new Map<string, unknown>();
  const pairs: Statement[] = [];
  let header: Statement | undefined;
  let obstacle: string | undefined;
  let inside: readonly string[] = [];
  for (const statement of statements) {
    const { path, value, isArray } = statement;
    const raw = text.slice(statement.start, statement.end).trim();
    if (!value) {
      inside = path;
      if (path[0] !== table) continue;
      if (path.length > 1) values.set(path[1]!, raw);
      else if (isArray) obstacle = `[[${table}]]`;
      else header = statement;
    } else if (inside.length === 0 && path[0] === table) {
      obstacle = table;
    } else if (inside.length === 1 && inside[0] === table && !obstacle) {
      pairs.push(statement);
      values.set(path[0]!, path.length > 1 ? raw : text.slice(value.start, value.end));
    }
  }
  return { header, pairs, section: { values, ...(obstacle !== undefined && { obstacle }) } };
}

function set(text: string, table: string, values: ReadonlyMap<string, unknown>): string {
  const eol = eolOf(text);
  let next = text;
  const fresh: string[] = [];
  for (const [key, value] of values) {
    const pair = tableOf(next, table)!.pairs.find(({ path }) => path.length === 1 && path[0] === key);
    if (pair) next = next.slice(0, pair.value!.start) + String(value) + next.slice(pair.value!.end);
    else fresh.push(`${key} = ${value}`);
  }
  if (fresh.length === 0) return next;
  const { header, pairs } = tableOf(next, table)!;
  if (!header) {
    const block = [MARK, `[${table}]`, ...fresh, ''].join(eol);
    return next === '' ? block : `${next}${eol}${block}`;
  }
  const { end } = pairs.at(-1) ?? header;
  return next.slice(0, end) + fresh.map((line) => `${eol}${line}`).join('') + next.slice(end);
}

function remove(text: string, table: string, keys: Iterable<string>, { section }: Stood): string {
  let next = text;
  for (const key of keys) {
    const pair = tableOf(next, table)!.pairs.find(({ path }) => path[0] === key);
    if (pair) next = withoutLines(next, pair);
  }
  const { header, pairs } = tableOf(next, table)!;
  if (section !== null || !header) return next;
  // The mark goes, and with nothing left below it the header, and the line's end that was put before both.
  const mark = next.lastIndexOf(MARK, header.start);
  const isMarked = mark !== -1 && next.slice(mark + MARK.length, header.start).trim() === '';
  const start = isMarked ? next.lastIndexOf('\n', mark) + 1 : header.start;
  if (pairs.length > 0) return next.slice(0, start) + next.slice(header.start);
  const from = start - eolBefore(next, start);
  const rest = next.slice(header.end).replace(/^\r?\n/, '');
  const isJoined = rest !== '' && from > 0 && !/\n$/.test(next.slice(0, from));
  return next.slice(0, isJoined ? start : from) + rest;
}

const eolBefore = (text: string, at: number) => /(?:\r?\n)?$/.exec(text.slice(0, at))![0].length;

/** Without a statement and the end of the line before it: setting put both. */
function withoutLines(text: string, { start, end }: Statement): string {
  const from = start - eolBefore(text, start);
  return from < start ? text.slice(0, from) + text.slice(end) : text.slice(end).replace(/^\r?\n/, '');
}

export const TOML_SETTINGS: SettingsFormat = {
  name: 'TOML',
  empty: '',
  read: (text, table) => tableOf(text, table)?.section,
  stood: (text, table) => (tableOf(text, table)!.header ? {} : { section: null }),
  set,
  remove,
  label: (table, key) => `${table}.${key}`,
  holdsNothing: (text) => text.trim() === '',
};
