// Which turns a rule is about.

import { SCOPE_LABELS, type Scope, type ScopeLabel } from '../config-policy.ts';
import { matchesGlob } from './glob.ts';

/** The labels of a turn, or of one that is about to begin; absent or '' where it has none. */
export type ScopedLabels = Readonly<Partial<Record<ScopeLabel, string | undefined>>>;

/** Whether every label that a scope names is there and fits. An empty scope holds everything. */
export function isInScope(scope: Scope, labels: ScopedLabels): boolean {
  return SCOPE_LABELS.every((label) => fits(scope, labels, label));
}

/** The labels that a scope names and that are not there or do not fit; none where the turn is in scope. */
export function misfits(scope: Scope, labels: ScopedLabels): ScopeLabel[] {
  return SCOPE_LABELS.filter((label) => !fits(scope, labels, label));
}

function fits(scope: Scope, labels: ScopedLabels, label: ScopeLabel): boolean {
  const patterns = scope[label];
  const value = labels[label];
  return !patterns || (!!value && patterns.some((pattern) => matchesGlob(pattern, value)));
}
