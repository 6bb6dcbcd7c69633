import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { parseConfig } from '../src/config.ts';

const text = readFileSync(path.join(import.meta.dirname, '..', 'docs', 'governance.md'), 'utf8');

test('every configuration that docs/governance.md shows is valid', () => {
  const blocks = [...text.matchAll(/^ *```yaml\n([\s\S]*?)^ *```$/gm)].map(([, block]) => block!);
  assert.equal(blocks.length, 3);
  for (const block of blocks) assert.doesNotThrow(() => parseConfig(parse(block)), block);
  assert.deepEqual(
    blocks.map((block) => parseConfig(parse(block)).budgets.length),
    [1, 2, 0],
  );
});
