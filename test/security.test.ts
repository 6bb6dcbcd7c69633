// What SECURITY.md and the checklist claim is shown by tests that exist.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const ROOT = path.dirname(import.meta.dirname);
const read = (file: string) => readFileSync(path.join(ROOT, file), 'utf8');
const linesOf = (file: string, begin: RegExp) =>
  read(file)
    .split('\n')
    .filter((line) => begin.test(line));

/** The names of the tests in a file, with their placeholders. */
function testNames(file: string): string[] {
  if (!existsSync(path.join(ROOT, file))) return [];
  return [...read(file).matchAll(/\b(?:test|it|describe)\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1/g)].map(
    ([, , name]) => name!,
  );
}

/** What is wrong with the tests that a line names: none at all, or one that does not exist. */
function unproved(line: string): string[] {
  let file = '';
  let named = 0;
  const wrong: string[] = [];
  for (const [, path_, name] of line.matchAll(/`(test\/[\w/.-]+\.test\.ts)`|“([^”]+)”/g)) {
    if (path_) file = path_;
    if (!name) continue;
    named += 1;
    if (!testNames(file).some((each) => each.includes(name))) wrong.push(`${file} has no test “${name}”`);
  }
  const files = [...line.matchAll(/`test\/[\w/.-]+`/g)].length;
  return named >= Math.max(files, 1) ? wrong : [...wrong, `names no test: ${line.slice(0, 60)}`];
}

const boundaries = linesOf('SECURITY.md', /^\| (?!boundary|-)/).filter((line) => !/^\|-/.test(line));
const boxes = linesOf('docs/security-checklist.md', /^- \[/);

test('every boundary and every ticked line names tests that exist', () => {
  assert.ok(boundaries.length >= 20, String(boundaries.length));
  assert.ok(boxes.length >= 30, String(boxes.length));
  const ticked = boxes.filter((box) => box.startsWith('- [x] '));
  assert.deepEqual([...boundaries, ...ticked].flatMap(unproved), []);
  // Controls: a test that is gone, a file that is gone, and nothing named.
  assert.equal(unproved('`test/security.test.ts` “no such thing”').length, 1);
  assert.equal(unproved('`test/gone.test.ts` “every boundary”').length, 1);
  assert.equal(unproved('| a boundary | guarded by hope |').length, 1);
});

test('a line that is not ticked says why', () => {
  const open = boxes.filter((box) => !box.startsWith('- [x] '));
  assert.ok(open.length > 0);
  for (const box of open) assert.match(box, /^- \[ \] .+\. Why not: .{20,}\.$/);
});
