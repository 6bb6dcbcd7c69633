// The walls of the house: who may import whom, and what belongs where. The rules see source text only, so the same
// rules judge the real tree and, as a control, small trees with one violation each.

import assert from 'node:assert/strict';
import { globSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

const ROOT = path.dirname(import.meta.dirname);
/** About 400, with a tenth of grace: nobody should split a file for three lines. */
const MAX_LINES = 440;
/** OpenCode loads one file, so the plugin cannot be split. */
const MAX_LINES_OF_PLUGIN = 740;
const FORBIDDEN_NAMES = /^(utils?|helpers?|common|misc)$/;

/** Low to high: a file imports from its own floor and from lower ones. The first row that fits a file is its floor. */
const FLOORS: readonly { readonly floor: number; readonly holds: RegExp }[] = [
  {
    floor: 0,
    holds:
      /^src\/(command-text|config(-fields|-metrics|-mistake|-nats|-otlp|-policy|-pricing|-tokens)?|listen|log|failure|otlp-sender|server-tls|version)\.ts$/,
  },
  { floor: 0, holds: /^src\/metrics\/(catalogue|account-families|metric-family|policy-families|window-families)\.ts$/ },
  { floor: 1, holds: /^src\/turn\// },
  { floor: 1, holds: /^src\/poll\/poll-result\.ts$/ },
  { floor: 1, holds: /^src\/status\.ts$/ },
  { floor: 2, holds: /^src\/(ledger|nats|poll)\// },
  { floor: 3, holds: /^src\/(sources|metrics|policy|traces)\// },
  {
    floor: 4,
    holds: /^src\/(bridge|budget-sharing|guest|nats-side|otlp-side|policy-side|sender-side|relay|relay-policy)\.ts$/,
  },
  { floor: 5, holds: /^src\/(commands|demo)\// },
  { floor: 6, holds: /^src\/cli\.ts$/ },
];
/** Rooms of one floor that never meet: they share only the ledger. */
const STRANGERS = ['src/sources/', 'src/metrics/', 'src/policy/', 'src/traces/'];
const PLUGIN = 'src/plugin/';
const DASHBOARDS = 'dashboards/';
const CATALOGUE = 'src/metrics/catalogue.ts';
/** The one room that speaks to NATS. */
const NATS_ROOM = 'src/nats/';
const NATS_PACKAGES = /^(?:nats|@nats-io\/.+)$/;

interface SourceFile {
  /** From the root, with `/`. */
  readonly file: string;
  readonly text: string;
}

interface Import {
  readonly target: string;
  readonly isTypeOnly: boolean;
}

const floorOf = (file: string) => FLOORS.find(({ holds }) => holds.test(file))?.floor;
const withoutComments = (text: string) => text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');

function importsOf({ text }: SourceFile): Import[] {
  const code = withoutComments(text);
  const imports: Import[] = [];
  for (const [, clause = '', target] of code.matchAll(
    /^\s*(?:import|export)\s([^;'"]*?\sfrom\s|)\s*['"]([^'"]+)['"]/gm,
  )) {
    const names = /\{([^}]*)\}/.exec(clause)?.[1]?.split(',') ?? [];
    const areAllTypes = names.length > 0 && names.every((name) => !name.trim() || /^\s*type\s/.test(name));
    imports.push({ target: target!, isTypeOnly: /^type\s/.test(clause) || (areAllTypes && /^\s*\{/.test(clause)) });
  }
  for (const [, target] of code.matchAll(/\bimport\(\s*['"`]([^'"`]+)['"`]/g)) {
    imports.push({ target: target!, isTypeOnly: false });
  }
  return imports;
}

/** Every broken rule of a tree, one sentence each. */
function violations(files: readonly SourceFile[]): string[] {
  return files.flatMap((source) => [
    ...importViolations(source),
    ...placeViolations(source),
    ...codeViolations(source),
  ]);
}

function importViolations(source: SourceFile): string[] {
  const { file } = source;
  if (file.startsWith(DASHBOARDS)) {
    return importsOf(source)
      .map(({ target }) => (target.startsWith('.') ? path.posix.join(path.posix.dirname(file), target) : target))
      .filter((to) => to.startsWith('src/') && to !== CATALOGUE)
      .map((to) => `${file} imports ${to}: what is drawn and watched knows the catalogue and nothing else`);
  }
  if (!file.startsWith('src/')) return [];
  if (file.startsWith(PLUGIN)) {
    return importsOf(source)
      .filter(({ target, isTypeOnly }) => !isTypeOnly && !target.startsWith('node:'))
      .map(({ target }) => `${file} imports ${target}, but the plugin stands alone: types and node: only`);
  }
  const floor = floorOf(file);
  if (floor === undefined) return [`${file} stands on no floor: name one in the table of this test`];
  return importsOf(source).flatMap(({ target }) => {
    if (NATS_PACKAGES.test(target) && !file.startsWith(NATS_ROOM)) {
      return [`${file} imports ${target}: only ${NATS_ROOM} speaks to NATS`];
    }
    if (!target.startsWith('.')) return [];
    const to = path.posix.join(path.posix.dirname(file), target);
    const toFloor = floorOf(to);
    if (to.startsWith(PLUGIN)) return [`${file} imports the plugin, which runs in another program`];
    if (toFloor === undefined) return [`${file} imports ${to}, which stands on no floor`];
    if (toFloor > floor) return [`${file} (floor ${floor}) imports ${to} (floor ${toFloor})`];
    const [from, of] = [file, to].map((name) => STRANGERS.find((room) => name.startsWith(room)));
    return from && of && from !== of && toFloor === floor
      ? [`${file} imports ${to}: sources, metrics, policy and traces never meet`]
      : [];
  });
}

function placeViolations({ file, text }: SourceFile): string[] {
  const broken: string[] = [];
  const lines = text.trimEnd().split('\n').length;
  const limit = file.startsWith(PLUGIN) ? MAX_LINES_OF_PLUGIN : MAX_LINES;
  if (lines > limit) broken.push(`${file} has ${lines} lines, more than ${limit}`);
  const vague = file
    .replace(/(\.test)?\.\w+$/, '')
    .split('/')
    .find((name) => FORBIDDEN_NAMES.test(name));
  if (vague) broken.push(`${file}: "${vague}" says nothing about what is in it`);
  return broken;
}

function codeViolations({ file, text }: SourceFile): string[] {
  const code = withoutComments(text);
  const broken: string[] = [];
  const mayPrint = !file.startsWith('src/') || file === 'src/cli.ts' || file.startsWith('src/commands/');
  if (!mayPrint && /(?<![\w-])console\.\w/.test(code)) broken.push(`${file} uses console; the log is for that`);
  if (file.startsWith('src/') && file !== 'src/cli.ts' && /\bprocess\.(exit\(|exitCode\s*=)/.test(code)) {
    broken.push(`${file} ends the process; only src/cli.ts does`);
  }
  return broken;
}

const read = (file: string): SourceFile => ({ file, text: readFileSync(path.join(ROOT, file), 'utf8') });
const tree = globSync('{src,test,scripts,dashboards}/**/*.{ts,tsx,mjs}', {
  cwd: ROOT,
  exclude: (name) => name === 'node_modules' || name === 'dist',
})
  .map((file) => file.split(path.sep).join('/'))
  .filter((file) => !file.startsWith('test/fixtures/'))
  .map(read);

describe('architecture', () => {
  test('no wall is broken', () => assert.deepEqual(violations(tree), []));

  test('every file under src/ was looked at, and there is nothing but TypeScript', () => {
    const standing = readdirSync(path.join(ROOT, 'src'), { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => path.relative(ROOT, path.join(entry.parentPath, entry.name)).split(path.sep).join('/'));
    const seen = tree.map(({ file }) => file).filter((file) => file.startsWith('src/'));
    assert.deepEqual(seen.sort(), standing.sort());
    assert.ok(seen.length > 0);
  });

  test('imports were really read: every room but the lowest is imported by somebody', () => {
    const targets = new Set(
      tree
        .filter(({ file }) => file.startsWith('src/'))
        .flatMap((source) =>
          importsOf(source).map(({ target }) => path.posix.join(path.posix.dirname(source.file), target)),
        ),
    );
    for (const room of [
      'src/config.ts',
      'src/turn/',
      'src/poll/',
      'src/ledger/',
      'src/nats/',
      'src/sources/',
      'src/metrics/',
      'src/bridge.ts',
      'src/commands/',
    ]) {
      assert.ok(
        [...targets].some((target) => target.startsWith(room)),
        `nobody imports ${room}`,
      );
    }
  });

  const broken: readonly [string, SourceFile][] = [
    ['imports a higher floor', { file: 'src/turn/a.ts', text: "import { b } from '../ledger/b.ts';" }],
    [
      'imports a type of a higher floor',
      { file: 'src/ledger/a.ts', text: "import type { B } from '../sources/b.ts';" },
    ],
    ['re-exports a higher floor', { file: 'src/config.ts', text: "export * from './turn/b.ts';" }],
    [
      're-exports names over several lines',
      { file: 'src/log.ts', text: "export {\n  b,\n  c,\n} from './bridge.ts';" },
    ],
    ['imports a higher floor for its effect', { file: 'src/poll/a.ts', text: "import '../sources/b.ts';" }],
    ['imports a higher floor later', { file: 'src/bridge.ts', text: "const b = await import('./commands/b.ts');" }],
    ['lets a source see a metric', { file: 'src/sources/a.ts', text: "import { b } from '../metrics/b.ts';" }],
    ['lets a metric see a source', { file: 'src/metrics/a.ts', text: "import type { B } from '../sources/b.ts';" }],
    ['stands on no floor', { file: 'src/shared/a.ts', text: '' }],
    ['imports what stands on no floor', { file: 'src/cli.ts', text: "import { b } from './shared/b.ts';" }],
    ['lets the plugin import a value', { file: 'src/plugin/a.ts', text: "import { b } from '../turn/b.ts';" }],
    ['lets the plugin import a package', { file: 'src/plugin/a.ts', text: "import { type A, b } from 'zod';" }],
    ['speaks to NATS elsewhere', { file: 'src/sources/a.ts', text: "import type { Msg } from 'nats';" }],
    ['lets an alert see the ledger', { file: 'dashboards/a.ts', text: "import { b } from '../src/ledger/b.ts';" }],
    ['imports the plugin', { file: 'src/commands/a.ts', text: "import { b } from '../plugin/b.ts';" }],
    ['is too long', { file: 'src/turn/a.ts', text: 'a;\n'.repeat(MAX_LINES + 1) }],
    ['has a vague name', { file: 'test/turn/utils.ts', text: '' }],
    ['stands in a vague folder', { file: 'src/turn/helpers/a.ts', text: '' }],
    ['prints', { file: 'src/sources/a.ts', text: "console.log('hello');" }],
    ['ends the process', { file: 'src/bridge.ts', text: 'process.exit(1);' }],
  ];
  for (const [name, source] of broken) {
    test(`control: caught when a file ${name}`, () => assert.equal(violations([source]).length, 1, name));
  }

  test('control: what is allowed stays allowed', () => {
    const allowed: SourceFile[] = [
      { file: 'src/sources/a.ts', text: "import { b } from '../ledger/b.ts';\nimport c from './c.ts';\nimport 'zod';" },
      { file: 'src/ledger/a.ts', text: "import { TOLL } from '../metrics/catalogue.ts';" },
      {
        file: 'src/plugin/a.ts',
        text: "import net from 'node:net';\nimport type { B } from '../turn/b.ts';\nimport { type C } from 'c';",
      },
      { file: 'src/turn/a.ts', text: "// import { b } from '../bridge.ts';\n/* console.log() */" },
      {
        file: 'dashboards/x/a.ts',
        text: "import { TOLL } from '../../src/metrics/catalogue.ts';\nimport b from './b.ts';",
      },
      { file: 'src/nats/a.ts', text: "import { jetstream } from '@nats-io/jetstream';" },
      { file: 'src/cli.ts', text: "process.exit(0);\nawait import('./bridge.ts');" },
      { file: 'src/turn/b.ts', text: 'a;\n'.repeat(MAX_LINES) },
    ];
    assert.deepEqual(violations(allowed), []);
  });
});
