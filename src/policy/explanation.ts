// Why a question is answered as it is: what every rule says to it, and of the others why they say nothing.

import type { PolicyConfig, Scope } from '../config-policy.ts';
import { misfits, type ScopedLabels } from '../turn/scope.ts';
import { limitText } from './amount-text.ts';
import type { Decision, Opinion, Question, Verdict } from './policy.ts';

const TURNS_ONLY = 'it is asked about turns, not about tool calls';

/** A rule that took part. */
export interface ExplainedOpinion {
  /** `budget/<name>`, `cap/<name>` or `guardrail/<name>`. */
  readonly rule: string;
  readonly decision: Decision;
  /** As the user would read it; present unless the decision is `allow`. */
  readonly message?: string;
  /** Of a budget or cap: `412.07 of 500.00 USD`, and the share of the limit. */
  readonly used?: string;
  readonly used_ratio?: number;
  readonly step?: number;
  readonly in_flight?: 'stop' | 'finish';
  /** ISO 8601; of a cap only where it stops. */
  readonly resets_at?: string;
}

/** A rule that did not take part. `why` completes "it has no part: …". */
export interface Bystander {
  readonly rule: string;
  readonly why: string;
}

/** The answer of `POST /v1/explain`. */
export interface Explanation {
  readonly decision: Decision;
  /** The rule that decided; absent where none took part. */
  readonly rule?: string;
  readonly ttl_s: number;
  /** What the turn would be booked under; labels that it would not have are left out. */
  readonly labels: ScopedLabels;
  readonly tool?: string;
  readonly took_part: readonly ExplainedOpinion[];
  readonly had_no_part: readonly Bystander[];
}

export function explanationOf(
  { decision, deciding, ttlS, opinions }: Verdict,
  question: Question,
): Omit<Explanation, 'had_no_part'> {
  const labels = Object.fromEntries(Object.entries(question.labels).filter(([, value]) => value));
  return {
    decision,
    ...(deciding && { rule: deciding.rule }),
    ...{ ttl_s: ttlS, labels, ...(question.tool !== undefined && { tool: question.tool }) },
    took_part: opinions.map(explained),
  };
}

function explained({ rule, decision, message, standing, step, inFlight }: Opinion): ExplainedOpinion {
  const hasReset = standing && (standing.kind === 'budget' || decision === 'stop');
  return {
    ...{ rule, decision, ...(message !== undefined && { message }) },
    ...(standing && { used: limitText(standing), used_ratio: standing.spent / standing.limit }),
    ...(step !== undefined && { step }),
    ...(inFlight && { in_flight: inFlight }),
    ...(hasReset && { resets_at: new Date(standing.endMs).toISOString() }),
  };
}

/** Every rule without an opinion on a question, and why it has none. */
export function bystandersOf(
  rules: PolicyConfig,
  { labels, tool }: Question,
  opinions: readonly Opinion[],
): Bystander[] {
  const all = [
    ...rules.guardrails.map((rule) => {
      const why = tool === undefined ? 'it is about tools only' : 'it says nothing about tools';
      return { rule: `guardrail/${rule.name}`, scope: rule.scope, why };
    }),
    ...rules.budgets.map(({ name, scope }) => ({ rule: `budget/${name}`, scope, why: TURNS_ONLY })),
    ...rules.caps.map(({ name, scope }) => ({ rule: `cap/${name}`, scope, why: TURNS_ONLY })),
  ];
  return all
    .filter(({ rule }) => !opinions.some((opinion) => opinion.rule === rule))
    .map(({ rule, scope, why }) => ({ rule, why: scopeText(scope, labels) || why }));
}

/** `its scope is team red (this is blue) and project shop (this has none)`; '' where the scope fits. */
function scopeText(scope: Scope, labels: ScopedLabels): string {
  const wanted = misfits(scope, labels).map((label) => {
    const here = labels[label] ? `this is ${labels[label]}` : 'this has none';
    return `${label} ${scope[label]?.join(' or ')} (${here})`;
  });
  return wanted.length === 0 ? '' : `its scope is ${wanted.join(' and ')}`;
}
