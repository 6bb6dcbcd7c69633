// docs/configuration.md names every key of the configuration, and none that does not exist.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { configKeys } from '../src/config.ts';

test('the documentation names every key, and no other', () => {
  const text = readFileSync(new URL('../docs/configuration.md', import.meta.url), 'utf8');
  const rows = text
    .split('\n## ')[0]!
    .split('\n')
    .filter((line) => line.startsWith('| `'));
  const named = rows.flatMap((row) => {
    const names = [...row.split('|')[1]!.matchAll(/`([^`]+)`/g)].map(([, name]) => name as string);
    // `….output` goes on from the first name of its row.
    return names.map((name) => name.replace(/^…/, names[0]!.replace(/\.[^.]+$/, '')));
  });
  assert.deepEqual(named.sort(), configKeys().sort());
});
