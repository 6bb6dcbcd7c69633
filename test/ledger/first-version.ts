// A ledger of today as the first version would have kept it.

import type { DatabaseSync } from 'node:sqlite';
import { MIGRATIONS } from '../../src/ledger/schema.ts';

/** What the first version had beside its readings, which no later one takes over. */
export function asOfFirstVersion(db: DatabaseSync): void {
  const names = (type: string) =>
    db
      .prepare("SELECT name FROM sqlite_schema WHERE type = ? AND name NOT LIKE 'sqlite_%'")
      .all(type)
      .map(({ name }) => String(name));
  const later = names('table');
  db.exec('PRAGMA foreign_keys = OFF');
  for (const index of names('index')) db.exec(`DROP INDEX ${index}`);
  for (const table of later) db.exec(`ALTER TABLE ${table} RENAME TO later_${table}`);
  db.exec(MIGRATIONS[0]!);
  for (const table of names('table').filter((name) => later.includes(name) && name !== 'poll_result')) {
    const columns = db
      .prepare(`PRAGMA table_info(${table})`)
      .all()
      .map(({ name }) => String(name));
    const kept = columns.map((column) => (column === 'id' ? 'kept.id' : column)).join(', ');
    const session = table === 'turn' ? 'JOIN later_turn_session ON later_turn_session.id = session' : '';
    db.exec(`INSERT INTO ${table} (${columns.join(', ')}) SELECT ${kept} FROM later_${table} AS kept ${session}`);
  }
  for (const table of later) db.exec(`DROP TABLE later_${table}`);
  db.exec('PRAGMA user_version = 1; PRAGMA foreign_keys = ON');
}
