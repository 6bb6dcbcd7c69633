// Reads the answers of a SolidStart server function, which are written by seroval as JavaScript (or as JSON nodes) that a
// browser would run. Here nothing is run: a JavaScript parser makes a tree of it, and literals are picked out of the tree.
// Whatever in it is no literal, reference or known wrapper is refused.

import {
  type AssignmentExpression,
  type Expression,
  type MemberExpression,
  type NewExpression,
  type Node,
  type ObjectExpression,
  parse,
  type SpreadElement,
  type Super,
} from 'acorn';

const FRAMES_MAX = 100;
const DEPTH_MAX = 50;
const NODES_MAX = 20_000;
/** `;0x`, the length of the payload in bytes as eight hex digits, `;`. */
const FRAME_HEADER = /^;0x([0-9a-f]{8});/i;
const FRAME_HEADER_BYTES = 12;
/** Seroval's constants in JSON mode, by their numbers. */
const CONSTANTS = [null, undefined, true, false, -0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN];
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', b: '\b', f: '\f', x3C: '<' };

/** An answer that holds no data. The message is ours and quotes nothing of it. */
export class SerovalError extends Error {
  override readonly name = 'SerovalError';
  /** `error answer`: well-formed, and what it holds is an error that the function threw. */
  readonly kind: 'error answer' | 'unreadable';

  constructor(message: string, kind: SerovalError['kind'] = 'unreadable') {
    super(message);
    this.kind = kind;
  }
}

/** A promise that a later frame resolves. */
class Placeholder {
  value: unknown = undefined;
  isResolved = false;
}

/** A function that the answer defines for itself. Nothing of it is looked at: how it is called tells what it is for. */
const OPAQUE = Symbol('a function of the answer');

/**
 * The data in an answer: null, booleans, numbers, bigints, strings, `Date`s, arrays, and objects without a prototype.
 * @param body frames, or one bare payload, at most as large as the caller allows
 * @throws SerovalError when it is anything else
 */
export function parseSeroval(body: string): unknown {
  const reader = new Reader();
  let root: unknown;
  payloadsOf(body).forEach((payload, index) => {
    const value = payload.trimStart().startsWith('{') ? reader.json(payload) : reader.script(payload);
    if (index === 0) root = value;
  });
  return settled(root, { seen: new Set(), depth: 0 });
}

function payloadsOf(body: string): string[] {
  if (!FRAME_HEADER.test(body)) {
    if (body.trim() === '') throw new SerovalError('the answer is empty');
    return [body];
  }
  const bytes = Buffer.from(body, 'utf8');
  const payloads: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const header = FRAME_HEADER.exec(bytes.toString('latin1', at, at + FRAME_HEADER_BYTES));
    if (!header) throw new SerovalError('a frame of the answer has no header');
    const start = at + FRAME_HEADER_BYTES;
    at = start + Number.parseInt(header[1]!, 16);
    if (at > bytes.length) throw new SerovalError('the answer ends in the middle of a frame');
    payloads.push(bytes.toString('utf8', start, at));
    if (payloads.length > FRAMES_MAX) throw new SerovalError(`the answer has more than ${FRAMES_MAX} frames`);
  }
  return payloads;
}

/** Reads the frames of one answer, which share their references. */
class Reader {
  readonly #references = new Map<number, unknown>();
  #nodes = 0;

  /** A payload of JavaScript. */
  script(payload: string): unknown {
    let program: ReturnType<typeof parse>;
    try {
      program = parse(payload, { ecmaVersion: 'latest' });
    } catch {
      // The parser's message may quote the text.
      throw new SerovalError('the answer is not JavaScript');
    }
    let value: unknown;
    for (const statement of program.body) {
      if (statement.type === 'EmptyStatement') continue;
      if (statement.type !== 'ExpressionStatement') throw unexpected(statement);
      value = this.#unwrap(statement.expression);
    }
    return value;
  }

  /** `(<make the scope>, ($R => <value>)(<the scope>))`: what is within. */
  #unwrap(node: Expression): unknown {
    if (node.type === 'SequenceExpression' && node.expressions.slice(0, -1).every(makesScope)) {
      return this.#unwrap(node.expressions.at(-1)!);
    }
    if (node.type === 'CallExpression' && node.callee.type === 'ArrowFunctionExpression') {
      const { params, body, async: isAsync } = node.callee;
      const isOfScope = !isAsync && params.length === 1 && isNamed(params[0]!, '$R') && node.arguments.length === 1;
      if (!isOfScope || body.type === 'BlockStatement' || !isScope(node.arguments[0]!)) throw unexpected(node);
      return this.#value(body, 0);
    }
    return this.#value(node, 0);
  }

  #value(node: Expression | SpreadElement | Super, depth: number): unknown {
    this.#count(depth);
    switch (node.type) {
      case 'Literal':
        if ('regex' in node && node.regex) throw unexpected(node);
        return node.value;
      case 'UnaryExpression':
        return this.#unary(node.operator, node.argument, depth);
      case 'BinaryExpression': {
        // 1/0, -1/0 and 0/0 are how the infinities and NaN are written.
        const [left, right] = [node.left, node.right].map((side) => this.#value(side as Expression, depth + 1));
        if (node.operator !== '/' || right !== 0 || typeof left !== 'number') throw unexpected(node);
        return left / right;
      }
      case 'ArrayExpression':
        return node.elements.map((element) => (element ? this.#value(element, depth + 1) : this.#hole(depth)));
      case 'ObjectExpression':
        return this.#fill(node, Object.create(null), depth);
      case 'NewExpression': {
        if (isError(node)) throw errorAnswer();
        const [argument] = node.arguments;
        const isDate = isNamed(node.callee, 'Date') && node.arguments.length === 1 && argument?.type === 'Literal';
        if (!isDate || typeof argument.value !== 'string') throw unexpected(node);
        return new Date(argument.value);
      }
      case 'AssignmentExpression':
        if (node.operator !== '=') throw unexpected(node);
        return this.#define(this.#indexOf(node.left), node.right, depth);
      case 'MemberExpression': {
        const index = this.#indexOf(node);
        if (!this.#references.has(index)) throw new SerovalError('the answer refers to what it does not hold');
        return this.#references.get(index);
      }
      case 'SequenceExpression':
        return node.expressions.map((each) => this.#value(each, depth + 1)).at(-1);
      case 'CallExpression':
        return this.#call(node.callee, node.arguments, depth);
      default:
        throw unexpected(node);
    }
  }

  #unary(operator: string, argument: Expression, depth: number): unknown {
    const value = this.#value(argument, depth + 1);
    if (operator === '!' && (value === 0 || value === 1)) return value === 0;
    if (operator === '-' && (typeof value === 'number' || typeof value === 'bigint')) return -value;
    if (operator === 'void' && value === 0) return undefined;
    throw unexpected(argument);
  }

  #fill(node: ObjectExpression, object: Record<string, unknown>, depth: number): unknown {
    for (const property of node.properties) {
      if (property.type !== 'Property' || property.kind !== 'init' || property.computed || property.method) {
        throw unexpected(property);
      }
      const { key } = property;
      const name = key.type === 'Identifier' ? key.name : key.type === 'Literal' ? String(key.value) : '__proto__';
      if (name === '__proto__') throw unexpected(property);
      object[name] = this.#value(property.value, depth + 1);
    }
    return object;
  }

  /** Arrays and objects are known by their number before they are full: they may hold themselves. */
  #define(index: number, node: Expression, depth: number): unknown {
    if (node.type === 'ArrowFunctionExpression' || node.type === 'FunctionExpression') {
      this.#references.set(index, OPAQUE);
      return OPAQUE;
    }
    if (node.type === 'ObjectExpression') {
      this.#count(depth);
      const object: Record<string, unknown> = Object.create(null);
      this.#references.set(index, object);
      return this.#fill(node, object, depth);
    }
    const value = this.#value(node, depth + 1);
    this.#references.set(index, value);
    return value;
  }

  /** `$R[2]($R[18]={p:0,s:0,f:0})` makes a promise, and `$R[24]($R[18],value)` resolves it. */
  #call(callee: Expression | Super, given: readonly (Expression | SpreadElement)[], depth: number): unknown {
    const [first, second] = given;
    if (isDotted(callee, 'Object', 'assign') && first && isError(first)) throw errorAnswer();
    const index = this.#indexOf(callee.type === 'AssignmentExpression' ? callee.left : callee);
    if (callee.type === 'AssignmentExpression') this.#value(callee, depth + 1);
    // Which function it is may be of an earlier answer; what is known to be none must not be called.
    if (this.#references.has(index) && this.#references.get(index) !== OPAQUE) throw unexpected(callee);
    if (given.length === 1 && first?.type === 'AssignmentExpression' && first.operator === '=') {
      this.#count(depth);
      if (!isUnsettled(first.right)) throw unexpected(first.right);
      const placeholder = new Placeholder();
      this.#references.set(this.#indexOf(first.left), placeholder);
      return placeholder;
    }
    const promise = given.length === 2 && first ? this.#value(first, depth + 1) : undefined;
    if (!(promise instanceof Placeholder) || !second) throw unexpected(callee);
    promise.value = this.#value(second, depth + 1);
    promise.isResolved = true;
    return promise;
  }

  /** n of `$R[n]`. */
  #indexOf(node: Node): number {
    const { type, object, property, computed } = node as Partial<MemberExpression>;
    const isReference = type === 'MemberExpression' && computed && object && isNamed(object, '$R');
    if (!isReference || property?.type !== 'Literal' || !Number.isSafeInteger(property.value)) throw unexpected(node);
    return property.value as number;
  }

  /** A payload of seroval's JSON mode. */
  json(payload: string): unknown {
    let stated: unknown;
    try {
      stated = JSON.parse(payload);
    } catch {
      throw new SerovalError('the answer is not JSON');
    }
    const { t } = stated as { t?: unknown };
    return this.#node(typeof t === 'object' ? t : stated, 0);
  }

  #node(stated: unknown, depth: number): unknown {
    this.#count(depth);
    if (typeof stated !== 'object' || stated === null) throw new SerovalError('the answer holds an unknown node');
    const { t, s, i, a, p } = stated as Record<string, unknown>;
    const text = typeof s === 'string' ? s : undefined;
    const keep = <T>(value: T): T => {
      if (typeof i === 'number') this.#references.set(i, value);
      return value;
    };
    if (t === 0 && typeof s === 'number') return s;
    if (t === 1 && text !== undefined) return unescaped(text);
    if (t === 2 && typeof s === 'number' && s in CONSTANTS) return CONSTANTS[s];
    if (t === 3 && text !== undefined && /^-?\d{1,40}$/.test(text)) return BigInt(text);
    if (t === 5 && text !== undefined) return keep(new Date(text));
    if (t === 9 && Array.isArray(a)) {
      const list: unknown[] = keep([]);
      for (const item of a) list.push(item === null || item === 0 ? this.#hole(depth) : this.#node(item, depth + 1));
      return list;
    }
    if (t === 10 && typeof p === 'object' && p !== null)
      return this.#fillFromNodes(keep(Object.create(null)), p, depth);
    if ((t === 4 || t === 18) && typeof i === 'number' && this.#references.has(i)) return this.#references.get(i);
    if (t === 13) throw errorAnswer();
    throw new SerovalError('the answer holds an unknown node');
  }

  #fillFromNodes(object: Record<string, unknown>, { k, v }: { k?: unknown; v?: unknown }, depth: number): unknown {
    if (!Array.isArray(k) || !Array.isArray(v) || k.length !== v.length) {
      throw new SerovalError('the answer holds an unknown node');
    }
    k.forEach((key, index) => {
      const name = typeof key === 'string' ? unescaped(key) : '__proto__';
      if (name === '__proto__') throw new SerovalError('the answer holds an unknown node');
      object[name] = this.#node(v[index], depth + 1);
    });
    return object;
  }

  /** A hole of an array, which takes up memory as a value does. */
  #hole(depth: number): undefined {
    this.#count(depth + 1);
  }

  #count(depth: number): void {
    this.#nodes += 1;
    if (depth > DEPTH_MAX) throw tooDeep();
    if (this.#nodes > NODES_MAX) throw new SerovalError(`the answer holds more than ${NODES_MAX} values`);
  }
}

/** `(self.$R=self.$R||{})["server-fn:1"]=[]`: an empty list under the scope's name. */
function makesScope(node: Expression): boolean {
  if (node.type !== 'AssignmentExpression' || node.operator !== '=') return false;
  const { left, right } = node;
  return right.type === 'ArrayExpression' && right.elements.length === 0 && isAt(left, { under: makesScopes });
}

/** `self.$R=self.$R||{}`: where the scopes of a page are. */
function makesScopes(node: Node): boolean {
  const { type, operator, left, right } = node as Partial<AssignmentExpression>;
  if (type !== 'AssignmentExpression' || operator !== '=' || right?.type !== 'LogicalExpression') return false;
  const isEmpty = right.right.type === 'ObjectExpression' && right.right.properties.length === 0;
  return isEmpty && right.operator === '||' && [left!, right.left].every((side) => isDotted(side, 'self', '$R'));
}

/** `$R["server-fn:1"]` */
function isScope(node: Node): boolean {
  return isAt(node, { under: (object) => isNamed(object, '$R') });
}

/** `<under>["…"]` */
function isAt(node: Node, { under }: { under: (object: Node) => boolean }): boolean {
  const { type, object, property } = node as Partial<MemberExpression>;
  if (type !== 'MemberExpression' || property?.type !== 'Literal') return false;
  return typeof property.value === 'string' && under(object!);
}

/** `{p:0,s:0,f:0}`: a promise, and the two ways to settle it, before there are any. */
function isUnsettled(node: Expression): boolean {
  if (node.type !== 'ObjectExpression') return false;
  const names = node.properties.map((property) => {
    if (property.type !== 'Property' || property.value.type !== 'Literal' || property.value.value !== 0) return '';
    return property.computed || property.key.type !== 'Identifier' ? '' : property.key.name;
  });
  return names.join() === 'p,s,f';
}

/** `owner.name` */
function isDotted(node: Node, owner: string, name: string): boolean {
  const { type, object, property, computed } = node as Partial<MemberExpression>;
  return type === 'MemberExpression' && !computed && isNamed(object!, owner) && isNamed(property!, name);
}

/** `new Error("…")`, or a kind of it. */
function isError(node: Node): boolean {
  const { type, callee } = node as Partial<NewExpression>;
  return type === 'NewExpression' && callee?.type === 'Identifier' && /^[A-Za-z]*Error$/.test(callee.name);
}

function isNamed(node: Node, name: string): boolean {
  return node.type === 'Identifier' && (node as Node & { name: string }).name === name;
}

function unexpected({ type }: Pick<Node, 'type'>): SerovalError {
  return new SerovalError(`the answer holds code (${type}), which is never run`);
}

function errorAnswer(): SerovalError {
  return new SerovalError('the server answered with an error of its own', 'error answer');
}

function tooDeep(): SerovalError {
  return new SerovalError(`the answer is nested more than ${DEPTH_MAX} levels deep`);
}

function unescaped(text: string): string {
  return text.replace(/\\(x3C|u[0-9a-fA-F]{4}|.)/gs, (_, code: string) =>
    /^u.{4}$/.test(code) ? String.fromCharCode(Number.parseInt(code.slice(1), 16)) : (ESCAPES[code] ?? code),
  );
}

/** The same data with every promise replaced by what it came to. References may nest deeper than what was written. */
function settled(value: unknown, { seen, depth }: { seen: Set<object>; depth: number }): unknown {
  if (value === OPAQUE) throw new SerovalError('the answer holds code, which is never run');
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  if (depth > DEPTH_MAX) throw tooDeep();
  const within = { seen, depth: depth + 1 };
  if (value instanceof Placeholder) {
    if (!value.isResolved) throw new SerovalError('the answer promises what it does not bring');
    // One that comes to itself ends by its depth.
    return settled(value.value, within);
  }
  if (seen.has(value)) return value;
  seen.add(value);
  const holder = value as Record<string | number, unknown>;
  for (const key of Object.keys(holder)) holder[key] = settled(holder[key], within);
  return value;
}
