// Where budgets stand over all partitions: each bridge knows what its own ledger holds and is told the rest by the others.
//
// Replicas of a partition have the same turns, and one that is behind knows less: of them the highest figure counts.
// Partitions are parts of a whole: they are added. A figure counts for the very period that a budget is in, so what was told
// of a period that is over is without effect, whenever each of them notices.

import { z } from 'zod';
import { labelValue } from '../config-fields.ts';
import { LATEST_MS } from '../ledger/budget-period.ts';
import { type Standing, UNIT_SCALE } from '../ledger/reading.ts';

/** More of them than a configuration has rules. */
const FIGURES_MAX = 10_000;
const amount = z.int().min(Number.MIN_SAFE_INTEGER).max(Number.MAX_SAFE_INTEGER);
const unixMs = z.int().min(0).max(LATEST_MS);

const figure = z.object({
  name: labelValue,
  unit: z.enum(Object.keys(UNIT_SCALE) as [keyof typeof UNIT_SCALE]),
  start_ms: unixMs,
  end_ms: unixMs,
  spent: amount,
  dearest: amount.optional(),
});
const figures = z.object({
  v: z.literal(1),
  policy: z.string().optional(),
  budgets: z.array(figure).max(FIGURES_MAX),
});

/** What was spent of one budget in one period, as bridges tell it. Amounts as in the ledger. */
export type Figure = z.output<typeof figure>;

/** The figures of budgets, for others. Caps are of one bridge alone. */
export function figuresOf(standings: readonly Standing[]): Figure[] {
  return standings
    .filter(({ kind }) => kind === 'budget')
    .map(({ name, unit, startMs, endMs, spent, dearest }) => ({
      ...{ name, unit, start_ms: startMs, end_ms: endMs, spent },
      ...(dearest === undefined ? {} : { dearest }),
    }));
}

/**
 * The text that carries them.
 * @param policy the digest of the rules that they go with, where that is to be known
 */
export function figuresText(standings: readonly Standing[], policy?: string): string {
  return JSON.stringify({ v: 1, policy, budgets: figuresOf(standings) });
}

/** What such a text says; undefined when it is none. */
export function figuresIn(text: string): z.output<typeof figures> | undefined {
  try {
    return figures.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** Whose ledger a figure is from. */
export interface Teller {
  /** Counted from 1. */
  readonly partition: number;
  readonly replica: string;
}

export interface SharedStandingsOptions {
  /** Which partition our own ledger holds, counted from 1. */
  readonly partition: number;
  /** Where budgets and caps stand by our own ledger. */
  readonly own: () => readonly Standing[];
}

export class SharedStandings {
  readonly #options: SharedStandingsOptions;
  /** By partition and replica: the figures by the budget's name. */
  readonly #told = new Map<number, Map<string, ReadonlyMap<string, Figure>>>();

  constructor(options: SharedStandingsOptions) {
    this.#options = options;
  }

  /** Takes what a bridge tells now in place of what it told before; undefined when it has withdrawn it. */
  hear({ partition, replica }: Teller, told: readonly Figure[] | undefined): void {
    const replicas = this.#told.get(partition) ?? new Map();
    this.#told.set(partition, replicas);
    if (told) replicas.set(replica, new Map(told.map((each) => [each.name, each])));
    else replicas.delete(replica);
  }

  /** Budgets as all partitions together know them, caps as our own ledger does. */
  standings(): Standing[] {
    return this.#options.own().map((own) => (own.kind === 'budget' ? this.#summed(own) : own));
  }

  #summed(own: Standing): Standing {
    let { dearest } = own;
    let others = 0;
    let ours = own.spent;
    for (const [partition, replicas] of this.#told) {
      const known = [...replicas.values()].flatMap((told) => told.get(own.name) ?? []);
      const now = known.filter((each) => isOfSamePeriod(each, own));
      const spent = now.map((each) => each.spent);
      if (partition === this.#options.partition) ours = Math.max(ours, ...spent);
      else if (spent.length > 0) others += Math.max(...spent);
      for (const each of now) {
        if (each.dearest !== undefined) dearest = Math.max(dearest ?? each.dearest, each.dearest);
      }
    }
    return { ...own, spent: ours + others, ...(dearest === undefined ? {} : { dearest }) };
  }
}

function isOfSamePeriod({ unit, start_ms, end_ms }: Figure, { unit: own, startMs, endMs }: Standing): boolean {
  return unit === own && start_ms === startMs && end_ms === endMs;
}
