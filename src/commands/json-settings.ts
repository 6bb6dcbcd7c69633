// Settings in JSON, edited as text: what is set or taken out changes, and every other byte stays as its user wrote it, with
// comments, indentation, line ends, byte order mark and numbers of any length.

import { isObject } from '../turn/fields.ts';
import type { Section, SettingsFormat, Stood } from './settings-format.ts';

/** Deeper than any settings; recursion ends here. */
const DEPTH_MAX = 200;
const SCALAR = /"[^"\\]*(?:\\.[^"\\]*)*"|-?[\d.eE+-]+|true|false|null/y;
const TRIVIA = /(?:\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\/)*/y;
const STRING_OR_COMMENT = /"[^"\\]*(?:\\.[^"\\]*)*"|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;
const DEFAULT_INDENT = '  ';

/** What an agent takes for JSON. */
interface Dialect {
  readonly hasComments: boolean;
  /** A byte order mark. */
  readonly hasMark: boolean;
}

/** A value and where it stands. */
interface Node {
  readonly start: number;
  readonly end: number;
  readonly value: unknown;
  /** Of an object. */
  readonly members?: readonly Member[];
}

interface Member {
  readonly key: string;
  readonly start: number;
  readonly node: Node;
  /** Where the comma behind it is. */
  readonly comma: number | undefined;
}

type ObjectNode = Node & { readonly members: readonly Member[] };

/** Where everything stands in what is known to be JSON. @throws SyntaxError for some of what is not */
function parse(text: string): Node {
  let at = text.startsWith('\uFEFF') ? 1 : 0;
  const fail = (): never => {
    throw new SyntaxError(`unexpected text at ${at}`);
  };
  const skip = (): void => {
    TRIVIA.lastIndex = at;
    at += TRIVIA.exec(text)![0].length;
  };
  const takes = (character: string): boolean => {
    skip();
    if (text[at] !== character) return false;
    at++;
    return true;
  };
  const scalar = (): Node => {
    SCALAR.lastIndex = at;
    const raw = SCALAR.exec(text)?.[0] ?? fail();
    const start = at;
    const value: unknown = JSON.parse(raw);
    at += raw.length;
    return { start, end: at, value };
  };
  const node = (depth: number): Node => {
    skip();
    if (depth > DEPTH_MAX) fail();
    const start = at;
    if (takes('{')) {
      const members: Member[] = [];
      while (!takes('}')) {
        const name = scalar();
        if (typeof name.value !== 'string' || !takes(':')) fail();
        const value = node(depth + 1);
        skip();
        const comma = text[at] === ',' ? at++ : undefined;
        members.push({ key: name.value as string, start: name.start, node: value, comma });
      }
      return { start, end: at, value: Object.fromEntries(members.map((m) => [m.key, m.node.value])), members };
    }
    if (takes('[')) {
      const items: unknown[] = [];
      while (!takes(']')) {
        items.push(node(depth + 1).value);
        takes(',');
      }
      return { start, end: at, value: items };
    }
    return scalar();
  };
  const root = node(0);
  skip();
  return at === text.length ? root : fail();
}

function rootOf(text: string): ObjectNode | undefined {
  try {
    const root = parse(text);
    return root.members ? (root as ObjectNode) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** The last one counts, as it does for those who read the file. */
const memberOf = ({ members }: ObjectNode, key: string) => members.findLast((member) => member.key === key);

function sectionOf(root: ObjectNode, section: string): ObjectNode | undefined {
  const node = memberOf(root, section)?.node;
  return node?.members ? (node as ObjectNode) : undefined;
}

function read(text: string, section: string, dialect: Dialect): Section | undefined {
  const root = isJson(text, dialect) ? rootOf(text) : undefined;
  if (!root) return undefined;
  const found = memberOf(root, section);
  if (found && !isObject(found.node.value)) return { values: new Map(), obstacle: section };
  const object = sectionOf(root, section);
  return { values: new Map(object?.members.map(({ key, node }) => [key, node.value])) };
}

/** Whether an agent can read it. One that cannot does without its settings, or does not start. */
function isJson(text: string, { hasComments, hasMark }: Dialect): boolean {
  const bare = hasComments ? text.replace(STRING_OR_COMMENT, (found) => (found.startsWith('"') ? found : ' ')) : text;
  try {
    JSON.parse(hasMark ? bare.replace(/^\uFEFF/, '') : bare);
    return true;
  } catch {
    return false;
  }
}

function stood(text: string, section: string): Pick<Stood, 'root' | 'section'> {
  const root = rootOf(text)!;
  const object = sectionOf(root, section);
  return {
    ...(isBare(text, root) && { root: innerOf(text, root) }),
    ...(object ? isBare(text, object) && { section: innerOf(text, object) } : { section: null }),
  };
}

const innerOf = (text: string, { start, end }: Node) => text.slice(start + 1, end - 1);
const isBare = (text: string, object: ObjectNode) => innerOf(text, object).trim() === '';

function set(text: string, section: string, values: ReadonlyMap<string, unknown>): string {
  let next = text;
  if (!sectionOf(rootOf(next)!, section)) next = put(next, rootOf(next)!, section, '{}');
  for (const [key, value] of values) next = put(next, sectionOf(rootOf(next)!, section)!, key, JSON.stringify(value));
  return next;
}

function remove(text: string, section: string, keys: Iterable<string>, before: Stood): string {
  let next = text;
  for (const key of keys) next = take(next, sectionOf(rootOf(next)!, section)!, key, before.section ?? undefined);
  const isOver = before.section === null && isBare(next, sectionOf(rootOf(next)!, section)!);
  return isOver ? take(next, rootOf(next)!, section, before.root) : next;
}

/** Sets a member of an object: in its place, or as the last one. */
function put(text: string, object: ObjectNode, key: string, value: string): string {
  const found = memberOf(object, key);
  if (found) return splice(text, found.node.start, found.node.end, value);
  const { gap, colon, close } = layoutOf(text, object);
  const member = `${gap}${JSON.stringify(key)}${colon}${value}`;
  const { start, end } = object;
  if (isBare(text, object) && !innerOf(text, object).includes('\n')) {
    return splice(text, start + 1, end - 1, `${member}${close}`);
  }
  const last = object.members.at(-1);
  // Behind the last comment, so that this stays with the member that it is about.
  const behind = end - 1 - blanksBefore(text, end - 1);
  const added = splice(text, behind, behind, member);
  return last ? splice(added, last.node.end, last.node.end, ',') : added;
}

/**
 * Takes a member out, with what `put` brought.
 * @param inner what stood in the object before it got its first member
 */
function take(text: string, object: ObjectNode, key: string, inner: string | undefined): string {
  const at = object.members.findLastIndex((member) => member.key === key);
  const { start, node, comma } = object.members[at]!;
  const previous = object.members[at - 1];
  const end = comma === undefined ? node.end : comma + 1;
  const from = start - blanksBefore(text, start);
  // Where a comment ends with its line, what comes next must not become part of it.
  const before = text.slice((previous?.comma ?? object.start) + 1, start);
  const keeps = endsInLineComment(before) && !/^[^\S\n]*\n/.test(text.slice(end));
  let next = splice(text, from, end, keeps ? eolOf(text) : '');
  if (comma === undefined && previous?.comma !== undefined) next = splice(next, previous.comma, previous.comma + 1, '');
  const close = object.end - 1 - (text.length - next.length);
  const isBareNow = next.slice(object.start + 1, close).trim() === '';
  return isBareNow && inner !== undefined ? splice(next, object.start + 1, close, inner) : next;
}

const splice = (text: string, start: number, end: number, by: string) => text.slice(0, start) + by + text.slice(end);
const eolOf = (text: string) => (text.includes('\r\n') ? '\r\n' : '\n');
/** The indentation of the line on which something stands. */
const baseOf = (text: string, at: number) => /[ \t]*/.exec(text.slice(text.lastIndexOf('\n', at - 1) + 1, at))![0];

/** What JSON takes for blanks; other ones are part of a comment. */
function blanksBefore(text: string, at: number): number {
  let from = at;
  while (from > 0 && ' \t\r\n'.includes(text[from - 1]!)) from--;
  return at - from;
}

const endsInLineComment = (trivia: string) =>
  /\/\/\s*$/.test(trivia.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, (comment) => (comment[1] === '/' ? '//' : '*')));

/** How a new member of an object is laid out, so that it looks like what stands there. */
function layoutOf(text: string, object: ObjectNode): { gap: string; colon: string; close: string } {
  const root = rootOf(text)!;
  const [top] = root.members;
  const isOnOneLine = ({ start, end, members }: ObjectNode) =>
    members.length > 0 && !text.slice(start, end).includes('\n');
  const isOneLine = isOnOneLine(root);
  const colon = isOneLine && !/":\s/.test(text) ? ':' : ': ';
  const [first, second] = object.members;
  if (isOneLine || isOnOneLine(object)) {
    const before = second ?? first;
    const blanks = before ? text.slice(before.start - blanksBefore(text, before.start), before.start) : '';
    return { gap: before === first && first ? blanks || colon.slice(1) : blanks, colon, close: '' };
  }
  const eol = eolOf(text);
  const isOnLines = (at: Member | undefined): at is Member =>
    at !== undefined && /\n[^\S\n]*$/.test(text.slice(0, at.start));
  if (isOnLines(first)) return { gap: `${eol}${baseOf(text, first.start)}`, colon, close: '' };
  const base = baseOf(text, object.start);
  const indent = isOnLines(top) ? baseOf(text, top.start) : '';
  return { gap: `${eol}${base}${indent || DEFAULT_INDENT}`, colon, close: `${eol}${base}` };
}

/** @param name how people call what an agent takes */
export function jsonSettings(name: string, dialect: Dialect): SettingsFormat {
  return {
    ...{ name, empty: '{}\n', stood, set, remove },
    read: (text, section) => read(text, section, dialect),
    label: (_section, key) => key,
    holdsNothing: (text) => {
      const root = rootOf(text);
      return root !== undefined && isBare(text, root);
    },
  };
}
