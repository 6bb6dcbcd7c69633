// The part of a configuration that is about rules: what may be spent (budgets, caps), and what may be called (guardrails).

import { z } from 'zod';
import { labelValue } from './config-fields.ts';
import { type ConfigMistake, repeats } from './config-mistake.ts';

/** The labels of a turn that a rule may be about. */
export const SCOPE_LABELS = [
  'team',
  'user',
  'project',
  'agent',
  'provider',
  'upstream_provider',
  'model',
  'account',
] as const;
export type ScopeLabel = (typeof SCOPE_LABELS)[number];
/** For each label that is named: globs, one of which must fit. A turn without the label is outside. */
export type Scope = Readonly<Partial<Record<ScopeLabel, readonly string[] | undefined>>>;

/** How much of a project's hash is shown: enough to tell a user's projects apart, too little to look like a name. */
export const PROJECT_HASH_CHARS = 12;
const HASH_PATTERN = new RegExp(`^[0-9a-f*]{1,${PROJECT_HASH_CHARS}}$`, 'i');
const PERIOD_FORM = 'expected day, week, month, or a number of days from 2d to 366d';
const LIMIT_FORM = 'expected exactly one of limit_usd, limit_tokens and limit_turns';
const SHARE_FORM = 'expected a share of the limit between 0 and 1, such as 0.8';
const MESSAGE_MAX_CHARS = 300;
/** Of a kind: what all of them say has to fit into one message of NATS, and each is asked at every turn. */
const RULES_MAX = 1000;

const glob = z.string().trim().min(1, 'expected a name, or a pattern with *').max(128);
const globs = z.union([glob.transform((one) => [one]), z.array(glob).min(1)], {
  error: 'expected a name or pattern, or a list of them',
});
const scope = z.strictObject(
  Object.fromEntries(SCOPE_LABELS.map((label) => [label, globs.optional()])) as Record<
    ScopeLabel,
    z.ZodOptional<typeof globs>
  >,
);
/** What the user reads: one line of plain text. */
const message = z
  .string()
  .trim()
  .min(1)
  .max(MESSAGE_MAX_CHARS)
  .regex(/^[^\p{Cc}\p{Zl}\p{Zp}]*$/u, 'expected one line of text');
const whole = z.int().min(1).max(Number.MAX_SAFE_INTEGER);
const limits = {
  limit_usd: z.number().min(1e-9).max(9e6).optional(),
  limit_tokens: whole.optional(),
  limit_turns: whole.optional(),
};
const hasOneLimit = (rule: { limit_usd?: unknown; limit_tokens?: unknown; limit_turns?: unknown }) =>
  [rule.limit_usd, rule.limit_tokens, rule.limit_turns].filter((limit) => limit !== undefined).length === 1;

const budget = z
  .strictObject({
    name: labelValue,
    scope: scope.prefault({}),
    ...limits,
    period: z
      .string(PERIOD_FORM)
      .regex(/^(?:day|week|month|(?:[2-9]|[1-9]\d|[12]\d\d|3[0-5]\d|36[0-6])d)$/, PERIOD_FORM),
    week_start: z.enum(['monday', 'sunday']).default('monday'),
    anchor: z.iso.date('expected the first day of a period, such as 2026-01-15').optional(),
    warn_at: z.array(z.number().gt(0, SHARE_FORM).lt(1, SHARE_FORM)).max(10).default([0.5, 0.8, 0.95]),
    hard: z.boolean().default(false),
    in_flight: z.enum(['stop', 'finish']).default('stop'),
    message: message.optional(),
  })
  .refine(hasOneLimit, { path: ['limit_usd'], message: LIMIT_FORM });

const cap = z
  .strictObject({
    name: labelValue,
    scope: scope.prefault({}),
    ...limits,
    per: z.enum(['minute', 'hour']),
    message: message.optional(),
  })
  .refine(hasOneLimit, { path: ['limit_usd'], message: LIMIT_FORM });

const allowance = z.strictObject({ allow: globs.optional(), deny: globs.optional() });
const guardrail = z.strictObject({
  name: labelValue,
  scope: scope.prefault({}),
  providers: allowance.optional(),
  models: allowance.optional(),
  tools: allowance.optional(),
  unpriced: z.enum(['allow', 'deny']).default('allow'),
  message: message.optional(),
});

const listOf = <T extends z.ZodType>(rule: T) =>
  z.array(rule).max(RULES_MAX, `expected at most ${RULES_MAX}`).default([]);

/** The keys of the configuration that make a policy. */
export const policyKeys = {
  budgets: listOf(budget),
  caps: listOf(cap),
  guardrails: listOf(guardrail),
  verdict: z
    .strictObject({ fail: z.enum(['open', 'closed']).default('open'), contact: message.optional() })
    .prefault({}),
};

export type BudgetRule = z.output<typeof budget>;
export type CapRule = z.output<typeof cap>;
export type GuardrailRule = z.output<typeof guardrail>;
export interface PolicyConfig {
  readonly budgets: readonly BudgetRule[];
  readonly caps: readonly CapRule[];
  readonly guardrails: readonly GuardrailRule[];
  readonly verdict: { readonly fail: 'open' | 'closed'; readonly contact?: string | undefined };
}

const LISTS = ['providers', 'models', 'tools'] as const;

/** Mistakes that only a whole list of rules can show. A rule that has mistakes of its own comes as undefined. */
export function policyMistakes(rules: {
  readonly budgets: readonly (BudgetRule | undefined)[];
  readonly caps: readonly (CapRule | undefined)[];
  readonly guardrails: readonly (GuardrailRule | undefined)[];
  /** How turns are labelled. */
  readonly labels?: { readonly project: 'name' | 'hash' | 'off' } | undefined;
}): ConfigMistake[] {
  const mistakes: ConfigMistake[] = [];
  for (const kind of ['budgets', 'caps', 'guardrails'] as const) {
    for (const { entry, index, first } of repeats<{ name: string }>(rules[kind], ({ name }) => name)) {
      const expected = `expected another name: ${kind}[${first}] has this one`;
      mistakes.push({ path: `${kind}[${index}].name`, found: JSON.stringify(entry.name), expected });
    }
    rules[kind].forEach((rule, index) => {
      if (rule) mistakes.push(...projectMistakes(rule.scope, `${kind}[${index}].scope.project`, rules.labels?.project));
    });
  }
  rules.budgets.forEach((rule, index) => {
    if (rule) mistakes.push(...budgetMistakes(rule, `budgets[${index}]`));
  });
  rules.guardrails.forEach((rule, index) => {
    if (rule) mistakes.push(...guardrailMistakes(rule, `guardrails[${index}]`));
  });
  return mistakes;
}

/** A rule for projects by a name that no turn is labelled with would hold for none, and nobody would notice. */
function projectMistakes({ project }: Scope, path: string, shown = 'name'): ConfigMistake[] {
  if (!project || shown === 'name') return [];
  if (shown === 'off') {
    return [
      { path, found: 'a project', expected: 'expected none, because labels.project is off: turns have no project' },
    ];
  }
  if (project.every((pattern) => HASH_PATTERN.test(pattern))) return [];
  const expected = `expected the first ${PROJECT_HASH_CHARS} hex digits of the name's SHA-256, because labels.project is hash: printf %s NAME | sha256sum`;
  return [{ path, found: 'a name', expected }];
}

function budgetMistakes({ period, anchor, warn_at }: BudgetRule, place: string): ConfigMistake[] {
  const mistakes: ConfigMistake[] = [];
  const isCounted = /^\d/.test(period);
  if (isCounted && !anchor) {
    const expected = 'expected the first day of one such period (such as 2026-01-15): it says where periods begin';
    mistakes.push({ path: `${place}.anchor`, found: 'nothing', expected });
  }
  if (!isCounted && anchor) {
    const expected = 'expected none: a calendar period begins with the calendar';
    mistakes.push({ path: `${place}.anchor`, found: 'a day', expected });
  }
  if (warn_at.some((step, index) => index > 0 && step <= warn_at[index - 1]!)) {
    const expected = 'expected steps that rise, such as [0.5, 0.8, 0.95]';
    mistakes.push({ path: `${place}.warn_at`, found: 'steps that do not rise', expected });
  }
  return mistakes;
}

function guardrailMistakes(rule: GuardrailRule, place: string): ConfigMistake[] {
  const mistakes: ConfigMistake[] = [];
  if (rule.unpriced === 'allow' && LISTS.every((list) => !rule[list]?.allow && !rule[list]?.deny)) {
    const expected = 'expected providers, models or tools with allow or deny, or unpriced: deny';
    mistakes.push({ path: place, found: 'a rule that forbids nothing', expected });
  }
  for (const list of LISTS) {
    const { allow = [], deny = [] } = rule[list] ?? {};
    const both = allow.find((pattern) => deny.some((other) => other.toLowerCase() === pattern.toLowerCase()));
    if (both === undefined) continue;
    const expected = 'expected each pattern in one list: deny wins, so allowing the same does nothing';
    mistakes.push({ path: `${place}.${list}`, found: 'a pattern in both lists', expected });
  }
  return mistakes;
}
