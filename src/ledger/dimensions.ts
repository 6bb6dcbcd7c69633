// The label combinations of turns, and the cells of the window gauges, each under a small id.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { TurnEvent } from '../turn/turn-event.ts';
import { OTHER } from './totals.ts';
import type { Cell, Windows } from './windows.ts';

/** Beyond this many (upstream provider, provider, model) the model of a new one is `other` in the windows. */
const CELLS_MAX = 1000;
/** Beyond this many (upstream provider, provider) both of a new pair are `other`: each has four families in six windows. */
const PAIRS_MAX = 100;
/** Combinations kept in memory; the rest is looked up on disk. */
const CACHED_MAX = 20_000;
/** Combinations that are listed; beyond it a list would take too long at a start. */
const LISTED_MAX = 20_000;

/** The labels of a turn. */
export const LABELS = [
  'agent',
  'provider',
  'account',
  'upstream_provider',
  'model',
  'project',
  'team',
  'user',
] as const;

/** What a turn is booked under; '' stands for a label that is left out. */
export type Dimension = Readonly<Record<(typeof LABELS)[number], string>>;

/** The labels that a turn states. */
export function labelsOf(event: TurnEvent): Dimension {
  return {
    agent: event.agent,
    provider: event.provider,
    account: event.account ?? '',
    upstream_provider: event.upstreamProvider,
    model: event.model,
    project: event.project ?? '',
    team: event.team ?? '',
    user: event.user ?? '',
  };
}

/** A turn under the labels that it was booked under, whatever it states. */
export function underLabels(event: TurnEvent, booked: Dimension): TurnEvent {
  const { account: _account, project: _project, team: _team, user: _user, ...turn } = event;
  const { provider, account, upstream_provider: upstreamProvider, model, project, team, user } = booked;
  const named = {
    ...(account && { account }),
    ...(project && { project }),
    ...(team && { team }),
    ...(user && { user }),
  };
  return { ...turn, provider, upstreamProvider, model, ...named };
}

export class Dimensions {
  readonly #windows: Windows;
  readonly #idOf = new Map<string, number>();
  /** Turns of one sender follow each other, and to compare is quicker than to spell out. */
  #last: { readonly dimension: Dimension; readonly id: number } | undefined;
  readonly #byId = new Map<number, Dimension>();
  readonly #cellIds = new Map<string, number>();
  readonly #pairs = new Set<string>();
  readonly #insert: StatementSync;
  readonly #select: StatementSync;
  readonly #selectById: StatementSync;
  readonly #selectAll: StatementSync;
  readonly #insertCell: StatementSync;

  constructor(db: DatabaseSync, windows: Windows) {
    this.#windows = windows;
    const columns = LABELS.join(', ');
    this.#insert = db.prepare(
      `INSERT OR IGNORE INTO dimension (${columns}) VALUES (${LABELS.map(() => '?').join(', ')})`,
    );
    this.#select = db.prepare(`SELECT id FROM dimension WHERE ${LABELS.map((name) => `${name} = ?`).join(' AND ')}`);
    this.#selectById = db.prepare(`SELECT ${columns} FROM dimension WHERE id = ?`);
    this.#selectAll = db.prepare(`SELECT ${columns} FROM dimension LIMIT ?`);
    this.#insertCell = db.prepare(
      'INSERT INTO cell (upstream_provider, provider, model) VALUES (?, ?, ?) RETURNING id',
    );
  }

  /** The id of a label combination, made when it is new. */
  idOf(dimension: Dimension): number {
    const last = this.#last;
    if (last && isSame(last.dimension, dimension)) return last.id;
    const { agent, provider, account, upstream_provider, model, project, team, user } = dimension;
    const key = `${agent}\0${provider}\0${account}\0${upstream_provider}\0${model}\0${project}\0${team}\0${user}`;
    let id = this.#idOf.get(key);
    if (id === undefined) {
      const values = LABELS.map((name) => dimension[name]);
      this.#insert.run(...values);
      id = (this.#select.get(...values) as { id: number }).id;
      if (this.#idOf.size >= CACHED_MAX) this.#idOf.clear();
      this.#idOf.set(key, id);
    }
    this.#last = { dimension, id };
    return id;
  }

  byId(id: number): Dimension {
    let dimension = this.#byId.get(id);
    if (dimension) return dimension;
    dimension = { ...(this.#selectById.get(id) as unknown as Dimension) };
    if (this.#byId.size >= CACHED_MAX) this.#byId.clear();
    this.#byId.set(id, dimension);
    return dimension;
  }

  /** Every combination; undefined beyond so many. What was cut to `other` by a cap is among them. */
  all(): readonly Dimension[] | undefined {
    const rows = this.#selectAll.all(LISTED_MAX + 1) as unknown as Dimension[];
    return rows.length > LISTED_MAX ? undefined : rows;
  }

  /** The window cell of a turn. */
  cellOf({ upstreamProvider, provider, model }: Omit<Cell, 'id'>): number {
    const known = this.#cellIds.get(`${upstreamProvider}\0${provider}\0${model}`);
    if (known !== undefined) return known;
    if (!this.#pairs.has(`${upstreamProvider}\0${provider}`) && this.#pairs.size >= PAIRS_MAX && provider !== OTHER) {
      return this.cellOf({ upstreamProvider: OTHER, provider: OTHER, model });
    }
    if (model !== OTHER && this.#windows.cellCount >= CELLS_MAX) {
      return this.cellOf({ upstreamProvider, provider, model: OTHER });
    }
    const { id } = this.#insertCell.get(upstreamProvider, provider, model) as { id: number };
    this.#remember({ id, upstreamProvider, provider, model });
    this.#windows.addCell({ id, upstreamProvider, provider, model });
    return id;
  }

  /** Forgets what is cached and takes the cells that the windows have loaded. */
  load(): void {
    this.#idOf.clear();
    this.#last = undefined;
    this.#byId.clear();
    this.#cellIds.clear();
    this.#pairs.clear();
    for (const cell of this.#windows.cells()) this.#remember(cell);
  }

  #remember({ id, upstreamProvider, provider, model }: Cell): void {
    this.#cellIds.set(`${upstreamProvider}\0${provider}\0${model}`, id);
    this.#pairs.add(`${upstreamProvider}\0${provider}`);
  }
}

function isSame(a: Dimension, b: Dimension): boolean {
  for (const name of LABELS) if (a[name] !== b[name]) return false;
  return true;
}
