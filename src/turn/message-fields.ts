// Reads one message field by field, and refuses it where a field is missing or does not fit: with the field's name and what
// was expected, and never with what stood there.

import type { z } from 'zod';
import { type Decoded, rejected } from './decoded.ts';
import { asNumber, isObject, readQuickly } from './fields.ts';
import type { Rejection, RejectReason } from './turn-event.ts';

/** Thrown where a field does not fit; only `orRejected` catches it. */
class Refusal extends Error {
  readonly rejection: Rejection;

  constructor(rejection: Rejection) {
    super(rejection.detail);
    this.rejection = rejection;
  }
}

/** Refuses what is being decoded: which field, and what was expected there. Never quote a value. */
export function refuse(reason: RejectReason, detail: string): never {
  throw new Refusal({ reason, detail });
}

/** What `decode` returns, or the rejection it was refused with. */
export function orRejected(decode: () => Decoded[]): Decoded[] {
  try {
    return decode();
  } catch (thrown) {
    if (thrown instanceof Refusal) return [rejected(thrown.rejection)];
    throw thrown;
  }
}

/** Absent is what nobody stated: missing, null, or a text with nothing in it. */
function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === 'string' && value.trim() === '');
}

/** The paths that are written in this program: they are taken apart once. */
const knownPaths = new Map<string, readonly string[]>();
const PATHS_MAX = 500;

function keysOf(path: string): readonly string[] {
  const known = knownPaths.get(path);
  if (known) return known;
  const keys = path.split('.');
  // Where a mistake is, is a path as well, and of those there may be any number.
  if (knownPaths.size < PATHS_MAX) knownPaths.set(path, keys);
  return keys;
}

/** The value at a dotted path, by own properties only: what an object inherits was not sent. */
export function valueAt(root: unknown, path: string): unknown {
  let value = root;
  for (const key of keysOf(path)) {
    if (!isObject(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

/** The rejection that a schema's first complaint about `value` stands for. */
export function rejectionOf(issue: z.core.$ZodIssue, path: string, value: unknown): Rejection {
  const where = path || 'the record';
  if (isAbsent(value)) return { reason: 'missing_field', detail: `${where}: missing; ${issue.message}` };
  return { reason: reasonOf(issue, value), detail: `${where}: ${issue.message}` };
}

function reasonOf(issue: z.core.$ZodIssue, value: unknown): RejectReason {
  if (issue.code === 'too_big' && issue.origin === 'string') return 'too_long';
  if (issue.code === 'invalid_type') {
    // A fraction, NaN or an infinity is a number still, only not one that can be.
    return typeof asNumber(value) === 'number' && ['number', 'int'].includes(issue.expected)
      ? 'out_of_range'
      : 'wrong_type';
  }
  if (issue.code === 'invalid_value') return typeof value === 'string' ? 'out_of_range' : 'wrong_type';
  return 'out_of_range';
}

/** Reads the fields of one message. Where several paths are given, the first that states something counts. */
export class Fields {
  readonly #root: unknown;
  readonly #lookUp: typeof valueAt;

  /** @param lookUp finds what is stated under a name, where names are not dotted paths */
  constructor(root: unknown, lookUp = valueAt) {
    this.#root = root;
    this.#lookUp = lookUp;
  }

  /** The first value that is stated at one of the paths; undefined when there is none. */
  at(...paths: string[]): unknown {
    for (const path of paths) {
      const value = this.#lookUp(this.#root, path);
      if (!isAbsent(value)) return value;
    }
    return undefined;
  }

  /** The text at the first path that states something, lower-cased, to compare with known words; else ''. */
  word(...paths: string[]): string {
    const value = this.at(...paths);
    return typeof value === 'string' ? value.trim().toLowerCase() : '';
  }

  /** The field's value; refuses the message when it is missing or does not fit. */
  required<T>(field: z.ZodType<T>, ...paths: string[]): T {
    for (const path of paths) {
      const value = this.#lookUp(this.#root, path);
      if (!isAbsent(value)) return read(field, path, value);
    }
    return read(field, paths[0]!, undefined);
  }

  /** As `required`, but undefined when nothing is stated. What is stated must fit. */
  optional<T>(field: z.ZodType<T>, ...paths: string[]): T | undefined {
    for (const path of paths) {
      const value = this.#lookUp(this.#root, path);
      if (!isAbsent(value)) return read(field, path, value);
    }
    return undefined;
  }

  /** The fields of the object at `path`; refuses the message when something else stands there. */
  within(path: string): Fields {
    const value = this.at(path);
    if (value === undefined) refuse('missing_field', `${path}: missing; expected an object`);
    if (!isObject(value)) refuse('wrong_type', `${path}: expected an object`);
    return new Fields(value);
  }
}

function read<T>(field: z.ZodType<T>, path: string, value: unknown): T {
  const quickly = readQuickly(field, value);
  if (quickly !== undefined) return quickly;
  const result = field.safeParse(value);
  if (result.success) return result.data;
  const rejection = rejectionOf(result.error.issues[0]!, path, value);
  return refuse(rejection.reason, rejection.detail);
}
