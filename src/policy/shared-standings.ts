// Where budgets stand over all partitions: each bridge knows what its own ledger holds and is told the rest by the others.
//
// Replicas of a partition have the same turns, and one that is behind knows less: of them the highest figure counts.
// Partitions are parts of a whole: they are added. A figure counts for the very period that a budget is in, so what was told
// of a period that is over is without effect, whenever each of them notices. The same holds for the scope: under another one
// the same name is another budget.

import { createHash } from 'node:crypto';
import { z } from 'zod';
import { labelValue } from '../config-fields.ts';
import { SCOPE_LABELS, type Scope } from '../config-policy.ts';
import { LATEST_MS } from '../ledger/budget-period.ts';
import { type Standing, UNIT_SCALE } from '../ledger/reading.ts';

/** More of them than a configuration has rules. */
const FIGURES_MAX = 10_000;
const DIGEST_CHARS = 16;
const amount = z.int().min(Number.MIN_SAFE_INTEGER).max(Number.MAX_SAFE_INTEGER);
const unixMs = z.int().min(0).max(LATEST_MS);

const figure = z.object({
  name: labelValue,
  unit: z.enum(Object.keys(UNIT_SCALE) as [keyof typeof UNIT_SCALE]),
  start_ms: unixMs,
  end_ms: unixMs,
  /** Whose spending it is, as a digest; absent where an earlier version told it. */
  scope: z.string().optional(),
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
    .map(({ name, unit, startMs, endMs, spent, dearest, rule }) => ({
      ...{ name, unit, start_ms: startMs, end_ms: endMs, spent },
      ...(rule && { scope: scopeDigest(rule.scope) }),
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

const digests = new WeakMap<Scope, string>();

/** Tells one text from another. */
export const digestOf = (text: string) => createHash('sha256').update(text).digest('base64url').slice(0, DIGEST_CHARS);

/** Tells one scope from another, however its patterns are written and ordered. */
function scopeDigest(scope: Scope): string {
  let digest = digests.get(scope);
  if (digest === undefined) {
    const patterns = SCOPE_LABELS.map((label) => scope[label]?.map((pattern) => pattern.toLowerCase()).sort() ?? null);
    digest = digestOf(JSON.stringify(patterns));
    digests.set(scope, digest);
  }
  return digest;
}

/** Whether a figure is about a scope, as far as it says. */
export function isAbout({ scope: told }: Figure, scope: Scope): boolean {
  return told === undefined || told === scopeDigest(scope);
}

/**
 * What is known of budgets after something new was told of them: beside each new figure the one before it, where that is
 * of another period. Clocks differ: who is the first in the next period says nothing of what was spent in this one.
 */
export function knownAfter(told: readonly Figure[], before: readonly Figure[]): readonly Figure[] {
  const byName = Map.groupBy(before, ({ name }) => name);
  const former = told.flatMap((now) => byName.get(now.name)?.find(({ start_ms }) => start_ms !== now.start_ms) ?? []);
  return [...told, ...former];
}

/** Whose ledger a figure is from. */
export interface Teller {
  /** Counted from 1. */
  readonly partition: number;
  readonly replica: string;
  readonly ledger?: string | undefined;
}

export interface SharedStandingsOptions {
  /** Whose ledger our own is. */
  readonly teller: Teller;
  /** Where budgets and caps stand by our own ledger. */
  readonly own: () => readonly Standing[];
}

/** What one ledger told, by the name of the budget. */
interface Told extends Teller {
  readonly figures: ReadonlyMap<string, readonly Figure[]>;
}

export class SharedStandings {
  readonly #options: SharedStandingsOptions;
  /** By partition, and in it by replica and ledger. */
  readonly #told = new Map<number, Map<string, Told>>();

  constructor(options: SharedStandingsOptions) {
    this.#options = options;
  }

  /** Takes what a bridge tells now in place of what it told before; undefined when it has withdrawn it. */
  hear(teller: Teller, told: readonly Figure[] | undefined): void {
    const { partition, replica, ledger } = teller;
    const ofPartition = this.#told.get(partition) ?? new Map<string, Told>();
    this.#told.set(partition, ofPartition);
    const key = `${replica}.${ledger}`;
    if (told) {
      const before = [...(ofPartition.get(key)?.figures.values() ?? [])].flat();
      const figures = Map.groupBy(knownAfter(told, before), ({ name }) => name);
      ofPartition.set(key, { ...teller, figures });
    } else ofPartition.delete(key);
  }

  /** Budgets as all partitions together know them, caps as our own ledger does. */
  standings(): Standing[] {
    return this.#options.own().map((own) => (own.kind === 'budget' ? this.#summed(own) : own));
  }

  /** The partitions of `1..of` of which nothing was told, in whatever period. */
  silent(of: number): number[] {
    const all = Array.from({ length: of }, (_, index) => index + 1);
    return all.filter((partition) => partition !== this.#options.teller.partition && !this.#told.get(partition)?.size);
  }

  /** The budgets of which an earlier ledger of our own replica told more than ours knows. */
  lost(): string[] {
    const { partition, replica, ledger } = this.#options.teller;
    const earlier = [...(this.#told.get(partition)?.values() ?? [])].filter(
      (told) => told.replica === replica && told.ledger !== ledger,
    );
    const isLost = (own: Standing) =>
      earlier.some((told) => figuresOfNow(told, own).some(({ spent }) => spent > own.spent));
    return this.#options.own().flatMap((own) => (own.kind === 'budget' && isLost(own) ? own.name : []));
  }

  #summed(own: Standing): Standing {
    let { dearest } = own;
    let others = 0;
    let ours = own.spent;
    for (const [partition, tellers] of this.#told) {
      const now = [...tellers.values()].flatMap((told) => figuresOfNow(told, own));
      const spent = now.map((each) => each.spent);
      if (partition === this.#options.teller.partition) ours = Math.max(ours, ...spent);
      else if (spent.length > 0) others += Math.max(...spent);
      for (const each of now) {
        if (each.dearest !== undefined) dearest = Math.max(dearest ?? each.dearest, each.dearest);
      }
    }
    // Beyond it nobody would take the sum for one.
    const spent = Math.min(ours + others, Number.MAX_SAFE_INTEGER);
    return { ...own, spent, ...(dearest === undefined ? {} : { dearest }) };
  }
}

/** What was told of the same budget in the same period. */
function figuresOfNow({ figures }: Told, { name, unit, startMs, endMs, rule }: Standing): Figure[] {
  return (figures.get(name) ?? []).filter(
    (each) =>
      each.unit === unit &&
      each.start_ms === startMs &&
      each.end_ms === endMs &&
      (rule === undefined || isAbout(each, rule.scope)),
  );
}
