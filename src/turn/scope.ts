// Which turns a rule is about.

import { SCOPE_LABELS, type Scope, type ScopeLabel } from '../config-policy.ts';
import { matchesGlob } from './glob.ts';

/** The labels of a turn, or of one that is about to begin; absent or '' where it has none. */
export type ScopedLabels = Readonly<Partial<Record<ScopeLabel, string | undefined>>>;

/** Whether every label that a scope names is there and fits. An empty scope holds everything. */
export function isInScope(scope: Scope, labels: ScopedLabels): boolean {
  return SCOPE_LABELS.every((label) => {
    const patterns = scope[label];
    const value = labels[label];
    return !patterns || (!!value && patterns.some((pattern) => matchesGlob(pattern, value)));
  });
}
