// Metrics of the user's own rules: where budgets stand, and what was answered to agents that asked.

import { counted, family } from './metric-family.ts';

const MS = 1e3;
const BUDGET = ['budget', 'unit'] as const;
const PARTS = 'Where several ledgers divide the turns, each shows its part.';

export const POLICY_FAMILIES = {
  policyBudgetInfo: family('toll_policy_budget_info', {
    type: 'gauge',
    unit: '{info}',
    labels: ['budget', 'period', 'hard'],
    help: '1 for each budget: the length of its period, and whether turns are stopped once it is used up (`true`) or it is only told (`false`).',
  }),
  policyWarnAt: family('toll_policy_warn_at_ratio', {
    type: 'gauge',
    unit: '1',
    labels: ['budget', 'step'],
    help: 'Shares of the limit from which on agents are warned; the label `step` holds the same number.',
  }),
  policyLimit: family('toll_policy_limit', {
    type: 'gauge',
    unit: '{amount}',
    labels: BUDGET,
    help: 'What a budget allows in its period, in its unit: usd, tokens or turns.',
  }),
  policySpent: counted('toll_policy_spent', {
    type: 'gauge',
    unit: '{amount}',
    labels: BUDGET,
    help: `What was spent in the running period of a budget, in its unit; of cost what was stated and what was estimated together. ${PARTS}`,
  }),
  policyUsedRatio: counted('toll_policy_used_ratio', {
    type: 'gauge',
    unit: '1',
    labels: ['budget'],
    help: `What was spent, as a share of the limit; above 1 when it was passed. ${PARTS}`,
  }),
  policyPeriodStart: family('toll_policy_period_start_timestamp_seconds', {
    type: 'gauge',
    unit: 's',
    scale: MS,
    labels: ['budget'],
    help: 'When the running period of a budget began.',
  }),
  policyPeriodEnd: family('toll_policy_period_end_timestamp_seconds', {
    type: 'gauge',
    unit: 's',
    scale: MS,
    labels: ['budget'],
    help: 'When the running period of a budget ends and the next one begins.',
  }),
  policyVerdicts: counted('toll_policy_verdicts_total', {
    type: 'counter',
    unit: '{verdict}',
    labels: ['decision', 'rule'],
    help: 'Answers to agents that asked before a turn or a tool call: allow, warn or stop, and the rule that decided; `none` where no rule took part.',
  }),
  policyUnchecked: counted('toll_policy_unchecked_total', {
    type: 'counter',
    unit: '{call}',
    labels: ['agent'],
    help: 'Calls that went ahead though no bridge answered (verdict.fail: open), as the agent told once one did; what it never came to tell is missing.',
  }),
} as const;
