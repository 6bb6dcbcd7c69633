// What was written into a settings file of somebody else, so that exactly that is taken out again. It holds digests, because
// a value may hold a token, and it is kept by file: one agent may have several, for work and for home.

import { createHash } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { messageOf, PermanentFailure } from '../failure.ts';
import { isObject } from '../turn/fields.ts';
import { textAt, writeWhole } from './installed-file.ts';
import type { Stood } from './settings-format.ts';

const NAME_DIGITS = 16;
/** Far longer than an installation takes. */
const LOCK_TIMEOUT_MS = 10_000;
/** Where nothing has run yet, the first record makes the folder of the ledger, too. */
const FOLDER_MODE = 0o700;

const folderIn = (stateDir: string) => path.join(stateDir, 'installed');

/**
 * Does something while no other process of ours changes records or what they are about. The lock is SQLite's, because such a
 * one ends with its process, however that ends.
 */
export function alone<T>(stateDir: string, command: string, act: () => T): T {
  const file = path.join(folderIn(stateDir), 'lock');
  let lock: DatabaseSync;
  try {
    mkdirSync(folderIn(stateDir), { recursive: true, mode: FOLDER_MODE });
    lock = new DatabaseSync(file, { timeout: LOCK_TIMEOUT_MS });
    lock.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    throw new PermanentFailure(
      `${file} cannot be locked: ${messageOf(error)}. Nothing was changed. Make its folder writable for you, or wait for what else installs. Then run: ${command}`,
    );
  }
  try {
    return act();
  } finally {
    lock.close();
  }
}

const digest = (text: string) => createHash('sha256').update(text).digest('hex');
const digestOf = (value: unknown) => digest(JSON.stringify(value));

export class InstalledRecord {
  readonly #file: string;
  /** Digests of all values that were ever written, by key: whichever a killed process left is known. */
  readonly #values = new Map<string, string[]>();
  #stood: Stood = {};
  #backup: string | undefined;

  /** @param settings the file that it is about */
  constructor(stateDir: string, { agent, settings }: { agent: string; settings: string }) {
    const name = `${agent}-${digest(path.resolve(settings)).slice(0, NAME_DIGITS)}.json`;
    this.#file = path.join(folderIn(stateDir), name);
    const { values, stood, backup } = recordIn(textAt(this.#file));
    for (const [key, digests] of Object.entries(isObject(values) ? values : {})) {
      if (Array.isArray(digests)) this.#values.set(key, digests.map(String));
    }
    if (isObject(stood)) this.#stood = stood;
    if (typeof backup === 'string') this.#backup = backup;
  }

  get isEmpty(): boolean {
    return this.#values.size === 0;
  }

  /** What stood in the places that were empty before. */
  get stood(): Stood {
    return this.#stood;
  }

  /** The name of the file that keeps what stood there before. */
  get backup(): string | undefined {
    return this.#backup;
  }

  isOurs(key: string, value: unknown): boolean {
    return value !== undefined && (this.#values.get(key)?.includes(digestOf(value)) ?? false);
  }

  /** Forgets what was written before, because nothing of it stands any more. */
  forget(): void {
    this.#values.clear();
    this.#stood = {};
    this.#backup = undefined;
  }

  /** Adds what is about to be written; to be called before it is, and whole or not at all. */
  add(
    { values, stood, backup }: { values: ReadonlyMap<string, unknown>; stood: Stood; backup?: string | undefined },
    command: string,
  ): void {
    for (const [key, value] of values) {
      if (!this.isOurs(key, value)) this.#values.set(key, [...(this.#values.get(key) ?? []), digestOf(value)]);
    }
    this.#stood = { ...this.#stood, ...stood };
    this.#backup = backup ?? this.#backup;
    const record = { values: Object.fromEntries(this.#values), stood: this.#stood, backup: this.#backup };
    writeWhole(this.#file, `${JSON.stringify(record)}\n`, { what: 'The setting', command, mode: 0o600 });
  }

  remove(): void {
    rmSync(this.#file, { force: true });
  }
}

/** A record that cannot be read is none: what it was about is then the user's. */
function recordIn(text: string | undefined): Readonly<Record<string, unknown>> {
  try {
    const record: unknown = JSON.parse(text ?? '{}');
    return isObject(record) ? record : {};
  } catch {
    return {};
  }
}
