// Loaded before the program (`node --import`), it ends the process as `kill -9` does, exactly at one point of its work:
// before or after an SQL statement, or when an answer has left. The program itself knows nothing of it.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { DatabaseSync, StatementSync } from 'node:sqlite';

/** Names the file that says where to end. It is read at every step, so that a running process can be armed. */
const FILE_VARIABLE = 'TOLLBRIDGE_TEST_KILL_POINT';

export type KillPoint =
  | {
      /** A regular expression of the SQL. */
      readonly sql: string;
      readonly moment: 'before' | 'after';
      /** Only where this statement was run before: tells one COMMIT from the next. */
      readonly follows?: string;
    }
  /** An answer with this status has been handed to the system. */
  | { readonly answered: number };

/** What makes a child of Node end at the point that `arm` writes down. */
export class KillSwitch {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  get nodeArgs(): string[] {
    return ['--import', import.meta.url];
  }

  get env(): NodeJS.ProcessEnv {
    return { ...process.env, [FILE_VARIABLE]: this.#file };
  }

  arm(point: KillPoint | undefined): void {
    writeFileSync(this.#file, JSON.stringify(point ?? null));
  }
}

function hook(file: string): void {
  const armed = (): KillPoint | null => (existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null);
  const die = (): never => {
    process.kill(process.pid, 'SIGKILL');
    for (;;); // The signal may take a moment; nothing may happen in it.
  };
  let said = '';
  const around = <T extends unknown[], R>(original: (...given: T) => R, sqlOf: (self: never, given: T) => string) =>
    function (this: never, ...given: T): R {
      const sql = sqlOf(this, given);
      const point = armed();
      const isHere = point && 'sql' in point && new RegExp(point.sql).test(sql) && said.includes(point.follows ?? '');
      if (isHere && point.moment === 'before') die();
      const result = original.apply(this, given);
      if (isHere) die();
      said = sql.startsWith('BEGIN') ? sql : `${said}\n${sql}`;
      return result;
    };
  DatabaseSync.prototype.exec = around(DatabaseSync.prototype.exec, (_, [sql]) => sql);
  for (const name of ['run', 'get'] as const) {
    const original = StatementSync.prototype[name] as (...given: unknown[]) => never;
    StatementSync.prototype[name] = around(original, (self: StatementSync) => self.sourceSQL) as never;
  }
  const { end } = http.ServerResponse.prototype;
  http.ServerResponse.prototype.end = function (this: http.ServerResponse, ...given: Parameters<typeof end>) {
    const point = armed();
    if (point && 'answered' in point && point.answered === this.statusCode) this.once('finish', die);
    return end.apply(this, given);
  } as typeof end;
}

const file = process.env[FILE_VARIABLE];
if (file) hook(file);
