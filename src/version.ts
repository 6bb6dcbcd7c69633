// Which Tollbridge this is, and what it needs. package.json stands one folder above both src/ and dist/.

import { readFileSync } from 'node:fs';

/** As in package.json, for example `0.1.0`. */
export const VERSION: string = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;

/** As `engines` in package.json says. Earlier ones have no `node:sqlite` that the ledger could be kept in. */
export const NODE_MIN_MAJOR = 24;
