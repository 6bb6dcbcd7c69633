// Rules that are well-formed and yet hardly what was meant: said at the start, and never a reason not to start.

import type { Config } from '../config.ts';
import {
  type BudgetRule,
  type GuardrailRule,
  type PolicyConfig,
  PROJECT_HASH_CHARS,
  SCOPE_LABELS,
  type Scope,
  type ScopeLabel,
} from '../config-policy.ts';
import { limitOf } from '../ledger/spend-book.ts';
import { matchesGlob } from '../turn/glob.ts';
import type { ScopedLabels } from '../turn/scope.ts';

const NAMES_SHOWN = 5;
/** What labels beyond their cap are booked under: no name that anybody gave. */
const OVERFLOW = 'other';
const CALLED = ['providers', 'models'] as const;

export interface KnownOfTurns {
  /** The labels of turns and identities so far; undefined or empty where nothing is known of them. */
  readonly seen: readonly ScopedLabels[] | undefined;
  /** How the label `project` is shown, and so what a scope can name. */
  readonly project: Config['labels']['project'];
}

/** One line for each oddity. */
export function policyNotes(rules: PolicyConfig, known: KnownOfTurns): string[] {
  const { seen = [], project } = known;
  const names = new Map(
    SCOPE_LABELS.map((label) => [label, [...new Set(seen.flatMap((labels) => labels[label] || []))]] as const),
  );
  return [
    ...everyRule(rules).flatMap((rule) => hidden(rule, project)),
    ...(seen.length > 0 ? everyRule(rules).flatMap((rule) => unmatched(rule, { names, project })) : []),
    ...rules.budgets.flatMap((rule, index) => unreachable(rule, index, rules.budgets)),
    ...rules.guardrails.flatMap(forbidding),
    ...rules.guardrails.flatMap((rule, index) => contradicting(rule, rules.guardrails.slice(index + 1))),
  ];
}

interface Scoped {
  readonly kind: 'budget' | 'cap' | 'guardrail';
  readonly name: string;
  readonly scope: Scope;
}

function everyRule({ budgets, caps, guardrails }: PolicyConfig): Scoped[] {
  const kinds = { budget: budgets, cap: caps, guardrail: guardrails };
  return Object.entries(kinds).flatMap(([kind, rules]) =>
    rules.map(({ name, scope }) => ({ kind: kind as Scoped['kind'], name, scope })),
  );
}

/** Whether the label never shows what a scope names of projects. */
function isHidden(patterns: Scope['project'], project: KnownOfTurns['project']): boolean {
  if (!patterns || project === 'name') return false;
  return project === 'off' || !patterns.some((pattern) => canBeHash(pattern));
}

const canBeHash = (pattern: string) =>
  /^[\da-f*]*$/i.test(pattern) && (pattern.includes('*') || pattern.length === PROJECT_HASH_CHARS);

function hidden({ kind, name, scope }: Scoped, project: KnownOfTurns['project']): string[] {
  if (!isHidden(scope.project, project)) return [];
  const remedy = project === 'off' ? '' : ` Name the ${PROJECT_HASH_CHARS} hex digits that the label shows.`;
  const setting = `labels.project is ${project}`;
  return [`${kind} ${name} holds for no turn: its scope names a project, and ${setting}.${remedy}`];
}

/** A label that fits no name which was ever seen is likely misspelt. */
function unmatched(
  { kind, name, scope }: Scoped,
  { names, project }: { names: ReadonlyMap<ScopeLabel, readonly string[]>; project: KnownOfTurns['project'] },
): string[] {
  return SCOPE_LABELS.flatMap((label) => {
    const patterns = scope[label];
    if (!patterns || (label === 'project' && isHidden(patterns, project))) return [];
    const known = names.get(label)!;
    if (known.some((each) => patterns.some((pattern) => matchesGlob(pattern, each)))) return [];
    const shown = known
      .filter((each) => each !== OVERFLOW)
      .sort()
      .slice(0, NAMES_SHOWN);
    const meant = shown.length > 0 ? `Did you mean ${shown.join(', ')}?` : `No turn has a ${label} yet.`;
    return [`${kind} ${name} has matched no turn: nothing has the ${label} ${patterns.join(' or ')}. ${meant}`];
  });
}

/** Whether what one scope holds is held by the other, as far as the same words tell. */
function isAtLeastAsBroad(broad: Scope, narrow: Scope): boolean {
  return SCOPE_LABELS.every((label) => !broad[label] || words(broad[label]) === words(narrow[label]));
}

const words = (patterns: readonly string[] | undefined) =>
  JSON.stringify(patterns?.map((pattern) => pattern.toLowerCase()).sort());
const periodOf = ({ period, anchor, week_start }: BudgetRule) =>
  JSON.stringify([period, anchor, period === 'week' && week_start]);

function unreachable(rule: BudgetRule, index: number, budgets: readonly BudgetRule[]): string[] {
  const first = budgets.find((other, at) => {
    if (at === index || !other.hard || periodOf(other) !== periodOf(rule)) return false;
    if (!isAtLeastAsBroad(other.scope, rule.scope)) return false;
    const [theirs, ours] = [limitOf(other), limitOf(rule)];
    if (theirs.unit !== ours.unit || theirs.limit > ours.limit) return false;
    const isSame = theirs.limit === ours.limit;
    // Of two that are the same, only one is in the way of the other.
    const isTwin = isSame && rule.hard && isAtLeastAsBroad(rule.scope, other.scope);
    return !isTwin || at < index;
  });
  return first ? [`budget ${rule.name} can never be reached: budget ${first.name} stops the same turns first.`] : [];
}

function forbidding(rule: GuardrailRule): string[] {
  const list = CALLED.find((each) => {
    const { allow = ['*'], deny } = rule[each] ?? {};
    return deniesAll(deny, allow);
  });
  return list ? [`guardrail ${rule.name} denies everything in its scope: its ${list} leave nothing to call.`] : [];
}

function contradicting(rule: GuardrailRule, later: readonly GuardrailRule[]): string[] {
  return later.flatMap((other) => {
    const [broad, narrow] = isAtLeastAsBroad(rule.scope, other.scope) ? [rule, other] : [other, rule];
    if (!isAtLeastAsBroad(broad.scope, narrow.scope)) return [];
    return ([...CALLED, 'tools'] as const).flatMap((list) => {
      const [one, two] = [broad[list], narrow[list]];
      if (!haveNothingInCommon(one, two)) return [];
      const both = `guardrails ${broad.name} and ${narrow.name}`;
      return [`${both} leave no ${list} in the scope of ${narrow.name}, where both hold. Put them into one list.`];
    });
  });
}

type List = GuardrailRule['models'];

/** Whether of two lists each lets something through, and both together nothing. */
function haveNothingInCommon(one: List, two: List): boolean {
  if (one?.allow && two?.allow && !one.allow.some((a) => two.allow!.some((b) => canBothFit(a, b)))) return true;
  return deniesAll(one?.deny, two?.allow) || deniesAll(two?.deny, one?.allow);
}

/** A pattern that fits another one's text fits all that the other fits. */
function deniesAll(deny: readonly string[] = [], allow: readonly string[] = []): boolean {
  return allow.length > 0 && allow.every((pattern) => deny.some((denied) => matchesGlob(denied, pattern)));
}

/** Whether some text fits both globs. */
function canBothFit(one: string, two: string): boolean {
  const [a, b] = [one.toLowerCase(), two.toLowerCase()];
  // fits[j]: whether what is left of `a` from the row's place on and of `b` from j on can be the same text.
  let below: boolean[] = [];
  for (let i = a.length; i >= 0; i--) {
    const fits: boolean[] = [];
    for (let j = b.length; j >= 0; j--) {
      const [x, y] = [a[i], b[j]];
      if (x === undefined && y === undefined) fits[j] = true;
      else if (x === '*') fits[j] = below[j]! || (y !== undefined && fits[j + 1]!);
      else if (y === '*') fits[j] = fits[j + 1]! || (x !== undefined && below[j]!);
      else fits[j] = x === y && below[j + 1]!;
    }
    below = fits;
  }
  return below[0]!;
}
