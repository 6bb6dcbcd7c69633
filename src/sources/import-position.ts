// How far OpenCode's database was read, on disk: for machines that pass turns on into a stream, which would keep all of
// the history once more after each restart. A ledger knows each turn again, and needs none of this.

import { createHash } from 'node:crypto';
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { z } from 'zod';

const position = z.object({ v: z.literal(1), database: z.string(), read_ms: z.int().min(0) });

export class ImportPosition {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  /** When the last whole reading of a database began, Unix ms; undefined where that is not known. */
  of(database: string): number | undefined {
    try {
      // Of a pipe or a device the end may never come.
      if (!statSync(this.#file).isFile()) return undefined;
      const kept = position.parse(JSON.parse(readFileSync(this.#file, 'utf8')));
      return kept.database === digestOf(database) ? kept.read_ms : undefined;
    } catch {
      return undefined;
    }
  }

  /** Puts it in the place of what was kept, whole or not at all. @throws what the file system says */
  keep(database: string, readMs: number): void {
    const fresh = `${this.#file}.new`;
    // One that was left behind keeps its mode.
    rmSync(fresh, { force: true });
    writeFileSync(fresh, JSON.stringify({ v: 1, database: digestOf(database), read_ms: readMs }), { mode: 0o600 });
    renameSync(fresh, this.#file);
  }
}

/** Which database it was, without its path. */
const digestOf = (database: string) => createHash('sha256').update(database).digest('hex');
