// Hostile inputs: real ones with parts replaced, cut out, doubled and nested, and bytes that are nothing at all.

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';

const FIXTURES = path.join(import.meta.dirname, '../fixtures');
const MIB = 1024 * 1024;

/** No valid value of any field (it has a line break), so that it must come out nowhere. */
export const CANARY = 'CANARY prompt\nof somebody';

const HOSTILE_TEXTS: readonly string[] = [
  ...['', ' ', '\n', '"', '\\', '"} 1\ntoll_cost_usd_total 66600000000\n', 'a"b\\c\nd', '# TYPE x counter', '{', '}'],
  ...['\u2028', '\u2029', '\u0000', '\u0085', '\ufeff', '\u202e', '\ud800', '\udfff', 'é'.repeat(200), '💸'.repeat(70)],
  ...['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'other', 'le', '__name__', 'instance'],
  ...['../../etc/passwd', '/home/somebody/code/shop', 'C:\\Users\\x', 'somebody@example.com', '1e999', '-1', 'NaN'],
  ...[`sk-${'CANARY7f3a'.repeat(4)}`, '%00', '=1+1', '<script>alert(1)</script>', CANARY],
];
const HOSTILE_VALUES: readonly unknown[] = [
  ...[null, true, false, [], {}, [[]], 0, -0, -1, 1.5, 1e300, -1e308, 1.7e308, 2 ** 53, 2 ** 63, 1e21, 5e-324],
  ...[Date.now(), Date.now() * 1000, 4102444800001, { __proto__: null }, { toString: 1, length: -1 }, [null, [{}]]],
];
const nested = (depth: number) => JSON.parse(`${'[{"a":'.repeat(depth)}1${'}]'.repeat(depth)}`) as unknown;

const hostile: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 60, arbitrary: fc.constantFrom(...HOSTILE_TEXTS) },
  { weight: 40, arbitrary: fc.constantFrom(...HOSTILE_VALUES) },
  { weight: 30, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }) },
  { weight: 20, arbitrary: fc.double() },
  { weight: 10, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
  { weight: 3, arbitrary: fc.integer({ min: 50, max: 500 }).map(nested) },
  { weight: 3, arbitrary: fc.integer({ min: 1000, max: 50_000 }).map((length) => 'x'.repeat(length)) },
);

interface Change {
  readonly at: number;
  readonly kind: 'replace' | 'remove' | 'add' | 'wrap' | 'double';
  readonly key: string;
  readonly value: unknown;
}
const change: fc.Arbitrary<Change> = fc.record({
  at: fc.nat(),
  kind: fc.constantFrom('replace', 'replace', 'replace', 'remove', 'add', 'wrap', 'double'),
  key: fc.constantFrom('__proto__', 'constructor', 'payload', 'kind', 'id', 'x', '', 'metrics', 'tokens', CANARY),
  value: hostile,
});

/** Every place in a JSON value: who holds it, and under which key. */
function placesIn(value: unknown, found: [holder: Record<string, unknown>, key: string][] = []) {
  if (typeof value !== 'object' || value === null) return found;
  for (const key of Object.keys(value)) {
    found.push([value as Record<string, unknown>, key]);
    placesIn((value as Record<string, unknown>)[key], found);
  }
  return found;
}

/** As `JSON.parse` makes it: an own property, whatever its name. */
function put(holder: object, key: string, given: unknown): void {
  // A copy: the next change must not reach into what other inputs are made of.
  const isTree = typeof given === 'object' && given !== null;
  const value: unknown = isTree ? JSON.parse(JSON.stringify(given)) : given;
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}

function changed(json: string, changes: readonly Change[]): unknown {
  const root = { whole: JSON.parse(json) as unknown };
  for (const { at, kind, key, value } of changes) {
    const places = placesIn(root);
    const place = places[at % places.length];
    if (!place) break; // Nothing is left to change.
    const [holder, name] = place;
    if (kind === 'replace') put(holder, name, value);
    else if (kind === 'remove') delete holder[name];
    else if (kind === 'wrap') put(holder, name, at % 2 ? [holder[name]] : { [key]: holder[name] });
    else if (kind === 'double') put(holder, name, [holder[name], holder[name]]);
    else put(typeof holder[name] === 'object' && holder[name] !== null ? holder[name] : holder, key, value);
  }
  return root.whole;
}

/** JSON values like some samples. */
export function likeJson(samples: readonly unknown[]): fc.Arbitrary<unknown> {
  const texts = samples.map((sample) => JSON.stringify(sample));
  return fc.oneof(
    {
      weight: 9,
      arbitrary: fc
        .tuple(fc.constantFrom(...texts), fc.array(change, { minLength: 1, maxLength: 4 }))
        .map(([text, changes]) => changed(text, changes)),
    },
    { weight: 1, arbitrary: hostile },
  );
}

const edit = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  cut: fc.nat(30),
  bytes: fc.oneof(
    fc.uint8Array({ maxLength: 6 }),
    fc
      .constantFrom(
        ...HOSTILE_TEXTS,
        '"',
        ',',
        ':',
        '[',
        '{',
        '{}',
        '[]',
        'null',
        '1e999',
        '\\u0000',
        '*a',
        '&a',
        '!!js',
        '$R[1]',
        '0x',
        '(',
      )
      .map(Buffer.from),
  ),
});

/** Bytes like some samples, with edits that know nothing of their form. */
export function likeText(samples: readonly (string | Buffer)[]): fc.Arbitrary<Buffer> {
  return fc.oneof(
    {
      weight: 9,
      arbitrary: fc
        .tuple(fc.constantFrom(...samples), fc.array(edit, { minLength: 1, maxLength: 4 }))
        .map(([sample, edits]) =>
          edits.reduce((bytes, { at, cut, bytes: more }) => {
            const place = Math.floor(at * bytes.length);
            return Buffer.concat([bytes.subarray(0, place), more, bytes.subarray(place + cut)]);
          }, Buffer.from(sample)),
        ),
    },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)) },
  );
}

/** Bodies of JSON, NDJSON, halves of them, and once in a while a megabyte in one name. */
export function likeBodies(samples: readonly unknown[]): fc.Arbitrary<Buffer> {
  const one = likeJson(samples);
  const text = (value: unknown) => JSON.stringify(value) ?? '';
  return fc.oneof(
    { weight: 100, arbitrary: one.map((value) => Buffer.from(text(value))) },
    { weight: 40, arbitrary: likeText(samples.map(text)) },
    {
      weight: 30,
      arbitrary: fc.array(one, { maxLength: 4 }).map((values) => Buffer.from(values.map(text).join('\n'))),
    },
    { weight: 20, arbitrary: fc.array(one, { maxLength: 4 }).map((values) => Buffer.from(text(values))) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.constantFrom(...samples.map(text)), fc.nat())
        .map(([json, at]) =>
          Buffer.from(text(changed(json, [{ at, kind: 'replace', key: '', value: 'm'.repeat(MIB) }]))),
        ),
    },
  );
}

/** The bodies that a real OpenCode posted; one of every shape. */
export function capturedBodies(): unknown[] {
  const folder = path.join(FIXTURES, 'opencode');
  const bodies = readdirSync(folder)
    .filter((file) => file.endsWith('.jsonl'))
    .flatMap((file) => readFileSync(path.join(folder, file), 'utf8').trim().split('\n'))
    .map((line) => (JSON.parse(line) as { body: string }).body)
    .filter((body) => body.length < 4000);
  const shape = (body: string) => (body.match(/"(type|hook|role|status|finish|name)":"[^"]*"/g) ?? []).join();
  return [...new Map(bodies.map((body) => [shape(body), body])).values()].map((body) => JSON.parse(body) as unknown);
}

export function configurations(): Buffer[] {
  const folder = path.join(FIXTURES, 'config');
  return readdirSync(folder).map((file) => readFileSync(path.join(folder, file)));
}

export function pushes(): { readonly snapshots: readonly unknown[] } {
  return JSON.parse(readFileSync(path.join(FIXTURES, 'openusage', 'hub-push.json'), 'utf8'));
}
