// What is installed with Tollbridge: pinned, whole, under licences that are allowed, and listed.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { type Lockfile, licenceRefusals, productionPackages } from '../scripts/licences.ts';

const ROOT = path.dirname(import.meta.dirname);
const json = (file: string) => JSON.parse(readFileSync(path.join(ROOT, file), 'utf8'));
const lock = json('package-lock.json') as Lockfile;
const manifest = json('package.json') as Record<string, Record<string, string>>;
const KINDS = ['dependencies', 'devDependencies', 'optionalDependencies'] as const;

/** What is wrong with a lockfile beside its manifest, one sentence each. */
function gaps({ packages }: Lockfile, wanted: typeof manifest): string[] {
  const root = packages[''] as unknown as Record<string, Record<string, string> | undefined>;
  const stale = KINDS.filter((kind) => JSON.stringify(sorted(root[kind])) !== JSON.stringify(sorted(wanted[kind])));
  const ranges = KINDS.flatMap((kind) => Object.entries(wanted[kind] ?? {})).filter(
    ([, version]) => !/^(npm:@?[\w./-]+@)?\d+\.\d+\.\d+(-[\w.]+)?$/.test(version),
  );
  const open = Object.entries(packages).filter(
    ([place, { version, integrity }]) => place !== '' && !(version && integrity?.startsWith('sha512-')),
  );
  const absent = KINDS.flatMap((kind) => Object.keys(wanted[kind] ?? {})).filter(
    (name) => !packages[`node_modules/${name}`],
  );
  return [
    ...stale.map((kind) => `${kind} are not those of package.json`),
    ...ranges.map(([name, version]) => `${name} is wanted as ${version}, which is no exact version`),
    ...open.map(([place]) => `${place} has no version or no SHA-512`),
    ...absent.map((name) => `${name} is not in it`),
  ];
}

const sorted = (entries: Record<string, string> = {}) => Object.entries(entries).sort();

test('the lockfile is whole: every package has a version and a checksum, and the wanted ones are exact', () => {
  assert.deepEqual(gaps(lock, manifest), []);
  assert.ok(Object.keys(lock.packages).length > 100);
  // Controls: one gap each.
  const { 'node_modules/yaml': yaml, ...others } = lock.packages;
  assert.deepEqual(gaps({ packages: others }, manifest), ['yaml is not in it']);
  const { integrity: _, ...unchecked } = yaml!;
  const bare = { packages: { ...lock.packages, 'node_modules/yaml': unchecked } };
  assert.deepEqual(gaps(bare, manifest), ['node_modules/yaml has no version or no SHA-512']);
  const loose = { ...manifest, dependencies: { ...manifest.dependencies, yaml: '^2.9.1' } };
  assert.deepEqual(gaps(lock, loose), [
    'dependencies are not those of package.json',
    'yaml is wanted as ^2.9.1, which is no exact version',
  ]);
});

test('the agents that are run for real are as exact, and the documentation names their versions', () => {
  const agents = json('test/agents/package.json') as typeof manifest;
  assert.deepEqual(gaps(json('test/agents/package-lock.json'), agents), []);
  const versions = Object.values(agents.dependencies!);
  const named = (text: string) => versions.filter((version) => text.includes(version));
  assert.deepEqual(named(readFileSync(path.join(ROOT, 'docs', 'agents.md'), 'utf8')), versions);
  assert.notDeepEqual(named('Claude Code 2.1, Codex 0.171, Gemini CLI 0.61'), versions, 'control');
});

test('no package that a user installs runs a script at its installation', () => {
  const running = (packages: Lockfile['packages']) =>
    productionPackages({ packages }).flatMap(({ name, hasInstallScript }) => (hasInstallScript ? [name] : []));
  assert.deepEqual(running(lock.packages), []);
  assert.deepEqual(running({ 'node_modules/x': { version: '1.0.0', hasInstallScript: true } }), ['x'], 'control');
});

test('every licence is an allowed one', () => {
  assert.deepEqual(licenceRefusals(lock), []);
  const packages = {
    'node_modules/a': { version: '1.0.0', license: 'GPL-3.0-only' },
    'node_modules/@b/c': { version: '2.0.0' },
    'node_modules/d': { version: '3.0.0', license: 'AGPL-3.0-only', dev: true },
  };
  assert.deepEqual(licenceRefusals({ packages }), [
    '@b/c 2.0.0 states no licence',
    'a 1.0.0 is under GPL-3.0-only, which is not allowed',
  ]);
});

test('the bill of materials names every package, and says which are for development', () => {
  const { status, stdout, stderr } = spawnSync(manifest.scripts!.sbom!, {
    ...{ cwd: ROOT, encoding: 'utf8', shell: true, timeout: 60_000 },
  });
  assert.equal(status, 0, stderr);
  const { bomFormat, components } = JSON.parse(stdout) as {
    bomFormat: string;
    components: { purl: string; properties: { name: string }[] }[];
  };
  assert.equal(bomFormat, 'CycloneDX');
  assert.equal(components.length, Object.keys(lock.packages).length - 1);
  const isForDevelopment = (component: (typeof components)[number]) =>
    component.properties.some(({ name }) => name === 'cdx:npm:package:development');
  const listed = components
    .filter((component) => !isForDevelopment(component))
    .map(({ purl }) =>
      purl
        .replace(/^pkg:npm\//, '')
        .replace('%40', '@')
        .replace(/\?.*/, ''),
    );
  const installed = productionPackages(lock).map(({ name, version }) =>
    name === 'nats' ? `@nats-io/transport-node@${version}` : `${name}@${version}`,
  );
  assert.deepEqual(listed.sort(), installed.sort());
});
